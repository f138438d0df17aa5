//! The store's parts that other threads read: bodies and history of the present owner.
//!
//! A recovery within the process opens the store anew; whoever reads takes the parts from here each time.

use std::sync::{Arc, PoisonError, RwLock};

use crate::store::Store;
use crate::store::bodies::Bodies;
use crate::store::history::History;

/// The present parts.
pub struct Shelf(RwLock<(Arc<Bodies>, Arc<History>)>);

impl Shelf {
    /// Of this store.
    #[must_use]
    pub fn new(store: &Store) -> Self {
        Self(RwLock::new(parts(store)))
    }

    /// Of this store from now on.
    pub fn replace(&self, store: &Store) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = parts(store);
    }

    /// Scripts and environments.
    #[must_use]
    pub fn bodies(&self) -> Arc<Bodies> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner).0)
    }

    /// Finished jobs.
    #[must_use]
    pub fn history(&self) -> Arc<History> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner).1)
    }
}

fn parts(store: &Store) -> (Arc<Bodies>, Arc<History>) {
    (Arc::clone(store.bodies()), Arc::clone(store.history()))
}
