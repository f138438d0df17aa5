//! Daemons die, jobs do not: outcomes are right whatever was killed meanwhile (crash-loop is the long form).

use std::fs;

use nix::sys::signal::Signal;
use tests::{Cluster, Conf, send, wait_for};

use crate::SOON;

/// A job that runs until `go` exists, then exits with 5.
const WAITS: &str = "#!/bin/sh\n: > begun\nuntil [ -e go ]; do sleep 0.05; done\nexit 5\n";

fn running_job() -> (Cluster, String) {
    let cluster = Cluster::start(&Conf::declared(1, 8, ""), &["n1"]).unwrap();
    let id = cluster.submit(WAITS, &["-o", "/dev/null", "--no-requeue"]).unwrap();
    wait_for("the job to begin", SOON, || cluster.jobs().join("begun").exists()).unwrap();
    (cluster, id)
}

fn go(cluster: &Cluster) {
    fs::write(cluster.jobs().join("go"), "").unwrap();
}

#[test]
fn a_job_outlives_its_executor() {
    let (mut cluster, id) = running_job();
    cluster.executor("n1").unwrap().kill();
    go(&cluster);
    cluster.start_executor("n1", &[]).unwrap();
    assert_eq!(cluster.wait_ended(&id, "State,ExitCode", SOON).unwrap(), "FAILED|5:0");
}

#[test]
fn a_job_outlives_the_scheduler() {
    let (mut cluster, id) = running_job();
    cluster.scheduler().unwrap().kill();
    go(&cluster);
    cluster.start_scheduler(&[]).unwrap();
    assert_eq!(cluster.wait_ended(&id, "State,ExitCode", SOON).unwrap(), "FAILED|5:0");
}

#[test]
fn a_killed_supervisor_is_a_lost_outcome_and_leaves_no_process() {
    let (cluster, id) = running_job();
    let [supervisor] = cluster.supervisors()[..] else { panic!("one job, one supervisor") };
    send(supervisor, Signal::SIGKILL);
    let state = cluster.wait_ended(&id, "State", SOON).unwrap();
    assert!(["FAILED", "NODE_FAIL"].contains(&state.as_str()), "{state}");
    cluster.wait_idle(1).unwrap();
    assert_eq!(cluster.supervisors(), Vec::<u32>::new());
}

#[test]
fn pending_jobs_and_ids_survive_a_restart() {
    let mut cluster = Cluster::start(&Conf::declared(1, 8, ""), &["n1"]).unwrap();
    let before = cluster.submit("#!/bin/sh\n", &["-H", "-J", "held"]).unwrap();
    cluster.scheduler().unwrap().kill();
    cluster.start_scheduler(&[]).unwrap();
    assert_eq!(
        cluster.ok("squeue", &["-h", "-o", "%i %j %r"]).unwrap(),
        format!("{before} held JobHeldUser")
    );
    let after = cluster.submit("#!/bin/sh\n", &["-H"]).unwrap();
    assert!(after.parse::<u32>().unwrap() > before.parse::<u32>().unwrap(), "{before} then {after}");
}

#[test]
fn a_second_scheduler_on_the_same_state_is_refused_and_names_it() {
    let mut cluster = Cluster::start(&Conf::declared(1, 8, ""), &["n1"]).unwrap();
    let owner = cluster.scheduler().unwrap().pid();
    let state = cluster.folder().join("state/scheduler");
    let conf = cluster.folder().join("slurm.conf");
    let mut second = cluster.command("sluice-scheduler");
    let out = second.arg("--state").arg(&state).arg("--conf").arg(conf).output().unwrap();
    let said = String::from_utf8_lossy(&out.stderr).into_owned() + &String::from_utf8_lossy(&out.stdout);
    assert!(!out.status.success(), "{said}");
    assert!(said.contains(state.to_str().unwrap()) || said.contains(&owner.to_string()), "{said}");
    assert!(cluster.answers(), "the first one goes on");
}

/// PROTOCOL §3.7: a run of which nothing is known is neither given up nor started again, and the job says so.
#[test]
fn a_run_without_evidence_waits_and_says_so() {
    let (mut cluster, id) = running_job();
    cluster.executor("n1").unwrap().kill();
    cluster.lose_spool("n1").unwrap();
    fs::remove_dir_all(cluster.state("n1").join("executor-n1/run")).unwrap();
    cluster.start_executor("n1", &[]).unwrap();
    wait_for("the job to say that its run is unknown", SOON, || {
        cluster
            .ok("squeue", &["-h", "-o", "%T %r"])
            .is_ok_and(|line| line == "RUNNING NodeDown, RunUnknownOn:n1")
    })
    .unwrap();
    let shown = cluster.ok("scontrol", &["show", "job", &id]).unwrap();
    assert!(shown.contains("Reason=NodeDown,_RunUnknownOn:n1 "), "{shown}");
    let why = cluster.ok("sluice", &["why", &id]).unwrap();
    assert!(why.contains("scontrol update NodeName=n1 State=DOWN"), "{why}");
    cluster.ok("scontrol", &["update", "NodeName=n1", "State=DOWN", "Reason=confirmed"]).unwrap();
    assert_eq!(cluster.wait_ended(&id, "State", SOON).unwrap(), "NODE_FAIL");
}

/// Directories serve one run after the other while there are runs, and a kernel kills what begins in one that was killed.
#[test]
fn a_killed_job_does_no_harm_to_those_after_it() {
    let (cluster, holder) = running_job();
    let run = |text: &str| {
        let id = cluster.submit(text, &["-o", "/dev/null", "--no-requeue"]).unwrap();
        cluster.wait_ended(&id, "State,ExitCode", SOON).unwrap()
    };
    for round in 0..6 {
        // What it leaves behind is killed.
        assert_eq!(run("#!/bin/sh\nsleep 1000 &\nexit 3\n"), "FAILED|3:0", "round {round}");
        assert_eq!(run("#!/bin/sh\nexit 0\n"), "COMPLETED|0:0", "round {round}");
    }
    go(&cluster);
    cluster.wait_ended(&holder, "State", SOON).unwrap();
}
