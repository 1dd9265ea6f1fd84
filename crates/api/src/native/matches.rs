//! Matches: submit, list, show, cancel.

use std::collections::BTreeMap;

use axum::Extension;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use sortie_domain::broker::model::{Match, MatchState};
use sortie_domain::broker::{Command, Refusal, Reply};
use sortie_domain::ids::{FleetId, IdempotencyKey, MatchId, PlayerId};
use sortie_domain::match_spec::{MAX_PLAYERS, MatchSpec};
use sortie_serving::read_body;

use super::listing::PageParams;
use super::{answer, parse, properties, raw, rfc3339};
use crate::auth::Caller;
use crate::error::ApiError;
use crate::params::{Params, path_param};
use crate::servers;
use crate::state::Api;

/// Values of `?state=`.
pub(super) const STATES: [&str; 6] = ["queued", "picked_up", "ready", "ended", "failed", "cancelled"];

/// An order for a match.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "MatchOrder")]
pub(super) struct Order {
    /// Ids of the players.
    #[schemars(length(max = MAX_PLAYERS))]
    players: Vec<String>,
    /// Data for the game; requirements are evaluated on it.
    #[schemars(with = "Option<BTreeMap<String, Value>>")]
    properties: Option<Box<RawValue>>,
    /// The same for each player, by the player's id.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, BTreeMap<String, Value>>")]
    player_properties: BTreeMap<String, Box<RawValue>>,
    /// Number of places, for drop-in play.
    capacity: Option<u32>,
    /// The fleet whose servers may take it.
    fleet: Option<String>,
    /// The same order with the same key is one match, until 24 hours after that match is over; if there are very many
    /// orders, the oldest are forgotten earlier (`broker.kept_bytes`). Orders are the same if their content is equal:
    /// `{"a":1,"b":2}` equals `{"b":2,"a":1.0}`, and missing `properties` equal `{}`.
    idempotency_key: Option<String>,
}

impl Order {
    fn spec(self) -> Result<MatchSpec, ApiError> {
        if self.players.len() > MAX_PLAYERS {
            return Err(ApiError::field("players", format!("names more than {MAX_PLAYERS}")));
        }
        let mut players = Vec::with_capacity(self.players.len());
        for (index, text) in self.players.iter().enumerate() {
            let at = |problem| ApiError::field(format!("players[{index}]"), problem);
            players.push(PlayerId::new(text).map_err(at)?);
        }
        let mut player_properties = BTreeMap::new();
        for (index, (player, raw)) in self.player_properties.into_iter().enumerate() {
            let named = PlayerId::new(&player).ok().filter(|player| players.contains(player));
            let Some(player) = named else {
                let problem = format!("key {} (in their order) is not among `players`", index + 1);
                return Err(ApiError::field("player_properties", problem));
            };
            let field = format!("player_properties.{player}");
            player_properties.insert(player, properties(field, &raw)?);
        }
        let of_match = self.properties.map(|raw| properties("properties".to_owned(), &raw)).transpose()?;
        let fleet = self.fleet.map(|text| FleetId::new(&text)).transpose();
        let key = self.idempotency_key.map(|text| IdempotencyKey::new(&text)).transpose();
        Ok(MatchSpec {
            players,
            properties: of_match.unwrap_or_default(),
            player_properties,
            capacity: self.capacity,
            fleet: fleet.map_err(|problem| ApiError::field("fleet", problem))?,
            idempotency_key: key.map_err(|problem| ApiError::field("idempotency_key", problem))?,
        })
    }
}

/// The id of a submitted match.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "MatchSubmitted")]
pub(super) struct Submitted {
    match_id: String,
}

/// `POST /v1/matches`
pub(super) async fn submit(State(api): State<Api>, request: Request) -> Response {
    let submit = async {
        let body = read_body(request, &api.options.limits.serving).await?;
        let spec = parse::<Order>(&body)?.spec()?;
        match api.call(Command::SubmitMatch { id: None, spec }).await? {
            Reply::Submitted { match_id } => {
                Ok((StatusCode::ACCEPTED, Submitted { match_id: match_id.to_string() }))
            }
            other => Err(ApiError::unexpected(&other)),
        }
    };
    answer(submit.await)
}

/// One page.
#[derive(Serialize, JsonSchema)]
pub(super) struct Matches {
    matches: Vec<MatchView>,
    /// The next page begins after this one; absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// `GET /v1/matches`
pub(super) async fn list(State(api): State<Api>, uri: Uri) -> Response {
    let list = async {
        let mut params = Params::of(&uri)?;
        let PageParams { after, limit } = PageParams::take(&mut params, MatchId::new)?;
        let states = states(&params.all("state"))?;
        let player = params.one("player")?.map(|text| PlayerId::new(&text)).transpose();
        let player = player.map_err(|problem| ApiError::field("player", problem))?;
        params.finish()?;
        let page = api.query(move |broker| match player {
            Some(player) => broker.matches_of(&player, &states, after.as_ref(), limit),
            None => broker.matches(&states, after.as_ref(), limit),
        });
        let page = page.await?;
        let next = page.items.last().filter(|_| page.more).map(|game| game.id.to_string());
        let matches = page.items.iter().map(view).collect::<Result<_, _>>()?;
        Ok((StatusCode::OK, Matches { matches, next }))
    };
    answer(list.await)
}

fn states(values: &[String]) -> Result<Vec<&'static str>, ApiError> {
    let names = values.iter().flat_map(|value| value.split(','));
    let states = names.map(|name| {
        let known = STATES.into_iter().find(|state| *state == name);
        known.ok_or_else(|| ApiError::field("state", format!("must be one of {}", STATES.join(", "))))
    });
    states.collect()
}

pub(super) fn match_id(id: Result<Path<String>, PathRejection>) -> Result<MatchId, ApiError> {
    MatchId::new(&path_param("match_id", id)?).map_err(|problem| ApiError::field("match_id", problem))
}

/// `GET /v1/matches/{id}`
pub(super) async fn show(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    id: Result<Path<String>, PathRejection>,
) -> Response {
    let show = async {
        let id = match_id(id)?;
        servers::check_visible(&api, &caller, &id).await?;
        let wanted = id.clone();
        match api.query(move |broker| broker.find_match(&wanted).cloned()).await? {
            Some(game) => Ok((StatusCode::OK, view(&game)?)),
            None => Err(Refusal::MatchNotFound(id).into()),
        }
    };
    answer(show.await)
}

/// `DELETE /v1/matches/{id}`
pub(super) async fn cancel(State(api): State<Api>, id: Result<Path<String>, PathRejection>) -> Response {
    let cancel = async {
        match api.call(Command::CancelMatch { id: match_id(id)? }).await? {
            Reply::Match(game) => Ok((StatusCode::OK, view(&game)?)),
            other => Err(ApiError::unexpected(&other)),
        }
    };
    answer(cancel.await)
}

/// A match as it is shown.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Match")]
pub(super) struct MatchView {
    match_id: String,
    #[schemars(extend("enum" = STATES))]
    state: &'static str,
    /// The stable name of the reason why it is over.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    /// The same in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'static str>,
    /// Players who were named in the order, and those who have a seat.
    players: Vec<String>,
    #[schemars(with = "BTreeMap<String, Value>")]
    properties: Box<RawValue>,
    #[schemars(with = "BTreeMap<String, BTreeMap<String, Value>>")]
    player_properties: BTreeMap<String, Box<RawValue>>,
    /// It is over, and its properties were forgotten to save memory, so they are shown as empty.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    properties_forgotten: bool,
    /// Number of places, as ordered or as the server counts them; null for a match that nobody can join.
    capacity: Option<u32>,
    seats: Seats,
    #[serde(skip_serializing_if = "Option::is_none")]
    fleet: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    server_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    connection_details: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    per_player_connection_details: BTreeMap<String, String>,
    #[schemars(extend("format" = "date-time"))]
    queued_at: String,
    /// Since when it is in this state.
    #[schemars(extend("format" = "date-time"))]
    state_since: String,
}

/// Numbers of seats.
#[derive(Serialize, JsonSchema)]
struct Seats {
    /// Their players are expected.
    reserved: usize,
    /// Their players are there.
    claimed: usize,
    /// Further players who could join.
    free: u32,
}

pub(super) fn view(game: &Match) -> Result<MatchView, ApiError> {
    let (since, message) = match &game.state {
        MatchState::Queued => (game.queued_at, None),
        MatchState::PickedUp { at } | MatchState::Ready { at, .. } => (*at, None),
        MatchState::Ended { at, cause } => (*at, Some(cause.text())),
        MatchState::Failed { at, reason } => (*at, Some(reason.text())),
        MatchState::Cancelled { at, cause } => (*at, Some(cause.text())),
    };
    let connection = match &game.state {
        MatchState::Ready { connection, .. } => Some(connection),
        _ => None,
    };
    let per_player = connection.into_iter().flat_map(|connection| &connection.per_player);
    let of_players = game.spec.player_properties.iter();
    let claimed = game.seats.claimed() as usize;
    Ok(MatchView {
        match_id: game.id.to_string(),
        state: game.state.name(),
        reason: game.state.reason(),
        message,
        players: game.players().iter().map(ToString::to_string).collect(),
        properties: raw(&game.spec.properties)?,
        player_properties: of_players
            .map(|(player, properties)| Ok((player.to_string(), raw(properties)?)))
            .collect::<Result<_, ApiError>>()?,
        properties_forgotten: game.stripped,
        capacity: game.capacity(),
        seats: Seats { reserved: game.seats.len() - claimed, claimed, free: game.free_places() },
        fleet: game.spec.fleet.as_ref().map(ToString::to_string),
        server_id: game.server.as_ref().map(ToString::to_string),
        connection_details: connection.map(|connection| connection.details.as_ref().to_owned()),
        per_player_connection_details: per_player
            .map(|(player, details)| (player.to_string(), details.as_ref().to_owned()))
            .collect(),
        queued_at: rfc3339(game.queued_at),
        state_since: rfc3339(since),
    })
}
