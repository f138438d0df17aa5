//! An executor's messages → registrations and reports.

use std::sync::Arc;

use model::gpu::{Gpu, GpuMode};
use model::id::{JobId, NodeIdx, RunNumber, Uid};
use model::quantity::{Cpus, MemoryMib};
use model::time::Timestamp;
use proto::convert::gpu;
use proto::convert::id::{boot_id, spool_id, step_id};
use proto::convert::{Error, LIST_MAX, NAME_MAX, Problem, exit};
use proto::v1;
use scheduler_core::effect::RunKey;
use scheduler_core::input::{OutcomeKind, Registration, Report, RunOutcome};
use scheduler_core::state::job::{Figure, Figures, Usage};
use scheduler_core::state::node::{GresDefinition, NodeDefinition, Observed};

/// Of a sentence about what is done for a run.
const PROGRESS_BYTES_MAX: usize = 512;
/// Most runs that one registration shows.
const RUNS_MAX: usize = 1_000_000;

/// Reads the first message of a session.
///
/// # Errors
/// Ids of another length, no facts, names that are too long, too many runs.
pub fn registration(from: v1::Register, session: u64) -> Result<Registration, Error> {
    if from.node.is_empty() || from.node.len() > NAME_MAX || !from.node.bytes().all(is_name_byte) {
        return Err(Error { field: "node", problem: Problem::Malformed });
    }
    if from.runs.len() > RUNS_MAX {
        return Err(Error { field: "runs", problem: Problem::TooLong { max: RUNS_MAX } });
    }
    let facts = from.facts.ok_or(Error { field: "facts", problem: Problem::Missing })?;
    let definition = definition(&from.node, &facts)?;
    let runs = from
        .runs
        .into_iter()
        .map(|entry| {
            let report = report(entry.stage, entry.outcome, entry.begun_ms, String::new());
            Ok((run_key(entry.key)?, report))
        })
        .collect::<Result<_, Error>>()?;
    let time = |ms: i64| (ms > 0).then_some(Timestamp(ms));
    let observed = Observed {
        os: facts.os.into(),
        architecture: facts.architecture.into(),
        version: from.version.into(),
        boot_at: time(facts.boot_ms),
        start_at: time(facts.start_ms),
        run_folder: from.run_folder.into(),
        uid: Some(Uid(from.uid)),
        lacks: facts.lacks.into_iter().map(String::into_boxed_str).collect(),
        cgroups: facts.cgroups.into(),
        attested: facts.attested.into_iter().map(String::into_boxed_str).collect(),
        gpus: gpus(facts.gpus)?,
        hardware: None,
    };
    Ok(Registration {
        session,
        name: from.node.into(),
        boot: boot_id("boot_id", &from.boot_id)?,
        spool: spool_id("spool_id", &from.spool_id)?,
        runs,
        observed: Arc::new(observed),
        definition: Arc::new(definition),
    })
}

/// The GPUs of a node. Instances of dynamic ones come and go with runs and are no fact about the node.
///
/// # Errors
/// Those of [`gpu::inwards`].
pub fn gpus(from: Vec<v1::Gpu>) -> Result<Vec<Gpu>, Error> {
    let mut gpus = gpu::inwards(from)?;
    for gpu in gpus.iter_mut().filter(|gpu| gpu.mode == GpuMode::Dynamic) {
        gpu.instances.clear();
    }
    Ok(gpus)
}

/// How GPUs do: bounded, or dropped.
#[must_use]
pub fn gpu_vitals(from: Vec<v1::GpuVitals>) -> Vec<v1::GpuVitals> {
    let fits = |gpu: &v1::GpuVitals| {
        gpu.slices.len() <= LIST_MAX && gpu.slices.iter().all(|slice| slice.uuid.len() <= NAME_MAX)
    };
    if from.len() <= LIST_MAX && from.iter().all(fits) { from } else { Vec::new() }
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')
}

/// A node as its executor describes it.
fn definition(name: &str, facts: &v1::NodeFacts) -> Result<NodeDefinition, Error> {
    if facts.gres.len() > LIST_MAX {
        return Err(Error { field: "gres", problem: Problem::TooLong { max: LIST_MAX } });
    }
    let hostname = if facts.hostname.is_empty() { name } else { &facts.hostname };
    let gres = facts.gres.iter().map(|gres| GresDefinition {
        name: gres.name.as_str().into(),
        kind: gres.r#type.as_str().into(),
        count: gres.count,
        indexed: &*gres.name == "gpu",
    });
    Ok(NodeDefinition {
        name: name.into(),
        hostname: hostname.into(),
        address: hostname.into(),
        port: 0,
        cpus: Cpus(facts.cpus),
        boards: facts.boards.max(1),
        sockets: facts.sockets.max(1),
        cores_per_socket: facts.cores_per_socket.max(1),
        threads_per_core: facts.threads_per_core.max(1),
        memory: MemoryMib(facts.memory_mib),
        tmp_disk: MemoryMib(facts.tmp_disk_mib),
        features: Vec::new(),
        gres: gres.collect(),
        weight: 1,
        bind: true,
    })
}

/// Names a run.
///
/// # Errors
/// A key that is missing or whose step is none.
pub fn run_key(from: Option<v1::RunKey>) -> Result<RunKey, Error> {
    let from = from.ok_or(Error { field: "key", problem: Problem::Missing })?;
    Ok(RunKey { job: JobId(from.job_id), step: step_id("step_id", &from.step_id)?, run: RunNumber(from.run) })
}

/// Names a run outwards.
#[must_use]
pub fn run_key_outwards(run: RunKey) -> v1::RunKey {
    v1::RunKey { job_id: run.job.0, step_id: run.step.to_string(), run: run.run.0 }
}

/// What an executor says of a run. A tombstone is a run that ended before it began.
#[must_use]
pub fn report(
    stage: i32,
    outcome: Option<v1::RunOutcome>,
    begun_ms: Option<i64>,
    progress: String,
) -> Report {
    match v1::RunStage::try_from(stage).unwrap_or(v1::RunStage::RunUnknown) {
        v1::RunStage::RunUnknown => Report::Unknown,
        v1::RunStage::RunIntended if progress.is_empty() => Report::Intended,
        v1::RunStage::RunIntended => Report::Preparing(sentence(progress)),
        v1::RunStage::RunBegun => Report::Begun { at: Timestamp(begun_ms.unwrap_or_default()) },
        v1::RunStage::RunEnded => Report::Ended(Box::new(run_outcome(outcome.unwrap_or_default()))),
        v1::RunStage::RunTombstone => {
            let never = v1::RunOutcome {
                kind: v1::OutcomeKind::OutcomeCancelled.into(),
                stop_requested: true,
                ..outcome.unwrap_or_default()
            };
            Report::Ended(Box::new(run_outcome(never)))
        }
    }
}

/// A sentence of an executor's, cut to a length that can be shown.
#[must_use]
pub fn sentence(mut text: String) -> Box<str> {
    cut(&mut text, PROGRESS_BYTES_MAX);
    text.into()
}

/// Leaves at most `most` bytes, whole characters.
fn cut(text: &mut String, most: usize) {
    text.truncate((0..=most.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0));
}

fn run_outcome(from: v1::RunOutcome) -> RunOutcome {
    let kind = match from.kind() {
        v1::OutcomeKind::OutcomeExited => OutcomeKind::Exited,
        v1::OutcomeKind::OutcomeTimeLimit => OutcomeKind::TimeLimit,
        v1::OutcomeKind::OutcomeCancelled => OutcomeKind::Cancelled,
        v1::OutcomeKind::OutcomeLaunchFailed => OutcomeKind::LaunchFailed,
        v1::OutcomeKind::OutcomeLost => OutcomeKind::Lost,
        v1::OutcomeKind::OutcomeOutOfMemory => OutcomeKind::OutOfMemory,
        v1::OutcomeKind::OutcomePrologFailed => OutcomeKind::PrologFailed,
        v1::OutcomeKind::OutcomeNodeUnable => OutcomeKind::NodeUnable,
    };
    let mut detail = from.detail;
    cut(&mut detail, 4096);
    let mut held = from.held;
    cut(&mut held, 1024);
    RunOutcome {
        kind,
        exit: exit::inwards(from.exit),
        ended: Timestamp(from.ended_ms),
        detail: detail.into(),
        usage: Usage {
            user_us: from.user_us,
            system_us: from.system_us,
            max_rss: from.max_rss_bytes,
            figures: from.figures.map(|from| Box::new(figures(&from))),
        },
        stop_requested: from.stop_requested,
        held: held.into(),
    }
}

/// Without nodes: the core knows whose it is.
fn figures(from: &v1::Figures) -> Figures {
    let figure = |from: &Option<v1::Figure>| {
        let from = from.clone().unwrap_or_default();
        Figure { most: from.most, task: from.task, node: NodeIdx::default(), total: from.total }
    };
    Figures {
        rss: figure(&from.rss),
        virtual_memory: figure(&from.virtual_memory),
        read: figure(&from.read),
        written: figure(&from.written),
        pages: figure(&from.pages),
        cpu_least: figure(&from.cpu_least),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn register() -> v1::Register {
        v1::Register {
            node: "n1".into(),
            boot_id: vec![1; 16].into(),
            spool_id: vec![2; 16].into(),
            facts: Some(v1::NodeFacts { cpus: 4, memory_mib: 100, ..Default::default() }),
            ..Default::default()
        }
    }

    #[test]
    fn reads_a_registration() {
        let key = v1::RunKey { job_id: 7, step_id: "batch".into(), run: 2 };
        let entry = v1::RunEntry { key: Some(key.clone()), stage: 2, outcome: None, begun_ms: Some(5) };
        let read = registration(v1::Register { runs: vec![entry], ..register() }, 3).unwrap();
        assert_eq!((read.session, &*read.name, read.definition.cpus), (3, "n1", Cpus(4)));
        assert_eq!(read.runs[0].1, Report::Begun { at: Timestamp(5) });
        assert_eq!(run_key_outwards(read.runs[0].0), key);
    }

    #[test]
    fn refuses_what_is_none() {
        let field = |from| registration(from, 1).unwrap_err().field;
        assert_eq!(field(v1::Register { node: "a b".into(), ..register() }), "node");
        assert_eq!(field(v1::Register { boot_id: Vec::new().into(), ..register() }), "boot_id");
        assert_eq!(field(v1::Register { facts: None, ..register() }), "facts");
        let entry = v1::RunEntry { key: None, stage: 0, outcome: None, begun_ms: None };
        assert_eq!(field(v1::Register { runs: vec![entry], ..register() }), "key");
    }

    #[test]
    fn details_are_cut_between_characters() {
        let detail = "ä".repeat(5000);
        let outcome = v1::RunOutcome { detail, ..Default::default() };
        let Report::Ended(read) = report(3, Some(outcome), None, String::new()) else { panic!("ended") };
        assert_eq!(read.detail.len(), 4096);
    }
}
