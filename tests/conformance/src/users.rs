//! The suite's four users, made where they are missing.

use std::process::Command;

use anyhow::{Context, Result, bail};
use nix::unistd::User;

const USERS: &[(&str, u32)] = &[("alice", 2001), ("bob", 2002), ("carol", 2003), ("dave", 2004)];

/// Each user with a group of its own name and number and bash as shell.
pub(crate) fn ensure() -> Result<()> {
    for (name, id) in USERS {
        match User::from_name(name).with_context(|| format!("look up user {name}"))? {
            Some(user) if user.uid.as_raw() == *id && user.gid.as_raw() == *id => {}
            Some(user) => bail!("user {name} exists with uid {}; the recordings need {id}", user.uid),
            None => {
                run("groupadd", &["-g", &id.to_string(), name])?;
                run("useradd", &["-m", "-u", &id.to_string(), "-g", name, "-s", "/bin/bash", name])?;
            }
        }
    }
    Ok(())
}

fn run(program: &str, arguments: &[&str]) -> Result<()> {
    let out = Command::new(program).args(arguments).output().with_context(|| format!("run {program}"))?;
    if !out.status.success() {
        bail!("{program} {arguments:?}: {}", String::from_utf8_lossy(&out.stderr).trim());
    }
    Ok(())
}
