//! The planner's benchmark grid: nodes, running jobs, pending jobs, as lines defined once for all.
//!
//! Owns the generator (integers only, so that every machine makes the same lines) and the step from an
//! instance to a [`State`]. The definition and the hashes: `grid` of the shared data.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use model::gres::GresRequest;
use model::id::{BodyHash, BootId, Gid, JobId, NodeIdx, PartitionIdx, RequestKey, RunNumber, SpoolId, Uid};
use model::quantity::{Cpus, MemoryMib};
use model::request::{JobRequest, MemoryRequest};
use model::time::{Span, Timestamp};
use scheduler_core::allocation::{CpuIds, GresShare, NodeShare};
use scheduler_core::apply::apply;
use scheduler_core::record::Record;
use scheduler_core::settings::Settings;
use scheduler_core::state::State;
use scheduler_core::state::job::{ArrayRole, Bodies, Hold, Job, Limit, Owner, Pending, Phase};
use scheduler_core::state::node::{GresDefinition, Incarnation, Link, NodeDefinition, Observed};
use scheduler_core::state::partition::PartitionDefinition;
use scheduler_core::state::prediction::Predicted;

/// Partitions by their place in the state.
pub const PARTITIONS: [&str; 4] = ["all", "cpu", "gpu", "short"];
/// Features by name.
const FEATURES: [&str; 3] = ["ib", "v2", "big"];
/// The instant of the measurement.
pub const NOW: Timestamp = Timestamp::from_secs(20_000_000);
const GIB: u64 = 1024;
const LIMITS_MIN: [u64; 40] = [
    5, 10, 15, 20, 30, 40, 45, 50, 60, 75, 90, 100, 120, 150, 180, 200, 240, 270, 300, 330, 360, 420, 480,
    540, 600, 660, 720, 840, 960, 1080, 1200, 1440, 1800, 2160, 2880, 3600, 4320, 5760, 7200, 10080,
];

/// The generator of the definition. Source: G. Steele and others, OOPSLA 2014.
#[derive(Clone, Debug)]
pub struct SplitMix64(pub u64);

impl SplitMix64 {
    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// Below `most`, which is below 2^32.
    pub fn below(&mut self, most: u64) -> u64 {
        ((self.next_u64() >> 32) * most) >> 32
    }

    /// Below any `most`.
    pub fn wide(&mut self, most: u64) -> u64 {
        u64::try_from((u128::from(self.next_u64()) * u128::from(most)) >> 64).expect("it is below `most`")
    }

    fn pick<T: Copy>(&mut self, pairs: &[(u64, T)]) -> T {
        let mut left = self.below(pairs.iter().map(|(weight, _)| weight).sum());
        for &(weight, value) in pairs {
            if left < weight {
                return value;
            }
            left -= weight;
        }
        unreachable!("the draw is below the sum of the weights")
    }

    /// A place of a list of cumulated weights.
    fn place(&mut self, cumulated: &[u64]) -> usize {
        let drawn = self.wide(cumulated[cumulated.len() - 1]);
        cumulated.partition_point(|sum| *sum <= drawn)
    }
}

/// Which mix of pending jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mix {
    /// A long tail of 5,000 requests.
    Realistic,
    /// Every request distinct.
    Adverse,
}

/// How much of the machine is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fill {
    /// Nothing.
    Empty,
    /// Half of all cores.
    Half,
    /// All of the stream that fits.
    Full,
}

/// A node.
#[derive(Clone, Debug)]
pub struct GridNode {
    cores: u64,
    memory: u64,
    gpus: u64,
    weight: u32,
    features: Vec<&'static str>,
}

/// A request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Nodes.
    pub nodes: u64,
    /// On each.
    pub cores: u64,
    /// On each, MiB.
    pub memory: u64,
    /// On each.
    pub gpus: u64,
    /// Name.
    pub partition: &'static str,
    /// Name, or `-`.
    pub feature: &'static str,
    /// Seconds.
    pub limit: u64,
}

/// A pending job.
#[derive(Clone, Copy, Debug)]
pub struct Pended {
    /// User.
    pub user: u64,
    /// Site factor.
    pub priority: u64,
    /// Request.
    pub shape: Shape,
}

/// An instance.
#[derive(Clone, Debug)]
pub struct Instance {
    /// Nodes.
    pub nodes: Vec<GridNode>,
    /// Stream of running jobs with the seconds that each has run.
    pub runs: Vec<(Shape, u64)>,
    /// Pending jobs.
    pub jobs: Vec<Pended>,
}

fn node(place: u64) -> GridNode {
    let (cores, memory, gpus) = match place % 10 {
        0..4 => (64, 256, 0),
        4..7 => (128, 512, 0),
        7..9 => (64, 512, 4),
        _ => (128, 1024, 8),
    };
    let has = [
        ("ib", (place / 3).is_multiple_of(2)),
        ("v2", (place / 10).is_multiple_of(3)),
        ("big", memory >= 512),
    ];
    let features = has.iter().filter(|(_, has)| *has).map(|(name, _)| *name).collect();
    let weight = u32::try_from(1 + place / 5 % 3).expect("it is at most 3");
    GridNode { cores, memory: memory * GIB, gpus, weight, features }
}

fn shape(random: &mut SplitMix64) -> Shape {
    let nodes = random.pick(&[(70, 1), (12, 2), (8, 4), (5, 8), (3, 16), (1, 32), (1, 64)]);
    let gpu = random.below(2) == 1;
    let cores = if nodes == 1 {
        random.pick(&[(1, 1), (1, 2), (1, 4), (1, 8), (1, 16), (1, 32), (1, 64)])
    } else {
        random.pick(&[(1, 16), (1, 32), (1, 64)])
    };
    let gpus = if gpu { random.pick(&[(50, 1), (20, 2), (20, 4), (10, 8)]) } else { 0 };
    let memory = (cores * (1 << random.below(4))).min(if gpu { 480 } else { 240 }) * GIB;
    let feature = random.pick(&[(80, "-"), (10, "ib"), (7, "v2"), (3, "big")]);
    let partition = random.pick(&[(50, "all"), (40, if gpu { "gpu" } else { "cpu" }), (10, "short")]);
    let limits = if partition == "short" { 20 } else { 40 };
    let limit = 60 * LIMITS_MIN[usize::try_from(random.below(limits)).expect("a place of 40")];
    Shape { nodes, cores, memory, gpus, partition, feature, limit }
}

fn cumulated(count: u64) -> Vec<u64> {
    (1..=count)
        .scan(0, |sum, place| {
            *sum += (1_u64 << 32) / place;
            Some(*sum)
        })
        .collect()
}

fn is_in(partition: &str, place: u64, gpus: u64) -> bool {
    match partition {
        "all" => true,
        "cpu" => gpus == 0,
        "gpu" => gpus > 0,
        _ => (place / 10).is_multiple_of(4),
    }
}

/// Bits of the partitions and features of a node.
fn marks(place: u64, node: &GridNode) -> u8 {
    let partitions = PARTITIONS.iter().map(|name| is_in(name, place, node.gpus));
    let features = FEATURES.iter().map(|name| node.features.contains(name));
    partitions.chain(features).enumerate().fold(0, |bits, (bit, has)| bits | u8::from(has) << bit)
}

/// The bits that a shape asks for.
fn wanted(shape: &Shape) -> u8 {
    let partitions = PARTITIONS.iter().map(|name| *name == shape.partition);
    let features = FEATURES.iter().map(|name| *name == shape.feature);
    partitions.chain(features).enumerate().fold(0, |bits, (bit, asked)| bits | u8::from(asked) << bit)
}

impl Instance {
    /// The instance of so many nodes and pending jobs. Cost: O(5,000 × nodes + pending).
    #[must_use]
    pub fn new(nodes: u64, pending: u64, mix: Mix) -> Self {
        let all: Vec<GridNode> = (0..nodes).map(node).collect();
        let mut kinds: BTreeMap<(u64, u64, u64, Vec<&str>, bool), u64> = BTreeMap::new();
        for (place, node) in (0..).zip(&all) {
            let kind = (node.cores, node.memory, node.gpus, node.features.clone(), is_in("short", place, 0));
            *kinds.entry(kind).or_default() += 1;
        }
        let fits = |shape: &Shape| {
            let room: u64 = kinds
                .iter()
                .filter(|((cores, memory, gpus, features, short), _)| {
                    *cores >= shape.cores
                        && *memory >= shape.memory
                        && *gpus >= shape.gpus
                        && (shape.feature == "-" || features.contains(&shape.feature))
                        && if shape.partition == "short" { *short } else { is_in(shape.partition, 0, *gpus) }
                })
                .map(|(_, count)| count)
                .sum();
            room >= shape.nodes && shape.nodes <= (nodes / 10).max(1)
        };
        let mut random = SplitMix64(1);
        let shapes: Vec<Shape> =
            std::iter::repeat_with(|| shape(&mut random)).filter(|shape| fits(shape)).take(5000).collect();
        let (of_shapes, of_users) = (cumulated(5000), cumulated(200));
        let mut random = SplitMix64(2);
        let runs = (0..40 * nodes)
            .map(|_| {
                let shape = shapes[random.place(&of_shapes)];
                (shape, random.wide(shape.limit))
            })
            .collect();
        let mut random = SplitMix64(3);
        let jobs = (0..pending)
            .map(|place| {
                let mut shape = shapes[random.place(&of_shapes)];
                let user = random.place(&of_users) as u64;
                let priority = random.below(1_000_000);
                if mix == Mix::Adverse {
                    shape.memory -= place % 1021;
                    shape.limit += place / 1021;
                }
                Pended { user, priority, shape }
            })
            .collect();
        Self { nodes: all, runs, jobs }
    }

    /// The lines of the definition, each with its newline.
    #[must_use]
    pub fn lines(&self) -> String {
        let mut text = String::new();
        let mut put = |line: std::fmt::Arguments<'_>| {
            text.write_fmt(line).expect("writing to a string cannot fail");
        };
        for (place, node) in self.nodes.iter().enumerate() {
            let features = if node.features.is_empty() { "-".to_owned() } else { node.features.join(",") };
            let GridNode { cores, memory, gpus, weight, .. } = node;
            put(format_args!("node {place} {cores} {memory} {gpus} {weight} {features}\n"));
        }
        for (shape, elapsed) in &self.runs {
            put(format_args!("run {shape} {elapsed}\n"));
        }
        for (place, Pended { user, priority, shape }) in self.jobs.iter().enumerate() {
            put(format_args!("job {place} {user} {priority} {shape}\n"));
        }
        text
    }

    /// The configuration of the instance: memory is counted, cores are the unit.
    #[must_use]
    pub fn settings(&self) -> Settings {
        Settings { whole_cores: true, track_memory: true, multifactor: true, ..Settings::named("grid") }
    }

    /// The state of the instance at [`NOW`], filled so far; made of records as a recovery would.
    #[must_use]
    pub fn state(&self, fill: Fill) -> State {
        let mut state = State::default();
        self.define(&mut state);
        self.run(&mut state, fill);
        apply(&mut state, &Record::Time(NOW));
        let first = u32::try_from(self.runs.len()).expect("a stream of fewer than 2^32 jobs") + 1;
        for (id, job) in (first..).zip(&self.jobs) {
            apply(&mut state, &Record::Job(Arc::new(pending_job(id, job))));
        }
        state
    }

    fn define(&self, state: &mut State) {
        for (place, node) in (0..).zip(&self.nodes) {
            let node_idx = NodeIdx(place);
            let definition = Arc::new(definition(place, node));
            apply(state, &Record::NodeDefined { node: node_idx, definition, removed: false });
            let incarnation = Incarnation { boot: BootId([1; 16]), spool: SpoolId([1; 16]) };
            let observed = Arc::new(Observed::default());
            apply(state, &Record::NodeRegistered { node: node_idx, incarnation, observed });
            apply(state, &Record::NodeLink { node: node_idx, link: Link::Up });
        }
        for (place, name) in (0..).zip(PARTITIONS) {
            let inside = self.nodes.iter().zip(0..).filter(|(node, at)| is_in(name, *at, node.gpus));
            let nodes = inside.map(|(_, at)| node_name(at).into()).collect();
            let definition = Arc::new(PartitionDefinition { nodes, ..PartitionDefinition::named(name) });
            let partition = PartitionIdx(place);
            apply(state, &Record::PartitionDefined { partition, definition, changed_at_run_time: false });
        }
    }

    /// Starts jobs of the stream, each on the lowest nodes with room.
    fn run(&self, state: &mut State, fill: Fill) {
        let all: u64 = self.nodes.iter().map(|node| node.cores).sum();
        let mut free: Vec<(u64, u64, u64)> =
            self.nodes.iter().map(|node| (node.cores, node.memory, node.gpus)).collect();
        // Which partitions a node is in and which features it has, as bits.
        let marks: Vec<u8> = (0..).zip(&self.nodes).map(|(place, node)| marks(place, node)).collect();
        let mut open: Vec<usize> = (0..free.len()).collect();
        let mut taken = 0;
        for (id, (shape, elapsed)) in (1..).zip(&self.runs) {
            if fill == Fill::Empty || (fill == Fill::Half && taken * 2 >= all) {
                break;
            }
            if id % 1000 == 0 {
                open.retain(|place| free[*place].0 > 0);
            }
            let wanted = wanted(shape);
            let fits = |place: &usize| {
                let (cores, memory, gpus) = free[*place];
                cores >= shape.cores
                    && memory >= shape.memory
                    && gpus >= shape.gpus
                    && marks[*place] & wanted == wanted
            };
            let count = usize::try_from(shape.nodes).expect("at most 64");
            let nodes: Vec<usize> = open.iter().copied().filter(fits).take(count).collect();
            if nodes.len() < count {
                continue;
            }
            let shares: Vec<NodeShare> = nodes.iter().map(|&place| share(state, place, shape)).collect();
            for place in nodes {
                let (cores, memory, gpus) = &mut free[place];
                *cores -= shape.cores;
                *memory -= shape.memory;
                *gpus -= shape.gpus;
            }
            taken += shape.cores * shape.nodes;
            let pended = Pended { user: 0, priority: 0, shape: *shape };
            let job = pending_job(id, &pended);
            let partition = job.partitions[0];
            apply(state, &Record::Job(Arc::new(job)));
            let start = NOW - Span::from_secs(i64::try_from(*elapsed).expect("within a week"));
            apply(
                state,
                &Record::JobStarted {
                    job: JobId(id),
                    run: RunNumber(1),
                    partition,
                    allocation: shares.into(),
                    start,
                    limit: Some(seconds(shape.limit)),
                },
            );
        }
    }
}

impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { nodes, cores, memory, gpus, partition, feature, limit } = self;
        write!(f, "{nodes} {cores} {memory} {gpus} {partition} {feature} {limit}")
    }
}

fn seconds(count: u64) -> Span {
    Span::from_secs(i64::try_from(count).expect("a limit of the grid"))
}

fn small(count: u64) -> u32 {
    u32::try_from(count).expect("amounts of the grid are small")
}

fn node_name(place: u64) -> String {
    format!("n{place:05}")
}

fn definition(place: u32, node: &GridNode) -> NodeDefinition {
    let name = node_name(u64::from(place));
    let gpus = GresDefinition { name: "gpu".into(), kind: "a".into(), count: node.gpus, indexed: true };
    NodeDefinition {
        hostname: name.clone().into(),
        address: name.clone().into(),
        name: name.into(),
        port: 0,
        cpus: Cpus(small(node.cores)),
        boards: 1,
        sockets: 1,
        cores_per_socket: small(node.cores),
        threads_per_core: 1,
        memory: MemoryMib(node.memory),
        tmp_disk: MemoryMib(0),
        features: node.features.iter().map(|&name| name.into()).collect(),
        gres: if node.gpus > 0 { vec![gpus] } else { Vec::new() },
        weight: node.weight,
        bind: true,
    }
}

/// The lowest free cores and devices of a node.
fn share(state: &State, place: usize, shape: &Shape) -> NodeShare {
    let node = &state.nodes[place];
    let lowest = |bits: &[u64], most: u64, count: u64| {
        let free = (0..small(most)).filter(|id| bits[(id / 64) as usize] & (1 << (id % 64)) == 0);
        CpuIds::from_ranges(free.take(small(count) as usize).map(|id| (id, id)).collect())
    };
    let devices = |count| GresShare {
        kind: 0,
        count,
        indices: lowest(&node.used.gres_bits[0], node.definition.gres[0].count, count),
        slices: Vec::new(),
    };
    NodeShare {
        node: NodeIdx(u32::try_from(place).expect("nodes are counted in 32 bits")),
        cpus: Cpus(small(shape.cores)),
        cpu_ids: lowest(&node.used.cpu_bits, u64::from(node.definition.cpus.0), shape.cores),
        memory: MemoryMib(shape.memory),
        gres: if shape.gpus > 0 { vec![devices(shape.gpus)] } else { Vec::new() },
        tasks: 1,
        shared: false,
    }
}

/// The job of a line, waiting.
#[must_use]
pub fn pending_job(id: u32, pended: &Pended) -> Job {
    let shape = &pended.shape;
    let nodes = small(shape.nodes);
    let gpu = GresRequest { name: "gpu".into(), kind: None, count: shape.gpus };
    let request = JobRequest {
        name: "grid".into(),
        work_dir: "/".into(),
        nodes: Some((nodes, Some(nodes))),
        ntasks: Some(nodes),
        cpus_per_task: Some(small(shape.cores)),
        memory: Some(MemoryRequest::PerNode(MemoryMib(shape.memory))),
        gres_per_node: if shape.gpus > 0 { vec![gpu] } else { Vec::new() },
        constraint: (shape.feature != "-").then(|| shape.feature.into()),
        time_limit: Some(Some(seconds(shape.limit))),
        partition: Some(shape.partition.into()),
        ..JobRequest::default()
    };
    let place = PARTITIONS.iter().position(|name| *name == shape.partition).expect("a partition of the grid");
    let mut key = [0; 16];
    key[..4].copy_from_slice(&id.to_le_bytes());
    let user = small(pended.user);
    Job {
        id: JobId(id),
        owner: Owner { uid: Uid(user), gid: Gid(user) },
        key: RequestKey(key),
        memory: request.memory,
        request: Arc::new(request),
        bodies: Bodies { script: None, environment: BodyHash([0; 32]) },
        account: Arc::from(""),
        qos: Arc::from(""),
        association: 0,
        partitions: Arc::from([PartitionIdx(small(place as u64))]),
        submit: Timestamp::from_secs(i64::from(id)),
        limit: Limit::After(seconds(shape.limit)),
        priority: small(pended.priority) + 1,
        hold: Hold::None,
        nice: 0,
        site_factor: 0,
        requeue: true,
        alloc_sid: 0,
        array: ArrayRole::Single,
        run: RunNumber(0),
        restarts: 0,
        predicted: Predicted::default(),
        phase: Phase::Pending(Pending::default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sha2::{Digest, Sha256};

    #[test]
    fn makes_the_lines_of_the_definition() {
        let known = [
            (100, Mix::Realistic, "56f631c5fa28b489fed14231d10d60e2a136dc2345a9bbd3b9fd066b66ffb91f"),
            (100, Mix::Adverse, "65c7a0e64e87e3b47980fd6c8585551ba6242b782fdb9293f93a5d253811bd95"),
            (1000, Mix::Realistic, "76b5dfabdbd40060d266e74876ee6b6586212d0ae3cc22f84d85fe0b500e4db1"),
            (1000, Mix::Adverse, "15dee01d1376826a6dcffeac8fc46134530c2e29bbaaa27fad9d6b0d703d7ede"),
            (10_000, Mix::Realistic, "58ddb41e05a4c08dcba2ae87a9e876489a7f68d9ca6b0c27da4119d6297d3e0d"),
            (10_000, Mix::Adverse, "f61568568c9d18d2a61af87a9c29b01e1cee2f76f5db16c74b4c7b6e7ec820d0"),
        ];
        for (nodes, mix, expected) in known {
            let digest = Sha256::digest(Instance::new(nodes, nodes * 10, mix).lines());
            let hash: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(hash, expected, "{nodes} nodes, {mix:?}");
        }
    }

    #[test]
    fn a_filled_state_is_sound() {
        let instance = Instance::new(100, 100, Mix::Realistic);
        for fill in [Fill::Empty, Fill::Half, Fill::Full] {
            assert_eq!(instance.state(fill).check(), Vec::<String>::new());
        }
    }
}
