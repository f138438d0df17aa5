//! A working copy of what is free: the state's, less what the present pass has given away.

use std::collections::BTreeMap;

use model::id::{NodeIdx, Uid};
use model::quantity::{Cpus, MemoryMib};
use model::request::Sharing;

use super::assign::{self, Bits};
use super::choose::{Candidate, Chosen};
use super::cores;
use super::demand::{Binding, Demand, MemoryNeed, Share};
use super::fit::{self, Free};
use super::kept::{Kept, closed};
use super::near::{Beside, Near};
use super::pack;
use crate::allocation::{GresShare, NodeShare, Slice};
use crate::gpu::shards::Lanes;
use crate::gpu::slice_set::SliceSet;
use crate::settings::Settings;
use crate::state::State;
use crate::state::job::Job;
use crate::state::node::{Node, Used};
use crate::state::promise::PLANNED_KINDS;

/// What of a node's devices stays free for as long as a job may run: no more of it may be given away than that,
/// although more is free now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ahead {
    /// Devices of each kind; of further kinds as many as are free now.
    pub(crate) gres: [u32; PLANNED_KINDS],
    /// Memory slices of dynamic GPUs.
    pub(crate) slices: SliceSet,
    /// Shards of each GPU that may be shared.
    pub(crate) shards: Lanes,
}

impl Ahead {
    /// All that is free now.
    pub(crate) const ALL: Self =
        Self { gres: [u32::MAX; PLANNED_KINDS], slices: SliceSet::ALL, shards: Lanes::ALL };
}

/// What of one node is held.
#[derive(Clone, Debug, Default)]
struct Held {
    cpus: u32,
    memory: u64,
    jobs: u32,
    /// Jobs that share their CPUs with others.
    sharing: u32,
    cpu_bits: Layers,
    gres: Vec<(u64, Bits)>,
    /// Memory slices of dynamic GPUs.
    slices: SliceSet,
    /// What of the GPUs that may be shared.
    shards: Lanes,
}

/// The CPUs of a node that have one holder, two, and so on, as bits.
#[derive(Clone, Debug, Default)]
pub(crate) struct Layers {
    first: Bits,
    further: Vec<Bits>,
}

impl Layers {
    /// As jobs hold them.
    pub(crate) fn of(used: &Used) -> Self {
        let further = used.cpu_layers.iter().cloned().map(Bits).collect();
        Self { first: Bits(used.cpu_bits.clone()), further }
    }

    /// CPUs with so many holders, or more: they are not free for a job that bears one less beside it.
    pub(crate) fn below(&self, holders: u32) -> &Bits {
        const NONE: &Bits = &Bits(Vec::new());
        match holders {
            0 | 1 => &self.first,
            more => self.further.get(more as usize - 2).unwrap_or(NONE),
        }
    }

    fn take(&mut self, id: u32) {
        let mut layers = std::iter::once(&mut self.first).chain(&mut self.further);
        match layers.find(|bits| bits.is_free(id)) {
            Some(bits) => bits.take(id),
            None => {
                let mut bits = Bits::default();
                bits.take(id);
                self.further.push(bits);
            }
        }
    }
}

/// What is held of the nodes of which something was taken: a list, and where in it each node is.
#[derive(Clone, Debug, Default)]
struct Touched {
    held: Vec<(NodeIdx, Held)>,
    /// One more than the place, by node; 0, and beyond the end: not in the list.
    places: Vec<u32>,
}

impl Touched {
    fn get(&self, node: NodeIdx) -> Option<&Held> {
        let place = self.places.get(node.0 as usize)?.checked_sub(1)?;
        Some(&self.held[place as usize].1)
    }

    fn get_or_insert(&mut self, node: NodeIdx, make: impl FnOnce() -> Held) -> &mut Held {
        let idx = node.0 as usize;
        if idx >= self.places.len() {
            self.places.resize(idx + 1, 0);
        }
        let place = &mut self.places[idx];
        if *place == 0 {
            self.held.push((node, make()));
            *place = u32::try_from(self.held.len()).expect("nodes are counted in 32 bits");
        }
        &mut self.held[*place as usize - 1].1
    }

    fn clear(&mut self) {
        for (node, _) in self.held.drain(..) {
            self.places[node.0 as usize] = 0;
        }
    }
}

/// A working copy of what is free. Nodes that nothing was taken of are read from the state.
#[derive(Clone, Debug, Default)]
pub(crate) struct Board {
    /// Nodes of which this pass took something.
    touched: Touched,
    /// Nodes that belong to jobs of one user only.
    owned: BTreeMap<NodeIdx, Uid>,
    /// Every node counts as available and unused.
    empty: bool,
}

impl Board {
    /// What the state says. Cost: O(running jobs).
    pub(crate) fn of(state: &State) -> Self {
        let mut board = Self::default();
        for id in &state.index.running {
            let job = &state.jobs[id];
            if is_owner(job) {
                let active = job.active().expect("the index holds running jobs");
                for share in active.allocation.iter() {
                    board.owned.insert(share.node, job.owner.uid);
                }
            }
        }
        board
    }

    /// A machine without jobs on which every configured node works.
    pub(crate) fn empty() -> Self {
        Self { empty: true, ..Self::default() }
    }

    /// As if nothing was taken and nobody kept a node; the memory is used again.
    pub(crate) fn clear(&mut self) {
        self.touched.clear();
        self.owned.clear();
        self.empty = false;
    }

    /// Takes the shares of a job that this pass starts.
    pub(crate) fn take(&mut self, state: &State, job: &Job, shares: &[NodeShare]) {
        for share in shares {
            let held = self.touched.get_or_insert(share.node, || held(state, share.node));
            held.cpus += share.cpus.0;
            held.memory += share.memory.0;
            held.jobs += 1;
            held.sharing += u32::from(share.shared);
            share.cpu_ids.iter().for_each(|id| held.cpu_bits.take(id));
            for gres in &share.gres {
                let (count, bits) = &mut held.gres[gres.kind as usize];
                *count += gres.count;
                gres.indices.iter().for_each(|index| bits.take(index));
                held.slices = held.slices | gres.cut_bits();
            }
            if let Some(shards) = &state.node(share.node).shards {
                held.shards = held.shards.plus(shards.held(&share.gres));
            }
            if is_owner(job) {
                self.owned.insert(share.node, job.owner.uid);
            }
        }
    }

    /// What the node could take of a demand; `None`: nothing.
    pub(crate) fn candidate(
        &self,
        state: &State,
        settings: &Settings,
        demand: &Demand,
        owner: Uid,
        idx: NodeIdx,
    ) -> Option<Candidate> {
        let node = state.node(idx);
        let definition = node.offer();
        if if self.empty { node.removed } else { !node.is_available() } {
            return None;
        }
        if !fit::shape_fits(demand, definition) {
            return None;
        }
        let mut gres_free = [0_u64; 16];
        let kinds = definition.gres.len().min(gres_free.len());
        let (mut cpus, mut memory, mut jobs) = (definition.cpus.0, definition.memory.0, 0);
        let mut sharing = 0;
        if self.empty {
            for (free, gres) in gres_free.iter_mut().zip(&definition.gres) {
                *free = gres.count;
            }
        } else if let Some(held) = self.touched.get(idx) {
            (cpus, memory, jobs) =
                (cpus.saturating_sub(held.cpus), memory.saturating_sub(held.memory), held.jobs);
            sharing = held.sharing;
            for ((free, gres), held) in gres_free.iter_mut().zip(&definition.gres).zip(&held.gres) {
                *free = gres.count.saturating_sub(held.0);
            }
        } else {
            (cpus, memory, jobs) = (node.free_cpus().0, node.free_memory().0, node.used.jobs);
            sharing = node.used.sharing;
            for ((free, gres), held) in gres_free.iter_mut().zip(&definition.gres).zip(&node.used.gres) {
                *free = gres.count.saturating_sub(*held);
            }
        }
        if !self.may_share(state, demand, owner, idx, (jobs, sharing)) {
            return None;
        }
        if demand.layers() > 1 && jobs > 0 {
            cpus = self.free_in_layers(state, settings, idx, demand.layers());
        }
        let sockets = if demand.is_by_socket() {
            self.free_units(state, settings, idx, demand.layers())
        } else {
            Vec::new()
        };
        if let Some(shards) = &node.shards {
            shards.count(self.free_shards(node, idx), demand.dealing, &mut gres_free[..kinds]);
        }
        let free = Free {
            cpus,
            memory,
            gres: &gres_free[..kinds],
            idle: jobs == 0,
            sockets: &sockets,
            slices: self.free_slices(node, idx),
            inventory: node.inventory.as_deref(),
            rule: state.slices.rule(),
            reach: Kept::from(settings, demand, node).map(|kept| kept.reach(definition.cpus.0)),
        };
        let found = candidate(settings, demand, definition, idx, free)?;
        if demand.insists_on_cpus() { self.on_its_cpus(state, settings, demand, found) } else { Some(found) }
    }

    /// A candidate with the most tasks that the CPUs hold which will do: those near its devices, those that are not kept for
    /// others. Devices for the whole job are judged with the share alone, but for what they open of kept CPUs.
    fn on_its_cpus(
        &self,
        state: &State,
        settings: &Settings,
        demand: &Demand,
        found: Candidate,
    ) -> Option<Candidate> {
        let node = state.node(found.node);
        let kept = Kept::from(settings, demand, node).is_some();
        let enforced = demand.binding == Binding::Enforced && Near::of(settings, demand, node).is_some();
        if !kept && !enforced {
            // Nothing is near anything there, and every CPU is as good as another.
            return Some(found);
        }
        let holds = |tasks: &u32| {
            let needs = demand.gres_per_job.iter().zip(&found.spare);
            let devices = needs.map(|(need, spare)| if kept { need.count.min(*spare) } else { 0 }).collect();
            let chosen = Chosen { devices, ..Chosen::of_amounts(found.node, *tasks) };
            self.share(state, settings, demand, &chosen, Ahead::ALL).is_some()
        };
        let tasks = (1..=found.tasks.min(demand.tasks)).rev().find(holds)?;
        Some(Candidate { tasks, ..found })
    }

    /// Memory slices of dynamic GPUs of a node that nothing holds.
    pub(crate) fn free_slices(&self, node: &Node, idx: NodeIdx) -> SliceSet {
        let Some(inventory) = &node.inventory else { return SliceSet::EMPTY };
        match self.touched.get(idx) {
            Some(held) => inventory.slices & !held.slices,
            None if self.empty => inventory.slices,
            None => node.free_slices(),
        }
    }

    /// What of each GPU that may be shared nothing holds.
    pub(crate) fn free_shards(&self, node: &Node, idx: NodeIdx) -> Lanes {
        let Some(shards) = &node.shards else { return Lanes::default() };
        match self.touched.get(idx) {
            Some(held) => shards.total().minus(held.shards),
            None if self.empty => shards.total(),
            None => node.free_shards(),
        }
    }

    /// CPUs of a node that the demand could have.
    pub(crate) fn free_cpus(&self, state: &State, settings: &Settings, demand: &Demand, idx: NodeIdx) -> u32 {
        let node = state.node(idx);
        if demand.layers() > 1 && node.used.jobs > 0 {
            return self.free_in_layers(state, settings, idx, demand.layers());
        }
        node.free_cpus().0
    }

    /// CPUs with fewer holders than `layers`.
    fn free_in_layers(&self, state: &State, settings: &Settings, idx: NodeIdx, layers: u32) -> u32 {
        let node = state.node(idx);
        if node.definition.bind {
            let unit = fit::cpu_unit(settings.whole_cores, &node.definition);
            return self.free_units(state, settings, idx, layers).iter().sum::<u32>() * unit;
        }
        let held = self.touched.get(idx).map_or(node.used.cpus.0, |held| held.cpus);
        let cpus = node.definition.cpus.0;
        cpus.saturating_mul(layers).saturating_sub(held).min(cpus)
    }

    /// Units of each socket of a node whose CPUs are bound that have fewer holders than `layers`.
    fn free_units(&self, state: &State, settings: &Settings, idx: NodeIdx, layers: u32) -> Vec<u32> {
        let node = state.node(idx);
        let count =
            |held: &Layers| cores::free_units(settings.whole_cores, &node.definition, held.below(layers));
        match (self.touched.get(idx), self.empty) {
            (Some(held), _) => count(&held.cpu_bits),
            (None, true) => count(&Layers::default()),
            (None, false) => count(&Layers::of(&node.used)),
        }
    }

    /// Whether some node belongs to jobs of one user only: then users are not treated alike.
    pub(crate) fn has_owners(&self) -> bool {
        !self.owned.is_empty()
    }

    /// Whether this pass took something of a node.
    pub(crate) fn is_touched(&self, idx: u32) -> bool {
        self.touched.get(NodeIdx(idx)).is_some()
    }

    /// Whether no job keeps nodes from other users, and the demand does not ask for that. Where CPUs are shared,
    /// [`Self::may_take`] says more.
    pub(crate) fn is_open(&self, demand: &Demand) -> bool {
        self.owned.is_empty() && !matches!(demand.share, Share::User(_))
    }

    /// Whether the jobs on a node, those of this pass included, let a user's demand beside them.
    pub(crate) fn may_take(&self, state: &State, demand: &Demand, user: Uid, idx: u32) -> bool {
        let idx = NodeIdx(idx);
        let used = &state.node(idx).used;
        let jobs = self.touched.get(idx).map_or((used.jobs, used.sharing), |held| (held.jobs, held.sharing));
        self.may_share(state, demand, user, idx, jobs)
    }

    /// Jobs that share their CPUs and jobs that do not are never on one node, as with select/cons_tres.
    fn may_share(
        &self,
        state: &State,
        demand: &Demand,
        user: Uid,
        idx: NodeIdx,
        (jobs, sharing): (u32, u32),
    ) -> bool {
        if self.empty || jobs == 0 {
            return true;
        }
        if (demand.layers() > 1) != (sharing > 0) {
            return false;
        }
        let owner = self.owned.get(&idx);
        match demand.share {
            Share::Any | Share::Layers(_) => owner.is_none_or(|owner| *owner == user),
            Share::Whole => false,
            Share::User(uid) => match owner {
                Some(owner) => *owner == uid,
                // Jobs that share with anybody are there: all of them must be this user's.
                None => state.index.running.iter().all(|id| {
                    let job = &state.jobs[id];
                    job.owner.uid == uid
                        || job
                            .active()
                            .is_none_or(|active| active.allocation.iter().all(|one| one.node != idx))
                }),
            },
        }
    }

    /// The share of a chosen node, with ids; of devices no more than stays free.
    pub(crate) fn share(
        &self,
        state: &State,
        settings: &Settings,
        demand: &Demand,
        chosen: &Chosen,
        ahead: Ahead,
    ) -> Option<NodeShare> {
        let node = state.node(chosen.node);
        let definition = node.offer();
        let of_state;
        let held = match self.touched.get(chosen.node) {
            Some(held) => held,
            None => {
                of_state = if self.empty { nothing_held(definition) } else { held(state, chosen.node) };
                &of_state
            }
        };
        let whole_job = super::whole_job(demand, chosen);
        let free = assign::Parts {
            gres: ahead.gres,
            slices: ahead.slices & chosen.within & self.free_slices(node, chosen.node),
            rule: state.slices.rule(),
            shards: ahead.shards.least(self.free_shards(node, chosen.node)),
        };
        let gres = assign::devices(demand, node, &held.gres, chosen.tasks, &whole_job, free)?;
        let gpus = gres.iter().filter(|one| &*definition.gres[one.kind as usize].name == "gpu");
        let gpus = gpus.map(GresShare::amount).sum();
        let cost = fit::cost(demand, settings.whole_cores, definition, chosen.tasks, gpus);
        let near = Near::of(settings, demand, node);
        let kept = Kept::from(settings, demand, node);
        let units = |kind: u32| {
            let kind = kind as usize;
            // As declared: those in service need not be the first.
            let count = u32::try_from(node.definition.gres[kind].count).unwrap_or(u32::MAX);
            let serves =
                |unit: u32| node.inventory.as_ref().is_none_or(|inventory| inventory.in_service(kind, unit));
            let whole = |unit: u32| {
                node.shards.as_ref().is_none_or(|shards| shards.is_whole(free.shards, kind, unit))
            };
            (0..count)
                .filter(|unit| held.gres[kind].1.is_free(*unit) && serves(*unit) && whole(*unit))
                .collect()
        };
        // CPUs without a holder first, as the first row of cons_tres; then those with the fewest.
        let beside = (1..=demand.layers()).find_map(|layer| {
            let taken = held.cpu_bits.below(layer);
            match &near {
                Some(near) => {
                    let held = (taken, kept.as_ref(), cost.cpus);
                    let Beside { gres, cpus } =
                        near.settle(demand, settings, definition, &gres, held, &units)?;
                    Some((Some(gres), cpus))
                }
                None => {
                    let taken = closed(kept.as_ref(), taken, &gres);
                    let cpus = cores::cpu_ids(demand, settings.whole_cores, definition, &taken, cost.cpus)?;
                    Some((None, cpus))
                }
            }
        })?;
        let (gres, cpu_ids) = (beside.0.unwrap_or(gres), beside.1);
        let whole = demand.share == Share::Whole && !demand.tasks_given;
        let tasks = if whole { (cost.cpus / demand.cpus_per_task).max(1) } else { chosen.tasks };
        Some(NodeShare {
            node: chosen.node,
            cpus: Cpus(cost.cpus),
            cpu_ids,
            memory: MemoryMib(cost.memory),
            gres,
            tasks,
            shared: demand.layers() > 1,
        })
    }
}

/// What a node with so much free could take of a demand; `None`: nothing.
pub(crate) fn candidate(
    settings: &Settings,
    demand: &Demand,
    definition: &crate::state::node::NodeDefinition,
    node: NodeIdx,
    free: Free<'_>,
) -> Option<Candidate> {
    let tasks = fit::room(demand, settings.whole_cores, definition, free);
    if tasks == 0 {
        return None;
    }
    let mut before = fit::needs_of(demand, tasks.min(1));
    let spare = |need| {
        let devices = if fit::is_cut(need) {
            // What the needs before it take is not there for this one.
            let room = pack::room(need, need.count, &before, &free.devices(definition));
            before.push((need, room));
            room
        } else {
            fit::free_gres(need, definition, free.gres)
        };
        if &*need.name != "gpu" {
            return devices;
        }
        // What comes with each GPU must be free too.
        let by_cpus = u64::from(free.cpus).checked_div(u64::from(demand.cpus_per_gpu)).unwrap_or(u64::MAX);
        let by_memory = match demand.memory {
            MemoryNeed::PerGpu(mib) => free.memory.checked_div(mib).unwrap_or(u64::MAX),
            _ => u64::MAX,
        };
        devices.min(by_cpus).min(by_memory)
    };
    let spare: Vec<u64> = demand.gres_per_job.iter().map(spare).collect();
    if !spare.is_empty() && spare.iter().all(|devices| *devices == 0) {
        // Each node of such a job has one at least.
        return None;
    }
    let required = demand.required.binary_search(&node).is_ok();
    let state = demand.single_slice().and_then(|need| pack::state_for(need, &free.devices(definition)));
    let cpus = definition.cpus.0.max(1);
    let load = 1000 - free.cpus.min(cpus).saturating_mul(1000) / cpus;
    Some(Candidate { node, tasks, spare, required, load, state })
}

/// Whether the job keeps its nodes from other users' jobs.
fn is_owner(job: &Job) -> bool {
    matches!(job.request.sharing, Sharing::User | Sharing::Mcs)
}

/// Of a node that no job uses.
fn nothing_held(definition: &crate::state::node::NodeDefinition) -> Held {
    Held { gres: vec![(0, Bits::default()); definition.gres.len()], ..Held::default() }
}

fn held(state: &State, idx: NodeIdx) -> Held {
    let used = &state.node(idx).used;
    let bits = used.gres_bits.iter().cloned().map(Bits);
    Held {
        cpus: used.cpus.0,
        memory: used.memory.0,
        jobs: used.jobs,
        sharing: used.sharing,
        cpu_bits: Layers::of(used),
        gres: used.gres.iter().copied().zip(bits).collect(),
        slices: SliceSet::union(used.cuts.values().map(Slice::bits)),
        shards: taken(state.node(idx)),
    }
}

/// What of each GPU that may be shared jobs hold.
fn taken(node: &Node) -> Lanes {
    node.shards.as_ref().map_or(Lanes::default(), |shards| shards.total().minus(node.free_shards()))
}
