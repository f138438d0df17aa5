//! `sluice-simulate --openb`: one JSON object with the keys of `tests/traces/expected/openb.jsonl`.

use serde_json::{Map, Value, json};

use super::cluster::Openb;
use super::policy::{Placer, Policy};
use crate::mig::stream::below;
use crate::random::SplitMix64;

/// Demands, in percent of the capacity, at which the allocated share is reported; the last is the end.
const AT: [u64; 6] = [80, 90, 95, 100, 110, 130];

/// What a run gave.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outcome {
    /// Pods drawn.
    pub drawn: u64,
    /// Pods that fitted nowhere.
    pub failed: u64,
    /// Allocated percent of the GPU capacity at each of the demands reported.
    pub allocated: [f64; 6],
}

impl Outcome {
    /// Allocated percent of the capacity when the demand reaches it.
    #[must_use]
    pub const fn at_capacity(&self) -> f64 {
        self.allocated[3]
    }
}

/// Draws and places pods until the demand is 1.3 times the capacity.
#[must_use]
pub fn run(trace: &Openb, policy: Policy, seed: u64) -> Outcome {
    let capacity = trace.capacity_milli();
    let mut placer = Placer::new(policy, trace, seed);
    let mut source = SplitMix64(seed);
    let (mut drawn, mut failed, mut arrived, mut allocated) = (0, 0, 0_u64, 0_u64);
    let mut reported = [0; 6];
    while arrived * 10 < capacity * 13 {
        let row = below(&mut source, trace.pods.len() as u64);
        let pod = trace.pods[usize::try_from(row).expect("below the number of pods")];
        drawn += 1;
        arrived += u64::from(pod.gpu.milli());
        if placer.place(&pod) {
            allocated += u64::from(pod.gpu.milli());
        } else {
            failed += 1;
        }
        for (reported, percent) in reported.iter_mut().zip(AT) {
            if arrived * 100 < capacity * (percent + 1) {
                *reported = allocated;
            }
        }
    }
    reported[5] = allocated;
    let percent = |milli: u64| 100.0 * milli as f64 / capacity as f64;
    Outcome { drawn, failed, allocated: reported.map(percent) }
}

/// The answer's object.
///
/// # Errors
/// A sentence: no such policy.
pub fn answer(trace: &Openb, policy: &str, seed: u64) -> Result<Value, String> {
    let outcome = run(trace, Policy::named(policy)?, seed);
    let mut object = Map::new();
    object.insert("policy".into(), json!(policy));
    object.insert("seed".into(), json!(seed));
    object.insert("drawn".into(), json!(outcome.drawn));
    object.insert("failed".into(), json!(outcome.failed));
    for (percent, allocated) in AT.iter().zip(outcome.allocated) {
        let rounded: f64 = format!("{allocated:.3}").parse().expect("a number was printed");
        object.insert(format!("alloc@{percent}"), json!(rounded));
    }
    Ok(Value::Object(object))
}
