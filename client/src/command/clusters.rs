//! `-M`: this system serves one cluster, so the name is only checked and shown.

use super::Call;
pub(crate) use super::job::names;
use crate::{connect, say};

/// This cluster's name.
pub(crate) fn name() -> String {
    connect::conf_cluster().unwrap_or_else(|| model::place::DEFAULT_CLUSTER.to_owned())
}

/// The name to be shown where `-M` was given; `Err` with the exit status where it names another cluster.
pub(crate) fn check(call: &Call, wanted: Option<&[String]>) -> Result<Option<String>, u8> {
    let Some(wanted) = wanted.filter(|wanted| !wanted.is_empty()) else { return Ok(None) };
    let name = name();
    let (here, others): (Vec<&String>, Vec<&String>) =
        wanted.iter().partition(|one| **one == name || *one == "all");
    others.iter().for_each(|other| {
        say::error(&call.program, format!("No cluster '{other}' known by database."));
    });
    match others.first() {
        Some(other) if here.is_empty() => {
            let hint = "Use 'sacctmgr list clusters' to see available clusters.";
            say::error(
                &call.program,
                format!("'{other}' can't be reached now, or it is an invalid entry for --cluster.  {hint}"),
            );
            Err(1)
        }
        _ => Ok(Some(name)),
    }
}

/// The same for a command that asks: it says once more that it ends.
pub(crate) fn check_query(call: &Call, wanted: Option<&[String]>) -> Result<Option<String>, u8> {
    check(call, wanted).inspect_err(|_| say::fatal(&call.program, "Could not get cluster information"))
}
