//! Values of properties: as keys by which tickets are kept apart, and as expressions see them.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};

use jmespath::{Rcvar, Variable};

use crate::content::Digest;
use crate::ids::PlayerId;
use crate::properties::Properties;
use crate::requirements::{read, whole};

/// The value of a missing property.
pub(crate) const NULL: &str = "null";
/// Maximum length of a text in a key, in bytes; longer ones are replaced by their digest.
const MAX_IN_KEY: usize = 128;

/// The number of a JSON value.
pub(crate) fn as_number(value: &str) -> Option<f64> {
    let first = value.bytes().next()?;
    if first != b'-' && !first.is_ascii_digit() {
        return None;
    }
    value.parse().ok().filter(|number: &f64| number.is_finite())
}

/// A value as text, such that exactly the equivalent values have the same text: `1`, `1.0` and `10e-1` do,
/// `9007199254740992` and `9007199254740993` do not. Short words and plain texts stay as they are written, and other
/// values are replaced by their digest.
pub(crate) fn write_value(value: &str, out: &mut String) {
    let is_word = matches!(value, "true" | "false" | NULL);
    let is_plain = value.starts_with('"') && !value.contains('\\') && value.len() <= MAX_IN_KEY;
    if is_word || is_plain {
        out.push_str(value);
        return;
    }
    out.push('#');
    for byte in Digest::of_json(value).to_bytes() {
        out.push_str(&format!("{byte:02x}"));
    }
}

/// Maximum length in bytes of a text that is distinguished from others; longer ones only have their kind.
const MAX_KIND: usize = 1_024;

/// A text that is the same for any two values that expressions call equal, and different for most others: short texts
/// and whole numbers are distinguished, other values only by their kind, because each of them can be written in several
/// ways.
///
/// A number is read as expressions read it, which may differ from [`as_number`] in the last bit.
pub(crate) fn write_kind(value: &str, out: &mut String) {
    let number = value.starts_with(|first: char| first == '-' || first.is_ascii_digit());
    let number = number.then(|| read(value)).flatten();
    match number.as_ref().map(|number| (whole(number), number)) {
        Some((Some(whole), _)) => out.push_str(&whole.to_string()),
        // An object only in memory: a whole number of more than 64 bits.
        Some((None, Variable::Object(_))) => write_value(value, out),
        Some(_) => out.push_str("number"),
        None if value.len() > MAX_KIND => out.push_str("long"),
        None if value.starts_with(['{', '[']) => out.push_str(&value[..1]),
        None => write_value(value, out),
    }
}

/// Properties as expressions see them.
pub(crate) fn variable(properties: &Properties) -> Rcvar {
    // The text was validated when the properties were created, so the fallback is never used.
    let parsed = properties.text().and_then(read);
    Rcvar::new(parsed.unwrap_or_else(|| Variable::Object(BTreeMap::new())))
}

pub(crate) fn object<const N: usize>(fields: [(&str, Rcvar); N]) -> Rcvar {
    let fields = fields.into_iter().map(|(name, value)| (name.to_string(), value));
    Rcvar::new(Variable::Object(fields.collect()))
}

pub(crate) fn text(text: &str) -> Rcvar {
    Rcvar::new(Variable::String(text.to_string()))
}

pub(crate) fn number(value: f64) -> Rcvar {
    Rcvar::new(Variable::from_serializable(value).unwrap_or(Variable::Null))
}

pub(crate) fn list<'a>(players: impl Iterator<Item = &'a PlayerId>) -> Rcvar {
    Rcvar::new(Variable::Array(players.map(|player| text(player.as_str())).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::requirements::equal;

    fn kind(value: &str) -> String {
        let mut kind = String::new();
        write_kind(value, &mut kind);
        kind
    }

    /// Two tickets in different pools never meet, so pools must not separate values that an expression calls equal.
    #[test]
    fn values_that_expressions_call_equal_are_of_one_kind() {
        let values = [
            "5",
            "5.0",
            "50e-1",
            "5.000000000000001",
            "5.0000000000000004",
            "5.00000000000000044408920985006261616945266723632812",
            "5.00000000000000044408920985006261616945266723632813",
            "0",
            "-0.0",
            "0.1",
            "0.30000000000000004",
            "0.3",
            "-7",
            "9007199254740992",
            "9007199254740993",
            "9007199254740993.0",
            "76561197980428154",
            "76561197980428155",
            "18446744073709551615",
            "18446744073709551616",
            "18446744073709551617",
            "18446744073709551617.0",
            "123456789012345678901234567890",
            "12345678901234567890123456789e1",
            "1e37",
            "1e38",
            "1e300",
            "\"5\"",
            "true",
            "null",
            "[5]",
            "[5.0]",
        ];
        for one in values {
            for other in values {
                let read = |text: &str| read(text).unwrap();
                if equal(&read(one), &read(other)) {
                    assert_eq!(kind(one), kind(other), "{one} and {other}");
                }
            }
        }
        // Among unequal numbers, whole ones are distinguished, also from fractions next to them.
        for (one, other) in
            [("5", "5.000000000000001"), ("76561197980428154", "76561197980428155"), ("5", "\"5\"")]
        {
            assert_ne!(kind(one), kind(other), "{one} and {other}");
        }
    }
}
