//! Opt-in defragmentation: jobs in small slices are moved where a large slice is kept waiting by where they lie.
//!
//! Owns one judgement a pass: for the first job of the queue that waits for one slice, the window of a GPU that is
//! cheapest to clear. Only batch jobs that may be requeued are moved, only where each of them has room elsewhere as
//! long as it may run, beside all that is promised; and only if what the large slice gains, its wait times its memory
//! slices, exceeds what is lost, the run time of the moved jobs (and the time of making and removing slices) times
//! theirs. One move at a time: none is proposed while a job is on its way back to the queue. Changes nothing itself.
//!
//! The same judgement is told to whoever asks why a job waits ([`Moves`]), also where nothing is moved.

use std::collections::BTreeMap;

use model::id::JobId;

use super::ledger::{Ledger, Promise};
use super::profile::Amount;
use super::shape::Cut;
use crate::allocation::{GresShare, Slice};
use crate::gpu::geometry::Occupancy;
use crate::gpu::slice_set::SliceSet;
use crate::input::Defragment;
use crate::settings::Settings;
use crate::state::State;
use crate::state::job::{Active, Job};

/// So many of the cheapest windows are tried for room elsewhere.
const TRIED: usize = 16;
/// So many jobs that are not moved are named.
const NAMED: usize = 8;

/// What is judged of moving jobs for one that waits for a slice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Moves {
    /// More is gained than lost: these are moved where that is switched on.
    Worth(Defragment),
    /// The cheapest ones cost at least as much as is gained.
    Costs(Defragment),
    /// These would have to go, and have no room elsewhere for as long as they may run.
    NoRoom(Vec<JobId>),
    /// No window lies under jobs alone that may be moved. The first few that may not, and why.
    Fixed(Vec<(JobId, Fixed)>),
    /// This job is ahead and waits for a slice too: one is helped at a time.
    Behind(JobId),
    /// This job is on its way back to the queue: one move at a time.
    Underway(JobId),
    /// It has no promised start that a gain could be reckoned from.
    Unplanned,
}

/// Why a job is not moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fixed {
    /// It is no batch job, so nothing could run it again.
    Interactive,
    /// It may not be requeued.
    NoRequeue,
    /// It ends already.
    Ending,
    /// It is suspended.
    Suspended,
    /// It has more than one slice, or several nodes.
    Several,
}

impl Fixed {
    /// In words, behind the job.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Interactive => "is no batch job",
            Self::NoRequeue => "may not be requeued",
            Self::Ending => "ends already",
            Self::Suspended => "is suspended",
            Self::Several => "has more than one slice",
        }
    }
}

/// What a judgement looks at.
#[derive(Clone, Copy)]
pub(super) struct Scene<'a> {
    pub(super) state: &'a State,
    pub(super) settings: &'a Settings,
    pub(super) now: i64,
}

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
    mask: SliceSet,
    /// Who lies in it: places among the movable ones of the node.
    moved: Vec<usize>,
}

impl Job {
    /// Whether it can be moved by requeueing: a batch job that may be run again, and does nothing else already.
    pub(crate) fn may_be_moved(&self) -> bool {
        self.active().is_some() && self.fixed().is_none()
    }

    fn fixed(&self) -> Option<Fixed> {
        let active = self.active()?;
        Some(match () {
            () if active.finish.is_some() => Fixed::Ending,
            () if !self.has_batch_step() => Fixed::Interactive,
            () if !self.requeue => Fixed::NoRequeue,
            () if active.suspended_since.is_some() => Fixed::Suspended,
            () if active.allocation.len() != 1 => Fixed::Several,
            () => return None,
        })
    }
}

impl Ledger {
    /// What is worth moving, where promises are kept; `None`: nothing.
    ///
    /// Cost: O(running jobs + GPUs) where a job waits for a slice.
    pub(super) fn defragment(&mut self, scene: Scene<'_>) -> Option<Defragment> {
        let (job, promise) = self.first_blocked(scene.now)?;
        match self.judge(scene, job, &promise) {
            Moves::Worth(moves) => Some(moves),
            _ => None,
        }
    }

    /// What is judged of a waiting job, after a pass; `None`: it does not ask for one slice that is made for it.
    pub(super) fn moves_for(&mut self, scene: Scene<'_>, job: JobId) -> Option<Moves> {
        let entry = self.queue.iter().find_map(|(key, entry)| (key.job == job).then_some(entry))?;
        let mut classes = self.shapes.shapes[entry.shape as usize].classes.clone();
        if !classes.any(|class| self.shapes.classes[class as usize].cut.is_some()) {
            return None;
        }
        let own = self.promises.iter().find(|(key, _)| key.job == job);
        if own.and_then(|(_, list)| list.front()).is_none_or(|promise| promise.start <= scene.now) {
            return Some(Moves::Unplanned);
        }
        let (first, promise) = self.first_blocked(scene.now)?;
        if first != job {
            return Some(Moves::Behind(first));
        }
        Some(self.judge(scene, job, &promise))
    }

    /// The first job in order that waits for one slice, and its promise.
    fn first_blocked(&self, now: i64) -> Option<(JobId, Promise)> {
        self.promises.iter().find_map(|(key, list)| {
            let promise = list.front()?;
            let cut = self.shapes.classes[promise.class as usize].cut.is_some();
            (cut && promise.start > now).then(|| (key.job, promise.clone()))
        })
    }

    fn judge(&mut self, scene: Scene<'_>, job: JobId, promise: &Promise) -> Moves {
        let underway = |id: &&JobId| {
            let finish = scene.state.jobs[*id].active().and_then(|active| active.finish.as_ref());
            finish.is_some_and(|finish| finish.requeue.is_some())
        };
        if let Some(id) = scene.state.index.running.iter().find(underway) {
            return Moves::Underway(*id);
        }
        // Its own promise is not in its way.
        promise.holds.iter().for_each(|&(node, amount)| {
            self.cluster.lift(node, amount, promise.start, promise.end);
        });
        let found = self.cheapest(scene, job, promise);
        promise.holds.iter().for_each(|&(node, amount)| {
            self.cluster.reserve(node, amount, (promise.start, promise.end), false);
        });
        found
    }

    fn cheapest(&self, scene: Scene<'_>, job: JobId, promise: &Promise) -> Moves {
        let class = &self.shapes.classes[promise.class as usize];
        let Some(cut) = class.cut.as_deref() else { return Moves::Fixed(Vec::new()) };
        let size = i64::from(cut.profile.memory_slices());
        // The moved jobs have to end, and their slices to be removed.
        let overhead = scene.settings.kill_wait.saturating_add(scene.settings.slice_destroy).0;
        let gain = (promise.start - scene.now - overhead).max(0).saturating_mul(size);
        let span = (scene.now, scene.now.saturating_add(promise.end - promise.start));
        let movable = movable(scene);
        let mut windows: Vec<Window> = Vec::new();
        for &node in self.cluster.nodes(class.list) {
            if let Some(here) = movable.get(&node) {
                self.windows_of(cut, node, span, here, &mut windows);
            }
        }
        windows.sort_by_key(|window| (window.cost, window.node, window.mask));
        let ids = |window: &Window| -> Vec<JobId> {
            window.moved.iter().map(|place| movable[&window.node][*place].job.id).collect()
        };
        let moves = |window: &Window| Defragment {
            room_for: job,
            moved: ids(window),
            gain: gain / 1000,
            cost: window.cost / 1000,
        };
        let Some(cheapest) = windows.first() else { return Moves::Fixed(self.fixed(scene, class.list)) };
        if cheapest.cost >= gain {
            return Moves::Costs(moves(cheapest));
        }
        let found = windows.iter().filter(|window| window.cost < gain).take(TRIED).find(|window| {
            let here = &movable[&window.node];
            let moved: Vec<&Movable<'_>> = window.moved.iter().map(|place| &here[*place]).collect();
            self.have_room_elsewhere(scene, window, moved)
        });
        found.map_or_else(|| Moves::NoRoom(ids(cheapest)), |window| Moves::Worth(moves(window)))
    }

    /// Jobs on the nodes of a list that hold slices and are not moved, and why.
    fn fixed(&self, scene: Scene<'_>, list: u32) -> Vec<(JobId, Fixed)> {
        let nodes = self.cluster.nodes(list);
        let mut found = Vec::new();
        for job in scene.state.index.running.iter().map(|id| &scene.state.jobs[id]) {
            let Some(active) = job.active() else { continue };
            let mut here = active.allocation.iter().filter(|share| nodes.contains(&share.node.0));
            if !here.any(|share| share.gres.iter().any(GresShare::is_cut)) {
                continue;
            }
            let why = job.fixed().or_else(|| slice_of(active).is_none().then_some(Fixed::Several));
            found.extend(why.map(|why| (job.id, why)));
            if found.len() == NAMED {
                break;
            }
        }
        found
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
        for gpu in gpus.gpus() {
            for &start in cut.profile.starts() {
                let mask = SliceSet::of(gpu, cut.profile.mask(start));
                let moved: Vec<usize> =
                    (0..movable.len()).filter(|place| movable[*place].slice.bits().meets(mask)).collect();
                // What is not free at an instant has to be held by somebody who is moved: a promise is not.
                let held = |at: i64| {
                    let holds = |place: &&usize| movable[**place].end() > at;
                    let bits = moved.iter().filter(holds).map(|place| movable[*place].slice.bits());
                    SliceSet::union(bits)
                };
                if !moved.is_empty() && plan.slices_all(from, to, |at, free| (free | held(at)).covers(mask)) {
                    let cost = moved.iter().map(|place| movable[*place].cost).sum();
                    windows.push(Window { cost, node, mask, moved });
                }
            }
        }
    }

    /// Whether each of the moved jobs has a slice elsewhere from now on for as long as it may run, with its CPUs and
    /// memory.
    fn have_room_elsewhere(&self, scene: Scene<'_>, window: &Window, mut moved: Vec<&Movable<'_>>) -> bool {
        moved.sort_by_key(|one| (u8::MAX - one.slice.size, one.job.id));
        let mut taken: BTreeMap<u32, Amount> = BTreeMap::new();
        taken.insert(window.node, Amount { slices: window.mask, ..Amount::default() });
        moved.iter().all(|one| self.find_place(scene, window.node, one, &mut taken))
    }

    fn find_place(
        &self,
        scene: Scene<'_>,
        home: u32,
        one: &Movable<'_>,
        taken: &mut BTreeMap<u32, Amount>,
    ) -> bool {
        let Some(partition) = scene.state.partition(one.active.partition) else { return false };
        let share = &one.active.allocation[0];
        let limit = one.active.limit.map_or(i64::MAX, |limit| limit.0);
        let end = scene.now.saturating_add(limit).saturating_add(scene.settings.slice_time().0);
        for node in partition.nodes.iter().map(|node| node.0).filter(|node| self.cluster.is_available(*node))
        {
            let kind = &self.cluster.kinds[self.cluster.kind(node)];
            let Some(inventory) = &kind.inventory else { continue };
            let held = taken.get(&node).copied().unwrap_or_default();
            let free = self.cluster.plan(node).over(scene.now, end).minus(held);
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

/// The one slice that was made for a job that has nothing else of GPUs.
fn slice_of(active: &Active) -> Option<&Slice> {
    let [share] = &active.allocation[..] else { return None };
    let [gres] = share.gres.as_slice() else { return None };
    let [slice] = gres.slices.as_slice() else { return None };
    (gres.is_cut() && slice.size > 0).then_some(slice)
}

/// Jobs that could be moved, by node.
fn movable(scene: Scene<'_>) -> BTreeMap<u32, Vec<Movable<'_>>> {
    let mut found: BTreeMap<u32, Vec<Movable<'_>>> = BTreeMap::new();
    let state: &State = scene.state;
    for job in state.index.running.iter().map(|id| &state.jobs[id]).filter(|job| job.may_be_moved()) {
        let Some(active) = job.active() else { continue };
        if let Some(slice) = slice_of(active) {
            let run = scene.now.saturating_sub(active.start.0);
            let cost =
                run.saturating_add(scene.settings.slice_time().0).saturating_mul(i64::from(slice.size));
            let node = active.allocation[0].node.0;
            found.entry(node).or_default().push(Movable { job, active, slice, cost });
        }
    }
    found
}
