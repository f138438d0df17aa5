//! How tasks ended: what srun says of those that failed, and its exit status.

use std::collections::BTreeSet;

use executor_supervisor::outcome::Exit;
use model::array::TaskSet;
use model::signal;

/// The "signal" of tasks that the kernel killed for want of memory.
const OUT_OF_MEMORY: u32 = 125;

/// The ends of a step's tasks.
#[derive(Debug, Default)]
pub(in crate::command) struct Report {
    /// Failures that are not told yet: node, exit, ranks.
    untold: Vec<(usize, Exit, Vec<u32>)>,
    worst: Exit,
    /// The highest exit status, a signal counted from 128.
    status: u32,
    pub ended: u32,
    ranks: BTreeSet<u32>,
    pub terminated: bool,
}

impl Report {
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
        if exit == Exit::default() {
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

    /// Whether there are failures to tell.
    pub(in crate::command) fn has_untold(&self) -> bool {
        !self.untold.is_empty()
    }

    /// The lines that are due, `c1: tasks 0-2: Exited with exit code 5`.
    pub(in crate::command) fn tell(&mut self, names: &[String]) -> Vec<String> {
        let mut lines = Vec::new();
        for (node, exit, mut ranks) in self.untold.drain(..) {
            ranks.sort_unstable();
            let word = if ranks.len() == 1 { "task" } else { "tasks" };
            let how = match exit.signal {
                0 => format!("Exited with exit code {}", exit.code),
                OUT_OF_MEMORY => "Out Of Memory".to_owned(),
                number => signal::describe(u8::try_from(number).unwrap_or(0)),
            };
            let name = names.get(node).map_or("?", String::as_str);
            lines.push(format!("{name}: {word} {}: {how}", TaskSet::from_ids(ranks).text(None)));
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
        assert_eq!(lines, ["c1: tasks 0-2: Exited with exit code 5", "c2: task 3: Segmentation fault"]);
        assert_eq!((report.status(), report.worst(), report.has_untold()), (139, exit(5, 0), false));
    }
}
