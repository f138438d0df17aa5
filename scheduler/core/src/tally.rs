//! Amounts of trackable resources (TRES): of a request, an allocation, a set of nodes.
//!
//! Names are Slurm's: `cpu`, `mem` (MiB), `node`, `gres/gpu`, `gres/gpu:a100`; `billing` is CPUs.

use model::gres::GresRequest;
use model::id::NodeIdx;
use model::request::MemoryRequest;

use crate::allocation::NodeShare;
use crate::state::State;
use crate::state::job::Job;

/// Amounts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// CPUs.
    pub cpus: u64,
    /// Memory, MiB.
    pub memory: u64,
    /// Nodes.
    pub nodes: u64,
    /// Generic resources: `gpu` with all its types, and `gpu:a100` for one.
    gres: Vec<(Box<str>, u64)>,
}

impl Tally {
    /// What a waiting job asks for at least, before nodes are known. Cost: O(request).
    #[must_use]
    pub fn of_request(job: &Job) -> Self {
        let request = &*job.request;
        let nodes = request.nodes.map_or(1, |(min, _)| min.max(1));
        let gpus_asked: u64 = request.gpus_per_job.iter().map(|gres| gres.count).sum();
        let of_gpus = request.rare().ntasks_per_gpu.map(|tasks| u64::from(tasks).saturating_mul(gpus_asked));
        let tasks = request
            .ntasks
            .or_else(|| of_gpus.filter(|&tasks| tasks > 0).and_then(|tasks| u32::try_from(tasks).ok()))
            .or_else(|| request.ntasks_per_node.map(|each| each.saturating_mul(nodes)))
            .unwrap_or(nodes)
            .max(1);
        let cpus = tasks.saturating_mul(request.cpus_per_task.unwrap_or(1).max(1)).max(nodes);
        let mut tally = Self { cpus: u64::from(cpus), nodes: u64::from(nodes), ..Self::default() };
        let mut add = |list: &[GresRequest], times: u64| {
            for gres in list {
                tally.add_gres(&gres.name, gres.kind.as_deref(), gres.count.saturating_mul(times));
            }
        };
        add(&request.gres_per_node, u64::from(nodes));
        add(&request.gpus_per_node, u64::from(nodes));
        add(&request.gpus_per_job, 1);
        add(&request.gpus_per_task, u64::from(tasks));
        add(&request.gpus_per_socket, u64::from(nodes));
        tally.memory = match job.memory {
            Some(MemoryRequest::PerNode(mib)) => mib.0.saturating_mul(tally.nodes),
            Some(MemoryRequest::PerCpu(mib)) => mib.0.saturating_mul(tally.cpus),
            Some(MemoryRequest::PerGpu(mib)) => mib.0.saturating_mul(tally.amount("gres/gpu")),
            None => 0,
        };
        tally
    }

    /// What an allocation holds.
    #[must_use]
    pub fn of_allocation(state: &State, shares: &[NodeShare]) -> Self {
        let mut tally = Self { nodes: shares.len() as u64, ..Self::default() };
        for share in shares {
            tally.cpus += u64::from(share.cpus.0);
            tally.memory += share.memory.0;
            let kinds = &state.node(share.node).definition.gres;
            for held in &share.gres {
                if let Some(kind) = kinds.get(held.kind as usize) {
                    tally.add_gres(&kind.name, Some(&kind.kind), held.count);
                    for slice in held.slices.iter().filter(|_| held.is_cut()) {
                        tally.add_slice(&kind.name, &kind.kind, &slice.profile);
                    }
                }
            }
        }
        tally
    }

    /// All that nodes have.
    #[must_use]
    pub fn of_nodes(state: &State, nodes: &[NodeIdx]) -> Self {
        let mut tally = Self { nodes: nodes.len() as u64, ..Self::default() };
        for &node in nodes {
            let definition = &state.node(node).definition;
            tally.cpus += u64::from(definition.cpus.0);
            tally.memory += definition.memory.0;
            for kind in &definition.gres {
                tally.add_gres(&kind.name, Some(&kind.kind), kind.count);
            }
        }
        tally
    }

    /// The amounts of generic resources, by name.
    pub fn gres(&self) -> impl Iterator<Item = (&str, u64)> {
        self.gres.iter().map(|(name, count)| (&**name, *count))
    }

    /// A tally of these generic resources beside the amounts that are set.
    #[must_use]
    pub fn with_gres(mut self, gres: impl IntoIterator<Item = (Box<str>, u64)>) -> Self {
        for (name, count) in gres {
            self.add_one(&name, count);
        }
        self
    }

    /// Every amount times `seconds` times so many thousandths.
    #[must_use]
    pub fn times(&self, seconds: u64, thousandths: u64) -> Self {
        let times = |amount: u64| {
            let exact = u128::from(amount) * u128::from(seconds) * u128::from(thousandths) / 1000;
            u64::try_from(exact).unwrap_or(u64::MAX)
        };
        Self {
            cpus: times(self.cpus),
            memory: times(self.memory),
            nodes: times(self.nodes),
            gres: self.gres.iter().map(|(name, count)| (name.clone(), times(*count))).collect(),
        }
    }

    /// Adds what another holds.
    pub fn add(&mut self, other: &Self) {
        self.cpus = self.cpus.saturating_add(other.cpus);
        self.memory = self.memory.saturating_add(other.memory);
        self.nodes = self.nodes.saturating_add(other.nodes);
        for (name, count) in &other.gres {
            self.add_one(name, *count);
        }
    }

    /// The amount under a TRES's name, in its unit; 0 for what is not counted.
    #[must_use]
    pub fn amount(&self, name: &str) -> u64 {
        match name {
            "cpu" | "billing" => self.cpus,
            "mem" => self.memory,
            "node" => self.nodes,
            _ => {
                let wanted = name.strip_prefix("gres/").unwrap_or(name);
                self.gres.iter().find(|(known, _)| **known == *wanted).map_or(0, |(_, count)| *count)
            }
        }
    }

    fn add_gres(&mut self, name: &str, kind: Option<&str>, count: u64) {
        self.add_one(name, count);
        if let Some(kind) = kind.filter(|kind| !kind.is_empty()) {
            self.add_one(&format!("{name}:{kind}"), count);
        }
    }

    /// One slice that was made: under its profile's name, and under that with the type of its GPU.
    fn add_slice(&mut self, name: &str, gpu: &str, profile: &str) {
        self.add_gres(name, Some(profile), 1);
        if !gpu.is_empty() {
            self.add_one(&format!("{name}:{gpu}_{profile}"), 1);
        }
    }

    fn add_one(&mut self, word: &str, count: u64) {
        match self.gres.iter_mut().find(|(known, _)| **known == *word) {
            Some((_, sum)) => *sum = sum.saturating_add(count),
            None => self.gres.push((word.into(), count)),
        }
    }
}
