//! What a new executor makes of an earlier one's journal and run folders.
//!
//! | journal | lock | folder | then |
//! |---|---|---|---|
//! | ended | | | reported until acknowledged |
//! | intended | held | | taken back: its supervisor lives |
//! | intended | free | outcome | ended |
//! | intended | free | mark | what is left of it is killed; lost |
//! | intended | free | neither, same boot | never began: forgotten, the scheduler launches it again |
//! | intended | free | neither, other boot | lost: a power cut may have taken the mark |
//! | nothing | held | | an unknown run: taken back and shown; the scheduler decides |
//! | nothing | free | outcome | acknowledged before, or the spool was lost: ended, reported until acknowledged |
//! | nothing | free | mark | the spool was lost: what is left of it is killed; lost |
//! | nothing | free | neither | its folder is removed |
//!
//! Blocking; before anything else runs.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::PathBuf;

use crate::agent::{Beginning, Fixed, conclude_now};
use crate::gpu::Instance;
use crate::gpu::slices::{Note, Owner, Place, Reconciled};
use crate::host;
use crate::key::Key;
use crate::launch::mpi;
use crate::launch::spares::SPARE_PREFIX;
use crate::launch::start::{self, Found};
use crate::record::{Mark, Record};
use crate::spool::{Known, Memory};
use crate::step::lifecycle::{Event, State};

/// Decides about every run that is known or found.
///
/// # Errors
/// The run folders cannot be read.
pub fn recover(fixed: &Fixed, memory: Memory) -> io::Result<Beginning> {
    let same_boot = memory.boot.is_none_or(|boot| boot == fixed.boot_id);
    let mut beginning = Beginning {
        runs: std::collections::BTreeMap::new(),
        log: Vec::new(),
        held: Vec::new(),
        epoch_seen: memory.epoch,
        slices: Reconciled::default(),
        kept: Vec::new(),
    };
    let claims = memory.slices;
    let known: Vec<Key> = memory.runs.keys().copied().collect();
    for (key, state) in memory.runs {
        let state = match state {
            Known::Ended(outcome) => Some(State::Ended(outcome)),
            Known::Tombstone => Some(State::Tombstone { durable: true }),
            Known::Intended => intended(fixed, key, same_boot, &mut beginning)?,
        };
        if let Some(state) = state {
            beginning.runs.insert(key, state);
        }
    }
    for entry in fs::read_dir(&fixed.run_root)? {
        let entry = entry?;
        let name = entry.file_name();
        match name.to_str().and_then(Key::from_folder) {
            Some(key) if known.contains(&key) => {}
            Some(key) => unknown(fixed, key, &mut beginning)?,
            None if name.to_str().is_some_and(|name| name.starts_with(SPARE_PREFIX)) => {
                remove(&entry.path())?
            }
            None => tracing::warn!(name = %name.display(), "something that is no run is in the run folder"),
        }
    }
    fixed.cgroups.retake(&beginning.held, &tracked(fixed, &beginning.held));
    mpi::sweep(&fixed.node, &fixed.mark, &beginning.held);
    match fixed.gpus.slices() {
        Some(slices) => {
            beginning.slices = slices.reconcile(claims, &beginning.held, same_boot);
            // What is ours is known as ours from here on.
            let _ = fixed.gpus.look();
        }
        None => {
            beginning.kept =
                claims.into_iter().flat_map(|(place, claim)| claim_records(place, claim)).collect()
        }
    }
    Ok(beginning)
}

/// The tracking directories of these runs.
fn tracked(fixed: &Fixed, held: &[Key]) -> Vec<PathBuf> {
    use std::os::unix::ffi::OsStringExt;
    let spec = |key: &Key| start::read_spec(&fixed.run_root.join(key.folder()));
    held.iter().filter_map(spec).map(|spec| PathBuf::from(OsString::from_vec(spec.cgroup))).collect()
}

fn claim_records(place: Place, (owner, profile, made): (Owner, u32, Option<Instance>)) -> Vec<Record> {
    let claimed = Record::Slice(place.clone(), Note::Claimed(owner, profile));
    let made = made.map(|made| Record::Slice(place, Note::Made(owner, made)));
    std::iter::once(claimed).chain(made).collect()
}

fn intended(
    fixed: &Fixed,
    key: Key,
    same_boot: bool,
    beginning: &mut Beginning,
) -> io::Result<Option<State>> {
    let folder = fixed.run_root.join(key.folder());
    if start::is_held(&folder)? {
        tracing::info!(run = %key, "taken back");
        return Ok(Some(take_back(fixed, key, beginning)));
    }
    let outcome = match start::examine(&folder, key) {
        Found::Nothing if same_boot => {
            beginning.log.push((key, Mark::Gone, None));
            remove(&folder)?;
            return Ok(None);
        }
        Found::Nothing => start::lost(host::now_ms(), host::now_ms()),
        Found::Outcome(_) | Found::Begun { .. } => conclude_now(fixed, key, "it went away with the executor"),
    };
    tracing::info!(run = %key, kind = ?outcome.kind, "ended while no executor ran");
    beginning.log.push((key, Mark::Ended(outcome.clone()), Some(Event::OutcomeDurable)));
    Ok(Some(State::Ending(outcome)))
}

fn take_back(fixed: &Fixed, key: Key, beginning: &mut Beginning) -> State {
    beginning.held.push(key);
    let (begun_ms, marked) = match start::examine(&fixed.run_root.join(key.folder()), key) {
        Found::Begun { begun_ms } => (begun_ms, true),
        Found::Outcome(outcome) => (outcome.begun_ms, true),
        Found::Nothing => (host::now_ms(), false),
    };
    State::Running { begun_ms, marked }
}

/// A folder without a record: acknowledged and not yet removed, or of a spool that was lost.
fn unknown(fixed: &Fixed, key: Key, beginning: &mut Beginning) -> io::Result<()> {
    let folder = fixed.run_root.join(key.folder());
    if start::is_held(&folder)? {
        tracing::warn!(run = %key, "a run that no record knows is alive; it is shown to the scheduler");
        let state = take_back(fixed, key, beginning);
        beginning.log.push((key, Mark::Intent, None));
        beginning.runs.insert(key, state);
        return Ok(());
    }
    match start::examine(&folder, key) {
        // That it never began is no evidence here: a run that was collected may have left its folder half removed.
        Found::Nothing => remove(&folder),
        Found::Outcome(_) | Found::Begun { .. } => {
            let outcome = conclude_now(fixed, key, "no record knows it");
            tracing::warn!(run = %key, kind = ?outcome.kind, "ended, and no record knows it; it is reported");
            beginning.log.push((key, Mark::Ended(outcome.clone()), Some(Event::OutcomeDurable)));
            beginning.runs.insert(key, State::Ending(outcome));
            Ok(())
        }
    }
}

fn remove(folder: &std::path::Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
