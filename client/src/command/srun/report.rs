//! How tasks ended: what srun says of those that failed, and its exit status.

use std::collections::BTreeSet;

use executor_supervisor::outcome::Exit;
use model::array::TaskSet;
use model::{hostlist, signal};
use proto::v1::{CreateStepReply, StepNode};

use super::request;
use crate::option::Parsed;
use crate::say;

/// The "signal" of tasks that the kernel killed for want of memory.
const OUT_OF_MEMORY: u32 = 125;

/// The ends of a step's tasks.
#[derive(Debug, Default)]
pub(in crate::command) struct Report {
    /// Ends that are not told yet: node, exit, ranks.
    untold: Vec<(usize, Exit, Vec<u32>)>,
    worst: Exit,
    /// The highest exit status, a signal counted from 128.
    status: u32,
    pub ended: u32,
    ranks: BTreeSet<u32>,
    pub terminated: bool,
    /// Every end is told, with Slurm's words of `-v` before it that name this step.
    verbose: Option<String>,
}

/// A line of how tasks ended.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::command) enum Line {
    Error(String),
    /// Only with `-v`.
    Note(String),
}

impl Line {
    /// Prints it as the program's.
    pub(in crate::command) fn say(&self, program: &str) {
        match self {
            Self::Error(text) => say::error(program, text),
            Self::Note(text) => say::err(format!("{program}: {text}")),
        }
    }
}

/// What `-v` says of a step before its tasks begin: where it goes and how it is bound.
pub(super) fn launching(parsed: &Parsed, job_id: u32, reply: &CreateStepReply) -> Vec<String> {
    let held = |node: &StepNode| node.allocation.clone().unwrap_or_default();
    let names: Vec<String> = reply.nodes.iter().map(|node| held(node).node).collect();
    let mut counts: Vec<(u32, u32)> = Vec::new();
    for cpus in reply.nodes.iter().map(|node| held(node).cpus) {
        match counts.last_mut() {
            Some((count, times)) if *count == cpus => *times += 1,
            _ => counts.push((cpus, 1)),
        }
    }
    let counts: Vec<String> = counts.iter().map(|(cpus, times)| format!("{cpus}(x{times})")).collect();
    let list = hostlist::compress_sorted(&names);
    let bound = parsed.first().manner.cpu_bind.as_deref().filter(|text| !text.is_empty());
    let mut lines = vec![
        format!("jobid {job_id}: nodes({}):`{list}', cpu counts: {}", names.len(), counts.join(",")),
        format!("CpuBindType={}", bound.unwrap_or("(null type)")),
    ];
    let step = request::step_name(job_id, &reply.step_id);
    for (name, node) in names.iter().zip(&reply.nodes) {
        let ranks = TaskSet::from_ids(node.ranks.clone()).text(None);
        let ranks = if node.ranks.len() == 1 { ranks } else { format!("[{ranks}]") };
        lines.push(format!("launching StepId={step} on host {name}, {} tasks: {ranks}", node.ranks.len()));
    }
    lines
}

impl Report {
    /// With `step`, ends are told as with `-v`.
    pub(super) fn new(step: Option<String>) -> Self {
        Self { verbose: step, ..Self::default() }
    }

    /// Notes the end of a task.
    pub(in crate::command) fn add(&mut self, node: usize, rank: u32, exit: Exit) {
        self.ended += 1;
        self.ranks.insert(rank);
        self.status = self.status.max(match exit.signal {
            0 => exit.code,
            // As srun does: there is no such signal.
            OUT_OF_MEMORY => 1,
            signal => 128 + signal,
        });
        if exit.badness() > self.worst.badness() {
            self.worst = exit;
        }
        if exit == Exit::default() && self.verbose.is_none() {
            return;
        }
        self.terminated |= matches!(exit.signal, 9 | 15);
        match self.untold.iter_mut().find(|(other, known, _)| *other == node && *known == exit) {
            Some((_, _, ranks)) => ranks.push(rank),
            None => self.untold.push((node, exit, vec![rank])),
        }
    }

    /// Whether this task has ended.
    pub(in crate::command) fn has_ended(&self, rank: u32) -> bool {
        self.ranks.contains(&rank)
    }

    /// Whether there are ends to tell.
    pub(in crate::command) fn has_untold(&self) -> bool {
        !self.untold.is_empty()
    }

    /// The lines that are due, `c1: tasks 0-2: Exited with exit code 5`.
    pub(in crate::command) fn tell(&mut self, names: &[String]) -> Vec<Line> {
        let mut lines = Vec::new();
        // What ended in the same moment is told in the order of ranks.
        self.untold.iter_mut().for_each(|(_, _, ranks)| ranks.sort_unstable());
        self.untold.sort_by_key(|(node, _, ranks)| (*node, ranks.first().copied()));
        for (node, exit, ranks) in self.untold.drain(..) {
            let word = if ranks.len() == 1 { "task" } else { "tasks" };
            if let Some(step) = &self.verbose {
                let status = (exit.code << 8) | exit.signal;
                let count = ranks.len();
                lines.push(Line::Note(format!(
                    "Received task exit notification for {count} {word} of StepId={step} (status={status:#06x})."
                )));
            }
            let how = match exit.signal {
                0 if exit.code == 0 => "Completed".to_owned(),
                0 => format!("Exited with exit code {}", exit.code),
                OUT_OF_MEMORY => "Out Of Memory".to_owned(),
                number => signal::describe(u8::try_from(number).unwrap_or(0)),
            };
            let name = names.get(node).map_or("?", String::as_str);
            let text = format!("{name}: {word} {}: {how}", TaskSet::from_ids(ranks).text(None));
            lines.push(if exit == Exit::default() { Line::Note(text) } else { Line::Error(text) });
        }
        lines
    }

    /// srun's exit status.
    pub(in crate::command) fn status(&self) -> u8 {
        (self.status % 256) as u8
    }

    /// What the job is told.
    pub(in crate::command) fn worst(&self) -> Exit {
        self.worst
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_folded_by_node() {
        let names = ["c1".to_owned(), "c2".to_owned()];
        let mut report = Report::default();
        let exit = |code, signal| Exit { code, signal };
        report.add(0, 2, exit(5, 0));
        report.add(0, 0, exit(5, 0));
        report.add(0, 1, exit(5, 0));
        report.add(1, 3, exit(0, 11));
        report.add(1, 4, exit(0, 0));
        let lines = report.tell(&names);
        let error = |text: &str| Line::Error(text.to_owned());
        let expected = ["c1: tasks 0-2: Exited with exit code 5", "c2: task 3: Segmentation fault"];
        assert_eq!(lines, expected.map(error));
        assert_eq!((report.status(), report.worst(), report.has_untold()), (139, exit(5, 0), false));
    }

    #[test]
    fn with_a_step_every_end_is_told() {
        let mut report = Report::new(Some("7.0".to_owned()));
        report.add(0, 1, Exit::default());
        report.add(0, 0, Exit::default());
        let note = |text: &str| Line::Note(text.to_owned());
        let expected = [
            "Received task exit notification for 2 tasks of StepId=7.0 (status=0x0000).",
            "c1: tasks 0-1: Completed",
        ];
        assert_eq!(report.tell(&["c1".to_owned()]), expected.map(note));
        report.add(0, 2, Exit { code: 3, signal: 0 });
        let lines = report.tell(&["c1".to_owned()]);
        assert!(
            matches!(&lines[0], Line::Note(text) if text.contains("1 task of StepId=7.0 (status=0x0300)"))
        );
        assert!(matches!(&lines[1], Line::Error(text) if text == "c1: task 2: Exited with exit code 3"));
    }
}
