//! One error, in the form of each transport.
//!
//! The text says what was wrong and what would be right. It comes from here or from the broker, never from a library or
//! the system: such errors go to the operator's log.

use std::borrow::Cow;
use std::fmt;

use axum::extract::Request;
use axum::http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use serde_json::json;
use sortie_domain::broker::Refusal;
use sortie_domain::matchmaking;
use sortie_engine::{CallError, SubscribeError, Unavailable};
use sortie_serving::{
    BodyError, RETRY_AFTER_SECONDS, TooMany, error_document, json_response, retry_after_seconds,
};
use sortie_wire::any::Any;
use sortie_wire::json::{self, JsonError};
use sortie_wire::status::{self, ErrorInfo, Status};

use crate::codes::{self, Code, Kind};

/// Key under which a gRPC error's `ErrorInfo` names the field.
const FIELD: &str = "field";
/// Key under which it names the match.
const MATCH_ID: &str = "match_id";

/// The error format that a caller understands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Form {
    /// gRPC: a response of trailers only.
    Grpc,
    /// HTTP of the Catena contract: `google.rpc.Status` as JSON.
    Catena,
    /// Sortie's own: `{"error": {"code", "message", …}}`.
    Native,
}

impl Form {
    /// The format for the sender of `request`.
    pub(crate) fn of(request: &Request) -> Self {
        let content_type = request.headers().get(CONTENT_TYPE).map(HeaderValue::as_bytes);
        if content_type.is_some_and(|text| text.starts_with(b"application/grpc")) {
            Self::Grpc
        } else if request.uri().path().starts_with("/api/") {
            Self::Catena
        } else {
            Self::Native
        }
    }
}

/// Why a request failed.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct ApiError(Box<Inner>);

#[derive(Clone, PartialEq, Debug)]
struct Inner {
    code: &'static str,
    kind: Kind,
    field: Option<String>,
    problem: Cow<'static, str>,
    /// The regular answer to a call that came too late.
    answer: Option<Any>,
    /// The oldest record that is kept.
    earliest: Option<u64>,
    /// The match that the player is in.
    match_id: Option<String>,
    /// Methods that the path has.
    allowed: Option<HeaderValue>,
    /// When to retry, if known, in seconds.
    retry_after: Option<u64>,
}

impl Code {
    /// An error with this code.
    pub(crate) fn error(self, problem: impl Into<Cow<'static, str>>) -> ApiError {
        ApiError::new(self, problem)
    }
}

impl ApiError {
    pub(crate) fn new(code: Code, problem: impl Into<Cow<'static, str>>) -> Self {
        Self::from_parts(code.name, code.kind, None, problem.into())
    }

    fn from_parts(code: &'static str, kind: Kind, field: Option<String>, problem: Cow<'static, str>) -> Self {
        Self(Box::new(Inner {
            code,
            kind,
            field,
            problem,
            answer: None,
            earliest: None,
            match_id: None,
            allowed: None,
            retry_after: None,
        }))
    }

    /// A field, parameter or header is wrong.
    pub(crate) fn field(field: impl Into<String>, problem: impl fmt::Display) -> Self {
        let code = codes::INVALID_FIELD;
        Self::from_parts(code.name, code.kind, Some(field.into()), problem.to_string().into())
    }

    /// A limit was reached.
    pub(crate) fn too_many(what: &str, limit: usize) -> Self {
        codes::TOO_MANY.error(format!("too many {what}: at most {limit} are allowed"))
    }

    /// A machine answered a command with a reply of another kind. The reply is not logged: it may contain player data.
    pub(crate) fn unexpected<T>(reply: &T) -> Self {
        Self::internal(format_args!(
            "reply {:?} does not belong to the command",
            std::mem::discriminant(reply)
        ))
    }

    /// A bug, which is logged for the operator.
    pub(crate) fn internal(what: impl fmt::Display) -> Self {
        tracing::error!(%what, "an answer could not be created");
        codes::INTERNAL.error("internal error; see the server's log")
    }

    /// The same error, about `field`.
    pub(crate) fn about(mut self, field: impl Into<String>) -> Self {
        self.0.field = Some(field.into());
        self
    }

    /// The same error, with the caller's name for the field.
    pub(crate) fn renamed(mut self, rename: impl FnOnce(&str) -> Option<String>) -> Self {
        if let Some(name) = self.0.field.as_deref().and_then(rename) {
            self.0.field = Some(name);
        }
        self
    }

    /// The same error, with the answer that the call would have got.
    pub(crate) fn with_answer(mut self, answer: Any) -> Self {
        self.0.answer = Some(answer);
        self
    }

    /// The same error, with the allowed methods.
    pub(crate) fn with_allowed(mut self, methods: &str) -> Self {
        self.0.allowed = HeaderValue::from_str(methods).ok();
        self
    }

    /// The whole text: the field and the problem.
    pub(crate) fn message(&self) -> String {
        match &self.0.field {
            Some(field) => format!("{field}: {}", self.0.problem),
            None => self.0.problem.to_string(),
        }
    }

    /// The response, in the caller's format.
    pub(crate) fn respond(self, form: Form) -> Response {
        match form {
            Form::Grpc => tonic::Status::from(self).into_http(),
            Form::Catena => self.respond_json(self.catena_status(), self.status_json()),
            Form::Native => self.respond_json(self.0.kind.http(), self.native_json()),
        }
    }

    fn catena_status(&self) -> StatusCode {
        match self.0.kind {
            // These are about HTTP and have no counterpart in gRPC.
            Kind::Absent | Kind::NotAllowed | Kind::TooLarge | Kind::TooSlow => self.0.kind.http(),
            kind => StatusCode::from_u16(status::http_code(kind.grpc()))
                .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
        }
    }

    fn status(&self) -> Status {
        let mut info = ErrorInfo {
            reason: self.0.code.to_owned(),
            domain: status::DOMAIN.to_owned(),
            ..ErrorInfo::default()
        };
        if let Some(field) = &self.0.field {
            info.metadata.insert(FIELD.to_owned(), field.clone());
        }
        if let Some(id) = &self.0.match_id {
            info.metadata.insert(MATCH_ID.to_owned(), id.clone());
        }
        let details = std::iter::once(Any::pack(&info)).chain(self.0.answer.clone()).collect();
        Status { code: self.0.kind.grpc().into(), message: self.message(), details }
    }

    fn status_json(&self) -> Vec<u8> {
        json::encode(&self.status()).unwrap_or_default()
    }

    /// `{"error": {"code", "message", "field"?, "earliest"?, "match_id"?}}`
    pub(crate) fn native_json(&self) -> Vec<u8> {
        let mut error = error_document(self.0.code, &self.0.problem, self.0.field.as_deref());
        if let Some(earliest) = self.0.earliest {
            error["earliest"] = earliest.into();
        }
        if let Some(id) = &self.0.match_id {
            error[MATCH_ID] = id.as_str().into();
        }
        json!({"error": error}).to_string().into_bytes()
    }

    fn respond_json(&self, status: StatusCode, body: Vec<u8>) -> Response {
        let mut response = json_response(status, body);
        let headers = response.headers_mut();
        if matches!(self.0.kind, Kind::Unavailable | Kind::Exhausted) {
            let pause = self.0.retry_after.unwrap_or(RETRY_AFTER_SECONDS);
            headers.insert(RETRY_AFTER, pause.into());
        }
        if self.0.kind == Kind::Unauthenticated {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(allowed) = &self.0.allowed {
            headers.insert(ALLOW, allowed.clone());
        }
        response
    }
}

impl From<ApiError> for tonic::Status {
    fn from(error: ApiError) -> Self {
        // gRPC has neither paths nor HTTP methods: a missing method is one that is not implemented.
        if error.0.code == codes::NOT_FOUND.name {
            return Self::unimplemented(error.message());
        }
        error.status().into()
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        let (code, kind) = (refusal.code(), refusal.kind().into());
        match refusal {
            Refusal::InvalidField { field, problem } => {
                Self::from_parts(code, kind, Some(field.to_owned()), problem.into())
            }
            Refusal::InvalidRequirements(error) => {
                Self::from_parts(code, kind, Some("requirements".to_owned()), error.to_string().into())
            }
            Refusal::RequirementsTooCostly(problem) => {
                Self::from_parts(code, kind, Some("requirements".to_owned()), problem.into())
            }
            Refusal::AlreadyInMatch { ref match_id, .. } => {
                let mut error = Self::from_parts(code, kind, None, refusal.to_string().into());
                error.0.match_id = Some(match_id.to_string());
                error
            }
            other => Self::from_parts(code, kind, None, other.to_string().into()),
        }
    }
}

impl From<matchmaking::Refusal> for ApiError {
    fn from(refusal: matchmaking::Refusal) -> Self {
        let (code, kind) = (refusal.code(), refusal.kind().into());
        match refusal {
            matchmaking::Refusal::InvalidField { field, problem } => {
                Self::from_parts(code, kind, Some(field.to_owned()), problem.into())
            }
            // The name in a ticket's metadata in Catena's contract.
            other @ matchmaking::Refusal::QueueNotFound { .. } => {
                Self::from_parts(code, kind, Some("queue_name".to_owned()), other.to_string().into())
            }
            other => Self::from_parts(code, kind, None, other.to_string().into()),
        }
    }
}

impl From<Unavailable> for ApiError {
    fn from(why: Unavailable) -> Self {
        Code::from(why).error(why.to_string())
    }
}

impl<R: Into<Self>> From<CallError<R>> for ApiError {
    fn from(error: CallError<R>) -> Self {
        match error {
            CallError::Refused(refusal) => refusal.into(),
            CallError::Unavailable(why) => why.into(),
        }
    }
}

/// A player calls too often.
impl From<TooMany> for ApiError {
    fn from(too_many: TooMany) -> Self {
        let TooMany::Calls(pause) = too_many else {
            return codes::TOO_MANY.error("too many calls of this player wait; try again later");
        };
        let seconds = retry_after_seconds(pause);
        let mut error =
            codes::TOO_MANY.error(format!("too many calls of this player; try again in {seconds} s"));
        error.0.retry_after = Some(seconds);
        error
    }
}

impl From<BodyError> for ApiError {
    fn from(error: BodyError) -> Self {
        let code = match error {
            BodyError::TooLarge { .. } => codes::TOO_LARGE,
            BodyError::TooSlow { .. } => codes::TOO_SLOW,
            BodyError::ShuttingDown => codes::SHUTTING_DOWN,
        };
        code.error(error.to_string())
    }
}

impl From<JsonError> for ApiError {
    fn from(error: JsonError) -> Self {
        if error.path.is_empty() {
            codes::INVALID_JSON.error(error.message)
        } else {
            codes::INVALID_JSON.error(error.message).about(error.path)
        }
    }
}

impl From<SubscribeError> for ApiError {
    fn from(error: SubscribeError) -> Self {
        match error {
            SubscribeError::Gone { earliest, .. } => {
                let mut gone = codes::CURSOR_GONE.error(error.to_string());
                gone.0.earliest = Some(earliest);
                gone
            }
            SubscribeError::Ahead { .. } => codes::CURSOR_AHEAD.error(error.to_string()),
            SubscribeError::Ended => Unavailable::Stopped.into(),
            SubscribeError::Undecodable { .. } | SubscribeError::Read(_) => Self::internal(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;
    use std::path::PathBuf;

    use sortie_domain::broker::model::SeatEnd;
    use sortie_domain::ids::{FleetId, MatchId, PlayerId, SeatId, ServerId};

    use super::*;

    /// The rows of the table: code, HTTP status, gRPC code.
    fn documented() -> BTreeMap<String, (String, String)> {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../contract/errors.md");
        let text = fs::read_to_string(path).unwrap();
        let rows = text.lines().filter_map(|line| {
            let cells: Vec<_> = line.split('|').map(|cell| cell.trim().trim_matches('`')).collect();
            (cells.len() == 6).then(|| (cells[1].to_owned(), (cells[2].to_owned(), cells[3].to_owned())))
        });
        rows.skip(2).collect()
    }

    fn row(kind: Kind) -> (String, String) {
        (kind.http().as_u16().to_string(), format!("{:?}", kind.grpc()))
    }

    #[test]
    fn every_code_is_documented_and_every_documented_code_exists() {
        let documented: Vec<_> = documented().into_keys().collect();
        assert_eq!(documented, codes::codes());
    }

    #[test]
    fn codes_of_this_layer_have_the_documented_status() {
        let documented = documented();
        for code in codes::ALL {
            assert_eq!(documented[code.name], row(code.kind), "{}", code.name);
        }
    }

    #[test]
    fn refusals_have_the_documented_status() {
        let game = MatchId::new("m").unwrap();
        let seat = SeatId::new("s").unwrap();
        let refusals = [
            Refusal::MatchNotFound(game.clone()),
            Refusal::ServerNotFound(ServerId::new("x").unwrap()),
            Refusal::SeatNotFound(seat.clone()),
            Refusal::FleetNotFound(FleetId::new("x").unwrap()),
            Refusal::MatchExists(game.clone()),
            Refusal::KeyReused(game.clone()),
            Refusal::MatchNotHeld { match_id: game.clone(), state: Some("failed"), shutdown: true },
            Refusal::AlreadyReady(game.clone()),
            Refusal::MatchOver { match_id: game.clone(), state: "ended" },
            Refusal::NoCapacity(game.clone()),
            Refusal::MatchFull(game.clone()),
            Refusal::AlreadySeated(PlayerId::new("x").unwrap()),
            Refusal::AlreadyInMatch { player: PlayerId::new("x").unwrap(), match_id: game.clone() },
            Refusal::AlreadyClaimed(seat.clone()),
            Refusal::NotReady(game),
            Refusal::OtherServer(seat.clone()),
            Refusal::SeatOver { seat, end: SeatEnd::Expired },
            Refusal::NoFleet { why: BTreeMap::new() },
            Refusal::OverBudget { limit: 3 },
            Refusal::TooMany { what: "things", limit: 3 },
            Refusal::TooLarge { what: "match", bytes: 4, limit: 3 },
            Refusal::RequirementsTooCostly("it multiplies".to_owned()),
        ];
        let documented = documented();
        for refusal in refusals {
            let error = ApiError::from(refusal);
            assert_eq!(documented[error.0.code], row(error.0.kind), "{}", error.0.code);
        }
        assert_eq!(documented["invalid_requirements"], row(Kind::Invalid));
    }

    #[test]
    fn refusals_of_the_matchmaker_have_the_documented_status() {
        use matchmaking::Refusal;
        use sortie_domain::ids::{QueueId, TicketId};

        let (ticket, player) = (TicketId::new("t").unwrap(), PlayerId::new("p").unwrap());
        let (queue, game) = (QueueId::new("q").unwrap(), MatchId::new("m").unwrap());
        let refusals = [
            Refusal::InvalidField { field: "entity", problem: "is wrong".to_owned() },
            Refusal::QueueNotFound { queue: queue.clone(), meant: None },
            Refusal::TicketNotFound(ticket.clone()),
            Refusal::MatchNotFound(game.clone()),
            Refusal::TicketExists(ticket.clone()),
            Refusal::KeyReused(ticket.clone()),
            Refusal::PlayerWaits { player: player.clone(), ticket: ticket.clone() },
            Refusal::NotWaiting { ticket: ticket.clone(), standing: "is over" },
            Refusal::TicketOver { ticket: ticket.clone(), status: "FAILED" },
            Refusal::NothingToAccept(game.clone()),
            Refusal::SeatsNotWanted { ticket, match_id: game },
            Refusal::NotInMatch(player),
            Refusal::RuleRefuses { queue, rule: "map".to_owned() },
            Refusal::Refused("not you".to_owned()),
            Refusal::TooLarge("takes too much of a match".to_owned()),
            Refusal::TooMany { what: "tickets", limit: 3 },
        ];
        assert_eq!(refusals.len(), Refusal::CODES.len());
        let documented = documented();
        for refusal in refusals {
            let error = ApiError::from(refusal);
            assert_eq!(documented[error.0.code], row(error.0.kind), "{}", error.0.code);
        }
    }
}
