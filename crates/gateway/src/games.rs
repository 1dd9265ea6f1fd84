//! The configured games, and which fleet a player is sent to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value;
use sortie_domain::broker::model::Match;
use sortie_domain::broker::{Broker, FleetView};
use sortie_domain::ids::FleetId;
use sortie_domain::properties::Properties;
use sortie_domain::time::Timestamp;

use crate::error::JoinError;
use crate::one_place::Runs;
use crate::options::{BadOptions, GameFleet, GatewayOptions, MAX_NAME_CHARS};
use sortie_domain::game::GameVersion;

/// Maximum number of games that an error lists.
const MAX_LISTED: usize = 20;
/// Maximum number of fleets that are compared for one player.
const MAX_FLEETS: usize = 1_000;
/// Maximum number of matches searched for a free place in several fleets.
const MAX_MATCHES_LOOKED_AT: usize = 10_000;

/// A fleet with the values that all its matches share.
#[derive(Debug)]
pub(crate) struct Candidate {
    pub(crate) fleet: GameFleet,
    pub(crate) properties: Properties,
}

impl Candidate {
    pub(crate) const fn fleet(&self) -> &GameFleet {
        &self.fleet
    }
}

/// The fleets of one game, in order of preference; never empty.
pub(crate) type Candidates = Arc<[Candidate]>;

/// Every game by name and version.
pub(crate) struct Games {
    by_game: BTreeMap<GameVersion, Candidates>,
    default: Option<Candidates>,
    pub(crate) runs: Runs,
}

impl Games {
    pub(crate) fn new(options: &GatewayOptions) -> Result<Self, BadOptions> {
        let mut by_game: BTreeMap<GameVersion, Vec<Candidate>> = BTreeMap::new();
        let mut seen = BTreeSet::new();
        for fleet in &options.games {
            check_names(&fleet.game)?;
            // The broker seats players by fleet, so players of two games would meet.
            if !seen.insert(&fleet.fleet) {
                return Err(BadOptions::Twice(fleet.fleet.clone()));
            }
            let candidates = by_game.entry(fleet.game.clone()).or_default();
            candidates.push(Candidate { fleet: fleet.clone(), properties: properties(fleet)? });
        }
        for candidates in by_game.values_mut() {
            candidates.sort_by(|a, b| {
                (a.fleet.preference, &a.fleet.fleet).cmp(&(b.fleet.preference, &b.fleet.fleet))
            });
        }
        let by_game: BTreeMap<GameVersion, Candidates> =
            by_game.into_iter().map(|(game, candidates)| (game, candidates.into())).collect();
        let default = match &options.default_game {
            None => None,
            Some(game) => {
                let known = by_game.get(game).ok_or_else(|| BadOptions::DefaultUnknown(game.clone()))?;
                Some(Arc::clone(known))
            }
        };
        Ok(Self { by_game, default, runs: Runs::new(&options.games) })
    }

    /// The fleets that run the requested game.
    ///
    /// # Errors
    /// [`JoinError`] if a name is invalid, only one of the two is given, or there is no such game.
    pub(crate) fn find(&self, name: Option<&str>, version: Option<&str>) -> Result<Candidates, JoinError> {
        let (name, version) = match (name, version) {
            (None, None) => {
                return self.default.clone().ok_or_else(|| JoinError::NoGameNamed { offered: self.list() });
            }
            (Some(name), Some(version)) => (name, version),
            (Some(_), None) => {
                return Err(JoinError::invalid("version", "is missing: name it with the game"));
            }
            (None, Some(_)) => {
                return Err(JoinError::invalid("game", "is missing: name it with the version"));
            }
        };
        check_name(name, false).map_err(|problem| JoinError::invalid("game", problem))?;
        check_name(version, true).map_err(|problem| JoinError::invalid("version", problem))?;
        let game = GameVersion { name: name.to_owned(), version: version.to_owned() };
        match self.by_game.get(&game) {
            Some(candidates) => Ok(Arc::clone(candidates)),
            None => Err(JoinError::UnknownGame { game, offered: self.list() }),
        }
    }

    fn list(&self) -> String {
        if self.by_game.is_empty() {
            return "there is none".to_owned();
        }
        let listed: Vec<String> = self.by_game.keys().take(MAX_LISTED).map(ToString::to_string).collect();
        let more = self.by_game.len() - listed.len();
        let listed = listed.join(", ");
        if more == 0 { format!("there is: {listed}") } else { format!("there is: {listed}, and {more} more") }
    }
}

fn check_names(game: &GameVersion) -> Result<(), BadOptions> {
    let bad = |text: &str, problem| BadOptions::Name { game: text.to_owned(), problem };
    check_name(&game.name, false).map_err(|problem| bad(&game.name, problem))?;
    check_name(&game.version, true).map_err(|problem| bad(&game.version, problem))
}

fn check_name(text: &str, dots: bool) -> Result<(), String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, ' ' | '_' | '-') || (dots && c == '.');
    let characters = text.chars().count();
    if characters == 0 || characters > MAX_NAME_CHARS {
        return Err(format!("must have 1 to {MAX_NAME_CHARS} characters"));
    }
    if text.chars().all(allowed) {
        return Ok(());
    }
    let dot = if dots { ", ." } else { "" };
    Err(format!("may only have the characters A-Z, a-z, 0-9, space, _, -{dot}"))
}

fn properties(fleet: &GameFleet) -> Result<Properties, BadOptions> {
    let mut properties = fleet.properties.clone();
    properties.insert("game".to_owned(), Value::from(fleet.game.name.as_str()));
    properties.insert("version".to_owned(), Value::from(fleet.game.version.as_str()));
    Properties::parse(&Value::Object(properties).to_string())
        .map_err(|problem| BadOptions::Properties { game: fleet.game.clone(), problem })
}

/// The first of these fleets that could seat a player soon: in a match with free places, on an idle server, or on one
/// that may be started. If none could, the first fleet.
pub(crate) fn first_with_room(broker: &Broker, fleets: &[FleetId], now: Timestamp) -> usize {
    let views = broker.fleets(None, MAX_FLEETS).items;
    let matches = broker.queued().chain(broker.active()).take(MAX_MATCHES_LOOKED_AT);
    let mut open = vec![false; fleets.len()];
    for game in matches.filter(|game| game.free_places() > 0) {
        if let Some(at) = fleets.iter().position(|fleet| is_of(game, fleet)) {
            open[at] = true;
        }
    }
    let seats = |(at, fleet): (usize, &FleetId)| {
        open[at] || views.iter().any(|view| view.fleet.id == *fleet && takes_another(view, now))
    };
    fleets.iter().enumerate().position(seats).unwrap_or(0)
}

fn is_of(game: &Match, fleet: &FleetId) -> bool {
    game.spec.fleet.as_ref() == Some(fleet)
}

fn takes_another(view: &FleetView, now: Timestamp) -> bool {
    let may_start = view.live < view.fleet.max as usize && view.health.backoff_until <= now;
    view.idle > 0 || may_start
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::Map;
    use sortie_tokens::{Dialect, PrivateKey};

    use super::*;

    fn fleet(game: &str, version: &str, id: &str, preference: i32) -> GameFleet {
        GameFleet {
            game: GameVersion { name: game.to_owned(), version: version.to_owned() },
            fleet: FleetId::new(id).unwrap(),
            preference,
            capacity: 4,
            seat_ttl: Duration::from_secs(30),
            dialect: Dialect::Standard,
            protocol_id: 1,
            properties: Map::new(),
        }
    }

    fn options(games: Vec<GameFleet>) -> GatewayOptions {
        GatewayOptions::new(games, PrivateKey::new([1; 32]))
    }

    fn games(fleets: Vec<GameFleet>) -> Games {
        Games::new(&options(fleets)).unwrap()
    }

    #[test]
    fn fleets_of_a_game_are_in_order_of_preference_then_id() {
        let games = games(vec![
            fleet("a", "1", "z", 1),
            fleet("a", "1", "x", 2),
            fleet("a", "1", "y", 1),
            fleet("b", "1", "w", 0),
        ]);
        let found = games.find(Some("a"), Some("1")).unwrap();
        let ids: Vec<&str> = found.iter().map(|candidate| candidate.fleet.fleet.as_str()).collect();
        assert_eq!(ids, ["y", "z", "x"]);
    }

    #[test]
    fn an_unknown_game_is_told_what_there_is() {
        let games = games(vec![fleet("arena", "1.0", "x", 0), fleet("race", "2", "y", 0)]);
        let error = games.find(Some("arena"), Some("2")).unwrap_err();
        assert_eq!(error.status(), 404);
        assert_eq!(error.to_string(), "there is no game arena 2; there is: arena 1.0, race 2");
        let error = games.find(None, None).unwrap_err();
        assert_eq!(error.status(), 400);
        assert!(error.to_string().contains("arena 1.0, race 2"), "{error}");
    }

    #[test]
    fn names_are_checked_before_they_are_looked_up() {
        let games = games(vec![fleet("arena", "1", "x", 0)]);
        for (name, version, field) in [
            ("are.na", "1", "game"),
            ("", "1", "game"),
            ("arena", "", "version"),
            ("arena", "1/2", "version"),
            ("arénà", "1", "game"),
            (&"a".repeat(31), "1", "game"),
            ("arena", &"1".repeat(31), "version"),
        ] {
            let error = games.find(Some(name), Some(version)).unwrap_err();
            assert_eq!(error.status(), 400, "{name} {version}");
            assert!(error.to_string().starts_with(&format!("{field}: ")), "{error}");
        }
        assert_eq!(games.find(Some("arena"), None).unwrap_err().status(), 400);
        assert_eq!(games.find(None, Some("1")).unwrap_err().status(), 400);
        let longest = "Az 09_-".repeat(4);
        assert_eq!(games.find(Some(&longest), Some("1.2-a_b c")).unwrap_err().status(), 404);
    }

    #[test]
    fn options_that_contradict_themselves_are_refused() {
        let refusal = |options: GatewayOptions| Games::new(&options).err().unwrap();
        for other in [fleet("a", "1", "x", 1), fleet("b", "2", "x", 0)] {
            let twice = options(vec![fleet("a", "1", "x", 0), other]);
            assert!(matches!(refusal(twice), BadOptions::Twice(_)));
        }
        let unknown_default = GatewayOptions {
            default_game: Some(GameVersion { name: "b".to_owned(), version: "1".to_owned() }),
            ..options(vec![fleet("a", "1", "x", 0)])
        };
        assert!(matches!(refusal(unknown_default), BadOptions::DefaultUnknown(_)));
        assert!(matches!(refusal(options(vec![fleet("a/b", "1", "x", 0)])), BadOptions::Name { .. }));
        let mut large = fleet("a", "1", "x", 0);
        large.properties.insert("map".to_owned(), Value::from("x".repeat(70_000)));
        assert!(matches!(refusal(options(vec![large])), BadOptions::Properties { .. }));
    }

    #[test]
    fn a_match_has_the_games_name_whatever_else_is_configured() {
        let mut configured = fleet("a", "1", "x", 0);
        configured.properties.insert("mode".to_owned(), Value::from("duel"));
        configured.properties.insert("game".to_owned(), Value::from("other"));
        let games = games(vec![configured]);
        let found = games.find(Some("a"), Some("1")).unwrap();
        let text = found[0].properties.text().unwrap();
        let value: Value = serde_json::from_str(text).unwrap();
        assert_eq!(value, serde_json::json!({"game": "a", "version": "1", "mode": "duel"}));
    }
}
