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
use crate::gpu::policy::{Policy, Rule};
use crate::gpu::slice_set::SliceSet;
use crate::plan::profile::Amount;
use crate::state::State;

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

    /// The node of the GPU that the rule prefers among `eligible`, one bit for each.
    ///
    /// `suits`: whether a node has the rest of what is asked for. `window`: what of a node's slices is free as long as
    /// the slice is wanted. Cost: that of [`Fleet::choose_among`], and one look at each GPU of the set that is
    /// promised to somebody later.
    pub(in crate::plan) fn choose(
        &self,
        profile: Profile,
        eligible: &[u64],
        suits: impl Fn(u32) -> bool,
        window: impl Fn(u32) -> SliceSet,
    ) -> Option<u32> {
        let rule = self.rule.as_ref()?;
        let node_of = |gpu: usize| self.places[gpu].0;
        let steady: Vec<u64> = eligible.iter().zip(&self.falling).map(|(one, falls)| one & !falls).collect();
        // GPUs of a node follow each other: it is looked at once.
        let mut refused = NONE;
        let mut fits = |gpu: usize| {
            let node = node_of(gpu);
            let suits = node != refused && suits(node);
            if !suits {
                refused = node;
            }
            suits
        };
        let found = self.fleet.choose_among(profile, &steady, &mut fits).map(|(gpu, _)| gpu);
        let mut candidates: Vec<(usize, Occupancy)> =
            found.into_iter().map(|gpu| (gpu, self.fleet.taken()[gpu])).collect();
        for (word, (one, falls)) in eligible.iter().zip(&self.falling).enumerate() {
            let mut rest = one & falls;
            while rest != 0 {
                let gpu = word * 64 + rest.trailing_zeros() as usize;
                rest &= rest - 1;
                let state = Occupancy(!window(node_of(gpu)).on(self.index(gpu)));
                if rule.start(state, profile).is_some() && suits(node_of(gpu)) {
                    candidates.push((gpu, state));
                }
            }
        }
        candidates.sort_unstable();
        let states: Vec<Occupancy> = candidates.iter().map(|(_, state)| *state).collect();
        let (place, _) = rule.choose_of_many(&states, profile)?;
        Some(node_of(candidates[place].0))
    }
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
