//! The section `fleets`: from the tree to checked values.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;
use sortie_domain::broker::model::Fleet;
use sortie_domain::game::GameVersion;
use sortie_domain::ids::FleetId;
use sortie_domain::match_spec::MAX_CAPACITY;
use sortie_domain::requirements;
use sortie_inherited::{MAX_NAMED, OUR_PREFIX, is_name};

use crate::keys::ALLOCATORS;
use crate::model::{AllocatorConfig, Dialect, Environment, FleetConfig, LocalProcessConfig};
use crate::parse::{self, DAY, HOUR, SECOND, YEAR};
use crate::section::Section;
use crate::show::HIDDEN;

/// Most servers of one fleet.
const MAX_SERVERS: u32 = 10_000;
/// Longest description, in characters.
const MAX_DESCRIPTION: usize = 1_000;
/// Longest name of a game or a version, in characters: what players' clients can send.
const MAX_GAME: usize = 30;
/// Most arguments, and most environment variables, of a server.
const MAX_ENTRIES: usize = 1_000;
/// Least and most output kept of a server, in bytes: 4 KiB, 1 GiB.
const OUTPUT_LIMITS: std::ops::RangeInclusive<u64> = 4 << 10..=1 << 30;

/// The name of a fleet as its id.
pub(crate) fn id(value: &Value) -> Result<FleetId, String> {
    FleetId::new(parse::text(value)?).map_err(|problem| problem.to_string())
}

/// Every fleet; `None` if a problem was noted.
pub(crate) fn read(section: &Section<'_>) -> Option<Vec<FleetConfig>> {
    let count = section.names().len();
    if count > FleetConfig::MAX {
        section.refuse(format!("has {count} fleets, at most {} are allowed", FleetConfig::MAX));
        return None;
    }
    let fleets: Vec<_> =
        section.named().into_iter().map(|(name, fleet)| self::fleet(name, &fleet?)).collect();
    let fleets: Vec<FleetConfig> = fleets.into_iter().collect::<Option<_>>()?;
    warn_of_shared_ports(section, &fleets);
    Some(fleets)
}

fn fleet(name: &str, section: &Section<'_>) -> Option<FleetConfig> {
    let id = FleetId::new(name).map_err(|problem| section.refuse(format!("the fleet's name {problem}"))).ok();
    let description =
        section.get("description", parse::characters(0..=MAX_DESCRIPTION, |_| true, "any characters"));
    let requirements = section.get("requirements", expression);
    let server_requirements = section.optional("server_requirements", expression);
    let max = section.get("max", parse::integer(1..=MAX_SERVERS));
    let warm = section.get("warm", parse::integer(0..=MAX_SERVERS));
    if let (Some(max), Some(warm)) = (max, warm)
        && warm > max
    {
        section.problem("warm", format!("is {warm}, more than `max`, which is {max}"));
    }
    let ready_deadline = section.get("ready_deadline", parse::duration(SECOND..=DAY));
    let preference = section.get("preference", parse::integer(i32::MIN..=i32::MAX));
    let game = game(section);
    let capacity = section.get("capacity", parse::integer(1..=MAX_CAPACITY));
    let seat_ttl = section.get("seat_ttl", parse::duration(SECOND..=HOUR));
    let dialect = section.get("dialect", parse::choice(Dialect::NAMES, Dialect::by_name));
    let protocol_id = section.get("protocol_id", parse::identifier);
    let allocator = allocator(section, max);
    let max_run_time = allocator.as_ref().and_then(|AllocatorConfig::LocalProcess(local)| local.max_run_time);
    Some(FleetConfig {
        fleet: Fleet {
            id: id?,
            game: game.clone()?,
            // Which one it is, the gateway's section says.
            is_default: false,
            requirements: requirements?,
            max: max?,
            warm: warm?,
            ready_deadline: ready_deadline?,
            max_run_time,
            preference: preference?,
        },
        description: description?,
        server_requirements: server_requirements?,
        game: game?,
        capacity: capacity?,
        seat_ttl: seat_ttl?,
        dialect: dialect?,
        protocol_id: protocol_id?,
        allocator: allocator?,
    })
}

/// A JMESPath expression.
fn expression(value: &Value) -> Result<String, String> {
    let text = parse::text(value)?;
    requirements::check(text).map_err(|problem| problem.to_string())?;
    Ok(text.trim().to_owned())
}

fn game(section: &Section<'_>) -> Option<Option<GameVersion>> {
    let in_name = |character: char| character.is_ascii_alphanumeric() || " _-".contains(character);
    let in_version = |character: char| character.is_ascii_alphanumeric() || " _-.".contains(character);
    let name = parse::characters(1..=MAX_GAME, in_name, "letters, digits, space, `_` and `-`");
    let version = parse::characters(1..=MAX_GAME, in_version, "letters, digits, space, `_`, `-` and `.`");
    match (section.optional("game", name), section.optional("version", version)) {
        (Some(Some(name)), Some(Some(version))) => Some(Some(GameVersion { name, version })),
        (Some(None), Some(None)) => Some(None),
        (Some(Some(_)), Some(None)) => {
            section.problem("version", "is required with `game`: players name both");
            None
        }
        (Some(None), Some(Some(_))) => {
            section.problem("game", "is required with `version`: players name both");
            None
        }
        _ => None,
    }
}

fn allocator(section: &Section<'_>, max: Option<u32>) -> Option<AllocatorConfig> {
    // There is one platform so far, so its name needs checking only.
    let known =
        section.get("allocator", parse::choice(ALLOCATORS, |name| ALLOCATORS.contains(&name).then_some(())));
    let local = section.section("local_process").and_then(|section| local_process(&section, max));
    known?;
    local.map(AllocatorConfig::LocalProcess)
}

fn local_process(section: &Section<'_>, max: Option<u32>) -> Option<LocalProcessConfig> {
    let path = section.path("path");
    // Arguments may hold secrets, and `parse::text` quotes nothing.
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
    Some(LocalProcessConfig {
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
    })
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

/// Fleets may share ports, but then not all of them can have as many servers as they may.
fn warn_of_shared_ports(section: &Section<'_>, fleets: &[FleetConfig]) {
    for (at, one) in fleets.iter().enumerate() {
        for other in fleets.iter().skip(at + 1) {
            let (AllocatorConfig::LocalProcess(here), AllocatorConfig::LocalProcess(there)) =
                (&one.allocator, &other.allocator);
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
