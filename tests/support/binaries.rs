//! The product's binaries under test: built once for this process, found beside the tests.
//!
//! `SLUICE_BIN` names a folder with finished binaries instead (an installed release); nothing is built then.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result, bail};

/// Every name of the one client, as scripts/lib.sh links them.
pub(crate) const CLIENT_NAMES: &[&str] = &[
    "sbatch", "srun", "salloc", "squeue", "scancel", "sinfo", "scontrol", "sacct", "sacctmgr", "sprio",
    "sshare", "sdiag", "sstat", "sattach", "sbcast",
];

/// All programs that a cluster needs.
pub(crate) const PROGRAMS: &[&str] =
    &["sluice", "sluice-scheduler", "sluice-executor", "sluice-supervisor", "sluice-pmix", "sluice-simulate"];

/// A folder that holds the product's binaries.
#[derive(Clone, Debug)]
pub struct Binaries {
    folder: PathBuf,
}

/// The repository's root, from where this package was compiled.
#[must_use]
pub fn workspace_root() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().expect("tests is a folder of the repository").to_owned()
}

impl Binaries {
    /// The binaries to test. Builds them (dev profile) at the first call of a process.
    ///
    /// # Errors
    /// A build that fails, with cargo's own words; a binary that is missing.
    pub fn get() -> Result<Self> {
        static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
        let built = BUILT.get_or_init(|| Self::find_or_build().map_err(|error| format!("{error:#}")));
        match built {
            Ok(folder) => Ok(Self { folder: folder.clone() }),
            Err(error) => bail!("{error}"),
        }
    }

    fn find_or_build() -> Result<PathBuf> {
        let folder = match env::var_os("SLUICE_BIN") {
            Some(folder) => PathBuf::from(folder),
            None => {
                let out = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
                    .args(["build", "--quiet"])
                    .current_dir(workspace_root())
                    .output()
                    .context("run cargo build")?;
                if !out.status.success() {
                    bail!("cargo build: {}", String::from_utf8_lossy(&out.stderr));
                }
                env::var_os("CARGO_TARGET_DIR")
                    .map_or_else(|| workspace_root().join("target"), PathBuf::from)
                    .join("debug")
            }
        };
        Ok(Self::at(&folder)?.folder)
    }

    /// The finished binaries of a folder.
    ///
    /// # Errors
    /// One is missing.
    pub fn at(folder: &Path) -> Result<Self> {
        for name in PROGRAMS {
            if !folder.join(name).is_file() {
                bail!("no {name} in {}", folder.display());
            }
        }
        Ok(Self { folder: folder.to_owned() })
    }

    /// Path of one of [`PROGRAMS`].
    #[must_use]
    pub fn program(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Fills `folder` with copies of the binaries and the Slurm-named links, readable for every user.
    ///
    /// # Errors
    /// What the file system says.
    pub fn install(&self, folder: &Path) -> Result<()> {
        std::fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
        for name in PROGRAMS {
            let to = folder.join(name);
            // A hard link costs nothing; another file system gets a copy.
            if std::fs::hard_link(self.program(name), &to).is_err() {
                std::fs::copy(self.program(name), &to)
                    .with_context(|| format!("copy {name} to {}", to.display()))?;
            }
        }
        for name in CLIENT_NAMES {
            let link = folder.join(name);
            std::os::unix::fs::symlink("sluice", &link)
                .with_context(|| format!("link {}", link.display()))?;
        }
        Ok(())
    }
}
