//! The settings of the sidecar itself, and of its log.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sortie_inherited::{MAX_NAMED, OUR_PREFIX, is_name};
use sortie_serving::ListenAddr;

use super::reading::{SettingsError, join};
use super::secret::{KeyPlace, Secret};
use super::{SettingsContext, Variables, as_text, backends, duration, positive};

/// Maximum of `Shutdown.Deadline`.
pub const MAX_DEADLINE: Duration = Duration::from_secs(10 * 60);
/// Maximum of `ServerHealth.SilentAfter`.
pub const MAX_SILENCE: Duration = Duration::from_secs(7 * 24 * 3600);
/// Maximum number of entries in `AllowedHosts`.
const MAX_ALLOWED_HOSTS: usize = 64;
/// Maximum length of a host name, in characters: RFC 1035, section 2.3.4.
const MAX_HOST_CHARS: usize = 253;
/// Name of this program's folder within the folders for program state.
const FOLDER: &str = "sortie-sidecar";

/// `app.logging`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Logging {
    /// Minimum level that is logged.
    pub level: Level,
    /// Its format.
    pub encoder: Encoder,
}

/// Severity of a log message.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Everything.
    Trace,
    /// Helps to find a bug.
    Debug,
    /// Useful for people.
    #[default]
    Info,
    /// Unexpected.
    #[serde(alias = "warning")]
    Warn,
    /// A failure. The Catena sidecar has three more names for more severe ones.
    #[serde(alias = "dpanic", alias = "panic", alias = "fatal")]
    Error,
}

impl Level {
    /// Its name: a directive for the log filter.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}

/// Format of the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encoder {
    /// Lines for people.
    #[default]
    Console,
    /// One JSON object per line.
    Json,
}

/// What happens to matches when the sidecar shuts down.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AtShutdown {
    /// They are ended.
    #[default]
    End,
    /// They are kept for the next sidecar with the same `DataFolder`.
    Keep,
}

/// `app.sidecar`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SidecarSettings {
    /// Address of the sidecar's own API and the debug panel; `None`: not served.
    pub debug_panel_addr: Option<ListenAddr>,
    /// The key that callers of the sidecar's own API must send.
    pub api_key: Option<Secret>,
    /// Names and addresses, without a port, by which callers may call ports that require no key, in addition to those
    /// of this machine itself.
    pub allowed_hosts: Vec<String>,
    /// Variables of the sidecar that programs started by it inherit in addition to those of every game server.
    pub pass_environment: Vec<String>,
    /// The resolver's address replaces what a game server sent.
    pub override_connection_details: bool,
    /// Missing ids are filled in.
    pub auto_populate_ids: bool,
    /// Folder for everything that must outlive the process. Each sidecar of a machine needs its own.
    pub data_folder: PathBuf,
    /// The folder is for this one game server: it is removed with the server, unless calls are pending.
    pub is_folder_temporary: bool,
    /// How long a server may be silent before it counts as gone; `None`: for ever.
    pub silent_after: Option<Duration>,
    /// What happens to matches at shutdown.
    pub at_shutdown: AtShutdown,
    /// Maximum time from the signal to the end.
    pub shutdown_deadline: Duration,
}

/// The block in the file.
#[derive(Deserialize, Default)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct SidecarKeys {
    debug_panel_addr: Option<ListenAddr>,
    api_key: Option<Secret>,
    api_key_file: Option<PathBuf>,
    api_key_env: Option<String>,
    allowed_hosts: Vec<String>,
    pass_environment: Vec<String>,
    match_management_strategy: StrategyKeys,
    data_folder: Option<PathBuf>,
    server_health: HealthKeys,
    shutdown: ShutdownKeys,
}

/// `MatchManagementStrategy`.
#[derive(Serialize, Deserialize, Default)]
#[serde(default, rename_all = "PascalCase")]
struct StrategyKeys {
    override_connection_details: Option<bool>,
    #[serde(rename = "AutoPopulateIDs")]
    auto_populate_ids: Option<bool>,
}

/// `ServerHealth`.
#[derive(Serialize, Deserialize, Default)]
#[serde(default, rename_all = "PascalCase")]
struct HealthKeys {
    #[serde(with = "duration::optional")]
    silent_after: Option<Duration>,
}

/// `Shutdown`.
#[derive(Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct ShutdownKeys {
    matches: AtShutdown,
    #[serde(with = "duration")]
    deadline: Duration,
}

impl Default for ShutdownKeys {
    fn default() -> Self {
        Self { matches: AtShutdown::default(), deadline: Duration::from_secs(10) }
    }
}

impl SidecarKeys {
    pub(super) fn checked(
        self,
        place: SettingsContext<'_>,
        has_resolver: bool,
    ) -> Result<SidecarSettings, SettingsError> {
        let path = "app.sidecar";
        let key = KeyPlace {
            path,
            base: place.base,
            text: self.api_key,
            file: self.api_key_file,
            variable: self.api_key_env,
        };
        let api_key = key.read(place.variables)?;
        if self.allowed_hosts.len() > MAX_ALLOWED_HOSTS {
            let problem = format!("has more than {MAX_ALLOWED_HOSTS} entries");
            return Err(SettingsError::at(join(path, "AllowedHosts"), problem));
        }
        if let Some(wrong) = self.allowed_hosts.iter().find(|host| !is_host(host)) {
            let problem = format!("{wrong:?} is neither a name nor an IP address, without a port");
            return Err(SettingsError::at(join(path, "AllowedHosts"), problem));
        }
        check_passed(&join(path, "PassEnvironment"), &self.pass_environment)?;
        if let Some(silent_after) = self.server_health.silent_after {
            within(path, "ServerHealth.SilentAfter", silent_after, MAX_SILENCE)?;
        }
        within(path, "Shutdown.Deadline", self.shutdown.deadline, MAX_DEADLINE)?;
        if self.data_folder.as_ref().is_some_and(|folder| folder.as_os_str().is_empty()) {
            return Err(SettingsError::at(join(path, "DataFolder"), "must not be empty"));
        }
        let (data_folder, is_folder_temporary) = match self.data_folder {
            Some(folder) => (place.base.join(folder), false),
            None => usual_folder(place.variables)?,
        };
        let strategy = self.match_management_strategy;
        Ok(SidecarSettings {
            debug_panel_addr: self.debug_panel_addr,
            api_key,
            allowed_hosts: self.allowed_hosts,
            pass_environment: self.pass_environment,
            override_connection_details: strategy.override_connection_details.unwrap_or(has_resolver),
            auto_populate_ids: strategy.auto_populate_ids.unwrap_or(true),
            data_folder,
            is_folder_temporary,
            silent_after: self.server_health.silent_after,
            at_shutdown: self.shutdown.matches,
            shutdown_deadline: self.shutdown.deadline,
        })
    }
}

fn check_passed(path: &str, names: &[String]) -> Result<(), SettingsError> {
    if names.len() > MAX_NAMED {
        return Err(SettingsError::at(path, format!("has more than {MAX_NAMED} entries")));
    }
    if names.iter().any(|name| !is_name(name)) {
        return Err(SettingsError::at(path, "must be names of variables: not empty, and without `=`"));
    }
    if names.iter().any(|name| name.starts_with(OUR_PREFIX)) {
        let problem = format!(
            "names a variable that begins with {OUR_PREFIX}, which configures the sidecar: pass what programs need under \
             another name"
        );
        return Err(SettingsError::at(path, problem));
    }
    Ok(())
}

/// A host name or an IP address, without a port.
fn is_host(text: &str) -> bool {
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    text.parse::<IpAddr>().is_ok() || (1..=MAX_HOST_CHARS).contains(&text.len()) && text.bytes().all(is_name)
}

fn within(path: &str, key: &str, duration: Duration, max: Duration) -> Result<(), SettingsError> {
    positive(path, key, duration)?;
    if duration > max {
        let problem = format!("must be at most {}", humantime::format_duration(max));
        return Err(SettingsError::at(join(path, key), problem));
    }
    Ok(())
}

/// The usual folder for a program's state: from systemd, else from the XDG base directory specification, else the
/// working folder. A control plane starts many servers on one machine: each has a subfolder.
fn usual_folder(variables: &Variables) -> Result<(PathBuf, bool), SettingsError> {
    let folder = state_folder(variables);
    let Some(id) = backends::given(variables, super::SERVER_ID) else { return Ok((folder, false)) };
    if !id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_') {
        let problem = "SORTIE_SERVER_ID is not a valid folder name: set DataFolder";
        return Err(SettingsError::at("app.sidecar.DataFolder", problem));
    }
    Ok((folder.join(id), true))
}

fn state_folder(variables: &Variables) -> PathBuf {
    let given = |name| backends::given(variables, name);
    // A list, with a single entry for a unit that has one folder.
    if let Some(folder) = given("STATE_DIRECTORY").and_then(|folders| folders.split(':').next()) {
        return PathBuf::from(folder);
    }
    let by_home = given("HOME").map(|home| PathBuf::from(home).join(".local").join("state"));
    // Relative paths are invalid according to the specification.
    let by_xdg = given("XDG_STATE_HOME").map(PathBuf::from).filter(|folder| folder.is_absolute());
    by_xdg.or(by_home).unwrap_or_else(|| PathBuf::from(".")).join(FOLDER)
}

/// The keys as they are in effect.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ShownKeys<'a> {
    #[serde(serialize_with = "as_text")]
    debug_panel_addr: Option<&'a ListenAddr>,
    api_key: Option<&'a Secret>,
    allowed_hosts: &'a [String],
    pass_environment: &'a [String],
    match_management_strategy: StrategyKeys,
    data_folder: &'a PathBuf,
    server_health: HealthKeys,
    shutdown: ShutdownKeys,
}

impl Serialize for SidecarSettings {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let keys = ShownKeys {
            debug_panel_addr: self.debug_panel_addr.as_ref(),
            api_key: self.api_key.as_ref(),
            allowed_hosts: &self.allowed_hosts,
            pass_environment: &self.pass_environment,
            match_management_strategy: StrategyKeys {
                override_connection_details: Some(self.override_connection_details),
                auto_populate_ids: Some(self.auto_populate_ids),
            },
            data_folder: &self.data_folder,
            server_health: HealthKeys { silent_after: self.silent_after },
            shutdown: ShutdownKeys { matches: self.at_shutdown, deadline: self.shutdown_deadline },
        };
        keys.serialize(serializer)
    }
}
