//! Clients that submit as fast as they are answered, over connections of their own.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use benches::{Random, Spread};
use client::{Client, Key, Submission};

/// Unanswered submissions on one client's stream.
const IN_FLIGHT: usize = 64;

/// What is to be done.
pub(crate) struct Load {
    pub(crate) seed: u64,
    pub(crate) clients: u64,
    /// One stream each with many in flight, or one call at a time.
    pub(crate) pipelined: bool,
    pub(crate) span: Duration,
}

/// What was done.
pub(crate) struct Done {
    /// When each was sent, and how long its acknowledgement took.
    each: Vec<(Instant, Duration)>,
    span: Duration,
}

impl Done {
    pub(crate) fn jobs(&self) -> usize {
        self.each.len()
    }

    pub(crate) fn per_second(&self) -> f64 {
        self.each.len() as f64 / self.span.as_secs_f64()
    }

    pub(crate) fn spread(&self) -> Spread {
        Spread::of(self.each.iter().map(|(_, latency)| *latency).collect())
    }

    pub(crate) fn each(&self) -> &[(Instant, Duration)] {
        &self.each
    }
}

/// A job like no other: its script, its environment and its key follow from the two numbers.
pub(crate) fn job(seed: u64, number: u64, script_bytes: usize, environment_bytes: usize) -> Submission {
    let mut random = Random(seed.wrapping_mul(0x0100_0000_01b3) ^ number);
    let mut key = [0; 16];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..].copy_from_slice(&number.to_le_bytes());
    let head = format!("#!/bin/sh\n# {number}\n: ");
    let script = format!("{head}{}\n", random.text(script_bytes.saturating_sub(head.len() + 1)));
    let mut submission = Submission::script("bench", script);
    submission.key = Key::from_bytes(key);
    submission.request.work_dir = "/tmp".to_owned();
    submission.request.stdout = Some("/dev/null".to_owned());
    let value = environment_bytes / 40;
    let environment: String =
        (0..40).map(|at| format!("V{at:02}={}\0", random.text(value.saturating_sub(5)))).collect();
    submission.environment = environment.into_bytes().into();
    submission
}

/// Runs all clients for the span, and counts what was acknowledged in it. Fails if a submission is refused.
pub(crate) fn run(socket: &str, load: &Load) -> Result<Done> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("start tokio")?;
    runtime.block_on(async {
        let mut clients = Vec::new();
        for _ in 0..load.clients {
            clients.push(Client::connect_to(vec![socket.to_owned()]).await.context("connect")?);
        }
        let begin = Instant::now();
        let end = begin + load.span;
        let tasks: Vec<_> = clients
            .into_iter()
            .zip(0u64..)
            .map(|(client, at)| {
                let first = at << 32;
                let (seed, pipelined) = (load.seed, load.pipelined);
                tokio::spawn(async move {
                    if pipelined {
                        pipeline(&client, seed, first, end).await
                    } else {
                        one_by_one(&client, seed, first, end).await
                    }
                })
            })
            .collect();
        let mut latencies = Vec::new();
        for task in tasks {
            latencies.extend(task.await.context("a client")??);
        }
        if latencies.is_empty() {
            bail!("nothing was acknowledged");
        }
        Ok(Done { each: latencies, span: begin.elapsed() })
    })
}

async fn one_by_one(
    client: &Client,
    seed: u64,
    first: u64,
    end: Instant,
) -> Result<Vec<(Instant, Duration)>> {
    let mut latencies = Vec::new();
    for number in first.. {
        let submission = job(seed, number, 1024, 3072);
        let begin = Instant::now();
        if begin >= end {
            break;
        }
        client.submit(&submission).await.context("submit")?;
        latencies.push((begin, begin.elapsed()));
    }
    Ok(latencies)
}

async fn pipeline(client: &Client, seed: u64, first: u64, end: Instant) -> Result<Vec<(Instant, Duration)>> {
    let mut stream = client.submissions().await.context("open a stream")?;
    let mut sent = VecDeque::new();
    let mut latencies = Vec::new();
    let mut numbers = first..;
    loop {
        while sent.len() < IN_FLIGHT && Instant::now() < end {
            let submission = job(seed, numbers.next().expect("numbers do not end"), 1024, 3072);
            sent.push_back(Instant::now());
            stream.send(&submission).await.context("send")?;
        }
        let Some(begin) = sent.pop_front() else { break };
        stream.answer().await.context("the stream ended early")?.context("an answer")?;
        latencies.push((begin, begin.elapsed()));
    }
    Ok(latencies)
}
