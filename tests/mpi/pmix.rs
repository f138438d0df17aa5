//! Tasks served by PMIx, with the system's library: `srun --mpi=pmix`.

use std::fs;

use tests::wait_for;

use crate::{SOON, build, reduced, run, sorted, two_nodes};

#[test]
fn open_mpi_reduces_over_two_executors() {
    let cluster = two_nodes("MpiDefault=pmix");
    let program = build(&cluster, "mpicc.openmpi", "reduce", &[]);
    let program = program.to_str().unwrap();
    for (options, ranks) in
        [(&["--mpi=pmix", "-N2", "-n4"][..], 4), (&["-N2", "-n4", "-m", "cyclic"], 4), (&["-N1", "-n2"], 2)]
    {
        let ran = run(&cluster, "srun", &[options, &[program]].concat());
        assert_eq!((ran.code, sorted(&ran.stdout)), (Some(0), reduced(ranks)), "{options:?}: {}", ran.stderr);
    }
    // Tasks that are no MPI program take no harm.
    let ran = run(&cluster, "srun", &["--mpi=pmix", "-n2", "echo", "plain"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "plain\nplain"), "{}", ran.stderr);
    // Nothing is left: no server, no folder.
    wait_for("all supervisors to end", SOON, || cluster.supervisors().is_empty()).unwrap();
    let left = fs::read_dir("/tmp").unwrap().flatten().filter(|entry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        name.starts_with("sluice-pmix.n") && entry.path().join("..").exists() && is_of(&cluster, &name)
    });
    assert_eq!(left.count(), 0);
}

/// Whether a folder of that name belongs to a run that this cluster has made.
fn is_of(cluster: &tests::Cluster, name: &str) -> bool {
    let run = name.splitn(4, '.').nth(3).unwrap_or_default().to_owned();
    cluster
        .run("sacct", &["-nP", "-o", "JobID"])
        .is_ok_and(|ran| ran.stdout.lines().any(|id| run.starts_with(&format!("{id}."))))
}

#[test]
fn an_abort_ends_all_nodes() {
    let cluster = two_nodes("");
    let program = build(&cluster, "mpicc.openmpi", "reduce", &[]);
    let ran = run(&cluster, "srun", &["--mpi=pmix", "-N2", "-n2", program.to_str().unwrap(), "abort"]);
    assert!(ran.stderr.contains("task 1 called abort"), "{}", ran.stderr);
    assert!(ran.code != Some(0), "{}", ran.stderr);
    wait_for("all supervisors to end", SOON, || cluster.supervisors().is_empty()).unwrap();
}
