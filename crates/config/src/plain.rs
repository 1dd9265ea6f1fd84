//! The table of keys for a terminal and for programs.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::keys::{KeyDoc, Kind, Presence, reference};
use crate::markdown;

/// Every key with its type, unit, default and meaning, one paragraph each.
#[must_use]
pub fn reference_text() -> String {
    let mut page = String::new();
    for key in reference() {
        let default = match key.presence {
            Presence::Required => "required".to_owned(),
            Presence::Optional(meaning) => format!("not set by default: {}", meaning.replace('`', "")),
            Presence::Default(_) => format!("default {}", markdown::default(key).replace('`', "")),
        };
        // Writing to a String cannot fail.
        let _ = writeln!(page, "{}\n    {}; {default}\n    {}\n", key.path, kind(key), key.meaning);
    }
    page
}

fn kind(key: &KeyDoc) -> String {
    let unit = if key.unit.is_empty() { String::new() } else { format!(", in {}", key.unit) };
    format!("{}{unit}", key.kind.describe())
}

/// Every key as a JSON list of `{"key", "type", "unit", "choices"?, "required", "default", "unset"?, "meaning"}`:
/// `default` is the value itself, null if there is none, and `unset` says what that means.
#[must_use]
pub fn reference_json() -> String {
    let rows: Vec<_> = reference().iter().map(row).collect();
    format!("{:#}\n", Value::from(rows))
}

fn row(key: &KeyDoc) -> Value {
    let default = match key.presence {
        Presence::Default(text) => key.kind.read(text),
        Presence::Required | Presence::Optional(_) => Value::Null,
    };
    let mut row = json!({
        "key": key.path,
        "type": key.kind.describe(),
        "unit": if key.unit.is_empty() { Value::Null } else { key.unit.into() },
        "required": key.presence == Presence::Required,
        "default": default,
        "meaning": key.meaning,
    });
    if let Kind::Choice(names) | Kind::Choices(names) = key.kind {
        row["choices"] = names.into();
    }
    if let Presence::Optional(meaning) = key.presence {
        row["unset"] = meaning.into();
    }
    row
}
