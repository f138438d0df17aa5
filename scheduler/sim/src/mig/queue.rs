//! The churn stream with a queue: nobody is rejected, who finds no room waits.
//!
//! Requests come as in [`super::churn`], one a step of [`STEP_S`] seconds, in order of arrival; a limit is one to three
//! times the run. A slice that is made for a job is there two seconds before it and goes one second after it. The
//! planner is the production one, driven through the machine by [`crate::trace::replay`]; what it is compared with
//! lives here and knows runs, not limits, only by their ends:
//! * a placement rule without reservations: whoever fits starts, in order of arrival;
//! * `static`: instances that stay as they are, their numbers chosen in hindsight for the seed by a local search for
//!   the least mean wait; a job takes the smallest free instance that holds it;
//! * `repack`: the first of these with free migration, and nothing to make or remove: a bound.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use model::gpu::{DYNAMIC_GPUS_MAX, Gpu, GpuMode, MigProfile};
use model::gres::GresRequest;
use model::quantity::{Cpus, MemoryMib};
use scheduler_core::gpu::geometry::Profile;
use scheduler_core::gpu::model::Model;
use scheduler_core::plan::policy::{Order, Policy as Plan};
use scheduler_core::settings::Settings;
use scheduler_core::state::node::{GresDefinition, NodeDefinition};
use scheduler_core::state::partition::PartitionDefinition;

use super::churn::longest;
use super::repack::{Counts, counts_fit};
use super::stream::{Contender, Percents, Place, Placer, below, second_seed};
use crate::random::SplitMix64;
use crate::trace::replay::{self, Options, Planning};
use crate::trace::{Estimates, Layout, Need, Trace, TraceJob};

/// Seconds from one arrival to the next.
pub const STEP_S: i64 = 10;
/// Requests of a run.
pub const JOBS: usize = 3000;
/// Seconds that an instance takes to be made.
const CREATE_S: i64 = 2;
/// Seconds that it takes to be removed.
const DESTROY_S: i64 = 1;
/// Both.
pub const TIME_OF_SLICE_S: i64 = CREATE_S + DESTROY_S;
/// GPUs of a node.
const ON_NODE: usize = 8;
/// So many at most are those of one node.
const ONE_NODE: usize = DYNAMIC_GPUS_MAX as usize;

/// Who serves the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Server {
    /// The production planner; so many jobs at the head of the queue have a start that is kept.
    Planner(u32),
    /// The best instances that stay.
    Static,
    /// A rule without reservations, or the bound.
    Rule(Contender),
}

impl Server {
    /// By name: `planner`, `planner-DEPTH`, `static`, `repack`, or a placement rule's.
    ///
    /// # Errors
    /// A sentence with the names that there are.
    pub fn named(name: &str) -> Result<Self, String> {
        match (name, name.strip_prefix("planner-").map(str::parse)) {
            ("planner", _) => Ok(Self::Planner(1)),
            (_, Some(Ok(depth))) => Ok(Self::Planner(depth)),
            ("static", _) => Ok(Self::Static),
            _ => Contender::named(name).map(Self::Rule).map_err(|why| format!("{why}, planner, static")),
        }
    }
}

/// One request; times in seconds.
#[derive(Clone, Copy, Debug)]
struct Request {
    profile: Profile,
    submit: i64,
    run: i64,
    limit: i64,
}

/// What one seed gave, in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outcome {
    /// Mean wait until the processes begin.
    pub wait_mean: f64,
    /// Longest wait of a 7g.
    pub wait_max_7g: i64,
    /// End of the last job.
    pub makespan: i64,
    /// Memory slices times seconds that were served by the last arrival.
    pub served: i64,
}

/// One run.
///
/// # Panics
/// If the scheduler refuses a job or starts one that it was not given: a bug.
#[must_use]
pub fn run(
    server: Server,
    gpus: usize,
    percents: &Percents,
    load: f64,
    seed: u64,
    planning: Planning,
) -> Outcome {
    run_of(server, gpus, percents, load, seed, (JOBS, planning))
}

/// The same with so many requests.
///
/// # Panics
/// As [`run`].
#[must_use]
pub fn run_of(
    server: Server,
    gpus: usize,
    percents: &Percents,
    load: f64,
    seed: u64,
    (jobs, planning): (usize, Planning),
) -> Outcome {
    let requests = stream(gpus, percents, load, seed, jobs);
    let begins = match server {
        Server::Planner(depth) => planned(&requests, gpus, depth, planning),
        Server::Static => best_static(&requests, gpus),
        Server::Rule(contender) => {
            let made = contender != Contender::Repack;
            let times = if made { (CREATE_S, DESTROY_S) } else { (0, 0) };
            let mut placer = Placer::new(contender, gpus, percents, seed);
            serve(&requests, times, &mut placer)
        }
    };
    outcome(&requests, &begins)
}

/// When the planner begins to make the slices of jobs (profile, run and limit in seconds) that all come at once.
///
/// # Panics
/// As [`run`].
#[must_use]
pub fn planned_at_once(jobs: &[(Profile, i64)], gpus: usize, depth: u32) -> Vec<i64> {
    let request = |&(profile, run): &(Profile, i64)| Request { profile, submit: 0, run, limit: run };
    let requests: Vec<Request> = jobs.iter().map(request).collect();
    planned(&requests, gpus, depth, Planning::Both).iter().map(|begin| begin - CREATE_S).collect()
}

fn stream(gpus: usize, percents: &Percents, load: f64, seed: u64, jobs: usize) -> Vec<Request> {
    let longest = longest(gpus, percents, load);
    let (mut source, mut limits) = (SplitMix64(seed), SplitMix64(second_seed(seed)));
    let one = |step: usize| {
        let profile = percents.draw(&mut source);
        let run = STEP_S * small(1 + below(&mut source, longest));
        let limit = run * small(1000 + below(&mut limits, 2001)) / 1000;
        Request { profile, submit: STEP_S * small(step as u64), run, limit: limit.max(run) }
    };
    (0..jobs).map(one).collect()
}

fn small(number: u64) -> i64 {
    i64::try_from(number).expect("the benchmark's numbers are small")
}

fn outcome(requests: &[Request], begins: &[i64]) -> Outcome {
    let last = requests.last().map_or(0, |request| request.submit);
    let waits = || requests.iter().zip(begins).map(|(request, begin)| (request, begin - request.submit));
    let served = requests.iter().zip(begins).map(|(request, &begin)| {
        let until = (begin + request.run).min(last);
        i64::from(request.profile.memory_slices()) * (until - begin).max(0)
    });
    Outcome {
        wait_mean: waits().map(|(_, wait)| wait as f64).sum::<f64>() / requests.len() as f64,
        wait_max_7g: waits()
            .filter(|(request, _)| request.profile == Profile::SevenG)
            .map(|(_, wait)| wait)
            .max()
            .unwrap_or(0),
        makespan: requests.iter().zip(begins).map(|(request, begin)| begin + request.run).max().unwrap_or(0),
        served: served.sum(),
    }
}

/// Somebody who finds room for a request, or has none.
trait Room {
    type Place;
    fn take(&mut self, profile: Profile) -> Option<Self::Place>;
    fn give(&mut self, place: Self::Place);
}

impl Room for Placer {
    type Place = Place;
    fn take(&mut self, profile: Profile) -> Option<Place> {
        self.place_again(profile)
    }
    fn give(&mut self, place: Place) {
        self.leave(place);
    }
}

/// Instances that stay: how many of each profile are free.
struct Instances(Counts);

impl Room for Instances {
    type Place = usize;
    fn take(&mut self, profile: Profile) -> Option<usize> {
        let holds = |other: &Profile| {
            other.memory_slices() >= profile.memory_slices()
                && other.compute_slices() >= profile.compute_slices()
        };
        let place = Profile::ALL.iter().position(|other| holds(other) && self.0[other.index()] > 0)?;
        self.0[place] -= 1;
        Some(place)
    }
    fn give(&mut self, place: usize) {
        self.0[place] += 1;
    }
}

/// Whoever fits starts, in order of arrival; answers when the processes of each begin.
///
/// Requests of one profile are alike to the room: where the first of them finds none, the others do not.
fn serve<R: Room>(requests: &[Request], (create, destroy): (i64, i64), room: &mut R) -> Vec<i64> {
    let mut begins = vec![i64::MAX; requests.len()];
    let mut waiting: [VecDeque<usize>; 6] = Default::default();
    let mut held: Vec<Option<R::Place>> = requests.iter().map(|_| None).collect();
    let mut ends: BinaryHeap<Reverse<(i64, usize)>> = BinaryHeap::new();
    let mut next = 0;
    loop {
        let arrival = requests.get(next).map(|request| request.submit);
        let Some(now) = arrival.into_iter().chain(ends.peek().map(|Reverse((at, _))| *at)).min() else {
            break;
        };
        while let Some(&Reverse((at, job))) = ends.peek()
            && at == now
        {
            ends.pop();
            room.give(held[job].take().expect("a job that ends has a place"));
        }
        while requests.get(next).is_some_and(|request| request.submit == now) {
            waiting[requests[next].profile.index()].push_back(next);
            next += 1;
        }
        let mut blocked = [false; 6];
        while let Some(job) =
            (0..6).filter(|class| !blocked[*class]).filter_map(|class| waiting[class].front().copied()).min()
        {
            let class = requests[job].profile.index();
            match room.take(requests[job].profile) {
                None => blocked[class] = true,
                Some(place) => {
                    held[job] = Some(place);
                    waiting[class].pop_front();
                    begins[job] = now + create;
                    ends.push(Reverse((now + create + requests[job].run + destroy, job)));
                }
            }
        }
    }
    begins
}

/// The instances with the least mean wait for these requests, found by a local search from what the stream asks for.
fn best_static(requests: &[Request], gpus: usize) -> Vec<i64> {
    let gpus = gpus as u64;
    let mut asked = [0_i64; 6];
    requests.iter().for_each(|request| asked[request.profile.index()] += request.run);
    let all: i64 = Profile::ALL.iter().map(|p| asked[p.index()] * i64::from(p.memory_slices())).sum();
    let mut best: Counts = [0; 6];
    // One that holds everything, then what is asked for most and missing most, as long as there is room.
    best[Profile::SevenG.index()] = u64::from(asked[Profile::SevenG.index()] > 0);
    loop {
        let missing = |p: &Profile| {
            let share = asked[p.index()] as f64 / all as f64 * 8.0 * gpus as f64;
            let mut more = best;
            more[p.index()] += 1;
            counts_fit(&more, gpus).then_some((share - best[p.index()] as f64) * f64::from(p.memory_slices()))
        };
        let next = Profile::ALL
            .into_iter()
            .filter_map(|p| Some((missing(&p)?, p)))
            .max_by(|(one, _), (other, _)| one.total_cmp(other));
        let Some((_, profile)) = next else { break };
        best[profile.index()] += 1;
    }
    let cost = |counts: &Counts| {
        let begins = serve(requests, (0, 0), &mut Instances(*counts));
        let served = begins.iter().all(|begin| *begin < i64::MAX);
        let wait =
            || requests.iter().zip(&begins).map(|(request, begin)| begin - request.submit).sum::<i64>();
        served.then(wait).map_or(i64::MAX, |wait| wait)
    };
    let mut least = cost(&best);
    loop {
        let from = best;
        for neighbour in neighbours(&from, gpus) {
            let wait = cost(&neighbour);
            if wait < least {
                (best, least) = (neighbour, wait);
            }
        }
        if best == from {
            return serve(requests, (0, 0), &mut Instances(best));
        }
    }
}

/// Up to two instances of one profile for up to four of another, filled up with small ones.
fn neighbours(counts: &Counts, gpus: u64) -> Vec<Counts> {
    let mut found = Vec::new();
    for gone in 0..6 {
        for come in (0..6).filter(|come| *come != gone) {
            for (less, more) in [(1, 1), (1, 2), (2, 1), (1, 4)] {
                let mut other = *counts;
                let Some(left) = other[gone].checked_sub(less) else { continue };
                other[gone] = left;
                other[come] += more;
                if !counts_fit(&other, gpus) {
                    continue;
                }
                for filler in [2, 1, 0] {
                    loop {
                        other[filler] += 1;
                        if !counts_fit(&other, gpus) {
                            other[filler] -= 1;
                            break;
                        }
                    }
                }
                found.push(other);
            }
        }
    }
    found
}

/// The production scheduler: begins of each job.
fn planned(requests: &[Request], gpus: usize, depth: u32, planning: Planning) -> Vec<i64> {
    let name = |profile: Profile| Model::A100With40.name(profile);
    let needs = Profile::ALL.map(|profile| Need {
        gres: vec![GresRequest { name: "gpu".into(), kind: Some(name(profile).into()), count: 1 }],
        ..Need::default()
    });
    let job = |(number, request): (usize, &Request)| TraceJob {
        number: small(number as u64),
        submit: request.submit,
        // Its end is reported when its slice is gone.
        run: CREATE_S + request.run + DESTROY_S,
        procs: 1,
        estimate: request.limit,
        user: 1,
        need: 1 + u32::try_from(request.profile.index()).expect("there are six"),
    };
    let jobs = requests.iter().enumerate().map(job).collect();
    let trace = Trace { jobs, needs: needs.to_vec(), ..Trace::default() };
    let policy = Plan { order: Order::Fcfs, depth: Some(depth), ..Plan::default() };
    let options = Options { procs: 1, policy, estimates: Estimates::User, layout: Layout::OneNode, planning };
    let observed: Vec<Gpu> = (0..on_node(gpus)).map(|index| gpu(index as u64)).collect();
    let outcome = replay::run_on_gpus(&trace, cluster(gpus), &observed, options, &mut ());
    assert!(outcome.refused.is_empty(), "every request fits a GPU: {:?}", outcome.refused.first());
    outcome.starts.iter().map(|start| start + CREATE_S).collect()
}

pub(super) fn cluster(gpus: usize) -> Settings {
    let count = on_node(gpus) as u64;
    let node = |number: usize| {
        let name: Box<str> = format!("g{number}").into();
        NodeDefinition {
            name: name.clone(),
            hostname: name.clone(),
            address: name,
            port: 0,
            cpus: Cpus(64),
            boards: 1,
            sockets: 1,
            cores_per_socket: 64,
            threads_per_core: 1,
            memory: MemoryMib(1 << 20),
            tmp_disk: MemoryMib(0),
            features: Vec::new(),
            gres: vec![GresDefinition { name: "gpu".into(), kind: "a100".into(), count, indexed: true }],
            weight: 1,
            bind: false,
        }
    };
    let nodes: Vec<NodeDefinition> = (0..gpus.div_ceil(on_node(gpus))).map(node).collect();
    let names: Vec<Box<str>> = nodes.iter().map(|node| node.name.clone()).collect();
    let main = PartitionDefinition {
        nodes_text: names.join(",").into(),
        nodes: names,
        is_default: true,
        ..PartitionDefinition::named("main")
    };
    Settings { nodes, partitions: vec![main], track_memory: false, ..Settings::named("mig") }
}

/// A dynamic A100 with 40 GB.
pub(super) fn gpu(index: u64) -> Gpu {
    let profile = |profile: Profile| MigProfile {
        id: profile.index() as u32,
        name: Model::A100With40.name(profile).into(),
        compute_slices: profile.compute_slices(),
        memory_slices: profile.memory_slices(),
        memory_mib: u64::from(profile.memory_slices()) * 4864,
        starts: profile.starts().iter().copied().map(u32::from).collect(),
    };
    Gpu {
        index: u32::try_from(index).expect("a node has few GPUs"),
        kind: "a100".into(),
        mode: GpuMode::Dynamic,
        profiles: Profile::ALL.map(profile).to_vec(),
        ..Gpu::default()
    }
}

/// GPUs of each node where there are so many in all.
fn on_node(gpus: usize) -> usize {
    if gpus <= ONE_NODE { gpus } else { ON_NODE }
}

/// Whether the benchmark can lay out so many GPUs: on one node, or on nodes of eight.
///
/// # Errors
/// A sentence.
pub fn check_gpus(gpus: usize) -> Result<(), String> {
    if gpus <= ONE_NODE || gpus.is_multiple_of(ON_NODE) {
        return Ok(());
    }
    Err(format!("--gpus {gpus}: --mig queue takes up to {ONE_NODE}, or a multiple of {ON_NODE}"))
}
