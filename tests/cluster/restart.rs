//! Clients while no scheduler answers: those that wait survive its restart, those that ask are told in Slurm's words.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tests::{Cluster, Conf, Ran, wait_for, wait_for_some};

use crate::SOON;

/// Waits for the file `go` beside it, then says so and exits with 7.
const WAITS: &str = ": > $1.begun; until [ -e go ]; do sleep 0.05; done; echo went on; exit 7";

fn cluster(more: &str) -> Cluster {
    Cluster::start(&Conf::declared(1, 8, more), &["n1"]).unwrap()
}

fn spawn(cluster: &Cluster, program: &str, arguments: &[&str]) -> Child {
    let mut command: Command = cluster.command(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

fn ended(what: &str, mut child: Child) -> Ran {
    let waited = wait_for_some(what, SOON, || child.try_wait().unwrap());
    if waited.is_err() {
        child.kill().unwrap();
    }
    let out = child.wait_with_output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    let ran = Ran { code: out.status.code(), stdout: text(&out.stdout), stderr: text(&out.stderr) };
    waited.unwrap_or_else(|error| panic!("{error:#}: {ran:?}"));
    ran
}

#[test]
fn a_submit_waits_for_the_scheduler_that_comes_back_and_is_one_job() {
    for signal in [Signal::SIGKILL, Signal::SIGTERM] {
        let mut cluster = cluster("");
        let script = cluster.jobs().join("job.sh");
        fs::write(&script, "#!/bin/sh\n").unwrap();
        cluster.scheduler().unwrap().stop(signal, SOON).unwrap();
        let submits: Vec<Child> = (0..4)
            .map(|_| spawn(&cluster, "sbatch", &["--parsable", "-H", script.to_str().unwrap()]))
            .collect();
        let asks = spawn(&cluster, "squeue", &["-h"]);
        let cancels = spawn(&cluster, "scancel", &["4711"]);
        cluster.start_scheduler(&[]).unwrap();
        let mut ids: Vec<String> = submits
            .into_iter()
            .map(|child| {
                let ran = ended("sbatch to be answered", child);
                assert_eq!(ran.code, Some(0), "{ran:?}");
                ran.stdout
            })
            .collect();
        let asked = ended("squeue to be answered", asks);
        assert_eq!(asked.code, Some(0), "{asked:?}");
        let cancelled = ended("scancel to be answered", cancels);
        assert!(!cancelled.stderr.contains("Unable to contact"), "{cancelled:?}");
        let mut queue: Vec<String> =
            cluster.ok("squeue", &["-h", "-o", "%i"]).unwrap().lines().map(str::to_owned).collect();
        ids.sort();
        queue.sort();
        assert_eq!(ids, queue, "{signal}: each submit is one job");
    }
}

#[test]
fn waiting_clients_survive_a_restart() {
    let mut cluster = cluster("MinJobAge=2");
    let script = cluster.jobs().join("job.sh");
    fs::write(&script, format!("#!/bin/sh\nset -- batch\n{WAITS}\n")).unwrap();
    let clients = [
        ("srun", spawn(&cluster, "srun", &["sh", "-c", WAITS, "srun", "srun"])),
        ("salloc", spawn(&cluster, "salloc", &["sh", "-c", WAITS, "salloc", "salloc"])),
        ("sbatch", spawn(&cluster, "sbatch", &["--wait", "-o", "/dev/null", script.to_str().unwrap()])),
    ];
    wait_for("all three to begin", SOON, || {
        ["srun", "salloc", "batch"].iter().all(|name| cluster.jobs().join(format!("{name}.begun")).exists())
    })
    .unwrap();
    // The steps end, the allocation is given back and the job is forgotten while nobody answers or just after.
    cluster.scheduler().unwrap().kill();
    fs::write(cluster.jobs().join("go"), "").unwrap();
    cluster.start_scheduler(&[]).unwrap();
    for (name, child) in clients {
        let ran = ended(&format!("{name} to end"), child);
        assert_eq!(ran.code, Some(7), "{name}: {ran:?}");
        assert_eq!(ran.stdout.contains("went on"), name != "sbatch", "{name}: {ran:?}");
    }
    wait_for("the allocations to be given back", SOON, || {
        cluster.ok("squeue", &["-h"]).is_ok_and(|queue| queue.is_empty())
    })
    .unwrap();
}

#[test]
fn pending_srun_starts_after_a_restart() {
    let mut cluster = cluster("");
    let blocker = cluster.submit("#!/bin/sh\nsleep 600\n", &["-n8", "-o", "/dev/null"]).unwrap();
    wait_for("the node to be full", SOON, || {
        cluster.ok("squeue", &["-h", "-t", "R"]).is_ok_and(|queue| !queue.is_empty())
    })
    .unwrap();
    let waits = spawn(&cluster, "srun", &["echo", "started"]);
    wait_for("srun's job to wait", SOON, || {
        cluster.ok("squeue", &["-h", "-t", "PD"]).is_ok_and(|queue| !queue.is_empty())
    })
    .unwrap();
    cluster.scheduler().unwrap().kill();
    cluster.start_scheduler(&[]).unwrap();
    cluster.ok("scancel", &[&blocker]).unwrap();
    let ran = ended("srun to end", waits);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "started"), "{ran:?}");
}

#[test]
fn nobody_who_comes_back_is_slurms_message_after_messagetimeout() {
    let mut cluster = cluster("MessageTimeout=2");
    cluster.scheduler().unwrap().kill();
    let script = cluster.jobs().join("job.sh");
    fs::write(&script, "#!/bin/sh\n").unwrap();
    let socket = cluster.folder().join("s.sock");
    let told = |program: &str, arguments: &[&str], first: &str| {
        let begin = Instant::now();
        let ran = cluster.run(program, arguments).unwrap();
        assert_eq!(ran.code, Some(1), "{program}: {ran:?}");
        assert_eq!(ran.stderr.lines().next(), Some(first), "{program}");
        assert!(ran.stderr.contains(socket.to_str().unwrap()), "{program} names the socket: {ran:?}");
        begin.elapsed()
    };
    let contact = "Unable to contact slurm controller (connect failure)";
    let waited = told(
        "sbatch",
        &[script.to_str().unwrap()],
        &format!("sbatch: error: Batch job submission failed: {contact}"),
    );
    // It tried for MessageTimeout, less the last pause.
    assert!(waited >= Duration::from_millis(900), "{waited:?}");
    told("squeue", &[], &format!("slurm_load_jobs error: {contact}"));
    told("srun", &["true"], &format!("srun: error: Unable to allocate resources: {contact}"));
    told("scancel", &["1"], &format!("scancel: error: slurm_kill_jobs: {contact}"));
    // No socket at all: nobody is expected, and nobody is waited for.
    fs::remove_file(&socket).unwrap();
    let conf = cluster.folder().join("slurm.conf");
    let patient = fs::read_to_string(&conf).unwrap().replace("MessageTimeout=2", "MessageTimeout=100");
    fs::write(&conf, patient).unwrap();
    let waited = told(
        "sbatch",
        &[script.to_str().unwrap()],
        &format!("sbatch: error: Batch job submission failed: {contact}"),
    );
    assert!(waited < Duration::from_secs(50), "{waited:?}");
}
