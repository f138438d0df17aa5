//! One step's service: what the library asks of its host, and what the other nodes answer.
//!
//! The library calls from its own threads; messages arrive on the main thread. What waits for an answer is kept under
//! one lock, which is never held while the library is called.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use executor_supervisor::exchange::Message;

use crate::job::Job;
use crate::library::{Fields, Library, Reply, Value};

/// For each task the entries of its environment.
pub(crate) type Environments = Vec<Vec<Vec<u8>>>;

/// What the library's threads and the main thread share.
#[derive(Default)]
struct Waiting {
    /// Fences by name, with who waits.
    fences: BTreeMap<Vec<u8>, Reply>,
    /// How often each set of ranks has met.
    meetings: BTreeMap<Vec<u32>, u32>,
    /// Questions for other nodes.
    questions: BTreeMap<u64, Reply>,
    next_ticket: u64,
    left: bool,
}

/// See the module comment.
pub(crate) struct Service {
    job: Job,
    library: Library,
    folder: PathBuf,
    waiting: Mutex<Waiting>,
    exchange: Mutex<UnixStream>,
}

fn locked<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    // A thread that panicked has ended the process (panic = abort in the library's callbacks).
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Names that are tried for a folder.
const FOLDER_TRIES: u32 = 100;

/// Makes a folder whose name begins like this. One that is there is never taken: somebody else could have made it, or
/// a server that was killed has left it.
fn own_folder(begin: &[u8]) -> Result<PathBuf, String> {
    for number in 0..FOLDER_TRIES {
        let mut name = std::ffi::OsStr::from_bytes(begin).to_owned();
        name.push(format!(".{}.{number}", std::process::id()));
        let folder = PathBuf::from(name);
        match fs::DirBuilder::new().mode(0o700).create(&folder) {
            Ok(()) => return Ok(folder),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(format!("{}: {error}", folder.display())),
        }
    }
    Err(format!("{}: every name is taken", String::from_utf8_lossy(begin)))
}

impl Service {
    /// Loads the library and makes it serve; each local task's environment. The error is a sentence.
    pub(crate) fn start(job: Job, exchange: UnixStream) -> Result<(Arc<Self>, Environments), String> {
        let library = Library::load()?;
        let folder = own_folder(&job.mpi.folder)?;
        let service = Arc::new(Self {
            job,
            library,
            folder,
            waiting: Mutex::default(),
            exchange: Mutex::new(exchange),
        });
        match service.set_up() {
            Ok(environments) => Ok((service, environments)),
            Err(sentence) => {
                let _ = fs::remove_dir_all(&service.folder);
                Err(sentence)
            }
        }
    }

    fn set_up(self: &Arc<Self>) -> Result<Environments, String> {
        let job = &self.job;
        let folder = self.folder.to_string_lossy().into_owned();
        let node = job.mpi.nodes.get(job.mpi.node_index as usize).cloned().unwrap_or_default();
        let mut server = Fields::default();
        server.add("pmix.srv.nspace", Value::Text(format!("{}.{}", job.name, job.mpi.node_index)));
        server.add("pmix.srv.rank", Value::Rank(job.mpi.node_index));
        server.add("pmix.srvr.tmpdir", Value::Text(folder.clone()));
        server.add("pmix.sys.tmpdir", Value::Text(folder.clone()));
        server.add("pmix.hname", Value::Text(node));
        self.library.start(server, Arc::clone(self))?;
        self.library.register_job(&job.name, job.local.len(), self.describe(&folder))?;
        let mut environments = Vec::new();
        for rank in &job.local {
            self.library.register_task(&job.name, *rank, job.uid, job.gid)?;
            environments.push(self.library.environment(&job.name, *rank)?);
        }
        Ok(environments)
    }

    /// What is told of the job, and of each rank.
    fn describe(&self, folder: &str) -> Fields {
        let job = &self.job;
        let count = |number: usize| Value::Number(u32::try_from(number).unwrap_or(u32::MAX));
        let (size, local) = (job.mpi.places.len(), job.local.len());
        let first = Value::Rank(job.local.first().copied().unwrap_or(0));
        let mut fields = Fields::default();
        fields.add("pmix.jobid", Value::Text(job.name.clone()));
        fields.add("pmix.tmpdir", Value::Text(folder.to_owned()));
        fields.add("pmix.nsdir", Value::Text(folder.to_owned()));
        for key in ["pmix.univ.size", "pmix.job.size", "pmix.max.size", "pmix.app.size"] {
            fields.add(key, count(size));
        }
        fields.add("pmix.num.nodes", count(job.mpi.nodes.len()));
        fields.add("pmix.job.napps", Value::Number(1));
        for key in ["pmix.local.size", "pmix.node.size"] {
            fields.add(key, count(local));
        }
        fields.add("pmix.nodeid", Value::Number(job.mpi.node_index));
        fields.add("pmix.appnum", Value::Number(0));
        fields.add("pmix.nmap", Value::Text(job.node_map()));
        fields.add("pmix.pmap", Value::Text(job.rank_map()));
        fields.add("pmix.lpeers", Value::Text(job.peers()));
        fields.add("pmix.lldr", first);
        for rank in job.ranks() {
            let mut own = Fields::default();
            own.add("pmix.rank", Value::Rank(rank.rank));
            own.add("pmix.appnum", Value::Number(0));
            own.add("pmix.aldr", Value::Rank(0));
            own.add("pmix.grank", Value::Rank(rank.rank));
            own.add("pmix.apprank", Value::Rank(rank.rank));
            own.add("pmix.lrank", Value::Small(rank.local));
            own.add("pmix.nrank", Value::Small(rank.local));
            own.add("pmix.hname", Value::Text(rank.node.to_owned()));
            own.add("pmix.nodeid", Value::Number(rank.node_index));
            fields.add("pmix.pdata", Value::Fields(own));
        }
        fields
    }

    fn say(&self, message: &Message) {
        // Where the supervisor has gone, the main thread sees the end.
        let _ = locked(&self.exchange).write_all(&message.to_bytes());
    }

    /// All local tasks of a fence have come. `ranks` empty: of the whole job.
    pub(crate) fn fence(&self, mut ranks: Vec<u32>, bytes: Vec<u8>, reply: Reply) {
        ranks.sort_unstable();
        let nodes = self.job.nodes_of(&ranks);
        let name = {
            let mut waiting = locked(&self.waiting);
            let meeting = waiting.meetings.entry(ranks.clone()).or_default();
            *meeting = meeting.wrapping_add(1);
            let mut name = meeting.to_be_bytes().to_vec();
            ranks.iter().for_each(|rank| name.extend_from_slice(&rank.to_be_bytes()));
            waiting.fences.insert(name.clone(), reply);
            name
        };
        self.say(&Message::Part { fence: name, nodes, bytes });
    }

    /// A local task wants what a rank of another node has put.
    pub(crate) fn ask(&self, rank: u32, reply: Reply) {
        let Some(node) = self.job.mpi.places.get(rank as usize).copied() else {
            return reply.fail();
        };
        let ticket = {
            let mut waiting = locked(&self.waiting);
            waiting.next_ticket += 1;
            let ticket = waiting.next_ticket;
            waiting.questions.insert(ticket, reply);
            ticket
        };
        self.say(&Message::Ask { node, ticket, bytes: rank.to_le_bytes().to_vec() });
    }

    /// A local task has ended its part.
    pub(crate) fn leave(&self) {
        if !std::mem::replace(&mut locked(&self.waiting).left, true) {
            self.say(&Message::Left);
        }
    }

    /// A local task wants the step to end.
    pub(crate) fn abort(&self, rank: u32, status: i32, text: &str) {
        let colon = if text.is_empty() { "" } else { ": " };
        let text = format!("task {rank} called abort with status {status}{colon}{}", text.trim());
        self.say(&Message::Abort { text });
    }

    /// A message from the other nodes.
    pub(crate) fn take(self: &Arc<Self>, message: Message) {
        match message {
            Message::Whole { fence, parts } => {
                let reply = locked(&self.waiting).fences.remove(&fence);
                if let Some(reply) = reply {
                    reply.give(parts.concat());
                }
            }
            Message::Ask { node, ticket, bytes } => {
                let service = Arc::clone(self);
                let answer = move |bytes: Vec<u8>| service.say(&Message::Answer { node, ticket, bytes });
                match bytes.try_into().map(u32::from_le_bytes) {
                    Ok(rank) => self.library.look_up(&self.job.name, rank, Box::new(answer)),
                    Err(_) => answer(vec![0]),
                }
            }
            Message::Answer { ticket, bytes, .. } => {
                let reply = locked(&self.waiting).questions.remove(&ticket);
                if let Some(reply) = reply {
                    // The first byte tells whether there is anything.
                    match bytes.split_first() {
                        Some((1, rest)) => reply.give(rest.to_vec()),
                        _ => reply.fail(),
                    }
                }
            }
            Message::Part { .. } | Message::Left | Message::Abort { .. } => {}
        }
    }

    /// Ends the library and takes the folder away.
    pub(crate) fn end(&self) {
        self.library.end();
        // What is left is the supervisor's to take away.
        let _ = fs::remove_dir_all(&self.folder);
    }

    /// The name space.
    pub(crate) fn name(&self) -> &str {
        &self.job.name
    }
}
