//! What is collected while the frame before is on its way to the disk.

use std::sync::Arc;

use model::id::JobId;
use scheduler_core::effect::{Answer, Effect};
use scheduler_core::settings::Settings;
use tokio::sync::oneshot;

use crate::inbox::Reply;
use crate::rows::job::Verdict;
use crate::views::Update;

/// Something that leaves once the records before it are durable and in the views.
pub(super) enum Release {
    /// A caller is told.
    Answer(Reply, Answer),
    /// An executor, or a session, is told.
    Effect(Effect),
    /// The configuration is in force.
    Configured(oneshot::Sender<()>),
}

/// One batch.
#[derive(Default)]
pub(super) struct Batch {
    /// For the views: records in order, verdicts, settings.
    pub update: Update,
    /// What leaves, in order.
    pub releases: Vec<Release>,
}

impl Batch {
    /// Whether nothing came of it.
    #[must_use]
    pub(super) fn is_empty(&self) -> bool {
        self.update.records.is_empty()
            && self.update.verdicts.is_empty()
            && self.update.settings.is_none()
            && self.releases.is_empty()
    }

    /// Whether nobody waits for it: it only starts runs and lets go of such that are over.
    #[must_use]
    pub(super) fn is_patient(&self) -> bool {
        let patient = |release: &Release| {
            matches!(release, Release::Effect(Effect::Launch { .. } | Effect::Acknowledge { .. }))
        };
        self.update.settings.is_none() && self.releases.iter().all(patient)
    }

    /// How many things it answers: the launches that follow from them do not count.
    #[must_use]
    pub(super) fn pieces(&self) -> usize {
        self.releases.iter().filter(|one| !matches!(one, Release::Effect(Effect::Launch { .. }))).count()
    }

    /// Adds verdicts of a pass.
    pub(super) fn verdicts(&mut self, verdicts: impl Iterator<Item = (JobId, Verdict)>) {
        self.update.verdicts.extend(verdicts);
    }

    /// The configuration that the views are to show.
    pub(super) fn settings(&mut self, settings: Arc<Settings>) {
        self.update.settings = Some(settings);
    }
}
