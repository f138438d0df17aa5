//! The nodes as the planner sees them: kinds, lists in order of preference, profiles of the future.
//!
//! Owns two profiles for each node: what running jobs leave free (`base`), and that less what is planned
//! (`plan`). Invariant: a node whose two profiles may differ is listed in `stale`.
//!
//! A cluster of equal nodes that hold one job each ([`Cluster::is_pool`]) has one profile that counts
//! nodes: which of them a job of the future gets is open until it starts, so that no plan fails by
//! having named one. Everywhere here a "node" of such a cluster is the pool, at place 0.

mod closure;
mod cuts;
mod follow;
mod kind;
mod layer;

use std::collections::BTreeMap;
use std::sync::Arc;

use model::id::{NodeIdx, PartitionIdx};

use self::closure::closures;
pub(super) use self::cuts::{COMPARED, Cuts, Slot};
pub(super) use self::follow::Same;
pub(super) use self::kind::Kind;
use self::kind::{alike, same_devices, same_make};
use self::layer::{Sorts, layers_of, partition_layers};
use super::holds::Holds;
use super::profile::{Amount, KINDS, Profile};
use super::shape::Fixed;
use super::sketch::{Bounds, Sketch, SliceBounds};
use crate::allocation::{GresShare, NodeShare};
use crate::gpu::geometry::Profile as GpuProfile;
use crate::gpu::slice_set::SliceSet;
use crate::place::demand::Demand;
use crate::place::feature::Constraint;
use crate::place::fit;
use crate::state::State;
use crate::state::node::Node;
use crate::state::partition::Partition;
use crate::state::reservation::Reservation;

/// Nodes, kinds and profiles.
#[derive(Debug, Default)]
pub(super) struct Cluster {
    pub(super) kinds: Vec<Kind>,
    kind_of: Vec<u32>,
    /// The first kind of each make: kinds of one make differ in features and weight only, so that what a
    /// request takes of their nodes is the same.
    makes: Vec<u32>,
    make_of: Vec<u32>,
    available: Vec<bool>,
    base: Vec<Profile>,
    plan: Vec<Profile>,
    /// What was planned since plans were last forgotten: node, amount, from, to.
    reserved: Vec<(u32, Amount, i64, i64)>,
    /// Something was taken that the plan did not know of: what was planned there may be taken twice, and
    /// cannot be given back piece by piece.
    overlaid: bool,
    stale: Vec<u32>,
    is_stale: Vec<bool>,
    /// Bounds of earliest starts.
    sketch: Sketch,
    /// The GPUs that are cut as jobs need it.
    cuts: Option<Cuts>,
    now: i64,
    /// What of each node the plan leaves free now; what most requests fail by.
    floor: Vec<Amount>,
    /// When that may change by the passing of time.
    floor_until: Vec<i64>,
    /// Nodes on which something became free since the jobs behind the protected ones were tested.
    pub(super) touched: Touched,
    /// The same for the protected ones.
    pub(super) touched_ahead: Touched,
    /// Nodes on which something became free since the slice before: what of it those could use that this round has
    /// looked at is theirs before it is anybody's behind them.
    pub(super) since: Touched,
    /// The same for the protected ones.
    pub(super) since_ahead: Touched,
    /// Nodes of each partition that take jobs, by weight, then as configured; made when asked for.
    preferred: Vec<Option<Arc<[u32]>>>,
    pool: bool,
    /// How many nodes a pool has.
    pool_nodes: usize,
    /// CPUs of all nodes of each partition; made when asked for.
    partition_cpus: Vec<Option<u64>>,
    /// Lists of nodes in order of preference, each once.
    lists: Vec<List>,
    list_by_kinds: BTreeMap<(PartitionIdx, Vec<bool>), u32>,
    /// Grows whenever some node may have more free than before.
    raised: u64,
    /// Counts what was taken since then.
    takes: u32,
    /// Grows whenever something is given back at any time, or lists change.
    gave: u64,
    /// Nodes whose CPUs may be shared.
    layered: BTreeMap<u32, Sorts>,
    /// Reservations, in the machine's time.
    closures: Vec<(Box<str>, Arc<Reservation>)>,
    /// When the next of them begins or ends.
    next_closure: i64,
}

/// So many nodes are looked at one by one, more as if it were all.
const TOUCHED_FEW: usize = 64;

/// A set of nodes on which something became free.
#[derive(Debug, Default)]
pub(super) struct Touched {
    nodes: Vec<u32>,
    marks: Vec<bool>,
    all: bool,
}

impl Touched {
    fn of(count: usize) -> Self {
        Self { nodes: Vec::new(), marks: vec![false; count], all: true }
    }

    fn add(&mut self, node: u32) {
        let mark = &mut self.marks[node as usize];
        if !self.all && !std::mem::replace(mark, true) {
            self.nodes.push(node);
            self.all = self.nodes.len() > TOUCHED_FEW;
        }
    }

    pub(super) fn add_all(&mut self) {
        self.all = true;
    }

    pub(super) fn clear(&mut self) {
        for node in self.nodes.drain(..) {
            self.marks[node as usize] = false;
        }
        self.all = false;
    }

    pub(super) fn is_all(&self) -> bool {
        self.all
    }

    pub(super) fn is_empty(&self) -> bool {
        !self.all && self.nodes.is_empty()
    }

    pub(super) fn nodes(&self) -> &[u32] {
        &self.nodes
    }
}

/// Nodes that could take part in a request, and what of them is worth looking at now.
#[derive(Debug)]
struct List {
    nodes: Arc<[u32]>,
    /// Which nodes these are, as bits.
    members: Vec<u64>,
    /// Those with a free CPU when this was last made.
    open: Vec<u32>,
    /// At least the most that any of them had free of each resource.
    most: Amount,
    made: (u64, u32),
    /// Whose nodes these are, and of which kinds.
    of: (PartitionIdx, Vec<bool>),
    /// Nodes that the request does not want.
    excluded: Box<[NodeIdx]>,
}

/// So many plans are taken back one by one, more by copying the profiles.
const FEW_PLANS: usize = 4;

/// So many reservations after it was made, what a list knows of the present is made again.
const LIST_KEPT: u32 = 32;

impl Cluster {
    /// Reads the nodes of a state, without jobs. `may_pool`: as one pool, if they can be.
    ///
    /// Cost: O(nodes × kinds).
    pub(super) fn of(state: &State, may_pool: bool) -> Self {
        if let Some(pool) = Self::pool_of(state).filter(|_| may_pool) {
            return pool;
        }
        let mut cluster = Self {
            preferred: vec![None; state.partitions.len()],
            partition_cpus: vec![None; state.partitions.len()],
            now: i64::MIN,
            raised: 1,
            ..Self::default()
        };
        let layered = layers_of(state);
        for (place, node) in (0..).zip(&state.nodes) {
            let layers = layered.get(&place).copied().unwrap_or(1);
            let like = |kind: &Kind| {
                kind.layers == layers
                    && alike(&kind.definition, node.offer())
                    && same_devices(&kind.inventory, &node.inventory)
            };
            let known = cluster.kinds.iter().position(like);
            let kind = known.unwrap_or_else(|| cluster.add_kind(node, layers));
            cluster.make_of.push(cluster.kinds[kind].make);
            cluster.kind_of.push(u32::try_from(kind).expect("fewer kinds than nodes"));
            cluster.available.push(node.is_available());
            cluster.base.push(Profile::new(cluster.kinds[kind].total));
            cluster.plan.push(Profile::new(cluster.kinds[kind].total));
            cluster.is_stale.push(false);
            cluster.floor.push(cluster.kinds[kind].total);
            cluster.floor_until.push(i64::MAX);
        }
        cluster.closures = closures(state);
        cluster.layered = layered.into_keys().map(|node| (node, Sorts::default())).collect();
        cluster.cuts = Cuts::of(&cluster);
        cluster.sketch = Sketch::of(cluster.floor.len(), cluster.cuts.is_some());
        cluster.touched = Touched::of(cluster.floor.len());
        cluster.touched_ahead = Touched::of(cluster.floor.len());
        cluster.since = Touched::of(cluster.floor.len());
        cluster.since_ahead = Touched::of(cluster.floor.len());
        cluster
    }

    fn add_kind(&mut self, node: &Node, layers: u32) -> usize {
        let place = self.kinds.len();
        let like = |make: &u32| {
            let kind = &self.kinds[*make as usize];
            kind.layers == layers
                && same_make(&kind.definition, node.offer())
                && same_devices(&kind.inventory, &node.inventory)
        };
        let make = self.makes.iter().position(like).unwrap_or_else(|| {
            self.makes.push(u32::try_from(place).expect("fewer kinds than nodes"));
            self.makes.len() - 1
        });
        let make = u32::try_from(make).expect("fewer makes than kinds");
        self.kinds.push(Kind::of(node, layers, make));
        place
    }

    /// All nodes as one pool: they are alike, have one CPU each, work, and are in every partition.
    fn pool_of(state: &State) -> Option<Self> {
        let (first, others) = state.nodes.split_first().filter(|(_, others)| !others.is_empty())?;
        let same = |node: &Node| {
            node.inventory.is_none() && node.is_available() && alike(&first.definition, &node.definition)
        };
        let everywhere = |partition: &Partition| {
            partition.nodes.len() == state.nodes.len() && partition_layers(partition) == 1
        };
        let unit = first.definition.cpus.0 == 1
            && first.inventory.is_none()
            && first.is_available()
            && others.iter().all(same);
        if !unit || !state.reservations.is_empty() || !state.partitions.iter().flatten().all(everywhere) {
            return None;
        }
        let cpus = u32::try_from(state.nodes.len()).expect("nodes are counted in 32 bits");
        let profile = Profile::new(Amount { cpus, ..Amount::default() });
        Some(Self {
            kinds: vec![Kind::of(first, 1, 0)],
            kind_of: vec![0],
            makes: vec![0],
            make_of: vec![0],
            available: vec![true],
            base: vec![profile.clone()],
            plan: vec![profile],
            is_stale: vec![false],
            floor: vec![Amount { cpus, ..Amount::default() }],
            floor_until: vec![i64::MAX],
            touched: Touched::of(1),
            touched_ahead: Touched::of(1),
            since: Touched::of(1),
            since_ahead: Touched::of(1),
            preferred: vec![Some(Arc::from([0])); state.partitions.len()],
            partition_cpus: vec![None; state.partitions.len()],
            now: i64::MIN,
            raised: 1,
            pool: true,
            pool_nodes: state.nodes.len(),
            ..Self::default()
        })
    }

    /// Whether the nodes are planned as one pool.
    pub(super) fn is_pool(&self) -> bool {
        self.pool
    }

    /// What shares take, node by node, or of the pool.
    pub(super) fn holds(&self, shares: &[NodeShare]) -> Holds {
        (0..self.held_count(shares)).map(|place| self.held(shares, place)).collect()
    }

    /// What shares take, one after the other.
    fn held(&self, shares: &[NodeShare], place: usize) -> (u32, Amount) {
        if self.pool {
            let cpus = u32::try_from(shares.len()).expect("nodes are counted in 32 bits");
            return (0, Amount { cpus, ..Amount::default() });
        }
        let share = &shares[place];
        let node = share.node.0;
        let mut amount = amount(share);
        let layers = if share.shared { u32::MAX } else { 1 };
        let kind = &self.kinds[self.kind(node)];
        amount.cpus = kind.planned_cpus(amount.cpus, layers);
        // What went out of service under a job does not come back with its end.
        amount.slices = amount.slices & kind.total.slices;
        if let Some(shards) = &kind.shards {
            amount.shards = shards.held(&share.gres);
        }
        (node, amount)
    }

    fn held_count(&self, shares: &[NodeShare]) -> usize {
        if self.pool { 1 } else { shares.len() }
    }

    pub(super) fn len(&self) -> usize {
        self.base.len()
    }

    pub(super) fn kind(&self, node: u32) -> usize {
        self.kind_of[node as usize] as usize
    }

    /// The make of a node: its place among [`Self::makes`].
    #[inline]
    pub(super) fn make(&self, node: u32) -> usize {
        self.make_of[node as usize] as usize
    }

    /// A kind of each make.
    pub(super) fn makes(&self) -> impl Iterator<Item = &Kind> {
        self.makes.iter().map(|&kind| &self.kinds[kind as usize])
    }

    #[inline]
    pub(super) fn plan(&self, node: u32) -> &Profile {
        &self.plan[node as usize]
    }

    /// Whether a node has so much at all, whoever holds it.
    pub(super) fn offers(&self, node: u32, amount: &Amount) -> bool {
        self.pool || self.kinds[self.kind(node)].total.covers(amount)
    }

    /// What running jobs alone leave of a node.
    pub(super) fn base(&self, node: u32) -> &Profile {
        &self.base[node as usize]
    }

    /// Nodes of the partition that could take part in a demand, in order of preference: a list.
    ///
    /// Cost: O(kinds) for a list that is known.
    pub(super) fn list_for(&mut self, state: &State, partition: PartitionIdx, demand: &Demand) -> u32 {
        let fits: Vec<bool> = self
            .kinds
            .iter()
            .map(|kind| {
                let features = match &demand.constraint {
                    Some(Constraint::Each(expression)) => expression.matches(&kind.definition.features),
                    Some(Constraint::Same(_) | Constraint::Counts(_)) | None => true,
                };
                features && fit::shape_fits(demand, &kind.definition)
            })
            .collect();
        let key = (partition, fits);
        if demand.excluded.is_empty()
            && let Some(&list) = self.list_by_kinds.get(&key)
        {
            return list;
        }
        let all = self.preferred_nodes(state, partition);
        let wanted = |node: &&u32| {
            key.1[self.kind(**node)] && demand.excluded.binary_search(&NodeIdx(**node)).is_err()
        };
        let nodes: Arc<[u32]> = all.iter().filter(wanted).copied().collect();
        let list = u32::try_from(self.lists.len()).expect("lists are counted in 32 bits");
        let mut members = vec![0_u64; self.len().div_ceil(64)];
        for &node in &*nodes {
            members[node as usize / 64] |= 1 << (node % 64);
        }
        let (open, most, made) = (Vec::new(), Amount::default(), (0, 0));
        let (of, excluded) = (key.clone(), demand.excluded.clone().into());
        self.lists.push(List { nodes, members, open, most, made, of, excluded });
        if demand.excluded.is_empty() {
            self.list_by_kinds.insert(key, list);
        }
        list
    }

    /// All nodes of a list.
    pub(super) fn nodes(&self, list: u32) -> &[u32] {
        &self.lists[list as usize].nodes
    }

    /// Whether a list has fewer nodes than are asked for. Of a pool: whether its nodes are not what is asked for; how
    /// many there are its profile says.
    pub(super) fn is_short(&self, list: u32, nodes: u32) -> bool {
        self.nodes(list).len() < if self.pool { 1 } else { nodes as usize }
    }

    /// Whether a list has a node.
    pub(super) fn is_member(&self, list: u32, node: u32) -> bool {
        self.lists[list as usize].members[node as usize / 64] >> (node % 64) & 1 == 1
    }

    /// Whether a node takes jobs.
    pub(super) fn is_available(&self, node: u32) -> bool {
        self.available.get(node as usize).copied().unwrap_or(false)
    }

    /// Puts the touched nodes in order of preference.
    pub(super) fn sort_touched(&mut self) {
        let (kinds, kind_of) = (&self.kinds, &self.kind_of);
        let weight = |node: u32| kinds[kind_of[node as usize] as usize].definition.weight;
        self.touched.nodes.sort_unstable_by_key(|&node| (weight(node), node));
    }

    /// Anything may have become free anywhere.
    pub(super) fn touch_all(&mut self) {
        self.touched.add_all();
        self.touched_ahead.add_all();
        self.since.add_all();
        self.since_ahead.add_all();
    }

    /// Something became free on a node.
    pub(super) fn touch(&mut self, node: u32) {
        self.touched.add(node);
        self.touched_ahead.add(node);
        self.since.add(node);
        self.since_ahead.add(node);
    }

    /// The nodes of a list with a free CPU, as of [`Self::look`].
    pub(super) fn open(&self, list: u32) -> &[u32] {
        &self.lists[list as usize].open
    }

    /// At least the most that is free now of each resource on any node of a list, as of [`Self::look`].
    pub(super) fn most(&self, list: u32) -> &Amount {
        &self.lists[list as usize].most
    }

    /// Whether no node of a short list has free now what a request needs of each of its nodes at least. `false` for a
    /// long list, on which that would cost more than it saves.
    pub(super) fn is_out_of(&self, list: u32, request: Option<&Fixed>) -> bool {
        const SHORT: usize = 4;
        let nodes = self.nodes(list);
        request.is_some_and(|request| {
            let least = request.least();
            nodes.len() <= SHORT && nodes.iter().all(|&node| !self.floor(node).covers(&least))
        })
    }

    /// Looks at what is free now on the nodes of a list, unless that was done lately.
    ///
    /// Cost: O(nodes of the list), amortised over [`LIST_KEPT`] reservations.
    pub(super) fn look(&mut self, list: u32) {
        let list = &mut self.lists[list as usize];
        let fresh = list.made.0 == self.raised;
        if fresh && self.takes - list.made.1 < LIST_KEPT {
            return;
        }
        let floor = &self.floor;
        let is_open = |node: &u32| floor[*node as usize].cpus > 0;
        if fresh {
            list.open.retain(is_open);
        } else {
            list.open.clear();
            list.open.extend(list.nodes.iter().copied().filter(|node| is_open(node)));
        }
        let floors = list.open.iter().map(|&node| floor[node as usize]);
        list.most = floors.fold(Amount::default(), Amount::greatest);
        list.made = (self.raised, self.takes);
    }

    /// What of a node the plan leaves free now.
    #[inline]
    pub(super) fn floor(&self, node: u32) -> &Amount {
        &self.floor[node as usize]
    }

    /// CPUs of all nodes of a partition, working or not.
    pub(super) fn cpus_of(&mut self, state: &State, partition: PartitionIdx) -> u64 {
        *self.partition_cpus[partition.0 as usize].get_or_insert_with(|| {
            let nodes =
                state.partition(partition).map(|partition| Arc::clone(&partition.nodes)).unwrap_or_default();
            nodes.iter().map(|&node| u64::from(state.node(node).definition.cpus.0)).sum()
        })
    }

    fn update_floor(&mut self, node: u32) {
        let place = node as usize;
        (self.floor[place], self.floor_until[place]) = self.plan[place].at_until(self.now);
        self.update_cuts(node, self.floor[place]);
        self.sketch.mark(node);
    }

    /// Readies the bounds of earliest starts for a search.
    pub(super) fn sketch_plans(&mut self) {
        self.sketch.bring_up(&self.plan, self.now);
    }

    /// Bounds of the earliest starts of an amount for a span, as of [`Self::sketch_plans`].
    pub(super) fn bounds(&self, need: &Amount, span: i64) -> Bounds<'_> {
        self.sketch.bounds(need, span)
    }

    /// Bounds of the earliest starts of a slice for a span, as of [`Self::sketch_plans`].
    pub(super) fn slice_bounds(&self, profile: GpuProfile, span: i64) -> SliceBounds<'_> {
        self.sketch.slice_bounds(profile, span)
    }

    /// Something was taken that the plan did not know of: promises must be laid anew.
    pub(super) fn is_overlaid(&self) -> bool {
        self.overlaid
    }

    /// The plan cannot be trusted.
    pub(super) fn doubt(&mut self) {
        self.overlaid = true;
    }

    /// Changes whenever something that was taken, now or ahead, is given back.
    pub(super) fn gave(&self) -> u64 {
        self.gave
    }

    /// The present, as the profiles know it.
    pub(super) fn now(&self) -> i64 {
        self.now
    }

    fn raise(&mut self) {
        self.raised += 1;
        self.takes = 0;
    }

    fn preferred_nodes(&mut self, state: &State, partition: PartitionIdx) -> Arc<[u32]> {
        let place = partition.0 as usize;
        if let Some(nodes) = &self.preferred[place] {
            return Arc::clone(nodes);
        }
        let all =
            state.partition(partition).map(|partition| Arc::clone(&partition.nodes)).unwrap_or_default();
        let mut nodes: Vec<u32> =
            all.iter().map(|node| node.0).filter(|node| self.available[*node as usize]).collect();
        nodes.sort_by_key(|&node| (self.kinds[self.kind(node)].definition.weight, node));
        let nodes: Arc<[u32]> = nodes.into();
        self.preferred[place] = Some(Arc::clone(&nodes));
        nodes
    }

    /// A running job holds this until `end`: in `base`, and in `plan` too unless it is there already.
    pub(super) fn hold(&mut self, shares: &[NodeShare], end: i64, planned: bool) {
        self.sort(shares, None, Some(end));
        for place in 0..self.held_count(shares) {
            let (node, amount) = self.held(shares, place);
            self.forget_past(node);
            self.base[node as usize].take(amount, i64::MIN, end);
            if !planned {
                self.overlaid = true;
                self.plan[node as usize].take(amount, i64::MIN, end);
                self.mark_stale(node);
                self.update_floor(node);
                self.takes += 1;
            }
        }
    }

    /// What a running job held until `end` is free.
    pub(super) fn release(&mut self, shares: &[NodeShare], end: i64) {
        self.gave += 1;
        self.sort(shares, Some(end), None);
        for place in 0..self.held_count(shares) {
            let (node, amount) = self.held(shares, place);
            self.forget_past(node);
            self.base[node as usize].give(amount, i64::MIN, end);
            self.plan[node as usize].give(amount, i64::MIN, end);
            self.update_floor(node);
            self.touch(node);
        }
        self.raise();
    }

    /// A running job that was to end at `end` will end at `later`.
    pub(super) fn prolong(&mut self, shares: &[NodeShare], end: i64, later: i64) {
        self.overlaid = true;
        self.sort(shares, Some(end), Some(later));
        for place in 0..self.held_count(shares) {
            let (node, amount) = self.held(shares, place);
            self.base[node as usize].take(amount, end, later);
            self.plan[node as usize].take(amount, end, later);
            self.mark_stale(node);
            self.update_floor(node);
        }
    }

    /// The plan has it that a job that runs now ends at `planned`; it ends at `end`. `false`: what is planned does not
    /// leave its nodes free for so long.
    pub(super) fn correct(&mut self, shares: &[NodeShare], planned: i64, end: i64) -> bool {
        let mut free = true;
        for place in 0..self.held_count(shares) {
            let (node, amount) = self.held(shares, place);
            if end > planned {
                let plan = &mut self.plan[node as usize];
                free &= plan.covers(&amount, planned, end);
                plan.take(amount, planned, end);
                self.update_floor(node);
                self.takes += 1;
            } else {
                self.unreserve(node, amount, end, planned);
            }
            self.mark_stale(node);
        }
        free
    }

    /// Plans to use an amount in `[from, to)`. `passing`: until plans are forgotten; else a start of this
    /// pass, which is met again as a running job or given up.
    pub(super) fn reserve(&mut self, node: u32, amount: Amount, (from, to): (i64, i64), passing: bool) {
        if passing {
            self.reserved.push((node, amount, from, to));
        }
        let place = node as usize;
        self.plan[place].take(amount, from, to);
        self.update_floor(node);
        if from <= self.now {
            self.takes += 1;
        }
        self.mark_stale(node);
    }

    fn mark_stale(&mut self, node: u32) {
        if !std::mem::replace(&mut self.is_stale[node as usize], true) {
            self.stale.push(node);
        }
    }

    /// Gives up a plan made by [`Self::reserve`].
    pub(super) fn unreserve(&mut self, node: u32, amount: Amount, from: i64, to: i64) {
        self.lift(node, amount, from, to);
        self.touch(node);
    }

    /// Takes a plan away that may come back at once: nobody is told that something is free.
    pub(super) fn lift(&mut self, node: u32, amount: Amount, from: i64, to: i64) {
        self.gave += 1;
        self.plan[node as usize].give(amount, from, to);
        self.update_floor(node);
        if from <= self.now {
            self.raise();
        }
    }

    /// Forgets every plan. Cost: O(steps of the nodes that were planned on).
    pub(super) fn forget_plans(&mut self) {
        self.gave += 1;
        if self.reserved.len() <= FEW_PLANS && !self.overlaid {
            // Cheaper than copying a long profile.
            let mut reserved = std::mem::take(&mut self.reserved);
            for (node, amount, from, to) in reserved.drain(..) {
                self.plan[node as usize].give(amount, from, to);
                self.update_floor(node);
                self.touch(node);
            }
            self.reserved = reserved;
            for node in self.stale.drain(..) {
                self.is_stale[node as usize] = false;
            }
            self.raise();
        } else {
            self.copy_base();
        }
    }

    /// Makes every plan what running jobs leave free.
    pub(super) fn copy_base(&mut self) {
        self.gave += 1;
        self.reserved.clear();
        self.overlaid = false;
        for node in std::mem::take(&mut self.stale) {
            let place = node as usize;
            self.is_stale[place] = false;
            self.plan[place].copy_from(&self.base[place]);
            self.update_floor(node);
            self.touch(node);
        }
        self.raise();
    }

    /// It is `now`: what lies before it is forgotten where a node is touched next, and at once on the
    /// nodes of a small cluster.
    pub(super) fn advance(&mut self, now: i64) {
        self.now = now;
        for node in 0..self.len().min(16) {
            self.forget_past(u32::try_from(node).expect("at most 16"));
        }
        let mut changed = false;
        for place in 0..self.floor.len() {
            if self.floor_until[place] <= now {
                (self.floor[place], self.floor_until[place]) = self.plan[place].at_until(now);
                let node = u32::try_from(place).expect("nodes are counted in 32 bits");
                self.update_cuts(node, self.floor[place]);
                changed = true;
            }
        }
        if self.is_reserved() && self.next_closure <= now {
            self.next_closure = self.next_closure(now).unwrap_or(i64::MAX);
            self.touch_all();
            changed = true;
        }
        if changed {
            self.raise();
        }
    }

    fn forget_past(&mut self, node: u32) {
        self.base[node as usize].forget_before(self.now);
        self.plan[node as usize].forget_before(self.now);
    }

    /// Steps of all plans, for measurements.
    pub(super) fn steps(&self) -> usize {
        self.plan.iter().map(Profile::len).sum()
    }
}

/// What a share takes.
fn amount(share: &NodeShare) -> Amount {
    let mut gres = [0; KINDS];
    for one in &share.gres {
        if let Some(count) = gres.get_mut(one.kind as usize) {
            *count = u32::try_from(one.count).unwrap_or(u32::MAX);
        }
    }
    let slices = SliceSet::union(share.gres.iter().map(GresShare::cut_bits));
    Amount { cpus: share.cpus.0, gres, memory: share.memory.0, slices, ..Amount::default() }
}
