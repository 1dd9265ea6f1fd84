//! Errors as they are sent: `google.rpc.Status`, the same over gRPC and HTTP.
//!
//! Over HTTP it is a JSON body `{code, message, details}`; over gRPC code and message have their own trailers, and the
//! whole encoded status is in `grpc-status-details-bin` so that details are not lost.

use prost::Message as _;
use tonic::Code;

use crate::any::Any;

pub use crate::generated::google::rpc::{ErrorInfo, Status};

/// The domain that defines [`ErrorInfo::reason`].
pub const DOMAIN: &str = "sortie";

/// Maximum size of an encoded status in a gRPC trailer, in bytes; beyond it the details are omitted.
///
/// Peers accept 8 KiB of headers, base64 adds a third, and the message is also sent in a trailer of its own.
pub const MAX_DETAILS_BYTES: usize = 2048;

/// A status with the stable code `reason` (a row of `contract/errors.md`) for programs.
#[must_use]
pub fn refusal(code: Code, reason: &str, message: impl Into<String>) -> Status {
    let info = ErrorInfo { reason: reason.to_owned(), domain: DOMAIN.to_owned(), ..ErrorInfo::default() };
    Status { code: code.into(), message: message.into(), details: vec![Any::pack(&info)] }
}

/// The stable code in `status`, if it has one.
#[must_use]
pub fn reason(status: &Status) -> Option<String> {
    let info = status.details.iter().find_map(Any::unpack::<ErrorInfo>)?;
    (info.domain == DOMAIN).then_some(info.reason)
}

/// The HTTP status code for a gRPC code, as `google.rpc.Code` maps them.
#[must_use]
pub const fn http_code(code: Code) -> u16 {
    match code {
        Code::Ok => 200,
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => 400,
        Code::Unauthenticated => 401,
        Code::PermissionDenied => 403,
        Code::NotFound => 404,
        Code::AlreadyExists | Code::Aborted => 409,
        Code::ResourceExhausted => 429,
        Code::Cancelled => 499,
        Code::Unknown | Code::Internal | Code::DataLoss => 500,
        Code::Unimplemented => 501,
        Code::Unavailable => 503,
        Code::DeadlineExceeded => 504,
    }
}

impl From<Status> for tonic::Status {
    fn from(status: Status) -> Self {
        let code = Code::from(status.code);
        if status.details.is_empty() || status.encoded_len() > MAX_DETAILS_BYTES {
            return Self::new(code, status.message);
        }
        let details = status.encode_to_vec();
        Self::with_details(code, status.message, details.into())
    }
}

impl From<&tonic::Status> for Status {
    /// Details that are not a [`Status`] are dropped: they belong to another convention.
    fn from(status: &tonic::Status) -> Self {
        let details = match Self::decode(status.details()) {
            Ok(inner) if inner.code == i32::from(status.code()) => inner.details,
            _ => Vec::new(),
        };
        Self { code: status.code().into(), message: status.message().to_owned(), details }
    }
}
