//! Counters and histograms that any thread adds to, shown as Prometheus text.
//!
//! Numbers only; never a name of a user or job, an environment, or anything unbounded.

use std::fmt::{Display, Write};
use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of the histograms' buckets, microseconds.
const BOUNDS_US: [u64; 14] =
    [50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000, 10_000_000];

/// A number that grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds one.
    pub fn one(&self) {
        self.add(1);
    }

    /// Adds `count`.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// The number.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Lengths of time by size.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [AtomicU64; BOUNDS_US.len()],
    count: AtomicU64,
    sum_us: AtomicU64,
    max_us: AtomicU64,
    last_us: AtomicU64,
}

impl Histogram {
    /// Notes one.
    pub fn note(&self, length: Duration) {
        let us = u64::try_from(length.as_micros()).unwrap_or(u64::MAX);
        if let Some(at) = BOUNDS_US.iter().position(|bound| us <= *bound) {
            self.buckets[at].fetch_add(1, Ordering::Relaxed);
        }
        self.count.fetch_add(1, Ordering::Relaxed);
        self.sum_us.fetch_add(us, Ordering::Relaxed);
        self.max_us.fetch_max(us, Ordering::Relaxed);
        self.last_us.store(us, Ordering::Relaxed);
    }

    /// How many.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// How many, and how long all of them together.
    #[must_use]
    pub fn tally(&self) -> Tally {
        Tally { count: self.count(), sum_us: self.sum_us.load(Ordering::Relaxed) }
    }

    /// Forgets the largest and the last, which no page of Prometheus shows.
    pub fn forget_extremes(&self) {
        self.max_us.store(0, Ordering::Relaxed);
        self.last_us.store(0, Ordering::Relaxed);
    }

    /// The largest, microseconds.
    #[must_use]
    pub fn max_us(&self) -> u64 {
        self.max_us.load(Ordering::Relaxed)
    }

    /// The last, microseconds.
    #[must_use]
    pub fn last_us(&self) -> u64 {
        self.last_us.load(Ordering::Relaxed)
    }

    /// Its lines. What is noted meanwhile may be in some of them only, never so that a bucket exceeds the next.
    pub fn show(&self, name: &str, help: &str, out: &mut String) {
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} histogram");
        let mut below = 0;
        for (bucket, bound) in self.buckets.iter().zip(BOUNDS_US) {
            below += bucket.load(Ordering::Relaxed);
            let _ = writeln!(out, "{name}_bucket{{le=\"{}\"}} {below}", seconds(bound));
        }
        let count = self.count().max(below);
        let _ = writeln!(out, "{name}_bucket{{le=\"+Inf\"}} {count}");
        let _ = writeln!(out, "{name}_sum {}", seconds(self.sum_us.load(Ordering::Relaxed)));
        let _ = writeln!(out, "{name}_count {count}");
    }
}

/// A number of lengths of time and their sum.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// How many.
    pub count: u64,
    /// Their sum, microseconds.
    pub sum_us: u64,
}

impl Tally {
    /// What came after an earlier one.
    #[must_use]
    pub fn since(self, earlier: Tally) -> Tally {
        Tally {
            count: self.count.saturating_sub(earlier.count),
            sum_us: self.sum_us.saturating_sub(earlier.sum_us),
        }
    }

    /// The mean, microseconds; 0 where there is none.
    #[must_use]
    pub fn mean_us(self) -> u64 {
        self.sum_us.checked_div(self.count).unwrap_or(0)
    }
}

fn seconds(us: u64) -> f64 {
    us as f64 / 1e6
}

/// Adds one counter's lines.
pub fn counter(out: &mut String, name: &str, help: &str, value: u64) {
    single(out, name, help, "counter", value);
}

/// Adds one gauge's lines.
pub fn gauge(out: &mut String, name: &str, help: &str, value: impl Display) {
    single(out, name, help, "gauge", value);
}

fn single(out: &mut String, name: &str, help: &str, kind: &str, value: impl Display) {
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}");
}

/// What every Prometheus client library says of its process, under its names: memory, open files.
pub fn process(out: &mut String) {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kib = |key: &str| -> Option<u64> {
        status.lines().find_map(|line| line.strip_prefix(key))?.split_whitespace().next()?.parse().ok()
    };
    if let Some(resident) = kib("VmRSS:") {
        gauge(out, "process_resident_memory_bytes", "Memory of this process.", resident << 10);
    }
    if let Ok(files) = fs::read_dir("/proc/self/fd") {
        // Without the one that lists them.
        gauge(out, "process_open_fds", "Open files of this process.", files.count().saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_cumulative() {
        let histogram = Histogram::default();
        histogram.note(Duration::from_micros(70));
        histogram.note(Duration::from_micros(700));
        histogram.note(Duration::from_secs(20));
        let mut text = String::new();
        histogram.show("x_seconds", "What.", &mut text);
        for line in [
            "x_seconds_bucket{le=\"0.0001\"} 1",
            "x_seconds_bucket{le=\"0.001\"} 2",
            "x_seconds_bucket{le=\"10\"} 2",
            "x_seconds_bucket{le=\"+Inf\"} 3",
            "x_seconds_count 3",
        ] {
            assert!(text.lines().any(|known| known == line), "{line} in\n{text}");
        }
    }

    #[test]
    fn this_process_has_memory_and_files() {
        let mut text = String::new();
        process(&mut text);
        let value = |name: &str| -> u64 {
            let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
            line.trim().parse().unwrap_or_default()
        };
        assert!(value("process_resident_memory_bytes ") > 1 << 20, "{text}");
        assert!(value("process_open_fds ") >= 3, "{text}");
    }
}
