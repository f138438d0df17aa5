//! Which jobs a query means and the asker may see.

use std::collections::BTreeSet;

use model::id::{JobId, Uid};
use model::job::JobState;
use proto::v1;
use scheduler_core::effect::Asker;
use scheduler_core::state::accounts::AdminLevel;
use scheduler_core::state::job::{ArrayRole, Job};

use super::View;

/// Most entries of one list in a filter.
const ENTRIES_MAX: usize = 100_000;

/// A query's conditions, and what the asker may see.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    job_ids: BTreeSet<u32>,
    uids: BTreeSet<u32>,
    states: Vec<JobState>,
    partitions: BTreeSet<String>,
    names: BTreeSet<String>,
    accounts: BTreeSet<String>,
    qos: BTreeSet<String>,
    /// Ended jobs are meant too.
    include_ended: bool,
    /// Jobs of hidden partitions are meant too.
    hidden: bool,
    /// PrivateData=jobs: only this user's.
    only_of: Option<Uid>,
}

impl Filter {
    /// From the message. `None` where a list is longer than any query needs or a state is unknown.
    #[must_use]
    pub fn new(from: v1::JobFilter) -> Option<Self> {
        let lengths = [
            from.job_ids.len(),
            from.uids.len(),
            from.states.len(),
            from.partitions.len(),
            from.names.len(),
            from.accounts.len(),
            from.qos.len(),
        ];
        if lengths.into_iter().any(|length| length > ENTRIES_MAX) {
            return None;
        }
        let states = from.states.iter().map(|text| JobState::parse(text)).collect::<Option<Vec<_>>>()?;
        Some(Self {
            job_ids: from.job_ids.into_iter().collect(),
            uids: from.uids.into_iter().collect(),
            states,
            partitions: from.partitions.into_iter().collect(),
            names: from.names.into_iter().collect(),
            accounts: from.accounts.into_iter().collect(),
            qos: from.qos.into_iter().collect(),
            include_ended: false,
            hidden: false,
            only_of: None,
        })
    }

    /// Whether ended jobs are meant too; they always are where states are named.
    #[must_use]
    pub fn with_ended(mut self, include: bool) -> Self {
        self.include_ended = include || self.states.iter().any(|state| state.is_terminal());
        self
    }

    /// Whether jobs of hidden partitions are meant; they always are where jobs are named.
    #[must_use]
    pub fn with_hidden(mut self, include: bool) -> Self {
        self.hidden = include || !self.job_ids.is_empty();
        self
    }

    /// Leaves out what the asker may not see.
    #[must_use]
    pub fn seen_by(mut self, asker: &Asker, level: AdminLevel, private: bool) -> Self {
        if private && level < AdminLevel::Operator {
            self.only_of = Some(asker.uid);
        }
        self
    }

    /// Jobs that are named.
    pub fn job_ids(&self) -> impl Iterator<Item = JobId> + '_ {
        self.job_ids.iter().copied().map(JobId)
    }

    /// Whether jobs are named.
    #[must_use]
    pub fn names_jobs(&self) -> bool {
        !self.job_ids.is_empty()
    }

    /// Whether the job is meant and may be seen.
    #[must_use]
    pub fn matches(&self, view: &View, job: &Job) -> bool {
        let array = match job.array {
            ArrayRole::Element { array, .. } => array,
            ArrayRole::Single | ArrayRole::Waiting(_) => job.id,
        };
        let state = job.state();
        let named = |set: &BTreeSet<String>, name: &str| set.is_empty() || set.contains(name);
        (self.include_ended || job.ended().is_none())
            && self.only_of.is_none_or(|uid| uid == job.owner.uid)
            && (self.job_ids.is_empty()
                || self.job_ids.contains(&job.id.0)
                || self.job_ids.contains(&array.0))
            && (self.uids.is_empty() || self.uids.contains(&job.owner.uid.0))
            && (self.states.is_empty() || self.states.contains(&state))
            && named(&self.names, &job.request.name)
            && named(&self.accounts, &job.account)
            && named(&self.qos, &job.qos)
            && self.matches_partition(view, job)
    }

    fn matches_partition(&self, view: &View, job: &Job) -> bool {
        if self.partitions.is_empty() && self.hidden {
            return true;
        }
        let mut partitions = job
            .partitions
            .iter()
            .filter_map(|idx| view.state.partition(*idx))
            .map(|partition| &partition.definition)
            .peekable();
        if partitions.peek().is_none() {
            return self.partitions.is_empty();
        }
        partitions.any(|definition| {
            (self.partitions.is_empty() || self.partitions.contains(&*definition.name))
                && (self.hidden || !definition.hidden)
        })
    }
}
