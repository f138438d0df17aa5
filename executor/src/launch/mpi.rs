//! Who serves the tasks of a step so that they find each other: `srun --mpi`, `MpiDefault`.
//!
//! PMI-1 and PMI-2 are the supervisor's own; PMIx is a helper program beside it, where the machine has the library.

use executor_supervisor::spec::mpi::{Mpi, Server, remove_folders};
use proto::v1;

use super::{Context, Refused};
use crate::key::Key;

/// What `--mpi` may name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// Nothing.
    #[default]
    None,
    /// PMI-2, and PMI-1 for who speaks that.
    Pmi2,
    /// PMIx.
    Pmix,
}

impl Kind {
    /// Reads the option's or the configuration's word; `None` for any other.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text.strip_prefix("mpi/").unwrap_or(text) {
            "none" => Some(Self::None),
            "pmi2" => Some(Self::Pmi2),
            "pmix" => Some(Self::Pmix),
            _ => None,
        }
    }
}

/// What is served to the tasks of a step on this node.
///
/// # Errors
/// A word that is not known, or a kind that this node has no program for.
pub fn of_step(
    context: &Context<'_>,
    key: Key,
    launch: &v1::Launch,
    tasks: &v1::TaskLaunch,
) -> Result<Option<Mpi>, Refused> {
    let kind = match tasks.mpi.as_deref() {
        None => context.mpi_default,
        Some(text) => {
            Kind::parse(text).ok_or_else(|| Refused::Mpi(format!("--mpi={text} is not known here")))?
        }
    };
    let server = match kind {
        Kind::None => return Ok(None),
        Kind::Pmi2 => Server::Pmi,
        Kind::Pmix => {
            use std::os::unix::ffi::OsStrExt;
            let helper = context.pmix.ok_or_else(|| {
                Refused::Mpi(format!(
                    "--mpi=pmix: node {} has no sluice-pmix beside its supervisor",
                    context.node
                ))
            })?;
            Server::Helper(helper.as_os_str().as_bytes().to_vec())
        }
    };
    let mut places = vec![0; launch.step_nodes.iter().map(|node| node.ranks.len()).sum()];
    for (place, node) in (0_u32..).zip(&launch.step_nodes) {
        for rank in &node.ranks {
            if let Some(at) = places.get_mut(*rank as usize) {
                *at = place;
            }
        }
    }
    let name =
        |node: &v1::StepNode| node.allocation.as_ref().map_or_else(String::new, |held| held.node.clone());
    Ok(Some(Mpi {
        server,
        node_index: launch.step_node_index,
        nodes: launch.step_nodes.iter().map(name).collect(),
        places,
        folder: folder_of(context.node, context.mark, Some(key)).into_bytes(),
    }))
}

/// How the names of the folders begin that a run's helper makes, or that of any run of this executor.
fn folder_of(node: &str, mark: &str, key: Option<Key>) -> String {
    let all = format!("/tmp/sluice-pmix.{node}.{mark}");
    key.map_or_else(|| all.clone(), |key| format!("{all}.{}", key.folder()))
}

/// Removes what helpers of lost supervisors have left, but for the runs that are held. Blocking.
pub fn sweep(node: &str, mark: &str, held: &[Key]) {
    let begins: Vec<String> = held.iter().map(|key| format!("{}.", key.folder())).collect();
    let keep = |rest: &str| begins.iter().any(|begin| rest.starts_with(begin));
    remove_folders(folder_of(node, mark, None).as_bytes(), &keep);
}
