//! How a run begins: environment, arguments, folder, files, and what is said where it cannot.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use executor_supervisor::outcome::Kind;
use executor_supervisor::spec::{Rlimit, Stdio};

use crate::support::{Place, bytes};
use crate::{code, signal};

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
