//! Named crash points for tests: `SLUICE_CRASH_AT=NAME[:N]` aborts the executor at the N-th passage (default: first).
//!
//! | name | the executor dies |
//! |---|---|
//! | `after-intent` | when a start is durable, before anything is spawned |
//! | `after-spawn` | when the supervisor runs, before anybody is told |
//! | `after-outcome` | when an outcome was read, before it is logged |
//! | `before-report` | when the outcome is durable, before it is reported |

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// Where the executor can be made to crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Point {
    AfterIntent,
    AfterSpawn,
    AfterOutcome,
    BeforeReport,
}

impl Point {
    fn name(self) -> &'static str {
        match self {
            Self::AfterIntent => "after-intent",
            Self::AfterSpawn => "after-spawn",
            Self::AfterOutcome => "after-outcome",
            Self::BeforeReport => "before-report",
        }
    }
}

/// Aborts here if the environment says so. Costs one comparison where it does not.
pub(crate) fn point(here: Point) {
    static WANTED: OnceLock<Option<(String, u32)>> = OnceLock::new();
    static PASSED: AtomicU32 = AtomicU32::new(0);
    let wanted = WANTED.get_or_init(|| {
        let text = std::env::var("SLUICE_CRASH_AT").ok()?;
        let (name, count) = text.split_once(':').unwrap_or((&text, "1"));
        Some((name.to_owned(), count.parse().unwrap_or(1)))
    });
    let Some((name, count)) = wanted else { return };
    if name == here.name() && PASSED.fetch_add(1, Ordering::SeqCst) + 1 == *count {
        tracing::warn!(point = here.name(), "crashing because SLUICE_CRASH_AT says so");
        std::process::abort();
    }
}
