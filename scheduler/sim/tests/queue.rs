//! Slices over time: the planner on the benchmark's stream, and on one GPU beside an exhaustive optimum.
//!
//! The machine asserts at every start that no memory slice has two holders, and the replay that every proposal holds
//! when it is checked again.

use scheduler_core::gpu::geometry::Profile;
use scheduler_core::gpu::policy::Policy;
use scheduler_sim::mig::queue::{self, Server, TIME_OF_SLICE_S};
use scheduler_sim::mig::stream::{Contender, Percents, below};
use scheduler_sim::random::SplitMix64;
use scheduler_sim::trace::replay::Planning;

#[test]
fn a_plan_made_anew_is_the_same() {
    for (seed, mix) in [(1, "bimodal"), (2, "uniform"), (3, "skew-small")] {
        let mix = Percents::parse(mix).unwrap();
        for depth in [1, 8] {
            let times = (120, Planning::Both);
            let outcome = queue::run_of(Server::Planner(depth), 2, &mix, 1.1, seed, times);
            assert!(outcome.wait_mean >= 2.0 && outcome.served > 0, "{outcome:?}");
        }
    }
    // One node of more GPUs than a word has bytes.
    for gpus in [11, 16] {
        let mix = Percents::parse("bimodal").unwrap();
        let outcome = queue::run_of(Server::Planner(4), gpus, &mix, 1.2, 5, (250, Planning::Both));
        assert!(outcome.wait_mean > 2.5 && outcome.served > 0, "jobs wait: {outcome:?}");
    }
}

#[test]
fn a_large_slice_is_served_that_starves_without_reservations() {
    let mix = Percents::parse("skew-small").unwrap();
    let run = |server| queue::run_of(server, 2, &mix, 1.0, 1, (400, Planning::Following));
    let (planned, greedy) = (run(Server::Planner(4)), run(Server::Rule(Contender::Rule(Policy::Capacity))));
    assert!(planned.wait_max_7g < greedy.wait_max_7g, "{planned:?} {greedy:?}");
    let (fixed, bound) = (run(Server::Static), run(Server::Rule(Contender::Repack)));
    assert!(planned.wait_mean < fixed.wait_mean, "{planned:?} {fixed:?}");
    assert!(bound.wait_mean <= greedy.wait_mean, "{bound:?} {greedy:?}");
}

/// The earliest end of all jobs in any order on any starts: a schedule in order of starts gives each job the instant
/// at which the last of its slices is free.
fn optimum(jobs: &[(Profile, i64)], free: [i64; 8], end: i64, best: &mut i64) {
    if jobs.is_empty() {
        *best = end.min(*best);
        return;
    }
    let work: i64 = jobs.iter().map(|(profile, run)| i64::from(profile.memory_slices()) * run).sum();
    if end >= *best || (free.iter().sum::<i64>() + work + 7) / 8 >= *best {
        return;
    }
    for (place, &(profile, run)) in jobs.iter().enumerate() {
        if jobs[..place].contains(&(profile, run)) {
            continue;
        }
        let mut rest = jobs.to_vec();
        rest.remove(place);
        for &start in profile.starts() {
            let slices = usize::from(start)..usize::from(start) + profile.memory_slices() as usize;
            let begin = free[slices.clone()].iter().copied().max().expect("a profile takes slices");
            let mut after = free;
            after[slices].fill(begin + run);
            optimum(&rest, after, end.max(begin + run), best);
        }
    }
}

#[test]
fn up_to_six_jobs_on_one_gpu_beside_the_optimum() {
    let mix = Percents::parse("10,10,25,25,20,10").unwrap();
    let mut source = SplitMix64(42);
    let (mut planned, mut optimal, mut exact) = (0, 0, 0);
    let rounds = 60;
    for _ in 0..rounds {
        let count = 2 + below(&mut source, 5);
        let jobs: Vec<(Profile, i64)> = (0..count)
            .map(|_| (mix.draw(&mut source), 60 * (1 + i64::try_from(below(&mut source, 5)).unwrap())))
            .collect();
        let begins = queue::planned_at_once(&jobs, 1, 100);
        let ends = jobs.iter().zip(&begins).map(|((_, run), begin)| begin + run + TIME_OF_SLICE_S);
        let makespan = ends.max().expect("there are jobs");
        let whole: Vec<_> = jobs.iter().map(|&(profile, run)| (profile, run + TIME_OF_SLICE_S)).collect();
        let mut best = i64::MAX;
        optimum(&whole, [0; 8], 0, &mut best);
        assert!(makespan >= best, "nobody is better than the best: {jobs:?}");
        planned += makespan;
        optimal += best;
        exact += u32::from(makespan == best);
    }
    println!("{exact} of {rounds} at the optimum, {:.4} of it in all", planned as f64 / optimal as f64);
    // Jobs keep the order of the queue where the optimum may turn it round.
    assert!(planned * 100 <= optimal * 115, "{planned} {optimal}");
}
