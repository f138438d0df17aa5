//! How fast a slice of a GPU is placed, by Criterion: the figures of docs/architecture/gpu.md.
//!
//! Owns four measurements, each of the production code: one decision on one GPU; one among 10,000 that are all
//! eligible, with the index kept up; one among 10,000 where half of the nodes are eligible and CPUs and memory must
//! fit; and the planner's search for the first window of a 7g among 10,000 GPUs with 30,000 running slices. Beside
//! them two whole passes of the planner on that cluster. `cargo xtask bench gpu`; with `--test` each runs once.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use scheduler_core::gpu::fleet::Fleet;
use scheduler_core::gpu::geometry::{Occupancy, Placement, Profile};
use scheduler_core::gpu::mix::Mix;
use scheduler_core::gpu::outlook::Outlook;
use scheduler_core::gpu::policy::{Policy, Rule};
use scheduler_sim::mig::bed::Bed;
use scheduler_sim::random::SplitMix64;

/// GPUs of the large cluster, eight on a node.
const GPUS: usize = 10_000;
const RUNNING: usize = 30_000;

fn rule() -> Rule {
    Rule::new(Policy::Demand, &Mix::new([30, 10, 25, 15, 10, 10]).expect("some weight is positive"))
}

fn below(random: &mut SplitMix64, most: usize) -> usize {
    usize::try_from(random.below(most as u64)).expect("it is below a size")
}

fn draw(random: &mut SplitMix64) -> Profile {
    // As the rule's mix.
    match below(random, 100) {
        0..30 => Profile::OneG,
        30..40 => Profile::OneGWide,
        40..65 => Profile::TwoG,
        65..80 => Profile::ThreeG,
        80..90 => Profile::FourG,
        _ => Profile::SevenG,
    }
}

/// GPUs filled until a request found no room, and what lies where.
fn filled(gpus: usize) -> (Fleet, Vec<(usize, Placement)>) {
    let mut fleet = Fleet::new(gpus, rule());
    let (mut random, mut placed) = (SplitMix64(1), Vec::new());
    loop {
        let profile = draw(&mut random);
        let Some((gpu, start)) = fleet.choose(profile) else { return (fleet, placed) };
        fleet.add(gpu, Placement { profile, start });
        placed.push((gpu, Placement { profile, start }));
    }
}

fn one_gpu(criterion: &mut Criterion) {
    let (rule, mut random) = (rule(), SplitMix64(2));
    let (fleet, _) = filled(GPUS);
    let asked: Vec<_> =
        (0..4096).map(|_| (fleet.taken()[below(&mut random, GPUS)], draw(&mut random))).collect();
    let mut at = 0;
    criterion.bench_function("one decision on one GPU", |bench| {
        bench.iter(|| {
            at = (at + 1) % asked.len();
            let (taken, profile) = asked[at];
            black_box(rule.start(black_box(taken), profile))
        });
    });
}

fn all_eligible(criterion: &mut Criterion) {
    let (mut fleet, mut placed) = filled(GPUS);
    let mut random = SplitMix64(3);
    criterion.bench_function("one among 10,000 GPUs, one removed and one added", |bench| {
        bench.iter(|| {
            let at = below(&mut random, placed.len());
            let (gpu, placement) = placed.swap_remove(at);
            fleet.remove(gpu, placement);
            // The same profile, so that the fleet stays as full as it is.
            let profile = placement.profile;
            let (gpu, start) = fleet.choose(profile).expect("one was just removed");
            fleet.add(gpu, Placement { profile, start });
            placed.push((gpu, Placement { profile, start }));
        });
    });
}

fn some_eligible(criterion: &mut Criterion) {
    let (mut fleet, placed) = filled(GPUS);
    let mut random = SplitMix64(4);
    // A tenth of the slices are gone, so that there is a choice.
    for (gpu, placement) in placed.iter().filter(|_| below(&mut random, 10) == 0) {
        fleet.remove(*gpu, *placement);
    }
    let nodes: Vec<(u32, u64)> = (0..GPUS / 8)
        .map(|_| (below(&mut random, 33) as u32, below(&mut random, 256 << 10) as u64))
        .collect();
    // Half of the nodes, with all of their GPUs.
    let mut eligible = vec![0_u64; GPUS.div_ceil(64)];
    for node in (0..GPUS / 8).filter(|_| below(&mut random, 2) == 0) {
        eligible[node / 8] |= 0xff << (node % 8 * 8);
    }
    // The lower half of each GPU is free in the second half of the run.
    let outlook = |taken: Occupancy| {
        let then = Occupancy(taken.0 & 0xf0);
        Outlook { taken, later: [taken, taken, then, then] }
    };
    let (mut found, mut asked) = (0, 0);
    criterion.bench_function("one among 10,000 GPUs, half of the nodes, CPUs and memory", |bench| {
        bench.iter(|| {
            let profile = draw(&mut random);
            let (cpus, memory) =
                (1 + below(&mut random, 16) as u32, 1 + below(&mut random, 128 << 10) as u64);
            let fits = |gpu: usize| {
                let (free_cpus, free_memory) = nodes[gpu / 8];
                free_cpus >= cpus && free_memory >= memory
            };
            // As many as the planner compares over time.
            let best = fleet.best_among(profile, &eligible, 16, fits);
            let outlooks: Vec<Outlook> = best.iter().map(|&gpu| outlook(fleet.taken()[gpu])).collect();
            let choice = black_box(fleet.rule().choose_of_many_over_time(&outlooks, profile));
            found += u64::from(choice.is_some());
            asked += 1;
        });
    });
    // Nothing was asked where a filter leaves it out.
    assert!(found * 4 > asked || asked == 0, "most requests find a place: {found} of {asked}");
}

/// 10,000 GPUs on which 30,000 slices run, and no room for a 7g: each has one at least.
fn at_work() -> Bed {
    let (mut bed, mut random) = (Bed::new(GPUS, 10), SplitMix64(5));
    let mut running = 0;
    while running < RUNNING {
        for _ in 0..1000.min(RUNNING - running) {
            let profile = match below(&mut random, 20) {
                0..10 => Profile::OneG,
                10..16 => Profile::TwoG,
                16..19 => Profile::OneGWide,
                _ => Profile::ThreeG,
            };
            bed.submit(profile, 3600 + below(&mut random, 300_000) as i64);
        }
        let pass = bed.look();
        let started = bed.carry_out(pass);
        assert!(started > 0, "{running} slices run and no other starts");
        running += started;
    }
    // Whatever GPU is empty is taken whole for long.
    loop {
        let whole = bed.submit(Profile::SevenG, 600_000);
        let pass = bed.look();
        if bed.carry_out(pass) == 0 {
            bed.end(whole);
            let pass = bed.look();
            bed.carry_out(pass);
            return bed;
        }
    }
}

/// The time of one pass after a job for a slice arrived; the job is gone afterwards.
fn pass_for(bed: &mut Bed, profile: Profile, starts: usize) -> Duration {
    let job = bed.submit(profile, 7200);
    let before = Instant::now();
    let pass = bed.look();
    let taken = before.elapsed();
    assert_eq!(pass.plan.starts.len(), starts, "{profile:?}");
    assert_eq!(pass.plan.promises.is_some(), starts == 0, "a 7g is promised a window");
    bed.carry_out(pass);
    bed.end(job);
    let pass = bed.look();
    bed.carry_out(pass);
    taken
}

fn windows(criterion: &mut Criterion) {
    let mut bed = at_work();
    criterion.bench_function("pass that finds the window of a 7g, 30,000 slices running", |bench| {
        bench.iter_custom(|times| (0..times).map(|_| pass_for(&mut bed, Profile::SevenG, 0)).sum());
    });
    // Room for a small one: one of the 7g's goes.
    criterion.bench_function("pass that places a 1g, 30,000 slices running", |bench| {
        bench.iter_custom(|times| (0..times).map(|_| pass_for(&mut bed, Profile::OneG, 1)).sum());
    });
}

criterion_group!(benches, one_gpu, all_eligible, some_eligible, windows);
criterion_main!(benches);
