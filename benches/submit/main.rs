//! How fast jobs are taken in, each acknowledged on its own after its sync; memory and restart with a long queue.
//!
//! Scripts of 1 KiB, environments of 40 variables and 3 KiB, all distinct. Each rate has a scheduler and a state of its
//! own; nodes are configured and none is up, so every job waits. Beside them the machine's limit, measured in the same
//! run: a bare tonic stream into a log with one committer, the same messages, the same clients.
//!
//! Sketch: a message is 4.4 KB; at 20,000/s that is 88 MB/s decoded, written and synced in groups, on two cores shared
//! with the clients.

mod bare;
mod beside;
mod clients;
mod order;
mod queue;

use std::time::Duration;

use anyhow::Result;
use benches::{Arguments, Machine, Report, Workplace};

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().collect();
    if let [_, word, socket, log] = words.as_slice()
        && word == "bare-server"
    {
        return bare::serve(socket, log);
    }
    let arguments = Arguments::parse()?;
    let span = if arguments.tiny { Duration::from_millis(200) } else { Duration::from_secs(5) };
    let machine = {
        let place = Workplace::new(1, 1, "")?;
        Machine::measure(place.folder(), span / 5)?
    };
    println!("submit, seed {}: {}", arguments.seed, machine.line());
    let mut report = Report::new("submit", arguments.seed);
    for (count, pipelined) in [(1, false), (8, false), (64, false), (1, true), (8, true), (64, true)] {
        let how = if pipelined { "stream" } else { "unary" };
        if !arguments.wants(how) {
            continue;
        }
        if (count, pipelined) == (64, true) {
            // Before and after, so that other load on the machine meets both.
            let before = bare::measure(&arguments, span / 2)?;
            let rate = rate(&arguments, &mut report, count, pipelined, span)?;
            let limit = (before + bare::measure(&arguments, span / 2)?) / 2.0;
            report.row("limit (a): bare tonic stream into a log, 64 clients", limit, "submits/s");
            report.row("64 stream clients against limit (a)", 100.0 * rate / limit, "%");
        } else {
            rate(&arguments, &mut report, count, pipelined, span)?;
        }
    }
    // Only where it is asked for by name: it needs strace, and what it shows is no figure.
    if arguments.only.as_deref() == Some("strace") {
        return order::check(&arguments, &mut report);
    }
    if arguments.wants("queue") {
        let jobs = if arguments.tiny { 500 } else { 100_000 };
        queue::measure(&arguments, &mut report, jobs)?;
    }
    if arguments.wants("beside") {
        let jobs = if arguments.tiny { 300 } else { 100_000 };
        beside::measure(&arguments, &mut report, jobs)?;
    }
    if arguments.save {
        report.save(&machine)?;
    }
    Ok(())
}

fn rate(
    arguments: &Arguments,
    report: &mut Report,
    count: u64,
    pipelined: bool,
    span: Duration,
) -> Result<f64> {
    let place = Workplace::new(4, 64, "")?;
    let mut scheduler = place.scheduler()?;
    place.wait_socket(&mut scheduler)?;
    let (before, _) = scheduler.cpu()?;
    let load = clients::Load { seed: arguments.seed, clients: count, pipelined, span };
    let done = clients::run(&place.socket(), &load)?;
    let (after, _) = scheduler.cpu()?;
    let what = format!(
        "{count} {} client{}",
        if pipelined { "stream" } else { "unary" },
        if count == 1 { "" } else { "s" }
    );
    report.row(&format!("{what}, submits"), done.per_second(), "submits/s");
    report.spread(&format!("{what}, time to acknowledgement"), done.spread());
    let per_job = (after - before).as_secs_f64() * 1e6 / done.jobs() as f64;
    report.row(&format!("{what}, CPU of the scheduler per job"), per_job, "us");
    Ok(done.per_second())
}
