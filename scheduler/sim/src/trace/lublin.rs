//! Workloads of any length from the model of Lublin and Feitelson, seeded.
//!
//! Three parts, with the parameters published for all jobs together or for batch and interactive jobs
//! apart: sizes (serial, power of two, or any,
//! by a two-stage uniform of the logarithm), run times (the logarithm is one of two gammas, the chance of
//! the short one falls with the size) and arrivals (the logarithm of the time between two is a gamma; the
//! day has 48 half hours that count differently). Nothing here reads a clock: a seed is a trace.
//! Source: U. Lublin, D. Feitelson, "The workload on parallel supercomputers: modeling the
//! characteristics of rigid jobs", JPDC 63(11), 2003.

use std::f64::consts::PI;

use super::{Trace, TraceJob};
use crate::random::SplitMix64;

/// The parameters of one kind of jobs.
#[derive(Clone, Copy, Debug)]
struct Kind {
    /// Share of the jobs with one processor.
    serial: f64,
    /// Share of the jobs whose size is a power of two by choice.
    power_of_two: f64,
    /// Base two logarithm of the smallest parallel job, less a little.
    low: f64,
    /// How far below the machine's size the largest job lies, as a logarithm.
    high_below: f64,
    /// How far below the largest job the middle of the two stages lies.
    middle_below: f64,
    /// Chance of the lower stage.
    lower: f64,
    /// Natural logarithm of the run time of a short job, seconds.
    short: Gamma,
    /// The same of a long one.
    long: Gamma,
    /// Chance of a short one: changes by so much a processor, from so much.
    short_chance: (f64, f64),
    /// Natural logarithm of the time between two arrivals in the rush hours, seconds.
    arrival: Gamma,
    /// What makes the rush hours' shape that of the whole day.
    rush_to_all: f64,
    /// When in the day jobs arrive, in half hours after the day's start.
    day: Gamma,
}

const ALL_JOBS: Kind = Kind {
    serial: 0.244,
    power_of_two: 0.576,
    low: 0.8,
    high_below: 0.0,
    middle_below: 2.5,
    lower: 0.86,
    short: Gamma { shape: 4.2, scale: 0.94 },
    long: Gamma { shape: 312.0, scale: 0.03 },
    short_chance: (-0.0054, 0.78),
    arrival: Gamma { shape: 10.2303, scale: 0.4871 },
    rush_to_all: 1.0225,
    day: Gamma { shape: 8.1737, scale: 3.9631 },
};

const BATCH: Kind = Kind {
    serial: 0.2927,
    power_of_two: 0.6686,
    low: 1.2,
    high_below: 0.0,
    middle_below: 2.0,
    lower: 0.875,
    short: Gamma { shape: 6.57, scale: 0.823 },
    long: Gamma { shape: 639.1, scale: 0.0156 },
    short_chance: (-0.003, 0.6986),
    arrival: Gamma { shape: 6.0415, scale: 0.8531 },
    rush_to_all: 1.0519,
    day: Gamma { shape: 6.1271, scale: 5.2740 },
};

const INTERACTIVE: Kind = Kind {
    serial: 0.1541,
    power_of_two: 0.625,
    low: 1.0,
    high_below: 1.5,
    middle_below: 2.5,
    lower: 0.705,
    short: Gamma { shape: 3.8351, scale: 0.6605 },
    long: Gamma { shape: 7.073, scale: 0.6856 },
    short_chance: (-0.0118, 0.9156),
    arrival: Gamma { shape: 6.5510, scale: 0.6621 },
    rush_to_all: 0.9797,
    day: Gamma { shape: 8.9186, scale: 3.6680 },
};

/// Largest logarithm of a run time: two days.
const RUN_MOST: f64 = 12.0;
/// Largest logarithm of a time between two arrivals: five days.
const ARRIVAL_MOST: f64 = 13.0;
/// The half hour with which the day of a [`Kind`] begins (5:30).
const DAY_START: usize = 11;
const HALF_HOURS: usize = 48;
const HALF_HOUR_S: f64 = 1800.0;

/// A gamma distribution.
#[derive(Clone, Copy, Debug)]
struct Gamma {
    shape: f64,
    scale: f64,
}

/// What to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recipe {
    /// Jobs.
    pub jobs: usize,
    /// Processors of the machine; the largest job has as many.
    pub procs: u32,
    /// The seed.
    pub seed: u64,
    /// Batch and interactive jobs have parameters of their own.
    pub two_kinds: bool,
}

impl Recipe {
    /// Reads `lublin:jobs=N,procs=P[,seed=S][,kinds=1|2]`; the seed is 1 and one kind is made where nothing else is
    /// said.
    ///
    /// # Errors
    /// A sentence.
    pub fn parse(text: &str) -> Result<Self, String> {
        let list = text
            .strip_prefix("lublin:")
            .ok_or_else(|| format!("\"{text}\": the one model is lublin:jobs=N,procs=P,seed=S"))?;
        let (mut jobs, mut procs, mut seed, mut two_kinds) = (None, None, 1, false);
        for item in list.split(',') {
            let bad = || format!("\"{item}\" of \"{text}\" is none of jobs=N, procs=P, seed=S, kinds=1 or 2");
            let (key, value) = item.split_once('=').ok_or_else(bad)?;
            match key {
                "jobs" => jobs = Some(value.parse().map_err(|_| bad())?),
                "procs" => procs = Some(value.parse().map_err(|_| bad())?),
                "seed" => seed = value.parse().map_err(|_| bad())?,
                "kinds" if matches!(value, "1" | "2") => two_kinds = value == "2",
                _ => return Err(bad()),
            }
        }
        match (jobs, procs) {
            (Some(jobs @ 1..=100_000_000), Some(procs @ 2..)) => Ok(Self { jobs, procs, seed, two_kinds }),
            _ => Err(format!("\"{text}\": jobs= from 1 and procs= from 2 are needed")),
        }
    }

    /// Makes the trace. Cost: O(jobs).
    #[must_use]
    pub fn make(self) -> Trace {
        let mut random = Random(SplitMix64(self.seed));
        let kinds = if self.two_kinds { vec![INTERACTIVE, BATCH] } else { vec![ALL_JOBS] };
        let mut streams: Vec<Arrivals> =
            kinds.into_iter().map(|kind| Arrivals::new(kind, &mut random)).collect();
        let mut jobs = Vec::with_capacity(self.jobs);
        for number in (1..).take(self.jobs) {
            let earliest = streams.iter_mut().min_by(|a, b| a.next.total_cmp(&b.next));
            let stream = earliest.expect("there is a kind of jobs");
            let submit = stream.next as i64;
            stream.advance(&mut random);
            let procs = size(&stream.kind, &mut random, self.procs);
            let run = run_time(&stream.kind, &mut random, procs);
            jobs.push(TraceJob { number, submit, run, procs, estimate: run, user: u32::MAX - 1, need: 0 });
        }
        jobs.sort_by_key(|job| (job.submit, job.number));
        Trace { jobs, procs: self.procs, ..Trace::default() }
    }
}

/// Processors of a job.
fn size(kind: &Kind, random: &mut Random, most: u32) -> u32 {
    let drawn = random.unit();
    if drawn <= kind.serial {
        return 1;
    }
    let high = (f64::from(most).log2() - kind.high_below).max(kind.low);
    let middle = (high - kind.middle_below).max(kind.low);
    let (from, to) = if random.unit() <= kind.lower { (kind.low, middle) } else { (middle, high) };
    let any = from + random.unit() * (to - from);
    let power = if drawn <= kind.serial + kind.power_of_two { any.round().min(high.floor()) } else { any };
    (power.exp2().round() as u32).clamp(1, most)
}

/// Seconds that a job of that size runs; at least one.
fn run_time(kind: &Kind, random: &mut Random, procs: u32) -> i64 {
    let (change, from) = kind.short_chance;
    let short = (change * f64::from(procs) + from).clamp(0.0, 1.0);
    loop {
        let of = if random.unit() <= short { kind.short } else { kind.long };
        let logarithm = random.gamma(of);
        if logarithm <= RUN_MOST {
            return (logarithm.exp() as i64).max(1);
        }
    }
}

/// The arrivals of one kind: each half hour takes its weight in points, of which an arrival brings some.
struct Arrivals {
    kind: Kind,
    /// Points of each half hour from midnight; one on average.
    weights: [f64; HALF_HOURS],
    half_hour: usize,
    /// Seconds until the half hour began.
    begun: f64,
    /// Points used of it.
    used: f64,
    /// Seconds from the midnight at which the trace begins to the next arrival.
    next: f64,
}

impl Arrivals {
    fn new(kind: Kind, random: &mut Random) -> Self {
        let mut weights = [0.0; HALF_HOURS];
        for place in DAY_START..DAY_START + HALF_HOURS {
            let at = place as f64;
            weights[(place - 1) % HALF_HOURS] = kind.day.below(at + 0.5) - kind.day.below(at - 0.5);
        }
        let mean = weights.iter().sum::<f64>() / HALF_HOURS as f64;
        weights.iter_mut().for_each(|weight| *weight /= mean);
        let mut arrivals = Self { kind, weights, half_hour: 0, begun: 0.0, used: 0.0, next: 0.0 };
        arrivals.advance(random);
        arrivals
    }

    /// Draws the arrival after the next.
    fn advance(&mut self, random: &mut Random) {
        let rush = self.kind.arrival;
        let all_day = Gamma { shape: rush.shape * self.kind.rush_to_all, ..rush };
        let logarithm = loop {
            let drawn = random.gamma(all_day);
            if drawn <= ARRIVAL_MOST {
                break drawn;
            }
        };
        self.used += logarithm.exp() / HALF_HOUR_S;
        while self.used > self.weights[self.half_hour] {
            self.used -= self.weights[self.half_hour];
            self.half_hour = (self.half_hour + 1) % HALF_HOURS;
            self.begun += HALF_HOUR_S;
        }
        self.next = self.begun + HALF_HOUR_S * self.used / self.weights[self.half_hour];
    }
}

impl Gamma {
    /// The chance of a value up to `x`. Source: W. Press and others, "Numerical Recipes", chapter 6.2.
    fn below(self, x: f64) -> f64 {
        let (a, x) = (self.shape, x / self.scale);
        if x <= 0.0 {
            return 0.0;
        }
        let front = (a * x.ln() - x - ln_gamma(a)).exp();
        if x < a + 1.0 {
            // The series of the lower part.
            let mut term = 1.0 / a;
            let mut sum = term;
            for place in 1..1000 {
                term *= x / (a + f64::from(place));
                sum += term;
                if term < sum * 1e-15 {
                    break;
                }
            }
            return sum * front;
        }
        // The continued fraction of the upper part, by Lentz.
        let mut b = x + 1.0 - a;
        let mut c = 1e300;
        let mut d = 1.0 / b;
        let mut fraction = d;
        for place in 1..1000 {
            let i = f64::from(place);
            let an = -i * (i - a);
            b += 2.0;
            d = 1.0 / (an * d + b);
            c = b + an / c;
            fraction *= d * c;
            if (d * c - 1.0).abs() < 1e-15 {
                break;
            }
        }
        1.0 - front * fraction
    }
}

/// Natural logarithm of the gamma function, for positive numbers. Source: C. Lanczos, 1964 (g = 7, n = 9).
fn ln_gamma(x: f64) -> f64 {
    const FACTORS: [f64; 9] = [
        0.999_999_999_999_809_9,
        676.520_368_121_885_1,
        -1_259.139_216_722_402_8,
        771.323_428_777_653_1,
        -176.615_029_162_140_6,
        12.507_343_278_686_905,
        -0.138_571_095_265_720_12,
        9.984_369_578_019_572e-6,
        1.505_632_735_149_311_6e-7,
    ];
    let x = x - 1.0;
    let base = x + 7.5;
    let sum = (1..)
        .zip(&FACTORS[1..])
        .fold(FACTORS[0], |sum, (place, factor)| sum + factor / (x + f64::from(place)));
    0.5 * (2.0 * PI).ln() + (x + 0.5) * base.ln() - base + sum.ln()
}

struct Random(SplitMix64);

impl Random {
    /// In (0, 1).
    fn unit(&mut self) -> f64 {
        ((self.0.draw() >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
    }

    /// Of the standard normal distribution. Source: G. Marsaglia's polar method.
    fn normal(&mut self) -> f64 {
        loop {
            let (u, v) = (2.0 * self.unit() - 1.0, 2.0 * self.unit() - 1.0);
            let square = u * u + v * v;
            if square > 0.0 && square < 1.0 {
                return u * (-2.0 * square.ln() / square).sqrt();
            }
        }
    }

    /// Of a gamma distribution with a shape of at least one. Source: G. Marsaglia, W. Tsang, ACM TOMS 26(3), 2000.
    fn gamma(&mut self, of: Gamma) -> f64 {
        let d = of.shape - 1.0 / 3.0;
        let c = 1.0 / (9.0 * d).sqrt();
        loop {
            let normal = self.normal();
            let v = (1.0 + c * normal).powi(3);
            if v > 0.0 && self.unit().ln() < 0.5 * normal * normal + d - d * v + d * v.ln() {
                return d * v * of.scale;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mean(numbers: impl Iterator<Item = f64>) -> f64 {
        let (count, sum) = numbers.fold((0.0, 0.0), |(count, sum), number| (count + 1.0, sum + number));
        sum / count
    }

    #[test]
    fn a_recipe_is_read() {
        let recipe = Recipe::parse("lublin:jobs=10,procs=256,seed=7").unwrap();
        assert_eq!(recipe, Recipe { jobs: 10, procs: 256, seed: 7, two_kinds: false });
        for wrong in [
            "jobs=1",
            "lublin:jobs=1",
            "lublin:jobs=x,procs=4",
            "lublin:jobs=1,procs=1",
            "lublin:jobs=1,procs=4,load=2",
        ] {
            assert!(Recipe::parse(wrong).is_err(), "{wrong}");
        }
        assert_eq!(recipe.make().jobs, recipe.make().jobs);
        assert_ne!(recipe.make().jobs, Recipe { seed: 8, ..recipe }.make().jobs);
    }

    /// The gamma function and the distribution against known values.
    #[test]
    fn distributions() {
        assert!((ln_gamma(5.0) - 24.0_f64.ln()).abs() < 1e-12);
        assert!((ln_gamma(0.5) - PI.sqrt().ln()).abs() < 1e-12);
        let exponential = Gamma { shape: 1.0, scale: 2.0 };
        for x in [0.1, 1.0, 5.0, 30.0] {
            assert!((exponential.below(x) - (1.0 - (-x / 2.0).exp())).abs() < 1e-12, "{x}");
        }
        let mut random = Random(SplitMix64(3));
        for of in [ALL_JOBS.short, ALL_JOBS.long, ALL_JOBS.arrival] {
            let drawn: Vec<f64> = (0..200_000).map(|_| random.gamma(of)).collect();
            let average = mean(drawn.iter().copied());
            let variance = mean(drawn.iter().map(|value| (value - average).powi(2)));
            let (expected, spread) = (of.shape * of.scale, of.shape * of.scale * of.scale);
            assert!((average / expected - 1.0).abs() < 0.01, "{of:?}: {average}, not {expected}");
            assert!((variance / spread - 1.0).abs() < 0.03, "{of:?}: {variance}, not {spread}");
        }
    }

    /// Shares and moments that follow from the published parameters.
    #[test]
    fn moments_are_the_papers() {
        let jobs = Recipe { jobs: 200_000, procs: 128, seed: 1, two_kinds: false }.make().jobs;
        let count = jobs.len() as f64;
        // No drawn size rounds to one processor: 2^0.8 rounds to 2.
        let serial = jobs.iter().filter(|job| job.procs == 1).count() as f64 / count;
        assert!((serial - ALL_JOBS.serial).abs() < 0.01, "serial {serial}");
        let powers =
            jobs.iter().filter(|job| job.procs > 1 && job.procs.is_power_of_two()).count() as f64 / count;
        assert!(
            (ALL_JOBS.power_of_two..ALL_JOBS.power_of_two + 0.08).contains(&powers),
            "powers of two {powers}"
        );
        // The mean logarithm of the run times of each size is a mixture of the two gammas.
        for procs in [1_u32, 8, 64] {
            let chance = ALL_JOBS.short_chance.0 * f64::from(procs) + ALL_JOBS.short_chance.1;
            let expected = chance * 4.2 * 0.94 + (1.0 - chance) * 312.0 * 0.03;
            let runs = jobs.iter().filter(|job| job.procs == procs).map(|job| (job.run as f64 + 0.5).ln());
            let got = mean(runs);
            assert!((got / expected - 1.0).abs() < 0.02, "{procs}: {got}, not {expected}");
        }
        // The mean time between arrivals: that of the exponential of a gamma below five days. The
        // exponential weighs the gamma into one of a larger scale.
        let span = (jobs[jobs.len() - 1].submit - jobs[0].submit) as f64;
        let all_day = Gamma { shape: ALL_JOBS.arrival.shape * ALL_JOBS.rush_to_all, ..ALL_JOBS.arrival };
        let weighed = Gamma { scale: ALL_JOBS.arrival.scale / (1.0 - ALL_JOBS.arrival.scale), ..all_day };
        let unbounded = (1.0 - ALL_JOBS.arrival.scale).powf(-all_day.shape);
        let expected = unbounded * weighed.below(ARRIVAL_MOST) / all_day.below(ARRIVAL_MOST);
        assert!((span / count / expected - 1.0).abs() < 0.05, "{}, not {expected}", span / count);
        // The day: most arrive in the afternoon, fewest before dawn.
        let mut by_hour = [0_u32; 24];
        jobs.iter().for_each(|job| by_hour[(job.submit % 86_400 / 3600) as usize] += 1);
        let most = (0..24).max_by_key(|hour| by_hour[*hour]).unwrap();
        let least = (0..24).min_by_key(|hour| by_hour[*hour]).unwrap();
        assert!((11..=16).contains(&most) && (3..=6).contains(&least), "{by_hour:?}");
    }

    /// Two kinds: as many of each as their arrivals bring; sizes as in the traces of the shared data.
    #[test]
    fn batch_and_interactive_jobs() {
        let jobs = Recipe { jobs: 100_000, procs: 256, seed: 2, two_kinds: true }.make().jobs;
        let rate = |kind: Kind| {
            let all_day = Gamma { shape: kind.arrival.shape * kind.rush_to_all, ..kind.arrival };
            let weighed = Gamma { scale: kind.arrival.scale / (1.0 - kind.arrival.scale), ..all_day };
            let unbounded = (1.0 - kind.arrival.scale).powf(-all_day.shape);
            all_day.below(ARRIVAL_MOST) / (unbounded * weighed.below(ARRIVAL_MOST))
        };
        let (batch, interactive) = (rate(BATCH), rate(INTERACTIVE));
        let span = (jobs[jobs.len() - 1].submit - jobs[0].submit) as f64;
        let expected = 1.0 / (batch + interactive);
        let got = span / jobs.len() as f64;
        assert!((got / expected - 1.0).abs() < 0.1, "{got}, not {expected}");
        let share = batch / (batch + interactive);
        let serial = jobs.iter().filter(|job| job.procs == 1).count() as f64 / jobs.len() as f64;
        let expected = share * BATCH.serial + (1.0 - share) * INTERACTIVE.serial;
        assert!((serial - expected).abs() < 0.02, "{serial}, not {expected}");
    }
}
