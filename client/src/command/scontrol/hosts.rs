//! `scontrol show hostnames`, `hostlist` and `hostlistsorted`: they need no scheduler.

use model::hostlist::{self, Error};

use super::Session;
use crate::say;

/// `show hostnames [LIST]`: one name a line; without a list, that of the environment.
pub(super) fn names(session: &mut Session, list: Option<&str>) {
    let set = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    let from_environment = || set("SLURM_NODELIST").or_else(|| set("SLURM_JOB_NODELIST"));
    let list = match list.map(str::to_owned).or_else(from_environment) {
        Some(list) if !list.is_empty() => list,
        // A list that was given and is empty has no names.
        Some(_) => return,
        None => {
            say::error(&session.program, "host list is empty");
            return;
        }
    };
    if let Some(names) = expand(session, &list) {
        say::out(names.iter().map(|name| format!("{name}\n")).collect::<String>());
    }
}

/// `show hostlist LIST` and `hostlistsorted`: the names put together again.
pub(super) fn list(session: &mut Session, list: Option<&str>, sorted: bool) {
    let Some(list) = list else {
        session.fail("invalid encode argument");
        return;
    };
    let read = match list {
        "-" => std::io::read_to_string(std::io::stdin()),
        path if path.starts_with('/') => std::fs::read_to_string(path),
        _ => Ok(list.to_owned()),
    };
    let text = match read {
        Ok(text) => text.split_whitespace().collect::<Vec<_>>().join(","),
        Err(error) => {
            session.fail_with_name(format!("unable to read {list}: {error}"));
            return;
        }
    };
    if let Some(names) = expand(session, &text) {
        let text = if sorted { hostlist::compress_sorted(&names) } else { hostlist::compress(&names) };
        say::out(text + "\n");
    }
}

fn expand(session: &mut Session, list: &str) -> Option<Vec<String>> {
    match hostlist::expand(list) {
        Ok(names) => Some(names),
        Err(error) => {
            let before = session.status;
            if let Error::Range(_) = error {
                session.fail_with_name(error.to_string());
            }
            session.fail(format!("Invalid hostlist: {list}"));
            // Said, and no failure of the command: scripts that test its status go on with no name.
            if !matches!(error, Error::Range(_)) {
                session.status = before;
            }
            None
        }
    }
}
