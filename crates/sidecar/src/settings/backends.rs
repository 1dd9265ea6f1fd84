//! The settings of the backends.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use url::Url;

use super::reading::{SettingsError, cut, join};
use super::secret::{KeyPlace, Secret, checked};
use super::{SettingsContext, Variables};

/// Every backend, by its name in the settings.
pub const BACKENDS: [&str; 2] = ["catena_backend", "noop_backend"];

/// The backend in use.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum BackendSettings {
    /// `catena_backend`
    Catena(CatenaBackendSettings),
    /// `noop_backend`
    Noop(NoopBackendSettings),
}

impl BackendSettings {
    /// Its name in the settings.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        let [catena, noop] = BACKENDS;
        match self {
            Self::Catena(_) => catena,
            Self::Noop(_) => noop,
        }
    }
}

/// `catena_backend`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct CatenaBackendSettings {
    /// `http://`, `https://`, `grpc://` or `grpcs://`, with a host and without user, query and fragment.
    #[serde(rename = "url")]
    pub url: String,
    /// Sent with every call.
    pub api_key: Option<Secret>,
    /// PEM file with roots to trust in addition to the system's; absolute if the settings' path is.
    pub ca_file: Option<PathBuf>,
}

/// The block in the file.
#[derive(Deserialize, Default)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct CatenaBackendKeys {
    #[serde(rename = "url")]
    url: Option<String>,
    api_key: Option<Secret>,
    api_key_file: Option<PathBuf>,
    api_key_env: Option<String>,
    ca_file: Option<PathBuf>,
}

impl CatenaBackendKeys {
    /// Without a URL, uses the environment's. The environment's key is sent only to that URL.
    pub(super) fn checked(
        self,
        path: &str,
        place: SettingsContext<'_>,
    ) -> Result<CatenaBackendSettings, SettingsError> {
        let from_environment = |name| given(place.variables, name);
        let key = KeyPlace {
            path,
            base: place.base,
            text: self.api_key,
            file: self.api_key_file,
            variable: self.api_key_env,
        };
        let key = key.read(place.variables)?;
        let ca_file = self.ca_file.map(|file| place.base.join(file));
        let ca_file = ca_file.or_else(|| from_environment("SORTIE_CA").map(PathBuf::from));
        if let Some(url) = self.url {
            check_url(&url).map_err(|problem| SettingsError::at(join(path, "url"), problem))?;
            return Ok(CatenaBackendSettings { url, api_key: key, ca_file });
        }
        let Some(url) = from_environment("SORTIE_API") else {
            let problem = "must be given, like \"https://sortie.example.com\", here or in the environment \
                           variable SORTIE_API";
            return Err(SettingsError::at(join(path, "url"), problem));
        };
        check_url(url).map_err(|problem| SettingsError::at("SORTIE_API", problem))?;
        let api_key = match (key, from_environment("SORTIE_API_KEY")) {
            (None, Some(text)) => checked("", "SORTIE_API_KEY", "", text.trim())?,
            (key, _) => key,
        };
        Ok(CatenaBackendSettings { url: url.to_owned(), api_key, ca_file })
    }
}

/// The value of a variable that is set and not empty.
pub(super) fn given<'a>(variables: &'a Variables, name: &str) -> Option<&'a str> {
    variables.get(name).map(String::as_str).filter(|text| !text.trim().is_empty())
}

/// Never quotes a text that contains a password.
fn check_url(text: &str) -> Result<(), String> {
    let right = "must be a URL like \"https://sortie.example.com\" or \"grpc://10.0.0.5:7400\"";
    let url = Url::parse(text).map_err(|error| format!("{right}: {error}"))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(format!("{right}, without user and password: give a key as ApiKeyFile or ApiKeyEnv"));
    }
    if !matches!(url.scheme(), "http" | "https" | "grpc" | "grpcs") {
        return Err(format!("{right}, with http, https, grpc or grpcs; is {:?}", cut(text)));
    }
    if url.host_str().is_none_or(str::is_empty) || url.query().is_some() || url.fragment().is_some() {
        return Err(format!("{right}, with a host and without query and fragment; is {:?}", cut(text)));
    }
    Ok(())
}

/// `noop_backend`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct NoopBackendSettings {
    /// JSON file with the matches, given one after another; `None`: no matches.
    pub matches: Option<PathBuf>,
    /// Starts again after the last match.
    pub repeat: bool,
}
