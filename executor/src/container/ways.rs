//! How containers can be run on this node: probed once, with a real container, and told with its cause where not.
//!
//! The probe's container holds nothing but our own client, so it also proves that the client runs in any image.
//! As root, jobs of ordinary users are what counts: the probe is run as one (nobody) and as root.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::runner::{self, Who};
use super::toolbox;

/// What an account without rights of its own is called by number on every system.
const NOBODY: u32 = 65_534;

/// How SIF files are run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sif {
    /// Apptainer mounts them.
    Mounted,
    /// They are unpacked once into the cache: Apptainer would do it at each start.
    Unpacked,
}

/// What works on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ways {
    /// Apptainer's program.
    pub program: PathBuf,
    /// What it calls itself.
    pub version: String,
    /// Options that root needs here (`--no-privs` where it lacks capabilities).
    pub root_options: Vec<String>,
    /// For ordinary users.
    pub sif: Sif,
}

impl Ways {
    /// A sentence for `sluice node`.
    #[must_use]
    pub fn describe(&self) -> String {
        let sif = match self.sif {
            Sif::Mounted => "SIF files are mounted",
            Sif::Unpacked => "SIF files are unpacked into the cache",
        };
        let root = match self.root_options.as_slice() {
            [] => String::new(),
            options => format!("; root needs {} here", options.join(" ")),
        };
        format!("{} at {}; {sif}{root}", self.version, self.program.display())
    }

    /// How SIF files are run for this user. Root can always have them mounted.
    #[must_use]
    pub fn sif_for(&self, uid: u32) -> Sif {
        if uid == 0 { Sif::Mounted } else { self.sif }
    }
}

/// Looks for Apptainer where a login would.
#[must_use]
pub fn find(named: Option<&Path>) -> Option<PathBuf> {
    let is_program = |path: &PathBuf| {
        fs::metadata(path).is_ok_and(|facts| facts.is_file() && facts.permissions().mode() & 0o111 != 0)
    };
    match named {
        Some(path) => Some(path.to_owned()).filter(is_program),
        None => ["/usr/local/bin", "/usr/bin", "/opt/apptainer/bin", "/usr/local/sbin"]
            .iter()
            .map(|folder| Path::new(folder).join("apptainer"))
            .find(is_program),
    }
}

/// Runs the probe. `own_uid` is the executor's.
///
/// # Errors
/// A sentence: what is missing, and what to do where that is known.
pub async fn probe(
    supervisor: &Path,
    program: PathBuf,
    toolbox: &Path,
    place: &Path,
    own_uid: u32,
) -> Result<Ways, String> {
    let root = make_box(place)
        .map_err(|error| format!("cannot make the probe's image in {}: {error}", place.display()))?;
    let silent = |_: &str| {};
    let who = |uid: u32, gid: u32| Who { uid, gid, groups: vec![gid], home: "/".to_owned() };
    let (own, user) = match own_uid {
        0 => (Some(who(0, 0)), who(NOBODY, NOBODY)),
        uid => (None, who(uid, nix::unistd::getegid().as_raw())),
    };
    // An account without a home has no place of its own for what Apptainer keeps.
    let environment = || {
        let path = "PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin".to_owned();
        vec![
            path,
            "HOME=/nonexistent".to_owned(),
            format!("APPTAINER_CONFIGDIR={}/probe/config", place.display()),
        ]
    };
    let asked = vec![program.display().to_string(), "--version".to_owned()];
    let version = runner::run(supervisor, &user, asked, environment(), &silent).await?;
    if version.status != 0 {
        return Err(format!("{} does not run: {}", program.display(), version.complaint()));
    }
    let attempt = async |who: &Who, options: &[&str]| {
        let mut arguments = vec![program.display().to_string(), "exec".to_owned()];
        arguments.extend(options.iter().map(|option| (*option).to_owned()));
        let mount = format!("type=bind,source={},destination={},ro", toolbox.display(), toolbox::INSIDE);
        arguments.extend(["--contain", "--no-home", "--mount"].map(str::to_owned));
        arguments.extend([
            mount,
            root.display().to_string(),
            format!("{}/bin/srun", toolbox::INSIDE),
            "--version".to_owned(),
        ]);
        runner::run(supervisor, who, arguments, environment(), &silent).await
    };
    let ran = attempt(&user, &[]).await?;
    if ran.status != 0 {
        return Err(cause(Path::new("/proc/sys"), &ran.complaint()));
    }
    let mut root_options = Vec::new();
    if let Some(own) = own
        && attempt(&own, &[]).await?.status != 0
    {
        let ran = attempt(&own, &["--no-privs"]).await?;
        if ran.status != 0 {
            return Err(cause(Path::new("/proc/sys"), &ran.complaint()));
        }
        root_options.push("--no-privs".to_owned());
    }
    let sif = sif(&program, Path::new("/dev/fuse"), own_uid);
    Ok(Ways { program, version: version.stdout.trim().to_owned(), root_options, sif })
}

/// A root folder with nothing in it but places for mounts.
fn make_box(place: &Path) -> std::io::Result<PathBuf> {
    let root = place.join("probe");
    for name in ["dev", "proc", "sys", "tmp", "etc", "var/tmp", "bin", ".singularity.d"] {
        fs::create_dir_all(root.join(name))?;
    }
    for name in ["etc/passwd", "etc/group", "etc/resolv.conf", "etc/hosts", "etc/localtime"] {
        fs::write(root.join(name), "")?;
    }
    Ok(root)
}

/// Whether ordinary users can have a SIF mounted: by the set-uid starter, or by squashfuse and a device for it.
fn sif(program: &Path, fuse: &Path, uid: u32) -> Sif {
    let prefix = program.parent().and_then(Path::parent).unwrap_or(Path::new("/usr"));
    let starter = prefix.join("libexec/apptainer/bin/starter-suid");
    let suid = fs::metadata(starter).is_ok_and(|facts| facts.permissions().mode() & 0o4000 != 0);
    let squashfuse = ["/usr/local/bin", "/usr/bin", "/usr/libexec/apptainer/bin"].iter().any(|folder| {
        ["squashfuse_ll", "squashfuse"].iter().any(|name| Path::new(folder).join(name).exists())
    });
    let open = match uid {
        0 => fs::metadata(fuse).is_ok_and(|facts| facts.permissions().mode() & 0o006 == 0o006),
        _ => fs::OpenOptions::new().read(true).write(true).open(fuse).is_ok(),
    };
    if suid || (squashfuse && open) { Sif::Mounted } else { Sif::Unpacked }
}

/// Why an ordinary user's container does not start, where the kernel's settings tell; else Apptainer's words.
fn cause(sysctl: &Path, words: &str) -> String {
    let value = |name: &str| {
        fs::read_to_string(sysctl.join(name)).ok().and_then(|text| text.trim().parse::<u64>().ok())
    };
    if value("kernel/apparmor_restrict_unprivileged_userns") == Some(1) {
        return format!(
            "AppArmor keeps users from making user namespaces (kernel.apparmor_restrict_unprivileged_userns=1): \
             install a package of Apptainer that brings an AppArmor profile, or set that to 0; Apptainer said: {words}"
        );
    }
    if value("kernel/unprivileged_userns_clone") == Some(0) {
        return format!(
            "the kernel keeps users from making user namespaces: set kernel.unprivileged_userns_clone=1; Apptainer said: {words}"
        );
    }
    if value("user/max_user_namespaces") == Some(0) {
        return format!(
            "no user namespace may be made: raise user.max_user_namespaces; Apptainer said: {words}"
        );
    }
    format!("a trial container does not start: {words}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_s_settings_are_named() {
        let place = std::env::temp_dir().join(format!("sluice-ways-{}", std::process::id()));
        fs::create_dir_all(place.join("kernel")).unwrap();
        fs::create_dir_all(place.join("user")).unwrap();
        assert_eq!(cause(&place, "no"), "a trial container does not start: no");
        for (name, value, words) in [
            ("user/max_user_namespaces", "0\n", "raise user.max_user_namespaces"),
            ("kernel/unprivileged_userns_clone", "0\n", "set kernel.unprivileged_userns_clone=1"),
            ("kernel/apparmor_restrict_unprivileged_userns", "1\n", "AppArmor keeps users"),
        ] {
            fs::write(place.join(name), value).unwrap();
            assert!(cause(&place, "no").contains(words), "{name}");
        }
        fs::remove_dir_all(&place).unwrap();
    }

    #[test]
    fn a_sif_is_mounted_only_where_users_may() {
        let nowhere = Path::new("/nonexistent");
        assert_eq!(sif(&nowhere.join("usr/bin/apptainer"), &nowhere.join("fuse"), 0), Sif::Unpacked);
        let ways = Ways {
            program: "/usr/bin/apptainer".into(),
            version: "apptainer version 1.4.5".to_owned(),
            root_options: vec!["--no-privs".to_owned()],
            sif: Sif::Unpacked,
        };
        assert_eq!((ways.sif_for(0), ways.sif_for(7)), (Sif::Mounted, Sif::Unpacked));
        assert_eq!(
            ways.describe(),
            "apptainer version 1.4.5 at /usr/bin/apptainer; SIF files are unpacked into the cache; root needs --no-privs here"
        );
    }
}
