//! Ports on demand: drivers ask for TCP and UDP ports by websocket, and devices connect to those.
//!
//! | where | what |
//! |---|---|
//! | [`frame`] | what drivers and dispatcher say to each other |
//! | [`Dispatch`] | the dispatcher: its routes, its end |
//! | [`DispatchOptions`] | who may use it, which ports, every limit |
//! | `http` | routes of the contract: who may call them, and with which parameters |
//! | `native` | routes of our own: dispatch tokens, statistics |
//! | `metrics`, `description` | the statistics for monitoring; the routes in an OpenAPI document |
//! | `session` | a driver's websocket |
//! | [`websocket`] | what the bytes of a driver's websocket say |
//! | `outbound` | what waits to be sent to a driver |
//! | `hub` | every open port and who uses it |
//! | `tcp`, `udp` | ports |
//! | `gather` | lets bytes gather under load |
//! | `tokens` | tokens for some ports and some devices |
//!
//! A crate of its own because it knows nothing of matches and servers: whatever has a port can be reached through it.
//!
//! Bytes of devices are read behind room for the heads of their message and sent from where they are. Nothing is
//! unlimited: what waits for a driver keeps its devices from being read, and what waits for a device is put aside up to
//! a limit, and then keeps the driver from being read.

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
pub use driver::{Counted, Protocol};
pub use hub::{DispatchStats, DriverStats, Listing, PortStats};
pub use options::{DispatchOptions, Limits, MIN_QUEUE_BYTES, Operators, OptionsError, Secret, Version};

/// A dispatcher. Clones are the same one.
#[derive(Clone)]
pub struct Dispatch {
    hub: Arc<hub::Hub>,
}

impl Dispatch {
    /// A dispatcher without drivers.
    ///
    /// # Errors
    /// [`OptionsError`] if it could not work with these options.
    pub fn new(options: DispatchOptions) -> Result<Self, OptionsError> {
        Ok(Self { hub: Arc::new(hub::Hub::new(options)?) })
    }

    /// Its routes, of both path families. They want a server that can upgrade connections, like [`sortie_serving::serve`].
    pub fn router(&self) -> Router {
        http::router(Arc::clone(&self.hub))
    }

    /// Whether everyone may do everything, because there is neither a secret nor anybody who knows operators.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.hub.options.is_open()
    }

    /// Whether the headers of a request show the secret, or come from an operator: somebody who may see statistics.
    #[must_use]
    pub fn is_operator(&self, headers: &HeaderMap) -> bool {
        http::Caller::is_owner_or_operator(&self.hub, headers, &http::Query::none())
    }

    /// Drivers and devices of each port.
    pub async fn listing(&self) -> Listing {
        self.hub.listing().await
    }

    /// What goes through.
    pub async fn stats(&self) -> DispatchStats {
        self.hub.stats().await
    }

    /// Closes every websocket with code 1001, and every device's connection after what was written to it. Whoever has
    /// not ended after `deadline` is broken off. New drivers are refused from the start.
    pub async fn shutdown(&self, deadline: Duration) {
        self.hub.shut_down(deadline).await;
    }
}

/// What a panic left behind is as good as it was before it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
