//! `sluice-grid`: times the planner's passes on the benchmark grid. A bench, not part of the product.
//!
//! `sluice-grid NODES PENDING realistic|adverse [DEPTH] [REPEATS]`: a line for each of empty, half-full and
//! full: milliseconds of cold passes (median, least), what they did, and a hash of the plan.
//! `sluice-grid NODES PENDING realistic|adverse steady [EVENTS]`: a line for each of half-full and full and
//! each kind of event of the steady state: milliseconds from the event's record to the records of the jobs
//! that start (median, 99th percentile, most).

use std::process::ExitCode;
use std::time::Instant;

use scheduler_core::plan::{Pass, Planner};
use scheduler_sim::grid::{Fill, Instance, Mix, NOW, Pended};
use scheduler_sim::steady::Steady;
use sha2::{Digest, Sha256};

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let parsed = || {
        let mix = match words.get(2)?.as_str() {
            "realistic" => Mix::Realistic,
            "adverse" => Mix::Adverse,
            _ => return None,
        };
        let depth = words.get(3).map_or(Some(1000), |word| word.parse().ok())?;
        Some((words.first()?.parse().ok()?, words.get(1)?.parse().ok()?, mix, depth))
    };
    if words.get(3).is_some_and(|word| word == "steady") {
        let steady = || {
            let mix = if words[2] == "adverse" { Mix::Adverse } else { Mix::Realistic };
            let events = words.get(4).map_or(Some(1000), |word| word.parse().ok())?;
            Some((words[0].parse().ok()?, words[1].parse().ok()?, mix, events))
        };
        let Some((nodes, pending, mix, events)) = steady() else {
            eprintln!(
                "sluice-grid: error: usage: sluice-grid NODES PENDING realistic|adverse steady [EVENTS]"
            );
            return ExitCode::FAILURE;
        };
        [Fill::Half, Fill::Full]
            .into_iter()
            .for_each(|fill| measure_steady(nodes, pending, mix, fill, events));
        return ExitCode::SUCCESS;
    }
    let Some((nodes, pending, mix, depth)) = parsed() else {
        eprintln!("sluice-grid: error: usage: sluice-grid NODES PENDING realistic|adverse [DEPTH] [REPEATS]");
        return ExitCode::FAILURE;
    };
    let repeats = words.get(4).and_then(|word| word.parse().ok()).unwrap_or(5);
    let instance = Instance::new(nodes, pending, mix);
    for fill in [Fill::Empty, Fill::Half, Fill::Full] {
        measure(&instance, fill, depth, repeats);
    }
    ExitCode::SUCCESS
}

fn measure_steady(nodes: u64, pending: u64, mix: Mix, fill: Fill, events: usize) {
    let instance = Instance::new(nodes, pending, mix);
    let more = Instance::new(nodes, pending + 2 * events as u64, mix);
    let mut steady = Steady::new(&instance, fill);
    let timed = |steady: &mut Steady, work: &mut dyn FnMut(&mut Steady) -> Pass| {
        let begun = Instant::now();
        let pass = work(steady);
        (begun.elapsed().as_secs_f64() * 1000.0, pass.counts.started, pass.counts.tested)
    };
    let say = |what: &str, mut times: Vec<(f64, u32, u32)>| {
        times.sort_by(|one, other| one.0.total_cmp(&other.0));
        let (started, tested) = times.iter().fold((0, 0), |sum, one| (sum.0 + one.1, sum.1 + one.2));
        let at = |share: usize| times[(times.len() * share).div_ceil(100).max(1) - 1].0;
        let (median, high, most) = (at(50), at(99), at(100));
        println!(
            "{fill:?} {what}: median {median:.3} ms, p99 {high:.3} ms, most {most:.3} ms; started {started}, \
             tested {tested}"
        );
    };
    let mut ends = Vec::new();
    for _ in 0..events {
        let Some(id) = steady.advance() else { break };
        ends.push(timed(&mut steady, &mut |steady| steady.end(id)));
    }
    say("completion", ends);
    let from = usize::try_from(pending).expect("it is in memory");
    for (what, priority, from) in
        [("submit at the tail", 0, from), ("submit at the head", 1_000_000, from + events)]
    {
        let jobs = more.jobs[from..from + events].iter();
        let times = jobs.map(|pended| {
            let pended = Pended { priority, ..*pended };
            timed(&mut steady, &mut |steady| steady.submit(&pended))
        });
        let times = times.collect();
        say(what, times);
    }
}

fn measure(instance: &Instance, fill: Fill, depth: u32, repeats: usize) {
    let state = instance.state(fill);
    let mut settings = instance.settings();
    settings.policy.depth = Some(depth);
    let mut times = Vec::new();
    let mut last = Pass::default();
    for _ in 0..repeats {
        let begun = Instant::now();
        last = Planner::new().without_verdicts().pass(&state, &settings, NOW);
        times.push(begun.elapsed().as_secs_f64() * 1000.0);
    }
    times.sort_by(f64::total_cmp);
    let counts = last.counts;
    println!(
        "{fill:?}: median {:.1} ms, least {:.1} ms; running {}, protected {}, started {}, tested {}, \
         requests {}, steps {}, plan {}",
        times[times.len() / 2],
        times[0],
        state.index.running.len(),
        counts.protected,
        counts.started,
        counts.tested,
        counts.requests,
        counts.steps,
        hash(&last),
    );
}

fn hash(pass: &Pass) -> String {
    let digest = Sha256::digest(format!("{:?}", pass.plan));
    digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}
