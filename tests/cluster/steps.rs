//! Steps as users run them: what they used is in `sstat` and `sacct`, by task.

use std::fs;
use std::process::{Child, Stdio};

use tests::{Cluster, Conf, wait_for};

use crate::SOON;

/// Starts a command of this cluster and does not wait for it.
pub(crate) fn spawn(cluster: &Cluster, words: &[&str]) -> Child {
    let mut command = cluster.command(words[0]);
    command.args(&words[1..]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

/// Two tasks that wait for the file `go`; the second one holds 50 MB meanwhile.
const HOLDS_MEMORY: &str = "[ $SLURM_PROCID = 0 ] || head -c 50000000 /dev/zero | tail -c 50000000 | \
     sh -c 'until [ -e go ]; do sleep 0.05; done'; until [ -e go ]; do sleep 0.05; done";

#[test]
fn what_each_task_used_is_in_sstat_and_sacct() {
    let conf = Conf::declared(1, 8, "JobAcctGatherType=jobacct_gather/linux\nJobAcctGatherFrequency=30");
    let cluster = Cluster::start(&conf, &["n1"]).unwrap();
    let step = spawn(&cluster, &["srun", "--acctg-freq=task=1", "-n2", "sh", "-c", HOLDS_MEMORY]);
    let of_step = |format: &str| {
        let ran = cluster.run("sstat", &["-nP", "-j", "1.0", "-o", format]).unwrap();
        ran.stdout
    };
    wait_for("the second task to be the larger one", SOON, || of_step("MaxRSSTask,MaxVMSizeTask") == "1|1")
        .unwrap();
    let text = of_step("MaxRSS,AveRSS,MaxRSSNode,MaxVMSizeNode");
    let fields: Vec<&str> = text.split('|').collect();
    assert!(fields[0].ends_with('M') && fields[1].ends_with('M'), "{text}");
    assert_eq!(fields[2..], ["n1", "n1"]);
    // The timer of one second has looked too: what is asked for here is not what accounting rests on.
    fs::write(cluster.jobs().join("go"), "").unwrap();
    let out = step.wait_with_output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let kept = "MaxRSSTask,MaxRSSNode,MaxVMSizeTask,AvePages,MinCPUNode";
    let of_past = |format: &str| cluster.ok("sacct", &["-nP", "-j", "1.0", "-o", format]).unwrap();
    wait_for("accounting to know the step's end", SOON, || of_past("State") == "COMPLETED").unwrap();
    let text = of_past(kept);
    let fields: Vec<&str> = text.split('|').collect();
    assert_eq!(fields[..3], ["1", "n1", "1"], "{text}");
    assert!(fields[3].parse::<u64>().is_ok() && fields[4] == "n1", "{text}");
    let most = of_past("MaxRSS");
    let mib: u64 = most.strip_suffix('M').unwrap().parse().unwrap();
    assert!((45..80).contains(&mib), "{most}");
}
