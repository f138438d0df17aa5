//! Reference pages that are made from the code: options, configuration keys, limits, metrics.
//!
//! Reads the tables as text, so that a chore needs no build of the product: the tables are one row a line (or a row's
//! head is on one line), and a row that cannot be read is an error, never left out. `cargo xtask bless` writes the
//! pages below `docs/reference`; `cargo xtask tidy` fails where they are stale.

use std::collections::BTreeMap;
use std::fmt::Write;

use anyhow::{Context, Result, bail};

use crate::tidy::Source;

const MADE: &str = "<!-- Made from the code by `cargo xtask bless`. Do not edit. -->\n";
const PROGRAMS: [&str; 3] = ["sbatch", "salloc", "srun"];

/// Every page: its path and what has to stand there.
pub(crate) fn pages(sources: &[Source]) -> Result<Vec<(String, String)>> {
    let text = |path: &str| {
        let found = sources.iter().find(|source| source.path == path);
        found.map(|source| source.text.as_str()).with_context(|| format!("there is no {path}"))
    };
    let pages = [
        ("options", options(text("client/src/option/table.rs")?)?),
        ("slurm-conf", keys(text("model/src/config/keys.rs")?)?),
        ("sluice-conf", own_keys(text("model/src/config/own.rs")?)?),
        ("limits", limits(&[text("proto/src/limits.rs")?, text("scheduler/src/rpc/server.rs")?])?),
        (
            "metrics",
            metrics(&[
                text("scheduler/src/metrics.rs")?,
                text("executor/src/figures.rs")?,
                text("service/src/figures.rs")?,
            ])?,
        ),
    ];
    Ok(pages.map(|(name, page)| (format!("docs/reference/{name}.md"), page)).into())
}

/// Pages that are not what the code says.
pub(crate) fn check(sources: &[Source]) -> Result<Vec<String>> {
    let is_there =
        |path: &str, page: &str| sources.iter().any(|source| source.path == path && source.text == page);
    let stale = pages(sources)?.into_iter().filter(|(path, page)| !is_there(path, page));
    Ok(stale.map(|(path, _)| format!("{path}: is not what the code says; run `cargo xtask bless`")).collect())
}

/// Arguments of a row's head, as far as they stand on its first line: split at commas outside quotes and brackets.
fn arguments(line: &str) -> Vec<String> {
    let (mut found, mut depth, mut quoted) = (vec![String::new()], 0, false);
    let mut before = ' ';
    for letter in line.chars() {
        match letter {
            '"' if before != '\\' => quoted = !quoted,
            '(' | '[' | '{' if !quoted => depth += 1,
            ')' | ']' | '}' if !quoted => depth -= 1,
            ',' if !quoted && depth == 0 => {
                found.push(String::new());
                before = letter;
                continue;
            }
            _ => {}
        }
        if depth < 0 {
            break;
        }
        found.last_mut().expect("there is always one").push(letter);
        before = letter;
    }
    found.iter().map(|word| word.trim().to_owned()).collect()
}

fn unquoted(word: &str) -> Result<&str> {
    word.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).with_context(|| format!("{word}: no text"))
}

/// The lines of a table, from `begin` to the bracket that closes it.
fn table<'a>(text: &'a str, begin: &str) -> Result<Vec<&'a str>> {
    let (_, rest) = text.split_once(begin).with_context(|| format!("there is no {begin:?}"))?;
    let (rows, _) = rest.split_once("\n];").with_context(|| format!("{begin:?} does not end"))?;
    Ok(rows.lines().collect())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    Done,
    Stored,
    Refused,
}

fn options(text: &str) -> Result<String> {
    let stored: Vec<&str> = table(text, "const STORED: &[&str] = &[")?
        .into_iter()
        .filter_map(|line| line.trim().trim_end_matches(',').strip_prefix('"')?.strip_suffix('"'))
        .collect();
    // Name, then for each program its letter and what becomes of it.
    let mut rows: BTreeMap<String, [Option<What>; 3]> = BTreeMap::new();
    let mut letters: BTreeMap<String, char> = BTreeMap::new();
    for line in table(text, "const ROWS: &[Row] = &[")? {
        let Some(row) = line.strip_prefix("    ").filter(|row| row.starts_with(char::is_alphabetic)) else {
            continue;
        };
        let (make, rest) = row.split_once('(').with_context(|| format!("{row}: no row"))?;
        let words = arguments(rest);
        let at =
            |place: usize| words.get(place).map(String::as_str).with_context(|| format!("{row}: too short"));
        let name = unquoted(at(1)?)?.to_owned();
        let on = match make {
            "stop" => "ALL",
            "refuse" => at(3)?,
            "value" | "maybe" | "flag" => at(2)?,
            other => bail!("{other}: no kind of row that is known"),
        };
        let what = match make {
            "refuse" => What::Refused,
            _ if stored.contains(&name.as_str()) => What::Stored,
            _ => What::Done,
        };
        let entry = rows.entry(name.clone()).or_default();
        for word in on.split('|') {
            let programs: &[usize] = match word.trim() {
                "ALL" => &[0, 1, 2],
                "BOTH" => &[0, 2],
                "WAITING" => &[1, 2],
                "SBATCH" => &[0],
                "SALLOC" => &[1],
                "SRUN" => &[2],
                other => bail!("{other}: no program that is known"),
            };
            programs.iter().for_each(|&program| entry[program] = Some(what));
        }
        if let Some(letter) = at(0)?.strip_prefix("b'").and_then(|rest| rest.chars().next()) {
            letters.insert(name, letter);
        }
    }
    let mut page = format!(
        "{MADE}\n# Options of sbatch, salloc and srun\n\n`done`: it does what Slurm's does. `stored`: kept with the job and \
         shown, and changes nothing else. `refused`: by name,\nnothing is submitted. An option that stands for no \
         program is unknown to it, as to Slurm's. Values of a done option that\nare not built are refused by name too.\n\n"
    );
    page.push_str("| program | done | stored | refused | in all |\n|---|---|---|---|---|\n");
    for (place, program) in PROGRAMS.iter().enumerate() {
        let count = |what| rows.values().filter(|on| on[place] == Some(what)).count();
        let (done, stored, refused) = (count(What::Done), count(What::Stored), count(What::Refused));
        let all = done + stored + refused;
        writeln!(page, "| {program} | {done} | {stored} | {refused} | {all} |")?;
    }
    page.push_str("\n| option | sbatch | salloc | srun |\n|---|---|---|---|\n");
    for (name, on) in &rows {
        let letter = letters.get(name).map(|letter| format!("`-{letter}`, ")).unwrap_or_default();
        let cells = on.map(|what| match what {
            Some(What::Done) => "done",
            Some(What::Stored) => "stored",
            Some(What::Refused) => "refused",
            None => "",
        });
        writeln!(page, "| {letter}`--{name}` | {} |", cells.join(" | "))?;
    }
    Ok(page)
}

fn keys(text: &str) -> Result<String> {
    let mut rows = Vec::new();
    let mut counts = [0; 3];
    for line in table(text, "const KEYS: &[Key] = &[")? {
        let Some(row) = line.strip_prefix("    key(") else { continue };
        let words = arguments(row);
        let [name, _, class, default] = words.as_slice() else { bail!("{row}: not four arguments") };
        let (place, told) = match class.split_once('(') {
            None if class == "Done" => (0, "done".to_owned()),
            None if class == "NoMeaning" => (1, "no meaning here: what it steers does not exist".to_owned()),
            Some((_, rest)) => {
                let effect = arguments(rest).into_iter().next().unwrap_or_default();
                (2, format!("unsupported: {}", unquoted(&effect)?))
            }
            None => bail!("{class}: no class that is known"),
        };
        counts[place] += 1;
        let default = unquoted(default)?.replace('|', "\\|");
        let default = if default.is_empty() { String::new() } else { format!("`{default}`") };
        rows.push(format!("| {} | {told} | {default} |\n", unquoted(name)?));
    }
    let [done, none, unsupported] = counts;
    let all = rows.len();
    let mut page = format!(
        "{MADE}\n# Keys of slurm.conf\n\n{all} keys: {done} done, {none} without a meaning here, {unsupported} unsupported \
         (reported at the start with what they would\nhave done, unless the value asks for nothing). A key that is not \
         listed stops the start, with file and line.\n\n| key | what becomes of it | default |\n|---|---|---|\n"
    );
    rows.iter().for_each(|row| page.push_str(row));
    Ok(page)
}

/// The table of a module's own comment.
fn own_keys(text: &str) -> Result<String> {
    let rows: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("//! |")).collect();
    if rows.len() < 3 {
        bail!("no table of keys was found");
    }
    let mut page = format!(
        "{MADE}\n# Keys of sluice.conf\n\nWhat only Sluice knows; the file stands beside slurm.conf, has its grammar, and may be \
         missing.\n\n"
    );
    for row in rows {
        writeln!(page, "|{row}")?;
    }
    Ok(page)
}

/// Constants with their comments, of files that state how large things may be.
fn limits(files: &[&str]) -> Result<String> {
    let mut page =
        format!("{MADE}\n# Limits of messages\n\n| limit | value | what it bounds |\n|---|---|---|\n");
    let mut found = 0;
    for text in files {
        let mut comment = String::new();
        for line in text.lines() {
            if let Some(words) = line.strip_prefix("/// ") {
                comment = if comment.is_empty() { words.to_owned() } else { format!("{comment} {words}") };
                continue;
            }
            let constant = line.strip_prefix("pub const ").or_else(|| line.strip_prefix("const "));
            if let Some((name, rest)) = constant.and_then(|rest| rest.split_once(':'))
                && let Some((_, value)) = rest.trim_end_matches(';').split_once("= ")
            {
                writeln!(page, "| {name} | `{value}` | {comment} |")?;
                found += 1;
            }
            comment.clear();
        }
    }
    if found == 0 {
        bail!("no limits were found");
    }
    Ok(page)
}

fn metrics(files: &[&str]) -> Result<String> {
    let mut page = format!(
        "{MADE}\n# Metrics\n\n`/metrics` of both daemons, Prometheus text. `sluice_executor_…` are the executor's, `process_…` both's, the others the\nscheduler's.\n\n| name | kind | what |\n|---|---|---|\n"
    );
    let mut found = 0;
    // Calls may be broken over lines.
    let code: Vec<&str> =
        files.iter().map(|text| text.split("#[cfg(test)]").next().unwrap_or(text)).collect();
    let flat = code.join("\n").split_whitespace().collect::<Vec<_>>().join(" ");
    for (call, kind) in [("counter(", "counter"), ("gauge(", "gauge"), (".show(", "histogram")] {
        for (at, _) in flat.match_indices(call) {
            let words = arguments(&flat[at + call.len()..]);
            // Where the text is written to may come first.
            let words =
                if words.first().is_some_and(|word| word == "out") { &words[1..] } else { &words[..] };
            let [name, help, ..] = words else { continue };
            if let (Ok(name), Ok(help)) = (unquoted(name), unquoted(help))
                && name.contains('_')
            {
                writeln!(page, "| `{name}` | {kind} | {help} |")?;
                found += 1;
            }
        }
    }
    if found < 10 {
        bail!("only {found} metrics were found");
    }
    Ok(page)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_read_to_their_end() {
        let words = arguments("b'A', \"a, b\", X | Y, Words(&[\"p\", \"q\"]), \"\"),");
        assert_eq!(words, ["b'A'", "\"a, b\"", "X | Y", "Words(&[\"p\", \"q\"])", "\"\""]);
    }

    #[test]
    fn a_table_becomes_a_page() {
        let text = "const STORED: &[&str] = &[\n    \"b\",\n];\nconst ROWS: &[Row] = &[\n    value(b'a', \"a\", ALL, \"\", x),\n    \
                    // why\n    value(0, \"b\", SBATCH | SALLOC, \"\", |draft, text| {\n        value(1)\n    }),\n    \
                    refuse(0, \"c\", Takes::Value, SRUN, \"\"),\n];";
        let page = options(text).unwrap();
        for line in [
            "| sbatch | 1 | 1 | 0 | 2 |",
            "| srun | 1 | 0 | 1 | 2 |",
            "| `-a`, `--a` | done | done | done |",
            "| `--b` | stored | stored |  |",
            "| `--c` |  |  | refused |",
        ] {
            assert!(page.lines().any(|known| known == line), "{line} in\n{page}");
        }
        assert!(
            options("const STORED: &[&str] = &[\n];\nconst ROWS: &[Row] = &[\n    odd(0, \"x\"),\n];")
                .is_err()
        );
    }
}
