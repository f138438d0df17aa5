//! Why a job waits: the constraint that binds, its witnesses, the planned start, and the smallest single
//! change of the request that would start it now.
//!
//! Everything is found by running the production planner on a copy of the state: the copy as it is, then
//! the copy with one thing of the job changed. Nothing here judges a request in its own way, except for
//! the counts of nodes by cause ([`nodes`]), which use the planner's own look-ups of one node. Pure and
//! deterministic: the number of requests that are tried is bounded by a count ([`Trials`]), never by time.

mod change;
mod nodes;
mod trial;
mod witness;

use std::fmt;

use model::depend::{Standing, Term};
use model::id::{JobId, PartitionIdx};
use model::reason::Reason;
use model::time::Timestamp;

use super::{Moves, Planner};
use crate::input::PlannedStart;
use crate::job::dependency;
use crate::settings::Settings;
use crate::state::State;
use crate::state::job::{ArrayRole, Hold, Job};

pub use change::Change;
pub use nodes::{Cause, CauseCount, PartitionView};
use trial::Trials;
pub use witness::{Role, Witness};

/// Most witnesses that are named; the rest is counted.
const WITNESSES_MAX: usize = 8;

/// When and where a job starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outlook {
    /// In the next pass.
    Now {
        /// A hostlist.
        nodes: Box<str>,
        /// In which partition.
        partition: PartitionIdx,
    },
    /// At the latest then, as far as is known.
    Planned {
        /// When.
        start: Timestamp,
        /// A hostlist.
        nodes: Box<str>,
        /// In which partition.
        partition: PartitionIdx,
    },
    /// Not known: it cannot start, or the plan does not reach so far.
    Unknown,
}

/// A license that a job asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LicenseNeed {
    /// Its name.
    pub name: Box<str>,
    /// How many the job asks for.
    pub wanted: u32,
    /// How many are in use.
    pub used: u32,
    /// How many there are.
    pub total: u32,
}

/// The constraint that keeps a job from starting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Binding {
    /// None: it starts in the next pass.
    Nothing,
    /// It is held.
    Held(Hold),
    /// Its begin time is ahead.
    BeginTime(Timestamp),
    /// It waits for other jobs.
    Dependency {
        /// One term that can never be met decides.
        never: bool,
        /// One met term is enough.
        any: bool,
        /// What is not met yet.
        terms: Vec<(Term, Standing)>,
    },
    /// Its array runs as many elements as it may.
    Throttle {
        /// Elements that run.
        running: u32,
        /// Most that may.
        most: u32,
    },
    /// No partition that it names takes it as it is.
    Partition,
    /// Licenses are in use.
    Licenses,
    /// Too few nodes have what it needs, whoever else waits.
    Nodes,
    /// Enough would be free, but jobs ahead of it are promised these resources.
    Order,
    /// Something of the job that Slurm's reason names.
    Other,
}

impl Binding {
    /// A short word for programs.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Held(_) => "hold",
            Self::BeginTime(_) => "begin",
            Self::Dependency { .. } => "dependency",
            Self::Throttle { .. } => "throttle",
            Self::Partition => "partition",
            Self::Licenses => "licenses",
            Self::Nodes => "nodes",
            Self::Order => "order",
            Self::Other => "other",
        }
    }
}

/// The sentence; times and terms are left to whoever knows the reader's time zone.
impl fmt::Display for Binding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("nothing holds it back: it starts in the next pass"),
            Self::Held(Hold::Admin) => f.write_str("an administrator holds it"),
            Self::Held(Hold::User | Hold::None) => f.write_str("its user holds it"),
            Self::BeginTime(_) => f.write_str("its begin time is ahead"),
            Self::Dependency { never: true, .. } => f.write_str("what it depends on can never happen"),
            Self::Dependency { any: true, .. } => f.write_str("it waits for one of these jobs"),
            Self::Dependency { .. } => f.write_str("it waits for other jobs"),
            Self::Throttle { running, most } => {
                write!(f, "{running} elements of the array run, and no more than {most} may")
            }
            Self::Partition => f.write_str("no partition that it names takes it as it is"),
            Self::Licenses => f.write_str("licenses that it asks for are in use"),
            Self::Nodes => f.write_str("too few nodes have what it needs"),
            Self::Order => {
                f.write_str("there would be room for it, but jobs ahead of it are promised that room")
            }
            Self::Other => f.write_str("a limit or state that the reason names"),
        }
    }
}

/// Why a job waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// Slurm's reason; none for a job that starts in the next pass.
    pub reason: Reason,
    /// What binds.
    pub binding: Binding,
    /// The licenses that it asks for.
    pub licenses: Vec<LicenseNeed>,
    /// The nodes of each partition that it names, by what rules them out.
    pub partitions: Vec<PartitionView>,
    /// Jobs that hold or are promised what it needs.
    pub witnesses: Vec<Witness>,
    /// How many more there are.
    pub witnesses_more: u32,
    /// Waiting jobs before it in the order of the queue.
    pub ahead: u32,
    /// Jobs that wait.
    pub queued: u32,
    /// When and where it starts.
    pub outlook: Outlook,
    /// What would come if the constraint of its own that binds (hold, begin time, dependency) were gone.
    pub lifted: Option<Outlook>,
    /// Single changes that would start it now, smallest first.
    pub changes: Vec<Change>,
    /// Requests that were tried.
    pub tried: u32,
    /// Some changes were left untried: the queue is too long.
    pub gave_up: bool,
    /// What is judged of moving smaller slices out of its way; `None`: it does not wait for one slice.
    pub moves: Option<Moves>,
}

/// Explains a waiting job; `None`: there is none of that id that waits.
///
/// `state` is a copy that is used up. Cost: one pass of the planner for each request that is tried, at
/// most 200 of them, fewer the longer the queue is.
#[must_use]
pub fn explain(state: State, settings: &Settings, id: JobId, now: Timestamp) -> Option<Explanation> {
    let job = state.jobs.get(&id)?.clone();
    job.pending()?;
    let mut planner = Planner::new();
    let pass = planner.pass(&state, settings, now);
    let start = pass.plan.starts.iter().find(|start| start.job == id);
    let moves = if start.is_none() { planner.moves_for(&state, settings, now, id) } else { None };
    let verdict = pass.verdicts.iter().find(|verdict| verdict.job == id);
    // An array of which some elements start and some wait is explained by those that wait.
    let starts_whole = start.is_some() && verdict.is_none();
    let reason = verdict.map_or(Reason::None, |verdict| verdict.reason);
    let outlook = outlook_of(&state, start, verdict.and_then(|verdict| verdict.planned.as_ref()));
    let own_key = state.queue_key(&job);
    let ahead = state.index.queue.range(..own_key).count();
    let queued = state.index.queue.len();
    let licenses = licenses(&state, settings, &job);
    let partitions = nodes::partitions(&state, settings, &job, &pass, now);

    let mut binding = if starts_whole { Binding::Nothing } else { own_binding(&state, &job, reason) };
    let mut witnesses = witness::Witnesses::default();
    let mut ahead_of_it = witness::Witnesses::default();
    let place = match &outlook {
        Outlook::Planned { start, nodes, .. } => Some((*start, &**nodes)),
        Outlook::Now { .. } | Outlook::Unknown => None,
    };
    match binding {
        Binding::Licenses => witnesses.holders_of_licenses(&state, &licenses),
        Binding::Throttle { .. } => witnesses.elements(&state, id),
        Binding::Nodes => {
            witnesses.running(&state, &partitions, place);
            let nodes = match place {
                Some((_, nodes)) => witness::places(&state, nodes),
                None => witness::suitable_nodes(&partitions),
            };
            witnesses.promised(&state, &pass, &job, &nodes, now, place.map(|(start, _)| start));
            // Where only the order binds, those count whose promise keeps the job from what is free now.
            let nodes = witness::promised_nodes(&partitions);
            ahead_of_it.promised(&state, &pass, &job, &nodes, now, None);
        }
        _ => {}
    }

    let mut trials = Trials::new(state, settings, now, &job);
    let lifted = lifted(&mut trials, &job, &binding);
    let changes = if starts_whole { Vec::new() } else { change::search(&mut trials, &job, &binding) };
    let (tried, gave_up) = (trials.tried(), trials.gave_up());
    if binding == Binding::Nodes && matches!(trials.alone(&job), Outlook::Now { .. }) {
        binding = Binding::Order;
        witnesses = ahead_of_it;
    }
    let (witnesses, witnesses_more) = witnesses.first(WITNESSES_MAX);
    Some(Explanation {
        reason,
        binding,
        licenses,
        partitions,
        witnesses,
        witnesses_more,
        ahead: u32::try_from(ahead).unwrap_or(u32::MAX),
        queued: u32::try_from(queued).unwrap_or(u32::MAX),
        outlook,
        lifted,
        changes,
        tried,
        gave_up,
        moves,
    })
}

/// When and where, from what a pass says of a job.
pub(crate) fn outlook_of(
    state: &State,
    start: Option<&PlannedStart>,
    planned: Option<&super::Planned>,
) -> Outlook {
    match (start, planned) {
        (Some(start), _) => {
            let nodes = state.node_names(&start.allocation).into();
            Outlook::Now { nodes, partition: start.partition }
        }
        (None, Some(planned)) => Outlook::Planned {
            start: planned.start,
            nodes: planned.nodes.clone(),
            partition: planned.partition,
        },
        (None, None) => Outlook::Unknown,
    }
}

/// What binds, by Slurm's reason and the job itself; that others wait ahead is not looked at.
fn own_binding(state: &State, job: &Job, reason: Reason) -> Binding {
    let pending = job.pending().expect("the caller has a waiting job");
    match reason {
        _ if job.hold != Hold::None => Binding::Held(job.hold),
        Reason::Dependency | Reason::DependencyNeverSatisfied => {
            let terms = pending.dependency.terms.iter();
            Binding::Dependency {
                never: pending.dependency_failed,
                any: pending.dependency.any,
                terms: terms.map(|term| (*term, dependency::standing(state, job, term))).collect(),
            }
        }
        Reason::BeginTime => match pending.not_before {
            Some(at) => Binding::BeginTime(at),
            None => Binding::Other,
        },
        Reason::JobArrayTaskLimit => {
            let running = state.arrays.get(&job.id).map_or(0, |summary| summary.running);
            let most = match &job.array {
                ArrayRole::Waiting(waiting) => waiting.throttle,
                ArrayRole::Single | ArrayRole::Element { .. } => None,
            };
            Binding::Throttle { running, most: most.unwrap_or(running) }
        }
        Reason::Licenses => Binding::Licenses,
        Reason::PartitionDown
        | Reason::PartitionInactive
        | Reason::PartitionNodeLimit
        | Reason::PartitionTimeLimit
        | Reason::PartitionConfig => Binding::Partition,
        Reason::Resources | Reason::Priority | Reason::ReqNodeNotAvail | Reason::BadConstraints => {
            Binding::Nodes
        }
        _ => Binding::Other,
    }
}

/// The outlook without what of its own holds the job back.
fn lifted(trials: &mut Trials<'_>, job: &Job, binding: &Binding) -> Option<Outlook> {
    let mut free = job.clone();
    match binding {
        Binding::Held(_) | Binding::BeginTime(_) | Binding::Dependency { .. } => {
            change::lift(&mut free);
            Some(trials.outlook(&free))
        }
        _ => None,
    }
}

/// The licenses that the job asks for.
fn licenses(state: &State, settings: &Settings, job: &Job) -> Vec<LicenseNeed> {
    let text = job.request.rare().licenses.as_deref().unwrap_or_default();
    let need = |(name, wanted): (&str, u32)| LicenseNeed {
        name: name.into(),
        wanted,
        used: state.index.licenses_used.get(name).copied().unwrap_or(0),
        total: settings.licenses.get(name).copied().unwrap_or(0),
    };
    crate::licenses::parse(text).map(need).collect()
}
