//! `sluice man NAME` prints a manual page; `sluice man --into DIR` writes all of them, for `scripts/install`.
//!
//! A page is what the command itself says with `--help`, which is made from the tables that it reads its options with:
//! nothing here knows an option. Pages are in man(7)'s macros.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::Call;
use crate::say;

const HELP: &str = "\
Usage: sluice man NAME
       sluice man --into DIR

Prints the manual page of a command or a daemon, for \"man -l -\"; with --into, writes all pages below DIR/man1
and DIR/man8.
";

/// Name, section, and what it is in a line.
const PAGES: [(&str, u8, &str); 18] = [
    ("sacct", 1, "show jobs and steps that ended or run, from accounting"),
    ("sacctmgr", 1, "show and change accounts, users, associations and QOS"),
    ("salloc", 1, "get an allocation and run a command within it"),
    ("sattach", 1, "watch the output of a running step"),
    ("sbatch", 1, "submit a batch script"),
    ("sbcast", 1, "copy a file to the nodes of a job"),
    ("scancel", 1, "cancel or signal jobs and steps"),
    ("scontrol", 1, "show and change jobs, nodes, partitions and the scheduler"),
    ("sdiag", 1, "show the scheduler's own figures"),
    ("seff", 1, "show how much of what it asked for an ended job used"),
    ("sinfo", 1, "show partitions and nodes"),
    ("sprio", 1, "show what the priorities of waiting jobs are made of"),
    ("squeue", 1, "show jobs that wait or run"),
    ("srun", 1, "run a step, with an allocation of its own where there is none"),
    ("sstat", 1, "show what running steps use"),
    ("sluice", 1, "one machine or a cluster: start it, look at it, ask why"),
    ("sluice-executor", 8, "run the jobs of one node"),
    ("sluice-scheduler", 8, "the controller daemon of a cluster"),
];

/// Prints or writes pages: 0; 1 where one cannot be made or written; 2 for a wrong call.
pub(crate) fn run(call: &Call) -> u8 {
    let words: Vec<String> = call.argv.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let done = match &words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--help" | "-h"] => {
            say::out(HELP);
            return 0;
        }
        ["--into", folder] => write_all(Path::new(folder)),
        [name] if !name.starts_with('-') => match PAGES.iter().find(|(known, ..)| known == name) {
            Some(row) => page_of(row).map(say::out),
            None => Err(format!("there is no page {name:?}")),
        },
        _ => {
            say::err(HELP.trim_end());
            return 2;
        }
    };
    match done {
        Ok(()) => 0,
        Err(sentence) => {
            say::error(&call.program, sentence);
            1
        }
    }
}

fn write_all(folder: &Path) -> Result<(), String> {
    for row in &PAGES {
        let (name, section, _) = row;
        let text = page_of(row)?;
        let section_folder = folder.join(format!("man{section}"));
        let path = section_folder.join(format!("{name}.{section}"));
        fs::create_dir_all(&section_folder)
            .and_then(|()| fs::write(&path, text))
            .map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(())
}

fn page_of((name, section, what): &(&str, u8, &str)) -> Result<String, String> {
    Ok(page(name, *section, what, &help_of(name)?))
}

/// What the command prints with `--help`; daemons stand beside this program.
fn help_of(name: &str) -> Result<String, String> {
    let own = std::env::current_exe().map_err(|error| format!("this program cannot be found: {error}"))?;
    let (program, words): (PathBuf, &[&str]) = match name {
        "sluice" => (own, &["--help"]),
        _ if name.starts_with("sluice-") => (own.with_file_name(name), &["--help"]),
        _ => (own, &[name, "--help"]),
    };
    let shown = program.display().to_string();
    let ran = Command::new(program).args(words).stdin(Stdio::null()).stderr(Stdio::null()).output();
    let out = ran.map_err(|error| format!("{shown}: {error}"))?;
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    if !out.status.success() || text.trim().is_empty() {
        return Err(format!("{shown} {}: says nothing", words.join(" ")));
    }
    Ok(text)
}

/// A piece of a help text.
#[derive(Debug, PartialEq, Eq)]
enum Piece {
    /// How an option is spelled, and what it does.
    Option(String, String),
    /// Lines as they stand.
    Lines(Vec<String>),
}

/// Cuts a help text into its usage and the rest.
fn pieces(help: &str) -> (Vec<String>, Vec<Piece>) {
    let mut lines = help.lines().peekable();
    let mut usage = Vec::new();
    while let Some(line) = lines.next_if(|line| !line.trim().is_empty() && option_of(line).is_none()) {
        usage.push(line.strip_prefix("Usage:").unwrap_or(line).trim().to_owned());
    }
    let mut found: Vec<Piece> = Vec::new();
    for line in lines {
        let indented = line.len() - line.trim_start().len();
        match (option_of(line), found.last_mut()) {
            (Some((spelling, what)), _) => found.push(Piece::Option(spelling, what)),
            // A description goes on far to the right.
            (None, Some(Piece::Option(_, what))) if indented >= 12 => {
                *what = format!("{what} {}", line.trim()).trim().to_owned();
            }
            (None, Some(Piece::Lines(known))) => known.push(line.to_owned()),
            (None, _) if line.trim().is_empty() => {}
            (None, _) => found.push(Piece::Lines(vec![line.to_owned()])),
        }
    }
    (usage, found)
}

/// An option's line: indented, a dash first; two blanks, or a colon, end the spelling.
fn option_of(line: &str) -> Option<(String, String)> {
    let text = line.trim_start();
    if !text.starts_with('-') || text.len() == line.len() {
        return None;
    }
    let (spelling, what) = text.split_once("  ").or_else(|| text.split_once(": ")).unwrap_or((text, ""));
    Some((spelling.trim().to_owned(), what.trim().to_owned()))
}

/// The page. A text line never begins with a control character of roff.
fn page(name: &str, section: u8, what: &str, help: &str) -> String {
    let (usage, found) = pieces(help);
    let version = env!("CARGO_PKG_VERSION");
    let mut out = format!(
        ".\\\" Made by sluice man from what {name} says with --help.\n.TH {} {section} \"\" \"Sluice {version}\" \"Sluice\"\n\
         .SH NAME\n{name} \\- {}\n.SH SYNOPSIS\n.nf\n",
        name.to_uppercase(),
        escaped(what)
    );
    for line in &usage {
        out.push_str(&format!("{}\n", escaped(line)));
    }
    out.push_str(".fi\n.SH DESCRIPTION\n");
    let mut in_options = false;
    for piece in &found {
        match piece {
            Piece::Option(spelling, what) => {
                out.push_str(&format!(".TP\n\\fB{}\\fR\n{}\n", escaped(spelling), described(what)));
                in_options = true;
            }
            Piece::Lines(lines) => {
                if in_options {
                    out.push_str(".PP\n");
                }
                out.push_str(".nf\n");
                let end = lines.iter().rposition(|line| !line.trim().is_empty()).map_or(0, |at| at + 1);
                for line in &lines[..end] {
                    out.push_str(&if line.trim().is_empty() {
                        ".sp\n".to_owned()
                    } else {
                        escaped(line) + "\n"
                    });
                }
                out.push_str(".fi\n");
                in_options = false;
            }
        }
    }
    if found.is_empty() {
        out.push_str(&format!("{}\n", described(what)));
    }
    out.push_str(
        ".SH SEE ALSO\n.BR sluice (1),\n.BR sluice\\-scheduler (8),\n.BR sluice\\-executor (8)\n.PP\n\
         What is done, stored and refused of Slurm's options: docs/reference/options.md of the source.\n",
    );
    out
}

fn described(what: &str) -> String {
    if what.is_empty() { "as in Slurm".to_owned() } else { escaped(what) }
}

fn escaped(text: &str) -> String {
    let letter = |letter: char| match letter {
        '\\' => "\\e".to_owned(),
        '-' => "\\-".to_owned(),
        _ if letter.is_ascii() => letter.to_string(),
        // roff's own input is ASCII.
        _ => format!("\\[u{:04X}]", u32::from(letter)),
    };
    let text: String = text.chars().map(letter).collect();
    if text.starts_with(['.', '\'']) { format!("\\&{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_help_text_becomes_a_page() {
        assert_eq!(escaped("a…\\-"), "a\\[u2026]\\e\\-");
        let help = "Usage: x [OPTIONS]\n       x --all\n\nDoes it.\n\n  -a, --all=WHAT  everything,\n                  \
                    and more\n      --b\n.dot\n";
        let (usage, found) = pieces(help);
        assert_eq!(usage, ["x [OPTIONS]", "x --all"]);
        assert_eq!(found[1], Piece::Option("-a, --all=WHAT".into(), "everything, and more".into()));
        assert_eq!(found[2], Piece::Option("--b".into(), String::new()));
        let page = page("x", 1, "do it", help);
        for line in [
            ".TH X 1 \"\" \"Sluice 0.1.0\" \"Sluice\"",
            "x \\- do it",
            "\\fB\\-a, \\-\\-all=WHAT\\fR",
            "\\&.dot",
        ] {
            assert!(page.lines().any(|known| known == line), "{line} in\n{page}");
        }
    }

    #[test]
    fn every_command_has_a_page() {
        for name in super::super::completion::COMMANDS {
            assert!(PAGES.iter().any(|(known, ..)| *known == name), "{name}");
        }
    }
}
