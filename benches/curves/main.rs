//! Curves: what a pass costs over the number of nodes and the number of pending jobs.
//!
//! Three passes (from nothing, after the early end of a job, after an arrival at the tail of the order) on the grid's
//! realistic instances, half of the machine taken: CPU time of the thread and requests for memory, which do not depend
//! on the machine. Draws `docs/curves/nodes.svg` and `pending.svg` (time) and `nodes-counts.svg` and
//! `pending-counts.svg`; with `--tiny` small sizes into the folder for built things. Nothing is asserted about time: that
//! work grows with what changed and not with what exists is a gate on counts (`benches/gates`).

mod draw;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use benches::{Arguments, Counting, Machine, Report, Stopwatch, Taken};
use draw::{Figure, Line};
use scheduler_core::plan::{Pass, Planner};
use scheduler_sim::grid::{Fill, Instance, Mix, NOW, Pended};
use scheduler_sim::steady::Steady;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const PASSES: [&str; 3] = ["from nothing", "after an early end", "after an arrival at the tail"];

/// One place of the axis.
struct Point {
    at: f64,
    /// Of each pass: CPU milliseconds, requests for memory.
    costs: [(f64, f64); 3],
}

fn main() -> Result<()> {
    let arguments = Arguments::parse()?;
    let exe = std::env::current_exe().context("find this program")?;
    let built = exe.parent().context("this program's folder")?;
    let machine = Machine::measure(built, std::time::Duration::from_millis(100))?;
    println!("curves, seed {}: {}", arguments.seed, machine.line());
    let mut report = Report::new("curves", arguments.seed);
    let folder: PathBuf = if arguments.tiny {
        built.join("curves")
    } else {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/curves")
    };
    std::fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    let (nodes, pending): (&[u64], &[u64]) = if arguments.tiny {
        (&[100, 200], &[100, 1000])
    } else {
        (&[100, 300, 1000, 3000, 10_000], &[100, 1000, 10_000, 100_000, 1_000_000])
    };
    let (fixed_pending, fixed_nodes) = if arguments.tiny { (300, 100) } else { (10_000, 1000) };
    if arguments.wants("nodes") {
        let points =
            nodes.iter().map(|&count| measure(&mut report, (count, fixed_pending), count, &arguments));
        let title = format!("over nodes, {fixed_pending} pending jobs");
        draw_both(&folder, "nodes", &title, "nodes", &points.collect::<Result<Vec<_>>>()?)?;
    }
    if arguments.wants("pending") {
        let points =
            pending.iter().map(|&count| measure(&mut report, (fixed_nodes, count), count, &arguments));
        let title = format!("over pending jobs, {fixed_nodes} nodes");
        draw_both(&folder, "pending", &title, "pending jobs", &points.collect::<Result<Vec<_>>>()?)?;
    }
    if arguments.save {
        report.save(&machine)?;
    }
    Ok(())
}

/// The three passes on a cell.
fn measure(
    report: &mut Report,
    (nodes, pending): (u64, u64),
    at: u64,
    arguments: &Arguments,
) -> Result<Point> {
    let events: u64 = if arguments.tiny { 5 } else { 200 };
    let instance = Instance::new(nodes, pending, Mix::Realistic);
    let mut costs = [(0.0, 0.0); 3];
    let cell = format!("{nodes} x {pending}");
    {
        let (state, settings) = (instance.state(Fill::Half), instance.settings());
        let repeats = if arguments.tiny { 1 } else { 3 };
        let mut sample = Vec::new();
        for _ in 0..repeats {
            let mut planner = Planner::new().without_verdicts();
            sample.push(counted(|| planner.pass(&state, &settings, NOW))?.0);
        }
        costs[0] = middle(sample);
    }
    let more = Instance::new(nodes, events, Mix::Realistic);
    let mut steady = Steady::new(&instance, Fill::Half);
    let (mut ends, mut arrivals) = (Vec::new(), Vec::new());
    for pended in &more.jobs {
        let Some(id) = steady.advance() else { break };
        steady.release(id);
        ends.push(look(&mut steady)?);
        steady.arrive(&Pended { priority: 0, ..*pended });
        arrivals.push(look(&mut steady)?);
    }
    ensure!(!ends.is_empty(), "{cell}: something runs and ends");
    costs[1] = middle(ends);
    costs[2] = middle(arrivals);
    for (what, (ms, requests)) in PASSES.iter().zip(costs) {
        report.row(&format!("pass {what}, {cell}, CPU"), ms, "ms");
        report.row(&format!("pass {what}, {cell}, requests for memory"), requests, "");
    }
    Ok(Point { at: at as f64, costs })
}

/// A pass of the steady state, which is carried out.
fn look(steady: &mut Steady) -> Result<(f64, f64)> {
    let (cost, pass) = counted(|| steady.look())?;
    steady.carry_out(pass.plan, pass.wake);
    Ok(cost)
}

/// CPU milliseconds of a pass and how often it asks for memory.
fn counted(pass: impl FnOnce() -> Pass) -> Result<((f64, f64), Pass)> {
    let before = Counting::allocations();
    let watch = Stopwatch::begin()?;
    let pass = pass();
    let Taken { cpu_ms, .. } = watch.taken()?;
    Ok(((cpu_ms, (Counting::allocations() - before) as f64), pass))
}

/// The median of each.
fn middle(sample: Vec<(f64, f64)>) -> (f64, f64) {
    let half = |mut one: Vec<f64>| {
        one.sort_by(f64::total_cmp);
        one.get(one.len() / 2).copied().unwrap_or_default()
    };
    let (times, counts) = sample.into_iter().unzip();
    (half(times), half(counts))
}

fn draw_both(folder: &Path, name: &str, title: &str, axis: &str, points: &[Point]) -> Result<()> {
    let lines = |value: fn(&(f64, f64)) -> f64| -> Vec<Line<'_>> {
        let line = |(place, name): (usize, &'static str)| Line {
            name,
            points: points.iter().map(|point| (point.at, value(&point.costs[place]))).collect(),
        };
        PASSES.into_iter().enumerate().map(line).collect()
    };
    for (file, unit, lines) in [
        (format!("{name}.svg"), "CPU time of a pass, ms (median)", lines(|cost| cost.0)),
        // A pass that asks for nothing has its place on an axis of logarithms, too.
        (
            format!("{name}-counts.svg"),
            "requests for memory in a pass, plus one (median)",
            lines(|cost| cost.1 + 1.0),
        ),
    ] {
        let path = folder.join(file);
        let title = format!("A pass {title}");
        draw::draw(&path, &Figure { title: &title, axis, unit, lines: &lines })?;
        println!("drawn: {}", path.display());
    }
    Ok(())
}
