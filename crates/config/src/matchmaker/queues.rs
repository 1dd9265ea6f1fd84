//! One queue.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;
use sortie_domain::ids::{HookId, QueueId};
use sortie_domain::match_spec::MAX_PLAYERS;
use sortie_domain::matchmaking::settings::{Backfill, ExpirationAction, Queue};

use super::{HookConfig, Hooks, hooks, rules, too_many_queues};
use crate::keys;
use crate::parse::{self, HOUR, SECOND, YEAR};
use crate::section::Section;

/// Maximum number of times that a ticket returns to its place in the queue.
const MAX_REQUEUES: u32 = 1_000;
/// Minimum time to accept a match.
const MIN_ACCEPT: Duration = Duration::from_secs(1);

/// Names of [`ExpirationAction`].
pub(crate) const EXPIRATION_ACTIONS: &[&str] = &["drop", "minimum"];
/// Names of [`Backfill`].
pub(crate) const BACKFILLS: &[&str] = &["off", "first", "last"];

/// A queue and where its hooks are called.
pub(super) struct Read {
    pub(super) id: QueueId,
    pub(super) settings: Queue,
    pub(super) hooks: BTreeMap<(Option<QueueId>, HookId), HookConfig>,
}

pub(super) fn read(section: &Section<'_>, common: Option<&Hooks>) -> Option<Vec<Read>> {
    if too_many_queues(section) {
        return None;
    }
    let known: Vec<&str> = section.names().collect();
    let queues = section.named();
    let read = queues.into_iter().map(|(name, queue)| self::queue(name, &queue?, &known, common));
    read.collect::<Vec<_>>().into_iter().collect()
}

fn expiration_action(name: &str) -> Option<ExpirationAction> {
    match name {
        "drop" => Some(ExpirationAction::Drop),
        "minimum" => Some(ExpirationAction::Minimum),
        _ => None,
    }
}

fn backfill(name: &str) -> Option<Backfill> {
    match name {
        "off" => Some(Backfill::Off),
        "first" => Some(Backfill::First),
        "last" => Some(Backfill::Last),
        _ => None,
    }
}

fn queue(name: &str, section: &Section<'_>, known: &[&str], common: Option<&Hooks>) -> Option<Read> {
    let id = QueueId::new(name).map_err(|problem| section.refuse(format!("the queue's name {problem}"))).ok();
    let most = u32::try_from(MAX_PLAYERS).unwrap_or(u32::MAX);
    let teams = section.get("teams", parse::integer(0..=most));
    let per_team = section.optional("players_per_team", parse::integer(0..=most));
    let least = section.optional("min_players_per_team", parse::integer(0..=most));
    let sizes = sizes(section, teams, per_team, least);
    let ticket_expiration = section.get("ticket_expiration", parse::duration(SECOND..=YEAR));
    let action = section.get("expiration_action", parse::choice(EXPIRATION_ACTIONS, expiration_action));
    let accept = section.optional("accept", parse::duration(MIN_ACCEPT..=HOUR));
    let backfill = section.get("backfill", parse::choice(BACKFILLS, backfill));
    let seat_timeout = section.get("seat_timeout", parse::duration(SECOND..=HOUR));
    let max_requeues = section.get("max_requeues", parse::integer(0..=MAX_REQUEUES));
    let properties = section.optional("properties", parse::properties);
    let hooks = hooks::read(section, known, Some((name, common)));
    let rules = section.section("rules").and_then(|section| rules::read(&section));
    let (teams, players_per_team, min_players_per_team) = sizes?;
    let hooks = hooks?;
    Some(Read {
        id: id?,
        settings: Queue {
            teams,
            players_per_team,
            min_players_per_team,
            ticket_expiration: ticket_expiration?,
            expiration_action: action?,
            accept: accept?,
            backfill: backfill?,
            seat_timeout: seat_timeout?,
            max_requeues: max_requeues?,
            properties: properties?.unwrap_or_default(),
            hooks: hooks.settings,
            rules: rules?,
        },
        hooks: hooks.places,
    })
}

/// Number of teams, players in a full team, and minimum number of players in a team.
fn sizes(
    section: &Section<'_>,
    teams: Option<u32>,
    per_team: Option<Option<u32>>,
    least: Option<Option<u32>>,
) -> Option<(u32, u32, u32)> {
    let (teams, per_team, least) = (teams?, per_team?, least?);
    let per_team = match per_team {
        None | Some(0) if teams > 0 => {
            let problem = "must be at least 1; only with `teams` 0, which makes a match of the waiting tickets, may it be 0 or \
                           left out";
            section.problem("players_per_team", problem);
            return None;
        }
        given => given.unwrap_or(0),
    };
    let full = u64::from(teams.max(1)) * u64::from(per_team);
    if full > MAX_PLAYERS as u64 {
        let problem = format!("makes matches of {full} players, at most {MAX_PLAYERS} are allowed");
        section.problem("players_per_team", problem);
        return None;
    }
    let least = least.unwrap_or(if teams == 0 { per_team.min(1) } else { per_team });
    if teams > 0 && least == 0 {
        section.problem("min_players_per_team", "must be at least 1: a team needs players");
        return None;
    }
    if per_team > 0 && least > per_team {
        let problem = format!("is {least}, more than `players_per_team`, which is {per_team}");
        section.problem("min_players_per_team", problem);
        return None;
    }
    Some((teams, per_team, least))
}

/// The name of an existing queue.
pub(super) fn one_of(known: &[&str], value: &Value) -> Result<QueueId, String> {
    let name = parse::text(value)?;
    if known.contains(&name) {
        return QueueId::new(name).map_err(|problem| problem.to_string());
    }
    let meant = keys::closest(name, known.iter().copied());
    let hint = meant.map_or_else(String::new, |name| format!("; did you mean {}?", parse::quoted(name)));
    Err(format!("names the queue {}, which is not configured{hint}", parse::quoted(name)))
}
