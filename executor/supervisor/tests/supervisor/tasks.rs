//! Tasks of one step: how they end each other, share a file, have a terminal and prologs.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;

use executor_supervisor::frame::{Cause, Frame};
use executor_supervisor::spec::Stdio;

use crate::ends::{assert_no_cgroup, with_cgroup};
use crate::support::{Place, bytes, children, eventually, finish, input, wait_for_file};
use crate::{code, signal};

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
