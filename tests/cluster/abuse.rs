//! Jobs that do what jobs must not: each ends as configured, the node stays healthy, a neighbour does not notice.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tests::{Cluster, Conf, wait_for};

use crate::SOON;

/// A user without any rights, on every system.
const NOBODY: u32 = 65_534;

/// A node that limits what a job may have, with a job that has to live through what the others do.
struct Place {
    cluster: Cluster,
    neighbour: String,
}

impl Place {
    fn new() -> Self {
        let mut cluster = Cluster::prepare(&Conf::declared(1, 8, "TaskPlugin=task/cgroup")).unwrap();
        cluster.start_scheduler(&[]).unwrap();
        cluster.start_executor("n1", &[("SLUICE_JOB_PIDS", "60")]).unwrap();
        cluster.wait_idle(1).unwrap();
        let script = "#!/bin/sh\nuntil [ -e end ]; do sleep 0.1; /bin/true || exit 9; done\necho well\n";
        let neighbour = cluster.submit(script, &["-o", "neighbour"]).unwrap();
        Self { cluster, neighbour }
    }

    fn submit(&self, script: &str, options: &[&str]) -> String {
        self.cluster
            .submit(&format!("#!/bin/sh\n{script}\n"), &[&["-o", "out-%j"], options].concat())
            .unwrap()
    }

    /// A process of a job, by the file that it writes its number to.
    fn process(&self, file: &str) -> PathBuf {
        let path = self.cluster.jobs().join(file);
        let written = || fs::read_to_string(&path).is_ok_and(|text| text.ends_with('\n'));
        wait_for(&format!("a process to write {file}"), SOON, written).unwrap();
        Path::new("/proc").join(fs::read_to_string(&path).unwrap().trim())
    }

    fn gone(&self, process: &Path) {
        let ours = || fs::read_link(process.join("cwd")).is_ok_and(|folder| folder == self.cluster.jobs());
        wait_for(&format!("{} to be gone", process.display()), SOON, || !ours()).unwrap();
    }

    /// The neighbour ends well, and the node takes further work.
    fn stays_healthy(self) {
        fs::write(self.cluster.jobs().join("end"), "").unwrap();
        let end = self.cluster.wait_ended(&self.neighbour, "State,ExitCode", SOON).unwrap();
        assert_eq!(end, "COMPLETED|0:0");
        assert_eq!(fs::read_to_string(self.cluster.jobs().join("neighbour")).unwrap(), "well\n");
        self.cluster.wait_idle(1).unwrap();
        assert_eq!(self.cluster.ok("srun", &["echo", "well"]).unwrap(), "well");
    }
}

#[test]
fn a_job_that_forks_without_end_is_held_and_ended() {
    let place = Place::new();
    let lacks = place.cluster.ok("sluice", &["node", "n1"]).unwrap();
    if lacks.contains("number of a job's processes is not limited") || lacks.contains("cgroups   none") {
        eprintln!("passed over: {lacks}");
        return place.stays_healthy();
    }
    // Forks again and again, also when it was refused.
    let bomb = "echo $$ > bomb\nbomb() { while :; do bomb & done; }\nbomb 2>/dev/null\nwait";
    let id = place.submit(bomb, &[]);
    let process = place.process("bomb");
    let refused = || {
        // The kernel counts how often it said no.
        let text = fs::read_to_string(process.join("cgroup")).unwrap_or_default();
        let own = text.lines().find_map(|line| line.split_once(":pids:").map(|(_, path)| path.to_owned()));
        let v1 = own.map(|path| PathBuf::from(format!("/sys/fs/cgroup/pids{path}/pids.events")));
        let v2 = text.lines().find_map(|line| line.strip_prefix("0::"));
        let job = v2.and_then(|path| Path::new(path).parent()).map(Path::to_owned);
        let v2 = job.map(|path| PathBuf::from(format!("/sys/fs/cgroup{}/pids.events", path.display())));
        let files = v1.into_iter().chain(v2);
        files.filter_map(|file| fs::read_to_string(file).ok()).any(|text| !text.trim_end().ends_with("max 0"))
    };
    wait_for("the kernel to refuse a fork", SOON, || refused() || !process.exists()).unwrap();
    place.cluster.ok("scancel", &[&id]).unwrap();
    let end = place.cluster.wait_ended(&id, "State", SOON).unwrap();
    assert!(end.starts_with("CANCELLED") || end == "FAILED", "{end}");
    place.gone(&process);
    place.stays_healthy();
}

#[test]
fn what_does_not_want_to_end_is_killed() {
    let place = Place::new();
    // Ignores TERM, in a session of its own, stopped, in a cascade of parents that do not wait.
    let stubborn = "trap '' TERM HUP INT\necho $$ > stubborn\n\
         setsid sh -c 'trap \"\" TERM; echo $$ > detached; while :; do sleep 0.1; done' &\n\
         sh -c 'echo $$ > stopped; kill -STOP $$' &\n\
         sh -c 'sh -c \"sh -c \\\"echo \\\\$\\\\$ > orphan; exec sleep 600\\\" &\" &'\n\
         while :; do sleep 0.1; done";
    let id = place.submit(stubborn, &[]);
    let all = ["stubborn", "detached", "stopped", "orphan"].map(|file| place.process(file));
    place.cluster.ok("scancel", &[&id]).unwrap();
    let end = place.cluster.wait_ended(&id, "State", SOON).unwrap();
    assert!(end.starts_with("CANCELLED"), "{end}");
    all.iter().for_each(|process| place.gone(process));
    place.stays_healthy();
}

#[test]
fn what_a_script_leaves_behind_ends_with_it() {
    let place = Place::new();
    let leaves = "setsid sh -c 'trap \"\" TERM; echo $$ > left; while :; do sleep 0.1; done' > /dev/null 2>&1 &\n\
         until [ -s left ]; do sleep 0.05; done; exit 4";
    let id = place.submit(leaves, &[]);
    let process = place.process("left");
    assert_eq!(place.cluster.wait_ended(&id, "State,ExitCode", SOON).unwrap(), "FAILED|4:0");
    place.gone(&process);
    place.stays_healthy();
}

/// A small file system, unmounted when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(path: &Path) -> Option<Self> {
        fs::create_dir(path).unwrap();
        let flags = nix::mount::MsFlags::empty();
        match nix::mount::mount(Some("tmpfs"), path, Some("tmpfs"), flags, Some("size=256k,mode=1777")) {
            Ok(()) => Some(Self(path.to_owned())),
            Err(error) => {
                eprintln!("passed over: no file system can be mounted: {error}");
                None
            }
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // A job that is still there may hold it: it goes with the last.
        let _ = nix::mount::umount2(&self.0, nix::mount::MntFlags::MNT_DETACH);
    }
}

#[test]
fn a_job_that_fills_its_output_disk_fails_alone() {
    let place = Place::new();
    let Some(disk) = SmallDisk::mount(&place.cluster.jobs().join("small")) else {
        return place.stays_healthy();
    };
    let output = disk.0.join("out").display().to_string();
    let id = place.submit("cat /dev/zero", &["-o", &output]);
    assert_eq!(place.cluster.wait_ended(&id, "State,ExitCode", SOON).unwrap(), "FAILED|1:0");
    assert!(fs::metadata(&output).unwrap().len() <= 256 << 10);
    // On the full disk a script cannot even say something; that is its own affair.
    let id = place.submit("echo x; echo y > /dev/null", &["-o", &output, "--open-mode=append"]);
    assert_eq!(place.cluster.wait_ended(&id, "State,ExitCode", SOON).unwrap(), "COMPLETED|0:0");
    let why = place.cluster.ok("sluice", &["why", &id]).unwrap();
    assert!(why.contains("has ended: COMPLETED"), "{why}");
    drop(disk);
    place.stays_healthy();
}

#[test]
fn an_output_path_reaches_what_its_user_may_and_no_more() {
    let place = Place::new();
    let closed = place.cluster.folder().join("closed");
    fs::create_dir(&closed).unwrap();
    let script = place.cluster.jobs().join("as-nobody.sh");
    fs::write(&script, "#!/bin/sh\necho ran\n").unwrap();
    let submit = |output: &str| {
        let mut sbatch = place.cluster.command("sbatch");
        sbatch.args(["--parsable", "-o", output]).arg(&script).uid(NOBODY).gid(NOBODY).stdin(Stdio::null());
        let out = sbatch.output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap().trim().to_owned()
    };
    if !nix::unistd::geteuid().is_root() {
        eprintln!("passed over: only root can run jobs of another user");
        return place.stays_healthy();
    }
    for output in ["../closed/o-%j", "%u/../../closed/o-%j", "/etc/sluice-o-%j", "small/../../closed/%j/o"] {
        let id = submit(output);
        assert_eq!(place.cluster.wait_ended(&id, "State", SOON).unwrap(), "FAILED", "{output}");
        let why = place.cluster.ok("sluice", &["why", &id]).unwrap();
        assert!(
            ["Permission denied", "No such file or directory"].iter().any(|words| why.contains(words)),
            "{output}: {why}"
        );
    }
    assert_eq!(fs::read_dir(&closed).unwrap().count(), 0);
    // Dots are no harm where the user may write.
    let id = submit("../jobs/dots-%j");
    assert_eq!(place.cluster.wait_ended(&id, "State", SOON).unwrap(), "COMPLETED");
    assert_eq!(fs::read_to_string(place.cluster.jobs().join(format!("dots-{id}"))).unwrap(), "ran\n");
    place.stays_healthy();
}
