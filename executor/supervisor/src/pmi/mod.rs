//! The process-management server of a step's tasks on this node: PMI-1 and PMI-2 on a socket for each task.
//!
//! ```text
//!  New ── init ──► In ── fence ──► Fencing ── all parts are here ──► In … ── finalize, or its end ──► Left
//! ```
//!
//! [`Server`] is pure: bytes of the tasks and of the exchange stream go in, bytes for them come out. What a task puts is
//! kept here; when all tasks of the node have entered a fence, what was put since the last one goes out as
//! this node's part, and the parts of all nodes come back. So a fence of N tasks on M nodes is M messages each way, and each
//! node holds all pairs. Spawning, publishing of names and connecting to other jobs are refused by name.
//!
//! A fence that can never be whole, because a task is gone, ends the step instead of waiting for its time limit.
//! [`Desk`] does the reading and writing. Sources: MPICH's `pmi-1` text ("cmd=… key=value" lines) and the PMI-2 wire of its
//! simple client (six digits of length, then "cmd=…;key=value;"), which Slurm's own libpmi2 speaks too.

mod desk;
mod one;
mod two;

use std::collections::BTreeMap;

use executor_supervisor::exchange::{Message, Pair, decode_pairs, encode_pairs};
use executor_supervisor::spec::mpi::Mpi;

pub(crate) use desk::Desk;

/// What the tasks are told they may use, bytes with the final zero.
const NAME_MAX: usize = 256;
const KEY_MAX: usize = 256;
const VALUE_MAX: usize = 1024;
/// Bytes of all pairs that a node keeps.
const STORE_MAX: usize = 64 * 1024 * 1024;
/// Longest request; a task that sends a longer one loses its connection.
const REQUEST_MAX: usize = 64 * 1024;
/// The key under which the places of ranks are asked for.
const MAPPING: &[u8] = b"PMI_process_mapping";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Language {
    Unknown,
    One,
    Two,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    New,
    In,
    Fencing,
    Left,
}

/// One local task.
struct Member {
    rank: u32,
    language: Language,
    standing: Standing,
    input: Vec<u8>,
    output: Vec<u8>,
    /// Of the request that is being answered, or that waits: a threaded client tells its requests apart by it.
    thread: Option<Vec<u8>>,
}

/// A question for an attribute of the node that nobody has put yet.
struct Waiting {
    member: usize,
    key: Vec<u8>,
    thread: Option<Vec<u8>>,
}

type Store = BTreeMap<Vec<u8>, Vec<u8>>;

/// See the module comment.
pub(crate) struct Server {
    job: String,
    mapping: String,
    size: usize,
    members: Vec<Member>,
    /// Pairs of the step.
    store: Store,
    /// Put here since the last fence.
    fresh: Vec<Pair>,
    /// Attributes of this node.
    node_store: Store,
    waiting: Vec<Waiting>,
    held_bytes: usize,
    /// Fences that this node has sent its part of.
    fences: u32,
    /// The part of the present fence is out.
    part_sent: bool,
    left_told: bool,
    out: Vec<u8>,
    abort: Option<String>,
}

impl Server {
    /// For the local tasks of these ranks, in their order.
    pub(crate) fn new(job: String, mpi: &Mpi, ranks: &[u32]) -> Self {
        let member = |rank: &u32| Member {
            rank: *rank,
            language: Language::Unknown,
            standing: Standing::New,
            input: Vec::new(),
            output: Vec::new(),
            thread: None,
        };
        Self {
            job,
            mapping: mpi.process_mapping(),
            size: mpi.places.len(),
            members: ranks.iter().map(member).collect(),
            store: Store::new(),
            fresh: Vec::new(),
            node_store: Store::new(),
            waiting: Vec::new(),
            held_bytes: 0,
            fences: 0,
            part_sent: false,
            left_told: false,
            out: Vec::new(),
            abort: None,
        }
    }

    /// Bytes of a task. False: it broke the rules, and its connection is to be closed.
    pub(crate) fn receive(&mut self, member: usize, bytes: &[u8]) -> bool {
        self.members[member].input.extend_from_slice(bytes);
        loop {
            let taken = match self.members[member].language {
                Language::Two => two::take(&mut self.members[member].input),
                Language::Unknown | Language::One => one::take(&mut self.members[member].input),
            };
            match taken {
                Ok(Some(request)) => {
                    if self.members[member].language == Language::Two {
                        two::obey(self, member, &request);
                    } else {
                        one::obey(self, member, &request);
                    }
                }
                Ok(None) => return true,
                Err(()) => return false,
            }
        }
    }

    /// The task's connection has ended.
    pub(crate) fn gone(&mut self, member: usize) {
        self.leave(member);
        self.members[member].output.clear();
    }

    /// A message of the exchange stream. False: it is none that belongs here.
    pub(crate) fn take(&mut self, message: Message) -> bool {
        let Message::Whole { fence, parts } = message else { return false };
        if !self.part_sent || fence != self.fences.to_be_bytes() {
            return false;
        }
        for part in &parts {
            let Ok(pairs) = decode_pairs(part) else { return false };
            for (key, value) in pairs {
                self.keep(key, value);
            }
        }
        self.part_sent = false;
        for member in 0..self.members.len() {
            if self.members[member].standing == Standing::Fencing {
                self.members[member].standing = Standing::In;
                match self.members[member].language {
                    Language::Two => two::fenced(self, member),
                    Language::Unknown | Language::One => one::fenced(self, member),
                }
            }
        }
        true
    }

    /// What is to be written to a task.
    pub(crate) fn output(&mut self, member: usize) -> &mut Vec<u8> {
        &mut self.members[member].output
    }

    /// What is to go out on the exchange stream.
    pub(crate) fn take_exchange(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }

    /// Why the step is to be ended; told once.
    pub(crate) fn take_abort(&mut self) -> Option<String> {
        self.abort.take()
    }

    fn keep(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.held_bytes += key.len() + value.len();
        if let Some(old) = self.store.insert(key, value) {
            self.held_bytes -= old.len();
        }
    }

    /// A pair of a task's; it is seen elsewhere after the next fence. `Err` says why not.
    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), &'static str> {
        if key.is_empty() || key.len() >= KEY_MAX {
            return Err("the key is too long");
        }
        if value.len() >= VALUE_MAX {
            return Err("the value is too long");
        }
        if self.held_bytes + key.len() + value.len() > STORE_MAX {
            return Err("the store is full");
        }
        self.keep(key.to_vec(), value.to_vec());
        self.fresh.push((key.to_vec(), value.to_vec()));
        Ok(())
    }

    fn get(&self, key: &[u8]) -> Option<&[u8]> {
        match self.store.get(key) {
            None if key == MAPPING => Some(self.mapping.as_bytes()),
            found => found.map(Vec::as_slice),
        }
    }

    /// Attributes that every task may ask for.
    fn attribute(&self, key: &[u8]) -> Option<Vec<u8>> {
        match key {
            MAPPING => Some(self.mapping.clone().into_bytes()),
            b"universeSize" => Some(self.size.to_string().into_bytes()),
            b"hasNameServ" => Some(b"FALSE".to_vec()),
            _ => None,
        }
    }

    fn put_for_node(&mut self, key: &[u8], value: &[u8]) -> Result<(), &'static str> {
        if key.is_empty() || key.len() >= KEY_MAX || value.len() >= VALUE_MAX {
            return Err("the key or the value is too long");
        }
        if self.held_bytes + key.len() + value.len() > STORE_MAX {
            return Err("the store is full");
        }
        self.held_bytes += key.len() + value.len();
        self.node_store.insert(key.to_vec(), value.to_vec());
        let (due, rest) = std::mem::take(&mut self.waiting).into_iter().partition(|wait| wait.key == key);
        self.waiting = rest;
        let due: Vec<Waiting> = due;
        for wait in due {
            self.members[wait.member].thread = wait.thread;
            two::found_for_node(self, wait.member, Some(value));
        }
        Ok(())
    }

    /// The task waits in a fence; its answer comes when all parts are here.
    fn enter_fence(&mut self, member: usize) {
        self.members[member].standing = Standing::Fencing;
        self.look_at_fence();
    }

    /// The task takes part in nothing any more.
    fn leave(&mut self, member: usize) {
        if self.members[member].standing == Standing::Left {
            return;
        }
        self.members[member].standing = Standing::Left;
        self.waiting.retain(|wait| wait.member != member);
        if !self.left_told {
            self.left_told = true;
            Message::Left.encode(&mut self.out);
        }
        self.look_at_fence();
    }

    /// Sends this node's part when its last task has come; says so when one can never come.
    fn look_at_fence(&mut self) {
        let standing = |wanted: Standing| move |member: &&Member| member.standing == wanted;
        let Some(waits) = self.members.iter().find(standing(Standing::Fencing)) else { return };
        if self.part_sent {
            return;
        }
        if let Some(left) = self.members.iter().find(standing(Standing::Left)) {
            let (waits, left) = (waits.rank, left.rank);
            self.end_step(format!("task {left} has left, and task {waits} waits for it in a fence"));
        } else if self.members.iter().all(|member| member.standing == Standing::Fencing) {
            self.fences = self.fences.wrapping_add(1);
            self.part_sent = true;
            let part = Message::Part {
                fence: self.fences.to_be_bytes().to_vec(),
                nodes: Vec::new(),
                bytes: encode_pairs(&std::mem::take(&mut self.fresh)),
            };
            part.encode(&mut self.out);
        }
    }

    fn end_step(&mut self, text: String) {
        Message::Abort { text: text.clone() }.encode(&mut self.out);
        self.abort.get_or_insert(text);
    }

    /// A task wants the whole step to end.
    fn abort(&mut self, member: usize, text: &str) {
        let rank = self.members[member].rank;
        let colon = if text.is_empty() { "" } else { ": " };
        self.end_step(format!("task {rank} called abort{colon}{text}"));
        // It ends on its own account.
        self.members[member].standing = Standing::Left;
    }
}

#[cfg(test)]
mod tests;
