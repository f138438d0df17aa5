//! Which devices of a node lie near each other, and near which cores: `Cores=` and `Links=` of gres.conf, and what a driver
//! shows where gres.conf says nothing.
//!
//! Owns the choice among the free devices of a kind, and of the CPUs beside them, on a node that was chosen already. Slices
//! that are made for a job are chosen elsewhere, by what they leave free: only the CPUs beside their GPUs are chosen here.
//! Shards lie nowhere in particular.
//!
//! * Devices with the most links among them are taken first, then the lowest.
//! * Unless a job asks for `--gres-flags=disable-binding`, devices of one set of cores with enough free CPUs come first, and
//!   CPUs near the devices before others. With `enforce-binding` no other CPU is taken, and each device has one.
//!
//! Source: `man gres.conf` (Cores, Links), `man sbatch` (--gres-flags).

use std::collections::BTreeSet;

use super::assign::Bits;
use super::cores;
use super::demand::{Binding, Demand};
use super::fit::cpu_unit;
use super::kept::{Kept, closed};
use crate::allocation::{CpuIds, GresShare, Slice};
use crate::gpu::inventory::{Inventory, Unit};
use crate::settings::{DeviceFacts, Settings};
use crate::state::node::{Node, NodeDefinition};

/// What gres.conf says of a node's devices, and a driver.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Near<'a> {
    facts: &'a [DeviceFacts],
    inventory: Option<&'a Inventory>,
    binding: Binding,
}

/// Where a device lies.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lies<'a> {
    /// Cores near it, as first and last of each range; empty: all.
    cores: &'a [u32],
    /// Links to each device of its kind; empty: not known.
    links: &'a [u32],
}

impl<'a> Lies<'a> {
    /// Cores near it, as first and last of each range; empty: all.
    pub(super) fn cores(&self) -> &'a [u32] {
        self.cores
    }
}

/// A choice of devices, and the CPUs beside them.
pub(crate) struct Beside {
    pub(crate) gres: Vec<GresShare>,
    pub(crate) cpus: CpuIds,
}

impl<'a> Near<'a> {
    /// `None`: nothing is said of the node's devices that matters to the demand.
    pub(crate) fn of(settings: &'a Settings, demand: &Demand, node: &'a Node) -> Option<Self> {
        let known = demand.has_devices().then(|| Self::known(settings, node)).flatten();
        known.map(|near| Self { binding: demand.binding, ..near })
    }

    /// What is known of a node's devices.
    pub(super) fn known(settings: &'a Settings, node: &'a Node) -> Option<Self> {
        let inventory = node.inventory.as_deref().filter(|inventory| inventory.tells_places());
        if settings.devices.is_empty() && inventory.is_none() {
            return None;
        }
        let node = &*node.definition;
        let first = settings.devices.partition_point(|one| *one.node < *node.name);
        let rest = &settings.devices[first..];
        let facts = &rest[..rest.partition_point(|one| *one.node == *node.name)];
        let known = !facts.is_empty() || inventory.is_some();
        known.then_some(Self { facts, inventory, binding: Binding::default() })
    }

    /// The units of a kind, in the order of their index: what gres.conf says counts before what a driver shows.
    pub(super) fn units(&self, node: &NodeDefinition, kind: u32) -> Vec<Lies<'a>> {
        let gres = &node.gres[kind as usize];
        let is_one =
            |one: &&DeviceFacts| one.name == gres.name && (one.kind.is_empty() || one.kind == gres.kind);
        let said =
            self.facts.iter().filter(is_one).map(|facts| Lies { cores: &facts.cores, links: &facts.links });
        let mut units: Vec<Lies<'a>> = said.collect();
        let shown = self.inventory.and_then(|inventory| inventory.units.get(kind as usize));
        let shown =
            shown.filter(|shown| shown.iter().any(Unit::lies_somewhere)).map_or(&[][..], Vec::as_slice);
        units.resize(units.len().max(shown.len()), Lies::default());
        for (unit, shown) in units.iter_mut().zip(shown) {
            if unit.cores.is_empty() {
                unit.cores = &shown.cores;
            }
            if unit.links.is_empty() {
                unit.links = &shown.links;
            }
        }
        units
    }

    /// The GPUs of slices that are made for a job.
    fn of_cuts(&self, gres: &[GresShare]) -> Vec<Lies<'a>> {
        let Some(inventory) = self.inventory else { return Vec::new() };
        let slices = gres.iter().filter(|share| share.is_cut()).flat_map(|share| &share.slices);
        let of = |slice: &Slice| inventory.dynamic.iter().find(|gpu| gpu.index == slice.gpu);
        slices.filter_map(of).map(|gpu| Lies { cores: &gpu.cores, links: &[] }).collect()
    }

    /// Gives a share these units of its kind.
    fn give(&self, share: &mut GresShare, units: &[u32]) {
        share.indices = indices(units);
        if let Some(inventory) = self.inventory {
            share.slices = inventory.places(share.kind as usize, units.iter().copied());
        }
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
        (used, kept, count): (&Bits, Option<&Kept>, u32),
        free: &dyn Fn(u32) -> Vec<u32>,
    ) -> Option<Beside> {
        let whole_cores = settings.whole_cores;
        let plain = |gres: Vec<GresShare>| {
            let used = closed(kept, used, &gres);
            let cpus = cores::cpu_ids(demand, whole_cores, node, &used, count)?;
            Some(Beside { gres, cpus })
        };
        let moves = |share: &GresShare| {
            !share.is_shards() && !share.indices.is_empty() && !self.units(node, share.kind).is_empty()
        };
        let Some(place) = gres.iter().position(moves) else {
            let cuts = self.of_cuts(gres);
            if cuts.is_empty() || self.binding == Binding::Disabled || !node.bind {
                return plain(gres.to_vec());
            }
            let near = NearCpus::of(cuts, node, cpu_unit(whole_cores, node));
            let used = closed(kept, used, gres);
            let cpus = near.pick(demand, whole_cores, node, (&used, count)).or_else(|| {
                let any = self.binding != Binding::Enforced;
                any.then(|| near.pick_some(demand, whole_cores, node, (&used, count))).flatten()
            })?;
            return Some(Beside { gres: gres.to_vec(), cpus });
        };
        // Jobs with devices of several kinds have the first of them bound; the others only lie well.
        let others: Vec<usize> = (0..gres.len()).filter(|at| *at != place && moves(&gres[*at])).collect();
        let mut gres = gres.to_vec();
        for at in others {
            let share = &mut gres[at];
            let units = self.units(node, share.kind);
            let best = best_linked(&units, &free(share.kind), share.indices.len() as usize);
            self.give(share, &best);
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
            self.give(&mut gres[place], &sets[0]);
            return plain(gres);
        }
        for set in &sets {
            let near = NearCpus::of(lies(&units, set), node, cpu_unit(whole_cores, node));
            self.give(&mut gres[place], set);
            if let Some(cpus) = near.pick(demand, whole_cores, node, (&closed(kept, used, &gres), count)) {
                return Some(Beside { gres, cpus });
            }
        }
        if self.binding == Binding::Enforced {
            return None;
        }
        // As many near ones as there are, the rest from anywhere.
        let set = sets.last().expect("the last set is always there");
        self.give(&mut gres[place], set);
        let near = NearCpus::of(lies(&units, set), node, cpu_unit(whole_cores, node));
        let cpus = near.pick_some(demand, whole_cores, node, (&closed(kept, used, &gres), count))?;
        Some(Beside { gres, cpus })
    }
}

/// The sockets near the devices of a kind, ascending; empty: nothing says where they lie. Serves what is shown.
///
/// Cost: O(devices × ranges × sockets).
#[must_use]
pub fn sockets_near(settings: &Settings, node: &Node, kind: u32) -> Vec<u32> {
    let known = Near::known(settings, node).filter(|_| kind < node.definition.gres.len() as u32);
    let units = known.map_or_else(Vec::new, |near| near.units(&node.definition, kind));
    let each = node.definition.cores_per_socket.max(1);
    let ranges = || units.iter().flat_map(|lies| lies.cores.chunks_exact(2));
    let has = |socket: &u32| ranges().any(|pair| pair[0] / each <= *socket && *socket <= pair[1] / each);
    (0..node.definition.sockets).filter(has).collect()
}

fn indices(units: &[u32]) -> CpuIds {
    let mut ids = CpuIds::new();
    units.iter().for_each(|unit| ids.push(*unit));
    ids
}

/// Cores near a unit, as ranges; `None`: all.
fn cores<'a>(units: &[Lies<'a>], unit: u32) -> Option<&'a [u32]> {
    units.get(unit as usize).map(|lies| lies.cores).filter(|cores| !cores.is_empty())
}

/// Where the units of a set lie.
fn lies<'a>(units: &[Lies<'a>], set: &[u32]) -> Vec<Lies<'a>> {
    set.iter().map(|unit| units.get(*unit as usize).copied().unwrap_or_default()).collect()
}

/// So many of the units with the most links among them; ties go to the lowest. Ascending.
///
/// From each unit the set grows by the one with the most links to it: exact where links come in equal groups, as NVLink's
/// pairs and switches do.
fn best_linked(units: &[Lies<'_>], free: &[u32], count: usize) -> Vec<u32> {
    let links = |from: u32, to: u32| -> u32 {
        let of = |from: u32, to: u32| -> u32 {
            units.get(from as usize).and_then(|lies| lies.links.get(to as usize)).copied().unwrap_or(0)
        };
        of(from, to).max(of(to, from))
    };
    let lowest = || free.iter().copied().take(count).collect();
    if count < 2 || free.len() <= count || units.iter().all(|lies| lies.links.is_empty()) {
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
    fn of(devices: Vec<Lies<'_>>, node: &NodeDefinition, unit: u32) -> Self {
        // gres.conf counts cores; where CPUs are the unit a core still has all its threads.
        let threads = node.threads_per_core.max(unit).max(1);
        let cpus = |ranges: &[u32]| -> BTreeSet<u32> {
            let pairs = ranges.chunks_exact(2).flat_map(|pair| pair[0]..=pair[1]);
            pairs.flat_map(|core| core * threads..(core + 1) * threads).collect()
        };
        Self { of: devices.iter().map(|lies| (!lies.cores.is_empty()).then(|| cpus(lies.cores))).collect() }
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
        let rest = cores::cpu_ids(demand, whole_cores, node, &self.only_near(node, used, &have), left)?;
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
        let found = (0..=count).rev().find_map(|most| cores::cpu_ids(demand, whole_cores, node, &near, most));
        let mut taken: BTreeSet<u32> = found.iter().flat_map(CpuIds::iter).collect();
        let left = count.saturating_sub(u32::try_from(taken.len()).unwrap_or(u32::MAX));
        if left > 0 {
            let mut bits = used.clone();
            taken.iter().for_each(|cpu| bits.take(*cpu));
            taken.extend(cores::cpu_ids(demand, whole_cores, node, &bits, left)?.iter());
        }
        Some(ids(&taken))
    }
}

fn ids(cpus: &BTreeSet<u32>) -> CpuIds {
    let mut found = CpuIds::new();
    cpus.iter().for_each(|cpu| found.push(*cpu));
    found
}
