//! Hooks: built-in ones are functions here; external ones are asked by effects and waited for.
//!
//! Hooks stack: the matchmaker's come first, then the queue's, each in the configured order. An external hook
//! interrupts the stack; its outcome, failure or timeout resumes it behind that hook. If a change of the configuration
//! has removed the hook in the meantime, the hooks behind it are skipped.

use alloc::borrow::Cow;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::command::Refusal;
use super::json;
use super::model::{Check, Named, Party, Player, TicketSpec};
use super::rules::number_of;
use super::settings::{Backfill, Hook, HookPoint, OnFailure, OutsideHook, Queue, RuleKind};
use super::state::State;
use super::values::{number, variable};
use crate::connection::{Connection, MAX_CONNECTION_BYTES};
use crate::ids::{HookId, MAX_ID_BYTES, PlayerId, QueueId, RegionId, TicketId};
use crate::match_spec::{MAX_MATCH_BYTES, MAX_PLAYERS, MatchSpec};
use crate::properties::{MAX_PROPERTIES_BYTES, Properties};
use crate::size::{ENTRY_BYTES, Size};
use crate::text::is_deceptive;
use crate::time::Timestamp;

/// The overhead of a match in addition to its players: its own properties, ids, numbers. In bytes.
const OWN_BYTES: usize = MAX_PROPERTIES_BYTES + 16 * 1_024;
/// Maximum size of a match that is sent to the broker, which adds a mark. In bytes.
pub(crate) const MAX_DOCUMENT_BYTES: usize = MAX_MATCH_BYTES - 1_024;
/// Maximum size of what a player is told about the team, in bytes.
const TEAM_BYTES: usize = 32;
/// How often external hooks may move one ticket to another queue, so that hooks that send it in a circle terminate.
pub(crate) const MAX_MOVES: u32 = 8;
/// Maximum number of property values that are parsed for comparison per match; others are equal if their texts are.
const MAX_COMPARED: usize = 1_000;

/// A hook that is asked from now on.
pub(crate) fn ask(hook: &OutsideHook, now: Timestamp) -> Check {
    Check { hook: hook.id.clone(), until: now + hook.timeout }
}

/// All hooks for a queue, in order.
fn stack<'a>(state: &'a State, queue: &QueueId) -> impl Iterator<Item = &'a Hook> {
    state.settings.hooks.iter().chain(own(state, queue))
}

/// The hooks of one queue. A removed queue keeps its own while it has tickets.
fn own<'a>(state: &'a State, queue: &QueueId) -> &'a [Hook] {
    state.queue(queue).map_or(&[], |queue| &queue.hooks)
}

/// What happens if this hook fails; a hook that is no longer configured accepts everything.
pub(crate) fn on_failure(state: &State, queue: &QueueId, id: &HookId) -> OnFailure {
    outside(state, queue, id).map_or(OnFailure::Accept, |hook| hook.on_failure)
}

/// The external hook of this name for a queue.
pub(crate) fn outside<'a>(state: &'a State, queue: &QueueId, id: &HookId) -> Option<&'a OutsideHook> {
    stack(state, queue).find_map(|hook| match hook {
        Hook::Outside(hook) if hook.id == *id => Some(hook),
        _ => None,
    })
}

fn position(hooks: &[Hook], id: &HookId) -> Option<usize> {
    hooks.iter().position(|hook| matches!(hook, Hook::Outside(hook) if hook.id == *id))
}

/// What a hook does with a ticket.
enum Validation {
    Nothing,
    Route(QueueId),
    Ask(Check),
}

/// Takes a ticket through the hooks behind `after`: a hook, and the ticket's queue when that hook was asked. Hooks may
/// change its queue; then the ticket goes through the hooks of the new queue. Returns the external hook that has to be
/// asked next.
///
/// # Errors
/// The refusal of a built-in hook.
pub(crate) fn validate(
    state: &State,
    spec: &TicketSpec,
    queue: &mut QueueId,
    after: Option<(&HookId, &QueueId)>,
    now: Timestamp,
) -> Result<Option<Check>, Refusal> {
    let common = &state.settings.hooks;
    let (first, mut next) = match after {
        None => (0, 0),
        Some((id, from)) => match (position(common, id), position(own(state, from), id)) {
            (Some(at), _) => (at + 1, 0),
            (None, _) if from != queue => (common.len(), 0),
            (None, Some(at)) => (common.len(), at + 1),
            (None, None) => return Ok(None),
        },
    };
    for hook in common.get(first..).unwrap_or_default() {
        match validate_by(hook, spec, now)? {
            Validation::Nothing => {}
            Validation::Route(other) => *queue = other,
            Validation::Ask(check) => return Ok(Some(check)),
        }
    }
    // The settings ensure that a queue that tickets are sent to does not send them on.
    while let Some(hook) = own(state, queue).get(next) {
        next += 1;
        match validate_by(hook, spec, now)? {
            Validation::Route(other) if other != *queue => (*queue, next) = (other, 0),
            Validation::Nothing | Validation::Route(_) => {}
            Validation::Ask(check) => return Ok(Some(check)),
        }
    }
    Ok(None)
}

fn validate_by(hook: &Hook, spec: &TicketSpec, now: Timestamp) -> Result<Validation, Refusal> {
    match hook {
        Hook::QueueByPartySize(queues) => {
            let size = u32::try_from(spec.size()).unwrap_or(u32::MAX);
            let queue = queues.get(&size).cloned();
            let queue = queue.ok_or_else(|| {
                Refusal::Refused(format!("there is no queue for parties of {size} players"))
            })?;
            Ok(Validation::Route(queue))
        }
        Hook::PartyMembership => match &spec.leader {
            None if spec.size() > 1 => {
                Err(Refusal::Refused("a ticket of several players must name its `leader`".to_string()))
            }
            _ => Ok(Validation::Nothing),
        },
        Hook::Outside(hook) if hook.about == HookPoint::ValidateTicket => Ok(Validation::Ask(ask(hook, now))),
        Hook::TeamData | Hook::PeerToPeerHost(_) | Hook::Outside(_) => Ok(Validation::Nothing),
    }
}

/// The match of these tickets before any hook has seen it: its properties are those in which all tickets agree, those
/// of the queue, `queue_name` and `region`; if others may join later, also the values that their tickets are compared
/// with.
pub(crate) fn match_spec(
    state: &State,
    queue: &QueueId,
    teams: &[Vec<Named>],
    specs: &[Arc<TicketSpec>],
    region: Option<&RegionId>,
) -> MatchSpec {
    let players: Vec<PlayerId> = teams.iter().flatten().flat_map(|named| named.players.clone()).collect();
    let each = specs.iter().flat_map(|spec| spec.players());
    let given = each.filter(|player| player.properties.text().is_some());
    let player_properties = given.map(|player| (player.id.clone(), player.properties.clone())).collect();
    let settings = state.queue(queue);
    let mut fields = common(specs);
    let open = settings.filter(|queue| queue.backfill != Backfill::Off);
    for (name, value) in open.into_iter().flat_map(|queue| strength(queue, specs)) {
        fields.entry(Cow::Owned(name)).or_insert_with(|| Cow::Owned(number(value).to_string()));
    }
    let own = settings.and_then(|queue| queue.properties.text()).into_iter().flat_map(json::by_name);
    fields.extend(own.map(|(name, value)| (name, Cow::Borrowed(value))));
    fields.insert("queue_name".into(), Cow::Owned(json::quoted(queue.as_str())));
    if let Some(region) = region {
        fields.insert("region".into(), Cow::Owned(json::quoted(region.as_str())));
    }
    let capacity = open.and_then(Queue::full).map(|full| full.max(players.len() as u32));
    MatchSpec {
        players,
        properties: properties(&fields),
        player_properties,
        capacity,
        ..MatchSpec::default()
    }
}

/// The averages of the numbers by which a queue's rules compare tickets, so that tickets that join later are compared
/// with them.
fn strength<'a>(queue: &'a Queue, specs: &'a [Arc<TicketSpec>]) -> impl Iterator<Item = (String, f64)> + 'a {
    queue.rules.iter().filter(|_| !specs.is_empty()).filter_map(|rule| {
        let RuleKind::Distance { property, measure, missing, .. } = &rule.kind else { return None };
        let numbers = specs.iter().map(|spec| number_of(spec, property, *measure, *missing));
        Some((property.to_string(), numbers.sum::<f64>() / specs.len() as f64))
    })
}

/// Members of an object by name, with their values as texts.
type Fields<'a> = BTreeMap<Cow<'a, str>, Cow<'a, str>>;

/// The properties in which all tickets agree.
fn common(specs: &[Arc<TicketSpec>]) -> Fields<'_> {
    let Some((first, others)) = specs.split_first() else { return BTreeMap::new() };
    let mut fields = json::by_name(first.properties.text().unwrap_or_default());
    let mut reads = MAX_COMPARED;
    for other in others.iter().filter(|other| other.properties != first.properties) {
        let other = json::by_name(other.properties.text().unwrap_or_default());
        fields.retain(|name, value| other.get(name).is_some_and(|of| json::equal(value, of, &mut reads)));
    }
    fields.into_iter().map(|(name, value)| (name, Cow::Borrowed(value))).collect()
}

type String = alloc::string::String;

fn properties(fields: &Fields<'_>) -> Properties {
    let mut text = String::from("{");
    for (name, value) in fields {
        json::push(&mut text, &json::quoted(name), value);
    }
    text.push('}');
    // Longer than a match's properties may be: it is omitted.
    Properties::written(&text).unwrap_or_default()
}

/// These properties with one more, which replaces one of the same name. If they became too long, they stay unchanged.
fn with(given: &Properties, name: &str, value: &str) -> Properties {
    let mut text = String::from("{");
    for (quoted, own) in json::members(given.text().unwrap_or_default()) {
        if json::name(quoted) != name {
            json::push(&mut text, quoted, own);
        }
    }
    json::push(&mut text, &json::quoted(name), value);
    text.push('}');
    Properties::written(&text).unwrap_or_else(|_| given.clone())
}

/// Takes a match through the hooks behind `after`; returns the external hook that has to be asked.
pub(crate) fn check_match(
    state: &State,
    queue: &QueueId,
    teams: &[Vec<Named>],
    spec: &mut MatchSpec,
    after: Option<&HookId>,
    now: Timestamp,
) -> Option<Check> {
    let hooks: Vec<&Hook> = stack(state, queue).collect();
    let is_it = |hook: &&Hook, id: &HookId| matches!(hook, Hook::Outside(hook) if hook.id == *id);
    let first = match after {
        None => 0,
        Some(id) => hooks.iter().position(|hook| is_it(hook, id)).map_or(hooks.len(), |at| at + 1),
    };
    for hook in hooks.get(first..).unwrap_or_default() {
        match hook {
            Hook::TeamData if teams.len() > 1 => write(spec, |spec| write_teams(teams, spec)),
            Hook::PartyMembership => write(spec, |spec| write_parties(state, teams, spec)),
            Hook::Outside(hook) if hook.about == HookPoint::NewMatch => return Some(ask(hook, now)),
            _ => {}
        }
    }
    None
}

/// Writes into a match, unless that would exceed the maximum size.
fn write(spec: &mut MatchSpec, change: impl FnOnce(&mut MatchSpec)) {
    let before = spec.clone();
    change(spec);
    if spec.byte_size() > MAX_DOCUMENT_BYTES {
        *spec = before;
    }
}

fn write_teams(teams: &[Vec<Named>], spec: &mut MatchSpec) {
    let players = teams.iter().map(|team| ids(team.iter().flat_map(|named| &named.players)));
    let mut all = String::from("[");
    for (at, team) in players.enumerate() {
        all.push_str(if at > 0 { "," } else { "" });
        all.push_str(&team);
    }
    all.push(']');
    spec.properties = with(&spec.properties, "teams", &all);
    for (at, team) in teams.iter().enumerate() {
        for player in team.iter().flat_map(|named| &named.players) {
            let own = spec.player_properties.entry(player.clone()).or_default();
            *own = with(own, "team", &at.to_string());
        }
    }
}

fn write_parties(state: &State, teams: &[Vec<Named>], spec: &mut MatchSpec) {
    let tickets = teams.iter().flatten().filter_map(|named| state.ticket(&named.ticket));
    for ticket in tickets {
        for party in &ticket.spec.parties {
            let value = party_text(&ticket.id, &ticket.spec, party);
            for player in &party.players {
                let own = spec.player_properties.entry(player.id.clone()).or_default();
                *own = with(own, "party", &value);
            }
        }
    }
}

/// The properties that tell each player of a party about it.
fn party_text(ticket: &TicketId, spec: &TicketSpec, party: &Party) -> String {
    let quoted = |text: Option<&str>| text.map_or_else(|| "null".to_string(), json::quoted);
    format!(
        r#"{{"id":{},"leader":{},"players":{},"ticket":{}}}"#,
        quoted(party.id.as_deref()),
        quoted(spec.leader.as_ref().map(PlayerId::as_str)),
        ids(party.players.iter().map(|player| &player.id)),
        json::quoted(ticket.as_str())
    )
}

fn ids<'a>(players: impl Iterator<Item = &'a PlayerId>) -> String {
    json::list(players.map(PlayerId::as_str))
}

/// What a ticket adds to its match, as [`Size`] counts it: its players, their properties, and what built-in hooks write
/// there.
pub(crate) fn match_bytes(state: &State, queue: &QueueId, id: Option<&TicketId>, spec: &TicketSpec) -> usize {
    let has = |wanted: &Hook| stack(state, queue).any(|hook| hook == wanted);
    let team = if has(&Hook::TeamData) { TEAM_BYTES } else { 0 };
    let parties = has(&Hook::PartyMembership);
    let of_party = |party: &Party| {
        let quote = ENTRY_BYTES + MAX_ID_BYTES;
        let told = |id: &TicketId| quote + party_text(id, spec, party).len();
        // A ticket without an id yet counts with the maximum length.
        let told = id.filter(|_| parties).map(told).or_else(|| {
            let id = TicketId::new(&"t".repeat(MAX_ID_BYTES)).ok().filter(|_| parties)?;
            Some(told(&id))
        });
        let told = told.unwrap_or_default();
        let players = party.players.iter();
        let of_player =
            |player: &Player| 2 * player.id.byte_size() + ENTRY_BYTES + player.properties.byte_size();
        players.map(|player| of_player(player) + team + told).sum::<usize>()
    };
    spec.parties.iter().map(of_party).sum()
}

/// Maximum size that a ticket of this many players may add to a match of this queue, so that even the queue's largest
/// match is below the maximum size of a match. In bytes.
pub(crate) fn max_bytes(queue: &Queue, players: usize) -> usize {
    let full = queue.full().map_or(MAX_PLAYERS, |full| full as usize).max(1);
    (MAX_MATCH_BYTES - OWN_BYTES) / full * players
}

/// The refusal of a ticket that exceeds its share of its queue's matches.
pub(crate) fn too_large(
    state: &State,
    queue: (&QueueId, &Queue),
    id: Option<&TicketId>,
    spec: &TicketSpec,
) -> Option<Refusal> {
    let bytes = match_bytes(state, queue.0, id, spec);
    let limit = max_bytes(queue.1, spec.size());
    (bytes > limit).then(|| {
        Refusal::TooLarge(format!(
            "the ticket takes {bytes} bytes of a match (ids and properties of its players); in queue {}, tickets \
             with this number of players may take {limit} bytes; send less",
            queue.0
        ))
    })
}

/// Whether any queue has matches without a server.
pub(crate) fn hosts_any(state: &State) -> bool {
    let of_queues = state.queues().flat_map(|(_, queue)| &queue.hooks);
    state.settings.hooks.iter().chain(of_queues).any(|hook| matches!(hook, Hook::PeerToPeerHost(_)))
}

/// The connection details of the players of a match without a server: `None` if it needs one.
///
/// # Errors
/// What is missing, as text.
pub(crate) fn host_address(
    state: &State,
    queue: &QueueId,
    spec: &MatchSpec,
) -> Result<Option<Connection>, String> {
    let named = stack(state, queue).find_map(|hook| match hook {
        Hook::PeerToPeerHost(property) => Some(property),
        _ => None,
    });
    let Some(property) = named else { return Ok(None) };
    let host = spec.players.first().and_then(|player| spec.player_properties.get(player));
    let address = host.map(|properties| variable(properties).get_field(property));
    match address.as_ref().and_then(|address| address.as_string()) {
        // Every player of the match gets it, as they would from a server.
        Some(address) if address.len() > MAX_CONNECTION_BYTES || address.chars().any(is_deceptive) => {
            Err(format!("the first player's property `{property}` is too long or holds control characters"))
        }
        Some(address) => {
            let details = Arc::from(address.as_str());
            Ok(Some(Connection { details, per_player: BTreeMap::new() }))
        }
        None => Err(format!("the first player has no property `{property}` to connect to")),
    }
}
