//! Looks at what each task uses, on a timer (JobAcctGatherFrequency, `--acctg-freq`) and when somebody asks.
//!
//! A task is its first process with all that descends from it. What has lost its parent counts for the only task of a
//! step; with several it is nobody's. Memory is what was seen at one moment, so a peak between two looks is missed but
//! for that of single processes, which the kernel keeps.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use executor_supervisor::account::{Account, Figure};
use executor_supervisor::spec::Spec;

use super::{Run, TaskState};
use crate::tree::Process;

/// The first look, as in Slurm: steps that are over sooner are not looked at.
const FIRST: Duration = Duration::from_secs(1);

/// The most that one task came to.
#[derive(Clone, Copy, Default)]
pub(super) struct Peak {
    cpu_us: u64,
    rss_bytes: u64,
    virtual_bytes: u64,
    read_bytes: u64,
    written_bytes: u64,
    pages: u64,
}

impl Peak {
    /// What is known from elsewhere: the kernel's word when the task's first process was waited for (its own and its dead
    /// children's), or another look.
    pub(super) fn at_least(&mut self, cpu_us: u64, max_rss_bytes: u64) {
        self.cpu_us = self.cpu_us.max(cpu_us);
        self.rss_bytes = self.rss_bytes.max(max_rss_bytes);
    }

    fn add(&mut self, process: &Process) {
        self.cpu_us += process.user_us + process.system_us;
        self.rss_bytes += process.rss_bytes;
        self.virtual_bytes += process.virtual_bytes;
        self.read_bytes += process.read_bytes;
        self.written_bytes += process.written_bytes;
        self.pages += process.pages;
    }

    fn rise_to(&mut self, now: Self) {
        self.cpu_us = self.cpu_us.max(now.cpu_us);
        self.rss_bytes = self.rss_bytes.max(now.rss_bytes);
        self.virtual_bytes = self.virtual_bytes.max(now.virtual_bytes);
        self.read_bytes = self.read_bytes.max(now.read_bytes);
        self.written_bytes = self.written_bytes.max(now.written_bytes);
        self.pages = self.pages.max(now.pages);
    }
}

/// When a run that begins now is looked at first; `None`: never on its own.
pub(super) fn first(spec: &Spec, now: Instant) -> Option<Instant> {
    (spec.sample_ms > 0).then(|| now + FIRST.min(Duration::from_millis(spec.sample_ms)))
}

/// When next.
pub(super) fn next(spec: &Spec, now: Instant) -> Option<Instant> {
    now.checked_add(Duration::from_millis(spec.sample_ms))
}

impl Run {
    /// Looks at every process of the step once.
    pub(super) fn sample(&mut self) {
        let processes = self.tree.look(&self.helper_pids());
        let parents: HashMap<i32, i32> =
            processes.iter().map(|process| (process.pid, process.parent)).collect();
        let places: HashMap<i32, usize> =
            self.tasks.iter().enumerate().map(|(index, task)| (task.pid, index)).collect();
        let mut now = vec![Peak::default(); self.tasks.len()];
        for process in &processes {
            if let Some(index) = task_of(process.pid, &parents, &places) {
                now[index].add(process);
            } else if let [only] = &mut now[..] {
                only.add(process);
            }
        }
        for (task, now) in self.tasks.iter_mut().zip(now) {
            task.peak.rise_to(now);
        }
    }

    /// What was seen until now.
    pub(super) fn account(&self) -> Account {
        let figure = |of: fn(&Peak) -> u64| {
            let most = self.tasks.iter().max_by_key(|task| (of(&task.peak), std::cmp::Reverse(task.rank)));
            let total = self.tasks.iter().map(|task| of(&task.peak)).sum();
            most.map_or_else(Figure::default, |task| Figure { most: of(&task.peak), rank: task.rank, total })
        };
        let mut rss = figure(|peak| peak.rss_bytes);
        // What had lost its parent and was waited for here.
        rss.most = rss.most.max(self.max_rss_bytes);
        rss.total = rss.total.max(rss.most);
        let least = self.tasks.iter().min_by_key(|task| (task.peak.cpu_us, task.rank));
        Account {
            rss,
            virtual_memory: figure(|peak| peak.virtual_bytes),
            read: figure(|peak| peak.read_bytes),
            written: figure(|peak| peak.written_bytes),
            pages: figure(|peak| peak.pages),
            cpu_least_us: least.map_or(0, |task: &TaskState| task.peak.cpu_us),
            cpu_least_rank: least.map_or(0, |task| task.rank),
            held: self.held.clone(),
        }
    }
}

/// The place of the task that a process descends from.
fn task_of(pid: i32, parents: &HashMap<i32, i32>, places: &HashMap<i32, usize>) -> Option<usize> {
    let mut at = pid;
    // A list that was read while it changed may hold a circle.
    for _ in 0..=parents.len() {
        if let Some(place) = places.get(&at) {
            return Some(*place);
        }
        at = *parents.get(&at)?;
    }
    None
}
