//! What processes that are alive were given: CPUs, memory, GPUs of each node, licenses of the cluster.
//!
//! Added up from the records of starts and from what executors did, never from the state's own totals: a core that
//! counts wrongly on both sides is seen here.

use std::collections::{BTreeMap, BTreeSet};

use model::id::{JobId, RunNumber};

use scheduler_core::allocation::{Allocation, CpuIds, NodeShare};
use scheduler_core::effect::RunKey;

use super::super::shell::{GPUS, node};

type Run = (JobId, RunNumber);

/// What a run of a job was given.
#[derive(Clone, Debug)]
struct Given {
    allocation: Allocation,
    licenses: Vec<(Box<str>, u32)>,
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

impl Holdings {
    pub(super) fn new(licenses: &[(&str, u32)]) -> Self {
        let totals = licenses.iter().map(|(name, total)| ((*name).into(), *total)).collect();
        Self { totals, ..Self::default() }
    }

    /// A start was recorded.
    pub(super) fn give(&mut self, run: Run, allocation: &Allocation, licenses: Option<&str>) {
        let words = licenses.unwrap_or_default().split(',').filter(|word| !word.is_empty());
        let licenses = words
            .map(|word| match word.split_once(':') {
                Some((name, count)) => (name.into(), count.parse().expect("a number of licenses")),
                None => (word.into(), 1),
            })
            .collect();
        self.given.insert(run, Given { allocation: allocation.clone(), licenses });
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

    fn check_node(&self, place: usize) -> Result<(), String> {
        let has = node("any");
        let (mut cpus, mut gpus) = (Sum::default(), GPUS.map(|_| Sum::default()));
        let mut memory = 0;
        for run in self.on_node.get(&place).into_iter().flatten().map(|(run, _)| run) {
            let shares = self.given[run].allocation.iter();
            let own = shares.filter(|share| share.node.0 as usize == place);
            for share in own {
                let NodeShare { cpus: count, cpu_ids, memory: mib, gres, .. } = share;
                memory += mib.0;
                if !cpus.add(u64::from(count.0), cpu_ids, u64::from(has.cpus.0)) {
                    return Err(format!("{} of {} CPUs, or one twice", cpus.amount, has.cpus));
                }
                for part in gres {
                    let kind = part.kind as usize;
                    if !gpus[kind].add(part.count, &part.indices, GPUS[kind].1) {
                        return Err(format!("{} of {:?} GPUs, or one twice", gpus[kind].amount, GPUS[kind]));
                    }
                }
            }
        }
        if memory > has.memory.0 { Err(format!("{memory} of {} MiB", has.memory)) } else { Ok(()) }
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
