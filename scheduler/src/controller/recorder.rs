//! The machine's inputs in order, written to a file for replays (`--record-inputs FILE`).
//!
//! Off unless asked for. The owner encodes into memory and hands chunks to a thread that writes them: the
//! queue between them is short, so that a slow disk slows the controller by one write and takes no
//! memory. A recording that cannot be written ends, with a word in the log; the daemon goes on.
//!
//! ```text
//!  file   = FORMAT section*
//!  section = Begin (Record)* (Input)* [End]     one for each owner of the journal
//! ```

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use model::time::Timestamp;
use scheduler_codec::input::{FORMAT, Frame, encode_frame};
use scheduler_core::input::Input;
use scheduler_core::state::State;

/// A chunk that is handed over, bytes.
const CHUNK: usize = 64 << 10;
/// Chunks that may wait.
const WAITING_MAX: usize = 4;

/// A recording, shared by all owners of the journal, one after the other.
#[derive(Debug)]
pub struct Recorder {
    chunks: Option<SyncSender<Vec<u8>>>,
    writer: Option<JoinHandle<()>>,
}

/// What one owner records.
#[derive(Debug)]
pub(super) struct Recording {
    chunks: SyncSender<Vec<u8>>,
    pending: Vec<u8>,
    inputs: u64,
}

impl Recorder {
    /// Begins a file; an earlier one of that name is replaced.
    ///
    /// # Errors
    /// If it cannot be made, or the system gives no thread.
    pub fn create(path: &Path) -> std::io::Result<Self> {
        let mut file = File::create(path)?;
        file.write_all(FORMAT)?;
        let (chunks, received) = sync_channel(WAITING_MAX);
        let name = path.display().to_string();
        let write = move || write_all(&received, file, &name);
        let writer = std::thread::Builder::new().name("recorder".to_owned()).spawn(write)?;
        Ok(Self { chunks: Some(chunks), writer: Some(writer) })
    }

    /// An owner begins with a state. Cost: O(everything).
    pub(super) fn begin(&self, state: &State) -> Recording {
        let chunks = self.chunks.clone().expect("it is there until it is dropped");
        let mut recording = Recording { chunks, pending: Vec::with_capacity(2 * CHUNK), inputs: 0 };
        recording.frame(&Frame::Begin);
        state.to_records(|record| recording.frame(&Frame::Record(record)));
        recording.flush();
        recording
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.chunks = None;
        if let Some(writer) = self.writer.take() {
            // It ends once the last owner's end is gone, too; it does not panic.
            let _ = writer.join();
        }
    }
}

impl Recording {
    /// The machine is about to handle an input.
    pub(super) fn input(&mut self, now: Timestamp, input: &Input) {
        self.inputs += 1;
        self.frame(&Frame::Input(now, input.clone()));
    }

    fn frame(&mut self, frame: &Frame) {
        encode_frame(frame, &mut self.pending);
        if self.pending.len() >= CHUNK {
            self.flush();
        }
    }

    /// Hands over what there is; waits only where four chunks wait already.
    pub(super) fn flush(&mut self) {
        if !self.pending.is_empty() {
            // A writer that gave up has said so.
            let _ = self.chunks.send(std::mem::take(&mut self.pending));
        }
    }

    /// The owner ends in this state. Cost: O(everything).
    pub(super) fn end(mut self, state: &State) {
        let inputs = self.inputs;
        self.frame(&Frame::End { digest: scheduler_codec::digest(state), inputs });
        self.flush();
    }
}

fn write_all(chunks: &Receiver<Vec<u8>>, mut file: File, name: &str) {
    for chunk in chunks {
        if let Err(error) = file.write_all(&chunk) {
            tracing::error!("the recording of inputs ends: {name}: {error}");
            return;
        }
    }
}
