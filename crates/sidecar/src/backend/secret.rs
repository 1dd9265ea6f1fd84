//! The backend's API key, and where it is read from.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::PathBuf;

/// Longest key, in bytes; the same for its file.
pub const MAX_KEY_BYTES: usize = 4 << 10;

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// A key as it is sent.
    #[must_use]
    pub const fn new(text: String) -> Self {
        Self(text)
    }

    /// The text, for whoever sends it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Where the key is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ApiKeySource {
    /// In the settings themselves.
    Text(Secret),
    /// In a file, with or without a line end.
    File(PathBuf),
    /// In an environment variable.
    Variable(String),
}

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum ApiKeyError {
    /// The file cannot be read.
    #[error("the API key's file {path} cannot be read: {source}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There is no such variable.
    #[error("the API key's environment variable {0} is not set")]
    NoVariable(String),
    /// What is there is no key.
    #[error("{place}: {problem}")]
    Unusable {
        /// Where it was read from.
        place: String,
        /// What is wrong with it.
        problem: &'static str,
    },
}

impl ApiKeySource {
    /// Reads the key; `variable` gives environment variables.
    ///
    /// # Errors
    /// [`ApiKeyError`] names the file or the variable.
    pub fn read(&self, variable: impl FnOnce(&str) -> Option<String>) -> Result<Secret, ApiKeyError> {
        let (place, text) = match self {
            Self::Text(secret) => ("the API key of the settings".to_owned(), secret.0.clone()),
            Self::File(path) => {
                let failed = |source| ApiKeyError::File { path: path.clone(), source };
                let mut text = String::new();
                let file = File::open(path).map_err(failed)?;
                file.take(MAX_KEY_BYTES as u64 + 1).read_to_string(&mut text).map_err(failed)?;
                (format!("the API key's file {}", path.display()), text)
            }
            Self::Variable(name) => {
                let text = variable(name).ok_or_else(|| ApiKeyError::NoVariable(name.clone()))?;
                (format!("the API key's environment variable {name}"), text)
            }
        };
        check(text.trim()).map_err(|problem| ApiKeyError::Unusable { place, problem })
    }
}

fn check(key: &str) -> Result<Secret, &'static str> {
    if key.is_empty() {
        return Err("it is empty");
    }
    if key.len() > MAX_KEY_BYTES {
        return Err("it is longer than 4096 bytes");
    }
    if !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("it holds something that is not printable ASCII, or a space");
    }
    Ok(Secret(key.to_owned()))
}
