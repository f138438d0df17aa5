//! The benchmark grid in its steady state: running jobs end early, jobs arrive, the planner follows.
//!
//! Owns the events of the grid's definition (an end is due after a drawn part of what is left of a job's
//! limit) and the records that they bring; the planner and `apply` are the production ones. Events are made
//! one at a time, so that whoever measures decides what is timed.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use model::exit::ExitStatus;
use model::id::{JobId, RunNumber};
use model::job::JobState;
use model::reason::Reason;
use model::time::{Span, Timestamp};
use scheduler_core::apply::apply;
use scheduler_core::input::Plan;
use scheduler_core::plan::{Pass, Planner};
use scheduler_core::record::Record;
use scheduler_core::settings::Settings;
use scheduler_core::state::State;
use scheduler_core::state::job::{Ended, Job, Limit};

use crate::grid::{Fill, Instance, NOW, Pended, SplitMix64, pending_job};

/// A cluster at work.
pub struct Steady {
    /// What is true.
    pub state: State,
    settings: Settings,
    planner: Planner,
    now: Timestamp,
    random: SplitMix64,
    ends: BinaryHeap<Reverse<(Timestamp, JobId)>>,
    wake: Option<Timestamp>,
    next_id: u32,
}

impl Steady {
    /// The instance, filled so far, after its first pass; nobody asks why jobs wait.
    #[must_use]
    pub fn new(instance: &Instance, fill: Fill) -> Self {
        Self::planned_by(Planner::following().without_verdicts(), instance, fill)
    }

    /// The same as the daemon plans it: with a verdict on each waiting job.
    #[must_use]
    pub fn with_verdicts(instance: &Instance, fill: Fill) -> Self {
        Self::planned_by(Planner::following(), instance, fill)
    }

    fn planned_by(planner: Planner, instance: &Instance, fill: Fill) -> Self {
        let state = instance.state(fill);
        let next_id = state.jobs.keys().next_back().map_or(1, |id| id.0 + 1);
        let mut steady = Self {
            state,
            settings: instance.settings(),
            planner,
            now: NOW,
            random: SplitMix64(4),
            ends: BinaryHeap::new(),
            wake: None,
            next_id,
        };
        let mut running: Vec<(Timestamp, JobId)> = Vec::new();
        for &id in &steady.state.index.running {
            running.push((steady.state.jobs[&id].active().expect("it runs").start, id));
        }
        running.sort_unstable();
        running.into_iter().for_each(|(_, id)| steady.draw_end(id));
        steady.plan();
        steady
    }

    /// When the job ends: before its limit, by the grid's draw.
    fn draw_end(&mut self, id: JobId) {
        let active = self.state.jobs[&id].active().expect("it runs");
        let limit_end = active.limit_end().expect("jobs of the grid have limits");
        let left = limit_end.since(self.now).as_secs();
        let drawn = i64::try_from(self.random.below(951)).expect("it is below 951");
        let end = self.now.saturating_add(Span::from_secs((left * (50 + drawn) / 1000).max(1)));
        self.ends.push(Reverse((end, id)));
    }

    fn put(&mut self, record: &Record) {
        apply(&mut self.state, record);
        self.planner.observe(record);
    }

    /// Time goes on to the next end; promises that fall due or were to be moved before it are seen to.
    /// `None`: nothing runs.
    pub fn advance(&mut self) -> Option<JobId> {
        let Reverse((at, id)) = self.ends.pop()?;
        while let Some(wake) = self.wake.filter(|wake| *wake <= at) {
            self.now = self.now.max(wake);
            self.put(&Record::Time(self.now));
            self.plan();
        }
        self.now = self.now.max(at);
        self.put(&Record::Time(self.now));
        Some(id)
    }

    /// A job ends early: from its record to the records of the jobs that start.
    pub fn end(&mut self, id: JobId) -> Pass {
        self.release(id);
        self.plan()
    }

    /// The record of a job's early end.
    pub fn release(&mut self, id: JobId) {
        let active = self.state.jobs[&id].active().expect("it runs");
        let ended = Ended {
            state: JobState::Completed,
            exit: ExitStatus::SUCCESS,
            derived_exit: ExitStatus::SUCCESS,
            reason: Reason::None,
            detail: "".into(),
            by: None,
            eligible: None,
            start: Some(active.start),
            end: self.now,
            limit: active.limit,
            partition: Some(active.partition),
            allocation: Arc::clone(&active.allocation),
            suspended_total: Span::ZERO,
            steps: Vec::new(),
        };
        self.put(&Record::JobEnded { job: id, ended: Arc::new(ended) });
    }

    /// A job arrives: from its record to the records of the jobs that start.
    pub fn submit(&mut self, pended: &Pended) -> Pass {
        self.arrive(pended);
        self.plan()
    }

    /// The record of a job that arrives.
    pub fn arrive(&mut self, pended: &Pended) {
        let job = Job { submit: self.now, ..pending_job(self.next_id, pended) };
        self.next_id += 1;
        self.put(&Record::Job(Arc::new(job)));
    }

    /// A pass; what it proposes is for [`Self::carry_out`].
    pub fn look(&mut self) -> Pass {
        self.planner.pass(&self.state, &self.settings, self.now)
    }

    /// Carries out what a pass proposes.
    pub fn carry_out(&mut self, plan: Plan, wake: Option<Timestamp>) {
        self.wake = wake;
        let Plan { starts, promises, .. } = plan;
        for start in &starts {
            let Limit::After(limit) = self.state.jobs[&start.job].limit else {
                unreachable!("limits are given")
            };
            self.put(&Record::JobStarted {
                job: start.job,
                run: RunNumber(1),
                partition: start.partition,
                allocation: Arc::clone(&start.allocation),
                start: self.now,
                limit: Some(limit),
            });
            self.draw_end(start.job);
        }
        if let Some(promised) = promises {
            let (changes, given_back) = (promised.changes, promised.given_back);
            self.put(&Record::Promises { changes, given_back });
        }
    }

    /// A pass, and what it proposes is carried out.
    fn plan(&mut self) -> Pass {
        let mut pass = self.look();
        self.carry_out(std::mem::take(&mut pass.plan), pass.wake);
        pass
    }

    /// A planner made anew proposes the same as the one that follows.
    #[must_use]
    pub fn agrees(&mut self) -> bool {
        let anew = Planner::new().without_verdicts().pass(&self.state, &self.settings, self.now);
        self.planner.pass(&self.state, &self.settings, self.now).plan == anew.plan
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grid::Mix;

    #[test]
    fn a_steady_state_is_planned_as_from_scratch() {
        for fill in [Fill::Half, Fill::Full] {
            let instance = Instance::new(100, 400, Mix::Realistic);
            let mut steady = Steady::new(&instance, fill);
            let more = Instance::new(100, 430, Mix::Realistic);
            let mut started = 0;
            for event in 0..60_usize {
                let id = steady.advance().unwrap();
                started += steady.end(id).counts.started;
                if event % 2 == 0 {
                    let head = event % 4 == 0;
                    let mut pended = more.jobs[400 + event / 2];
                    pended.priority = if head { 1_000_000 } else { 0 };
                    steady.submit(&pended);
                }
                if event % 10 == 0 {
                    assert!(steady.agrees(), "event {event}, {fill:?}");
                }
            }
            assert!(started > 0, "{fill:?}: nothing started");
            assert_eq!(steady.state.check(), Vec::<String>::new());
        }
    }
}
