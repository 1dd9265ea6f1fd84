//! The calls that this game makes to the platform, with nothing but the public contracts.
//!
//! One client for both sides: game servers use the server manager and seat calls, bots the gateway's. Requests and
//! answers are spelled out here rather than taken from generated types, so that this file doubles as the list of what
//! any game has to implement. Unknown fields are ignored, so that newer platforms work too.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use reqwest::header::HeaderMap;
use reqwest::redirect::Policy;
use reqwest::{Client, Method, RequestBuilder, Url};
use serde::de::{DeserializeOwned, Deserializer};
use serde::{Deserialize, Serialize};

/// Timeout of a call, unless the platform may hold it back.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// Timeout of a request for a match: the platform holds the call for at most 30 s; the rest is margin.
const REQUEST_MATCH_TIMEOUT: Duration = Duration::from_secs(45);
/// Maximum size of an answer, in bytes.
const MAX_ANSWER_BYTES: usize = 256 * 1024;
/// Maximum length of an error's text that is kept, in characters.
const MAX_MESSAGE_CHARS: usize = 200;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The base address is not an `http://` or `https://` address.
    #[error("{0:?} is not a platform address: give one like http://127.0.0.1:7400")]
    BadAddress(String),
    /// There are no trusted roots.
    #[error(transparent)]
    Roots(#[from] sortie_tls::RootsError),
    /// The platform cannot be reached.
    #[error("{call}: the platform cannot be reached: {reason}")]
    Unreachable {
        /// The call.
        call: &'static str,
        /// The network error.
        reason: String,
    },
    /// The call timed out.
    #[error("{call}: no answer in time")]
    TimedOut {
        /// The call.
        call: &'static str,
    },
    /// The platform refused the call.
    #[error("{call}: refused with status {status}: {message}")]
    Refused {
        /// The call.
        call: &'static str,
        /// The HTTP status.
        status: u16,
        /// The platform's message, shortened.
        message: String,
    },
    /// The answer violates the contract.
    #[error("{call}: the answer violates the contract: {reason}")]
    BadAnswer {
        /// The call.
        call: &'static str,
        /// What is wrong with it.
        reason: String,
    },
}

impl ApiError {
    /// Whether retrying the same call is useless.
    #[must_use]
    pub fn is_lasting(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::TimedOut { .. } => false,
            Self::Refused { status, .. } => (400..500).contains(status) && !matches!(status, 408 | 425 | 429),
            Self::BadAddress(_) | Self::Roots(_) | Self::BadAnswer { .. } => true,
        }
    }

    fn from_transport(call: &'static str, error: &reqwest::Error) -> Self {
        if error.is_timeout() {
            return Self::TimedOut { call };
        }
        let mut reason = error.to_string();
        let mut source = std::error::Error::source(error);
        while let Some(cause) = source {
            reason = cause.to_string();
            source = cause.source();
        }
        Self::Unreachable { call, reason }
    }
}

/// An API key for the platform. Never shown.
#[derive(Clone)]
pub struct ApiKey(String);

impl ApiKey {
    /// A key as issued by the platform.
    #[must_use]
    pub const fn new(key: String) -> Self {
        Self(key)
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(…)")
    }
}

/// Hint flags of the server manager calls: a bit set.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Hints(u32);

impl Hints {
    /// No hints.
    pub const NONE: Self = Self(0);
    /// From the platform: exit. To the platform: this server exits.
    pub const SHUTDOWN: Self = Self(1);
    /// The platform may hold the call until there is a match.
    pub const WILLING_TO_WAIT: Self = Self(2);
    /// The platform may answer with [`Hints::SHUTDOWN`].
    pub const WILLING_TO_SHUTDOWN: Self = Self(4);

    /// The union of both sets.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether every flag of `other` is set.
    #[must_use]
    pub const fn holds(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl<'de> Deserialize<'de> for Hints {
    /// Accepts a number, or the name of one flag: canonical JSON writes a single flag as its name.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Spelled {
            Number(u32),
            Name(String),
            Absent(()),
        }
        let bits = match Spelled::deserialize(deserializer)? {
            Spelled::Number(bits) => bits,
            Spelled::Absent(()) => 0,
            Spelled::Name(name) => match name.as_str() {
                "HINT_FLAG_SHUTDOWN" => 1,
                "HINT_FLAG_WILLING_TO_WAIT" => 2,
                "HINT_FLAG_WILLING_TO_SHUTDOWN" => 4,
                "HINT_FLAG_FULL" => 8,
                "HINT_FLAG_NOT_FULL" => 16,
                other => other.parse().unwrap_or(0),
            },
        };
        Ok(Self(bits))
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RequestMatch<'a> {
    server_id: &'a str,
    requirements: &'a str,
    hint_flags: u32,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ServerCall<'a> {
    server_id: &'a str,
    match_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    connection_details: Option<&'a str>,
    hint_flags: u32,
}

/// The answer to a request for a match.
#[derive(Deserialize, Debug)]
#[serde(rename_all = "camelCase")]
pub struct Offer {
    /// The match, if there is one.
    #[serde(rename = "match")]
    pub offered: Option<OfferedMatch>,
    /// The platform's hints.
    #[serde(default, alias = "hint_flags")]
    pub hint_flags: Hints,
}

/// A match assigned to a game server.
#[derive(Deserialize, Debug)]
#[serde(rename_all = "camelCase")]
pub struct OfferedMatch {
    /// Id of the match.
    #[serde(alias = "match_id")]
    pub match_id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Acknowledged {
    #[serde(default, alias = "hint_flags")]
    hint_flags: Hints,
}

#[derive(Serialize)]
struct Claim<'a> {
    server_id: &'a str,
}

/// A seat after its claim.
#[derive(Deserialize, Debug)]
pub struct ClaimedSeat {
    /// The match the seat is in.
    pub match_id: String,
    /// The player whose seat it is.
    pub player_id: String,
}

/// A match as the platform sees it.
#[derive(Deserialize, Debug)]
pub struct MatchView {
    state: String,
    #[serde(default)]
    seats: SeatCounts,
}

#[derive(Deserialize, Debug, Default)]
struct SeatCounts {
    #[serde(default)]
    reserved: u32,
}

impl MatchView {
    /// Whether the match is over for the platform.
    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(self.state.as_str(), "ended" | "failed" | "cancelled")
    }

    /// Players who have a seat and have not connected yet.
    #[must_use]
    pub const fn reserved(&self) -> u32 {
        self.seats.reserved
    }
}

#[derive(Serialize)]
struct WannaPlay<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    game: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    queue: Option<&'a str>,
}

/// A request to the gateway, which chooses anything that is `None`.
#[derive(Clone, Default, Debug)]
pub struct Wish {
    /// The game.
    pub game: Option<String>,
    /// Its version.
    pub version: Option<String>,
    /// The queue to enter; `None` is any match with room.
    pub queue: Option<String>,
}

/// The gateway's header; it says `warm` if no server had to be started.
const JOIN_HEADER: &str = "sortie-join";

/// The gateway's answer: where to play, and the token that admits the player.
#[derive(Deserialize)]
pub struct Invitation {
    /// The connect token in base64. A secret of the player.
    pub connect_token: String,
    /// Address of the game server.
    pub gameserver_ip: String,
    /// UDP port of the game server.
    pub gameserver_port: u16,
    /// Whether the gateway says that a server had to be started first; assumed if it does not say.
    #[serde(skip, default)]
    pub warm: bool,
}

/// Calls the platform's HTTP interface. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ApiClient {
    http: Client,
    base: Url,
    key: Option<ApiKey>,
}

impl ApiClient {
    /// A client of the platform at `base`, such as `http://127.0.0.1:7400`.
    ///
    /// # Errors
    /// [`ApiError::BadAddress`] for an address that HTTP cannot use; [`ApiError::Roots`] if an `https://` address cannot
    /// be trusted, by the system's roots or those in the PEM file at `ca`.
    pub fn new(base: &str, key: Option<ApiKey>, ca: Option<&Path>) -> Result<Self, ApiError> {
        let bad = || ApiError::BadAddress(base.to_owned());
        let url = Url::parse(base).map_err(|_| bad())?;
        if !matches!(url.scheme(), "http" | "https") || url.cannot_be_a_base() {
            return Err(bad());
        }
        // The platform is called directly, without redirects or proxies: nothing in between may see the key.
        let http = sortie_tls::http_client(base, ca)?
            .connect_timeout(CALL_TIMEOUT)
            .redirect(Policy::none())
            .build()
            .map_err(|error| ApiError::from_transport("set up", &error))?;
        Ok(Self { http, base: url, key })
    }

    /// Requests a match. With [`Hints::WILLING_TO_WAIT`] the answer may take half a minute.
    ///
    /// # Errors
    /// [`ApiError`]
    pub async fn request_match(
        &self,
        server_id: &str,
        requirements: &str,
        hints: Hints,
    ) -> Result<Offer, ApiError> {
        let body = RequestMatch { server_id, requirements, hint_flags: hints.0 };
        let path = ["api", "v1", "server", "request_match"];
        self.ask("request match", self.post(&path).json(&body).timeout(REQUEST_MATCH_TIMEOUT)).await
    }

    /// Reports that players of a match can connect, and where.
    ///
    /// # Errors
    /// [`ApiError`]; a lasting refusal means that the match is no longer this server's.
    pub async fn match_ready(
        &self,
        server_id: &str,
        match_id: &str,
        connection_details: &str,
    ) -> Result<Hints, ApiError> {
        let body = ServerCall {
            server_id,
            match_id,
            connection_details: Some(connection_details),
            hint_flags: Hints::NONE.0,
        };
        let path = ["api", "v1", "server", "match_ready"];
        let answer: Acknowledged = self.ask("match ready", self.post(&path).json(&body)).await?;
        Ok(answer.hint_flags)
    }

    /// Reports that a match is over.
    ///
    /// # Errors
    /// [`ApiError`]; a lasting refusal means that the match is no longer this server's.
    pub async fn end_match(&self, server_id: &str, match_id: &str, hints: Hints) -> Result<Hints, ApiError> {
        let body = ServerCall { server_id, match_id, connection_details: None, hint_flags: hints.0 };
        let path = ["api", "v1", "server", "end_match"];
        let answer: Acknowledged = self.ask("end match", self.post(&path).json(&body)).await?;
        Ok(answer.hint_flags)
    }

    /// Claims the seat of a player who has connected.
    ///
    /// # Errors
    /// [`ApiError`]; a lasting refusal means that the player must not be let in.
    pub async fn claim_seat(&self, seat_id: &str, server_id: &str) -> Result<ClaimedSeat, ApiError> {
        let request = self.post(&["v1", "seats", seat_id, "claim"]).json(&Claim { server_id });
        self.ask("claim seat", request).await
    }

    /// Releases the seat of a player who has left.
    ///
    /// # Errors
    /// [`ApiError`]
    pub async fn release_seat(&self, seat_id: &str) -> Result<(), ApiError> {
        self.read("release seat", self.request(Method::DELETE, &["v1", "seats", seat_id])).await.map(drop)
    }

    /// The platform's state of a match.
    ///
    /// # Errors
    /// [`ApiError`]
    pub async fn get_match(&self, match_id: &str) -> Result<MatchView, ApiError> {
        self.ask("get match", self.request(Method::GET, &["v1", "matches", match_id])).await
    }

    /// Requests a place to play from the gateway. The answer takes until one is found, at most `wait`.
    ///
    /// # Errors
    /// [`ApiError`]
    pub async fn wanna_play(
        &self,
        player_id: &str,
        wish: &Wish,
        wait: Duration,
    ) -> Result<Invitation, ApiError> {
        let Wish { game, version, queue } = wish;
        let body = WannaPlay { game: game.as_deref(), version: version.as_deref(), queue: queue.as_deref() };
        let request = self
            .post(&["matchmaker", "wannaplay"])
            .header("catena-session-id", player_id)
            .json(&body)
            .timeout(wait);
        let (headers, mut invitation): (_, Invitation) = self.ask_for("wannaplay", request).await?;
        invitation.warm = headers.get(JOIN_HEADER).is_some_and(|value| value == "warm");
        Ok(invitation)
    }

    fn post(&self, path: &[&str]) -> RequestBuilder {
        self.request(Method::POST, path)
    }

    fn request(&self, method: Method, path: &[&str]) -> RequestBuilder {
        let mut url = self.base.clone();
        // A base address that cannot have segments was refused at the start.
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        let request = self.http.request(method, url).timeout(CALL_TIMEOUT);
        match &self.key {
            Some(key) => request.bearer_auth(&key.0),
            None => request,
        }
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        call: &'static str,
        request: RequestBuilder,
    ) -> Result<T, ApiError> {
        self.ask_for(call, request).await.map(|(_, answer)| answer)
    }

    /// The answer and its headers.
    async fn ask_for<T: DeserializeOwned>(
        &self,
        call: &'static str,
        request: RequestBuilder,
    ) -> Result<(HeaderMap, T), ApiError> {
        let (headers, body) = self.read(call, request).await?;
        let answer = serde_json::from_slice(&body);
        let answer = answer.map_err(|error| ApiError::BadAnswer { call, reason: error.to_string() })?;
        Ok((headers, answer))
    }

    async fn read(
        &self,
        call: &'static str,
        request: RequestBuilder,
    ) -> Result<(HeaderMap, Vec<u8>), ApiError> {
        let unreachable = |error| ApiError::from_transport(call, &error);
        let mut response = request.send().await.map_err(unreachable)?;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
            if body.len() + chunk.len() > MAX_ANSWER_BYTES {
                let reason = format!("it is longer than {MAX_ANSWER_BYTES} bytes");
                return Err(ApiError::BadAnswer { call, reason });
            }
            body.extend_from_slice(&chunk);
        }
        let status = response.status();
        if status.is_success() {
            return Ok((std::mem::take(response.headers_mut()), body));
        }
        Err(ApiError::Refused { call, status: status.as_u16(), message: error_text(&body) })
    }
}

/// The message of an error answer, in either shape that the platform uses.
fn error_text(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Text {
        message: String,
    }
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Shape {
        Nested { error: Text },
        Flat(Text),
    }
    let text = match serde_json::from_slice(body) {
        Ok(Shape::Nested { error } | Shape::Flat(error)) => error.message,
        Err(_) => String::from_utf8_lossy(body).into_owned(),
    };
    text.chars().filter(|c| !c.is_control()).take(MAX_MESSAGE_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url_of(client: &ApiClient, path: &[&str]) -> String {
        client.request(Method::GET, path).build().unwrap().url().to_string()
    }

    #[test]
    fn ids_of_others_cannot_change_the_path() {
        let client = ApiClient::new("http://127.0.0.1:7400", None, None).unwrap();
        assert_eq!(
            url_of(&client, &["v1", "seats", "a/b?c#d", "claim"]),
            "http://127.0.0.1:7400/v1/seats/a%2Fb%3Fc%23d/claim"
        );
        let below = ApiClient::new("http://host/sortie/", None, None).unwrap();
        assert_eq!(url_of(&below, &["v1", "matches", "m"]), "http://host/sortie/v1/matches/m");
    }

    #[test]
    fn addresses_that_http_cannot_use_are_refused() {
        for base in ["", "127.0.0.1:7400", "mailto:someone", "ftp://host", "http://"] {
            assert!(matches!(ApiClient::new(base, None, None), Err(ApiError::BadAddress(_))), "{base}");
        }
    }

    #[test]
    fn the_key_is_sent_and_never_shown() {
        let key = Some(ApiKey::new("open-sesame".to_owned()));
        let client = ApiClient::new("http://host", key, None).unwrap();
        assert!(!format!("{client:?}").contains("sesame"));
        let request = client.request(Method::GET, &["x"]).build().unwrap();
        assert_eq!(request.headers()["authorization"], "Bearer open-sesame");
    }

    #[test]
    fn hints_come_as_numbers_names_or_not_at_all() {
        for (json, bits) in [
            ("{}", 0),
            (r#"{"hintFlags":null}"#, 0),
            (r#"{"hintFlags":3}"#, 3),
            (r#"{"hint_flags":1}"#, 1),
            (r#"{"hintFlags":"HINT_FLAG_SHUTDOWN"}"#, 1),
            (r#"{"hintFlags":"HINT_FLAG_NO_HINT_FLAGS","match":null}"#, 0),
            (r#"{"hintFlags":"HINT_FLAG_OF_TOMORROW"}"#, 0),
        ] {
            let offer: Offer = serde_json::from_str(json).unwrap();
            assert_eq!(offer.hint_flags, Hints(bits), "{json}");
            assert!(offer.offered.is_none());
        }
        let offer: Offer = serde_json::from_str(r#"{"match":{"matchId":"m","playerIds":[]}}"#).unwrap();
        assert_eq!(offer.offered.unwrap().match_id, "m");
    }

    #[test]
    fn the_text_of_an_error_is_found_and_bounded() {
        assert_eq!(error_text(br#"{"error":{"code":"seat_gone","message":"too late"}}"#), "too late");
        assert_eq!(error_text(br#"{"code":5,"message":"no such match","details":[]}"#), "no such match");
        assert_eq!(error_text(b"plain\nwords"), "plainwords");
        assert_eq!(error_text(&[b'x'; 5000]).len(), MAX_MESSAGE_CHARS);
    }
}
