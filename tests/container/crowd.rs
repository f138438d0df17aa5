//! Containers of several kinds while their executor, or their supervisors, are killed: every outcome is right, every stream
//! goes on, nothing is left behind. (Steps without a container: `tests/cluster/reattach.rs`.)

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Stdio};

use nix::sys::signal::Signal;
use tests::{Cluster, Conf, send, wait_for};

use crate::{NOBODY, SOON, image, named, submit_as_nobody, written};

/// Batch jobs, and the kinds of steps: options of srun, the image, the user.
const BATCH: u32 = 6;
const STEPS: [(&[&str], &str, u32); 8] = [
    (&[], "sandbox", 0),
    (&[], "sandbox", NOBODY),
    (&[], "sif", NOBODY),
    (&[], "oci-archive", NOBODY),
    (&[], "bundle", 0),
    (&["--pty"], "sandbox", 0),
    (&["--pty"], "sandbox", NOBODY),
    (&["--pty"], "oci-archive", NOBODY),
];

/// Says that it is there, waits for the file `go`, says that it went on, and exits with its number.
const WAITS: &str =
    "echo before $2; echo > up-$1-$2; until [ -e go ]; do sleep 0.2; done; echo after $2; exit $2";

struct Crowd {
    cluster: Cluster,
    batch: Vec<String>,
    steps: Vec<Child>,
}

fn crowd() -> Crowd {
    let conf = match Conf::declared(1, 32, "") {
        Conf::Text(text) => {
            let text = text.replace("DefMemPerCPU=10\n", "DefMemPerCPU=64\n");
            Conf::Text(text.replace("RealMemory=320", "RealMemory=2048"))
        }
        Conf::None => Conf::None,
    };
    let cluster = Cluster::start(&conf, &["n1"]).unwrap();
    let sandbox = named("sandbox", &image("sandbox"));
    let job = |number: u32| {
        let script = format!("#!/bin/sh\nset -- batch {number}\n{WAITS}\n");
        let output = format!("batch-{number}");
        submit_as_nobody(&cluster, &script, &["--container", &sandbox, "-o", &output, "--no-requeue"])
    };
    let batch = (0..BATCH).map(job).collect();
    let steps = STEPS.iter().enumerate();
    let steps = steps
        .map(|(number, (options, kind, uid))| {
            let mut command = cluster.command("srun");
            command.args(*options).args(["--container", &named(kind, &image(kind)), "sh", "-c", WAITS, "sh"]);
            command.args(["step", &number.to_string()]).uid(*uid).gid(*uid);
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        })
        .collect();
    let crowd = Crowd { cluster, batch, steps };
    let up = |kind: &str, number: u32| crowd.cluster.jobs().join(format!("up-{kind}-{number}")).exists();
    let all = || {
        (0..BATCH).all(|number| up("batch", number))
            && (0..STEPS.len() as u32).all(|number| up("step", number))
    };
    wait_for("all containers to run", 2 * SOON, all)
        .unwrap_or_else(|error| panic!("{error:#}\n{}", crowd.cluster.last_words()));
    crowd
}

impl Crowd {
    /// No process works in the jobs' folder any more, no supervisor is there, the node is idle.
    fn nothing_left(&self) {
        wait_for("the last supervisor to end", SOON, || self.cluster.supervisors().is_empty()).unwrap();
        let (here, bin): (PathBuf, PathBuf) = (self.cluster.jobs(), self.cluster.folder().join("bin"));
        // The daemons are there too.
        let works_here = |entry: &fs::DirEntry| {
            let link = |name: &str| fs::read_link(entry.path().join(name));
            link("cwd").is_ok_and(|cwd| cwd == here)
                && !link("exe").is_ok_and(|program| program.starts_with(&bin))
        };
        let inside = || fs::read_dir("/proc").unwrap().flatten().filter(works_here).count();
        wait_for("every process inside to be gone", SOON, || inside() == 0).unwrap();
        self.cluster.wait_idle(1).unwrap();
    }
}

#[test]
fn containers_of_every_kind_outlive_their_executor() {
    let mut crowd = crowd();
    for _ in 0..2 {
        crowd.cluster.executor("n1").unwrap().kill();
        crowd.cluster.start_executor("n1", &[]).unwrap();
    }
    crowd.cluster.executor("n1").unwrap().kill();
    // Some of them may end while nobody is there to see it.
    fs::write(crowd.cluster.jobs().join("go"), "").unwrap();
    crowd.cluster.start_executor("n1", &[]).unwrap();
    for (number, step) in std::mem::take(&mut crowd.steps).into_iter().enumerate() {
        let out = step.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&out.stdout).replace('\r', "");
        let words = String::from_utf8_lossy(&out.stderr).into_owned();
        let code = i32::try_from(number).unwrap();
        let expected = format!("before {number}\nafter {number}\n");
        assert_eq!((said, out.status.code()), (expected, Some(code)), "{:?}: {words}", STEPS[number]);
    }
    for (number, job) in crowd.batch.iter().enumerate() {
        let end = crowd.cluster.wait_ended(job, "State,ExitCode", SOON).unwrap();
        let state = if number == 0 { "COMPLETED" } else { "FAILED" };
        assert_eq!(end, format!("{state}|{number}:0"), "one row");
        let text = written(&crowd.cluster, &format!("batch-{number}"));
        assert_eq!(text, format!("before {number}\nafter {number}\n"));
    }
    crowd.nothing_left();
}

#[test]
fn containers_whose_supervisors_are_killed_have_one_outcome_each() {
    let mut crowd = crowd();
    let supervisors = crowd.cluster.supervisors();
    assert!(supervisors.len() >= BATCH as usize + STEPS.len(), "{}", supervisors.len());
    // Some while the executor watches, some while it is away.
    let (seen, unseen) = supervisors.split_at(supervisors.len() / 2);
    seen.iter().for_each(|pid| send(*pid, Signal::SIGKILL));
    crowd.cluster.executor("n1").unwrap().kill();
    unseen.iter().for_each(|pid| send(*pid, Signal::SIGKILL));
    crowd.cluster.start_executor("n1", &[]).unwrap();
    for step in std::mem::take(&mut crowd.steps) {
        let out = step.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&out.stdout).into_owned();
        assert!(!out.status.success() && !said.contains("after"), "{said}");
    }
    for job in &crowd.batch {
        let end = crowd.cluster.wait_ended(job, "State", SOON).unwrap();
        assert!(["NODE_FAIL", "FAILED"].contains(&end.as_str()), "{end}");
    }
    crowd.nothing_left();
}
