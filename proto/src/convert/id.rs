//! Identities: request keys, boot and spool ids, step ids.

use model::id::{BodyHash, BootId, RequestKey, SpoolId, StepId};

use super::{Error, Problem, error};

/// A request key: 16 bytes.
///
/// # Errors
/// Another length.
pub fn request_key(field: &'static str, bytes: &[u8]) -> Result<RequestKey, Error> {
    RequestKey::try_from(bytes).map_err(|_| error(field, Problem::Malformed))
}

/// A boot id: 16 bytes.
///
/// # Errors
/// Another length.
pub fn boot_id(field: &'static str, bytes: &[u8]) -> Result<BootId, Error> {
    BootId::try_from(bytes).map_err(|_| error(field, Problem::Malformed))
}

/// A spool id: 16 bytes.
///
/// # Errors
/// Another length.
pub fn spool_id(field: &'static str, bytes: &[u8]) -> Result<SpoolId, Error> {
    SpoolId::try_from(bytes).map_err(|_| error(field, Problem::Malformed))
}

/// A body's address: 32 bytes.
///
/// # Errors
/// Another length.
pub fn body_hash(field: &'static str, bytes: &[u8]) -> Result<BodyHash, Error> {
    BodyHash::try_from(bytes).map_err(|_| error(field, Problem::Malformed))
}

/// A step id as Slurm writes it: `batch`, `interactive`, `extern`, `0`, `1`, …; or the name of a hook.
///
/// # Errors
/// Any other text.
pub fn step_id(field: &'static str, text: &str) -> Result<StepId, Error> {
    let number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let signed = text.starts_with('+');
    let problem = if number { Problem::OutOfRange } else { Problem::Malformed };
    StepId::parse(text).filter(|_| !signed).ok_or_else(|| error(field, problem))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn step_ids_read_back() {
        let hooks = model::id::Hook::ALL.map(StepId::Hook);
        let steps =
            [StepId::Batch, StepId::Interactive, StepId::Extern, StepId::Number(0), StepId::Number(u32::MAX)];
        for id in steps.into_iter().chain(hooks) {
            assert_eq!(step_id("step", &id.to_string()), Ok(id));
        }
        for bad in ["", "-1", "+1", "x", "4294967296", "1 "] {
            assert!(step_id("step", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn keys_have_their_length() {
        assert_eq!(request_key("key", &[7; 16]), Ok(RequestKey([7; 16])));
        assert_eq!(request_key("key", &[7; 15]), Err(error("key", Problem::Malformed)));
    }
}
