//! Where the executor can be made to crash by `SLUICE_CRASH_AT` (see [`journal::crash`]).
//!
//! | name | the executor dies |
//! |---|---|
//! | `before-sync` | when a batch of its journal is written and not synced (the journal's own point) |
//! | `after-intent` | when a start is durable, before anything is spawned |
//! | `after-spawn` | when the supervisor runs, before anybody is told |
//! | `after-outcome` | when an outcome was read, before it is logged |
//! | `before-report` | when the outcome is durable, before it is reported |
//! | `before-slice` | when a claim is durable, before a MIG instance is made for it |
//! | `after-slice` | when a MIG instance is made, before that is logged |
//! | `after-destroy` | when a MIG instance is destroyed, before that is logged |

/// A point of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Point {
    AfterIntent,
    AfterSpawn,
    AfterOutcome,
    BeforeReport,
    BeforeSlice,
    AfterSlice,
    AfterDestroy,
}

/// Aborts here if the environment says so. Costs one comparison where it does not.
pub(crate) fn point(here: Point) {
    journal::crash::point(match here {
        Point::AfterIntent => "after-intent",
        Point::AfterSpawn => "after-spawn",
        Point::AfterOutcome => "after-outcome",
        Point::BeforeReport => "before-report",
        Point::BeforeSlice => "before-slice",
        Point::AfterSlice => "after-slice",
        Point::AfterDestroy => "after-destroy",
    });
}
