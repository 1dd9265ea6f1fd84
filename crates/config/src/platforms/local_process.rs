//! Processes on this machine: the section `fleets.<name>.local_process`.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Map, Value, json};
use sortie_inherited::{MAX_NAMED, OUR_PREFIX, is_name};
use toml::Table;

use super::{AllocatorConfig, Platform, PlatformSettings};
use crate::contradictions::secret_variables;
use crate::keys::Kind::{self, Duration as DurationText, Path, Size, Text, Texts};
use crate::keys::Presence::{Default, Optional, Required};
use crate::keys::{KeyDoc, key};
use crate::model::{Config, Environment, FleetConfig};
use crate::parse::{self, DAY, SECOND, YEAR, show_size};
use crate::section::Section;
use crate::show::{HIDDEN, put, put_some, shown, shown_path};

/// Its name in `allocator`, and of its section.
const NAME: &str = "local_process";
/// Maximum number of arguments, and of environment variables, of a server.
const MAX_ENTRIES: usize = 1_000;
/// Minimum and maximum size of the output that is kept of a server, in bytes: 4 KiB, 1 GiB.
const OUTPUT_LIMITS: std::ops::RangeInclusive<u64> = 4 << 10..=1 << 30;

pub(super) const PLATFORM: Platform =
    Platform { name: NAME, keys: KEYS, read, warn_together: warn_of_shared_ports };

/// The keys of its section.
const KEYS: &[KeyDoc] = &[
    key("fleets.<name>.local_process.path", Path, Required, "The server's program."),
    key(
        "fleets.<name>.local_process.arguments",
        Texts,
        Default("[]"),
        "Its arguments, with the placeholders `{port}`, `{server_id}` and `{fleet}`. At most 1000.",
    ),
    key(
        "fleets.<name>.local_process.environment",
        Kind::Table,
        Default("{}"),
        "Variables added to its environment, with the same placeholders. `config show` hides their values. At most 1000.",
    ),
    key(
        "fleets.<name>.local_process.pass_environment",
        Texts,
        Default("[]"),
        "Names of variables of the control plane that the servers inherit in addition to `PATH`, `HOME`, `TMPDIR`, `TZ`, `LANG` and the usual `LC_…`; nothing else is inherited. No patterns. At most 1000.",
    ),
    key(
        "fleets.<name>.local_process.working_folder",
        Path,
        Optional("the working folder of the control plane"),
        "Folder in which it is started.",
    ),
    key(
        "fleets.<name>.local_process.ports",
        Text,
        Default("7800-7899"),
        "First and last port. Each server gets one, so there must be at least `max`. Fleets may share a range.",
    ),
    key(
        "fleets.<name>.local_process.address",
        Text,
        Default("127.0.0.1"),
        "IP address under which the platform lists its servers. Players get the address that a server reports with MatchReady.",
    ),
    key(
        "fleets.<name>.local_process.stop_grace",
        DurationText,
        Default("5s"),
        "Time to exit after SIGTERM, 0s to 10m; then it is killed.",
    ),
    key(
        "fleets.<name>.local_process.output_limit",
        Size,
        Default("1MiB"),
        "How much of a server's newest output is kept, 4KiB to 1GiB.",
    ),
    key(
        "fleets.<name>.local_process.max_run_time",
        DurationText,
        Optional("no limit"),
        "A server older than this is stopped, 1s to 366d. It gets no match that could last until then. If `broker.server_max_lifetime` is shorter, that applies.",
    ),
    key(
        "fleets.<name>.local_process.reaper_period",
        DurationText,
        Default("60s"),
        "Interval between checks for servers that are too old, 1s to 24h.",
    ),
];

/// Processes on this machine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LocalProcessConfig {
    /// The program; absolute.
    pub path: PathBuf,
    /// Its arguments, with placeholders.
    pub arguments: Vec<String>,
    /// Variables added to its environment.
    pub environment: Environment,
    /// Names of our own variables that it inherits in addition to those that every server does.
    pub pass_environment: Vec<String>,
    /// Folder in which it is started; absolute.
    pub working_folder: Option<PathBuf>,
    /// One port per server; at least as many as the fleet's maximum number of servers.
    pub ports: RangeInclusive<u16>,
    /// The address for players if a server reports none.
    pub address: IpAddr,
    /// Time from SIGTERM to SIGKILL.
    pub stop_grace: Duration,
    /// Maximum size of the output kept of each server, in bytes: the newest part.
    pub output_limit: u64,
    /// A server older than this is stopped.
    pub max_run_time: Option<Duration>,
    /// Interval between checks for servers that are too old.
    pub reaper_period: Duration,
}

impl PlatformSettings for LocalProcessConfig {
    fn platform(&self) -> &'static str {
        NAME
    }

    fn show(&self) -> Table {
        table(self)
    }

    /// Without the environment, which may hold secrets.
    fn describe(&self) -> Map<String, Value> {
        let mut described = Map::new();
        described.insert("path".to_owned(), json!(self.path));
        described.insert("arguments".to_owned(), json!(self.arguments));
        described.insert("working_folder".to_owned(), json!(self.working_folder));
        described.insert("ports".to_owned(), json!(format!("{}-{}", self.ports.start(), self.ports.end())));
        described
    }

    fn max_run_time(&self) -> Option<Duration> {
        self.max_run_time
    }

    /// Those of the built-in arena, from its arguments.
    fn server_requirements(&self) -> Option<&str> {
        let [first, second, options @ ..] = self.arguments.as_slice() else { return None };
        let is_arena = first == "arena" && second == "serve";
        let at = options.iter().position(|option| option == "--requirements").filter(|_| is_arena)?;
        // Placeholders are filled in when a server starts.
        options.get(at + 1).map(String::as_str).filter(|text| !text.contains('{'))
    }

    fn warn(&self, top: &Section<'_>, config: &Config, fleet: &FleetConfig) {
        passed_secrets(self, top, config, fleet);
    }
}

fn read(section: &Section<'_>, max: Option<u32>) -> Option<AllocatorConfig> {
    let path = section.path("path");
    // Arguments may contain secrets, and `parse::text` quotes nothing.
    let argument = |value: &Value| parse::text(value).map(str::to_owned);
    let arguments = section.get("arguments", parse::list(MAX_ENTRIES, argument));
    let environment = section.get("environment", parse::variables(MAX_ENTRIES));
    if let Some(environment) = &environment {
        warn_of_hidden(section, environment);
    }
    let pass_environment = section.get("pass_environment", parse::list(MAX_NAMED, passed_variable));
    let working_folder = section.optional_path("working_folder");
    let ports = section.get("ports", parse::ports);
    if let (Some(ports), Some(max)) = (&ports, max)
        && ports.len() < max as usize
    {
        section.problem(
            "ports",
            format!("has {} ports, too few for `max`, which is {max} servers", ports.len()),
        );
    }
    let address = section.get("address", parse::ip);
    let stop_grace = section.get("stop_grace", parse::duration(Duration::ZERO..=600 * SECOND));
    let output_limit = section.get("output_limit", parse::size(OUTPUT_LIMITS));
    let max_run_time = section.optional("max_run_time", parse::duration(SECOND..=YEAR));
    let reaper_period = section.get("reaper_period", parse::duration(SECOND..=DAY));
    Some(AllocatorConfig::of(LocalProcessConfig {
        path: path?,
        arguments: arguments?,
        environment: Environment(environment?),
        pass_environment: pass_environment?,
        working_folder: working_folder?,
        ports: ports?,
        address: address?,
        stop_grace: stop_grace?,
        output_limit: output_limit?,
        max_run_time: max_run_time?,
        reaper_period: reaper_period?,
    }))
}

/// The name of a variable that servers inherit.
fn passed_variable(value: &Value) -> Result<String, String> {
    let name = parse::text(value)?;
    if name.starts_with(OUR_PREFIX) {
        return Err(format!(
            "names a variable that begins with {OUR_PREFIX}, which configures the control plane: set what the servers need in \
             `environment`"
        ));
    }
    if !is_name(name) {
        return Err("must be the name of a variable: not empty, and without `=`".to_owned());
    }
    Ok(name.to_owned())
}

fn warn_of_hidden(section: &Section<'_>, environment: &BTreeMap<String, String>) {
    for (name, _) in environment.iter().filter(|(_, value)| *value == HIDDEN) {
        let text = format!("{} holds what `config show` prints in place of a value", parse::quoted(name));
        section.warn("environment", text);
    }
}

fn passed_secrets(process: &LocalProcessConfig, top: &Section<'_>, config: &Config, fleet: &FleetConfig) {
    let keys = ["fleets", fleet.fleet.id.as_str(), NAME, "pass_environment"];
    let secrets = secret_variables(config);
    for name in &process.pass_environment {
        if let Some(holds) = secrets.get(name.as_str()) {
            let text = format!(
                "names {name}, which holds {holds}: every server of the fleet and its children can read it. Take it \
                 out, or keep the secret in a file"
            );
            top.warn_below(&keys, text);
        } else if name == "*" {
            let text = "holds `*`, which is not a pattern here but the name of a variable: it passes nothing. Name each \
                        variable that the servers need";
            top.warn_below(&keys, text.to_owned());
        }
    }
}

fn table(local: &LocalProcessConfig) -> Table {
    let mut table = Table::new();
    put(&mut table, "path", shown_path(&local.path));
    put(&mut table, "arguments", local.arguments.clone());
    let hidden: Table = local.environment.0.keys().map(|name| (name.clone(), HIDDEN.into())).collect();
    put(&mut table, "environment", hidden);
    put(&mut table, "pass_environment", local.pass_environment.clone());
    put_some(&mut table, "working_folder", local.working_folder.as_deref().map(shown_path));
    put(&mut table, "ports", format!("{}-{}", local.ports.start(), local.ports.end()));
    put(&mut table, "address", local.address.to_string());
    put(&mut table, "stop_grace", shown(local.stop_grace));
    put(&mut table, "output_limit", show_size(local.output_limit));
    put_some(&mut table, "max_run_time", local.max_run_time.map(shown));
    put(&mut table, "reaper_period", shown(local.reaper_period));
    table
}

/// Fleets may share ports, but then they may not be able to reach their maximum numbers of servers together.
fn warn_of_shared_ports(section: &Section<'_>, fleets: &[FleetConfig]) {
    let local =
        fleets.iter().filter_map(|fleet| Some((fleet, fleet.allocator.settings::<LocalProcessConfig>()?)));
    let local: Vec<_> = local.collect();
    for (at, (one, here)) in local.iter().enumerate() {
        for (other, there) in local.iter().skip(at + 1) {
            let first = *here.ports.start().max(there.ports.start());
            let last = *here.ports.end().min(there.ports.end());
            let shared = (first..=last).len();
            let ports = here.ports.len() + there.ports.len() - shared;
            let servers = one.fleet.max as usize + other.fleet.max as usize;
            if shared > 0 && servers > ports {
                section.warn(
                    one.fleet.id.as_str(),
                    format!(
                        "shares ports with the fleet {}: the two may have {servers} servers and have {ports} ports",
                        parse::quoted(other.fleet.id.as_str())
                    ),
                );
            }
        }
    }
}
