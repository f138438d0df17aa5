//! Opt-in defragmentation: jobs in small slices are moved where a large slice is kept waiting by where they lie.
//!
//! Owns one judgement a pass: for the first job of the queue that waits for one slice, the window of a GPU that is
//! cheapest to clear. Only batch jobs that may be requeued are moved, only where each of them has room elsewhere as
//! long as it may run, beside all that is promised; and only if what the large slice gains, its wait times its memory
//! slices, exceeds what is lost, the run time of the moved jobs (and the time of making and removing slices) times
//! theirs. One move at a time: none is proposed while a job is on its way back to the queue. Changes nothing itself.

use std::collections::BTreeMap;

use model::id::JobId;

use super::ledger::{Ledger, Promise};
use super::profile::Amount;
use super::shape::Cut;
use super::walk::Walk;
use crate::allocation::Slice;
use crate::gpu::geometry::Occupancy;
use crate::input::Defragment;
use crate::state::State;
use crate::state::job::{Active, Job};

/// So many of the cheapest windows are tried for room elsewhere.
const TRIED: usize = 16;

/// A job whose one slice could be moved.
struct Movable<'a> {
    job: &'a Job,
    active: &'a Active,
    slice: &'a Slice,
    /// Memory slices times milliseconds that a move loses.
    cost: i64,
}

/// A window that could be cleared.
struct Window {
    cost: i64,
    node: u32,
    mask: u64,
    /// Who lies in it: places among the movable ones of the node.
    moved: Vec<usize>,
}

impl Job {
    /// Whether it can be moved by requeueing: a batch job that may be run again, and does nothing else already.
    pub(crate) fn may_be_moved(&self) -> bool {
        self.has_batch_step()
            && self.requeue
            && self.active().is_some_and(|active| {
                active.finish.is_none() && active.suspended_since.is_none() && active.allocation.len() == 1
            })
    }
}

impl Ledger {
    /// What is worth moving, where promises are kept; `None`: nothing.
    ///
    /// Cost: O(running jobs + GPUs) where a job waits for a slice.
    pub(super) fn defragment(&mut self, walk: &Walk<'_>) -> Option<Defragment> {
        let blocked = self.promises.iter().find_map(|(key, list)| {
            let promise = list.front()?;
            let cut = self.shapes.classes[promise.class as usize].cut.is_some();
            (cut && promise.start > walk.now).then(|| (key.job, promise.clone()))
        });
        let (job, promise) = blocked?;
        let underway = |id: &JobId| {
            let finish = walk.state.jobs[id].active().and_then(|active| active.finish.as_ref());
            finish.is_some_and(|finish| finish.requeue.is_some())
        };
        if walk.state.index.running.iter().any(underway) {
            return None;
        }
        // Its own promise is not in its way.
        promise.holds.iter().for_each(|&(node, amount)| {
            self.cluster.lift(node, amount, promise.start, promise.end);
        });
        let found = self.cheapest(walk, job, &promise);
        promise.holds.iter().for_each(|&(node, amount)| {
            self.cluster.reserve(node, amount, (promise.start, promise.end), false);
        });
        found
    }

    fn cheapest(&self, walk: &Walk<'_>, job: JobId, promise: &Promise) -> Option<Defragment> {
        let class = &self.shapes.classes[promise.class as usize];
        let cut = class.cut.as_deref()?;
        let size = i64::from(cut.profile.memory_slices());
        // The moved jobs have to end, and their slices to be removed.
        let overhead = walk.settings.kill_wait.saturating_add(walk.settings.slice_destroy).0;
        let gain = (promise.start - walk.now - overhead).max(0).saturating_mul(size);
        let span = (walk.now, walk.now.saturating_add(promise.end - promise.start));
        let movable = movable(walk);
        let mut windows: Vec<Window> = Vec::new();
        for &node in self.cluster.nodes(class.list) {
            if let Some(here) = movable.get(&node) {
                self.windows_of(cut, node, span, here, &mut windows);
            }
        }
        windows.retain(|window| window.cost < gain);
        windows.sort_by_key(|window| (window.cost, window.node, window.mask));
        let window = windows.iter().take(TRIED).find(|window| {
            let here = &movable[&window.node];
            let moved: Vec<&Movable<'_>> = window.moved.iter().map(|place| &here[*place]).collect();
            self.have_room_elsewhere(walk, window, moved)
        })?;
        let moved = window.moved.iter().map(|place| movable[&window.node][*place].job.id).collect();
        Some(Defragment { room_for: job, moved, gain: gain / 1000, cost: window.cost / 1000 })
    }

    /// The windows on a node that only movable jobs are in the way of.
    fn windows_of(
        &self,
        cut: &Cut,
        node: u32,
        (from, to): (i64, i64),
        movable: &[Movable<'_>],
        windows: &mut Vec<Window>,
    ) {
        let Some((need, gpus)) = &cut.needs[self.cluster.make(node)] else { return };
        let plan = self.cluster.plan(node);
        if !plan.covers(need, from, to) {
            return;
        }
        for gpu in (0..8_u32).filter(|gpu| gpus >> (8 * gpu) & 0xff != 0) {
            for &start in cut.profile.starts() {
                let mask = u64::from(cut.profile.mask(start)) << (8 * gpu);
                let moved: Vec<usize> =
                    (0..movable.len()).filter(|place| movable[*place].slice.bits() & mask != 0).collect();
                // What is not free at an instant has to be held by somebody who is moved: a promise is not.
                let held = |at: i64| {
                    let holds = |place: &&usize| movable[**place].end() > at;
                    let bits = moved.iter().filter(holds).map(|place| movable[*place].slice.bits());
                    bits.fold(0, |all, bits| all | bits)
                };
                if !moved.is_empty() && plan.slices_all(from, to, |at, free| mask & !free & !held(at) == 0) {
                    let cost = moved.iter().map(|place| movable[*place].cost).sum();
                    windows.push(Window { cost, node, mask, moved });
                }
            }
        }
    }

    /// Whether each of the moved jobs has a slice elsewhere from now on for as long as it may run, with its CPUs and
    /// memory.
    fn have_room_elsewhere(&self, walk: &Walk<'_>, window: &Window, mut moved: Vec<&Movable<'_>>) -> bool {
        moved.sort_by_key(|one| (u8::MAX - one.slice.size, one.job.id));
        let mut taken: BTreeMap<u32, Amount> = BTreeMap::new();
        taken.insert(window.node, Amount { slices: window.mask, ..Amount::default() });
        moved.iter().all(|one| self.find_place(walk, window.node, one, &mut taken))
    }

    fn find_place(
        &self,
        walk: &Walk<'_>,
        home: u32,
        one: &Movable<'_>,
        taken: &mut BTreeMap<u32, Amount>,
    ) -> bool {
        let Some(partition) = walk.state.partition(one.active.partition) else { return false };
        let share = &one.active.allocation[0];
        let limit = one.active.limit.map_or(i64::MAX, |limit| limit.0);
        let end = walk.now.saturating_add(limit).saturating_add(walk.settings.slice_time().0);
        for node in partition.nodes.iter().map(|node| node.0).filter(|node| self.cluster.is_available(*node))
        {
            let kind = &self.cluster.kinds[self.cluster.kind(node)];
            let Some(inventory) = &kind.inventory else { continue };
            let held = taken.get(&node).copied().unwrap_or_default();
            let free = self.cluster.plan(node).over(walk.now, end).minus(held);
            // At home its own CPUs and memory come back to it.
            let need = if node == home {
                Amount::default()
            } else {
                Amount { cpus: share.cpus.0, memory: share.memory.0, ..Amount::default() }
            };
            if !free.covers(&need) {
                continue;
            }
            let place = inventory.dynamic.iter().find_map(|gpu| {
                let offer = gpu.offers.iter().find(|offer| offer.name == one.slice.profile)?;
                let state: Occupancy = gpu.taken(free.slices);
                let start = 7_u32.checked_sub(offer.free_starts(state).leading_zeros())?;
                let start = u8::try_from(start).expect("it is below eight");
                Some(Slice { gpu: gpu.index, start, ..one.slice.clone() })
            });
            if let Some(place) = place {
                let both = held.plus(Amount { slices: place.bits(), ..need });
                taken.insert(node, both);
                return true;
            }
        }
        false
    }
}

impl Movable<'_> {
    /// When it would be gone by itself, milliseconds.
    fn end(&self) -> i64 {
        self.active.limit_end().map_or(i64::MAX, |end| end.0)
    }
}

/// Jobs that hold one slice that was made for them, and nothing else of GPUs, by node.
fn movable<'a>(walk: &Walk<'a>) -> BTreeMap<u32, Vec<Movable<'a>>> {
    let mut found: BTreeMap<u32, Vec<Movable<'a>>> = BTreeMap::new();
    let state: &'a State = walk.state;
    for job in state.index.running.iter().map(|id| &state.jobs[id]).filter(|job| job.may_be_moved()) {
        let Some(active) = job.active() else { continue };
        let share = &active.allocation[0];
        let [gres] = share.gres.as_slice() else { continue };
        let [slice] = gres.slices.as_slice() else { continue };
        if gres.is_cut() && slice.size > 0 {
            let lost = walk.now.saturating_sub(active.start.0).saturating_add(walk.settings.slice_time().0);
            let cost = lost.saturating_mul(i64::from(slice.size));
            found.entry(share.node.0).or_default().push(Movable { job, active, slice, cost });
        }
    }
    found
}
