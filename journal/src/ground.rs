//! What a daemon's folder must be before anything is written into it: ours, closed to others, on a file system that keeps
//! what it was given.
//!
//! Looks and, at most, takes rights away from others; makes nothing. Files of another user are refused with the command
//! that mends it, never taken over.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::sys::statfs::statfs;
use nix::sys::statvfs::{FsFlags, statvfs};

/// Why a folder is not used.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    /// Something on the way is no folder.
    #[error("{} is no folder\n  name another place for the state (--state)", .0.display())]
    NotAFolder(PathBuf),
    /// The system's answer.
    #[error("cannot {operation} {}", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// The answer.
        #[source]
        source: io::Error,
    },
    /// Nothing can be written there.
    #[error(
        "{} is on a file system that is mounted read-only\n  mount it for writing, or name another place for the state (--state)",
        .0.display()
    )]
    ReadOnly(PathBuf),
    /// Nothing fits there any more.
    #[error(
        "the file system of {} is full: {free} bytes are free, {needed} are needed to begin\n  \
         make room there, or name another place for the state (--state)",
        path.display()
    )]
    Full {
        /// The folder.
        path: PathBuf,
        /// Bytes that are free for this user.
        free: u64,
        /// Bytes that are needed.
        needed: u64,
    },
    /// Other machines write there too.
    #[error(
        "{} is on a network file system ({kind}): a lock there may not keep a second daemon out, and what it confirms may be \
         lost with its server\n  \
         name a place on a local disk (--state), or accept that: StateOnNetwork=accept in sluice.conf",
        path.display()
    )]
    Network {
        /// The folder.
        path: PathBuf,
        /// Its kind.
        kind: &'static str,
    },
    /// A file of somebody else.
    #[error(
        "{} belongs to user {owner}, but this daemon runs as user {user}\n  to mend it: chown -R {user} {}",
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
        user: u32,
    },
}

/// What the caller asks of a folder.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// Bytes without which a new state cannot begin. One that is there begins on a full disk too.
    pub room: u64,
    /// The administrator accepts what a network file system risks.
    pub network_accepted: bool,
}

/// File systems whose files are kept by another machine, by the number of `statfs`.
const NETWORKS: &[(i64, &str)] = &[
    (0x6969, "NFS"),
    (0x517b, "SMB"),
    (0xff53_4d42, "CIFS"),
    (0xfe53_4d42, "SMB2"),
    (0x0102_1997, "9p"),
    (0x5346_414f, "AFS"),
    (0x6b41_4653, "AFS"),
    (0x7375_7245, "Coda"),
    (0x564c, "NCP"),
    (0x00c3_6400, "Ceph"),
    (0x0bd0_0bd0, "Lustre"),
    (0x4750_4653, "GPFS"),
    (0x1983_0326, "BeeGFS"),
    (0x0116_1970, "GFS2"),
    (0x7461_636f, "OCFS2"),
    (0x2003_0528, "OrangeFS"),
    (0xaad7_aaea, "PanFS"),
];
/// Kept in memory.
const TMPFS: i64 = 0x0102_1994;
const RAMFS: i64 = 0x8584_58f6;
/// May be anything, sshfs among it.
const FUSE: i64 = 0x6573_5546;

/// Looks at a state folder, which need not be there yet, before a daemon uses it. Answers what the administrator should know.
///
/// Files that others may read or write are closed to them, which is one of the things to know. Cost: one look at each file.
///
/// # Errors
/// See [`Unfit`]; nothing was made.
pub fn survey(folder: &Path, wanted: Wanted) -> Result<Vec<String>, Unfit> {
    let mut known = Vec::new();
    let place = nearest(folder)?;
    let failed = |operation| {
        let path = place.to_owned();
        move |errno: nix::errno::Errno| Unfit::Io { operation, path, source: errno.into() }
    };
    let kind = statfs(place).map_err(failed("look at the file system of"))?.filesystem_type().0;
    known.extend(judge(folder, i128::from(kind), wanted.network_accepted)?);
    let facts = statvfs(place).map_err(failed("look at the file system of"))?;
    if facts.flags().contains(FsFlags::ST_RDONLY) {
        return Err(Unfit::ReadOnly(folder.to_owned()));
    }
    if !folder.join("identity").exists() {
        let free = facts.blocks_available() * facts.fragment_size();
        // Some file systems have no fixed number of files, and say 0 of 0.
        let no_file = facts.files() > 0 && facts.files_available() == 0;
        if free < wanted.room || no_file {
            return Err(Unfit::Full {
                path: folder.to_owned(),
                free: if no_file { 0 } else { free },
                needed: wanted.room,
            });
        }
    }
    if folder.is_dir() {
        let mut closed = Vec::new();
        close(folder, folder, &mut closed)?;
        if let Some(first) = closed.first() {
            known.push(format!(
                "{} of the files in {} were open to other users ({} is one); they are closed now",
                closed.len(),
                folder.display(),
                first.display()
            ));
        }
    }
    Ok(known)
}

/// What a kind of file system means; `statfs` has its number in a word whose size and sign depend on the machine.
fn judge(folder: &Path, kind: i128, accepted: bool) -> Result<Option<String>, Unfit> {
    let is = |number: &i64| i128::from(*number) == kind & 0xffff_ffff;
    if let Some((_, name)) = NETWORKS.iter().find(|(number, _)| is(number)) {
        return match accepted {
            true => Ok(Some(format!(
                "{} is on a network file system ({name}), which is accepted: see that one machine alone uses it",
                folder.display()
            ))),
            false => Err(Unfit::Network { path: folder.to_owned(), kind: name }),
        };
    }
    if is(&TMPFS) || is(&RAMFS) {
        return Ok(Some(format!(
            "{} is in memory: all of it is lost when the machine stops",
            folder.display()
        )));
    }
    Ok(is(&FUSE).then(|| {
        format!(
            "{} is on a FUSE file system: if another machine keeps it, locks and syncs may not hold",
            folder.display()
        )
    }))
}

/// The folder, or the first one above it that is there.
fn nearest(folder: &Path) -> Result<&Path, Unfit> {
    for place in folder.ancestors() {
        let place = if place.as_os_str().is_empty() { Path::new(".") } else { place };
        match fs::metadata(place) {
            Ok(facts) if facts.is_dir() => return Ok(place),
            Ok(_) => return Err(Unfit::NotAFolder(place.to_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => {}
            Err(source) => return Err(Unfit::Io { operation: "look at", path: place.to_owned(), source }),
        }
    }
    Ok(Path::new("/"))
}

/// Sees that a file, or a folder with all that is in it, is ours and nobody else's to read.
fn close(path: &Path, folder: &Path, closed: &mut Vec<PathBuf>) -> Result<(), Unfit> {
    let user = nix::unistd::geteuid().as_raw();
    let failed = |operation, source| Unfit::Io { operation, path: path.to_owned(), source };
    // The state folder itself may be a link; nothing in it is one of ours.
    let facts = if path == folder { fs::metadata(path) } else { fs::symlink_metadata(path) };
    let facts: Metadata = match facts {
        Ok(facts) if facts.file_type().is_symlink() => return Ok(()),
        Ok(facts) => facts,
        // Temporary files come and go.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed("look at", error)),
    };
    if facts.uid() != user {
        let (path, folder) = (path.to_owned(), folder.to_owned());
        return Err(Unfit::Owner { path, folder, owner: facts.uid(), user });
    }
    let mode = facts.permissions().mode() & 0o7777;
    // Libraries make files as they like in folders of their own; closing the folder closes them.
    let counts = path == folder || path.parent() == Some(folder);
    if counts && mode & 0o077 != 0 {
        fs::set_permissions(path, fs::Permissions::from_mode(mode & 0o700))
            .map_err(|error| failed("take the rights of others away (chmod -R go=) from", error))?;
        closed.push(path.to_owned());
    }
    if facts.is_dir() {
        let entries = fs::read_dir(path).map_err(|error| failed("list", error))?;
        for entry in entries {
            close(&entry.map_err(|error| failed("list", error))?.path(), folder, closed)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const WANTED: Wanted = Wanted { room: 1, network_accepted: false };

    #[test]
    fn network_file_systems_are_known_by_their_numbers() {
        let state = Path::new("/state");
        for (kind, name) in [(0x6969, "NFS"), (0xff53_4d42, "CIFS"), (0x0bd0_0bd0, "Lustre")] {
            let refused = judge(state, kind, false).unwrap_err().to_string();
            assert!(refused.contains("/state") && refused.contains(name), "{refused}");
            assert!(refused.contains("StateOnNetwork=accept"), "{refused}");
            assert!(judge(state, kind, true).unwrap().unwrap().contains(name));
        }
        // As a 32-bit word with a sign has it.
        assert!(judge(state, i128::from(0xff53_4d42_u32.cast_signed()), false).is_err());
        assert!(judge(state, 0x0102_1994, false).unwrap().unwrap().contains("in memory"));
        assert_eq!(judge(state, 0xef53, false).unwrap(), None);
    }

    #[test]
    fn open_files_are_closed_and_folders_need_not_be_there() {
        let place = std::env::temp_dir().join(format!("sluice-ground-{}", std::process::id()));
        let _ = fs::remove_dir_all(&place);
        let state = place.join("deep/state");
        assert!(survey(&state, WANTED).unwrap().iter().all(|line| line.contains("memory")));
        assert!(!place.exists(), "nothing is made");
        fs::create_dir_all(state.join("index")).unwrap();
        for name in ["identity", "index/db"] {
            fs::write(state.join(name), "x").unwrap();
            fs::set_permissions(state.join(name), fs::Permissions::from_mode(0o644)).unwrap();
        }
        let known = survey(&state, WANTED).unwrap();
        assert!(known.iter().any(|line| line.contains("3 of the files")), "{known:?}");
        let mode = |name: &str| fs::metadata(state.join(name)).unwrap().permissions().mode() & 0o7777;
        assert_eq!((mode("identity"), mode("index"), mode("")), (0o600, 0o700, 0o700));
        assert!(survey(&state, WANTED).unwrap().iter().all(|line| !line.contains("closed")));
        let refused = survey(&state.join("identity/under"), WANTED).unwrap_err();
        assert!(matches!(refused, Unfit::NotAFolder(path) if path == state.join("identity")));
        let huge = Wanted { room: u64::MAX, ..WANTED };
        assert!(survey(&state, huge).is_ok(), "what is there may begin on a full disk");
        assert!(matches!(survey(&place.join("new"), huge), Err(Unfit::Full { .. })));
        fs::remove_dir_all(&place).unwrap();
    }
}
