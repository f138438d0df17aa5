//! What a task's process does between fork and exec.
//!
//! It runs with the submitter's rights from `become_user` on, and opens every file after that: what the
//! submitter may not read or write fails here as it would for them. It never returns. A failure before
//! exec is told to the supervisor through the report pipe, whose end means that exec has happened.

use std::borrow::Cow;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use executor_supervisor::spec::{Spec, Stdio, Task};
use nix::libc;

use crate::tree::Tree;
use crate::{guard, inside, sys};

/// Ends of the task's streams that the supervisor holds the other ends of, by stream; `None`: a file.
#[derive(Default)]
pub(crate) struct Ends {
    pub(crate) streams: [Option<OwnedFd>; 3],
    /// The task's side of a terminal, for all three.
    pub(crate) terminal: Option<OwnedFd>,
    /// Each ends when a task has opened, and so emptied, a file that this one writes to as well.
    pub(crate) emptied: Vec<OwnedFd>,
    /// Held until this task has opened its files.
    pub(crate) opening: Option<OwnedFd>,
    /// The task's end of its socket to the server of MPI tasks.
    pub(crate) pmi: Option<OwnedFd>,
}

impl Ends {
    /// Every descriptor that the task will need.
    pub(crate) fn all(&self) -> impl Iterator<Item = &OwnedFd> {
        let some = self.streams.iter().flatten().chain(&self.terminal).chain(&self.emptied);
        some.chain(&self.opening).chain(&self.pmi)
    }
}

/// Slurm's exit status for "its files could not be set up": as a signal.
pub(crate) const SETUP_FAILED_SIGNAL: u32 = 53;

/// How a daemon's message begins in a job's output.
const PREFIX: &str = "slurmstepd: error: ";
/// Before a sentence in the report pipe: the task ends by itself, with a code of its own.
pub(crate) const NOTED: u8 = 0;

/// Ends a task before anything of it was set up; touches no descriptor.
pub(crate) fn give_up(sentence: &str, report: &OwnedFd) -> ! {
    let _ = sys::write(report.as_fd(), sentence.as_bytes());
    sys::exit_now(1)
}

/// Becomes the task at `index`. This process has a specification of its own: it takes the environment out of it.
pub(crate) fn become_task(spec: &mut Spec, index: usize, ends: Ends, tree: &Tree, report: &OwnedFd) -> ! {
    let environment = std::mem::take(&mut spec.environment);
    let task = &spec.tasks[index];
    let joined = guard::lower().and_then(|()| tree.join());
    let failed = match joined.and_then(|()| prepare(spec, task, environment, ends)) {
        Ok(environment) => run_program(spec, task, environment, report),
        Err(sentence) => sentence,
    };
    let _ = sys::write(report.as_fd(), failed.as_bytes());
    sys::exit_now(1)
}

/// Identity, folder and streams; the task's whole environment, made of the step's. The error is a sentence for the
/// administrator.
fn prepare(
    spec: &Spec,
    task: &Task,
    mut environment: Vec<Vec<u8>>,
    mut ends: Ends,
) -> Result<Vec<Vec<u8>>, String> {
    sys::give_signals_back();
    match &ends.terminal {
        Some(terminal) => {
            sys::new_session();
            sys::take_terminal(terminal.as_fd());
        }
        None => sys::new_group(),
    }
    let refused = set_limits(spec);
    sys::become_user(spec.uid, spec.gid, &spec.groups)
        .map_err(|error| format!("cannot become user {}: {}", spec.uid, words(&error)))?;
    sys::set_umask(spec.umask);
    let missing_dir = enter_work_dir(spec, task)?;
    let pmi = ends.pmi.take();
    open_streams(task, ends)?;
    bind(task);
    refused.iter().for_each(|line| say(line));
    if let Some(error) = missing_dir {
        let dir = String::from_utf8_lossy(&spec.work_dir);
        let line = format!("couldn't chdir to `{dir}': {}: going to /tmp instead", words(&error));
        // Slurm's daemon tries twice and says so twice.
        say(&line);
        say(&line);
    }
    add_own(&mut environment, task);
    if let Some(socket) = pmi {
        offer_pmi(spec, task, socket, &mut environment)?;
    }
    Ok(environment)
}

/// Leaves the socket open for the program, and tells it where it is, as Slurm's PMI-2 plugin does.
fn offer_pmi(
    spec: &Spec,
    task: &Task,
    socket: OwnedFd,
    environment: &mut Vec<Vec<u8>>,
) -> Result<(), String> {
    let number =
        sys::hand_on(socket).map_err(|error| format!("cannot hand on a socket: {}", words(&error)))?;
    let size = spec.mpi.as_ref().map_or(spec.tasks.len(), |mpi| mpi.places.len());
    for (name, value) in [
        ("PMI_FD", number.to_string()),
        ("PMI_JOBID", format!("{}.{}", spec.job_id, spec.step)),
        ("PMI_RANK", task.rank.to_string()),
        ("PMI_SIZE", size.to_string()),
    ] {
        set(environment, format!("{name}={value}").into_bytes());
    }
    Ok(())
}

/// Sets the resource limits; answers what is to be said of those that the submitter chose and cannot have.
fn set_limits(spec: &Spec) -> Vec<String> {
    let mut refused = Vec::new();
    for limit in &spec.rlimits {
        if let Err(error) = sys::set_limit(limit.resource, limit.soft)
            && limit.chosen
        {
            let (name, soft) = (limit_name(limit.resource), limit.soft);
            refused.push(format!("Can't propagate {name} of {soft} from submit host: {}", words(&error)));
        }
    }
    refused
}

fn limit_name(resource: u32) -> &'static str {
    match resource {
        libc::RLIMIT_CPU => "RLIMIT_CPU",
        libc::RLIMIT_FSIZE => "RLIMIT_FSIZE",
        libc::RLIMIT_DATA => "RLIMIT_DATA",
        libc::RLIMIT_STACK => "RLIMIT_STACK",
        libc::RLIMIT_CORE => "RLIMIT_CORE",
        libc::RLIMIT_RSS => "RLIMIT_RSS",
        libc::RLIMIT_NPROC => "RLIMIT_NPROC",
        libc::RLIMIT_NOFILE => "RLIMIT_NOFILE",
        libc::RLIMIT_MEMLOCK => "RLIMIT_MEMLOCK",
        libc::RLIMIT_AS => "RLIMIT_AS",
        _ => "limit",
    }
}

/// Binds the task to its processors, and says it where that was asked for. A binding that the kernel refuses is none.
fn bind(task: &Task) {
    let bound = task.cpus.is_empty() || sys::set_affinity(&task.cpus).is_ok();
    if task.announce.ends_with(b"\n") {
        // Said of GPUs alone.
        write_all(2, &task.announce);
    } else if !task.announce.is_empty() {
        let cpus = if task.cpus.is_empty() { sys::affinity() } else { task.cpus.clone() };
        let outcome = match (task.cpus.is_empty(), bound) {
            (true, _) => "",
            (false, true) => " set",
            (false, false) => " FAILED",
        };
        let rest = format!("{}]: mask {}{outcome}\n", sys::own_pid(), mask(&cpus));
        write_all(2, &[&task.announce, rest.as_bytes()].concat());
    }
}

/// `0x5` of the processors 0 and 2.
fn mask(cpus: &[u32]) -> String {
    let most = cpus.iter().max().copied().unwrap_or(0);
    let digit =
        |at: u32| cpus.iter().filter(|cpu| **cpu / 4 == at).fold(0, |bits, cpu| bits | 1_u32 << (cpu % 4));
    let digits: String = (0..=most / 4).rev().map(|at| format!("{:x}", digit(at))).collect();
    format!("0x{digits}")
}

/// Enters the working directory, or `/tmp`; the error of the former where it came to that.
fn enter_work_dir(spec: &Spec, task: &Task) -> Result<Option<io::Error>, String> {
    let dir = c_string(&spec.work_dir)?;
    if sys::change_dir(&dir).is_ok() {
        return Ok(None);
    }
    // It may be there once the folders of the output files are.
    for stdio in [&task.stdout, &task.stderr] {
        if let Stdio::File { path, .. } = stdio {
            make_folders_above(path);
        }
    }
    let Err(error) = sys::change_dir(&dir) else { return Ok(None) };
    sys::change_dir(c"/tmp").map_err(|error| format!("cannot enter /tmp: {}", words(&error)))?;
    Ok(Some(error))
}

fn open_streams(task: &Task, ends: Ends) -> Result<(), String> {
    let Ends { streams: [input, output, error], terminal, emptied, opening: _opening, pmi: _ } = ends;
    for end in &emptied {
        // Nothing is ever written there. A task that cannot open its files ends, and lets go of it too.
        let _ = sys::read(end.as_fd(), &mut [0]);
    }
    if let Some(terminal) = terminal {
        for target in 0..3 {
            put(&terminal, target)?;
        }
        return Ok(());
    }
    match (input, &task.stdin) {
        (Some(end), _) => put(&end, 0)?,
        (None, Stdio::File { path, .. }) => put(&open_file(path, libc::O_RDONLY)?, 0)?,
        // A supervisor's own standard input is that already.
        (None, _) => {}
    }
    for (target, end, stdio) in [(1, output, &task.stdout), (2, error, &task.stderr)] {
        match (end, stdio) {
            (Some(end), _) => put(&end, target)?,
            (None, Stdio::File { path, truncate }) => {
                let truncate = if *truncate { libc::O_TRUNC } else { 0 };
                let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_APPEND | truncate;
                put(&open_output(path, flags)?, target)?;
            }
            (None, Stdio::Output) => {
                sys::share_output(target)
                    .map_err(|error| format!("cannot share output: {}", words(&error)))?;
            }
            (None, Stdio::Null | Stdio::Stream | Stdio::Pty) => {
                put(&open_file(b"/dev/null", libc::O_WRONLY)?, target)?;
            }
        }
    }
    Ok(())
}

fn put(fd: &OwnedFd, target: i32) -> Result<(), String> {
    sys::place(fd.as_fd(), target)
        .map_err(|error| format!("cannot set up stream {target}: {}", words(&error)))
}

fn open_file(path: &[u8], flags: i32) -> Result<OwnedFd, String> {
    sys::open(&c_string(path)?, flags, 0o666)
        .map_err(|error| format!("cannot open {}: {}", String::from_utf8_lossy(path), words(&error)))
}

/// Opens an output file; missing folders above it are made, as Slurm 26.05 does.
fn open_output(path: &[u8], flags: i32) -> Result<OwnedFd, String> {
    match sys::open(&c_string(path)?, flags, 0o666) {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
            make_folders_above(path);
            open_file(path, flags)
        }
        Err(error) => Err(format!("cannot open {}: {}", String::from_utf8_lossy(path), words(&error))),
        Ok(fd) => Ok(fd),
    }
}

/// What cannot be made shows when the file is opened again.
fn make_folders_above(path: &[u8]) {
    for (at, byte) in path.iter().enumerate().skip(1) {
        if *byte == b'/'
            && let Ok(folder) = CString::new(&path[..at])
        {
            let _ = sys::make_dir(&folder, 0o755);
        }
    }
}

/// Over the step's entries the task's own, and the process's id.
fn add_own(environment: &mut Vec<Vec<u8>>, task: &Task) {
    for entry in &task.environment {
        set(environment, entry.clone());
    }
    set(environment, format!("SLURM_TASK_PID={}", sys::own_pid()).into_bytes());
}

fn name_of(entry: &[u8]) -> &[u8] {
    entry.split(|byte| *byte == b'=').next().unwrap_or(entry)
}

pub(crate) fn set(environment: &mut Vec<Vec<u8>>, entry: Vec<u8>) {
    match environment.iter_mut().find(|old| name_of(old) == name_of(&entry)) {
        Some(old) => *old = entry,
        None => environment.push(entry),
    }
}

pub(crate) fn value_of<'a>(environment: &'a [Vec<u8>], name: &[u8]) -> Option<&'a [u8]> {
    environment.iter().find(|entry| name_of(entry) == name).and_then(|entry| entry.get(name.len() + 1..))
}

/// Prologs, then exec. Comes back only with a sentence about a malformed specification.
fn run_program(spec: &Spec, task: &Task, mut environment: Vec<Vec<u8>>, report: &OwnedFd) -> String {
    for prolog in &spec.task_prologs {
        let code = run_prolog(prolog, &mut environment);
        if code != 0 {
            say(&format!("TaskProlog failed status={code}"));
            sys::exit_now(i32::try_from(code).unwrap_or(1));
        }
    }
    let arguments = match &spec.container {
        None => Cow::Borrowed(&task.arguments),
        Some(container) => match inside::enter(container, &task.arguments, &mut environment) {
            Ok(arguments) => Cow::Owned(arguments),
            Err(sentence) => {
                say(&sentence);
                return sentence;
            }
        },
    };
    let Some(program) = arguments.first() else { return "no program".to_owned() };
    let (path, error) = match find_program(program, &environment) {
        Some(path) => {
            let strings = c_string(&path)
                .and_then(|path| Ok((path, c_strings(&arguments)?, into_c_strings(environment)?)));
            match strings {
                Ok((c_path, arguments, environment)) => {
                    let error = execute_patiently(&c_path, &arguments, &environment);
                    (path, error)
                }
                Err(sentence) => return sentence,
            }
        }
        None => (program.clone(), io::Error::from_raw_os_error(libc::ENOENT)),
    };
    let shown = match missing_interpreter(&path, &error) {
        Some(interpreter) => format!("bad interpreter({})", String::from_utf8_lossy(&interpreter)),
        None => String::from_utf8_lossy(&path).into_owned(),
    };
    let sentence = format!("execve(): {shown}: {}", words(&error));
    say(&sentence);
    // The exit code is the task's, as in Slurm; the sentence is for the administrator's log.
    let _ = sys::write(report.as_fd(), &[&[NOTED], sentence.as_bytes()].concat());
    sys::exit_now(error.raw_os_error().unwrap_or(1))
}

/// A script that was just written can be "busy" for an instant: another process that is being started by the
/// same executor still holds a copy of the descriptor it was written through.
fn execute_patiently(path: &CString, arguments: &[CString], environment: &[CString]) -> io::Error {
    for _ in 0..100 {
        let error = sys::execute(path, arguments, environment);
        if error.raw_os_error() != Some(libc::ETXTBSY) {
            return error;
        }
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    io::Error::from_raw_os_error(libc::ETXTBSY)
}

/// The file to execute: as given where it has a slash, else from the task's own PATH, else in its folder.
fn find_program(program: &[u8], environment: &[Vec<u8>]) -> Option<Vec<u8>> {
    let here = || std::env::current_dir().ok().map(|dir| dir.as_os_str().as_bytes().to_vec());
    let joined = |folder: &[u8]| [folder, b"/", program].concat();
    if program.starts_with(b"/") {
        return Some(program.to_vec());
    }
    if program.contains(&b'/') {
        return here().map(|dir| joined(&dir));
    }
    let path = value_of(environment, b"PATH");
    let in_path = path.into_iter().flat_map(|path| path.split(|byte| *byte == b':')).map(joined);
    in_path.chain(here().map(|dir| joined(&dir))).find(|file| is_executable(file))
}

fn is_executable(file: &[u8]) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(Path::new(std::ffi::OsStr::from_bytes(file)))
        .is_ok_and(|facts| facts.is_file() && facts.permissions().mode() & 0o111 != 0)
}

/// The interpreter of a script that is there, when that is what exec did not find.
fn missing_interpreter(path: &[u8], error: &io::Error) -> Option<Vec<u8>> {
    if error.raw_os_error() != Some(libc::ENOENT) {
        return None;
    }
    let text = std::fs::read(Path::new(std::ffi::OsStr::from_bytes(path))).ok()?;
    let line = text.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    let interpreter = line.trim_ascii_start().split(u8::is_ascii_whitespace).next()?;
    Some(interpreter.to_vec())
}

/// Runs a task prolog and does what its output says: `export NAME=value`, `unset NAME`, `print text`.
fn run_prolog(prolog: &[u8], environment: &mut Vec<Vec<u8>>) -> u32 {
    let Ok((reader, writer)) = sys::pipe() else { return 1 };
    let pid = match sys::fork_into(None) {
        Err(_) => return 1,
        Ok(sys::Forked::Child) => {
            let _ = sys::place(writer.as_fd(), 1);
            execute_only(prolog, environment)
        }
        Ok(sys::Forked::Parent(pid)) => pid,
    };
    drop(writer);
    let mut text = Vec::new();
    let mut buffer = [0_u8; 4096];
    while let Ok(count) = sys::read(reader.as_fd(), &mut buffer) {
        if count == 0 || text.len() > 1 << 20 {
            break;
        }
        text.extend_from_slice(&buffer[..count]);
    }
    let code = sys::wait_for(pid);
    for line in text.split(|byte| *byte == b'\n') {
        obey(line.trim_ascii_start(), environment);
    }
    code
}

fn obey(line: &[u8], environment: &mut Vec<Vec<u8>>) {
    if let Some(rest) = line.strip_prefix(b"export ") {
        let entry = rest.trim_ascii_start();
        if entry.contains(&b'=') {
            set(environment, entry.to_vec());
        }
    } else if let Some(rest) = line.strip_prefix(b"unset ") {
        let name = rest.trim_ascii();
        environment.retain(|entry| name_of(entry) != name);
    } else if let Some(rest) = line.strip_prefix(b"print ") {
        write_all(1, &[rest, b"\n"].concat());
    }
}

/// Executes a helper program of the user's, no arguments; exits where it cannot.
fn execute_only(program: &[u8], environment: &[Vec<u8>]) -> ! {
    if let (Ok(path), Ok(environment)) = (c_string(program), c_strings(environment)) {
        let error = sys::execute(&path, std::slice::from_ref(&path), &environment);
        say(&format!("execve(): {}: {}", String::from_utf8_lossy(program), words(&error)));
        sys::exit_now(error.raw_os_error().unwrap_or(1));
    }
    sys::exit_now(1)
}

/// Becomes a task's epilog: the user's rights and environment, no streams.
pub(crate) fn become_epilog(spec: &Spec, task: &Task, tree: &Tree, epilog: &[u8]) -> ! {
    let streams = Task { stdin: Stdio::Null, stdout: Stdio::Null, stderr: Stdio::Null, ..task.clone() };
    let environment = spec.environment.clone();
    let joined = guard::lower().and_then(|()| tree.join());
    match joined.and_then(|()| prepare(spec, &streams, environment, Ends::default())) {
        Ok(environment) => execute_only(epilog, &environment),
        Err(_) => sys::exit_now(1),
    }
}

/// Becomes a writer of one line into the job's own file, with the user's rights.
pub(crate) fn become_note(spec: &Spec, path: &[u8], line: &str) -> ! {
    let open = || {
        guard::lower()?;
        sys::become_user(spec.uid, spec.gid, &spec.groups).map_err(|error| words(&error))?;
        sys::open(&c_string(path)?, libc::O_WRONLY | libc::O_APPEND | libc::O_NONBLOCK, 0)
            .map_err(|error| words(&error))
    };
    let Ok(file) = open() else { sys::exit_now(1) };
    let _ = sys::write(file.as_fd(), &message(line));
    sys::exit_now(0)
}

/// A daemon's message as it stands in a job's output.
pub(crate) fn message(line: &str) -> Vec<u8> {
    format!("{PREFIX}{line}\n").into_bytes()
}

/// Says something in the job's output.
fn say(line: &str) {
    write_all(2, &message(line));
}

fn write_all(target: i32, bytes: &[u8]) {
    if let Ok(fd) = sys::keep(target) {
        let mut rest = bytes;
        while !rest.is_empty() {
            match sys::write(fd.as_fd(), rest) {
                Ok(count) => rest = &rest[count..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }
}

pub(crate) fn words(error: &io::Error) -> String {
    error.raw_os_error().map_or_else(|| error.to_string(), sys::error_text)
}

pub(crate) fn c_string(bytes: &[u8]) -> Result<CString, String> {
    CString::new(bytes).map_err(|_| format!("a zero byte in {:?}", String::from_utf8_lossy(bytes)))
}

pub(crate) fn c_strings(list: &[Vec<u8>]) -> Result<Vec<CString>, String> {
    list.iter().map(|bytes| c_string(bytes)).collect()
}

/// The same of strings that are not needed any more: without a copy where they have room for the zero byte.
fn into_c_strings(list: Vec<Vec<u8>>) -> Result<Vec<CString>, String> {
    let sentence = |error: std::ffi::NulError| {
        format!("a zero byte in {:?}", String::from_utf8_lossy(&error.into_vec()))
    };
    list.into_iter().map(|bytes| CString::new(bytes).map_err(sentence)).collect()
}
