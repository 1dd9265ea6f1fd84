//! Settings from environment variables: `SORTIE_` and the key's path in capitals, `__` between its levels.
//!
//! Names of the user's choice (fleets) lose their case and their dashes in a variable, so a name that the file already
//! has is found whatever its spelling.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use sortie_config_file::kind_of;

use crate::finding::{Finding, Findings, Origins};
use crate::keys::{self, Kind, PREFIX};
use crate::model::ApiKey;
use crate::parse;

/// Variables that begin with `SORTIE_` and are not settings: the path of the configuration, what game servers are
/// given, and what the tunnel of a dispatcher takes.
pub const NOT_SETTINGS: [&str; 15] = [
    "SORTIE_CONFIG",
    "SORTIE_SIDECAR_CONFIG",
    "SORTIE_DISPATCH_URL",
    "SORTIE_DISPATCH_TOKEN",
    "SORTIE_DISPATCH_TOKEN_FILE",
    "SORTIE_API",
    "SORTIE_SERVER_ID",
    "SORTIE_PORT",
    "SORTIE_API_KEY",
    "SORTIE_CA",
    "SORTIE_NETCODE_KEY",
    "SORTIE_PROTOCOL_ID",
    "SORTIE_FLEET",
    "SORTIE_ALLOCATION_ID",
    "SORTIE_DATA_ID",
];

/// Settings that name a variable with a secret; that variable need not be a setting even if its name begins like one.
const SECRET_VARIABLES: [(&str, &str, &str); 3] = [
    ("SORTIE_NETCODE__KEY_ENV", "netcode", "key_env"),
    ("SORTIE_PLAYERS__SECRET_ENV", "players", "secret_env"),
    ("SORTIE_DISPATCH__SECRET_ENV", "dispatch", "secret_env"),
];

/// Puts the settings among `variables` into `tree`; returns where each one went.
pub(crate) fn apply(
    tree: &mut Map<String, Value>,
    variables: &BTreeMap<String, String>,
    problems: &mut Findings,
) -> Origins {
    let mut origins = Origins::new();
    let secrets = SECRET_VARIABLES.map(|(setting, section, key)| {
        let in_file = tree.get(section).and_then(|section| section.get(key)?.as_str());
        variables.get(setting).map(String::as_str).or(in_file).map(str::to_owned)
    });
    for (name, text) in variables {
        let Some(rest) = name.strip_prefix(PREFIX) else { continue };
        if NOT_SETTINGS.contains(&name.as_str()) || secrets.iter().flatten().any(|secret| secret == name) {
            continue;
        }
        let mut target = Target { place: String::new(), path: String::new() };
        let segments: Vec<&str> = rest.split("__").collect();
        match target.put(tree, &segments, text) {
            Ok(()) => drop(origins.insert(target.path, name.clone())),
            Err(Misplaced::Unknown) => {
                let hint = suggest(name, &segments).map_or_else(
                    || {
                        "settings look like SORTIE_BROKER__WAIT, with two underscores between levels"
                            .to_owned()
                    },
                    |meant| format!("did you mean {meant}?"),
                );
                problems.push(finding(name, format!("does not name a setting; {hint}")));
            }
            Err(Misplaced::Because(text)) => problems.push(finding(name, text)),
        }
    }
    origins
}

fn finding(name: &str, text: String) -> Finding {
    Finding { path: name.to_owned(), text, set_by: None }
}

/// Why a variable sets nothing.
enum Misplaced {
    Unknown,
    Because(String),
}

/// How far a variable's name has led into the tree.
struct Target {
    /// In the table of keys.
    place: String,
    /// The path in the tree, for people.
    path: String,
}

impl Target {
    /// Descends into `table` along `segments` and sets the value that they name.
    fn put(
        &mut self,
        table: &mut Map<String, Value>,
        segments: &[&str],
        text: &str,
    ) -> Result<(), Misplaced> {
        let (segment, rest) = segments.split_first().ok_or(Misplaced::Unknown)?;
        let known = keys::children(&self.place);
        if known.contains(&"<name>") {
            let name = own_name(table, segment)?;
            self.step("<name>", &name);
            return self.put(as_table(table.entry(name).or_insert(Value::Null))?, rest, text);
        }
        let wanted = segment.to_ascii_lowercase();
        let key =
            known.into_iter().find(|key| key.trim_end_matches("[]") == wanted).ok_or(Misplaced::Unknown)?;
        self.step(key, &wanted);
        let Some(doc) = keys::lookup(&self.place) else {
            let value = table.entry(wanted).or_insert(Value::Null);
            return match key.ends_with("[]") {
                true => self.put_in_list(value, rest, text),
                false => self.put(as_table(value)?, rest, text),
            };
        };
        if rest.is_empty() {
            table.insert(wanted, doc.kind.read(text));
            return Ok(());
        }
        if doc.kind != Kind::Table {
            return Err(Misplaced::Unknown);
        }
        // The keys of such a table are the user's own, including case and double underscores.
        as_table(table.entry(wanted).or_insert(Value::Null))?.insert(rest.join("__"), Value::from(text));
        Ok(())
    }

    fn put_in_list(&mut self, value: &mut Value, segments: &[&str], text: &str) -> Result<(), Misplaced> {
        let (segment, rest) = segments.split_first().ok_or(Misplaced::Unknown)?;
        let position: Option<usize> = segment.parse().ok().filter(|at| *at < ApiKey::MAX);
        let at = position.ok_or_else(|| {
            Misplaced::Because(format!(
                "{segment:?} must be a position in a list: 0, 1, … {}",
                ApiKey::MAX - 1
            ))
        })?;
        if value.is_null() {
            *value = Value::Array(Vec::new());
        }
        let list = value
            .as_array_mut()
            .ok_or_else(|| Misplaced::Because(format!("`{}` is not a list in the file", self.path)))?;
        if list.len() <= at {
            list.resize(at + 1, Value::Null);
        }
        self.path += &format!("[{at}]");
        match list.get_mut(at) {
            Some(entry) => self.put(as_table(entry)?, rest, text),
            None => Err(Misplaced::Unknown),
        }
    }

    fn step(&mut self, place: &str, path: &str) {
        self.place = keys::below(&self.place, place);
        self.path = parse::join(&self.path, path);
    }
}

fn as_table(value: &mut Value) -> Result<&mut Map<String, Value>, Misplaced> {
    if value.is_null() {
        *value = Value::Object(Map::new());
    }
    let kind = kind_of(value);
    value
        .as_object_mut()
        .ok_or_else(|| Misplaced::Because(format!("sets a key of a table that is {kind} in the file")))
}

/// The name that `segment` means: a key of `table`, or the segment in lower case.
fn own_name(table: &Map<String, Value>, segment: &str) -> Result<String, Misplaced> {
    if segment.is_empty() {
        return Err(Misplaced::Unknown);
    }
    let spelled = |name: &str| {
        name.chars()
            .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' })
            .collect::<String>()
    };
    let fitting: Vec<&String> = table.keys().filter(|name| spelled(name) == spelled(segment)).collect();
    match fitting.as_slice() {
        [] => Ok(segment.to_ascii_lowercase()),
        [name] => Ok((*name).clone()),
        [first, second, ..] => Err(Misplaced::Because(format!(
            "fits both {} and {}; rename one of them",
            parse::quoted(first),
            parse::quoted(second)
        ))),
    }
}

/// The variable that sets the key at `place`; the user's own names in it come from `segments`.
fn variable(place: &str, segments: &[&str]) -> String {
    let own =
        |at: usize, otherwise| segments.get(at).copied().filter(|own| !own.is_empty()).unwrap_or(otherwise);
    let mut parts: Vec<&str> = Vec::new();
    for part in place.split('.') {
        let list = part.strip_suffix("[]");
        parts.push(if part == "<name>" { own(parts.len(), "NAME") } else { list.unwrap_or(part) });
        if list.is_some() {
            parts.push(own(parts.len(), "0"));
        }
    }
    format!("{PREFIX}{}", parts.join("__").to_ascii_uppercase())
}

fn suggest(name: &str, segments: &[&str]) -> Option<String> {
    let names: Vec<String> = keys::reference().iter().map(|key| variable(key.path, segments)).collect();
    // The prefix is always right and would make any name look similar.
    let without = |name: &str| name.get(PREFIX.len()..).unwrap_or_default().to_owned();
    let bare: Vec<String> = names.iter().map(|name| without(name)).collect();
    keys::closest(&without(name), bare.iter().map(String::as_str)).map(|meant| format!("{PREFIX}{meant}"))
}
