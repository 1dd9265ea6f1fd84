//! Numbers as expressions compare them.
//!
//! The library compares all numbers as doubles, with a tolerance. That is right for fractions, but wrong for whole
//! numbers: ids of 17 digits are whole numbers. So whole numbers, however they are written (`1`, `1.0`, `1e0`), are
//! compared exactly here, and the library compares the others. A whole number that does not fit into 64 bits counts as
//! the nearest double.

use core::cmp::Ordering;

use jmespath::Variable;
use jmespath::ast::Comparator;

/// Doubles from here on are whole, and compared as doubles.
const HUGE: f64 = 1e38;

/// The value, if it is a whole number.
pub(crate) fn whole(value: &Variable) -> Option<i128> {
    let Variable::Number(number) = value else { return None };
    if let Some(whole) = number.as_i64() {
        return Some(i128::from(whole));
    }
    if let Some(whole) = number.as_u64() {
        return Some(i128::from(whole));
    }
    let double = number.as_f64().filter(|double| double.abs() < HUGE)?;
    let whole = double as i128;
    (whole as f64 == double).then_some(whole)
}

/// Whether two values that are neither lists nor objects are equal.
pub(super) fn equal_scalars(one: &Variable, other: &Variable) -> bool {
    match (whole(one), whole(other)) {
        (Some(one), Some(other)) => one == other,
        (None, None) => one == other,
        _ => false,
    }
}

/// Whether two values are equal.
pub(crate) fn equal(one: &Variable, other: &Variable) -> bool {
    match (one, other) {
        (Variable::Array(one), Variable::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| equal(one, other))
        }
        (Variable::Object(one), Variable::Object(other)) => {
            let mut fields = one.iter().zip(other);
            one.len() == other.len()
                && fields.all(|((name, one), (of, other))| name == of && equal(one, other))
        }
        (one, other) => equal_scalars(one, other),
    }
}

/// The order of two whole numbers; `None` if either is not whole.
pub(super) fn order(one: &Variable, other: &Variable) -> Option<Ordering> {
    Some(whole(one)?.cmp(&whole(other)?))
}

/// Compares by order like the library: numbers only.
pub(super) fn compare(comparator: &Comparator, one: &Variable, other: &Variable) -> Option<bool> {
    let Some(order) = order(one, other) else { return one.compare(comparator, other) };
    Some(match comparator {
        Comparator::Equal => order.is_eq(),
        Comparator::NotEqual => order.is_ne(),
        Comparator::LessThan => order.is_lt(),
        Comparator::LessThanEqual => order.is_le(),
        Comparator::GreaterThan => order.is_gt(),
        Comparator::GreaterThanEqual => order.is_ge(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Variable {
        Variable::from_json(text).unwrap()
    }

    #[test]
    fn whole_numbers_are_compared_exactly_and_others_with_the_tolerance() {
        for (one, other) in [
            ("1", "1.0"),
            ("1e2", "100"),
            ("0", "-0.0"),
            ("[1, {\"a\": 1}]", "[1.0, {\"a\": 10e-1}]"),
            ("0.71", "0.7100000000000002"),
            ("9007199254740992", "9007199254740992.0"),
            ("1e300", "1e300"),
            ("-9223372036854775808", "-9223372036854775808.0"),
            // These do not fit into 64 bits: both are the nearest double.
            ("18446744073709551616", "18446744073709551617"),
            ("-9223372036854775809", "-9223372036854775808.0"),
        ] {
            assert!(equal(&read(one), &read(other)) && equal(&read(other), &read(one)), "{one} {other}");
        }
        for (one, other) in [
            ("76561197980428154", "76561197980428155"),
            ("9007199254740992", "9007199254740993"),
            ("9007199254740993", "9007199254740992.0"),
            ("18446744073709551615", "18446744073709551614"),
            ("[76561197980428154]", "[76561197980428155]"),
            ("1", "1.0000000000000002"),
            ("5", "5.000000000000001"),
            ("1", "\"1\""),
            ("0", "false"),
            ("[1]", "[1, 1]"),
        ] {
            assert!(!equal(&read(one), &read(other)) && !equal(&read(other), &read(one)), "{one} {other}");
        }
    }

    #[test]
    fn whole_numbers_are_ordered_exactly() {
        let (less, more) = (read("76561197980428154"), read("76561197980428155"));
        assert_eq!(compare(&Comparator::LessThan, &less, &more), Some(true));
        assert_eq!(compare(&Comparator::GreaterThanEqual, &less, &more), Some(false));
        assert_eq!(compare(&Comparator::LessThan, &read("1.5"), &read("2")), Some(true));
        assert_eq!(compare(&Comparator::LessThan, &read("\"a\""), &read("2")), None);
    }
}
