//! The order of squeue's rows: `-S P,t,-p`, each key stable over the ones behind it.

use std::cmp::Ordering;

use model::job::JobState;

use super::super::job;
use super::fields::{FIELDS, Row, user};

/// Order where none is asked for: partition, state, priority from the highest.
pub(super) const DEFAULT: &str = "P,t,-p";
/// The letters that are keys.
pub(super) const KEYS: &str = "BCDGHIJLMNOPQSTUVcdefghijlmnptuvzb";
/// Order of `--start` where none is asked for.
pub(super) const BY_START: &str = "S";

/// Sorts by the keys; the letter is that of `-o`, `-` before it turns it round.
pub(super) fn sort(rows: &mut [Row], keys: &str) {
    // Jobs that no key tells apart stand with the newest first, elements of an array in their order.
    rows.sort_by_key(|row| std::cmp::Reverse(row.job.array_job_id.unwrap_or(row.job.job_id)));
    let keys: Vec<(bool, char)> = parse(keys);
    for &(reverse, letter) in keys.iter().rev() {
        rows.sort_by(|a, b| {
            let order = compare(letter, a, b);
            if reverse { order.reverse() } else { order }
        });
    }
}

fn parse(keys: &str) -> Vec<(bool, char)> {
    let (mut parsed, mut reverse) = (Vec::new(), false);
    for c in keys.chars() {
        match c {
            ',' | '+' | '#' => reverse = false,
            '-' => reverse = true,
            _ => parsed.push((std::mem::take(&mut reverse), c)),
        }
    }
    parsed
}

fn state_number(row: &Row) -> usize {
    let state = job::state(&row.job);
    JobState::ALL.iter().position(|&one| one == state).unwrap_or(0)
}

fn compare(letter: char, a: &Row, b: &Row) -> Ordering {
    let by = |key: fn(&Row) -> i64| key(a).cmp(&key(b));
    match letter {
        'A' | 'F' | 'i' => {
            by(|row| i64::from(row.job.het_job_id.or(row.job.array_job_id).unwrap_or(row.job.job_id)))
                .then(by(|row| i64::from(row.job.het_offset.unwrap_or(0))))
                .then(by(|row| row.job.array_task_id.map_or(i64::MAX, i64::from)))
        }
        't' | 'T' => state_number(a).cmp(&state_number(b)),
        'p' | 'Q' => a.job.priority.cmp(&b.job.priority),
        'S' => by(|row| job::start_ms(&row.job).unwrap_or(i64::MAX)),
        'e' => by(|row| job::end_ms(&row.job).unwrap_or(i64::MAX)),
        'V' => by(|row| row.job.submit_ms),
        'M' => by(|row| job::run_ms(&row.job, row.now_ms)),
        'l' | 'L' => by(|row| row.job.time_limit_ms.filter(|&limit| limit >= 0).unwrap_or(i64::MAX)),
        'D' => a.job.num_nodes.cmp(&b.job.num_nodes),
        'C' => a.job.num_cpus.cmp(&b.job.num_cpus),
        'c' => job::min_cpus(&a.job).cmp(&job::min_cpus(&b.job)),
        'm' => job::min_memory(&a.job).1.cmp(&job::min_memory(&b.job).1),
        'U' => a.job.uid.cmp(&b.job.uid),
        'u' => user(a).cmp(&user(b)),
        _ => match FIELDS.iter().find(|field| field.letter == letter) {
            Some(field) => (field.value)(a, 0).cmp(&(field.value)(b, 0)),
            None => Ordering::Equal,
        },
    }
}
