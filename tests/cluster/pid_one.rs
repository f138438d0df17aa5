//! In a plain container: first process of its PID namespace, no systemd, `/sys/fs/cgroup` read-only, the network cut.

use std::fs;
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use tests::{Cluster, Conf, Daemon, send, wait_for};

use crate::SOON;

/// Children of a process, and how many of them have ended and were not waited for.
fn children(pid: u32) -> (usize, usize) {
    let list = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let pids: Vec<&str> = list.split_whitespace().collect();
    let ended = pids.iter().filter(|pid| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        status.lines().any(|line| line.starts_with("State:") && line.contains('Z'))
    });
    (pids.len(), ended.count())
}

#[test]
fn sluice_up_is_the_first_process_of_a_container() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let cluster = Cluster::prepare(&Conf::None).unwrap();
    let client = cluster.command("sluice");
    let inside = format!(
        "mount --bind /sys/fs/cgroup /sys/fs/cgroup && mount -o remount,bind,ro /sys/fs/cgroup && \
         ! mkdir /sys/fs/cgroup/sluice-probe 2>/dev/null && exec {} up --state {}",
        client.get_program().display(),
        cluster.state("up").display()
    );
    let mut command = Command::new("unshare");
    command.args([
        "--mount",
        "--pid",
        "--net",
        "--fork",
        "--mount-proc",
        "--kill-child",
        "sh",
        "-c",
        &inside,
    ]);
    for (name, value) in client.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let log = cluster.folder().join("up.log");
    let outer = Daemon::start("sluice up", command, &log).unwrap();
    let words = || fs::read_to_string(&log).unwrap_or_default();
    cluster.wait_idle(1).unwrap_or_else(|error| panic!("{error:#}\n{}", words()));
    // A job with all its parts, beside which nothing of it stays; the network is not needed for it.
    let out = cluster.jobs().join("out");
    let script = format!(
        "#!/bin/sh\n(setsid sleep 60 &)\nsed -n 's/^ *\\([a-z0-9]*\\):.*/\\1/p' /proc/net/dev\n{}/bin/srun hostname >/dev/null && echo stepped\n",
        cluster.folder().display()
    );
    let job = cluster.submit(&script, &["-o", out.to_str().unwrap()]).unwrap();
    let ended = cluster.wait_ended(&job, "State", SOON).unwrap();
    let said = fs::read_to_string(&out).unwrap();
    assert_eq!((&*ended, &*said), ("COMPLETED", "lo\nstepped\n"), "{}", words());
    // Orphans of the namespace become its first process's children, which waits for them.
    let list = fs::read_to_string(format!("/proc/{0}/task/{0}/children", outer.pid())).unwrap();
    let first: u32 = list.split_whitespace().next().unwrap().parse().unwrap();
    let (before, _) = children(first);
    let entered = Command::new("nsenter")
        .args(["--target", &first.to_string(), "--pid", "sh", "-c", "sleep 2 & sleep 2 & exit 0"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(entered.success());
    wait_for("the orphans to be children of the first process", SOON, || children(first).0 >= before + 2)
        .unwrap();
    wait_for("the orphans to be waited for", SOON, || children(first) == (before, 0)).unwrap();
    send(first, Signal::SIGTERM);
    wait_for("the container to end", SOON, || !std::path::Path::new(&format!("/proc/{first}")).exists())
        .unwrap();
}
