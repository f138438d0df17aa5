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
        Self::of(1, "", &[])
    }

    /// One node with so many dynamic A100s, further lines of slurm.conf, and more in the executor's environment.
    fn of(count: usize, more: &str, environment: &[(&str, &str)]) -> Self {
        Self::with(count, more, "Mig=dynamic\n", environment)
    }

    /// The same with the lines of sluice.conf.
    fn with(count: usize, more: &str, own: &str, environment: &[(&str, &str)]) -> Self {
        let conf = format!("GresTypes=gpu\n{more}\nNodeName=DEFAULT Gres=gpu:a100:{count}");
        let cluster = Cluster::prepare(&Conf::declared(1, 4, &conf)).unwrap();
        let cards = cluster.folder().join("cards");
        fs::write(&cards, "gpu a100-40 mig\n".repeat(count)).unwrap();
        fs::write(cluster.folder().join("gres.conf"), "AutoDetect=nvml\nName=gpu Type=a100\n").unwrap();
        fs::write(cluster.folder().join("sluice.conf"), own).unwrap();
        let mut gpus = Self { cluster, cards, library: crate::driver::library() };
        gpus.cluster.start_scheduler(&[]).unwrap();
        gpus.start_executor(environment);
        gpus.cluster.wait_idle(1).unwrap();
        gpus
    }

    /// Something happens to the pretended cards.
    fn change(&self, from: &str, to: &str) {
        // Calls replace the file under a lock of their own; a line that is there stays there.
        let text = fs::read_to_string(&self.cards).unwrap();
        assert!(text.contains(from), "{text}");
        fs::write(&self.cards, text.replacen(from, to, 1)).unwrap();
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
        told.unwrap_or_else(|error| {
            let jobs = self.cluster.ok("scontrol", &["show", "jobs"]).unwrap_or_default();
            panic!("{error:#}\n{jobs}\n{}", self.cluster.last_words())
        })
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

/// Two GPUs with half of each taken, and a job for a whole one: nothing is moved that may not be requeued, and one is as
/// soon as it may. Why is said before.
#[test]
fn a_small_job_is_moved_for_a_large_slice_if_it_may_be_requeued() {
    let gpus = Gpus::with(2, "AuthInfo=cred_expire=2", "Mig=dynamic\nDefragment=yes\n", &[]);
    let fillers = ["low", "high"].map(|name| {
        let id = gpus.submit(name, "gpu:4g.20gb:1");
        gpus.told(name);
        (name, id)
    });
    let options = ["-n1", "--gres", "gpu:3g.20gb:1", "-o", "/dev/null", "-t", "10", "--no-requeue"];
    let small = ["stays", "moves"].map(|name| {
        let id = gpus.cluster.submit(&script(name), &options).unwrap();
        gpus.told(name);
        id
    });
    for (name, id) in &fillers {
        gpus.go(name);
        assert_eq!(gpus.cluster.wait_ended(id, "State", SOON).unwrap(), "COMPLETED");
    }
    let large = gpus.submit("large", "gpu:7g.40gb:1");
    let why = || gpus.cluster.ok("sluice", &["why", &large]).unwrap();
    let fixed = format!("job {} may not be requeued, job {} may not be requeued", small[0], small[1]);
    let stays = wait_for("why nothing is moved to be said", SOON, || why().contains(&fixed));
    stays.unwrap_or_else(|error| panic!("{error:#}\n{}", why()));
    for id in &small {
        assert_eq!(gpus.cluster.ok("squeue", &["-h", "-j", id, "-o", "%T"]).unwrap(), "RUNNING");
    }

    fs::remove_file(gpus.cluster.jobs().join("told-moves")).unwrap();
    gpus.cluster.ok("scontrol", &["update", &format!("JobId={}", small[1]), "Requeue=1"]).unwrap();
    assert!(gpus.told("large").starts_with("MIG-"));
    let shown = |id: &str| gpus.cluster.ok("scontrol", &["show", "job", id]).unwrap();
    assert!(shown(&small[1]).contains("Restarts=1"), "{}", shown(&small[1]));
    let log = fs::read_to_string(gpus.cluster.folder().join("scheduler.log")).unwrap();
    assert!(log.contains("requeued to make room for a larger slice"), "{log}");
    // It comes back beside the other one, which was left alone.
    let on = |name: &str| gpus.told(name).trim().rsplit(' ').next().map(str::to_owned);
    assert_eq!(on("moves"), on("stays"));
    assert_ne!(on("large"), on("stays"));
    assert!(shown(&small[0]).contains("Restarts=0"), "{}", shown(&small[0]));
    for (name, id) in [("large", &large), ("stays", &small[0]), ("moves", &small[1])] {
        gpus.go(name);
        assert_eq!(gpus.cluster.wait_ended(id, "State", SOON).unwrap(), "COMPLETED", "{name}");
    }
    wait_for("nothing to be left on the GPUs", SOON, || gpus.instances().is_empty()).unwrap();
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

#[test]
fn accounting_counts_each_kind_of_slice() {
    let tres = "AccountingStorageTRES=gres/gpu,gres/gpu:a100,gres/gpu:3g.20gb,gres/gpu:1g.5gb";
    let gpus = Gpus::of(2, tres, &[]);
    let several = gpus.submit("several", "gpu:3g.20gb:1,gpu:1g.5gb:2");
    assert!(gpus.told("several").matches("MIG-").count() == 3);
    gpus.go("several");
    assert_eq!(gpus.cluster.wait_ended(&several, "State", SOON).unwrap(), "COMPLETED");
    for column in ["ReqTRES%100", "AllocTRES%100"] {
        let said = gpus.cluster.ok("sacct", &["-n", "-X", "-j", &several, "-o", column]).unwrap();
        let mut parts: Vec<&str> = said.trim().split(',').filter(|part| part.starts_with("gres/")).collect();
        parts.sort_unstable();
        assert_eq!(parts, ["gres/gpu:1g.5gb=2", "gres/gpu:3g.20gb=1", "gres/gpu=3"], "{column}: {said}");
    }
}

#[test]
fn an_instance_that_cannot_be_made_fails_its_job_alone() {
    let gpus = Gpus::of(1, "", &[]);
    gpus.change("gpu a100", "fail nvmlGpuInstanceCreateComputeInstance 999 1\ngpu a100");
    let options = ["-n1", "--gres", "gpu:3g.20gb:1", "-o", "/dev/null", "-t", "5", "--no-requeue"];
    let failed = gpus.cluster.submit(&script("failed"), &options).unwrap();
    // Whether it is held or ended by that, it does not run.
    let gone = || {
        let state = gpus.cluster.ok("squeue", &["-h", "-j", &failed, "-o", "%T %r"]);
        state.map_or(true, |said| said.is_empty() || said.contains("launch failed requeued held"))
    };
    wait_for("the job whose slice cannot be made to be through", SOON, gone).unwrap();
    assert!(!gpus.cluster.jobs().join("told-failed").exists(), "its script did not run");
    wait_for("what was begun to be taken back", SOON, || gpus.instances().is_empty()).unwrap();
    let next = gpus.submit("next", "gpu:7g.40gb:1");
    assert!(gpus.told("next").starts_with("MIG-"), "the GPU works for the next one");
    gpus.go("next");
    assert_eq!(gpus.cluster.wait_ended(&next, "State", SOON).unwrap(), "COMPLETED");
}

#[test]
fn a_gpu_that_is_lost_under_a_job_takes_only_itself_out() {
    let gpus = Gpus::of(2, "", &[]);
    let holder = gpus.submit("holder", "gpu:7g.40gb:1");
    let on = gpus.told("holder").trim().rsplit(' ').next().unwrap().to_owned();
    let (lost, other) = if on == "0" {
        ("gpu a100-40 mig lost\ngpu a100-40 mig", "1")
    } else {
        ("gpu a100-40 mig\ngpu a100-40 mig lost", "0")
    };
    gpus.change("gpu a100-40 mig\ngpu a100-40 mig", lost);
    wait_for("the node to say that it lost a GPU", SOON, || {
        gpus.cluster.ok("sluice", &["node", "n1"]).is_ok_and(|said| said.contains("out of service"))
    })
    .unwrap();
    let next = gpus.submit("next", "gpu:4g.20gb:1");
    assert!(gpus.told("next").trim().ends_with(&format!(" {other}")), "the other GPU works on");
    gpus.go("next");
    assert_eq!(gpus.cluster.wait_ended(&next, "State", SOON).unwrap(), "COMPLETED");
    gpus.go("holder");
    gpus.cluster.wait_ended(&holder, "State", SOON).unwrap();
    assert_eq!(
        gpus.cluster.ok("sinfo", &["-h", "-o", "%T"]).unwrap(),
        "idle",
        "the node is not drained for it"
    );
}

/// Stand-ins: the driver's table names capabilities whose device numbers are those of harmless devices of the kernel,
/// so that the cgroup's filter is what lets a job open them or not.
#[test]
fn a_neighbours_capabilities_cannot_be_opened() {
    if !nix::unistd::geteuid().is_root() || !PathBuf::from("/sys/fs/cgroup/devices/cgroup.procs").exists() {
        eprintln!("passed over: device filters of cgroup v1 need root and their hierarchy");
        return;
    }
    let stand_ins = nix::unistd::mkdtemp("/tmp/sluice-caps-XXXXXX").unwrap();
    fs::create_dir_all(stand_ins.join("proc/driver/nvidia-caps")).unwrap();
    fs::write(stand_ins.join("proc/devices"), "Character devices:\n  1 nvidia-caps\n").unwrap();
    // zero and full for the lower half of the GPU, random and urandom for the upper one.
    let minors = "gpu0/gi1/access 5\ngpu0/gi1/ci0/access 7\ngpu0/gi2/access 8\ngpu0/gi2/ci0/access 9\n";
    fs::write(stand_ins.join("proc/driver/nvidia-caps/mig-minors"), minors).unwrap();
    let mut gpus = Gpus::of(1, "TaskPlugin=task/cgroup", &[]);
    gpus.cluster.executor("n1").unwrap().kill();
    fs::write(gpus.cluster.folder().join("cgroup.conf"), "ConstrainDevices=yes\n").unwrap();
    let root = stand_ins.to_str().unwrap().to_owned();
    gpus.start_executor(&[("SLUICE_NVIDIA_ROOT", &root)]);
    gpus.cluster.wait_idle(1).unwrap();
    let facts = gpus.cluster.ok("sluice", &["node", "n1"]).unwrap();
    if facts.contains("can open devices") {
        eprintln!("passed over: {facts}");
        fs::remove_dir_all(&stand_ins).unwrap();
        return;
    }
    let opens = |name: &str| {
        format!(
            "#!/bin/sh\nfor n in zero full random urandom null; do (: < /dev/$n) 2>/dev/null && echo $n; done > opened-{name}.new\n\
             mv opened-{name}.new opened-{name}\nuntil [ -e go-{name} ]; do sleep 0.05; done\n"
        )
    };
    let names = ["one", "two"];
    let options = ["-n1", "--gres", "gpu:3g.20gb:1", "-o", "/dev/null", "-t", "5"];
    let jobs = names.map(|name| gpus.cluster.submit(&opens(name), &options).unwrap());
    let mut opened = names.map(|name| {
        let path = gpus.cluster.jobs().join(format!("opened-{name}"));
        wait_for_some(&format!("job {name} to try"), SOON, || fs::read_to_string(&path).ok())
            .unwrap_or_else(|error| panic!("{error:#}\n{}", gpus.cluster.last_words()))
    });
    opened.sort();
    assert_eq!(opened, ["random\nurandom\nnull\n", "zero\nfull\nnull\n"], "each its own two, and no others");
    // The nodes of what was granted were made where they were missing.
    for minor in [5, 7, 8, 9] {
        assert!(stand_ins.join(format!("dev/nvidia-caps/nvidia-cap{minor}")).exists(), "{minor}");
    }
    for (name, job) in names.iter().zip(&jobs) {
        gpus.go(name);
        assert_eq!(gpus.cluster.wait_ended(job, "State", SOON).unwrap(), "COMPLETED");
    }
    fs::remove_dir_all(&stand_ins).unwrap();
}
