//! `sluice-pmix`: serves the tasks of one step on one node by PMIx, with the system's `libpmix`.
//!
//! Started by the step's supervisor, with the rights of the job's user and outside the step's cgroup, before the first
//! task. Standard input is the exchange stream, in both directions; descriptor 3 is the step's specification; descriptor 4 takes
//! one answer, then it is closed: what each task's environment must hold, or why there is no service.
//! It ends when the exchange stream does, and takes its folder along.
//!
//! ```text
//!  tasks ◄── libpmix (its own threads) ──► Service ◄── exchange ──► supervisor ──► srun ──► the other nodes
//! ```
//!
//! A library of this size, with threads, has no place in a supervisor that must outlive everything; a step that wants no PMIx
//! does not pay for it. Exit status: 0 served, 1 no service (said in the answer).

mod job;
mod library;
mod service;

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::sync::Arc;

use executor_supervisor::exchange::Decoder;
use executor_supervisor::spec::Spec;

use crate::service::{Environments, Service};

fn main() -> ExitCode {
    // Before anything opens files: these descriptors are the supervisor's gifts.
    let (exchange, spec, mut answer) = library::gifts();
    match begin(&exchange, spec) {
        Ok((service, environments)) => {
            let told = answer.write_all(&listed(&environments));
            drop(answer);
            if told.is_ok() {
                serve(&service, exchange);
            }
            service.end();
            ExitCode::SUCCESS
        }
        Err(sentence) => {
            // Where nobody listens, nobody needs to know.
            let _ = answer.write_all(format!("E{sentence}").as_bytes());
            ExitCode::FAILURE
        }
    }
}

fn begin(exchange: &UnixStream, mut spec: File) -> Result<(Arc<Service>, Environments), String> {
    let mut bytes = Vec::new();
    spec.read_to_end(&mut bytes).map_err(|error| format!("the specification: {error}"))?;
    let spec = Spec::decode(&bytes).map_err(|error| format!("the specification {error}"))?;
    let job = job::Job::of(&spec).ok_or("the specification asks for no PMIx")?;
    let writer = exchange.try_clone().map_err(|error| format!("the exchange stream: {error}"))?;
    Service::start(job, writer)
}

/// The answer: for each task its entries, each ended by a zero byte, and a zero byte behind them.
fn listed(environments: &[Vec<Vec<u8>>]) -> Vec<u8> {
    let mut bytes = b"K".to_vec();
    for entries in environments {
        for entry in entries {
            bytes.extend_from_slice(entry);
            bytes.push(0);
        }
        bytes.push(0);
    }
    bytes
}

/// Until the exchange stream ends.
fn serve(service: &Arc<Service>, mut exchange: UnixStream) {
    let mut decoder = Decoder::default();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match exchange.read(&mut buffer) {
            Ok(0) => return,
            Ok(count) => decoder.push(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
        loop {
            match decoder.next_message() {
                Ok(Some(message)) => service.take(message),
                Ok(None) => break,
                Err(_) => return,
            }
        }
    }
}
