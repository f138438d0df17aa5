//! The launch specification: all that a supervisor must know, decided by the executor.
//!
//! Environment, arguments and paths are bytes and travel as they are. It holds environments, which
//! hold tokens: the file is 0600 of the executor's user and goes with the run folder.

pub mod container;
pub mod mpi;

use crate::wire::{Error, Reader, Writer, checksum};
use container::Container;
use mpi::Mpi;

const MAGIC: &[u8; 4] = b"SLSP";
/// Version 3 had no container, version 4 nothing that serves MPI, version 5 nothing to read back or to sample,
/// version 6 no directory that was only lent.
const VERSION: u16 = 7;

/// Where a task's stream comes from or goes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stdio {
    /// `/dev/null`.
    Null,
    /// Frames to and from the client.
    Stream,
    /// A pseudo terminal, for all three streams at once.
    Pty,
    /// A file, opened with the submitter's rights.
    File {
        /// Absolute, or relative to the working directory.
        path: Vec<u8>,
        /// Empty it first.
        truncate: bool,
    },
    /// Where standard output goes (standard error only).
    Output,
}

/// One process to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// Rank in the whole step.
    pub rank: u32,
    /// Program and arguments; a name without a slash is looked for in the task's PATH.
    pub arguments: Vec<Vec<u8>>,
    /// `NAME=value` entries that are the task's own, over the step's.
    pub environment: Vec<Vec<u8>>,
    /// The kernel's numbers of the processors that it is bound to; empty: not bound.
    pub cpus: Vec<u32>,
    /// The front of a line about the binding, which the task completes and says; empty: it says nothing.
    pub announce: Vec<u8>,
    /// Standard input.
    pub stdin: Stdio,
    /// Standard output.
    pub stdout: Stdio,
    /// Standard error.
    pub stderr: Stdio,
}

/// A resource limit, by the kernel's number (`RLIMIT_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rlimit {
    /// `RLIMIT_*`.
    pub resource: u32,
    /// Soft limit; `u64::MAX` is no limit. The hard limit is raised to it where that is allowed.
    pub soft: u64,
    /// The submitter asked for this one: that it cannot be had is told.
    pub chosen: bool,
}

/// A value for a file of a cgroup's directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The file's name.
    pub file: Vec<u8>,
    /// What is written into it.
    pub value: Vec<u8>,
}

/// A directory of a version 1 hierarchy that every process of the step is put in before it does anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its path.
    pub path: Vec<u8>,
    /// Made for the step and removed after it (its parent exists); else it is the job's and is there.
    pub own: bool,
    /// Written in this order before the first process; a failure is a failed launch.
    pub settings: Vec<Setting>,
}

/// How a value that was read is compared with the one that was meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// Byte for byte, blanks around it left out.
    Exact,
    /// Bytes, which the kernel rounds down to whole pages.
    Bytes,
    /// A list of processors; fewer are allowed.
    Processors,
}

/// A value that the kernel is asked for once the step's limits are set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// What it is, for people: `memory`.
    pub what: String,
    /// The file.
    pub path: Vec<u8>,
    /// What it must hold.
    pub expected: Vec<u8>,
    /// How the two are compared.
    pub measure: Measure,
}

/// A signal before the time limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Warning {
    /// Its number.
    pub signal: u32,
    /// How long after the begin it is sent, ms.
    pub after_ms: u64,
    /// To the first task's process alone, not to its descendants.
    pub first_process_only: bool,
}

/// The specification.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spec {
    /// Job.
    pub job_id: u32,
    /// `batch`, `interactive` or a number.
    pub step: String,
    /// Which start of the job.
    pub run: u32,
    /// The node's name, for messages.
    pub node: String,
    /// Who it runs as.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// Further groups.
    pub groups: Vec<u32>,
    /// Working directory.
    pub work_dir: Vec<u8>,
    /// File mode mask.
    pub umask: u32,
    /// Limits of the submitter.
    pub rlimits: Vec<Rlimit>,
    /// A cgroup2 directory to make for the run, its parent exists; empty: none.
    pub cgroup: Vec<u8>,
    /// It may be there already, with CPU time of others, and is left for the executor to clear, as long as that lives.
    pub cgroup_lent: bool,
    /// It does not only track: limits are in it or above it, and a step that cannot be put there is not started.
    pub cgroup_holds: bool,
    /// Written into it before the first process; a failure is a failed launch.
    pub cgroup_settings: Vec<Setting>,
    /// Directories of version 1 hierarchies.
    pub cgroups_v1: Vec<Group>,
    /// The directory among these that counts the step's memory; empty: none does.
    pub memory_group: Vec<u8>,
    /// What is read back before the first process; a difference is a failed launch.
    pub readings: Vec<Reading>,
    /// What the executor has read for itself, in words; empty: nothing.
    pub told: String,
    /// Time between two looks at what the tasks use, ms; 0: none but when somebody asks.
    pub sample_ms: u64,
    /// `NAME=value` entries of every task.
    pub environment: Vec<Vec<u8>>,
    /// What to start here.
    pub tasks: Vec<Task>,
    /// From begin to SIGTERM, ms, on monotonic time. None: no limit.
    pub limit_ms: Option<u64>,
    /// From SIGTERM to SIGKILL, ms.
    pub kill_wait_ms: u64,
    /// A signal on the way to the limit.
    pub warning: Option<Warning>,
    /// What a client must show to attach. Empty: nobody may.
    pub cookie: Vec<u8>,
    /// How long the step lives without a client, ms (streamed steps only).
    pub client_grace_ms: u64,
    /// Rows and columns of the pseudo terminal.
    pub window: (u16, u16),
    /// One bad exit ends the other tasks.
    pub kill_on_bad_exit: bool,
    /// Program run before each task, as the user; its output may change the task's environment.
    pub task_prologs: Vec<Vec<u8>>,
    /// Program run after each task, as the user.
    pub task_epilogs: Vec<Vec<u8>>,
    /// What every task is put into; `None`: it runs on the node as it is.
    pub container: Option<Box<Container>>,
    /// What serves the tasks of an MPI program; `None`: nothing does.
    pub mpi: Option<Box<Mpi>>,
}

impl Spec {
    /// True for a batch script's step.
    #[must_use]
    pub fn is_batch(&self) -> bool {
        self.step == "batch"
    }

    /// The bytes of the file.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(8192);
        bytes.extend_from_slice(MAGIC);
        let mut out = Writer(&mut bytes);
        out.u16(VERSION);
        out.u32(self.job_id);
        out.bytes(self.step.as_bytes());
        out.u32(self.run);
        out.bytes(self.node.as_bytes());
        out.u32(self.uid);
        out.u32(self.gid);
        out.list(&self.groups, |out, group| out.u32(*group));
        out.bytes(&self.work_dir);
        out.u32(self.umask);
        out.list(&self.rlimits, |out, limit| {
            out.u32(limit.resource);
            out.u64(limit.soft);
            out.bool(limit.chosen);
        });
        out.bytes(&self.cgroup);
        out.bool(self.cgroup_holds);
        out.list(&self.cgroup_settings, put_setting);
        out.list(&self.cgroups_v1, |out, group| {
            out.bytes(&group.path);
            out.bool(group.own);
            out.list(&group.settings, put_setting);
        });
        out.bytes(&self.memory_group);
        put_strings(&mut out, &self.environment);
        out.list(&self.tasks, put_task);
        out.option(self.limit_ms.as_ref(), |out, limit| out.u64(*limit));
        out.u64(self.kill_wait_ms);
        out.option(self.warning.as_ref(), |out, warning| {
            out.u32(warning.signal);
            out.u64(warning.after_ms);
            out.bool(warning.first_process_only);
        });
        out.bytes(&self.cookie);
        out.u64(self.client_grace_ms);
        out.u16(self.window.0);
        out.u16(self.window.1);
        out.bool(self.kill_on_bad_exit);
        put_strings(&mut out, &self.task_prologs);
        put_strings(&mut out, &self.task_epilogs);
        out.option(self.container.as_ref(), |out, container| container.put(out));
        out.option(self.mpi.as_ref(), |out, mpi| mpi.put(out));
        out.list(&self.readings, put_reading);
        out.bytes(self.told.as_bytes());
        out.u64(self.sample_ms);
        out.bool(self.cgroup_lent);
        let sum = checksum(out.0);
        out.u64(sum);
        bytes
    }

    /// Reads the bytes of a file.
    ///
    /// # Errors
    /// Torn, damaged, or of a version that is not known.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let (body, sum) = bytes.split_last_chunk::<8>().ok_or(Error::Short { what: "specification" })?;
        if checksum(body) != u64::from_le_bytes(*sum) {
            return Err(Error::Checksum);
        }
        let mut fields = Reader(body);
        if fields.take(4, "specification")? != MAGIC {
            return Err(Error::Magic);
        }
        let version = fields.u16("version")?;
        if !(3..=VERSION).contains(&version) {
            return Err(Error::Version(version));
        }
        let mut spec = Self {
            readings: Vec::new(),
            told: String::new(),
            sample_ms: 0,
            cgroup_lent: false,
            job_id: fields.u32("job")?,
            step: fields.text("step")?,
            run: fields.u32("run")?,
            node: fields.text("node")?,
            uid: fields.u32("uid")?,
            gid: fields.u32("gid")?,
            groups: fields.list("groups", |fields| fields.u32("group"))?,
            work_dir: fields.bytes("working directory")?,
            umask: fields.u32("umask")?,
            rlimits: fields.list("limits", |fields| {
                let (resource, soft) = (fields.u32("resource")?, fields.u64("limit")?);
                Ok(Rlimit { resource, soft, chosen: fields.bool("choice")? })
            })?,
            cgroup: fields.bytes("cgroup")?,
            cgroup_holds: fields.bool("hold")?,
            cgroup_settings: fields.list("settings", get_setting)?,
            cgroups_v1: fields.list("groups", |fields| {
                Ok(Group {
                    path: fields.bytes("group")?,
                    own: fields.bool("group's owner")?,
                    settings: fields.list("settings", get_setting)?,
                })
            })?,
            memory_group: fields.bytes("memory group")?,
            environment: get_strings(&mut fields, "environment")?,
            tasks: fields.list("tasks", get_task)?,
            limit_ms: fields.option("time limit", |fields| fields.u64("time limit"))?,
            kill_wait_ms: fields.u64("kill wait")?,
            warning: fields.option("warning", |fields| {
                Ok(Warning {
                    signal: fields.u32("signal")?,
                    after_ms: fields.u64("warning time")?,
                    first_process_only: fields.bool("warning scope")?,
                })
            })?,
            cookie: fields.bytes("cookie")?,
            client_grace_ms: fields.u64("grace")?,
            window: (fields.u16("rows")?, fields.u16("columns")?),
            kill_on_bad_exit: fields.bool("kill on bad exit")?,
            task_prologs: get_strings(&mut fields, "prologs")?,
            task_epilogs: get_strings(&mut fields, "epilogs")?,
            container: match version {
                3 => None,
                _ => fields.option("container", |fields| Container::get(fields).map(Box::new))?,
            },
            mpi: match version {
                3 | 4 => None,
                _ => fields.option("MPI", |fields| Mpi::get(fields).map(Box::new))?,
            },
        };
        if version > 5 {
            spec.readings = fields.list("readings", get_reading)?;
            spec.told = fields.text("what was told")?;
            spec.sample_ms = fields.u64("sampling time")?;
        }
        if version > 6 {
            spec.cgroup_lent = fields.bool("loan")?;
        }
        fields.end("specification")?;
        Ok(spec)
    }
}

fn put_setting(out: &mut Writer<'_>, setting: &Setting) {
    out.bytes(&setting.file);
    out.bytes(&setting.value);
}

fn get_setting(fields: &mut Reader<'_>) -> Result<Setting, Error> {
    Ok(Setting { file: fields.bytes("setting")?, value: fields.bytes("setting")? })
}

fn put_reading(out: &mut Writer<'_>, reading: &Reading) {
    out.bytes(reading.what.as_bytes());
    out.bytes(&reading.path);
    out.bytes(&reading.expected);
    out.u8(match reading.measure {
        Measure::Exact => 0,
        Measure::Bytes => 1,
        Measure::Processors => 2,
    });
}

fn get_reading(fields: &mut Reader<'_>) -> Result<Reading, Error> {
    Ok(Reading {
        what: fields.text("reading")?,
        path: fields.bytes("path")?,
        expected: fields.bytes("value")?,
        measure: match fields.u8("measure")? {
            0 => Measure::Exact,
            1 => Measure::Bytes,
            2 => Measure::Processors,
            _ => return Err(Error::Value { what: "measure" }),
        },
    })
}

fn put_strings(out: &mut Writer<'_>, strings: &[Vec<u8>]) {
    out.list(strings, |out, string| out.bytes(string));
}

fn get_strings(fields: &mut Reader<'_>, what: &'static str) -> Result<Vec<Vec<u8>>, Error> {
    fields.list(what, |fields| fields.bytes(what))
}

fn put_stdio(out: &mut Writer<'_>, stdio: &Stdio) {
    match stdio {
        Stdio::Null => out.u8(0),
        Stdio::Stream => out.u8(1),
        Stdio::Pty => out.u8(2),
        Stdio::File { path, truncate } => {
            out.u8(3);
            out.bytes(path);
            out.bool(*truncate);
        }
        Stdio::Output => out.u8(4),
    }
}

fn get_stdio(fields: &mut Reader<'_>) -> Result<Stdio, Error> {
    Ok(match fields.u8("stream")? {
        0 => Stdio::Null,
        1 => Stdio::Stream,
        2 => Stdio::Pty,
        3 => Stdio::File { path: fields.bytes("path")?, truncate: fields.bool("open mode")? },
        4 => Stdio::Output,
        _ => return Err(Error::Value { what: "stream" }),
    })
}

fn put_task(out: &mut Writer<'_>, task: &Task) {
    out.u32(task.rank);
    put_strings(out, &task.arguments);
    put_strings(out, &task.environment);
    out.list(&task.cpus, |out, cpu| out.u32(*cpu));
    out.bytes(&task.announce);
    put_stdio(out, &task.stdin);
    put_stdio(out, &task.stdout);
    put_stdio(out, &task.stderr);
}

fn get_task(fields: &mut Reader<'_>) -> Result<Task, Error> {
    Ok(Task {
        rank: fields.u32("rank")?,
        arguments: get_strings(fields, "arguments")?,
        environment: get_strings(fields, "environment")?,
        cpus: fields.list("processors", |fields| fields.u32("processor"))?,
        announce: fields.bytes("announcement")?,
        stdin: get_stdio(fields)?,
        stdout: get_stdio(fields)?,
        stderr: get_stdio(fields)?,
    })
}

#[cfg(test)]
mod tests {
    use super::container::{Bind, Container};
    use super::mpi::{Mpi, Server};
    use super::{Group, Measure, Reading, Rlimit, Setting, Spec, Stdio, Task, Warning};

    #[test]
    fn reads_back_byte_for_byte_and_refuses_cuts() {
        let spec = Spec {
            job_id: 7,
            step: "0".to_owned(),
            run: 2,
            node: "c1".to_owned(),
            uid: 2001,
            gid: 2001,
            groups: vec![4, 2001],
            work_dir: b"/tmp/\xff".to_vec(),
            umask: 0o27,
            rlimits: vec![Rlimit { resource: 7, soft: u64::MAX, chosen: true }],
            cgroup: b"/c".to_vec(),
            cgroup_lent: true,
            cgroup_holds: true,
            cgroup_settings: vec![Setting { file: b"memory.max".to_vec(), value: b"1".to_vec() }],
            cgroups_v1: vec![Group {
                path: b"/g".to_vec(),
                own: true,
                settings: vec![Setting { file: b"cpuset.cpus".to_vec(), value: b"0-1".to_vec() }],
            }],
            memory_group: b"/g".to_vec(),
            readings: vec![Reading {
                what: "cpus".to_owned(),
                path: b"/g/cpuset.cpus".to_vec(),
                expected: b"0-1".to_vec(),
                measure: Measure::Processors,
            }],
            told: "devices 1 program".to_owned(),
            sample_ms: 30_000,
            environment: vec![b"A=line\nline".to_vec(), b"B=\x80\xfe".to_vec()],
            tasks: vec![Task {
                rank: 3,
                arguments: vec![b"/bin/sh".to_vec(), Vec::new()],
                environment: vec![b"SLURM_PROCID=3".to_vec()],
                cpus: vec![0, 7],
                announce: b"cpu-bind=".to_vec(),
                stdin: Stdio::Stream,
                stdout: Stdio::File { path: b"/tmp/o".to_vec(), truncate: true },
                stderr: Stdio::Output,
            }],
            limit_ms: Some(60_000),
            kill_wait_ms: 2000,
            warning: Some(Warning { signal: 10, after_ms: 40_000, first_process_only: true }),
            cookie: vec![1, 2, 3],
            client_grace_ms: 60_000,
            window: (24, 80),
            kill_on_bad_exit: true,
            task_prologs: vec![b"/p".to_vec()],
            task_epilogs: Vec::new(),
            container: Some(Box::new(Container {
                command: vec![b"/usr/bin/apptainer".to_vec(), b"exec".to_vec()],
                image: b"/i.sif".to_vec(),
                binds: vec![Bind {
                    source: b"/a".to_vec(),
                    target: b"/b".to_vec(),
                    read_only: true,
                    asked: false,
                }],
                kept: vec![b"PATH".to_vec()],
                ..Container::default()
            })),
            mpi: Some(Box::new(Mpi {
                server: Server::Helper(b"/h".to_vec()),
                node_index: 1,
                nodes: vec!["c1".to_owned(), "c2".to_owned()],
                places: vec![0, 1, 1],
                folder: b"/f".to_vec(),
            })),
        };
        let bytes = spec.encode();
        assert_eq!(Spec::decode(&bytes), Ok(spec));
        for cut in 0..bytes.len() {
            assert!(Spec::decode(&bytes[..cut]).is_err(), "cut at {cut}");
        }
    }
}
