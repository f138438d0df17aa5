//! `sluice-simulate`: a recorded workload through the production scheduler, in virtual time.
//!
//! What `sluice simulate` runs.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // The GPU benchmarks, --mig and --openb, have options of their own.
    scheduler_sim::mig::options::run().unwrap_or_else(scheduler_sim::simulate::main)
}
