//! The store's parts that other threads read: bodies and history of the present owner.
//!
//! A recovery within the process opens the store anew; whoever reads takes the parts from here each time.

use std::sync::{Arc, PoisonError, RwLock};

use crate::store::Store;
use crate::store::bodies::Bodies;
use crate::store::compact::Images;
use crate::store::history::History;

/// The present parts.
pub struct Shelf(RwLock<(Arc<Bodies>, Arc<History>, Images)>);

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

    /// Images of the state.
    #[must_use]
    pub fn images(&self) -> Images {
        self.0.read().unwrap_or_else(PoisonError::into_inner).2.clone()
    }

    /// Finished jobs.
    #[must_use]
    pub fn history(&self) -> Arc<History> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner).1)
    }
}

fn parts(store: &Store) -> (Arc<Bodies>, Arc<History>, Images) {
    (Arc::clone(store.bodies()), Arc::clone(store.history()), store.images())
}
