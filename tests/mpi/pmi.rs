//! Tasks served by the supervisors themselves: `srun --mpi=pmi2`, `MpiDefault`.

use std::fs;
use std::process::Stdio;
use std::time::Duration;

use tests::wait_for;

use crate::{SOON, build, reduced, run, sorted, two_nodes};

#[test]
fn mpich_reduces_over_two_executors() {
    let cluster = two_nodes("MpiDefault=pmi2");
    let program = build(&cluster, "mpicc.mpich", "reduce", &[]);
    let program = program.to_str().unwrap();
    for (options, ranks) in [
        (&["--mpi=pmi2", "-N2", "-n4"][..], 4),
        // The site's default; ranks dealt out in turn; more ranks than processors.
        (&["-N2", "-n4", "--distribution=cyclic"], 4),
        (&["-N2", "-n16", "--overcommit"], 16),
        (&["-N1", "-n1"], 1),
    ] {
        let ran = run(&cluster, "srun", &[options, &[program]].concat());
        assert_eq!(
            (ran.code, sorted(&ran.stdout)),
            (Some(0), {
                let mut all = reduced(ranks);
                all.sort();
                all
            }),
            "{options:?}: {}",
            ran.stderr
        );
    }
    // Without a server each is a world of its own.
    let ran = run(&cluster, "srun", &["--mpi=none", "-N2", "-n2", program]);
    assert_eq!(ran.stdout, "rank 0 of 1: sum 0\nrank 0 of 1: sum 0", "{}", ran.stderr);
}

#[test]
fn slurms_own_pmi_2_client_is_served() {
    let cluster = two_nodes("");
    let program = build(&cluster, "cc", "pmi2", &["-lpmi2"]);
    let ran = run(
        &cluster,
        "srun",
        &["--mpi=pmi2", "-N2", "-n4", "--ntasks-per-node=2", program.to_str().unwrap()],
    );
    let expected: Vec<String> = (0..4)
        .map(|rank| {
            let next = (rank + 1) % 4;
            format!("{rank} of 4 in a step: rank={next}; with a semicolon, (vector,(0,2,2))")
        })
        .collect();
    assert_eq!((ran.code, sorted(&ran.stdout)), (Some(0), expected), "{}", ran.stderr);
}

#[test]
fn what_cannot_go_on_ends_on_all_nodes() {
    let cluster = two_nodes("");
    let program = build(&cluster, "mpicc.mpich", "reduce", &[]);
    let program = program.to_str().unwrap();
    // Rank 1 is alone on the second node; the first node's waits for ever.
    let ran = run(&cluster, "srun", &["--mpi=pmi2", "-N2", "-n2", program, "abort"]);
    assert!(ran.stderr.contains("task 1 called abort"), "{}", ran.stderr);
    assert_eq!(ran.code, Some(143), "the signal that ended rank 0: {}", ran.stderr);
    let ran = run(&cluster, "srun", &["--mpi=pmi2", "-N2", "-n2", program, "early"]);
    assert!(ran.stderr.contains("has left"), "{}", ran.stderr);
    let ran = run(&cluster, "srun", &["--mpi=pmi2", "-N1", "-n2", program, "early"]);
    assert!(ran.stderr.contains("task 1 has left"), "{}", ran.stderr);
    assert!(ran.code != Some(0));
    wait_for("all supervisors to end", SOON, || cluster.supervisors().is_empty()).unwrap();
}

#[test]
fn a_step_outlives_its_executors_in_the_middle() {
    let mut cluster = two_nodes("");
    let program = build(&cluster, "mpicc.mpich", "reduce", &[]);
    let mark = cluster.jobs().join("go");
    let how = format!("wait:{}", mark.display());
    let step = cluster
        .command("srun")
        .args(["--mpi=pmi2", "-N2", "-n4", program.to_str().unwrap(), &how])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let there = |rank: u32| mark.with_file_name(format!("go.{rank}")).exists();
    wait_for("all ranks to be there", SOON, || (0..4).all(there)).unwrap();
    for node in ["n1", "n2"] {
        cluster.executor(node).unwrap().kill();
        cluster.start_executor(node, &[]).unwrap();
    }
    fs::write(&mark, "").unwrap();
    let out = step.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let words = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!((out.status.code(), sorted(text.trim_end())), (Some(0), reduced(4)), "{words}");
}

/// A fence is one message from each node and one to each: a thousand tasks on two nodes are four.
#[test]
fn a_fence_of_many_tasks_is_quick() {
    let cluster = two_nodes("");
    let program = build(&cluster, "cc", "pmi2", &["-lpmi2"]);
    let begin = std::time::Instant::now();
    let ran =
        run(&cluster, "srun", &["--mpi=pmi2", "-N2", "-n200", "--overcommit", program.to_str().unwrap()]);
    assert_eq!((ran.code, ran.stdout.lines().count()), (Some(0), 200), "{}", ran.stderr);
    assert!(begin.elapsed() < SOON.max(Duration::from_secs(60)), "{:?}", begin.elapsed());
}
