//! Which places of a node's dynamic GPUs are held for which runs, and what is to be made and destroyed there.
//!
//! ```text
//!  (free) ─claim, durable with the run's intent─► Claimed ─create─► Made ─last user gone: destroy─► (free)
//!                                                    │ create fails        │ destroy fails
//!                                                    └──► (free)           └──► kept, tried again; the GPU is at fault
//! ```
//!
//! A claim is a place (GPU and first memory slice) that one run of one job holds, with the runs of steps that use it. It
//! is on disk before the driver is called, so that after any crash an instance of ours is known from a foreign one,
//! which is never touched. A repeated claim, creation or release changes nothing.
//!
//! Owns these decisions and nothing else: no driver, file or lock. Who asks makes one driver call at a time for each GPU,
//! and writes each [`Note`] to its journal. `K` names a run of a step.

use std::collections::{BTreeMap, BTreeSet};

/// A way to cut a GPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// What creation takes; the driver's.
    pub id: u32,
    /// `3g.20gb`.
    pub name: String,
    /// Compute slices.
    pub compute_slices: u32,
    /// Memory slices that it takes.
    pub memory_slices: u32,
    /// Memory, MiB.
    pub memory_mib: u64,
    /// Most instances of it on one GPU.
    pub most: u32,
    /// First memory slices at which it can lie.
    pub starts: Vec<u32>,
}

/// A GPU instance that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// Its profile's id.
    pub profile: u32,
    /// First memory slice.
    pub start: u32,
    /// Memory slices.
    pub size: u32,
    /// The GPU instance's id: of the place, given again to another one at the same place.
    pub gi: u32,
    /// The compute instance that takes all of it; `None`: it has none, or several.
    pub ci: Option<u32>,
    /// UUID of its MIG device, new each time it is made; empty without one.
    pub uuid: String,
}

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

/// Something for the journal.
pub type Noted = (Place, Note);

/// What a journal amounts to: for whom each place is claimed, of which profile, and what was made.
pub type Book = BTreeMap<Place, (Owner, u32, Option<Instance>)>;

/// Takes a note of the journal.
pub fn enter(book: &mut Book, (place, note): Noted) {
    match note {
        Note::Claimed(owner, profile) => drop(book.insert(place, (owner, profile, None))),
        Note::Made(owner, made) => drop(book.insert(place, (owner, made.profile, Some(made)))),
        Note::Free => drop(book.remove(&place)),
    }
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

/// An instance that is to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// The GPU's place in PCI bus order.
    pub gpu: u32,
    /// What.
    pub profile: Profile,
    /// First memory slice.
    pub start: u32,
}

/// A place that nobody uses any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Idle {
    /// The GPU's place in PCI bus order.
    pub gpu: u32,
    /// What is to be destroyed there.
    pub made: Option<Instance>,
}

/// What a start finds of claims in the journal.
#[derive(Debug, PartialEq, Eq)]
pub struct Reconciled<K> {
    /// To be logged.
    pub notes: Vec<Noted>,
    /// Live runs whose instance is gone, and which it was.
    pub lost: Vec<(K, String)>,
}

/// A dynamic GPU.
#[derive(Clone, Debug)]
struct Card {
    index: u32,
    profiles: Vec<Profile>,
}

#[derive(Clone, Debug)]
struct Held<K> {
    owner: Owner,
    profile: u32,
    size: u32,
    made: Option<Instance>,
    users: BTreeSet<K>,
}

/// See the module comment.
#[derive(Clone, Debug)]
pub struct Claims<K> {
    cards: BTreeMap<String, Card>,
    held: BTreeMap<Place, Held<K>>,
    /// GPUs on which something of ours cannot be destroyed, and why.
    stuck: BTreeMap<u32, String>,
}

impl<K: Copy + Ord> Claims<K> {
    /// For these dynamic GPUs: index, UUID, profiles.
    #[must_use]
    pub fn new(cards: impl Iterator<Item = (u32, String, Vec<Profile>)>) -> Self {
        let card = |(index, uuid, profiles)| (uuid, Card { index, profiles });
        Self { cards: cards.map(card).collect(), held: BTreeMap::new(), stuck: BTreeMap::new() }
    }

    fn uuid(&self, index: u32) -> Option<&String> {
        self.cards.iter().find(|(_, card)| card.index == index).map(|(uuid, _)| uuid)
    }

    /// Claims what a run wants; what is to be logged before the run is started.
    ///
    /// # Errors
    /// A sentence: the GPU cannot make it there, or another run holds a part of it. Nothing is claimed.
    pub fn claim(&mut self, owner: Owner, user: K, wanted: &[Wanted]) -> Result<Vec<Noted>, String> {
        let mut fresh = Vec::new();
        let mut places = Vec::new();
        for wanted in wanted {
            let (place, profile) = self.check(wanted)?;
            let end = wanted.start + profile.memory_slices;
            let overlaps = |(other, held): &(&Place, &Held<K>)| {
                other.gpu == place.gpu && other.start < end && wanted.start < other.start + held.size
            };
            match self.held.iter().find(overlaps) {
                None => fresh.push((place.clone(), profile.id, profile.memory_slices)),
                Some((other, there))
                    if *other == place && there.owner == owner && there.profile == profile.id => {}
                Some((other, there)) => {
                    return Err(format!(
                        "GPU {}: job {} still holds memory slice {}",
                        wanted.gpu, there.owner.job_id, other.start
                    ));
                }
            }
            places.push(place);
        }
        let mut notes = Vec::new();
        for (place, profile, size) in fresh {
            notes.push((place.clone(), Note::Claimed(owner, profile)));
            self.held.insert(place, Held { owner, profile, size, made: None, users: BTreeSet::new() });
        }
        for place in &places {
            let held = self.held.get_mut(place).expect("it was found, or made above");
            held.users.insert(user);
        }
        Ok(notes)
    }

    fn check(&self, wanted: &Wanted) -> Result<(Place, &Profile), String> {
        let card = self.cards.iter().find(|(_, card)| card.index == wanted.gpu);
        let (uuid, card) = card.ok_or_else(|| format!("GPU {} makes no instances", wanted.gpu))?;
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
        self.held.contains_key(&Place { gpu: uuid.to_owned(), start })
    }

    /// Whether the run uses an instance, or waits for one.
    #[must_use]
    pub fn is_user(&self, user: K) -> bool {
        self.held.values().any(|held| held.users.contains(&user))
    }

    /// The places that a run uses.
    #[must_use]
    pub fn places(&self, user: K) -> Vec<Place> {
        let mine = self.held.iter().filter(|(_, held)| held.users.contains(&user));
        mine.map(|(place, _)| place.clone()).collect()
    }

    /// What is to be made at a claimed place; `None`: it is there (another run of the job may have made it).
    ///
    /// # Errors
    /// A sentence: the GPU cannot be cut so any more.
    pub fn to_make(&self, place: &Place) -> Result<Option<Order>, String> {
        let Some(held) = self.held.get(place).filter(|held| held.made.is_none()) else { return Ok(None) };
        let card = &self.cards[&place.gpu];
        let profile = card.profiles.iter().find(|profile| profile.id == held.profile).cloned();
        let profile = profile.ok_or_else(|| format!("GPU {} has no such profile any more", card.index))?;
        Ok(Some(Order { gpu: card.index, profile, start: place.start }))
    }

    /// It is made; what is to be logged.
    pub fn made(&mut self, place: &Place, made: Instance) -> Option<Noted> {
        let held = self.held.get_mut(place)?;
        held.made = Some(made.clone());
        Some((place.clone(), Note::Made(held.owner, made)))
    }

    /// The instance that lies there for a job's run, if it is made.
    #[must_use]
    pub fn instance(&self, owner: Owner, gpu: u32, start: u32) -> Option<&Instance> {
        let place = Place { gpu: self.uuid(gpu)?.clone(), start };
        self.held.get(&place).filter(|held| held.owner == owner)?.made.as_ref()
    }

    /// The run does not use the place any more.
    pub fn leave(&mut self, user: K, place: &Place) {
        if let Some(held) = self.held.get_mut(place) {
            held.users.remove(&user);
        }
    }

    /// Places that nobody uses.
    #[must_use]
    pub fn idle(&self) -> Vec<Place> {
        let idle = self.held.iter().filter(|(_, held)| held.users.is_empty());
        idle.map(|(place, _)| place.clone()).collect()
    }

    /// What is to be done to give a place back; `None`: somebody uses it, or it is free.
    #[must_use]
    pub fn to_free(&self, place: &Place) -> Option<Idle> {
        let held = self.held.get(place).filter(|held| held.users.is_empty())?;
        Some(Idle { gpu: self.cards.get(&place.gpu)?.index, made: held.made.clone() })
    }

    /// What lay there is destroyed; what is to be logged.
    pub fn freed(&mut self, place: &Place) -> Noted {
        match self.held.get_mut(place) {
            // A step of the same job came meanwhile: it makes its own.
            Some(held) if !held.users.is_empty() => {
                held.made = None;
                return (place.clone(), Note::Claimed(held.owner, held.profile));
            }
            _ => drop(self.held.remove(place)),
        }
        let rest = self.held.iter().any(|(other, held)| other.gpu == place.gpu && held.users.is_empty());
        if let Some(card) = self.cards.get(&place.gpu).filter(|_| !rest) {
            self.stuck.remove(&card.index);
        }
        (place.clone(), Note::Free)
    }

    /// What lies at a place cannot be destroyed: its GPU is at fault until it can.
    pub fn keep(&mut self, gpu: u32, why: String) {
        self.stuck.insert(gpu, why);
    }

    /// GPUs that are at fault because something of ours cannot be destroyed.
    #[must_use]
    pub fn faults(&self) -> &BTreeMap<u32, String> {
        &self.stuck
    }

    /// Takes the journal's claims over after a start, with the runs that live. What nobody uses is idle then, and is to be
    /// destroyed; owners without their instance are named. After a boot no instance of ours can be left.
    ///
    /// `shown`: what lies on the GPU of an index; `None`: it is not known, and nothing is given up.
    pub fn reconcile(
        &mut self,
        book: Book,
        live: &[(Owner, K)],
        same_boot: bool,
        shown: impl Fn(u32) -> Option<Vec<Instance>>,
    ) -> Reconciled<K> {
        let mut found = Reconciled { notes: Vec::new(), lost: Vec::new() };
        for (place, (owner, profile, made)) in book {
            let Some(card) = self.cards.get(&place.gpu).filter(|_| same_boot) else {
                found.notes.push((place, Note::Free));
                continue;
            };
            let users: BTreeSet<K> =
                live.iter().filter(|(one, _)| *one == owner).map(|(_, user)| *user).collect();
            let size =
                card.profiles.iter().find(|known| known.id == profile).map_or(8, |known| known.memory_slices);
            let made = match shown(card.index) {
                Some(all) => there(all, &place, profile, made),
                None => made,
            };
            if made.is_none() {
                let what = format!("its MIG instance at {} of GPU {} is gone", place.start, card.index);
                found.lost.extend(users.iter().map(|user| (*user, what.clone())));
            }
            self.held.insert(place, Held { owner, profile, size, made, users });
        }
        found
    }

    /// Live runs whose instance is not there any more, by what the driver shows now of each GPU: UUIDs by UUID.
    #[must_use]
    pub fn missing(&self, shown: &BTreeMap<String, Vec<String>>) -> Vec<(K, String)> {
        let mut found = Vec::new();
        for (place, held) in &self.held {
            let Some(uuids) = shown.get(&place.gpu) else { continue };
            if let Some(made) = held.made.as_ref().filter(|made| !uuids.contains(&made.uuid)) {
                let what = format!("its MIG instance {} is gone", made.uuid);
                found.extend(held.users.iter().map(|user| (*user, what.clone())));
            }
        }
        found
    }

    /// Notes that make the claims anew.
    #[must_use]
    pub fn notes(&self) -> Vec<Noted> {
        let of = |(place, held): (&Place, &Held<K>)| {
            let claimed = (place.clone(), Note::Claimed(held.owner, held.profile));
            let made = held.made.clone().map(|made| (place.clone(), Note::Made(held.owner, made)));
            std::iter::once(claimed).chain(made)
        };
        self.held.iter().flat_map(of).collect()
    }
}

/// What lies at a place that was claimed: the instance that was noted, or, where the claim alone is known, the one that has
/// its profile. The place was free when it was claimed.
fn there(all: Vec<Instance>, place: &Place, profile: u32, made: Option<Instance>) -> Option<Instance> {
    let is_it = |there: &Instance| match &made {
        Some(made) => there.uuid == made.uuid && there.gi == made.gi,
        None => (there.start, there.profile) == (place.start, profile),
    };
    all.into_iter().find(is_it)
}
