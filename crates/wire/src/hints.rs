//! Hint flags on the wire.
//!
//! The contract types `hintFlags` as an enum but uses it as a bit set, so a combination has no name. Its JSON form: in
//! output, one flag as its name and a combination as a number; in input, a name, a number, or a number in a string.
//! Unknown bits are refused both in JSON and, by [`check`], over gRPC: ignoring them would suggest that the hint was
//! understood.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, Unexpected, Visitor};

pub use crate::catena::server_manager::HintFlag;

/// All known bits.
pub const ALL: u32 = HintFlag::Shutdown as u32
    | HintFlag::WillingToWait as u32
    | HintFlag::WillingToShutdown as u32
    | HintFlag::Full as u32
    | HintFlag::NotFull as u32;

/// Names of the fields that carry hints, in any message: both forms that JSON may use.
pub(crate) const FIELD_NAMES: [&str; 2] = ["hintFlags", "hint_flags"];

/// Some bits of a hint field have no name.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("hintFlags: {bits} has unknown bits; the flags are 1, 2, 4, 8 and 16 and their sums, up to {ALL}")]
pub struct UnknownHints {
    /// The whole field.
    pub bits: u32,
}

/// Returns `bits` if all of them are known.
///
/// # Errors
/// [`UnknownHints`] otherwise.
pub const fn check(bits: u32) -> Result<u32, UnknownHints> {
    if bits & !ALL == 0 { Ok(bits) } else { Err(UnknownHints { bits }) }
}

/// The name of `bits` if it is exactly one flag.
pub(crate) fn name_of_one(bits: u32) -> Option<&'static str> {
    if bits.count_ones() != 1 {
        return None;
    }
    let flag = i32::try_from(bits).ok().and_then(|bits| HintFlag::try_from(bits).ok())?;
    Some(flag.as_str_name())
}

/// A hint field as it is read from JSON.
pub(crate) struct Hints(pub(crate) u32);

impl<'de> Deserialize<'de> for Hints {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(HintsVisitor).map(Self)
    }
}

struct HintsVisitor;

impl Visitor<'_> for HintsVisitor {
    type Value = u32;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a HINT_FLAG_ name, or a number from 0 to {ALL}: a sum of 1, 2, 4, 8 and 16")
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<u32, E> {
        let bits = u32::try_from(value).ok().and_then(|bits| check(bits).ok());
        bits.ok_or_else(|| E::invalid_value(Unexpected::Unsigned(value), &self))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<u32, E> {
        match u64::try_from(value) {
            Ok(value) => self.visit_u64(value),
            Err(_) => Err(E::invalid_value(Unexpected::Signed(value), &self)),
        }
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<u32, E> {
        if let Some(flag) = HintFlag::from_str_name(text) {
            return Ok(flag as u32);
        }
        match text.parse() {
            Ok(number) => self.visit_u64(number),
            Err(_) => Err(E::invalid_value(Unexpected::Str(text), &self)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_is_the_sum_of_the_flags() {
        assert_eq!(ALL, 31);
        assert_eq!(check(31), Ok(31));
        assert_eq!(check(33), Err(UnknownHints { bits: 33 }));
        assert!(UnknownHints { bits: 33 }.to_string().contains("hintFlags: 33"));
    }

    #[test]
    fn exactly_one_flag_has_a_name() {
        assert_eq!(name_of_one(0), None);
        assert_eq!(name_of_one(1), Some("HINT_FLAG_SHUTDOWN"));
        assert_eq!(name_of_one(16), Some("HINT_FLAG_NOT_FULL"));
        assert_eq!(name_of_one(3), None);
        assert_eq!(name_of_one(32), None);
        assert_eq!(name_of_one(1 << 31), None);
    }
}
