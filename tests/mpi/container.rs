//! Ranks inside containers: the server's socket and the shared memory of a node reach them.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tests::{Cluster, Conf, wait_for};

use crate::{SOON, build, reduced, sorted};

/// A user without any rights, on every system.
const NOBODY: u32 = 65_534;

/// Two nodes whose jobs have the memory that Apptainer and the library need.
fn cluster() -> Cluster {
    let conf = match Conf::declared(2, 4, "") {
        Conf::Text(text) => {
            let text = text.replace("DefMemPerCPU=10\n", "DefMemPerCPU=256\n");
            Conf::Text(text.replace("RealMemory=40", "RealMemory=2048"))
        }
        Conf::None => Conf::None,
    };
    Cluster::start(&conf, &["n1", "n2"]).unwrap()
}

/// An image of what this machine has: busybox, the program at `/program`, the libraries that it names.
fn image_with(cluster: &Cluster, program: &Path) -> PathBuf {
    let image = cluster.folder().join("image");
    let script = tests::workspace_root().join("scripts/make-image");
    let made = Command::new(script).arg("sandbox").arg(&image).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let copy = |file: &Path, place: &Path| {
        let target = image.join(place.strip_prefix("/").unwrap());
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::copy(file, target).unwrap();
    };
    copy(program, Path::new("/program"));
    let libraries = Command::new("ldd").arg(program).output().unwrap();
    let libraries = String::from_utf8(libraries.stdout).unwrap();
    for word in libraries.split_whitespace().filter(|word| word.starts_with('/')) {
        copy(Path::new(word), Path::new(word));
    }
    image
}

#[test]
fn mpich_reduces_inside_an_image_over_two_executors() {
    let mut cluster = cluster();
    let program = build(&cluster, "mpicc.mpich", "reduce", &[]);
    let image = image_with(&cluster, &program);
    // The program is that of the image.
    fs::remove_file(&program).unwrap();
    let image = image.to_str().unwrap().to_owned();
    let step = |cluster: &Cluster, uid: u32, words: &[&str]| {
        let mut command = cluster.command("srun");
        command.args(["--mpi=pmi2", "-N2", "-n4", "--container", &image, "/program"]).args(words);
        command.uid(uid).gid(uid).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    };
    for uid in [0, NOBODY] {
        let out = step(&cluster, uid, &[]).wait_with_output().unwrap();
        let (said, words) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
        assert_eq!((out.status.code(), sorted(&said)), (Some(0), reduced(4)), "as {uid}: {words}");
    }
    // The same while their executors are killed: what they tell each other goes on.
    let mark = cluster.jobs().join("go");
    let child = step(&cluster, NOBODY, &[&format!("wait:{}", mark.display())]);
    let there = |rank: u32| mark.with_file_name(format!("go.{rank}")).exists();
    wait_for("all ranks to be there", SOON, || (0..4).all(there)).unwrap();
    for node in ["n1", "n2"] {
        cluster.executor(node).unwrap().kill();
        cluster.start_executor(node, &[]).unwrap();
    }
    fs::write(&mark, "").unwrap();
    let out = child.wait_with_output().unwrap();
    let (said, words) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert_eq!((out.status.code(), sorted(&said)), (Some(0), reduced(4)), "{words}");
    wait_for("all supervisors to end", SOON, || cluster.supervisors().is_empty()).unwrap();
}
