//! Many MPI steps at once while their executor, or their supervisors, are killed: the ranks meet in barriers meanwhile.

use std::fs;
use std::process::{Child, Stdio};

use nix::sys::signal::Signal;
use tests::{Cluster, Conf, send, wait_for};

use crate::{SOON, build, reduced, sorted};

/// Steps, each of two ranks on one node.
const STEPS: usize = 10;

/// Starts them all; returns when all ranks have met three times.
fn crowd() -> (Cluster, Vec<Child>) {
    let cluster = Cluster::start(&Conf::declared(1, 2 * STEPS as u32, ""), &["n1"]).unwrap();
    let program = build(&cluster, "mpicc.mpich", "reduce", &[]);
    let step = |number: usize| {
        let how = format!("turn:{}", mark(&cluster, number));
        cluster
            .command("srun")
            .args(["--mpi=pmi2", "-n2", program.to_str().unwrap(), &how])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let steps = (0..STEPS).map(step).collect();
    let there = |number: usize| {
        (0..2).all(|rank| fs::exists(format!("{}.{rank}", mark(&cluster, number))).unwrap_or(false))
    };
    let all = wait_for("all ranks to meet", SOON, || (0..STEPS).all(there));
    all.unwrap_or_else(|error| panic!("{error:#}: {}", cluster.last_words()));
    (cluster, steps)
}

fn mark(cluster: &Cluster, number: usize) -> String {
    cluster.jobs().join(format!("go-{number}")).display().to_string()
}

/// Whether a rank of any of the steps lives.
fn ranks(cluster: &Cluster) -> usize {
    let name = cluster.folder().join("reduce.mpicc.mpich");
    let processes = fs::read_dir("/proc").unwrap().flatten();
    processes
        .filter(|entry| fs::read_link(entry.path().join("exe")).is_ok_and(|program| program == name))
        .count()
}

fn leaves_nothing(cluster: &Cluster) {
    wait_for("all supervisors to end", SOON, || cluster.supervisors().is_empty()).unwrap();
    wait_for("all ranks to be gone", SOON, || ranks(cluster) == 0).unwrap();
    cluster.wait_idle(1).unwrap();
}

#[test]
fn ranks_in_barriers_outlive_their_executor() {
    let (mut cluster, steps) = crowd();
    for _ in 0..3 {
        cluster.executor("n1").unwrap().kill();
        cluster.start_executor("n1", &[]).unwrap();
    }
    for number in 0..STEPS {
        fs::write(mark(&cluster, number), "").unwrap();
    }
    for (number, step) in steps.into_iter().enumerate() {
        let out = step.wait_with_output().unwrap();
        let (said, words) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
        assert_eq!((out.status.code(), sorted(&said)), (Some(0), reduced(2)), "step {number}: {words}");
    }
    let rows = cluster.ok("sacct", &["-nPX", "-o", "State,ExitCode"]).unwrap();
    assert_eq!(rows.lines().collect::<Vec<_>>(), ["COMPLETED|0:0"; STEPS]);
    leaves_nothing(&cluster);
}

#[test]
fn ranks_whose_supervisors_are_killed_end_once() {
    let (mut cluster, steps) = crowd();
    let supervisors = cluster.supervisors();
    assert!(supervisors.len() >= STEPS, "{}", supervisors.len());
    // Some while the executor watches, some while it is away.
    let (seen, unseen) = supervisors.split_at(supervisors.len() / 2);
    seen.iter().for_each(|pid| send(*pid, Signal::SIGKILL));
    cluster.executor("n1").unwrap().kill();
    unseen.iter().for_each(|pid| send(*pid, Signal::SIGKILL));
    cluster.start_executor("n1", &[]).unwrap();
    for step in steps {
        let out = step.wait_with_output().unwrap();
        assert!(!out.status.success(), "{}", String::from_utf8_lossy(&out.stdout));
    }
    leaves_nothing(&cluster);
    let rows = cluster.ok("sacct", &["-nPX", "-o", "JobID,State"]).unwrap();
    assert_eq!(rows.lines().count(), STEPS, "one row each: {rows}");
    assert!(!rows.contains("COMPLETED") && !rows.contains("RUNNING"), "{rows}");
}
