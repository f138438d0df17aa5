//! The scheduler's side of the agent: registration, reports, and which commands are obeyed.
//!
//! Nothing is obeyed before the welcome, and nothing of an epoch below the highest that was seen.

use std::time::Duration;

use executor_supervisor::frame::{Cause, Frame, Scope};
use executor_supervisor::outcome::Kind;
use model::config::log::Level;
use proto::v1;
use proto::v1::agent_down::Message as Down;
use proto::v1::agent_up::Message as Up;
use tokio::time::Instant;

use super::{Agent, SOON};
use crate::crash::{self, Point};
use crate::host;
use crate::key::Key;
use crate::launch::start;
use crate::record::Record;
use crate::step::lifecycle::{self, Event, State};
use crate::step::table;

impl Agent {
    pub(super) fn registration(&self) -> v1::Register {
        let mut facts = self.fixed.facts.clone();
        self.fixed.gpus.tell(&mut facts);
        v1::Register {
            node: self.fixed.node.clone(),
            boot_id: self.fixed.boot_id.to_vec().into(),
            spool_id: self.fixed.spool_id.to_vec().into(),
            epoch_seen: self.epoch_seen,
            runs: self.runs.entries(),
            facts: Some(facts),
            run_folder: self.fixed.run_root.display().to_string(),
            uid: self.fixed.uid,
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }

    /// A message for a scheduler that does not take it ends the session: registration says it all again.
    pub(super) fn send(&mut self, message: Up) {
        let Some(session) = &self.session else { return };
        if session.up.try_send(v1::AgentUp { message: Some(message) }).is_err() {
            tracing::warn!("the scheduler does not take reports; registering again");
            self.leave();
        }
    }

    pub(super) fn leave(&mut self) {
        self.fixed.figures.set_connected(false);
        if let Some(close) = self.session.take().and_then(|session| session.close) {
            // It may have ended by itself.
            let _ = close.send(());
        }
    }

    pub(super) fn report(&mut self, key: Key) {
        if let Some(report) = self.runs.report(key) {
            if report.outcome.is_some() {
                crash::point(Point::BeforeReport);
            }
            self.send(Up::Report(report));
        }
    }

    /// Has the run's mark looked for in a while, unless it has been seen.
    pub(super) fn look_soon(&mut self, key: Key) {
        if self.runs.is_unmarked(key) {
            self.soon.push_back((Instant::now() + SOON, key));
        }
    }

    /// Tells the begin of runs that have lasted for a while and are not over; where the mark is not there yet, looks
    /// again later.
    pub(super) fn tell_begun(&mut self) {
        let now = Instant::now();
        while let Some(&(at, key)) = self.soon.front()
            && at <= now
        {
            self.soon.pop_front();
            if !self.runs.is_unmarked(key) {
                continue;
            }
            if start::is_marked(&self.fixed.run_root.join(key.folder())) {
                self.happen(key, Event::Marked);
            } else {
                self.look_soon(key);
            }
        }
    }

    pub(super) fn obey(&mut self, message: Down) {
        match message {
            Down::Welcome(welcome) => return self.welcome(&welcome),
            Down::Goodbye(goodbye) => {
                tracing::warn!(reason = goodbye.reason, "the scheduler ends the session");
                return self.leave();
            }
            _ => {}
        }
        let Some(epoch) = self.session.as_ref().and_then(|session| session.epoch) else {
            tracing::warn!("a command before the welcome is refused");
            return;
        };
        match message {
            Down::Launch(launch) => {
                if let Some(key) = self.admitted(launch.key.as_ref(), launch.epoch, epoch) {
                    self.launch(key, launch);
                }
            }
            Down::Terminate(stop) => {
                if let Some(key) = self.admitted(stop.key.as_ref(), stop.epoch, epoch) {
                    let frame = terminate_frame(&stop);
                    self.happen(key, Event::Stop(frame));
                    if let Some(stop) = self.preparing.remove(&key) {
                        // It may have become ready by itself.
                        let _ = stop.send(());
                    }
                }
            }
            Down::Signal(signal) => {
                let scope = match (signal.batch_only, signal.full) {
                    (true, _) => Scope::First,
                    (false, true) => Scope::Full,
                    (false, false) => Scope::Steps,
                };
                let frame = Frame::Signal { signal: signal.signal, scope };
                self.command(signal.key.as_ref(), signal.epoch, epoch, frame);
            }
            Down::Suspend(suspend) => {
                self.command(suspend.key.as_ref(), suspend.epoch, epoch, Frame::Suspend)
            }
            Down::Resume(resume) => self.command(resume.key.as_ref(), resume.epoch, epoch, Frame::Resume),
            Down::ChangeLimit(change) => {
                let frame = Frame::Limit { limit_ms: u64::try_from(change.time_limit_ms).ok() };
                self.command(change.key.as_ref(), change.epoch, epoch, frame);
            }
            Down::Announce(announce) => {
                self.command(announce.key.as_ref(), epoch, epoch, Frame::Announce { text: announce.text });
            }
            Down::Acknowledge(acknowledge) => {
                if let Some(key) = self.admitted(acknowledge.key.as_ref(), epoch, epoch) {
                    self.happen(key, Event::Acknowledge);
                }
            }
            Down::Forget(forget) => {
                if let Some(key) = self.admitted(forget.key.as_ref(), epoch, epoch) {
                    self.happen(key, Event::Forget);
                }
            }
            Down::CheckHealth(_) => {
                let fixed = std::sync::Arc::clone(&self.fixed);
                tokio::spawn(async move { fixed.hooks.check_health(&fixed.node, &fixed.conf).await });
            }
            Down::LogLevel(wanted) => match Level::parse(&wanted.level) {
                Some((level, word)) => {
                    self.fixed.log.set_level(level, word);
                    tracing::info!("the log's level is {word}");
                }
                None => tracing::warn!(level = wanted.level, "no such level of a log"),
            },
            Down::Welcome(_) | Down::Goodbye(_) => {}
        }
    }

    pub(super) fn welcome(&mut self, welcome: &v1::Welcome) {
        if welcome.epoch < self.epoch_seen {
            tracing::error!(
                theirs = welcome.epoch,
                seen = self.epoch_seen,
                "a scheduler of an older epoch is refused"
            );
            return self.leave();
        }
        if welcome.epoch > self.epoch_seen {
            self.epoch_seen = welcome.epoch;
            // In the journal before anything that its commands cause: batches are in order.
            self.logbook.add(&Record::Epoch(welcome.epoch), None);
        }
        if let Some(session) = &mut self.session {
            session.epoch = Some(welcome.epoch);
            self.fixed.figures.set_connected(true);
        }
        let every = Duration::from_secs(u64::from(welcome.heartbeat_s.max(1)));
        if welcome.heartbeat_s > 0 && every != self.heartbeat.period() {
            self.heartbeat = tokio::time::interval(every);
        }
        tracing::info!(epoch = welcome.epoch, cluster = welcome.cluster, "registered");
    }

    /// The run of a command, if the command may be obeyed.
    pub(super) fn admitted(&self, key: Option<&v1::RunKey>, epoch: u64, session: u64) -> Option<Key> {
        let key = key.and_then(Key::read);
        match key {
            None => tracing::warn!("a command without a run is refused"),
            Some(key) if epoch < session.max(self.epoch_seen) => {
                tracing::warn!(run = %key, epoch, "a command of an older epoch is refused");
                return None;
            }
            Some(_) => {}
        }
        key
    }

    pub(super) fn command(&mut self, key: Option<&v1::RunKey>, epoch: u64, session: u64, frame: Frame) {
        if let Some(key) = self.admitted(key, epoch, session) {
            self.happen(key, Event::Command(frame));
        }
    }

    pub(super) fn launch(&mut self, key: Key, launch: v1::Launch) {
        let mut kind = Kind::LaunchFailed;
        let refusal = if self.runs.is_stale(key) {
            Some("a later run of this job is known here".to_owned())
        } else if self.runs.is_known(key) {
            None
        } else if self.fixed.uid != 0 && launch.uid != self.fixed.uid {
            Some(format!(
                "the executor of node {} runs as user {} and cannot run jobs of user {}",
                self.fixed.node, self.fixed.uid, launch.uid
            ))
        } else if !self.logbook.has_room() {
            kind = Kind::NodeUnable;
            Some(format!("node {} has no disk space left to log a start", self.fixed.node))
        } else {
            let claimed = self.claim(key, &launch);
            if claimed.is_ok() {
                self.launches.insert(key, Box::new(launch));
            }
            claimed.err()
        };
        match refusal {
            None => self.happen(key, Event::Launch),
            Some(detail) => {
                self.fixed.figures.launch_failures.one();
                let (node, why) = (&self.fixed.node, &detail);
                tracing::error!(job = key.job_id, run = %key, node, why, "a run could not be started");
                let outcome = lifecycle::never_begun(kind, &detail, host::now_ms());
                self.send(Up::Report(table::report_of(key, &State::Ended(outcome))));
            }
        }
    }
}

fn terminate_frame(stop: &v1::Terminate) -> Frame {
    let cause = match stop.cause() {
        v1::StopCause::StopCancel => Cause::Cancel,
        v1::StopCause::StopTimeLimit => Cause::TimeLimit,
        v1::StopCause::StopRequeue => Cause::Requeue,
        v1::StopCause::StopPreemption => Cause::Preemption,
        v1::StopCause::StopNodeFail => Cause::NodeFail,
    };
    let kill_wait_ms = if stop.hurry { 0 } else { u64::from(stop.kill_wait_ms) };
    Frame::Terminate { cause, kill_wait_ms, note: stop.note.clone() }
}
