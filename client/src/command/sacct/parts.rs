//! Which fields of a job `sacct` needs for what it was asked, so that the scheduler sends no others.
//!
//! A field that is not listed here needs all; the numbers are those of the message `Job`, and a test holds the list
//! against the fields' own functions.

use super::fields::Field;
use super::{Asked, Column};

/// What selection, order and window look at, and the texts that nearly every line has.
const ALWAYS: &[u32] = &[1, 2, 3, 4, 5, 6, 7, 11, 14, 17, 18, 19, 20, 23, 24, 47, 48, 49, 55];
/// `request`, for names and wckeys.
const REQUEST: u32 = 10;
/// `reason`.
const REASON: u32 = 12;
/// `node_list`.
const NODE_LIST: u32 = 34;
/// `steps`.
const STEPS: u32 = 50;

/// What a column needs beside [`ALWAYS`]; of a step it needs the step alone.
pub(super) const NEEDS: &[(&str, &[u32])] = &[
    ("Account", &[]),
    ("AllocCPUS", &[38]),
    ("AllocNodes", &[36]),
    ("AllocTRES", &[42]),
    ("AssocID", &[51]),
    ("Cluster", &[62]),
    ("CPUTime", &[29, 38]),
    ("CPUTimeRAW", &[29, 38]),
    ("DBIndex", &[]),
    ("DerivedExitCode", &[32]),
    ("Elapsed", &[29]),
    ("ElapsedRaw", &[29]),
    ("Eligible", &[21]),
    ("End", &[]),
    ("ExitCode", &[31]),
    ("GID", &[]),
    ("Group", &[9]),
    ("JobID", &[]),
    ("JobIDRaw", &[]),
    ("JobName", &[REQUEST]),
    ("NCPUS", &[38]),
    ("NNodes", &[36]),
    ("NodeList", &[NODE_LIST]),
    ("Partition", &[]),
    ("Planned", &[21]),
    ("Priority", &[16]),
    ("QOS", &[]),
    ("Reason", &[12]),
    ("ReqCPUS", &[38]),
    ("ReqMem", &[40, 41]),
    ("ReqNodes", &[36]),
    ("ReqTRES", &[41]),
    ("Restarts", &[15]),
    ("Start", &[]),
    ("State", &[]),
    ("Submit", &[]),
    ("Timelimit", &[30]),
    ("TimelimitRaw", &[30]),
    ("UID", &[]),
    ("User", &[8]),
];

/// The numbers of the fields that are needed; none: all.
pub(super) fn parts(asked: &Asked, columns: &[(&Field, Column)]) -> Vec<u32> {
    // Selectors split arrays by what their requests say; scripts are few.
    if asked.json || asked.batch_script || asked.env_vars || asked.split_arrays || !asked.jobs.is_empty() {
        return Vec::new();
    }
    let mut numbers = ALWAYS.to_vec();
    for (field, _) in columns {
        let Some((_, needs)) = NEEDS.iter().find(|(name, _)| *name == field.name) else { return Vec::new() };
        numbers.extend_from_slice(needs);
    }
    let by_request = !asked.names.is_empty() || !asked.wckeys.is_empty() || asked.constraints.is_some();
    numbers.extend(by_request.then_some(REQUEST));
    numbers.extend(asked.reasons.is_some().then_some(REASON));
    numbers.extend((!asked.nodes.is_empty()).then_some(NODE_LIST));
    numbers.extend((!asked.allocations).then_some(STEPS));
    numbers.sort_unstable();
    numbers.dedup();
    numbers
}
