//! The supervisor's program, run as an executor runs it: real processes, files and sockets.

#[path = "supervisor/guard.rs"]
mod guard;
#[path = "supervisor/nursery.rs"]
mod nursery;
mod support;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Command;
use std::time::Instant;

use executor_supervisor::frame::{ALL_RANKS, Cause, Frame, Position, Scope, Stream};
use executor_supervisor::outcome::{Exit, Kind, Outcome};
use executor_supervisor::spec::{Measure, Reading, Rlimit, Spec, Stdio, Warning};
use executor_supervisor::{BEGUN_FILE, BLANK_FILE, OUTCOME_FILE, SPEC_FILE};
use support::{PATIENCE, Peer, Place, Supervisor, bytes, eventually, spawn};

fn code(code: u32) -> Exit {
    Exit { code, signal: 0 }
}

fn signal(signal: u32) -> Exit {
    Exit { code: 0, signal }
}

#[test]
fn exit_codes_and_signals_are_those_of_the_script() {
    for (text, expected) in [
        ("exit 0", code(0)),
        ("exit 3", code(3)),
        ("exit 300", code(44)),
        ("kill -SEGV $$", signal(11)),
        ("kill -KILL $$", signal(9)),
        ("false; true", code(0)),
    ] {
        let place = Place::new("exit");
        let outcome = place.end(&place.batch(text));
        assert_eq!((outcome.kind, outcome.exit), (Kind::Exited, expected), "{text}");
        assert!(!outcome.stop_requested && outcome.begun_ms <= outcome.ended_ms, "{text}");
        assert!(outcome.max_rss_bytes > 0, "{text}");
    }
}

#[test]
fn environment_and_arguments_arrive_byte_for_byte() {
    let place = Place::new("environment");
    let mut spec = place.batch("");
    spec.tasks[0].arguments = vec![
        b"/bin/sh".to_vec(),
        b"-c".to_vec(),
        b"env -0; printf '%s\\0' \"$@\"".to_vec(),
        b"x".to_vec(),
        b"\xff\nb".to_vec(),
    ];
    spec.environment.push(b"A=line one\nline two\x80\xfe".to_vec());
    spec.environment.push(b"RANK=over".to_vec());
    place.end(&spec);
    let out = fs::read(place.work("out")).unwrap();
    let entries: Vec<&[u8]> = out.split(|byte| *byte == 0).collect();
    assert!(entries.contains(&b"A=line one\nline two\x80\xfe".as_slice()));
    assert!(entries.contains(&b"RANK=0".as_slice()), "a task's own entry wins");
    assert!(!entries.iter().any(|entry| entry.starts_with(b"RANK=over")));
    assert!(entries.iter().any(|entry| entry.starts_with(b"SLURM_TASK_PID=")));
    assert!(entries.contains(&b"\xff\nb".as_slice()));
}

#[test]
fn files_are_the_submitters() {
    let place = Place::new("files");
    let mut spec = place.batch("id -u; id -G; umask; ulimit -n; pwd");
    spec.umask = 0o027;
    spec.rlimits = vec![Rlimit { resource: 7, soft: 99, chosen: false }];
    spec.tasks[0].stdout = Stdio::File { path: bytes(&place.work("deep/er/out")), truncate: true };
    let outcome = place.end(&spec);
    assert_eq!(outcome.exit, code(0), "{}", outcome.detail);
    let facts = fs::metadata(place.work("deep/er/out")).unwrap();
    assert_eq!((facts.uid(), facts.permissions().mode() & 0o777), (spec.uid, 0o640));
    let expected = format!("{}\n{}\n0027\n99\n{}\n", spec.uid, spec.gid, place.path.join("work").display());
    assert_eq!(place.text("deep/er/out"), expected);
}

#[test]
fn a_file_that_the_submitter_may_not_write_is_not_written() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("not root: there is no other user's folder to try");
        return;
    }
    let place = Place::new("rights");
    let shut = place.path.join("shut");
    fs::create_dir(&shut).unwrap();
    fs::set_permissions(&shut, fs::Permissions::from_mode(0o755)).unwrap();
    let mut spec = place.batch("touch /proc/self/never");
    spec.tasks[0].stdout = Stdio::File { path: bytes(&shut.join("out")), truncate: true };
    let outcome = place.end(&spec);
    assert_eq!(outcome.exit, signal(53));
    assert!(outcome.detail.contains("Permission denied"), "{}", outcome.detail);
    assert!(!shut.join("out").exists());
}

#[test]
fn input_comes_from_its_file_or_the_job_fails() {
    let place = Place::new("input");
    fs::write(place.work("in"), "l1\nl2\n").unwrap();
    let mut spec = place.batch("cat");
    spec.tasks[0].stdin = Stdio::File { path: bytes(&place.work("in")), truncate: false };
    place.end(&spec);
    assert_eq!(place.text("out"), "l1\nl2\n");

    let place = Place::new("input-missing");
    let mut spec = place.batch("cat");
    spec.tasks[0].stdin = Stdio::File { path: bytes(&place.work("nothing")), truncate: false };
    let outcome = place.end(&spec);
    assert_eq!((outcome.kind, outcome.exit), (Kind::Exited, signal(53)));
    assert!(outcome.detail.contains("nothing: No such file"), "{}", outcome.detail);
}

#[test]
fn output_is_truncated_or_appended() {
    for (truncate, expected) in [(true, "new\n"), (false, "old\nnew\n")] {
        let place = Place::new("append");
        fs::write(place.work("out"), "old\n").unwrap();
        fs::set_permissions(place.work("out"), fs::Permissions::from_mode(0o666)).unwrap();
        let mut spec = place.batch("echo new");
        spec.tasks[0].stdout = Stdio::File { path: bytes(&place.work("out")), truncate };
        place.end(&spec);
        assert_eq!(place.text("out"), expected);
    }
}

#[test]
fn a_missing_folder_means_tmp_and_two_messages() {
    let place = Place::new("chdir");
    let mut spec = place.batch("pwd");
    spec.work_dir = bytes(&place.work("nope"));
    let outcome = place.end(&spec);
    let line = format!(
        "slurmstepd: error: couldn't chdir to `{}': No such file or directory: going to /tmp instead\n",
        place.work("nope").display()
    );
    assert_eq!(place.text("out"), format!("{line}{line}/tmp\n"));
    assert_eq!(outcome.exit, code(0));
}

#[test]
fn what_cannot_be_executed_is_said_as_slurm_says_it() {
    let place = Place::new("exec");
    let script = |name: &str, text: &str, mode: u32| {
        fs::write(place.work(name), text).unwrap();
        fs::set_permissions(place.work(name), fs::Permissions::from_mode(mode)).unwrap();
    };
    script("bad", "#!/no/such/interp\ntrue\n", 0o755);
    script("plain", "hi\n", 0o644);
    script("here", "#!/bin/sh\necho found\n", 0o755);
    let shut = place.work("./plain");
    for (program, status, text) in [
        (
            bytes(&place.work("bad")),
            2,
            "execve(): bad interpreter(/no/such/interp): No such file or directory".to_owned(),
        ),
        (b"./plain".to_vec(), 13, format!("execve(): {}: Permission denied", shut.display())),
        (b"/tmp".to_vec(), 13, "execve(): /tmp: Permission denied".to_owned()),
        (b"nowhere".to_vec(), 2, "execve(): nowhere: No such file or directory".to_owned()),
    ] {
        let _ = fs::remove_dir_all(place.run());
        fs::create_dir(place.run()).unwrap();
        let mut spec = place.batch("");
        spec.tasks[0].arguments = vec![program];
        let outcome = place.end(&spec);
        assert_eq!(place.text("out"), format!("slurmstepd: error: {text}\n"));
        assert_eq!(outcome.exit, code(status), "{text}");
    }
    let _ = fs::remove_dir_all(place.run());
    fs::create_dir(place.run()).unwrap();
    let mut spec = place.batch("");
    spec.tasks[0].arguments = vec![b"here".to_vec()];
    place.end(&spec);
    assert_eq!(place.text("out"), "found\n");
}

/// A tree that ignores TERM: a plain child, one in a session of its own, one orphaned.
const STUBBORN: &str = "trap '' TERM; echo $$ >> pids
    sh -c 'trap \"\" TERM; echo $$ >> pids; while :; do sleep 1000; done' &
    setsid sh -c 'trap \"\" TERM; echo $$ >> pids; while :; do sleep 1000; done' &
    (setsid sh -c 'trap \"\" TERM; echo $$ >> pids; while :; do sleep 1000; done' &)
    while [ $(wc -l < pids) -lt 4 ]; do sleep 0.05; done; echo up > ready; while :; do sleep 1000; done";

fn assert_all_gone(place: &Place) {
    let pids = place.text("pids");
    assert_eq!(pids.lines().count(), 4, "{pids}");
    for pid in pids.lines() {
        assert!(!std::path::Path::new("/proc").join(pid).exists(), "process {pid} lives");
    }
}

fn with_cgroup(place: &Place, mut spec: Spec, wanted: bool) -> Option<Spec> {
    if !wanted {
        return Some(spec);
    }
    let base = std::path::Path::new("/sys/fs/cgroup/unified");
    let base = if base.join("cgroup.procs").exists() { base } else { std::path::Path::new("/sys/fs/cgroup") };
    let name = base.join(format!("sluice-test-{}", place.path.file_name().unwrap().to_str().unwrap()));
    if !base.join("cgroup.procs").exists() || fs::create_dir(&name).is_err() {
        eprintln!("no cgroup2 directory can be made here: tried without only");
        return None;
    }
    fs::remove_dir(&name).unwrap();
    spec.cgroup = bytes(&name);
    Some(spec)
}

fn assert_no_cgroup(spec: &Spec) {
    if !spec.cgroup.is_empty() {
        let path = String::from_utf8(spec.cgroup.clone()).unwrap();
        assert!(!std::path::Path::new(&path).exists(), "{path} is left");
    }
}

#[test]
fn the_time_limit_ends_a_stubborn_tree() {
    for cgroup in [false, true] {
        let place = Place::new(&format!("limit-{cgroup}"));
        let Some(mut spec) = with_cgroup(&place, place.batch(STUBBORN), cgroup) else { continue };
        spec.limit_ms = Some(1500);
        let start = Instant::now();
        let outcome = place.end(&spec);
        assert!(start.elapsed().as_millis() >= 1800, "the wait before KILL was kept");
        assert_eq!((outcome.kind, outcome.exit), (Kind::TimeLimit, signal(9)));
        assert!(outcome.stop_requested);
        assert_all_gone(&place);
        assert_no_cgroup(&spec);
        let out = place.text("out");
        assert!(out.starts_with("slurmstepd: error: *** JOB 7 ON n1 CANCELLED AT "), "{out}");
        assert!(out.trim_end().ends_with("DUE TO TIME LIMIT ***"), "{out}");
    }
}

#[test]
fn what_a_script_leaves_behind_is_killed_at_its_end() {
    for cgroup in [false, true] {
        let place = Place::new(&format!("leave-{cgroup}"));
        let text = STUBBORN
            .replace("while :; do sleep 1000; done\"", "")
            .replace("echo up > ready; while :; do sleep 1000; done", "exit 4");
        let Some(spec) = with_cgroup(&place, place.batch(&text), cgroup) else { continue };
        let outcome = place.end(&spec);
        assert_eq!((outcome.kind, outcome.exit), (Kind::Exited, code(4)));
        assert_all_gone(&place);
        assert_no_cgroup(&spec);
    }
}

#[test]
fn a_lent_cgroup_is_left_and_what_it_counted_before_is_not_the_runs() {
    let place = Place::new("lent");
    let burn = "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done";
    let Some(first) = with_cgroup(&place, place.batch(burn), true) else { return };
    let first = Spec { cgroup_lent: true, ..first };
    let burnt = place.end(&first);
    let path = std::path::PathBuf::from(String::from_utf8(first.cgroup.clone()).unwrap());
    assert!(path.exists(), "the one who lent it clears it");
    assert!(burnt.user_us + burnt.system_us > 20_000, "{burnt:?}");
    let next = Place::new("lent-next");
    let mut spec = next.batch("exit 3");
    (spec.cgroup, spec.cgroup_lent) = (first.cgroup, true);
    let outcome = next.end(&spec);
    assert_eq!((outcome.kind, outcome.exit), (Kind::Exited, code(3)));
    let (all, own) = (burnt.user_us + burnt.system_us, outcome.user_us + outcome.system_us);
    assert!(own < all / 2, "{own} of {all}");
    fs::remove_dir(&path).unwrap();
}

#[test]
fn a_lent_cgroup_that_was_killed_does_not_go_back() {
    // Without a wait before KILL, and something left behind at the end.
    for leaves in [false, true] {
        let place = Place::new(&format!("lent-killed-{leaves}"));
        let text = if leaves { "sleep 1000 & exit 0" } else { "touch ready; sleep 1000" };
        let Some(spec) = with_cgroup(&place, place.batch(text), true) else { return };
        let spec = Spec { cgroup_lent: true, ..spec };
        let supervisor = place.start(&spec);
        if !leaves {
            wait_for_file(&place, "ready");
            supervisor.command(&Frame::Terminate {
                cause: Cause::Cancel,
                kill_wait_ms: 0,
                note: String::new(),
            });
        }
        supervisor.outcome();
        assert_no_cgroup(&spec);
    }
}

fn cancel(cause: Cause) -> Frame {
    Frame::Terminate { cause, kill_wait_ms: 300, note: String::new() }
}

fn wait_for_file(place: &Place, name: &str) {
    eventually(name, || place.work(name).exists().then_some(()));
}

#[test]
fn a_cancel_reaches_the_tree_and_says_why() {
    for (cause, words) in [
        (Cause::Cancel, "DUE to SIGNAL Terminated ***"),
        (Cause::Requeue, "DUE TO JOB REQUEUE ***"),
        (Cause::Preemption, "DUE TO PREEMPTION ***"),
    ] {
        let place = Place::new("cancel");
        let supervisor = place.start(&place.batch("touch ready; sleep 1000"));
        wait_for_file(&place, "ready");
        assert_eq!(supervisor.command(&cancel(cause)), Frame::Done);
        let outcome = supervisor.outcome();
        assert_eq!((outcome.kind, outcome.exit, outcome.stop_requested), (Kind::Cancelled, signal(15), true));
        assert!(place.text("out").trim_end().ends_with(words), "{}", place.text("out"));
    }
    // The note is there however fast the job goes.
    for _ in 0..40 {
        let place = Place::new("cancel-note");
        let supervisor = place.start(&place.batch("touch ready; exec sleep 1000"));
        wait_for_file(&place, "ready");
        supervisor.command(&cancel(Cause::Cancel));
        supervisor.outcome();
        assert!(place.text("out").ends_with("DUE to SIGNAL Terminated ***\n"), "{:?}", place.text("out"));
    }
    let place = Place::new("cancel-trap");
    let supervisor = place.start(&place.batch("trap 'exit 0' TERM; touch ready; sleep 1000 & wait"));
    wait_for_file(&place, "ready");
    supervisor.command(&cancel(Cause::Cancel));
    let outcome = supervisor.outcome();
    assert_eq!((outcome.kind, outcome.exit), (Kind::Cancelled, code(0)));
}

#[test]
fn signals_go_where_they_are_meant() {
    let text = "exec 2>/dev/null; trap 'echo batch' USR1; sh -c \"trap 'echo child' USR1; touch ready; while [ ! -e stop ]; do sleep 0.05; done\" & \
                while [ ! -e stop ]; do sleep 0.05; done; wait";
    for (scope, expected) in
        [(Scope::Steps, vec![]), (Scope::First, vec!["batch"]), (Scope::Full, vec!["batch", "child"])]
    {
        let place = Place::new("signal");
        let supervisor = place.start(&place.batch(text));
        wait_for_file(&place, "ready");
        assert_eq!(supervisor.command(&Frame::Signal { signal: 10, scope }), Frame::Done);
        eventually("the traps", || (place.text("out").lines().count() == expected.len()).then_some(()));
        fs::write(place.work("stop"), "").unwrap();
        supervisor.outcome();
        let out = place.text("out");
        let mut lines: Vec<&str> = out.lines().collect();
        lines.sort_unstable();
        assert_eq!(lines, expected, "{scope:?}");
    }
}

#[test]
fn the_warning_comes_before_the_limit() {
    let place = Place::new("warning");
    let mut spec = place.batch("trap 'echo warned; exit 0' USR1; while :; do sleep 0.05; done");
    spec.limit_ms = Some(60_000);
    spec.warning = Some(Warning { signal: 10, after_ms: 500, first_process_only: true });
    let outcome = place.end(&spec);
    assert_eq!((outcome.kind, outcome.exit), (Kind::Exited, code(0)));
    assert_eq!(place.text("out"), "warned\n");
}

#[test]
fn a_changed_limit_counts_from_the_begin() {
    let place = Place::new("change");
    let mut spec = place.batch("touch ready; sleep 1000");
    spec.limit_ms = Some(3_600_000);
    let supervisor = place.start(&spec);
    wait_for_file(&place, "ready");
    assert_eq!(supervisor.command(&Frame::Limit { limit_ms: Some(1) }), Frame::Done);
    assert_eq!(supervisor.outcome().kind, Kind::TimeLimit);
}

#[test]
fn a_suspended_step_stands_still_and_so_does_its_clock() {
    for cgroup in [false, true] {
        let place = Place::new(&format!("suspend-{cgroup}"));
        let text = "touch ready; while [ ! -e stop ]; do echo x >> ticks; sleep 0.02; done";
        let Some(mut spec) = with_cgroup(&place, place.batch(text), cgroup) else { continue };
        spec.limit_ms = Some(20_000);
        let supervisor = place.start(&spec);
        wait_for_file(&place, "ticks");
        assert_eq!(supervisor.command(&Frame::Suspend), Frame::Done);
        assert_eq!(supervisor.command(&Frame::Limit { limit_ms: Some(1) }), Frame::Done);
        let size = || fs::metadata(place.work("ticks")).unwrap().len();
        eventually("standstill", || {
            let before = size();
            std::thread::park_timeout(std::time::Duration::from_millis(200));
            (size() == before).then_some(())
        });
        assert_eq!(supervisor.command(&Frame::Limit { limit_ms: Some(20_000) }), Frame::Done);
        assert_eq!(supervisor.command(&Frame::Resume), Frame::Done);
        let before = size();
        eventually("movement", || (size() > before).then_some(()));
        fs::write(place.work("stop"), "").unwrap();
        let outcome = supervisor.outcome();
        assert_eq!((outcome.kind, outcome.exit), (Kind::Exited, code(0)));
    }
}

#[test]
fn an_announcement_stands_in_the_output() {
    let place = Place::new("announce");
    let supervisor = place.start(&place.batch("touch ready; while [ ! -s out ]; do sleep 0.05; done"));
    wait_for_file(&place, "ready");
    supervisor.command(&Frame::Announce { text: "hello there".to_owned() });
    supervisor.outcome();
    assert_eq!(place.text("out"), "slurmstepd: error: hello there\n");
}

#[test]
fn a_run_has_one_supervisor_and_begins_once() {
    let place = Place::new("once");
    let spec = place
        .batch("echo ran >> count; touch ready; while [ -e count ] && [ ! -e stop ]; do sleep 0.05; done");
    let mut supervisor = place.start(&spec);
    wait_for_file(&place, "ready");
    // A second one that did not get the lock.
    let second = Command::new(env!("CARGO_BIN_EXE_sluice-supervisor"))
        .arg(place.run())
        .stdin(fs::File::open(place.run().join(SPEC_FILE)).unwrap())
        .output()
        .unwrap();
    assert_eq!(second.status.code(), Some(3), "{}", String::from_utf8_lossy(&second.stderr));
    // The first is lost: what it started lives, the lock is free, no outcome.
    let child = supervisor.child.as_mut().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(place.run().join(BEGUN_FILE).exists() && !place.run().join(OUTCOME_FILE).exists());
    let mut third = spawn(&place.run());
    assert_eq!(third.wait().unwrap().code(), Some(5));
    fs::write(place.work("stop"), "").unwrap();
    assert_eq!(place.text("count"), "ran\n");
}

/// Everything that a client is told until the end, acknowledged as it comes.
#[derive(Default)]
struct Heard {
    bytes: BTreeMap<(u32, u8), Vec<u8>>,
    exits: BTreeMap<u32, Exit>,
    notes: Vec<String>,
    ended: bool,
}

fn key(position: &Position) -> (u32, u8) {
    (position.rank, if position.stream == Stream::Output { 1 } else { 2 })
}

impl Heard {
    /// Takes one frame. False at the end.
    fn take(&mut self, peer: &mut Peer) -> bool {
        match peer.next() {
            Some(Frame::Data { position, bytes }) => {
                let known = self.bytes.entry(key(&position)).or_default();
                assert_eq!(position.offset, known.len() as u64, "no gap and no repetition");
                known.extend(&bytes);
                let offset = known.len() as u64;
                peer.send(&Frame::Ack { position: Position { offset, ..position } });
            }
            Some(Frame::Close { position }) => peer.send(&Frame::Ack { position }),
            Some(Frame::Exited { rank, exit, .. }) => {
                self.exits.insert(rank, exit);
            }
            Some(Frame::Note { text, .. }) => self.notes.push(text),
            Some(Frame::Ended) => {
                self.ended = true;
                peer.send(&Frame::Leave);
            }
            Some(Frame::Welcome { .. } | Frame::Ack { .. }) => {}
            Some(other) => panic!("{other:?}"),
            None => return false,
        }
        true
    }

    fn all(mut self, peer: &mut Peer) -> Self {
        while self.take(peer) {}
        self
    }

    fn text(&self, rank: u32, stream: u8) -> String {
        String::from_utf8(self.bytes.get(&(rank, stream)).cloned().unwrap_or_default()).unwrap()
    }
}

fn input(offset: u64) -> Position {
    Position { rank: ALL_RANKS, stream: Stream::Input, offset }
}

fn finish(supervisor: Supervisor, peer: &mut Peer) -> (Heard, Outcome) {
    let heard = Heard::default().all(peer);
    assert!(heard.ended);
    (heard, supervisor.outcome())
}

#[test]
fn streams_of_all_tasks_reach_the_client() {
    let place = Place::new("streams");
    let spec = place.step(3, "cat; echo err $RANK >&2; exit $RANK");
    let supervisor = place.start(&spec);
    let mut peer = supervisor.attach(Vec::new());
    peer.send(&Frame::Data { position: input(0), bytes: b"a\nb\n".to_vec() });
    peer.send(&Frame::Close { position: input(4) });
    let (heard, outcome) = finish(supervisor, &mut peer);
    for rank in 0..3 {
        assert_eq!(heard.text(rank, 1), "a\nb\n");
        assert_eq!(heard.text(rank, 2), format!("err {rank}\n"));
        assert_eq!(heard.exits[&rank], code(rank));
    }
    assert_eq!((outcome.exit, outcome.tasks), (code(2), vec![code(0), code(1), code(2)]));
}

#[test]
fn a_broken_connection_loses_and_repeats_nothing() {
    let place = Place::new("resume");
    let spec = place.step(1, "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); echo line $i; done");
    let supervisor = place.start(&spec);
    let mut heard = Heard::default();
    for round in 1..6 {
        let received: Vec<Position> = heard
            .bytes
            .iter()
            .map(|((rank, _), bytes)| Position {
                rank: *rank,
                stream: Stream::Output,
                offset: bytes.len() as u64,
            })
            .collect();
        let mut peer = supervisor.attach(received);
        for _ in 0..round {
            assert!(heard.take(&mut peer));
        }
    }
    let received = heard.bytes[&(0, 1)].len() as u64;
    let mut peer = supervisor.attach(vec![Position { rank: 0, stream: Stream::Output, offset: received }]);
    let heard = heard.all(&mut peer);
    let expected: String = (1..=20_000).map(|i| format!("line {i}\n")).collect();
    assert!(heard.text(0, 1) == expected, "every byte once, in order");
    assert_eq!(supervisor.outcome().exit, code(0));
}

#[test]
fn a_client_that_does_not_read_blocks_only_its_step() {
    let place = Place::new("block");
    let spec = place
        .step(1, "i=0; while [ $i -lt 1000 ]; do i=$((i+1)); echo $i > at; head -c 65536 /dev/zero; done");
    let supervisor = place.start(&spec);
    let mut peer = supervisor.attach(Vec::new());
    let at = || place.text("at").trim().parse::<u32>().unwrap_or(0);
    eventually("a full buffer", || {
        let before = at();
        std::thread::park_timeout(std::time::Duration::from_millis(300));
        (before > 0 && at() == before).then_some(())
    });
    assert!(at() < 1000);
    // It still answers, and ends when told.
    assert_eq!(supervisor.command(&cancel(Cause::Cancel)), Frame::Done);
    let (heard, outcome) = finish(supervisor, &mut peer);
    assert_eq!(outcome.kind, Kind::Cancelled);
    assert_eq!(heard.notes.len(), 2);
    assert!(heard.notes[0].starts_with(executor_supervisor::frame::ABORTED), "{:?}", heard.notes);
    assert!(
        heard.notes[1].starts_with("slurmstepd: error: *** STEP 7.0 ON n1 CANCELLED AT "),
        "{:?}",
        heard.notes
    );
}

/// An srun that could not connect in time (its scheduler was restarted before it answered, its machine was far too busy).
#[test]
fn a_client_that_comes_late_finds_all_that_was_said() {
    let place = Place::new("late");
    let mut spec = place.step(1, "echo words; exit 3");
    spec.client_grace_ms = 40_000;
    let supervisor = place.start(&spec);
    let begin = std::time::Instant::now();
    // Longer than a client is waited for that was here and went away.
    eventually("eleven seconds", || (begin.elapsed().as_secs() >= 11).then_some(()));
    let mut peer = supervisor.attach(Vec::new());
    let (heard, outcome) = finish(supervisor, &mut peer);
    assert_eq!((heard.text(0, 1).as_str(), outcome.exit), ("words\n", code(3)));
}

#[test]
fn strangers_and_wrong_cookies_are_refused() {
    let place = Place::new("cookie");
    let supervisor = place.start(&place.step(1, "cat"));
    let mut peer = supervisor.connect();
    peer.send(&Frame::Attach { version: 1, cookie: b"guess".to_vec(), received: Vec::new() });
    assert_eq!(peer.next(), Some(Frame::Refused { reason: "wrong cookie".to_owned() }));
    assert_eq!(peer.next(), None);
    let mut rubbish = supervisor.connect();
    std::io::Write::write_all(&mut rubbish.stream, b"GET / HTTP/1.1\r\n\r\n").unwrap();
    assert_eq!(rubbish.next(), None);
    // Many idle connections keep nobody out for good: one more is closed, those that were there go on.
    let idle: Vec<Peer> = (0..40).map(|_| supervisor.connect()).collect();
    drop(idle);
    let mut peer = supervisor.attach(Vec::new());
    peer.send(&Frame::Close { position: input(0) });
    assert_eq!(finish(supervisor, &mut peer).1.exit, code(0));
}

#[test]
fn another_user_is_not_heard() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("not root: nobody else can be tried");
        return;
    }
    let place = Place::new("stranger");
    let supervisor = place.start(&place.batch("touch ready; sleep 1000"));
    wait_for_file(&place, "ready");
    // A terminate frame of cause 0 without a note, sent by a user who is neither root nor the owner.
    let bytes = cancel(Cause::Cancel).to_bytes();
    let escaped: String = bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect();
    eventually("the socket", || place.run().join("socket").exists().then_some(()));
    let script = format!(
        "import socket; s=socket.socket(socket.AF_UNIX); s.connect({:?}); s.sendall(b'{escaped}'); print(len(s.recv(100)))",
        place.run().join("socket").display().to_string()
    );
    let python = |uid: u32| {
        use std::os::unix::process::CommandExt;
        fs::set_permissions(place.run(), fs::Permissions::from_mode(0o711)).unwrap();
        Command::new("python3").args(["-c", &script]).uid(uid).gid(uid).output().map(|out| out.stdout)
    };
    let Ok(answer) = python(54_321) else {
        eprintln!("no python3 here: not tried");
        return;
    };
    assert!(answer.is_empty() || answer == b"0\n", "{}", String::from_utf8_lossy(&answer));
    assert!(!place.text("out").contains("CANCELLED"));
    assert_eq!(python(12_345).unwrap(), b"5\n", "the owner is answered");
    assert_eq!(supervisor.outcome().kind, Kind::Cancelled);
}

#[test]
fn a_lost_client_ends_the_step_after_its_grace() {
    let place = Place::new("lost");
    let mut spec = place.step(1, "touch ready; sleep 1000");
    spec.client_grace_ms = 400;
    let supervisor = place.start(&spec);
    let peer = supervisor.attach(Vec::new());
    wait_for_file(&place, "ready");
    drop(peer);
    let start = Instant::now();
    let outcome = supervisor.outcome();
    assert_eq!((outcome.kind, outcome.exit), (Kind::Exited, signal(15)));
    assert!(start.elapsed() < PATIENCE);
}

#[test]
fn one_bad_exit_ends_the_others_where_that_was_asked() {
    let place = Place::new("bad");
    let mut spec = place.step(2, "if [ $RANK = 1 ]; then exit 4; else sleep 1000; fi");
    spec.kill_on_bad_exit = true;
    let supervisor = place.start(&spec);
    let mut peer = supervisor.attach(Vec::new());
    let (heard, outcome) = finish(supervisor, &mut peer);
    assert_eq!((heard.exits[&0], heard.exits[&1]), (signal(15), code(4)));
    assert_eq!(outcome.exit, code(4));
}

#[test]
fn a_task_that_has_not_begun_is_ended_by_the_signal_that_it_was_sent() {
    // The first one may not have got as far as its own signals when the second one is over.
    for round in 0..20 {
        let place = Place::new("early-signal");
        let mut spec = place.step(2, "[ $RANK = 1 ] && exit 4; exec sleep 1000");
        (spec.kill_on_bad_exit, spec.cookie) = (true, Vec::new());
        spec.tasks.iter_mut().for_each(|task| {
            (task.stdin, task.stdout, task.stderr) = (Stdio::Null, Stdio::Null, Stdio::Null);
        });
        spec.kill_wait_ms = 20_000;
        assert_eq!(place.end(&spec).tasks, vec![signal(15), code(4)], "round {round}");
    }
}

#[test]
fn tasks_that_share_a_file_lose_nothing() {
    let place = Place::new("shared");
    let (gate, out) = (place.work("gate"), place.work("out"));
    nix::unistd::mkfifo(&gate, nix::sys::stat::Mode::from_bits_truncate(0o666)).unwrap();
    fs::set_permissions(&gate, fs::Permissions::from_mode(0o666)).unwrap();
    fs::write(&out, "old").unwrap();
    fs::set_permissions(&out, fs::Permissions::from_mode(0o666)).unwrap();
    let mut spec = place.step(3, "echo $RANK");
    spec.cookie = Vec::new();
    for (rank, task) in spec.tasks.iter_mut().enumerate() {
        task.stdin = Stdio::Null;
        task.stdout = Stdio::File { path: bytes(&out), truncate: rank == 0 };
        task.stderr = Stdio::Output;
    }
    // The task that empties the file is held up before it does.
    spec.tasks[0].stdin = Stdio::File { path: bytes(&gate), truncate: false };
    let supervisor = place.start(&spec);
    // All three are there: the two that only append have had time to run into their wait.
    eventually("the tasks", || {
        let pid = supervisor.child.as_ref().unwrap().id();
        let waits = |pid: &u32| {
            let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            text.rsplit(") ").next().is_some_and(|rest| rest.starts_with('S'))
        };
        let tasks = children(pid);
        (tasks.len() == 3 && tasks.iter().all(waits)).then_some(())
    });
    drop(File::options().write(true).open(&gate).unwrap());
    assert_eq!(supervisor.outcome().tasks, vec![code(0); 3]);
    let text = place.text("out");
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["0", "1", "2"]);
}

#[test]
fn a_terminal_has_a_size_and_an_end() {
    let place = Place::new("pty");
    let mut spec = place.step(1, "stty size; tty > tty; trap 'stty size; exit 6' WINCH; read line; echo got $line; touch ready; while :; do sleep 0.05; done");
    spec.window = (33, 101);
    spec.tasks[0].stdin = Stdio::Pty;
    spec.tasks[0].stdout = Stdio::Pty;
    spec.tasks[0].stderr = Stdio::Pty;
    let supervisor = place.start(&spec);
    let mut peer = supervisor.attach(Vec::new());
    peer.send(&Frame::Data { position: input(0), bytes: b"word\n".to_vec() });
    wait_for_file(&place, "ready");
    assert!(place.text("tty").starts_with("/dev/pts/"));
    peer.send(&Frame::Window { rows: 44, columns: 99 });
    let (heard, outcome) = finish(supervisor, &mut peer);
    let text = heard.text(0, 1);
    assert!(
        text.contains("33 101\r\n") && text.contains("got word\r\n") && text.ends_with("44 99\r\n"),
        "{text:?}"
    );
    assert_eq!(outcome.exit, code(6));
}

#[test]
fn task_prolog_and_epilog_run_as_the_user() {
    let place = Place::new("prolog");
    let script = |name: &str, text: &str| {
        fs::write(place.work(name), text).unwrap();
        fs::set_permissions(place.work(name), fs::Permissions::from_mode(0o755)).unwrap();
        bytes(&place.work(name))
    };
    let mut spec = place.step(1, "echo \"[$TPV][$GONE]\"");
    spec.environment.push(b"GONE=here".to_vec());
    spec.task_prologs = vec![script(
        "prolog",
        "#!/bin/sh\necho export TPV=yes\necho unset GONE\necho print from prolog\necho nothing\n",
    )];
    spec.task_epilogs = vec![script("epilog", "#!/bin/sh\necho hidden\nid -u > epilog-ran\n")];
    let supervisor = place.start(&spec);
    let mut peer = supervisor.attach(Vec::new());
    let (heard, _) = finish(supervisor, &mut peer);
    assert_eq!(heard.text(0, 1), "from prolog\n[yes][]\n");
    assert_eq!(place.text("epilog-ran"), format!("{}\n", spec.uid));
}

#[test]
fn the_task_epilog_of_a_killed_step_runs() {
    for cgroup in [false, true] {
        let place = Place::new(&format!("killed-epilog-{cgroup}"));
        let text = "trap '' TERM; touch ready; sleep 1000";
        let Some(mut spec) = with_cgroup(&place, place.batch(text), cgroup) else { continue };
        let epilog = place.work("epilog");
        fs::write(&epilog, "#!/bin/sh\ncat /proc/self/cgroup > epilog-ran\n").unwrap();
        fs::set_permissions(&epilog, fs::Permissions::from_mode(0o755)).unwrap();
        spec.task_epilogs = vec![bytes(&epilog)];
        let supervisor = place.start(&spec);
        wait_for_file(&place, "ready");
        supervisor.command(&Frame::Terminate { cause: Cause::Cancel, kill_wait_ms: 0, note: String::new() });
        assert_eq!(supervisor.outcome().exit, signal(9));
        let own = String::from_utf8(spec.cgroup.clone()).unwrap();
        let name = own.rsplit('/').next().unwrap();
        let said = place.text("epilog-ran");
        assert!(said.contains(name), "it is not in {own:?}: {said}");
        assert_no_cgroup(&spec);
    }
}

#[test]
fn a_folder_can_be_used_again() {
    let place = Place::new("again");
    let mut spec = place.batch("exit 3");
    assert_eq!(place.end(&spec).exit, code(3));
    let run = place.run();
    fs::rename(run.join(OUTCOME_FILE), run.join(BLANK_FILE)).unwrap();
    spec.run = 2;
    spec.tasks[0].arguments[2] = b"exit 4".to_vec();
    let supervisor = place.start(&spec);
    assert_eq!(supervisor.outcome().exit, code(4));
    assert!(!run.join(BLANK_FILE).exists() && !run.join(BEGUN_FILE).exists());
}

#[test]
fn a_torn_specification_starts_nothing() {
    let place = Place::new("torn");
    let whole = place.batch("touch ran").encode();
    fs::write(place.run().join(SPEC_FILE), &whole[..whole.len() - 3]).unwrap();
    assert_eq!(spawn(&place.run()).wait().unwrap().code(), Some(4));
    assert!(!place.work("ran").exists() && !place.run().join(BEGUN_FILE).exists());
}

#[test]
fn a_long_path_to_the_socket_is_no_obstacle() {
    let mut place = Place::new("long");
    let deep = place.path.join("d".repeat(120));
    fs::create_dir_all(deep.join("run")).unwrap();
    fs::create_dir(deep.join("work")).unwrap();
    for folder in [deep.clone(), deep.join("work")] {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o777)).unwrap();
    }
    let top = std::mem::replace(&mut place.path, deep);
    let supervisor = place.start(&place.step(1, "echo far"));
    let mut peer = supervisor.attach(Vec::new());
    let (heard, _) = finish(supervisor, &mut peer);
    assert_eq!(heard.text(0, 1), "far\n");
    place.path = top;
}

/// Process ids of the children of a process that has one thread.
fn children(pid: u32) -> Vec<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    text.split_ascii_whitespace().map(|pid| pid.parse().unwrap()).collect()
}

#[test]
fn a_limit_that_the_kernel_does_not_have_is_a_failed_launch() {
    let place = Place::new("readback");
    let file = place.work("memory.max");
    let reading = |expected: &str| Reading {
        what: "memory".to_owned(),
        path: bytes(&file),
        expected: expected.as_bytes().to_vec(),
        measure: Measure::Bytes,
    };
    fs::write(&file, "max\n").unwrap();
    let mut spec = place.batch("touch ran");
    spec.readings = vec![reading("67108864")];
    let outcome = place.end(&spec);
    assert_eq!(outcome.kind, Kind::LaunchFailed);
    let sentence = "memory.max is max, not 67108864: the kernel does not hold the step to its memory";
    assert!(outcome.detail.ends_with(sentence), "{}", outcome.detail);
    assert!(!place.work("ran").exists(), "nothing of it ran");

    let place = Place::new("readback-held");
    let mut spec = place.batch("touch ran");
    fs::write(place.work("memory.max"), "67108864\n").unwrap();
    spec.readings = vec![Reading { path: bytes(&place.work("memory.max")), ..reading("67108864") }];
    spec.told = "devices 1 program attached".to_owned();
    let outcome = place.end(&spec);
    assert_eq!(
        (outcome.kind, &*outcome.account.held),
        (Kind::Exited, "memory 64M, devices 1 program attached")
    );
}

/// What holds 50 MB and waits for a file, in the task of rank 1 only.
const HOLDS_MEMORY: &str = "[ $RANK = 0 ] || head -c 50000000 /dev/zero | tail -c 50000000 | \
    sh -c 'until [ -e go ]; do sleep 0.02; done'; until [ -e go ]; do sleep 0.02; done";

#[test]
fn the_task_with_the_most_is_named() {
    let place = Place::new("account");
    let mut spec = place.step(2, HOLDS_MEMORY);
    spec.cookie = Vec::new();
    for task in &mut spec.tasks {
        (task.stdin, task.stdout, task.stderr) = (Stdio::Null, Stdio::Null, Stdio::Null);
    }
    let supervisor = place.start(&spec);
    let account = eventually("rank 1 to hold its memory", || match supervisor.command(&Frame::AskAccount) {
        Frame::Account(account) => Some(account).filter(|account| account.rss.most > 45_000_000),
        other => panic!("{other:?}"),
    });
    assert_eq!((account.rss.rank, account.virtual_memory.rank), (1, 1), "{account:?}");
    assert!(account.rss.total > account.rss.most, "the other one has some too: {account:?}");
    assert!(account.virtual_memory.most >= account.rss.most, "{account:?}");
    fs::write(place.work("go"), "").unwrap();
    let outcome = supervisor.outcome();
    assert_eq!((outcome.account.rss.rank, outcome.max_rss_bytes), (1, outcome.account.rss.most));
    assert!(outcome.account.rss.most >= account.rss.most, "{outcome:?}");
}

#[test]
fn tasks_are_looked_at_on_a_timer() {
    for (sample_ms, looked) in [(20, true), (0, false)] {
        let place = Place::new("sample");
        let mut spec = place.batch("sleep 0.3");
        spec.sample_ms = sample_ms;
        let outcome = place.end(&spec);
        assert_eq!(outcome.account.virtual_memory.most > 0, looked, "{sample_ms}: {outcome:?}");
        assert!(outcome.account.rss.most > 0, "the kernel keeps that of single processes");
    }
}
