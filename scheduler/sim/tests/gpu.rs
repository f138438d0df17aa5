//! The GPU benchmarks against the reference figures of `tests/traces/expected`.
//!
//! A usual run takes a part of the rows, spread over all mixes, loads and policies; `SLUICE_ROWS=all` takes every
//! row (ten seconds in the release profile): `SLUICE_ROWS=all cargo test --release -p scheduler-sim --test gpu`.

use std::path::{Path, PathBuf};

use scheduler_core::gpu::policy::Policy;
use scheduler_sim::mig::churn;
use scheduler_sim::mig::command::{Kind, Question, answer};
use scheduler_sim::mig::exact::{Judged, expected};
use scheduler_sim::mig::stream::{Contender, Percents};
use scheduler_sim::openb;
use serde_json::{Map, Value};

fn traces() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/traces")
}

/// The rows of a file, in the usual run each `step`-th; always at least one.
fn rows(name: &str, step: usize) -> Vec<Map<String, Value>> {
    let path = traces().join("expected").join(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let step = if std::env::var("SLUICE_ROWS").is_ok_and(|rows| rows == "all") { 1 } else { step };
    let rows: Vec<_> = text.lines().step_by(step).map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(!rows.is_empty(), "{name} has rows");
    println!("{name}: {} rows compared", rows.len());
    rows
}

/// Integers, texts and nulls must be equal, floats to 1e-9 of their size.
fn assert_same(expected: &Value, got: &Value, place: &str) {
    match (expected, got) {
        (Value::Object(expected), Value::Object(got)) => {
            let keys = |object: &Map<String, Value>| object.keys().cloned().collect::<Vec<_>>();
            assert_eq!(keys(expected), keys(got), "{place}");
            for (key, value) in expected {
                assert_same(value, &got[key], &format!("{place} {key}"));
            }
        }
        (Value::Number(expected), Value::Number(got)) => {
            let (expected, got) = (expected.as_f64().unwrap(), got.as_f64().unwrap());
            let apart = (expected - got).abs();
            assert!(apart <= 1e-9 * expected.abs().max(got.abs()), "{place}: {got} instead of {expected}");
        }
        _ => assert_eq!(expected, got, "{place}"),
    }
}

fn question(kind: Kind, row: &Map<String, Value>, policy: &str) -> Question {
    Question {
        kind,
        gpus: usize::try_from(row["N"].as_u64().unwrap()).unwrap(),
        mix: row["dist"].as_str().unwrap().to_owned(),
        load: row.get("load").and_then(Value::as_f64),
        policy: policy.to_owned(),
        seeds: None,
    }
}

#[test]
fn exact_figures_match() {
    // Two rows, count and mem, are one question; each names all policies.
    for pair in rows("mig-exact.jsonl", 1).chunks(2) {
        let policies = pair[0].keys().filter(|key| !["N", "dist", "weight"].contains(&key.as_str()));
        for policy in policies {
            let objects = answer(&question(Kind::Exact, &pair[0], policy)).unwrap();
            assert_eq!(objects.len(), 2);
            for (row, object) in pair.iter().zip(&objects) {
                let wanted = ["N", "dist", "weight", policy].map(|key| (key.to_owned(), row[key].clone()));
                assert_same(&Value::Object(wanted.into_iter().collect()), object, policy);
            }
        }
    }
}

#[test]
fn fill_figures_match() {
    // Of the eleven policies of each mix, three; which ones moves from mix to mix.
    for row in rows("mig-fill.jsonl", 4) {
        let object = answer(&question(Kind::Fill, &row, row["policy"].as_str().unwrap())).unwrap().remove(0);
        assert_same(
            &Value::Object(row.clone()),
            &object,
            &format!("fill {:?}", (&row["dist"], &row["policy"])),
        );
    }
}

#[test]
fn churn_figures_match() {
    for row in rows("mig-churn.jsonl", 13) {
        let object = answer(&question(Kind::Churn, &row, row["policy"].as_str().unwrap())).unwrap().remove(0);
        let place = format!("churn {:?}", (&row["dist"], &row["load"], &row["policy"]));
        assert_same(&Value::Object(row), &object, &place);
    }
}

#[test]
fn openb_figures_match() {
    let trace = openb::cluster::Openb::read(&traces().join("openb")).unwrap();
    for row in rows("openb.jsonl", 3) {
        let policy = row["policy"].as_str().unwrap();
        let object = openb::command::answer(&trace, policy, row["seed"].as_u64().unwrap()).unwrap();
        assert_same(&Value::Object(row.clone()), &object, policy);
    }
}

#[test]
fn our_rule_is_close_to_the_online_optimum() {
    let listed = ["uniform", "skew-small", "skew-big", "bimodal"];
    let others =
        ["40,10,10,20,10,10", "0,0,55,15,30,0", "50,0,0,0,0,50", "10,35,25,15,10,5", "7,2,69,10,11,1"];
    for mix in listed.iter().chain(&others) {
        let percents = Percents::parse(mix).unwrap();
        for gpus in 1..=2 {
            let memory = |judged| expected(judged, gpus, &percents).memory;
            let share = memory(Judged::Rule(Policy::Demand)) / memory(Judged::OptimalOnline);
            assert!((0.99..=1.0 + 1e-12).contains(&share), "{mix} on {gpus}: {share}");
        }
    }
}

#[test]
fn our_rule_accepts_more_than_capacity_under_churn() {
    let (mut told, mut learned) = (0.0, 0.0);
    for mix in ["uniform", "skew-small", "bimodal"] {
        let percents = Percents::parse(mix).unwrap();
        let accepted =
            |policy, seed| churn::run(Contender::Rule(policy), 100, &percents, 1.0, seed).mem_accept;
        let base = accepted(Policy::Capacity, 1);
        told += (accepted(Policy::Demand, 1) - base) / 3.0;
        learned += (accepted(Policy::DemandObserved, 1) - base) / 3.0;
    }
    assert!(told > 0.001, "told the mix: {told:+.5}");
    assert!(learned > told - 0.002, "learned: {learned:+.5}, told: {told:+.5}");
}

#[test]
fn wrong_questions_are_refused_with_the_value() {
    let ask = |kind, gpus, mix: &str, load, policy: &str| {
        let (mix, policy) = (mix.to_owned(), policy.to_owned());
        answer(&Question { kind, gpus, mix, load, policy, seeds: None }).unwrap_err()
    };
    for (message, part) in [
        (ask(Kind::Exact, 4, "uniform", None, "capacity"), "--gpus 4"),
        (ask(Kind::Exact, 1, "uniform", None, "demand-observed"), "what came before"),
        (ask(Kind::Fill, 4, "uniform", None, "optimal-online"), "optimal-online"),
        (ask(Kind::Fill, 4, "1,2,3", None, "capacity"), "3 weights"),
        (ask(Kind::Fill, 4, "20,20,20,20,20,20", None, "capacity"), "120"),
        (ask(Kind::Fill, 4, "evenly", None, "capacity"), "evenly"),
        (ask(Kind::Fill, 0, "uniform", None, "capacity"), "--gpus 0"),
        (ask(Kind::Fill, 4, "uniform", Some(1.0), "capacity"), "--load"),
        (ask(Kind::Churn, 4, "uniform", None, "capacity"), "--load"),
        (ask(Kind::Churn, 4, "uniform", Some(-1.0), "capacity"), "-1"),
    ] {
        assert!(message.contains(part), "{message} | {part}");
    }
}
