//! The section `fleets`: from the tree to checked values.

use serde_json::Value;
use sortie_domain::broker::model::Fleet;
use sortie_domain::game::GameVersion;
use sortie_domain::ids::FleetId;
use sortie_domain::match_spec::MAX_CAPACITY;
use sortie_domain::requirements;

use crate::model::{Dialect, FleetConfig};
use crate::parse::{self, DAY, HOUR, SECOND};
use crate::platforms::{self, AllocatorConfig, PLATFORMS};
use crate::section::Section;

/// Maximum number of servers of one fleet.
const MAX_SERVERS: u32 = 10_000;
/// Maximum length of a description, in characters.
const MAX_DESCRIPTION: usize = 1_000;
/// Maximum length of the name of a game or a version, in characters: what players' clients can send.
const MAX_GAME: usize = 30;

/// A fleet's name as its id.
pub(crate) fn id(value: &Value) -> Result<FleetId, String> {
    FleetId::new(parse::text(value)?).map_err(|problem| problem.to_string())
}

/// Every fleet; `None` if a problem was reported.
pub(crate) fn read(section: &Section<'_>) -> Option<Vec<FleetConfig>> {
    let count = section.names().len();
    if count > FleetConfig::MAX {
        section.refuse(format!("has {count} fleets, at most {} are allowed", FleetConfig::MAX));
        return None;
    }
    let fleets: Vec<_> =
        section.named().into_iter().map(|(name, fleet)| self::fleet(name, &fleet?)).collect();
    let fleets: Vec<FleetConfig> = fleets.into_iter().collect::<Option<_>>()?;
    for platform in PLATFORMS {
        (platform.warn_together)(section, &fleets);
    }
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
    let max_run_time = allocator.as_ref().and_then(AllocatorConfig::max_run_time);
    Some(FleetConfig {
        fleet: Fleet {
            id: id?,
            game: game.clone()?,
            // The gateway's section says which one it is.
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

/// The platform, and the settings in the table of its name.
fn allocator(section: &Section<'_>, max: Option<u32>) -> Option<AllocatorConfig> {
    let by_name = |name: &str| PLATFORMS.iter().find(|platform| platform.name == name);
    let chosen = section.get("allocator", parse::choice(platforms::NAMES, by_name));
    let mut settings = None;
    for platform in PLATFORMS {
        let name = platform.name;
        match chosen {
            Some(chosen) if chosen.name == name => {
                settings = section.section(name).and_then(|section| (platform.read)(&section, max));
            }
            Some(chosen) if section.given(name) => {
                let text = format!(
                    "are settings of another platform: `allocator` is {}",
                    parse::quoted(chosen.name)
                );
                section.problem(name, text);
            }
            // Errors in them are reported as well.
            None if section.given(name) => {
                section.section(name).and_then(|section| (platform.read)(&section, max));
            }
            _ => {}
        }
    }
    settings
}
