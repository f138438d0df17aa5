//! The planner's speed on the benchmark grid, and what else of the core and the simulator has a figure to reach.
//!
//! Every figure is of one thread; times are given twice, as the clock on the wall and as the thread's CPU time, which
//! other load on the machine disturbs less. The instances are checked by their hashes, and a pass that is repeated
//! must propose the same each time. Parts (`--only`): cold, conservative, steady, admission, memory, ctc, generated,
//! reference. Nothing here is asserted about time. `--cell 3000/realistic/half` measures one instance, of any size and
//! with ten pending jobs a node: of those that are not of the definition no hash is known.
//!
//! Sketch: a cold pass over 100,000 jobs reads each job once (three cache misses, 30 ms), gives 1,000 jobs a start on
//! some of 10,000 nodes (10 µs each with three numbers a node), and places what starts now.

mod cold;
mod jobs;
mod steady;
mod traces;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use benches::{Arguments, Counting, Machine, Report};
use scheduler_sim::grid::{Fill, Instance, Mix};
use sha2::{Digest, Sha256};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Hashes of the instances, as their definition gives them.
const KNOWN: [(u64, Mix, &str); 6] = [
    (100, Mix::Realistic, "56f631c5fa28b489fed14231d10d60e2a136dc2345a9bbd3b9fd066b66ffb91f"),
    (100, Mix::Adverse, "65c7a0e64e87e3b47980fd6c8585551ba6242b782fdb9293f93a5d253811bd95"),
    (1000, Mix::Realistic, "76b5dfabdbd40060d266e74876ee6b6586212d0ae3cc22f84d85fe0b500e4db1"),
    (1000, Mix::Adverse, "15dee01d1376826a6dcffeac8fc46134530c2e29bbaaa27fad9d6b0d703d7ede"),
    (10_000, Mix::Realistic, "58ddb41e05a4c08dcba2ae87a9e876489a7f68d9ca6b0c27da4119d6297d3e0d"),
    (10_000, Mix::Adverse, "f61568568c9d18d2a61af87a9c29b01e1cee2f76f5db16c74b4c7b6e7ec820d0"),
];

/// Nodes and mix; ten pending jobs for each node.
#[derive(Clone, Copy)]
struct Cell {
    nodes: u64,
    mix: Mix,
    /// `None`: all three.
    fill: Option<Fill>,
}

impl Cell {
    fn parse(text: &str) -> Result<Self> {
        let mut words = text.split('/');
        let nodes = words.next().unwrap_or_default().parse();
        let nodes = nodes.with_context(|| format!("--cell {text}: a number of nodes"))?;
        ensure!((10..=100_000).contains(&nodes), "--cell {text}: from 10 to 100000 nodes");
        let mix = match words.next() {
            Some("realistic") => Mix::Realistic,
            Some("adverse") => Mix::Adverse,
            _ => bail!("--cell {text}: realistic or adverse"),
        };
        let fill = match words.next() {
            None => None,
            Some("empty") => Some(Fill::Empty),
            Some("half") => Some(Fill::Half),
            Some("full") => Some(Fill::Full),
            Some(_) => bail!("--cell {text}: empty, half or full"),
        };
        ensure!(words.next().is_none(), "--cell {text}: NODES/MIX or NODES/MIX/FILL");
        Ok(Self { nodes, mix, fill })
    }

    /// Whether a fill is measured.
    fn has(self, fill: Fill) -> bool {
        self.fill.is_none_or(|only| only == fill)
    }

    fn name(self) -> String {
        let mix = match self.mix {
            Mix::Realistic => "realistic",
            Mix::Adverse => "adverse",
        };
        format!("{mix} {} x {}", self.nodes, self.nodes * 10)
    }

    fn instance(self) -> Result<Instance> {
        let instance = Instance::new(self.nodes, self.nodes * 10, self.mix);
        let known = KNOWN.into_iter().find(|(nodes, mix, _)| (*nodes, *mix) == (self.nodes, self.mix));
        let Some((.., expected)) = known else { return Ok(instance) };
        let hash: String =
            Sha256::digest(instance.lines()).iter().map(|byte| format!("{byte:02x}")).collect();
        ensure!(hash == expected, "{}: the generator's lines are not the definition's", self.name());
        Ok(instance)
    }
}

fn main() -> Result<()> {
    let arguments = Arguments::parse_with_cell()?;
    let exe = std::env::current_exe().context("find this program")?;
    let folder: PathBuf = exe.parent().context("this program's folder")?.to_owned();
    let span = Duration::from_millis(if arguments.tiny { 20 } else { 500 });
    let machine = Machine::measure(&folder, span)?;
    println!("grid, seed {}: {}", arguments.seed, machine.line());
    let mut report = Report::new("grid", arguments.seed);
    let cells: Vec<Cell> = match &arguments.cell {
        Some(text) => vec![Cell::parse(text)?],
        None => {
            let sizes: &[u64] = if arguments.tiny { &[100] } else { &[1000, 10_000] };
            let both = |&nodes| [Mix::Realistic, Mix::Adverse].map(|mix| Cell { nodes, mix, fill: None });
            sizes.iter().flat_map(both).collect()
        }
    };
    for cell in cells {
        let nodes = cell.nodes;
        if arguments.wants("cold") {
            cold::measure(&mut report, cell, Some(1000), if arguments.tiny { 2 } else { 5 })?;
        }
        if arguments.wants("conservative") {
            // The large cells take many seconds.
            let once = arguments.tiny || nodes > 1000;
            cold::measure(&mut report, cell, None, if once { 1 } else { 3 })?;
        }
        if arguments.wants("steady") {
            steady::measure(&mut report, cell, if arguments.tiny { 20 } else { 1000 })?;
        }
    }
    if arguments.cell.is_none() {
        beside(&arguments, &mut report)?;
    }
    if arguments.save {
        report.save(&machine)?;
    }
    Ok(())
}

/// What is measured beside the cells.
fn beside(arguments: &Arguments, report: &mut Report) -> Result<()> {
    let nodes = if arguments.tiny { 100 } else { 10_000 };
    if arguments.wants("admission") {
        jobs::admission(report, nodes)?;
        jobs::arrays(report)?;
    }
    if arguments.wants("memory") {
        jobs::memory(report, nodes)?;
    }
    traces::measure(arguments, report)
}
