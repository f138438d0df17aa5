//! MPI programs of real MPI libraries on a cluster of two executors: MPICH and Open MPI of the system.
//!
//! Needs their compilers and PMI-2's header; `scripts/test mpi` sees to that (`scripts/install-mpi`).

mod container;
mod crowd;
mod launchers;
mod pmi;
mod pmix;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tests::{Cluster, Conf, Ran};

/// Long enough for anything that a test waits for, on a loaded machine.
pub(crate) const SOON: Duration = Duration::from_secs(120);

/// Two nodes of four processors each, and these further lines.
pub(crate) fn two_nodes(more: &str) -> Cluster {
    Cluster::start(&Conf::declared(2, 4, more), &["n1", "n2"]).unwrap()
}

/// Compiles a program of this folder with `compiler` and gives its path.
pub(crate) fn build(cluster: &Cluster, compiler: &str, name: &str, libraries: &[&str]) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("mpi/programs").join(format!("{name}.c"));
    let program = cluster.folder().join(format!("{name}.{compiler}"));
    let out = Command::new(compiler).arg("-o").arg(&program).arg(source).args(libraries).output();
    let out = out.unwrap_or_else(|error| panic!("{compiler}: {error}; scripts/install-mpi installs it"));
    assert!(out.status.success(), "{compiler}: {}", String::from_utf8_lossy(&out.stderr));
    program
}

/// What Open MPI must be told here: root may run it, and ranks of two "nodes" that are one host must not share memory,
/// since it names its segments by host and place on the node.
pub(crate) const OPEN_MPI: [(&str, &str); 3] =
    [("OMPI_ALLOW_RUN_AS_ROOT", "1"), ("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1"), ("OMPI_MCA_btl", "self,tcp")];

/// Runs a command, told what Open MPI must know.
pub(crate) fn run(cluster: &Cluster, program: &str, arguments: &[&str]) -> Ran {
    let out = cluster
        .command(program)
        .args(arguments)
        .envs(OPEN_MPI)
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    Ran { code: out.status.code(), stdout: text(&out.stdout), stderr: text(&out.stderr) }
}

/// The lines, sorted, of a reduction over so many ranks.
pub(crate) fn reduced(ranks: u32) -> Vec<String> {
    let sum: u32 = (0..ranks).sum();
    (0..ranks).map(|rank| format!("rank {rank} of {ranks}: sum {sum}")).collect()
}

/// The lines of a text, sorted.
pub(crate) fn sorted(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort_unstable();
    lines
}

/// Runs a batch script on both nodes and gives its output.
pub(crate) fn batch(cluster: &Cluster, script: &str, options: &[&str]) -> String {
    let out = cluster.jobs().join("out");
    let name = out.to_str().unwrap().to_owned();
    // A test's cluster is on nobody's path.
    let bin = cluster.folder().join("bin");
    let script = script.replacen('\n', &format!("\nPATH={}:$PATH\n", bin.display()), 1);
    let id = cluster.submit(&script, &[&["-o", &name], options].concat()).unwrap();
    let state = cluster.wait_ended(&id, "State,ExitCode", SOON).unwrap();
    let text = fs::read_to_string(&out).unwrap_or_default();
    assert_eq!(state, "COMPLETED|0:0", "{text}");
    text
}
