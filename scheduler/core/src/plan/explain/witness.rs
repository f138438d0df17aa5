//! Which jobs hold, or are promised, what a waiting job needs, and until when.

use std::collections::{BTreeMap, BTreeSet};

use model::id::{JobId, NodeIdx};
use model::time::{Span, Timestamp};

use super::nodes::{Cause, PartitionView};
use super::{LicenseNeed, Outlook, outlook_of};
use crate::allocation::{NodeShare, Slice};
use crate::gpu::inventory::{is_slice, kind_answers};
use crate::job::start::{least_limit, limit_of_run};
use crate::plan::Pass;
use crate::state::State;
use crate::state::job::{Active, Job};

/// What a witness does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// It runs on nodes that the job could use.
    Runs,
    /// It starts in this pass on such nodes.
    Starts,
    /// It is ahead in the queue and was given a planned start on such nodes.
    Promised,
    /// It holds a license that the job asks for.
    Licenses,
}

impl Role {
    /// A word for programs.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Runs => "runs",
            Self::Starts => "starts",
            Self::Promised => "promised",
            Self::Licenses => "licenses",
        }
    }
}

/// A job that holds or is promised what the waiting job needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Witness {
    /// The job.
    pub job: JobId,
    /// What it does.
    pub role: Role,
    /// The nodes in question that it holds or is promised, as a hostlist.
    pub nodes: Box<str>,
    /// CPUs that it holds of them; 0 for a promise.
    pub cpus: u32,
    /// Memory that it holds of them, MiB.
    pub memory_mib: u64,
    /// Devices or licenses that it holds: name (`gpu`, `gpu:a100`, `matlab`) and count.
    pub others: Vec<(Box<str>, u64)>,
    /// When it began or is to begin.
    pub start: Option<Timestamp>,
    /// When it ends at the latest; `None`: it has no limit.
    pub until: Option<Timestamp>,
}

/// Witnesses as they are found.
#[derive(Debug, Default)]
pub(super) struct Witnesses {
    found: Vec<Witness>,
    /// Of promises, those that end last come first.
    latest_promise_first: bool,
}

impl Witnesses {
    /// Running jobs that hold what the job lacks: those that end before its planned start on its planned
    /// nodes; without a plan all on the nodes where something is not free.
    pub(super) fn running(
        &mut self,
        state: &State,
        partitions: &[PartitionView],
        planned: Option<(Timestamp, &str)>,
    ) {
        let busy = busy_nodes(partitions);
        let wanted: BTreeSet<NodeIdx> = match planned {
            Some((_, nodes)) => places(state, nodes).intersection(&busy).copied().collect(),
            None => busy,
        };
        let lacking = lacking_devices(partitions);
        for id in &state.index.running {
            let job = &state.jobs[id];
            let Some(active) = job.active() else { continue };
            let until = active.limit_end();
            let late = planned.is_some_and(|(start, _)| until.is_none_or(|until| until > start));
            let holds = |share: &&NodeShare| {
                let name = lacking.get(&share.node);
                wanted.contains(&share.node) && name.is_none_or(|name| holds_such(state, share, name))
            };
            let shares: Vec<&NodeShare> = active.allocation.iter().filter(holds).collect();
            if !late && !shares.is_empty() {
                self.found.push(holder(state, *id, active, &shares));
            }
        }
    }

    /// The running elements of an array.
    pub(super) fn elements(&mut self, state: &State, array: JobId) {
        for id in &state.index.running {
            let job = &state.jobs[id];
            if job.array_id() == Some(array)
                && let Some(active) = job.active()
            {
                let shares: Vec<&NodeShare> = active.allocation.iter().collect();
                self.found.push(holder(state, *id, active, &shares));
            }
        }
    }

    /// Jobs that start in this pass, or are ahead in the queue and were given a start, on these nodes.
    ///
    /// `before`: only those that end by then, which the job is planned to follow.
    pub(super) fn promised(
        &mut self,
        state: &State,
        pass: &Pass,
        job: &Job,
        nodes: &BTreeSet<NodeIdx>,
        now: Timestamp,
        before: Option<Timestamp>,
    ) {
        let key = state.queue_key(job);
        let known = self.found.len();
        for start in pass.plan.starts.iter().filter(|start| start.job != job.id) {
            let outlook = outlook_of(state, Some(start), None);
            self.promise(state, start.job, (&outlook, start.shortened), nodes, now);
        }
        for verdict in &pass.verdicts {
            if state.queue_key(&state.jobs[&verdict.job]) < key {
                let outlook = outlook_of(state, None, verdict.planned.as_ref());
                let least = least_limit(state.jobs[&verdict.job].request.rare());
                self.promise(state, verdict.job, (&outlook, least), nodes, now);
            }
        }
        if let Some(before) = before {
            let mut promised = self.found.split_off(known);
            promised.retain(|witness| witness.until.is_some_and(|until| until <= before));
            self.found.append(&mut promised);
            self.latest_promise_first = true;
        }
    }

    /// `limit`: one that may be shorter than the job's own.
    fn promise(
        &mut self,
        state: &State,
        id: JobId,
        (outlook, limit): (&Outlook, Option<Span>),
        suitable: &BTreeSet<NodeIdx>,
        now: Timestamp,
    ) {
        let (role, start, nodes, partition) = match outlook {
            Outlook::Now { nodes, partition } => (Role::Starts, now, nodes, partition),
            Outlook::Planned { start, nodes, partition } => (Role::Promised, *start, nodes, partition),
            Outlook::Unknown => return,
        };
        let shared: Vec<NodeIdx> = places(state, nodes).intersection(suitable).copied().collect();
        let Some(partition) = state.partition(*partition).filter(|_| !shared.is_empty()) else { return };
        let limit: Option<Span> = limit.into_iter().chain(limit_of_run(&state.jobs[&id], partition)).min();
        self.found.push(Witness {
            job: id,
            role,
            nodes: names(state, shared.into_iter()),
            cpus: 0,
            memory_mib: 0,
            others: Vec::new(),
            start: Some(start),
            until: limit.map(|limit| start.saturating_add(limit)),
        });
    }

    /// Jobs that hold licenses of which too few are left.
    pub(super) fn holders_of_licenses(&mut self, state: &State, licenses: &[LicenseNeed]) {
        let short = |name: &str| {
            licenses.iter().any(|need| &*need.name == name && need.used + need.wanted > need.total)
        };
        for id in &state.index.running {
            let job = &state.jobs[id];
            let Some(active) = job.active() else { continue };
            let text = job.request.rare().licenses.as_deref().unwrap_or_default();
            let held = crate::licenses::parse(text).filter(|(name, _)| short(name));
            let held: Vec<(Box<str>, u64)> = held.map(|(name, count)| (name.into(), count.into())).collect();
            if held.is_empty() {
                continue;
            }
            self.found.push(Witness {
                job: *id,
                role: Role::Licenses,
                nodes: state.node_names(&active.allocation).into(),
                cpus: 0,
                memory_mib: 0,
                others: held,
                start: Some(active.start),
                until: active.limit_end(),
            });
        }
    }

    /// The first `most`, soonest end first (promises: soonest start, or latest end), and how many more
    /// there are.
    pub(super) fn first(mut self, most: usize) -> (Vec<Witness>, u32) {
        self.found.sort_by_key(|witness| {
            let last = Timestamp(i64::MAX);
            let at = match witness.role {
                Role::Promised if self.latest_promise_first => Timestamp(-witness.until.unwrap_or(last).0),
                Role::Promised | Role::Starts => witness.start.unwrap_or(last),
                Role::Runs | Role::Licenses => witness.until.unwrap_or(last),
            };
            (witness.role, at, witness.job)
        });
        let more = self.found.len().saturating_sub(most);
        self.found.truncate(most);
        (self.found, u32::try_from(more).unwrap_or(u32::MAX))
    }
}

/// A running job as the holder of these shares.
fn holder(state: &State, job: JobId, active: &Active, shares: &[&NodeShare]) -> Witness {
    Witness {
        job,
        role: Role::Runs,
        nodes: names(state, shares.iter().map(|share| share.node)),
        cpus: shares.iter().map(|share| share.cpus.0).sum(),
        memory_mib: shares.iter().map(|share| share.memory.0).sum(),
        others: devices(state, shares),
        start: Some(active.start),
        until: active.limit_end(),
    }
}

fn busy_nodes(partitions: &[PartitionView]) -> BTreeSet<NodeIdx> {
    let causes = partitions.iter().flat_map(|partition| &partition.causes);
    causes.filter(|count| count.cause.is_busy()).flat_map(|count| count.nodes.iter().copied()).collect()
}

/// Nodes that have all that the job needs but free devices of this name.
fn lacking_devices(partitions: &[PartitionView]) -> BTreeMap<NodeIdx, &str> {
    let causes = partitions.iter().flat_map(|partition| &partition.causes);
    let named = causes.filter_map(|count| match &count.cause {
        Cause::Gres(name) => Some((&**name, &count.nodes)),
        _ => None,
    });
    named.flat_map(|(name, nodes)| nodes.iter().map(move |&node| (node, name))).collect()
}

/// Whether a share has devices that a job which lacks `name` (`gpu:a100`, `gpu:3g.20gb`) could use, or takes their place.
fn holds_such(state: &State, share: &NodeShare, name: &str) -> bool {
    let (wanted, kind) = name.split_once(':').map_or((name, None), |(name, kind)| (name, Some(kind)));
    let node = state.node(share.node);
    let of_gpus = |name: &str| matches!(name, "gpu" | "shard");
    share.gres.iter().any(|held| {
        let Some(offered) = node.definition.gres.get(held.kind as usize) else { return false };
        let same = *offered.name == *wanted || of_gpus(&offered.name) && of_gpus(wanted);
        // Slices stand in the way of any other slice, and shards of the whole GPU and the other way round.
        let in_the_way = held.is_cut() && kind.is_none_or(is_slice) || *offered.name != *wanted;
        same && (in_the_way || kind.is_none_or(|kind| kind_answers(kind, &offered.kind)))
    })
}

/// Nodes that are free now and promised to others.
pub(super) fn promised_nodes(partitions: &[PartitionView]) -> BTreeSet<NodeIdx> {
    let causes = partitions.iter().flat_map(|partition| &partition.causes);
    let promised = causes.filter(|count| count.cause == Cause::Promised);
    promised.flat_map(|count| count.nodes.iter().copied()).collect()
}

/// Nodes that nothing but use and plans rules out.
pub(super) fn suitable_nodes(partitions: &[PartitionView]) -> BTreeSet<NodeIdx> {
    let causes = partitions.iter().flat_map(|partition| &partition.causes);
    let passing = causes.filter(|count| count.cause.is_busy() || count.cause.is_usable());
    passing.flat_map(|count| count.nodes.iter().copied()).collect()
}

pub(super) fn places(state: &State, nodes: &str) -> BTreeSet<NodeIdx> {
    let names = model::hostlist::expand(nodes).unwrap_or_default();
    names.iter().filter_map(|name| state.node_named(name)).collect()
}

pub(super) fn names(state: &State, nodes: impl Iterator<Item = NodeIdx>) -> Box<str> {
    let names: Vec<&str> = nodes.map(|node| &*state.node(node).definition.name).collect();
    model::hostlist::compress_sorted(&names).into()
}

/// `GPU 0 slices 4-7 gpu:3g.20gb`: the count follows.
fn slice_name(slice: &Slice) -> Box<str> {
    let last = (slice.start + slice.size).saturating_sub(1);
    let run =
        if last == slice.start { format!("slice {last}") } else { format!("slices {}-{last}", slice.start) };
    format!("GPU {} {run} gpu:{}", slice.gpu, slice.profile).into()
}

fn devices(state: &State, shares: &[&NodeShare]) -> Vec<(Box<str>, u64)> {
    let mut held: BTreeMap<Box<str>, u64> = BTreeMap::new();
    for share in shares {
        let definition = &state.node(share.node).definition;
        for gres in &share.gres {
            let Some(kind) = definition.gres.get(gres.kind as usize) else { continue };
            let name = if kind.kind.is_empty() {
                kind.name.clone()
            } else {
                format!("{}:{}", kind.name, kind.kind).into()
            };
            if gres.is_cut() {
                gres.slices.iter().for_each(|slice| *held.entry(slice_name(slice)).or_default() += 1);
            } else {
                *held.entry(name).or_default() += gres.count;
            }
        }
    }
    held.into_iter().collect()
}
