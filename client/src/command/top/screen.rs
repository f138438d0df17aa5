//! What `sluice top` shows, and what keys make of it. Knows neither terminal nor scheduler.

use model::job::JobState;
use proto::v1::{Job, JobSelector, Node};
use ratatui::crossterm::event::{Event, KeyCode, KeyEvent, KeyModifiers};
use ratatui::widgets::TableState;

use super::super::gpus::{self, Bar};
use super::super::job;

/// What a job is to undergo.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Act {
    /// It ends.
    Cancel(JobSelector),
    /// It does not start.
    Hold(JobSelector),
    /// It may start again.
    Release(JobSelector),
}

/// What a key asks for.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Wish {
    /// Only a new picture.
    Nothing,
    /// New figures.
    Refresh,
    /// Why the job waits.
    Explain(JobSelector),
    /// Something done to a job.
    Act(Act),
    /// The end.
    Quit,
}

/// The state of the picture.
pub(super) struct Screen {
    uid: u32,
    pub nodes: Vec<Node>,
    /// In the order shown: own ones first, running before waiting, waiting ones by their planned start.
    pub jobs: Vec<Job>,
    pub now_ms: i64,
    /// GPUs that drivers show, whoever asks.
    pub gpus: Vec<Bar>,
    pub only_own: bool,
    /// Which row is chosen, and the first one seen.
    pub table: TableState,
    /// A line about the last act.
    pub note: String,
    /// An act that waits for a yes.
    pub question: Option<Act>,
    /// The explanation that covers the picture.
    pub explained: Option<Vec<String>>,
}

impl Screen {
    /// An empty picture for a user.
    pub(super) fn new(uid: u32) -> Self {
        Self {
            uid,
            nodes: Vec::new(),
            jobs: Vec::new(),
            now_ms: 0,
            gpus: Vec::new(),
            only_own: false,
            table: TableState::default(),
            note: String::new(),
            question: None,
            explained: None,
        }
    }

    /// Takes new figures; the chosen job stays chosen while it is there.
    pub(super) fn take(&mut self, nodes: Vec<Node>, mut jobs: Vec<Job>, now_ms: i64) {
        let chosen = self.chosen().map(job::id);
        self.gpus = gpus::bars(&nodes, &jobs);
        if self.only_own {
            jobs.retain(|job| job.uid == self.uid);
        }
        jobs.sort_by_cached_key(|job| {
            let waits = job::state(job) == JobState::Pending;
            let start =
                if waits { job.planned_start_ms.unwrap_or(i64::MAX) } else { job.start_ms.unwrap_or(0) };
            (
                job.uid != self.uid,
                waits,
                start,
                std::cmp::Reverse(job.priority),
                job.job_id,
                job.array_task_id,
            )
        });
        (self.nodes, self.jobs, self.now_ms) = (nodes, jobs, now_ms);
        let at = chosen.and_then(|id| self.jobs.iter().position(|job| job::id(job) == id));
        let last = self.jobs.len().checked_sub(1);
        let row = at.or(self.table.selected()).or(Some(0)).zip(last).map(|(row, last)| row.min(last));
        self.table.select(row);
    }

    /// Whether a job is the asker's.
    pub(super) fn is_own(&self, job: &Job) -> bool {
        job.uid == self.uid
    }

    fn chosen(&self) -> Option<&Job> {
        self.jobs.get(self.table.selected()?)
    }

    /// Changes the picture by a key, and says what else it asks for.
    pub(super) fn react(&mut self, event: &Event) -> Wish {
        let Event::Key(key) = event else { return Wish::Nothing };
        if key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL) {
            return Wish::Quit;
        }
        if self.explained.take().is_some() {
            return Wish::Nothing;
        }
        if let Some(act) = self.question.take() {
            let yes = matches!(key.code, KeyCode::Char('y' | 'Y'));
            self.note = if yes { String::new() } else { "left as it was".to_owned() };
            return if yes { Wish::Act(act) } else { Wish::Nothing };
        }
        self.note.clear();
        self.command(key)
    }

    fn command(&mut self, key: &KeyEvent) -> Wish {
        let chosen = self.chosen().map(selector);
        let last = self.jobs.len().saturating_sub(1);
        match (key.code, chosen) {
            (KeyCode::Char('q') | KeyCode::Esc, _) => Wish::Quit,
            (KeyCode::Down | KeyCode::Char('j'), _) => self.step(|row| (row + 1).min(last)),
            (KeyCode::Up | KeyCode::Char('k'), _) => self.step(|row| row.saturating_sub(1)),
            (KeyCode::PageDown, _) => self.step(|row| (row + 10).min(last)),
            (KeyCode::PageUp, _) => self.step(|row| row.saturating_sub(10)),
            (KeyCode::Home, _) => self.step(|_| 0),
            (KeyCode::End, _) => self.step(|_| last),
            (KeyCode::Char('u'), _) => {
                self.only_own = !self.only_own;
                Wish::Refresh
            }
            (KeyCode::Char('e') | KeyCode::Enter, Some(job)) => Wish::Explain(job),
            (KeyCode::Char('h'), Some(job)) => Wish::Act(Act::Hold(job)),
            (KeyCode::Char('r'), Some(job)) => Wish::Act(Act::Release(job)),
            (KeyCode::Char('c'), Some(job)) => {
                self.question = Some(Act::Cancel(job));
                Wish::Nothing
            }
            _ => Wish::Nothing,
        }
    }

    fn step(&mut self, to: impl FnOnce(usize) -> usize) -> Wish {
        if !self.jobs.is_empty() {
            self.table.select(Some(to(self.table.selected().unwrap_or(0))));
        }
        Wish::Nothing
    }
}

/// How the scheduler is told which job is meant: an element of an array by its index.
fn selector(job: &Job) -> JobSelector {
    match job.array_task_id {
        Some(task) => JobSelector {
            job_id: job.array_job_id.unwrap_or(job.job_id),
            tasks: task.to_string(),
            step: String::new(),
        },
        None => JobSelector { job_id: job.job_id, ..JobSelector::default() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(id: u32, uid: u32, state: &str, at: i64) -> Job {
        let (start, planned) = if state == "PENDING" { (None, Some(at)) } else { (Some(at), None) };
        Job {
            job_id: id,
            uid,
            state: state.to_owned(),
            start_ms: start,
            planned_start_ms: planned,
            ..Job::default()
        }
    }

    fn press(screen: &mut Screen, code: KeyCode) -> Wish {
        screen.react(&Event::Key(KeyEvent::new(code, KeyModifiers::NONE)))
    }

    #[test]
    fn own_jobs_come_first_and_the_chosen_one_stays() {
        let mut screen = Screen::new(5);
        let jobs = vec![
            job(1, 9, "RUNNING", 3),
            job(2, 5, "PENDING", 90),
            job(3, 5, "PENDING", 80),
            job(4, 5, "RUNNING", 7),
        ];
        screen.take(Vec::new(), jobs.clone(), 10);
        let order: Vec<u32> = screen.jobs.iter().map(|job| job.job_id).collect();
        assert_eq!(order, [4, 3, 2, 1]);
        press(&mut screen, KeyCode::Down);
        screen.take(Vec::new(), jobs[1..3].to_vec(), 20);
        assert_eq!(screen.chosen().map(|job| job.job_id), Some(3));
        screen.take(Vec::new(), Vec::new(), 30);
        assert!(screen.chosen().is_none());
    }

    #[test]
    fn a_cancel_asks_first() {
        let mut screen = Screen::new(5);
        screen.take(Vec::new(), vec![job(4, 5, "RUNNING", 7)], 10);
        assert_eq!(press(&mut screen, KeyCode::Char('c')), Wish::Nothing);
        assert_eq!(press(&mut screen, KeyCode::Char('n')), Wish::Nothing);
        assert!(screen.question.is_none());
        press(&mut screen, KeyCode::Char('c'));
        let wanted = JobSelector { job_id: 4, ..JobSelector::default() };
        assert_eq!(press(&mut screen, KeyCode::Char('y')), Wish::Act(Act::Cancel(wanted)));
    }

    #[test]
    fn an_explanation_goes_away_with_any_key() {
        let mut screen = Screen::new(5);
        screen.explained = Some(vec!["because".to_owned()]);
        assert_eq!(press(&mut screen, KeyCode::Char('q')), Wish::Nothing);
        assert_eq!(press(&mut screen, KeyCode::Char('q')), Wish::Quit);
    }
}
