//! `sluice top`: nodes, slices of GPUs, the queue with planned starts, own jobs first; keys to hold, release, cancel and explain.
//!
//! Owns the terminal while it runs and gives it back however it ends. What is shown is a [`screen::Screen`], which
//! keys and answers change and `draw` paints; only this file reads keys and asks the scheduler.

mod draw;
mod screen;

use std::io::IsTerminal;
use std::time::Duration;

use proto::v1::control_request::Act;
use proto::v1::{CancelJobs, HoldJobs, JobSelector, ReleaseJobs};
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyEventKind};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

use self::screen::{Screen, Wish};
use super::{Call, block_on, why};
use crate::api::{Client, Error};
use crate::getopt::Takes::{Nothing, Value};
use crate::getopt::{self, Spec};
use crate::{local, say};

#[derive(Clone, Copy, PartialEq, Eq)]
enum O {
    Delay,
    Help,
    Me,
}

const OPTIONS: &[Spec<O>] = &[
    Spec::new(O::Delay, b'd', "delay", Value),
    Spec::new(O::Help, b'h', "help", Nothing),
    Spec::long(O::Me, "me", Nothing),
];

const HELP: &str = "\
Usage: sluice top [-d SECONDS] [--me]

Nodes, GPUs with their slices as bars, and the queue with planned starts, own jobs first; asked anew every 2 seconds.

  -d, --delay=SECONDS   time between two questions
      --me              only own jobs

Keys: up and down choose a job; e explains it (sluice why); h holds it, r releases it, c cancels it
after a question; u shows only own jobs or all; q or Ctrl-C ends.
";

/// How its options are written.
pub(super) fn shapes() -> Vec<getopt::Shape> {
    getopt::shapes(OPTIONS, |_| true)
}

/// Runs the verb: 0, 1 where nobody answers at the start or there is no terminal, 2 for words that make no sense.
pub(crate) fn run(call: &Call) -> u8 {
    let Ok(words) = call.split(OPTIONS) else { return 2 };
    let mut screen = Screen::new(nix::unistd::getuid().as_raw());
    let mut delay = Duration::from_secs(2);
    for given in &words.options {
        match given.id {
            O::Help => {
                say::out(HELP);
                return 0;
            }
            O::Me => screen.only_own = true,
            O::Delay => match given.text().parse::<f64>() {
                Ok(seconds) if (0.1..=3600.0).contains(&seconds) => delay = Duration::from_secs_f64(seconds),
                _ => {
                    say::error(
                        &call.program,
                        format!("\"{}\" is no delay of 0.1 to 3600 seconds", given.text()),
                    );
                    return 2;
                }
            },
        }
    }
    if !words.operands.is_empty() {
        say::err(HELP.trim_end());
        return 2;
    }
    if !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal() {
        say::error(&call.program, "top needs a terminal; squeue and sinfo print the same as text");
        return 1;
    }
    match block_on(watch(screen, delay)) {
        Ok(()) => 0,
        Err(error) => {
            say::error(&call.program, say::reason(&error));
            say::explain(&call.program, &error);
            1
        }
    }
}

/// Asks once before the terminal is taken, so that a missing scheduler is told as everywhere.
async fn watch(mut screen: Screen, delay: Duration) -> Result<(), Error> {
    let client = super::connect_to_ask().await?;
    refresh(&client, &mut screen).await?;
    let terminal = ratatui::init();
    let ended = show(terminal, &client, screen, delay).await;
    ratatui::restore();
    ended
}

async fn show(
    mut terminal: DefaultTerminal,
    client: &Client,
    mut screen: Screen,
    delay: Duration,
) -> Result<(), Error> {
    let mut keys = keys();
    let mut ticks = interval(delay);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        // A terminal that cannot be written to is gone, and so is who looks at it.
        if terminal.draw(|frame| draw::paint(frame, &mut screen)).is_err() {
            return Ok(());
        }
        let wish = tokio::select! {
            key = keys.recv() => match key {
                Some(event) => screen.react(&event),
                None => return Ok(()),
            },
            _ = ticks.tick() => Wish::Refresh,
        };
        let outcome = match wish {
            Wish::Nothing => Ok(()),
            Wish::Quit => return Ok(()),
            Wish::Refresh => refresh(client, &mut screen).await,
            Wish::Explain(job) => explain(client, &mut screen, &job).await,
            Wish::Act(act) => carry_out(client, &mut screen, act).await,
        };
        if let Err(error) = outcome {
            screen.note = say::reason(&error);
        }
    }
}

/// Keys and changes of the window's size, read on a thread of its own: reading them blocks.
fn keys() -> mpsc::Receiver<Event> {
    let (sender, receiver) = mpsc::channel(16);
    std::thread::spawn(move || {
        while let Ok(event) = event::read() {
            let counts = match &event {
                Event::Key(key) => key.kind != KeyEventKind::Release,
                Event::Resize(..) => true,
                _ => false,
            };
            if counts && sender.blocking_send(event).is_err() {
                return;
            }
        }
    });
    receiver
}

async fn refresh(client: &Client, screen: &mut Screen) -> Result<(), Error> {
    let nodes = client.list_nodes(Vec::new()).await?;
    let jobs = client.jobs(proto::v1::JobFilter::default(), false).await?;
    screen.take(nodes, jobs, local::now_ms());
    Ok(())
}

async fn explain(client: &Client, screen: &mut Screen, job: &JobSelector) -> Result<(), Error> {
    screen.explained = Some(why::lines(client, job.job_id, job.tasks.parse().ok()).await?);
    Ok(())
}

/// Does what a key asked for, tells what came of it, and asks anew.
async fn carry_out(client: &Client, screen: &mut Screen, act: screen::Act) -> Result<(), Error> {
    let (verb, job, act) = match act {
        screen::Act::Cancel(job) => {
            ("cancelled", job.clone(), Act::Cancel(CancelJobs { jobs: vec![job], ..CancelJobs::default() }))
        }
        screen::Act::Hold(job) => {
            ("held", job.clone(), Act::Hold(HoldJobs { jobs: vec![job], user_hold: false }))
        }
        screen::Act::Release(job) => ("released", job.clone(), Act::Release(ReleaseJobs { jobs: vec![job] })),
    };
    let outcomes = client.control_again(act).await?;
    let refused = outcomes.into_iter().find_map(|outcome| outcome.refused);
    screen.note = match refused {
        Some(refused) => format!("job {}: {}", job.job_id, Error::from(refused)),
        None => format!("job {} {verb}", job.job_id),
    };
    refresh(client, screen).await
}
