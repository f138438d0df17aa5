//! How fast jobs run: trivial jobs per second end to end with real processes, and from submit to exec on an idle
//! cluster.
//!
//! Each job is submitted on its own; arrays are a row of their own. All records are durable. Beside them the machine's
//! limit, measured in the same run: a bare static launcher that starts a `#!/bin/sh` script through a supervisor
//! process, two drivers, no records.
//!
//! Sketch: a job costs two execs and two forks (2 to 3 ms of CPU on two cores) and four records in three journals; what
//! the daemons add should stay below that.

mod bare;
mod container;
mod effect;
mod end_to_end;
mod latency;
mod step;

use std::time::Duration;

use crate::bare::Groups;
use crate::end_to_end::Hold;

use anyhow::Result;
use benches::{Arguments, Machine, Report, Workplace};

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().collect();
    if let [_, word, script] = words.as_slice()
        && word == "--stamp"
    {
        return latency::stamp(script);
    }
    let arguments = Arguments::parse()?;
    let span = if arguments.tiny { Duration::from_millis(200) } else { Duration::from_secs(5) };
    let machine = {
        let place = Workplace::new(1, 1, "")?;
        Machine::measure(place.folder(), span / 5)?
    };
    println!("launch, seed {}: {}", arguments.seed, machine.line());
    let mut report = Report::new("launch", arguments.seed);
    let jobs = if arguments.tiny { 20 } else { 3000 };
    if arguments.wants("single") {
        // Before and after, so that other load on the machine meets both.
        let before = bare::measure(span / 2, None)?;
        let rate = end_to_end::measure(&arguments, &mut report, "single jobs", jobs, None, Hold::Tracked)?;
        let limit = (before + bare::measure(span / 2, None)?) / 2.0;
        report.row("limit (b): bare static launcher, two drivers", limit, "jobs/s");
        report.row("single jobs against limit (b)", 100.0 * rate / limit, "%");
    }
    if arguments.wants("array") {
        let elements = jobs.min(1000);
        end_to_end::measure(
            &arguments,
            &mut report,
            "array elements",
            elements,
            Some(format!("0-{}", elements - 1)),
            Hold::Tracked,
        )?;
    }
    if arguments.wants("cgroups") {
        cgroups(&arguments, &mut report, jobs, span)?;
    }
    if arguments.wants("latency") {
        let count = if arguments.tiny { 5 } else { 300 };
        for hold in [Hold::Tracked, Hold::Nothing, Hold::Limits] {
            latency::measure(&arguments, &mut report, count, hold)?;
            effect::measure(&mut report, count, hold)?;
        }
    }
    if arguments.wants("step") {
        step::measure(&arguments, &mut report)?;
    }
    if arguments.wants("container") {
        container::measure(&arguments, &mut report, if arguments.tiny { 4 } else { 100 }, span)?;
    }
    if arguments.save {
        report.save(&machine)?;
    }
    Ok(())
}

/// The same jobs with limits and without any cgroup, each beside the bare launcher with as much.
fn cgroups(arguments: &Arguments, report: &mut Report, jobs: u32, span: Duration) -> Result<()> {
    let plain = bare::measure(span / 2, None)?;
    let rate = end_to_end::measure(arguments, report, "no cgroup", jobs, None, Hold::Nothing)?;
    report.row("no cgroup against limit (b)", 100.0 * rate / plain, "%");
    let rate = end_to_end::measure(arguments, report, "cgroup limits", jobs, None, Hold::Limits)?;
    match Groups::make()? {
        Some(groups) => {
            let held = bare::measure(span / 2, Some(&groups))?;
            report.row("limit (b) with fresh cgroups of the same controllers", held, "jobs/s");
            report.row("cgroup limits against limit (b) with cgroups", 100.0 * rate / held, "%");
        }
        None => {
            println!("no version 1 cpu, memory and pids below /sys/fs/cgroup: no bare launcher with them")
        }
    }
    Ok(())
}
