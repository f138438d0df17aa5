//! What if: a change is made to a copy of the state, by the production machine, and the planned starts of
//! before and after are compared.
//!
//! Owns the list of assumptions and the comparison. The change goes in as the same inputs that an
//! administrator, an executor or a submitter would cause; effects are dropped, except that runs which are
//! told to stop end at once. Pure and deterministic; the copy is used up.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::exit::ExitStatus;
use model::id::{BodyHash, Gid, JobId, RequestKey, Uid};
use model::reason::Reason;
use model::refusal::Refusal;
use model::request::JobRequest;
use model::time::Timestamp;

use super::Planner;
use super::explain::{Outlook, outlook_of};
use crate::apply::apply;
use crate::effect::{Answer, Asker, Effect, Refused, ReplyTo, Selector};
use crate::input::{Command, Input, OutcomeKind, Report, RunOutcome, Submit};
use crate::machine::{Machine, Outbox};
use crate::priority;
use crate::record::Record;
use crate::settings::{PriorityWeights, Settings};
use crate::state::State;
use crate::state::job::{ArrayRole, Hold, Job, Usage};

/// Most jobs that one question adds.
pub const ADDED_MAX: u32 = 10_000;

/// What is assumed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Assumption {
    /// These nodes (a hostlist) take no new jobs.
    Drain(Box<str>),
    /// This job, or array, ends now.
    End(JobId),
    /// This waiting job has another priority.
    Priority {
        /// The job.
        job: JobId,
        /// Its priority.
        priority: u32,
    },
    /// A weight of the priority formula is another one.
    Weight {
        /// `Age`, `Fairshare`, `JobSize`, `Partition`, `QOS`, `Assoc`; `PriorityWeight` may stand before it.
        key: Box<str>,
        /// The weight.
        weight: u32,
    },
    /// So many jobs of one request are submitted now.
    Add {
        /// What each asks for.
        request: Arc<JobRequest>,
        /// How many, at most [`ADDED_MAX`].
        count: u32,
        /// Who submits them.
        asker: Asker,
    },
}

/// A job whose start moves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move {
    /// The job.
    pub job: JobId,
    /// As users see it: `12`, `12_3`, `12_[4-9]`.
    pub id: Box<str>,
    /// Whose.
    pub owner: Uid,
    /// Its name.
    pub name: Box<str>,
    /// Partitions that it names.
    pub partition: Box<str>,
    /// Why it waits afterwards; none for a job that starts.
    pub reason: Reason,
    /// Its start as things are.
    pub before: Outlook,
    /// Its start under the assumption.
    pub after: Outlook,
    /// It exists by the assumption alone.
    pub added: bool,
}

/// What an assumption changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// What was assumed and what it does beside moving starts, a sentence each.
    pub notes: Vec<String>,
    /// Jobs whose start moves, in the order of the queue afterwards.
    pub moves: Vec<Move>,
    /// Waiting jobs that start as before.
    pub unmoved: u32,
    /// Waiting jobs without a planned start, before and after.
    pub unplanned: u32,
}

/// Compares the planned starts of the waiting jobs as things are, and under an assumption.
///
/// # Errors
/// The machine's refusal of the change: no such node or job, a request that can never run.
/// Cost: two passes of the planner from nothing, and the change.
pub fn compare(
    state: State,
    settings: &Arc<Settings>,
    now: Timestamp,
    assumption: &Assumption,
) -> Result<Comparison, Refused> {
    let mut world = World { machine: Machine::new(state), now };
    world.input(Input::Configure(Arc::clone(settings)));
    let before = outlooks(world.state(), settings, now);
    let known: Vec<JobId> = before.keys().copied().collect();
    let mut notes = Vec::new();
    let settings = world.assume(settings, assumption, &mut notes)?;
    let after = outlooks(world.state(), &settings, now);
    Ok(contrast(world.state(), &known, &before, &after, notes))
}

/// When and where a job would start that is submitted now, behind all that wait: `--test-only`.
///
/// [`Outlook::Unknown`] for a job that is refused, held back, or beyond the depth of the plan.
/// Cost: a pass of the planner from nothing.
#[must_use]
pub fn would_start(
    state: State,
    settings: &Arc<Settings>,
    now: Timestamp,
    request: &Arc<JobRequest>,
    asker: &Asker,
) -> Outlook {
    let mut world = World { machine: Machine::new(state), now };
    world.input(Input::Configure(Arc::clone(settings)));
    // Slurm's test spreads a job over as many nodes as it may have.
    let mut spread = JobRequest::clone(request);
    spread.rare_mut().spread_job = true;
    let submit = submission(0, &Arc::new(spread), asker);
    let Some(Answer::Submitted { job, .. }) = world.input(Input::Submit(Box::new(submit))) else {
        return Outlook::Unknown;
    };
    outlooks(world.state(), settings, now).remove(&job).map_or(Outlook::Unknown, |(_, outlook)| outlook)
}

/// The submission of one added job.
fn submission(number: u32, request: &Arc<JobRequest>, asker: &Asker) -> Submit {
    let mut key = [0xff; 16];
    key[..4].copy_from_slice(&number.to_be_bytes());
    Submit {
        reply: ReplyTo(0),
        asker: asker.clone(),
        key: RequestKey(key),
        request: Arc::clone(request),
        script: Some(BodyHash([0; 32])),
        environment: BodyHash([0; 32]),
        alloc_sid: 0,
        test_only: false,
    }
}

/// Each waiting job's reason and outlook.
type Outlooks = BTreeMap<JobId, (Reason, Outlook)>;

fn outlooks(state: &State, settings: &Settings, now: Timestamp) -> Outlooks {
    let pass = Planner::new().pass(state, settings, now);
    let mut all: Outlooks = BTreeMap::new();
    for key in &state.index.queue {
        all.insert(key.job, (Reason::None, Outlook::Unknown));
    }
    for verdict in &pass.verdicts {
        let outlook = outlook_of(state, None, verdict.planned.as_ref());
        all.insert(verdict.job, (verdict.reason, outlook));
    }
    // Elements of one array may start one by one: the first decides.
    for start in &pass.plan.starts {
        all.insert(start.job, (Reason::None, outlook_of(state, Some(start), None)));
    }
    all
}

/// When it starts; now is before any time.
fn start_of(outlook: &Outlook) -> Option<Timestamp> {
    match outlook {
        Outlook::Now { .. } => Some(Timestamp(i64::MIN)),
        Outlook::Planned { start, .. } => Some(*start),
        Outlook::Unknown => None,
    }
}

/// Whether two starts are less than a second apart: nobody is shown less.
fn same_start(one: &Outlook, other: &Outlook) -> bool {
    match (start_of(one), start_of(other)) {
        (Some(one), Some(other)) => one.0.abs_diff(other.0) < 1000,
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    }
}

fn contrast(
    state: &State,
    known: &[JobId],
    before: &Outlooks,
    after: &Outlooks,
    notes: Vec<String>,
) -> Comparison {
    let mut comparison = Comparison { notes, ..Comparison::default() };
    for key in &state.index.queue {
        let Some((reason, then)) = after.get(&key.job) else { continue };
        let job = &state.jobs[&key.job];
        let added = known.binary_search(&job.id).is_err();
        let was = before.get(&job.id).map_or(Outlook::Unknown, |(_, outlook)| outlook.clone());
        if !added && same_start(&was, then) {
            match then {
                Outlook::Unknown => comparison.unplanned += 1,
                Outlook::Now { .. } | Outlook::Planned { .. } => comparison.unmoved += 1,
            }
            continue;
        }
        comparison.moves.push(Move {
            job: job.id,
            id: shown_id(job),
            owner: job.owner.uid,
            name: job.request.name.clone(),
            partition: partitions(state, job),
            reason: *reason,
            before: was,
            after: then.clone(),
            added,
        });
    }
    comparison
}

/// The job's number as users see it.
#[must_use]
pub fn shown_id(job: &Job) -> Box<str> {
    match &job.array {
        ArrayRole::Single => job.id.to_string().into(),
        ArrayRole::Element { array, index } => format!("{array}_{}", index.0).into(),
        ArrayRole::Waiting(waiting) => format!("{}_[{}]", job.id, waiting.tasks.text(Some(64))).into(),
    }
}

fn partitions(state: &State, job: &Job) -> Box<str> {
    let named = job.partitions.iter().filter_map(|&idx| state.partition(idx));
    named.map(|partition| &*partition.definition.name).collect::<Vec<_>>().join(",").into()
}

/// A machine on the copy.
struct World {
    machine: Machine,
    now: Timestamp,
}

impl World {
    fn state(&self) -> &State {
        self.machine.state()
    }

    /// One input; runs that are told to stop end at once. Gives the answer, if it has one.
    fn input(&mut self, input: Input) -> Option<Answer> {
        let mut answer = None;
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            let mut out = Outbox::default();
            self.machine.handle(self.now, input, &mut out);
            for effect in out.effects {
                match effect {
                    Effect::Answer(_, given) => answer = answer.or(Some(given)),
                    Effect::Terminate { node, run, .. } => {
                        let outcome = RunOutcome {
                            kind: OutcomeKind::Cancelled,
                            exit: ExitStatus::from_signal(15),
                            ended: self.now,
                            detail: "".into(),
                            usage: Usage::default(),
                            held: "".into(),
                            stop_requested: true,
                        };
                        let report = Report::Ended(Box::new(outcome));
                        inputs.push(Input::Report { node, run, report });
                    }
                    _ => {}
                }
            }
        }
        answer
    }

    fn command(&mut self, command: Command) -> Result<(), Refused> {
        let asker = Asker { uid: Uid(0), gid: Gid(0), name: "root".into(), groups: Arc::from([]) };
        let command = Box::new(command);
        match self.input(Input::Command { reply: ReplyTo(0), asker, command }) {
            Some(Answer::Refused(refused)) => Err(refused),
            Some(Answer::Outcomes(outcomes)) => {
                outcomes.into_iter().find_map(|outcome| outcome.refused).map_or(Ok(()), Err)
            }
            _ => Ok(()),
        }
    }

    fn assume(
        &mut self,
        settings: &Arc<Settings>,
        assumption: &Assumption,
        notes: &mut Vec<String>,
    ) -> Result<Arc<Settings>, Refused> {
        match assumption {
            Assumption::Drain(nodes) => self.drain(nodes, notes)?,
            Assumption::End(job) => self.end(*job, notes)?,
            Assumption::Priority { job, priority } => self.set_priority(*job, *priority, notes)?,
            Assumption::Weight { key, weight } => return self.set_weight(settings, key, *weight, notes),
            Assumption::Add { request, count, asker } => self.add(request, *count, asker, notes)?,
        }
        Ok(Arc::clone(settings))
    }

    fn drain(&mut self, nodes: &str, notes: &mut Vec<String>) -> Result<(), Refused> {
        let changes = vec![("state".into(), "drain".into()), ("reason".into(), "what if".into())];
        self.command(Command::UpdateNodes { nodes: nodes.into(), changes })?;
        let names = model::hostlist::expand(nodes).unwrap_or_default();
        let places: Vec<_> = names.iter().filter_map(|name| self.state().node_named(name)).collect();
        let runs = |id: &&JobId| {
            let active = self.state().jobs[*id].active();
            active.is_some_and(|active| active.allocation.iter().any(|share| places.contains(&share.node)))
        };
        let running = self.state().index.running.iter().filter(runs).count();
        notes.push(format!("{nodes} drained; jobs that run there and go on: {running}"));
        Ok(())
    }

    fn end(&mut self, job: JobId, notes: &mut Vec<String>) -> Result<(), Refused> {
        let held = self.state().job(job).and_then(Job::active).map(|active| {
            let cpus: u32 = active.allocation.iter().map(|share| share.cpus.0).sum();
            (cpus, self.state().node_names(&active.allocation))
        });
        let jobs = vec![Selector { job, tasks: None, step: None }];
        let filter = crate::input::JobFilter::default();
        self.command(Command::Cancel { jobs, filter, signal: None, batch_only: false, full: false })?;
        notes.push(match held {
            Some((cpus, nodes)) => format!("job {job} ends now and gives back {cpus} CPUs on {nodes}"),
            None => format!("job {job} leaves the queue"),
        });
        Ok(())
    }

    fn set_priority(&mut self, id: JobId, priority: u32, notes: &mut Vec<String>) -> Result<(), Refused> {
        let old = self.state().jobs.get(&id).map(|job| job.priority);
        let job = Selector { job: id, tasks: None, step: None };
        let changes = vec![("priority".into(), priority.to_string().into())];
        self.command(Command::UpdateJob { job, changes })?;
        notes.push(format!("job {id} has priority {priority} instead of {}", old.unwrap_or(0)));
        Ok(())
    }

    fn set_weight(
        &mut self,
        settings: &Settings,
        key: &str,
        weight: u32,
        notes: &mut Vec<String>,
    ) -> Result<Arc<Settings>, Refused> {
        let mut settings = settings.clone();
        let known = weight_named(&mut settings.weights, key);
        let (name, place) = known.ok_or_else(|| unknown_weight(key))?;
        let old = std::mem::replace(place, weight);
        notes.push(format!("{name} is {weight} instead of {old}"));
        if !settings.multifactor {
            notes.push("PriorityType is not priority/multifactor: weights move nothing".to_owned());
        }
        let settings = Arc::new(settings);
        self.input(Input::Configure(Arc::clone(&settings)));
        let waiting: Vec<JobId> = self.state().index.queue.iter().map(|key| key.job).collect();
        for id in waiting {
            let job = &self.state().jobs[&id];
            if job.hold == Hold::None && job.request.rare().priority.is_none() {
                let priority = priority::priority(self.state(), &settings, job);
                let record = Record::JobPriority { job: id, priority, hold: Hold::None };
                apply(&mut self.machine.state, &record);
            }
        }
        Ok(settings)
    }

    fn add(
        &mut self,
        request: &Arc<JobRequest>,
        count: u32,
        asker: &Asker,
        notes: &mut Vec<String>,
    ) -> Result<(), Refused> {
        if count == 0 || count > ADDED_MAX {
            let line = format!("between 1 and {ADDED_MAX} jobs can be added").into();
            return Err(Refused { refusal: Refusal::NotSupported, lines: vec![line] });
        }
        for number in 0..count {
            let submit = submission(number, request, asker);
            if let Some(Answer::Refused(refused)) = self.input(Input::Submit(Box::new(submit))) {
                return Err(refused);
            }
        }
        let word = if count == 1 { "job is" } else { "jobs are" };
        notes.push(format!("{count} {word} submitted now by {}", asker.name));
        Ok(())
    }
}

/// The weight of that name, with its name in slurm.conf.
fn weight_named<'a>(weights: &'a mut PriorityWeights, key: &str) -> Option<(&'static str, &'a mut u32)> {
    let key = key.to_ascii_lowercase();
    Some(match key.strip_prefix("priorityweight").unwrap_or(&key) {
        "age" => ("PriorityWeightAge", &mut weights.age),
        "fairshare" => ("PriorityWeightFairshare", &mut weights.fairshare),
        "jobsize" => ("PriorityWeightJobSize", &mut weights.job_size),
        "partition" => ("PriorityWeightPartition", &mut weights.partition),
        "qos" => ("PriorityWeightQOS", &mut weights.qos),
        "assoc" => ("PriorityWeightAssoc", &mut weights.assoc),
        _ => return None,
    })
}

fn unknown_weight(key: &str) -> Refused {
    let line = format!("no such weight: {key} (Age, Fairshare, JobSize, Partition, QOS, Assoc)").into();
    Refused { refusal: Refusal::NotSupported, lines: vec![line] }
}
