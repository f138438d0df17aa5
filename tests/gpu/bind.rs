//! Tasks and CPUs that are bound to whole GPUs of a pretended machine, as the tasks themselves see it.

use std::fs;
use std::time::Duration;

use tests::{Cluster, Conf, wait_for_some};

const SOON: Duration = Duration::from_secs(60);

/// One node with four GPUs that are not cut, two near each of its first two CPUs, which are sockets.
fn cluster() -> Cluster {
    let conf = "GresTypes=gpu\nNodeName=DEFAULT Gres=gpu:a100:4";
    let mut cluster = Cluster::prepare(&Conf::declared(1, 4, conf)).unwrap();
    let cards = cluster.folder().join("cards");
    let near = "cpus 0 1\ncpus 1 1\ncpus 2 2\ncpus 3 2\n";
    fs::write(&cards, format!("{}{near}link 0 2 4\nlink 1 3 4\n", "gpu a100-40\n".repeat(4))).unwrap();
    let gres = "AutoDetect=nvml\nName=gpu Type=a100 File=/dev/nvidia3 Links=-1,4,0,0\n";
    fs::write(cluster.folder().join("gres.conf"), gres).unwrap();
    cluster.start_scheduler(&[]).unwrap();
    let library = crate::driver::library();
    let environment =
        [("SLUICE_NVML", library.to_str().unwrap()), ("SLUICE_FAKE_NVML", cards.to_str().unwrap())];
    cluster.start_executor("n1", &environment).unwrap();
    cluster.wait_idle(1).unwrap();
    cluster
}

/// What the tasks of a step are told, in their order.
fn told(cluster: &Cluster, options: &[&str]) -> Vec<String> {
    let script = "echo $SLURM_PROCID $CUDA_VISIBLE_DEVICES";
    let all = [&["-t", "5"], options, &["sh", "-c", script]].concat();
    let mut lines: Vec<String> = cluster.ok("srun", &all).unwrap().lines().map(str::to_owned).collect();
    lines.sort();
    lines.into_iter().map(|line| line.split_once(' ').unwrap_or_default().1.to_owned()).collect()
}

#[test]
fn tasks_are_bound_to_gpus_as_tres_bind_says() {
    let cluster = cluster();
    for (gres, bind, expected) in [
        ("gpu:4", "gres/gpu:single:1", ["0", "1"]),
        ("gpu:4", "gres/gpu:single:2", ["0", "0"]),
        ("gpu:4", "gres/gpu:per_task:2", ["0,1", "2,3"]),
        ("gpu:4", "gres/gpu:map:3,1", ["3", "1"]),
        ("gpu:4", "gres/gpu:mask:0x6,0x9", ["1,2", "0,3"]),
        ("gpu:4", "gres/gpu:none", ["0,1,2,3", "0,1,2,3"]),
    ] {
        let options = ["-n2", &format!("--gres={gres}"), &format!("--tres-bind={bind}")];
        assert_eq!(told(&cluster, &options), expected, "{bind}");
    }
    let refused = cluster.run("srun", &["-n1", "--tres-bind=gres/nic:single:1", "true"]).unwrap();
    assert!(refused.code != Some(0) && refused.stderr.contains("tres-bind"), "{refused:?}");
}

#[test]
fn what_the_library_shows_of_places_is_shown_and_used() {
    let cluster = cluster();
    let node = cluster.ok("scontrol", &["show", "node", "n1"]).unwrap();
    assert!(node.contains("Gres=gpu:a100:4(S:0-1)\n"), "{node}");
    // File 3 is GPU 0: minors run against the bus.
    let facts = cluster.ok("sluice", &["node", "n1"]).unwrap();
    let differs = "links -1,4,0,0 are named for /dev/nvidia3, but the driver shows -1,0,4,0";
    assert!(facts.contains(differs), "{facts}");
    if std::thread::available_parallelism().is_ok_and(|count| count.get() < 2) {
        eprintln!("passed over: CPUs near GPUs need a machine with two");
        return;
    }
    // The second one's CPU is near other GPUs than the first one's.
    let script = "#!/bin/sh\nuntil [ -e go ]; do sleep 0.05; done\n";
    let held = || {
        let options = ["-n1", "-t5", "-o/dev/null", "--gres=gpu:1", "--gres-flags=enforce-binding"];
        let job = cluster.submit(script, &options).unwrap();
        let cpus_and_gpu = || {
            let shown = cluster.ok("scontrol", &["-d", "show", "job", &job]).ok()?;
            let line = shown.lines().find(|line| line.contains("CPU_IDs="))?;
            Some(
                line.trim().split(' ').filter(|word| !word.starts_with("Mem=")).collect::<Vec<_>>().join(" "),
            )
        };
        (job.clone(), wait_for_some("the job to begin", SOON, cpus_and_gpu).unwrap())
    };
    let jobs = [held(), held()];
    let places = jobs.each_ref().map(|(_, place)| place.as_str());
    assert_eq!(
        places,
        ["Nodes=n1 CPU_IDs=0 GRES=gpu:a100:1(IDX:0)", "Nodes=n1 CPU_IDs=1 GRES=gpu:a100:1(IDX:2)"]
    );
    fs::write(cluster.jobs().join("go"), "").unwrap();
    for (job, _) in &jobs {
        assert_eq!(cluster.wait_ended(job, "State", SOON).unwrap(), "COMPLETED");
    }
    // Linked as gres.conf says, which counts, and near one socket.
    assert_eq!(told(&cluster, &["-n1", "--gres=gpu:2"]), ["0,1"]);
    let refused =
        cluster.run("srun", &["-n1", "-c3", "--gres=gpu:1", "--gres-flags=enforce-binding", "true"]);
    assert_ne!(refused.unwrap().code, Some(0), "no GPU has three CPUs near it");
}
