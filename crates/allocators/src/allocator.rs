//! What every platform can do: start one server, and stop it.
//!
//! No "list", no "status": the log knows what was ordered, and platforms that notice the end of a server report
//! it by themselves. Two idempotent calls are all that the broker's effects need.

use async_trait::async_trait;
use sortie_domain::ids::{AllocationId, FleetId, ServerId};

/// The broker's order for one server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StartOrder {
    /// The order's id, and its idempotency key at the platform.
    pub allocation: AllocationId,
    /// The id that the server is to send.
    pub server: ServerId,
    /// The fleet that it is started for.
    pub fleet: FleetId,
}

/// The platform runs the server, or has run it: the order has been carried out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Started {
    /// Where it runs, in the platform's words; for people.
    pub placement: String,
}

/// Whether asking again can help.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ErrorKind {
    /// The platform may do it later: asked again after a pause.
    Transient,
    /// The platform will not do it, however often it is asked.
    Permanent,
}

/// Why a platform did not do what it was asked.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{message}")]
pub struct AllocatorError {
    /// Whether asking again can help.
    pub kind: ErrorKind,
    /// What was wrong and what to do, for the operator; holds no secret.
    pub message: String,
}

impl AllocatorError {
    /// An error that may go away by itself.
    #[must_use]
    pub fn transient(message: impl Into<String>) -> Self {
        Self { kind: ErrorKind::Transient, message: message.into() }
    }

    /// An error that stays until somebody changes something.
    #[must_use]
    pub fn permanent(message: impl Into<String>) -> Self {
        Self { kind: ErrorKind::Permanent, message: message.into() }
    }
}

/// The adapter to one platform.
#[async_trait]
pub trait Allocator: Send + Sync {
    /// Starts the server of `order`. An order is carried out at most once, however often it is given: giving it
    /// again is answered as the first time. Nothing is left running where this returns an error.
    ///
    /// # Errors
    /// [`AllocatorError`], where the platform did not start it.
    async fn start(&self, order: &StartOrder) -> Result<Started, AllocatorError>;

    /// Stops the server of `allocation`, and returns when nothing of it is left. One that the platform does not
    /// know is stopped.
    ///
    /// # Errors
    /// [`AllocatorError`], where it may still run.
    async fn stop(&self, allocation: &AllocationId, server: &ServerId) -> Result<(), AllocatorError>;

    /// Whether [`Self::stop`] does next to nothing but wait for the server's end, so that any number may run at a time.
    fn stop_only_waits(&self) -> bool {
        false
    }
}
