//! From the image that is wanted to one that can be run at once: conversion, unpacking, registries.
//!
//! Everything that reads the submitter's files or the network runs as the submitter. An entry of the cache is
//! made once, whoever asks for it at the same time; a file that has not changed since it was last read is not
//! read again.

use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use model::container::{Image, Mount};

use super::cache::{Cache, Entry};
use super::runner::{self, Who};
use super::ways::{Sif, Ways};
use super::{Containers, Wanted, bundle};
use crate::key::Key;

/// Digests that are remembered; all are forgotten when there are more.
const DIGESTS_MAX: usize = 4096;
/// Variables of the job that concern registries, by the beginning of their names.
const OF_REGISTRIES: [&str; 8] = [
    "APPTAINER_DOCKER_",
    "APPTAINER_NOHTTPS=",
    "http_proxy=",
    "https_proxy=",
    "no_proxy=",
    "HTTP_PROXY=",
    "HTTPS_PROXY=",
    "NO_PROXY=",
];

/// A file as it was when its digest was taken.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Seen {
    uid: u32,
    path: PathBuf,
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// An image that can be run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prepared {
    /// What Apptainer is given.
    pub image: PathBuf,
    /// What the submitter named, where that is another path: they must be able to read it.
    pub source: Option<PathBuf>,
    /// Of a bundle.
    pub environment: Vec<String>,
    /// Of a bundle.
    pub mounts: Vec<Mount>,
}

/// What preparing needs to know of a run.
pub struct Job<'a> {
    /// The run.
    pub run: Key,
    /// Its submitter.
    pub who: &'a Who,
    /// Its environment.
    pub environment: &'a [u8],
    /// Processors that a conversion may use.
    pub cpus: u32,
    /// Gets a sentence now and then.
    pub progress: &'a (dyn Fn(&str) + Send + Sync),
}

/// What the first bytes of a file tell; `None`: it cannot be read by the executor, or is no image.
fn is_image_file(path: &Path) -> bool {
    let mut head = [0_u8; 64];
    let read = fs::File::open(path).and_then(|file| file.take(64).read(&mut head));
    read.is_ok() && (head.starts_with(b"hsqs") || &head[32..41] == b"SIF_MAGIC")
}

impl Containers {
    /// Makes the image ready. Takes as long as a conversion or a download takes, the first time.
    ///
    /// # Errors
    /// A sentence for the submitter.
    pub async fn prepare(&self, wanted: &Wanted, job: &Job<'_>) -> Result<Prepared, String> {
        let ways = self.ways().await.map_err(|why| format!("this node cannot run containers: {why}"))?;
        match &wanted.image {
            Image::Path(path) => self.of_path(ways, Path::new(&**path), job).await,
            Image::Archive { path, .. } => {
                let path = Path::new(&**path);
                let probe = if path.is_dir() { path.join("index.json") } else { path.to_owned() };
                let text = wanted.image.to_string();
                let reference = text.rsplit_once(&path.display().to_string()).map_or("", |(_, rest)| rest);
                let digest = self.digest(&probe, job).await?;
                let entry = Entry { uid: job.who.uid, name: entry_name(&digest, reference, "box") };
                let image = self.made(job, &entry, &text, ways).await?;
                Ok(Prepared { image, source: Some(probe), ..Prepared::default() })
            }
            Image::Remote(uri) => self.of_registry(ways, uri, job).await,
        }
    }

    async fn of_path(&self, ways: &Ways, path: &Path, job: &Job<'_>) -> Result<Prepared, String> {
        let as_it_is = Prepared { image: path.to_owned(), ..Prepared::default() };
        if bundle::is_one(path) {
            let bundle = bundle::read(path)?;
            return Ok(Prepared {
                image: bundle.root,
                source: Some(path.join("config.json")),
                environment: bundle.environment,
                mounts: bundle.mounts,
            });
        }
        // What is missing, closed or no image the task finds out, with the submitter's rights.
        if ways.sif_for(job.who.uid) == Sif::Mounted || !is_image_file(path) {
            return Ok(as_it_is);
        }
        let digest = self.digest(path, job).await?;
        let entry = Entry { uid: job.who.uid, name: entry_name(&digest, "", "box") };
        let image = self.made(job, &entry, &path.display().to_string(), ways).await?;
        Ok(Prepared { image, source: Some(path.to_owned()), ..Prepared::default() })
    }

    /// Asks the registry each time: what a tag means changes. What was fetched is not fetched again.
    async fn of_registry(&self, ways: &Ways, uri: &str, job: &Job<'_>) -> Result<Prepared, String> {
        let cache = self.cache().await?;
        let own = Entry { uid: job.who.uid, name: ".apptainer".to_owned() };
        let lock = cache.lock(&own);
        let _alone = lock.lock().await;
        let new = unfinished(cache, job, &own)?;
        let pull = ["pull", "--force"].map(str::to_owned);
        let words = pull.into_iter().chain([new.display().to_string(), uri.to_owned()]).collect();
        let pulled = self.apptainer(ways, job, words, &format!("fetching {uri}")).await;
        let outcome = async {
            pulled.map_err(|why| format!("container image {uri} cannot be fetched: {why}"))?;
            let digest = self.digest(&new, job).await?;
            let form = if ways.sif_for(job.who.uid) == Sif::Mounted { "sif" } else { "box" };
            let entry = Entry { uid: job.who.uid, name: entry_name(&digest, "", form) };
            if form == "box" {
                return self.made(job, &entry, &new.display().to_string(), ways).await;
            }
            if !cache.take(job.run, &entry) {
                let full = |error: std::io::Error| format!("container image {uri} cannot be kept: {error}");
                cache.put(&entry, &new).map_err(full)?;
            }
            Ok(cache.path(&entry))
        }
        .await;
        // Kept above under another name, or of no use.
        let _ = fs::remove_file(&new);
        cache.note_own(&own);
        Ok(Prepared { image: outcome?, ..Prepared::default() })
    }

    /// The entry, made from `source` where it is not there.
    async fn made(&self, job: &Job<'_>, entry: &Entry, source: &str, ways: &Ways) -> Result<PathBuf, String> {
        let cache = self.cache().await?;
        let lock = cache.lock(entry);
        let _alone = lock.lock().await;
        let path = cache.path(entry);
        if cache.take(job.run, entry) {
            return Ok(path);
        }
        let new = unfinished(cache, job, entry)?;
        let words = ["build", "--fix-perms", "--sandbox"].map(str::to_owned);
        let words = words.into_iter().chain([new.display().to_string(), source.to_owned()]).collect();
        let built = self.apptainer(ways, job, words, &format!("converting {source}")).await;
        if let Err(why) = built {
            let _ = fs::remove_dir_all(&new);
            return Err(format!("container image {source} cannot be converted: {why}"));
        }
        let size = cache.put(entry, &new).map_err(|error| {
            format!("container image {source} cannot be kept in {}: {error}", path.display())
        })?;
        tracing::info!(run = %job.run, source, bytes = size, "an image was converted");
        Ok(path)
    }

    async fn apptainer(
        &self,
        ways: &Ways,
        job: &Job<'_>,
        words: Vec<String>,
        what: &str,
    ) -> Result<(), String> {
        let cache = self.cache().await?;
        let folder = cache
            .folder_of(job.who.uid, job.who.gid)
            .map_err(|error| format!("no folder for images of user {}: {error}", job.who.uid))?;
        let mut environment = vec![
            "PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin".to_owned(),
            format!("HOME={}", job.who.home),
            format!("APPTAINER_CACHEDIR={}/.apptainer", folder.display()),
            format!("APPTAINER_TMPDIR={}", folder.display()),
            format!("APPTAINER_MKSQUASHFS_PROCS={}", job.cpus.max(1)),
        ];
        if !Path::new(&job.who.home).is_dir() {
            environment.push(format!("APPTAINER_CONFIGDIR={}/.config", folder.display()));
        }
        let entries =
            job.environment.split(|byte| *byte == 0).filter_map(|entry| std::str::from_utf8(entry).ok());
        let concerns = |entry: &&str| OF_REGISTRIES.iter().any(|name| entry.starts_with(name));
        environment.extend(entries.filter(concerns).map(str::to_owned));
        (job.progress)(what);
        let step = |line: &str| {
            if let Some(words) = line.strip_prefix("INFO:") {
                (job.progress)(&format!("{what}: {}", words.trim()));
            }
        };
        let arguments = std::iter::once(ways.program.display().to_string()).chain(words).collect();
        let ran = runner::run(&self.supervisor, job.who, arguments, environment, &step).await?;
        if ran.status == 0 { Ok(()) } else { Err(ran.complaint()) }
    }

    /// SHA-256 of a file, read with the submitter's rights; remembered while the file does not change.
    async fn digest(&self, path: &Path, job: &Job<'_>) -> Result<String, String> {
        let seen = fs::metadata(path).ok().map(|facts| Seen {
            uid: job.who.uid,
            path: path.to_owned(),
            device: facts.dev(),
            inode: facts.ino(),
            size: facts.size(),
            modified: (facts.mtime(), facts.mtime_nsec()),
            changed: (facts.ctime(), facts.ctime_nsec()),
        });
        if let Some(known) = seen.as_ref().and_then(|seen| self.digests().get(seen).cloned()) {
            return Ok(known);
        }
        let program =
            ["/usr/bin/sha256sum", "/bin/sha256sum"].into_iter().find(|path| Path::new(path).exists());
        let program = program.ok_or("this node has no sha256sum")?;
        let arguments = vec![program.to_owned(), "--".to_owned(), path.display().to_string()];
        let ran =
            runner::run(&self.supervisor, job.who, arguments, vec!["LC_ALL=C".to_owned()], &|_| {}).await?;
        let digest = ran.stdout.trim_start_matches('\\').split(' ').next().unwrap_or_default().to_owned();
        if ran.status != 0 || digest.len() != 64 || !digest.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            let words = ran.stderr.trim().rsplit(": ").next().unwrap_or_default();
            return Err(format!("container image {}: {words}", path.display()));
        }
        if let Some(seen) = seen {
            let mut digests = self.digests();
            if digests.len() >= DIGESTS_MAX {
                digests.clear();
            }
            digests.insert(seen, digest.clone());
        }
        Ok(digest)
    }
}

fn unfinished(cache: &Cache, job: &Job<'_>, entry: &Entry) -> Result<PathBuf, String> {
    cache
        .folder_of(job.who.uid, job.who.gid)
        .map_err(|error| format!("no folder for images of user {}: {error}", job.who.uid))?;
    Ok(cache.unfinished(entry))
}

/// A file name that tells all that makes one entry differ from another.
fn entry_name(digest: &str, reference: &str, form: &str) -> String {
    let safe: String = reference
        .bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => char::from(byte).to_string(),
            other => format!("%{other:02x}"),
        })
        .collect();
    format!("sha256-{digest}{safe}.{form}")
}

#[cfg(test)]
mod tests {
    use super::entry_name;

    #[test]
    fn entries_differ_by_all_that_matters() {
        let names =
            [entry_name("00", "", "box"), entry_name("00", "", "sif"), entry_name("00", ":a/b", "box")];
        assert_eq!(names, ["sha256-00.box", "sha256-00.sif", "sha256-00%3aa%2fb.box"]);
        assert_ne!(entry_name("00", ":a/b", "box"), entry_name("00", ":a_b", "box"));
    }
}
