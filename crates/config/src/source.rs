//! A file as one tree of values, whichever of the three formats it is in.
//!
//! The formats' own value types are not used: JSON's and YAML's let a repeated key win silently, and YAML's
//! aliases can make a tree far larger than its text.

use std::cell::Cell;
use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use crate::finding::Problems;

/// Largest file, in bytes.
pub const MAX_FILE_BYTES: u64 = 1 << 20;

/// Most values in a file, each table, list and entry counted.
pub const MAX_VALUES: usize = 100_000;

/// How the TOML parser hands a date over: a table with this one key.
const TOML_DATE: &str = "$__toml_private_datetime";

/// The tree of the file at `path`.
pub(crate) fn read(path: &Path) -> Result<Map<String, Value>, Problems> {
    let problem = |text: String| Problems::one(path.display().to_string(), text);
    let format = Format::of(path)
        .ok_or_else(|| problem("must be named .toml, .json, .yaml or .yml, after its format".to_owned()))?;
    let text = read_text(path).map_err(problem)?;
    match parse(format, &text).map_err(problem)? {
        Value::Object(tree) => Ok(tree),
        Value::Null => Ok(Map::new()),
        _ => Err(problem("must hold a table of settings at its top".to_owned())),
    }
}

/// The text of the file at `path`.
pub(crate) fn read_text(path: &Path) -> Result<String, String> {
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

/// The format of a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Format {
    Toml,
    Json,
    Yaml,
}

impl Format {
    fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "toml" => Some(Self::Toml),
            "json" => Some(Self::Json),
            "yaml" | "yml" => Some(Self::Yaml),
            _ => None,
        }
    }
}

/// The tree that `text` is.
pub(crate) fn parse(format: Format, text: &str) -> Result<Value, String> {
    let left = Cell::new(MAX_VALUES);
    let tree = Tree { left: &left };
    match format {
        Format::Toml => toml::Deserializer::parse(text)
            .and_then(|parsed| tree.deserialize(parsed))
            .map_err(|error| toml_error(text, &error)),
        Format::Json => {
            let mut parser = serde_json::Deserializer::from_str(text);
            let value = tree.deserialize(&mut parser).and_then(|value| parser.end().map(|()| value));
            value.map_err(|error| format!("is no valid JSON: {error}"))
        }
        Format::Yaml => tree
            .deserialize(serde_yaml_ng::Deserializer::from_str(text))
            .map_err(|error| format!("is no valid YAML: {error}")),
    }
}

/// The error's own text quotes the line, which may hold a secret.
fn toml_error(text: &str, error: &toml::de::Error) -> String {
    let message = error.message().lines().collect::<Vec<_>>().join("; ");
    let before = error.span().and_then(|span| text.get(..span.start));
    let place = before.map_or_else(String::new, |before| {
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().map_or(0, |last| last.chars().count()) + 1;
        format!(" at line {line} column {column}")
    });
    format!("is no valid TOML: {message}{place}")
}

/// Builds the tree and counts what it builds.
#[derive(Clone, Copy)]
struct Tree<'a> {
    left: &'a Cell<usize>,
}

impl<'de> DeserializeSeed<'de> for Tree<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        match self.left.get().checked_sub(1) {
            Some(left) => self.left.set(left),
            None => return Err(D::Error::custom(format_args!("more than {MAX_VALUES} values"))),
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Tree<'_> {
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
        // What JSON cannot say (`nan`, `inf`) stays text, so that no key takes it for "not given".
        Ok(serde_json::Number::from_f64(value).map_or_else(|| Value::from(value.to_string()), Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(entry) = entries.next_element_seed(self)? {
            list.push(entry);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut table = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            let value = entries.next_value_seed(self)?;
            if key == TOML_DATE {
                return Ok(value);
            }
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
    fn a_repeated_key_is_refused_in_every_format() {
        for (format, text) in [
            (Format::Toml, "data = 'a'\ndata = 'b'"),
            (Format::Json, r#"{"data": "a", "data": "b"}"#),
            (Format::Yaml, "data: a\ndata: b"),
        ] {
            assert!(parse(format, text).is_err(), "{format:?}");
        }
    }

    #[test]
    fn aliases_cannot_make_a_tree_larger_than_the_limit() {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..9 {
            let of = format!("*a{}", level - 1);
            text += &format!("a{level}: &a{level} [{}]\n", vec![of; 10].join(", "));
        }
        let error = parse(Format::Yaml, &text).unwrap_err();
        assert!(error.contains("more than 100000 values"), "{error}");
    }

    #[test]
    fn deep_nesting_is_refused_and_does_not_overflow_the_stack() {
        let deep = "[".repeat(10_000);
        for (format, text) in [
            (Format::Toml, format!("a = {deep}")),
            (Format::Json, deep.clone()),
            (Format::Yaml, deep.clone()),
        ] {
            assert!(parse(format, &text).is_err(), "{format:?}");
        }
    }

    #[test]
    fn a_toml_error_names_the_place_and_quotes_no_line() {
        let error = parse(Format::Toml, "listen = 'x'\nkey = 'hunter2' oops").unwrap_err();
        assert!(error.contains("line 2 column"), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }

    #[test]
    fn dates_and_numbers_that_json_cannot_say_become_text() {
        let tree = parse(Format::Toml, "a = 2026-01-02\nb = nan").unwrap();
        assert_eq!(tree, serde_json::json!({"a": "2026-01-02", "b": "NaN"}));
    }
}
