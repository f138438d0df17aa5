//! Texts and lists that jobs have in common: a job that is given what one before it was given shares it.
//!
//! Most jobs of a site name a few accounts, QOS and partitions. Owns nothing but copies: it may be empty at any time,
//! and what it answers is equal to what was asked for.

use std::sync::Arc;

use model::id::PartitionIdx;

use crate::state::job::Job;

/// So many of each are kept in mind.
const KEPT: usize = 16;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    texts: Vec<Arc<str>>,
    lists: Vec<Arc<[PartitionIdx]>>,
    /// The next one that makes room.
    next: usize,
}

impl Shared {
    /// The text, shared if it is known.
    pub(crate) fn text(&self, text: &str) -> Arc<str> {
        let known = self.texts.iter().find(|known| ***known == *text);
        known.map_or_else(|| text.into(), Arc::clone)
    }

    /// The list, shared if it is known.
    pub(crate) fn list(&self, list: &[PartitionIdx]) -> Arc<[PartitionIdx]> {
        let known = self.lists.iter().find(|known| ***known == *list);
        known.map_or_else(|| list.into(), Arc::clone)
    }

    /// Keeps in mind what a job was given. Cost: O(1).
    pub(crate) fn note(&mut self, job: &Job) {
        for text in [&job.account, &job.qos] {
            note(&mut self.texts, text, &mut self.next);
        }
        note(&mut self.lists, &job.partitions, &mut self.next);
    }
}

fn note<T: ?Sized>(known: &mut Vec<Arc<T>>, new: &Arc<T>, next: &mut usize) {
    if known.iter().any(|one| Arc::ptr_eq(one, new)) {
        return;
    }
    if known.len() < KEPT {
        known.push(Arc::clone(new));
    } else {
        *next = (*next + 1) % KEPT;
        known[*next] = Arc::clone(new);
    }
}
