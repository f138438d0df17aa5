//! Jobs one by one through the machine: admission, arrays, the passing of time, memory.

use std::sync::Arc;

use anyhow::{Result, ensure};
use benches::admission::{machine, submit};
use benches::{Counting, Report, Stopwatch, Taken};
use model::array::ArraySpec;
use model::request::JobRequest;
use model::time::{Span, Timestamp};
use scheduler_core::effect::{Answer, Effect};
use scheduler_core::input::Input;
use scheduler_core::machine::{Machine, Outbox};
use scheduler_core::plan::Planner;
use scheduler_core::settings::Settings;
use scheduler_sim::grid::{Fill, Instance, Mix, NOW, pending_job};

/// Requests never seen before, with the check whether they can ever run; then an hour passes over all of them.
pub(crate) fn admission(report: &mut Report, nodes: u64) -> Result<()> {
    let instance = Instance::new(nodes, nodes * 10, Mix::Adverse);
    let (mut machine, settings) = machine(&instance);
    let mut planner = Planner::following().without_verdicts();
    let mut out = Outbox::default();
    let mut times = Vec::with_capacity(instance.jobs.len());
    for (place, pended) in (1..).zip(&instance.jobs) {
        let input = submit(u64::from(place), Arc::clone(&pending_job(place, pended).request));
        out.records.clear();
        out.effects.clear();
        let watch = Stopwatch::begin()?;
        machine.handle(NOW, input, &mut out);
        times.push(watch.taken()?);
        let accepted = |effect: &Effect| matches!(effect, Effect::Answer(_, Answer::Submitted { .. }));
        ensure!(out.effects.iter().any(accepted), "job {place} is accepted: {:?}", out.effects);
    }
    let [half, most] = Taken::percentiles(times, [50, 99]);
    report.row("admission of a distinct request, median", half.wall_ms * 1e3, "us");
    report.row("admission of a distinct request, p99", most.wall_ms * 1e3, "us");

    planner.pass(machine.state(), &settings, NOW);
    let end = NOW.saturating_add(Span::from_mins(60));
    let (mut spent, mut deadlines) = (Taken::default(), 0);
    while let Some(at) = machine.next_deadline().filter(|at| *at <= end) {
        deadlines += 1;
        out = Outbox::default();
        let watch = Stopwatch::begin()?;
        pass_at(&mut machine, &mut planner, &settings, at.max(NOW), &mut out);
        spent = spent.plus(watch.taken()?);
    }
    let watch = Stopwatch::begin()?;
    pass_at(&mut machine, &mut planner, &settings, end, &mut out);
    spent = spent.plus(watch.taken()?);
    println!("    {deadlines} deadlines in the hour");
    report.row(&format!("an hour passes over {} pending jobs", instance.jobs.len()), spent.wall_ms, "ms");
    Ok(())
}

fn pass_at(
    machine: &mut Machine,
    planner: &mut Planner,
    settings: &Settings,
    at: Timestamp,
    out: &mut Outbox,
) {
    machine.handle(at, Input::Deadline, out);
    out.records.drain(..).for_each(|record| planner.observe(&record));
    planner.pass(machine.state(), settings, at);
}

/// One array of a million elements, and one of a thousand ranges.
pub(crate) fn arrays(report: &mut Report) -> Result<()> {
    let instance = Instance::new(100, 1, Mix::Realistic);
    let sparse: Vec<String> = (0..1000).map(|part| format!("{}-{}", part * 10, part * 10 + 4)).collect();
    for (what, text) in [("1,000,000 elements", "0-999999".to_owned()), ("1,000 ranges", sparse.join(","))] {
        let (mut machine, _) = machine(&instance);
        let mut out = Outbox::default();
        let request = JobRequest {
            array: Some(ArraySpec::parse(&text, 10_000_000).map_err(|error| anyhow::anyhow!("{error:?}"))?),
            ..(*pending_job(1, &instance.jobs[0]).request).clone()
        };
        let input = submit(1, Arc::new(request));
        let before = live_bytes();
        let watch = Stopwatch::begin()?;
        machine.handle(NOW, input, &mut out);
        let taken = watch.taken()?;
        out.records.clear();
        out.effects.clear();
        ensure!(machine.state().jobs.len() == 1, "the array is accepted");
        report.row(&format!("an array of {what}: submit"), taken.wall_ms, "ms");
        let bytes = live_bytes().saturating_sub(before);
        report.row(&format!("an array of {what}: memory"), bytes as f64 / 1024.0, "KiB");
    }
    Ok(())
}

/// Bytes that this thread, which does all the work here, asked for and did not give back.
fn live_bytes() -> usize {
    Counting::held()[0].max(0).cast_unsigned()
}

/// Live bytes of the state for each pending job, and of the planner beside it.
pub(crate) fn memory(report: &mut Report, nodes: u64) -> Result<()> {
    let instance = Instance::new(nodes, nodes * 10, Mix::Adverse);
    let settings = instance.settings();
    let without = Instance { jobs: Vec::new(), ..instance.clone() };
    let live = |instance: &Instance| {
        let before = live_bytes();
        let state = instance.state(Fill::Full);
        let state_bytes = live_bytes() - before;
        let mut planner = Planner::following().without_verdicts();
        drop(planner.pass(&state, &settings, NOW));
        (state_bytes, live_bytes() - before - state_bytes)
    };
    let (all, none) = (live(&instance), live(&without));
    let each = |all: usize, none: usize| (all - none) as f64 / instance.jobs.len() as f64;
    report.row("memory of the state per distinct pending job", each(all.0, none.0), "bytes");
    report.row("memory of the planner per distinct pending job", each(all.1, none.1), "bytes");
    Ok(())
}
