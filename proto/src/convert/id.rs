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

/// A step id as Slurm writes it: `batch`, `interactive`, `0`, `1`, …
///
/// # Errors
/// Any other text.
pub fn step_id(field: &'static str, text: &str) -> Result<StepId, Error> {
    match text {
        "batch" => Ok(StepId::Batch),
        "interactive" => Ok(StepId::Interactive),
        _ if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) => {
            text.parse().map(StepId::Number).map_err(|_| error(field, Problem::OutOfRange))
        }
        _ => Err(error(field, Problem::Malformed)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn step_ids_read_back() {
        for id in [StepId::Batch, StepId::Interactive, StepId::Number(0), StepId::Number(u32::MAX)] {
            assert_eq!(step_id("step", &id.to_string()), Ok(id));
        }
        for bad in ["", "-1", "x", "4294967296", "1 "] {
            assert!(step_id("step", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn keys_have_their_length() {
        assert_eq!(request_key("key", &[7; 16]), Ok(RequestKey([7; 16])));
        assert_eq!(request_key("key", &[7; 15]), Err(error("key", Problem::Malformed)));
    }
}
