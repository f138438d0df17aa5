//! MIG instances that are made for runs: the driver's calls, one at a time for each GPU.
//!
//! What is claimed, made and given back, and when, is decided by [`executor_claims`], which is driven here against a
//! driver, with locks and patience. Calls block and are made off the agent's task.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use executor_claims::{Book, Claims};
pub use executor_claims::{Note, Owner, Place, Wanted};
use model::id::StepId;

use super::{Driver, Fault, Instance, Profile, code};
use crate::crash::{self, Point};
use crate::key::Key;
use crate::record::Record;

/// How long an instance that a dying process still holds is waited for.
const BUSY_TRIES: u32 = 40;
const BUSY_PAUSE: Duration = Duration::from_millis(250);

impl From<Key> for Owner {
    fn from(key: Key) -> Self {
        Self { job_id: key.job_id, run: key.run }
    }
}

/// See the module comment.
pub struct Slices {
    driver: Arc<dyn Driver>,
    /// Held during a driver call; by UUID of the GPU.
    turns: BTreeMap<String, Mutex<()>>,
    claims: Mutex<Claims<Key>>,
}

/// What a start finds of claims in the journal.
#[derive(Debug, Default, PartialEq)]
pub struct Reconciled {
    /// To be logged.
    pub records: Vec<Record>,
    /// Live runs whose instance is gone, and which it was.
    pub lost: Vec<(Key, String)>,
}

fn record((place, note): executor_claims::Noted) -> Record {
    Record::Slice(place, note)
}

impl Slices {
    /// For these dynamic GPUs: index, UUID, profiles.
    #[must_use]
    pub fn new(driver: Arc<dyn Driver>, cards: impl Iterator<Item = (u32, String, Vec<Profile>)>) -> Self {
        let cards: Vec<_> = cards.collect();
        let turns = cards.iter().map(|(_, uuid, _)| (uuid.clone(), Mutex::default())).collect();
        Self { driver, turns, claims: Mutex::new(Claims::new(cards.into_iter())) }
    }

    fn claims(&self) -> MutexGuard<'_, Claims<Key>> {
        self.claims.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until no other driver call is made for the place's GPU; `None`: no such GPU makes instances.
    fn turn(&self, place: &Place) -> Option<MutexGuard<'_, ()>> {
        self.turns.get(&place.gpu).map(|turn| turn.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Claims what a run wants; what is to be logged before the run is started. Does not block.
    ///
    /// # Errors
    /// A sentence: the GPU cannot make it there, or another run holds a part of it. Nothing is claimed.
    pub fn claim(&self, key: Key, wanted: &[Wanted]) -> Result<Vec<Record>, String> {
        let notes = self.claims().claim(key.into(), key, wanted)?;
        Ok(notes.into_iter().map(record).collect())
    }

    /// Whether what lies there is ours.
    #[must_use]
    pub fn is_claimed(&self, uuid: &str, start: u32) -> bool {
        self.claims().is_claimed(uuid, start)
    }

    /// Whether the run uses an instance.
    #[must_use]
    pub fn is_user(&self, key: Key) -> bool {
        self.claims().is_user(key)
    }

    /// Makes what the run has claimed and is not there yet. What is to be logged. Blocking.
    ///
    /// # Errors
    /// A sentence. What was made before it stays claimed, until the run is released.
    pub fn ensure(&self, key: Key) -> Result<Vec<Record>, String> {
        let mut records = Vec::new();
        let places = self.claims().places(key);
        for place in places {
            let _turn = self.turn(&place);
            let Some(order) = self.claims().to_make(&place)? else { continue };
            let (gpu, name) = (order.gpu, &order.profile.name);
            crash::point(Point::BeforeSlice);
            let made = self.driver.create(gpu as usize, &order.profile, place.start);
            let made =
                made.map_err(|fault| format!("GPU {gpu}: cannot make a {name} at {}: {fault}", place.start))?;
            crash::point(Point::AfterSlice);
            tracing::info!(
                gpu,
                profile = name,
                start = place.start,
                uuid = made.uuid,
                run = %key,
                "a MIG instance is made"
            );
            records.extend(self.claims().made(&place, made).map(record));
        }
        Ok(records)
    }

    /// The instance that lies there for a job's run, if it is made.
    #[must_use]
    pub fn instance(&self, owner: Owner, gpu: u32, start: u32) -> Option<Instance> {
        self.claims().instance(owner, gpu, start).cloned()
    }

    /// The run is over: instances that no other run of its job uses are destroyed. What is to be logged. Blocking.
    pub fn release(&self, key: Key) -> Vec<Record> {
        let mut records = Vec::new();
        let places = self.claims().places(key);
        for place in places {
            self.claims().leave(key, &place);
            records.extend(self.free(&place));
        }
        records
    }

    /// Tries again to destroy what nobody uses. Blocking.
    pub fn sweep(&self) -> Vec<Record> {
        let idle = self.claims().idle();
        idle.iter().filter_map(|place| self.free(place)).collect()
    }

    /// Destroys what lies at a place that nobody uses.
    fn free(&self, place: &Place) -> Option<Record> {
        let _turn = self.turn(place)?;
        let idle = self.claims().to_free(place)?;
        if let Some(made) = &idle.made {
            if let Err(fault) = self.destroy(idle.gpu, made) {
                let sentence = format!("the instance at {} cannot be destroyed: {fault}", place.start);
                tracing::error!(gpu = idle.gpu, "{sentence}");
                self.claims().keep(idle.gpu, sentence);
                return None;
            }
            crash::point(Point::AfterDestroy);
            tracing::info!(
                gpu = idle.gpu,
                start = place.start,
                uuid = made.uuid,
                "a MIG instance is destroyed"
            );
        }
        Some(record(self.claims().freed(place)))
    }

    fn destroy(&self, gpu: u32, instance: &Instance) -> Result<(), Fault> {
        for _ in 1..BUSY_TRIES {
            match self.driver.destroy(gpu as usize, instance) {
                Err(fault) if fault.code == code::IN_USE => std::thread::sleep(BUSY_PAUSE),
                other => return other,
            }
        }
        self.driver.destroy(gpu as usize, instance)
    }

    /// GPUs that are at fault because something of ours cannot be destroyed.
    #[must_use]
    pub fn faults(&self) -> BTreeMap<u32, String> {
        self.claims().faults().clone()
    }

    /// Takes the journal's claims over after a start, with the runs that live. Instances without a live owner are
    /// destroyed; owners without their instance are named. After a boot no instance of ours can be left. Blocking; before
    /// anything else is asked of the driver.
    ///
    /// Programs of the site use no instance, here as when they are launched: they neither keep one nor miss it.
    pub fn reconcile(&self, book: Book, live: &[Key], same_boot: bool) -> Reconciled {
        let users = live.iter().filter(|key| !matches!(key.step, StepId::Hook(_)));
        let live: Vec<(Owner, Key)> = users.map(|key| (Owner::from(*key), *key)).collect();
        let shown = |gpu: u32| self.driver.instances(gpu as usize).ok();
        let found = self.claims().reconcile(book, &live, same_boot, shown);
        let records = found.notes.into_iter().map(record).chain(self.sweep()).collect();
        Reconciled { records, lost: found.lost }
    }

    /// Live runs whose instance is not there any more, by what the driver shows now of each GPU.
    #[must_use]
    pub fn missing(&self, shown: &BTreeMap<String, Vec<String>>) -> Vec<(Key, String)> {
        self.claims().missing(shown)
    }

    /// Records that make the claims anew.
    #[must_use]
    pub fn records(&self) -> Vec<Record> {
        self.claims().notes().into_iter().map(record).collect()
    }
}

#[cfg(test)]
#[path = "slices_tests.rs"]
mod tests;
