//! Every start of a replay with its cause, and what the scheduler saw then: a file to compare runs by.
//!
//! One JSON object a line: a header, then one for each pass that starts jobs, with the head of the queue
//! as it was before the pass and the planned ends of the running jobs. Times are seconds of the trace.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};

use model::id::JobId;
use model::time::{Span, Timestamp};
use scheduler_core::plan::Pass;
use scheduler_core::plan::policy::{OrderKey, Policy};
use serde_json::{Value, json};

use super::TraceJob;
use super::replay::{Scene, Watch};

/// First key of a file of decisions; its value is the version.
pub const MARK: &str = "sluice_decisions";
/// The most waiting jobs that a line shows.
const QUEUE_SHOWN: usize = 16;
/// The most planned ends that a line shows.
const ENDS_SHOWN: usize = 24;

/// Why a job started when it did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// No job before it in the queue waits.
    Head,
    /// Out of turn: it ends before the earliest planned start of those before it.
    BeforeShadow,
    /// Out of turn: it runs beyond that, on processors that those before it leave over.
    WithinExtra,
    /// The start that it was promised has come.
    PromiseDue,
}

impl Cause {
    /// As the file has it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Head => "head",
            Self::BeforeShadow => "before-shadow",
            Self::WithinExtra => "within-extra",
            Self::PromiseDue => "promise-due",
        }
    }
}

/// Writes decisions while it looks on.
pub struct Decisions<W> {
    to: W,
    fault: Option<io::Error>,
    policy: Policy,
    procs: u32,
    /// Planned starts as the last verdicts said.
    planned: BTreeMap<JobId, Timestamp>,
    /// Running jobs: start, processors.
    running: BTreeMap<JobId, (Timestamp, u32)>,
    /// How often each cause occurred.
    counts: BTreeMap<Cause, u64>,
}

impl<W: Write> Decisions<W> {
    /// Begins a file; `header` says what is replayed.
    pub fn new(mut to: W, policy: Policy, procs: u32, header: &Value) -> Self {
        let fault = writeln!(to, "{header}").err();
        Self {
            to,
            fault,
            policy,
            procs,
            planned: BTreeMap::new(),
            running: BTreeMap::new(),
            counts: BTreeMap::new(),
        }
    }

    /// Ends the file; answers how often each cause occurred.
    ///
    /// # Errors
    /// If any of it could not be written.
    pub fn finish(mut self) -> io::Result<(BTreeMap<Cause, u64>, W)> {
        match self.fault.take() {
            Some(fault) => Err(fault),
            None => {
                self.to.flush()?;
                Ok((self.counts, self.to))
            }
        }
    }

    /// How long a job that has not ended is believed to run, milliseconds.
    fn span(&self, scene: &Scene<'_>, job: JobId) -> i64 {
        let believed = scene.state.job(job).and_then(|job| self.policy.prediction.of(job));
        let limit = limit_ms(scene, job);
        believed.map_or(limit, |believed| limit.min(believed.as_millis()))
    }

    /// Waiting jobs in the order of the queue.
    fn queue(&self, scene: &Scene<'_>) -> Vec<(OrderKey, JobId)> {
        let keys = scene.state.index.queue.iter().filter_map(|key| {
            let place = scene.place(key.job)?;
            let limit = Span(limit_ms(scene, key.job));
            Some((self.policy.order.key(*key, Some(limit), scene.jobs[place].procs), key.job))
        });
        let mut queue: Vec<(OrderKey, JobId)> = keys.collect();
        queue.sort_unstable();
        queue
    }

    fn write(&mut self, scene: &Scene<'_>, pass: &Pass) -> io::Result<()> {
        let queue = self.queue(scene);
        let starting: BTreeSet<JobId> = pass.plan.starts.iter().map(|start| start.job).collect();
        let mut starts = Vec::new();
        for start in &pass.plan.starts {
            let cause = self.cause(scene, &queue, &starting, start.job);
            *self.counts.entry(cause).or_default() += 1;
            let promised = self.planned.get(&start.job).map(|at| at.as_secs() + scene.origin);
            let mut shown = shown(scene, start.job);
            shown["cause"] = cause.name().into();
            shown["promised"] = promised.map_or(Value::Null, Value::from);
            starts.push(shown);
        }
        let (free, ends) = self.ends(scene);
        let line = json!({
            "t": scene.now.as_secs() + scene.origin,
            "free": free,
            "waiting": queue.len(),
            "starts": starts,
            "queue": queue.iter().take(QUEUE_SHOWN).map(|(_, job)| shown(scene, *job)).collect::<Vec<_>>(),
            "ends": ends,
        });
        writeln!(self.to, "{line}")
    }

    fn cause(
        &self,
        scene: &Scene<'_>,
        queue: &[(OrderKey, JobId)],
        starting: &BTreeSet<JobId>,
        job: JobId,
    ) -> Cause {
        if self.policy.keep && self.planned.get(&job) == Some(&scene.now) {
            return Cause::PromiseDue;
        }
        let before = queue.iter().map(|(_, other)| *other).take_while(|other| *other != job);
        let mut waiting = before.filter(|other| !starting.contains(other)).peekable();
        if waiting.peek().is_none() {
            return Cause::Head;
        }
        let shadow = waiting.filter_map(|other| self.planned.get(&other)).min();
        let end = scene.now.saturating_add(Span(self.span(scene, job)));
        if shadow.is_some_and(|shadow| end <= *shadow) { Cause::BeforeShadow } else { Cause::WithinExtra }
    }

    /// Processors that are free, and when how many more become so.
    fn ends(&self, scene: &Scene<'_>) -> (u32, Vec<(i64, u32)>) {
        let mut at: BTreeMap<i64, u32> = BTreeMap::new();
        let mut used = 0;
        for (job, (start, procs)) in &self.running {
            let believed = start.saturating_add(Span(self.span(scene, *job)));
            let outlived = believed <= scene.now;
            let end = if outlived { start.saturating_add(Span(limit_ms(scene, *job))) } else { believed };
            *at.entry(end.as_secs() + scene.origin).or_default() += procs;
            used += procs;
        }
        (self.procs.saturating_sub(used), at.into_iter().take(ENDS_SHOWN).collect())
    }
}

fn limit_ms(scene: &Scene<'_>, job: JobId) -> i64 {
    let limit = scene.state.jobs.get(&job).and_then(|job| job.request.time_limit.flatten());
    limit.map_or(i64::MAX, Span::as_millis)
}

fn shown(scene: &Scene<'_>, job: JobId) -> Value {
    let Some(place) = scene.place(job) else { return Value::Null };
    let TraceJob { number, procs, .. } = scene.jobs[place];
    json!({ "job": number, "procs": procs, "limit": limit_ms(scene, job) / 1000 })
}

impl<W: Write> Watch for Decisions<W> {
    fn wants_verdicts(&self) -> bool {
        true
    }

    fn planned(&mut self, scene: &Scene<'_>, pass: &Pass) {
        // A job that starts has the promise that was made before this pass.
        let starts = pass.plan.starts.iter().map(|start| (start.job, self.planned.get(&start.job).copied()));
        let promises: Vec<(JobId, Option<Timestamp>)> = starts.collect();
        for verdict in &pass.verdicts {
            match &verdict.planned {
                Some(planned) => self.planned.insert(verdict.job, planned.start),
                None => self.planned.remove(&verdict.job),
            };
        }
        if pass.plan.starts.is_empty() || self.fault.is_some() {
            return;
        }
        for (job, promise) in promises {
            match promise {
                Some(promise) => self.planned.insert(job, promise),
                None => self.planned.remove(&job),
            };
        }
        self.fault = self.write(scene, pass).err();
    }

    fn started(&mut self, scene: &Scene<'_>, job: JobId) {
        let procs = scene.place(job).map_or(0, |place| scene.jobs[place].procs);
        self.running.insert(job, (scene.now, procs));
        self.planned.remove(&job);
    }

    fn ended(&mut self, _scene: &Scene<'_>, job: JobId) {
        self.running.remove(&job);
    }
}
