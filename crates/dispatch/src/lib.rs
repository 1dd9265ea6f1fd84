//! Ports on demand: drivers request TCP and UDP ports over websockets, and devices connect to them.
//!
//! | where | what |
//! |---|---|
//! | [`frame`] | what drivers and dispatcher send each other |
//! | [`Dispatch`] | the dispatcher: its routes, its shutdown |
//! | [`DispatchOptions`] | who may use it, which ports, every limit |
//! | `http` | routes of the contract: who may call them, and with which parameters |
//! | `native` | our own routes: dispatch tokens, statistics |
//! | `metrics`, `description` | the statistics for monitoring; the routes in an OpenAPI document |
//! | `session` | a driver's websocket |
//! | [`websocket`] | parses the bytes of a driver's websocket |
//! | `outbound` | what waits to be sent to a driver |
//! | `hub` | every open port and its drivers |
//! | `tcp`, `udp` | ports |
//! | `shared`, `spaces` | what all ports share |
//! | `gather` | lets bytes gather under load |
//! | `tokens` | tokens for some ports and some devices |
//!
//! A crate of its own because it knows nothing of matches and servers: anything that has a port can be reached through
//! it.
//!
//! Bytes of devices are read behind space reserved for the heads of their message, and sent from there. Nothing is
//! unbounded: when too much waits for a driver, its devices are no longer read; what waits for a device is buffered up
//! to a limit, beyond which its driver is no longer read.

mod accept;
mod bind;
mod budget;
mod description;
mod driver;
pub mod frame;
mod gather;
mod http;
mod hub;
mod message;
mod metrics;
mod native;
mod options;
mod outbound;
mod session;
mod shared;
mod spaces;
mod tcp;
mod tokens;
mod udp;
pub mod websocket;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::http::HeaderMap;

pub use accept::{AcceptError, AcceptList};
pub use description::description;
pub use driver::Counted;
pub use frame::Protocol;
pub use hub::{DispatchStats, DriverStats, Listing, PortStats};
pub use options::{DispatchOptions, Limits, MIN_QUEUE_BYTES, Operators, OptionsError, Secret, Version};

/// A dispatcher. Clones share it.
#[derive(Clone)]
pub struct Dispatch {
    hub: Arc<hub::Hub>,
}

impl Dispatch {
    /// A dispatcher without drivers.
    ///
    /// # Errors
    /// [`OptionsError`] if the options are invalid.
    pub fn new(options: DispatchOptions) -> Result<Self, OptionsError> {
        Ok(Self { hub: Arc::new(hub::Hub::new(options)?) })
    }

    /// Its routes, of both path families. They need a server that can upgrade connections, like
    /// [`sortie_serving::serve`].
    pub fn router(&self) -> Router {
        http::router(Arc::clone(&self.hub)).merge(native::router(Arc::clone(&self.hub)))
    }

    /// Whether everyone may do everything, because neither a secret nor operators are configured.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.hub.options.is_open()
    }

    /// Whether a request's headers carry the secret or come from an operator: such callers may see statistics.
    #[must_use]
    pub fn is_operator(&self, headers: &HeaderMap) -> bool {
        http::Caller::is_owner_or_operator(&self.hub, headers, &http::Query::none())
    }

    /// Drivers and devices of each port.
    pub async fn listing(&self) -> Listing {
        self.hub.listing().await
    }

    /// Traffic statistics.
    pub async fn stats(&self) -> DispatchStats {
        self.hub.stats().await
    }

    /// Graceful shutdown: closes every websocket with code 1001, and every device's connection after everything written
    /// to it. Disconnects the rest after `deadline`. New drivers are refused at once.
    pub async fn shutdown(&self, deadline: Duration) {
        self.hub.shut_down(deadline).await;
    }
}

/// Poisoning is ignored: the data stays consistent across a panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
