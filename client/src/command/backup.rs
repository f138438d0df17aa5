//! `sluice backup FILE`: the running scheduler's state in one file. `sluice restore` and `sluice journal` hand over to the
//! scheduler's program, which works on a state folder without a daemon.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use proto::v1::{BackupRequest, BackupSummary};

use super::{Call, block_on};
use crate::api::Error;
use crate::{connect, say};

const HELP: &str = "\
Usage: sluice backup FILE

Writes the state of the running scheduler to FILE: everything that was acknowledged before, scripts and
environments of waiting and running jobs, and history. Nothing waits for it. FILE is readable by its owner
only, and appears when it is complete; an older one is replaced. \"sluice restore FILE\" makes a state of it.
";

/// Runs the verb: 0, 1 where there is no backup, 2 for words that make no sense.
pub(crate) fn run(call: &Call) -> u8 {
    let words: Vec<String> = call.argv.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["-h" | "--help"] => {
            say::out(HELP);
            0
        }
        [file] if !file.starts_with('-') => match block_on(take(Path::new(file))) {
            Ok(summary) => {
                let BackupSummary { frame, entries, bytes } = summary;
                say::out(format!(
                    "{file}: {bytes} bytes, {entries} files, scripts and environments, frame {frame}\n"
                ));
                0
            }
            Err(Failed::Refused(error)) => super::why::failed(call, &error),
            Err(Failed::File(path, error)) => {
                say::error(&call.program, format!("{}: {}", path.display(), super::os_text(&error)));
                1
            }
        },
        _ => {
            say::err(HELP.trim_end());
            2
        }
    }
}

enum Failed {
    Refused(Error),
    File(PathBuf, std::io::Error),
}

async fn take(path: &Path) -> Result<BackupSummary, Failed> {
    let client = super::connect_to_ask().await.map_err(Failed::Refused)?;
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".unfinished");
    let unfinished = PathBuf::from(unfinished);
    let of_file = |error| Failed::File(unfinished.clone(), error);
    // What an earlier one left may have other rights.
    let _ = fs::remove_file(&unfinished);
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished).map_err(of_file)?;
    let outcome = fill(&client, &mut file, &unfinished).await;
    let finished = outcome.and_then(|summary| {
        file.sync_all().and_then(|()| fs::rename(&unfinished, path)).map_err(of_file)?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(of_file)?;
        Ok(summary)
    });
    if finished.is_err() {
        let _ = fs::remove_file(&unfinished);
    }
    finished
}

async fn fill(client: &crate::api::Client, file: &mut File, path: &Path) -> Result<BackupSummary, Failed> {
    let refused = |status| Failed::Refused(Error::Failed(status));
    let mut pieces = client.raw().backup(BackupRequest {}).await.map_err(refused)?.into_inner();
    let mut summary = None;
    while let Some(piece) = pieces.message().await.map_err(refused)? {
        if let Some(refused) = piece.refused {
            return Err(Failed::Refused(refused.into()));
        }
        file.write_all(&piece.bytes).map_err(|error| Failed::File(path.to_owned(), error))?;
        summary = piece.summary.or(summary);
    }
    summary.ok_or_else(|| refused(tonic::Status::aborted("the backup broke off")))
}

/// Becomes the scheduler's program with `verb`; returns only where it cannot be started.
pub(super) fn hand_over(verb: &str, words: Vec<OsString>) -> u8 {
    let beside = match std::env::current_exe() {
        Ok(own) => own.with_file_name("sluice-scheduler"),
        Err(error) => {
            say::error("sluice", format!("cannot find this program's own file: {error}"));
            return 1;
        }
    };
    let mut command = Command::new(&beside);
    command.arg(verb);
    // What `sluice --conf FILE` named.
    if let Some(conf) = connect::named_conf() {
        command.arg("--conf").arg(conf);
    }
    let error = command.args(words).exec();
    say::error("sluice", format!("cannot start {}: {error}", beside.display()));
    1
}
