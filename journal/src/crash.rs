//! Named crash points for tests: `SLUICE_CRASH_AT=NAME[:N]` aborts the daemon at its N-th passage of NAME (default: first).
//!
//! Owns the mechanism, which both daemons share; each lists its own points in a table (`crash.rs` of the daemon). The
//! journal's own is `before-sync`: a batch's frame is written and not synced. Where the variable is not set, passing
//! a point costs one load and one comparison.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// The variable that names the point.
pub const VARIABLE: &str = "SLUICE_CRASH_AT";

/// Aborts the process here if the environment says so; the last line on standard error names the point.
pub fn point(name: &str) {
    static WANTED: OnceLock<Option<(String, u32)>> = OnceLock::new();
    static PASSED: AtomicU32 = AtomicU32::new(0);
    let wanted = WANTED.get_or_init(|| parse(&std::env::var(VARIABLE).ok()?));
    let Some((at, count)) = wanted else { return };
    if at == name && PASSED.fetch_add(1, Ordering::SeqCst) + 1 == *count {
        eprintln!("crashing at {name} because {VARIABLE} says so");
        std::process::abort();
    }
}

/// `NAME` or `NAME:N`; nothing for a count that is none.
fn parse(text: &str) -> Option<(String, u32)> {
    let (name, count) = text.split_once(':').unwrap_or((text, "1"));
    Some((name.to_owned(), count.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn a_count_may_follow_the_name() {
        assert_eq!(parse("here"), Some(("here".to_owned(), 1)));
        assert_eq!(parse("here:7"), Some(("here".to_owned(), 7)));
        assert_eq!(parse("here:x"), None);
    }
}
