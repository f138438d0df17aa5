//! The nodes of a partition by what rules them out for a job: one cause for each node, the first that holds.
//!
//! Order of the causes: out of service, not wanted by the request, never able to, in use now, promised to
//! others. The amounts come from the planner's own look-ups of one node ([`fit`]).

use std::collections::BTreeMap;
use std::fmt;

use model::id::{NodeIdx, PartitionIdx};
use model::reason::Reason;
use model::time::{Span, Timestamp, limit};

use super::witness::places;
use crate::gpu::slice_set::SliceSet;
use crate::job::start::{least_limit, limit_of_run};
use crate::place::Board;
use crate::place::demand::{self, Demand, GresNeed, MemoryNeed, Share};
use crate::place::feature::{Constraint, Expression};
use crate::place::fit::{self, Free};
use crate::place::kept::Kept;
use crate::plan::{Pass, eligible};
use crate::settings::Settings;
use crate::state::State;
use crate::state::job::Job;
use crate::state::node::{Link, Node};
use crate::state::partition::Partition;

/// What rules a node out.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// Set or counted down.
    Down,
    /// Its executor does not answer.
    NotResponding,
    /// Takes no new jobs.
    Drained,
    /// `--exclude` names it.
    Excluded,
    /// `--nodelist` names others, and as many as may be.
    NotListed,
    /// It lacks features: the name where it is one, else the expression.
    Feature(Box<str>),
    /// It has fewer CPUs than the job needs of one node.
    SmallCpus,
    /// It has less memory.
    SmallMemory,
    /// It has fewer devices of this name.
    SmallGres(Box<str>),
    /// It has fewer devices of this name in service: some of its GPUs have a fault.
    FaultyGres(Box<str>),
    /// Sockets, cores, threads or scratch space are not as asked for.
    Make,
    /// The job wants nodes to itself, and others run there.
    NotIdle,
    /// A job of another user keeps it from others (`--exclusive=user`).
    Owned,
    /// A reservation has it, and the job is not of it; or the job's own has not begun, or has not got it.
    Reserved,
    /// Jobs share its CPUs, and this one does not (OverSubscribe).
    Shared,
    /// Jobs that do not share its CPUs are there, and this one would.
    Unshared,
    /// Too few CPUs are free.
    Cpus,
    /// Too little memory is free.
    Memory,
    /// Too few devices of this name are free.
    Gres(Box<str>),
    /// Free now, but promised to jobs ahead before this one would end.
    Promised,
    /// It could take part now.
    Usable,
}

impl Cause {
    /// Whether only jobs that run keep it from the job.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        matches!(
            self,
            Self::NotIdle
                | Self::Owned
                | Self::Shared
                | Self::Unshared
                | Self::Cpus
                | Self::Memory
                | Self::Gres(_)
        )
    }

    /// Whether nothing that is in use keeps it from the job now.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        matches!(self, Self::Promised | Self::Usable)
    }

    /// What stands behind a number of nodes: "have too few free CPUs".
    #[must_use]
    pub fn words(&self, count: usize) -> String {
        let (is, has, lacks) = if count == 1 { ("is", "has", "lacks") } else { ("are", "have", "lack") };
        match self {
            Self::Down => format!("{is} down"),
            Self::NotResponding => format!("{} not respond", if count == 1 { "does" } else { "do" }),
            Self::Drained => format!("{is} drained"),
            Self::Excluded => format!("{is} excluded by the request"),
            Self::NotListed => format!("{is} not in the request's node list"),
            Self::Feature(name) => format!("{lacks} {name}"),
            Self::SmallCpus => format!("{has} too few CPUs in all"),
            Self::SmallMemory => format!("{has} too little memory in all"),
            Self::SmallGres(name) => format!("{has} too few {name} in all"),
            Self::FaultyGres(name) => format!("{has} too few {name} in service"),
            Self::Make => format!("{has} other sockets, cores, threads or scratch space than asked for"),
            Self::NotIdle => format!("{is} in use, and the job wants whole nodes"),
            Self::Owned => format!("{is} kept by jobs of another user"),
            Self::Reserved => format!("{is} not open to the job by reservations"),
            Self::Shared => format!("{is} shared by jobs (OverSubscribe), and the job shares with none"),
            Self::Unshared => format!("{is} in use by jobs that share with none"),
            Self::Cpus => format!("{has} too few free CPUs"),
            Self::Memory => format!("{has} too little free memory"),
            Self::Gres(name) => format!("{has} too few free {name}"),
            Self::Promised => format!("{is} free, but promised to jobs ahead"),
            Self::Usable => format!("{} take part now", "could"),
        }
    }
}

/// Nodes of one cause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CauseCount {
    /// What rules them out.
    pub cause: Cause,
    /// Which nodes, ascending.
    pub nodes: Vec<NodeIdx>,
}

/// A partition that the job names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionView {
    /// Which.
    pub partition: PartitionIdx,
    /// Fewest nodes that the job needs.
    pub wanted: u32,
    /// Its nodes.
    pub total: u32,
    /// What the partition forbids, whatever is free: the reason, and a sentence.
    pub forbids: Option<(Reason, Box<str>)>,
    /// Its nodes by cause, in the order of the causes.
    pub causes: Vec<CauseCount>,
}

/// The partitions that a job names. Cost: O(nodes of the partitions + running jobs).
pub(super) fn partitions(
    state: &State,
    settings: &Settings,
    job: &Job,
    pass: &Pass,
    now: Timestamp,
) -> Vec<PartitionView> {
    let board = Board::of(state);
    let mut views = Vec::new();
    for (idx, partition) in demand::partitions(state, job) {
        let Some(demand) = Demand::of(state, settings, job, partition) else { continue };
        let promised = promised_nodes(state, job, pass, partition, now);
        let view = View { state, settings, job, demand: &demand, board: &board, promised: &promised };
        let mut by_cause: BTreeMap<Cause, Vec<NodeIdx>> = BTreeMap::new();
        let nodes = partition.nodes.iter().filter(|node| !state.node(**node).removed);
        for &node in nodes {
            by_cause.entry(view.cause(node)).or_default().push(node);
        }
        let cpus = partition.nodes.iter().map(|&node| u64::from(state.node(node).definition.cpus.0)).sum();
        let forbids = eligible::partition_reason(job, partition, &demand, cpus)
            .map(|reason| (reason, forbidden(job, partition, &demand, reason)));
        let total: usize = by_cause.values().map(Vec::len).sum();
        views.push(PartitionView {
            partition: idx,
            wanted: demand.min_nodes,
            total: u32::try_from(total).unwrap_or(u32::MAX),
            forbids,
            causes: by_cause.into_iter().map(|(cause, nodes)| CauseCount { cause, nodes }).collect(),
        });
    }
    views
}

/// Nodes on which a job ahead is planned to start before this one would end, or starts in this pass.
fn promised_nodes(
    state: &State,
    job: &Job,
    pass: &Pass,
    partition: &Partition,
    now: Timestamp,
) -> std::collections::BTreeSet<NodeIdx> {
    let limits = least_limit(job.request.rare()).into_iter().chain(limit_of_run(job, partition));
    let end = limits.min().map_or(Timestamp(i64::MAX), |limit| now.saturating_add(limit));
    let key = state.queue_key(job);
    let ahead = pass.verdicts.iter().filter(|verdict| state.queue_key(&state.jobs[&verdict.job]) < key);
    let planned = ahead.filter_map(|verdict| verdict.planned.as_ref()).filter(|planned| planned.start < end);
    let mut nodes = std::collections::BTreeSet::new();
    for planned in planned {
        nodes.extend(places(state, &planned.nodes));
    }
    let started = pass.plan.starts.iter().filter(|start| start.job != job.id);
    nodes.extend(started.flat_map(|start| start.allocation.iter().map(|share| share.node)));
    nodes
}

struct View<'a> {
    state: &'a State,
    settings: &'a Settings,
    job: &'a Job,
    demand: &'a Demand,
    board: &'a Board,
    promised: &'a std::collections::BTreeSet<NodeIdx>,
}

impl View<'_> {
    fn cause(&self, idx: NodeIdx) -> Cause {
        let (demand, node) = (self.demand, self.state.node(idx));
        if let Some(cause) =
            self.out_of_service(node).or_else(|| self.unwanted(idx, node)).or_else(|| self.reserved(idx))
        {
            return cause;
        }
        let definition = node.offer();
        let rule = self.state.slices.rule();
        let inventory = node.inventory.as_deref();
        let dealing = demand.dealing;
        let kept = Kept::from(self.settings, demand, node);
        let reach = kept.map(|kept| kept.reach(definition.cpus.0));
        let mut whole: Vec<u64> = definition.gres.iter().map(|gres| gres.count).collect();
        if let Some(shards) = &node.shards {
            shards.count(shards.total(), dealing, &mut whole);
        }
        let all = Free {
            cpus: definition.cpus.0,
            memory: definition.memory.0,
            gres: &whole,
            idle: true,
            sockets: &[],
            slices: inventory.map_or(SliceSet::EMPTY, |one| one.slices),
            inventory,
            rule,
            reach,
        };
        match self.short_of(node, all) {
            None => {}
            Some(Cause::Cpus) => return Cause::SmallCpus,
            Some(Cause::Memory) => return Cause::SmallMemory,
            Some(Cause::Gres(name)) if node.observed.gpus.iter().any(|gpu| !gpu.is_healthy()) => {
                return Cause::FaultyGres(name);
            }
            Some(Cause::Gres(name)) => return Cause::SmallGres(name),
            Some(other) => return other,
        }
        if !self.board.may_take(self.state, demand, self.job.owner.uid, idx.0) {
            let sharing = node.used.sharing > 0;
            return match demand.share {
                Share::Whole => Cause::NotIdle,
                Share::Layers(_) if !sharing => Cause::Unshared,
                Share::Any | Share::User(_) if sharing => Cause::Shared,
                Share::Any | Share::User(_) | Share::Layers(_) => Cause::Owned,
            };
        }
        let mut free: Vec<u64> = definition
            .gres
            .iter()
            .enumerate()
            .map(|(kind, gres)| gres.count.saturating_sub(node.used.gres.get(kind).copied().unwrap_or(0)))
            .collect();
        if let Some(shards) = &node.shards {
            shards.count(node.free_shards(), dealing, &mut free);
        }
        let now = Free {
            sockets: &[],
            slices: node.free_slices(),
            inventory,
            rule,
            reach,
            cpus: self.board.free_cpus(self.state, self.settings, demand, idx),
            memory: node.free_memory().0,
            gres: &free,
            idle: node.used.jobs == 0,
        };
        match self.short_of(node, now) {
            Some(cause) => cause,
            None if self.promised.contains(&idx) => Cause::Promised,
            None => Cause::Usable,
        }
    }

    fn out_of_service(&self, node: &Node) -> Option<Cause> {
        let timed_out = matches!(node.link, Link::Silent { timed_out: true, .. });
        if node.admin.down || timed_out {
            return Some(Cause::Down);
        }
        if node.link != Link::Up {
            return Some(Cause::NotResponding);
        }
        (!node.is_available()).then_some(Cause::Drained)
    }

    /// Whether a reservation keeps it from the job now.
    fn reserved(&self, idx: NodeIdx) -> Option<Cause> {
        let now = self.state.now;
        let soon = now.saturating_add(Span(1));
        let own = self.demand.reservation.as_deref();
        (!self.state.is_open(idx, own, now, soon)).then_some(Cause::Reserved)
    }

    fn unwanted(&self, idx: NodeIdx, node: &Node) -> Option<Cause> {
        let demand = self.demand;
        if demand.excluded.binary_search(&idx).is_ok() {
            return Some(Cause::Excluded);
        }
        let listed = u32::try_from(demand.required.len()).unwrap_or(u32::MAX);
        if listed > 0 && listed >= demand.max_nodes && demand.required.binary_search(&idx).is_err() {
            return Some(Cause::NotListed);
        }
        let features = &node.definition.features;
        let missing = match &demand.constraint {
            None => false,
            Some(Constraint::Each(expression)) => !expression.matches(features),
            Some(Constraint::Same(any)) => !any.iter().any(|one| one.matches(features)),
            Some(Constraint::Counts(shares)) => {
                let named: u32 = shares.iter().map(|share| share.nodes).sum();
                named >= demand.max_nodes && !shares.iter().any(|share| share.expression.matches(features))
            }
        };
        if missing {
            return Some(Cause::Feature(self.missing_features(features)));
        }
        (!fit::shape_fits(demand, &node.definition)).then_some(Cause::Make)
    }

    /// "feature amd" where one name is missing of a plain conjunction, else the whole constraint.
    fn missing_features(&self, features: &[Box<str>]) -> Box<str> {
        if let Some(Constraint::Each(expression)) = &self.demand.constraint {
            let mut missing = Vec::new();
            if conjunction(expression, features, &mut missing) {
                let word = if missing.len() == 1 { "feature" } else { "features" };
                return format!("{word} {}", missing.join(", ")).into();
            }
        }
        let text = self.job.request.constraint.as_deref().unwrap_or_default();
        format!("features {text}").into()
    }

    /// What the node has too little of for its least part of the job; `None`: nothing.
    fn short_of(&self, node: &Node, free: Free<'_>) -> Option<Cause> {
        let (demand, definition) = (self.demand, node.offer());
        if demand.share == Share::Whole && !free.idle {
            return Some(Cause::NotIdle);
        }
        let tasks = least_tasks(demand);
        if fit::room(demand, self.settings.whole_cores, definition, free) >= tasks {
            let needs = &demand.gres_per_job;
            let room = |need: &GresNeed| fit::gres_room(need, definition, free);
            let short = if demand.max_nodes == 1 {
                needs.iter().find(|need| room(need) < need.count)
            } else {
                // One device at least is on each node.
                needs.first().filter(|_| needs.iter().all(|need| room(need) == 0))
            };
            return short.map(|need| Cause::Gres(name_of(need)));
        }
        let cost =
            fit::cost(demand, self.settings.whole_cores, definition, tasks, fit::gpus_of(demand, tasks));
        if cost.cpus > free.cpus.min(demand.max_cpus_per_node) {
            return Some(Cause::Cpus);
        }
        let per_task = demand.gres_per_task.iter().map(|need| (need, u64::from(tasks)));
        let mut needs = demand.gres_per_node.iter().map(|need| (need, 1)).chain(per_task);
        let short = needs.find(|(need, times)| {
            let wanted = GresNeed { count: need.count.saturating_mul(*times), ..(*need).clone() };
            fit::gres_room(&wanted, definition, free) < wanted.count
        });
        if let Some((need, _)) = short {
            return Some(Cause::Gres(name_of(need)));
        }
        let whole = demand.memory == MemoryNeed::Whole && free.memory < definition.memory.0;
        if whole || cost.memory > free.memory {
            return Some(Cause::Memory);
        }
        // Tasks that are bound to sockets or cores.
        Some(Cause::Cpus)
    }
}

/// The tasks that every node of the job must take at least.
fn least_tasks(demand: &Demand) -> u32 {
    if demand.max_nodes == 1 {
        return if demand.tasks_given { demand.tasks } else { 1 };
    }
    let even = demand.max_nodes == demand.min_nodes
        && demand.tasks.is_multiple_of(demand.min_nodes)
        && demand.tasks_per_node == demand.tasks / demand.min_nodes;
    if even { demand.tasks_per_node } else { 1 }
}

fn name_of(need: &GresNeed) -> Box<str> {
    match &need.kind {
        Some(kind) => format!("{}:{kind}", need.name).into(),
        None => need.name.clone(),
    }
}

/// Collects the names of a conjunction that are missing; whether it is one.
fn conjunction(expression: &Expression, features: &[Box<str>], missing: &mut Vec<Box<str>>) -> bool {
    match expression {
        Expression::Has(name) => {
            if !features.contains(name) {
                missing.push(name.clone());
            }
            true
        }
        Expression::And(one, other) => {
            conjunction(one, features, missing) && conjunction(other, features, missing)
        }
        Expression::Or(..) => false,
    }
}

struct Text(Option<Span>);

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(_) => f.write_str(&limit::long(self.0)),
            None => f.write_str("unlimited"),
        }
    }
}

/// What the partition forbids, in a sentence.
fn forbidden(job: &Job, partition: &Partition, demand: &Demand, reason: Reason) -> Box<str> {
    let definition = &partition.definition;
    match reason {
        Reason::PartitionDown => "it is down: jobs wait, none starts".into(),
        Reason::PartitionInactive => "it is inactive".into(),
        Reason::PartitionTimeLimit => format!(
            "the job's time limit is {}, the partition's largest is {}",
            Text(limit_of_run(job, partition)),
            Text(definition.max_time)
        )
        .into(),
        Reason::PartitionNodeLimit => {
            let has = u32::try_from(partition.nodes.len()).unwrap_or(u32::MAX);
            match definition.max_nodes {
                Some(most) if demand.min_nodes > most && most <= has => {
                    format!("the job needs {} nodes, the partition allows {most}", demand.min_nodes).into()
                }
                _ if demand.min_nodes > has => {
                    format!("the job needs {} nodes, the partition has {has}", demand.min_nodes).into()
                }
                _ => format!("the partition takes jobs of {} nodes or more", definition.min_nodes).into(),
            }
        }
        Reason::PartitionConfig => {
            let listed =
                |list: &[Box<str>], name: &str| list.iter().any(|one| one.eq_ignore_ascii_case(name));
            let refuses = |allow: &[Box<str>], deny: &[Box<str>], name: &str| {
                (!allow.is_empty() && !listed(allow, name)) || listed(deny, name)
            };
            if refuses(&definition.allow_accounts, &definition.deny_accounts, &job.account) {
                format!("it does not take account \"{}\"", job.account).into()
            } else if refuses(&definition.allow_qos, &definition.deny_qos, &job.qos) {
                format!("it does not take QOS \"{}\"", job.qos).into()
            } else {
                let cpus = u64::from(demand.tasks) * u64::from(demand.cpus_per_task);
                format!("the job needs {cpus} CPUs, more than the partition has").into()
            }
        }
        other => other.text().into(),
    }
}
