//! Daemons that must not start: what is wrong is named with its remedy, the exit status is not 0, and nothing was made.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::process::Stdio;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use tests::{Cluster, Conf, wait_for};

use crate::SOON;

const NODE: &str = "NodeName=n1 CPUs=2 RealMemory=100\n";

/// What a daemon says that is expected to end by itself.
fn refused(cluster: &Cluster, program: &str, state: &Path, environment: &[(&str, &str)]) -> String {
    let log = cluster.folder().join("refused.log");
    let out = fs::File::create(&log).unwrap();
    let mut command = cluster.command(program);
    command.arg("--state").arg(state).arg("--conf").arg(cluster.folder().join("slurm.conf"));
    if program == "sluice-executor" {
        command.args(["-N", "n1"]);
    }
    command.envs(environment.iter().copied()).stdin(Stdio::null());
    let mut child = command.stdout(out.try_clone().unwrap()).stderr(out).spawn().unwrap();
    let mut status = None;
    let ended = wait_for(&format!("{program} to refuse its start"), SOON, || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    let said = fs::read_to_string(&log).unwrap();
    if let Err(error) = ended {
        child.kill().unwrap();
        child.wait().unwrap();
        panic!("{error:#}\n{said}");
    }
    assert_eq!(status.unwrap().code(), Some(1), "{program}: {said}");
    said
}

#[test]
fn a_wrong_configuration_is_named_with_its_line() {
    let cluster = Cluster::prepare(&Conf::declared(1, 2, "")).unwrap();
    let file = cluster.folder().join("slurm.conf");
    let good = fs::read_to_string(&file).unwrap();
    fs::write(cluster.folder().join("round.conf"), "Include again.conf\n").unwrap();
    fs::write(cluster.folder().join("again.conf"), "Include round.conf\n").unwrap();
    fs::write(cluster.folder().join("shut.conf"), "KillWait=3\n").unwrap();
    let cases: [(&str, String, &[&str]); 7] = [
        (
            "a typo in a key",
            format!("{good}KillWiat=3\n"),
            &["unrecognized key: KillWiat; is KillWait meant?"],
        ),
        ("a typo in an entity", format!("{good}NodeName=n2 CPU=1\n"), &["unrecognized key: CPU"]),
        (
            "a wrong value",
            format!("{good}SlurmctldTimeout=soon\n"),
            &["\"soon\"", "SlurmctldTimeout", "seconds"],
        ),
        ("a file that is missing", format!("{good}Include gone.conf\n"), &["gone.conf", "No such file"]),
        ("a file that is a folder", format!("{good}Include jobs\n"), &["jobs", "Is a directory"]),
        ("a round of files", format!("{good}Include round.conf\n"), &["round.conf -> ", "remove this line"]),
        ("two nodes with one name", format!("{good}{NODE}"), &["node n1 is given twice"]),
    ];
    for (what, text, says) in cases {
        fs::write(&file, text).unwrap();
        for program in ["sluice-scheduler", "sluice-executor"] {
            let state = cluster.state("refused");
            let said = refused(&cluster, program, &state, &[]);
            for word in says.iter().chain(&[".conf:"]) {
                assert!(said.contains(word), "{what}, {program}: {word:?} is not in {said}");
            }
            let lines = said.lines().filter(|line| line.contains(".conf:")).count();
            assert_eq!(lines, 1, "{what}, {program}: one sentence says it: {said}");
            assert!(!state.exists() && !cluster.folder().join("s.sock").exists(), "{what}: nothing is made");
        }
    }
    fs::remove_file(&file).unwrap();
    for program in ["sluice-scheduler", "sluice-executor"] {
        let said = refused(&cluster, program, &cluster.state("refused"), &[]);
        assert!(said.contains("cannot read") && said.contains("slurm.conf"), "{said}");
    }
}

/// Read-only, full, somebody else's, no folder at all: for both daemons, on file systems of this thread's own.
#[test]
fn a_place_that_cannot_keep_a_state_is_refused_before_anything_is_made() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let cluster = Cluster::prepare(&Conf::declared(1, 2, "")).unwrap();
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
    let disk = |name: &str, size: &str| {
        let folder = cluster.folder().join(name);
        fs::create_dir(&folder).unwrap();
        let options = format!("size={size},mode=0755");
        mount(Some("sluice-test"), &folder, Some("tmpfs"), MsFlags::empty(), Some(options.as_str())).unwrap();
        folder
    };
    let (read_only, full) = (disk("read-only", "64m"), disk("full", "64k"));
    mount(none, &read_only, none, MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY, none).unwrap();
    let file = cluster.folder().join("a-file");
    fs::write(&file, "").unwrap();
    let cases: [(&str, &Path, &[&str]); 3] = [
        ("read-only", &read_only, &["mounted read-only", "mount it for writing"]),
        ("full", &full, &["is full", "make room"]),
        ("no folder", &file, &["is no folder", "--state"]),
    ];
    for (what, place, says) in cases {
        for program in ["sluice-scheduler", "sluice-executor"] {
            let said = refused(&cluster, program, &place.join("state"), &[]);
            for word in says.iter().chain(&[place.to_str().unwrap()]) {
                assert!(said.contains(word), "{what}, {program}: {word:?} is not in {said}");
            }
            assert!(!place.join("state").exists(), "{what}, {program}: nothing is made");
            assert!(!cluster.folder().join("s.sock").exists(), "{what}: no socket is made");
        }
    }
}

#[test]
fn a_socket_path_that_is_too_long_is_refused_before_anything_is_made() {
    let cluster = Cluster::prepare(&Conf::declared(1, 2, "")).unwrap();
    let long = cluster.folder().join("x".repeat(110)).join("s.sock");
    for program in ["sluice-scheduler", "sluice-executor"] {
        let state = cluster.state("refused");
        let said = refused(&cluster, program, &state, &[("SLUICE_SOCKET", long.to_str().unwrap())]);
        assert!(said.contains("the kernel takes 107") && said.contains("name a shorter one"), "{said}");
        assert!(!state.exists() && !long.parent().unwrap().exists(), "{program}: nothing is made");
    }
}

/// Files of a state folder that others own are refused with the command that mends it; those that others can read are
/// closed, and the log says so.
#[test]
fn files_of_others_are_refused_and_open_ones_are_closed() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    const NOBODY: u32 = 65534;
    let mut cluster = Cluster::start(&Conf::declared(1, 2, ""), &["n1"]).unwrap();
    cluster.scheduler().unwrap().kill();
    cluster.executor("n1").unwrap().kill();
    let scheduler = cluster.state("scheduler").join("scheduler");
    let spool = cluster.state("n1").join("executor-n1/spool");
    for (program, state, folder, name) in [
        ("sluice-scheduler", cluster.state("scheduler"), &scheduler, "identity"),
        ("sluice-executor", cluster.state("n1"), &spool, "spool-id"),
    ] {
        let file = folder.join(name);
        chown(&file, Some(NOBODY), None).unwrap();
        let said = refused(&cluster, program, &state, &[]);
        let mends = format!("to mend it: chown -R 0 {}", folder.display());
        assert!(said.contains(&mends) && said.contains("belongs to user 65534"), "{program}: {said}");
        assert_eq!(fs::metadata(&file).unwrap().uid(), NOBODY, "not taken over");
        // The command, as it was printed.
        let (_, command) = said.split_once("to mend it: ").unwrap();
        let mended = std::process::Command::new("sh").args(["-c", command.lines().next().unwrap()]).status();
        assert!(mended.unwrap().success());
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    }
    cluster.start_scheduler(&[]).unwrap();
    cluster.start_executor("n1", &[]).unwrap();
    cluster.wait_idle(1).unwrap();
    for (folder, name, log) in
        [(&scheduler, "identity", "scheduler.log"), (&spool, "spool-id", "executor-n1.log")]
    {
        assert_eq!(fs::metadata(folder.join(name)).unwrap().mode() & 0o777, 0o600);
        let log = fs::read_to_string(cluster.folder().join(log)).unwrap();
        assert!(log.contains("were open to other users") && log.contains(name), "{log}");
    }
}
