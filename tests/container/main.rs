//! Jobs in real containers: a scheduler, executors, Apptainer, images made of busybox by scripts/make-image.
//!
//! Needs root (jobs of another user are run) and Apptainer; `scripts/test container` sees to both.

mod crowd;
mod image;
mod life;
mod trouble;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use tests::{Cluster, Conf, Ran};

/// Long enough for anything that a test waits for, on a loaded machine.
pub(crate) const SOON: Duration = Duration::from_secs(120);
/// A user without any rights, on every system.
pub(crate) const NOBODY: u32 = 65_534;

/// A configuration of one node. Apptainer itself needs 16 MiB, and limits on memory are enforced.
pub(crate) fn conf() -> Conf {
    match Conf::declared(1, 8, "") {
        Conf::Text(text) => {
            let text = text.replace("DefMemPerCPU=10\n", "DefMemPerCPU=64\n");
            Conf::Text(text.replace("RealMemory=80", "RealMemory=512"))
        }
        Conf::None => Conf::None,
    }
}

/// One node, nothing probed ahead.
pub(crate) fn one_node() -> Cluster {
    Cluster::start(&conf(), &["n1"]).unwrap()
}

/// An image of that kind, made once for this process.
pub(crate) fn image(kind: &str) -> PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let folder = std::env::temp_dir().join(format!("sluice-images-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
        folder
    });
    let path = folder.join(kind);
    make(kind, &path);
    path
}

/// Makes an image where it is not there.
pub(crate) fn make(kind: &str, path: &Path) {
    if path.exists() {
        return;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("scripts/make-image");
    let made = Command::new(script).arg(kind).arg(path).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

/// How `--container` names it.
pub(crate) fn named(kind: &str, path: &Path) -> String {
    match kind {
        "oci" | "oci-archive" | "docker-archive" => format!("{kind}:{}", path.display()),
        _ => path.display().to_string(),
    }
}

/// A client command as a user, with this on its standard input.
pub(crate) fn run_as(cluster: &Cluster, uid: u32, input: &str, words: &[&str]) -> Ran {
    use std::io::Write;
    let mut command = cluster.command(words[0]);
    command
        .args(&words[1..])
        .uid(uid)
        .gid(uid)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let out = child.wait_with_output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end_matches('\n').to_owned();
    Ran { code: out.status.code(), stdout: text(&out.stdout), stderr: text(&out.stderr) }
}

/// Submits a script as nobody; the job's id.
pub(crate) fn submit_as_nobody(cluster: &Cluster, script: &str, options: &[&str]) -> String {
    let words = [&["sbatch", "--parsable"], options].concat();
    let ran = run_as(cluster, NOBODY, script, &words);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    ran.stdout.split(';').next().unwrap_or_default().to_owned()
}

/// What a job wrote.
pub(crate) fn written(cluster: &Cluster, name: &str) -> String {
    fs::read_to_string(cluster.jobs().join(name)).unwrap_or_default()
}
