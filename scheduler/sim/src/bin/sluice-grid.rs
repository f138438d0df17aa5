//! `sluice-grid`: times the planner's passes on the benchmark grid. A bench, not part of the product.
//!
//! `sluice-grid NODES PENDING realistic|adverse [DEPTH]`: a line for each of empty, half-full and full:
//! milliseconds of cold passes (median, least), what they did, and a hash of the plan.

use std::process::ExitCode;
use std::time::Instant;

use scheduler_core::plan::{Pass, Planner};
use scheduler_sim::grid::{Fill, Instance, Mix, NOW};
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
