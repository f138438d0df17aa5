//! Time and endings: the limit, the warning, TERM and KILL, suspension, and what is said about it in the output.

use std::time::{Duration, Instant};

use executor_supervisor::frame::{self, Cause, Frame, Scope};
use executor_supervisor::spec::Stdio;
use nix::libc;

use super::{Phase, Run, Stop, Why, sample};
use crate::child;
use crate::sys::{self, Forked};

/// How long a client that went away is waited for after the last task's end. One that has never been here is on its way:
/// its scheduler may be restarting before it could answer, its machine may be far too busy. It has its whole grace.
const LATE_CLIENT: Duration = Duration::from_secs(10);
/// First pause between two searches for what survived a kill; doubled up to a second.
pub(super) const KILL_AGAIN: Duration = Duration::from_millis(20);
/// How long a helper of the supervisor's own may take before it is killed like everything else.
const HELPER_MAX: Duration = Duration::from_secs(10);

impl Run {
    pub(super) fn keep_time(&mut self) {
        let now = Instant::now();
        if let Err(error) = self.door.keep(now) {
            self.note_detail(format!("it cannot be reached: no socket: {error}"));
        }
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if due(self.warning_at()) {
            self.warning_due = false;
            if let Some(warning) = self.spec.warning {
                let scope = if warning.first_process_only { Scope::First } else { Scope::Full };
                self.signal(warning.signal, scope);
            }
        }
        if due(self.limit_at()) {
            self.end_step(Why::OwnLimit, self.spec.kill_wait_ms, "");
        }
        if due(self.client_deadline()) {
            match self.phase {
                Phase::Running => self.end_step(Why::ClientLost, self.spec.kill_wait_ms, ""),
                Phase::Clearing | Phase::Epilogs => {}
                Phase::Delivering => self.client_left = true,
            }
        }
        if due(self.sample_at) {
            self.sample();
            self.sample_at = sample::next(&self.spec, now);
        }
        if due(self.first_kill_at()) || due(self.kill_again.map(|(at, _)| at)) {
            self.kill_everything();
        }
    }

    /// TERM with CONT now, KILL later; nothing but KILL where a step is cancelled without a wait between them. A second
    /// call can only bring the KILL nearer.
    pub(super) fn end_step(&mut self, why: Why, kill_wait_ms: u64, note: &str) {
        let now = Instant::now();
        let kill_at = now.checked_add(Duration::from_millis(kill_wait_ms)).unwrap_or(now);
        if let Some(stop) = &mut self.stop {
            stop.kill_at = stop.kill_at.min(kill_at);
            return;
        }
        self.stop = Some(Stop { why, kill_at });
        if self.phase != Phase::Running {
            return;
        }
        let at_once = why == Why::Asked(Cause::Cancel) && kill_wait_ms == 0 && !self.spec.is_batch();
        let by_scheduler = matches!(why, Why::OwnLimit | Why::Asked(_));
        if by_scheduler && self.speaks() && !self.spec.is_batch() && !self.spec.cookie.is_empty() {
            let number = self.next_event();
            self.events.push(Frame::Note { number, text: frame::aborted(self.spec.kill_wait_ms) });
        }
        if !note.is_empty() {
            self.say(note);
        } else if let Some(reason) = stop_reason(why, at_once) {
            self.tell_end(reason);
        }
        self.suspend(false);
        if !at_once {
            self.tree.signal(libc::SIGCONT, &self.helper_pids());
            self.tree.signal(libc::SIGTERM, &self.passed_over());
        }
        if kill_wait_ms == 0 {
            self.kill_everything();
        }
    }

    /// Slurm's line in the job's output, once; a step's first node says it for all.
    fn tell_end(&mut self, reason: &str) {
        if self.end_told || !self.speaks() {
            return;
        }
        self.end_told = true;
        let what = if self.spec.is_batch() {
            format!("JOB {}", self.spec.job_id)
        } else {
            format!("STEP {}.{}", self.spec.job_id, self.spec.step)
        };
        let time = sys::local_time_text(sys::now_ms());
        self.say(&format!("*** {what} ON {} CANCELLED AT {time} {reason} ***", self.spec.node));
    }

    /// Whether this node speaks for the step: it has its first task.
    fn speaks(&self) -> bool {
        self.spec.tasks.first().is_some_and(|task| task.rank == 0)
    }

    /// A line in the job's output file, or for the client.
    pub(super) fn say(&mut self, text: &str) {
        let Some(task) = self.spec.tasks.first() else { return };
        let place = if task.stderr == Stdio::Output { &task.stdout } else { &task.stderr };
        match place {
            Stdio::File { path, .. } if self.spec.cookie.is_empty() => match sys::fork_into(None) {
                Ok(Forked::Child) => child::become_note(&self.spec, path, text),
                Ok(Forked::Parent(pid)) => self.helpers.push((pid, Instant::now())),
                Err(error) => self.note_detail(format!("a note could not be written: {error}")),
            },
            _ => {
                let number = self.next_event();
                self.events.push(Frame::Note { number, text: format!("slurmstepd: error: {text}") });
            }
        }
    }

    /// The supervisor's own helpers, as long as they may live.
    pub(super) fn helper_pids(&self) -> Vec<i32> {
        let helpers = self.helpers.iter().filter(|(_, since)| since.elapsed() < HELPER_MAX);
        helpers.map(|(pid, _)| *pid).chain(self.helper).collect()
    }

    /// Who is not to be signalled: helpers, and Apptainer's own process, which passes signals on to the first
    /// process inside; that one would get them twice. Where nothing runs inside yet, it is signalled itself.
    fn passed_over(&self) -> Vec<i32> {
        let mut pids = self.helper_pids();
        if self.spec.container.is_some() {
            let outer = self.tasks.iter().filter(|task| task.exit.is_none()).map(|task| task.pid);
            pids.extend(outer.filter(|pid| crate::tree::has_child(*pid)));
        }
        pids
    }

    pub(super) fn suspend(&mut self, stop: bool) {
        match (stop, self.suspended_since) {
            (true, None) => {
                self.suspended_since = Some(Instant::now());
                self.tree.freeze(true, &self.helper_pids());
            }
            (false, Some(since)) => {
                self.suspended_total += since.elapsed();
                self.suspended_since = None;
                self.tree.freeze(false, &self.helper_pids());
            }
            _ => {}
        }
    }

    pub(super) fn signal(&mut self, signal: u32, scope: Scope) {
        let Ok(signal) = i32::try_from(signal) else { return };
        let ends = match signal {
            libc::SIGTERM => Some("DUE to SIGNAL Terminated"),
            libc::SIGKILL => Some("DUE to SIGNAL Killed"),
            _ => None,
        };
        let whole = !self.spec.is_batch() || scope == Scope::Full;
        if let Some(reason) = ends.filter(|_| whole && self.phase == Phase::Running) {
            self.tell_end(reason);
        }
        match scope {
            Scope::Steps if self.spec.is_batch() => {}
            Scope::Steps | Scope::Full => self.tree.signal(signal, &self.passed_over()),
            Scope::First => {
                if let Some(task) = self.tasks.first().filter(|task| task.exit.is_none()) {
                    sys::kill(task.pid, signal);
                }
            }
        }
    }

    pub(super) fn after_begin(&self, ms: u64) -> Option<Instant> {
        if self.suspended_since.is_some() || self.phase != Phase::Running {
            return None;
        }
        self.begun.checked_add(Duration::from_millis(ms))?.checked_add(self.suspended_total)
    }

    pub(super) fn limit_at(&self) -> Option<Instant> {
        self.after_begin(self.spec.limit_ms.filter(|_| self.stop.is_none())?)
    }

    pub(super) fn warning_at(&self) -> Option<Instant> {
        let warning = self.spec.warning.filter(|_| self.warning_due && self.stop.is_none())?;
        self.after_begin(warning.after_ms)
    }

    pub(super) fn first_kill_at(&self) -> Option<Instant> {
        let waits = self.kill_again.is_none() && self.phase == Phase::Running;
        self.stop.as_ref().filter(|_| waits).map(|stop| stop.kill_at)
    }

    pub(super) fn client_deadline(&self) -> Option<Instant> {
        let lost = self.client_lost_at?;
        let grace = lost + Duration::from_millis(self.spec.client_grace_ms);
        match self.phase {
            Phase::Running => Some(grace).filter(|_| self.stop.is_none()),
            Phase::Clearing | Phase::Epilogs => None,
            Phase::Delivering if self.client_seen => Some(grace.min(self.delivering_since? + LATE_CLIENT)),
            Phase::Delivering => {
                Some(self.delivering_since? + Duration::from_millis(self.spec.client_grace_ms))
            }
        }
    }

    pub(super) fn kill_everything(&mut self) {
        self.tree.kill(&self.helper_pids());
        // Outside the step's cgroup: one that takes too long is nobody else's to end.
        let late = self.helpers.iter().filter(|(_, since)| since.elapsed() >= HELPER_MAX);
        late.for_each(|(pid, _)| sys::kill(*pid, libc::SIGKILL));
        let pause = self.kill_again.map_or(KILL_AGAIN, |(_, pause)| (pause * 2).min(Duration::from_secs(1)));
        self.kill_again = Some((Instant::now() + pause, pause));
    }
}

/// Why a step ends, in Slurm's words.
fn stop_reason(why: Why, at_once: bool) -> Option<&'static str> {
    match why {
        Why::OwnLimit | Why::Asked(Cause::TimeLimit) => Some("DUE TO TIME LIMIT"),
        Why::Asked(Cause::Cancel) if at_once => Some("DUE to SIGNAL Killed"),
        Why::Asked(Cause::Cancel) => Some("DUE to SIGNAL Terminated"),
        Why::Asked(Cause::Requeue) => Some("DUE TO JOB REQUEUE"),
        Why::Asked(Cause::Preemption) => Some("DUE TO PREEMPTION"),
        Why::Asked(Cause::NodeFail) => Some("DUE TO NODE FAILURE, SEE SLURMCTLD LOG FOR DETAILS"),
        Why::BadExit | Why::Asked(Cause::TaskFailure) => Some("DUE TO TASK FAILURE"),
        Why::ClientLost => None,
    }
}
