//! The routes, and the two kinds of plain HTTP answers: a single one, or feedback in chunks.
//!
//! The peer address comes from [`ConnectInfo`], which the server has to supply (`into_make_service_with_connect_info`);
//! without it addresses are only trusted in development mode.

use std::convert::Infallible;
use std::fmt::{self, Display};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::extract::{ConnectInfo, FromRequest, FromRequestParts, Path, Query, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{MethodRouter, any, get, post};
use axum::{Json, Router};
use bytes::Bytes;
use futures::stream;
use http_body_util::{BodyExt as _, Full};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sortie_domain::ids::{Draw, PlayerId};
use sortie_domain::machine::Moment;
use sortie_identity::looks_like_token;
use sortie_serving::{Limits, bearer, not_a_list, read_body};
use tower_http::cors::{AllowOrigin, CorsLayer};

use crate::admission::{Admission, Given};
use crate::client_ip::{Claims, client_ip, limited_ip};
use crate::error::JoinError;
use crate::feedback::{Feedback, Joining, Reports};
use crate::join::{Aim, Wish, join, now};
use crate::options::{GatewayOptions, MAX_BODY_BYTES};
use crate::queue::{Entry, Told};
use crate::vote::Vote;
use crate::{Gateway, Inner, WaitPermit, ws};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// A player token; in development mode a player id is accepted too.
const SESSION_HEADERS: [HeaderName; 2] =
    [HeaderName::from_static("catena-session-id"), HeaderName::from_static("session-id")];
const PAGE: &str = "<!doctype html><title>Sortie</title><h1>Sortie</h1>\
    <p>Game clients ask for a seat here: <code>POST /matchmaker/wannaplay</code>.</p>";

/// The routes of a gateway.
pub fn router(gateway: Gateway) -> Router {
    let Gateway { inner } = gateway;
    let cors = cors(&inner.options);
    routes()
        .into_iter()
        .fold(Router::new(), |router, (path, handlers)| router.route(path, handlers))
        .layer(cors)
        .with_state(inner)
}

/// Each path and its handler; `description` has an operation for each of them.
pub(crate) fn routes() -> [(&'static str, MethodRouter<Arc<Inner>>); 9] {
    [
        ("/", get(page)),
        ("/matchmaker", get(page)),
        ("/wannaplay", get(wannaplay).post(wannaplay)),
        ("/matchmaker/wannaplay", get(wannaplay).post(wannaplay)),
        ("/matchmaker/request/{game}/{version}", post(request)),
        ("/matchmaker/ws", any(ws::connect)),
        ("/matchmaker/matches/{id}/rejoin", post(rejoin)),
        ("/matchmaker/tickets/{id}/accept", post(accept)),
        ("/matchmaker/tickets/{id}/decline", post(decline)),
    ]
}

fn cors(options: &GatewayOptions) -> CorsLayer {
    // Checked when the gateway was made.
    let origins = options.origins().unwrap_or_default();
    let [session, short_session] = SESSION_HEADERS;
    CorsLayer::new()
        .allow_origin(AllowOrigin::list(origins))
        .allow_methods([Method::GET, Method::POST])
        .allow_headers([header::AUTHORIZATION, header::CONTENT_TYPE, session, short_session])
        .expose_headers([header::RETRY_AFTER, JOIN])
}

/// The fields of a request, in its query or in JSON. Unknown ones are ignored, because bevygap's clients send others
/// too.
#[derive(Clone, Default, Debug, Deserialize, JsonSchema)]
pub(crate) struct Asked {
    /// The game; the default one if not given.
    pub(crate) game: Option<String>,
    /// Its version.
    pub(crate) version: Option<String>,
    /// The player's address; accepted from backends whose key has the permission `client`.
    pub(crate) client_ip: Option<String>,
    /// A player token, for clients that cannot set headers, such as a browser's websocket.
    pub(crate) token: Option<Shown>,
    /// The `player_key` of an earlier answer, which identifies a guest.
    pub(crate) player_key: Option<Shown>,
    /// The queue of the matchmaker to enter. Without it the player gets a seat in any match of the game.
    pub(crate) queue: Option<String>,
    /// The properties that a queue's rules and servers read: a JSON object. `game` and `version` are added.
    pub(crate) properties: Option<Value>,
    /// Round trips to regions, for a queue: milliseconds by name, like `{"eu": 30}`; a fraction is rounded up.
    pub(crate) latencies: Option<Value>,
}

/// A player token, or a guest's key, as it was sent. Its bearer is that player, so `Debug` does not show it.
#[derive(Clone, Deserialize, JsonSchema)]
#[schemars(inline)]
pub(crate) struct Shown(String);

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shown(…)")
    }
}

/// The player who rejoins a match.
#[derive(Default, Deserialize, JsonSchema)]
pub(crate) struct Returning {
    /// The player; accepted from callers whose API key has the permission `client`. Players send a token or their key
    /// instead.
    player_id: Option<String>,
}

impl Returning {
    fn from_body(body: &[u8]) -> Result<Self, JoinError> {
        if body.trim_ascii().is_empty() {
            return Ok(Self::default());
        }
        read(body, r#"{"player_id": "…"}"#)
    }
}

fn read<T: DeserializeOwned>(body: &[u8], example: &str) -> Result<T, JoinError> {
    let wrong = |error: &dyn Display| {
        JoinError::invalid("body", format!("must be empty or JSON like {example}: {error}"))
    };
    serde_json::from_slice(not_a_list(body).map_err(|list| wrong(&list))?).map_err(|error| wrong(&error))
}

impl Asked {
    /// These fields, with missing ones taken from `other`. An empty text counts as missing.
    pub(crate) fn or(self, other: Self) -> Self {
        let pick = |mine: Option<String>, other: Option<String>| {
            mine.filter(|text| !text.is_empty()).or(other.filter(|text| !text.is_empty()))
        };
        Self {
            game: pick(self.game, other.game),
            version: pick(self.version, other.version),
            client_ip: pick(self.client_ip, other.client_ip),
            token: self.token.filter(|shown| !shown.0.is_empty()).or(other.token),
            player_key: self.player_key.or(other.player_key).filter(|shown| !shown.0.is_empty()),
            queue: pick(self.queue, other.queue),
            properties: self.properties.or(other.properties),
            latencies: self.latencies.or(other.latencies),
        }
    }

    fn from_body(body: &[u8]) -> Result<Self, JoinError> {
        if body.trim_ascii().is_empty() {
            return Ok(Self::default());
        }
        read(body, r#"{"game": "…", "version": "…", "client_ip": "…"}"#)
    }
}

/// The caller, as far as the connection and the headers tell, and the permit to wait. Extracted before the body is
/// read, so that refusing a caller is cheap.
pub(crate) struct Admitted {
    pub(crate) caller: Caller,
    pub(crate) permit: WaitPermit,
}

impl FromRequestParts<Arc<Inner>> for Admitted {
    type Rejection = JoinError;

    async fn from_request_parts(parts: &mut Parts, gateway: &Arc<Inner>) -> Result<Self, JoinError> {
        let caller = Caller::of(parts, &gateway.options);
        let permit = gateway.admit(limited_ip(caller.claims(None), &gateway.options))?;
        Ok(Self { caller, permit })
    }
}

/// A caller who says something about a ticket, without waiting.
struct Speaker(Caller);

impl FromRequestParts<Arc<Inner>> for Speaker {
    type Rejection = JoinError;

    async fn from_request_parts(parts: &mut Parts, gateway: &Arc<Inner>) -> Result<Self, JoinError> {
        let caller = Caller::of(parts, &gateway.options);
        gateway.pass(limited_ip(caller.claims(None), &gateway.options))?;
        Ok(Self(caller))
    }
}

/// How a player sends the request.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Door {
    /// One request, without further messages from the player.
    Http,
    /// A connection in both directions.
    Websocket,
}

pub(crate) struct Caller {
    peer: Option<IpAddr>,
    forwarded_for: Option<String>,
    session: Option<String>,
    bearer: Option<String>,
    /// Whether it has a key that may speak for players.
    speaks_for_players: bool,
}

impl Caller {
    fn of(parts: &Parts, options: &GatewayOptions) -> Self {
        let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip());
        let session = SESSION_HEADERS.iter().find_map(|name| text(&parts.headers, name));
        let bearer = text(&parts.headers, &header::AUTHORIZATION);
        let speaks_for_players = options.speaks_for_players.as_ref().is_some_and(|ask| ask(&parts.headers));
        Self { peer, forwarded_for: forwarded_for(&parts.headers), session, bearer, speaks_for_players }
    }

    fn claims<'a>(&'a self, asked: Option<&'a str>) -> Claims<'a> {
        let (peer, speaks_for_players) = (self.peer, self.speaks_for_players);
        Claims { peer, asked, speaks_for_players, forwarded_for: self.forwarded_for.as_deref() }
    }
}

/// A repeated header is one list. A value that isn't valid text counts as no address.
fn forwarded_for(headers: &HeaderMap) -> Option<String> {
    let lines = headers.get_all(FORWARDED_FOR).into_iter().map(|value| value.to_str().unwrap_or("?"));
    let lines: Vec<_> = lines.collect();
    (!lines.is_empty()).then(|| lines.join(","))
}

fn text(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(ToOwned::to_owned)
}

impl Inner {
    /// Checks a player's request.
    pub(crate) async fn wish(
        &self,
        caller: &Caller,
        asked: &Asked,
        door: Door,
        permit: WaitPermit,
    ) -> Result<Wish, JoinError> {
        let checked = async {
            let (known, is_guest) = match self.player(caller, asked).await? {
                Some((player, is_guest)) => (Some(player), is_guest),
                None => (None, true),
            };
            let is_known = known.is_some();
            let player = known.map_or_else(anonymous, Ok)?;
            let aim = self.aim(asked, door, is_known)?;
            let client_ip = client_ip(caller.claims(asked.client_ip.as_deref()), &self.options)?;
            let player_key = is_guest.then(|| self.guests.of(&player));
            Ok(Wish { aim, player, is_known, player_key, client_ip, permit })
        };
        checked.await.map_err(|error| self.count(error))
    }

    fn aim(&self, asked: &Asked, door: Door, is_known: bool) -> Result<Aim, JoinError> {
        let find = || self.games.find(asked.game.as_deref(), asked.version.as_deref());
        let Some(queue) = &asked.queue else { return Ok(Aim::DropIn(find()?)) };
        if self.desk.is_none() {
            return Err(JoinError::NoQueues);
        }
        let candidates = match find() {
            // Optional for a queue whose servers are known to run one game.
            Err(JoinError::NoGameNamed { .. }) => None,
            found => Some(found?),
        };
        let (properties, latencies) = (asked.properties.as_ref(), asked.latencies.as_ref());
        let (told, can_vote) = (Told { queue, properties, latencies }, is_known || door == Door::Websocket);
        Ok(Aim::Queue(Entry::new(told, candidates, is_known, can_vote)?))
    }

    fn body(&self, body: &[u8]) -> Result<Asked, JoinError> {
        Asked::from_body(body).map_err(|error| self.count(error))
    }

    /// The player, and whether it is a guest; `None` for a caller who cannot be identified.
    async fn player(&self, caller: &Caller, asked: &Asked) -> Result<Option<(PlayerId, bool)>, JoinError> {
        if let Some(tokens) = &self.options.players
            && let Some(token) = caller.token(asked)
        {
            let player = tokens.player(token).await.map_err(JoinError::BadToken)?;
            let passed = self.options.player_calls.pass_named(player.as_str(), Instant::now());
            return passed.map(|()| Some((player, false))).map_err(JoinError::of_player);
        }
        match &caller.session {
            Some(session) if self.options.dev => {
                let player = PlayerId::new(session);
                let player = player.map_err(|bad| JoinError::invalid("session-id", bad.to_string()))?;
                Ok(Some((player, false)))
            }
            _ if self.options.must_sign_in => Err(JoinError::NotSignedIn),
            _ => asked.player_key.as_ref().map(|shown| self.guest(&shown.0)).transpose(),
        }
    }
}

impl Inner {
    fn guest(&self, key: &str) -> Result<(PlayerId, bool), JoinError> {
        let guest = self.guests.guest(key).ok_or(JoinError::BadPlayerKey)?;
        let passed = self.options.player_calls.pass_named(guest.as_str(), Instant::now());
        passed.map(|()| (guest, true)).map_err(JoinError::of_player)
    }

    /// The player who rejoins a match: named by a caller that speaks for players, otherwise the caller itself.
    async fn returning(&self, caller: &Caller, body: &[u8], query: Asked) -> Result<PlayerId, JoinError> {
        let named = Returning::from_body(body)?;
        let speaks = self.options.dev || caller.speaks_for_players;
        if let Some(player) = named.player_id.filter(|_| speaks) {
            return PlayerId::new(&player).map_err(|bad| JoinError::invalid("player_id", bad.to_string()));
        }
        let asked = query.or(Asked::from_body(body)?);
        Ok(self.player(caller, &asked).await?.ok_or(JoinError::NotKnown)?.0)
    }
}

impl Caller {
    /// The player token, from any of its places. `catena-session-id` may contain something else.
    fn token<'a>(&'a self, asked: &'a Asked) -> Option<&'a str> {
        let shown = self.bearer.as_deref().map(|text| {
            // Anything else is not a token, and is refused as an invalid one.
            bearer(text.as_bytes()).unwrap_or(text)
        });
        // A backend may send its key there.
        let shown = shown.filter(|text| !self.speaks_for_players || looks_like_token(text));
        let session = self.session.as_deref().filter(|text| looks_like_token(text));
        shown.or(session).or(asked.token.as_ref().map(|shown| shown.0.as_str()))
    }
}

fn anonymous() -> Result<PlayerId, JoinError> {
    let draw = || getrandom::u64().map_err(|_| JoinError::NoRandomness);
    let moment = Moment { now: now(), entropy: [draw()?, draw()?] };
    Ok(PlayerId::draw(&mut Draw::new(moment)))
}

async fn page() -> Html<&'static str> {
    Html(PAGE)
}

/// How to connect to a game.
#[derive(Serialize, JsonSchema)]
pub(crate) struct WannaplayAnswer {
    /// Connect token in base64.
    connect_token: String,
    #[schemars(with = "String")]
    gameserver_ip: IpAddr,
    gameserver_port: u16,
    /// Address and port together.
    #[schemars(with = "String")]
    link: SocketAddr,
    /// Digest of the server's WebTransport certificate; empty if it has none.
    cert_digest: &'static str,
    /// For a guest: identifies the guest when sent as `player_key` with the next request.
    #[serde(skip_serializing_if = "Option::is_none")]
    player_key: Option<String>,
}

/// The whole body. If it is too long, the rest is drained so that the sender can read the error.
struct Whole(Bytes);

impl FromRequest<Arc<Inner>> for Whole {
    type Rejection = JoinError;

    async fn from_request(request: Request, gateway: &Arc<Inner>) -> Result<Self, JoinError> {
        let body_time = gateway.options.first_message_deadline;
        let limits = Limits { body_bytes: MAX_BODY_BYTES, body_time, ..Limits::default() };
        read_body(request, &limits).await.map(Self).map_err(|error| gateway.count(error.into()))
    }
}

async fn wannaplay(
    State(gateway): State<Arc<Inner>>,
    Admitted { caller, permit }: Admitted,
    Query(query): Query<Asked>,
    Whole(body): Whole,
) -> Result<Response, JoinError> {
    let asked = query.or(gateway.body(&body)?);
    let wish = gateway.wish(&caller, &asked, Door::Http, permit).await?;
    // A waiting player keeps only the parsed request, not the whole body.
    drop((caller, asked, body));
    let admission = Box::pin(join(gateway, wish, Reports::NONE)).await?;
    Ok(answer(admission))
}

/// The single answer. It counts as delivered when the server takes the body to send it.
fn answer(admission: Admission) -> Response {
    let Admission { address, token, given, way, player_key } = admission;
    let answer = WannaplayAnswer {
        connect_token: token,
        gameserver_ip: address.ip(),
        gameserver_port: address.port(),
        link: address,
        cert_digest: "",
        player_key,
    };
    // Strings and numbers always have a JSON form.
    let json = serde_json::to_vec(&answer).unwrap_or_default();
    let length = HeaderValue::from(json.len());
    // Not a stream: a stream does not know that its first chunk is the last one, which costs another frame and write.
    let mut given = Some(given);
    let body = Full::new(Bytes::from(json)).map_frame(move |frame| {
        given.take().into_iter().for_each(Given::keep);
        frame
    });
    let join = (JOIN, HeaderValue::from_static(way.name()));
    ([(header::CONTENT_LENGTH, length), JSON, NOT_STORED, join], Body::new(body)).into_response()
}

const JSON: (HeaderName, HeaderValue) = (header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
/// For measurements: whether a server was ready (`warm`), the player had to wait for one (`cold`), or the seat came
/// from a ticket (`queue`).
const JOIN: HeaderName = HeaderName::from_static("sortie-join");
/// A connect token lets its bearer in.
const NOT_STORED: (HeaderName, HeaderValue) = (header::CACHE_CONTROL, HeaderValue::from_static("no-store"));

async fn request(
    State(gateway): State<Arc<Inner>>,
    Path((game, version)): Path<(String, String)>,
    admitted: Result<Admitted, JoinError>,
    Query(query): Query<Asked>,
    body: Result<Whole, JoinError>,
) -> Response {
    let wish = async {
        let Admitted { caller, permit } = admitted?;
        let asked = query.or(gateway.body(&body?.0)?);
        let asked = Asked { game: Some(game), version: Some(version), ..asked };
        gateway.wish(&caller, &asked, Door::Http, permit).await
    };
    match wish.await {
        Ok(wish) => chunks(Joining::start(gateway, wish)),
        Err(error) => error.response(([JSON], line(&Feedback::error(&error)))),
    }
}

async fn rejoin(
    State(gateway): State<Arc<Inner>>,
    Path(id): Path<String>,
    Speaker(caller): Speaker,
    Query(query): Query<Asked>,
    Whole(body): Whole,
) -> Result<Response, JoinError> {
    let back = async {
        let player = gateway.returning(&caller, &body, query).await?;
        gateway.rejoin(&id, &player).await
    };
    Ok(answer(back.await.map_err(|error| gateway.count(error))?))
}

async fn accept(
    state: State<Arc<Inner>>,
    id: Path<String>,
    speaker: Speaker,
    query: Query<Asked>,
    body: Whole,
) -> Result<Response, JoinError> {
    vote(state, id, speaker, query, body, Vote::Accept).await
}

async fn decline(
    state: State<Arc<Inner>>,
    id: Path<String>,
    speaker: Speaker,
    query: Query<Asked>,
    body: Whole,
) -> Result<Response, JoinError> {
    vote(state, id, speaker, query, body, Vote::Decline).await
}

async fn vote(
    State(gateway): State<Arc<Inner>>,
    Path(id): Path<String>,
    Speaker(caller): Speaker,
    Query(query): Query<Asked>,
    Whole(body): Whole,
    vote: Vote,
) -> Result<Response, JoinError> {
    let asked = query.or(gateway.body(&body)?);
    let voted = async {
        let (player, _) = gateway.player(&caller, &asked).await?.ok_or(JoinError::NotKnown)?;
        gateway.vote(&player, &id, vote).await
    };
    let answer = voted.await.map_err(|error| gateway.count(error))?;
    Ok(([NOT_STORED], Json(answer)).into_response())
}

/// One feedback object per chunk. The seat is kept when the server takes the last chunk to send it.
fn chunks(joining: Joining) -> Response {
    let chunks = stream::unfold(joining, async |mut joining| {
        let outgoing = joining.next().await?;
        if let Some(given) = outgoing.given {
            given.keep();
        }
        Some((Ok::<_, Infallible>(line(&outgoing.feedback)), joining))
    });
    ([JSON, NOT_STORED], Body::from_stream(chunks)).into_response()
}

fn line(feedback: &Feedback) -> String {
    let mut line = feedback.to_json();
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_values_is_not_a_body() {
        assert_eq!(
            Returning::from_body(br#"{"player_id": "ann"}"#).unwrap().player_id.as_deref(),
            Some("ann")
        );
        let refusals =
            [Returning::from_body(br#" ["ann"]"#).err(), Asked::from_body(br#"["arena", "1"]"#).err()];
        for refused in refusals {
            let why = refused.unwrap().to_string();
            assert!(why.contains("must be an object, not a list"), "{why}");
        }
    }
}
