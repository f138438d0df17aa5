//! The GPUs of a node that jobs may share in parts (`gres/shard`), and the arithmetic of what is free of each.
//!
//! Owns the step from a declared `shard:16` to so many shards of each GPU, and the choice of the GPU that a job's shards
//! come from. A GPU serves one whole job or shards, never both: what is free of it is one number, all of its shards while
//! nobody has it, none while a whole job has it. Derived from a node's definition and inventory by [`crate::apply`].
//! Knows nothing of time: an amount of each GPU ([`Lanes`]) may be that of now, or what stays free over some time to come.
//!
//! * Shards are spread evenly over the whole GPUs of the node, the first ones get one more where they do not divide.
//! * A GPU that is cut into slices, or is out of service, has none. Nodes of more than sixteen GPUs offer none.
//!
//! Source: `man gres.conf` and the page "Generic Resource (GRES) Scheduling" of Slurm (sharding).

use super::inventory::Inventory;
use crate::allocation::{GresShare, Slice};
use crate::state::node::{GresDefinition, NodeDefinition};

/// So many of each GPU, a byte for each: the first GPU lowest in the first word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lanes(pub [u64; 2]);

/// GPUs that have a lane.
pub const LANES: usize = 16;

impl Lanes {
    /// As many of each as can be told.
    pub const ALL: Self = Self([u64::MAX; 2]);

    /// So many of one GPU alone.
    #[must_use]
    pub fn one(lane: usize, count: u8) -> Self {
        let mut words = [0; 2];
        words[lane / 8] = u64::from(count) << (8 * (lane % 8));
        Self(words)
    }

    /// Whether there is nothing of any.
    #[must_use]
    #[inline]
    pub const fn is_empty(self) -> bool {
        self.0[0] | self.0[1] == 0
    }

    /// How many of one GPU.
    #[must_use]
    pub fn get(self, lane: usize) -> u8 {
        self.0.get(lane / 8).map_or(0, |word| word.to_le_bytes()[lane % 8])
    }

    #[inline]
    fn zip(self, other: Self, both: impl Fn(u8, u8) -> u8) -> Self {
        // Most nodes have none: a look at each of ten thousand of them calls nothing.
        if self.is_empty() && other.is_empty() { self } else { self.zip_words(other, both) }
    }

    #[cold]
    fn zip_words(self, other: Self, both: impl Fn(u8, u8) -> u8) -> Self {
        let zip = |mine: u64, other: u64| {
            if mine | other == 0 {
                return 0;
            }
            let (mut mine, other) = (mine.to_le_bytes(), other.to_le_bytes());
            mine.iter_mut().zip(other).for_each(|(one, other)| *one = both(*one, other));
            u64::from_le_bytes(mine)
        };
        Self([zip(self.0[0], other.0[0]), zip(self.0[1], other.0[1])])
    }

    /// The smaller of each.
    #[must_use]
    #[inline]
    pub fn least(self, other: Self) -> Self {
        self.zip(other, u8::min)
    }

    /// The larger of each.
    #[must_use]
    #[inline]
    pub fn greatest(self, other: Self) -> Self {
        self.zip(other, u8::max)
    }

    /// The sum of each.
    #[must_use]
    #[inline]
    pub fn plus(self, other: Self) -> Self {
        self.zip(other, u8::saturating_add)
    }

    /// What is left of each.
    #[must_use]
    #[inline]
    pub fn minus(self, other: Self) -> Self {
        self.zip(other, u8::saturating_sub)
    }

    /// Whether there is at least so much of each.
    #[must_use]
    #[inline]
    pub fn covers(self, need: Self) -> bool {
        need.is_empty() || self.least(need) == need
    }
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shards {
    /// Place of the shards among the node's kinds.
    pub kind: usize,
    /// The GPUs, in the order of their kinds and units; a lane each.
    pub gpus: Vec<Shared>,
}

/// A GPU that may be shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shared {
    /// Its index on the node.
    pub index: u32,
    /// Its kind in the definition.
    pub kind: usize,
    /// Its place among the units of the kind.
    pub unit: u32,
    /// So many shards; 0: it is out of service.
    pub count: u8,
    /// Whether it has shards. Where there are fewer shards than GPUs the last ones are whole only: one unit, for one job.
    pub shares: bool,
}

/// Which GPUs of a node the shards of one job come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Dealing {
    /// Of several where no single one has enough (`MULTIPLE_SHARING_GRES_PJ`).
    pub several: bool,
    /// So many are a task's, and no GPU serves two tasks (`--gres-flags=one-task-per-sharing`); 0: tasks do not matter.
    pub each_task: u64,
}

/// The shards that a job takes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// As amounts.
    pub lanes: Lanes,
    /// The index of each GPU, and how many.
    pub shards: Vec<(u32, u8)>,
}

impl Shards {
    /// `None`: the node declares no shards, or they cannot be offered.
    #[must_use]
    pub fn of(definition: &NodeDefinition, inventory: Option<&Inventory>) -> Option<Self> {
        let is_shard = |gres: &GresDefinition| &*gres.name == "shard" && gres.count > 0;
        let kind = definition.gres.iter().position(is_shard)?;
        let mut gpus = Vec::new();
        let mut next = 0;
        for (place, gres) in definition.gres.iter().enumerate().filter(|(_, gres)| &*gres.name == "gpu") {
            for unit in 0..u32::try_from(gres.count).unwrap_or(u32::MAX).min(64) {
                let index = next;
                next += 1;
                let Some(inventory) = inventory else {
                    gpus.push((Shared { index, kind: place, unit, count: 0, shares: true }, true));
                    continue;
                };
                // What is declared and not there keeps its part, so that those of the others do not grow.
                let there = inventory.units.get(place).and_then(|units| units.get(unit as usize));
                if !there.is_some_and(|unit| unit.cut) {
                    let index = there.map_or(u32::MAX, |unit| unit.slice.gpu);
                    let serves = there.is_some_and(|unit| unit.in_service);
                    gpus.push((Shared { index, kind: place, unit, count: 0, shares: true }, serves));
                }
            }
        }
        if gpus.is_empty() || gpus.len() > LANES {
            return None;
        }
        let (each, more) = (definition.gres[kind].count / gpus.len() as u64, gpus.len() as u64);
        let more = definition.gres[kind].count % more;
        let part = |(place, (gpu, serves)): (usize, (Shared, bool))| {
            let shards = each + u64::from((place as u64) < more);
            let count = if serves { u8::try_from(shards.max(1)).unwrap_or(u8::MAX) } else { 0 };
            Shared { count, shares: shards > 0, ..gpu }
        };
        Some(Self { kind, gpus: gpus.into_iter().enumerate().map(part).collect() })
    }

    /// All that there is.
    #[must_use]
    pub fn total(&self) -> Lanes {
        let lanes = self.gpus.iter().enumerate().map(|(lane, gpu)| Lanes::one(lane, gpu.count));
        lanes.fold(Lanes::default(), Lanes::plus)
    }

    /// What shares of this node hold of each GPU.
    #[must_use]
    pub fn held(&self, shares: &[GresShare]) -> Lanes {
        let mut held = Lanes::default();
        for share in shares {
            let kind = share.kind as usize;
            for (lane, gpu) in self.gpus.iter().enumerate() {
                let count = if kind == self.kind {
                    share.slices.iter().filter(|slice| slice.gpu == gpu.index).map(|slice| slice.size).sum()
                } else if kind == gpu.kind && share.indices.contains(gpu.unit) {
                    u8::MAX
                } else {
                    continue;
                };
                held = held.plus(Lanes::one(lane, count.min(gpu.count)));
            }
        }
        held
    }

    /// Writes how many whole GPUs, and how many shards for one job, are free where so much of each GPU is free, over
    /// counts that know nothing of it.
    pub fn count(&self, free: Lanes, dealing: Dealing, counts: &mut [u64]) {
        let mut full = [0_u64; 16];
        for (lane, gpu) in self.gpus.iter().enumerate() {
            full[gpu.kind.min(15)] += u64::from(gpu.count > 0 && free.get(lane) >= gpu.count);
        }
        for (kind, count) in counts.iter_mut().enumerate() {
            if kind == self.kind {
                *count = self.room(free, dealing);
            } else if self.gpus.iter().any(|gpu| gpu.kind == kind) {
                *count = (*count).min(full[kind.min(15)]);
            }
        }
    }

    /// How many shards one job could have.
    fn room(&self, free: Lanes, dealing: Dealing) -> u64 {
        if dealing.each_task > 0 {
            let next = |rest: &Lanes| Some(self.choose_for_task(*rest, dealing)?.1);
            let tasks = std::iter::successors(Some(free), next).count() - 1;
            return dealing.each_task.saturating_mul(tasks as u64);
        }
        let sharing = self.gpus.iter().enumerate().filter(|(_, gpu)| gpu.shares);
        let lanes = sharing.map(|(lane, _)| u64::from(free.get(lane)));
        if dealing.several { lanes.sum() } else { lanes.max().unwrap_or(0) }
    }

    /// The shards of one task, and what is free to the tasks after it.
    fn choose_for_task(&self, free: Lanes, dealing: Dealing) -> Option<(Taken, Lanes)> {
        let own = self.choose_some(free, dealing.each_task, dealing.several)?;
        let lanes = 0..self.gpus.len();
        let used = lanes.filter(|lane| own.lanes.get(*lane) > 0).map(|lane| Lanes::one(lane, u8::MAX));
        let used = used.fold(Lanes::default(), Lanes::plus);
        Some((own, free.minus(used)))
    }

    /// Shards of the GPUs that have some free: of one that others share already, else of the first that nobody has; of
    /// several where that is allowed and no single one has enough, or where each task has its own. `None`: there are too
    /// few.
    #[must_use]
    pub fn choose(&self, free: Lanes, wanted: u64, dealing: Dealing) -> Option<Taken> {
        if dealing.each_task == 0 {
            return self.choose_some(free, wanted, dealing.several);
        }
        let (mut taken, mut rest) = (Taken::default(), free);
        for _ in 0..wanted.div_ceil(dealing.each_task) {
            let (own, after) = self.choose_for_task(rest, dealing)?;
            taken.lanes = taken.lanes.plus(own.lanes);
            taken.shards.extend(own.shards);
            rest = after;
        }
        Some(taken)
    }

    fn choose_some(&self, free: Lanes, wanted: u64, many: bool) -> Option<Taken> {
        let fits = |lane: &usize| u64::from(free.get(*lane)) >= wanted;
        let shared = |lane: &usize| free.get(*lane) < self.gpus[*lane].count;
        let lanes = (0..self.gpus.len()).filter(|lane| self.gpus[*lane].shares);
        let mut order: Vec<usize> = lanes.clone().filter(shared).collect();
        order.extend(lanes.filter(|lane| !shared(lane)));
        let mut taken = Taken::default();
        let mut left = wanted;
        let chosen = order.iter().copied().find(fits);
        let several = order.iter().copied().filter(|_| many && chosen.is_none());
        for lane in chosen.into_iter().chain(several) {
            let count = u8::try_from(left).unwrap_or(u8::MAX).min(free.get(lane));
            left -= u64::from(count);
            if count > 0 {
                taken.lanes = taken.lanes.plus(Lanes::one(lane, count));
                taken.shards.push((self.gpus[lane].index, count));
            }
        }
        (left == 0).then_some(taken)
    }

    /// Whether nobody shares the unit of a kind, as far as it can be shared.
    #[must_use]
    pub fn is_whole(&self, free: Lanes, kind: usize, unit: u32) -> bool {
        let mut lanes = self.gpus.iter().enumerate();
        lanes
            .find(|(_, gpu)| gpu.kind == kind && gpu.unit == unit)
            .is_none_or(|(lane, gpu)| free.get(lane) >= gpu.count)
    }

    /// Whole GPUs of a kind, as many as can be had, and what that takes of each.
    #[must_use]
    pub fn whole(&self, free: Lanes, kind: usize, wanted: u64) -> Lanes {
        let lanes = self.gpus.iter().enumerate();
        let full =
            lanes.filter(|(lane, gpu)| gpu.kind == kind && gpu.count > 0 && free.get(*lane) >= gpu.count);
        let taken = full.take(usize::try_from(wanted).unwrap_or(usize::MAX));
        taken.fold(Lanes::default(), |all, (lane, gpu)| all.plus(Lanes::one(lane, gpu.count)))
    }

    /// The share of a node that shards are.
    #[must_use]
    pub fn share(&self, taken: &Taken) -> GresShare {
        let slice = |&(gpu, size): &(u32, u8)| Slice { gpu, profile: "".into(), start: 0, size };
        let mut slices: Vec<Slice> = taken.shards.iter().map(slice).collect();
        slices.sort_by_key(|slice| slice.gpu);
        GresShare {
            kind: u32::try_from(self.kind).expect("a node has few kinds"),
            count: taken.shards.iter().map(|(_, count)| u64::from(*count)).sum(),
            slices,
            ..GresShare::default()
        }
    }
}
