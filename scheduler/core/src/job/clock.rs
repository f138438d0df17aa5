//! The wall clock was set: what waits for a wall time follows it, what lasts a time does not notice.

use model::id::JobId;
use model::time::Span;

use crate::machine::Call;
use crate::record::Record;
use crate::state::job::{Pending, Phase};

impl Call<'_> {
    /// Wall time is `wall_ahead` ahead of `now` from now on. Begin times and deadlines keep their wall time; limits,
    /// delays and the age of ended jobs keep their lengths. A begin time that had come stays so. Cost: O(jobs).
    pub(crate) fn clock_set(&mut self, wall_ahead: Span) {
        let before = self.state().wall_ahead;
        if wall_ahead == before {
            return;
        }
        self.emit(Record::WallAhead(wall_ahead));
        let follows = |pending: &Pending, begin| {
            pending.not_before.is_some_and(|at| at.saturating_add(before) == begin)
        };
        let moved: Vec<(JobId, Pending)> = self
            .state()
            .jobs
            .values()
            .filter_map(|job| match (&job.phase, job.request.begin) {
                (Phase::Pending(pending), Some(begin)) if follows(pending, begin) => {
                    let not_before = Some(self.state().own_time(begin));
                    Some((job.id, Pending { not_before, ..pending.clone() }))
                }
                _ => None,
            })
            .collect();
        for (job, pending) in moved {
            self.emit(Record::JobWaits { job, pending });
        }
        // Deadlines have moved too; a timer too many does no harm.
        self.machine.rebuild_timers();
        self.out.pass_wanted = true;
    }
}
