//! Numbers and durations in words for people.

use alloc::format;
use alloc::string::String;
use core::fmt;
use core::time::Duration;

/// An ordinal number, like `2nd`.
pub(crate) struct Ordinal(pub(crate) usize);

impl fmt::Display for Ordinal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ending = match (self.0 % 10, self.0 % 100) {
            (_, 11..=13) => "th",
            (1, _) => "st",
            (2, _) => "nd",
            (3, _) => "rd",
            _ => "th",
        };
        write!(f, "{}{ending}", self.0)
    }
}

/// A duration with the precision that people need.
pub(crate) fn seconds(duration: Duration) -> String {
    match duration.as_millis() {
        0..10_000 => format!("{:.1} s", duration.as_secs_f64()),
        10_000..120_000 => format!("{} s", duration.as_secs()),
        _ => format!("{} min", duration.as_secs() / 60),
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString as _;

    use super::*;

    #[test]
    fn ordinals_end_as_people_say_them() {
        let ordinals = [1, 2, 3, 4, 10, 11, 12, 13, 21, 22, 111, 101].map(|n| Ordinal(n).to_string());
        let expected =
            ["1st", "2nd", "3rd", "4th", "10th", "11th", "12th", "13th", "21st", "22nd", "111th", "101st"];
        assert_eq!(ordinals, expected);
    }

    #[test]
    fn durations_have_the_precision_that_people_need() {
        let said = [0, 940, 9_960, 12_000, 119_999, 120_000].map(|ms| seconds(Duration::from_millis(ms)));
        assert_eq!(said, ["0.0 s", "0.9 s", "10.0 s", "12 s", "119 s", "2 min"]);
    }
}
