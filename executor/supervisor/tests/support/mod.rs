//! A run folder made by hand, and the supervisor started on it as an executor would.

mod heard;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio as ProcessStdio};
use std::time::{Duration, Instant};

use executor_supervisor::frame::{self, Decoder, Frame, Position};
use executor_supervisor::outcome::Outcome;
use executor_supervisor::spec::{Spec, Stdio, Task};
use executor_supervisor::{OUTCOME_FILE, SOCKET_FILE, SPEC_FILE};

pub(crate) use heard::{Heard, finish, input};

/// Longest time that anything here may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until `ready` gives something.
pub(crate) fn eventually<T>(what: &str, mut ready: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = ready() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// A folder of the test's own, writable by everybody, removed at the end.
pub(crate) struct Place {
    pub(crate) path: PathBuf,
}

impl Place {
    pub(crate) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("sluice-supervisor-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(path.join("run")).unwrap();
        fs::create_dir(path.join("work")).unwrap();
        for folder in [path.clone(), path.join("work")] {
            fs::set_permissions(folder, fs::Permissions::from_mode(0o777)).unwrap();
        }
        Self { path }
    }

    pub(crate) fn run(&self) -> PathBuf {
        self.path.join("run")
    }

    pub(crate) fn work(&self, name: &str) -> PathBuf {
        self.path.join("work").join(name)
    }

    pub(crate) fn text(&self, name: &str) -> String {
        fs::read_to_string(self.work(name)).unwrap_or_default()
    }

    /// A batch run of `sh -c text`, output to `out`.
    pub(crate) fn batch(&self, text: &str) -> Spec {
        let mut spec = self.step(1, text);
        spec.step = "batch".to_owned();
        spec.cookie = Vec::new();
        spec.tasks[0].stdin = Stdio::Null;
        spec.tasks[0].stdout = Stdio::File { path: bytes(&self.work("out")), truncate: true };
        spec.tasks[0].stderr = Stdio::Output;
        spec
    }

    /// A streamed step of `tasks` times `sh -c text`.
    pub(crate) fn step(&self, tasks: u32, text: &str) -> Spec {
        // Root tries it with a user that has nothing; others can only be themselves.
        let root = nix::unistd::geteuid().is_root();
        let (uid, gid) = if root {
            (12_345, 12_345)
        } else {
            (nix::unistd::getuid().as_raw(), nix::unistd::getgid().as_raw())
        };
        Spec {
            job_id: 7,
            step: "0".to_owned(),
            run: 1,
            node: "n1".to_owned(),
            uid,
            gid,
            groups: vec![gid],
            work_dir: bytes(&self.path.join("work")),
            umask: 0o022,
            rlimits: Vec::new(),
            cgroup: Vec::new(),
            cgroup_lent: false,
            cgroup_holds: false,
            cgroup_settings: Vec::new(),
            cgroups_v1: Vec::new(),
            memory_group: Vec::new(),
            readings: Vec::new(),
            told: String::new(),
            sample_ms: 0,
            environment: vec![b"PATH=/usr/bin:/bin".to_vec()],
            tasks: (0..tasks)
                .map(|rank| Task {
                    rank,
                    arguments: vec![b"/bin/sh".to_vec(), b"-c".to_vec(), text.as_bytes().to_vec()],
                    environment: vec![format!("RANK={rank}").into_bytes()],
                    cpus: Vec::new(),
                    announce: Vec::new(),
                    stdin: Stdio::Stream,
                    stdout: Stdio::Stream,
                    stderr: Stdio::Stream,
                })
                .collect(),
            limit_ms: None,
            kill_wait_ms: 300,
            warning: None,
            cookie: b"secret".to_vec(),
            client_grace_ms: 60_000,
            window: (0, 0),
            kill_on_bad_exit: false,
            task_prologs: Vec::new(),
            task_epilogs: Vec::new(),
            container: None,
            mpi: None,
        }
    }

    pub(crate) fn start(&self, spec: &Spec) -> Supervisor {
        let path = self.run().join(SPEC_FILE);
        fs::write(&path, spec.encode()).unwrap();
        let name = executor_supervisor::run_folder_name(spec.job_id, &spec.step, spec.run);
        Supervisor { child: Some(spawn(&self.run())), place: self.path.clone(), name }
    }

    pub(crate) fn end(&self, spec: &Spec) -> Outcome {
        self.start(spec).outcome()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

pub(crate) fn bytes(path: &Path) -> Vec<u8> {
    use std::os::unix::ffi::OsStrExt;
    path.as_os_str().as_bytes().to_vec()
}

/// Hands the specification over; the supervisor takes its lock.
pub(crate) fn spawn(run: &Path) -> Child {
    Command::new(env!("CARGO_BIN_EXE_sluice-supervisor"))
        .arg(run)
        .stdin(File::open(run.join(SPEC_FILE)).unwrap())
        .stdout(ProcessStdio::null())
        .stderr(ProcessStdio::null())
        .spawn()
        .unwrap()
}

/// A started supervisor; killed if the test forgets it.
pub(crate) struct Supervisor {
    pub(crate) child: Option<Child>,
    place: PathBuf,
    name: String,
}

impl Supervisor {
    pub(crate) fn outcome(mut self) -> Outcome {
        let mut child = self.child.take().unwrap();
        let status = eventually("the supervisor's end", || child.try_wait().unwrap());
        assert!(status.success(), "supervisor ended with {status}");
        let bytes = fs::read(self.place.join("run").join(OUTCOME_FILE)).unwrap();
        Outcome::decode(&bytes, &self.name).unwrap()
    }

    pub(crate) fn connect(&self) -> Peer {
        let path = self.place.join("run").join(SOCKET_FILE);
        let stream = eventually("the socket", || frame::connect(&path).ok());
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Peer { stream, decoder: Decoder::default() }
    }

    pub(crate) fn attach(&self, received: Vec<Position>) -> Peer {
        let mut peer = self.connect();
        peer.send(&Frame::Attach { version: frame::VERSION, cookie: b"secret".to_vec(), received });
        peer
    }

    /// One command, one answer.
    pub(crate) fn command(&self, command: &Frame) -> Frame {
        let mut peer = self.connect();
        peer.send(command);
        peer.next().expect("an answer")
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The test's end of a connection.
pub(crate) struct Peer {
    pub(crate) stream: UnixStream,
    decoder: Decoder,
}

impl Peer {
    pub(crate) fn send(&mut self, frame: &Frame) {
        self.stream.write_all(&frame.to_bytes()).unwrap();
    }

    /// The next frame; `None` at the end of the connection.
    pub(crate) fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.decoder.next_frame().unwrap() {
                return Some(frame);
            }
            let mut buffer = [0; 4096];
            match self.stream.read(&mut buffer) {
                Ok(0) => return None,
                Ok(count) => self.decoder.push(&buffer[..count]),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("{error}"),
            }
        }
    }
}

/// Waits until the run has made the file.
pub(crate) fn wait_for_file(place: &Place, name: &str) {
    eventually(name, || place.work(name).exists().then_some(()));
}

/// Process ids of the children of a process that has one thread.
pub(crate) fn children(pid: u32) -> Vec<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    text.split_ascii_whitespace().map(|pid| pid.parse().unwrap()).collect()
}
