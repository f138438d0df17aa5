//! Jobs that share whole GPUs (`gres/shard`), on a node whose GPUs slurm.conf declares: no library is asked.

use std::fs;
use std::time::Duration;

use tests::{Cluster, Conf, wait_for_some};

const SOON: Duration = Duration::from_secs(60);

/// One node with two GPUs of four shards each.
fn cluster() -> Cluster {
    let conf =
        "GresTypes=gpu,shard\nAccountingStorageTRES=gres/gpu,gres/shard\nNodeName=DEFAULT Gres=gpu:2,shard:8";
    let mut cluster = Cluster::prepare(&Conf::declared(1, 8, conf)).unwrap();
    let gres = "Name=gpu Count=2\nName=shard Count=8\n";
    fs::write(cluster.folder().join("gres.conf"), gres).unwrap();
    cluster.start_all(&["n1"]).unwrap();
    cluster
}

/// A job that says what it was given and waits for `go`.
fn submit(cluster: &Cluster, name: &str, gres: &str) -> String {
    let script = format!(
        "#!/bin/sh\necho \"$CUDA_VISIBLE_DEVICES $SLURM_SHARDS_ON_NODE\" > new-{name}\nmv new-{name} told-{name}\n\
         until [ -e go ]; do sleep 0.05; done\n"
    );
    cluster.submit(&script, &["-n1", "--gres", gres, "-o", "/dev/null", "-t", "5"]).unwrap()
}

fn told(cluster: &Cluster, name: &str) -> String {
    let path = cluster.jobs().join(format!("told-{name}"));
    let told = wait_for_some(&format!("job {name} to begin"), SOON, || fs::read_to_string(&path).ok());
    let told = told.unwrap_or_else(|error| panic!("{error:#}\n{}", cluster.last_words()));
    told.trim().to_owned()
}

#[test]
fn a_gpu_is_shared_by_some_or_all_of_one_job() {
    let cluster = cluster();
    let first = submit(&cluster, "first", "shard:3");
    assert_eq!(told(&cluster, "first"), "0 3");
    // The other GPU, since somebody shares the first one.
    submit(&cluster, "whole", "gpu:1");
    assert_eq!(told(&cluster, "whole"), "1");
    // One shard is left, and no GPU that nobody uses.
    let second = submit(&cluster, "second", "shard:1");
    assert_eq!(told(&cluster, "second"), "0 1");
    let waits = submit(&cluster, "third", "shard:1");
    let reason = wait_for_some("the third job's reason", SOON, || {
        cluster.ok("squeue", &["-h", "-j", &waits, "-o", "%r"]).ok().filter(|reason| reason != "None")
    });
    assert_eq!(reason.unwrap(), "Resources");
    let used = cluster.ok("scontrol", &["-d", "show", "node", "n1"]).unwrap();
    let used =
        used.lines().find_map(|line| line.trim().strip_prefix("GresUsed=")).unwrap_or_default().to_owned();
    assert_eq!(used, "gpu:1(IDX:1),shard:4(4/4,-/4)");
    fs::write(cluster.jobs().join("go"), "").unwrap();
    assert_eq!(cluster.wait_ended(&waits, "State", SOON).unwrap(), "COMPLETED");
    for (job, count) in [(&first, "gres/shard=3"), (&second, "gres/shard=1")] {
        let allocated = cluster.wait_ended(job, "AllocTRES", SOON).unwrap();
        assert!(allocated.contains(count), "{job}: {allocated}");
    }
    // More than any GPU has, and both at once.
    for gres in ["shard:5", "gpu:1,shard:1"] {
        let refused = cluster.run("sbatch", &["--gres", gres, "--wrap", "true"]).unwrap();
        assert_eq!(refused.code, Some(1), "{gres}: {refused:?}");
    }
}
