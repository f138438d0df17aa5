//! What must always hold, checked against what executors and clients saw, not against the scheduler's
//! own word. Each complaint begins with the name of the oracle that makes it.
//!
//! * `acknowledged`: every acknowledged job exists, through every crash, and no id is acknowledged twice.
//! * `overcommit`: processes that are alive were not given more CPUs, memory, GPUs or licenses than there are, nor one of
//!   them twice ([`holdings`]).
//! * `double start`: a run starts at most once; two runs of a job are never alive at the same time.
//! * `state`: every index and total agrees with the facts ([`State::check`]).
//! * `dependency`: a job that waits for another starts only when its dependency was met.
//! * `begin`, `time limit`: a job starts only when the wall clock has shown its begin time, and times out only after its
//!   limit by a clock that goes evenly.
//! * `slices`: a job starts on slices that the driver can make, of a GPU that is in service ([`slices`]); no instance is
//!   destroyed under a process, given to two jobs, or left when everything has ended.
//! * `shorter`: a run is shorter than its job's limit only where the job says how short it may be, and not shorter than that.
//! * `limits`: no job starts beyond what its QOS and its account allow as they are then.
//! * `size`: no job starts on a node that registered with less than is declared.
//! * `order`: no job starts while one that is ahead of it waits for the same.
//! * `repeated call`: a repeated call makes no second job.
//! * `promises`: a promised start moves later only with a record that says why, and why is true ([`promises`]).
//! * `recovery`: a reopened scheduler knows exactly what was durable, or one batch more, bit for bit.
//! * `liveness`: when nothing goes wrong any more, every job ends (in [`super::run`]).

mod holdings;
mod promises;
mod slices;

use std::collections::{BTreeMap, BTreeSet};

use model::depend::{Kind, Tasks};
use model::id::{JobId, PartitionIdx, RequestKey};
use model::job::JobState;
use model::time::{Span, Timestamp};

use holdings::Holdings;
use promises::Promises;
use scheduler_core::allocation::Allocation;
use scheduler_core::apply::apply;
use scheduler_core::effect::RunKey;
use scheduler_core::record::Record;
use scheduler_core::state::State;
use scheduler_core::state::job::{ArrayRole, Ended, Finish, Hold, Job, Limit};

/// Up to so many nodes the whole state is checked after each batch, else after as many fewer.
const CHECKED_ALWAYS: u32 = 50;

/// Watches a history.
#[derive(Debug, Default)]
pub struct Oracle {
    state: State,
    acknowledged: BTreeSet<JobId>,
    ended: BTreeMap<JobId, bool>,
    begun: BTreeSet<(usize, RunKey)>,
    /// Each with its node.
    alive: BTreeMap<JobId, BTreeSet<(usize, RunKey)>>,
    holdings: Holdings,
    promises: Promises,
    arrays: BTreeSet<JobId>,
    by_key: BTreeMap<RequestKey, JobId>,
    batches: u32,
    /// The whole state is checked after so many batches.
    check_every: u32,
    /// The latest wall time that was shown.
    latest_wall: Timestamp,
    /// When a job started last, and the jobs that became free to start at that instant, after it: a plan that starts several
    /// was made before they were, one of its starts may have been what they waited for.
    last_start: Timestamp,
    freed_late: BTreeSet<JobId>,
}

impl Oracle {
    /// Over a cluster with these licenses and so many nodes.
    #[must_use]
    pub fn new(licenses: &[(&str, u32)], nodes: u32) -> Self {
        Self {
            holdings: Holdings::new(licenses),
            check_every: nodes.div_ceil(CHECKED_ALWAYS).max(1),
            ..Self::default()
        }
    }

    /// The last durable state.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// A batch is on disk.
    ///
    /// # Errors
    /// What does not hold.
    pub fn durable(&mut self, records: &[Record]) -> Result<(), String> {
        for record in records {
            if let Record::JobStarted { job, run, allocation, limit, partition, .. } = record {
                self.may_start(*job)?;
                self.lets_itself_in_for(*job, *partition, *limit)?;
                self.within_limits(*job, allocation)?;
                self.large_enough(*job, allocation)?;
                slices::may_lie(&self.state, *job, allocation)?;
                let licenses = self.state.jobs[job].request.rare().licenses.as_deref();
                self.holdings.give((*job, *run), allocation, licenses, &self.state);
            }
            if let Record::JobEnded { job, ended } | Record::JobRequeued { job, ended, .. } = record {
                self.note_end(*job, ended, matches!(record, Record::JobEnded { .. }));
            }
            if let Record::Job(job) = record {
                self.same_call_same_job(job)?;
                self.arrays.extend(job.array_id());
            }
            if let Record::JobFinishing { job, finish } = record {
                self.had_its_time(*job, finish)?;
            }
            self.note_late(record);
            self.promises.before(&self.state, record)?;
            let had: BTreeSet<JobId> = self.state.promises.by_job.keys().copied().collect();
            apply(&mut self.state, record);
            self.promises.after(&self.state, record, &had)?;
            self.latest_wall = self.latest_wall.max(self.state.wall_time(self.state.now));
        }
        self.batches += 1;
        if self.batches.is_multiple_of(self.check_every) { self.check() } else { Ok(()) }
    }

    /// No job starts on a node that said it has less than is declared.
    fn large_enough(&self, job: JobId, allocation: &Allocation) -> Result<(), String> {
        let nodes = allocation.iter().map(|share| self.state.node(share.node));
        let mut short = nodes.filter(|node| !node.lacks(true).is_empty());
        match short.next() {
            Some(node) => Err(format!(
                "size: {job} starts on {}, which has: {}",
                node.definition.name,
                node.lacks(true).join(", ")
            )),
            None => Ok(()),
        }
    }

    fn check(&self) -> Result<(), String> {
        let faults = self.state.check();
        if faults.is_empty() { Ok(()) } else { Err(format!("state: {}", faults.join("; "))) }
    }

    /// Notes who becomes free to start after a start at the same instant.
    fn note_late(&mut self, record: &Record) {
        match record {
            Record::JobStarted { .. } if self.last_start != self.state.now => {
                self.last_start = self.state.now;
                self.freed_late.clear();
            }
            Record::JobWaits { job, pending } if self.last_start == self.state.now => {
                let waited = self.state.jobs.get(job).and_then(|job| job.pending());
                if pending.eligible.is_some() && waited.is_some_and(|before| before.eligible.is_none()) {
                    self.freed_late.insert(*job);
                }
            }
            _ => {}
        }
    }

    fn same_call_same_job(&mut self, job: &Job) -> Result<(), String> {
        let own = job.array_id().unwrap_or(job.id);
        let first = *self.by_key.entry(job.key).or_insert(own);
        if first == own {
            Ok(())
        } else {
            Err(format!("repeated call: one call made jobs {first} and {own}"))
        }
    }

    fn note_end(&mut self, job: JobId, ended: &Ended, for_good: bool) {
        if for_good {
            let ok = ended.state == JobState::Completed && ended.exit.is_success();
            self.ended.insert(job, ok);
        } else {
            self.ended.remove(&job);
        }
    }

    /// A job that is ended for its time had it.
    fn had_its_time(&self, id: JobId, finish: &Finish) -> Result<(), String> {
        if finish.state != JobState::Timeout {
            return Ok(());
        }
        let Some(active) = self.state.jobs.get(&id).and_then(|job| job.active()) else {
            return Err(format!("time limit: job {id} times out and does not run"));
        };
        let had = finish.at.since(active.start);
        match active.limit {
            Some(limit) if had >= limit => Ok(()),
            limit => Err(format!("time limit: job {id} times out after {had:?} of {limit:?}")),
        }
    }

    /// A run has the limit that its job asks for, or a shorter one that the job lets itself in for.
    fn lets_itself_in_for(
        &self,
        id: JobId,
        partition: PartitionIdx,
        limit: Option<Span>,
    ) -> Result<(), String> {
        let job = &self.state.jobs[&id];
        let definition = self.state.partition(partition).map(|partition| &partition.definition);
        let whole = match job.limit {
            Limit::After(whole) => Some(whole),
            Limit::Partition => definition.and_then(|one| one.default_time.or(one.max_time)),
            Limit::Unlimited => None,
        };
        let least = job.request.rare().time_min;
        let shorter = limit.is_some_and(|limit| {
            least.is_some_and(|least| least <= limit) && whole.is_none_or(|whole| limit < whole)
        });
        if limit == whole || shorter {
            return Ok(());
        }
        Err(format!("shorter: job {id} starts with {limit:?} of {whole:?}, {least:?} at least"))
    }

    fn may_start(&self, id: JobId) -> Result<(), String> {
        let Some(job) = self.state.jobs.get(&id) else {
            return Err(format!("acknowledged: job {id} starts and is not there"));
        };
        if job.request.begin.is_some_and(|begin| begin > self.latest_wall) {
            let (begin, latest) = (job.request.begin, self.latest_wall);
            return Err(format!(
                "begin: job {id} starts before {begin:?}: the wall clock has shown {latest:?} at most"
            ));
        }
        for term in &job.request.dependency.terms {
            let array = self.arrays.contains(&term.job);
            let known = self.ended.get(&term.job);
            let met = match (term.kind, known) {
                _ if array || term.tasks != Tasks::Unsaid => true,
                (Kind::AfterOk, ended) => ended == Some(&true),
                (Kind::AfterNotOk, ended) => ended == Some(&false),
                (Kind::AfterAny, ended) => ended.is_some(),
                _ => true,
            };
            if !met && job.restarts == 0 {
                let other = self.state.jobs.get(&term.job).map(|other| &other.phase);
                return Err(format!(
                    "dependency: job {id} starts before {term:?} is met: {known:?}, {other:?}"
                ));
            }
        }
        self.none_ahead_asks_the_same(job)
    }

    /// The limits that the administrator sets, counted by hand.
    fn within_limits(&self, id: JobId, allocation: &Allocation) -> Result<(), String> {
        let job = &self.state.jobs[&id];
        let running = || self.state.index.running.iter().map(|id| &self.state.jobs[id]);
        let of_qos = self.state.accounts.qos.get(&*job.qos).and_then(|qos| qos.attributes.get("grpjobs"));
        let same_qos = running().filter(|other| other.qos == job.qos).count();
        let number = |text: &str| text.parse::<usize>().expect("a limit is a number");
        if of_qos.is_some_and(|most| same_qos >= number(most)) {
            return Err(format!("limits: job {id} starts beside {same_qos} of its QOS, of {of_qos:?}"));
        }
        let mut rows = self.state.accounts.associations.iter();
        let row = rows.find(|(key, _)| *key.account == *job.account && key.user.is_empty());
        let limit = |key: &str| row.and_then(|(_, row)| row.attributes.get(key));
        let of_account = || running().filter(|other| other.account == job.account);
        // A limit of the QOS counts instead of the account's of that name.
        if let Some(most) = limit("grpjobs").filter(|_| of_qos.is_none())
            && of_account().count() >= number(most)
        {
            return Err(format!(
                "limits: job {id} starts beside {} of its account, of {most}",
                of_account().count()
            ));
        }
        if let Some(most) = limit("grptres").and_then(|text| text.strip_prefix("cpu=")) {
            let shares =
                of_account().filter_map(|job| job.active()).flat_map(|active| active.allocation.iter());
            let cpus: u32 = shares.chain(allocation.iter()).map(|share| share.cpus.0).sum();
            if cpus as usize > number(most) {
                return Err(format!("limits: with job {id} its account has {cpus} CPUs, of {most}"));
            }
        }
        Ok(())
    }

    /// No job that is ahead in the queue waits for the same as a job that starts. A job with a promise keeps that: a
    /// later one may have, or be given within the second in which promises are moved, what became free since.
    fn none_ahead_asks_the_same(&self, job: &Job) -> Result<(), String> {
        if !matches!(job.array, ArrayRole::Single) {
            return Ok(());
        }
        let promised = |id: JobId| self.state.promises.of(id).is_some();
        let freed = self.state.promises.given_back.is_some();
        let own = self.state.queue_key(job);
        for key in self.state.index.queue.range(..own) {
            let other = &self.state.jobs[&key.job];
            let alone = matches!(other.array, ArrayRole::Single);
            let late = self.last_start == self.state.now && self.freed_late.contains(&other.id);
            let free =
                other.hold == Hold::None && other.pending().is_some_and(|waits| waits.eligible.is_some());
            if alone
                && free
                && !late
                && asks_as(job, other)
                && !(promised(other.id) && (promised(job.id) || freed))
            {
                return Err(format!(
                    "order: job {} starts before {}, which waits for the same",
                    job.id, other.id
                ));
            }
        }
        Ok(())
    }

    /// A scheduler was opened on what is on disk: `unseen` are the batches that nobody had called durable.
    ///
    /// # Errors
    /// It knows less than was durable, or something else, or more than one batch more.
    pub fn reopened(&mut self, state: &State, unseen: &[Vec<Record>]) -> Result<(), String> {
        if unseen.len() > 1 {
            return Err(format!("recovery: {} batches were under way at a time", unseen.len()));
        }
        unseen.iter().try_for_each(|records| self.durable(records))?;
        if state.digest() != self.state.digest() {
            return Err("recovery: the state is not what was durable".to_owned());
        }
        let missing = |id: &&JobId| !state.jobs.contains_key(id) && !self.ended.contains_key(id);
        match self.acknowledged.iter().find(missing) {
            Some(id) => Err(format!("acknowledged: job {id} was not recovered")),
            None => self.check(),
        }
    }

    /// A client was told that its job exists.
    ///
    /// # Errors
    /// If it does not, or the id was given to another.
    pub fn acknowledged(&mut self, id: JobId) -> Result<(), String> {
        if !self.acknowledged.insert(id) {
            return Err(format!("acknowledged: job id {id} was given twice"));
        }
        let known = self.state.jobs.contains_key(&id) || self.ended.contains_key(&id);
        if known { Ok(()) } else { Err(format!("acknowledged: job {id}, which is not durable")) }
    }

    /// A run's processes started.
    ///
    /// # Errors
    /// If the run started before, or another run of the job is alive.
    pub fn began(&mut self, place: usize, run: RunKey) -> Result<(), String> {
        if !self.begun.insert((place, run)) {
            return Err(format!("double start: {run:?} began twice, now on n{place}"));
        }
        let alive = self.alive.entry(run.job).or_default();
        if let Some(other) = alive.iter().find(|(_, other)| other.run != run.run) {
            return Err(format!("double start: {run:?} began while {other:?} is alive"));
        }
        alive.insert((place, run));
        self.holdings.began(place, run)
    }

    /// A run's processes are gone.
    pub fn process_ended(&mut self, place: usize, run: RunKey) {
        self.holdings.ended(place, run);
        if let Some(alive) = self.alive.get_mut(&run.job) {
            alive.remove(&(place, run));
        }
    }

    /// An executor forgot a run because the scheduler has its outcome.
    pub fn collected(&mut self, place: usize, run: RunKey) {
        self.process_ended(place, run);
    }

    /// Whether every job has ended for good.
    #[must_use]
    pub fn all_ended(&self) -> bool {
        self.state.jobs.values().all(|job| job.ended().is_some())
    }

    /// The jobs that have not, for a message.
    #[must_use]
    pub fn unfinished(&self) -> String {
        let left = self.state.jobs.values().filter(|job| job.ended().is_none());
        left.map(|job| format!("job {} {:?}", job.id, job.phase)).collect::<Vec<_>>().join("\n")
    }
}

/// Whether two jobs ask for the same nodes for the same time.
fn asks_as(one: &Job, other: &Job) -> bool {
    let (a, b) = (&*one.request, &*other.request);
    (one.limit, one.memory, &one.partitions) == (other.limit, other.memory, &other.partitions)
        && one.predicted == other.predicted
        && (a.ntasks, a.nodes, a.cpus_per_task, a.sharing) == (b.ntasks, b.nodes, b.cpus_per_task, b.sharing)
        && (&a.gres_per_node, &a.constraint) == (&b.gres_per_node, &b.constraint)
        && (&a.rare().licenses, a.rare().time_min) == (&b.rare().licenses, b.rare().time_min)
        && one.owner.uid == other.owner.uid
        && (&one.qos, &one.account) == (&other.qos, &other.account)
}
