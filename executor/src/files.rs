//! The configuration that an executor reads: slurm.conf, and what stands beside it.

use std::fmt::Display;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use model::config::cgroup::CgroupConf;
use model::config::gres::GresConf;
use model::config::own::{self, OwnConf};
use model::config::{Reader, SlurmConf};

/// slurm.conf and the files beside it; all of them as if they were not there where there is no slurm.conf.
#[derive(Default)]
pub(crate) struct Files {
    pub(crate) slurm: Option<(PathBuf, SlurmConf)>,
    pub(crate) gres: Option<GresConf>,
    pub(crate) cgroup: Option<CgroupConf>,
    pub(crate) own: OwnConf,
}

impl Files {
    /// Reads them.
    ///
    /// # Errors
    /// slurm.conf cannot be read, another one is there and cannot be read, or one means nothing: file and line.
    pub(crate) fn read(slurm_conf: Option<&Path>) -> anyhow::Result<Self> {
        let Some(path) = slurm_conf else { return Ok(Self::default()) };
        let text = std::fs::read_to_string(path).with_context(|| cannot_read(path))?;
        let slurm = parse(&text, path, SlurmConf::parse)?;
        Ok(Self {
            gres: beside(path, "gres.conf", GresConf::parse)?,
            own: beside(path, own::FILE_NAME, OwnConf::parse)?.unwrap_or_default(),
            cgroup: beside(path, "cgroup.conf", CgroupConf::parse)?,
            slurm: Some((path.to_owned(), slurm)),
        })
    }

    /// slurm.conf.
    pub(crate) fn conf(&self) -> Option<&SlurmConf> {
        self.slurm.as_ref().map(|(_, conf)| conf)
    }

    /// slurm.conf with its path.
    pub(crate) fn named(&self) -> Option<(&Path, &SlurmConf)> {
        self.slurm.as_ref().map(|(path, conf)| (path.as_path(), conf))
    }

    /// The path of slurm.conf; empty: there is none.
    pub(crate) fn path(&self) -> String {
        self.slurm.as_ref().map_or_else(String::new, |(path, _)| path.display().to_string())
    }
}

/// A file of this name in the folder of slurm.conf; `None`: it is not there.
fn beside<T, E: Display>(
    slurm_conf: &Path,
    name: &str,
    meaning: impl FnOnce(&str, &Path, Reader<'_>) -> Result<T, Vec<E>>,
) -> anyhow::Result<Option<T>> {
    let path = slurm_conf.with_file_name(name);
    match std::fs::read_to_string(&path) {
        Ok(text) => parse(&text, &path, meaning).map(Some),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| cannot_read(&path)),
    }
}

fn parse<T, E: Display>(
    text: &str,
    path: &Path,
    meaning: impl FnOnce(&str, &Path, Reader<'_>) -> Result<T, Vec<E>>,
) -> anyhow::Result<T> {
    let mut read = |included: &Path| {
        std::fs::read_to_string(included).map_err(|error: std::io::Error| error.to_string())
    };
    meaning(text, path, &mut read).map_err(|errors| {
        let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
        anyhow!("the configuration is refused\n{}", lines.join("\n"))
    })
}

fn cannot_read(path: &Path) -> String {
    format!("cannot read {}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_not_there_is_none_and_one_that_cannot_be_read_an_error() {
        let folder = std::env::temp_dir().join(format!("sluice-files-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let conf = folder.join("slurm.conf");
        std::fs::write(&conf, "ClusterName=c\nSlurmctldHost=here\nNodeName=n1\nPartitionName=p Nodes=n1\n")
            .unwrap();
        let files = Files::read(Some(&conf)).unwrap();
        assert!(files.gres.is_none() && files.cgroup.is_none() && files.conf().is_some());
        std::fs::write(folder.join("gres.conf"), "Nonsense=1\n").unwrap();
        let why = format!("{:#}", Files::read(Some(&conf)).err().unwrap());
        assert!(why.contains("gres.conf") && why.contains("refused"), "{why}");
        std::fs::remove_file(folder.join("gres.conf")).unwrap();
        // A folder of that name cannot be read as a file, by root either.
        std::fs::create_dir(folder.join("gres.conf")).unwrap();
        let why = format!("{:#}", Files::read(Some(&conf)).err().unwrap());
        assert!(why.contains("cannot read") && why.contains("gres.conf"), "{why}");
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
