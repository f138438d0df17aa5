//! `squeue -v`: what was asked for, before it is answered. Source: the output of Slurm 26.05.

use super::Asked;

/// What is kept of the command line only to be told.
#[derive(Default)]
pub(super) struct Told {
    /// How often `-v` was given.
    pub verbose: u32,
    pub local: bool,
    pub jobs: Option<String>,
    pub steps: Option<String>,
    pub states: Option<String>,
    pub users: Option<String>,
}

/// The block of `-v`, one line for each option.
pub(super) fn text(asked: &Asked) -> String {
    const RULE: &str = "-----------------------------\n";
    let null = || "(null)".to_owned();
    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty()).unwrap_or_else(null);
    let list = |list: &Option<Vec<String>>| list.as_ref().map_or_else(null, |list| list.join(","));
    let nodes = asked.nodes.as_deref().map_or_else(String::new, |text| {
        model::hostlist::expand(text)
            .map_or_else(|_| text.to_owned(), |names| model::hostlist::compress_sorted(&names))
    });
    let number = |flag: bool| u8::from(flag).to_string();
    let lines = [
        ("all        ", asked.all.to_string()),
        ("array      ", asked.split_arrays.to_string()),
        ("federation ", false.to_string()),
        ("format     ", given(&asked.format.clone().or_else(|| asked.names.clone()))),
        ("iterate    ", asked.iterate.unwrap_or(0).to_string()),
        ("job_flag   ", number(asked.told.jobs.is_some())),
        ("jobs       ", given(&asked.told.jobs)),
        ("licenses   ", list(&asked.licenses)),
        ("local      ", asked.told.local.to_string()),
        ("names      ", list(&asked.names_of_jobs)),
        ("nodes      ", nodes),
        ("only_job_state", false.to_string()),
        ("partitions ", list(&asked.partitions)),
        ("priority   ", asked.by_partition.to_string()),
        ("reservation", list(&asked.reservations)),
        ("sibling     ", false.to_string()),
        ("sort       ", given(&asked.sort)),
        ("start_flag ", number(asked.start)),
        ("states     ", given(&asked.told.states)),
        ("step_flag  ", number(asked.told.steps.is_some())),
        ("steps      ", given(&asked.told.steps)),
        ("users      ", given(&asked.told.users)),
        ("verbose    ", asked.told.verbose.to_string()),
    ];
    let lines: String = lines.iter().map(|(key, value)| format!("{key} = {value}\n")).collect();
    format!("{RULE}{lines}{RULE}\n\n")
}

#[cfg(test)]
mod tests {
    use super::super::{Call, read};
    use super::*;

    fn told(words: &[&str]) -> String {
        let call = Call { program: "squeue".into(), argv: words.iter().map(Into::into).collect() };
        let Ok(asked) = read(&call) else { panic!("{words:?}") };
        text(&asked)
    }

    #[test]
    fn each_option_has_its_line() {
        let words = [
            "-vv",
            "-a",
            "-j",
            "1,2",
            "--partitions=debug,batch",
            "-t",
            "PD",
            "-u",
            "0",
            "-w",
            "c1,c2",
            "-o%i",
        ];
        let text = told(&words);
        for line in [
            "all         = true",
            "array       = false",
            "format      = %i",
            "job_flag    = 1",
            "jobs        = 1,2",
            "names       = (null)",
            "nodes       = c[1-2]",
            "partitions  = debug,batch",
            "states      = PD",
            "steps       = (null)",
            "users       = 0",
            "verbose     = 2",
        ] {
            assert!(text.lines().any(|known| known == line), "{line}\n{text}");
        }
    }
}
