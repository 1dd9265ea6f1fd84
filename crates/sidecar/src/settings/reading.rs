//! From a tree of values to structs, with the path of every problem.
//!
//! `serde_json::Value` cannot be the deserializer: it accepts only one spelling of keys, and a struct never sees its
//! unknown keys. The deserializer here finds keys in any case, with or without underscores, and records unknown ones
//! while the known names are at hand, so that it can suggest the intended one.

use std::cell::RefCell;
use std::fmt;

use serde::de::value::{MapDeserializer, SeqDeserializer};
use serde::de::{DeserializeOwned, Deserializer, Error as _, IntoDeserializer, Visitor};
use serde::forward_to_deserialize_any;
use serde_json::{Error, Value};
use sortie_config_file::kind_of;

/// Maximum number of warnings, and of problems.
const MAX_WARNINGS: usize = 100;
/// Maximum length of a quoted text, in characters.
const MAX_QUOTED: usize = 80;
/// Maximum length of a problem, in characters. Serde's messages may quote a whole value.
const MAX_PROBLEM: usize = 500;

/// A message about one key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Note {
    /// Path of the key, like `app.sidecar.DataFolder`, or of the file if the message is about all of it.
    pub path: String,
    /// What is wrong, and what is valid. Contains no secret.
    pub text: String,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.text)
    }
}

/// Why settings cannot be used: at least one problem, in file order.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{}", .problems.iter().map(Note::to_string).collect::<Vec<_>>().join("\n"))]
pub struct SettingsError {
    /// All problems found. If a block is not a table, its content is not checked.
    pub problems: Vec<Note>,
}

impl SettingsError {
    /// One problem.
    pub fn at(path: impl Into<String>, text: impl Into<String>) -> Self {
        Self { problems: vec![Note { path: path.into(), text: text.into() }] }
    }
}

/// Parses the settings of one block. `path` is its place in the file; keys unknown to `T` become warnings. Field names
/// of `T` are found in any case, with or without underscores; `null` counts as absent.
///
/// # Errors
/// [`SettingsError`] with the path of the key.
pub fn read<T: DeserializeOwned>(
    block: &Value,
    path: &str,
    warnings: &mut Vec<Note>,
) -> Result<T, SettingsError> {
    let notes = RefCell::default();
    let tree = Tree { value: block, path: path.to_owned(), notes: &notes };
    let outcome = serde_path_to_error::deserialize(tree);
    let room = MAX_WARNINGS.saturating_sub(warnings.len());
    warnings.extend(notes.into_inner().into_iter().take(room));
    outcome.map_err(|error| {
        let below = error.path().to_string();
        let path = if below == "." { path.to_owned() } else { join(path, &below) };
        let text = error.into_inner().to_string();
        SettingsError::at(path, text.chars().take(MAX_PROBLEM).collect::<String>())
    })
}

/// `path.key`, or `key` at the top.
pub(super) fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// The text, truncated if it is too long to be quoted.
pub(super) fn cut(text: &str) -> String {
    match text.char_indices().nth(MAX_QUOTED) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// Whether two names differ at most in case and underscores.
pub(super) fn same(one: &str, other: &str) -> bool {
    let letters = |text: &str| -> Vec<u8> {
        text.bytes().filter(|byte| *byte != b'_').map(|byte| byte.to_ascii_lowercase()).collect()
    };
    letters(one) == letters(other)
}

/// The suggestion for an unknown name: the most similar known one.
pub(super) fn hint(wrong: &str, names: &[&str]) -> String {
    let plain = |text: &str| cut(text).to_lowercase();
    let far = |name: &&&str| strsim::osa_distance(&plain(wrong), &plain(name));
    let closest = names.iter().min_by_key(far);
    // Up to a third of the letters wrong is a typo; more is another word.
    let meant = closest.filter(|name| far(name) <= (name.chars().count() / 3).max(1));
    meant.map_or_else(String::new, |name| format!("; did you mean `{name}`?"))
}

/// The names, for people.
pub(super) fn one_of(names: &[&str]) -> String {
    names.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(" or ")
}

/// A value, its path, and the list for warnings about unknown keys.
struct Tree<'a> {
    value: &'a Value,
    path: String,
    notes: &'a RefCell<Vec<Note>>,
}

impl<'a> Tree<'a> {
    fn below(&self, path: String, value: &'a Value) -> Self {
        Self { value, path, notes: self.notes }
    }

    fn note_unknown(&self, key: &str, fields: &[&str]) {
        let mut notes = self.notes.borrow_mut();
        if notes.len() < MAX_WARNINGS {
            let text = format!("unknown key, ignored{}", hint(key, fields));
            notes.push(Note { path: join(&self.path, &cut(key)), text });
        }
    }
}

impl<'de> IntoDeserializer<'de, Error> for Tree<'_> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserializer<'de> for Tree<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Number(number) => number.deserialize_any(visitor),
            Value::String(text) => visitor.visit_str(text),
            Value::Array(list) => {
                let at = |(index, value)| self.below(format!("{}[{index}]", self.path), value);
                visitor.visit_seq(SeqDeserializer::new(list.iter().enumerate().map(at)))
            }
            Value::Object(table) => {
                let entries = table.iter().filter(|(_, value)| !value.is_null());
                let entries =
                    entries.map(|(key, value)| (key.as_str(), self.below(join(&self.path, key), value)));
                visitor.visit_map(MapDeserializer::new(entries))
            }
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.value.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let table = match self.value {
            Value::Object(table) => Some(table),
            Value::Null => None,
            other => {
                return Err(Error::custom(format!("must be a table of settings, is {}", kind_of(other))));
            }
        };
        let mut entries = Vec::new();
        for (key, value) in table.into_iter().flatten().filter(|(_, value)| !value.is_null()) {
            match fields.iter().find(|field| same(field, key)) {
                Some(field) => entries.push((*field, self.below(join(&self.path, field), value))),
                None => self.note_unknown(key, fields),
            }
        }
        visitor.visit_map(MapDeserializer::new(entries.into_iter()))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let Value::String(text) = self.value else {
            let problem = format!("must be {}, is {}", one_of(variants), kind_of(self.value));
            return Err(Error::custom(problem));
        };
        match variants.iter().find(|variant| same(variant, text)) {
            Some(variant) => visitor.visit_enum((*variant).into_deserializer()),
            None => {
                let problem = format!("must be {}, is {:?}", one_of(variants), cut(text));
                Err(Error::custom(problem + &hint(text, variants)))
            }
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map identifier ignored_any
    }
}
