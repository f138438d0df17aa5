//! The site's programs around jobs: when they run, what they find, and what follows where they fail.
//!
//! States and reasons are those of Slurm 22.05, as it was seen beside this.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use tests::{Cluster, Conf, wait_for};

use crate::SOON;

/// A cluster of two nodes whose programs append their context, node, job and variables to files, fail where a file
/// `fail.CONTEXT` is, and wait as long as a file `wait.CONTEXT` is.
struct Site(Cluster);

const PROGRAM: &str = r#"#!/bin/sh
PATH=/usr/bin:/bin
context=${SLURM_SCRIPT_CONTEXT:-health}
env | sort > @JOBS@/env.$context.$SLURM_JOB_ID
echo "$context ${SLURMD_NODENAME:--} ${SLURM_JOB_ID:--} $(id -u)" >> @JOBS@/log
while [ -e @JOBS@/wait.$context ]; do sleep 0.05; done
echo "words of $context"; echo "errors of $context" >&2
[ ! -e @JOBS@/fail.$context ]
"#;

impl Site {
    fn start(more: &str) -> Self {
        let keys: String = ["Prolog", "Epilog", "PrologSlurmctld", "EpilogSlurmctld"]
            .map(|key| format!("{key}=@FOLDER@/site.d/*\n"))
            .concat();
        let cluster =
            Cluster::prepare(&Conf::declared(2, 4, &format!("SlurmUser=root\n{keys}{more}"))).unwrap();
        let folder = cluster.folder().to_str().unwrap().to_owned();
        let conf = cluster.folder().join("slurm.conf");
        let text = fs::read_to_string(&conf).unwrap().replace("@FOLDER@", &folder);
        fs::write(&conf, text).unwrap();
        fs::create_dir(cluster.folder().join("site.d")).unwrap();
        let program = cluster.folder().join("site.d/10-log");
        fs::write(&program, PROGRAM.replace("@JOBS@", cluster.jobs().to_str().unwrap())).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let mut site = Self(cluster);
        site.0.start_all(&["n1", "n2"]).unwrap();
        site
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.jobs().join(name)
    }

    fn set(&self, name: &str) {
        fs::write(self.file(name), "").unwrap();
    }

    fn clear(&self, name: &str) {
        fs::remove_file(self.file(name)).unwrap();
    }

    fn log(&self) -> Vec<String> {
        fs::read_to_string(self.file("log")).unwrap_or_default().lines().map(str::to_owned).collect()
    }

    /// Waits until the log has a line that begins like this.
    fn wait_log(&self, line: &str) {
        let there = || self.log().iter().any(|known| known.starts_with(line));
        wait_for(&format!("{line:?} in the log of programs"), SOON, there)
            .unwrap_or_else(|error| panic!("{error:#}\n{:?}\n{}", self.log(), self.0.last_words()));
    }

    /// Waits until squeue shows a job like this (`%T %r`).
    fn wait_shown(&self, job: &str, wanted: &str) {
        let mut seen = String::new();
        let shows = || {
            seen = self.0.ok("squeue", &["-h", "-j", job, "-o", "%T %r"]).unwrap_or_default();
            seen == wanted
        };
        let waited = wait_for(&format!("job {job} to be {wanted:?}"), SOON, shows);
        waited.unwrap_or_else(|error| panic!("{error:#}: {seen:?}\n{}", self.0.last_words()));
    }

    fn wait_node(&self, node: &str, wanted: &str) {
        let mut seen = String::new();
        let shows = || {
            seen = self.0.ok("sinfo", &["-h", "-N", "-n", node, "-o", "%T %E"]).unwrap_or_default();
            seen == wanted
        };
        let waited = wait_for(&format!("node {node} to be {wanted:?}"), SOON, shows);
        waited.unwrap_or_else(|error| panic!("{error:#}: {seen:?}"));
    }

    fn sbatch(&self, script: &str, more: &[&str]) -> String {
        self.0.submit(script, &[&["-o", "/dev/null", "-w", "n1"], more].concat()).unwrap()
    }

    fn variable(&self, context: &str, job: &str, name: &str) -> Option<String> {
        let text = fs::read_to_string(self.file(&format!("env.{context}.{job}"))).unwrap();
        let start = format!("{name}=");
        text.lines().find_map(|line| line.strip_prefix(&start)).map(str::to_owned)
    }
}

#[test]
fn every_program_runs_in_its_turn_with_slurms_variables() {
    let site = Site::start("");
    let job = site.sbatch("#!/bin/sh\nexit 3\n", &["--comment=hello", "-N2", "-w", "n[1-2]", "-J", "x"]);
    assert_eq!(site.0.wait_ended(&job, "State,ExitCode", SOON).unwrap(), "FAILED|3:0");
    let log = site.log();
    let place = |line: &str| log.iter().position(|known| *known == format!("{line} 0"));
    let at = |line: &str| place(line).unwrap_or_else(|| panic!("{line} in {log:?}"));
    let first = at(&format!("prolog_slurmctld - {job}"));
    let prolog = at(&format!("prolog_slurmd n1 {job}"));
    assert!(first < prolog, "{log:?}");
    for last in ["epilog_slurmd n1", "epilog_slurmd n2", "epilog_slurmctld -"] {
        assert!(at(&format!("{last} {job}")) > prolog, "{log:?}");
    }
    // No step ran on the second node, hence no prolog; each program ran once.
    assert_eq!((log.len(), place(&format!("prolog_slurmd n2 {job}"))), (5, None), "{log:?}");
    let is = |context: &str, name: &str| site.variable(context, &job, name);
    let some = |text: &str| Some(text.to_owned());
    for context in ["prolog_slurmctld", "prolog_slurmd", "epilog_slurmd", "epilog_slurmctld"] {
        assert_eq!(is(context, "SLURM_JOB_COMMENT"), some("hello"));
        assert_eq!(is(context, "SLURM_JOB_NODELIST"), some("n[1-2]"));
        assert_eq!(is(context, "SLURM_JOB_NAME"), some("x"));
        assert_eq!(is(context, "SLURM_JOB_USER"), some("root"));
    }
    assert_eq!(is("epilog_slurmd", "SLURM_JOB_EXIT_CODE2"), some("3:0"));
    assert_eq!(is("epilog_slurmctld", "SLURM_JOB_EXIT_CODE"), some("768"));
    assert_eq!(is("prolog_slurmd", "SLURM_JOB_EXIT_CODE2"), None);
    // The batch step alone is shown: a site's programs are no steps.
    let steps = site.0.ok("sacct", &["-nP", "-j", &job, "-o", "JobID"]).unwrap();
    assert_eq!(steps, format!("{job}\n{job}.batch"));
}

#[test]
fn a_job_is_configuring_before_and_completing_after_also_across_restarts() {
    let mut site = Site::start("");
    site.set("wait.prolog_slurmctld");
    site.set("wait.epilog_slurmd");
    let job = site.sbatch("#!/bin/sh\n", &[]);
    site.wait_shown(&job, "CONFIGURING None");
    site.wait_log(&format!("prolog_slurmctld - {job}"));
    site.0.scheduler().unwrap().kill();
    site.0.start_scheduler(&[]).unwrap();
    // Its program was the earlier scheduler's: it is run again.
    let runs = || site.log().iter().filter(|line| line.starts_with("prolog_slurmctld")).count() == 2;
    wait_for("PrologSlurmctld to run again", SOON, runs).unwrap();
    site.wait_shown(&job, "CONFIGURING None");
    site.clear("wait.prolog_slurmctld");
    site.wait_log(&format!("epilog_slurmd n1 {job}"));
    site.wait_shown(&job, "COMPLETING None");
    site.wait_node("n1", "completing none");
    // An epilog outlives both daemons, and is run once.
    site.0.executor("n1").unwrap().kill();
    site.0.scheduler().unwrap().kill();
    site.0.start_scheduler(&[]).unwrap();
    site.0.start_executor("n1", &[]).unwrap();
    site.wait_shown(&job, "COMPLETING None");
    site.clear("wait.epilog_slurmd");
    assert_eq!(site.0.wait_ended(&job, "State,ExitCode", SOON).unwrap(), "COMPLETED|0:0");
    let log = site.log();
    assert_eq!(log.iter().filter(|line| line.starts_with("epilog_slurmd n1")).count(), 1, "{log:?}");
    site.wait_node("n1", "idle none");
}

#[test]
fn a_failed_prolog_drains_the_node_and_holds_the_job() {
    let site = Site::start("");
    site.set("fail.prolog_slurmd");
    let job = site.sbatch("#!/bin/sh\ntouch ran\n", &[]);
    site.wait_shown(&job, "PENDING launch failed requeued held");
    site.wait_node("n1", "drained Prolog error");
    assert!(!site.file("ran").exists());
    let shown = site.0.ok("scontrol", &["show", "job", &job]).unwrap();
    assert!(shown.contains("Priority=0") && shown.contains("Restarts=1"), "{shown}");
    assert!(shown.contains("Reason=launch_failed_requeued_held"), "{shown}");
    // What cannot be requeued is cancelled.
    let other = site.0.submit("#!/bin/sh\n", &["--no-requeue", "-w", "n2", "-o", "/dev/null"]).unwrap();
    assert!(site.0.wait_ended(&other, "State", SOON).unwrap().starts_with("CANCELLED"));
    site.wait_node("n2", "drained Prolog error");
    site.clear("fail.prolog_slurmd");
    site.0.ok("scontrol", &["update", "nodename=n[1-2]", "state=resume"]).unwrap();
    site.0.ok("scontrol", &["release", &job]).unwrap();
    assert_eq!(
        site.0.ok("squeue", &["-h", "-j", &job, "-o", "%i"]).unwrap(),
        job,
        "released and waiting for its begin time"
    );
}

/// Slurm 26.05's words and status, recorded beside this.
#[test]
fn a_step_whose_prolog_failed_ends_srun_with_182() {
    let site = Site::start("");
    site.set("fail.prolog_slurmd");
    let ran = site.0.run("srun", &["-w", "n1", "true"]).unwrap();
    let failed = |job: u32, node: &str| {
        format!("srun: error: Task launch for StepId={job}.0 failed on node {node}: Job prolog failed\n")
    };
    let aborted = "srun: error: Application launch failed: Job prolog failed\nsrun: Job step aborted";
    let expected = format!("{}{aborted}", failed(1, "n1"));
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(182), expected.as_str()));
    site.wait_node("n1", "drained Prolog error");
    let row = |job: &str| site.0.ok("sacct", &["-nP", "-j", job, "-o", "State,ExitCode"]).unwrap();
    site.0.wait_ended("1", "State", SOON).unwrap();
    assert_eq!(row("1.0"), "CANCELLED|0:54");
    // What the program said is where slurmd's would be; of one that is well nothing is kept.
    let log = fs::read_to_string(site.0.folder().join("executor-n1.log")).unwrap();
    for words in ["words of prolog_slurmd", "errors of prolog_slurmd"] {
        assert!(log.contains(words), "{words} in {log}");
    }
    assert!(!log.contains("words of epilog_slurmd"), "{log}");
    // One node's failure ends the tasks of the other, and names it alone.
    site.0.ok("scontrol", &["update", "nodename=n1", "state=resume"]).unwrap();
    site.clear("fail.prolog_slurmd");
    let held = site.sbatch("#!/bin/sh\nuntil [ -e over ]; do sleep 0.1; done\n", &["-N2", "-w", "n[1-2]"]);
    site.wait_log(&format!("prolog_slurmd n1 {held}"));
    site.wait_shown(&held, "RUNNING None");
    site.set("fail.prolog_slurmd");
    let step = ["--jobid", &held, "--overlap", "-N2", "-n2", "sh", "-c", "while :; do sleep 0.1; done"];
    let ran = site.0.run("srun", &step).unwrap();
    assert_eq!(ran.code, Some(182), "{}", ran.stderr);
    assert!(
        ran.stderr.contains(&failed(2, "n2")) && !ran.stderr.contains(&failed(2, "n1")),
        "{}",
        ran.stderr
    );
    site.wait_node("n2", "draining Prolog error");
    // The job may do without that step.
    site.wait_shown(&held, "RUNNING None");
    site.set("over");
    assert_eq!(site.0.wait_ended(&held, "State,ExitCode", SOON).unwrap(), "COMPLETED|0:0");
}

#[test]
fn with_nohold_the_job_waits_and_is_not_held() {
    let site = Site::start("SchedulerParameters=nohold_on_prolog_fail");
    site.set("fail.prolog_slurmd");
    let job = site.sbatch("#!/bin/sh\n", &[]);
    site.wait_shown(&job, "PENDING BeginTime");
    site.wait_node("n1", "drained Prolog error");
}

#[test]
fn a_failed_epilog_drains_the_node_and_a_failed_epilogslurmctld_is_logged() {
    let site = Site::start("");
    site.set("fail.epilog_slurmd");
    site.set("fail.epilog_slurmctld");
    let job = site.sbatch("#!/bin/sh\n", &[]);
    assert_eq!(site.0.wait_ended(&job, "State", SOON).unwrap(), "COMPLETED");
    site.wait_node("n1", "drained Epilog error");
    site.wait_node("n2", "idle none");
    let log = site.0.folder().join("scheduler.log");
    let said = || fs::read_to_string(&log).unwrap_or_default().contains("epilog_slurmctld");
    wait_for("the log to name the program that failed", SOON, said).unwrap();
}

#[test]
fn a_failed_prologslurmctld_puts_a_batch_job_back_and_ends_another() {
    let site = Site::start("");
    site.set("fail.prolog_slurmctld");
    let job = site.sbatch("#!/bin/sh\n", &[]);
    site.wait_shown(&job, "PENDING BeginTime");
    site.wait_node("n1", "idle none");
    let ran = site.0.run("srun", &["-w", "n2", "true"]).unwrap();
    assert_eq!(ran.code, Some(1), "{ran:?}");
    site.clear("fail.prolog_slurmctld");
    site.0.ok("scancel", &[&job]).unwrap();
    assert_eq!(site.0.ok("srun", &["-w", "n2", "echo", "there"]).unwrap(), "there");
}

#[test]
fn alloc_and_contain_run_prologs_everywhere_at_the_start() {
    let site = Site::start("PrologFlags=Contain,DeferBatch");
    site.set("wait.prolog_slurmd");
    let job = site.sbatch("#!/bin/sh\ntouch ran\n", &["-N2", "-w", "n[1-2]"]);
    site.wait_log(&format!("prolog_slurmd n1 {job}"));
    site.wait_log(&format!("prolog_slurmd n2 {job}"));
    site.wait_shown(&job, "RUNNING Prolog");
    assert!(!site.file("ran").exists(), "the script waits for the prologs");
    site.clear("wait.prolog_slurmd");
    assert_eq!(site.0.wait_ended(&job, "State", SOON).unwrap(), "COMPLETED");
    let steps = site.0.ok("sacct", &["-nP", "-j", &job, "-o", "JobID,State,ExitCode"]).unwrap();
    for row in [format!("{job}.extern|COMPLETED|0:0"), format!("{job}.batch|COMPLETED|0:0")] {
        assert!(steps.lines().any(|line| line == row), "{row} in {steps}");
    }
}

#[test]
fn a_cancel_lets_a_prolog_end_and_a_prolog_that_takes_too_long_fails() {
    let site = Site::start("PrologTimeout=3");
    site.set("wait.prolog_slurmd");
    let job = site.sbatch("#!/bin/sh\n", &[]);
    site.wait_log(&format!("prolog_slurmd n1 {job}"));
    site.0.ok("scancel", &[&job]).unwrap();
    site.clear("wait.prolog_slurmd");
    assert!(site.0.wait_ended(&job, "State", SOON).unwrap().starts_with("CANCELLED"));
    site.wait_log(&format!("epilog_slurmd n1 {job}"));
    site.wait_node("n1", "idle none");
    site.set("wait.prolog_slurmd");
    let job = site.sbatch("#!/bin/sh\n", &[]);
    site.wait_shown(&job, "PENDING launch failed requeued held");
    site.wait_node("n1", "drained Prolog error");
}

#[test]
fn the_health_check_runs_at_the_start_and_then_now_and_again() {
    let site =
        Site::start("HealthCheckProgram=@FOLDER@/site.d/*\nHealthCheckInterval=1\nHealthCheckNodeState=IDLE");
    let runs =
        |node: &str| site.log().iter().filter(|line| line.starts_with(&format!("health {node}"))).count();
    wait_for("the program to have run three times on each node", SOON, || runs("n1") >= 3 && runs("n2") >= 3)
        .unwrap_or_else(|error| panic!("{error:#}\n{:?}", site.log()));
}

#[test]
fn srun_runs_its_own_programs_as_the_user_around_its_step() {
    let site = Site::start("SrunProlog=@FOLDER@/site.d/10-log\nSrunEpilog=@FOLDER@/site.d/10-log");
    site.0.ok("srun", &["-w", "n1", "true"]).unwrap();
    let order = |line: &str| site.log().iter().position(|known| known.starts_with(line));
    let (before, after) = (order("prolog_srun - "), order("epilog_srun - "));
    assert!(before.is_some() && before < after, "{:?}", site.log());
    // The options go before the configuration; `none` is no program; a status of it changes nothing.
    site.clear("log");
    site.set("fail.prolog_srun");
    site.0.ok("srun", &["-w", "n1", "--epilog=none", "true"]).unwrap();
    assert!(order("prolog_srun").is_some() && order("epilog_srun").is_none(), "{:?}", site.log());
}
