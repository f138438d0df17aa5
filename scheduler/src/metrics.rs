//! Figures of the daemon: counters and histograms that any thread adds to, shown as Prometheus text.
//!
//! Owns numbers only; never a name of a user or job, an environment, or anything unbounded.

use std::fmt::Write;
use std::sync::{Mutex, PoisonError};

use scheduler_core::input::Defragment;

pub use service::figures::{Counter, Histogram, Tally};

/// The scheduler's figures.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Jobs that were accepted.
    pub submitted: Counter,
    /// Requests that were refused.
    pub refused: Counter,
    /// Runs that were started.
    pub started: Counter,
    /// Jobs that ended, whatever their state.
    pub ended: Counter,
    /// Jobs that ended COMPLETED.
    pub completed: Counter,
    /// Jobs that ended CANCELLED.
    pub cancelled: Counter,
    /// Jobs that ended otherwise.
    pub failed: Counter,
    /// Ended jobs that left the memory.
    pub purged: Counter,
    /// Inputs handled.
    pub inputs: Counter,
    /// Records stored.
    pub records: Counter,
    /// Bytes of records stored.
    pub record_bytes: Counter,
    /// Times that the journal was fenced and recovered.
    pub recoveries: Counter,
    /// Submissions refused for want of disk space.
    pub disk_full: Counter,
    /// Jobs that were requeued to make room for a larger slice.
    pub moved: Counter,
    /// What that lost: seconds of run time times memory slices.
    pub moved_cost: Counter,
    /// What that was to save: seconds of waiting times memory slices.
    pub moved_gain: Counter,
    /// From the hand-over of a batch to its sync.
    pub commit: Histogram,
    /// Planning passes.
    pub pass: Histogram,
    /// From the arrival of a submission to the release of its answer.
    pub submit: Histogram,
    /// From the release of a command for an executor to its hand-over to the stream.
    pub dispatch: Histogram,
    /// From the hand-over of a launch to the executor's word that it began.
    pub launch: Histogram,
    /// What sdiag counts from.
    base: Mutex<Option<Base>>,
}

/// The figures of sdiag when it was last told to count anew. Prometheus' counters never go back.
#[derive(Clone, Copy, Debug, Default)]
struct Base {
    at_s: i64,
    counts: [u64; 5],
    pass: Tally,
    commit: Tally,
    submit: Tally,
}

/// What sdiag shows of counters: all since the start, or since it was told to count anew.
#[derive(Clone, Copy, Debug)]
pub struct Since {
    /// When that was, Unix seconds; `None`: the start.
    pub at_s: Option<i64>,
    /// Jobs submitted, started, completed, cancelled, failed.
    pub counts: [u64; 5],
    /// Planning passes.
    pub pass: Tally,
    /// Commits of the journal.
    pub commit: Tally,
    /// Submissions.
    pub submit: Tally,
}

/// What is true at the moment of the question.
#[derive(Clone, Copy, Debug, Default)]
pub struct Gauges {
    /// Jobs that wait.
    pub pending: usize,
    /// Jobs that hold resources.
    pub running: usize,
    /// Ended jobs that are still in memory.
    pub ended: usize,
    /// Nodes known.
    pub nodes: usize,
    /// Nodes with a session.
    pub nodes_connected: usize,
    /// Nodes by what holds jobs to their shares there: version 1, version 2, nothing.
    pub nodes_by_cgroups: [usize; 3],
    /// Inputs that wait.
    pub queued: usize,
}

impl Metrics {
    /// Jobs are about to be moved for a larger slice.
    pub fn note_moves(&self, moves: &Defragment) {
        tracing::info!(
            room_for = moves.room_for.0,
            moved = ?moves.moved.iter().map(|id| id.0).collect::<Vec<_>>(),
            gain = moves.gain,
            cost = moves.cost,
            "jobs are requeued to make room for a larger slice (slice-seconds of waiting saved, of run time lost)"
        );
        self.moved.add(moves.moved.len() as u64);
        self.moved_cost.add(u64::try_from(moves.cost).unwrap_or(0));
        self.moved_gain.add(u64::try_from(moves.gain).unwrap_or(0));
    }

    fn now(&self, at_s: i64) -> Base {
        let counters = [&self.submitted, &self.started, &self.completed, &self.cancelled, &self.failed];
        Base {
            at_s,
            counts: counters.map(Counter::get),
            pass: self.pass.tally(),
            commit: self.commit.tally(),
            submit: self.submit.tally(),
        }
    }

    /// Counters of sdiag, from the last [`Metrics::count_anew`].
    #[must_use]
    pub fn since(&self) -> Since {
        let base = *self.base.lock().unwrap_or_else(PoisonError::into_inner);
        let (now, from) = (self.now(0), base.unwrap_or_default());
        Since {
            at_s: base.map(|base| base.at_s),
            counts: std::array::from_fn(|at| now.counts[at].saturating_sub(from.counts[at])),
            pass: now.pass.since(from.pass),
            commit: now.commit.since(from.commit),
            submit: now.submit.since(from.submit),
        }
    }

    /// Has sdiag count from `at_s` (Unix seconds); nothing changes for Prometheus.
    pub fn count_anew(&self, at_s: i64) {
        *self.base.lock().unwrap_or_else(PoisonError::into_inner) = Some(self.now(at_s));
        [&self.pass, &self.commit, &self.submit].into_iter().for_each(Histogram::forget_extremes);
    }

    /// The text of `/metrics`.
    #[must_use]
    pub fn text(&self, gauges: Gauges) -> String {
        let mut out = String::with_capacity(8192);
        let mut counter = |name: &str, help: &str, value: &Counter| {
            let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} counter\n{name} {}", value.get());
        };
        counter("sluice_jobs_submitted_total", "Jobs that were accepted.", &self.submitted);
        counter("sluice_requests_refused_total", "Requests that were refused.", &self.refused);
        counter("sluice_runs_started_total", "Runs that were started.", &self.started);
        counter("sluice_jobs_completed_total", "Jobs that ended COMPLETED.", &self.completed);
        counter("sluice_jobs_cancelled_total", "Jobs that ended CANCELLED.", &self.cancelled);
        counter("sluice_jobs_failed_total", "Jobs that ended in any other state.", &self.failed);
        counter("sluice_inputs_total", "Inputs handled by the machine.", &self.inputs);
        counter("sluice_records_total", "Records stored.", &self.records);
        counter("sluice_record_bytes_total", "Bytes of records stored.", &self.record_bytes);
        counter("sluice_journal_recoveries_total", "Recoveries within the process.", &self.recoveries);
        counter("sluice_disk_full_refusals_total", "Submissions refused for disk space.", &self.disk_full);
        counter("sluice_slices_moved_total", "Jobs requeued to make room for a larger slice.", &self.moved);
        counter(
            "sluice_slices_moved_cost_slice_seconds_total",
            "Run time lost by that, times memory slices.",
            &self.moved_cost,
        );
        counter(
            "sluice_slices_moved_gain_slice_seconds_total",
            "Waiting that was to be saved by that, times memory slices.",
            &self.moved_gain,
        );
        let mut gauge = |name: &str, help: &str, value: usize| {
            let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}");
        };
        gauge("sluice_jobs_pending", "Jobs that wait.", gauges.pending);
        gauge("sluice_jobs_running", "Jobs that hold resources.", gauges.running);
        gauge("sluice_jobs_ended", "Ended jobs in memory.", gauges.ended);
        gauge("sluice_nodes", "Nodes known.", gauges.nodes);
        gauge("sluice_nodes_connected", "Nodes with a session.", gauges.nodes_connected);
        gauge("sluice_inputs_queued", "Inputs that wait for the machine.", gauges.queued);
        let name = "sluice_nodes_by_cgroups";
        let _ = writeln!(out, "# HELP {name} Nodes by what holds jobs to their shares.\n# TYPE {name} gauge");
        for (kind, count) in ["v1", "v2", "none"].iter().zip(gauges.nodes_by_cgroups) {
            let _ = writeln!(out, "{name}{{backend=\"{kind}\"}} {count}");
        }
        self.commit.show("sluice_commit_seconds", "From hand-over to sync of a batch.", &mut out);
        self.pass.show("sluice_pass_seconds", "Planning passes.", &mut out);
        self.submit.show("sluice_submit_seconds", "From arrival to answer of a submission.", &mut out);
        self.dispatch.show("sluice_dispatch_seconds", "From release to stream of a command.", &mut out);
        self.launch.show("sluice_launch_seconds", "From the stream to the begin of a launch.", &mut out);
        service::figures::process(&mut out);
        out
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn shows_counters_and_cumulative_buckets() {
        let metrics = Metrics::default();
        metrics.submitted.add(3);
        metrics.pass.note(Duration::from_micros(70));
        metrics.pass.note(Duration::from_micros(700));
        let text = metrics.text(Gauges { pending: 5, ..Gauges::default() });
        for line in [
            "sluice_jobs_submitted_total 3",
            "sluice_jobs_pending 5",
            "sluice_pass_seconds_bucket{le=\"0.0001\"} 1",
            "sluice_pass_seconds_bucket{le=\"0.001\"} 2",
            "sluice_pass_seconds_bucket{le=\"+Inf\"} 2",
            "sluice_pass_seconds_count 2",
        ] {
            assert!(text.lines().any(|known| known == line), "{line} in\n{text}");
        }
        assert_eq!(metrics.pass.tally().mean_us(), 385);
        assert_eq!((metrics.pass.max_us(), metrics.pass.last_us()), (700, 700));
    }

    #[test]
    fn sdiag_counts_anew_and_prometheus_does_not() {
        let metrics = Metrics::default();
        metrics.submitted.add(3);
        metrics.pass.note(Duration::from_micros(700));
        assert_eq!((metrics.since().at_s, metrics.since().counts[0]), (None, 3));
        metrics.count_anew(1_000);
        metrics.submitted.one();
        metrics.pass.note(Duration::from_micros(60));
        let since = metrics.since();
        assert_eq!((since.at_s, since.counts), (Some(1_000), [1, 0, 0, 0, 0]));
        assert_eq!((since.pass.count, since.pass.mean_us(), metrics.pass.max_us()), (1, 60, 60));
        let text = metrics.text(Gauges::default());
        assert!(text.contains("\nsluice_jobs_submitted_total 4\n"), "{text}");
        assert!(text.contains("\nsluice_pass_seconds_count 2\n"), "{text}");
    }
}
