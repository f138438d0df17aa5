//! `--signal` where there is no batch script: the steps of the allocation get it before its end.

use tests::{Cluster, Conf};

#[test]
fn steps_of_an_allocation_are_warned_before_its_end() {
    let cluster = Cluster::start(&Conf::declared(1, 8, ""), &["n1"]).unwrap();
    let waits = "trap 'echo warned; exit 4' USR1; while :; do sleep 0.1; done";
    // A minute less 57 seconds: what comes after three seconds is the warning, not the limit.
    let asked = ["-t", "1", "--signal=USR1@57"];
    let srun = cluster.folder().join("bin/srun");
    let inside = [srun.to_str().unwrap(), "sh", "-c", waits];
    let salloc = cluster.run("salloc", &[&asked[..], &inside[..]].concat()).unwrap();
    assert_eq!((salloc.code, salloc.stdout.as_str()), (Some(4), "warned"), "{salloc:?}");
    let srun = cluster.run("srun", &[&asked[..], &["sh", "-c", waits]].concat()).unwrap();
    assert_eq!((srun.code, srun.stdout.as_str()), (Some(4), "warned"), "{srun:?}");
}
