//! Results as a table for people and as one JSON object.

use std::fmt::Write;

use serde_json::{Value, json};

use super::Ran;
use crate::trace::compare::Paired;
use crate::trace::statistics::Mean;

/// The figures, with the keys of the reference tables.
#[must_use]
pub fn figures(ran: &Ran) -> Value {
    let figures = &ran.figures;
    json!({
        "trace": ran.name,
        "procs": ran.procs,
        "policy": ran.policy,
        "estimates": ran.estimates,
        "jobs": figures.jobs,
        "makespan_s": figures.makespan_s,
        "utilization": figures.utilization,
        "mean_wait_s": figures.mean_wait_s,
        "median_wait_s": figures.wait_s[0],
        "p95_wait_s": figures.wait_s[1],
        "p99_wait_s": figures.wait_s[2],
        "max_wait_s": figures.max_wait_s,
        "mean_bsld": figures.mean_bsld,
        "p95_bsld": figures.p95_bsld,
        "max_bsld": figures.max_bsld,
        "waited_frac": figures.waited_frac,
        "sum_wait_s": figures.sum_wait_s,
        "waits_sha256": figures.waits_sha256,
    })
}

/// Everything that is known.
#[must_use]
pub fn full(ran: &Ran) -> Value {
    let mut object = figures(ran);
    let interval = |mean: &Mean| json!({ "mean": mean.mean, "half_95": mean.half, "weeks": mean.count });
    if let Some(measures) = &ran.measures {
        object["backfilled"] = measures.backfilled.into();
        object["lost_capacity"] = measures.lost.into();
        object["weekly"] = json!({
            "mean_wait_s": interval(&measures.weekly(|week| week.mean_wait_s)),
            "mean_bsld": interval(&measures.weekly(|week| week.mean_bsld)),
            "utilization": interval(&measures.weekly(|week| week.utilization)),
        });
        let week = |week: &crate::trace::measure::Week| {
            json!({
                "jobs": week.jobs, "mean_wait_s": week.mean_wait_s, "mean_bsld": week.mean_bsld,
                "utilization": week.utilization,
            })
        };
        object["weeks"] = measures.weeks.iter().map(week).collect();
        let class = |class: &crate::trace::measure::Class| {
            json!({
                "procs": class.size, "run_time": class.run_time, "jobs": class.jobs,
                "mean_wait_s": class.mean_wait_s, "median_wait_s": class.wait_s[0],
                "p95_wait_s": class.wait_s[1], "mean_bsld": class.mean_bsld,
            })
        };
        object["classes"] = measures.classes.iter().map(class).collect();
    }
    if let Some(accuracy) = &ran.accuracy {
        object["promises"] = json!({
            "promised": accuracy.promised, "exact": accuracy.exact, "earlier": accuracy.earlier,
            "later": accuracy.later, "mean_off_s": accuracy.mean_off_s, "median_off_s": accuracy.off_s[0],
            "p95_off_s": accuracy.off_s[1], "latest_s": accuracy.latest_s,
        });
    }
    object
}

/// `3d 04:05:06`, `04:05:06`
fn span(seconds: f64) -> String {
    let whole = seconds.round() as i64;
    let (days, rest) = (whole / 86_400, whole % 86_400);
    let clock = format!("{:02}:{:02}:{:02}", rest / 3600, rest / 60 % 60, rest % 60);
    if days > 0 { format!("{days}d {clock}") } else { clock }
}

/// For people.
#[must_use]
pub fn table(ran: &Ran) -> String {
    let mut text = String::new();
    summary(&mut text, ran);
    if let Some(measures) = &ran.measures {
        let mean = measures.weekly(|week| week.mean_wait_s);
        say(&mut text, "weekly wait", &format!("{} s, whole weeks: {} (95 %)", mean.text(1), mean.count));
        let mean = measures.weekly(|week| week.mean_bsld);
        say(&mut text, "weekly slowdown", &mean.text(2));
        let mean = measures.weekly(|week| week.utilization * 100.0);
        say(&mut text, "weekly use", &format!("{} %", mean.text(1)));
    }
    if let Some(accuracy) = &ran.accuracy {
        let share = |count: usize| 100.0 * count as f64 / accuracy.promised.max(1) as f64;
        let line = format!(
            "{} jobs: {:.1} % exact, {:.1} % earlier, {:.1} % later; off by {} on average, {} at 95 %",
            accuracy.promised,
            share(accuracy.exact),
            share(accuracy.earlier),
            share(accuracy.later),
            span(accuracy.mean_off_s),
            span(accuracy.off_s[1] as f64),
        );
        say(&mut text, "promised starts", &line);
    }
    if let Some(measures) = &ran.measures {
        text.push_str(
            "\nprocessors  run time      jobs     mean wait   median wait      p95 wait  slowdown\n",
        );
        for class in &measures.classes {
            writeln!(
                text,
                "{:<11} {:<10} {:>7} {:>13} {:>13} {:>13} {:>9.2}",
                class.size,
                class.run_time,
                class.jobs,
                span(class.mean_wait_s),
                span(class.wait_s[0] as f64),
                span(class.wait_s[1] as f64),
                class.mean_bsld
            )
            .expect("writing to a string cannot fail");
        }
    }
    text
}

fn say(text: &mut String, name: &str, value: &str) {
    writeln!(text, "{name:<16} {value}").expect("writing to a string cannot fail");
}

fn summary(text: &mut String, ran: &Ran) {
    let figures = &ran.figures;
    say(text, "trace", &format!("{}: {} jobs on {} processors", ran.name, figures.jobs, ran.procs));
    say(text, "policy", &format!("{}, estimates: {}", ran.policy, ran.estimates));
    let waits = format!(
        "mean {}, median {}, p95 {}, max {}",
        span(figures.mean_wait_s),
        span(figures.wait_s[0] as f64),
        span(figures.wait_s[1] as f64),
        span(figures.max_wait_s as f64)
    );
    say(text, "wait", &waits);
    let waited = format!("{:.1} % of the jobs", 100.0 * figures.waited_frac);
    say(text, "waited at all", &waited);
    let slowdown =
        format!("mean {:.2}, p95 {:.2}, max {:.1}", figures.mean_bsld, figures.p95_bsld, figures.max_bsld);
    say(text, "bounded slowdown", &slowdown);
    say(text, "utilisation", &format!("{:.2} %", 100.0 * figures.utilization));
    say(text, "makespan", &span(figures.makespan_s as f64));
    if let Some(measures) = &ran.measures {
        let share = 100.0 * measures.backfilled as f64 / figures.jobs as f64;
        say(text, "backfilled", &format!("{} jobs ({share:.1} %)", measures.backfilled));
        say(text, "lost capacity", &format!("{:.2} % idle while jobs waited for it", 100.0 * measures.lost));
    }
    say(text, "schedule", &format!("sha256 {}", figures.waits_sha256));
}

/// A comparison, for people.
#[must_use]
pub fn paired(paired: &Paired, first: &str, second: &str) -> String {
    let mut text = String::new();
    say(&mut text, "first", first);
    say(&mut text, "second", second);
    let alone =
        if paired.alone > 0 { format!("; {} that one of them lacks", paired.alone) } else { String::new() };
    say(&mut text, "jobs", &format!("{} in both{alone}", paired.jobs));
    let [shorter, same, longer] = paired.shorter_same_longer;
    say(&mut text, "in the second", &format!("{shorter} wait less, {same} as long, {longer} longer"));
    say(&mut text, "mean wait", &format!("{:.1} s, {:.1} s", paired.wait_s[0], paired.wait_s[1]));
    let weeks = paired.wait_more_s.count;
    let verdict = |mean: &Mean| match mean.half {
        Some(half) if mean.mean.abs() > half => "differs from none",
        Some(_) => "may be none",
        None => "one week: no interval",
    };
    let more = &paired.wait_more_s;
    let line = format!("{} s (95 %, {weeks} weeks): {}", more.text(1), verdict(more));
    say(&mut text, "second - first", &line);
    say(&mut text, "mean slowdown", &format!("{:.3}, {:.3}", paired.slowdown[0], paired.slowdown[1]));
    let more = &paired.slowdown_more;
    say(&mut text, "second - first", &format!("{} (95 %): {}", more.text(3), verdict(more)));
    text
}

/// The same as an object.
#[must_use]
pub fn paired_json(paired: &Paired, first: &str, second: &str) -> Value {
    let interval = |mean: &Mean| json!({ "mean": mean.mean, "half_95": mean.half, "weeks": mean.count });
    json!({
        "first": first, "second": second, "jobs": paired.jobs, "alone": paired.alone,
        "mean_wait_s": paired.wait_s, "mean_bsld": paired.slowdown,
        "wait_more_s": interval(&paired.wait_more_s), "bsld_more": interval(&paired.slowdown_more),
        "shorter_same_longer": paired.shorter_same_longer,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_read_as_clocks() {
        assert_eq!(span(59.6), "00:01:00");
        assert_eq!(span(90_061.0), "1d 01:01:01");
    }
}
