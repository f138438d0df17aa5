//! A supervisor is protected from the kernel's out-of-memory killer; its job is not, and knows nothing of it.

use std::fs;
use std::process::{Command, Stdio};

use executor_supervisor::SPEC_FILE;

use crate::support::{Place, eventually};

fn score(pid: u32) -> Option<i32> {
    fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).ok()?.trim().parse().ok()
}

/// Starts a supervisor behind a shell's words. Answers the scores of supervisor and script, and the script's limit of
/// open files, while it runs.
fn scores(place: &Place, before: &str) -> (i32, i32, String) {
    let text = "ulimit -Sn; echo $$ > pid; until [ -e go ]; do sleep 0.02; done";
    let path = place.run().join(SPEC_FILE);
    fs::write(&path, place.batch(text).encode()).unwrap();
    let words = format!("{before} exec \"$0\" \"$1\"");
    let mut supervisor = Command::new("/bin/sh")
        .args(["-c", &words, env!("CARGO_BIN_EXE_sluice-supervisor")])
        .arg(place.run())
        .stdin(fs::File::open(path).unwrap())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let script = eventually("the script", || place.text("pid").trim().parse().ok());
    let seen = (score(supervisor.id()).unwrap(), score(script).unwrap(), place.text("out"));
    fs::write(place.work("go"), "").unwrap();
    assert!(supervisor.wait().unwrap().success());
    seen
}

#[test]
fn the_supervisor_is_protected_where_it_may_be_and_its_job_is_not() {
    let own = score(std::process::id()).unwrap();
    // What the kernel lets this user have: lowering needs a capability.
    let lower = "echo -1000 > /proc/self/oom_score_adj";
    let may = Command::new("/bin/sh").args(["-c", lower]).stderr(Stdio::null()).status().unwrap().success();
    let place = Place::new("guard");
    let (supervisor, script, _) = scores(&place, "");
    assert_eq!((supervisor, script), (if may { -1000 } else { own }, own));
    // The executor's administrator may say another value; raising needs no capability.
    let place = Place::new("guard-said");
    let (supervisor, script, _) = scores(&place, &format!("export SLURMSTEPD_OOM_ADJ={};", own.max(0) + 7));
    assert_eq!((supervisor, script), (own.max(0) + 7, own));
}

#[test]
fn open_files_are_limited_by_the_hard_limit_alone() {
    let place = Place::new("guard-files");
    let (_, _, files) = scores(&place, "ulimit -Sn 64; ulimit -Hn 333;");
    assert_eq!(files, "333\n");
}
