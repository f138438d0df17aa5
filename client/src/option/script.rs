//! The batch script: where it comes from, and what is no script.

use std::path::{Path, PathBuf};

use super::{Program, Stop, World};

/// A script and what is known about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Script {
    /// Its bytes.
    pub body: Vec<u8>,
    /// Its absolute path; `None` for `--wrap` and standard input.
    pub path: Option<String>,
    /// The name of a job that is given none.
    pub name: String,
}

/// What sbatch puts before the text of `--wrap`.
const WRAPPER: &str = "#!/bin/sh\n# This script was created by sbatch --wrap.\n\n";

/// The script of `--wrap`.
pub(crate) fn wrapped(text: &str) -> Script {
    Script { body: format!("{WRAPPER}{text}\n").into_bytes(), path: None, name: "wrap".to_owned() }
}

/// The script of that name, or of standard input without one; checked.
pub(crate) fn load(name: Option<&str>, world: &World<'_>) -> Result<Script, Stop> {
    let Some(name) = name else {
        let body =
            world.files.stdin().map_err(|_| error("Unable to read batch script from standard input"))?;
        check(&body)?;
        return Ok(Script { body, path: None, name: "sbatch".to_owned() });
    };
    let path = find(name, world);
    let shown = path.to_string_lossy().into_owned();
    let body = world.files.read(&path).map_err(|_| error(&format!("Unable to open file {shown}")))?;
    check(&body)?;
    let base = path.file_name().map_or_else(|| name.to_owned(), |base| base.to_string_lossy().into_owned());
    Ok(Script { body, path: Some(shown), name: base })
}

/// A name without a slash is looked for in the working folder, then in PATH; one with a slash is below the
/// working folder. One that is nowhere stays as typed.
fn find(name: &str, world: &World<'_>) -> PathBuf {
    let here = world.cwd.join(name);
    if name.contains('/') || world.files.exists(&here) {
        return here;
    }
    let path = world.var("PATH").unwrap_or_default();
    let found =
        path.split(':').filter(|folder| !folder.is_empty()).map(|folder| Path::new(folder).join(name));
    found.into_iter().find(|candidate| world.files.exists(candidate)).unwrap_or_else(|| PathBuf::from(name))
}

fn check(body: &[u8]) -> Result<(), Stop> {
    if body.is_empty() {
        return Err(error("Batch script is empty!"));
    }
    if body.iter().all(u8::is_ascii_whitespace) {
        return Err(error("Batch script contains only whitespace!"));
    }
    if !body.starts_with(b"#!") {
        return Err(lines(&[
            "This does not look like a batch script.  The first",
            "line must start with #! followed by the path to an interpreter.",
            "For instance: #!/bin/sh",
        ]));
    }
    if body.contains(&0) {
        return Err(lines(&[
            "The SLURM controller does not allow scripts that",
            "contain a NULL character '\\0'.",
        ]));
    }
    if body.windows(2).any(|pair| pair == b"\r\n") {
        return Err(lines(&[
            "Batch script contains DOS line breaks (\\r\\n)",
            "instead of expected UNIX line breaks (\\n).",
        ]));
    }
    Ok(())
}

fn error(line: &str) -> Stop {
    lines(&[line])
}

fn lines(texts: &[&str]) -> Stop {
    Stop::errors(Program::Sbatch, texts.iter().map(|text| (*text).to_owned()).collect(), 1)
}
