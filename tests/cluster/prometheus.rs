//! Both daemons' figures as Prometheus itself takes them: its checker, and a scrape.
//!
//! The programs are Debian's (`tests/prometheus` finds or unpacks them). Where they cannot be had the tests say so and
//! pass over, unless `SLUICE_TEST_ALL` is set: scripts/test fetches them first.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tests::{Cluster, Conf, wait_for, workspace_root};

use crate::SOON;

/// Where `prometheus` and `promtool` are.
fn programs() -> Option<PathBuf> {
    let out = Command::new(workspace_root().join("tests/prometheus")).output().unwrap();
    if out.status.success() {
        return Some(String::from_utf8_lossy(&out.stdout).trim().into());
    }
    let why = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(std::env::var_os("SLUICE_TEST_ALL").is_none(), "{why}");
    eprintln!("passed over: {why}");
    None
}

fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

/// The text of an answer to GET.
fn get(mut stream: impl Read + Write, path: &str) -> String {
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default()
}

fn from_port(port: u16, path: &str) -> String {
    let Ok(stream) = TcpStream::connect(("127.0.0.1", port)) else { return String::new() };
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    get(stream, path)
}

/// What promtool says of a text.
fn complaints(promtool: &PathBuf, text: &str) -> String {
    let mut child = Command::new(promtool)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let out = child.wait_with_output().unwrap();
    String::from_utf8_lossy(&[&out.stdout[..], &out.stderr[..]].concat()).into_owned()
}

/// A Prometheus that is ended with the test.
struct Prometheus(Child);

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn promtool_and_a_scrape_take_both_daemons_figures() {
    let Some(programs) = programs() else { return };
    let mut cluster = Cluster::prepare(&Conf::declared(1, 4, "")).unwrap();
    let (scheduler, executor, prometheus) = (free_port(), free_port(), free_port());
    let own = format!("MetricsPort={scheduler}\nExecutorMetricsPort={executor}\n");
    fs::write(cluster.folder().join("sluice.conf"), own).unwrap();
    cluster.start_all(&["n1"]).unwrap();
    let job = cluster.submit("#!/bin/sh\n", &["-o", "/dev/null"]).unwrap();
    cluster.wait_ended(&job, "State", SOON).unwrap();
    // The executor's socket says what its port says, and both only to questions.
    let socket = cluster.state("n1").join("executor-n1/http.sock");
    assert_eq!(get(UnixStream::connect(&socket).unwrap(), "/livez"), "ok\n");
    assert_eq!(from_port(executor, "/readyz"), "ok\n");
    let verbose = get(UnixStream::connect(&socket).unwrap(), "/readyz?verbose");
    assert!(verbose.contains("[+] scheduler: it has this node") && verbose.ends_with("ready\n"), "{verbose}");
    let texts = [from_port(scheduler, "/metrics"), from_port(executor, "/metrics")];
    assert!(texts[1].lines().any(|line| line == "sluice_executor_launches_total 1"), "{}", texts[1]);
    for text in &texts {
        assert!(text.lines().count() > 20, "{text}");
        // Slurm's own names are Slurm's: what its checker would rather see is not ours to change.
        let said = complaints(&programs.join("promtool"), text);
        let ours: Vec<&str> = said.lines().filter(|line| !line.starts_with("slurm_")).collect();
        assert_eq!(ours, Vec::<&str>::new(), "{text}");
    }
    let folder = cluster.folder().join("prometheus");
    fs::create_dir(&folder).unwrap();
    let conf = folder.join("prometheus.yml");
    let text = format!(
        "global: {{scrape_interval: 1s}}\nscrape_configs:\n- job_name: sluice\n  static_configs:\n  \
         - targets: ['127.0.0.1:{scheduler}', '127.0.0.1:{executor}']\n"
    );
    fs::write(&conf, text).unwrap();
    let _prometheus = Prometheus(
        Command::new(programs.join("prometheus"))
            .arg(format!("--config.file={}", conf.display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{prometheus}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap(),
    );
    let value = |query: &str| from_port(prometheus, &format!("/api/v1/query?query={query}"));
    for (what, query) in [
        ("both daemons to be up", "sum(up)%3D%3D2"),
        ("the scheduler's count of jobs", "sluice_jobs_completed_total%3D%3D1"),
        ("the executor's count of launches", "sluice_executor_launches_total%3D%3D1"),
        ("a histogram", "sluice_launch_seconds_count%3D%3D1"),
    ] {
        wait_for(&format!("Prometheus to have scraped {what}"), SOON, || {
            let answer = value(query);
            answer.contains("\"status\":\"success\"") && answer.contains("\"value\":[")
        })
        .unwrap_or_else(|error| panic!("{error:#}: {}", value(query)));
    }
}
