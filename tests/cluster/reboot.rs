//! The machine restarts under running jobs: no pid of before is believed, jobs go back to the queue where they may, and none
//! runs twice.

use std::fs;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::Signal;
use tests::{Cluster, Conf, send, wait_for};

use crate::SOON;

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// All processes of a machine end, and another boot id stands in /proc: as much of a reboot as a test can have. The
/// machine's part is played in a mount namespace of this thread, which daemons inherit.
#[test]
fn jobs_of_before_a_reboot_are_lost_requeued_where_they_may_and_never_run_twice() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
    let mut cluster = Cluster::start(&Conf::declared(1, 4, "AuthInfo=cred_expire=1"), &["n1"]).unwrap();
    let script = "#!/bin/sh\necho \"$SLURM_JOB_ID ${SLURM_RESTART_COUNT:-0}\" >> began\n\
                  while [ ! -e go ]; do sleep 0.05; done\n";
    let may = cluster.submit(script, &["--requeue", "-o", "/dev/null"]).unwrap();
    let must_not = cluster.submit(script, &["--no-requeue", "-o", "/dev/null"]).unwrap();
    let began = |cluster: &Cluster| -> Vec<String> {
        let text = fs::read_to_string(cluster.jobs().join("began")).unwrap_or_default();
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    wait_for("both jobs to begin", SOON, || began(&cluster).len() == 2).unwrap();
    let waiting = cluster.submit("#!/bin/sh\n", &["-H", "-o", "/dev/null"]).unwrap();

    // The power goes.
    cluster.scheduler().unwrap().kill();
    cluster.executor("n1").unwrap().kill();
    for pid in cluster.supervisors().into_iter().chain(cluster.nurseries()) {
        send(pid, Signal::SIGKILL);
    }
    let jobs = cluster.jobs();
    let of_jobs = || {
        let all = fs::read_dir("/proc").unwrap().flatten();
        all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
            .filter(|pid| fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == jobs))
            .collect::<Vec<u32>>()
    };
    wait_for("every process of the jobs to end", SOON, || {
        let left = of_jobs();
        left.iter().for_each(|pid| send(*pid, Signal::SIGKILL));
        left.is_empty()
    })
    .unwrap();
    let other = cluster.folder().join("boot-id");
    fs::write(&other, "12345678-9abc-4def-8123-456789abcdef\n").unwrap();
    mount(Some(&other), BOOT_ID, none, MsFlags::MS_BIND, none).unwrap();

    cluster.start_scheduler(&[]).unwrap();
    cluster.start_executor("n1", &[]).unwrap();
    assert_eq!(cluster.wait_ended(&must_not, "State", SOON).unwrap(), "NODE_FAIL");
    wait_for("the job that may to run again", SOON, || began(&cluster).len() == 3).unwrap();
    fs::write(cluster.jobs().join("go"), "").unwrap();
    assert_eq!(cluster.wait_ended(&may, "State,ExitCode", SOON).unwrap(), "COMPLETED|0:0");
    let mut expected = [format!("{may} 0"), format!("{may} 1"), format!("{must_not} 0")];
    expected.sort();
    assert_eq!(began(&cluster), expected, "each run began once");
    let rows = cluster.ok("sacct", &["-nPXD", "-j", &may, "-o", "State"]).unwrap();
    assert_eq!(rows.lines().collect::<Vec<_>>(), ["NODE_FAIL", "COMPLETED"]);
    assert_eq!(cluster.ok("squeue", &["-h", "-o", "%i %r"]).unwrap(), format!("{waiting} JobHeldUser"));
}
