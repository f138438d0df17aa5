//! A backup of a running scheduler, restored under executors that have gone on since it was made.

use std::fs;

use tests::{Cluster, Conf, wait_for};

use crate::SOON;

fn waits(name: &str) -> String {
    format!("#!/bin/sh\n: > begun-{name}\nuntil [ -e go-{name} ]; do sleep 0.05; done\nexit 5\n")
}

fn begin(cluster: &Cluster, name: &str) -> String {
    let id = cluster.submit(&waits(name), &["-o", "/dev/null", "--no-requeue", "-J", name]).unwrap();
    wait_for("the job to begin", SOON, || cluster.jobs().join(format!("begun-{name}")).exists()).unwrap();
    id
}

#[test]
fn an_older_backup_meets_live_executors() {
    let mut cluster = Cluster::start(&Conf::declared(1, 8, ""), &["n1"]).unwrap();
    let ended = cluster.submit("#!/bin/sh\nexit 3\n", &["-o", "/dev/null"]).unwrap();
    cluster.wait_ended(&ended, "State", SOON).unwrap();
    let waiting =
        cluster.submit("#!/bin/sh\n: > waiting-ran\n", &["-o", "/dev/null", "--begin=now+1hour"]).unwrap();
    let running = begin(&cluster, "before");
    let file = cluster.folder().join("backup");
    let file = file.to_str().unwrap();
    let said = cluster.ok("sluice", &["backup", file]).unwrap();
    assert!(said.contains("frame"), "{said}");
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(file).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600, "a backup holds environments");

    // What the backup does not know.
    let later = begin(&cluster, "after");
    cluster.scheduler().unwrap().kill();
    let state = cluster.state("scheduler");
    let state_text = state.to_str().unwrap().to_owned();
    let refused = cluster.run("sluice", &["restore", file, "--state", &state_text]).unwrap();
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("there is a state in"), "{}", refused.stderr);
    fs::remove_dir_all(&state).unwrap();

    // A backup with a flipped bit makes nothing.
    let mut bytes = fs::read(file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    let torn = cluster.folder().join("torn");
    fs::write(&torn, bytes).unwrap();
    let refused =
        cluster.run("sluice", &["restore", torn.to_str().unwrap(), "--state", &state_text]).unwrap();
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(!state.join("scheduler").exists());

    let said = cluster.ok("sluice", &["restore", file, "--state", &state_text]).unwrap();
    assert!(said.contains("1 waiting jobs are held"), "{said}");
    let checked = cluster.ok("sluice", &["journal", "check", "--state", &state_text]).unwrap();
    assert!(checked.contains("sound"), "{checked}");
    cluster.start_scheduler(&[]).unwrap();
    wait_for("the run of the lost time to be shown", SOON, || {
        cluster
            .ok("sluice", &["node", "n1"])
            .is_ok_and(|text| text.contains(&format!("scancel {later} ends it")))
    })
    .unwrap();

    // It is left alone, and its id is never issued again.
    assert_eq!(cluster.supervisors().len(), 2);
    let new = cluster.submit("#!/bin/sh\n", &["-o", "/dev/null"]).unwrap();
    assert!(new.parse::<u32>().unwrap() > later.parse::<u32>().unwrap(), "{new} after {later}");
    // What was known goes on.
    assert_eq!(cluster.ok("squeue", &["-h", "-j", &waiting, "-o", "%T %r"]).unwrap(), "PENDING JobHeldAdmin");
    assert_eq!(cluster.ok("sacct", &["-nPX", "-j", &ended, "-o", "State,ExitCode"]).unwrap(), "FAILED|3:0");
    fs::write(cluster.jobs().join("go-before"), "").unwrap();
    assert_eq!(cluster.wait_ended(&running, "State,ExitCode", SOON).unwrap(), "FAILED|5:0");
    // The script came with the backup.
    cluster.ok("scontrol", &["update", &format!("JobId={waiting}"), "StartTime=now"]).unwrap();
    cluster.ok("scontrol", &["release", &waiting]).unwrap();
    assert_eq!(cluster.wait_ended(&waiting, "State", SOON).unwrap(), "COMPLETED");
    assert!(cluster.jobs().join("waiting-ran").exists());
    // The administrator ends the stranger.
    cluster.ok("scancel", &[&later]).unwrap();
    wait_for("the run of the lost time to end", SOON, || {
        let gone = cluster.ok("sluice", &["node", "n1"]).is_ok_and(|text| !text.contains("scancel"));
        gone && cluster.supervisors().is_empty()
    })
    .unwrap();
    let shown = cluster.ok("sluice", &["journal", "show", "--state", &state_text]).unwrap();
    assert!(shown.contains(&format!("Stranger job {later}.batch")), "{shown}");
    cluster.ok("sluice", &["journal", "check", "--state", &state_text]).unwrap();
}

#[test]
fn only_administrators_take_backups() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let cluster = Cluster::start(&Conf::declared(1, 1, ""), &[]).unwrap();
    let client = cluster.command("sluice");
    let program = client.get_program().to_str().unwrap().to_owned();
    let mut command = std::process::Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", &program, "backup", "nobodys"]);
    command.current_dir(cluster.jobs());
    for (name, value) in client.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let out = command.output().unwrap();
    assert!(!out.status.success());
    assert!(!cluster.jobs().join("nobodys").exists() && !cluster.jobs().join("nobodys.unfinished").exists());
}

/// A key that enforces something stops the start until it is acknowledged by name.
#[test]
fn what_enforces_has_to_be_acknowledged() {
    let mut cluster = Cluster::prepare(&Conf::declared(1, 1, "JobSubmitPlugins=lua")).unwrap();
    cluster.launch_scheduler(&[]).unwrap();
    wait_for("the scheduler to refuse", SOON, || {
        cluster.scheduler().is_some_and(|daemon| daemon.ended().is_some())
    })
    .unwrap();
    assert!(cluster.last_words().contains("Acknowledge=JobSubmitPlugins"), "{}", cluster.last_words());
    let conf = cluster.folder().join("slurm.conf");
    let checked = cluster.run("sluice", &["config", "check", conf.to_str().unwrap()]).unwrap();
    assert_eq!(checked.code, Some(1));
    fs::write(cluster.folder().join("sluice.conf"), "Acknowledge=JobSubmitPlugins\n").unwrap();
    assert_eq!(cluster.run("sluice", &["config", "check", conf.to_str().unwrap()]).unwrap().code, Some(0));
    cluster.start_scheduler(&[]).unwrap();
}
