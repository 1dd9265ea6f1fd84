//! Reads JSON for expressions without losing the digits of whole numbers.
//!
//! The library reads a number that has a point or an exponent, or is longer than 64 bits, as a double. So a whole
//! number of up to 64 bits that is written in that way is rewritten without point and exponent first, and a longer one
//! becomes a [`Long`]: an object with one member, and the number as a text with one form for each value. Whatever
//! handles numbers knows about it. Properties may contain such an object too: it is then the number that it spells, and
//! any other spelling is an object.

use alloc::borrow::Cow;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use core::cmp::Ordering;

use jmespath::{Rcvar, Variable};

/// The member of an object that is a number of more than 64 bits.
const NAME: &str = "\u{0}number";
/// Whole numbers up to here are doubles without loss.
const EXACT: u64 = 1 << 53;
/// Numbers of fewer digits, without point and exponent, fit into 64 bits.
const SHORT: usize = 19;

/// A whole number of more than 64 bits: its digits without trailing zeros, and how many zeros follow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Long<'a> {
    negative: bool,
    digits: &'a str,
    zeros: u32,
}

impl<'a> Long<'a> {
    /// The number that a value is, if it is one.
    pub(super) fn of(value: &'a Variable) -> Option<Self> {
        let Variable::Object(fields) = value else { return None };
        let text = fields.get(NAME).filter(|_| fields.len() == 1)?.as_string()?;
        let (negative, rest) = text.strip_prefix('-').map_or((false, text.as_str()), |rest| (true, rest));
        let (digits, zeros) = rest.split_once('e')?;
        let is_one = digits.bytes().all(|digit| digit.is_ascii_digit())
            && !digits.starts_with('0')
            && !digits.ends_with('0');
        let zeros = zeros.parse().ok().filter(|_| is_one && !digits.is_empty())?;
        short(negative, digits, zeros).is_none().then_some(Self { negative, digits, zeros })
    }

    /// The nearest double.
    pub(super) fn double(self) -> f64 {
        let sign = if self.negative { "-" } else { "" };
        format!("{sign}{}e{}", self.digits, self.zeros).parse().unwrap_or(f64::MAX)
    }

    pub(super) const fn is_negative(self) -> bool {
        self.negative
    }

    pub(super) fn order(self, other: Self) -> Ordering {
        let size = |of: Self| of.digits.len() as u64 + u64::from(of.zeros);
        let by_size = size(self).cmp(&size(other)).then_with(|| self.digits.cmp(other.digits));
        match (self.negative, other.negative) {
            (false, true) => Ordering::Greater,
            (true, false) => Ordering::Less,
            (false, false) => by_size,
            (true, true) => by_size.reverse(),
        }
    }
}

/// A value as the library's functions know it: numbers of more than 64 bits as doubles, also within it.
pub(super) fn plain(value: &Rcvar) -> Rcvar {
    if let Some(long) = Long::of(value) {
        return Variable::from_serializable(long.double()).map_or_else(|_| Rcvar::clone(value), Rcvar::new);
    }
    match &**value {
        Variable::Array(items) => Rcvar::new(Variable::Array(items.iter().map(plain).collect())),
        Variable::Object(fields) => {
            let fields: BTreeMap<String, Rcvar> =
                fields.iter().map(|(name, field)| (name.clone(), plain(field))).collect();
            Rcvar::new(Variable::Object(fields))
        }
        _ => Rcvar::clone(value),
    }
}

/// The value of a JSON text as expressions see it; `None` if it is not JSON.
pub(crate) fn read(text: &str) -> Option<Variable> {
    let exact = match exactly(text) {
        Cow::Owned(exact) => Variable::from_json(&exact).ok(),
        Cow::Borrowed(_) => None,
    };
    // An object in place of a number may be nested too deeply.
    exact.or_else(|| Variable::from_json(text).ok())
}

/// An expression in which the JSON between backticks is written so that the library reads it without loss.
pub(super) fn exact_literals(expression: &str) -> Cow<'_, str> {
    if !expression.contains('`') {
        return Cow::Borrowed(expression);
    }
    let (mut written, mut rest, mut changed) = (String::new(), expression, false);
    while let Some(begin) = rest.find(['`', '\'', '"']) {
        let quote = rest.as_bytes().get(begin).copied().unwrap_or_default();
        let Some(length) = quoted(rest.get(begin + 1..).unwrap_or_default(), quote) else { break };
        let end = begin + 1 + length;
        let inner = rest.get(begin + 1..end).unwrap_or_default();
        written.push_str(rest.get(..=begin).unwrap_or_default());
        let exact = if quote == b'`' { exactly(inner) } else { Cow::Borrowed(inner) };
        changed |= matches!(exact, Cow::Owned(_));
        written.push_str(&exact);
        written.push(char::from(quote));
        rest = rest.get(end + 1..).unwrap_or_default();
    }
    written.push_str(rest);
    if changed { Cow::Owned(written) } else { Cow::Borrowed(expression) }
}

/// The length of the text up to the closing quote.
fn quoted(text: &str, quote: u8) -> Option<usize> {
    let mut escaped = false;
    text.bytes().position(|byte| {
        let ends = !escaped && byte == quote;
        escaped = !escaped && byte == b'\\';
        ends
    })
}

/// A JSON text with exact whole numbers; borrowed if nothing has to be changed.
fn exactly(text: &str) -> Cow<'_, str> {
    let (mut written, mut copied, mut at) = (String::new(), 0, 0);
    let bytes = text.as_bytes();
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => at += 2 + quoted(text.get(at + 1..).unwrap_or_default(), b'"').unwrap_or(text.len()),
            b'-' | b'0'..=b'9' => {
                let is_part = |byte: &u8| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E');
                let length = bytes.iter().skip(at).take_while(|byte| is_part(byte)).count();
                let token = text.get(at..at + length).unwrap_or_default();
                if let Some(exact) = exact_number(token) {
                    written.push_str(text.get(copied..at).unwrap_or_default());
                    written.push_str(&exact);
                    copied = at + length;
                }
                at += length;
            }
            _ => at += 1,
        }
    }
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    written.push_str(text.get(copied..).unwrap_or_default());
    Cow::Owned(written)
}

/// A whole number as a text without exponent, and its absolute value; `None` if it has more than 64 bits.
fn short(negative: bool, digits: &str, zeros: u32) -> Option<(String, u64)> {
    /// Digits of the largest number of 64 bits.
    const MAX_DIGITS: u64 = 20;
    if digits.len() as u64 + u64::from(zeros) > MAX_DIGITS {
        return None;
    }
    let sign = if negative { "-" } else { "" };
    let short = format!("{sign}{digits}{}", "0".repeat(zeros as usize));
    let size = short.parse::<i64>().map(i64::unsigned_abs).or_else(|_| short.parse::<u64>()).ok()?;
    Some((short, size))
}

/// How a number is written so that it is read exactly; `None` if it need not be rewritten.
fn exact_number(token: &str) -> Option<String> {
    let is_plain = token.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
    if is_plain && token.len() < SHORT {
        return None;
    }
    let (negative, rest) = token.strip_prefix('-').map_or((false, token), |rest| (true, rest));
    let (mantissa, exponent) = rest.split_once(['e', 'E']).unwrap_or((rest, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = [whole, fraction].concat();
    let exponent = exponent.parse::<i64>().ok()?.checked_sub(i64::try_from(fraction.len()).ok()?)?;
    let digits = digits.trim_start_matches('0');
    let significant = digits.trim_end_matches('0');
    let zeros = exponent.checked_add(i64::try_from(digits.len() - significant.len()).ok()?)?;
    let zeros = u32::try_from(zeros).ok().filter(|_| !significant.is_empty())?;
    if let Some((short, size)) = short(negative, significant, zeros) {
        let is_read_exactly = size <= EXACT || short == token;
        return (!is_read_exactly).then_some(short);
    }
    let sign = if negative { "-" } else { "" };
    let name = Variable::String(NAME.to_string()).to_string();
    Some(format!("{{{name}:\"{sign}{significant}e{zeros}\"}}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_are_rewritten_where_the_library_would_lose_digits() {
        for (text, exact) in [
            ("9007199254740993.0", "9007199254740993"),
            ("[-9007199254740993e0, 1.0]", "[-9007199254740993, 1.0]"),
            (r#"{"a\"1e30":123456789012345678e1}"#, r#"{"a\"1e30":1234567890123456780}"#),
            ("18446744073709551615.00", "18446744073709551615"),
            ("18446744073709551616", r#"{"\u0000number":"18446744073709551616e0"}"#),
            ("-1.5e30", r#"{"\u0000number":"-15e29"}"#),
            ("[100000000000000000000000]", r#"[{"\u0000number":"1e23"}]"#),
        ] {
            assert_eq!(exactly(text), exact, "{text}");
            assert!(read(text).is_some(), "{text}");
        }
        for text in [
            "1e3",
            "0",
            "-0.0",
            "1.5",
            "9007199254740993",
            "0.1234567890123456789",
            "-9223372036854775808",
            "\"1e99\"",
            "",
        ] {
            assert_eq!(exactly(text), text);
        }
        let deep = format!("{}1e30{}", "[".repeat(126), "]".repeat(126));
        assert!(Variable::from_json(&deep).is_ok() && read(&deep).is_some());
        assert_eq!(
            exact_literals("a == `9007199254740993.0` && b == '`9007199254740993.0`' && \"c`\" == `\"`"),
            "a == `9007199254740993` && b == '`9007199254740993.0`' && \"c`\" == `\"`"
        );
    }

    #[test]
    fn long_numbers_are_ordered_by_their_digits() {
        let ascending = [
            "-1e40",
            "-123456789012345678901",
            "18446744073709551617",
            "18446744073709551618",
            "1e20",
            "10001e16",
        ];
        let read = ascending.map(|text| read(text).unwrap());
        let longs: alloc::vec::Vec<_> = read.iter().map(|value| Long::of(value).unwrap()).collect();
        for pair in longs.windows(2) {
            assert_eq!((pair[0].order(pair[1]), pair[1].order(pair[0])), (Ordering::Less, Ordering::Greater));
            assert_eq!(pair[0].order(pair[0]), Ordering::Equal);
        }
        assert!((longs[0].double() - -1e40).abs() < 1e25);
    }

    #[test]
    fn an_object_that_spells_a_number_otherwise_is_an_object() {
        let is_long = |spelled: &str| {
            let text = format!(r#"{{"\u0000number":"{spelled}"}}"#);
            Long::of(&read(&text).unwrap()).is_some()
        };
        for spelled in ["1e20", "18446744073709551616e0", "-9223372036854775809e0", "15e29"] {
            assert!(is_long(spelled), "{spelled}");
        }
        for spelled in [
            "5e0",
            "0e0",
            "",
            "e5",
            "1e19",
            "10e30",
            "01e30",
            "18446744073709551615e0",
            "-1e18",
            "1.5e30",
            "1e-3",
            "1",
        ] {
            assert!(!is_long(spelled), "{spelled}");
        }
    }
}
