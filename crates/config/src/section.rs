//! Reads one table of the tree: every error is reported, and reading continues.
//!
//! A getter returns `None` for an invalid value, which has been reported. Callers read everything first and put it
//! together afterwards, so that one error does not hide others.

use std::borrow::Cow;
use std::cell::RefCell;
use std::path::PathBuf;

use serde_json::{Map, Value};
use sortie_config_file::kind_of;

use crate::finding::{Finding, Findings, Origins};
use crate::keys::{self, Kind, Presence};
use crate::parse;

/// What all sections of one load share.
pub(crate) struct Reading {
    /// Base folder of relative paths in the file; `None` without a file.
    pub(crate) base: Option<PathBuf>,
    /// Which values did not come from the file.
    pub(crate) origins: Origins,
    /// The environment, for keys that name a variable.
    pub(crate) environment: std::collections::BTreeMap<String, String>,
    pub(crate) problems: RefCell<Findings>,
    pub(crate) warnings: RefCell<Findings>,
    pub(crate) remarks: RefCell<Findings>,
}

/// One table of the tree.
pub(crate) struct Section<'a> {
    reading: &'a Reading,
    table: Cow<'a, Map<String, Value>>,
    /// Its path, for people: `fleets.arena`, `api_keys[0]`; empty at the top.
    path: String,
    /// Its path in the table of keys: `fleets.<name>`, `api_keys[]`.
    place: String,
}

impl<'a> Section<'a> {
    /// The top of the tree.
    pub(crate) fn top(reading: &'a Reading, tree: &'a Map<String, Value>) -> Self {
        let top = Self { reading, table: Cow::Borrowed(tree), path: String::new(), place: String::new() };
        top.refuse_unknown();
        top
    }

    /// The table `key`, empty if it is not given.
    pub(crate) fn section(&'a self, key: &str) -> Option<Self> {
        let (path, place) = (parse::join(&self.path, key), keys::below(&self.place, key));
        self.open(self.table.get(key).unwrap_or(&Value::Null), path, place)
    }

    /// The tables below this one, whose keys are of the user's choice, in the order of their names.
    pub(crate) fn named(&'a self) -> Vec<(&'a str, Option<Self>)> {
        let mut entries: Vec<_> = self.table.iter().collect();
        entries.sort_by_key(|(name, _)| name.as_str());
        let open = |(name, value): (&'a String, &'a Value)| {
            let section = self.open(value, parse::join(&self.path, name), keys::below(&self.place, "<name>"));
            (name.as_str(), section)
        };
        entries.into_iter().map(open).collect()
    }

    /// The tables of the list `key`.
    pub(crate) fn list(&'a self, key: &str) -> Vec<Self> {
        let entries = match self.table.get(key) {
            None | Some(Value::Null) => return Vec::new(),
            Some(Value::Array(entries)) => entries,
            Some(other) => {
                self.problem(key, format!("must be a list of tables, is {}", kind_of(other)));
                return Vec::new();
            }
        };
        let place = format!("{}[]", keys::below(&self.place, key));
        let open =
            |(at, entry)| self.open(entry, format!("{}[{at}]", parse::join(&self.path, key)), place.clone());
        entries.iter().enumerate().filter_map(open).collect()
    }

    fn open(&self, value: &'a Value, path: String, place: String) -> Option<Self> {
        let table = match value {
            Value::Object(table) => Cow::Borrowed(table),
            Value::Null => Cow::Owned(Map::new()),
            other => {
                self.note(&self.reading.problems, path, format!("must be a table, is {}", kind_of(other)));
                return None;
            }
        };
        let section = Self { reading: self.reading, table, path, place };
        section.refuse_unknown();
        Some(section)
    }

    fn refuse_unknown(&self) {
        let known = keys::children(&self.place);
        if known.contains(&"<name>") {
            return;
        }
        for name in self.table.keys() {
            if known.iter().any(|key| key.trim_end_matches("[]") == name) {
                continue;
            }
            let hint = keys::suggest(&self.place, name).map_or_else(
                || format!("known here: {}", known.join(", ").replace("[]", "")),
                |key| format!("did you mean `{key}`?"),
            );
            self.problem(name, format!("unknown key; {hint}"));
        }
    }

    /// The keys in this table.
    pub(crate) fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.table.keys().map(String::as_str)
    }

    /// The value of `key`, unchecked.
    pub(crate) fn raw(&self, key: &str) -> Option<&Value> {
        self.table.get(key)
    }

    /// Whether `key` was given, valid or not.
    pub(crate) fn given(&self, key: &str) -> bool {
        self.table.get(key).is_some_and(|value| !value.is_null())
    }

    /// The value of `key`, or its default.
    pub(crate) fn get<T>(&self, key: &str, parse: impl FnOnce(&Value) -> Result<T, String>) -> Option<T> {
        let value = self.optional(key, parse)?;
        if value.is_none() {
            self.problem(key, "is required");
        }
        value
    }

    /// The value of `key`, or its default; `Some(None)` if it has neither.
    pub(crate) fn optional<T>(
        &self,
        key: &str,
        parse: impl FnOnce(&Value) -> Result<T, String>,
    ) -> Option<Option<T>> {
        let doc = keys::lookup(&keys::below(&self.place, key));
        let value = match (self.table.get(key), doc.map(|doc| (doc.presence, doc.kind))) {
            (Some(value), _) if !value.is_null() => Cow::Borrowed(value),
            (_, Some((Presence::Default(text), kind))) => Cow::Owned(kind.read(text)),
            _ => return Some(None),
        };
        match parse(&value) {
            Ok(value) => Some(Some(value)),
            Err(problem) => {
                self.problem(key, problem);
                None
            }
        }
    }

    /// The absolute path at `key`; `Some(None)` if it is not given and has no default.
    pub(crate) fn optional_path(&self, key: &str) -> Option<Option<PathBuf>> {
        debug_assert_eq!(keys::lookup(&keys::below(&self.place, key)).map(|doc| doc.kind), Some(Kind::Path));
        let from_file = self.given(key) && self.origin(key).is_none();
        let base = self.reading.base.as_deref().filter(|_| from_file);
        self.optional(key, |value| parse::path(value, base))
    }

    /// The absolute path at `key`, or its default.
    pub(crate) fn path(&self, key: &str) -> Option<PathBuf> {
        let path = self.optional_path(key)?;
        if path.is_none() {
            self.problem(key, "is required");
        }
        path
    }

    fn origin(&self, key: &str) -> Option<&String> {
        self.reading.origins.get(&parse::join(&self.path, key))
    }

    /// The environment variable `name`.
    pub(crate) fn variable(&self, name: &str) -> Option<&str> {
        self.reading.environment.get(name).map(String::as_str)
    }

    /// Reports an error in `key`.
    pub(crate) fn problem(&self, key: &str, text: impl Into<String>) {
        self.note(&self.reading.problems, parse::join(&self.path, key), text.into());
    }

    /// Reports that `key` looks wrong.
    pub(crate) fn warn(&self, key: &str, text: impl Into<String>) {
        self.note(&self.reading.warnings, parse::join(&self.path, key), text.into());
    }

    /// Reports that the key at the path `keys` below this table looks wrong.
    pub(crate) fn warn_below(&self, keys: &[&str], text: impl Into<String>) {
        let path = keys.iter().fold(self.path.clone(), |path, key| parse::join(&path, key));
        self.note(&self.reading.warnings, path, text.into());
    }

    /// Reports a remark about the key at the path `keys` below this table, which may well be intended.
    pub(crate) fn remark_below(&self, keys: &[&str], text: impl Into<String>) {
        let path = keys.iter().fold(self.path.clone(), |path, key| parse::join(&path, key));
        self.note(&self.reading.remarks, path, text.into());
    }

    /// Reports an error in the key at the path `keys` below this table.
    pub(crate) fn problem_below(&self, keys: &[&str], text: impl Into<String>) {
        let path = keys.iter().fold(self.path.clone(), |path, key| parse::join(&path, key));
        self.note(&self.reading.problems, path, text.into());
    }

    /// Reports an error in this section itself.
    pub(crate) fn refuse(&self, text: impl Into<String>) {
        self.note(&self.reading.problems, self.path.clone(), text.into());
    }

    fn note(&self, findings: &RefCell<Findings>, path: String, text: String) {
        let set_by = self.reading.origins.get(&path).cloned();
        findings.borrow_mut().push(Finding { path, text, set_by });
    }
}
