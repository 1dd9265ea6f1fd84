//! Tickets: start, list, show, cancel, accept or decline a match.
//!
//! A player does so for tickets that it is in; a caller with a key for all tickets, naming a player if needed.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::Extension;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use sortie_domain::ids::{IdempotencyKey, MatchId, PlayerId, QueueId, RegionId, TicketId};
use sortie_domain::matchmaking::model::{
    MAX_LATENCY, MAX_TICKET_PLAYERS, Party, Player, TicketSpec, TicketState, whole_millis,
};
use sortie_domain::matchmaking::{Command, MAX_TTL, MIN_TTL, Refusal, Reply};
use sortie_serving::{empty_is_object, read_body};

use super::listing::{MAX_PAGE, PAGE};
use super::ticket_view::{TicketView, view};
use super::{answer, parse, properties};
use crate::auth::Caller;
use crate::codes::{self, Code, Kind};
use crate::error::ApiError;
use crate::one_place::{self, Places};
use crate::params::{Params, path_param};
use crate::player_order::{self, OwnRating};
use crate::sight::Sight;
use crate::state::Api;

/// A ticket to start: one party in `players`, or several in `parties`. All of them land on one team.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "TicketOrder")]
pub(super) struct Order {
    /// The queue's name.
    queue: String,
    #[serde(default)]
    #[schemars(length(max = MAX_TICKET_PLAYERS))]
    players: Vec<PlayerOrder>,
    #[serde(default)]
    #[schemars(length(max = MAX_TICKET_PLAYERS))]
    parties: Vec<PartyOrder>,
    /// The player who speaks for all; if a player starts a ticket for several, that player.
    leader: Option<String>,
    /// Data for rules and servers.
    #[schemars(with = "Option<BTreeMap<String, Value>>")]
    properties: Option<Box<RawValue>>,
    /// Round trip to regions of players who name none themselves, in milliseconds; a fraction is rounded up.
    #[serde(default)]
    latencies: BTreeMap<String, f64>,
    /// The same order with the same key is one ticket; repeating it renews the ticket.
    idempotency_key: Option<String>,
    /// Seconds after which the ticket is cancelled unless it is renewed; without `ttl` no renewal is needed.
    #[schemars(range(min = MIN_TTL.as_secs(), max = MAX_TTL.as_secs()))]
    ttl: Option<u64>,
    /// The ticket whose place and wait it takes over, for a party that a player has left or joined. That ticket is
    /// cancelled in the same step. It has to be waiting, and its leader or at least half of its players have to stay.
    replaces: Option<String>,
}

/// Players who came together.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct PartyOrder {
    id: Option<String>,
    players: Vec<PlayerOrder>,
}

/// One player of a ticket.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct PlayerOrder {
    id: String,
    /// Numbers that rules compare, by name. Accepted from players only if the configuration allows it.
    #[serde(default)]
    ratings: BTreeMap<Box<str>, f64>,
    /// Round trip to regions, in milliseconds; a fraction is rounded up.
    #[serde(default)]
    latencies: BTreeMap<String, f64>,
    /// Players whom this one will not play with.
    #[serde(default)]
    blocked: Vec<String>,
    /// Passed on into the match.
    #[schemars(with = "Option<BTreeMap<String, Value>>")]
    properties: Option<Box<RawValue>>,
}

impl Order {
    fn spec(self) -> Result<TicketSpec, ApiError> {
        let parties = match (self.players.is_empty(), self.parties.is_empty()) {
            (false, true) => vec![party("players", None, self.players)?],
            (true, false) => {
                let numbered = self.parties.into_iter().zip(0..);
                let party = |(one, at): (PartyOrder, usize)| {
                    let id = one.id.map(|id| party_id(at, &id)).transpose()?;
                    party(&format!("parties[{at}].players"), id, one.players)
                };
                numbered.map(party).collect::<Result<_, _>>()?
            }
            _ => return Err(ApiError::field("players", "either `players` or `parties` is needed, not both")),
        };
        let leader = self.leader.map(|text| PlayerId::new(&text)).transpose();
        let key = self.idempotency_key.map(|text| IdempotencyKey::new(&text)).transpose();
        let replaces = self.replaces.map(|text| TicketId::new(&text)).transpose();
        let of_ticket = self.properties.map(|raw| properties("properties".to_owned(), &raw)).transpose()?;
        Ok(TicketSpec {
            queue: QueueId::new(&self.queue).map_err(|problem| ApiError::field("queue", problem))?,
            parties,
            leader: leader.map_err(|problem| ApiError::field("leader", problem))?,
            properties: of_ticket.unwrap_or_default(),
            latencies: latencies("latencies", self.latencies)?,
            idempotency_key: key.map_err(|problem| ApiError::field("idempotency_key", problem))?,
            ttl: self.ttl.map(Duration::from_secs),
            replaces: replaces.map_err(|problem| ApiError::field("replaces", problem))?,
        })
    }
}

/// Ids of parties have the same limits as our ids.
fn party_id(at: usize, id: &str) -> Result<Box<str>, ApiError> {
    let checked =
        TicketId::new(id).map_err(|problem| ApiError::field(format!("parties[{at}].id"), problem))?;
    Ok(checked.as_str().into())
}

fn party(field: &str, id: Option<Box<str>>, players: Vec<PlayerOrder>) -> Result<Party, ApiError> {
    if players.len() > MAX_TICKET_PLAYERS {
        return Err(ApiError::field(field, format!("names more than {MAX_TICKET_PLAYERS}")));
    }
    let players = players.into_iter().zip(0..).map(|(one, at)| player(&format!("{field}[{at}]"), one));
    Ok(Party { id, players: players.collect::<Result<_, _>>()? })
}

fn player(field: &str, order: PlayerOrder) -> Result<Player, ApiError> {
    let at = |name: &str| format!("{field}.{name}");
    let blocked = order.blocked.iter().map(|id| PlayerId::new(id));
    let own = order.properties.map(|raw| properties(at("properties"), &raw)).transpose()?;
    Ok(Player {
        id: PlayerId::new(&order.id).map_err(|problem| ApiError::field(at("id"), problem))?,
        ratings: order.ratings,
        latencies: latencies(&at("latencies"), order.latencies)?,
        blocked: blocked
            .collect::<Result<_, _>>()
            .map_err(|problem| ApiError::field(at("blocked"), problem))?,
        properties: own.unwrap_or_default(),
    })
}

fn latencies(field: &str, given: BTreeMap<String, f64>) -> Result<BTreeMap<RegionId, u32>, ApiError> {
    let regions = given.into_iter().map(|(region, measured)| {
        let named = |problem| ApiError::field(field, format!("the name of a region {problem}"));
        let too_far = || ApiError::field(field, format!("must be milliseconds from 0 to {MAX_LATENCY}"));
        Ok((RegionId::new(&region).map_err(named)?, whole_millis(measured).ok_or_else(too_far)?))
    });
    regions.collect()
}

/// The id of a started ticket.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "TicketStarted")]
pub(super) struct Started {
    ticket_id: String,
}

/// The same error, with this API's names for the fields.
fn named(error: ApiError) -> ApiError {
    error.renamed(|field| match field {
        "entity" => Some("players".to_owned()),
        "queue_name" => Some("queue".to_owned()),
        _ => None,
    })
}

/// `POST /v1/tickets`
pub(super) async fn start(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Response {
    let start = async {
        let body = read_body(request, &api.options.limits.serving).await?;
        let mut spec = parse::<Order>(&body)?.spec()?;
        let is_player = !caller.is_client();
        if is_player {
            player_order::check(&api, &caller, &mut spec, "players", OwnRating::Refused).await?;
            replaces_visible(&api, &Sight::of(&caller)?, &spec).await?;
        }
        let places = if is_player { Places::All } else { Places::Seats };
        one_place::check(&api, &caller, &spec, places).await?;
        let start = Command::Start { id: None, spec: spec.clone() };
        let ticket = match api.call_maker(start).await.map_err(named)? {
            Reply::Started { ticket } => ticket,
            other => return Err(ApiError::unexpected(&other)),
        };
        one_place::gives_way(&api, &caller, &spec, &ticket).await?;
        Ok((StatusCode::CREATED, Started { ticket_id: ticket.to_string() }))
    };
    answer(start.await)
}

/// Checks that the caller can see the ticket to be replaced, unless the order is a repetition: then that ticket may be
/// forgotten.
async fn replaces_visible(api: &Api, sight: &Sight, spec: &TicketSpec) -> Result<(), ApiError> {
    let Some(old) = spec.replaces.clone() else { return Ok(()) };
    if let Some(key) = spec.idempotency_key.clone()
        && api.query_maker(move |maker| maker.remembers(&key)).await?
    {
        return Ok(());
    }
    visible(api, sight, old).await
}

/// One page.
#[derive(Serialize, JsonSchema)]
pub(super) struct Tickets {
    tickets: Vec<TicketView>,
    /// The next page begins after this place; absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// `GET /v1/tickets`
pub(super) async fn list(State(api): State<Api>, Extension(caller): Extension<Caller>, uri: Uri) -> Response {
    let list = async {
        let mut params = Params::of(&uri)?;
        let after = params.parsed("after", "`next` of the previous page, a number")?.unwrap_or(0_u64);
        let limit = params.parsed("limit", format_args!("a number from 1 to {MAX_PAGE}"))?.unwrap_or(PAGE);
        let player = params.one("player")?;
        params.finish()?;
        if !(1..=MAX_PAGE).contains(&limit) {
            return Err(ApiError::field("limit", format!("must be a number from 1 to {MAX_PAGE}")));
        }
        let player = player.map(|text| PlayerId::new(&text)).transpose();
        let player = player.map_err(|problem| ApiError::field("player", problem))?;
        let sight = Sight::of(&caller)?;
        let player = match &sight {
            Sight::All => player,
            Sight::Own(player) => Some(player.clone()),
        };
        let (views, next) = match player {
            Some(player) => {
                let found = api.query_maker(move |maker| {
                    let own = maker.tickets_of(&player).filter_map(|ticket| sight.ticket(ticket));
                    own.map(|seen| view(maker, &seen)).collect::<Vec<_>>()
                });
                (found.await?, None)
            }
            None => {
                let page = api.query_maker(move |maker| {
                    let page = maker.tickets(after, limit);
                    let last = page.items.last().filter(|_| page.more).map(|ticket| ticket.place);
                    let seen = page.items.iter().filter_map(|ticket| sight.ticket(ticket));
                    (seen.map(|ticket| view(maker, &ticket)).collect(), last)
                });
                page.await?
            }
        };
        let tickets = views.into_iter().collect::<Result<_, _>>()?;
        Ok((StatusCode::OK, Tickets { tickets, next: next.map(|place| place.to_string()) }))
    };
    answer(list.await)
}

type Id = Result<Path<String>, PathRejection>;

pub(super) fn ticket_id(id: Id) -> Result<TicketId, ApiError> {
    TicketId::new(&path_param("ticket_id", id)?).map_err(|problem| ApiError::field("ticket_id", problem))
}

/// `GET /v1/tickets/{id}`
pub(super) async fn show(State(api): State<Api>, Extension(caller): Extension<Caller>, id: Id) -> Response {
    let show = async {
        let id = ticket_id(id)?;
        Ok((StatusCode::OK, shown(&api, Sight::of(&caller)?, id).await?))
    };
    answer(show.await)
}

/// `DELETE /v1/tickets/{id}`
pub(super) async fn cancel(State(api): State<Api>, Extension(caller): Extension<Caller>, id: Id) -> Response {
    answer(change(&api, &caller, id, |id| Command::Cancel { id }).await)
}

/// `POST /v1/tickets/{id}/renew`
pub(super) async fn renew(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    id: Id,
    request: Request,
) -> Response {
    let renewed = async {
        // The body is ignored; it only must not be too large.
        read_body(request, &api.options.limits.serving).await?;
        change(&api, &caller, id, |id| Command::Renew { id }).await
    };
    answer(renewed.await)
}

/// Sends a command about a ticket that the caller can see, and shows the resulting ticket.
async fn change(
    api: &Api,
    caller: &Caller,
    id: Id,
    command: fn(TicketId) -> Command,
) -> Result<(StatusCode, TicketView), ApiError> {
    let (id, sight) = (ticket_id(id)?, Sight::of(caller)?);
    visible(api, &sight, id.clone()).await?;
    match api.call_maker(command(id.clone())).await? {
        Reply::Ticket(ticket) => {
            let shown = api.query_maker(move |maker| Some(view(maker, &sight.ticket(&ticket)?)));
            Ok((StatusCode::OK, shown.await?.ok_or(Refusal::TicketNotFound(id))??))
        }
        other => Err(ApiError::unexpected(&other)),
    }
}

/// The ticket, as far as the caller can see it.
async fn shown(api: &Api, sight: Sight, id: TicketId) -> Result<TicketView, ApiError> {
    let wanted = id.clone();
    let shown = api.query_maker(move |maker| Some(view(maker, &sight.ticket(maker.ticket(&wanted)?)?)));
    shown.await?.ok_or(Refusal::TicketNotFound(id))?
}

/// Checks that the caller can see the ticket.
async fn visible(api: &Api, sight: &Sight, id: TicketId) -> Result<(), ApiError> {
    let (wanted, sight) = (id.clone(), sight.clone());
    let found = api.query_maker(move |maker| sight.ticket(maker.ticket(&wanted)?).map(drop)).await?;
    found.ok_or_else(|| Refusal::TicketNotFound(id).into())
}

/// The player who accepts or declines a match.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "MatchVote")]
pub(super) struct Vote {
    /// The player; optional if the caller is the player.
    player_id: Option<String>,
}

/// `POST /v1/tickets/{id}/accept`
pub(super) async fn accept(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    id: Id,
    request: Request,
) -> Response {
    answer(vote(api, caller, id, request, |match_id, player| Command::Accept { match_id, player }).await)
}

/// `POST /v1/tickets/{id}/decline`
pub(super) async fn decline(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    id: Id,
    request: Request,
) -> Response {
    answer(vote(api, caller, id, request, |match_id, player| Command::Decline { match_id, player }).await)
}

/// There is no match of the ticket to accept.
const NOTHING_TO_ACCEPT: Code = Code { name: "nothing_to_accept", kind: Kind::Conflict };

async fn vote(
    api: Api,
    caller: Caller,
    id: Id,
    request: Request,
    command: fn(MatchId, PlayerId) -> Command,
) -> Result<(StatusCode, TicketView), ApiError> {
    let id = ticket_id(id)?;
    let body = read_body(request, &api.options.limits.serving).await?;
    let Vote { player_id } = parse(empty_is_object(&body))?;
    let (player, sight) = (voter(&caller, player_id)?, Sight::of(&caller)?);
    visible(&api, &sight, id.clone()).await?;
    let (wanted, voter) = (id.clone(), player.clone());
    let proposed = api.query_maker(move |maker| {
        let ticket = maker.ticket(&wanted)?;
        let is_in = ticket.spec.players().any(|one| one.id == voter);
        let proposed = match &ticket.state {
            TicketState::Proposed { match_id, .. } => Some(match_id.clone()),
            _ => None,
        };
        Some((is_in, proposed))
    });
    let (is_in, proposed) = proposed.await?.ok_or_else(|| Refusal::TicketNotFound(id.clone()))?;
    if !is_in {
        return Err(Refusal::NotInMatch(player).into());
    }
    let none = || {
        NOTHING_TO_ACCEPT.error(format!("ticket {id} is not in a match that waits to be accepted (any more)"))
    };
    match api.call_maker(command(proposed.ok_or_else(none)?, player)).await? {
        Reply::Formation(_) => {}
        other => return Err(ApiError::unexpected(&other)),
    }
    Ok((StatusCode::OK, shown(&api, sight, id).await?))
}

/// The player who votes.
fn voter(caller: &Caller, named: Option<String>) -> Result<PlayerId, ApiError> {
    let named = named.map(|text| PlayerId::new(&text)).transpose();
    let named = named.map_err(|problem| ApiError::field("player_id", problem))?;
    match (caller.player_named(), named) {
        (Some(player), Some(named)) if *player != named => {
            let problem = format!("names a different player than the call, which is for {player}");
            Err(codes::FORBIDDEN.error(problem).about("player_id"))
        }
        (Some(player), _) => Ok(player.clone()),
        (None, Some(named)) => Ok(named),
        (None, None) => Err(ApiError::field("player_id", "must say whose vote this is")),
    }
}
