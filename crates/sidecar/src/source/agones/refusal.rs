//! Why a game server's call is refused.
//!
//! The codes are those that the `.proto` files of Agones promise; its own process answers with `UNKNOWN` in most of these
//! cases, which no client can tell from a fault.

use tonic::Code;

/// Most characters of a caller's text that a refusal repeats.
const MAX_QUOTED_CHARS: usize = 64;

/// What was wrong with a call. The text is for whoever wrote the game server.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum Refusal {
    /// There is no such thing.
    #[error("not found: {0}")]
    NotFound(String),
    /// It is there already.
    #[error("already exists: {0}")]
    Exists(String),
    /// A number would leave its range.
    #[error("out of range: {0}")]
    Range(String),
    /// A field is missing or no such value is allowed.
    #[error("invalid argument: {0}")]
    Field(String),
    /// A limit is reached.
    #[error("too much: {0}")]
    TooMuch(String),
    /// The HTTP gateway has no such method at this path.
    #[error("method not allowed")]
    Method,
}

impl Refusal {
    /// The gRPC code; the HTTP status follows from it.
    pub(super) const fn code(&self) -> Code {
        match self {
            Self::NotFound(_) => Code::NotFound,
            Self::Exists(_) => Code::AlreadyExists,
            Self::Range(_) => Code::OutOfRange,
            Self::Field(_) => Code::InvalidArgument,
            Self::TooMuch(_) => Code::ResourceExhausted,
            Self::Method => Code::Unimplemented,
        }
    }
}

impl From<Refusal> for tonic::Status {
    fn from(refusal: Refusal) -> Self {
        Self::new(refusal.code(), refusal.to_string())
    }
}

/// A caller's text in quotation marks, and not more of it than fits a message.
pub(super) fn quoted(text: &str) -> String {
    let shown: String = text.chars().take(MAX_QUOTED_CHARS).collect();
    format!("{shown:?}")
}
