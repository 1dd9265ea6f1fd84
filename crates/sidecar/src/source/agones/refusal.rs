//! Why a game server's call is refused.
//!
//! The codes are those promised in Agones' `.proto` files; its own process answers most of these cases with `UNKNOWN`,
//! which clients cannot tell from a bug.

use tonic::Code;

/// Maximum number of characters of a caller's text in a refusal.
const MAX_QUOTED_CHARS: usize = 64;

/// What is wrong with a call. The text is for the author of the game server.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum Refusal {
    /// It does not exist.
    #[error("not found: {0}")]
    NotFound(String),
    /// It exists already.
    #[error("already exists: {0}")]
    Exists(String),
    /// A number would be out of range.
    #[error("out of range: {0}")]
    Range(String),
    /// A field is missing or has an invalid value.
    #[error("invalid argument: {0}")]
    Field(String),
    /// A limit has been reached.
    #[error("too much: {0}")]
    TooMuch(String),
    /// The HTTP gateway does not support the method at this path.
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

/// A caller's text, quoted and truncated.
pub(super) fn quoted(text: &str) -> String {
    let shown: String = text.chars().take(MAX_QUOTED_CHARS).collect();
    format!("{shown:?}")
}
