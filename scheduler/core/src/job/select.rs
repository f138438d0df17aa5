//! From what a user typed to records: `4711`, `4711_3`, `4711_[2-4,7]`, filters of scancel.

use model::id::{JobId, TaskIndex};

use crate::effect::{Outcome, Refused, Selector};
use crate::input::JobFilter;
use crate::machine::Call;
use crate::state::State;
use crate::state::job::{ArrayRole, Job};
use model::refusal::Refusal;

/// The records of a job or array: an array's waiting record first, then its elements.
pub(crate) fn records(state: &State, id: JobId) -> Vec<JobId> {
    let own = state.jobs.get(&id).map(|job| job.id);
    let first = (id, TaskIndex(0));
    let elements = state.index.elements.range(first..).take_while(|((array, _), _)| *array == id);
    let mut all: Vec<JobId> = own.into_iter().collect();
    all.extend(elements.map(|(_, element)| *element).filter(|element| *element != id));
    all
}

/// Whether an element waits in its array's record.
fn waits_as(job: &Job, index: TaskIndex) -> bool {
    match &job.array {
        ArrayRole::Waiting(waiting) => waiting.tasks.contains(index.0) && job.pending().is_some(),
        ArrayRole::Single | ArrayRole::Element { .. } => false,
    }
}

/// Whether a job meets every condition.
pub(crate) fn matches(state: &State, job: &Job, filter: &JobFilter) -> bool {
    fn any<T: PartialEq>(list: &[T], value: &T) -> bool {
        list.is_empty() || list.contains(value)
    }
    let in_partition = filter.partitions.is_empty()
        || job
            .partitions
            .iter()
            .filter_map(|idx| state.partition(*idx))
            .any(|partition| filter.partitions.contains(&partition.definition.name));
    any(&filter.uids, &job.owner.uid)
        && any(&filter.states, &job.state())
        && in_partition
        && any(&filter.names, &job.request.name)
        && (filter.accounts.is_empty() || filter.accounts.iter().any(|name| **name == *job.account))
        && (filter.qos.is_empty() || filter.qos.iter().any(|name| **name == *job.qos))
}

impl Selector {
    /// As Slurm names it: `4711`, `4711_3`.
    #[must_use]
    pub fn text(&self) -> Box<str> {
        let mut text = self.job.to_string();
        if let Some([one]) = self.tasks.as_deref() {
            text = format!("{text}_{one}");
        }
        if let Some(step) = self.step {
            text = format!("{text}.{step}");
        }
        text.into()
    }
}

impl Call<'_> {
    /// Does something to each record that a selector means, splitting elements off where it must.
    ///
    /// The outcome of a selector is the first refusal among its records, but for elements that are over while others of
    /// the whole array are not; an unknown job is refused, an element that is not there is passed over in silence, as Slurm
    /// does.
    pub(crate) fn for_each(
        &mut self,
        selector: &Selector,
        mut act: impl FnMut(&mut Self, JobId) -> Result<(), Refused>,
    ) -> Outcome {
        let refused = self.selected(selector).and_then(|ids| {
            let (mut first, mut over, mut done) = (Ok(()), Ok(()), false);
            for id in ids {
                match act(self, id) {
                    Ok(()) => done = true,
                    Err(refused) if selector.tasks.is_none() && refused.refusal == Refusal::AlreadyDone => {
                        over = Err(refused);
                    }
                    Err(refused) if first.is_ok() => first = Err(refused),
                    Err(_) => {}
                }
            }
            if done { first } else { first.and(over) }
        });
        Outcome { object: selector.text(), refused: refused.err() }
    }

    /// Whether the selector names elements and none of them is there.
    pub(crate) fn names_nothing(&self, selector: &Selector) -> bool {
        let state = self.state();
        selector.tasks.as_deref().is_some_and(|tasks| {
            !tasks.iter().any(|&index| {
                state.index.elements.contains_key(&(selector.job, index))
                    || state.jobs.get(&selector.job).is_some_and(|job| waits_as(job, index))
            })
        })
    }

    fn selected(&mut self, selector: &Selector) -> Result<Vec<JobId>, Refused> {
        let all = records(self.state(), selector.job);
        if all.is_empty() {
            return Err(Refusal::InvalidJobId.into());
        }
        let Some(tasks) = &selector.tasks else { return Ok(all) };
        let mut chosen = Vec::new();
        for &index in tasks {
            if let Some(id) = self.state().index.elements.get(&(selector.job, index)) {
                chosen.push(*id);
                continue;
            }
            if self.state().jobs.get(&selector.job).is_some_and(|job| waits_as(job, index)) {
                chosen.push(self.split(selector.job, index));
            }
        }
        Ok(chosen)
    }
}
