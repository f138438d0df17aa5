//! The main job end to end: a script runs as typed, its output and outcome are where they belong.

use std::fs;

use tests::{Cluster, Conf, wait_for};

use crate::SOON;

fn one_node() -> Cluster {
    Cluster::start(&Conf::declared(1, 8, ""), &["n1"]).unwrap()
}

#[test]
fn a_script_runs_and_its_outcome_is_recorded() {
    let cluster = one_node();
    let id = cluster
        .submit("#!/bin/sh\necho out; echo err >&2; exit 3\n", &["-o", "a-%j.out", "-e", "a-%j.err"])
        .unwrap();
    assert_eq!(cluster.wait_ended(&id, "State,ExitCode", SOON).unwrap(), "FAILED|3:0");
    let read = |name: String| fs::read_to_string(cluster.jobs().join(name)).unwrap();
    assert_eq!(read(format!("a-{id}.out")), "out\n");
    assert_eq!(read(format!("a-{id}.err")), "err\n");
}

#[test]
fn a_cluster_without_any_configuration_runs_jobs() {
    let mut cluster = Cluster::prepare(&Conf::None).unwrap();
    cluster.start_scheduler(&[]).unwrap();
    cluster.start_executor("this", &[]).unwrap();
    cluster.wait_idle(1).unwrap();
    let id = cluster.submit("#!/bin/sh\ntrue\n", &["-o", "/dev/null"]).unwrap();
    assert_eq!(cluster.wait_ended(&id, "State,ExitCode,Partition", SOON).unwrap(), "COMPLETED|0:0|main");
}

#[test]
fn the_environment_arrives_byte_for_byte() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let cluster = one_node();
    let odd: &[u8] = b"two\nlines, \xff and a =";
    let script = cluster.jobs().join("job.sh");
    fs::write(&script, "#!/bin/sh\nprintf %s \"$ODD\" > odd\n").unwrap();
    let mut sbatch = cluster.command("sbatch");
    sbatch.args(["--parsable", "-o", "/dev/null"]).arg(&script).env("ODD", OsStr::from_bytes(odd));
    let out = sbatch.output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let id = String::from_utf8(out.stdout).unwrap();
    cluster.wait_ended(id.trim(), "State", SOON).unwrap();
    assert_eq!(fs::read(cluster.jobs().join("odd")).unwrap(), odd);
}

#[test]
fn jobs_run_side_by_side() {
    let cluster = one_node();
    // Each waits for the other: one after the other they would never end.
    let meet = |mine: &str, other: &str| {
        format!("#!/bin/sh\n: > {mine}\nuntil [ -e {other} ]; do sleep 0.05; done\n")
    };
    let one = cluster.submit(&meet("one", "two"), &["-o", "/dev/null"]).unwrap();
    let two = cluster.submit(&meet("two", "one"), &["-o", "/dev/null"]).unwrap();
    for id in [one, two] {
        assert_eq!(cluster.wait_ended(&id, "State", SOON).unwrap(), "COMPLETED");
    }
}

#[test]
fn a_chain_of_dependencies_runs_in_order() {
    let cluster = one_node();
    let line = |word: &str| format!("#!/bin/sh\necho {word} >> chain\n");
    let first = cluster.submit(&line("first"), &["-o", "/dev/null", "-H"]).unwrap();
    let second =
        cluster.submit(&line("second"), &["-o", "/dev/null", "-d", &format!("afterok:{first}")]).unwrap();
    let third =
        cluster.submit(&line("third"), &["-o", "/dev/null", "-d", &format!("afterany:{second}")]).unwrap();
    cluster.ok("scontrol", &["release", &first]).unwrap();
    assert_eq!(cluster.wait_ended(&third, "State", SOON).unwrap(), "COMPLETED");
    assert_eq!(fs::read_to_string(cluster.jobs().join("chain")).unwrap(), "first\nsecond\nthird\n");
}

#[test]
fn a_cancelled_job_leaves_no_process() {
    let cluster = one_node();
    let script = "#!/bin/sh\nsetsid sh -c 'echo $$ > pid; exec sleep 600' &\nsleep 600\n";
    let id = cluster.submit(script, &["-o", "/dev/null"]).unwrap();
    let pid_file = cluster.jobs().join("pid");
    wait_for("the job to write its pid", SOON, || {
        fs::read_to_string(&pid_file).is_ok_and(|text| text.ends_with('\n'))
    })
    .unwrap();
    let pid = fs::read_to_string(&pid_file).unwrap();
    cluster.ok("scancel", &[&id]).unwrap();
    let state = cluster.wait_ended(&id, "State", SOON).unwrap();
    assert!(state.starts_with("CANCELLED"), "{state}");
    let process = format!("/proc/{}", pid.trim());
    wait_for("the job's runaway child to be gone", SOON, || !std::path::Path::new(&process).exists())
        .unwrap();
}
