//! The settings file: JSON in the Catena sidecar's form, or the same keys as TOML.
//!
//! A file for the Catena sidecar works unchanged, so keys are spelled as there. Sortie's own keys follow the style of
//! their block. An unknown key is a warning rather than an error, so that files for other versions work too.
//!
//! | what | where |
//! |---|---|
//! | file to tree | `document` |
//! | tree to structs, with the path of each problem | `reading` |
//! | `use` and `configs` | `choice` |
//! | the blocks | `sources`, `backends`, `own`; those of the resolvers in their own modules |
//! | API keys | `secret` |
//! | durations | [`duration`] |

mod backends;
mod choice;
mod document;
pub mod duration;
mod own;
mod reading;
mod secret;
mod shown;
mod sources;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{self, Path};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;
use sortie_config_file::kind_of;

use crate::resolver::fixed::StaticOptions;
use crate::resolver::{ResolveError, ResolverSettings};
pub use backends::{BACKENDS, BackendSettings, CatenaBackendSettings, NoopBackendSettings};
use choice::{Choice, Kind};
pub use own::{AtShutdown, Encoder, Level, Logging, MAX_DEADLINE, MAX_SILENCE, SidecarSettings};
use reading::join;
pub use reading::{Note, SettingsError, read};
pub use secret::{HIDDEN, MAX_KEY_BYTES, Secret};
pub use sources::{
    AgonesCounter, AgonesHealth, AgonesList, AgonesPort, AgonesSettings, CatenaApiSettings, EVENT_SOURCES,
    EventSourceSettings,
};

/// The id that a control plane gives to a server that it starts.
const SERVER_ID: &str = "SORTIE_SERVER_ID";
/// The server's port.
const PORT: &str = "SORTIE_PORT";
/// Where players reach that server.
const PUBLIC_ADDRESS: &str = "SORTIE_PUBLIC_ADDRESS";

/// Environment variables by name.
pub type Variables = BTreeMap<String, String>;

/// All settings of a sidecar.
#[derive(Clone, PartialEq, Debug)]
pub struct Settings {
    /// Logged at the start.
    pub motd: Option<String>,
    /// What is logged, and how.
    pub logging: Logging,
    /// At least one, without duplicates.
    pub event_sources: Vec<EventSourceSettings>,
    /// `None`: game servers report their own addresses.
    pub resolver: Option<ResolverSettings>,
    /// The backend.
    pub backend: BackendSettings,
    /// The sidecar itself.
    pub sidecar: SidecarSettings,
    /// The game server's id in the system that started this sidecar: `SORTIE_SERVER_ID`.
    pub server_id: Option<String>,
}

/// Settings, with warnings about them.
#[derive(Clone, PartialEq, Debug)]
pub struct Loaded {
    /// The settings.
    pub settings: Settings,
    /// To be logged, e.g. unknown keys. At most 100.
    pub warnings: Vec<Note>,
}

/// A block of settings that is parsed by its user.
#[derive(Clone, PartialEq)]
pub struct Block {
    path: String,
    value: Value,
}

impl Block {
    /// Its path, for messages about its keys.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Parses its settings: see [`read()`].
    ///
    /// # Errors
    /// [`SettingsError`] with the path of the key.
    pub fn read<T: DeserializeOwned>(&self, warnings: &mut Vec<Note>) -> Result<T, SettingsError> {
        read(&self.value, &self.path, warnings)
    }
}

impl fmt::Debug for Block {
    /// Its values may be secrets, e.g. the environment of a program.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Block").field("path", &self.path).finish_non_exhaustive()
    }
}

/// How relative paths and names of variables are resolved.
#[derive(Clone, Copy)]
struct SettingsContext<'a> {
    /// The folder of the file.
    base: &'a Path,
    variables: &'a Variables,
}

impl SettingsContext<'_> {
    /// The variable in which the starter of this sidecar gives the address of its game server, and the address. If a
    /// server is given only a port, its players are on the same machine.
    fn given_address(&self) -> Option<(&'static str, String)> {
        if let Some(address) = backends::given(self.variables, PUBLIC_ADDRESS) {
            return Some((PUBLIC_ADDRESS, address.to_owned()));
        }
        backends::given(self.variables, SERVER_ID)?;
        backends::given(self.variables, PORT).map(|port| (PORT, format!("127.0.0.1:{port}")))
    }
}

/// Reads and checks the file at `path`, and the key files that it names. Relative paths in it start at its folder.
///
/// # Errors
/// [`SettingsError`] with all problems that can be found at once; for a problem with the whole file, its path is the
/// file's.
pub fn load(path: &Path, variables: &Variables) -> Result<Loaded, SettingsError> {
    let whole = |problem: String| SettingsError::at(path.display().to_string(), problem);
    let tree = document::read(path).map_err(whole)?;
    if !tree.is_object() {
        return Err(whole(format!("must hold a table of settings at its top, is {}", kind_of(&tree))));
    }
    let absolute = path::absolute(path).map_err(|error| whole(format!("has no absolute path: {error}")))?;
    let base = absolute.parent().unwrap_or(Path::new("/"));
    Reading { place: SettingsContext { base, variables }, warnings: Vec::new(), problems: Vec::new() }
        .settings(&tree)
}

/// The top level of a file.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Top {
    motd: Option<String>,
    app: App,
}

/// Each block is parsed separately, so that a problem in one does not hide those in the others.
#[derive(Deserialize, Default)]
#[serde(default)]
struct App {
    logging: Value,
    event_source: Value,
    resolver: Value,
    backend: Value,
    sidecar: Value,
}

/// Collects problems and warnings.
struct Reading<'a> {
    place: SettingsContext<'a>,
    warnings: Vec<Note>,
    problems: Vec<Note>,
}

impl Reading<'_> {
    fn settings(mut self, tree: &Value) -> Result<Loaded, SettingsError> {
        let Top { motd, app } = read(tree, "", &mut self.warnings)?;
        let logging = read(&app.logging, "app.logging", &mut self.warnings);
        let logging = self.keep(logging);
        let event_sources = self.event_sources(&app.event_source);
        let resolver = self.resolver(&app.resolver);
        let backend = self.backend(&app.backend);
        // A port alone says less than a game server may know.
        let is_known = backends::given(self.place.variables, PUBLIC_ADDRESS).is_some();
        let overrides = !app.resolver.is_null() || is_known;
        let sidecar = read(&app.sidecar, "app.sidecar", &mut self.warnings)
            .and_then(|keys: own::SidecarKeys| keys.checked(self.place, overrides));
        let sidecar = self.keep(sidecar).map(|mut sidecar| {
            let secrets = secret_variables(&[&app.event_source, &app.backend, &app.sidecar]);
            self.withhold(&mut sidecar.pass_environment, &secrets);
            sidecar
        });
        let whole = logging.zip(backend).zip(sidecar).filter(|_| self.problems.is_empty());
        let Some(((logging, backend), sidecar)) = whole else {
            return Err(SettingsError { problems: self.problems });
        };
        let server_id = backends::given(self.place.variables, SERVER_ID).map(str::to_owned);
        let settings = Settings { motd, logging, event_sources, resolver, backend, sidecar, server_id };
        if settings.sidecar.override_connection_details && settings.resolver.is_none() {
            let path = "app.sidecar.MatchManagementStrategy.OverrideConnectionDetails".to_owned();
            let text = "has no effect: there is no app.resolver, so game servers' own details are sent";
            self.warnings.push(Note { path, text: text.to_owned() });
        }
        Ok(Loaded { settings, warnings: self.warnings })
    }

    /// Removes variables that contain a key of the sidecar from those that programs inherit.
    fn withhold(&mut self, pass_environment: &mut Vec<String>, secrets: &[String]) {
        pass_environment.retain(|name| {
            let text = if secrets.contains(name) {
                format!(
                    "{name} is not inherited: it contains a key of the sidecar, according to an ApiKeyEnv"
                )
            } else if name == "*" {
                "* is not a pattern, but the name of a variable that does not exist: name each variable"
                    .to_owned()
            } else {
                return true;
            };
            self.warnings.push(Note { path: "app.sidecar.PassEnvironment".to_owned(), text });
            false
        });
    }

    /// The outcome, or `None` after recording its problems.
    fn keep<T>(&mut self, outcome: Result<T, SettingsError>) -> Option<T> {
        outcome.map_err(|error| self.problems.extend(error.problems)).ok()
    }

    fn choice(&mut self, value: &Value, kind: &Kind) -> Vec<(&'static str, Block)> {
        let blocks = Choice::read(value, kind, &mut self.warnings)
            .and_then(|choice| choice.blocks(kind, &mut self.warnings));
        self.keep(blocks).unwrap_or_default()
    }

    fn event_sources(&mut self, value: &Value) -> Vec<EventSourceSettings> {
        if value.is_null() {
            let [first, ..] = EVENT_SOURCES;
            let problem = format!("must be given: the source of game servers' calls, e.g. {first:?}");
            self.problems.push(Note { path: "app.event_source".to_owned(), text: problem });
            return Vec::new();
        }
        let mut sources = Vec::new();
        for (name, block) in self.choice(value, &choice::EVENT_SOURCE) {
            let source = self.event_source(name, block);
            sources.extend(self.keep(source));
        }
        sources
    }

    fn event_source(&mut self, name: &str, block: Block) -> Result<EventSourceSettings, SettingsError> {
        let [catena, agones, virtual_server, _] = EVENT_SOURCES;
        Ok(if name == catena {
            let keys: sources::CatenaApiKeys = block.read(&mut self.warnings)?;
            EventSourceSettings::CatenaApi(keys.checked(&block.path, self.place)?)
        } else if name == agones {
            let keys: sources::AgonesKeys = block.read(&mut self.warnings)?;
            EventSourceSettings::AgonesSdk(Box::new(keys.checked(&block.path, self.place.variables)?))
        } else if name == virtual_server {
            EventSourceSettings::VirtualServer(block)
        } else {
            EventSourceSettings::Process(block)
        })
    }

    fn resolver(&mut self, value: &Value) -> Option<ResolverSettings> {
        if value.is_null() {
            let (name, address) = self.place.given_address()?;
            let wrong = |ResolveError(problem)| SettingsError::at(name, problem);
            let address = address.parse().map_err(wrong);
            return self.keep(address).map(|address| ResolverSettings::Static(StaticOptions { address }));
        }
        let (name, block) = self.choice(value, &choice::RESOLVER).pop()?;
        let settings = ResolverSettings::read(name, &block, &mut self.warnings);
        self.keep(settings)
    }

    fn backend(&mut self, value: &Value) -> Option<BackendSettings> {
        let [catena, noop] = BACKENDS;
        let (name, block) = if value.is_null() {
            let name =
                if backends::given(self.place.variables, "SORTIE_API").is_some() { catena } else { noop };
            (name, Block { path: format!("app.backend.configs.{name}"), value: Value::Null })
        } else {
            self.choice(value, &choice::BACKEND).pop()?
        };
        let settings = self.backend_of(name == catena, &block);
        self.keep(settings)
    }

    fn backend_of(&mut self, is_catena: bool, block: &Block) -> Result<BackendSettings, SettingsError> {
        if is_catena {
            let keys: backends::CatenaBackendKeys = block.read(&mut self.warnings)?;
            return keys.checked(&block.path, self.place).map(BackendSettings::Catena);
        }
        let settings: NoopBackendSettings = block.read(&mut self.warnings)?;
        let matches = settings.matches.map(|file| self.place.base.join(file));
        Ok(BackendSettings::Noop(NoopBackendSettings { matches, ..settings }))
    }
}

/// The variables named by `ApiKeyEnv` anywhere in these blocks.
fn secret_variables(blocks: &[&Value]) -> Vec<String> {
    fn find(value: &Value, found: &mut Vec<String>) {
        for (key, value) in value.as_object().into_iter().flatten() {
            match value {
                Value::String(name) if reading::same(key, "ApiKeyEnv") => found.push(name.clone()),
                other => find(other, found),
            }
        }
    }
    let mut found = Vec::new();
    blocks.iter().for_each(|block| find(block, &mut found));
    found
}

/// Checks that a duration is not zero.
fn positive(path: &str, key: &str, duration: Duration) -> Result<(), SettingsError> {
    if duration.is_zero() {
        return Err(SettingsError::at(join(path, key), "must be longer than 0s"));
    }
    Ok(())
}

/// Serializes with `Display`.
#[allow(clippy::ref_option, reason = "serde passes the field by reference")]
fn as_text<T: fmt::Display, S: Serializer>(value: &Option<T>, serializer: S) -> Result<S::Ok, S::Error> {
    value.as_ref().map(T::to_string).serialize(serializer)
}
