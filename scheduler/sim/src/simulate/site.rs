//! The cluster of a slurm.conf, as the daemon would read it.

use std::path::Path;

use model::config::SlurmConf;
use model::config::gres::GresConf;
use model::config::own::{self, OwnConf};
use scheduler_core::settings::{Hooks, Settings, conf};

/// Reads slurm.conf, the gres.conf beside it, and what sluice.conf says of run times.
///
/// # Errors
/// Every error of the files, with file and line.
pub(super) fn settings(path: &Path) -> Result<Settings, String> {
    let mut include = |included: &Path| read(included);
    let parsed = SlurmConf::parse(&read(path)?, path, &mut include).map_err(|errors| lines(&errors))?;
    let beside = path.with_file_name("gres.conf");
    let gres = if beside.exists() {
        GresConf::parse(&read(&beside)?, &beside, &mut include).map_err(|errors| lines(&errors))?
    } else {
        GresConf::default()
    };
    let mut settings = conf::settings(&parsed, &gres);
    let beside = path.with_file_name(own::FILE_NAME);
    if beside.exists() {
        let own = OwnConf::parse(&read(&beside)?, &beside, &mut include).map_err(|errors| lines(&errors))?;
        settings.policy.prediction = conf::prediction(&own);
    }
    // Nothing is run here, a site's programs around jobs no more than the jobs themselves.
    settings.hooks = Hooks::default();
    if settings.nodes.is_empty() || settings.partitions.is_empty() {
        return Err(format!("{}: it defines no nodes or no partitions", path.display()));
    }
    Ok(settings)
}

/// All CPUs of the cluster.
pub(super) fn cpus(settings: &Settings) -> u32 {
    settings.nodes.iter().map(|node| node.cpus.0).sum()
}

fn read(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}

fn lines(errors: &[impl ToString]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}
