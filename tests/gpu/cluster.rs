//! Jobs on slices of a pretended GPU, from sbatch to the instance's end, daemons killed in between included.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use tests::{Cluster, Conf, wait_for, wait_for_some};

const SOON: Duration = Duration::from_secs(60);

/// Says what it was told of, and waits for `go-NAME`.
fn script(name: &str) -> String {
    format!(
        "#!/bin/sh\necho \"$CUDA_VISIBLE_DEVICES $SLURM_JOB_GPUS\" > told-{name}.new\nmv told-{name}.new told-{name}\n\
         until [ -e go-{name} ]; do sleep 0.05; done\n"
    )
}

struct Gpus {
    cluster: Cluster,
    cards: PathBuf,
    library: PathBuf,
}

impl Gpus {
    /// One node with one dynamic A100.
    fn start() -> Self {
        let conf = "GresTypes=gpu\nNodeName=DEFAULT Gres=gpu:a100:1";
        let cluster = Cluster::prepare(&Conf::declared(1, 4, conf)).unwrap();
        let cards = cluster.folder().join("cards");
        fs::write(&cards, "gpu a100-40 mig\n").unwrap();
        fs::write(cluster.folder().join("gres.conf"), "AutoDetect=nvml\nName=gpu Type=a100\n").unwrap();
        fs::write(cluster.folder().join("sluice.conf"), "Mig=dynamic\n").unwrap();
        let mut gpus = Self { cluster, cards, library: crate::driver::library() };
        gpus.cluster.start_scheduler(&[]).unwrap();
        gpus.start_executor(&[]);
        gpus.cluster.wait_idle(1).unwrap();
        gpus
    }

    fn start_executor(&mut self, more: &[(&str, &str)]) {
        let (library, cards) = (self.library.to_str().unwrap(), self.cards.to_str().unwrap());
        let own = [("SLUICE_NVML", library), ("SLUICE_FAKE_NVML", cards)];
        self.cluster.start_executor("n1", &[&own, more].concat()).unwrap();
    }

    fn submit(&self, name: &str, gres: &str) -> String {
        self.cluster.submit(&script(name), &["-n1", "--gres", gres, "-o", "/dev/null", "-t", "5"]).unwrap()
    }

    /// What the job was told of.
    fn told(&self, name: &str) -> String {
        let path = self.cluster.jobs().join(format!("told-{name}"));
        let told = wait_for_some(&format!("job {name} to begin"), SOON, || fs::read_to_string(&path).ok());
        told.unwrap_or_else(|error| panic!("{error:#}\n{}", self.cluster.last_words()))
    }

    fn go(&self, name: &str) {
        fs::write(self.cluster.jobs().join(format!("go-{name}")), "").unwrap();
    }

    /// Starts of the instances that are there.
    fn instances(&self) -> Vec<String> {
        let text = fs::read_to_string(&self.cards).unwrap_or_default();
        text.lines().filter(|line| line.starts_with("gi ")).map(str::to_owned).collect()
    }
}

#[test]
fn two_jobs_share_a_gpu_and_a_larger_one_comes_after_them() {
    let gpus = Gpus::start();
    let left = gpus.submit("left", "gpu:3g.20gb:1");
    let right = gpus.submit("right", "gpu:a100_3g.20gb:1");
    let (one, two) = (gpus.told("left"), gpus.told("right"));
    assert!(one.starts_with("MIG-") && two.starts_with("MIG-") && one != two, "{one} {two}");
    assert!(one.ends_with(" 0\n"), "{one}");
    assert_eq!(gpus.instances().len(), 2, "{:?}", gpus.instances());
    let drawn = gpus.cluster.ok("sluice", &["gpus"]).unwrap();
    for expected in ["pretended", "3g.20gb", &left, &right] {
        assert!(drawn.contains(expected), "{expected}:\n{drawn}");
    }
    let large = gpus.submit("large", "gpu:7g.40gb:1");
    gpus.go("left");
    assert_eq!(gpus.cluster.wait_ended(&left, "State", SOON).unwrap(), "COMPLETED");
    assert_eq!(gpus.cluster.ok("squeue", &["-h", "-j", &large, "-o", "%T"]).unwrap(), "PENDING");
    gpus.go("right");
    assert!(gpus.told("large").starts_with("MIG-"));
    gpus.go("large");
    assert_eq!(gpus.cluster.wait_ended(&large, "State", SOON).unwrap(), "COMPLETED");
    wait_for("nothing to be left on the GPU", SOON, || gpus.instances().is_empty()).unwrap();
}

#[test]
fn an_executor_that_dies_around_a_creation_leaves_nothing_of_it() {
    for point in ["before-slice", "after-slice", "after-destroy"] {
        let mut gpus = Gpus::start();
        gpus.cluster.executor("n1").unwrap().kill();
        gpus.start_executor(&[("SLUICE_CRASH_AT", point)]);
        gpus.go("job");
        let job = gpus.submit("job", "gpu:3g.20gb:1");
        wait_for(&format!("the executor to die {point}"), SOON, || {
            gpus.cluster.executor("n1").unwrap().ended().is_some()
        })
        .unwrap();
        gpus.start_executor(&[]);
        assert_eq!(gpus.cluster.wait_ended(&job, "State", SOON).unwrap(), "COMPLETED", "{point}");
        wait_for("nothing to be left on the GPU", SOON, || gpus.instances().is_empty()).unwrap();
    }
}
