//! Bad input ends in Slurm's refusal or a closed connection; nothing is stored and nothing crashes.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
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
