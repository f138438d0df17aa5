//! What the values of sacct's options mean, and what is said of those that mean nothing.

use model::job::JobState;
use model::time::Timestamp;
use model::time::moment::{self, Sense};

use super::super::Call;
use super::super::job::{self, Selector, list};
use crate::{local, say};

pub(super) fn moment(text: &str, now_ms: i64) -> Result<i64, u8> {
    match moment::parse(text, Timestamp(now_ms), &local::offset_s, Sense::Past) {
        Ok(at) => Ok(at.as_millis()),
        Err(error) => {
            say::err(error.to_string());
            Err(1)
        }
    }
}

/// The letter of `--units`.
pub(super) fn unit(text: &str) -> Option<char> {
    let letter = text.chars().next().filter(|_| text.len() == 1)?.to_ascii_uppercase();
    "KMGTP".contains(letter).then_some(letter)
}

pub(super) fn groups(call: &Call, text: &str) -> Result<Vec<u32>, u8> {
    some(text)?;
    let read = |item: &String| {
        group_id(item).ok_or_else(|| {
            say::error(&call.program, format!("Invalid group id: {item}"));
            1
        })
    };
    list(text).iter().map(read).collect()
}

/// A list of nobody ends the command without a word, as in Slurm.
fn some(text: &str) -> Result<(), u8> {
    if list(text).is_empty() { Err(1) } else { Ok(()) }
}

/// `N` or `N-M`: from and to.
pub(super) fn range(call: &Call, text: &str, what: &str) -> Result<(u32, u32), u8> {
    let number = |word: &str| word.parse::<u32>().ok().filter(|&number| number > 0);
    let (least, most) = text.split_once('-').unwrap_or((text, text));
    match (number(least), number(most)) {
        (Some(least), Some(most)) => Ok((least, most)),
        (least, _) => {
            let wrong = if least.is_none() { least_text(text) } else { most };
            say::error(&call.program, format!("Invalid numeric value \"{wrong}\" for {what}."));
            Err(1)
        }
    }
}

fn least_text(text: &str) -> &str {
    text.split('-').next().unwrap_or_default()
}

/// A time limit in ms; `i64::MAX` for none.
pub(super) fn time_limit(call: &Call, text: &str) -> Result<i64, u8> {
    match model::time::limit::parse_minutes(text) {
        Ok(span) => Ok(span.map_or(i64::MAX, model::time::Span::as_millis)),
        Err(_) => {
            say::fatal(&call.program, "Invalid time limit specification");
            Err(1)
        }
    }
}

fn group_id(text: &str) -> Option<u32> {
    match nix::unistd::Group::from_name(text) {
        Ok(Some(group)) => Some(group.gid.as_raw()),
        _ => text.parse().ok(),
    }
}

pub(super) fn split_words(text: &str, at: &[char]) -> Vec<String> {
    text.split(at).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// The flags of `--flags`. Of those that Slurm knows, jobs of this system have only some.
pub(super) fn flags(call: &Call, text: &str) -> Result<Vec<String>, u8> {
    const KNOWN: [&str; 5] = ["None", "SchedSubmit", "SchedMain", "SchedBackfill", "StartReceived"];
    let words = split_words(text, &[',']);
    match words.iter().find(|word| !KNOWN.iter().any(|known| known.eq_ignore_ascii_case(word))) {
        Some(bad) => {
            say::error(&call.program, format!("str_2_job_flags: Invalid job flag {bad}"));
            Err(1)
        }
        None => Ok(words),
    }
}

/// The reasons of `--reason`.
pub(super) fn reasons(call: &Call, text: &str) -> Result<Vec<String>, u8> {
    let known =
        |word: &str| model::reason::Reason::ALL.iter().any(|reason| reason.text().eq_ignore_ascii_case(word));
    let words = split_words(text, &[',']);
    match words.iter().find(|word| !known(word)) {
        Some(bad) => {
            say::fatal(&call.program, format!("unrecognized job reason value '{bad}'"));
            Err(1)
        }
        None => Ok(words),
    }
}

pub(super) fn selectors(call: &Call, text: &str) -> Result<Vec<Selector>, u8> {
    job::split_ids(text).into_iter().map(|item| job::selector(&call.program, item)).collect()
}

pub(super) fn states(call: &Call, text: &str) -> Result<Vec<JobState>, u8> {
    let read = |item: &String| {
        JobState::parse(item).ok_or_else(|| {
            say::fatal(&call.program, format!("unrecognized job state value '{item}'"));
            1
        })
    };
    list(text).iter().map(read).collect()
}

pub(super) fn users(call: &Call, text: &str) -> Result<Vec<u32>, u8> {
    some(text)?;
    let read = |item: &String| {
        local::user_id(item).ok_or_else(|| {
            say::error(&call.program, format!("Invalid user id: {item}"));
            1
        })
    };
    list(text).iter().map(read).collect()
}
