//! Log files, their levels and their reopening, on both daemons.

use std::fs;
use std::path::Path;

use nix::sys::signal::Signal;
use tests::{Cluster, Conf, send, wait_for};

use crate::SOON;

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// A configuration whose logs stand in the cluster's folder.
fn with_logs(cluster: &Cluster, more: &str) {
    let conf = cluster.folder().join("slurm.conf");
    let folder = cluster.folder().display();
    let text = read(&conf)
        + &format!("SlurmctldLogFile={folder}/ctld.log\nSlurmdLogFile={folder}/d-%n-%h.log\n{more}\n");
    fs::write(&conf, text).unwrap();
}

fn hostname() -> String {
    let name = nix::unistd::gethostname().unwrap().into_string().unwrap();
    name.split('.').next().unwrap_or_default().to_owned()
}

#[test]
fn both_daemons_log_to_their_files_and_open_them_again() {
    let mut cluster = Cluster::prepare(&Conf::declared(1, 4, "")).unwrap();
    with_logs(&cluster, "SlurmctldDebug=error\nLogTimeFormat=iso8601_ms");
    cluster.start_all(&["n1"]).unwrap();
    let scheduler = cluster.folder().join("ctld.log");
    let executor = cluster.folder().join(format!("d-n1-{}.log", hostname()));
    assert!(read(&executor).contains("executor starts"), "{}", read(&executor));
    // LogTimeFormat: local time with milliseconds, and no zone behind it.
    let first =
        read(&executor).lines().last().unwrap_or_default().split(' ').next().unwrap_or_default().to_owned();
    assert!(first.len() == "2026-01-01T00:00:00.000".len() && !first.ends_with('Z'), "{first}");
    // What the level leaves out is not there; a command lets it in.
    assert!(!read(&scheduler).contains("the scheduler is up"), "{}", read(&scheduler));
    let shown = || {
        let config = cluster.ok("scontrol", &["show", "config"]).unwrap();
        config.lines().find(|line| line.starts_with("SlurmctldDebug ")).map(str::to_owned).unwrap_or_default()
    };
    assert!(shown().ends_with("= error"), "{}", shown());
    cluster.ok("scontrol", &["setdebug", "debug2"]).unwrap();
    assert!(shown().ends_with("= debug2"), "{}", shown());
    assert!(read(&scheduler).contains("the log's level is debug2"), "{}", read(&scheduler));
    let refused = cluster.run("scontrol", &["setdebug", "loud"]).unwrap();
    assert_eq!((refused.code, &*refused.stderr), (Some(1), "invalid debug level: loud"));
    // An executor's level is set through the scheduler; a node that has none is named.
    cluster.ok("scontrol", &["setdebug", "debug3", "nodes=n1"]).unwrap();
    wait_for("the executor to take its level", SOON, || {
        read(&executor).contains("the log's level is debug3")
    })
    .unwrap();
    let lost = cluster.run("scontrol", &["setdebug", "debug", "nodes=n[1,7]"]).unwrap();
    let words = "scontrol: error: there is no node n7\nFailed to change debug level on one or more nodes.";
    assert_eq!((lost.code, &*lost.stderr), (Some(1), words));
    // logrotate moves the file and sends SIGUSR2: the configuration's level is back, and a new file is there.
    let pids = [cluster.scheduler().unwrap().pid(), cluster.executor("n1").unwrap().pid()];
    for (path, pid) in [&scheduler, &executor].into_iter().zip(pids) {
        let moved = path.with_extension("1");
        fs::rename(path, &moved).unwrap();
        send(pid, Signal::SIGUSR2);
        wait_for("the log to be opened again", SOON, || path.exists()).unwrap();
    }
    wait_for("the level to be the configuration's", SOON, || {
        let config = cluster.ok("scontrol", &["show", "config"]).unwrap_or_default();
        config.lines().any(|line| line.starts_with("SlurmctldDebug ") && line.ends_with("= error"))
    })
    .unwrap();
    // A run that cannot be started: one line with job, node, path and the system's word.
    let script = "#!/no/such/interpreter\n";
    let job = cluster.submit(script, &["-o", "/dev/null", "--no-requeue"]).unwrap();
    let line = || {
        let text = read(&executor);
        let mut lines: Vec<String> = text
            .lines()
            .filter(|line| line.contains("a run could not be started"))
            .map(str::to_owned)
            .collect();
        (lines.len() == 1).then(|| lines.remove(0))
    };
    wait_for("the line of the failure", SOON, || line().is_some()).unwrap();
    let line = line().unwrap();
    for word in [&*format!("job={job} "), "node=\"n1\"", "/no/such/interpreter", "No such file or directory"]
    {
        assert!(line.contains(word), "{word} in {line}");
    }
}

/// As in Slurm: the daemon runs, and says on standard error why its file is not used.
#[test]
fn a_log_file_that_cannot_be_opened_stops_nobody() {
    let mut cluster = Cluster::prepare(&Conf::declared(1, 4, "SlurmctldLogFile=/dev/null/no/log")).unwrap();
    cluster.start_all(&["n1"]).unwrap();
    let words = cluster.last_words();
    assert!(words.contains("the log file cannot be opened; standard error is the log"), "{words}");
    assert!(words.contains("/dev/null/no/log") && words.contains("the scheduler is up"), "{words}");
}
