//! Two hundred steps of several kinds while their executor, or their supervisors, are killed: every outcome is right, every
//! stream goes on, nothing is left behind. (Containers and MPI: the parts `container` and `mpi`.)

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Stdio};

use nix::sys::signal::Signal;
use tests::{Cluster, Conf, send, wait_for};

use crate::SOON;
use crate::steps::spawn;

/// Batch jobs, steps of `srun`, and steps with a terminal.
const BATCH: u32 = 120;
const STEPS: u32 = 60;
const TERMINALS: u32 = 20;

/// Says that it is there, waits for the file `go`, says that it went on, and exits with its number modulo 7. Its process is
/// in `pid-KIND-NUMBER`.
const WAITS: &str = "echo before $2; echo $$ > pid-$1-$2.new; mv pid-$1-$2.new pid-$1-$2; \
    until [ -e go ]; do sleep 0.2; done; echo after $2; exit $(($2 % 7))";

struct Crowd {
    cluster: Cluster,
    batch: String,
    steps: Vec<Child>,
}

/// Starts them all, and waits until each runs.
fn crowd() -> Crowd {
    let conf = Conf::declared(1, BATCH + STEPS + TERMINALS, "MaxArraySize=1000");
    let cluster = Cluster::start(&conf, &["n1"]).unwrap();
    let script = format!("#!/bin/sh\nset -- batch $SLURM_ARRAY_TASK_ID\n{WAITS}\n");
    let last = BATCH - 1;
    let array = format!("--array=0-{last}");
    let batch = cluster.submit(&script, &[&array, "-o", "batch-%a", "--no-requeue"]).unwrap();
    let step = |kind: &str, number: u32, terminal: &[&str]| {
        let number = number.to_string();
        spawn(&cluster, &[&["srun"], terminal, &["sh", "-c", WAITS, "srun", kind, &number]].concat())
    };
    let plain = (0..STEPS).map(|number| step("step", number, &[]));
    let terminals = (0..TERMINALS).map(|number| step("pty", number, &["--pty"]));
    let steps = plain.chain(terminals).collect();
    let crowd = Crowd { cluster, batch, steps };
    let all = (BATCH + STEPS + TERMINALS) as usize;
    let mut there = 0;
    wait_for("all steps to run", 3 * SOON, || {
        there = crowd.pid_files().len();
        there == all
    })
    .unwrap_or_else(|error| panic!("{error:#}: {there} of {all}\n{}", crowd.cluster.last_words()));
    crowd
}

impl Crowd {
    fn pid_files(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.cluster.jobs()).unwrap().flatten();
        let whole = entries.filter(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            name.starts_with("pid-") && !name.ends_with(".new")
        });
        whole.map(|entry| entry.path()).collect()
    }

    /// No process of any of them is there any more.
    fn nothing_left(&self) {
        wait_for("the last supervisor to end", SOON, || self.cluster.supervisors().is_empty()).unwrap();
        for file in self.pid_files() {
            let pid = fs::read_to_string(&file).unwrap();
            let cwd = PathBuf::from(format!("/proc/{}/cwd", pid.trim()));
            // A number may have been given to somebody else since.
            let ours = || fs::read_link(&cwd).is_ok_and(|folder| folder == self.cluster.jobs());
            wait_for(&format!("process {} to be gone", pid.trim()), SOON, || !ours()).unwrap();
        }
    }

    /// State and exit code of each element, in order; exactly one row each.
    fn batch_ends(&self) -> Vec<String> {
        self.cluster.wait_ended(&self.batch, "State,ExitCode", 3 * SOON).unwrap();
        let text =
            self.cluster.ok("sacct", &["-nPXD", "-j", &self.batch, "-o", "JobID,State,ExitCode"]).unwrap();
        let mut rows: Vec<(u32, String)> = text
            .lines()
            .map(|line| {
                let (id, end) = line.split_once('|').unwrap();
                (id.rsplit_once('_').unwrap().1.parse().unwrap(), end.to_owned())
            })
            .collect();
        rows.sort_unstable();
        let numbers: Vec<u32> = rows.iter().map(|(number, _)| *number).collect();
        assert_eq!(numbers, (0..BATCH).collect::<Vec<_>>(), "one row each");
        rows.into_iter().map(|(_, end)| end).collect()
    }
}

#[test]
fn two_hundred_steps_outlive_their_executor() {
    let mut crowd = crowd();
    for _ in 0..2 {
        crowd.cluster.executor("n1").unwrap().kill();
        crowd.cluster.start_executor("n1", &[]).unwrap();
    }
    crowd.cluster.executor("n1").unwrap().kill();
    // Half of them may end while nobody is there to see it.
    fs::write(crowd.cluster.jobs().join("go"), "").unwrap();
    crowd.cluster.start_executor("n1", &[]).unwrap();
    for (at, child) in std::mem::take(&mut crowd.steps).into_iter().enumerate() {
        let at = u32::try_from(at).unwrap();
        let number = if at < STEPS { at } else { at - STEPS };
        let out = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&out.stdout).replace('\r', "");
        let words = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(said, format!("before {number}\nafter {number}\n"), "step {at}: {words}");
        assert_eq!(out.status.code(), Some((number % 7).cast_signed()), "step {at}: {words}");
    }
    for (number, end) in crowd.batch_ends().into_iter().enumerate() {
        let code = number % 7;
        let state = if code == 0 { "COMPLETED" } else { "FAILED" };
        assert_eq!(end, format!("{state}|{code}:0"), "element {number}");
        let text = fs::read_to_string(crowd.cluster.jobs().join(format!("batch-{number}"))).unwrap();
        assert_eq!(text, format!("before {number}\nafter {number}\n"));
    }
    crowd.nothing_left();
    crowd.cluster.wait_idle(1).unwrap();
}

#[test]
fn two_hundred_steps_whose_supervisors_are_killed_have_one_outcome_each() {
    let mut crowd = crowd();
    let supervisors = crowd.cluster.supervisors();
    assert!(supervisors.len() >= (BATCH + STEPS + TERMINALS) as usize, "{}", supervisors.len());
    // Some while the executor watches, some while it is away.
    let (seen, unseen) = supervisors.split_at(supervisors.len() / 2);
    seen.iter().for_each(|pid| send(*pid, Signal::SIGKILL));
    crowd.cluster.executor("n1").unwrap().kill();
    unseen.iter().for_each(|pid| send(*pid, Signal::SIGKILL));
    crowd.cluster.start_executor("n1", &[]).unwrap();
    for child in std::mem::take(&mut crowd.steps) {
        let out = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&out.stdout).into_owned();
        assert!(!out.status.success() && !said.contains("after"), "{said}");
    }
    for end in crowd.batch_ends() {
        assert!(end.starts_with("NODE_FAIL|") || end.starts_with("FAILED|"), "{end}");
    }
    crowd.nothing_left();
    crowd.cluster.wait_idle(1).unwrap();
    let ran = crowd.cluster.command("srun").args(["echo", "well"]).stdin(Stdio::null()).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&ran.stdout), "well\n", "the node goes on");
}
