//! Text in one of the formats as a tree, strictly.

use std::cell::Cell;
use std::fmt;
use std::path::Path;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// Maximum number of values in a document, including each table, list and entry.
pub const MAX_VALUES: usize = 100_000;

/// Maximum total size of a document's texts, in bytes: keys and values, each counted as often as it occurs. A text that
/// a YAML alias repeats counts each time.
pub const MAX_TEXT_BYTES: usize = 4 << 20;

/// Maximum number of brackets of a YAML text that are open at a time. The parser's work grows with the square of the
/// depth of lists before it refuses deep ones; brackets within texts count too, but no real file has so many of them.
const MAX_OPEN_BRACKETS: usize = 1_000;

/// How the TOML parser passes a date: a table with this one key.
const TOML_DATE: &str = "$__toml_private_datetime";

/// The format of a document.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// [TOML 1.0](https://toml.io/en/v1.0.0). Dates become text, as do numbers that JSON cannot express.
    Toml,
    /// JSON (RFC 8259).
    Json,
    /// JSON with comments and trailing commas.
    CommentedJson,
    /// [YAML 1.2](https://yaml.org/spec/1.2.2/), as far as JSON can express the same.
    Yaml,
}

impl Format {
    /// The format of a file named `.toml`, `.json`, `.yaml` or `.yml`.
    #[must_use]
    pub fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "toml" => Some(Self::Toml),
            "json" => Some(Self::Json),
            "yaml" | "yml" => Some(Self::Yaml),
            _ => None,
        }
    }
}

/// Parses `text`.
///
/// # Errors
/// What is wrong with the text, and where, without quoting it: it may contain a secret. A repeated key, more than
/// [`MAX_VALUES`] values and more than [`MAX_TEXT_BYTES`] of text are errors in every format.
pub fn parse(format: Format, text: &str) -> Result<Value, String> {
    let text = text.trim_start_matches('\u{feff}');
    let (values, bytes) = (Cell::new(MAX_VALUES), Cell::new(MAX_TEXT_BYTES));
    let tree = Tree { values: &values, bytes: &bytes };
    match format {
        Format::Toml => toml::Deserializer::parse(text)
            .and_then(|parsed| tree.deserialize(parsed))
            .map_err(|error| toml_error(text, &error)),
        Format::Json => json(tree, text),
        Format::CommentedJson => {
            let mut plain = text.to_owned();
            json_strip_comments::strip(&mut plain)
                .map_err(|_| "is not valid JSON: a slash does not begin a comment".to_owned())?;
            json(tree, &plain)
        }
        Format::Yaml => yaml(tree, text),
    }
}

fn json(tree: Tree<'_>, text: &str) -> Result<Value, String> {
    let mut parser = serde_json::Deserializer::from_str(text);
    let value = tree.deserialize(&mut parser).and_then(|value| parser.end().map(|()| value));
    value.map_err(|error| format!("is not valid JSON: {error}"))
}

fn yaml(tree: Tree<'_>, text: &str) -> Result<Value, String> {
    if open_brackets(text) > MAX_OPEN_BRACKETS {
        return Err(format!("is not valid YAML: more than {MAX_OPEN_BRACKETS} brackets are open at a time"));
    }
    tree.deserialize(serde_yaml_ng::Deserializer::from_str(text))
        .map_err(|error| format!("is not valid YAML: {error}"))
}

/// Maximum number of brackets that are open at a time, wherever they are.
fn open_brackets(text: &str) -> usize {
    let (mut open, mut max) = (0_usize, 0);
    for byte in text.bytes() {
        match byte {
            b'[' | b'{' => open += 1,
            b']' | b'}' => open = open.saturating_sub(1),
            _ => {}
        }
        max = max.max(open);
    }
    max
}

/// The error's own text quotes the line, which may contain a secret.
fn toml_error(text: &str, error: &toml::de::Error) -> String {
    let message = error.message().lines().collect::<Vec<_>>().join("; ");
    let before = error.span().and_then(|span| text.get(..span.start));
    let place = before.map_or_else(String::new, |before| {
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().map_or(0, |last| last.chars().count()) + 1;
        format!(" at line {line} column {column}")
    });
    format!("is not valid TOML: {message}{place}")
}

/// Builds the tree and counts what it builds.
#[derive(Clone, Copy)]
struct Tree<'a> {
    /// Number of values that are still allowed.
    values: &'a Cell<usize>,
    /// Bytes of text that are still allowed.
    bytes: &'a Cell<usize>,
}

impl Tree<'_> {
    fn count_text<E: Error>(self, text: &str) -> Result<(), E> {
        match self.bytes.get().checked_sub(text.len()) {
            Some(left) => {
                self.bytes.set(left);
                Ok(())
            }
            None => Err(E::custom(format_args!(
                "more than {MAX_TEXT_BYTES} bytes of text, including repetition by aliases"
            ))),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Tree<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        match self.values.get().checked_sub(1) {
            Some(left) => self.values.set(left),
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
        // Values that JSON cannot express (`nan`, `inf`) stay text, so that no key takes them for "not given".
        Ok(serde_json::Number::from_f64(value).map_or_else(|| Value::from(value.to_string()), Value::Number))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        self.count_text(value)?;
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
            self.count_text(&key)?;
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
            (Format::CommentedJson, r#"{"data": "a", /* again */ "data": "b"}"#),
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

    /// The parser's time would grow with the square of the depth.
    #[test]
    fn yaml_with_too_many_open_brackets_is_not_read() {
        for bracket in ["[", "{a: ", "[{a: "] {
            let error = parse(Format::Yaml, &bracket.repeat(500_000)).unwrap_err();
            assert!(error.contains("more than 1000 brackets"), "{error}");
        }
        let balanced = format!("a: [{}]", vec!["[1]"; 5_000].join(", "));
        assert!(parse(Format::Yaml, &balanced).is_ok());
    }

    /// As many texts of 400,000 bytes as fit into 4 MiB; one more is too many.
    #[test]
    fn aliases_cannot_make_texts_longer_than_the_limit() {
        let text = "x".repeat(400_000);
        let with = |aliases: usize| {
            let list = vec!["*a"; aliases].join(", ");
            parse(Format::Yaml, &format!("a: &a {text}\nb: [{list}]\n"))
        };
        assert!(with(MAX_TEXT_BYTES / 400_000 - 1).is_ok());
        for aliases in [MAX_TEXT_BYTES / 400_000, 600] {
            let error = with(aliases).unwrap_err();
            assert!(error.contains("more than 4194304 bytes of text"), "{error}");
            assert!(error.len() < 1_000, "it quotes no text");
        }
        // An alias may be a key, too.
        let keys: String = (0..600).map(|number| format!("k{number}: {{*a : 1}}\n")).collect();
        let error = parse(Format::Yaml, &format!("a: &a {text}\n{keys}")).unwrap_err();
        assert!(error.contains("bytes of text"), "{error}");
    }

    #[test]
    fn the_limit_of_text_holds_in_every_format() {
        let (half, rest) = ("x".repeat(MAX_TEXT_BYTES / 2), "x".repeat(MAX_TEXT_BYTES / 2 - 2));
        for (format, fits) in [
            (Format::Toml, format!("a = '{half}'\nb = '{rest}'")),
            (Format::Json, format!(r#"{{"a": "{half}", "b": "{rest}"}}"#)),
            (Format::CommentedJson, format!(r#"{{"a": "{half}", "b": "{rest}"}}"#)),
            (Format::Yaml, format!("a: {half}\nb: {rest}")),
        ] {
            assert!(parse(format, &fits).is_ok(), "{format:?}");
            let error = parse(format, &fits.replacen('x', "xx", 1)).unwrap_err();
            assert!(error.contains("bytes of text"), "{format:?}: {error}");
        }
    }

    #[test]
    fn deep_nesting_is_refused_and_does_not_overflow_the_stack() {
        let deep = "[".repeat(10_000);
        for (format, text) in [
            (Format::Toml, format!("a = {deep}")),
            (Format::Json, deep.clone()),
            (Format::CommentedJson, deep.clone()),
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

    #[test]
    fn comments_trailing_commas_and_a_byte_order_mark_are_accepted() {
        let text = "\u{feff}{ // one\n \"a\": [1, 2,], /* two */ \"b\": \"http://x\",\n}";
        let tree = parse(Format::CommentedJson, text);
        assert_eq!(tree, Ok(serde_json::json!({"a": [1, 2], "b": "http://x"})));
        assert!(parse(Format::Json, text).is_err());
    }
}
