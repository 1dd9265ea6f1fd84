//! The effective settings for people: with defaults, without secrets.

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::secret::HIDDEN;
use super::{BackendSettings, EventSourceSettings, Settings};

/// Tables with these names may contain arbitrary values.
const TABLES: [&str; 3] = ["env", "environment", "headers"];
/// A key whose name contains one of these has a secret.
const NAMES: [&str; 5] = ["apikey", "password", "secret", "token", "credential"];

impl Settings {
    /// The same shape as a settings file, for the debug panel.
    #[must_use]
    pub fn shown(&self) -> Value {
        let names: Vec<_> = self.event_sources.iter().map(EventSourceSettings::name).collect();
        let sources: Map<_, _> =
            self.event_sources.iter().map(|one| (one.name().to_owned(), event_source(one))).collect();
        let backend = match &self.backend {
            BackendSettings::Catena(settings) => plain(settings),
            BackendSettings::Noop(settings) => plain(settings),
        };
        let resolver = self
            .resolver
            .as_ref()
            .map(|resolver| json!({"use": resolver.name(), "configs": {resolver.name(): plain(resolver)}}));
        json!({
            "motd": self.motd,
            "app": {
                "logging": self.logging,
                "event_source": {"use": names, "configs": sources},
                "resolver": resolver,
                "backend": {"use": self.backend.name(), "configs": {self.backend.name(): backend}},
                "sidecar": plain(&self.sidecar),
            },
        })
    }
}

fn event_source(source: &EventSourceSettings) -> Value {
    match source {
        EventSourceSettings::CatenaApi(settings) => plain(settings),
        EventSourceSettings::AgonesSdk(settings) => plain(&**settings),
        EventSourceSettings::VirtualServer(block) | EventSourceSettings::Process(block) => {
            hidden(&block.value)
        }
    }
}

/// For types whose secrets hide themselves.
fn plain(settings: &impl Serialize) -> Value {
    serde_json::to_value(settings).unwrap_or_default()
}

/// The value without anything that may be a secret.
fn hidden(value: &Value) -> Value {
    match value {
        Value::Object(table) => {
            table.iter().map(|(key, value)| (key.clone(), hidden_under(key, value))).collect()
        }
        Value::Array(list) => list.iter().map(hidden).collect(),
        other => other.clone(),
    }
}

fn hidden_under(key: &str, value: &Value) -> Value {
    let key: String = key.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_lowercase();
    match value {
        Value::Object(table) if TABLES.contains(&key.as_str()) => {
            table.keys().map(|name| (name.clone(), Value::from(HIDDEN))).collect()
        }
        Value::Array(list) if TABLES.contains(&key.as_str()) => {
            list.iter().map(|_| Value::from(HIDDEN)).collect()
        }
        Value::String(_) if NAMES.iter().any(|name| key.contains(name)) => Value::from(HIDDEN),
        other => hidden(other),
    }
}
