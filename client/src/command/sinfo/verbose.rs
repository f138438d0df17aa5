//! `sinfo -v`: what was asked for, and of which columns, before it is answered. Source: the output of Slurm 26.05.

use super::Asked;
use super::fields::Row;
use crate::table::Format;

const RULE: &str = "-----------------------------\n";

/// What a flag is called, with its padding, and the letters of the columns that set it.
const FLAGS: [(&str, &str); 29] = [
    ("alloc_mem_flag  =", ""),
    ("avail_flag      =", "a"),
    ("comment_flag    =", ""),
    ("cpus_flag       =", "cC"),
    ("default_time_flag =", "L"),
    ("disk_flag       =", "d"),
    ("extra_flag      =", ""),
    ("features_flag   =", "f"),
    ("features_flag_act =", "b"),
    ("groups_flag     =", "g"),
    ("gres_flag       =", "G"),
    ("gres_used_flag  =", ""),
    ("job_size_flag   =", "s"),
    ("max_time_flag   =", "l"),
    ("memory_flag     =", "m"),
    ("partition_flag  =", "PR"),
    ("port_flag       =", ""),
    ("priority_job_factor_flag   =", "I"),
    ("priority_tier_flag   =", "p"),
    ("reason_flag     =", "E"),
    ("reason_timestamp_flag =", "H"),
    ("reason_user_flag =", "uU"),
    ("reservation_flag =", ""),
    ("resv_name_flag   =", "i"),
    ("root_flag       =", "r"),
    ("oversubscribe_flag      =", "h"),
    ("state_flag      =", "tT"),
    ("statecomplete_flag =", ""),
    ("weight_flag     =", "w"),
];

/// Columns that have a name and no letter.
const NAMES: [(&str, &str); 6] = [
    ("alloc_mem_flag  =", "allocmem"),
    ("comment_flag    =", "comment"),
    ("extra_flag      =", "extra"),
    ("gres_used_flag  =", "gresused"),
    ("port_flag       =", "port"),
    ("statecomplete_flag =", "statecomplete"),
];

/// The block of `-v`.
pub(super) fn text(asked: &Asked, format: &Format<Row>, default: &str) -> String {
    let list = |list: &Option<Vec<String>>, none: &str| {
        list.as_ref().map_or_else(|| none.to_owned(), |list| list.join(","))
    };
    let shown = match (&asked.format, &asked.names) {
        (None, Some(names)) => names,
        (Some(letters), _) => letters,
        (None, None) => default,
    };
    let filtering = asked.dead
        || asked.nodes.is_some()
        || asked.partitions.is_some()
        || asked.responding
        || asked.states.is_some();
    let columns: Vec<_> = format.columns.iter().filter_map(|column| column.field()).collect();
    let lines = [
        ("dead        ", asked.dead.to_string()),
        ("exact       ", u8::from(asked.exact).to_string()),
        ("filtering   ", filtering.to_string()),
        ("format      ", shown.to_owned()),
        ("iterate     ", asked.iterate.unwrap_or(0).to_string()),
        ("long        ", asked.long.to_string()),
        ("no_header   ", asked.no_header.to_string()),
        ("node_field  ", columns.iter().any(|field| field.letter == 'N' && asked.node_mode).to_string()),
        ("node_format ", asked.node_mode.to_string()),
        ("nodes       ", list(&asked.nodes, "n/a")),
        ("part_field  ", columns.iter().any(|field| matches!(field.letter, 'P' | 'R')).to_string()),
        ("partition   ", list(&asked.partitions, "n/a")),
        ("responding  ", asked.responding.to_string()),
        ("states      ", list(&asked.states, "(null)")),
        ("sort        ", asked.sort.clone().unwrap_or_else(|| "(null)".to_owned())),
        ("summarize   ", asked.summary.to_string()),
        ("verbose     ", asked.verbose.to_string()),
    ];
    let lines: String = lines.iter().map(|(key, value)| format!("{key}= {value}\n")).collect();
    let set = |flag: &str, letters: &str| {
        let named = NAMES.iter().find(|(known, _)| *known == flag).map(|(_, name)| *name);
        columns
            .iter()
            .any(|field| letters.contains(field.letter) && field.letter != '\0' || Some(field.name) == named)
    };
    let flags: String = FLAGS
        .iter()
        .map(|(flag, letters)| {
            let gap = if flag.starts_with("default_time") { "" } else { " " };
            format!("{flag}{gap}{}\n", set(flag, letters))
        })
        .collect();
    format!("{RULE}{lines}{RULE}all_flag        = {}\n{flags}{RULE}\n", asked.all)
}

#[cfg(test)]
mod tests {
    use super::super::{Call, FIELDS, read, table};
    use super::*;

    fn told(words: &[&str]) -> String {
        let call = Call { program: "sinfo".into(), argv: words.iter().map(Into::into).collect() };
        let Ok(asked) = read(&call) else { panic!("{words:?}") };
        let letters = asked.format.clone().unwrap_or_else(|| "%P %a".to_owned());
        text(&asked, &table::parse_letters(&letters, &FIELDS), "%P %a")
    }

    #[test]
    fn options_and_columns_are_told() {
        let text = told(&["-v", "-p", "debug", "-n", "c[1-2]", "-t", "idle,down", "-o", "%C %m %E"]);
        for line in [
            "filtering   = true",
            "format      = %C %m %E",
            "nodes       = c1,c2",
            "part_field  = false",
            "partition   = debug",
            "states      = idle,down",
            "verbose     = 1",
            "cpus_flag       = true",
            "memory_flag     = true",
            "partition_flag  = false",
            "reason_flag     = true",
        ] {
            assert!(text.lines().any(|known| known == line), "{line}\n{text}");
        }
        let plain = told(&["-v"]);
        assert!(
            plain.contains("format      = %P %a\n") && plain.contains("filtering   = false\n"),
            "{plain}"
        );
    }
}
