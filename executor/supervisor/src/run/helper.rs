//! The program that serves the tasks of an MPI step in this process's place (PMIx).
//!
//! It runs with the user's rights outside the step's cgroup, gets the exchange stream, and says once what each task's environment
//! must hold. It ends when the stream does, which is when the tasks have ended; one that does not is killed like any other
//! helper that takes too long.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use executor_supervisor::SPEC_FILE;
use executor_supervisor::frame::{ALL_RANKS, Stream};
use executor_supervisor::spec::mpi::{Server, remove_folders};
use nix::libc;

use super::{Run, Why, entry};
use crate::child;
use crate::guard;
use crate::streams::{Input, Output};
use crate::sys::{self, Forked};

/// How long it may take to say what tasks need.
const ANSWER_MAX: Duration = Duration::from_secs(60);
/// Longest answer.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

impl Run {
    /// Starts the helper of the step, where it has one. The error is a sentence: the step cannot be.
    pub(super) fn start_helper(&mut self) -> Result<(), String> {
        let Some(mpi) = self.spec.mpi.as_deref() else { return Ok(()) };
        let Server::Helper(program) = &mpi.server else { return Ok(()) };
        let program = program.clone();
        let failed = |error: std::io::Error| format!("{}: {error}", String::from_utf8_lossy(&program));
        let (ours, theirs) = sys::socket_pair().map_err(failed)?;
        let (answer, answering) = sys::pipe().map_err(failed)?;
        // Opened anew: the lock belongs to the open file that this process has.
        let spec = child::c_string(SPEC_FILE.as_bytes())?;
        let spec = sys::open(&spec, libc::O_RDONLY, 0).map_err(failed)?;
        let pid = match sys::fork_into(None).map_err(failed)? {
            Forked::Child => become_helper(&self.spec, &program, [&theirs, &spec, &answering]),
            Forked::Parent(pid) => pid,
        };
        drop((theirs, spec, answering));
        self.helper = Some(pid);
        let environments = hear(&answer)?;
        if environments.len() != self.spec.tasks.len() {
            return Err(format!(
                "{} served {} tasks of {}",
                String::from_utf8_lossy(&program),
                environments.len(),
                self.spec.tasks.len()
            ));
        }
        for (task, entries) in self.spec.tasks.iter_mut().zip(environments) {
            task.environment.extend(entries);
        }
        let writer = sys::keep(ours.as_raw_fd()).map_err(failed)?;
        let mut input = Input::new(Stream::Exchange);
        input.add(ALL_RANKS, writer, false).map_err(failed)?;
        self.streams.exchange = Some(input);
        let output = Output::new(ALL_RANKS, Stream::Exchange, ours).map_err(failed)?;
        self.streams.outputs.push(output);
        Ok(())
    }

    /// The tasks have ended: the helper may go, and has a while for it.
    pub(super) fn dismiss_helper(&mut self) {
        let Some(pid) = self.helper.take() else { return };
        self.helpers.push((pid, Instant::now()));
        self.streams.exchange = None;
        if let Some(output) = self.streams.outputs.first_mut() {
            output.hang_up();
        }
    }

    /// It has ended before the tasks have: they would wait for ever.
    pub(super) fn helper_lost(&mut self) {
        self.say(&format!("*** STEP {}.{}: its PMIx server has ended ***", self.spec.job_id, self.spec.step));
        self.end_step(Why::BadExit, self.spec.kill_wait_ms, "");
    }

    /// Takes away what a helper may have left.
    pub(super) fn clean_up_after_helper(&self) {
        if let Some(mpi) = self.spec.mpi.as_deref().filter(|mpi| mpi.server != Server::Pmi) {
            // It takes it away itself, as a rule.
            remove_folders(&mpi.folder, &|_| false);
        }
    }
}

/// Reads the answer. The error is a sentence.
fn hear(answer: &OwnedFd) -> Result<Vec<Vec<Vec<u8>>>, String> {
    let deadline = Instant::now() + ANSWER_MAX;
    let mut bytes = Vec::new();
    let mut buffer = [0_u8; 8192];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let mut fds = [entry(answer.as_raw_fd(), libc::POLLIN)];
        let waited = sys::poll(&mut fds, i32::try_from(left.as_millis()).unwrap_or(i32::MAX));
        if waited.is_err() || fds[0].revents == 0 && left.is_zero() {
            return Err("the PMIx server does not answer".to_owned());
        }
        if fds[0].revents == 0 {
            continue;
        }
        match sys::read(answer.as_fd(), &mut buffer) {
            Ok(0) => break,
            Ok(count) if bytes.len() < ANSWER_BYTES_MAX => bytes.extend_from_slice(&buffer[..count]),
            Ok(_) => return Err("the PMIx server says too much".to_owned()),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(format!("the PMIx server: {error}")),
        }
    }
    match bytes.split_first() {
        Some((b'K', rest)) => Ok(listed(rest)),
        Some((b'E', rest)) => Err(String::from_utf8_lossy(rest).into_owned()),
        _ => Err("the PMIx server could not be started".to_owned()),
    }
}

/// Entries that end in a zero byte; an empty one ends a task's.
fn listed(bytes: &[u8]) -> Vec<Vec<Vec<u8>>> {
    let (mut tasks, mut entries) = (Vec::new(), Vec::new());
    for entry in bytes.split_inclusive(|byte| *byte == 0).filter_map(|entry| entry.strip_suffix(&[0])) {
        if entry.is_empty() {
            tasks.push(std::mem::take(&mut entries));
        } else {
            entries.push(entry.to_vec());
        }
    }
    tasks
}

/// Between fork and exec: the user's rights, three descriptors, nothing of the environment but where programs are.
fn become_helper(spec: &executor_supervisor::spec::Spec, program: &[u8], gifts: [&OwnedFd; 3]) -> ! {
    sys::give_signals_back();
    sys::new_group();
    let [exchange, file, answer] = gifts;
    // To high places first, so that none is overwritten before it has been moved.
    let lowered = guard::lower().map_err(std::io::Error::other);
    let placed = lowered.and_then(|()| sys::become_user(spec.uid, spec.gid, &spec.groups)).and_then(|()| {
        let (file, answer) =
            (sys::keep_above(file.as_raw_fd(), 16)?, sys::keep_above(answer.as_raw_fd(), 16)?);
        sys::place(exchange.as_fd(), 0)?;
        sys::put_at(file, 3)?;
        sys::put_at(answer, 4)
    });
    if placed.is_err() {
        sys::exit_now(1);
    }
    let _ = sys::change_dir(c"/");
    if let Ok(path) = CString::new(program) {
        let environment = [c"PATH=/usr/bin:/bin".to_owned(), c"LC_ALL=C".to_owned()];
        sys::execute(&path, std::slice::from_ref(&path), &environment);
    }
    sys::exit_now(1)
}

#[cfg(test)]
mod tests {
    use super::listed;

    #[test]
    fn answers_are_read() {
        let all = listed(b"A=1\0B=2\0\0\0C=\0\0");
        assert_eq!(all, [vec![b"A=1".to_vec(), b"B=2".to_vec()], vec![], vec![b"C=".to_vec()]]);
        assert!(listed(b"").is_empty());
    }
}
