//! Where the scheduler can be made to crash by `SLUICE_CRASH_AT` (see [`journal::crash`]).
//!
//! | name | the scheduler dies |
//! |---|---|
//! | `before-sync` | when a batch is written and not synced (the journal's own point) |
//! | `after-sync` | when a batch is durable, before the views have it |
//! | `after-views` | when the views have a batch, before anybody is answered |
//! | `before-effect` | before an executor is told, when earlier answers of the batch have left |
//! | `recovered` | when the state is recovered and owned, before anybody is answered |
//! | `index-open` | between opening the index and adding what is missing |
//! | `history-write` | when rows of a history file are written, before it has its name |
//! | `snapshot-begun` | while a snapshot is being made beside it |
//! | `snapshot-made` | when a snapshot is there, before what it replaces goes |

/// A point of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Point {
    AfterSync,
    AfterViews,
    BeforeEffect,
    Recovered,
    IndexOpen,
    HistoryWrite,
    SnapshotBegun,
    SnapshotMade,
}

/// Aborts here if the environment says so. Costs one comparison where it does not.
pub(crate) fn point(here: Point) {
    journal::crash::point(match here {
        Point::AfterSync => "after-sync",
        Point::AfterViews => "after-views",
        Point::BeforeEffect => "before-effect",
        Point::Recovered => "recovered",
        Point::IndexOpen => "index-open",
        Point::HistoryWrite => "history-write",
        Point::SnapshotBegun => "snapshot-begun",
        Point::SnapshotMade => "snapshot-made",
    });
}
