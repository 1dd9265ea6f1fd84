//! Settings files as trees of values, in the formats that people write them in.
//!
//! The formats' own value types are not used: those of JSON and YAML let a repeated key win silently, and YAML's
//! aliases can make a tree far larger than its text.

mod tree;

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

pub use tree::{Format, MAX_TEXT_BYTES, MAX_VALUES, parse};

/// Maximum size of a file, in bytes.
pub const MAX_FILE_BYTES: u64 = 1 << 20;
/// Maximum length of the text of a duration, in bytes.
const MAX_DURATION_BYTES: usize = 64;
/// Maximum number of consecutive digits in a duration. The parser's own arithmetic panics near the largest possible
/// number of seconds.
const MAX_DURATION_DIGITS: usize = 12;

/// The text of the file at `path`, which may begin with a byte order mark, as some editors write it.
///
/// # Errors
/// What is wrong with the file: it cannot be read, is larger than [`MAX_FILE_BYTES`], or is not UTF-8.
pub fn read_text(path: &Path) -> Result<String, String> {
    let file = File::open(path).map_err(|error| format!("cannot be opened: {error}"))?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| format!("cannot be read: {error}"))?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(format!("is larger than {MAX_FILE_BYTES} bytes"));
    }
    String::from_utf8(bytes)
        .map_err(|error| format!("is not UTF-8 at byte {}", error.utf8_error().valid_up_to()))
}

/// The duration in `text`, written as `"90s"`, `"1h 30m"` or, as in Go, `"1h30m"`.
///
/// # Errors
/// What is wrong with the text.
pub fn duration(text: &str) -> Result<Duration, String> {
    let longest = text.split(|one: char| !one.is_ascii_digit()).map(str::len).max();
    if text.len() > MAX_DURATION_BYTES || longest > Some(MAX_DURATION_DIGITS) {
        return Err("it is too long".to_owned());
    }
    // Microseconds are written with either of two letters that look alike.
    let text = text.replace('\u{3bc}', "\u{b5}");
    humantime::parse_duration(&text).map_err(|error| error.to_string())
}

/// The kind of a value, without the value.
#[must_use]
pub const fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a table",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_of_writing_a_duration_are_read() {
        for (text, millis) in [("90s", 90_000), ("1m 30s", 90_000), ("1m30s", 90_000), ("1.5h", 5_400_000)] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["250\u{b5}s", "250\u{3bc}s"] {
            assert_eq!(duration(text), Ok(Duration::from_micros(250)), "{text}");
        }
    }

    #[test]
    fn a_duration_that_is_none_or_too_long_is_refused() {
        for text in ["", "5", "5 apples", "-5s", "9999999999999s", &" 1s".repeat(30)] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
