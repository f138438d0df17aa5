//! Scheduling: cold passes, conservative ones, the steady state, a small trace.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput};
use scheduler_core::plan::Planner;
use scheduler_core::plan::policy::Policy;
use scheduler_sim::grid::{Fill, Instance, Mix, NOW, Pended};
use scheduler_sim::steady::Steady;
use scheduler_sim::trace::lublin::Recipe;
use scheduler_sim::trace::replay::{self, Options, Planning};
use scheduler_sim::trace::{Estimates, Layout};

use crate::instance;

const MIXES: [(&str, Mix); 2] = [("realistic", Mix::Realistic), ("adverse", Mix::Adverse)];
const FILLS: [(&str, Fill); 3] = [("empty", Fill::Empty), ("half", Fill::Half), ("full", Fill::Full)];
/// So many jobs may have come and gone before a steady state is made anew.
const EVENTS: usize = 500;

/// Passes of a planner that knows nothing, 1,000 nodes and 10,000 pending jobs, 1,000 of them protected.
pub(crate) fn cold(criterion: &mut Criterion) {
    for (name, mix) in MIXES {
        full_passes(criterion, &format!("cold pass, {name}"), &instance(1000, mix), Some(1000));
    }
}

/// The same with all jobs protected.
pub(crate) fn conservative(criterion: &mut Criterion) {
    full_passes(criterion, "conservative cold pass, realistic", &instance(1000, Mix::Realistic), None);
}

fn full_passes(criterion: &mut Criterion, name: &str, instance: &Instance, depth: Option<u32>) {
    let mut group = criterion.benchmark_group(name);
    group.throughput(Throughput::Elements(instance.jobs.len() as u64));
    let mut settings = instance.settings();
    settings.policy.depth = Some(depth.unwrap_or(u32::MAX));
    for (fill_name, fill) in FILLS {
        let state = instance.state(fill);
        group.bench_function(BenchmarkId::from_parameter(fill_name), |bencher| {
            bencher.iter(|| black_box(Planner::new().without_verdicts().pass(&state, &settings, NOW)));
        });
    }
    group.finish();
}

/// A job that ends early, and arrivals at the tail and the head of the order, in the steady state of a full machine.
pub(crate) fn steady(criterion: &mut Criterion) {
    let instance = instance(1000, Mix::Realistic);
    let mut group = criterion.benchmark_group("steady state");
    group.throughput(Throughput::Elements(1));
    group.bench_function("completion", |bencher| {
        bencher.iter_custom(|events| {
            over(&instance, events, |steady, next| {
                let Some(id) = steady.advance() else { panic!("a full machine has jobs that end") };
                let begin = Instant::now();
                black_box(steady.end(id));
                let taken = begin.elapsed();
                // As many wait as before.
                steady.submit(next);
                taken
            })
        });
    });
    for (name, priority) in [("submit at the tail", 0), ("submit at the head", 1_000_000)] {
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|events| {
                over(&instance, events, |steady, next| {
                    let pended = Pended { priority, ..*next };
                    let begin = Instant::now();
                    black_box(steady.submit(&pended));
                    begin.elapsed()
                })
            });
        });
    }
    group.finish();
}

/// The time of so many events, each with a job at hand; a new steady state, which is not timed, after some.
fn over(
    instance: &Instance,
    events: u64,
    mut event: impl FnMut(&mut Steady, &Pended) -> Duration,
) -> Duration {
    let mut taken = Duration::ZERO;
    let mut left = usize::try_from(events).expect("events are counted in words");
    while left > 0 {
        let some = left.min(EVENTS);
        let mut steady = Steady::new(instance, Fill::Full);
        taken +=
            instance.jobs.iter().cycle().take(some).map(|next| event(&mut steady, next)).sum::<Duration>();
        left -= some;
    }
    taken
}

/// A generated trace of 2,000 jobs, replayed by two policies with a machine, records and a planner.
pub(crate) fn trace(criterion: &mut Criterion) {
    let trace = Recipe { jobs: 2000, procs: 256, seed: 1, two_kinds: false }.make();
    let mut group = criterion.benchmark_group("replay of 2,000 generated jobs");
    group.throughput(Throughput::Elements(trace.jobs.len() as u64));
    for name in ["easy", "cons"] {
        let policy = Policy::named(name).expect("a policy of the list");
        let options = Options {
            procs: trace.procs,
            policy,
            estimates: Estimates::Perfect,
            layout: Layout::OneNode,
            planning: Planning::Following,
        };
        group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
            bencher.iter(|| black_box(replay::run(&trace.jobs, options)));
        });
    }
    group.finish();
}
