//! Collecting bodies that nothing refers to, beside the controller.
//!
//! The caller marks what the views' records refer to. What is neither marked, nor pinned by a batch under way,
//! nor was pinned since the collection began, is erased: first its headers, durably, then its bytes, so that a
//! power cut never leaves a live header over an erased body. Environments hold tokens: they go as soon as
//! their job can no longer be requeued, not when a file is full. A file in which nothing is left is removed;
//! one in which little is left gives it to the current file first. Commits go on meanwhile; they wait for one
//! sync, or for the moving of a few bodies, at a time.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use journal::DiskFile;
use model::id::BodyHash;
use prost::bytes::Bytes;
use scheduler_core::state::State;
use scheduler_core::state::job::{Job, Phase, Step};

use super::entry::{HEADER_BYTES, Header, entry_bytes, hash_of};
use super::{Bodies, Place, Short, layout, locked, read_body, short};
use crate::store::Error;

/// A file is emptied when less than this part of it is wanted.
const LIVE_PART: u64 = 4;
/// Bodies that are moved while the committer waits.
const MOVED_AT_ONCE: usize = 64;

/// What a collection did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Bodies erased.
    pub erased: usize,
    /// Bodies moved to another file.
    pub moved: usize,
    /// Files removed.
    pub files_removed: usize,
}

/// A collection under way. One at a time.
pub struct Collection {
    bodies: Arc<Bodies>,
    wanted: HashSet<Short>,
}

impl Bodies {
    /// Begins a collection; from now on whatever a new batch refers to is kept.
    #[must_use]
    pub fn begin_collection(self: &Arc<Self>) -> Collection {
        locked(&self.inner).touched = Some(HashSet::new());
        Collection { bodies: Arc::clone(self), wanted: HashSet::new() }
    }
}

impl Collection {
    /// Keeps a body.
    pub fn keep(&mut self, hash: &BodyHash) {
        self.wanted.insert(short(hash));
    }

    /// Keeps what a job and its steps refer to.
    pub fn keep_job(&mut self, job: &Job) {
        each_body(job, |hash| {
            self.wanted.insert(short(hash));
        });
    }

    /// Keeps what the jobs of a state refer to.
    pub fn keep_state(&mut self, state: &State) {
        state.jobs.values().for_each(|job| self.keep_job(job));
    }

    /// Erases what was not kept.
    ///
    /// # Errors
    /// The operating system's word: what was not erased yet is erased by the next collection.
    pub fn finish(self) -> Result<Collected, Error> {
        let bodies = Arc::clone(&self.bodies);
        let _listing = locked(&bodies.listing);
        let dead = self.take_dead();
        let mut collected = Collected { erased: dead.len(), ..Collected::default() };
        bodies
            .remove_lists(dead.chunk_by(|one, other| one.file == other.file).map(|places| places[0].file))?;
        erase(&bodies, &dead)?;
        empty_files(&bodies, &mut collected)?;
        bodies.write_lists_in_turn()?;
        Ok(collected)
    }

    /// Takes what nobody wants out of the index: from here on a new batch stores it again.
    fn take_dead(&self) -> Vec<Place> {
        // The long look goes over a copy, for a submission waits for this lock.
        let mut dead = self.bodies.entries();
        dead.retain(|(hash, _)| !self.wanted.contains(hash));
        let mut inner = locked(&self.bodies.inner);
        let inner = &mut *inner;
        let touched = inner.touched.take().unwrap_or_default();
        dead.retain(|(hash, place)| {
            let kept = inner.pins.contains_key(hash) || touched.contains(hash);
            // What was stored meanwhile in another place was touched as well.
            !kept && inner.index.get(hash) == Some(place)
        });
        for (hash, _) in &dead {
            inner.index.remove(hash);
        }
        let mut places: Vec<Place> = dead.into_iter().map(|(_, place)| place).collect();
        places.sort_unstable_by_key(|place| (place.file, place.sector));
        places
    }
}

impl Drop for Collection {
    fn drop(&mut self) {
        locked(&self.bodies.inner).touched = None;
    }
}

/// Shows every body that a job and its steps refer to.
pub(crate) fn each_body(job: &Job, mut each: impl FnMut(&BodyHash)) {
    job.bodies.script.iter().for_each(&mut each);
    each(&job.bodies.environment);
    let steps: &[Arc<Step>] = match &job.phase {
        Phase::Pending(_) => &[],
        Phase::Active(active) => &active.steps,
        Phase::Ended(ended) => &ended.steps,
    };
    steps.iter().filter_map(|step| step.spec.as_ref()?.launch.as_ref()).for_each(each);
}

impl Bodies {
    /// A copy of the index, in no order.
    fn entries(&self) -> Vec<(Short, Place)> {
        let inner = locked(&self.inner);
        let mut entries = Vec::with_capacity(inner.index.len());
        entries.extend(inner.index.iter().map(|(hash, place)| (*hash, *place)));
        entries
    }

    /// Syncs a file beside the committer. An error may be the word on the committer's own pages, which then gets
    /// none: so it counts as its error too.
    fn sync_beside(&self, id: u32, file: &dyn DiskFile) -> Result<(), Error> {
        let _writing = locked(&self.writing);
        file.sync().map_err(|error| {
            let mut inner = locked(&self.inner);
            inner.broken |= id >= inner.current;
            Error::io("sync", layout::bodies_name(id), error)
        })
    }
}

fn erase(bodies: &Bodies, dead: &[Place]) -> Result<(), Error> {
    for places in dead.chunk_by(|one, other| one.file == other.file) {
        let id = places[0].file;
        let name = layout::bodies_name(id);
        let file = Arc::clone(&locked(&bodies.inner).files[&id].file);
        for place in places {
            let mut bytes = [0; HEADER_BYTES];
            journal::read_full_at(&*file, place.offset(), &mut bytes)
                .map_err(|error| Error::io("read", &name, error))?;
            let Some(header) = Header::decode(&bytes) else { continue };
            let erased = Header { erased: true, ..header }.encode();
            journal::write_all_at(&*file, place.offset(), &erased)
                .map_err(|error| Error::io("erase in", &name, error))?;
        }
        bodies.sync_beside(id, &*file)?;
        for place in places {
            let start = place.offset() + HEADER_BYTES as u64;
            journal::write_zeros(&*file, start, u64::from(place.length))
                .map_err(|error| Error::io("erase in", &name, error))?;
        }
        bodies.sync_beside(id, &*file)?;
    }
    Ok(())
}

/// Removes files in which little or nothing is wanted, what is wanted moved before.
fn empty_files(bodies: &Bodies, collected: &mut Collected) -> Result<(), Error> {
    let mut live: BTreeMap<u32, Vec<(Short, Place)>> = BTreeMap::new();
    for (hash, place) in bodies.entries() {
        live.entry(place.file).or_default().push((hash, place));
    }
    let candidates: Vec<(u32, u64)> = {
        let inner = locked(&bodies.inner);
        let closed = inner.files.range(..inner.current);
        closed.map(|(id, file)| (*id, file.used)).collect()
    };
    for (id, used) in candidates {
        let mut wanted = live.remove(&id).unwrap_or_default();
        let bytes: u64 = wanted.iter().map(|(_, place)| entry_bytes(u64::from(place.length))).sum();
        if bytes * LIVE_PART > used {
            continue;
        }
        wanted.sort_unstable_by_key(|(_, place)| place.sector);
        // In small pieces: the committer waits for each.
        for piece in wanted.chunks(MOVED_AT_ONCE) {
            move_bodies(bodies, id, piece)?;
        }
        collected.moved += wanted.len();
        bodies.remove_lists(std::iter::once(id))?;
        layout::remove_if_there(&*bodies.disk, &layout::bodies_name(id))?;
        locked(&bodies.inner).files.remove(&id);
        collected.files_removed += 1;
    }
    Ok(())
}

/// Writes bodies of file `id` once more, to the current file.
fn move_bodies(bodies: &Bodies, id: u32, live: &[(Short, Place)]) -> Result<(), Error> {
    let name = layout::bodies_name(id);
    let file = Arc::clone(&locked(&bodies.inner).files[&id].file);
    let mut moving = Vec::with_capacity(live.len());
    for (expected, place) in live {
        let body = read_body(&*file, *place).map_err(|error| Error::io("read", &name, error))?;
        let body = body.unwrap_or_default();
        let hash = hash_of(&body);
        if short(&hash) != *expected {
            let mut first_half = [0; 32];
            first_half[..16].copy_from_slice(expected);
            return Err(Error::BodyDamage { hash: BodyHash(first_half), file: name, offset: place.offset() });
        }
        moving.push((hash, Bytes::from(body)));
    }
    // Not from promised space: what a batch was promised stays.
    let _writing = locked(&bodies.writing);
    let bytes: u64 = moving.iter().map(|(_, body)| entry_bytes(body.len() as u64)).sum();
    let target = bodies.place_beside(bytes)?;
    let moving: Vec<_> = moving.iter().collect();
    bodies.append(target, &moving).inspect_err(|_| locked(&bodies.inner).broken = true)
}
