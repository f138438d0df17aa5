//! Shares of nodes, ids, exit statuses and other small things that several records carry.

use model::array::TaskSet;
use model::exit::ExitStatus;
use model::id::{BodyHash, NodeIdx, RequestKey};
use model::job::JobState;
use model::quantity::{Cpus, MemoryMib};
use model::reason::Reason;
use proto::journal_v1 as w;
use proto::v1;
use scheduler_core::allocation::{Allocation, CpuIds, GresShare, NodeShare, Slice};
use scheduler_core::gpu::geometry::MEMORY_SLICES;

use crate::error::{Error, need};

fn cpu_ids_out(ids: &CpuIds) -> Vec<u32> {
    ids.ranges().iter().flat_map(|&(first, last)| [first, last]).collect()
}

fn cpu_ids_in(field: &'static str, pairs: &[u32]) -> Result<CpuIds, Error> {
    let (ranges, rest) = pairs.as_chunks::<2>();
    if !rest.is_empty() || ranges.iter().any(|[first, last]| first > last) {
        return Err(Error::Field { field });
    }
    Ok(CpuIds::from_ranges(ranges.iter().map(|&[first, last]| (first, last)).collect()))
}

fn slice_out(slice: &Slice) -> v1::Slice {
    v1::Slice {
        gpu: slice.gpu,
        profile: slice.profile.to_string(),
        start: u32::from(slice.start),
        size: u32::from(slice.size),
    }
}

fn slice_in(slice: v1::Slice) -> Result<Slice, Error> {
    // Without a profile it is as many shards of a GPU.
    let within = slice.profile.is_empty() || slice.start.saturating_add(slice.size) <= MEMORY_SLICES;
    let byte = |number: u32| u8::try_from(number).ok().filter(|_| within);
    let wrong = Error::Field { field: "gres.slices" };
    let (Some(start), Some(size)) = (byte(slice.start), byte(slice.size)) else { return Err(wrong) };
    Ok(Slice { gpu: slice.gpu, profile: slice.profile.into(), start, size })
}

pub(crate) fn allocation_out(allocation: &Allocation) -> Vec<w::NodeShare> {
    let gres = |share: &GresShare| w::GresShare {
        kind: share.kind,
        count: share.count,
        indices: cpu_ids_out(&share.indices),
        slices: share.slices.iter().map(slice_out).collect(),
    };
    let node = |share: &NodeShare| w::NodeShare {
        node: share.node.0,
        cpus: share.cpus.0,
        cpu_ranges: cpu_ids_out(&share.cpu_ids),
        memory_mib: share.memory.0,
        gres: share.gres.iter().map(gres).collect(),
        tasks: share.tasks,
        shared: share.shared,
    };
    allocation.iter().map(node).collect()
}

pub(crate) fn allocation_in(shares: Vec<w::NodeShare>) -> Result<Allocation, Error> {
    let gres = |share: w::GresShare| {
        Ok(GresShare {
            kind: share.kind,
            count: share.count,
            indices: cpu_ids_in("gres.indices", &share.indices)?,
            slices: share.slices.into_iter().map(slice_in).collect::<Result<_, Error>>()?,
        })
    };
    let node = |share: w::NodeShare| {
        Ok(NodeShare {
            node: NodeIdx(share.node),
            cpus: Cpus(share.cpus),
            cpu_ids: cpu_ids_in("cpu_ranges", &share.cpu_ranges)?,
            memory: MemoryMib(share.memory_mib),
            gres: share.gres.into_iter().map(gres).collect::<Result<_, Error>>()?,
            tasks: share.tasks,
            shared: share.shared,
        })
    };
    shares.into_iter().map(node).collect()
}

pub(crate) fn exit_out(exit: ExitStatus) -> w::ExitStatus {
    w::ExitStatus { code: u32::from(exit.code), signal: u32::from(exit.signal) }
}

pub(crate) fn exit_in(exit: Option<w::ExitStatus>) -> Result<ExitStatus, Error> {
    let exit = need("exit", exit)?;
    let byte = |number: u32| u8::try_from(number).map_err(|_| Error::Field { field: "exit" });
    Ok(ExitStatus { code: byte(exit.code)?, signal: byte(exit.signal)? })
}

pub(crate) fn state_out(state: JobState) -> String {
    state.long().to_owned()
}

pub(crate) fn state_in(text: &str) -> Result<JobState, Error> {
    need("state", JobState::ALL.into_iter().find(|state| state.long() == text))
}

pub(crate) fn reason_out(reason: Reason) -> String {
    reason.text().to_owned()
}

pub(crate) fn reason_in(text: &str) -> Result<Reason, Error> {
    need("reason", Reason::parse(text))
}

pub(crate) fn tasks_out(tasks: &TaskSet) -> Vec<w::TaskRange> {
    tasks.ranges().map(|(first, last, step)| w::TaskRange { first, last, step }).collect()
}

pub(crate) fn tasks_in(ranges: &[w::TaskRange]) -> Result<TaskSet, Error> {
    need("tasks", TaskSet::from_ranges(ranges.iter().map(|range| (range.first, range.last, range.step))))
}

/// A hash that may be absent: no bytes.
pub(crate) fn hash_out(hash: Option<BodyHash>) -> Vec<u8> {
    hash.map(|hash| hash.0.to_vec()).unwrap_or_default()
}

pub(crate) fn hash_in(field: &'static str, bytes: &[u8]) -> Result<Option<BodyHash>, Error> {
    if bytes.is_empty() {
        return Ok(None);
    }
    BodyHash::try_from(bytes).map(Some).map_err(|_| Error::Field { field })
}

pub(crate) fn key_out(key: Option<RequestKey>) -> Vec<u8> {
    key.map(|key| key.0.to_vec()).unwrap_or_default()
}

pub(crate) fn key_in(bytes: &[u8]) -> Result<Option<RequestKey>, Error> {
    if bytes.is_empty() {
        return Ok(None);
    }
    RequestKey::try_from(bytes).map(Some).map_err(|_| Error::Field { field: "key" })
}

pub(crate) fn words_out(words: &[Box<str>]) -> Vec<String> {
    words.iter().map(ToString::to_string).collect()
}

pub(crate) fn words_in(words: Vec<String>) -> Vec<Box<str>> {
    words.into_iter().map(String::into_boxed_str).collect()
}
