//! `--export`: which variables a job or step gets.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use super::World;

/// Variables in order; later ones of a name take the place of earlier ones.
pub(crate) type Variables = Vec<(OsString, OsString)>;

/// What `--export` chose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Exported {
    /// The variables.
    pub variables: Variables,
    /// The user's login environment is to be read on the node.
    pub login: bool,
}

/// Chooses by `--export` as typed; without it everything is passed on.
///
/// `NONE` and `NIL` pass only SLURM_* (and SPANK_*), `NONE` with the login environment; a list passes these
/// and what it names: `ALL`, `NAME`, `NAME=value`. A name that is not set is just absent. SLURM_EXPORT_ENV
/// tells inner commands what was typed.
pub(crate) fn choose(export: Option<&str>, world: &World<'_>) -> Exported {
    let Some(typed) = export else { return Exported { variables: world.env.clone(), login: false } };
    let (mut variables, login) = if typed.eq_ignore_ascii_case("ALL") {
        (world.env.clone(), false)
    } else if typed.eq_ignore_ascii_case("NONE") {
        (slurm_only(world), true)
    } else if typed.eq_ignore_ascii_case("NIL") {
        (slurm_only(world), false)
    } else {
        listed(typed, world)
    };
    set(&mut variables, "SLURM_EXPORT_ENV", typed);
    Exported { variables, login }
}

/// The variables of `--export-file`: `NAME=value` entries ended by zero bytes.
pub(crate) fn from_file(bytes: &[u8]) -> Variables {
    let mut variables = Vec::new();
    for entry in bytes.split(|&byte| byte == 0) {
        if let Some(at) = entry.iter().position(|&byte| byte == b'=').filter(|&at| at > 0) {
            variables.push((
                OsString::from_vec(entry[..at].to_vec()),
                OsString::from_vec(entry[at + 1..].to_vec()),
            ));
        }
    }
    variables
}

/// Sets one variable.
pub(crate) fn set(variables: &mut Variables, name: &str, value: impl AsRef<OsStr>) {
    match variables.iter_mut().find(|(known, _)| known == OsStr::new(name)) {
        Some((_, known)) => *known = value.as_ref().to_owned(),
        None => variables.push((name.into(), value.as_ref().to_owned())),
    }
}

/// `NAME=value` entries, each ended by a zero byte.
pub(crate) fn block(variables: &Variables) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in variables {
        block.extend_from_slice(name.as_bytes());
        block.push(b'=');
        block.extend_from_slice(value.as_bytes());
        block.push(0);
    }
    block
}

fn slurm_only(world: &World<'_>) -> Variables {
    let ours =
        |name: &OsStr| name.as_bytes().starts_with(b"SLURM_") || name.as_bytes().starts_with(b"SPANK_");
    world.env.iter().filter(|(name, _)| ours(name)).cloned().collect()
}

fn listed(typed: &str, world: &World<'_>) -> (Variables, bool) {
    let mut variables = slurm_only(world);
    let mut login = true;
    for piece in pieces(typed) {
        if piece.eq_ignore_ascii_case("ALL") {
            login = false;
            world.env.iter().for_each(|(name, value)| set(&mut variables, &name.to_string_lossy(), value));
        } else if let Some((name, value)) = piece.split_once('=') {
            set(&mut variables, name, value);
        } else if let Some((_, value)) = world.env.iter().find(|(name, _)| name == OsStr::new(piece)) {
            set(&mut variables, piece, value);
        }
    }
    (variables, login)
}

/// Pieces between commas; quotes protect commas, and stay in the value.
fn pieces(typed: &str) -> Vec<&str> {
    let mut quote = None;
    typed
        .split(move |letter| {
            match quote {
                None if matches!(letter, '\'' | '"') => quote = Some(letter),
                Some(open) if open == letter => quote = None,
                _ => {}
            }
            letter == ',' && quote.is_none()
        })
        .filter(|piece| !piece.is_empty())
        .collect()
}
