//! Distinct requests: jobs that ask for the same are examined once.
//!
//! Owns the step from a job to its [`Shape`] and the classes of it, one for each partition that it
//! names. Two jobs share a shape exactly where nothing that placement or partition rules look at differs; a limit
//! that no partition forbids is none of that, and comes with each entry.

use std::collections::BTreeSet;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use model::id::{PartitionIdx, Uid};
use model::reason::Reason;
use model::request::{JobRequest, MemoryRequest, Sharing};
use model::time::Span;

use super::cluster::{Cluster, Kind};
use super::eligible;
use super::family::Families;
use super::profile::{Amount, KINDS};
use super::table::Table;
use crate::gpu::geometry::Profile;
use crate::gpu::inventory::kind_answers;
use crate::gpu::slice_set::SliceSet;
use crate::job::start::{least_limit, limit_of_run};
use crate::place::alike::{rare_key, same_placement};
use crate::place::demand::{self, Across, Demand, Rest};
use crate::place::feature::Constraint;
use crate::place::{fit, topology};
use crate::settings::Settings;
use crate::state::State;
use crate::state::job::{Job, Limit};
use crate::state::node::NodeDefinition;
use crate::state::partition::Partition;

/// A request in one partition.
#[derive(Debug)]
pub(super) struct Class {
    pub(super) partition: PartitionIdx,
    pub(super) demand: Demand,
    /// The list of nodes that could take part.
    pub(super) list: u32,
    /// Limit of a run, milliseconds; `i64::MAX`: none, or each entry brings its own ([`Shape::timed`]).
    pub(super) span: i64,
    /// How much longer than its own limit an entry holds what it gets, milliseconds: slices are made first.
    pub(super) extra: i64,
    /// The same amount on each of a fixed number of nodes.
    pub(super) fixed: Option<Fixed>,
    /// One slice of a GPU, on one node.
    pub(super) cut: Option<Box<Cut>>,
    /// The partition does not take it, whatever is free.
    pub(super) forbidden: Option<Reason>,
    /// It has not got the nodes, whatever is free.
    pub(super) hopeless: bool,
    /// In this pass it was found that a run of at least so long cannot start now.
    pub(super) failed: (u64, i64),
}

/// A demand for a fixed number of nodes.
#[derive(Debug)]
pub(super) struct Fixed {
    pub(super) count: u32,
    /// Tasks on each.
    pub(super) tasks: u32,
    /// The least of each resource over all makes.
    least: Amount,
    /// Makes of which that is needed; nothing is needed of the others, which have not got it at all.
    makes: u64,
    /// What is needed of a node of each make, where that differs.
    each: Option<Box<[Option<Amount>]>>,
}

/// A demand for one slice of a GPU that is cut as jobs need it.
#[derive(Debug)]
pub(super) struct Cut {
    /// What the rules call it; the same on every GPU that can be cut so.
    pub(super) profile: Profile,
    /// By make: the CPUs and memory that come with it, and the memory slices of the GPUs that can be cut so; `None`:
    /// such a node cannot give it.
    pub(super) needs: Vec<Option<(Amount, SliceSet)>>,
    /// The least of each over all makes.
    pub(super) least: Amount,
    /// The GPUs, one bit for each ([`Cuts`](super::cluster::Cuts)), by weight of their nodes.
    pub(super) ranks: Vec<Vec<u64>>,
    /// The index is asked; else each node is looked at (`--spread-job`, which says nothing to one task).
    pub(super) indexed: bool,
}

impl Fixed {
    fn new(count: u32, tasks: u32, needs: Vec<Option<Amount>>) -> Self {
        let least = needs.iter().flatten().copied().reduce(Amount::least).unwrap_or_default();
        let same = needs.len() <= 64 && needs.iter().flatten().all(|need| *need == least);
        if !same {
            return Self { count, tasks, least, makes: 0, each: Some(needs.into()) };
        }
        let bit = |(make, need): (usize, &Option<Amount>)| u64::from(need.is_some()) << make;
        let makes = needs.iter().enumerate().map(bit).sum();
        Self { count, tasks, least, makes, each: None }
    }

    /// What is needed of a node of a make; `None`: such a node has not got it at all.
    #[inline]
    pub(super) fn need(&self, make: usize) -> Option<&Amount> {
        match &self.each {
            None => (self.makes >> make & 1 == 1).then_some(&self.least),
            Some(each) => each[make].as_ref(),
        }
    }

    /// The makes (a bit each) of whose nodes the same is needed, and what; `None`: it differs.
    pub(super) fn everywhere(&self) -> Option<(u64, Amount)> {
        self.each.is_none().then_some((self.makes, self.least))
    }

    /// The least of each resource that it needs of a node of any kind.
    pub(super) fn least(&self) -> Amount {
        self.least
    }

    /// Whether a node with so much free could give its part, whatever its kind.
    pub(super) fn may_fit(&self, most: &Amount) -> bool {
        most.covers(&self.least)
    }
}

/// What jobs of one request have in common.
#[derive(Debug)]
pub(super) struct Shape {
    /// One class for each partition, in the order asked.
    pub(super) classes: std::ops::Range<u32>,
    /// Least CPUs in all.
    pub(super) cpus: u32,
    /// Its jobs have limits of their own, which differ.
    pub(super) timed: bool,
    /// Its runs may be shorter than their limits (`--time-min`).
    pub(super) shortens: bool,
    origin: Origin,
}

/// All that shapes are told apart by.
#[derive(Debug)]
struct Origin {
    request: Arc<JobRequest>,
    partitions: Arc<[PartitionIdx]>,
    /// `None`: any that no partition forbids. Jobs that differ in that alone are told apart by their entries.
    limit: Option<Limit>,
    memory: Option<MemoryRequest>,
    account: Arc<str>,
    qos: Arc<str>,
    uid: Uid,
}

/// Every distinct request that was met.
#[derive(Debug, Default)]
pub(super) struct Shapes {
    pub(super) shapes: Vec<Shape>,
    pub(super) classes: Vec<Class>,
    /// By hash.
    known: Table,
    /// What demands have in common.
    rests: BTreeSet<Arc<Rest>>,
    /// What waits in which class.
    pub(super) families: Families,
    /// Some request is not for a fixed number of nodes.
    pub(super) has_loose: bool,
}

impl Shapes {
    /// The shape of a job; new ones are added. Cost: O(request) for a known one.
    pub(super) fn of(&mut self, state: &State, settings: &Settings, cluster: &mut Cluster, job: &Job) -> u32 {
        let limit = telling_limit(state, job);
        let hash = hash(job, limit);
        let alike = |shape: u32| self.shapes[shape as usize].origin.matches(job, limit);
        if let Some(shape) = self.known.find(hash, alike) {
            return shape;
        }
        let place = u32::try_from(self.shapes.len()).expect("shapes are counted in 32 bits");
        self.known.insert(hash, place);
        let first = u32::try_from(self.classes.len()).expect("classes are counted in 32 bits");
        let mut cpus = u32::MAX;
        for (idx, partition) in demand::partitions(state, job) {
            let Some(mut demand) = Demand::of(state, settings, job, partition) else { continue };
            demand.share(&mut self.rests);
            let gone = demand.reservation.as_ref().filter(|name| !state.reservations.contains_key(*name));
            let forbidden = match gone {
                Some(_) => Some(Reason::ReservationDeleted),
                None => eligible::partition_reason(job, partition, &demand, cluster.cpus_of(state, idx)),
            };
            let list = cluster.list_for(state, idx, &demand);
            // Which nodes are least loaded is not a matter of one order for all time.
            let by_load = settings.least_loaded || partition.is_least_loaded();
            let fixed = if by_load { None } else { fixed(settings, cluster, list, &demand) };
            self.has_loose |= fixed.is_none() || !demand.required.is_empty() || !demand.excluded.is_empty();
            let least = if demand.overcommit {
                demand.min_nodes
            } else {
                demand.tasks.saturating_mul(demand.cpus_per_task)
            };
            cpus = cpus.min(least);
            let extra = if cuts(cluster, &demand) { settings.slice_time().0 } else { 0 };
            let span = match limit {
                Some(_) => limit_of_run(job, partition).map_or(i64::MAX, Span::as_millis),
                None => i64::MAX,
            };
            let span = span.saturating_add(extra);
            let missing = demand.required.iter().any(|&node| !state.node(node).is_available());
            let few = cluster.is_short(list, demand.min_nodes);
            let hopeless = forbidden.is_some() || missing || few;
            let failed = (0, 0);
            let cut = if by_load { None } else { cut(settings, cluster, list, &demand).map(Box::new) };
            let partition = idx;
            let class =
                Class { partition, demand, list, span, extra, fixed, cut, forbidden, hopeless, failed };
            self.families.add(&class);
            push(&mut self.classes, class);
        }
        let end = u32::try_from(self.classes.len()).expect("classes are counted in 32 bits");
        let timed = limit.is_none();
        let shortens = least_limit(job.request.rare()).is_some();
        let origin = Origin::of(job, limit);
        push(&mut self.shapes, Shape { classes: first..end, cpus, timed, shortens, origin });
        place
    }

    /// Frees up to so many of each of what they hold, where none of it is used any more; whether some is left.
    pub(super) fn lessen(&mut self, pieces: usize) -> bool {
        fn cut<T>(list: &mut Vec<T>, pieces: usize) -> bool {
            list.truncate(list.len().saturating_sub(pieces));
            !list.is_empty()
        }
        let rests = (0..pieces).map_while(|_| self.rests.pop_first()).count() == pieces;
        let (shapes, classes) = (cut(&mut self.shapes, pieces), cut(&mut self.classes, pieces));
        self.families.lessen(pieces) || rests || shapes || classes
    }

    /// How long a run of a class takes that is believed to take `own` (`i64::MAX`: the class's limit counts).
    pub(super) fn span(&self, class: u32, own: i64) -> i64 {
        let known = self.classes.get(class as usize);
        known.map_or(own, |class| class.span.min(own.saturating_add(class.extra)))
    }

    /// The limit of a job of a shape in its first partition, milliseconds; `i64::MAX`: none.
    pub(super) fn limit(&self, shape: u32, job: &Job) -> i64 {
        let shape = &self.shapes[shape as usize];
        if shape.classes.is_empty() { i64::MAX } else { self.span(shape.classes.start, shape.own_limit(job)) }
    }
}

impl Shape {
    /// The limit that a job brings itself, milliseconds; `i64::MAX`: that of its classes counts.
    pub(super) fn own_limit(&self, job: &Job) -> i64 {
        match job.limit {
            Limit::After(limit) if self.timed => limit.0,
            Limit::After(_) | Limit::Partition | Limit::Unlimited => i64::MAX,
        }
    }
}

impl Shapes {
    /// Nodes entered or left lists: classes for which that is all or nothing, whose `hopeless` was turned.
    pub(super) fn weigh(&mut self, state: &State, cluster: &Cluster, lists: &BTreeSet<u32>) -> BTreeSet<u32> {
        let mut turned = BTreeSet::new();
        for (number, class) in (0..).zip(&mut self.classes) {
            let required = &class.demand.required;
            if !lists.contains(&class.list) && required.is_empty() {
                continue;
            }
            let missing = required.iter().any(|&node| !state.node(node).is_available());
            let few = cluster.is_short(class.list, class.demand.min_nodes);
            let hopeless = class.forbidden.is_some() || missing || few;
            if std::mem::replace(&mut class.hopeless, hopeless) != hopeless {
                turned.insert(number);
            }
        }
        turned
    }

    /// Whether jobs of a shape name one of these partitions.
    pub(super) fn names(&self, shape: u32, partitions: &[PartitionIdx]) -> bool {
        let named = &self.shapes[shape as usize].origin.partitions;
        named.iter().any(|partition| partitions.contains(partition))
    }

    /// Partitions are others now: no job is of a shape any more that names one of them.
    pub(super) fn forget_partitions(&mut self, partitions: &[PartitionIdx]) {
        self.known.retain(|shape| {
            let named = &self.shapes[shape as usize].origin.partitions;
            !named.iter().any(|partition| partitions.contains(partition))
        });
    }
}

/// The limit by which the job's shape is told from others; `None`: it has one that no partition forbids.
fn telling_limit(state: &State, job: &Job) -> Option<Limit> {
    let Limit::After(limit) = job.limit else { return Some(job.limit) };
    let most = |partition: &Partition| partition.definition.max_time;
    let fits = demand::partitions(state, job).all(|(_, one)| most(one).is_none_or(|most| limit <= most));
    (!fits).then_some(job.limit)
}

impl Origin {
    fn of(job: &Job, limit: Option<Limit>) -> Self {
        Self {
            request: Arc::clone(&job.request),
            partitions: Arc::clone(&job.partitions),
            limit,
            memory: job.memory,
            account: Arc::clone(&job.account),
            qos: Arc::clone(&job.qos),
            uid: job.owner.uid,
        }
    }

    fn matches(&self, job: &Job, limit: Option<Limit>) -> bool {
        let (mine, other) = (&*self.request, &*job.request);
        let private = !matches!(mine.sharing, Sharing::User | Sharing::Mcs) || self.uid == job.owner.uid;
        self.limit == limit
            && self.memory == job.memory
            && self.partitions == job.partitions
            && self.account == job.account
            && self.qos == job.qos
            && private
            && same_placement(mine, other)
    }
}

fn hash(job: &Job, limit: Option<Limit>) -> u64 {
    let request = &*job.request;
    let mut hasher = Mix(0);
    match limit {
        None => 0_i64.hash(&mut hasher),
        Some(Limit::Partition) => 1_i64.hash(&mut hasher),
        Some(Limit::Unlimited) => 2_i64.hash(&mut hasher),
        Some(Limit::After(span)) => span.0.hash(&mut hasher),
    }
    match job.memory {
        None => 0_u64.hash(&mut hasher),
        Some(MemoryRequest::PerNode(mib)) => (mib.0 << 2 | 1).hash(&mut hasher),
        Some(MemoryRequest::PerCpu(mib)) => (mib.0 << 2 | 2).hash(&mut hasher),
        Some(MemoryRequest::PerGpu(mib)) => (mib.0 << 2 | 3).hash(&mut hasher),
    }
    (&job.partitions, request.nodes, request.ntasks, request.cpus_per_task).hash(&mut hasher);
    request.ntasks_per_node.hash(&mut hasher);
    (&request.constraint, &request.gres_per_node, &request.gpus_per_job).hash(&mut hasher);
    (&request.gpus_per_node, &request.gpus_per_task).hash(&mut hasher);
    if request.rare.is_some() {
        rare_key(request.rare()).hash(&mut hasher);
    }
    hasher.finish()
}

/// Adds to a long list, which grows by an eighth: there are lists of a hundred thousand large entries, and half of what
/// a list that doubles has asked for is used by nobody. Cost: O(1), eight copies of each entry in all.
pub(super) fn push<T>(list: &mut Vec<T>, one: T) {
    if list.len() == list.capacity() {
        list.reserve_exact(list.len() / 8 + 8);
    }
    list.push(one);
}

/// A small hash that is the same in every run and on every machine.
struct Mix(u64);

impl Hasher for Mix {
    fn finish(&self) -> u64 {
        self.0 ^ self.0 >> 32
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u8(&mut self, value: u8) {
        self.write_u64(u64::from(value));
    }

    fn write_u32(&mut self, value: u32) {
        self.write_u64(u64::from(value));
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = (self.0.rotate_left(23) ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn write_usize(&mut self, value: usize) {
        self.write_u64(value as u64);
    }
}

/// Whether slices may be made for a demand.
fn cuts(cluster: &Cluster, demand: &Demand) -> bool {
    let lists = [&demand.gres_per_node, &demand.gres_per_task, &demand.gres_per_job];
    let mut kinds =
        lists.into_iter().flatten().filter(|need| fit::is_cut(need)).filter_map(|need| need.kind.as_deref());
    kinds.any(|wanted| {
        cluster.kinds.iter().any(|kind| kind.inventory.as_ref().is_some_and(|one| one.cuts(wanted)))
    })
}

/// The demand as the same amount on a fixed number of nodes, where it is that.
fn fixed(settings: &Settings, cluster: &Cluster, list: u32, demand: &Demand) -> Option<Fixed> {
    let layered = |node: &u32| cluster.kinds[cluster.kind(*node)].layers > 1;
    if cluster.has_closures(list) || demand.reservation.is_some() {
        // Amounts do not say for whom.
        return None;
    }
    if cluster.has_layers() && cluster.nodes(list).iter().any(layered) {
        // Whom a node lets in depends on who is there.
        return None;
    }
    let count = demand.min_nodes;
    let even = demand.max_nodes == count && demand.tasks.is_multiple_of(count);
    let tasks = if even { demand.tasks / count } else { return None };
    // More than one task on several nodes may lie unevenly, unless their number on a node is given.
    let bound = count == 1 || tasks == 1 || demand.tasks_per_node == tasks;
    let simple = demand.gres_per_job.is_empty()
        && !demand.contiguous
        && !demand.spread
        && !topology::binds(settings, demand)
        && !demand.is_by_socket()
        && !demand.insists_on_cpus()
        // Free CPUs that it does not take.
        && demand.min_cpus <= demand.cpus_per_task
        && !matches!(demand.across, Across::Arbitrary(_))
        && (demand.required.is_empty() || demand.required.len() == count as usize)
        && !matches!(demand.constraint, Some(Constraint::Same(_) | Constraint::Counts(_)));
    // Of GPUs that are shared more must be known than how many are taken.
    let shared = cluster.kinds.iter().any(|kind| kind.shards.is_some());
    let of_shared = |need: &demand::GresNeed| matches!(&*need.name, "gpu" | "shard");
    let lists = || demand.gres_per_node.iter().chain(&demand.gres_per_task);
    if shared && (demand.share == demand::Share::Whole || lists().any(of_shared)) {
        return None;
    }
    // Which of several types will be free is not known ahead.
    let one_type = |need: &demand::GresNeed| {
        cluster.makes().all(|kind| {
            let gres = kind.definition.gres.iter();
            let cut = fit::is_cut(need)
                && kind
                    .inventory
                    .as_ref()
                    .is_some_and(|one| need.kind.as_deref().is_some_and(|k| one.cuts(k)));
            !cut && gres.filter(|gres| fit::answers(need, &gres.name, &gres.kind)).count() <= 1
        })
    };
    if !bound || !simple || !demand.gres_per_node.iter().chain(&demand.gres_per_task).all(one_type) {
        return None;
    }
    let needs = cluster.makes().map(|kind| need(settings, demand, &kind.definition, kind.total, tasks));
    let needs: Vec<Option<Amount>> = needs.collect();
    if cluster.is_pool() {
        // So many nodes of the pool, if one of them can do its part.
        let need = needs[0].map(|_| Amount { cpus: count, ..Amount::default() });
        return Some(Fixed::new(1, tasks, vec![need]));
    }
    Some(Fixed::new(count, tasks, needs))
}

/// The demand as one slice that the index over GPUs can find, where it is that: on no node of the list such a slice
/// exists already, and all that can be made are of one shape.
fn cut(settings: &Settings, cluster: &Cluster, list: u32, demand: &Demand) -> Option<Cut> {
    let cuts = cluster.cuts()?;
    let wanted = demand.single_slice()?;
    let simple = demand.required.is_empty()
        && !demand.contiguous
        && demand.reservation.is_none()
        && !cluster.has_closures(list)
        && !cluster.has_layers()
        && !demand.looks_at_ids()
        && !topology::binds(settings, demand)
        && !matches!(demand.across, Across::Arbitrary(_))
        && !matches!(demand.share, demand::Share::Whole)
        && !matches!(demand.constraint, Some(Constraint::Same(_) | Constraint::Counts(_)));
    if !simple {
        return None;
    }
    let mut profile = None;
    let mut needs: Vec<Option<(Amount, SliceSet)>> = vec![None; cluster.makes().count()];
    let mut seen = vec![false; needs.len()];
    let mut ranks: Vec<(u32, Vec<u64>)> = Vec::new();
    for &node in cluster.nodes(list) {
        let make = cluster.make(node);
        let kind = &cluster.kinds[cluster.kind(node)];
        if !std::mem::replace(&mut seen[make], true) {
            needs[make] = slice_of_make(settings, demand, wanted, kind, &mut profile)?;
        }
        let Some((_, gpus)) = needs[make] else { continue };
        let weight = kind.definition.weight;
        if ranks.last().is_none_or(|(last, _)| *last != weight) {
            ranks.push((weight, vec![0; cuts.words()]));
        }
        let (_, set) = ranks.last_mut().expect("there is one now");
        for gpu in cuts.of_node(node).filter(|gpu| gpus.on(cuts.index(*gpu)) != 0) {
            set[gpu / 64] |= 1 << (gpu % 64);
        }
    }
    let least = needs.iter().flatten().map(|(need, _)| *need).reduce(Amount::least).unwrap_or_default();
    let ranks = ranks.into_iter().map(|(_, set)| set).collect();
    Some(Cut { profile: profile?, needs, least, ranks, indexed: !demand.spread })
}

/// What nodes of a make give for one slice, `Some(None)` for nothing; `None`: the index cannot answer for them.
fn slice_of_make(
    settings: &Settings,
    demand: &Demand,
    wanted: &demand::GresNeed,
    kind: &Kind,
    profile: &mut Option<Profile>,
) -> Option<Option<(Amount, SliceSet)>> {
    let definition = &kind.definition;
    if definition.gres.iter().any(|gres| fit::answers(wanted, &gres.name, &gres.kind)) {
        return None;
    }
    let label = wanted.kind.as_deref()?;
    let mut gpus = SliceSet::EMPTY;
    for gpu in kind.inventory.iter().flat_map(|inventory| &inventory.dynamic) {
        let mut offers = gpu.offers.iter().filter(|offer| kind_answers(label, &offer.label));
        let Some(offer) = offers.next() else { continue };
        let known = offer.class.filter(|class| {
            let starts = class.starts().iter().fold(0_u8, |all, start| all | 1 << start);
            offer.starts == starts && u32::from(offer.size) == class.memory_slices()
        })?;
        if offers.next().is_some() || *profile.get_or_insert(known) != known {
            return None;
        }
        gpus = gpus | SliceSet::of(gpu.index, u8::MAX);
    }
    let mut scratch = [0; KINDS];
    let free = kind.total.as_free(&mut scratch, definition.gres.len(), definition.cpus.0);
    let free = fit::Free { inventory: kind.inventory.as_deref(), ..free };
    if gpus.is_empty() || fit::room(demand, settings.whole_cores, definition, free) == 0 {
        return Some(None);
    }
    let cost = fit::cost(demand, settings.whole_cores, definition, 1, 1);
    Some(Some((Amount { cpus: cost.cpus, memory: cost.memory, ..Amount::default() }, gpus)))
}

/// What `tasks` tasks take of a node of one kind; `None`: more than it has.
fn need(
    settings: &Settings,
    demand: &Demand,
    node: &NodeDefinition,
    total: Amount,
    tasks: u32,
) -> Option<Amount> {
    let mut scratch = [0; KINDS];
    let free = total.as_free(&mut scratch, node.gres.len(), node.cpus.0);
    if fit::room(demand, settings.whole_cores, node, free) < tasks {
        return None;
    }
    let cost = fit::cost(demand, settings.whole_cores, node, tasks, fit::gpus_of(demand, tasks));
    let mut gres = [0; KINDS];
    if demand.share == demand::Share::Whole {
        gres = total.gres;
    } else {
        let per_node = demand.gres_per_node.iter().map(|need| (need, need.count));
        let per_task = demand.gres_per_task.iter().map(|need| (need, need.count * u64::from(tasks)));
        for (need, count) in per_node.chain(per_task) {
            let kind = (0..node.gres.len().min(KINDS))
                .find(|&kind| fit::answers(need, &node.gres[kind].name, &node.gres[kind].kind))?;
            gres[kind] += u32::try_from(count).unwrap_or(u32::MAX);
        }
    }
    Some(Amount { cpus: cost.cpus, gres, memory: cost.memory, ..Amount::default() })
}
