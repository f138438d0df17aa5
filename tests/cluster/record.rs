//! A daemon's inputs, recorded while it ran a cluster, replay to the same decisions.

use std::fs;

use nix::sys::signal::Signal;
use tests::{Cluster, Conf};

use crate::SOON;

#[test]
fn recorded_inputs_replay_to_the_same_decisions() {
    let mut cluster = Cluster::prepare(&Conf::declared(1, 4, "")).unwrap();
    let recording = cluster.folder().join("inputs");
    cluster.set_scheduler_arguments(&["--record-inputs", recording.to_str().unwrap()]);
    cluster.start_all(&["n1"]).unwrap();
    let submit = |options: &[&str]| {
        let options = [&["-o", "/dev/null"], options].concat();
        cluster.submit("#!/bin/sh\ntrue\n", &options).unwrap()
    };
    // More than fits at once, a dependency, an array, a hold with a release, a cancel.
    let first = submit(&["-n", "4"]);
    let held = submit(&["-H"]);
    let after = format!("afterok:{first}");
    let ids =
        [submit(&["-n", "3"]), submit(&["-n", "2", "-d", &after]), submit(&["--array=1-5%2"]), held.clone()];
    let gone = submit(&["-H"]);
    cluster.ok("scancel", &[&gone]).unwrap();
    cluster.ok("scontrol", &["release", &held]).unwrap();
    for id in &ids {
        let state = cluster.wait_ended(id, "State", SOON).unwrap();
        assert!(state.lines().all(|line| line == "COMPLETED"), "job {id}: {state}");
    }
    cluster.scheduler().unwrap().stop(Signal::SIGTERM, SOON).unwrap();
    let path = recording.to_str().unwrap();
    let said = cluster.ok("sluice", &["simulate", "--inputs", path, "--json"]).unwrap();
    let number = |key: &str| {
        let value = said.split(&format!("\"{key}\":")).nth(1).and_then(|rest| rest.split([',', '}']).next());
        value.unwrap_or_else(|| panic!("no {key} in {said}")).parse::<u64>().unwrap()
    };
    assert_eq!((number("owners"), number("open"), number("same_states")), (1, 0, 1), "{said}");
    assert_eq!(number("submits"), 6, "{said}");
    assert!(number("starts") >= 9, "{said}");
    // One byte of the last digest otherwise, and the difference is named.
    let mut bytes = fs::read(&recording).unwrap();
    let last_digest = bytes.len() - 40;
    bytes[last_digest] ^= 1;
    fs::write(&recording, bytes).unwrap();
    let wrong = cluster.run("sluice", &["simulate", "--inputs", path]).unwrap();
    assert!(wrong.code == Some(1) && wrong.stdout.contains("DIFFERENT"), "{}", wrong.stderr);
}
