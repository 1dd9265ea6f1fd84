//! Bodies of requests that are still arriving when the process is to end.
//!
//! A call cannot be answered before its body is there, and whether the rest of it ever comes is up to the other side. So
//! that nobody can hold up an ordered end by sending half a body, such a body ends with an error then. It says so to
//! whoever reads it as plain bytes ([`is_late`]) and to tonic, which looks for a status among the causes of an error.

use std::error::Error;
use std::fmt;

use axum::body::Body;
use hyper::body::Incoming;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::until::until;

/// The process ends before the body has arrived.
#[derive(Debug)]
struct Late(Status);

impl fmt::Display for Late {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the process ends before the body has arrived")
    }
}

impl Error for Late {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.0)
    }
}

/// Whether a body ended with this error because the process ends.
pub(crate) fn is_late(error: &(dyn Error + 'static)) -> bool {
    std::iter::successors(Some(error), |error| (**error).source()).any(<dyn Error>::is::<Late>)
}

/// A body that ends with an error once `late` is cancelled and the rest has not arrived.
pub(crate) fn arriving(body: Incoming, late: &CancellationToken) -> Body {
    until(body, late, || Some(Err(Late(Status::unavailable("shutting down")).into())))
}
