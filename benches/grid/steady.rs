//! The steady state: jobs end early, jobs arrive at the tail and at the head of the order.

use anyhow::Result;
use benches::{Report, Stopwatch, Taken};
use scheduler_sim::grid::{Fill, Instance, Pended};
use scheduler_sim::steady::Steady;

use crate::Cell;

/// So many events of each kind, one after the other, on the half-full and the full machine.
pub(crate) fn measure(report: &mut Report, cell: Cell, events: usize) -> Result<()> {
    let instance = cell.instance()?;
    let more = Instance::new(cell.nodes, cell.nodes * 10 + 2 * events as u64, cell.mix);
    for fill in [Fill::Half, Fill::Full].into_iter().filter(|fill| cell.has(*fill)) {
        let mut steady = Steady::new(&instance, fill);
        let mut times = Vec::new();
        for _ in 0..events {
            let Some(id) = steady.advance() else { break };
            let watch = Stopwatch::begin()?;
            steady.end(id);
            times.push(watch.taken()?);
        }
        say(report, &format!("completion, {}, {fill:?}", cell.name()), times);
        let first = instance.jobs.len();
        for (what, priority, from) in [("tail", 0, first), ("head", 1_000_000, first + events)] {
            let mut times = Vec::new();
            for pended in &more.jobs[from..from + events] {
                let pended = Pended { priority, ..*pended };
                let watch = Stopwatch::begin()?;
                steady.submit(&pended);
                times.push(watch.taken()?);
            }
            say(report, &format!("submit at the {what}, {}, {fill:?}", cell.name()), times);
        }
    }
    Ok(())
}

fn say(report: &mut Report, what: &str, times: Vec<Taken>) {
    let [median, p99] = Taken::percentiles(times, [50, 99]);
    report.row(&format!("{what}, median"), median.wall_ms, "ms");
    report.row(&format!("{what}, median, CPU"), median.cpu_ms, "ms");
    report.row(&format!("{what}, p99, CPU"), p99.cpu_ms, "ms");
}
