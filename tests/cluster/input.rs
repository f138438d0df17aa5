//! Bad input ends in Slurm's refusal or a closed connection; nothing is stored and nothing crashes.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::time::Duration;

use tests::{Cluster, Conf, Random};

fn cluster() -> Cluster {
    Cluster::start(&Conf::declared(1, 8, ""), &["n1"]).unwrap()
}

fn refused(cluster: &Cluster, script: &[u8], options: &[&str], says: &str) {
    let path = cluster.folder().join("bad.sh");
    fs::write(&path, script).unwrap();
    let out = cluster.command("sbatch").args(options).arg(&path).output().unwrap();
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(!out.status.success(), "{options:?} was accepted");
    assert!(said.contains(says), "{options:?}: {said}");
}

#[test]
fn bad_scripts_are_refused_and_nothing_is_stored() {
    let cluster = cluster();
    refused(&cluster, b"", &[], "Batch script is empty!");
    refused(&cluster, b"echo no shebang\n", &[], "This does not look like a batch script.");
    refused(&cluster, b"#!/bin/sh\r\necho dos\r\n", &[], "DOS line breaks");
    refused(&cluster, b"#!/bin/sh\n", &["--no-such-option"], "unrecognized option '--no-such-option'");
    refused(&cluster, b"#!/bin/sh\n", &["-p", "nowhere"], "invalid partition specified: nowhere");
    refused(&cluster, b"#!/bin/sh\n", &["-c", "1000"], "Requested node configuration is not available");
    let mut huge = b"#!/bin/sh\n".to_vec();
    huge.resize(100 << 20, b'#');
    refused(&cluster, &huge, &[], "sbatch: error:");
    assert_eq!(cluster.ok("squeue", &["-h", "-a", "-t", "all"]).unwrap(), "");
    assert!(cluster.run("sacct", &["-nX", "-a", "-S", "now-1hour"]).unwrap().stdout.is_empty());
}

#[test]
fn jobs_that_do_not_exist_are_named() {
    let cluster = cluster();
    let ran = cluster.run("scontrol", &["show", "job", "4711"]).unwrap();
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(1), "slurm_load_jobs error: Invalid job id specified"));
}

#[test]
fn bytes_thrown_at_the_socket_end_the_connection_and_not_the_daemon() {
    let mut cluster = cluster();
    let socket = cluster.folder().join("s.sock");
    let mut random = Random::new(7);
    for length in [1, 24, 1000, 100_000] {
        let bytes: Vec<u8> = (0..length).map(|_| (random.bits() & 0xff) as u8).collect();
        let mut stream = UnixStream::connect(&socket).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        // The daemon may close before all is written; that is the point.
        let _ = stream.write_all(&bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        match stream.read_to_end(&mut answer) {
            Ok(_) => {}
            Err(error) => {
                assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "after {length} bytes")
            }
        }
    }
    assert!(cluster.answers());
    assert!(cluster.scheduler().unwrap().ended().is_none());
}

#[test]
fn missing_scripts_and_jobs_of_others_are_refused_in_slurms_words() {
    let cluster = cluster();
    let ran = cluster.run("sbatch", &["/nowhere/job.sh"]).unwrap();
    assert_eq!(
        (ran.code, ran.stderr.as_str()),
        (Some(1), "sbatch: error: Unable to open file /nowhere/job.sh")
    );
    let id = cluster.submit("#!/bin/sh\nsleep 600\n", &["-o", "/dev/null", "-J", "mine"]).unwrap();
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let nobody = |program: &str, arguments: &[&str]| {
        let mut command = cluster.command(program);
        let out = command.args(arguments).uid(65534).gid(65534).current_dir("/").output().unwrap();
        (out.status.code(), String::from_utf8_lossy(&out.stderr).into_owned())
    };
    let change = format!("JobId={id}");
    // Slurm has two words for it.
    for (program, arguments, says) in [
        ("scancel", &[id.as_str()][..], "Access/permission denied"),
        ("scontrol", &["hold", &id], "Invalid user id"),
        ("scontrol", &["update", &change, "JobName=theirs"], "Invalid user id"),
        ("scontrol", &["requeue", &id], "denied"),
    ] {
        let (code, said) = nobody(program, arguments);
        let refused = said.contains(says) || said.contains("Invalid user id");
        assert!(refused && code != Some(0), "{program} {arguments:?}: {code:?} {said}");
    }
    let shown = cluster.ok("squeue", &["-h", "-o", "%i %j %T"]).unwrap();
    assert!(shown == format!("{id} mine RUNNING") || shown == format!("{id} mine PENDING"), "{shown}");
}

/// A name may hold any character but the zero byte, as in Slurm; what lists jobs keeps one line for each.
#[test]
fn control_characters_in_names_break_no_listing() {
    let cluster = cluster();
    let name = "a\u{1b}[31m\u{7}b\nc|d\re";
    let id = cluster.submit("#!/bin/sh\n", &["-H", "-J", name, "--comment", name]).unwrap();
    let other = cluster.submit("#!/bin/sh\n", &["-H", "-J", "plain"]).unwrap();
    let ids = cluster.ok("squeue", &["-h", "-o", "%i"]).unwrap();
    let mut ids: Vec<&str> = ids.lines().collect();
    ids.sort_unstable();
    assert_eq!(ids, [id.as_str(), other.as_str()]);
    let json = cluster.ok("squeue", &["--json", "-j", &id]).unwrap();
    assert!(json.contains("a\\u001b[31m\\u0007b\\nc|d\\re"), "{json}");
    assert!(cluster.answers());
    cluster.ok("scancel", &[&id, &other]).unwrap();
}
