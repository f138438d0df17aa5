//! `model::refusal::Refusal` ⇄ `v1::Refused`.

use model::refusal::Refusal;

use crate::v1;

/// A refusal with the lines that are printed before its text.
#[must_use]
pub fn outwards(refusal: Refusal, lines: &[Box<str>]) -> v1::Refused {
    v1::Refused { number: refusal.number(), lines: lines.iter().map(ToString::to_string).collect() }
}

/// The refusal, or `None` where a newer scheduler sent a number that is not known here.
#[must_use]
pub fn inwards(from: &v1::Refused) -> Option<Refusal> {
    Refusal::from_number(from.number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_reads_back() {
        for &refusal in Refusal::ALL {
            assert_eq!(inwards(&outwards(refusal, &[])), Some(refusal));
        }
        assert_eq!(inwards(&v1::Refused::default()), None);
    }
}
