//! Durations as text with a unit: `#[serde(with = "duration")]`, and `duration::optional` for one that may be missing.
//!
//! Both notations are accepted: Go's, used by the Catena sidecar (`"5s"`, `"1m30s"`, `"1.5h"`), and the one of the rest
//! of Sortie (`"1m 30s"`, `"2 hours"`). A number without a unit is refused: it would mean nanoseconds in Go and seconds
//! to everybody who writes it.

use std::fmt;
use std::time::Duration;

use serde::de::{Deserializer, Error, Visitor};
use serde::ser::Serializer;

/// The expected form, for error messages.
const RIGHT: &str = "a duration with a unit, like \"5s\", \"1m30s\" or \"250ms\"";

/// Parses a duration.
///
/// # Errors
/// What would be valid.
pub fn parse(text: &str) -> Result<Duration, String> {
    let wrong = |why: String| format!("must be {RIGHT}; {:?} is not{why}", super::reading::cut(text));
    sortie_config_file::duration(text).map_err(|problem| wrong(format!(": {problem}")))
}

/// Deserializes a duration.
///
/// # Errors
/// What would be valid.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    deserializer.deserialize_str(Text)
}

/// Serializes a duration, as text that parses to the same value.
///
/// # Errors
/// The serializer's.
pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&humantime::format_duration(*duration))
}

/// The same for `Option<Duration>`; add `#[serde(default)]` if the key is optional.
pub mod optional {
    use std::time::Duration;

    use serde::{Deserialize as _, Deserializer, Serializer};

    /// Deserializes an optional duration.
    ///
    /// # Errors
    /// What would be valid.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        #[derive(serde::Deserialize)]
        struct Given(#[serde(with = "super")] Duration);
        Ok(Option::<Given>::deserialize(deserializer)?.map(|Given(duration)| duration))
    }

    /// Serializes an optional duration.
    ///
    /// # Errors
    /// The serializer's.
    #[allow(clippy::ref_option, reason = "serde passes the field by reference")]
    pub fn serialize<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        match duration {
            Some(duration) => super::serialize(duration, serializer),
            None => serializer.serialize_none(),
        }
    }
}

struct Text;

impl Visitor<'_> for Text {
    type Value = Duration;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(RIGHT)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Duration, E> {
        parse(text).map_err(E::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_of_writing_are_read() {
        for (text, millis) in [
            ("5s", 5000),
            ("1m30s", 90_000),
            ("1h15m30.5s", 4_530_500),
            ("1.5h", 5_400_000),
            ("250ms", 250),
            ("1000us", 1),
            ("1000\u{b5}s", 1),
            ("1000\u{3bc}s", 1),
            ("1m 30s", 90_000),
            ("2 hours", 7_200_000),
            ("0s", 0),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn anything_else_gets_an_error_that_says_what_is_valid() {
        let longest = "18446744073709551615s1000000000ns";
        let long = "1s ".repeat(40);
        for text in ["", "5", "s", "-5s", "5 s s", "5parsecs", longest, long.as_str(), "1s\0"] {
            let error = parse(text).unwrap_err();
            assert!(error.starts_with("must be a duration with a unit, like \"5s\""), "{error}");
            assert!(error.len() < 400, "{error}");
        }
    }

    #[test]
    fn durations_survive_a_round_trip() {
        #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
        struct Both {
            #[serde(with = "super")]
            one: Duration,
            #[serde(with = "super::optional", default)]
            other: Option<Duration>,
        }
        for both in [
            Both { one: Duration::from_millis(90_005), other: None },
            Both { one: Duration::ZERO, other: Some(Duration::from_nanos(1)) },
        ] {
            let text = serde_json::to_string(&both).unwrap();
            assert_eq!(serde_json::from_str::<Both>(&text).unwrap(), both, "{text}");
        }
        let error = serde_json::from_str::<Both>(r#"{"one": 5}"#).unwrap_err().to_string();
        assert!(error.contains("invalid type: integer `5`, expected a duration with a unit"), "{error}");
        let error = serde_json::from_str::<Both>(r#"{"one": "1s", "other": 5}"#).unwrap_err().to_string();
        assert!(error.contains("expected a duration with a unit"), "{error}");
    }
}
