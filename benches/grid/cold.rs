//! Passes from a state just recovered: nothing of an earlier pass is kept.

use anyhow::{Result, ensure};
use benches::{Report, Stopwatch, Taken};
use scheduler_core::plan::{Pass, Planner};
use scheduler_sim::grid::{Fill, NOW};
use sha2::{Digest, Sha256};

use crate::Cell;

/// Cold passes over a cell, empty, half-full and full; the slowest of the three is the figure. `depth`: jobs that are
/// given a planned start; `None`: all.
pub(crate) fn measure(report: &mut Report, cell: Cell, depth: Option<u32>, repeats: usize) -> Result<()> {
    let instance = cell.instance()?;
    let mut settings = instance.settings();
    settings.policy.depth = Some(depth.unwrap_or(u32::MAX));
    let mut slowest = Taken::default();
    for fill in [Fill::Empty, Fill::Half, Fill::Full].into_iter().filter(|fill| cell.has(*fill)) {
        let state = instance.state(fill);
        let mut times = Vec::new();
        let mut first: Option<Pass> = None;
        for _ in 0..repeats {
            let watch = Stopwatch::begin()?;
            let pass = Planner::new().without_verdicts().pass(&state, &settings, NOW);
            times.push(watch.taken()?);
            match &first {
                Some(first) => ensure!(first.plan == pass.plan, "a pass that is repeated proposes the same"),
                None => first = Some(pass),
            }
        }
        let median = Taken::median(times);
        let pass = first.unwrap_or_default();
        let counts = pass.counts;
        println!(
            "    {}, {fill:?}: {:.1} ms, CPU {:.1} ms; protected {}, started {}, tested {}, requests {}, steps {}, \
             plan {}",
            cell.name(),
            median.wall_ms,
            median.cpu_ms,
            counts.protected,
            counts.started,
            counts.tested,
            counts.requests,
            counts.steps,
            hash(&pass),
        );
        slowest = slowest.larger(median);
    }
    let what = if depth.is_some() { "cold full pass" } else { "conservative cold pass" };
    report.row(&format!("{what}, {}", cell.name()), slowest.wall_ms, "ms");
    report.row(&format!("{what}, {}, CPU", cell.name()), slowest.cpu_ms, "ms");
    Ok(())
}

/// Names a plan.
fn hash(pass: &Pass) -> String {
    let digest = Sha256::digest(format!("{:?}", pass.plan));
    digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}
