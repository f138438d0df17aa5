//! What a submitter says about a container: the image, mounts, and how the container differs from the default.
//!
//! Two grammars for the image. `--container` takes a path (a SIF file, a sandbox folder, an OCI bundle) or
//! `SCHEME:REST` as Apptainer writes it; `--container-image` takes pyxis's `[USER@][REGISTRY#]IMAGE[:TAG]|PATH`.
//! Both become an [`Image`], whose text is that of `--container`. Pure: whether an image exists is the node's
//! to find out, with the submitter's rights.

use std::fmt;

/// What stands where a step wants no container although its job has one.
pub const NONE: &str = "none";

/// Where an image comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Image {
    /// A SIF file, a sandbox folder or an OCI bundle on the node's file systems.
    Path(Box<str>),
    /// A local collection of layers, to be converted: `oci:`, `oci-archive:` or `docker-archive:`.
    Archive {
        /// `oci`, `oci-archive`, `docker-archive`.
        scheme: &'static str,
        /// Folder (`oci`) or file.
        path: Box<str>,
        /// Which image of several in it.
        reference: Option<Box<str>>,
    },
    /// In a registry: `docker://`, `oras://`, `library://`.
    Remote(Box<str>),
}

/// Why a text about containers is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// Nothing stands there.
    Empty,
    /// The part before the colon.
    Scheme(Box<str>),
    /// pyxis's USER@.
    User(Box<str>),
    /// A mount without a target, or a relative target.
    Mount(Box<str>),
    /// A flag of a mount.
    Flag(Box<str>),
    /// A name in `--container-env`.
    Variable(Box<str>),
    /// A relative path where an absolute one must stand.
    Relative(Box<str>),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("no image is named"),
            Self::Scheme(scheme) => write!(
                f,
                "images of the kind \"{scheme}:\" are not supported (a path, docker://, oras://, library://, \
                 oci:, oci-archive: and docker-archive: are)"
            ),
            Self::User(text) => write!(
                f,
                "a registry user in \"{text}\" is not supported: log in with \"apptainer registry login\" instead"
            ),
            Self::Mount(text) => {
                write!(f, "\"{text}\" is no mount (SRC:DST[:FLAGS], joined by commas, DST absolute)")
            }
            Self::Flag(flag) => write!(
                f,
                "mount flag \"{flag}\" is not supported (ro, rw, bind, rbind, private, rprivate, slave, rslave, \
                 nosuid and nodev are)"
            ),
            Self::Variable(name) => write!(f, "\"{name}\" is no name of a variable"),
            Self::Relative(path) => write!(f, "\"{path}\" is no absolute path"),
        }
    }
}

impl Image {
    /// Reads `--container`.
    ///
    /// # Errors
    /// Empty, or a scheme that is not known.
    pub fn parse(text: &str) -> Result<Self, Problem> {
        for scheme in ["oci-archive", "docker-archive", "oci"] {
            if let Some(rest) = text.strip_prefix(scheme).and_then(|rest| rest.strip_prefix(':')) {
                let (path, reference) = match rest.rsplit_once(':') {
                    Some((path, reference)) if !reference.contains('/') => (path, Some(reference.into())),
                    _ => (rest, None),
                };
                if path.is_empty() {
                    return Err(Problem::Empty);
                }
                return Ok(Self::Archive { scheme, path: path.into(), reference });
            }
        }
        for scheme in ["docker://", "oras://", "library://"] {
            if let Some(rest) = text.strip_prefix(scheme) {
                return if rest.is_empty() { Err(Problem::Empty) } else { Ok(Self::Remote(text.into())) };
            }
        }
        if text.is_empty() {
            return Err(Problem::Empty);
        }
        // A colon in a path is a path's; a word before one is a scheme.
        match text.split_once(':') {
            Some((scheme, _)) if scheme.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-') => {
                Err(Problem::Scheme(scheme.into()))
            }
            _ => Ok(Self::Path(text.into())),
        }
    }

    /// Reads pyxis's `--container-image`: `[USER@][REGISTRY#]IMAGE[:TAG]`, or a path that begins with `/` or `.`.
    ///
    /// # Errors
    /// Empty, or a registry user.
    pub fn parse_pyxis(text: &str) -> Result<Self, Problem> {
        if text.starts_with(['/', '.']) {
            return Ok(Self::Path(text.into()));
        }
        // What already names its scheme means what it says in `--container`.
        if text.contains("://") || text.starts_with("oci:") || text.contains("-archive:") {
            return Self::parse(text);
        }
        let (registry, image) = match text.split_once('#') {
            Some((registry, image)) => (Some(registry), image),
            None => (None, text),
        };
        let user = |part: &str| part.split_once('@').is_some_and(|(_, rest)| !rest.starts_with("sha256:"));
        if registry.map_or(user(image), user) {
            return Err(Problem::User(text.into()));
        }
        if image.is_empty() || registry == Some("") {
            return Err(Problem::Empty);
        }
        let place = registry.map_or_else(String::new, |registry| format!("{registry}/"));
        Ok(Self::Remote(format!("docker://{place}{image}").into()))
    }

    /// The same image, its path joined to `folder` where it is relative.
    #[must_use]
    pub fn absolute(self, folder: &str) -> Self {
        match self {
            Self::Path(path) => Self::Path(join(folder, &path)),
            Self::Archive { scheme, path, reference } => {
                Self::Archive { scheme, path: join(folder, &path), reference }
            }
            Self::Remote(_) => self,
        }
    }

    /// The path on the node's file systems, where there is one.
    #[must_use]
    pub fn path(&self) -> Option<&str> {
        match self {
            Self::Path(path) | Self::Archive { path, .. } => Some(path),
            Self::Remote(_) => None,
        }
    }
}

impl fmt::Display for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => f.write_str(path),
            Self::Remote(uri) => f.write_str(uri),
            Self::Archive { scheme, path, reference: None } => write!(f, "{scheme}:{path}"),
            Self::Archive { scheme, path, reference: Some(reference) } => {
                write!(f, "{scheme}:{path}:{reference}")
            }
        }
    }
}

/// A folder or file of the node that is seen inside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// On the node.
    pub source: Box<str>,
    /// Inside, absolute.
    pub target: Box<str>,
    /// It cannot be written.
    pub read_only: bool,
}

/// How a container differs from the default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// `--container-mounts`.
    pub mounts: Vec<Mount>,
    /// `--container-workdir`: inside.
    pub work_dir: Option<Box<str>>,
    /// `--container-env`: variables whose value outside wins over the image's.
    pub environment: Vec<Box<str>>,
    /// `--[no-]container-mount-home`; `None`: it is mounted.
    pub mount_home: Option<bool>,
    /// `--container-remap-root`.
    pub remap_root: bool,
    /// `--container-writable`: what is written is gone at the end.
    pub writable: bool,
    /// `--container-entrypoint`: the image's own program runs, and gets the command as arguments.
    pub entrypoint: bool,
}

/// Reads `--container-mounts`: `SRC:DST[:FLAG+FLAG]`, or one path for both sides, joined by commas.
///
/// # Errors
/// An entry that is no mount, or a flag that is not supported.
pub fn parse_mounts(text: &str) -> Result<Vec<Mount>, Problem> {
    text.split(',').filter(|entry| !entry.is_empty()).map(parse_mount).collect()
}

fn parse_mount(entry: &str) -> Result<Mount, Problem> {
    let mut parts = entry.split(':');
    let source = parts.next().unwrap_or_default();
    let target = parts.next().unwrap_or(source);
    let flags = parts.next().unwrap_or_default();
    // Apptainer's own separators, and what would leave the folder that is named.
    let odd = |path: &str| path.is_empty() || path.split('/').any(|part| part == "..") || path.contains('\\');
    if parts.next().is_some() || odd(source) || odd(target) || !target.starts_with('/') {
        return Err(Problem::Mount(entry.into()));
    }
    let mut read_only = false;
    for flag in flags.split('+').filter(|flag| !flag.is_empty()) {
        match flag {
            "ro" => read_only = true,
            "rw" => read_only = false,
            // What a mount in a container always is.
            "bind" | "rbind" | "private" | "rprivate" | "slave" | "rslave" | "nosuid" | "nodev" => {}
            other => return Err(Problem::Flag(other.into())),
        }
    }
    Ok(Mount { source: source.into(), target: target.into(), read_only })
}

/// Reads `--container-env`: names, joined by commas.
///
/// # Errors
/// What is no name.
pub fn parse_names(text: &str) -> Result<Vec<Box<str>>, Problem> {
    let is_name = |name: &str| {
        !name.starts_with(|c: char| c.is_ascii_digit())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    let names = text.split(',').filter(|name| !name.is_empty());
    names
        .map(|name| if is_name(name) { Ok(name.into()) } else { Err(Problem::Variable(name.into())) })
        .collect()
}

/// Reads `--container-workdir`.
///
/// # Errors
/// A relative path.
pub fn parse_work_dir(text: &str) -> Result<Box<str>, Problem> {
    if text.starts_with('/') { Ok(text.into()) } else { Err(Problem::Relative(text.into())) }
}

/// `path`, or `folder/path` where it is relative.
#[must_use]
pub fn join(folder: &str, path: &str) -> Box<str> {
    if path.starts_with('/') {
        path.into()
    } else {
        format!("{}/{path}", folder.trim_end_matches('/')).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_of_container() {
        for (text, path) in [
            ("/i/a.sif", Some("/i/a.sif")),
            ("a:b.sif", None),
            ("./x:y/a.sif", Some("./x:y/a.sif")),
            ("oci:/l/ayout", Some("/l/ayout")),
            ("oci-archive:/a.tar:latest", Some("/a.tar")),
            ("docker-archive:a/b.tar", Some("a/b.tar")),
            ("docker://alpine:3", None),
        ] {
            match Image::parse(text) {
                Ok(image) => {
                    assert_eq!((image.path(), image.to_string().as_str()), (path, text));
                }
                Err(problem) => assert_eq!(problem, Problem::Scheme("a".into()), "{text}"),
            }
        }
        assert_eq!(Image::parse(""), Err(Problem::Empty));
        assert_eq!(Image::parse("oci-archive::x"), Err(Problem::Empty));
        assert_eq!(Image::parse("instance://x"), Err(Problem::Scheme("instance".into())));
        let tagged = Image::parse("oci-archive:a.tar:v1").unwrap().absolute("/home/u/");
        assert_eq!(tagged.to_string(), "oci-archive:/home/u/a.tar:v1");
        assert_eq!(Image::parse("a.sif").unwrap().absolute("/w").to_string(), "/w/a.sif");
    }

    #[test]
    fn images_of_pyxis() {
        for (text, expected) in [
            ("ubuntu", "docker://ubuntu"),
            ("nvcr.io#nvidia/pytorch:24.01", "docker://nvcr.io/nvidia/pytorch:24.01"),
            ("./a.sqsh", "./a.sqsh"),
            ("/i/a.sif", "/i/a.sif"),
            ("alpine@sha256:00", "docker://alpine@sha256:00"),
            ("docker://x", "docker://x"),
        ] {
            assert_eq!(Image::parse_pyxis(text).unwrap().to_string(), expected);
        }
        assert_eq!(Image::parse_pyxis("me@nvcr.io#x"), Err(Problem::User("me@nvcr.io#x".into())));
        assert_eq!(Image::parse_pyxis("nvcr.io#"), Err(Problem::Empty));
    }

    #[test]
    fn mounts() {
        let mounts = parse_mounts("/a:/b,/c:/d:ro+rprivate,/e").unwrap();
        let shown: Vec<_> = mounts.iter().map(|m| (&*m.source, &*m.target, m.read_only)).collect();
        assert_eq!(shown, [("/a", "/b", false), ("/c", "/d", true), ("/e", "/e", false)]);
        for wrong in ["/a:b", ":/b", "/a:/b:ro:x", "/a:/b/../c", "/a\\b:/c"] {
            assert_eq!(parse_mounts(wrong), Err(Problem::Mount(wrong.into())), "{wrong}");
        }
        assert_eq!(parse_mounts("/a:/b:shared"), Err(Problem::Flag("shared".into())));
        assert_eq!(parse_names("A,_b1").unwrap().len(), 2);
        assert_eq!(parse_names("A=1"), Err(Problem::Variable("A=1".into())));
    }
}
