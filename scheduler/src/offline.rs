//! `sluice-scheduler restore` and `sluice-scheduler journal`: work on a state folder while no daemon owns it, or beside one.
//!
//! Words in, lines and an exit status out; the store does the work. `sluice restore` and `sluice journal` become these.

use std::io::Write;
use std::path::{Path, PathBuf};

use crate::settings::Configuration;
use crate::settings::place::Environment;
use crate::store::{restore, show};

/// What is printed where the words make no sense.
const USAGE: &str = "\
Usage: sluice restore FILE [--state DIR] [--conf slurm.conf] [--release]
       sluice journal check [DIR] [--state DIR] [--conf slurm.conf]
       sluice journal show [DIR] [--from FRAME] [--to FRAME] [--state DIR] [--conf slurm.conf]

restore makes the scheduler's state anew from a backup (sluice backup FILE). The place must be empty. Job ids
and runs that may have been used since the backup are passed over; waiting jobs are held by the administrator,
because they may have run since (--release: they are not); what executors run that the backup does not know is
left alone and shown by \"sluice node\".
journal check reads everything in the scheduler's state and says what is there; show prints frames and records.
Both may be used beside a running scheduler. DIR is the folder of the state, or the scheduler's own folder in it.
";

/// What the words ask for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Asked {
    operands: Vec<String>,
    state: Option<PathBuf>,
    conf: Option<PathBuf>,
    release: bool,
    from: Option<u64>,
    to: Option<u64>,
    help: bool,
}

impl Asked {
    fn parse(words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut asked = Self::default();
        let mut words = words;
        while let Some(word) = words.next() {
            let (name, attached) = match word.split_once('=') {
                Some((name, value)) if name.starts_with("--") => (name.to_owned(), Some(value.to_owned())),
                _ => (word, None),
            };
            let mut value = || {
                attached
                    .clone()
                    .or_else(|| words.next())
                    .ok_or_else(|| format!("option {name} needs a value"))
            };
            let number =
                |text: String| text.parse().map_err(|_| format!("\"{text}\" is no number of a frame"));
            match name.as_str() {
                "--state" => asked.state = Some(value()?.into()),
                "--conf" | "-f" => asked.conf = Some(value()?.into()),
                "--from" => asked.from = Some(value().and_then(number)?),
                "--to" => asked.to = Some(value().and_then(number)?),
                "--release" => asked.release = true,
                "--help" | "-h" => asked.help = true,
                _ if name.starts_with('-') => return Err(format!("unknown option {name}")),
                _ => asked.operands.push(name),
            }
        }
        Ok(asked)
    }

    /// The scheduler's own folder, in which there is a state: the one that is named, or that of [`folder`](Self::folder).
    fn existing(&self, named: Option<&str>) -> Result<PathBuf, String> {
        let place = match named {
            Some(named) => PathBuf::from(named),
            None => self.folder()?,
        };
        let holds = |folder: &Path| folder.join("identity").exists();
        if let Some(folder) =
            [place.clone(), place.join("scheduler")].into_iter().find(|folder| holds(folder))
        {
            return Ok(folder);
        }
        Err(match std::fs::metadata(&place) {
            Err(error) => format!("there is no state in {}: {error}", place.display()),
            Ok(facts) if !facts.is_dir() => format!("{} is a file and no folder of a state", place.display()),
            Ok(_) => format!(
                "there is no scheduler's state in {}: neither it nor its folder scheduler has a file identity",
                place.display()
            ),
        })
    }

    /// The scheduler's own folder.
    fn folder(&self) -> Result<PathBuf, String> {
        let environment = Environment::read();
        let location = match (&self.state, environment.conf(self.conf.as_deref())) {
            (None, Some(conf)) => {
                let loaded = Configuration::load(Some(conf)).map_err(|errors| errors.join("\n"))?;
                loaded.current().state_save_location
            }
            _ => None,
        };
        Ok(environment.state(self.state.as_deref(), location.as_deref()))
    }
}

/// Runs `restore …` or `journal …`; the exit status: 0, 1 for a failure, 2 for words that make no sense.
#[must_use]
pub fn run(command: &str, words: impl Iterator<Item = String>) -> u8 {
    let asked = match Asked::parse(words) {
        Ok(asked) if asked.help => {
            print(USAGE.trim_end());
            return 0;
        }
        Ok(asked) => asked,
        Err(sentence) => return misused(&sentence),
    };
    let operands: Vec<&str> = asked.operands.iter().map(String::as_str).collect();
    let done = match (command, &operands[..]) {
        ("restore", [file]) => restored(&asked, Path::new(file)),
        ("journal", ["check", named @ ..]) if named.len() < 2 => asked
            .existing(named.first().copied())
            .and_then(|folder| show::check(&folder, &mut |line| print(&line)).map_err(|error| chain(&error))),
        ("journal", ["show", named @ ..]) if named.len() < 2 => {
            asked.existing(named.first().copied()).and_then(|folder| {
                let range = (asked.from.unwrap_or(0), asked.to.unwrap_or(u64::MAX));
                show::show(&folder, range, &mut |line| print(&line)).map_err(|error| chain(&error))
            })
        }
        _ => return misused("the words make no sense"),
    };
    match done {
        Ok(()) => 0,
        Err(sentence) => {
            eprintln!("sluice: error: {sentence}");
            1
        }
    }
}

fn restored(asked: &Asked, file: &Path) -> Result<(), String> {
    let folder = asked.folder()?;
    let done = restore::restore(file, &folder, asked.release).map_err(|error| chain(&error))?;
    print(&format!("restored {}: {} jobs as of frame {}", folder.display(), done.jobs, done.sequence));
    print(&format!(
        "the next job is {}: ids that may have been issued since the backup are passed over",
        done.next_job_id
    ));
    if done.held > 0 {
        print(&format!(
            "{} waiting jobs are held, because they may have run since the backup; scontrol release lets them go",
            done.held
        ));
    }
    Ok(())
}

fn misused(sentence: &str) -> u8 {
    eprintln!("sluice: error: {sentence}\n{}", USAGE.trim_end());
    2
}

/// A reader that has gone is no error.
fn print(line: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_without_a_state_is_named() {
        let place = std::env::temp_dir().join(format!("sluice-offline-{}", std::process::id()));
        std::fs::create_dir_all(place.join("deep/scheduler")).unwrap();
        std::fs::write(place.join("deep/scheduler/identity"), "").unwrap();
        let asked = Asked::default();
        let find = |path: &Path| asked.existing(path.to_str());
        assert_eq!(find(&place.join("deep")), Ok(place.join("deep/scheduler")));
        assert_eq!(find(&place.join("deep/scheduler")), Ok(place.join("deep/scheduler")));
        assert!(find(&place).unwrap_err().contains("neither it nor its folder scheduler"));
        assert!(find(&place.join("nosuch")).unwrap_err().contains("No such file"));
        assert!(find(&place.join("deep/scheduler/identity")).unwrap_err().contains("is a file"));
        std::fs::remove_dir_all(&place).unwrap();
    }

    #[test]
    fn words_are_read() {
        let parse = |text: &str| Asked::parse(text.split(' ').map(str::to_owned));
        let asked = parse("check --state=/s --from 7").unwrap();
        assert_eq!(
            (asked.operands, asked.state, asked.from),
            (vec!["check".into()], Some("/s".into()), Some(7))
        );
        assert_eq!(parse("show --from x").unwrap_err(), "\"x\" is no number of a frame");
        assert_eq!(parse("--frob").unwrap_err(), "unknown option --frob");
        assert_eq!(parse("f --state").unwrap_err(), "option --state needs a value");
    }
}
