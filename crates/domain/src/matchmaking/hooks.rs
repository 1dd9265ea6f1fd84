//! Hooks: those that are built in are functions here; those outside are asked by effects and waited for.
//!
//! Hooks stack: the matchmaker's come first, then the queue's, each in the order in which they are configured. One that
//! is outside interrupts the stack; its outcome, its failure, or its time being over resumes it behind that hook. If a
//! change of the configuration has taken the hook away meanwhile, what follows it is left out.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;

use jmespath::{Rcvar, Variable};

use super::command::Refusal;
use super::model::{Check, Named, TicketSpec};
use super::rules::{list, number, number_of, object, text, variable};
use super::settings::{Backfill, Hook, HookPoint, OnFailure, OutsideHook, Queue, RuleKind, Settings};
use super::state::State;
use crate::broker::model::{Connection, MAX_CONNECTION_BYTES, MatchSpec, Properties};
use crate::ids::{HookId, PlayerId, QueueId, RegionId};
use crate::text::is_deceptive;
use crate::time::Timestamp;

/// A hook that is asked from now on.
pub(crate) fn ask(hook: &OutsideHook, now: Timestamp) -> Check {
    Check { hook: hook.id.clone(), until: now + hook.timeout }
}

/// Every hook for a queue, in order.
fn stack<'a>(settings: &'a Settings, queue: &QueueId) -> impl Iterator<Item = &'a Hook> {
    settings.hooks.iter().chain(settings.queues.get(queue).into_iter().flat_map(|queue| &queue.hooks))
}

/// What happens where this hook fails; one that is not configured any more has nothing against anything.
pub(crate) fn on_failure(settings: &Settings, queue: &QueueId, id: &HookId) -> OnFailure {
    let found = stack(settings, queue).find_map(|hook| match hook {
        Hook::Outside(hook) if hook.id == *id => Some(hook.on_failure),
        _ => None,
    });
    found.unwrap_or(OnFailure::Accept)
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

/// Takes a ticket through the hooks behind `after`. It may change its queue; gives the hook that has to be asked.
///
/// # Errors
/// The refusal of a hook that is built in.
pub(crate) fn validate(
    settings: &Settings,
    spec: &TicketSpec,
    queue: &mut QueueId,
    after: Option<&HookId>,
    now: Timestamp,
) -> Result<Option<Check>, Refusal> {
    let own = |queue: &QueueId| settings.queues.get(queue).map_or(&[][..], |queue| &queue.hooks);
    let (first, mut next) = match after {
        None => (0, 0),
        Some(id) => match (position(&settings.hooks, id), position(own(queue), id)) {
            (Some(at), _) => (at + 1, 0),
            (None, Some(at)) => (settings.hooks.len(), at + 1),
            (None, None) => return Ok(None),
        },
    };
    for hook in settings.hooks.get(first..).unwrap_or_default() {
        match validate_by(hook, spec, now)? {
            Validation::Nothing => {}
            Validation::Route(other) => *queue = other,
            Validation::Ask(check) => return Ok(Some(check)),
        }
    }
    // The settings see to it that a queue which is sent to does not send on.
    while let Some(hook) = own(queue).get(next) {
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

/// The match that tickets make before any hook has seen it: its properties are those in which all tickets agree, with
/// those of the queue, `queue_name` and `region`; where others may come later, also what these are compared with.
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
        fields.entry(name).or_insert_with(|| number(value));
    }
    if let Some(own) = settings.and_then(|queue| variable(&queue.properties).as_object().cloned()) {
        fields.extend(own);
    }
    fields.insert("queue_name".to_string(), text(queue.as_str()));
    if let Some(region) = region {
        fields.insert("region".to_string(), text(region.as_str()));
    }
    let capacity = open.and_then(Queue::full).map(|full| full.max(players.len() as u32));
    MatchSpec { players, properties: properties(fields), player_properties, capacity, ..MatchSpec::default() }
}

/// The averages of the numbers by which a queue's rules compare tickets, so that who comes later is compared with them.
fn strength<'a>(queue: &'a Queue, specs: &'a [Arc<TicketSpec>]) -> impl Iterator<Item = (String, f64)> + 'a {
    queue.rules.iter().filter(|_| !specs.is_empty()).filter_map(|rule| {
        let RuleKind::Distance { property, measure, missing, .. } = &rule.kind else { return None };
        let numbers = specs.iter().map(|spec| number_of(spec, property, *measure, *missing));
        Some((property.to_string(), numbers.sum::<f64>() / specs.len() as f64))
    })
}

/// The properties in which all tickets agree.
fn common(specs: &[Arc<TicketSpec>]) -> BTreeMap<String, Rcvar> {
    let Some((first, others)) = specs.split_first() else { return BTreeMap::new() };
    let mut fields = variable(&first.properties).as_object().cloned().unwrap_or_default();
    for other in others.iter().filter(|other| other.properties != first.properties) {
        let other = variable(&other.properties);
        fields.retain(|name, value| other.get_field(name) == *value);
    }
    fields
}

type String = alloc::string::String;

fn properties(fields: BTreeMap<String, Rcvar>) -> Properties {
    // Longer than a match may have: then it goes without.
    Properties::written(&Variable::Object(fields).to_string()).unwrap_or_default()
}

fn with(given: &Properties, name: &str, value: Rcvar) -> Properties {
    let mut fields = variable(given).as_object().cloned().unwrap_or_default();
    fields.insert(name.to_string(), value);
    Properties::written(&Variable::Object(fields).to_string()).unwrap_or_else(|_| given.clone())
}

/// Takes a match through the hooks behind `after`; gives the hook that has to be asked.
pub(crate) fn check_match(
    state: &State,
    queue: &QueueId,
    teams: &[Vec<Named>],
    spec: &mut MatchSpec,
    after: Option<&HookId>,
    now: Timestamp,
) -> Option<Check> {
    let hooks: Vec<&Hook> = stack(&state.settings, queue).collect();
    let is_it = |hook: &&Hook, id: &HookId| matches!(hook, Hook::Outside(hook) if hook.id == *id);
    let first = match after {
        None => 0,
        Some(id) => hooks.iter().position(|hook| is_it(hook, id)).map_or(hooks.len(), |at| at + 1),
    };
    for hook in hooks.get(first..).unwrap_or_default() {
        match hook {
            Hook::TeamData if teams.len() > 1 => write_teams(teams, spec),
            Hook::PartyMembership => write_parties(state, teams, spec),
            Hook::Outside(hook) if hook.about == HookPoint::NewMatch => return Some(ask(hook, now)),
            _ => {}
        }
    }
    None
}

fn write_teams(teams: &[Vec<Named>], spec: &mut MatchSpec) {
    let players = |team: &Vec<Named>| list(team.iter().flat_map(|named| &named.players));
    let all = teams.iter().map(players).collect();
    spec.properties = with(&spec.properties, "teams", Rcvar::new(Variable::Array(all)));
    for (at, team) in teams.iter().enumerate() {
        for player in team.iter().flat_map(|named| &named.players) {
            let own = spec.player_properties.entry(player.clone()).or_default();
            *own = with(own, "team", number(at as f64));
        }
    }
}

fn write_parties(state: &State, teams: &[Vec<Named>], spec: &mut MatchSpec) {
    let tickets = teams.iter().flatten().filter_map(|named| state.ticket(&named.ticket));
    for ticket in tickets {
        let leader = ticket.spec.leader.as_ref();
        for party in &ticket.spec.parties {
            let value = object([
                ("id", party.id.as_ref().map_or_else(|| Rcvar::new(Variable::Null), |id| text(id))),
                ("leader", leader.map_or_else(|| Rcvar::new(Variable::Null), |id| text(id.as_str()))),
                ("players", list(party.players.iter().map(|player| &player.id))),
                ("ticket", text(ticket.id.as_str())),
            ]);
            for player in &party.players {
                let own = spec.player_properties.entry(player.id.clone()).or_default();
                *own = with(own, "party", Rcvar::clone(&value));
            }
        }
    }
}

/// Where the players of a match that does without a server connect: `None` if it needs one.
///
/// # Errors
/// What is missing, in words.
pub(crate) fn host_address(
    settings: &Settings,
    queue: &QueueId,
    spec: &MatchSpec,
) -> Result<Option<Connection>, String> {
    let named = stack(settings, queue).find_map(|hook| match hook {
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
