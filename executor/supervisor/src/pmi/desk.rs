//! The sockets of a node's tasks, and the exchange stream of their server.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use executor_supervisor::exchange::Decoder;
use executor_supervisor::spec::Spec;
use executor_supervisor::spec::mpi::Mpi;

use super::Server;
use crate::sys;

/// Reads and writes for a [`Server`].
pub(crate) struct Desk {
    server: Server,
    /// By task; `None` after the end.
    sockets: Vec<Option<OwnedFd>>,
    decoder: Decoder,
}

impl Desk {
    /// For the tasks of this node; each gets its end from [`Desk::open`].
    pub(crate) fn new(spec: &Spec, mpi: &Mpi) -> Self {
        let ranks: Vec<u32> = spec.tasks.iter().map(|task| task.rank).collect();
        let job = format!("{}.{}", spec.job_id, spec.step);
        Self {
            server: Server::new(job, mpi, &ranks),
            sockets: ranks.iter().map(|_| None).collect(),
            decoder: Decoder::default(),
        }
    }

    /// Makes the socket of a task and gives its end.
    pub(crate) fn open(&mut self, task: usize) -> io::Result<OwnedFd> {
        let (ours, theirs) = sys::socket_pair()?;
        sys::set_nonblocking(ours.as_fd())?;
        self.sockets[task] = Some(ours);
        Ok(theirs)
    }

    /// A task that was never started has left.
    pub(crate) fn never_started(&mut self, task: usize) {
        self.sockets[task] = None;
        self.server.gone(task);
    }

    /// The sockets to wait for, one for each task, and whether something waits to be written there.
    pub(crate) fn sockets(&mut self) -> impl Iterator<Item = (Option<&OwnedFd>, bool)> {
        let server = &mut self.server;
        let waits: Vec<bool> = (0..self.sockets.len()).map(|task| !server.output(task).is_empty()).collect();
        self.sockets.iter().zip(waits).map(|(socket, waits)| (socket.as_ref(), waits))
    }

    /// Reads what a task has said, and answers.
    pub(crate) fn serve(&mut self, task: usize) {
        let Some(socket) = &self.sockets[task] else { return };
        let mut buffer = [0_u8; 8192];
        let fine = match sys::read(socket.as_fd(), &mut buffer) {
            Ok(0) => false,
            Ok(count) => self.server.receive(task, &buffer[..count]),
            Err(error) => matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted),
        };
        if !fine {
            self.never_started(task);
        }
        self.write();
    }

    /// Bytes of the exchange stream have arrived. False: they make no sense.
    pub(crate) fn arrived(&mut self, bytes: &[u8]) -> bool {
        self.decoder.push(bytes);
        loop {
            match self.decoder.next_message() {
                Ok(Some(message)) => {
                    if !self.server.take(message) {
                        return false;
                    }
                }
                Ok(None) => break,
                Err(_) => return false,
            }
        }
        self.write();
        true
    }

    /// Bytes for the exchange stream.
    pub(crate) fn take_exchange(&mut self) -> Vec<u8> {
        self.server.take_exchange()
    }

    /// Why the step is to be ended.
    pub(crate) fn take_abort(&mut self) -> Option<String> {
        self.server.take_abort()
    }

    /// Writes what the tasks take now.
    fn write(&mut self) {
        for task in 0..self.sockets.len() {
            let output = self.server.output(task);
            let Some(socket) = &self.sockets[task] else {
                output.clear();
                continue;
            };
            while !output.is_empty() {
                match sys::write(socket.as_fd(), output) {
                    Ok(count) => drop(output.drain(..count)),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    // A task that has gone is seen when it is read from.
                    Err(_) => break,
                }
            }
        }
    }
}
