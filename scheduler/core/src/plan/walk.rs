//! One pass over the queue.
//!
//! The protected jobs are considered in [`super::zone`], the others in [`super::rest`]. Owns what both need:
//! starting an entry now, its earliest start, what of the pass is proposed. Where a pass is given a budget,
//! it stops after so many candidates and says that there is more to do: what it proposed stands as it is.

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::collections::btree_map::Entry as Slot;
use std::sync::Arc;

use model::id::PartitionIdx;
use model::reason::Reason;
use model::time::{Span, Timestamp};

use super::defragment::Scene;
use super::holds::{Few, Holds};
use super::ledger::{Changes, Entry, Ledger, Promise, Proposals, Proposed};
use super::license;
use super::policy::OrderKey;
use super::search::{self, Scratch};
use super::shape::Class;
use super::shorten::Length;
use super::{Pass, eligible};
use crate::allocation::{Allocation, NodeShare};
use crate::input::{Plan, PlannedPromises, PlannedStart};
use crate::job::start::limit_of_run;
use crate::limits::{Candidate as LimitCandidate, Charged};
use crate::place::{Ahead, Board};
use crate::settings::Settings;
use crate::state::State;
use crate::state::job::{ArrayRole, Job};
use crate::state::promise::{Cause, PromiseChange};
use crate::tally::Tally;

/// Jobs that wait for minutes that running ones may still use are looked at again after so long, milliseconds.
const RETRY: i64 = 60_000;

/// What a pass carries along.
pub(super) struct Walk<'a> {
    pub(super) state: &'a State,
    pub(super) settings: &'a Settings,
    pub(super) now: i64,
    pub(super) depth: u32,
    pub(super) keep: bool,
    pub(super) verdicts: bool,
    /// Nodes on which candidates may still be examined.
    pub(super) budget: u32,
    /// On so many at least where the pass gets on, whatever was spent on looking again at what is before.
    pub(super) share: u32,
    /// Large, as is `scratch`: a pass that tests a job or two moves pointers.
    pub(super) board: Box<Board>,
    /// Licenses in use; made when a job asks for some.
    licenses: Option<BTreeMap<Box<str>, u32>>,
    /// What running jobs hold by QOS and association; made when a job has limits.
    usage: Option<Charged>,
    /// The limit by which the last start failed that had the nodes.
    pub(super) limit: Option<Reason>,
    /// Some job is held back by a limit that gives way with time alone.
    pub(super) time_bound: bool,
    /// Partitions in which a job waits already; without backfill.
    pub(super) blocked: Vec<PartitionIdx>,
    /// What is said of entries that were looked at.
    pub(super) said: BTreeMap<OrderKey, Outcome>,
    /// Changes of promises, and since when time is given back that was not looked at.
    pub(super) changes: Vec<PromiseChange>,
    pub(super) given_back: Option<Timestamp>,
    /// The last entry in order that was handled as a protected one.
    pub(super) zone_end: Option<OrderKey>,
    scratch: Box<Scratch>,
    pub(super) out: Pass,
}

impl Outcome {
    /// Whether the entry waits for something that is planned ahead.
    pub(super) fn is_planned(self) -> bool {
        matches!(self, Self::Waits | Self::Kept(Reason::Licenses))
    }
}

/// What came of one entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// All of it that may start does.
    Started,
    /// It waits for resources, perhaps with a planned start.
    Waits,
    /// It waits for something of its own.
    Kept(Reason),
}

impl Ledger {
    /// Runs a pass at `now` that examines candidates until `budget` nodes were looked at for them.
    pub(super) fn pass(
        &mut self,
        state: &State,
        settings: &Settings,
        now: Timestamp,
        verdicts: bool,
        budget: u32,
    ) -> Pass {
        self.remains.lessen(self.reads(budget) as usize);
        let Some(mut changes) = self.catch_up(state, settings, now, budget) else {
            let starts = self.head_starts(state, settings, now, budget);
            return Pass { plan: Plan { starts, ..Plan::default() }, more: true, ..Pass::default() };
        };
        if self.retry_at <= now.0 {
            // What running jobs may still use has become less.
            changes.full = true;
        }
        self.retry_at = i64::MAX;
        if changes.full && !self.worked_off.is_empty() {
            self.again = true;
            // Those that limits held back come before who is behind them; promised ones are asked by `collect`.
            let queue = &self.queue;
            self.worked_off.retain(|key| !queue.get(key).is_some_and(|entry| entry.bound));
        }
        // So do those that were read anew: what held them back may be gone.
        for key in &changes.arrived {
            self.worked_off.remove(key);
        }
        let mut walk = self.walk((state, settings, now), verdicts, budget);
        let whole = if walk.depth == 0 {
            self.in_order(&mut walk);
            true
        } else if walk.keep {
            self.rests(&mut walk, &changes) || self.keep_zone(&mut walk)
        } else {
            self.replan_zone(&mut walk, &changes)
        };
        if whole && walk.depth > 0 {
            // Protected jobs that no end of a running job would let start are looked at in each pass: whatever they
            // cost, those behind them get their turn.
            walk.budget = walk.budget.max(walk.share);
            self.rest(&mut walk, &changes);
        } else if walk.depth > 0 {
            // What arrived is tested when the protected ones are through.
            self.put_off(&changes, !walk.out.plan.starts.is_empty());
        }
        let pass = self.conclude(walk, &changes, whole);
        self.news.reuse(changes);
        pass
    }

    /// Makes ready for a pass.
    pub(super) fn walk<'a>(
        &mut self,
        (state, settings, now): (&'a State, &'a Settings, Timestamp),
        verdicts: bool,
        budget: u32,
    ) -> Walk<'a> {
        self.cluster.follow_rule(state);
        self.cluster.advance(now.0);
        self.licenses.advance(now);
        self.pass += 1;
        if self.owners > 0 {
            self.cluster.touched.add_all();
            self.cluster.touched_ahead.add_all();
        }
        let policy = self.policy();
        Walk {
            state,
            settings,
            now: now.0,
            depth: policy.depth.unwrap_or(settings.backfill_depth),
            keep: policy.keep && policy.depth != Some(0),
            verdicts,
            budget,
            share: (budget / 4).max(1),
            board: match self.board.take() {
                _ if self.owners > 0 => Box::new(Board::of(state)),
                board => board.unwrap_or_default(),
            },
            licenses: None,
            usage: None,
            limit: None,
            time_bound: false,
            blocked: Vec::new(),
            said: BTreeMap::new(),
            changes: Vec::new(),
            given_back: state.promises.given_back,
            zone_end: None,
            scratch: self.scratch.take().unwrap_or_default(),
            out: Pass::default(),
        }
    }

    #[inline]
    fn conclude(&mut self, mut walk: Walk<'_>, changes: &Changes, whole: bool) -> Pass {
        if walk.verdicts {
            self.give_verdicts(&mut walk, changes);
        }
        if walk.settings.defragment && whole && walk.keep {
            walk.out.plan.defragment =
                self.defragment(Scene { state: walk.state, settings: walk.settings, now: walk.now });
        }
        let Walk {
            state,
            keep,
            changes: mut promised,
            given_back,
            mut scratch,
            mut board,
            mut out,
            now,
            time_bound,
            ..
        } = walk;
        if whole {
            scratch.forget();
        }
        self.scratch = Some(scratch);
        board.clear();
        self.board = Some(board);
        if keep {
            // A job that starts takes its promise along.
            promised.retain(|change| {
                let array = matches!(state.jobs[&change.job].array, ArrayRole::Waiting(_));
                array || !self.proposed.contains_key(&change.job)
            });
            if !promised.is_empty() || given_back != state.promises.given_back {
                out.plan.promises = Some(PlannedPromises { changes: promised, given_back });
                self.unconfirmed = true;
            }
            let starts = self.promises.values().flatten().map(|promise| promise.start);
            self.next_due = i64::MAX;
            for start in starts {
                if start > now {
                    self.next_due = self.next_due.min(start);
                } else {
                    // It moves on with time.
                    self.settled = None;
                }
            }
            let sweep = given_back.map_or(i64::MAX, |since| {
                since.saturating_add(self.policy().sweep_after).0.max(now.saturating_add(1))
            });
            let closure = self.cluster.next_closure(now).unwrap_or(i64::MAX);
            let wake = self.next_due.min(sweep).min(closure);
            out.wake = (wake < i64::MAX).then_some(Timestamp(wake));
        } else {
            out.wake = self.cluster.next_closure(now).map(Timestamp);
        }
        if time_bound {
            self.retry_at = now.saturating_add(RETRY);
            let wake = out.wake.map_or(self.retry_at, |wake| wake.0.min(self.retry_at));
            out.wake = Some(Timestamp(wake));
        }
        if let Some(due) = self.limited.due(now) {
            out.wake = Some(Timestamp(out.wake.map_or(due, |wake| wake.0.min(due))));
        }
        let again = whole && std::mem::take(&mut self.again);
        if again {
            self.settled = None;
        }
        out.more = !whole
            || again
            || self.swept_to.is_some()
            || !self.candidates.is_empty()
            || self.telling.is_some()
            || self.limited.is_under_way();
        out.counts.protected = self.protected;
        out.counts.steps = self.cluster.steps() as u64;
        out.counts.started = u32::try_from(out.plan.starts.len()).unwrap_or(u32::MAX);
        out
    }

    /// Without backfill: a partition stops at its first job that cannot start.
    fn in_order(&mut self, walk: &mut Walk<'_>) {
        self.cluster.forget_plans();
        self.licenses.copy_base();
        self.protected = 0;
        self.cluster.touched.clear();
        self.cluster.touched_ahead.clear();
        self.cluster.since.clear();
        self.cluster.since_ahead.clear();
        let queue = std::mem::take(&mut self.queue);
        for (key, entry) in &queue {
            let classes = self.shapes.shapes[entry.shape as usize].classes.clone();
            let partition = |class: u32| self.shapes.classes[class as usize].partition;
            if classes.clone().any(|class| walk.blocked.contains(&partition(class))) {
                if walk.state.partitions.len() == 1 {
                    break;
                }
                continue;
            }
            let partitions: Vec<PartitionIdx> = classes.map(partition).collect();
            let (outcome, _) = self.start_all(walk, *key, entry, true);
            if outcome == Outcome::Waits {
                walk.blocked.extend(partitions);
            }
            walk.say(*key, outcome);
        }
        self.queue = queue;
    }

    /// Starts as much of an entry as may start now; answers how many elements are left that may start.
    pub(super) fn start_all(
        &mut self,
        walk: &mut Walk<'_>,
        key: OrderKey,
        entry: &Entry,
        recall: bool,
    ) -> (Outcome, u32) {
        let mut left = self.elements_left(walk, key, entry);
        if left == 0 {
            return (Outcome::Kept(Reason::JobArrayTaskLimit), 0);
        }
        while left > 0 {
            if let Some(reason) = walk.held_back(key, entry) {
                return (Outcome::Kept(reason), left);
            }
            if !self.start_now(walk, key, entry, recall, false) {
                self.limited.tested(key, walk.limit);
                let outcome = walk.limit.take().map_or(Outcome::Waits, Outcome::Kept);
                return (outcome, left);
            }
            left -= 1;
        }
        let outcome = walk.started(key, entry);
        if outcome == Outcome::Started {
            self.leave(key, entry);
        }
        (outcome, 0)
    }

    /// How many elements of the entry may start besides those that hold resources or are proposed.
    pub(super) fn elements_left(&self, walk: &Walk<'_>, key: OrderKey, entry: &Entry) -> u32 {
        let proposed = self.proposed.get(&key.job).map_or(0, |known| 1 + known.more.len());
        let proposed = u32::try_from(proposed).expect("elements are counted in 32 bits");
        let left =
            if entry.array { eligible::elements_left(walk.state, &walk.state.jobs[&key.job]) } else { 1 };
        left.saturating_sub(proposed)
    }

    /// The earliest start over the partitions that the entry names; the first on a tie.
    pub(super) fn earliest(&mut self, walk: &mut Walk<'_>, key: OrderKey, entry: &Entry) -> Option<Promise> {
        let licenses = self.licenses_of(walk, key, entry)?;
        let mut best: Option<(i64, u32, Holds)> = None;
        for class in self.shapes.shapes[entry.shape as usize].classes.clone() {
            let known = &self.shapes.classes[class as usize];
            if known.hopeless {
                continue;
            }
            walk.spend(self.cluster.nodes(known.list).len());
            let span = self.span(entry, class);
            if !walk.scratch.knows(&self.cluster, known, span) {
                self.cluster.sketch_plans();
            }
            let found = self.earliest_in(walk, known, span, &licenses);
            if let Some((start, holds)) = found
                && best.as_ref().is_none_or(|best| start < best.0)
            {
                best = Some((start, class, holds));
            }
        }
        let (start, class, holds) = best?;
        let end = self.end_of(class, start, self.span(entry, class));
        Some(Promise { start, end, class, holds, licenses })
    }

    /// When a run of a class that starts then is believed to end.
    pub(super) fn end_of(&self, class: u32, start: i64, span: i64) -> i64 {
        let own = self.shapes.classes[class as usize].demand.reservation.as_deref();
        self.cluster.clip(own, start, start.saturating_add(span))
    }

    /// The earliest start in one class at which the licenses are free too.
    fn earliest_in(
        &self,
        walk: &mut Walk<'_>,
        class: &Class,
        span: i64,
        licenses: &license::Held,
    ) -> Option<(i64, Holds)> {
        let mut from = walk.now;
        loop {
            from = self.licenses.earliest(licenses, span, from)?;
            let scratch = &mut walk.scratch;
            let found =
                search::earliest(&self.cluster, walk.state, walk.settings, class, span, from, scratch)?;
            if found.0 == from || self.licenses.cover(licenses, found.0, found.0.saturating_add(span)) {
                return Some(found);
            }
            from = found.0;
        }
    }

    /// The licenses that an entry asks for; `None`: some do not exist.
    fn licenses_of(&self, walk: &Walk<'_>, key: OrderKey, entry: &Entry) -> Option<license::Held> {
        if !entry.licensed {
            return Some(license::Held::default());
        }
        self.licenses.needs(&walk.state.jobs[&key.job])
    }

    /// Starts the entry (one element of it) if some partition has room from now on.
    ///
    /// `recall`: within this pass room only shrinks, so that a request that failed before fails again.
    /// `hot`: only classes that are being tested are looked at.
    pub(super) fn start_now(
        &mut self,
        walk: &mut Walk<'_>,
        key: OrderKey,
        entry: &Entry,
        recall: bool,
        hot: bool,
    ) -> bool {
        walk.limit = None;
        if !self.shapes.shapes[entry.shape as usize].shortens {
            return self.start_for(walk, key, entry, (recall, hot), Length::Only);
        }
        // Without backfill nobody is ahead whom a shorter run would leave alone.
        self.start_for(walk, key, entry, (recall, hot), Length::Whole)
            || walk.depth > 0 && self.start_for(walk, key, entry, (recall, hot), Length::Least)
    }

    /// The same for a run of one length.
    fn start_for(
        &mut self,
        walk: &mut Walk<'_>,
        key: OrderKey,
        entry: &Entry,
        (recall, hot): (bool, bool),
        length: Length,
    ) -> bool {
        let owners = walk.board.has_owners();
        for class in self.shapes.shapes[entry.shape as usize].classes.clone() {
            let Some(span) = self.span_of(walk, key, entry, class, length) else { continue };
            let known = &self.shapes.classes[class as usize];
            let failed = recall && !owners && known.failed.0 == self.pass && known.failed.1 <= span;
            let cold = hot && !self.shapes.families.members[class as usize].hot;
            if known.hopeless || failed || cold {
                continue;
            }
            let end = self.end_of(class, walk.now, span);
            let touched = hot && !owners && !self.shapes.families.members[class as usize].full;
            // A look at what is free now is cheap, and most searches end soon.
            let free = touched || known.cut.is_some();
            walk.spend(if free { 0 } else { self.cluster.nodes(known.list).len() / 8 });
            if recall && !owners && self.cluster.is_out_of(known.list, known.fixed.as_ref()) {
                // After the starts of this pass, as a rule: nothing of the class starts any more, however short.
                self.shapes.classes[class as usize].failed = (self.pass, 0);
                continue;
            }
            let Some(shares) = self.place_now(walk, key, class, end, touched) else {
                if recall {
                    self.shapes.classes[class as usize].failed = (self.pass, span);
                }
                continue;
            };
            // Asked behind the nodes: what is known of a class that has no room tells nothing of licenses.
            let licenses = self.licenses_of(walk, key, entry);
            let Some(licenses) = licenses.filter(|licenses| self.licenses.cover(licenses, walk.now, end))
            else {
                // Free now, perhaps, but promised to others before it would end.
                walk.limit = walk.limit.or(Some(Reason::Licenses));
                continue;
            };
            let (end, shortened) = match length {
                Length::Only | Length::Whole => (end, None),
                Length::Least => self.lengthen(walk, (key, entry), (class, end), &shares, &licenses),
            };
            if entry.bound && self.breaks(walk, key, (class, shortened), &shares) {
                continue;
            }
            walk.limit = None;
            self.propose(walk, key, (class, end, shortened), shares, licenses);
            return true;
        }
        false
    }

    /// Whether the shares break a limit of the job's QOS or association, which is noted.
    fn breaks(
        &self,
        walk: &mut Walk<'_>,
        key: OrderKey,
        (class, shortened): (u32, Option<Span>),
        shares: &[NodeShare],
    ) -> bool {
        let partition = self.shapes.classes[class as usize].partition;
        let tally = Tally::of_allocation(walk.state, shares);
        let limit = walk.breaks(&walk.state.jobs[&key.job], partition, &tally, shortened);
        walk.limit = walk.limit.or(limit);
        limit.is_some()
    }

    fn propose(
        &mut self,
        walk: &mut Walk<'_>,
        key: OrderKey,
        (class, end, shortened): (u32, i64, Option<Span>),
        allocation: Allocation,
        licenses: license::Held,
    ) {
        self.licenses.reserve(&licenses, walk.now, end);
        let job = &walk.state.jobs[&key.job];
        let holds = self.cluster.holds(&allocation);
        for &(node, amount) in &holds {
            self.cluster.reserve(node, amount, (walk.now, end), false);
        }
        let partition = self.shapes.classes[class as usize].partition;
        walk.take(job, partition, &allocation, shortened);
        walk.out.plan.starts.push(PlannedStart { job: job.id, partition, allocation, shortened });
        let proposed = Proposed { end, holds, licenses };
        match self.proposed.entry(job.id) {
            Slot::Occupied(mut known) => known.get_mut().more.push_back(proposed),
            Slot::Vacant(none) => {
                none.insert(Proposals { first: proposed, more: VecDeque::new() });
            }
        }
    }

    /// Room for the entry in `[now, end)`. `touched`: on nodes where something became free.
    fn place_now(
        &mut self,
        walk: &Walk<'_>,
        key: OrderKey,
        class: u32,
        end: i64,
        touched: bool,
    ) -> Option<Allocation> {
        let list = self.shapes.classes[class as usize].list;
        let few = touched && !self.cluster.touched.is_all() && !self.cluster.is_pool();
        let single = self.shapes.classes[class as usize].fixed.as_ref().is_some_and(|one| one.count == 1);
        let cut = self.shapes.classes[class as usize].cut.is_some();
        if !(few && single || cut) {
            self.cluster.look(list);
        }
        let class = &self.shapes.classes[class as usize];
        let (pool, layered) = (self.cluster.is_pool(), self.cluster.has_layers());
        let shared = |node: u32| {
            (walk.board.is_open(&class.demand) && !pool && !layered) || {
                let user = walk.state.jobs[&key.job].owner.uid;
                walk.board.may_take(walk.state, &class.demand, user, node)
                    && !(pool && walk.board.is_touched(node))
            }
        };
        let window = (walk.now, end);
        let chosen = match &class.fixed {
            Some(fixed) if few && single => search::on_touched(&self.cluster, list, fixed, window, shared),
            _ if class.demand.looks_at_ids() => {
                let user = walk.state.jobs[&key.job].owner.uid;
                let known = |node| walk.board.candidate(walk.state, walk.settings, &class.demand, user, node);
                search::now_on_sockets(&self.cluster, walk.state, walk.settings, class, window, known)
                    .map(Few::Many)
            }
            _ => search::now(&self.cluster, walk.state, walk.settings, class, window, shared),
        }?;
        // A device must stay free as long as the job may run, not only now.
        let share = |one: &crate::place::choose::Chosen| {
            let ahead = if pool {
                Ahead::ALL
            } else {
                let free = self.cluster.plan(one.node.0).over(window.0, window.1);
                Ahead { gres: free.gres, slices: free.slices, shards: free.shards }
            };
            walk.board.share(walk.state, walk.settings, &class.demand, one, ahead)
        };
        if let Few::One(one) = &chosen {
            return Some(Arc::from([share(one)?]));
        }
        let mut shares = chosen.iter().map(share).collect::<Option<Vec<_>>>()?;
        shares.sort_by_key(|share| share.node);
        Some(shares.into())
    }

    /// Notes what is promised to a job from now on.
    pub(super) fn promise(
        &mut self,
        walk: &mut Walk<'_>,
        key: OrderKey,
        promises: VecDeque<Promise>,
        cause: Cause,
    ) {
        let kept = promises
            .iter()
            .map(|promise| promise.as_kept(self.shapes.classes[promise.class as usize].partition));
        let change = PromiseChange { job: key.job, promises: kept.collect(), cause };
        walk.changes.push(change);
        if !promises.is_empty() {
            self.promises.insert(key, promises);
        }
    }
}

impl Walk<'_> {
    /// One more candidate was examined on so many nodes.
    pub(super) fn spend(&mut self, nodes: usize) {
        let nodes = u32::try_from(nodes).unwrap_or(u32::MAX).saturating_add(16);
        self.budget = self.budget.saturating_sub(nodes);
    }

    pub(super) fn say(&mut self, key: OrderKey, outcome: Outcome) {
        if self.verdicts {
            self.said.insert(key, outcome);
        }
    }

    /// The outcome of an entry of which all that may start does: the rest of an array waits.
    pub(super) fn started(&self, key: OrderKey, entry: &Entry) -> Outcome {
        if entry.array {
            let job = &self.state.jobs[&key.job];
            if eligible::elements_left(self.state, job) < job.elements() {
                return Outcome::Kept(Reason::JobArrayTaskLimit);
            }
        }
        Outcome::Started
    }

    fn take(&mut self, job: &Job, partition: PartitionIdx, shares: &[NodeShare], shortened: Option<Span>) {
        self.board.take(self.state, job, shares);
        if let (Some(usage), Some(partition)) = (&mut self.usage, self.state.partition(partition)) {
            let tally = &Tally::of_allocation(self.state, shares);
            let limit = shortened.or_else(|| limit_of_run(job, partition));
            usage.add(self.state, self.settings, &LimitCandidate { job, partition, tally, limit });
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

    /// What beside nodes keeps the entry from starting in every partition that it names; `None`: nothing.
    pub(super) fn held_back(&mut self, key: OrderKey, entry: &Entry) -> Option<Reason> {
        if !entry.bound {
            return None;
        }
        let job = &self.state.jobs[&key.job];
        if !self.licenses_free(job) {
            return Some(Reason::Licenses);
        }
        if !self.settings.enforce.limits {
            return None;
        }
        let tally = Tally::of_request(job);
        let mut first = None;
        for &idx in job.partitions.iter() {
            let reason = self.breaks(job, idx, &tally, None)?;
            first = first.or(Some(reason));
        }
        first
    }

    /// The limit of a QOS or association that the job would break with so much in a partition.
    fn breaks(
        &mut self,
        job: &Job,
        partition: PartitionIdx,
        tally: &Tally,
        shortened: Option<Span>,
    ) -> Option<Reason> {
        if !self.settings.enforce.limits {
            return None;
        }
        let usage = self.usage.get_or_insert_with(|| Charged::of(self.state, self.settings));
        let partition = self.state.partition(partition)?;
        let limit = shortened.or_else(|| limit_of_run(job, partition));
        let candidate = LimitCandidate { job, partition, tally, limit };
        let broken = usage.broken(self.state, self.settings, &candidate);
        self.time_bound |= broken.is_some_and(crate::limits::passes_with_time);
        broken
    }

    /// Whether the licenses that a job asks for are free.
    fn licenses_free(&mut self, job: &Job) -> bool {
        let Some(text) = job.request.rare().licenses.as_deref() else { return true };
        let used = self.licenses.get_or_insert_with(|| self.state.index.licenses_used.clone());
        crate::licenses::parse(text).all(|(name, amount)| {
            let total = self.settings.licenses.get(name).copied().unwrap_or(0);
            used.get(name).copied().unwrap_or(0).saturating_add(amount) <= total
        })
    }
}
