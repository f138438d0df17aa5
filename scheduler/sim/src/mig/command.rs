//! `sluice-simulate --mig`: one JSON object a line, with the keys of `tests/traces/expected/mig-*.jsonl`.

use std::ops::RangeInclusive;

use serde_json::{Map, Value, json};

use super::stream::{Contender, Percents};
use super::{churn, exact, fill, queue};

/// Which benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Expectations up to the first rejection.
    Exact,
    /// Filling empty GPUs.
    Fill,
    /// Slices come and go.
    Churn,
    /// The same with a queue.
    Queue,
}

/// What was asked on the command line.
#[derive(Clone, Debug)]
pub struct Question {
    /// Which benchmark.
    pub kind: Kind,
    /// GPUs.
    pub gpus: usize,
    /// The mix as typed.
    pub mix: String,
    /// Demand over capacity; churn only.
    pub load: Option<f64>,
    /// The contender's name.
    pub policy: String,
    /// Seeds, ascending; not for exact.
    pub seeds: Option<RangeInclusive<u64>>,
}

/// The answer's objects: two for exact, one otherwise.
///
/// # Errors
/// A sentence that names the option and what is wrong with it.
pub fn answer(question: &Question) -> Result<Vec<Value>, String> {
    let percents = Percents::parse(&question.mix)?;
    if question.gpus == 0 {
        return Err("--gpus 0: there must be one at least".into());
    }
    if question.load.is_some() && !matches!(question.kind, Kind::Churn | Kind::Queue) {
        return Err("--load belongs to --mig churn and --mig queue".into());
    }
    match question.kind {
        Kind::Exact => answer_exact(question, &percents),
        Kind::Fill => answer_fill(question, &percents).map(|object| vec![object]),
        Kind::Churn => answer_churn(question, &percents).map(|object| vec![object]),
        Kind::Queue => answer_queue(question, &percents).map(|object| vec![object]),
    }
}

fn answer_exact(question: &Question, percents: &Percents) -> Result<Vec<Value>, String> {
    let judged = exact::Judged::named(&question.policy)?;
    if question.seeds.is_some() {
        return Err("--seeds: --mig exact computes expectations and draws nothing".into());
    }
    let most = exact::MOST_GPUS;
    if question.gpus > most {
        return Err(format!("--gpus {}: --mig exact goes up to {most}", question.gpus));
    }
    let expected = exact::expected(judged, question.gpus, percents);
    let object = |weight: &str, value: f64| {
        let mut object = Map::new();
        object.insert("N".into(), json!(question.gpus));
        object.insert("dist".into(), json!(question.mix));
        object.insert("weight".into(), json!(weight));
        object.insert(question.policy.clone(), rounded(value));
        Value::Object(object)
    };
    Ok(vec![object("count", expected.count), object("mem", expected.memory)])
}

fn answer_fill(question: &Question, percents: &Percents) -> Result<Value, String> {
    let contender = Contender::named(&question.policy)?;
    let seeds = seeds(question, 1..=50)?;
    let first = *seeds.start();
    let outcomes: Vec<fill::Outcome> =
        seeds.map(|seed| fill::run(contender, question.gpus, percents, seed)).collect();
    let total = |of: fn(&fill::Outcome) -> u64| outcomes.iter().map(of).sum::<u64>() as f64;
    let runs = outcomes.len() as f64;
    let memory = question.gpus as f64 * f64::from(scheduler_core::gpu::geometry::MEMORY_SLICES);
    let mut object = head(question);
    object.insert("policy".into(), json!(question.policy));
    let mut put = |key: &str, value: f64| object.insert(key.into(), rounded(value));
    put("accept", total(|o| o.accepted) / total(|o| o.requests));
    put("mem_accept", total(|o| o.mem_accepted) / total(|o| o.mem_requested));
    put("first_reject_mem_frac", total(|o| o.first_reject_mem) / (runs * memory));
    put("first_reject_count", total(|o| o.first_reject_count) / runs);
    let one = outcomes[0];
    object.insert(
        format!("seed{first}"),
        json!({
            "requests": one.requests,
            "accepted": one.accepted,
            "mem_requested": one.mem_requested,
            "mem_accepted": one.mem_accepted,
            "first_reject_count": one.first_reject_count,
            "first_reject_mem": one.first_reject_mem,
            "gpus_used": one.gpus_used,
        }),
    );
    Ok(Value::Object(object))
}

fn load_of(question: &Question, kind: &str) -> Result<f64, String> {
    let load = question.load.ok_or_else(|| format!("--mig {kind} needs --load"))?;
    if !load.is_finite() || load <= 0.0 {
        return Err(format!("--load {load}: it must be more than 0"));
    }
    Ok(load)
}

fn answer_queue(question: &Question, percents: &Percents) -> Result<Value, String> {
    let server = queue::Server::named(&question.policy)?;
    let load = load_of(question, "queue")?;
    queue::check_gpus(question.gpus)?;
    let run = |server, seed| {
        queue::run(server, question.gpus, percents, load, seed, crate::trace::replay::Planning::Following)
    };
    let pairs: Vec<_> = seeds(question, 1..=3)?
        .map(|seed| (run(server, seed), run(queue::Server::Rule(Contender::Repack), seed)))
        .collect();
    let mean = |of: &dyn Fn(&(queue::Outcome, queue::Outcome)) -> f64| {
        rounded(pairs.iter().map(of).sum::<f64>() / pairs.len() as f64)
    };
    let mut object = head(question);
    object.insert("load".into(), json!(load));
    object.insert("policy".into(), json!(question.policy));
    object.insert("jobs".into(), json!(queue::JOBS));
    object.insert("wait_mean_s".into(), mean(&|(one, _)| one.wait_mean));
    object.insert("wait_max_7g_s".into(), mean(&|(one, _)| one.wait_max_7g as f64));
    object.insert("makespan_s".into(), mean(&|(one, _)| one.makespan as f64));
    object.insert("of_bound".into(), mean(&|(one, bound)| one.served as f64 / bound.served as f64));
    Ok(Value::Object(object))
}

fn answer_churn(question: &Question, percents: &Percents) -> Result<Value, String> {
    let contender = Contender::named(&question.policy)?;
    let load = load_of(question, "churn")?;
    let seeds = seeds(question, 1..=3)?;
    let first = *seeds.start();
    let outcomes: Vec<churn::Outcome> =
        seeds.map(|seed| churn::run(contender, question.gpus, percents, load, seed)).collect();
    let mean = |of: fn(&churn::Outcome) -> f64| {
        rounded(outcomes.iter().map(of).sum::<f64>() / outcomes.len() as f64)
    };
    let mut object = head(question);
    object.insert("load".into(), json!(load));
    object.insert("policy".into(), json!(question.policy));
    object.insert("D".into(), json!(churn::longest(question.gpus, percents, load)));
    object.insert("accept".into(), mean(|o| o.accept));
    object.insert("mem_accept".into(), mean(|o| o.mem_accept));
    object.insert("mem_used".into(), mean(|o| o.mem_used));
    object.insert("accept_7g".into(), mean(|o| o.accept_7g));
    object.insert(format!("seed{first}_accept"), json!(outcomes[0].accept));
    Ok(Value::Object(object))
}

fn head(question: &Question) -> Map<String, Value> {
    let mut object = Map::new();
    object.insert("N".into(), json!(question.gpus));
    object.insert("dist".into(), json!(question.mix));
    object
}

fn seeds(question: &Question, usual: RangeInclusive<u64>) -> Result<RangeInclusive<u64>, String> {
    let seeds = question.seeds.clone().unwrap_or(usual);
    if seeds.is_empty() {
        return Err(format!("--seeds {}-{}: the first is after the last", seeds.start(), seeds.end()));
    }
    Ok(seeds)
}

/// A range of seeds: "A-B", or "A" for one.
///
/// # Errors
/// A sentence with the text.
pub fn parse_seeds(text: &str) -> Result<RangeInclusive<u64>, String> {
    let wrong = || format!("seeds \"{text}\" is neither a number nor A-B");
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    Ok(first.parse().map_err(|_| wrong())?..=last.parse().map_err(|_| wrong())?)
}

/// Six digits after the point, as the reference prints; null if there was nothing to divide by.
fn rounded(value: f64) -> Value {
    format!("{value:.6}")
        .parse::<f64>()
        .ok()
        .and_then(serde_json::Number::from_f64)
        .map_or(Value::Null, Value::Number)
}
