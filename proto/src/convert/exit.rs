//! `model::exit::ExitStatus` ⇄ `v1::ExitStatus`.

use model::exit::ExitStatus;

use crate::v1;

/// Only the low eight bits of either number count, as the kernel has it; an absent status is success.
#[must_use]
pub fn inwards(from: Option<v1::ExitStatus>) -> ExitStatus {
    let from = from.unwrap_or_default();
    ExitStatus { code: (from.code & 0xff) as u8, signal: (from.signal & 0xff) as u8 }
}

/// Writes a status.
#[must_use]
pub fn outwards(from: ExitStatus) -> v1::ExitStatus {
    v1::ExitStatus { code: u32::from(from.code), signal: u32::from(from.signal) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_out_comes_back() {
        for status in [ExitStatus::SUCCESS, ExitStatus::from_code(300), ExitStatus::from_signal(9)] {
            assert_eq!(inwards(Some(outwards(status))), status);
        }
        assert_eq!(inwards(None), ExitStatus::SUCCESS);
    }
}
