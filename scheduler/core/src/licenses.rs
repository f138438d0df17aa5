//! The text of `--licenses`: `matlab:2,ansys`. Reads only; whether a license exists is admission's.

use crate::planted::{self, Bug};

/// Names and amounts, in the order given. A piece without an amount asks for one; a piece whose amount
/// is no number asks for none and is refused at admission by [`is_valid`].
pub fn parse(text: &str) -> impl Iterator<Item = (&str, u32)> {
    text.split([',', ';']).filter(|piece| !piece.is_empty()).map(|piece| {
        let (name, amount) = piece.split_once([':', '=']).unwrap_or((piece, "1"));
        let amount: u32 = amount.parse().unwrap_or(0);
        (name, if planted::is(Bug::CountLicenseLess) && amount > 1 { amount - 1 } else { amount })
    })
}

/// Whether every piece has a name and an amount above zero.
#[must_use]
pub fn is_valid(text: &str) -> bool {
    parse(text).all(|(name, amount)| !name.is_empty() && amount > 0)
}
