//! How a run ends: by itself, at its limit, by a cancel or a signal; what it leaves is gone.

use std::fs;
use std::process::Command;
use std::time::Instant;

use executor_supervisor::frame::{Cause, Frame, Scope};
use executor_supervisor::outcome::Kind;
use executor_supervisor::spec::{Spec, Warning};
use executor_supervisor::{BEGUN_FILE, OUTCOME_FILE, SPEC_FILE};

use crate::support::{Place, bytes, eventually, spawn, wait_for_file};
use crate::{code, signal};

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

pub(crate) fn with_cgroup(place: &Place, mut spec: Spec, wanted: bool) -> Option<Spec> {
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

pub(crate) fn assert_no_cgroup(spec: &Spec) {
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

pub(crate) fn cancel(cause: Cause) -> Frame {
    Frame::Terminate { cause, kill_wait_ms: 300, note: String::new() }
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
