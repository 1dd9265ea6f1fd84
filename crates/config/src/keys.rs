//! The keys: `table`, with `limits`, `matchmaker` and the module of each platform for parts of them, is the only place
//! where a key's name, default and meaning are written.
//!
//! In paths `<name>` means a name of the user's choice and `[]` each entry of a list.

mod limits;
mod matchmaker;
mod table;

use std::sync::LazyLock;

use serde_json::Value;

use limits::LIMITS;
use matchmaker::MATCHMAKER;
use table::{REST, TOP};

use crate::platforms::PLATFORMS;

/// Every key, in the order of a file.
static KEYS: LazyLock<Vec<KeyDoc>> = LazyLock::new(|| {
    let of_platforms = PLATFORMS.iter().map(|platform| platform.keys);
    [TOP, LIMITS, REST].into_iter().chain(of_platforms).chain([MATCHMAKER]).flatten().copied().collect()
});

/// Prefix of all settings' variables.
pub(crate) const PREFIX: &str = "SORTIE_";

/// What kind of value a key takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Any text within the limits that the meaning states.
    Text,
    /// One of these texts.
    Choice(&'static [&'static str]),
    /// `true` or `false`.
    Switch,
    /// A whole number.
    Integer,
    /// A number, with or without a fraction.
    Number,
    /// A whole number, or the same as text, `0x…` for hexadecimal.
    Identifier,
    /// Text with units, like `"90s"` or `"1h 30m"`.
    Duration,
    /// Text with a unit, like `"1MiB"`.
    Size,
    /// A path; a relative one in a file starts at the file's folder.
    Path,
    /// A list of texts.
    Texts,
    /// A list of some of these texts.
    Choices(&'static [&'static str]),
    /// A table of texts whose keys are of the user's choice.
    Table,
}

impl Kind {
    /// The kind in a few words.
    #[must_use]
    pub fn describe(self) -> String {
        let quoted = |names: &[&str]| names.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>();
        match self {
            Self::Text => "text".to_owned(),
            Self::Choice(names) => quoted(names).join(" or "),
            Self::Switch => "true or false".to_owned(),
            Self::Integer => "integer".to_owned(),
            Self::Number => "number".to_owned(),
            Self::Identifier => "integer, or text \"0x…\"".to_owned(),
            Self::Duration => "duration".to_owned(),
            Self::Size => "byte size".to_owned(),
            Self::Path => "path".to_owned(),
            Self::Texts => "list of texts".to_owned(),
            Self::Choices(names) => format!("list of {}", quoted(names).join(", ")),
            Self::Table => "table".to_owned(),
        }
    }

    /// The value of `text` in places that have only text: the environment and the table of keys. Text that does not fit
    /// stays text, and the reader refuses it.
    pub(crate) fn read(self, text: &str) -> Value {
        let trimmed = text.trim();
        let parsed = match self {
            Self::Switch => trimmed.parse::<bool>().ok().map(Value::from),
            Self::Integer => trimmed
                .parse::<i64>()
                .map(Value::from)
                .or_else(|_| trimmed.parse::<u64>().map(Value::from))
                .ok(),
            Self::Number => trimmed.parse::<f64>().ok().filter(|number| number.is_finite()).map(Value::from),
            Self::Table => serde_json::from_str(trimmed).ok(),
            Self::Texts | Self::Choices(_) if trimmed.starts_with('[') => serde_json::from_str(trimmed).ok(),
            Self::Texts | Self::Choices(_) => Some(commas(trimmed)),
            Self::Text | Self::Choice(_) | Self::Identifier | Self::Duration | Self::Size | Self::Path => {
                None
            }
        };
        parsed.unwrap_or_else(|| Value::from(text))
    }
}

fn commas(text: &str) -> Value {
    text.split(',').map(str::trim).filter(|entry| !entry.is_empty()).map(Value::from).collect()
}

/// What applies if a key is not given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Presence {
    /// It must be given.
    Required,
    /// It has no value, which means this.
    Optional(&'static str),
    /// It has this value, written as in an environment variable.
    Default(&'static str),
}

/// One key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KeyDoc {
    /// Its path, like `fleets.<name>.max` or `api_keys[].name`.
    pub path: &'static str,
    /// The kind of its value.
    pub kind: Kind,
    /// The unit of a number; empty if the value names its own or has none.
    pub unit: &'static str,
    /// What applies without it.
    pub presence: Presence,
    /// Its meaning, and its limits.
    pub meaning: &'static str,
}

pub(crate) const fn key(path: &'static str, kind: Kind, presence: Presence, meaning: &'static str) -> KeyDoc {
    KeyDoc { path, kind, unit: "", presence, meaning }
}

pub(crate) const fn count(
    path: &'static str,
    unit: &'static str,
    presence: Presence,
    meaning: &'static str,
) -> KeyDoc {
    KeyDoc { path, kind: Kind::Integer, unit, presence, meaning }
}

/// Every key, in the order of a file.
#[must_use]
pub fn reference() -> &'static [KeyDoc] {
    &KEYS
}

/// The key at a path of the table.
pub(crate) fn lookup(path: &str) -> Option<&'static KeyDoc> {
    KEYS.iter().find(|key| key.path == path)
}

/// The children of a section of the table: keys, tables, and lists with their `[]`.
pub(crate) fn children(section: &str) -> Vec<&'static str> {
    let below = KEYS.iter().filter_map(|key| match section {
        "" => Some(key.path),
        _ => key.path.strip_prefix(section)?.strip_prefix('.'),
    });
    let mut names: Vec<_> = below.filter_map(|rest| rest.split('.').next()).collect();
    names.dedup();
    names
}

/// `section.child`, or `child` at the top.
pub(crate) fn below(section: &str, child: &str) -> String {
    if section.is_empty() { child.to_owned() } else { format!("{section}.{child}") }
}

/// The known name that is most likely meant by an unknown one: similar in spelling.
pub(crate) fn closest<'a>(wrong: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let far = |name: &str| strsim::osa_distance(&wrong.to_lowercase(), &name.to_lowercase());
    let (distance, name) = names.into_iter().map(|name| (far(name), name)).min_by_key(|(far, _)| *far)?;
    // If a third of the letters is wrong, it is a typo; if more are, it is another word.
    (distance <= (name.chars().count() / 3).max(1)).then_some(name)
}

/// Where a key that is unknown in `section` most likely belongs.
pub(crate) fn suggest(section: &str, wrong: &str) -> Option<String> {
    let siblings = children(section).into_iter().map(|name| name.trim_end_matches("[]"));
    if let Some(name) = closest(wrong, siblings) {
        return Some(name.to_owned());
    }
    KEYS.iter().map(|key| key.path).find(|path| path.rsplit('.').next() == Some(wrong)).map(str::to_owned)
}
