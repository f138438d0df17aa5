//! Criterion benches of what takes a second at most: scheduling passes and submission, in one thread, without processes.
//!
//! `cargo bench -p benches --bench micro [NAME]` measures with Criterion's statistics and compares with the run before
//! (`target/criterion`); `cargo test -p benches --bench micro` does each once on the smallest grid. Larger cells and
//! whole daemons have benches of their own (`grid`, `submit`, `launch`). The instances are the grid's.

mod passes;
mod submissions;

use std::time::Duration;

use criterion::Criterion;
use scheduler_sim::grid::{Instance, Mix};

/// An instance of so many nodes with ten pending jobs each; the smallest where Criterion only tests.
fn instance(nodes: u64, mix: Mix) -> Instance {
    let measures = std::env::args().any(|word| word == "--bench");
    let nodes = if measures { nodes } else { 100 };
    Instance::new(nodes, nodes * 10, mix)
}

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(4))
        .configure_from_args();
    passes::cold(&mut criterion);
    passes::conservative(&mut criterion);
    passes::steady(&mut criterion);
    passes::trace(&mut criterion);
    submissions::admission(&mut criterion);
    submissions::batch(&mut criterion);
    submissions::arrays(&mut criterion);
    criterion.final_summary();
}
