//! Why a player gets no seat: an HTTP status, a text for the player and a label for the operator.

use std::time::Duration;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use sortie_domain::broker::Refusal;
use sortie_domain::broker::model::{CancelCause, FailReason};
use sortie_domain::ids::{MatchId, TicketId};
use sortie_domain::matchmaking;
use sortie_domain::matchmaking::model::{FailCause, TicketEnd};
use sortie_domain::refusal::RefusalKind;
use sortie_domain::time::Timestamp;
use sortie_engine::{CallError, Unavailable};
use sortie_identity::TokenError;
use sortie_serving::{BodyError, RETRY_AFTER_SECONDS, TooMany, retry_after_seconds};
use sortie_wire::cloud_event::rfc3339;

use sortie_domain::game::GameVersion;

/// Why a player gets no seat.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JoinError {
    #[error("{field}: {problem}")]
    Invalid { field: &'static str, problem: String },
    #[error("{0}")]
    Body(#[from] BodyError),
    #[error("name a game and a version; {offered}")]
    NoGameNamed { offered: String },
    #[error("there is no game {game}; {offered}")]
    UnknownGame { game: GameVersion, offered: String },
    #[error(
        "sign in first: send a player token as `authorization: Bearer <token>` or `catena-session-id: <token>`, or as `token` in the query or the first message"
    )]
    NotSignedIn,
    #[error("{0}")]
    BadToken(TokenError),
    #[error(
        "{0}: is not accepted from players, because the queue's rules use it: a backend with a key starts rated tickets, or a hook `validate_ticket` supplies the ratings"
    )]
    RatesItself(String),
    #[error("the player is unknown: send a player token, or vote on the websocket that you wait on")]
    NotKnown,
    #[error("player_key: was not issued by this gateway; leave it out to play as a new guest")]
    BadPlayerKey,
    #[error("{0}")]
    NoRejoin(Box<Refusal>),
    #[error(
        "you are in match {match_id} of {game}, which is another version: come back with that version, or leave the match first"
    )]
    OtherVersion { match_id: MatchId, game: GameVersion },
    #[error(
        "nobody can connect to match {0} for now: the connection details of its game server lead nowhere; the server gets no further match"
    )]
    Unreachable(MatchId),
    #[error("too many players are waiting; try again later")]
    TooManyWaiting,
    #[error("too many joins from your address; try again in {} s", retry_after_seconds(*.0))]
    TooOften(Duration),
    #[error("too many calls of this player; try again in {} s", retry_after_seconds(*.0))]
    PlayerTooOften(Duration),
    #[error("too many players from your address are waiting; try again later")]
    TooManyFromAddress,
    #[error("no seat was found in time; try again")]
    Deadline,
    #[error(
        "the ticket is still waiting; ask again soon with the same `queue`, and it keeps its place{}",
        so_far(*.unreachable)
    )]
    StillWaits { unreachable: u32 },
    #[error(
        "a match was found: accept it by {} by `POST /matchmaker/tickets/{ticket}/accept`, then ask again with the same `queue`",
        rfc3339(*.until)
    )]
    AcceptFirst { ticket: TicketId, until: Timestamp },
    #[error("ticket {0} is not in a match that waits to be accepted (any more)")]
    NothingToAccept(TicketId),
    #[error("queue: there are no queues, because no matchmaker is configured; leave `queue` out")]
    NoQueues,
    #[error("{0}")]
    TicketRefused(Box<matchmaking::Refusal>),
    #[error("{}", end_of_ticket(.0))]
    TicketOver(Box<TicketEnd>),
    #[error("the ticket is not known any more; enter the queue again")]
    TicketForgotten,
    #[error("too many connections of this player enter and leave at the same time; try again")]
    EntersTwice,
    #[error("the player has taken the seat in this match already")]
    AlreadyPlays,
    #[error("there are no connect tokens for the game of the match's server; name a `game` and a `version`")]
    NoGame,
    #[error("{}", .0.text())]
    MatchFailed(FailReason),
    #[error("{}", .0.text())]
    MatchCancelled(CancelCause),
    #[error("every match ended before it could be joined; try again")]
    MatchesEnded,
    #[error(
        "no reachable game server was found in time; game servers tried whose connection details lead nowhere: {servers}"
    )]
    NoAddress { servers: u32 },
    #[error("the name service did not resolve the game server's host name in time; try again")]
    NoNameService,
    #[error("no matchmaker: {0}")]
    Unavailable(#[from] Unavailable),
    #[error("{0}")]
    Refused(Refusal),
    #[error("the connect token could not be created")]
    NoToken,
    #[error("the system has no random numbers")]
    NoRandomness,
    #[error("the broker's answer does not match the request")]
    OtherReply,
}

impl JoinError {
    pub(crate) fn invalid(field: &'static str, problem: impl Into<String>) -> Self {
        Self::Invalid { field, problem: problem.into() }
    }

    /// The limit of a player, not of an address.
    pub(crate) const fn of_player(too_many: TooMany) -> Self {
        match too_many {
            TooMany::Calls(pause) => Self::PlayerTooOften(pause),
            TooMany::Waiting => Self::TooManyWaiting,
        }
    }

    /// The HTTP status, which is also the code of an `Error` feedback.
    pub(crate) fn status(&self) -> u16 {
        match self {
            Self::Invalid { .. } | Self::NoGameNamed { .. } | Self::NoQueues => 400,
            Self::Body(BodyError::TooLarge { .. }) => 413,
            Self::Body(BodyError::TooSlow { .. }) => 408,
            Self::Body(BodyError::ShuttingDown) => 503,
            Self::BadToken(TokenError::KeysUnavailable) => 503,
            Self::NotSignedIn | Self::NotKnown | Self::BadPlayerKey | Self::BadToken(_) => 401,
            Self::RatesItself(_) => 403,
            Self::UnknownGame { .. } => 404,
            Self::TooOften(_) | Self::PlayerTooOften(_) | Self::TooManyFromAddress => 429,
            Self::Deadline | Self::StillWaits { .. } => 408,
            Self::TicketRefused(refusal) => status_of(refusal.kind()),
            Self::NoRejoin(refusal) => status_of(refusal.kind()),
            Self::TicketOver(end) => match **end {
                TicketEnd::TimedOut => 408,
                TicketEnd::Cancelled(_) => 410,
                TicketEnd::Failed { cause: FailCause::Refused, .. } => 403,
                TicketEnd::Failed { .. } | TicketEnd::Completed { .. } => 503,
            },
            Self::Refused(Refusal::AlreadyInMatch { .. }) | Self::OtherVersion { .. } => 409,
            Self::EntersTwice | Self::AlreadyPlays | Self::NothingToAccept(_) => 409,
            Self::AcceptFirst { .. } => 428,
            Self::NoGame => 502,
            Self::MatchCancelled(_) => 410,
            Self::NoAddress { .. } => 502,
            Self::TicketForgotten | Self::NoNameService | Self::Unreachable(_) => 503,
            Self::TooManyWaiting | Self::MatchFailed(_) | Self::MatchesEnded | Self::Unavailable(_) => 503,
            Self::Refused(refusal) => match refusal.kind() {
                // Not the player's fault: the fleet behind the game is gone.
                RefusalKind::NotFound | RefusalKind::Exhausted | RefusalKind::Conflict => 503,
                RefusalKind::Invalid | RefusalKind::Exists | RefusalKind::Gone | RefusalKind::TooLarge => 500,
            },
            Self::NoToken | Self::NoRandomness | Self::OtherReply => 500,
        }
    }

    /// A name of low cardinality, for statistics.
    pub(crate) fn label(&self) -> &'static str {
        match self {
            Self::Invalid { .. } | Self::Body(_) | Self::NoGameNamed { .. } => "invalid",
            Self::NotSignedIn => "not_signed_in",
            Self::BadToken(TokenError::KeysUnavailable) => "keys_unavailable",
            Self::BadToken(_) => "bad_token",
            Self::RatesItself(_) => "rates_itself",
            Self::UnknownGame { .. } => "unknown_game",
            Self::TooManyWaiting => "too_many_waiting",
            Self::TooOften(_) => "too_often",
            Self::PlayerTooOften(_) => "player_too_often",
            Self::TooManyFromAddress => "too_many_from_address",
            Self::NotKnown => "not_known",
            Self::BadPlayerKey => "bad_player_key",
            Self::NoRejoin(refusal) => refusal.code(),
            Self::OtherVersion { .. } => "other_version",
            Self::Unreachable(_) => "unreachable",
            Self::Deadline => "deadline",
            Self::StillWaits { .. } => "still_waits",
            Self::AcceptFirst { .. } => "accept_first",
            Self::NothingToAccept(_) => "nothing_to_accept",
            Self::NoQueues => "no_queues",
            Self::TicketRefused(refusal) => refusal.code(),
            Self::TicketOver(end) => match **end {
                TicketEnd::TimedOut => "ticket_timed_out",
                TicketEnd::Cancelled(_) => "ticket_cancelled",
                TicketEnd::Failed { .. } | TicketEnd::Completed { .. } => "ticket_failed",
            },
            Self::TicketForgotten => "ticket_forgotten",
            Self::EntersTwice => "enters_twice",
            Self::AlreadyPlays => "already_plays",
            Self::NoGame => "no_game",
            Self::MatchFailed(reason) => reason.name(),
            Self::MatchCancelled(_) => "cancelled",
            Self::MatchesEnded => "matches_ended",
            Self::NoAddress { .. } => "no_address",
            Self::NoNameService => "no_name_service",
            Self::Unavailable(_) => "unavailable",
            Self::Refused(refusal) => refusal.code(),
            Self::NoToken | Self::NoRandomness => "no_token",
            Self::OtherReply => "other_reply",
        }
    }

    /// Whether the ticket is over.
    pub(crate) const fn is_end_of_ticket(&self) -> bool {
        matches!(self, Self::TicketOver(_) | Self::TicketForgotten)
    }

    /// Whether the ticket was cancelled, which may be because its player has a seat.
    pub(crate) fn is_ticket_called_off(&self) -> bool {
        matches!(self, Self::TicketOver(end) if matches!(**end, TicketEnd::Cancelled(_)))
    }

    /// Whether the request itself is wrong.
    pub(crate) fn is_callers_fault(&self) -> bool {
        matches!(self.status(), 400 | 401) || matches!(self, Self::RatesItself(_))
    }

    /// When to retry, in seconds, if a retry may help.
    fn retry_after(&self) -> Option<u64> {
        match self {
            Self::TooManyWaiting
            | Self::TooManyFromAddress
            | Self::Unreachable(_)
            | Self::Unavailable(_)
            | Self::BadToken(TokenError::KeysUnavailable) => Some(RETRY_AFTER_SECONDS),
            Self::TooOften(pause) | Self::PlayerTooOften(pause) => Some(retry_after_seconds(*pause)),
            _ => None,
        }
    }

    /// An answer with this error's status and `body`.
    pub(crate) fn response(&self, body: impl IntoResponse) -> Response {
        let status = StatusCode::from_u16(self.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, body).into_response();
        if let Some(seconds) = self.retry_after() {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// The status of a refusal that the player can do something about.
const fn status_of(kind: RefusalKind) -> u16 {
    match kind {
        RefusalKind::Invalid => 400,
        RefusalKind::NotFound => 404,
        RefusalKind::Exists | RefusalKind::Conflict => 409,
        RefusalKind::Gone => 410,
        RefusalKind::Exhausted => 503,
        RefusalKind::TooLarge => 413,
    }
}

/// What has delayed a player so far.
fn so_far(unreachable: u32) -> String {
    match unreachable {
        0 => String::new(),
        servers => format!(" (game servers tried so far whose connection details lead nowhere: {servers})"),
    }
}

/// The given reason, if there is one.
fn end_of_ticket(end: &TicketEnd) -> &str {
    match end {
        TicketEnd::Failed { cause, detail, .. } if detail.is_empty() => cause.text(),
        TicketEnd::Failed { detail, .. } => detail,
        TicketEnd::Cancelled(cause) => cause.text(),
        TicketEnd::TimedOut => "no match was found in time",
        TicketEnd::Completed { .. } => "the match was ready",
    }
}

/// Whole seconds, at least one.
impl From<TooMany> for JoinError {
    fn from(too_many: TooMany) -> Self {
        match too_many {
            TooMany::Calls(pause) => Self::TooOften(pause),
            TooMany::Waiting => Self::TooManyFromAddress,
        }
    }
}

impl From<CallError<Refusal>> for JoinError {
    fn from(error: CallError<Refusal>) -> Self {
        match error {
            CallError::Refused(refusal) => Self::Refused(refusal),
            CallError::Unavailable(why) => Self::Unavailable(why),
        }
    }
}

impl IntoResponse for JoinError {
    fn into_response(self) -> Response {
        self.response(self.to_string())
    }
}
