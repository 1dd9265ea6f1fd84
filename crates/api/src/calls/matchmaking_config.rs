//! The matchmaker's settings as Catena's contract has them: queues with their teams and times.
//!
//! Rules, accept steps, backfill and hooks are Sortie's own and not part of it. A change keeps those of an existing
//! queue; a new queue has none. The text may have the form of the settings file or of the answer: keys with or without
//! underscores, in any case; numbers as numbers or strings.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value};
use sortie_domain::ids::QueueId;
use sortie_domain::matchmaking::Settings;
use sortie_domain::matchmaking::settings::{ExpirationAction, Hook, HookPoint, Queue};
use sortie_wire::catena::matchmaking::{CatenaMatchmakerConfig, QueueConfig};

use super::match_broker::{MINUTE, SECOND};
use crate::error::ApiError;
use crate::names::action_name;

/// Objects that the settings may be wrapped in, outermost first.
const WRAPPERS: [&str; 3] = ["catena", "matchmaker", "catenamatchmakerconfig"];

/// The current settings, rounded up to whole numbers of their units.
pub(super) fn message(settings: &Settings) -> CatenaMatchmakerConfig {
    let queues = settings.queues.iter().map(|(id, queue)| (id.as_str().to_owned(), queue_message(id, queue)));
    CatenaMatchmakerConfig {
        matchmaking_queues: queues.collect(),
        status_expiration_minutes: units(settings.status_expiration, MINUTE),
        custom_hooks: hooks(&settings.hooks),
    }
}

fn queue_message(id: &QueueId, queue: &Queue) -> QueueConfig {
    QueueConfig {
        queue_name: id.as_str().to_owned(),
        teams: queue.teams.into(),
        min_players_per_team: queue.min_players_per_team.into(),
        players_per_team: queue.players_per_team.into(),
        ticket_expiration_seconds: units(queue.ticket_expiration, SECOND),
        expiration_action: action_name(queue.expiration_action).to_owned(),
        custom_strategy: queue.former().map(|hook| hook.id.as_str().to_owned()).unwrap_or_default(),
        custom_hooks: hooks(&queue.hooks),
    }
}

fn units(duration: Duration, unit: Duration) -> i64 {
    i64::try_from(duration.as_nanos().div_ceil(unit.as_nanos())).unwrap_or(i64::MAX)
}

/// The kinds of hooks, named as in the configuration, in order.
fn hooks(hooks: &[Hook]) -> String {
    let name = |hook: &Hook| match hook {
        Hook::QueueByPartySize(_) => "queue_by_party_size",
        Hook::PartyMembership => "party_membership",
        Hook::TeamData => "team_data",
        Hook::PeerToPeerHost(_) => "peer_to_peer_host",
        Hook::Outside(hook) => match hook.about {
            HookPoint::ValidateTicket => "validate_ticket",
            HookPoint::FormMatch => "form_match",
            HookPoint::NewMatch => "new_match",
        },
    };
    hooks.iter().map(name).collect::<Vec<_>>().join(",")
}

/// The settings with the changes in `text`.
pub(super) fn changed(mut settings: Settings, text: &str) -> Result<Settings, ApiError> {
    let document: Value = serde_json::from_str(text)
        .map_err(|error| ApiError::field("config", format!("must be JSON: {error}")))?;
    let mut own = Object::of("config".to_owned(), document)?;
    for wrapper in WRAPPERS {
        if let Some(inner) = own.take(wrapper) {
            own.finish()?;
            own = Object::of(own.path, inner)?;
        }
    }
    if let Some(minutes) = own.number("statusexpirationminutes")? {
        settings.status_expiration = MINUTE * minutes;
    }
    own.same("customhooks", &hooks(&settings.hooks))?;
    if let Some(queues) = own.take("matchmakingqueues") {
        settings.queues = changed_queues(&settings.queues, &own.path, queues)?;
    }
    own.finish().map(|()| settings)
}

fn changed_queues(
    before: &BTreeMap<QueueId, Queue>,
    path: &str,
    queues: Value,
) -> Result<BTreeMap<QueueId, Queue>, ApiError> {
    let Value::Object(queues) = queues else {
        return Err(ApiError::field(format!("{path}.matchmakingQueues"), "must be an object of queues"));
    };
    let mut changed = BTreeMap::new();
    for (key, value) in queues {
        let at = format!("{path}.matchmakingQueues.{}", shown(&key));
        let mut own = Object::of(at.clone(), value)?;
        let name = own.text("queuename")?.filter(|name| !name.is_empty()).unwrap_or(key);
        let id = QueueId::new(&name)
            .map_err(|problem| ApiError::field(&at, format!("the queue's name {problem}")))?;
        let queue = changed_queue(before.get(&id), &mut own)?;
        own.finish()?;
        if changed.insert(id, queue).is_some() {
            return Err(ApiError::field(at, "is the name of another queue"));
        }
    }
    Ok(changed)
}

fn changed_queue(before: Option<&Queue>, own: &mut Object) -> Result<Queue, ApiError> {
    let new = || Queue { teams: 1, players_per_team: 0, min_players_per_team: 0, ..Queue::default() };
    let mut queue = before.cloned().unwrap_or_else(new);
    if let Some(teams) = own.number("teams")? {
        queue.teams = teams;
    }
    let per_team = own.number("playersperteam")?;
    let least = own.number("minplayersperteam")?.filter(|least| *least > 0);
    if let Some(seconds) = own.number("ticketexpirationseconds")? {
        queue.ticket_expiration = SECOND * seconds;
    }
    if let Some(action) = own.text("expirationaction")?.filter(|action| !action.is_empty()) {
        queue.expiration_action = match action.to_ascii_lowercase().as_str() {
            "drop" => ExpirationAction::Drop,
            "minimum" => ExpirationAction::Minimum,
            _ => return Err(own.problem("expirationAction", "must be drop or minimum")),
        };
    }
    if let Some(players) = per_team {
        queue.players_per_team = players;
    }
    queue.min_players_per_team = match least {
        Some(least) => least,
        // Unchanged, unless the teams change.
        None if before.is_some() && per_team.is_none() => queue.min_players_per_team,
        None if queue.expiration_action == ExpirationAction::Minimum => 1.min(queue.players_per_team),
        None => queue.players_per_team,
    };
    own.same("customstrategy", queue.former().map_or("", |hook| hook.id.as_str()))?;
    own.same("customhooks", &hooks(&queue.hooks))?;
    Ok(queue)
}

/// A caller's name for something, truncated for display.
fn shown(name: &str) -> &str {
    const MAX_BYTES: usize = 64;
    &name[..name.floor_char_boundary(MAX_BYTES)]
}

/// An object whose keys are taken one by one.
struct Object {
    path: String,
    /// By key, in lower case and without underscores.
    left: BTreeMap<String, Value>,
}

impl Object {
    fn of(path: String, value: Value) -> Result<Self, ApiError> {
        let Value::Object(fields) = value else { return Err(ApiError::field(path, "must be a JSON object")) };
        Ok(Self { left: Self::plain(&path, fields)?, path })
    }

    fn plain(path: &str, fields: Map<String, Value>) -> Result<BTreeMap<String, Value>, ApiError> {
        let mut plain = BTreeMap::new();
        for (key, value) in fields {
            let name = key.replace('_', "").to_lowercase();
            if plain.insert(name, value).is_some() {
                return Err(ApiError::field(path, format!("has {:?} twice", shown(&key))));
            }
        }
        Ok(plain)
    }

    fn problem(&self, key: &str, problem: &str) -> ApiError {
        ApiError::field(format!("{}.{key}", self.path), problem)
    }

    fn take(&mut self, key: &str) -> Option<Value> {
        self.left.remove(key).filter(|value| !value.is_null())
    }

    fn number(&mut self, key: &str) -> Result<Option<u32>, ApiError> {
        let Some(value) = self.take(key) else { return Ok(None) };
        let number = match &value {
            Value::String(text) => text.parse().ok(),
            other => other.as_u64(),
        };
        let number = number.and_then(|number| u32::try_from(number).ok());
        number.map(Some).ok_or_else(|| self.problem(key, "must be a whole number from 0 to 4294967295"))
    }

    fn text(&mut self, key: &str) -> Result<Option<String>, ApiError> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(self.problem(key, "must be a text")),
        }
    }

    /// Accepts the key only if it is absent or unchanged, because it cannot be changed here.
    fn same(&mut self, key: &str, now: &str) -> Result<(), ApiError> {
        match self.text(key)? {
            Some(text) if !text.is_empty() && text != now => {
                Err(self.problem(key, "cannot be changed here: hooks and rules are in the configuration"))
            }
            _ => Ok(()),
        }
    }

    /// Refuses unknown keys, so that a misspelt key is not ignored.
    fn finish(&self) -> Result<(), ApiError> {
        match self.left.keys().next() {
            Some(key) => Err(self.problem(shown(key), "is not a setting")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use sortie_domain::matchmaking::settings::{Rule, RuleKind};

    use super::*;

    fn settings() -> Settings {
        let rule = Rule::new("map", RuleKind::Equal { property: "map".into() });
        let queue =
            Queue { players_per_team: 5, min_players_per_team: 4, rules: vec![rule], ..Queue::default() };
        let queues = [(QueueId::new("ranked").unwrap(), queue)].into();
        Settings { queues, hooks: vec![Hook::TeamData], ..Settings::default() }
    }

    #[test]
    fn the_answer_sent_back_changes_nothing() {
        let before = settings();
        let answer = serde_json::to_string(&message(&before)).unwrap();
        assert_eq!(changed(before.clone(), &answer).unwrap(), before);
        let wrapped = format!(r#"{{"catenaMatchmakerConfig": {answer}}}"#);
        assert_eq!(changed(before.clone(), &wrapped).unwrap(), before);
        assert_eq!(changed(before.clone(), "{}").unwrap(), before);
    }

    #[test]
    fn the_settings_block_is_taken_as_it_is() {
        let block = r#"{"Catena": {"Matchmaker": {
            "MatchmakingQueues": {
                "ranked": {"QueueName": "ranked", "Teams": 2, "PlayersPerTeam": 3, "TicketExpirationSeconds": 60},
                "solo": {"PlayersPerTeam": 4, "ExpirationAction": "minimum"}
            },
            "StatusExpirationMinutes": "7"
        }}}"#;
        let after = changed(settings(), block).unwrap();
        assert_eq!(after.status_expiration, MINUTE * 7);
        let ranked = &after.queues[&QueueId::new("ranked").unwrap()];
        assert_eq!((ranked.players_per_team, ranked.min_players_per_team, ranked.rules.len()), (3, 3, 1));
        assert_eq!(ranked.ticket_expiration, SECOND * 60);
        let solo = &after.queues[&QueueId::new("solo").unwrap()];
        assert_eq!((solo.teams, solo.players_per_team, solo.min_players_per_team), (1, 4, 1));
        assert!(after.check().is_ok());
        assert!(changed(settings(), r#"{"matchmaking_queues": {}}"#).unwrap().queues.is_empty());
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, expected) in [
            ("{", "config: must be JSON"),
            ("[]", "config: must be a JSON object"),
            (r#"{"queues": {}}"#, "config.queues: is not a setting"),
            (r#"{"customHooks": "Mine"}"#, "config.customhooks: cannot be changed here"),
            (r#"{"matchmakingQueues": []}"#, "config.matchmakingQueues: must be an object"),
            (
                r#"{"matchmakingQueues": {"": {}}}"#,
                "config.matchmakingQueues.: the queue's name must not be empty",
            ),
            (
                r#"{"matchmakingQueues": {"a": {"teams": -1}}}"#,
                "config.matchmakingQueues.a.teams: must be a whole",
            ),
            (r#"{"matchmakingQueues": {"a": {"teams": 1, "Teams": 2}}}"#, "config.matchmakingQueues.a: has"),
            (
                r#"{"matchmakingQueues": {"a": {"expirationAction": "keep"}}}"#,
                "config.matchmakingQueues.a.expirationAction: must be drop or minimum",
            ),
        ] {
            let message = changed(settings(), text).unwrap_err().message();
            assert!(message.starts_with(expected), "{text}: {message}");
        }
    }
}
