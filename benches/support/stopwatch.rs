//! Time on the wall and time on the processor.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::resource::{UsageWho, getrusage};
use nix::time::{ClockId, clock_gettime};

/// Milliseconds on the wall, and of CPU time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Taken {
    /// On the wall.
    pub wall_ms: f64,
    /// On a processor.
    pub cpu_ms: f64,
}

impl Taken {
    /// The sum.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self { wall_ms: self.wall_ms + other.wall_ms, cpu_ms: self.cpu_ms + other.cpu_ms }
    }

    /// The larger of each.
    #[must_use]
    pub fn larger(self, other: Self) -> Self {
        Self { wall_ms: self.wall_ms.max(other.wall_ms), cpu_ms: self.cpu_ms.max(other.cpu_ms) }
    }

    /// The median of each; zeros for an empty sample.
    #[must_use]
    pub fn median(sample: Vec<Self>) -> Self {
        let [median] = Self::percentiles(sample, [50]);
        median
    }

    /// Percentiles of each, by the nearest rank.
    #[must_use]
    pub fn percentiles<const N: usize>(sample: Vec<Self>, percents: [usize; N]) -> [Self; N] {
        let mut wall: Vec<f64> = sample.iter().map(|one| one.wall_ms).collect();
        let mut cpu: Vec<f64> = sample.iter().map(|one| one.cpu_ms).collect();
        wall.sort_by(f64::total_cmp);
        cpu.sort_by(f64::total_cmp);
        percents.map(|percent| {
            let at = |sorted: &[f64]| {
                let rank = (sorted.len() * percent).div_ceil(100).max(1);
                sorted.get(rank - 1).copied().unwrap_or_default()
            };
            Self { wall_ms: at(&wall), cpu_ms: at(&cpu) }
        })
    }
}

/// Runs from [`Stopwatch::begin`] on.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch {
    wall: Instant,
    cpu: Duration,
    children: bool,
}

impl Stopwatch {
    /// Of the calling thread.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn begin() -> Result<Self> {
        Ok(Self { wall: Instant::now(), cpu: cpu(false)?, children: false })
    }

    /// Of the child processes that will have been waited for.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn begin_children() -> Result<Self> {
        Ok(Self { wall: Instant::now(), cpu: cpu(true)?, children: true })
    }

    /// So far.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn taken(&self) -> Result<Taken> {
        let wall_ms = self.wall.elapsed().as_secs_f64() * 1e3;
        let cpu = cpu(self.children)?.saturating_sub(self.cpu);
        Ok(Taken { wall_ms, cpu_ms: cpu.as_secs_f64() * 1e3 })
    }
}

fn cpu(children: bool) -> Result<Duration> {
    if !children {
        return Ok(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).context("the thread's clock")?.into());
    }
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).context("the children's usage")?;
    let both = [usage.user_time(), usage.system_time()];
    let micros = both.iter().map(|one| one.tv_sec() * 1_000_000 + one.tv_usec()).sum::<i64>();
    Ok(Duration::from_micros(micros.cast_unsigned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_by_rank() {
        let one = |ms: u32| Taken { wall_ms: f64::from(ms), cpu_ms: f64::from(100 - ms) };
        let [half, most] = Taken::percentiles((0..100).map(one).collect(), [50, 99]);
        assert_eq!((half.wall_ms, half.cpu_ms, most.wall_ms), (49.0, 50.0, 98.0));
        assert_eq!(Taken::median(Vec::new()).wall_ms, 0.0);
    }
}
