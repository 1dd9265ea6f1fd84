//! A settings file as one tree of values: JSON with comments and trailing commas, or TOML, by its extension.
//!
//! JSON is not read into `serde_json::Value` at once: of a repeated key it would keep the last one and say nothing.

use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// Largest settings file, in bytes; keys in files of their own are held to it too.
pub const MAX_FILE_BYTES: u64 = 1 << 20;

/// The tree of the file at `path`, or what is wrong with it.
pub(super) fn read(path: &Path) -> Result<Value, String> {
    let extension = path.extension().unwrap_or_default().to_ascii_lowercase();
    let parse = match extension.to_str() {
        Some("json" | "jsonc" | "json5") => json,
        Some("toml") => toml,
        _ => return Err("must be named .json or .toml, after its format".to_owned()),
    };
    parse(read_text(path)?)
}

/// The text of the file at `path`, or what is wrong with it.
pub(super) fn read_text(path: &Path) -> Result<String, String> {
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

fn json(mut text: String) -> Result<Value, String> {
    json_strip_comments::strip(&mut text)
        .map_err(|_| "is no valid JSON: a slash begins no comment".to_owned())?;
    // Some editors begin a file with a byte order mark.
    let text = text.trim_start_matches('\u{feff}');
    let Strict(tree) = serde_json::from_str(text).map_err(|error| format!("is no valid JSON: {error}"))?;
    Ok(tree)
}

#[allow(clippy::needless_pass_by_value, reason = "the same shape as `json`, which changes the text")]
fn toml(text: String) -> Result<Value, String> {
    // The error's own text would quote the line, which may hold a secret.
    let described = |error: toml::de::Error| {
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        let message = error.message().lines().collect::<Vec<_>>().join("; ");
        format!("is no valid TOML: {message} at line {line}")
    };
    let parsed = toml::Deserializer::parse(&text).and_then(Strict::deserialize);
    parsed.map(|Strict(tree)| tree).map_err(described)
}

/// A value in which no key is given twice.
struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Build).map(Self)
    }
}

struct Build;

impl<'de> Visitor<'de> for Build {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text, a number, true, false, a list or a table")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Strict(entry)) = entries.next_element()? {
            list.push(entry);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut table = Map::new();
        while let Some((key, Strict(value))) = entries.next_entry::<String, Strict>()? {
            if table.contains_key(&key) {
                return Err(A::Error::custom(format_args!("the key {key:?} is given twice")));
            }
            table.insert(key, value);
        }
        Ok(Value::Object(table))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_trailing_commas_and_a_byte_order_mark_are_no_fault() {
        let text = "\u{feff}{ // one\n \"a\": [1, 2,], /* two */ \"b\": \"http://x\",\n}";
        assert_eq!(json(text.to_owned()), Ok(serde_json::json!({"a": [1, 2], "b": "http://x"})));
    }

    #[test]
    fn a_key_that_is_given_twice_is_refused() {
        let error = json(r#"{"a": {"b": 1, "b": 2}}"#.to_owned()).unwrap_err();
        assert!(error.starts_with("is no valid JSON: the key \"b\" is given twice at line 1"), "{error}");
        assert!(toml("a = 1\na = 2".to_owned()).is_err());
    }

    #[test]
    fn a_toml_error_names_the_line_and_quotes_none() {
        let error = toml("listen = 'x'\nkey = 'hunter2' oops".to_owned()).unwrap_err();
        assert!(error.contains("line 2") && !error.contains("hunter2"), "{error}");
    }

    #[test]
    fn deep_nesting_does_not_overflow_the_stack() {
        let deep = "[".repeat(10_000);
        assert!(json(deep.clone()).is_err());
        assert!(toml(format!("a = {deep}")).is_err());
    }
}
