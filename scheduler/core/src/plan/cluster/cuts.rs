//! An index over the GPUs that are cut as jobs need it: which of them a slice goes to, without looking at each node.
//!
//! Owns the numbers of these GPUs (by node, then index on the node), what of each is taken now by running and planned
//! jobs, arranged for the placement rule ([`Fleet`]), and which of them lose slices to a promise later on: for those
//! the present says too little, and their window is read. Kept up with every change of a node's plan. Knows nothing of
//! CPUs and memory: whoever asks says which nodes will do.

use std::sync::Arc;

use super::Cluster;
use crate::gpu::fleet::Fleet;
use crate::gpu::geometry::{Occupancy, Profile};
use crate::gpu::mix::Mix;
use crate::gpu::outlook::{Outlook, Slices};
use crate::gpu::policy::{Policy, Rule};
use crate::gpu::slice_set::SliceSet;
use crate::plan::profile::Amount;
use crate::state::State;

/// So many GPUs are compared over time, those that the rule prefers by what is taken of them now.
pub(in crate::plan) const COMPARED: usize = 16;

/// A place for a slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::plan) struct Slot {
    /// The node.
    pub(in crate::plan) node: u32,
    /// Index of the GPU there.
    pub(in crate::plan) gpu: u32,
    /// The first memory slice.
    pub(in crate::plan) start: u8,
}

/// No GPU of the node is cut.
const NONE: u32 = u32::MAX;

/// See the module.
#[derive(Debug)]
pub(in crate::plan) struct Cuts {
    fleet: Fleet,
    /// The rule that the fleet is arranged for; `None` as long as nobody asked for a slice.
    rule: Option<Arc<Rule>>,
    /// Node and index there, by number.
    places: Vec<(u32, u8)>,
    /// Number of the first one of each node, and how many it has.
    first: Vec<(u32, u32)>,
    /// Those of which something is taken later that is free now, as bits.
    falling: Vec<u64>,
}

impl Cuts {
    /// `None`: no node has a GPU that is cut.
    pub(super) fn of(cluster: &Cluster) -> Option<Self> {
        let mut places = Vec::new();
        let mut first = Vec::with_capacity(cluster.kind_of.len());
        for (node, &kind) in (0_u32..).zip(&cluster.kind_of) {
            let number = u32::try_from(places.len()).expect("GPUs are counted in 32 bits");
            let inventory = cluster.kinds[kind as usize].inventory.as_ref();
            let indices = inventory.iter().flat_map(|one| &one.dynamic).map(|gpu| gpu.index);
            places.extend(
                indices.map(|index| (node, u8::try_from(index).expect("few GPUs of a node are dynamic"))),
            );
            let count = u32::try_from(places.len()).expect("GPUs are counted in 32 bits") - number;
            first.push((if count == 0 { NONE } else { number }, count));
        }
        if places.is_empty() {
            return None;
        }
        // Stands for any rule until there is one: nothing is chosen by it.
        let rule = Rule::new(Policy::FirstFit, &Mix::EVEN);
        let fleet = Fleet::new(places.len(), rule);
        let falling = vec![0; places.len().div_ceil(64)];
        let mut cuts = Self { fleet, rule: None, places, first, falling };
        for (node, free) in (0_u32..).zip(&cluster.floor) {
            cuts.update(node, free.slices, free.slices);
        }
        Some(cuts)
    }

    /// Numbers of the GPUs of a node.
    pub(in crate::plan) fn of_node(&self, node: u32) -> std::ops::Range<usize> {
        match self.first[node as usize] {
            (NONE, _) => 0..0,
            (first, count) => first as usize..(first + count) as usize,
        }
    }

    /// Index on its node of the GPU of that number.
    pub(in crate::plan) fn index(&self, gpu: usize) -> u32 {
        u32::from(self.places[gpu].1)
    }

    /// Words of a set of GPUs.
    pub(in crate::plan) fn words(&self) -> usize {
        self.falling.len()
    }

    pub(super) fn has(&self, node: u32) -> bool {
        self.first[node as usize].0 != NONE
    }

    /// A node has so much free now, and so much that nothing takes later. Cost: O(its GPUs).
    pub(super) fn update(&mut self, node: u32, now: SliceSet, ever: SliceSet) {
        for gpu in self.of_node(node) {
            let index = self.index(gpu);
            self.fleet.set(gpu, Occupancy(!now.on(index)));
            let falls = u64::from(now.on(index) != ever.on(index));
            let word = &mut self.falling[gpu / 64];
            *word = *word & !(1 << (gpu % 64)) | falls << (gpu % 64);
        }
    }

    /// Goes on with the rule that the queue's mix made. Cost: nothing where it is the same.
    fn follow(&mut self, rule: Option<&Arc<Rule>>) {
        let same = match (&self.rule, rule) {
            (Some(mine), Some(rule)) => Arc::ptr_eq(mine, rule),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        if !same {
            self.rule = rule.cloned();
            if let Some(rule) = rule {
                self.fleet.set_rule(Arc::clone(rule));
            }
        }
    }

    /// Whether there is a rule to choose by.
    pub(in crate::plan) fn has_rule(&self) -> bool {
        self.rule.is_some()
    }

    /// The GPU that the rule prefers among `eligible`, one bit for each, and the start there.
    ///
    /// `suits`: whether a node has the rest of what is asked for. `ahead`: what of a node's slices is free as long as
    /// the slice is wanted. Where three of the GPUs at most have room, and nothing of them changes meanwhile, it is the
    /// endgame of the rule; else the duels over time, among [`COMPARED`] that the rule prefers by what is taken now and
    /// all that are promised to somebody later. Cost: that of [`Fleet::best_among`], and one look at each GPU that is compared.
    pub(in crate::plan) fn choose(
        &self,
        profile: Profile,
        eligible: &[u64],
        suits: impl Fn(u32) -> bool,
        ahead: impl Fn(u32) -> Slices,
    ) -> Option<Slot> {
        let rule = self.rule.as_ref()?;
        // GPUs of a node follow each other: it is looked at once.
        let mut known = (NONE, false);
        let mut fits = |gpu: usize| {
            let node = self.places[gpu].0;
            if known.0 != node {
                known = (node, suits(node));
            }
            known.1
        };
        let last = self.fleet.last_among(profile, eligible, &mut fits);
        if let Some(last) = last.filter(|_| self.is_still(eligible, &mut fits, &ahead)) {
            let taken: Vec<Occupancy> = last.iter().map(|&gpu| self.fleet.taken()[gpu]).collect();
            let (at, start) = rule.choose(&taken, profile)?;
            return Some(self.slot(last[at], start));
        }
        let steady: Vec<u64> = eligible.iter().zip(&self.falling).map(|(one, falls)| one & !falls).collect();
        let mut compared = self.fleet.best_among(profile, &steady, COMPARED, &mut fits);
        let falling: Vec<u64> = eligible.iter().zip(&self.falling).map(|(one, falls)| one & falls).collect();
        compared.extend(members(&falling).filter(|&gpu| fits(gpu)));
        compared.sort_unstable();
        let outlooks: Vec<Outlook> =
            compared.iter().map(|&gpu| ahead(self.places[gpu].0).of(self.index(gpu))).collect();
        let (at, start) = rule.choose_of_many_over_time(&outlooks, profile)?;
        Some(self.slot(compared[at], start))
    }

    /// Whether nothing begins or ends on any of the GPUs.
    fn is_still(
        &self,
        eligible: &[u64],
        mut fits: impl FnMut(usize) -> bool,
        ahead: impl Fn(u32) -> Slices,
    ) -> bool {
        members(eligible)
            .filter(|&gpu| fits(gpu))
            .all(|gpu| ahead(self.places[gpu].0).of(self.index(gpu)).is_steady())
    }

    fn slot(&self, gpu: usize, start: u8) -> Slot {
        Slot { node: self.places[gpu].0, gpu: self.index(gpu), start }
    }
}

/// The numbers whose bit is set, ascending.
fn members(set: &[u64]) -> impl Iterator<Item = usize> {
    set.iter().enumerate().flat_map(|(at, &word)| {
        let rest = std::iter::successors(Some(word), |word| (*word != 0).then(|| word & (word - 1)));
        rest.take_while(|word| *word != 0).map(move |word| at * 64 + word.trailing_zeros() as usize)
    })
}

impl Cluster {
    /// The index over GPUs that are cut, where there are some.
    pub(in crate::plan) fn cuts(&self) -> Option<&Cuts> {
        self.cuts.as_ref()
    }

    /// Chooses by the rule that the state knows from now on.
    pub(in crate::plan) fn follow_rule(&mut self, state: &State) {
        if let Some(cuts) = &mut self.cuts {
            cuts.follow(state.slices.shared_rule());
        }
    }

    /// The plan of a node changed: so much of it is free now.
    pub(super) fn update_cuts(&mut self, node: u32, floor: Amount) {
        if let Some(cuts) = self.cuts.as_mut().filter(|cuts| cuts.has(node)) {
            let ever = self.plan[node as usize].slices_ever_free(self.now);
            cuts.update(node, floor.slices, ever);
        }
    }
}
