//! The life of one run on this node, as a pure table.
//!
//! ```text
//!  (absent) ─Launch─► Intended ─durable─► Starting ─spawned─► Running ─gone─► Ending ─durable─► Ended ─Acknowledge─► (absent)
//!     │                   │                   │ failed                          ▲                 │
//!     │ Stop              └───── Stop ────────┴─────────────────────────────────┘                 └ Launch: reported again
//!     └─► Tombstone ─Forget─► (absent)
//! ```
//!
//! Messages may come late, twice, reordered, or from a session that is over; each names its run. What has
//! to be on disk first is an action [`Action::Log`]; what follows from it is the event that comes back
//! when it is durable. Commands for a supervisor that is not up yet wait in the state.

use executor_supervisor::frame::Frame;
use executor_supervisor::outcome::{Exit, Kind, Outcome};

use crate::record::Mark;

/// Commands that wait for a supervisor to come up; more are dropped (the scheduler derives them anew).
const WAITING_MAX: usize = 16;

/// Where a run is in its life. `None` outside: it is not known here.
#[derive(Clone, Debug, PartialEq)]
pub enum State {
    /// Its start is being made durable. A stop that comes now ends it unbegun.
    Intended {
        /// It was stopped already.
        stopped: bool,
        /// For when it is up.
        waiting: Vec<Frame>,
    },
    /// Its supervisor is being started.
    Starting {
        /// For when it is up.
        waiting: Vec<Frame>,
    },
    /// It was handed to a supervisor.
    Running {
        /// When it was started, ms since 1970.
        begun_ms: i64,
        /// Its mark was seen: it has begun, whatever is killed from here on. Until then it may be found never to have
        /// begun, which the scheduler must not have been told.
        marked: bool,
    },
    /// Its outcome is being made durable.
    Ending(Outcome),
    /// Its outcome is durable and is reported until it is acknowledged.
    Ended(Outcome),
    /// It was stopped before it was ever seen.
    Tombstone {
        /// On disk.
        durable: bool,
    },
}

/// What happens to a run.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The scheduler wants it started.
    Launch,
    /// The intent is on disk.
    IntentDurable,
    /// It was handed to a supervisor.
    Started {
        /// When, ms since 1970.
        begun_ms: i64,
    },
    /// Its mark is there.
    Marked,
    /// It could not be started, or its supervisor is gone: this is what is known of it.
    Gone(Outcome),
    /// The outcome is on disk.
    OutcomeDurable,
    /// The tombstone is on disk.
    TombstoneDurable,
    /// The scheduler wants it ended (`Frame::Terminate`).
    Stop(Frame),
    /// Any other command for its supervisor.
    Command(Frame),
    /// The scheduler has the outcome on disk.
    Acknowledge,
    /// The tombstone is not needed any more.
    Forget,
}

/// What the shell must do.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Make it durable, then let the event come back.
    Log(Mark, Option<Event>),
    /// Make the run's folder and start its supervisor.
    Start,
    /// Tell the scheduler where the run is.
    Report,
    /// Look for its mark in a while, then report it: a short run tells its end instead.
    ReportSoon,
    /// Hand the frame to the supervisor.
    Send(Frame),
    /// Remove the run's folder.
    Collect,
}

/// How a run that was stopped before its begin ended.
#[must_use]
pub fn never_begun(kind: Kind, detail: &str, now_ms: i64) -> Outcome {
    Outcome {
        kind,
        exit: Exit::default(),
        begun_ms: now_ms,
        ended_ms: now_ms,
        user_us: 0,
        system_us: 0,
        max_rss_bytes: 0,
        stop_requested: kind == Kind::Cancelled,
        tasks: Vec::new(),
        detail: detail.to_owned(),
        account: Box::default(),
    }
}

/// The next state and what to do. `now_ms` only fills in outcomes of runs that never began.
#[must_use]
pub fn next(state: Option<State>, event: Event, now_ms: i64) -> (Option<State>, Vec<Action>) {
    match state {
        None => absent(event),
        Some(State::Intended { stopped, waiting }) => intended(stopped, waiting, event, now_ms),
        Some(State::Starting { waiting }) => starting(waiting, event),
        Some(State::Running { begun_ms, marked }) => running(begun_ms, marked, event),
        Some(State::Ending(outcome)) => ending(outcome, event),
        Some(State::Ended(outcome)) => ended(outcome, event),
        Some(State::Tombstone { durable }) => tombstone(durable, event),
    }
}

fn absent(event: Event) -> (Option<State>, Vec<Action>) {
    match event {
        Event::Launch => (
            Some(State::Intended { stopped: false, waiting: Vec::new() }),
            vec![Action::Log(Mark::Intent, Some(Event::IntentDurable))],
        ),
        Event::Stop(_) => (
            Some(State::Tombstone { durable: false }),
            vec![Action::Log(Mark::Tombstone, Some(Event::TombstoneDurable))],
        ),
        // A command for a run that is over, or an answer that comes twice.
        Event::Command(_) | Event::Acknowledge | Event::Forget => (None, Vec::new()),
        Event::IntentDurable
        | Event::Started { .. }
        | Event::Marked
        | Event::Gone(_)
        | Event::OutcomeDurable
        | Event::TombstoneDurable => (None, Vec::new()),
    }
}

fn end(outcome: Outcome) -> (Option<State>, Vec<Action>) {
    let log = Action::Log(Mark::Ended(outcome.clone()), Some(Event::OutcomeDurable));
    (Some(State::Ending(outcome)), vec![log])
}

fn keep(waiting: &mut Vec<Frame>, frame: Frame) {
    if waiting.len() < WAITING_MAX {
        waiting.push(frame);
    }
}

fn intended(
    stopped: bool,
    mut waiting: Vec<Frame>,
    event: Event,
    now_ms: i64,
) -> (Option<State>, Vec<Action>) {
    match event {
        Event::IntentDurable if stopped => end(never_begun(Kind::Cancelled, "", now_ms)),
        Event::IntentDurable => (Some(State::Starting { waiting }), vec![Action::Start]),
        Event::Stop(_) => (Some(State::Intended { stopped: true, waiting }), Vec::new()),
        Event::Command(frame) => {
            keep(&mut waiting, frame);
            (Some(State::Intended { stopped, waiting }), Vec::new())
        }
        Event::Gone(outcome) => end(outcome),
        Event::Launch => (Some(State::Intended { stopped, waiting }), vec![Action::Report]),
        Event::Started { .. }
        | Event::Marked
        | Event::OutcomeDurable
        | Event::TombstoneDurable
        | Event::Acknowledge
        | Event::Forget => (Some(State::Intended { stopped, waiting }), Vec::new()),
    }
}

fn starting(mut waiting: Vec<Frame>, event: Event) -> (Option<State>, Vec<Action>) {
    match event {
        Event::Started { begun_ms } => {
            let sends = waiting.into_iter().map(Action::Send);
            let actions = std::iter::once(Action::ReportSoon).chain(sends).collect();
            (Some(State::Running { begun_ms, marked: false }), actions)
        }
        Event::Gone(outcome) => end(outcome),
        Event::Stop(frame) | Event::Command(frame) => {
            keep(&mut waiting, frame);
            (Some(State::Starting { waiting }), Vec::new())
        }
        Event::Launch => (Some(State::Starting { waiting }), vec![Action::Report]),
        Event::IntentDurable
        | Event::Marked
        | Event::OutcomeDurable
        | Event::TombstoneDurable
        | Event::Acknowledge
        | Event::Forget => (Some(State::Starting { waiting }), Vec::new()),
    }
}

fn running(begun_ms: i64, marked: bool, event: Event) -> (Option<State>, Vec<Action>) {
    let same = Some(State::Running { begun_ms, marked });
    match event {
        Event::Marked => (Some(State::Running { begun_ms, marked: true }), vec![Action::Report]),
        Event::Gone(outcome) => end(outcome),
        Event::Stop(frame) | Event::Command(frame) => (same, vec![Action::Send(frame)]),
        Event::Launch => (same, vec![Action::Report]),
        Event::Started { .. }
        | Event::IntentDurable
        | Event::OutcomeDurable
        | Event::TombstoneDurable
        | Event::Acknowledge
        | Event::Forget => (same, Vec::new()),
    }
}

fn ending(outcome: Outcome, event: Event) -> (Option<State>, Vec<Action>) {
    match event {
        Event::OutcomeDurable => (Some(State::Ended(outcome)), vec![Action::Report]),
        // The scheduler decided the end on other evidence; what was observed is still made durable first.
        Event::Acknowledge
        | Event::Launch
        | Event::IntentDurable
        | Event::Started { .. }
        | Event::Marked
        | Event::Gone(_)
        | Event::TombstoneDurable
        | Event::Stop(_)
        | Event::Command(_)
        | Event::Forget => (Some(State::Ending(outcome)), Vec::new()),
    }
}

fn ended(outcome: Outcome, event: Event) -> (Option<State>, Vec<Action>) {
    match event {
        Event::Acknowledge | Event::Forget => (None, vec![Action::Log(Mark::Gone, None), Action::Collect]),
        Event::Launch | Event::Stop(_) | Event::Command(_) => {
            (Some(State::Ended(outcome)), vec![Action::Report])
        }
        Event::IntentDurable
        | Event::Started { .. }
        | Event::Marked
        | Event::Gone(_)
        | Event::OutcomeDurable
        | Event::TombstoneDurable => (Some(State::Ended(outcome)), Vec::new()),
    }
}

fn tombstone(durable: bool, event: Event) -> (Option<State>, Vec<Action>) {
    let report = || if durable { vec![Action::Report] } else { Vec::new() };
    match event {
        Event::TombstoneDurable => (Some(State::Tombstone { durable: true }), vec![Action::Report]),
        Event::Forget | Event::Acknowledge => (None, vec![Action::Log(Mark::Gone, None)]),
        Event::Launch | Event::Stop(_) => (Some(State::Tombstone { durable }), report()),
        Event::IntentDurable
        | Event::Started { .. }
        | Event::Marked
        | Event::Gone(_)
        | Event::OutcomeDurable
        | Event::Command(_) => (Some(State::Tombstone { durable }), Vec::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::{Action, Event, State, never_begun, next};
    use crate::record::Mark;
    use executor_supervisor::frame::{Cause, Frame};
    use executor_supervisor::outcome::{Kind, Outcome};

    fn outcome() -> Outcome {
        never_begun(Kind::Exited, "", 5)
    }

    fn stop() -> Event {
        Event::Stop(Frame::Terminate { cause: Cause::Cancel, kill_wait_ms: 1, note: String::new() })
    }

    /// Feeds events, gives the last state and all actions.
    fn after(events: Vec<Event>) -> (Option<State>, Vec<Action>) {
        events.into_iter().fold((None, Vec::new()), |(state, mut all), event| {
            let (state, actions) = next(state, event, 7);
            all.extend(actions);
            (state, all)
        })
    }

    #[test]
    fn a_whole_life() {
        let (state, actions) = after(vec![
            Event::Launch,
            Event::IntentDurable,
            Event::Started { begun_ms: 3 },
            Event::Gone(outcome()),
            Event::OutcomeDurable,
            Event::Acknowledge,
        ]);
        assert_eq!(state, None);
        assert_eq!(
            actions,
            vec![
                Action::Log(Mark::Intent, Some(Event::IntentDurable)),
                Action::Start,
                Action::ReportSoon,
                Action::Log(Mark::Ended(outcome()), Some(Event::OutcomeDurable)),
                Action::Report,
                Action::Log(Mark::Gone, None),
                Action::Collect,
            ]
        );
    }

    #[test]
    fn a_second_launch_never_starts_again() {
        let life = [
            Event::Launch,
            Event::IntentDurable,
            Event::Started { begun_ms: 3 },
            Event::Gone(outcome()),
            Event::OutcomeDurable,
        ];
        for at in 0..life.len() {
            let mut events = life.to_vec();
            events.insert(at + 1, Event::Launch);
            let starts = after(events).1.into_iter().filter(|action| *action == Action::Start).count();
            assert_eq!(starts, 1, "repeated after {at}");
        }
        let (state, actions) = after(vec![stop(), Event::TombstoneDurable, Event::Launch]);
        assert_eq!(state, Some(State::Tombstone { durable: true }));
        assert!(!actions.contains(&Action::Start));
    }

    #[test]
    fn a_stop_before_the_spawn_means_no_spawn() {
        let (state, actions) =
            after(vec![Event::Launch, stop(), Event::IntentDurable, Event::OutcomeDurable]);
        assert!(matches!(state, Some(State::Ended(outcome)) if outcome.kind == Kind::Cancelled));
        assert!(!actions.contains(&Action::Start));
    }

    #[test]
    fn a_stop_during_the_spawn_follows_it() {
        let (_, actions) =
            after(vec![Event::Launch, Event::IntentDurable, stop(), Event::Started { begun_ms: 1 }]);
        assert!(matches!(actions.last(), Some(Action::Send(Frame::Terminate { .. }))));
    }

    #[test]
    fn an_acknowledgement_before_the_outcome_is_durable_collects_nothing() {
        let (state, actions) = after(vec![
            Event::Launch,
            Event::IntentDurable,
            Event::Started { begun_ms: 1 },
            Event::Gone(outcome()),
            Event::Acknowledge,
        ]);
        assert_eq!(state, Some(State::Ending(outcome())));
        assert!(!actions.contains(&Action::Collect));
    }
}
