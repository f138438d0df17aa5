//! Reference schedules: tiny cases job by job, whole traces by the hash of all waits, windows by their
//! mean bounded slowdown. The data and its provenance: `tests/traces` of the repository.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;

use scheduler_core::plan::policy::Policy;
use scheduler_sim::trace::figures::Figures;
use scheduler_sim::trace::replay::{self, Options, Planning};
use scheduler_sim::trace::{Estimates, Layout};
use scheduler_sim::trace::{TraceJob, read_bytes, swf};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/traces")
}

fn rows(name: &str) -> Vec<serde_json::Value> {
    let file = std::fs::File::open(folder().join("expected").join(name)).expect("the data is carried");
    let reader: Box<dyn BufRead> = if name.ends_with(".gz") {
        Box::new(BufReader::new(flate2::read::MultiGzDecoder::new(file)))
    } else {
        Box::new(BufReader::new(file))
    };
    reader.lines().map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect()
}

fn estimates(name: &str) -> Estimates {
    match name {
        "user" => Estimates::User,
        "perfect" => Estimates::Perfect,
        other => panic!("estimates {other}"),
    }
}

fn integer(value: &serde_json::Value) -> i64 {
    value.as_i64().expect("an integer")
}

fn jobs_of(case: &serde_json::Value) -> Vec<TraceJob> {
    let job = |row: &serde_json::Value| TraceJob {
        number: integer(&row[0]),
        submit: integer(&row[1]),
        run: integer(&row[2]),
        procs: u32::try_from(integer(&row[3])).unwrap(),
        estimate: integer(&row[4]),
        user: u32::try_from(integer(&row[5])).unwrap(),
        need: 0,
    };
    case["jobs"].as_array().unwrap().iter().map(job).collect()
}

/// Every tiny case under these policies, which are so many schedules; `planning` and `layout` must not change a start.
fn tiny(planning: Planning, layout: Layout, policies: &[&str], schedules: usize) {
    let mut checked = 0;
    let mut wrong = Vec::new();
    for (number, case) in rows("tiny-cases.jsonl.gz").iter().enumerate() {
        let jobs = jobs_of(case);
        let procs = u32::try_from(integer(&case["procs"])).unwrap();
        for (name, starts) in case["starts"].as_object().unwrap() {
            let (policy_name, believed) = name.split_once('/').unwrap();
            if !policies.contains(&policy_name) {
                continue;
            }
            let policy = Policy::named(policy_name).unwrap_or_else(|| panic!("policy {policy_name}"));
            let options = Options { procs, policy, estimates: estimates(believed), layout, planning };
            let expected: Vec<i64> = starts.as_array().unwrap().iter().map(integer).collect();
            let got = replay::run(&jobs, options);
            if got != expected {
                wrong.push(format!("case {number} {name}: {got:?}, not {expected:?}"));
            }
            checked += 1;
        }
    }
    assert!(wrong.is_empty(), "{} of {checked} differ:\n{}", wrong.len(), wrong.join("\n"));
    assert_eq!(checked, schedules);
}

#[test]
fn tiny_cases() {
    tiny(Planning::Following, Layout::OneNode, &Policy::NAMES, 80 * 26);
}

#[test]
fn tiny_cases_planned_twice() {
    tiny(Planning::Both, Layout::OneNode, &Policy::NAMES, 80 * 26);
}

/// A new scheduler at every instant, which knows what the journal says, predictions included. (Not with promises: the
/// nodes that come back give time back, for which promises move earlier.)
#[test]
fn tiny_cases_restarted() {
    tiny(Planning::Restarting, Layout::OneNode, &["easy-avg2", "easy-sjbf-avg2", "cons"], 80 * 4);
}

#[test]
fn tiny_cases_planned_anew() {
    tiny(Planning::Anew, Layout::OneNode, &Policy::NAMES, 80 * 26);
}

#[test]
fn tiny_cases_on_single_processor_nodes() {
    tiny(Planning::Following, Layout::Nodes, &Policy::NAMES, 80 * 26);
}

/// Rows of the reference table: exact waits, figures to 1e-9.
fn reference(wanted: impl Fn(&str, &str) -> bool) -> usize {
    let mut matched = 0;
    for row in rows("reference.jsonl") {
        let text = |key: &str| row[key].as_str().unwrap();
        if !wanted(text("trace"), text("policy")) {
            continue;
        }
        let bytes = read_bytes(&folder().join(format!("{}.swf.gz", text("trace")))).unwrap();
        let trace = swf::parse(&bytes, None).unwrap();
        let options = Options {
            procs: trace.procs,
            policy: Policy::named(text("policy")).unwrap(),
            estimates: estimates(text("estimates")),
            layout: Layout::OneNode,
            planning: Planning::Following,
        };
        let figures = Figures::of(&trace.jobs, &replay::run(&trace.jobs, options), trace.procs);
        let name = format!("{}/{}/{}", text("trace"), text("policy"), text("estimates"));
        assert_eq!(figures.waits_sha256, text("waits_sha256"), "{name}");
        let close = |got: f64, key: &str| {
            let expected = row[key].as_f64().unwrap();
            assert!((got - expected).abs() <= 1e-9 * expected.abs(), "{name} {key}: {got}, not {expected}");
        };
        close(figures.mean_bsld, "mean_bsld");
        close(figures.p95_bsld, "p95_bsld");
        close(figures.max_bsld, "max_bsld");
        close(figures.utilization, "utilization");
        close(figures.mean_wait_s, "mean_wait_s");
        close(figures.waited_frac, "waited_frac");
        assert_eq!(figures.makespan_s, integer(&row["makespan_s"]), "{name}");
        let waits = ["median_wait_s", "p95_wait_s", "p99_wait_s"].map(|key| integer(&row[key]));
        assert_eq!(figures.wait_s, waits, "{name}");
        assert_eq!(figures.max_wait_s, integer(&row["max_wait_s"]), "{name}");
        assert_eq!(figures.sum_wait_s, integer(&row["sum_wait_s"]), "{name}");
        assert_eq!(figures.jobs as i64, integer(&row["jobs"]), "{name}");
        matched += 1;
    }
    matched
}

#[test]
fn whole_traces() {
    // The others are rows of `cargo xtask`'s long form: a debug build takes minutes for them.
    assert_eq!(reference(|trace, policy| trace == "lublin-2" && policy.contains("easy")), 6);
}

/// Three of the ten windows of each trace, or as many as `SLUICE_SEEDS` says.
#[test]
fn windows() {
    let count = usize::try_from(scheduler_sim::seeds(3)).unwrap().min(10);
    const STARTS: [usize; 10] = [1981, 2756, 4299, 8850, 3316, 2714, 5228, 7762, 4022, 7085];
    for trace_name in ["lublin-1", "lublin-2"] {
        let bytes = read_bytes(&folder().join(format!("{trace_name}.swf.gz"))).unwrap();
        let trace = swf::parse(&bytes, None).unwrap();
        let mut by_number = trace.jobs.clone();
        by_number.sort_by_key(|job| job.number);
        for row in rows("windows.jsonl").iter().filter(|row| row["trace"] == *trace_name) {
            let name = row["policy"].as_str().unwrap();
            let means = STARTS[..count].iter().map(|&start| {
                let mut jobs = by_number[start..start + 1024].to_vec();
                jobs.sort_by_key(|job| (job.submit, job.number));
                let policy = Policy::named(name).unwrap();
                let options = Options {
                    procs: trace.procs,
                    policy,
                    estimates: Estimates::Perfect,
                    layout: Layout::OneNode,
                    planning: Planning::Following,
                };
                Figures::of(&jobs, &replay::run(&jobs, options), trace.procs).mean_bsld
            });
            let expected = row["per_window"].as_array().unwrap();
            for (got, expected) in means.zip(expected) {
                let expected = expected.as_f64().unwrap();
                assert!((got - expected).abs() < 0.000_6, "{trace_name} {name}: {got}, not {expected}");
            }
        }
    }
}

mod scaling {
    use proptest::prelude::*;

    use super::{Estimates, Layout, Options, Planning, Policy, TraceJob, replay};

    fn job() -> impl Strategy<Value = (i64, i64, u32, i64)> {
        (0_i64..40, 1_i64..60, 1_u32..=8, 0_i64..40)
    }

    fn waits(jobs: &[TraceJob], procs: u32, policy: &str) -> Vec<i64> {
        let options = Options {
            procs,
            policy: Policy::named(policy).unwrap(),
            estimates: Estimates::User,
            layout: Layout::OneNode,
            planning: Planning::Following,
        };
        let starts = replay::run(jobs, options);
        jobs.iter().zip(starts).map(|(job, start)| start - job.submit).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        /// So many times the processors for everybody, or another zero of time, changes no wait.
        #[test]
        fn no_wait_changes(rows in prop::collection::vec(job(), 1..14), times in 2_u32..6, later in 1_i64..100_000) {
            let mut jobs: Vec<TraceJob> = (1..).zip(&rows).map(|(number, &(submit, run, procs, more))| {
                TraceJob { number, submit, run, procs, estimate: run + more, user: 1, need: 0 }
            }).collect();
            jobs.sort_by_key(|job| (job.submit, job.number));
            let wider: Vec<TraceJob> = jobs.iter().map(|job| TraceJob { procs: job.procs * times, ..*job }).collect();
            let shifted: Vec<TraceJob> = jobs.iter().map(|job| TraceJob { submit: job.submit + later, ..*job }).collect();
            for policy in Policy::NAMES {
                let expected = waits(&jobs, 8, policy);
                prop_assert_eq!(&waits(&shifted, 8, policy), &expected, "{} later", policy);
                // The score of F1 is no product with the processors alone.
                if !policy.starts_with("f1") {
                    prop_assert_eq!(&waits(&wider, 8 * times, policy), &expected, "{} wider", policy);
                }
            }
        }
    }
}
