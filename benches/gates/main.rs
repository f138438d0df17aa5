//! Gates on counts: how often fixed cells of the planner's benchmark grid ask for memory, how much a waiting job holds,
//! and how many instructions they take. Counts do not depend on the machine's load, so that they can fail a test where times cannot.
//!
//! Owns the comparison with `expected.txt` beside this file, which `cargo xtask bless --gates` renews. Requests for memory
//! are the same in every run: one in a hundred more or less (how lists grow is the library's) fails, in both directions,
//! since the next regression would hide in what is left. Instructions are those of one compiler: a twentieth. Where
//! nothing may be asked for, nothing may. Instructions are counted by valgrind, of the profile that tests are built with:
//! they stand for the algorithm, not for the product.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use benches::Counting;
use scheduler_core::plan::Planner;
use scheduler_core::settings::Settings;
use scheduler_sim::grid::{Fill, Instance, Mix, NOW, Pended};
use scheduler_sim::steady::Steady;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Named by [`instructions`] to its child.
const CELL: &str = "SLUICE_GATE_CELL";
/// Set by `cargo xtask bless --gates`.
const BLESS: &str = "SLUICE_GATE_BLESS";
const CELLS: [(&str, Mix, Fill); 4] = [
    ("realistic, half full", Mix::Realistic, Fill::Half),
    ("realistic, full", Mix::Realistic, Fill::Full),
    ("adverse, half full", Mix::Adverse, Fill::Half),
    ("adverse, full", Mix::Adverse, Fill::Full),
];

fn file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("gates/expected.txt")
}

fn recorded() -> BTreeMap<String, u64> {
    let text = std::fs::read_to_string(file()).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let line = |line: &str| {
        let (name, count) = line.rsplit_once(": ").unwrap_or_else(|| panic!("a line of the gates: {line}"));
        (name.to_owned(), count.parse().unwrap_or_else(|_| panic!("a count of the gates: {line}")))
    };
    lines.map(line).collect()
}

/// Compares counts with those recorded, or records them.
fn check(counts: &[(String, u64)]) {
    let mut known = recorded();
    if std::env::var_os(BLESS).is_some() {
        known.extend(counts.iter().cloned());
        let mut text = String::from("# Counts of benches/gates; renewed by `cargo xtask bless --gates`.\n");
        for (name, count) in known {
            text.push_str(&format!("{name}: {count}\n"));
        }
        std::fs::write(file(), text).unwrap();
        return;
    }
    let mut wrong = Vec::new();
    for (name, count) in counts {
        let Some(expected) = known.get(name) else {
            wrong.push(format!("{name}: {count}, and nothing is recorded"));
            continue;
        };
        let margin = if name.starts_with("instructions") { expected / 20 } else { expected / 100 };
        if *count > expected + margin || *count + margin < *expected {
            wrong.push(format!("{name}: {count}, recorded {expected}"));
        }
    }
    assert!(wrong.is_empty(), "counts left their gates:\n{}", wrong.join("\n"));
}

fn counted<T>(work: impl FnOnce() -> T) -> (u64, T) {
    let before = Counting::allocations();
    let out = work();
    ((Counting::allocations() - before) as u64, out)
}

#[test]
fn allocations() {
    let mut counts = Vec::new();
    for (name, mix, fill) in CELLS {
        let instance = Instance::new(100, 1000, mix);
        let (state, settings) = (instance.state(fill), instance.settings());
        let (cold, _) = counted(|| Planner::new().without_verdicts().pass(&state, &settings, NOW));
        counts.push((format!("allocations of a cold pass, {name}"), cold));
    }
    for (name, mix, fill) in CELLS.into_iter().filter(|(_, mix, _)| *mix == Mix::Realistic) {
        let instance = Instance::new(100, 300, mix);
        steady(&mut counts, name, Steady::new(&instance, fill));
        // As the daemon plans.
        steady(&mut counts, &format!("with verdicts, {name}"), Steady::with_verdicts(&instance, fill));
    }
    check(&counts);
}

/// What a pass of the steady state looks at grows with what changed, not with what exists: with ten times the nodes and
/// ten times the jobs no more jobs are tested and no more memory is asked for, but for a margin.
#[test]
fn work_grows_with_what_changed() {
    let events = 60;
    let work = |nodes: u64| {
        let instance = Instance::new(nodes, nodes * 10, Mix::Realistic);
        let more = Instance::new(nodes, events, Mix::Realistic);
        let mut steady = Steady::new(&instance, Fill::Full);
        let mut sums = [0_u64; 4];
        for pended in &more.jobs {
            let id = steady.advance().expect("a full machine has jobs that end");
            steady.release(id);
            let (ends, pass) = counted(|| steady.look());
            let tested = u64::from(pass.counts.tested);
            steady.carry_out(pass.plan, pass.wake);
            steady.arrive(&Pended { priority: 0, ..*pended });
            let (arrivals, pass) = counted(|| steady.look());
            let sum = [tested, ends, u64::from(pass.counts.tested), arrivals];
            steady.carry_out(pass.plan, pass.wake);
            sums.iter_mut().zip(sum).for_each(|(sum, one)| *sum += one);
        }
        sums
    };
    let (small, large) = (work(100), work(1000));
    println!(
        "tested and asked for after {events} ends, after {events} arrivals: {small:?}, tenfold {large:?}"
    );
    for (small, large) in small.into_iter().zip(large) {
        assert!(large <= 3 * small + events, "{small} of something for 100 nodes, {large} for 1,000");
    }
}

/// After some events that let lists grow, a pass that starts nothing asks for no memory at all.
fn steady(counts: &mut Vec<(String, u64)>, name: &str, mut steady: Steady) {
    const WARM: usize = 120;
    const COUNTED: usize = 60;
    let (mut idle, mut idle_passes, mut busy, mut started) = (0, 0, 0, 0);
    for event in 0..WARM + COUNTED {
        let Some(id) = steady.advance() else { break };
        steady.release(id);
        let (count, pass) = counted(|| steady.look());
        let starts = pass.counts.started;
        let changes = pass.plan.promises.as_ref().map_or(0, |promised| promised.changes.len());
        steady.carry_out(pass.plan, pass.wake);
        if event < WARM {
            continue;
        }
        if starts == 0 && changes == 0 {
            idle += count;
            idle_passes += 1;
        } else {
            busy += count;
            started += u64::from(starts);
        }
    }
    assert!(idle_passes > 5 && started > 5, "{name}: {idle_passes} idle passes, {started} starts");
    counts.push((format!("allocations of completion passes that start nothing, {name}"), idle));
    counts.push((format!("allocations of completion passes for each start, {name}"), busy / started));
    let more = Instance::new(100, 320, Mix::Realistic);
    let mut tail = 0;
    for pended in &more.jobs[300..] {
        steady.arrive(&Pended { priority: 0, ..*pended });
        let (count, pass) = counted(|| steady.look());
        tail += count;
        steady.carry_out(pass.plan, pass.wake);
    }
    counts.push((format!("allocations of twenty passes after arrivals at the tail, {name}"), tail));
}

#[test]
fn instructions() {
    let found = Command::new("valgrind").arg("--version").output().is_ok_and(|out| out.status.success());
    if !found {
        assert!(std::env::var_os("SLUICE_TEST_ALL").is_none(), "valgrind is not installed");
        println!("valgrind is not installed: no instruction was counted");
        return;
    }
    let mut counts = Vec::new();
    // One cell: valgrind is slow.
    for (name, ..) in CELLS.into_iter().take(1) {
        let out = Command::new("valgrind")
            .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
            .arg("--toggle-collect=scheduler_core::plan::Planner::pass*")
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "cell", "--test-threads=1"])
            .env(CELL, name)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.success(), "{name}: {said}");
        let line = said.lines().find_map(|line| line.split_once("Collected :")).expect("callgrind's sum");
        let count: u64 = line.1.trim().parse().expect("a number of instructions");
        assert!(count > 100_000, "{name}: the pass was found: {count}");
        counts.push((format!("instructions of a cold pass, {name}"), count));
    }
    check(&counts);
}

/// The child of [`instructions`]; alone it has nothing to do.
#[test]
fn cell() {
    let Ok(wanted) = std::env::var(CELL) else { return };
    let (_, mix, fill) = CELLS.into_iter().find(|(name, ..)| *name == wanted).unwrap();
    let instance = Instance::new(100, 1000, mix);
    let (state, settings) = (instance.state(fill), instance.settings());
    let pass = Planner::new().without_verdicts().pass(&state, &settings, NOW);
    assert!(pass.counts.protected > 0, "{:?}", pass.counts);
}

/// What a waiting job costs that asks for what no other does: bytes and blocks in the state and in the planner.
/// docs/PERFORMANCE.md says what they are made of.
#[test]
fn memory_of_a_distinct_job() {
    let instance = Instance::new(100, 5000, Mix::Adverse);
    let without = Instance { jobs: Vec::new(), ..instance.clone() };
    let live = |instance: &Instance| {
        // Of a hundred jobs one has a promise, as of 100,000 by default.
        let settings = Settings { backfill_depth: 50, ..instance.settings() };
        let before = Counting::held();
        let state = instance.state(Fill::Full);
        let with_state = Counting::held();
        let mut planner = Planner::following().without_verdicts();
        drop(planner.pass(&state, &settings, NOW));
        let with_planner = Counting::held();
        [0, 1].map(|of| [with_state[of] - before[of], with_planner[of] - with_state[of]])
    };
    let (all, none) = (live(&instance), live(&without));
    let mut counts = Vec::new();
    for (of, what) in ["bytes", "blocks"].into_iter().enumerate() {
        for (place, holder) in ["the state", "the planner"].into_iter().enumerate() {
            let each = (all[of][place] - none[of][place]).cast_unsigned() / instance.jobs.len();
            counts.push((format!("{what} of {holder} for a distinct waiting job"), each as u64));
        }
    }
    let bytes: u64 = counts.iter().filter(|(name, _)| name.starts_with("bytes")).map(|(_, each)| each).sum();
    assert!(bytes <= 2048, "the aim is 2 KiB for a job: {counts:?}");
    check(&counts);
}
