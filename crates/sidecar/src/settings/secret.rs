//! API keys: from the settings, a file or an environment variable, and never shown.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use sortie_config_file::kind_of;

use super::Variables;
use super::reading::{SettingsError, join};

/// Maximum length of an API key, in bytes: it must fit into a header.
pub const MAX_KEY_BYTES: usize = 4096;
/// Shown in place of a secret.
pub const HIDDEN: &str = "(hidden)";

/// A secret text. Neither `Debug` nor serialization shows it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The secret itself.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(HIDDEN)
    }
}

impl<'de> Deserialize<'de> for Secret {
    /// Not derived: the error about a wrong type would quote the value.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::String(text) => Ok(Self(text)),
            other => Err(serde::de::Error::custom(format!("must be text in quotes, is {}", kind_of(&other)))),
        }
    }
}

/// The three keys that give an API key.
pub(super) struct KeyPlace<'a> {
    /// Path of their block.
    pub(super) path: &'a str,
    /// The folder that relative paths start at.
    pub(super) base: &'a Path,
    pub(super) text: Option<Secret>,
    pub(super) file: Option<PathBuf>,
    pub(super) variable: Option<String>,
}

impl KeyPlace<'_> {
    /// The API key, if one of the three is given.
    pub(super) fn read(self, variables: &Variables) -> Result<Option<Secret>, SettingsError> {
        match (self.text, self.file, self.variable) {
            (None, None, None) => Ok(None),
            (Some(Secret(text)), None, None) => checked(self.path, "ApiKey", "", &text),
            (None, Some(file), None) => {
                let file = self.base.join(file);
                let text = sortie_config_file::read_text(&file).map_err(|problem| {
                    SettingsError::at(join(self.path, "ApiKeyFile"), format!("{} {problem}", file.display()))
                })?;
                checked(self.path, "ApiKeyFile", &format!("{} ", file.display()), text.trim())
            }
            (None, None, Some(name)) => match variables.get(&name) {
                Some(text) => checked(self.path, "ApiKeyEnv", &format!("{name} "), text.trim()),
                None => {
                    let problem = format!("the environment variable {name} is not set");
                    Err(SettingsError::at(join(self.path, "ApiKeyEnv"), problem))
                }
            },
            _ => {
                let problem = "give one of ApiKey, ApiKeyFile and ApiKeyEnv, not several";
                Err(SettingsError::at(join(self.path, "ApiKey"), problem))
            }
        }
    }
}

/// The key, if it can be sent in a header. `whose` says where it comes from, for messages.
pub(super) fn checked(
    path: &str,
    key: &str,
    whose: &str,
    text: &str,
) -> Result<Option<Secret>, SettingsError> {
    let wrong = |problem: &str| Err(SettingsError::at(join(path, key), format!("{whose}{problem}")));
    if text.is_empty() {
        return wrong("is empty: it must contain an API key");
    }
    if text.len() > MAX_KEY_BYTES {
        return wrong(&format!("has more than {MAX_KEY_BYTES} bytes, too many for an API key"));
    }
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return wrong("contains invalid characters: an API key is visible ASCII without spaces");
    }
    Ok(Some(Secret(text.to_owned())))
}
