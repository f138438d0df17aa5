//! Looking at a state folder without owning it: `journal check` and `journal show`.
//!
//! Nothing is locked or written, so it may be used beside a running scheduler (whose last frame may then be seen half
//! written, and counts as torn). Shows frames, records and their jobs; never a script or an environment, which records do
//! not hold.

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use journal::{Disk, FileDisk, Frame, Kind, inspect, segment_name};
use scheduler_core::apply::apply_owned;
use scheduler_core::record::Record;
use scheduler_core::state::State;

use super::history::file;
use super::{Error, compact, layout, snapshot};
use crate::views::changed_jobs;

/// Takes lines for the administrator.
pub type Lines<'a> = dyn FnMut(String) + 'a;

fn disk(folder: &Path) -> Result<Arc<dyn Disk>, Error> {
    let failed = |source| Error::Io { operation: "open", file: folder.display().to_string(), source };
    // Opening would make it.
    std::fs::metadata(folder.join("identity")).map_err(failed)?;
    Ok(Arc::new(FileDisk::open(folder).map_err(failed)?))
}

/// Reads everything in the folder: frames with their chain and checksums, records, snapshots with their digests, history;
/// and replays the journal behind the newest snapshot. A line for each part.
///
/// # Errors
/// The first thing that is not as it was written, with its place.
pub fn check(folder: &Path, say: &mut Lines<'_>) -> Result<(), Error> {
    let disk = disk(folder)?;
    let lineage = compact::lineage(&*disk)?;
    say(format!("lineage {lineage}"));
    let snapshots = snapshot::list(&*disk)?;
    let mut base = (0, State::default());
    for sequence in &snapshots {
        let state = snapshot::read(&*disk, lineage, *sequence)?;
        say(format!("{}: {} jobs, sound", layout::snapshot_name(*sequence), state.jobs.len()));
        base = (*sequence, state);
    }
    let (newest, mut state) = base;
    let (mut frames, mut records, mut failed) = (0_u64, 0_u64, None);
    let found = inspect(&disk, &mut |frame| {
        frames += 1;
        match replay(frame, newest, &mut state) {
            Ok(count) => {
                records += count;
                ControlFlow::Continue(())
            }
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        }
    })?;
    if let Some(error) = failed {
        return Err(error);
    }
    let first = found.first_sequence.map_or(1, |first| first.0);
    if newest + 1 < first {
        return Err(Error::NoSnapshot { first, tried: snapshots.len() });
    }
    say(format!(
        "journal: frames {first} to {}, {frames} in all with {records} records, sound",
        found.last_sequence
    ));
    if let Some(torn) = found.torn {
        say(format!(
            "journal: {} bytes behind the last frame were not finished ({}, offset {}); the next start cuts them off",
            torn.bytes,
            segment_name(torn.segment),
            torn.offset
        ));
    }
    for name in layout::list(&*disk)?.iter().filter(|name| layout::history_of(name).is_some()) {
        let facts = file::facts(&*disk, lineage, name)?;
        let mut rows = 0_u64;
        let _ = file::each_row(&*disk, lineage, &facts, &mut |_, _, _| {
            rows += 1;
            ControlFlow::Continue(())
        })?;
        if rows != facts.begin.rows {
            return Err(Error::Snapshot { file: name.clone(), what: "it has not as many rows as it says" });
        }
        say(format!("{name}: {rows} rows, sound"));
    }
    say(format!(
        "state after frame {}: {} jobs, next job id {}, epoch {}",
        found.last_sequence.0.max(newest),
        state.jobs.len(),
        state.next_job_id,
        state.epoch
    ));
    Ok(())
}

/// Decodes a frame's records, and applies those that are behind the snapshot. Answers how many there were.
fn replay(frame: &Frame<'_>, newest: u64, state: &mut State) -> Result<u64, Error> {
    let mut count = 0;
    for (place, record) in decoded(frame)? {
        count += 1;
        if frame.sequence().0 <= newest {
            continue;
        }
        let applied = catch_unwind(AssertUnwindSafe(|| apply_owned(state, record)));
        applied.map_err(|_| Error::Apply {
            file: segment_name(frame.segment()),
            offset: frame.offset(),
            record: place,
            assertion: "see above".to_owned(),
        })?;
    }
    Ok(count)
}

fn decoded(frame: &Frame<'_>) -> Result<Vec<(usize, Record)>, Error> {
    let mut records = Vec::new();
    for (place, bytes) in frame.records().enumerate() {
        let record = scheduler_codec::read_record(bytes).map_err(|source| Error::Record {
            file: segment_name(frame.segment()),
            offset: frame.offset(),
            record: place,
            source,
        })?;
        records.extend(record.map(|record| (place, record)));
    }
    Ok(records)
}

/// Shows the frames of the journal from number `from` to `to`, a line each, and a line for each record.
///
/// # Errors
/// What cannot be read, with its place.
pub fn show(folder: &Path, (from, to): (u64, u64), say: &mut Lines<'_>) -> Result<(), Error> {
    let disk = disk(folder)?;
    let mut failed = None;
    inspect(&disk, &mut |frame| {
        let number = frame.sequence().0;
        if number < from {
            return ControlFlow::Continue(());
        }
        if number > to {
            return ControlFlow::Break(());
        }
        say(format!(
            "frame {number}: {}, offset {}, epoch {}, {}",
            segment_name(frame.segment()),
            frame.offset(),
            frame.epoch(),
            kind(frame)
        ));
        match decoded(frame) {
            Ok(records) => {
                records.iter().for_each(|(place, record)| say(format!("  {place}: {}", described(record))));
                ControlFlow::Continue(())
            }
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        }
    })?;
    failed.map_or(Ok(()), Err)
}

fn kind(frame: &Frame<'_>) -> String {
    match frame.kind() {
        Kind::Batch => format!("{} records", frame.record_count()),
        Kind::Idle => "idle: its predecessor was durable".to_owned(),
        Kind::Opening => "the first of an owner".to_owned(),
        Kind::End => "the end".to_owned(),
        Kind::Other(number) => format!("of kind {number}, written by a newer version"),
    }
}

/// The record's name and the jobs or the object that it is about.
fn described(record: &Record) -> String {
    // The name of a variant is all that is taken of its debug form.
    let debug = format!("{record:?}");
    let end = debug.find(|letter: char| !letter.is_ascii_alphanumeric()).unwrap_or(debug.len());
    let mut text = debug[..end].to_owned();
    changed_jobs(record, |job| text.push_str(&format!(" job {job}")));
    match record {
        Record::Time(at) => text.push_str(&format!(" {} ms", at.0)),
        Record::Owner(epoch) => text.push_str(&format!(" epoch {epoch}")),
        Record::NextJobId(id) | Record::Restored(id) => text.push_str(&format!(" {id}")),
        Record::NodeAdmin { node, .. }
        | Record::NodeLink { node, .. }
        | Record::NodeRegistered { node, .. }
        | Record::NodeBusy { node, .. } => text.push_str(&format!(" node at place {}", node.0)),
        Record::NodeDefined { definition, .. } => text.push_str(&format!(" {}", definition.name)),
        Record::PartitionDefined { definition, .. } => text.push_str(&format!(" {}", definition.name)),
        Record::Stranger { node, run, there } => {
            let state = if *there { "there" } else { "gone" };
            text.push_str(&format!(
                " job {}.{} run {} at place {}: {state}",
                run.job, run.step, run.run.0, node.0
            ));
        }
        Record::Cluster(name, _)
        | Record::Account(name, _)
        | Record::User(name, _)
        | Record::Qos(name, _) => {
            text.push_str(&format!(" {name}"));
        }
        _ => {}
    }
    text
}
