//! Numbers as expressions compare them.
//!
//! The library compares all numbers as doubles, with a tolerance. That is right for fractions, but wrong for whole
//! numbers: ids of 17 digits are whole numbers. So whole numbers, however they are written (`1`, `1.0`, `1e0`) and
//! however long they are, are compared exactly here, and the library compares the others. Only results of calculations
//! beyond 64 bits count as the nearest double.

use core::cmp::Ordering;

use jmespath::ast::Comparator;
use jmespath::{Rcvar, Variable};

use super::reading::Long;

/// Doubles from here on are whole, and compared as doubles.
const HUGE: f64 = 1e38;

/// The value, if it is a whole number that fits.
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

/// A whole number as a value; `None` beyond 64 bits.
fn value_of(whole: i128) -> Option<Rcvar> {
    let value = match (i64::try_from(whole), u64::try_from(whole)) {
        (Ok(whole), _) => Variable::from_serializable(whole),
        (_, Ok(whole)) => Variable::from_serializable(whole),
        _ => return None,
    };
    value.ok().map(Rcvar::new)
}

/// Whether a value is a number, of any length.
pub(super) fn is_number(value: &Variable) -> bool {
    value.is_number() || Long::of(value).is_some()
}

/// Whether two values that are neither lists nor objects, except for long numbers, are equal.
pub(super) fn equal_scalars(one: &Variable, other: &Variable) -> bool {
    if let Some(order) = order_of_long(one, other) {
        return order.is_eq();
    }
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

/// The order of two numbers of which one is longer than 64 bits; `None` if neither is, or one is not a number.
fn order_of_long(one: &Variable, other: &Variable) -> Option<Ordering> {
    match (Long::of(one), Long::of(other)) {
        (Some(one), Some(other)) => Some(one.order(other)),
        (Some(one), None) => order_with_short(one, other),
        (None, Some(other)) => order_with_short(other, one).map(Ordering::reverse),
        (None, None) => None,
    }
}

fn order_with_short(long: Long<'_>, short: &Variable) -> Option<Ordering> {
    let Variable::Number(number) = short else { return None };
    if number.is_f64() {
        return long.double().partial_cmp(&number.as_f64()?);
    }
    Some(if long.is_negative() { Ordering::Less } else { Ordering::Greater })
}

/// The order of two numbers that are whole, or of which one is longer than 64 bits; `None` for others.
pub(super) fn order(one: &Variable, other: &Variable) -> Option<Ordering> {
    order_of_long(one, other).or_else(|| Some(whole(one)?.cmp(&whole(other)?)))
}

/// The order in which values are sorted. It never contradicts itself, as it must not for sorting: numbers are ordered
/// by their nearest doubles, those with the same one by their exact values, and results of calculations that are not
/// exact come before these.
pub(super) fn sorted(one: &Variable, other: &Variable) -> Ordering {
    let (Some(first), Some(second)) = (double(one), double(other)) else { return one.cmp(other) };
    let is_exact = |value| Long::of(value).is_some() || whole(value).and_then(value_of).is_some();
    let by_value = || match (is_exact(one), is_exact(other)) {
        (true, true) => order(one, other).unwrap_or(Ordering::Equal),
        (one, other) => one.cmp(&other),
    };
    first.total_cmp(&second).then_with(by_value)
}

/// The nearest double of a number.
fn double(value: &Variable) -> Option<f64> {
    // Adding zero makes a negative zero positive: they are equal.
    Long::of(value).map(Long::double).or_else(|| value.as_number()).map(|double| double + 0.0)
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

/// `abs`, `ceil` or `floor` of a whole number, and `sum` of whole numbers; `None` for others, and beyond 64 bits.
pub(super) fn calculated(name: &str, argument: &Variable) -> Option<Rcvar> {
    match name {
        "abs" => value_of(whole(argument)?.checked_abs()?),
        "ceil" | "floor" => value_of(whole(argument)?),
        "sum" => {
            let mut items = argument.as_array()?.iter();
            value_of(items.try_fold(0_i128, |sum, item| sum.checked_add(whole(item)?))?)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Variable {
        super::super::read(text).unwrap()
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
            ("1e300", "10e299"),
            ("-9223372036854775808", "-9223372036854775808.0"),
            ("9007199254740993", "9007199254740993.0"),
            ("[9007199254740993]", "[90071992547409930e-1]"),
            ("18446744073709551616", "18446744073709551616.0"),
            ("123456789012345678901234567890", "12345678901234567890123456789e1"),
        ] {
            assert!(equal(&read(one), &read(other)) && equal(&read(other), &read(one)), "{one} {other}");
        }
        for (one, other) in [
            ("76561197980428154", "76561197980428155"),
            ("9007199254740992", "9007199254740993"),
            ("9007199254740993", "9007199254740992.0"),
            ("18446744073709551615", "18446744073709551614"),
            ("18446744073709551616", "18446744073709551617"),
            ("18446744073709551615", "18446744073709551616"),
            ("-9223372036854775809", "-9223372036854775808.0"),
            ("123456789012345678901234567890", "123456789012345678901234567891"),
            ("123456789012345678901234567890", "-123456789012345678901234567890"),
            ("123456789012345678901234567890", "\"123456789012345678901234567890\""),
            ("123456789012345678901234567890", "{}"),
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
        let (less, more) = (read("123456789012345678901234567890"), read("123456789012345678901234567891"));
        assert_eq!(compare(&Comparator::LessThan, &less, &more), Some(true));
        assert_eq!(compare(&Comparator::GreaterThan, &read("-1e30"), &read("7")), Some(false));
        assert_eq!(compare(&Comparator::GreaterThan, &read("1e30"), &read("0.5")), Some(true));
        assert_eq!(compare(&Comparator::GreaterThan, &read("1e30"), &read("\"a\"")), None);
        assert_eq!(compare(&Comparator::LessThan, &read("1.5"), &read("2")), Some(true));
        assert_eq!(compare(&Comparator::LessThan, &read("\"a\""), &read("2")), None);
    }

    #[test]
    fn the_order_of_sorting_never_contradicts_itself() {
        let mut values: alloc::vec::Vec<Variable> = [
            "-1e30",
            "-7",
            "-0.0",
            "0",
            "0.5",
            "5",
            "5.5",
            "9007199254740992",
            "9007199254740993",
            "18446744073709551615",
            "18446744073709551616",
            "18446744073709551617",
            "1e38",
            "100000000000000000000000000000000000001",
            "1e400",
        ]
        .map(read)
        .into();
        // Results of calculations beyond 64 bits.
        values.extend(
            [1e38, 18_446_744_073_709_551_616.0].map(|double| Variable::from_serializable(double).unwrap()),
        );
        for a in &values {
            assert_eq!(sorted(a, a), Ordering::Equal);
            for b in &values {
                assert_eq!(sorted(a, b), sorted(b, a).reverse(), "{a} {b}");
                for c in &values {
                    if sorted(a, b).is_le() && sorted(b, c).is_le() {
                        assert!(sorted(a, c).is_le(), "{a} {b} {c}");
                    }
                }
            }
        }
        assert_eq!(sorted(&read("-0.0"), &read("0")), Ordering::Equal);
        assert_eq!(sorted(&read("18446744073709551616"), &read("18446744073709551617")), Ordering::Less);
    }
}
