//! `sluice-soak`: whole simulated clusters in which everything goes wrong, seed after seed, on all cores.
//!
//! Exit status: 0 if every seed keeps every promise (with `--bugs`: if every planted bug is seen), else 1.

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use clap::Parser;
use scheduler_sim::cluster::{self, Ends, Options, Seen};

/// Simulates whole clusters; a failing seed is printed with the line that repeats it.
#[derive(Parser)]
#[command(name = "sluice-soak", version)]
struct Arguments {
    /// How many seeds.
    #[arg(long, default_value_t = 1000)]
    seeds: u64,
    /// The first one.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Nodes of each cluster.
    #[arg(long, default_value_t = 4)]
    nodes: u32,
    /// Jobs that clients submit to each.
    #[arg(long, default_value_t = 40)]
    jobs: u32,
    /// The scheduler ends once, after so many operations of its disk, and not at others.
    #[arg(long)]
    end_after: Option<u64>,
    /// Nobody changes partitions, nodes and limits.
    #[arg(long)]
    no_administrator: bool,
    /// Plants one bug after the other and shows whether the oracles see it.
    #[arg(long)]
    bugs: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let options = Options {
        nodes: arguments.nodes,
        jobs: arguments.jobs,
        ends: arguments.end_after.map_or(Ends::Anywhere, Ends::After),
        administrator: !arguments.no_administrator,
        ..Options::default()
    };
    if arguments.bugs {
        return bugs(&arguments, options);
    }
    let begun = Instant::now();
    let (total, fault) = soak(arguments.from, arguments.seeds, options);
    let seconds = begun.elapsed().as_secs_f64();
    println!(
        "{} seeds in {seconds:.1} s: {:.1} a second; {} jobs acknowledged, {} runs, {} scheduler crashes among {} operations \
         of its disk, {} node faults, {} slices made",
        total.1,
        total.1 as f64 / seconds,
        total.0.acknowledged,
        total.0.runs,
        total.0.crashes,
        total.0.operations,
        total.0.node_faults,
        total.0.slices
    );
    match fault {
        None => ExitCode::SUCCESS,
        Some((seed, fault)) => {
            let Options { nodes, jobs, .. } = options;
            let end = arguments.end_after.map_or(String::new(), |end| format!(" --end-after {end}"));
            let nobody = if arguments.no_administrator { " --no-administrator" } else { "" };
            println!(
                "{fault}\nagain: sluice-soak --from {seed} --seeds 1 --nodes {nodes} --jobs {jobs}{end}{nobody}"
            );
            ExitCode::FAILURE
        }
    }
}

type Total = (Seen, u64);

/// Runs seeds on all cores until one fails; sums what was seen.
fn soak(from: u64, seeds: u64, options: Options) -> (Total, Option<(u64, String)>) {
    let next = AtomicU64::new(from);
    let until = AtomicU64::new(from + seeds);
    let shared: Mutex<(Total, Option<(u64, String)>)> = Mutex::default();
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= until.load(Ordering::Relaxed) {
                        return;
                    }
                    let outcome = cluster::judged(seed, options);
                    let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
                    match outcome {
                        Ok(seen) => add(&mut shared.0, seen),
                        Err(fault) => {
                            until.store(0, Ordering::Relaxed);
                            shared.1.get_or_insert((seed, fault));
                        }
                    }
                }
            });
        }
    });
    shared.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn add(total: &mut Total, seen: Seen) {
    total.1 += 1;
    total.0.acknowledged += seen.acknowledged;
    total.0.runs += seen.runs;
    total.0.crashes += seen.crashes;
    total.0.operations += seen.operations;
    total.0.slices += seen.slices;
    total.0.node_faults += seen.node_faults;
}

#[cfg(feature = "planted-bugs")]
fn bugs(arguments: &Arguments, options: Options) -> ExitCode {
    use scheduler_core::planted::{Bug, plant};

    std::panic::set_hook(Box::new(|_| {}));
    let mut missed = 0;
    for bug in Bug::ALL {
        plant(Some(bug));
        let (total, fault) = soak(arguments.from, arguments.seeds, options);
        match fault {
            Some((_, fault)) => {
                let line = fault.lines().next().unwrap_or_default();
                let line: String = line.chars().take(140).collect();
                println!("{bug:?}: seen after {} seeds: {line}", total.1 + 1);
            }
            None => {
                missed += 1;
                println!("{bug:?}: NOT seen in {} seeds", total.1);
            }
        }
    }
    plant(None);
    if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[cfg(not(feature = "planted-bugs"))]
fn bugs(_: &Arguments, _: Options) -> ExitCode {
    eprintln!("sluice-soak: error: this binary was built without the feature planted-bugs");
    eprintln!("sluice-soak: run it as: cargo xtask soak --bugs");
    ExitCode::from(2)
}
