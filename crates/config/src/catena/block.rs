//! One object of the settings: its keys in any case, and which of them were read.

use serde_json::{Map, Value};

use super::Import;
use sortie_config_file::kind_of;

use crate::parse::join;

/// An object of the settings.
pub(super) struct Block<'a> {
    path: String,
    entries: Vec<(&'a str, &'a Value)>,
}

/// The path of a value, and the value.
pub(super) type Found<'a> = (String, &'a Value);

impl<'a> Block<'a> {
    /// The object at `path`; `None` if two of its keys differ only by case, which has been reported.
    pub(super) fn of(import: &mut Import, path: &str, object: &'a Map<String, Value>) -> Option<Self> {
        let mut names: Vec<_> = object.keys().map(|key| key.to_lowercase()).collect();
        names.sort_unstable();
        if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            import.problem(
                join(path, &twice[0]),
                "is given more than once: case does not count in these settings",
            );
            return None;
        }
        let entries = object.iter().map(|(key, value)| (key.as_str(), value)).collect();
        Some(Self { path: path.to_owned(), entries })
    }

    /// `value` as an object; `None` if it is not one, which has been reported.
    pub(super) fn open(import: &mut Import, path: String, value: &'a Value) -> Option<Self> {
        match value {
            Value::Object(object) => Self::of(import, &path, object),
            other => {
                import.problem(path, format!("must be an object, is {}", kind_of(other)));
                None
            }
        }
    }

    /// The path of this object.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// The path of `key`.
    pub(super) fn path_of(&self, key: &str) -> String {
        join(&self.path, key)
    }

    /// The value of `key`, once; `null` counts as not given.
    pub(super) fn take(&mut self, key: &str) -> Option<Found<'a>> {
        let at = self.entries.iter().position(|(name, _)| name.eq_ignore_ascii_case(key))?;
        let (name, value) = self.entries.remove(at);
        (!value.is_null()).then(|| (self.path_of(name), value))
    }

    /// The text of `key`; an empty one counts as not given.
    pub(super) fn text(&mut self, import: &mut Import, key: &str) -> Option<(String, &'a str)> {
        let (path, value) = self.take(key)?;
        match value {
            Value::String(text) if text.trim().is_empty() => None,
            Value::String(text) => Some((path, text)),
            other => {
                import.problem(path, format!("must be text, is {}", kind_of(other)));
                None
            }
        }
    }

    /// The whole number of `key`, which has 31 bits in Catena.
    pub(super) fn whole(&mut self, import: &mut Import, key: &str) -> Option<(String, u32)> {
        let (path, value) = self.take(key)?;
        let number = match value {
            Value::String(text) => text.trim().parse().ok(),
            other => other.as_i64(),
        };
        let number = number.and_then(|number| u32::try_from(number).ok()).filter(|&number| number <= MAX);
        if number.is_none() {
            // Not quoted: a misplaced value may be anything, even a secret.
            let is = match value {
                Value::Number(number) => number.to_string(),
                other => kind_of(other).to_owned(),
            };
            import.problem(path.as_str(), format!("must be a whole number from 0 to {MAX}, is {is}"));
        }
        Some((path, number?))
    }

    /// The object at `key`.
    pub(super) fn block(&mut self, import: &mut Import, key: &str) -> Option<Self> {
        let (path, value) = self.take(key)?;
        Self::open(import, path, value)
    }

    /// The paths of everything that was not read.
    pub(super) fn untaken(&self) -> impl Iterator<Item = String> {
        self.entries.iter().map(|(name, _)| self.path_of(name))
    }
}

/// The largest signed 32-bit number.
const MAX: u32 = i32::MAX as u32;
