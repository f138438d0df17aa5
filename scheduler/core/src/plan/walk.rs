//! One pass over the queue.
//!
//! A full pass considers every entry. Where only new entries arrived behind the protected ones since
//! the last pass, only these are considered: nothing became free, so that the others would be answered
//! as before, and the plan still stands.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Slot;

use model::id::{JobId, PartitionIdx};
use model::reason::Reason;
use model::time::Timestamp;

use super::eligible;
use super::ledger::{Entry, Ledger, Promise, Proposed};
use super::policy::Candidates;
use super::profile::Amount;
use super::search::{self, Holds};
use super::{Pass, Planned, Verdict};
use crate::allocation::{Allocation, NodeShare};
use crate::input::PlannedStart;
use crate::job::start::limit_of_run;
use crate::limits::{Candidate, Charged};
use crate::place::Board;
use crate::settings::Settings;
use crate::state::State;
use crate::state::job::{ArrayRole, Job};
use crate::tally::Tally;

/// The most elements of one array that are given a planned start in a pass.
const ELEMENTS_PLANNED: u32 = 20;

/// What a pass carries along.
struct Walk<'a> {
    state: &'a State,
    settings: &'a Settings,
    now: i64,
    depth: u32,
    keep: bool,
    verdicts: bool,
    board: Board,
    /// What running jobs hold by QOS and association; made when a job has limits.
    usage: Option<Charged>,
    /// Licenses in use; made when a job asks for some.
    licenses: Option<BTreeMap<Box<str>, u32>>,
    /// Partitions in which a job waits for resources already.
    blocked: Vec<PartitionIdx>,
    /// CPUs that are free now in all (an upper bound).
    free_cpus: u64,
    out: Pass,
}

/// What came of one entry.
enum Outcome {
    /// All of it that may start does.
    Started,
    /// It waits.
    Waits(Reason, Option<Planned>),
}

impl Ledger {
    /// Runs a pass at `now`.
    pub(super) fn pass(
        &mut self,
        state: &State,
        settings: &Settings,
        now: Timestamp,
        verdicts: bool,
    ) -> Pass {
        let changes = self.catch_up(state, settings, now);
        let policy = self.policy();
        let mut walk = Walk {
            state,
            settings,
            now: now.0,
            depth: policy.depth.unwrap_or(settings.backfill_depth),
            keep: policy.keep,
            verdicts,
            board: if self.owners > 0 { Board::of(state) } else { Board::default() },
            usage: None,
            licenses: None,
            blocked: Vec::new(),
            free_cpus: u64::MAX,
            out: Pass::default(),
        };
        self.cluster.advance(now.0);
        self.pass += 1;
        let behind = self.last_protected.is_none_or(|last| changes.arrived.iter().all(|key| *key > last));
        // Without backfill a full pass ends at the first job that waits.
        let short = !changes.full && walk.depth > 0 && behind && self.next_due > now.0;
        if short {
            walk.blocked = std::mem::take(&mut self.blocked);
            self.arrivals(&mut walk, &changes.arrived);
        } else {
            self.full(&mut walk, changes.freed);
        }
        self.blocked = std::mem::take(&mut walk.blocked);
        if verdicts {
            let idle = if short { changes.idle } else { self.idle().collect() };
            walk.say_idle(&idle);
        }
        let mut out = walk.out;
        // Planned anew at each pass, a start is due only when something ends, which asks for a pass itself.
        let promised = policy.keep && self.next_due < i64::MAX;
        out.wake = promised.then_some(Timestamp(self.next_due));
        out.counts.steps = self.cluster.steps() as u64;
        out.counts.started = u32::try_from(out.plan.starts.len()).unwrap_or(u32::MAX);
        out
    }

    fn full(&mut self, walk: &mut Walk<'_>, freed: bool) {
        self.next_due = i64::MAX;
        self.last_protected = None;
        self.protected = 0;
        if !walk.keep {
            self.cluster.forget_plans();
            self.promises.clear();
        } else if std::mem::take(&mut self.plan_doubtful) {
            self.cluster.copy_base();
            for promise in self.promises.values() {
                for &(node, amount) in &promise.holds {
                    self.cluster.reserve(node, amount, (promise.start, promise.end), !walk.keep);
                }
            }
        }
        walk.free_cpus = self.cluster.free_cpus();
        let queue = std::mem::take(&mut self.queue);
        let mut rest = Vec::new();
        let mut place = 0;
        while place < queue.len() && (self.protected < walk.depth || walk.depth == 0) {
            let entry = &queue[place];
            place += 1;
            if walk.depth == 0 && self.stopped(walk, entry) {
                if walk.state.partitions.len() == 1 && !walk.verdicts {
                    place = queue.len();
                }
                walk.say(entry, Reason::Priority, None);
                continue;
            }
            let outcome = self.protect(walk, entry, freed);
            walk.conclude(entry, outcome);
        }
        for entry in queue.get(place..).unwrap_or_default() {
            if u64::from(entry.cpus) <= walk.free_cpus {
                rest.push(*entry);
            } else if walk.verdicts {
                let reason = self.why(walk, entry);
                walk.say(entry, reason, None);
            }
        }
        self.queue = queue;
        self.sort_candidates(&mut rest);
        for entry in &rest {
            if u64::from(entry.cpus) <= walk.free_cpus || walk.verdicts {
                let outcome = self.test(walk, entry);
                walk.conclude(entry, outcome);
            }
        }
        walk.out.counts.protected = self.protected;
    }

    /// Considers new entries alone.
    fn arrivals(&mut self, walk: &mut Walk<'_>, arrived: &[super::policy::OrderKey]) {
        if arrived.is_empty() {
            return;
        }
        walk.free_cpus = self.cluster.free_cpus();
        let mut keys = arrived.to_vec();
        keys.sort_unstable();
        let find =
            |key| self.queue.binary_search_by_key(key, |entry: &Entry| entry.key).map(|at| self.queue[at]);
        let mut entries: Vec<Entry> = keys.iter().filter_map(|key| find(key).ok()).collect();
        let mut place = 0;
        while place < entries.len() && self.protected < walk.depth {
            let entry = entries[place];
            place += 1;
            let outcome = self.protect(walk, &entry, false);
            walk.conclude(&entry, outcome);
        }
        let mut rest = entries.split_off(place);
        self.sort_candidates(&mut rest);
        for entry in &rest {
            let outcome = self.test(walk, entry);
            walk.conclude(entry, outcome);
        }
    }

    fn sort_candidates(&self, rest: &mut [Entry]) {
        let span = |entry: &Entry| self.span(entry, self.shapes.shapes[entry.shape as usize].classes.start);
        match self.policy().candidates {
            Candidates::Queue => {}
            Candidates::Limit => rest.sort_by_cached_key(|entry| (span(entry), entry.key)),
            Candidates::Area => {
                rest.sort_by_cached_key(|entry| (i128::from(span(entry)) * i128::from(entry.cpus), entry.key))
            }
        }
    }

    /// How long an entry is believed to run in a class.
    fn span(&self, entry: &Entry, class: u32) -> i64 {
        self.shapes.classes.get(class as usize).map_or(i64::MAX, |class| class.span).min(entry.span)
    }

    /// Without backfill: whether an earlier job waits in a partition of this one.
    fn stopped(&self, walk: &Walk<'_>, entry: &Entry) -> bool {
        let classes = self.shapes.shapes[entry.shape as usize].classes.clone();
        classes.into_iter().any(|class| walk.blocked.contains(&self.shapes.classes[class as usize].partition))
    }

    /// Starts what can start now and gives the rest its earliest start.
    fn protect(&mut self, walk: &mut Walk<'_>, entry: &Entry, sweep: bool) -> Outcome {
        let mut left = 1;
        if entry.special {
            let job = &walk.state.jobs[&entry.key.job];
            left = eligible::elements_left(walk.state, job);
            if left == 0 {
                return Outcome::Waits(Reason::JobArrayTaskLimit, None);
            }
            if let Some(reason) = walk.held_back(job) {
                return Outcome::Waits(reason, None);
            }
        }
        if walk.keep
            && let Some(outcome) = self.kept(walk, entry, sweep)
        {
            return outcome;
        }
        while left > 0 && self.start_now(walk, entry, !walk.keep) {
            left -= 1;
            if entry.special
                && left > 0
                && let Some(reason) = walk.held_back(&walk.state.jobs[&entry.key.job])
            {
                return Outcome::Waits(reason, None);
            }
        }
        if left == 0 {
            return walk.started(entry);
        }
        let reason = self.why(walk, entry);
        if walk.depth == 0 || (walk.verdicts && !matches!(reason, Reason::Resources | Reason::Priority)) {
            return Outcome::Waits(reason, None);
        }
        let mut first = None;
        for _ in 0..left.min(ELEMENTS_PLANNED).min(walk.depth - self.protected) {
            let Some((start, class, holds)) = self.earliest(walk, entry) else { break };
            first = first.or_else(|| Some(self.planned(walk, start, class, &holds)));
            let end = start.saturating_add(self.span(entry, class));
            self.promise(walk, entry, Promise { start, end, class, holds });
        }
        Outcome::Waits(reason, first.flatten())
    }

    /// The earliest start over the partitions that the entry names; the first on a tie.
    fn earliest(&self, walk: &Walk<'_>, entry: &Entry) -> Option<(i64, u32, Holds)> {
        let mut best: Option<(i64, u32, Holds)> = None;
        for class in self.shapes.shapes[entry.shape as usize].classes.clone() {
            let known = &self.shapes.classes[class as usize];
            if known.forbidden.is_some() {
                continue;
            }
            let span = self.span(entry, class);
            let found = search::earliest(&self.cluster, walk.state, walk.settings, known, span, walk.now);
            if let Some((start, holds)) = found
                && best.as_ref().is_none_or(|best| start < best.0)
            {
                best = Some((start, class, holds));
            }
        }
        best
    }

    /// Takes a planned start out of the profile, and keeps it where promises are kept.
    fn promise(&mut self, walk: &Walk<'_>, entry: &Entry, promise: Promise) {
        for &(node, amount) in &promise.holds {
            self.cluster.reserve(node, amount, (promise.start, promise.end), !walk.keep);
        }
        if promise.start > walk.now {
            self.next_due = self.next_due.min(promise.start);
        }
        self.protected += 1;
        self.last_protected = self.last_protected.max(Some(entry.key));
        if walk.keep {
            self.promises.insert(entry.key.job, promise);
        }
    }

    /// An entry whose start was promised before: due, moved earlier in a sweep, or as it was.
    fn kept(&mut self, walk: &mut Walk<'_>, entry: &Entry, sweep: bool) -> Option<Outcome> {
        let mut promise = self.promises.remove(&entry.key.job)?;
        let due = promise.start <= walk.now;
        if sweep || due {
            for &(node, amount) in &promise.holds {
                self.cluster.unreserve(node, amount, promise.start, promise.end);
            }
            if self.start_now(walk, entry, false) {
                return Some(Outcome::Started);
            }
            let (start, class, holds) = self.earliest(walk, entry)?;
            let end = start.saturating_add(self.span(entry, class));
            promise = Promise { start, end, class, holds };
            let planned = self.planned(walk, start, class, &promise.holds);
            self.promise(walk, entry, promise);
            return Some(Outcome::Waits(self.why(walk, entry), planned));
        }
        let planned = self.planned(walk, promise.start, promise.class, &promise.holds);
        self.next_due = self.next_due.min(promise.start);
        self.protected += 1;
        self.last_protected = self.last_protected.max(Some(entry.key));
        self.promises.insert(entry.key.job, promise);
        Some(Outcome::Waits(self.why(walk, entry), planned))
    }

    fn planned(&self, walk: &Walk<'_>, start: i64, class: u32, holds: &[(u32, Amount)]) -> Option<Planned> {
        if !walk.verdicts {
            return None;
        }
        let name = |node: u32| &*walk.state.nodes[node as usize].definition.name;
        let names: Vec<&str> = match holds {
            // Which nodes of a pool is open until it starts: as many of the first.
            [(_, amount)] if self.cluster.is_pool() => (0..amount.cpus).map(name).collect(),
            _ => holds.iter().map(|(node, _)| name(*node)).collect(),
        };
        let nodes = model::hostlist::compress_sorted(&names).into();
        let partition = self.shapes.classes[class as usize].partition;
        Some(Planned { start: Timestamp(start), nodes, partition })
    }

    /// Tests an entry behind the protected ones for starting now.
    fn test(&mut self, walk: &mut Walk<'_>, entry: &Entry) -> Outcome {
        walk.out.counts.tested += 1;
        let mut left = 1;
        if entry.special {
            left = eligible::elements_left(walk.state, &walk.state.jobs[&entry.key.job]);
            if left == 0 {
                return Outcome::Waits(Reason::JobArrayTaskLimit, None);
            }
        }
        while left > 0 {
            if entry.special
                && let Some(reason) = walk.held_back(&walk.state.jobs[&entry.key.job])
            {
                return Outcome::Waits(reason, None);
            }
            if !self.start_now(walk, entry, true) {
                return Outcome::Waits(self.why(walk, entry), None);
            }
            left -= 1;
        }
        walk.started(entry)
    }

    /// Starts the entry (one element of it) if some partition has room from now on.
    ///
    /// `recall`: within this pass room only shrinks, so that a request that failed before fails again.
    fn start_now(&mut self, walk: &mut Walk<'_>, entry: &Entry, recall: bool) -> bool {
        for class in self.shapes.shapes[entry.shape as usize].classes.clone() {
            let span = self.span(entry, class);
            let known = &self.shapes.classes[class as usize];
            let failed =
                recall && !walk.board.has_owners() && known.failed.0 == self.pass && known.failed.1 <= span;
            if known.forbidden.is_some() || failed {
                continue;
            }
            let end = walk.now.saturating_add(span);
            self.cluster.look(self.shapes.classes[class as usize].list);
            let Some(shares) = self.place_now(walk, entry, class, end) else {
                if recall {
                    self.shapes.classes[class as usize].failed = (self.pass, span);
                }
                continue;
            };
            let job = &walk.state.jobs[&entry.key.job];
            let partition = self.shapes.classes[class as usize].partition;
            if entry.special
                && walk.breaks(job, partition, &Tally::of_allocation(walk.state, &shares)).is_some()
            {
                continue;
            }
            let holds = self.cluster.holds(&shares);
            let is_array = matches!(job.array, ArrayRole::Waiting(_));
            for &(node, amount) in &holds {
                self.cluster.reserve(node, amount, (walk.now, end), is_array && !walk.keep);
                walk.free_cpus = walk.free_cpus.saturating_sub(u64::from(amount.cpus));
            }
            walk.take(job, partition, &shares);
            let allocation: Allocation = shares.into();
            walk.out.plan.starts.push(PlannedStart { job: job.id, partition, allocation });
            // Elements of an array get ids of their own at the start: they are seen as new running jobs.
            if is_array {
                self.plan_doubtful = true;
            } else {
                self.proposed.insert(job.id, Proposed { end, holds });
            }
            return true;
        }
        false
    }

    fn place_now(&self, walk: &Walk<'_>, entry: &Entry, class: u32, end: i64) -> Option<Vec<NodeShare>> {
        let class = &self.shapes.classes[class as usize];
        let shared = |node: u32| {
            let open = walk.board.is_open(&class.demand) && !self.cluster.is_pool();
            open || {
                let user = walk.state.jobs[&entry.key.job].owner.uid;
                walk.board.may_take(walk.state, &class.demand, user, node)
                    && !(self.cluster.is_pool() && walk.board.is_touched(node))
            }
        };
        let window = (walk.now, end);
        let chosen = search::now(&self.cluster, walk.state, walk.settings, class, window, shared)?;
        let share = |one| walk.board.share(walk.state, walk.settings, &class.demand, one);
        let mut shares = chosen.iter().map(share).collect::<Option<Vec<_>>>()?;
        shares.sort_by_key(|share| share.node);
        Some(shares)
    }

    /// Slurm's reason for an entry that cannot start now; notes that its partitions have such a job.
    fn why(&self, walk: &mut Walk<'_>, entry: &Entry) -> Reason {
        if !walk.verdicts && walk.depth > 0 {
            return Reason::None;
        }
        let mut reason = None;
        let mut behind = false;
        for class in self.shapes.shapes[entry.shape as usize].classes.clone() {
            let class = &self.shapes.classes[class as usize];
            let missing = class.demand.required.iter().any(|&node| !walk.state.node(node).is_available());
            if class.forbidden.is_some() || missing {
                reason = reason.or(class.forbidden).or(Some(Reason::ReqNodeNotAvail));
                continue;
            }
            let few = !self.cluster.is_pool()
                && self.cluster.nodes(class.list).len() < class.demand.min_nodes as usize;
            if few {
                reason = reason.or(Some(Reason::ReqNodeNotAvail));
                continue;
            }
            behind |= walk.blocked.contains(&class.partition);
            if !walk.blocked.contains(&class.partition) {
                walk.blocked.push(class.partition);
            }
            reason = Some(Reason::Resources);
        }
        match reason {
            Some(Reason::Resources) if behind => Reason::Priority,
            Some(reason) => reason,
            None => Reason::BadConstraints,
        }
    }
}

impl Walk<'_> {
    /// Says what of their own holds jobs back.
    fn say_idle(&mut self, jobs: &[JobId]) {
        for id in jobs {
            let job = &self.state.jobs[id];
            if let Some(reason) = job.pending().and_then(|pending| eligible::own_reason(job, pending)) {
                self.out.verdicts.push(Verdict { job: *id, reason, planned: None });
            }
        }
    }

    fn conclude(&mut self, entry: &Entry, outcome: Outcome) {
        if let Outcome::Waits(reason, planned) = outcome {
            self.say(entry, reason, planned);
        }
    }

    fn say(&mut self, entry: &Entry, reason: Reason, planned: Option<Planned>) {
        if self.verdicts {
            self.out.verdicts.push(Verdict { job: entry.key.job, reason, planned });
        }
    }

    /// The outcome of an entry of which all that may start does: the rest of an array waits.
    fn started(&self, entry: &Entry) -> Outcome {
        if entry.special {
            let job = &self.state.jobs[&entry.key.job];
            if eligible::elements_left(self.state, job) < job.elements() {
                return Outcome::Waits(Reason::JobArrayTaskLimit, None);
            }
        }
        Outcome::Started
    }

    fn take(&mut self, job: &Job, partition: PartitionIdx, shares: &[NodeShare]) {
        self.board.take(self.state, job, shares);
        if let (Some(usage), Some(partition)) = (&mut self.usage, self.state.partition(partition)) {
            let tally = Tally::of_allocation(self.state, shares);
            usage.add(self.state, self.settings, job, partition, &tally);
        }
        if let Some(text) = job.request.rare().licenses.as_deref() {
            let used = self.licenses.get_or_insert_with(|| self.state.index.licenses_used.clone());
            for (name, amount) in crate::licenses::parse(text) {
                match used.entry(name.into()) {
                    Slot::Occupied(mut held) => *held.get_mut() += amount,
                    Slot::Vacant(none) => {
                        none.insert(amount);
                    }
                }
            }
        }
    }

    /// What beside nodes keeps the job from starting in every partition that it names; `None`: nothing.
    fn held_back(&mut self, job: &Job) -> Option<Reason> {
        if !self.licenses_free(job) {
            return Some(Reason::Licenses);
        }
        if !self.settings.enforce.limits {
            return None;
        }
        let tally = Tally::of_request(job);
        let mut first = None;
        for &idx in job.partitions.iter() {
            let reason = self.breaks(job, idx, &tally)?;
            first = first.or(Some(reason));
        }
        first
    }

    /// The limit of a QOS or association that the job would break with so much in a partition.
    fn breaks(&mut self, job: &Job, partition: PartitionIdx, tally: &Tally) -> Option<Reason> {
        if !self.settings.enforce.limits {
            return None;
        }
        let usage = self.usage.get_or_insert_with(|| Charged::of(self.state, self.settings));
        let partition = self.state.partition(partition)?;
        let limit = limit_of_run(job, partition);
        usage.broken(self.state, self.settings, &Candidate { job, partition, tally, limit })
    }

    fn licenses_free(&mut self, job: &Job) -> bool {
        let Some(text) = job.request.rare().licenses.as_deref() else { return true };
        let used = self.licenses.get_or_insert_with(|| self.state.index.licenses_used.clone());
        crate::licenses::parse(text).all(|(name, amount)| {
            let total = self.settings.licenses.get(name).copied().unwrap_or(0);
            used.get(name).copied().unwrap_or(0).saturating_add(amount) <= total
        })
    }
}
