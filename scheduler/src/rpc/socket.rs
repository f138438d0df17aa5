//! The socket that the daemon listens at: its folder, a dead predecessor, its mode.
//!
//! The folder is 0755 and the socket 0666: everybody may connect, and the kernel says who does. A socket
//! file at which nobody answers is replaced; one at which somebody does stops the start.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use tokio::net::UnixListener;

/// Most bytes of a socket's path (`sun_path` without its zero byte).
const PATH_MAX: usize = 107;

/// Why the daemon cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel takes no path that long.
    #[error(
        "the socket's path has {} letters and the kernel takes {PATH_MAX}: {}\n  \
         name a shorter one: SLUICE_SOCKET, or a shorter ClusterName", path.as_os_str().len(), path.display()
    )]
    TooLong {
        /// The path.
        path: PathBuf,
    },
    /// Somebody answers there.
    #[error("another scheduler answers at {0}")]
    Taken(PathBuf),
    /// The path is not a socket of a predecessor.
    #[error("{0} is there and is no socket")]
    NoSocket(PathBuf),
    /// The system refuses.
    #[error("cannot {operation} {path}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// The answer.
        #[source]
        source: io::Error,
    },
}

fn failed(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Io { operation, path: path.to_owned(), source }
}

/// Removes the socket when the daemon ends, if it is still this one.
pub struct Bound {
    path: PathBuf,
    inode: u64,
}

impl Bound {
    /// Leaves the socket file where it is: the next scheduler replaces it, and until then clients know that one comes.
    pub fn leave(mut self) {
        self.inode = 0;
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        if inode(&self.path).ok() == Some(self.inode) {
            // It may be gone already; the next start replaces what is left.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn inode(path: &Path) -> io::Result<u64> {
    use std::os::unix::fs::MetadataExt;
    fs::symlink_metadata(path).map(|data| data.ino())
}

/// Refuses a path that no socket can have, before anything is made.
///
/// # Errors
/// See [`Error::TooLong`].
pub fn check(path: &Path) -> Result<(), Error> {
    match path.as_os_str().len() {
        0..=PATH_MAX => Ok(()),
        _ => Err(Error::TooLong { path: path.to_owned() }),
    }
}

/// Listens at `path`. Called within the runtime, by the owner of the state folder.
///
/// # Errors
/// See [`Error`].
pub fn listen(path: &Path) -> Result<(UnixListener, Bound), Error> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o755).create(folder).map_err(failed("make the folder", folder))?;
    }
    match fs::symlink_metadata(path) {
        Ok(data) if !data.file_type().is_socket() => return Err(Error::NoSocket(path.to_owned())),
        Ok(_) => match UnixStream::connect(path) {
            Ok(_) => return Err(Error::Taken(path.to_owned())),
            Err(_) => fs::remove_file(path).map_err(failed("remove the dead socket", path))?,
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed("look at", path)(error)),
    }
    let listener = UnixListener::bind(path).map_err(failed("listen at", path))?;
    let bound = Bound { path: path.to_owned(), inode: inode(path).map_err(failed("look at", path))? };
    fs::set_permissions(path, fs::Permissions::from_mode(0o666)).map_err(failed("open to all", path))?;
    Ok((listener, bound))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_is_too_long_is_refused_with_its_length() {
        let long = PathBuf::from("/tmp").join("x".repeat(103));
        assert!(check(&long.with_file_name("x".repeat(102))).is_ok());
        let refused = check(&long).unwrap_err().to_string();
        assert!(refused.contains("has 108 letters") && refused.contains("SLUICE_SOCKET"), "{refused}");
    }

    #[tokio::test]
    async fn replaces_the_dead_and_respects_the_living() {
        let folder = std::env::temp_dir().join(format!("sluice-socket-{}", std::process::id()));
        let path = folder.join("deep").join("s.sock");
        let (listener, bound) = listen(&path).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o666);
        assert!(matches!(listen(&path), Err(Error::Taken(_))));
        drop(listener);
        // Killed: the file stays, nobody answers.
        std::mem::forget(bound);
        let (_listener, bound) = listen(&path).unwrap();
        bound.leave();
        assert!(path.exists(), "left for the next one");
        let (_listener, bound) = {
            drop(_listener);
            listen(&path).unwrap()
        };
        drop(bound);
        assert!(!path.exists());
        fs::write(&path, "x").unwrap();
        assert!(matches!(listen(&path), Err(Error::NoSocket(_))));
        fs::remove_dir_all(&folder).unwrap();
    }
}
