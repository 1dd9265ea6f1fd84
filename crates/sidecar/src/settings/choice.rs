//! `use` and `configs`: which of several options is used, and the settings of each by its name.
//!
//! Settings of unused options are not checked: files may keep them for later.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, SeqAccess, Visitor};
use serde_json::Value;

use super::backends::BACKENDS;
use super::reading::{Note, SettingsError, cut, hint, one_of, read, same};
use super::sources::EVENT_SOURCES;
use super::{Block, join};
use crate::resolver::RESOLVERS;

/// Maximum number of names in `use`.
const MAX_NAMES: usize = 16;

/// A kind of option.
pub(super) struct Kind {
    path: &'static str,
    /// What one of them is called in messages.
    what: &'static str,
    names: &'static [&'static str],
    /// Those that require settings.
    need_settings: &'static [&'static str],
    may_be_several: bool,
}

pub(super) const EVENT_SOURCE: Kind = Kind {
    path: "app.event_source",
    what: "event source",
    names: &EVENT_SOURCES,
    need_settings: &["catena_api_event_source", "process_event_source"],
    may_be_several: true,
};
pub(super) const RESOLVER: Kind = Kind {
    path: "app.resolver",
    what: "resolver",
    names: &RESOLVERS,
    need_settings: &["static_resolver"],
    may_be_several: false,
};
pub(super) const BACKEND: Kind = Kind {
    path: "app.backend",
    what: "backend",
    names: &BACKENDS,
    need_settings: &[],
    may_be_several: false,
};

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Choice {
    r#use: Names,
    configs: BTreeMap<String, Value>,
}

impl Choice {
    pub(super) fn read(value: &Value, kind: &Kind, warnings: &mut Vec<Note>) -> Result<Self, SettingsError> {
        read(value, kind.path, warnings)
    }

    /// The blocks in use, in order; at least one.
    pub(super) fn blocks(
        mut self,
        kind: &Kind,
        warnings: &mut Vec<Note>,
    ) -> Result<Vec<(&'static str, Block)>, SettingsError> {
        let Names(names) = std::mem::take(&mut self.r#use);
        let wrong = |problem: String| SettingsError::at(join(kind.path, "use"), problem);
        if names.is_empty() {
            let problem = format!("must be given: the {} to use, {}", kind.what, one_of(kind.names));
            return Err(wrong(problem));
        }
        if names.len() > 1 && !kind.may_be_several {
            return Err(wrong(format!("names {}, but there can be only one {}", names.len(), kind.what)));
        }
        self.warn_of_unknown(kind, warnings);
        let mut blocks: Vec<(&'static str, Block)> = Vec::new();
        for name in names {
            let Some(known) = kind.names.iter().copied().find(|known| same(known, &name)) else {
                let hint = hint(&name, kind.names);
                let problem = format!("must be {}, is {:?}{hint}", one_of(kind.names), cut(&name));
                return Err(wrong(problem));
            };
            if blocks.iter().any(|(other, _)| *other == known) {
                return Err(wrong(format!("names {known} twice")));
            }
            blocks.push((known, self.block(known, kind)?));
        }
        Ok(blocks)
    }

    fn block(&self, name: &'static str, kind: &Kind) -> Result<Block, SettingsError> {
        let path = format!("{}.configs.{name}", kind.path);
        match self.configs.iter().find(|(key, _)| same(key, name)) {
            Some((_, value)) => Ok(Block { path, value: value.clone() }),
            None if kind.need_settings.contains(&name) => {
                let problem = format!("is missing: {name} is in use and requires settings");
                Err(SettingsError::at(path, problem))
            }
            None => Ok(Block { path, value: Value::Null }),
        }
    }

    fn warn_of_unknown(&self, kind: &Kind, warnings: &mut Vec<Note>) {
        for key in self.configs.keys().filter(|key| !kind.names.iter().any(|name| same(name, key))) {
            let text = format!("there is no such {}, ignored{}", kind.what, hint(key, kind.names));
            warnings.push(Note { path: format!("{}.configs.{}", kind.path, cut(key)), text });
        }
    }
}

/// One name or a list of them.
#[derive(Default)]
struct Names(Vec<String>);

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OneOrMore).map(Self)
    }
}

struct OneOrMore;

impl<'de> Visitor<'de> for OneOrMore {
    type Value = Vec<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name in quotes, or a list of names")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Vec<String>, E> {
        Ok(vec![name.to_owned()])
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Vec<String>, A::Error> {
        let mut names = Vec::new();
        while let Some(name) = entries.next_element()? {
            if names.len() == MAX_NAMES {
                return Err(A::Error::custom(format_args!("has more than {MAX_NAMES} names")));
            }
            names.push(name);
        }
        Ok(names)
    }
}
