//! Request bodies that are still arriving during shutdown.
//!
//! A call cannot be answered before its body has arrived, and the peer decides whether the rest ever comes. So that
//! nobody can hold up a graceful shutdown by sending half a body, such a body then ends with an error. [`is_late`]
//! recognizes it in plain HTTP, and tonic finds a status among its causes.

use std::error::Error;
use std::fmt;

use axum::body::Body;
use hyper::body::Incoming;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::until::until;

/// The process shuts down before the body has arrived.
#[derive(Debug)]
struct Late(Status);

impl fmt::Display for Late {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the process shuts down before the body has arrived")
    }
}

impl Error for Late {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.0)
    }
}

/// Whether a body ended with this error because the process shuts down.
pub(crate) fn is_late(error: &(dyn Error + 'static)) -> bool {
    std::iter::successors(Some(error), |error| (**error).source()).any(<dyn Error>::is::<Late>)
}

/// A body that ends with an error once `late` is cancelled and the rest has not arrived.
pub(crate) fn arriving(body: Incoming, late: &CancellationToken) -> Body {
    until(body, late, || Some(Err(Late(Status::unavailable("shutting down")).into())))
}
