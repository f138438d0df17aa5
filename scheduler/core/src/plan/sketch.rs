//! When a node could take a request at the earliest, from a few numbers: most nodes are passed over by them, and
//! only profiles of the others are read.
//!
//! Owns, for some spans of time and some amounts of one resource, the first instant from which each node has so much
//! free for so long. A request is not taken before the instants of what it asks for at least. Invariant: these are
//! bounds from below. They stay so when something is taken, and as time passes; a node on which something is given
//! back is stale, and looked at again before the next search.

use super::profile::{Amount, Profile};
use crate::gpu::geometry::Profile as GpuProfile;

/// Spans that are told apart, milliseconds, ascending.
const SPANS: [i64; 4] = [0, 1_800_000, 7_200_000, 43_200_000];
/// Powers of two of CPUs, from 1.
const CPU_LEVELS: usize = 8;
/// Powers of two of devices of the first kind, from 1.
const GRES_LEVELS: usize = 4;
/// Powers of two of memory, from 2^[`MEMORY_FROM`] MiB.
const MEMORY_LEVELS: usize = 10;
const MEMORY_FROM: usize = 10;
/// Rows of a span: one of each level of each resource.
const ROWS: usize = CPU_LEVELS + GRES_LEVELS + MEMORY_LEVELS;
/// On fewer nodes profiles are read at once.
const FEWEST: usize = 64;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Sketch {
    nodes: usize,
    /// Zero of the instants, milliseconds.
    base: Option<i64>,
    /// Whole seconds since then, rounded down, by span and row and node; the first row of all is zeros.
    instants: Vec<u32>,
    /// The same by span and GPU profile and node: when one of it has room somewhere on the node. Empty where no GPU is
    /// cut as jobs need it.
    slices: Vec<u32>,
    stale: Vec<u32>,
    is_stale: Vec<bool>,
}

/// Bounds for one request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds<'a> {
    base: i64,
    rows: [&'a [u32]; 3],
}

impl Bounds<'_> {
    /// No instant before this is one at which the node takes the request.
    #[inline]
    pub(super) fn lower(&self, node: u32) -> i64 {
        let [cpus, gres, memory] = &self.rows;
        let node = node as usize;
        let Some(&least) = cpus.get(node) else { return i64::MIN };
        self.base + 1000 * i64::from(least.max(gres[node]).max(memory[node]))
    }
}

/// Bounds for one slice of a GPU.
#[derive(Clone, Copy, Debug)]
pub(super) struct SliceBounds<'a> {
    base: i64,
    row: &'a [u32],
}

impl SliceBounds<'_> {
    /// No instant before this is one at which the node has a start for it.
    #[inline]
    pub(super) fn lower(&self, node: u32) -> i64 {
        self.row.get(node as usize).map_or(i64::MIN, |at| self.base + 1000 * i64::from(*at))
    }
}

impl Sketch {
    /// Of so many nodes, all of them stale. `cut`: some have GPUs that are cut.
    pub(super) fn of(nodes: usize, cut: bool) -> Self {
        if nodes < FEWEST {
            return Self::default();
        }
        let all = u32::try_from(nodes).expect("nodes are counted in 32 bits");
        Self {
            nodes,
            base: None,
            instants: vec![0; nodes * (1 + SPANS.len() * ROWS)],
            slices: vec![0; if cut { nodes * SPANS.len() * GpuProfile::ALL.len() } else { 0 }],
            stale: (0..all).collect(),
            is_stale: vec![true; nodes],
        }
    }

    /// The plan of a node changed.
    #[inline]
    pub(super) fn mark(&mut self, node: u32) {
        if let Some(stale) = self.is_stale.get_mut(node as usize)
            && !std::mem::replace(stale, true)
        {
            self.stale.push(node);
        }
    }

    /// Looks at the plans that changed. Cost: O(steps² of each such node, far less where spans are short).
    pub(super) fn bring_up(&mut self, plans: &[Profile], now: i64) {
        let base = *self.base.get_or_insert(now);
        while let Some(node) = self.stale.pop() {
            self.is_stale[node as usize] = false;
            for (place, span) in SPANS.into_iter().enumerate() {
                self.draw(node as usize, &plans[node as usize], (place, span), now, base);
                if !self.slices.is_empty() {
                    self.draw_slices(node as usize, &plans[node as usize], (place, span), now, base);
                }
            }
        }
    }

    fn draw(&mut self, node: usize, plan: &Profile, (place, span): (usize, i64), now: i64, base: i64) {
        let first = (1 + place * ROWS) * self.nodes + node;
        let mut cpus = first..first + CPU_LEVELS * self.nodes;
        let mut gres = cpus.end..cpus.end + GRES_LEVELS * self.nodes;
        let mut memory = gres.end..gres.end + MEMORY_LEVELS * self.nodes;
        let (mut next_cpus, mut next_gres, mut next_memory) = (1, 1, 1 << MEMORY_FROM);
        plan.windows(now, span, |at, free| {
            let at = u32::try_from((at - base) / 1000).unwrap_or(u32::MAX);
            while free.cpus >= next_cpus && !cpus.is_empty() {
                self.instants[cpus.start] = at;
                cpus.start += self.nodes;
                next_cpus *= 2;
            }
            while free.gres[0] >= next_gres && !gres.is_empty() {
                self.instants[gres.start] = at;
                gres.start += self.nodes;
                next_gres *= 2;
            }
            while free.memory >= next_memory && !memory.is_empty() {
                self.instants[memory.start] = at;
                memory.start += self.nodes;
                next_memory *= 2;
            }
        });
        for rest in [cpus, gres, memory] {
            rest.step_by(self.nodes).for_each(|place| self.instants[place] = u32::MAX);
        }
    }

    fn draw_slices(&mut self, node: usize, plan: &Profile, (place, span): (usize, i64), now: i64, base: i64) {
        let first = place * GpuProfile::ALL.len() * self.nodes + node;
        let mut sought: [bool; 6] = [true; 6];
        let mut left = sought.len();
        plan.windows(now, span, |at, free| {
            if left == 0 || free.slices.is_empty() {
                return;
            }
            for profile in GpuProfile::ALL {
                let sought = &mut sought[profile.index()];
                if *sought && !profile.windows(free.slices).is_empty() {
                    let at = u32::try_from((at - base) / 1000).unwrap_or(u32::MAX);
                    self.slices[first + profile.index() * self.nodes] = at;
                    *sought = false;
                    left -= 1;
                }
            }
        });
        for profile in GpuProfile::ALL.into_iter().filter(|profile| sought[profile.index()]) {
            self.slices[first + profile.index() * self.nodes] = u32::MAX;
        }
    }

    /// The bounds for one slice of a GPU for a span.
    pub(super) fn slice_bounds(&self, profile: GpuProfile, span: i64) -> SliceBounds<'_> {
        let place = SPANS.partition_point(|known| *known <= span).saturating_sub(1);
        let row = place * GpuProfile::ALL.len() + profile.index();
        let row = self.slices.get(row * self.nodes..(row + 1) * self.nodes).unwrap_or_default();
        SliceBounds { base: self.base.unwrap_or(i64::MIN / 2), row }
    }

    /// The bounds for an amount on one node for a span.
    pub(super) fn bounds(&self, need: &Amount, span: i64) -> Bounds<'_> {
        let place = SPANS.partition_point(|known| *known <= span).saturating_sub(1);
        let level = |amount: u64, from: usize, levels: usize| {
            (amount >> from > 0).then(|| (amount.ilog2() as usize - from).min(levels - 1))
        };
        let row = |level: Option<usize>, before: usize| {
            let row = level.map_or(0, |level| 1 + place * ROWS + before + level);
            &self.instants[row * self.nodes..(row + 1) * self.nodes]
        };
        let rows = [
            row(level(u64::from(need.cpus), 0, CPU_LEVELS), 0),
            row(level(u64::from(need.gres[0]), 0, GRES_LEVELS), CPU_LEVELS),
            row(level(need.memory, MEMORY_FROM, MEMORY_LEVELS), CPU_LEVELS + GRES_LEVELS),
        ];
        if self.nodes == 0 {
            return Bounds { base: 0, rows: [&[], &[], &[]] };
        }
        Bounds { base: self.base.unwrap_or(i64::MIN / 2), rows }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_never_late() {
        let mut seed = 11_u64;
        let mut below = |most: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % most
        };
        let total = Amount { cpus: 128, gres: [8, 2, 0, 0, 0, 0], memory: 512 << 10, ..Amount::default() };
        let mut plans = vec![Profile::new(total); FEWEST];
        let mut sketch = Sketch::of(FEWEST, false);
        let mut skipped = 0_u32;
        for round in 0..4000_u32 {
            let now = i64::from(round) * 60_000;
            let node = below(FEWEST as u64) as u32;
            let amount = Amount {
                cpus: below(40) as u32,
                gres: [below(3) as u32, 0, 0, 0, 0, 0],
                memory: below(100 << 10),
                ..Amount::default()
            };
            let from = now + below(40_000_000) as i64;
            plans[node as usize].take(amount, from, from + 1 + below(90_000_000) as i64);
            if below(3) == 0 {
                plans[node as usize].forget_before(now);
            }
            sketch.mark(node);
            if below(4) > 0 {
                continue;
            }
            sketch.bring_up(&plans, now);
            let need = Amount {
                cpus: below(128) as u32,
                gres: [below(9) as u32, below(2) as u32, 0, 0, 0, 0],
                memory: below(512 << 10),
                ..Amount::default()
            };
            let span = below(200_000_000) as i64;
            let bounds = sketch.bounds(&need, span);
            for (node, plan) in (0..).zip(&plans) {
                let start = plan.earliest(&need, span, now, i64::MAX).at;
                assert!(bounds.lower(node) <= start, "{need:?} for {span} on {plan:?}");
                skipped += u32::from(bounds.lower(node) > now);
            }
        }
        assert!(skipped > 1000, "the bounds say something: {skipped}");
    }
}
