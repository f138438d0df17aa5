//! Which devices of a node lie near each other, and near which cores: `Cores=` and `Links=` of gres.conf.
//!
//! Owns the choice among the free devices of a kind, and of the CPUs beside them, on a node that was chosen already. Knows
//! only devices that are whole and have an index: slices and shards are chosen elsewhere, by what they leave free.
//!
//! * Devices with the most links among them are taken first, then the lowest.
//! * Unless a job asks for `--gres-flags=disable-binding`, devices of one set of cores with enough free CPUs come first, and
//!   CPUs near the devices before others. With `enforce-binding` no other CPU is taken, and each device has one.
//!
//! Source: `man gres.conf` (Cores, Links), `man sbatch` (--gres-flags).

use std::collections::BTreeSet;

use super::assign::{self, Bits};
use super::demand::{Binding, Demand};
use super::fit::cpu_unit;
use crate::allocation::{CpuIds, GresShare};
use crate::settings::{DeviceFacts, Settings};
use crate::state::node::NodeDefinition;

/// What gres.conf says of a node's devices.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Near<'a> {
    facts: &'a [DeviceFacts],
    binding: Binding,
}

/// A choice of devices, and the CPUs beside them.
pub(crate) struct Beside {
    pub(crate) gres: Vec<GresShare>,
    pub(crate) cpus: CpuIds,
}

impl<'a> Near<'a> {
    /// `None`: nothing is said of the node's devices that matters to the demand.
    pub(crate) fn of(settings: &'a Settings, demand: &Demand, node: &NodeDefinition) -> Option<Self> {
        if settings.devices.is_empty() || !demand.has_devices() {
            return None;
        }
        let first = settings.devices.partition_point(|one| *one.node < *node.name);
        let rest = &settings.devices[first..];
        let facts = &rest[..rest.partition_point(|one| *one.node == *node.name)];
        (!facts.is_empty()).then_some(Self { facts, binding: demand.binding })
    }

    /// The units of a kind, in the order of their index.
    fn units(&self, node: &NodeDefinition, kind: u32) -> Vec<&'a DeviceFacts> {
        let gres = &node.gres[kind as usize];
        let is_one =
            |one: &&DeviceFacts| one.name == gres.name && (one.kind.is_empty() || one.kind == gres.kind);
        self.facts.iter().filter(is_one).collect()
    }

    /// Exchanges the devices of an answer by better ones, and chooses `count` CPUs beside them; `None`: the demand insists
    /// on CPUs near its devices, and too few are free, or there are too few CPUs at all.
    ///
    /// `free` tells which units of a kind could be had. Cost: O(devices³ + CPUs) for each set of cores.
    pub(crate) fn settle(
        &self,
        demand: &Demand,
        settings: &Settings,
        node: &NodeDefinition,
        gres: &[GresShare],
        (used, count): (&Bits, u32),
        free: &dyn Fn(u32) -> Vec<u32>,
    ) -> Option<Beside> {
        let whole_cores = settings.whole_cores;
        let plain = |gres: Vec<GresShare>| {
            let cpus = assign::cpu_ids(demand, whole_cores, node, used, count)?;
            Some(Beside { gres, cpus })
        };
        let moves = |share: &GresShare| {
            share.slices.is_empty() && !share.indices.is_empty() && !self.units(node, share.kind).is_empty()
        };
        let Some(place) = gres.iter().position(moves) else { return plain(gres.to_vec()) };
        // Jobs with devices of several kinds have the first of them bound; the others only lie well.
        let others: Vec<usize> = (0..gres.len()).filter(|at| *at != place && moves(&gres[*at])).collect();
        let mut gres = gres.to_vec();
        for at in others {
            let share = &mut gres[at];
            let units = self.units(node, share.kind);
            share.indices = indices(&best_linked(&units, &free(share.kind), share.indices.len() as usize));
        }
        let (kind, devices) = (gres[place].kind, gres[place].indices.len() as usize);
        let (units, there) = (self.units(node, kind), free(kind));
        let mut sets: Vec<Vec<u32>> = Vec::new();
        if self.binding != Binding::Disabled && node.bind {
            let near: BTreeSet<&[u32]> = there.iter().filter_map(|unit| cores(&units, *unit)).collect();
            for cores_of in near {
                let same = |unit: &&u32| cores(&units, **unit) == Some(cores_of);
                let members: Vec<u32> = there.iter().filter(same).copied().collect();
                if members.len() >= devices {
                    sets.push(best_linked(&units, &members, devices));
                }
            }
            sets.sort();
        }
        sets.push(best_linked(&units, &there, devices));
        if self.binding == Binding::Disabled || !node.bind {
            gres[place].indices = indices(&sets[0]);
            return plain(gres);
        }
        for set in &sets {
            let near = NearCpus::of(&units, set, node, cpu_unit(whole_cores, node));
            if let Some(cpus) = near.pick(demand, whole_cores, node, (used, count)) {
                gres[place].indices = indices(set);
                return Some(Beside { gres, cpus });
            }
        }
        if self.binding == Binding::Enforced {
            return None;
        }
        // As many near ones as there are, the rest from anywhere.
        let set = sets.last().expect("the last set is always there");
        gres[place].indices = indices(set);
        let near = NearCpus::of(&units, set, node, cpu_unit(whole_cores, node));
        let cpus = near.pick_some(demand, whole_cores, node, (used, count))?;
        Some(Beside { gres, cpus })
    }
}

fn indices(units: &[u32]) -> CpuIds {
    let mut ids = CpuIds::new();
    units.iter().for_each(|unit| ids.push(*unit));
    ids
}

/// Cores near a unit, as ranges; `None`: all.
fn cores<'a>(units: &[&'a DeviceFacts], unit: u32) -> Option<&'a [u32]> {
    units.get(unit as usize).map(|facts| &*facts.cores).filter(|cores| !cores.is_empty())
}

/// So many of the units with the most links among them; ties go to the lowest. Ascending.
///
/// From each unit the set grows by the one with the most links to it: exact where links come in equal groups, as NVLink's
/// pairs and switches do.
fn best_linked(units: &[&DeviceFacts], free: &[u32], count: usize) -> Vec<u32> {
    let links = |from: u32, to: u32| -> u32 {
        let of = |from: u32, to: u32| -> u32 {
            units.get(from as usize).and_then(|facts| facts.links.get(to as usize)).copied().unwrap_or(0)
        };
        of(from, to).max(of(to, from))
    };
    let lowest = || free.iter().copied().take(count).collect();
    if count < 2 || free.len() <= count || units.iter().all(|facts| facts.links.is_empty()) {
        return lowest();
    }
    let mut best: Option<(u32, Vec<u32>)> = None;
    for &seed in free {
        let (mut set, mut sum) = (vec![seed], 0);
        while set.len() < count {
            let to_set = |unit: u32| set.iter().map(|other| links(unit, *other)).sum::<u32>();
            let others = free.iter().copied().filter(|unit| !set.contains(unit));
            let Some(next) = others.max_by_key(|unit| (to_set(*unit), u32::MAX - *unit)) else { break };
            sum += to_set(next);
            set.push(next);
        }
        set.sort_unstable();
        if best.as_ref().is_none_or(|(most, known)| sum > *most || sum == *most && set < *known) {
            best = Some((sum, set));
        }
    }
    best.map_or_else(lowest, |(_, set)| set)
}

/// The CPUs near each device of a set.
struct NearCpus {
    /// By device; `None`: all.
    of: Vec<Option<BTreeSet<u32>>>,
}

impl NearCpus {
    fn of(units: &[&DeviceFacts], set: &[u32], node: &NodeDefinition, unit: u32) -> Self {
        // gres.conf counts cores; where CPUs are the unit a core still has all its threads.
        let threads = node.threads_per_core.max(unit).max(1);
        let cpus = |ranges: &[u32]| -> BTreeSet<u32> {
            let pairs = ranges.chunks_exact(2).flat_map(|pair| pair[0]..=pair[1]);
            pairs.flat_map(|core| core * threads..(core + 1) * threads).collect()
        };
        Self { of: set.iter().map(|device| cores(units, *device).map(cpus)).collect() }
    }

    fn is_near(&self, cpu: u32) -> bool {
        self.of.iter().any(|near| near.as_ref().is_none_or(|near| near.contains(&cpu)))
    }

    /// `used` with all that is not near, and `taken`.
    fn only_near(&self, node: &NodeDefinition, used: &Bits, taken: &CpuIds) -> Bits {
        let mut bits = used.clone();
        (0..node.cpus.0).filter(|cpu| !self.is_near(*cpu)).for_each(|cpu| bits.take(cpu));
        taken.iter().for_each(|cpu| bits.take(cpu));
        bits
    }

    /// CPUs near the devices only, at least one unit near each; `None`: there are too few.
    fn pick(
        &self,
        demand: &Demand,
        whole_cores: bool,
        node: &NodeDefinition,
        (used, count): (&Bits, u32),
    ) -> Option<CpuIds> {
        let unit = cpu_unit(whole_cores, node);
        let mut taken: BTreeSet<u32> = BTreeSet::new();
        for near in self.of.iter().flatten() {
            if near.iter().any(|cpu| taken.contains(cpu)) {
                continue;
            }
            let is_free =
                |first: u32| (first..first + unit).all(|cpu| used.is_free(cpu) && !taken.contains(&cpu));
            let first = near.iter().map(|cpu| cpu / unit * unit).find(|first| is_free(*first))?;
            taken.extend(first..first + unit);
        }
        let have = ids(&taken);
        let left = count.checked_sub(have.len())?;
        if left == 0 {
            return Some(have);
        }
        let rest = assign::cpu_ids(demand, whole_cores, node, &self.only_near(node, used, &have), left)?;
        taken.extend(rest.iter());
        Some(ids(&taken))
    }

    /// All that is near and free, and others.
    fn pick_some(
        &self,
        demand: &Demand,
        whole_cores: bool,
        node: &NodeDefinition,
        (used, count): (&Bits, u32),
    ) -> Option<CpuIds> {
        let near = self.only_near(node, used, &CpuIds::new());
        let found =
            (0..=count).rev().find_map(|most| assign::cpu_ids(demand, whole_cores, node, &near, most));
        let mut taken: BTreeSet<u32> = found.iter().flat_map(CpuIds::iter).collect();
        let left = count.saturating_sub(u32::try_from(taken.len()).unwrap_or(u32::MAX));
        if left > 0 {
            let mut bits = used.clone();
            taken.iter().for_each(|cpu| bits.take(*cpu));
            taken.extend(assign::cpu_ids(demand, whole_cores, node, &bits, left)?.iter());
        }
        Some(ids(&taken))
    }
}

fn ids(cpus: &BTreeSet<u32>) -> CpuIds {
    let mut found = CpuIds::new();
    cpus.iter().for_each(|cpu| found.push(*cpu));
    found
}
