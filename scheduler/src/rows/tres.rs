//! TRES texts of requests, allocations and nodes: `cpu=2,mem=1000M,node=1,billing=2,gres/gpu=1`.
//!
//! Generic resources are named only where AccountingStorageTRES names them, typed ones after the plain.

use std::collections::BTreeMap;

use model::gres::GresRequest;
use model::request::{JobRequest, MemoryRequest};
use model::tres::{Kind, Tres};
use scheduler_core::allocation::{CpuIds, NodeShare};
use scheduler_core::gpu::shards::{Shards, Shared};
use scheduler_core::settings::Settings;
use scheduler_core::state::State;
use scheduler_core::state::node::{GresDefinition, Node};

use super::shape::Shape;

/// Amounts of generic resources by (name, type), types of one name added up under the empty type.
#[derive(Default)]
struct GresSum(Vec<(String, u64)>);

impl GresSum {
    fn add(&mut self, name: &str, kind: Option<&str>, count: u64) {
        self.add_one(name.to_owned(), count);
        if let Some(kind) = kind.filter(|kind| !kind.is_empty()) {
            self.add_one(format!("{name}:{kind}"), count);
        }
    }

    /// One slice that was made: under its profile's name, and under that with the type of its GPU.
    fn add_slice(&mut self, name: &str, gpu: &str, profile: &str) {
        self.add(name, Some(profile), 1);
        if !gpu.is_empty() {
            self.add_one(format!("{name}:{gpu}_{profile}"), 1);
        }
    }

    fn add_one(&mut self, word: String, count: u64) {
        match self.0.iter_mut().find(|(known, _)| *known == word) {
            Some((_, sum)) => *sum = sum.saturating_add(count),
            None => self.0.push((word, count)),
        }
    }

    /// Into `tres`, in the order of the accounted names.
    fn put(self, settings: &Settings, tres: &mut Tres) {
        for accounted in &settings.tres {
            let Some(word) = accounted.strip_prefix("gres/") else { continue };
            if let Some((_, count)) = self.0.iter().find(|(known, _)| known == word)
                && *count > 0
            {
                tres.set(Kind::Gres(word.into()), *count);
            }
        }
    }
}

/// What a request asks for in all, after defaults.
#[must_use]
pub fn of_request(
    request: &JobRequest,
    memory: Option<MemoryRequest>,
    shape: Shape,
    settings: &Settings,
) -> String {
    let nodes = u64::from(shape.nodes_min);
    let mut sum = GresSum::default();
    let mut add = |list: &[GresRequest], times: u64| {
        for gres in list {
            sum.add(&gres.name, gres.kind.as_deref(), gres.count.saturating_mul(times));
        }
    };
    add(&request.gres_per_node, nodes);
    add(&request.gpus_per_node, nodes);
    add(&request.gpus_per_job, 1);
    add(&request.gpus_per_task, u64::from(shape.tasks));
    add(&request.gpus_per_socket, nodes);
    let gpus = sum.0.iter().find(|(word, _)| word == "gpu").map_or(0, |(_, count)| *count);
    let memory_mib = match memory {
        Some(MemoryRequest::PerNode(mib)) => mib.0.saturating_mul(nodes),
        Some(MemoryRequest::PerCpu(mib)) => mib.0.saturating_mul(u64::from(shape.cpus)),
        Some(MemoryRequest::PerGpu(mib)) => mib.0.saturating_mul(gpus),
        None => 0,
    };
    let mut tres = Tres::default();
    tres.set(Kind::Cpu, u64::from(shape.cpus));
    if memory_mib > 0 {
        tres.set(Kind::Mem, memory_mib);
    }
    tres.set(Kind::Node, nodes);
    tres.set(Kind::Billing, u64::from(shape.cpus));
    sum.put(settings, &mut tres);
    tres.to_string()
}

/// What an allocation holds.
#[must_use]
pub fn of_allocation(state: &State, shares: &[NodeShare], settings: &Settings) -> String {
    if shares.is_empty() {
        return String::new();
    }
    let cpus: u64 = shares.iter().map(|share| u64::from(share.cpus.0)).sum();
    let memory: u64 = shares.iter().map(|share| share.memory.0).sum();
    let mut sum = GresSum::default();
    for share in shares {
        let kinds = &state.node(share.node).definition.gres;
        for held in &share.gres {
            if let Some(kind) = kinds.get(held.kind as usize) {
                sum.add(&kind.name, Some(&kind.kind), held.count);
                for slice in held.slices.iter().filter(|_| held.is_cut()) {
                    sum.add_slice(&kind.name, &kind.kind, &slice.profile);
                }
            }
        }
    }
    let mut tres = Tres::default();
    tres.set(Kind::Cpu, cpus);
    if memory > 0 {
        tres.set(Kind::Mem, memory);
    }
    tres.set(Kind::Node, shares.len() as u64);
    tres.set(Kind::Billing, cpus);
    sum.put(settings, &mut tres);
    tres.to_string()
}

/// CfgTRES of a node.
#[must_use]
pub fn of_node(node: &Node, settings: &Settings) -> String {
    let mut tres = Tres::default();
    tres.set(Kind::Cpu, u64::from(node.definition.cpus.0));
    tres.set(Kind::Mem, node.definition.memory.0);
    tres.set(Kind::Billing, u64::from(node.definition.cpus.0));
    let mut sum = GresSum::default();
    for kind in &node.definition.gres {
        sum.add(&kind.name, Some(&kind.kind), kind.count);
    }
    sum.put(settings, &mut tres);
    tres.to_string()
}

/// AllocTRES of a node, of which running jobs hold `cpus`; empty where nothing is held.
#[must_use]
pub fn in_use(node: &Node, cpus: u64, settings: &Settings) -> String {
    let mut tres = Tres::default();
    if cpus > 0 {
        tres.set(Kind::Cpu, cpus);
    }
    if node.used.memory.0 > 0 {
        tres.set(Kind::Mem, node.used.memory.0);
    }
    let mut sum = GresSum::default();
    for (kind, &count) in node.definition.gres.iter().zip(&node.used.gres) {
        sum.add(&kind.name, Some(&kind.kind), count);
    }
    for (&(gpu, _), slice) in &node.used.cuts {
        let kind = node.inventory.iter().flat_map(|one| &one.dynamic).find(|one| one.index == gpu);
        let kind = kind.and_then(|one| node.definition.gres.get(one.kind as usize));
        sum.add_slice("gpu", kind.map_or("", |kind| &kind.kind), &slice.profile);
    }
    sum.put(settings, &mut tres);
    tres.to_string()
}

/// TRES of a partition: all of its nodes.
#[must_use]
pub fn of_nodes<'a>(nodes: impl Iterator<Item = &'a Node>, settings: &Settings) -> String {
    let (mut cpus, mut memory, mut count) = (0_u64, 0_u64, 0_u64);
    let mut sum = GresSum::default();
    for node in nodes {
        cpus += u64::from(node.definition.cpus.0);
        memory += node.definition.memory.0;
        count += 1;
        for kind in &node.definition.gres {
            sum.add(&kind.name, Some(&kind.kind), kind.count);
        }
    }
    let mut tres = Tres::default();
    tres.set(Kind::Cpu, cpus);
    tres.set(Kind::Mem, memory);
    tres.set(Kind::Node, count);
    tres.set(Kind::Billing, cpus);
    sum.put(settings, &mut tres);
    tres.to_string()
}

/// `gpu:a100:4(S:0-1),shard:a100:16`, the Gres of a node: with the sockets near devices where something says which.
#[must_use]
pub fn gres_text_of(node: &Node, settings: &Settings) -> String {
    let kinds = &node.definition.gres;
    let one = |(at, kind): (u32, &GresDefinition)| {
        let sockets = scheduler_core::place::sockets_near(settings, node, at);
        let sockets = sockets.into_iter().map(|socket| (socket, socket)).collect::<Vec<_>>();
        let near = match sockets.is_empty() {
            true => String::new(),
            false => format!("(S:{})", CpuIds::from_ranges(sockets).text()),
        };
        format!("{}:{}{near}", name_of(kind, kinds), kind.count)
    };
    (0..).zip(kinds).map(one).collect::<Vec<_>>().join(",")
}

/// `gpu:a100`. Shards are named by the type of the GPUs, as Slurm does, where all are of one.
fn name_of(kind: &GresDefinition, all: &[GresDefinition]) -> String {
    let mut of_gpus = all.iter().filter(|other| &*other.name == "gpu").map(|other| &*other.kind);
    let first = of_gpus.next().filter(|_| &*kind.name == "shard").unwrap_or_default();
    let inherited = if of_gpus.all(|other| other == first) { first } else { "" };
    match if kind.kind.is_empty() { inherited } else { &kind.kind } {
        "" => kind.name.to_string(),
        of => format!("{}:{of}", kind.name),
    }
}

/// `2/4,-/4`: what is held of the shards of each GPU; `None`: a job has the whole of it.
pub fn spread(shards: &Shards, held: impl Fn(&Shared) -> Option<u64>) -> String {
    let one = |gpu: &Shared| match held(gpu) {
        Some(count) => format!("{count}/{}", gpu.count),
        None => format!("-/{}", gpu.count),
    };
    shards.gpus.iter().filter(|gpu| gpu.shares).map(one).collect::<Vec<_>>().join(",")
}

/// `gpu:a100:2(IDX:0-1)`, the GresUsed of a node; slices that were made with the indices of their GPUs.
#[must_use]
pub fn gres_used_text(node: &Node) -> String {
    let mut texts = Vec::new();
    for (at, kind) in node.definition.gres.iter().enumerate() {
        let used = node.used.gres.get(at).copied().unwrap_or(0);
        let name = name_of(kind, &node.definition.gres);
        if let Some(shards) = node.shards.as_ref().filter(|shards| shards.kind == at) {
            let held = |gpu: &Shared| {
                let bits = node.used.gres_bits.get(gpu.kind).map_or(&[][..], Vec::as_slice);
                let whole = (gpu.unit as usize) < bits.len() * 64 && is_set(bits, gpu.unit);
                (!whole).then(|| node.used.shards.get(&gpu.index).copied().unwrap_or(0))
            };
            texts.push(format!("{name}:{used}({})", spread(shards, held)));
            continue;
        }
        if !kind.indexed {
            texts.push(format!("{name}:{used}"));
            continue;
        }
        let bits = node.used.gres_bits.get(at).map_or(&[][..], Vec::as_slice);
        let text = indices_text(bits, super::devices_before(&node.definition.gres, at));
        texts.push(format!("{name}:{used}(IDX:{text})"));
    }
    let mut profiles: BTreeMap<&str, Vec<(u32, u32)>> = BTreeMap::new();
    for (&(gpu, _), slice) in &node.used.cuts {
        profiles.entry(&slice.profile).or_default().push((gpu, gpu));
    }
    for (profile, gpus) in profiles {
        let count = gpus.len();
        let gpus = CpuIds::from_ranges(gpus);
        texts.push(format!("gpu:{profile}:{count}(IDX:{})", gpus.text()));
    }
    texts.join(",")
}

/// `2-3`: the bits that are set, counted from `first`; `N/A`: none is.
fn indices_text(bits: &[u64], first: u32) -> String {
    let held = (0..bits.len() as u32 * 64).filter(|&bit| is_set(bits, bit)).map(|bit| bit + first);
    let indices = CpuIds::from_ranges(held.map(|index| (index, index)).collect());
    if indices.is_empty() { "N/A".to_owned() } else { indices.text() }
}

fn is_set(bits: &[u64], bit: u32) -> bool {
    bits[bit as usize / 64] >> (bit % 64) & 1 == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_of_a_name_are_numbered_over_its_types() {
        let kind = |name: &str, kind: &str, count| GresDefinition {
            name: name.into(),
            kind: kind.into(),
            count,
            indexed: name == "gpu",
        };
        let kinds = [kind("gpu", "a100", 2), kind("nic", "", 4), kind("gpu", "t4", 2)];
        let first: Vec<u32> = (0..3).map(|place| super::super::devices_before(&kinds, place)).collect();
        assert_eq!(first, [0, 0, 2]);
        assert_eq!(indices_text(&[0b11], first[2]), "2-3");
        assert_eq!(indices_text(&[0b10], first[0]), "1");
        assert_eq!(indices_text(&[0, 0], first[2]), "N/A");
    }
}
