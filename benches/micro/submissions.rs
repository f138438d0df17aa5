//! Submission: admission of distinct requests, batches with their records, arrays.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use benches::admission::{machine, submit};
use criterion::{BatchSize, Criterion, Throughput};
use model::array::ArraySpec;
use model::request::JobRequest;
use scheduler_core::machine::Outbox;
use scheduler_sim::grid::{Mix, NOW, pending_job};

use crate::instance;

/// Submissions in a batch of the controller under load.
const BATCH: u64 = 64;

/// A request never seen before, with the check whether it can ever run.
pub(crate) fn admission(criterion: &mut Criterion) {
    let instance = instance(1000, Mix::Adverse);
    let requests: Vec<Arc<JobRequest>> =
        (1..).zip(&instance.jobs).map(|(id, pended)| Arc::clone(&pending_job(id, pended).request)).collect();
    let mut group = criterion.benchmark_group("submission");
    group.throughput(Throughput::Elements(1));
    group.bench_function("admission of a distinct request", |bencher| {
        bencher.iter_custom(|count| {
            let mut taken = Duration::ZERO;
            let mut places = 0..count;
            // As many as there are distinct ones, then another machine.
            while !places.is_empty() {
                let (mut machine, _) = machine(&instance);
                let mut out = Outbox::default();
                for (place, request) in places.by_ref().zip(&requests) {
                    let input = submit(place, Arc::clone(request));
                    let begin = Instant::now();
                    machine.handle(NOW, input, &mut out);
                    taken += begin.elapsed();
                    out.records.clear();
                    out.effects.clear();
                }
            }
            taken
        });
    });
    group.finish();
}

/// A batch as the controller handles it: submissions through the machine, their records encoded for the journal.
pub(crate) fn batch(criterion: &mut Criterion) {
    let instance = instance(1000, Mix::Realistic);
    let requests: Vec<Arc<JobRequest>> =
        (1..).zip(&instance.jobs).map(|(id, pended)| Arc::clone(&pending_job(id, pended).request)).collect();
    let mut group = criterion.benchmark_group("submission");
    group.throughput(Throughput::Elements(BATCH));
    let (mut machine, _) = machine(&instance);
    let mut out = Outbox::default();
    let mut payload = journal::Payload::new();
    let mut next = 0_u64;
    let mut requests = requests.iter().cycle();
    group.bench_function("a batch of 64, handled and encoded", |bencher| {
        bencher.iter_batched(
            || {
                requests
                    .by_ref()
                    .take(BATCH as usize)
                    .map(|request| {
                        next += 1;
                        submit(next, Arc::clone(request))
                    })
                    .collect::<Vec<_>>()
            },
            |inputs| {
                payload.clear();
                out.records.clear();
                out.effects.clear();
                for input in inputs {
                    machine.handle(NOW, input, &mut out);
                }
                for record in &out.records {
                    payload.push_with(|bytes| scheduler_codec::encode_record(record, bytes));
                }
                black_box(payload.frame_bytes())
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

/// One array of a million elements, and one of a thousand ranges.
pub(crate) fn arrays(criterion: &mut Criterion) {
    let instance = instance(100, Mix::Realistic);
    let sparse: Vec<String> = (0..1000).map(|part| format!("{}-{}", part * 10, part * 10 + 4)).collect();
    let mut group = criterion.benchmark_group("an array");
    for (name, text) in
        [("of 1,000,000 elements", "0-999999".to_owned()), ("of 1,000 ranges", sparse.join(","))]
    {
        let array = ArraySpec::parse(&text, 10_000_000).expect("an array");
        let request =
            JobRequest { array: Some(array), ..(*pending_job(1, &instance.jobs[0]).request).clone() };
        let request = Arc::new(request);
        group.bench_function(name, |bencher| {
            bencher.iter_batched(
                || (machine(&instance).0, submit(1, Arc::clone(&request))),
                |(mut machine, input)| {
                    let mut out = Outbox::default();
                    machine.handle(NOW, input, &mut out);
                    // Dropping them is not part of it.
                    (machine, out)
                },
                BatchSize::LargeInput,
            );
        });
    }
    group.finish();
}
