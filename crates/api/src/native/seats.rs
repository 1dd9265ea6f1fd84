//! Seats: drop-in play. A game server reports how many are free, and waits in a call for the players of its own match,
//! without reading every event.

use std::time::Duration;

use axum::Extension;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sortie_domain::broker::model::{Match, Seat, SeatState};
use sortie_domain::broker::{Command, Refusal, Reply, SeatsElsewhere};
use sortie_domain::ids::{MatchId, PlayerId, SeatId, ServerId};
use sortie_domain::match_spec::MAX_CAPACITY;
use sortie_engine::CallError;
use sortie_serving::{empty_is_object, read_body};

use super::matches::{STATES, match_id, view};
use super::{answer, parse, rfc3339};
use crate::auth::Caller;
use crate::error::ApiError;
use crate::params::{Params, path_param};
use crate::servers;
use crate::state::Api;

/// Default number of seconds that a player may take to claim a seat.
const TTL_SECONDS: u32 = 30;

/// The player who wants the seat.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "SeatOrder")]
pub(super) struct Reserve {
    player_id: String,
    /// Seconds that the player may take to claim it; the default is 30.
    ttl_seconds: Option<u32>,
}

/// The server that claims the seat.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "SeatClaim")]
pub(super) struct Claim {
    /// If set, the seat's match has to be on this server.
    server_id: Option<String>,
}

/// How many further players a match accepts.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "FreeSeats")]
pub(super) struct FreeSeats {
    /// Places without a player and not kept for a named player who has yet to come. Places of reserved seats count as
    /// free: they are subtracted here.
    #[schemars(range(max = MAX_CAPACITY))]
    free: u32,
    /// If set, the match has to be on this server.
    server_id: Option<String>,
}

/// A seat as it is shown.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Seat")]
pub(super) struct SeatView {
    seat_id: String,
    match_id: String,
    player_id: String,
    /// A string, because not every language's JSON numbers have 64 bits.
    client_id: String,
    #[schemars(extend("enum" = ["reserved", "claimed"]))]
    state: &'static str,
    /// When an unclaimed seat expires.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    expires_at: Option<String>,
}

/// The expected and connected players of a match.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "MatchSeats")]
pub(super) struct MatchSeats {
    /// The match's state: there are no new seats after `ended`, `failed` or `cancelled`.
    #[schemars(extend("enum" = STATES))]
    state: &'static str,
    /// The value of `seen` for the next call.
    seen: u64,
    /// Seats that are reserved or claimed, by id.
    seats: Vec<SeatView>,
}

/// The seat that was released.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "SeatReleased")]
pub(super) struct Released {
    seat_id: String,
}

impl From<Seat> for SeatView {
    fn from(seat: Seat) -> Self {
        let (state, expires_at) = match seat.state {
            SeatState::Reserved { expires_at } => ("reserved", expires_at.map(rfc3339)),
            SeatState::Claimed { .. } => ("claimed", None),
        };
        Self {
            seat_id: seat.id.to_string(),
            match_id: seat.match_id.to_string(),
            player_id: seat.player.to_string(),
            client_id: seat.client_id.to_string(),
            state,
            expires_at,
        }
    }
}

/// `POST /v1/matches/{id}/seats`
pub(super) async fn reserve(
    State(api): State<Api>,
    id: Result<Path<String>, PathRejection>,
    request: Request,
) -> Response {
    let reserve = async {
        let id = path_param("match_id", id)?;
        let body = read_body(request, &api.options.limits.serving).await?;
        let Reserve { player_id, ttl_seconds } = parse(&body)?;
        let command = Command::ReserveSeat {
            match_id: MatchId::new(&id).map_err(|problem| ApiError::field("match_id", problem))?,
            player: PlayerId::new(&player_id).map_err(|problem| ApiError::field("player_id", problem))?,
            ttl: Duration::from_secs(ttl_seconds.unwrap_or(TTL_SECONDS).into()),
            elsewhere: SeatsElsewhere::Ignored,
        };
        seated(api.call(command).await).map(|seat| (StatusCode::CREATED, seat))
    };
    answer(reserve.await)
}

/// `GET /v1/matches/{id}/seats`
pub(super) async fn list(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    id: Result<Path<String>, PathRejection>,
    uri: Uri,
) -> Response {
    let list = async {
        let id = match_id(id)?;
        let mut params = Params::of(&uri)?;
        let seen = params.parsed("seen", "`seen` of an earlier answer")?;
        params.finish()?;
        servers::check_visible(&api, &caller, &id).await?;
        let game = match seen {
            Some(seen) => {
                let _waits = api.shares.wait_for_seats(&caller, &id)?;
                let news = news(&api, &id, seen).await?;
                // By now the match may be on another server, or the key may be revoked.
                caller.pass().check()?;
                servers::check_visible(&api, &caller, &id).await?;
                news
            }
            None => find(&api, &id).await?,
        };
        let seats = game.seats.values().cloned().map(SeatView::from).collect();
        Ok((StatusCode::OK, MatchSeats { state: game.state.name(), seen: game.changed_seq, seats }))
    };
    answer(list.await)
}

/// The match when there is news of it, after a while, or when the process shuts down.
async fn news(api: &Api, id: &MatchId, seen: u64) -> Result<Match, ApiError> {
    let watch = api.call_held(Command::WatchMatch { id: id.clone(), seen });
    match tokio::time::timeout(api.options.limits.heartbeat, watch).await {
        Ok(Ok(Some(Reply::Match(game)))) => Ok(game),
        Ok(Ok(Some(other))) => Err(ApiError::unexpected(&other)),
        Ok(Err(error)) => Err(error.into()),
        Ok(Ok(None)) | Err(_) => find(api, id).await,
    }
}

async fn find(api: &Api, id: &MatchId) -> Result<Match, ApiError> {
    let wanted = id.clone();
    let game = api.query(move |broker| broker.find_match(&wanted).cloned()).await?;
    game.ok_or_else(|| Refusal::MatchNotFound(id.clone()).into())
}

/// `POST /v1/seats/{id}/claim`
pub(super) async fn claim(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    id: Result<Path<String>, PathRejection>,
    request: Request,
) -> Response {
    let claim = async {
        let seat = seat_id(id)?;
        let body = read_body(request, &api.options.limits.serving).await?;
        let Claim { server_id } = parse(empty_is_object(&body))?;
        let server = servers::check_seat(&api, &caller, &seat, server(server_id)?).await?;
        let reply = api.call(Command::ClaimSeat { seat, server }).await;
        seated(reply).map(|seat| (StatusCode::OK, seat))
    };
    answer(claim.await)
}

fn server(id: Option<String>) -> Result<Option<ServerId>, ApiError> {
    let id = id.map(|text| ServerId::new(&text)).transpose();
    id.map_err(|problem| ApiError::field("server_id", problem))
}

/// `PUT /v1/matches/{id}/free-seats`
pub(super) async fn report_free(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    id: Result<Path<String>, PathRejection>,
    request: Request,
) -> Response {
    let report = async {
        let match_id = match_id(id)?;
        let body = read_body(request, &api.options.limits.serving).await?;
        let FreeSeats { free, server_id } = parse(&body)?;
        let server = servers::check_match(&api, &caller, &match_id, server(server_id)?).await?;
        let command = Command::ReportFreePlaces { match_id, server, free };
        match api.call(command).await? {
            Reply::Match(game) => Ok((StatusCode::OK, view(&game)?)),
            other => Err(ApiError::unexpected(&other)),
        }
    };
    answer(report.await)
}

/// `DELETE /v1/seats/{id}`
pub(super) async fn release(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    id: Result<Path<String>, PathRejection>,
) -> Response {
    let release = async {
        let seat = seat_id(id)?;
        servers::check_release(&api, &caller, &seat).await?;
        let released = Released { seat_id: seat.to_string() };
        match api.call(Command::ReleaseSeat { seat }).await? {
            Reply::Done => Ok((StatusCode::OK, released)),
            other => Err(ApiError::unexpected(&other)),
        }
    };
    answer(release.await)
}

fn seat_id(id: Result<Path<String>, PathRejection>) -> Result<SeatId, ApiError> {
    SeatId::new(&path_param("seat_id", id)?).map_err(|problem| ApiError::field("seat_id", problem))
}

fn seated(reply: Result<Reply, CallError<Refusal>>) -> Result<SeatView, ApiError> {
    match reply {
        Ok(Reply::Seated { seat, .. }) => Ok(seat.into()),
        Ok(other) => Err(ApiError::unexpected(&other)),
        Err(error) => {
            let name = |field: &str| (field == "ttl").then(|| "ttl_seconds".to_owned());
            Err(ApiError::from(error).renamed(name))
        }
    }
}
