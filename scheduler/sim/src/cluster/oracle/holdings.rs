//! What processes that are alive were given: CPUs, memory, GPUs of each node, licenses of the cluster.
//!
//! Added up from the records of starts and from what executors did, never from the state's own totals: a core that
//! counts wrongly on both sides is seen here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use model::id::{JobId, RunNumber};

use scheduler_core::allocation::{Allocation, CpuIds, NodeShare};
use scheduler_core::effect::RunKey;
use scheduler_core::state::State;
use scheduler_core::state::node::{GresDefinition, NodeDefinition};

type Run = (JobId, RunNumber);

/// What a run of a job was given.
#[derive(Clone, Debug)]
struct Given {
    allocation: Allocation,
    licenses: Vec<(Box<str>, u32)>,
    /// What its nodes had when it started, and how many runs had started before: a node that has less since gives no
    /// more to jobs that come later, and those that run keep what they have.
    nodes: BTreeMap<usize, Arc<NodeDefinition>>,
    place: usize,
}

/// Who holds what.
#[derive(Debug, Default)]
pub(super) struct Holdings {
    totals: BTreeMap<Box<str>, u32>,
    given: BTreeMap<Run, Given>,
    /// Runs of which something is alive, by node; each with how many of its steps.
    on_node: BTreeMap<usize, BTreeMap<Run, u32>>,
    /// Runs with licenses of which something is alive anywhere, with how many steps.
    licensed: BTreeMap<Run, u32>,
    steps: BTreeSet<(usize, RunKey)>,
}

/// Ids and amounts so far, of one sort of thing.
#[derive(Default)]
struct Sum {
    amount: u64,
    ids: BTreeSet<u32>,
}

impl Sum {
    /// Adds a part; whether it is within `total` and no id is there twice.
    fn add(&mut self, amount: u64, ids: &CpuIds, total: u64) -> bool {
        self.amount += amount;
        ids.iter().all(|id| self.ids.insert(id) && u64::from(id) < total) && self.amount <= total
    }
}

/// What is given of one node.
#[derive(Default)]
struct OnNode {
    cpus: Sum,
    memory: u64,
    /// By kind.
    devices: BTreeMap<usize, Sum>,
    /// Shards of each GPU by its index.
    shards: BTreeMap<u32, u64>,
    /// Memory slices of each GPU that is cut as jobs need it.
    cuts: BTreeSet<(u32, u8)>,
}

impl OnNode {
    /// Adds a share of a node that has so much.
    fn add(&mut self, share: &NodeShare, has: &NodeDefinition) -> Result<(), String> {
        let NodeShare { cpus, cpu_ids, memory, gres, .. } = share;
        self.memory += memory.0;
        if !self.cpus.add(u64::from(cpus.0), cpu_ids, u64::from(has.cpus.0)) {
            return Err(format!("{} of {} CPUs, or one twice", self.cpus.amount, has.cpus));
        }
        if self.memory > has.memory.0 {
            return Err(format!("{} of {} MiB", self.memory, has.memory));
        }
        for part in gres {
            let kind = part.kind as usize;
            let one = &has.gres[kind];
            if &*one.name == "shard" {
                for slice in &part.slices {
                    *self.shards.entry(slice.gpu).or_default() += u64::from(slice.size);
                }
                continue;
            }
            let cut = part.slices.iter().filter(|_| part.is_cut());
            let mut bits = cut.flat_map(|slice| (0..slice.size).map(|more| (slice.gpu, slice.start + more)));
            if let Some((gpu, slice)) = bits.find(|bit| !self.cuts.insert(*bit)) {
                return Err(format!("memory slice {slice} of GPU {gpu} twice"));
            }
            let sum = self.devices.entry(kind).or_default();
            if !sum.add(part.count, &part.indices, one.count) {
                return Err(format!("{} of {} GPUs {:?}, or one twice", sum.amount, one.count, one.kind));
            }
        }
        self.check_shards(has)
    }

    /// No GPU has more shards held than it has, and none where a job has the whole of it.
    fn check_shards(&self, has: &NodeDefinition) -> Result<(), String> {
        // Those of other kinds are cut, and come after these.
        let whole = |one: &&GresDefinition| &*one.name == "gpu" && matches!(&*one.kind, "a" | "b");
        let gpus = || has.gres.iter().enumerate().filter(|(_, one)| whole(one));
        let all: u64 = has.gres.iter().filter(|one| &*one.name == "shard").map(|one| one.count).sum();
        let count: u64 = gpus().map(|(_, one)| one.count).sum();
        let units = gpus().flat_map(|(kind, one)| (0..one.count).map(move |unit| (kind, unit)));
        let mut known = 0;
        for (index, (kind, unit)) in (0..).zip(units) {
            let held = self.shards.get(&index).copied().unwrap_or(0);
            known += held;
            let most = all / count + u64::from(u64::from(index) < all % count);
            let whole =
                self.devices.get(&kind).is_some_and(|sum| sum.ids.iter().any(|id| u64::from(*id) == unit));
            if held > most || (whole && held > 0) {
                return Err(format!("{held} of {most} shards of GPU {index}, whole elsewhere: {whole}"));
            }
        }
        let held: u64 = self.shards.values().sum();
        if held > known { Err(format!("{} shards of GPUs that are not there", held - known)) } else { Ok(()) }
    }
}

impl Holdings {
    pub(super) fn new(licenses: &[(&str, u32)]) -> Self {
        let totals = licenses.iter().map(|(name, total)| ((*name).into(), *total)).collect();
        Self { totals, ..Self::default() }
    }

    /// A start was recorded.
    pub(super) fn give(&mut self, run: Run, allocation: &Allocation, licenses: Option<&str>, state: &State) {
        let words = licenses.unwrap_or_default().split(',').filter(|word| !word.is_empty());
        let licenses = words
            .map(|word| match word.split_once(':') {
                Some((name, count)) => (name.into(), count.parse().expect("a number of licenses")),
                None => (word.into(), 1),
            })
            .collect();
        let has = |share: &NodeShare| {
            let node = share.node;
            (node.0 as usize, Arc::clone(&state.node(node).definition))
        };
        let (nodes, place) = (allocation.iter().map(has).collect(), self.given.len());
        self.given.insert(run, Given { allocation: allocation.clone(), licenses, nodes, place });
    }

    /// Processes of a run started on a node.
    ///
    /// # Errors
    /// Those that are alive hold more than there is.
    pub(super) fn began(&mut self, place: usize, run: RunKey) -> Result<(), String> {
        let of_job = (run.job, run.run);
        let Some(given) = self.given.get(&of_job) else {
            return Err(format!("double start: {run:?} began and no start of it was recorded"));
        };
        if !self.steps.insert((place, run)) {
            return Ok(());
        }
        let licensed = !given.licenses.is_empty();
        *self.on_node.entry(place).or_default().entry(of_job).or_default() += 1;
        if licensed {
            *self.licensed.entry(of_job).or_default() += 1;
            self.check_licenses()?;
        }
        self.check_node(place).map_err(|what| format!("overcommit: {run:?} began: {what} of n{place}"))
    }

    /// A run's processes are gone.
    pub(super) fn ended(&mut self, place: usize, run: RunKey) {
        if !self.steps.remove(&(place, run)) {
            return;
        }
        let of_job = (run.job, run.run);
        let drop = |runs: &mut BTreeMap<Run, u32>| {
            if let Some(steps) = runs.get_mut(&of_job) {
                *steps -= 1;
                if *steps == 0 {
                    runs.remove(&of_job);
                }
            }
        };
        drop(&mut self.licensed);
        if let Some(here) = self.on_node.get_mut(&place) {
            drop(here);
        }
    }

    /// Each run, and those that started before it, against what the node had when it started.
    fn check_node(&self, place: usize) -> Result<(), String> {
        let here = self.on_node.get(&place).into_iter().flatten();
        let mut given: Vec<&Given> = here.map(|(run, _)| &self.given[run]).collect();
        given.sort_unstable_by_key(|given| given.place);
        let mut sums = OnNode::default();
        for one in given {
            let Some(has) = one.nodes.get(&place) else { continue };
            let mut own = one.allocation.iter().filter(|share| share.node.0 as usize == place);
            own.try_for_each(|share| sums.add(share, has))?;
        }
        Ok(())
    }

    fn check_licenses(&self) -> Result<(), String> {
        let mut sums: BTreeMap<&str, u32> = BTreeMap::new();
        for run in self.licensed.keys() {
            for (name, count) in &self.given[run].licenses {
                *sums.entry(name).or_default() += count;
            }
        }
        match sums.iter().find(|(name, sum)| **sum > self.totals.get(**name).copied().unwrap_or(0)) {
            Some((name, sum)) => {
                Err(format!("overcommit: {sum} licenses {name} in use, of {:?}", self.totals))
            }
            None => Ok(()),
        }
    }
}
