//! The one clock of the daemon: wall time at the first start after a boot, then monotonic time.
//!
//! What it answers never decreases, also across restarts (it starts at or after the last time in the
//! state), and does not jump when the wall clock is set or the machine sleeps: timers and limits keep their lengths. An
//! anchor beside the state (own time, monotonic time, boot id) lets the next daemon of the same boot go on with the
//! same clock; without it, or after a boot, it begins at wall time. How far the wall clock is ahead is asked by
//! the controller, which tells the machine.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use model::time::{Span, Timestamp};

/// Wall time as the system has it now.
#[must_use]
pub fn wall() -> Timestamp {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX)),
        Err(_) => Timestamp::ZERO,
    }
}

/// The same with a test's milliseconds added.
#[must_use]
pub(crate) fn wall_with(skew: Option<&'static AtomicI64>) -> Timestamp {
    wall().saturating_add(Span(skew.map_or(0, |skew| skew.load(Ordering::SeqCst))))
}

/// Name of the anchor in the state folder.
const ANCHOR: &str = "clock";

/// A clock that only goes forward. Cheap to copy; copies agree.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    base: Timestamp,
    started: Instant,
    skew: Option<&'static AtomicI64>,
}

impl Clock {
    /// A clock that shows wall time now, or `not_before` where that is later.
    #[must_use]
    pub fn start(not_before: Timestamp) -> Self {
        Self { base: wall().max(not_before), started: Instant::now(), skew: None }
    }

    /// The clock of the daemon whose state is in `folder`: goes on with the one of before, where that ran since the
    /// same boot. Leaves its anchor there; where that cannot be written the next start begins at wall time.
    /// `skew` is added to the system's wall clock (ms): tests set the clock with it.
    #[must_use]
    pub fn of(folder: &Path, not_before: Timestamp, skew: Option<&'static AtomicI64>) -> Self {
        let mut clock = Self { skew, ..Self::start(not_before) };
        let path = folder.join(ANCHOR);
        let Some((boot, monotonic)) = boot_id().zip(monotonic_ms()) else { return clock };
        match fs::read_to_string(&path).ok().as_deref().and_then(|text| anchored(text, &boot, monotonic)) {
            Some(own) => clock.base = own.max(not_before),
            None => clock.base = clock.wall().max(not_before),
        }
        if let Err(error) = leave_anchor(&path, &format!("{boot} {monotonic} {}\n", clock.base.0)) {
            tracing::warn!("{} cannot be written: {error}", path.display());
        }
        clock
    }

    fn wall(&self) -> Timestamp {
        wall_with(self.skew)
    }

    /// The present.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.base.saturating_add(elapsed(self.started))
    }

    /// The monotonic instant at which this clock shows `at`; now, where that is past.
    #[must_use]
    pub fn instant(&self, at: Timestamp) -> Instant {
        let ahead = u64::try_from(at.since(self.base).0).unwrap_or(0);
        // A year ahead is as good as never: whoever waits looks again.
        let ahead = std::time::Duration::from_millis(ahead.min(366 * 24 * 3_600_000));
        self.started + ahead
    }

    /// How far the wall clock is ahead of this one; negative: behind.
    #[must_use]
    pub fn drift(&self) -> Span {
        self.wall().since(self.now())
    }
}

/// Own time now, by an anchor of the same boot.
fn anchored(text: &str, boot: &str, monotonic: i64) -> Option<Timestamp> {
    let mut words = text.split_whitespace();
    let (then_boot, then, own) = (words.next()?, words.next()?, words.next()?);
    let (then, own): (i64, i64) = (then.parse().ok()?, own.parse().ok()?);
    let passed = monotonic.checked_sub(then).filter(|passed| *passed >= 0)?;
    (then_boot == boot).then(|| Timestamp(own).saturating_add(Span(passed)))
}

fn boot_id() -> Option<String> {
    Some(fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?.trim().to_owned())
}

/// What `Instant` counts, as a number that later processes of the same boot can compare.
fn monotonic_ms() -> Option<i64> {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).ok()?;
    Some(now.tv_sec() * 1000 + now.tv_nsec() / 1_000_000)
}

fn leave_anchor(path: &Path, text: &str) -> std::io::Result<()> {
    let partial = path.with_extension("partial");
    let mut file =
        fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&partial)?;
    file.write_all(text.as_bytes())?;
    fs::rename(partial, path)
}

fn elapsed(since: Instant) -> Span {
    Span(i64::try_from(since.elapsed().as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_daemon_of_the_boot_goes_on_with_the_clock() {
        let folder = std::env::temp_dir().join(format!("sluice-clock-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let skew: &'static AtomicI64 = Box::leak(Box::new(AtomicI64::new(0)));
        let first = Clock::of(&folder, Timestamp::ZERO, Some(skew));
        assert!(first.drift().0.abs() < 1000);
        for hours in [3, -5] {
            skew.store(hours * 3_600_000, Ordering::SeqCst);
            let next = Clock::of(&folder, Timestamp::ZERO, Some(skew));
            let apart = next.now().since(first.now());
            assert!(apart.0.abs() < 1000, "{hours} h: {apart:?}");
            assert!((next.drift().0 - hours * 3_600_000).abs() < 1000, "{:?}", next.drift());
        }
        // Another boot: whatever passed, it is not known.
        fs::write(folder.join(ANCHOR), "another-boot 1 1\n").unwrap();
        let after = Clock::of(&folder, Timestamp::ZERO, Some(skew));
        assert!(after.drift().0.abs() < 1000);
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn starts_no_earlier_than_the_state() {
        let future = wall().saturating_add(Span::from_secs(3600));
        let clock = Clock::start(future);
        assert!(clock.now() >= future);
        assert!(clock.drift().is_negative());
        assert!(clock.instant(future) <= Instant::now());
        assert!(clock.instant(future.saturating_add(Span::from_secs(60))) > Instant::now());
    }
}
