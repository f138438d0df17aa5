//! Figures, health and reconfiguration of a running scheduler, as an administrator meets them.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use nix::sys::signal::Signal;
use tests::{Cluster, Conf, send, wait_for};

use crate::SOON;

/// The status and the text of an answer.
fn ask(port: u16, method: &str, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let status = answer.split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap_or(0);
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default();
    (status, body)
}

/// Prometheus' text format as far as it is used: each sample's family has its help and type once, before it; no sample is
/// there twice; values are numbers.
fn faults(text: &str) -> Vec<String> {
    let (mut types, mut helps, mut samples) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    let mut found = Vec::new();
    for line in text.lines().map(str::trim_end).filter(|line| !line.is_empty()) {
        let words: Vec<&str> = line.splitn(4, ' ').collect();
        match words[..] {
            ["#", "HELP", name, _] => {
                if !helps.insert(name.to_owned()) {
                    found.push(format!("two helps: {line}"));
                }
            }
            ["#", "TYPE", name, _] => {
                if !types.insert(name.to_owned()) {
                    found.push(format!("two types: {line}"));
                }
            }
            _ => {
                let Some((key, value)) = line.rsplit_once(' ') else {
                    found.push(format!("no sample: {line}"));
                    continue;
                };
                let name = key.split('{').next().unwrap_or_default();
                let family = ["_bucket", "_sum", "_count"]
                    .iter()
                    .find_map(|end| name.strip_suffix(end))
                    .unwrap_or(name);
                let known = |set: &BTreeSet<String>| set.contains(name) || set.contains(family);
                if !known(&types) || !known(&helps) {
                    found.push(format!("no help or type: {line}"));
                }
                if value.parse::<f64>().is_err() || !samples.insert(key.to_owned()) {
                    found.push(format!("no number, or twice: {line}"));
                }
            }
        }
    }
    found
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

#[test]
fn figures_and_health_on_a_port_of_this_machine() {
    let mut cluster = Cluster::prepare(&Conf::declared(2, 4, "")).unwrap();
    let port = free_port();
    fs::write(cluster.folder().join("sluice.conf"), format!("MetricsPort={port}\n")).unwrap();
    cluster.start_all(&["n1", "n2"]).unwrap();
    let ended = cluster.submit("#!/bin/sh\n", &["-o", "/dev/null"]).unwrap();
    cluster.wait_ended(&ended, "State", SOON).unwrap();
    let running = cluster
        .submit("#!/bin/sh\nuntil [ -e go ]; do sleep 0.05; done\n", &["-o", "/dev/null", "-c", "3"])
        .unwrap();
    wait_for("the job to run", SOON, || {
        cluster.ok("squeue", &["-h", "-j", &running, "-o", "%T"]).is_ok_and(|state| state == "RUNNING")
    })
    .unwrap();
    let held = cluster.submit("#!/bin/sh\n", &["-o", "/dev/null", "-H"]).unwrap();
    // The word that a run has begun may wait for a while.
    wait_for("both launches to be told", SOON, || {
        ask(port, "GET", "/metrics").1.lines().any(|line| line == "sluice_launch_seconds_count 2")
    })
    .unwrap();
    let (status, text) = ask(port, "GET", "/metrics");
    assert_eq!((status, faults(&text)), (200, Vec::<String>::new()));
    for line in [
        "slurm_jobs_running 1",
        "slurm_jobs_pending 1",
        "slurm_jobs_hold 1",
        "slurm_jobs_completed 1",
        "slurm_jobs_cpus_alloc 3",
        "slurm_nodes 2",
        "slurm_nodes_mixed 1",
        "slurm_nodes_idle 1",
        "slurm_node_cpus{node=\"n1\"} 4",
        "slurm_partition_jobs_running{partition=\"main\"} 1",
        "sluice_jobs_submitted_total 3",
        "sluice_launch_seconds_count 2",
    ] {
        assert!(text.lines().any(|known| known == line), "{line} in\n{text}");
    }
    for name in ["pass", "submit", "commit", "dispatch", "launch"] {
        let count = format!("sluice_{name}_seconds_count ");
        let found = text.lines().find_map(|line| line.strip_prefix(&count)).unwrap_or_default();
        assert!(found.parse::<u64>().is_ok_and(|count| count > 0), "{name}: {found}");
    }
    let jobs = ask(port, "GET", "/metrics/jobs").1;
    assert!(jobs.contains("slurm_jobs_running 1") && !jobs.contains("slurm_nodes "), "{jobs}");
    assert_eq!(ask(port, "GET", "/livez"), (200, "ok\n".to_owned()));
    assert_eq!(ask(port, "GET", "/readyz"), (200, "ok\n".to_owned()));
    let verbose = ask(port, "GET", "/readyz?verbose").1;
    assert!(
        verbose.contains("[+] executors: 2 of 2 nodes are connected") && verbose.ends_with("ready\n"),
        "{verbose}"
    );
    // Only questions, and only these.
    assert_eq!(ask(port, "POST", "/metrics").0, 405);
    assert_eq!(ask(port, "GET", "/sluice.v1.Controller/ListJobs").0, 404);
    cluster.ok("scancel", &[&held, &running]).unwrap();
}

/// While PrivateData is set, too, figures name nobody; and none is older than the question.
#[test]
fn figures_name_nobody_and_are_of_the_moment() {
    let mut cluster = Cluster::prepare(&Conf::declared(1, 4, "PrivateData=jobs,users,accounts")).unwrap();
    let port = free_port();
    fs::write(cluster.folder().join("sluice.conf"), format!("MetricsPort={port}\n")).unwrap();
    cluster.start_all(&["n1"]).unwrap();
    let words = ["secretname", "secretaccount", "secretcomment"];
    let options = ["-H", "-o", "/dev/null", "-J", words[0], "-A", words[1], "--comment", words[2]];
    let held = cluster.submit("#!/bin/sh\n", &options).unwrap();
    let pages = ["/metrics", "/metrics/jobs", "/metrics/nodes", "/metrics/partitions"];
    let user = cluster.ok("squeue", &["-h", "-o", "%u"]).unwrap();
    for page in pages {
        let (status, text) = ask(port, "GET", page);
        assert_eq!(status, 200, "{page}");
        for word in words.iter().chain(&["user=", "account=", &*format!("\"{user}\"")]) {
            assert!(!text.contains(word), "{word} in {page}:\n{text}");
        }
    }
    // What has been answered is in the very next answer: nothing is kept for a while.
    let has = |line: &str| ask(port, "GET", "/metrics/jobs").1.lines().any(|known| known == line);
    assert!(has("slurm_jobs_hold 1"));
    cluster.ok("scancel", &[&held]).unwrap();
    assert!(has("slurm_jobs_hold 0"));
}

#[test]
fn sdiag_counts_from_its_reset() {
    let cluster = Cluster::start(&Conf::declared(1, 4, ""), &["n1"]).unwrap();
    let job = cluster.submit("#!/bin/sh\n", &["-o", "/dev/null"]).unwrap();
    cluster.wait_ended(&job, "State", SOON).unwrap();
    let submitted = || {
        let text = cluster.ok("sdiag", &[]).unwrap();
        text.lines().find_map(|line| line.strip_prefix("Jobs submitted: ")).map(str::to_owned)
    };
    assert_eq!(submitted().as_deref(), Some("1"));
    assert_eq!(cluster.ok("sdiag", &["--reset"]).unwrap(), "Reset scheduling statistics");
    assert_eq!(submitted().as_deref(), Some("0"));
}

#[test]
fn a_configuration_is_checked_shown_and_applied_whole() {
    let mut cluster = Cluster::start(&Conf::declared(1, 4, ""), &["n1"]).unwrap();
    let conf = cluster.folder().join("slurm.conf");
    let before = fs::read_to_string(&conf).unwrap();
    let shown = |cluster: &Cluster| {
        let config = cluster.ok("scontrol", &["show", "config"]).unwrap();
        config.lines().find(|line| line.starts_with("KillWait ")).map(str::to_owned).unwrap_or_default()
    };
    assert!(shown(&cluster).ends_with("= 2 sec"), "{}", shown(&cluster));
    assert_eq!(cluster.ok("scontrol", &["reconfigure", "--dry-run"]).unwrap(), "nothing would change");
    let changed = before.replace("KillWait=2", "KillWait=9") + "PartitionName=more Nodes=n1\n";
    fs::write(&conf, &changed).unwrap();
    let would = cluster.ok("scontrol", &["reconfigure", "--dry-run"]).unwrap();
    assert!(would.contains("KillWait: 2 sec -> 9 sec") && would.contains("partition more: comes"), "{would}");
    assert!(shown(&cluster).ends_with("= 2 sec"), "a dry run changes nothing");
    // One wrong line, and nothing of it is taken.
    fs::write(&conf, format!("{changed}MaxJobCount=many\n")).unwrap();
    let refused = cluster.run("scontrol", &["reconfigure"]).unwrap();
    assert!(refused.code != Some(0) && refused.stderr.contains("MaxJobCount"), "{refused:?}");
    assert!(shown(&cluster).ends_with("= 2 sec"), "{}", shown(&cluster));
    assert!(!cluster.ok("sinfo", &["-h", "-o", "%R"]).unwrap().contains("more"));
    // SIGHUP is the same as the command.
    fs::write(&conf, &changed).unwrap();
    let pid = cluster.scheduler().unwrap().pid();
    send(pid, Signal::SIGHUP);
    wait_for("the configuration to be in force", SOON, || shown(&cluster).ends_with("= 9 sec")).unwrap();
    assert!(cluster.ok("sinfo", &["-h", "-o", "%R"]).unwrap().contains("more"));
}

/// Started as root with SlurmUser, the scheduler is that user before it opens anything; jobs are still their owners'.
#[test]
fn a_scheduler_of_root_becomes_slurm_user() {
    use std::os::unix::fs::{MetadataExt, chown};
    const NOBODY: u32 = 65534;
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let mut cluster = Cluster::prepare(&Conf::declared(1, 4, "SlurmUser=nobody")).unwrap();
    // The tests' socket stands in the cluster's folder.
    chown(cluster.folder(), Some(NOBODY), None).unwrap();
    cluster.start_all(&["n1"]).unwrap();
    let pid = cluster.scheduler().unwrap().pid();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let uids = status.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap();
    assert_eq!(uids.split_whitespace().collect::<Vec<_>>(), ["65534"; 4], "{uids}");
    let state = cluster.state("scheduler").join("scheduler");
    let facts = fs::metadata(&state).unwrap();
    assert_eq!((facts.uid(), facts.mode() & 0o777), (NOBODY, 0o700));
    let id = cluster.submit("#!/bin/sh\nid -u > whose\n", &["-o", "/dev/null"]).unwrap();
    assert_eq!(cluster.wait_ended(&id, "State", SOON).unwrap(), "COMPLETED");
    assert_eq!(fs::read_to_string(cluster.jobs().join("whose")).unwrap(), "0\n");
    // What belongs to somebody else is not taken over.
    cluster.scheduler().unwrap().kill();
    chown(state.join("identity"), Some(0), None).unwrap();
    cluster.launch_scheduler(&[]).unwrap();
    wait_for("the scheduler to refuse", SOON, || {
        cluster.scheduler().is_some_and(|daemon| daemon.ended().is_some())
    })
    .unwrap();
    assert!(cluster.last_words().contains("chown -R nobody:"), "{}", cluster.last_words());
    chown(state.join("identity"), Some(NOBODY), None).unwrap();
    cluster.start_scheduler(&[]).unwrap();
}
