//! `sortie config`, and how every command that needs the configuration gets it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::SystemTime;

use sortie_config::{Config, Overrides};

use super::config_import;
use super::output::line;
use crate::cli::{self, ConfigAction, ReferenceFormat, Source, Teams};
use crate::edge;
use crate::failure::Failure;

/// Read by default, if it exists.
const DEFAULT_FILE: &str = "sortie.toml";

pub(crate) fn run(options: &cli::Config) -> Result<ExitCode, Failure> {
    match &options.action {
        ConfigAction::Check(source) => {
            let config = load(source)?;
            for warning in &config.warnings {
                line(format_args!("warning: {warning}"))?;
            }
            for remark in &config.remarks {
                line(format_args!("remark: {remark}"))?;
            }
            for (section, tls) in [("tls", &config.tls), ("dispatch.tls", &config.dispatch.tls)] {
                let Some(tls) = tls else { continue };
                let expiry = edge::certificate_files(tls).check();
                let expiry = expiry.map_err(|problem| Failure::of(section, problem))?;
                if let Some(warning) = expiry.warning(SystemTime::now()) {
                    line(format_args!("warning: {section}.certificate: {warning}"))?;
                }
            }
            line("the configuration is valid")?;
        }
        ConfigAction::Show(source) => line(load(source)?.show())?,
        ConfigAction::Reference(options) => line(reference(options.format).trim_end())?,
        ConfigAction::ImportCatena(options) => config_import::run(options)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn reference(format: ReferenceFormat) -> String {
    match format {
        ReferenceFormat::Text => sortie_config::reference_text(),
        ReferenceFormat::Markdown => sortie_config::reference_markdown(),
        ReferenceFormat::Json => sortie_config::reference_json(),
    }
}

/// The configuration from file, environment and command line.
pub(crate) fn load(source: &Source) -> Result<Config, Failure> {
    let overrides =
        Overrides { listen: source.listen, data: source.data.clone(), dev: source.dev.then_some(true) };
    let mut config = parse(file(source.config.clone()).as_deref(), overrides)?;
    if config.dev && config.fleets.is_empty() {
        add_arena(&mut config)?;
    }
    Ok(config)
}

/// The configuration from file and environment, for commands other than the control plane.
pub(crate) fn load_file(named: Option<PathBuf>) -> Result<Config, Failure> {
    parse(file(named).as_deref(), Overrides::default())
}

fn file(named: Option<PathBuf>) -> Option<PathBuf> {
    named.or_else(|| Some(PathBuf::from(DEFAULT_FILE)).filter(|path| path.exists()))
}

fn parse(path: Option<&Path>, overrides: Overrides) -> Result<Config, Failure> {
    let variables = std::env::vars_os().filter_map(|(name, value)| {
        // Settings are Unicode.
        Some((name.into_string().ok()?, value.into_string().ok()?))
    });
    Config::load(path, variables, overrides).map_err(|problems| {
        let named = path.map_or_else(|| "the configuration".to_owned(), |path| path.display().to_string());
        Failure::new(format!("{named} is not valid:\n{problems}"))
    })
}

/// Adds the built-in game, for development mode without a configured fleet.
fn add_arena(config: &mut Config) -> Result<(), Failure> {
    let binary = std::env::current_exe().map_err(|error| Failure::of("cannot find this program", error))?;
    let arena = arena_config(&binary, &ArenaFleet::default())?;
    config.fleets = arena.fleets;
    config.gateway.default_fleet = arena.gateway.default_fleet;
    Ok(())
}

/// Parameters of the built-in fleet.
pub(crate) struct ArenaFleet {
    pub(crate) max: u32,
    pub(crate) warm: u32,
    pub(crate) capacity: u32,
    pub(crate) ports: std::ops::RangeInclusive<u16>,
    /// A queue with these teams, named like `2v2`.
    pub(crate) queue: Option<Teams>,
}

impl Default for ArenaFleet {
    fn default() -> Self {
        Self { max: 8, warm: 1, capacity: 8, ports: 7800..=7899, queue: None }
    }
}

/// A configuration with one fleet of arena servers, run with the program at `binary`.
pub(crate) fn arena_config(binary: &Path, fleet: &ArenaFleet) -> Result<Config, Failure> {
    let mut settings = serde_json::json!({
        "dev": true,
        "gateway": { "default_fleet": "arena" },
        "fleets": { "arena": {
            "allocator": "local_process",
            "description": "the built-in game",
            "requirements": "MatchProperties.game == 'arena'",
            "max": fleet.max,
            "warm": fleet.warm,
            "game": "arena",
            "version": "1",
            "capacity": fleet.capacity,
            "dialect": "renet",
            "protocol_id": 1,
            "local_process": {
                "path": binary,
                "arguments": ["arena", "serve", "--requirements", "MatchProperties.game == 'arena'"],
                "ports": format!("{}-{}", fleet.ports.start(), fleet.ports.end()),
            },
        } },
    });
    if let Some(Teams { teams, players }) = fleet.queue {
        let name = Teams { teams, players }.to_string();
        let queue = serde_json::json!({ "teams": teams, "players_per_team": players });
        settings["matchmaker"] = serde_json::json!({ "queues": { name: queue } });
    }
    let file = tempfile::Builder::new().suffix(".json").tempfile()?;
    std::fs::write(file.path(), settings.to_string())?;
    Config::load(Some(file.path()), std::iter::empty(), Overrides::default())
        .map_err(|problems| Failure::new(format!("the built-in fleet is not valid:\n{problems}")))
}
