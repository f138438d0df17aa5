//! A node whose machine has less than the scheduler's file declares: out of service with Slurm's reason, its job goes on,
//! and it is used again when it has enough and somebody says RESUME.

use std::fs;

use tests::{Cluster, Conf, wait_for};

use crate::SOON;

fn said(cluster: &Cluster, program: &str, words: &[&str]) -> String {
    cluster.run(program, words).unwrap().stdout
}

fn shows(cluster: &Cluster, node: &str, wanted: &str) {
    let look = || said(cluster, "sinfo", &["-h", "-n", node, "-o", "%t|%E"]);
    if wait_for(&format!("{node} to be {wanted}"), SOON, || look() == wanted).is_err() {
        panic!("{node} is {}, not {wanted}", look());
    }
}

/// The executors have files of their own, which declare what they have.
#[test]
fn a_node_that_registers_with_less_is_invalid_until_it_has_enough() {
    let Conf::Text(text) = Conf::declared(2, 4, "") else { unreachable!("a declared cluster has a file") };
    let text = text.replace("SlurmdParameters=config_overrides\n", "");
    let mut cluster = Cluster::start(&Conf::Text(text), &["n1", "n2"]).unwrap();
    let file = cluster.folder().join("slurm.conf");
    let (declared, go) = (fs::read_to_string(&file).unwrap(), cluster.jobs().join("go"));
    let wait = format!("until [ -e {} ]; do sleep 0.1; done", go.display());
    let id = said(&cluster, "sbatch", &["--parsable", "-w", "n1", "-n3", "-t5", "--wrap", &wait]);
    wait_for("the job to run", SOON, || said(&cluster, "squeue", &["-h", "-j", &id, "-o", "%t"]) == "R")
        .unwrap();

    // The node comes back smaller, and its job goes on.
    cluster.executor("n1").unwrap().kill();
    fs::write(&file, declared.replace("CPUs=4 RealMemory=40", "CPUs=2 RealMemory=30")).unwrap();
    cluster.start_executor("n1", &[]).unwrap();
    let why =
        "Low socket*core*thread count, Low CPUs, Low RealMemory (reported:30 < 100.00% of configured:40)";
    shows(&cluster, "n1", &format!("inval|{why}"));
    assert!(said(&cluster, "scontrol", &["show", "node", "n1"]).contains("+DRAIN+INVALID_REG"));
    assert_eq!(said(&cluster, "squeue", &["-h", "-j", &id, "-o", "%t"]), "R");
    let resume = cluster.run("scontrol", &["update", "NodeName=n1", "State=RESUME"]).unwrap();
    assert_eq!(resume.code, Some(1), "{resume:?}");
    assert_eq!(said(&cluster, "sinfo", &["-h", "-t", "inval", "-o", "%N"]), "n1");

    // What is asked of it waits, what the other node can do runs there.
    let held = said(&cluster, "sbatch", &["--parsable", "-w", "n1", "-t1", "--wrap", "true"]);
    let free = said(&cluster, "sbatch", &["--parsable", "-t1", "--wrap", "true"]);
    let ended = |id: &str| said(&cluster, "sacct", &["-nX", "-j", id, "-o", "state,nodelist"]);
    wait_for("the other node's job to end", SOON, || ended(&free).contains("COMPLETED")).unwrap();
    assert!(ended(&free).contains("n2"), "{}", ended(&free));
    assert_eq!(said(&cluster, "squeue", &["-h", "-j", &held, "-o", "%t"]), "PD");
    fs::write(&go, "").unwrap();
    wait_for("the first job to end", SOON, || ended(&id).contains("COMPLETED")).unwrap();

    // With enough it stays drained until somebody looks after it.
    cluster.executor("n1").unwrap().kill();
    fs::write(&file, declared).unwrap();
    cluster.start_executor("n1", &[]).unwrap();
    shows(&cluster, "n1", &format!("drain|{why}"));
    let resume = cluster.run("scontrol", &["update", "NodeName=n1", "State=RESUME"]).unwrap();
    assert_eq!(resume.code, Some(0), "{resume:?}");
    let ended = |id: &str| said(&cluster, "sacct", &["-nX", "-j", id, "-o", "state,nodelist"]);
    wait_for("what waited for the node to end", SOON, || ended(&held).contains("COMPLETED")).unwrap();
}
