//! Least privilege: a scheduler that is started as root becomes SlurmUser before it opens its socket or its journal.
//!
//! Folders that only root could make are made first and given to that user. Files of another user in the state folder are
//! refused with the command that mends it, never taken over. Must run while the process has one thread.

use std::ffi::CString;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, chown};
use std::path::{Path, PathBuf};

use nix::unistd::{Gid, Uid, User, geteuid, initgroups, setgid, setuid};

/// Why the daemon does not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file that belongs to somebody else.
    #[error(
        "{} belongs to user {owner}, but the scheduler runs as {user}\n  to mend it: chown -R {user}: {}",
        path.display(), folder.display()
    )]
    Owner {
        /// The file.
        path: PathBuf,
        /// The folder that holds it.
        folder: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Whose it should be.
        user: String,
    },
    /// The folder of the state or the socket.
    #[error("{} cannot be made for user {user}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// For whom.
        user: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The user.
    #[error("cannot become SlurmUser {user}")]
    Become {
        /// Its name.
        user: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Becomes the user of `SlurmUser`, where this process is root and that is another; answers its name then.
///
/// # Errors
/// See [`Error`]; nothing of another user was touched.
pub fn become_slurm_user(
    slurm_user: Option<(u32, u32)>,
    state: &Path,
    socket: &Path,
) -> Result<Option<String>, Error> {
    let Some((uid, gid)) = slurm_user.filter(|(uid, _)| geteuid().is_root() && *uid != 0) else {
        return Ok(None);
    };
    let name =
        User::from_uid(Uid::from_raw(uid)).ok().flatten().map_or_else(|| uid.to_string(), |user| user.name);
    refuse_files_of_others(state, uid, &name)?;
    give(state, 0o700, (uid, gid), &name)?;
    if let Some(folder) = socket.parent() {
        give(folder, 0o755, (uid, gid), &name)?;
    }
    let failed = |errno: nix::errno::Errno| Error::Become { user: name.clone(), source: errno.into() };
    let (user, group) = (Uid::from_raw(uid), Gid::from_raw(gid));
    if let Ok(text) = CString::new(name.clone()) {
        initgroups(&text, group).map_err(failed)?;
    }
    setgid(group).and_then(|()| setuid(user)).map_err(failed)?;
    Ok(Some(name))
}

/// Makes a folder that is missing, with those above it; only what was made is given away.
fn give(folder: &Path, mode: u32, (uid, gid): (u32, u32), user: &str) -> Result<(), Error> {
    let failed = |source| Error::Folder { path: folder.to_owned(), user: user.to_owned(), source };
    if folder.exists() {
        return Ok(());
    }
    if let Some(above) = folder.parent() {
        DirBuilder::new().recursive(true).mode(0o755).create(above).map_err(failed)?;
    }
    DirBuilder::new().mode(mode).create(folder).map_err(failed)?;
    chown(folder, Some(uid), Some(gid)).map_err(failed)
}

fn refuse_files_of_others(state: &Path, uid: u32, user: &str) -> Result<(), Error> {
    let own = |path: &Path| -> Result<(), Error> {
        match fs::symlink_metadata(path) {
            Ok(facts) if facts.uid() != uid => Err(Error::Owner {
                path: path.to_owned(),
                folder: state.to_owned(),
                owner: facts.uid(),
                user: user.to_owned(),
            }),
            _ => Ok(()),
        }
    };
    own(state)?;
    for entry in fs::read_dir(state).into_iter().flatten().flatten() {
        own(&entry.path())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_others_are_named_with_the_remedy() {
        let folder = std::env::temp_dir().join(format!("sluice-privilege-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("identity"), "").unwrap();
        let mine = geteuid().as_raw();
        assert!(refuse_files_of_others(&folder, mine, "me").is_ok());
        let refused = refuse_files_of_others(&folder, mine + 1, "other").unwrap_err().to_string();
        assert!(refused.contains(&format!("chown -R other: {}", folder.display())), "{refused}");
        assert!(refuse_files_of_others(Path::new("/no/such/folder"), mine, "me").is_ok());
        fs::remove_dir_all(&folder).unwrap();
    }
}
