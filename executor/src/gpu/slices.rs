//! MIG instances that are made for runs: from the claim in the journal to the instance's end.
//!
//! ```text
//!  (free) ─claim, durable with the run's intent─► Claimed ─create─► Made ─last user gone: destroy─► (free)
//!                                                    │ create fails        │ destroy fails
//!                                                    └──► (free)           └──► kept, tried again; the GPU is at fault
//! ```
//!
//! A claim is a place (GPU and first memory slice) that one run of one job holds, with the runs of steps that use it. It
//! is on disk before the driver is called, so that after any crash an instance of ours is known from a foreign one,
//! which is never touched. A repeated claim, creation or release changes nothing. At most one driver call at a time for
//! each GPU; calls block and are made off the agent's task.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{Driver, Fault, Instance, Profile, code};
use crate::crash::{self, Point};
use crate::key::Key;
use crate::record::Record;

/// How long an instance that a dying process still holds is waited for.
const BUSY_TRIES: u32 = 40;
const BUSY_PAUSE: Duration = Duration::from_millis(250);

/// Where an instance lies.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// UUID of the GPU, which says the same after a restart with other cards.
    pub gpu: String,
    /// First memory slice.
    pub start: u32,
}

/// Which run of which job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Owner {
    /// The job.
    pub job_id: u32,
    /// Its run.
    pub run: u32,
}

impl From<Key> for Owner {
    fn from(key: Key) -> Self {
        Self { job_id: key.job_id, run: key.run }
    }
}

/// What the journal says of a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// It is claimed for an instance of that profile.
    Claimed(Owner, u32),
    /// This instance is there for it.
    Made(Owner, Instance),
    /// Nothing of ours is there.
    Free,
}

/// What a launch asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The GPU's place in PCI bus order.
    pub gpu: u32,
    /// The profile's name.
    pub profile: String,
    /// First memory slice.
    pub start: u32,
}

/// A dynamic GPU.
#[derive(Debug)]
struct Card {
    index: u32,
    profiles: Vec<Profile>,
    /// Held during a driver call.
    turn: Mutex<()>,
}

#[derive(Clone, Debug)]
struct Held {
    owner: Owner,
    profile: u32,
    size: u32,
    made: Option<Instance>,
    users: BTreeSet<Key>,
}

/// See the module comment.
pub struct Slices {
    driver: Arc<dyn Driver>,
    cards: BTreeMap<String, Card>,
    held: Mutex<BTreeMap<Place, Held>>,
    /// GPUs on which something of ours cannot be destroyed, and why.
    stuck: Mutex<BTreeMap<u32, String>>,
}

/// What a start finds of claims in the journal.
#[derive(Debug, Default, PartialEq)]
pub struct Reconciled {
    /// To be logged.
    pub records: Vec<Record>,
    /// Live runs whose instance is gone, and which it was.
    pub lost: Vec<(Key, String)>,
}

impl Slices {
    /// For these dynamic GPUs: index, UUID, profiles.
    #[must_use]
    pub fn new(driver: Arc<dyn Driver>, cards: impl Iterator<Item = (u32, String, Vec<Profile>)>) -> Self {
        let card = |(index, uuid, profiles)| (uuid, Card { index, profiles, turn: Mutex::default() });
        Self { driver, cards: cards.map(card).collect(), held: Mutex::default(), stuck: Mutex::default() }
    }

    fn held(&self) -> MutexGuard<'_, BTreeMap<Place, Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn card(&self, index: u32) -> Option<(&String, &Card)> {
        self.cards.iter().find(|(_, card)| card.index == index)
    }

    /// Claims what a run wants; what is to be logged before the run is started. Does not block.
    ///
    /// # Errors
    /// A sentence: the GPU cannot make it there, or another run holds a part of it. Nothing is claimed.
    pub fn claim(&self, key: Key, wanted: &[Wanted]) -> Result<Vec<Record>, String> {
        let mut held = self.held();
        let mut fresh = Vec::new();
        for wanted in wanted {
            let (place, profile) = self.check(wanted)?;
            let end = wanted.start + profile.memory_slices;
            let overlaps = |(other, held): &(&Place, &Held)| {
                other.gpu == place.gpu && other.start < end && wanted.start < other.start + held.size
            };
            match held.iter().find(overlaps) {
                None => fresh.push((place, profile)),
                Some((other, there))
                    if *other == place && there.owner == key.into() && there.profile == profile.id => {}
                Some((other, there)) => {
                    return Err(format!(
                        "GPU {}: job {} still holds memory slice {}",
                        wanted.gpu, there.owner.job_id, other.start
                    ));
                }
            }
        }
        let mut records = Vec::new();
        for (place, profile) in fresh {
            let (owner, users) = (Owner::from(key), BTreeSet::new());
            records.push(Record::Slice(place.clone(), Note::Claimed(owner, profile.id)));
            let one = Held { owner, profile: profile.id, size: profile.memory_slices, made: None, users };
            held.insert(place, one);
        }
        for wanted in wanted {
            if let Some((uuid, _)) = self.card(wanted.gpu)
                && let Some(one) = held.get_mut(&Place { gpu: uuid.clone(), start: wanted.start })
            {
                one.users.insert(key);
            }
        }
        Ok(records)
    }

    fn check(&self, wanted: &Wanted) -> Result<(Place, &Profile), String> {
        let (uuid, card) =
            self.card(wanted.gpu).ok_or_else(|| format!("GPU {} makes no instances", wanted.gpu))?;
        let profile = card.profiles.iter().find(|profile| profile.name == wanted.profile);
        let profile =
            profile.ok_or_else(|| format!("GPU {} has no profile {}", wanted.gpu, wanted.profile))?;
        if !profile.starts.contains(&wanted.start) {
            return Err(format!("GPU {}: no {} can begin at {}", wanted.gpu, wanted.profile, wanted.start));
        }
        Ok((Place { gpu: uuid.clone(), start: wanted.start }, profile))
    }

    /// Whether what lies there is ours.
    #[must_use]
    pub fn is_claimed(&self, uuid: &str, start: u32) -> bool {
        self.held().contains_key(&Place { gpu: uuid.to_owned(), start })
    }

    /// Whether the run uses an instance.
    #[must_use]
    pub fn is_user(&self, key: Key) -> bool {
        self.held().values().any(|held| held.users.contains(&key))
    }

    /// Makes what the run has claimed and is not there yet. What is to be logged. Blocking.
    ///
    /// # Errors
    /// A sentence. What was made before it stays claimed, until the run is released.
    pub fn ensure(&self, key: Key) -> Result<Vec<Record>, String> {
        let mut records = Vec::new();
        for place in self.places(key) {
            let card = &self.cards[&place.gpu];
            let _turn = card.turn.lock().unwrap_or_else(PoisonError::into_inner);
            // Another run of the job may have made it while this one waited.
            let Some(held) = self.held().get(&place).cloned().filter(|held| held.made.is_none()) else {
                continue;
            };
            let profile = card.profiles.iter().find(|profile| profile.id == held.profile);
            let profile =
                profile.ok_or_else(|| format!("GPU {} has no such profile any more", card.index))?;
            crash::point(Point::BeforeSlice);
            let made = self.driver.create(card.index as usize, profile, place.start);
            let made = made.map_err(|fault| {
                format!("GPU {}: cannot make a {} at {}: {fault}", card.index, profile.name, place.start)
            })?;
            crash::point(Point::AfterSlice);
            tracing::info!(
                gpu = card.index,
                profile = profile.name,
                start = place.start,
                uuid = made.uuid,
                run = %key,
                "a MIG instance is made"
            );
            records.push(Record::Slice(place.clone(), Note::Made(held.owner, made.clone())));
            if let Some(held) = self.held().get_mut(&place) {
                held.made = Some(made);
            }
        }
        Ok(records)
    }

    fn places(&self, key: Key) -> Vec<Place> {
        let held = self.held();
        held.iter().filter(|(_, held)| held.users.contains(&key)).map(|(place, _)| place.clone()).collect()
    }

    /// The instance that lies there for a job's run, if it is made.
    #[must_use]
    pub fn instance(&self, owner: Owner, gpu: u32, start: u32) -> Option<Instance> {
        let (uuid, _) = self.card(gpu)?;
        let held = self.held();
        let found = held.get(&Place { gpu: uuid.clone(), start }).filter(|held| held.owner == owner);
        found.and_then(|held| held.made.clone())
    }

    /// The run is over: instances that no other run of its job uses are destroyed. What is to be logged. Blocking.
    pub fn release(&self, key: Key) -> Vec<Record> {
        let mut records = Vec::new();
        for place in self.places(key) {
            if let Some(held) = self.held().get_mut(&place) {
                held.users.remove(&key);
            }
            records.extend(self.free(&place));
        }
        records
    }

    /// Tries again to destroy what nobody uses. Blocking.
    pub fn sweep(&self) -> Vec<Record> {
        let idle: Vec<Place> = {
            let held = self.held();
            held.iter().filter(|(_, held)| held.users.is_empty()).map(|(place, _)| place.clone()).collect()
        };
        idle.iter().filter_map(|place| self.free(place)).collect()
    }

    /// Destroys what lies at a place that nobody uses.
    fn free(&self, place: &Place) -> Option<Record> {
        let card = self.cards.get(&place.gpu)?;
        let _turn = card.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let held = self.held().get(place).cloned().filter(|held| held.users.is_empty())?;
        if let Some(made) = &held.made {
            if let Err(fault) = self.destroy(card.index, made) {
                let sentence = format!("the instance at {} cannot be destroyed: {fault}", place.start);
                tracing::error!(gpu = card.index, "{sentence}");
                self.stuck().insert(card.index, sentence);
                return None;
            }
            crash::point(Point::AfterDestroy);
            tracing::info!(
                gpu = card.index,
                start = place.start,
                uuid = made.uuid,
                "a MIG instance is destroyed"
            );
        }
        let mut all = self.held();
        match all.get_mut(place) {
            // A step of the same job came meanwhile: it makes its own.
            Some(held) if !held.users.is_empty() => {
                held.made = None;
                return Some(Record::Slice(place.clone(), Note::Claimed(held.owner, held.profile)));
            }
            _ => drop(all.remove(place)),
        }
        let rest = all.iter().any(|(other, held)| other.gpu == place.gpu && held.users.is_empty());
        drop(all);
        if !rest {
            self.stuck().remove(&card.index);
        }
        Some(Record::Slice(place.clone(), Note::Free))
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

    fn stuck(&self) -> MutexGuard<'_, BTreeMap<u32, String>> {
        self.stuck.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// GPUs that are at fault because something of ours cannot be destroyed.
    #[must_use]
    pub fn faults(&self) -> BTreeMap<u32, String> {
        self.stuck().clone()
    }

    /// Takes the journal's claims over after a start, with the runs that live. Instances without a live owner are
    /// destroyed; owners without their instance are named. After a boot no instance of ours can be left. Blocking.
    pub fn reconcile(
        &self,
        claims: BTreeMap<Place, (Owner, u32, Option<Instance>)>,
        live: &[Key],
        same_boot: bool,
    ) -> Reconciled {
        let mut found = Reconciled::default();
        for (place, (owner, profile, made)) in claims {
            let Some(card) = self.cards.get(&place.gpu).filter(|_| same_boot) else {
                found.records.push(Record::Slice(place, Note::Free));
                continue;
            };
            let users: BTreeSet<Key> =
                live.iter().copied().filter(|key| Owner::from(*key) == owner).collect();
            let size =
                card.profiles.iter().find(|known| known.id == profile).map_or(8, |known| known.memory_slices);
            let made = {
                let _turn = card.turn.lock().unwrap_or_else(PoisonError::into_inner);
                self.there(card.index, &place, profile, made)
            };
            if made.is_none() {
                let what = format!("its MIG instance at {} of GPU {} is gone", place.start, card.index);
                found.lost.extend(users.iter().map(|key| (*key, what.clone())));
            }
            self.held().insert(place, Held { owner, profile, size, made, users });
        }
        found.records.extend(self.sweep());
        found
    }

    /// What lies at a place that was claimed: the instance that was noted, or, where the claim alone is known, the one
    /// that has its profile. The place was free when it was claimed.
    fn there(&self, gpu: u32, place: &Place, profile: u32, made: Option<Instance>) -> Option<Instance> {
        match (self.driver.instances(gpu as usize), made) {
            (Ok(all), Some(made)) => {
                all.into_iter().find(|there| there.uuid == made.uuid && there.gi == made.gi)
            }
            (Ok(all), None) => {
                all.into_iter().find(|there| (there.start, there.profile) == (place.start, profile))
            }
            // Not known: nothing is given up.
            (Err(_), made) => made,
        }
    }

    /// Live runs whose instance is not there any more, by what the driver shows now of each GPU.
    #[must_use]
    pub fn missing(&self, shown: &BTreeMap<String, Vec<String>>) -> Vec<(Key, String)> {
        let held = self.held();
        let mut found = Vec::new();
        for (place, held) in held.iter() {
            let Some(uuids) = shown.get(&place.gpu) else { continue };
            if let Some(made) = held.made.as_ref().filter(|made| !uuids.contains(&made.uuid)) {
                let what = format!("its MIG instance {} is gone", made.uuid);
                found.extend(held.users.iter().map(|key| (*key, what.clone())));
            }
        }
        found
    }

    /// Records that make the claims anew.
    #[must_use]
    pub fn records(&self) -> Vec<Record> {
        let held = self.held();
        let of = |(place, held): (&Place, &Held)| {
            let claimed = Record::Slice(place.clone(), Note::Claimed(held.owner, held.profile));
            let made =
                held.made.clone().map(|made| Record::Slice(place.clone(), Note::Made(held.owner, made)));
            std::iter::once(claimed).chain(made)
        };
        held.iter().flat_map(of).collect()
    }
}

#[cfg(test)]
#[path = "slices_tests.rs"]
mod tests;
