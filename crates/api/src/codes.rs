//! The stable codes of this layer, and how each kind of error maps to the two transports.

use axum::http::StatusCode;
use sortie_domain::broker::Refusal;
use sortie_domain::matchmaking;
use sortie_domain::refusal::RefusalKind;
use sortie_engine::Unavailable;
use tonic::Code as Grpc;

/// What kind of error it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Invalid,
    Unauthenticated,
    Forbidden,
    NotFound,
    /// A part of the contract that is not configured.
    Absent,
    NotAllowed,
    Exists,
    Conflict,
    Gone,
    TooSlow,
    TooLarge,
    Exhausted,
    Unavailable,
    Internal,
}

impl Kind {
    /// Its gRPC code, also used in errors of the Catena contract.
    pub(crate) const fn grpc(self) -> Grpc {
        match self {
            Self::Invalid => Grpc::InvalidArgument,
            Self::Unauthenticated => Grpc::Unauthenticated,
            Self::Forbidden => Grpc::PermissionDenied,
            Self::NotFound => Grpc::NotFound,
            Self::NotAllowed | Self::Absent => Grpc::Unimplemented,
            Self::Exists => Grpc::AlreadyExists,
            Self::Conflict | Self::Gone => Grpc::FailedPrecondition,
            Self::TooSlow => Grpc::DeadlineExceeded,
            Self::TooLarge | Self::Exhausted => Grpc::ResourceExhausted,
            Self::Unavailable => Grpc::Unavailable,
            Self::Internal => Grpc::Internal,
        }
    }

    /// Its status under `/v1`.
    pub(crate) const fn http(self) -> StatusCode {
        match self {
            Self::Invalid => StatusCode::BAD_REQUEST,
            Self::Unauthenticated => StatusCode::UNAUTHORIZED,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::NotFound | Self::Absent => StatusCode::NOT_FOUND,
            Self::NotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::Exists | Self::Conflict => StatusCode::CONFLICT,
            Self::Gone => StatusCode::GONE,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Exhausted => StatusCode::TOO_MANY_REQUESTS,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl From<RefusalKind> for Kind {
    fn from(kind: RefusalKind) -> Self {
        match kind {
            RefusalKind::Invalid => Self::Invalid,
            RefusalKind::NotFound => Self::NotFound,
            RefusalKind::Exists => Self::Exists,
            RefusalKind::Conflict => Self::Conflict,
            RefusalKind::Gone => Self::Gone,
            RefusalKind::Exhausted => Self::Exhausted,
            RefusalKind::TooLarge => Self::TooLarge,
        }
    }
}

/// A stable code: a row of `contract/errors.md`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Code {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
}

macro_rules! codes {
    ($($(#[$doc:meta])* $constant:ident = $name:literal, $kind:ident;)*) => {
        $($(#[$doc])* pub(crate) const $constant: Code = Code { name: $name, kind: Kind::$kind };)*

        /// Every code of this layer.
        pub(crate) const ALL: &[Code] = &[$($constant),*];
    };
}

codes! {
    /// The body is not JSON.
    INVALID_JSON = "invalid_json", Invalid;
    /// A field, a parameter or a header is wrong.
    INVALID_FIELD = "invalid_field", Invalid;
    /// An event of a kind that is not accepted.
    UNSUPPORTED_EVENT = "unsupported_event", Invalid;
    /// A cursor that is ahead of the log.
    CURSOR_AHEAD = "cursor_ahead", Invalid;
    /// No key, or an unknown one, or no player.
    UNAUTHENTICATED = "unauthenticated", Unauthenticated;
    /// The key does not have the permission.
    FORBIDDEN = "forbidden", Forbidden;
    /// Nothing is at this path.
    NOT_FOUND = "not_found", NotFound;
    /// The matchmaker is not configured.
    NO_MATCHMAKER = "no_matchmaker", Absent;
    /// The path exists, but not with this method.
    METHOD_NOT_ALLOWED = "method_not_allowed", NotAllowed;
    /// Records that are no longer kept.
    CURSOR_GONE = "cursor_gone", Gone;
    /// The body did not arrive in time.
    TOO_SLOW = "too_slow", TooSlow;
    /// The body is too large.
    TOO_LARGE = "too_large", TooLarge;
    /// A limit was reached.
    TOO_MANY = "too_many", Exhausted;
    /// No calls are accepted for the moment.
    UNAVAILABLE = "unavailable", Unavailable;
    /// The stream cannot continue.
    STREAM_BROKEN = "stream_broken", Unavailable;
    /// The broker is overloaded.
    OVERLOADED = "overloaded", Unavailable;
    /// The log's disk is full.
    DISK_FULL = "disk_full", Unavailable;
    /// The log's disk fails.
    DISK_FAILED = "disk_failed", Unavailable;
    /// One call's records are too large to be written.
    BATCH_TOO_LARGE = "batch_too_large", TooLarge;
    /// The process is shutting down.
    SHUTTING_DOWN = "shutting_down", Unavailable;
    /// The broker has ended.
    STOPPED = "stopped", Unavailable;
    /// A bug.
    INTERNAL = "internal", Internal;
}

impl From<Unavailable> for Code {
    fn from(why: Unavailable) -> Self {
        match why {
            Unavailable::Overloaded => OVERLOADED,
            Unavailable::DiskFull => DISK_FULL,
            Unavailable::DiskFailed => DISK_FAILED,
            Unavailable::BatchTooLarge => BATCH_TOO_LARGE,
            Unavailable::Interrupted => UNAVAILABLE,
            Unavailable::ShuttingDown => SHUTTING_DOWN,
            Unavailable::Stopped => STOPPED,
        }
    }
}

/// Every stable code that an answer may carry, of this layer and of the machines; each has a row in
/// `contract/errors.md`.
#[must_use]
pub fn codes() -> Vec<&'static str> {
    let refusals = Refusal::CODES.iter().chain(matchmaking::Refusal::CODES).copied();
    let mut codes: Vec<_> = ALL.iter().map(|code| code.name).chain(refusals).collect();
    codes.sort_unstable();
    codes.dedup();
    codes
}
