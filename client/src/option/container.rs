//! What `--container` and the options of pyxis say, and what they say together.
//!
//! Images are found by the node that runs the job; here only the words are read, and relative paths joined to
//! the working directory.

use model::container::{self, Image, Options, Problem};

use super::draft::Draft;
use super::read::{Bad, Outcome};

/// Whether the option is one of those that pyxis adds to Slurm's.
pub(super) fn is_pyxis(long: &str) -> bool {
    let own = long.strip_prefix("no-").unwrap_or(long);
    own.starts_with("container-") && own != "container-id"
}

fn said(option: &str, problem: &Problem) -> Bad {
    Bad::Said(format!("--{option}: {problem}"))
}

/// The options, to be filled in.
pub(super) fn options<'a>(draft: &'a mut Draft<'_>) -> &'a mut Options {
    draft.request.rare_mut().container_options.get_or_insert_default()
}

/// `--container`.
pub(super) fn image(draft: &mut Draft<'_>, text: &str) -> Outcome {
    if text.is_empty() {
        draft.request.rare_mut().container = None;
        return Ok(());
    }
    if text != container::NONE {
        Image::parse(text).map_err(|problem| said("container", &problem))?;
    }
    draft.request.rare_mut().container = Some(text.into());
    Ok(())
}

/// `--container-image`, in pyxis's grammar.
pub(super) fn pyxis_image(draft: &mut Draft<'_>, text: &str) -> Outcome {
    let image = Image::parse_pyxis(text).map_err(|problem| said("container-image", &problem))?;
    draft.request.rare_mut().container = Some(image.to_string().into());
    Ok(())
}

/// `--container-mounts`.
pub(super) fn mounts(draft: &mut Draft<'_>, text: &str) -> Outcome {
    options(draft).mounts =
        container::parse_mounts(text).map_err(|problem| said("container-mounts", &problem))?;
    Ok(())
}

/// `--container-env`.
pub(super) fn environment(draft: &mut Draft<'_>, text: &str) -> Outcome {
    options(draft).environment =
        container::parse_names(text).map_err(|problem| said("container-env", &problem))?;
    Ok(())
}

/// `--container-workdir`.
pub(super) fn work_dir(draft: &mut Draft<'_>, text: &str) -> Outcome {
    let folder = container::parse_work_dir(text).map_err(|problem| said("container-workdir", &problem))?;
    options(draft).work_dir = Some(folder);
    Ok(())
}

/// Joins relative paths to the working directory. The error is a sentence: options of no container.
pub(super) fn settle(draft: &mut Draft<'_>) -> Result<(), String> {
    if draft.request.rare().container.is_none() && draft.request.rare().container_options.is_none() {
        return Ok(());
    }
    let folder = draft.request.work_dir.clone();
    let step = draft.manner.jobid.is_some();
    let rare = draft.request.rare_mut();
    match rare.container.as_deref() {
        None => {
            return Err(
                "options of a container are given, and no --container or --container-image".to_owned()
            );
        }
        // Only a step has a container to do without.
        Some(container::NONE) if step => return Ok(()),
        Some(container::NONE) => (rare.container, rare.container_options) = (None, None),
        Some(text) => {
            let image = Image::parse(text).map_err(|problem| format!("--container: {problem}"))?;
            rare.container = Some(image.absolute(&folder).to_string().into());
        }
    }
    for mount in rare.container_options.iter_mut().flat_map(|options| &mut options.mounts) {
        mount.source = container::join(&folder, &mount.source);
    }
    Ok(())
}
