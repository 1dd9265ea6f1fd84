//! What every platform can do: start a server, stop it, and list what runs there.
//!
//! The log knows what was ordered; [`Allocator::list`] says what became of it. [`crate::Fleets`] and
//! [`crate::Reconciliation`] compare the two by the same rules for all platforms, so an adapter decides nothing.

use std::time::Duration;

use async_trait::async_trait;
use sortie_domain::ids::{AllocationId, FleetId, ServerId};
use sortie_domain::time::Timestamp;

use crate::AllocatorError;

/// Maximum number of servers in a [`Listing`]. A fleet has at most 10,000 servers.
pub const MAX_LISTED: usize = 100_000;

/// The broker's order for one server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StartOrder {
    /// The order's id, and its idempotency key at the platform.
    pub allocation: AllocationId,
    /// The id that the server will send.
    pub server: ServerId,
    /// The fleet for which it is started.
    pub fleet: FleetId,
}

/// The platform runs the server, or has run it: the order has been carried out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Started {
    /// The platform's own id of the server, for people.
    pub placement: String,
}

/// What a platform can do, if callers depend on it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Capabilities {
    /// [`Allocator::stop`] does little but wait for the server's end, so any number of them may run at a time.
    pub stop_only_waits: bool,
    /// The adapter reports every server that ends on its own to an [`ExitListener`]. On other platforms such ends are
    /// found by listing.
    pub reports_exits: bool,
    /// How old a [`Listing`] may be. A server that started or ended within this time may be missing from a list, or may
    /// still be on it. Zero if lists are exact.
    pub list_lag: Duration,
}

/// Where a server can be reached, according to the platform.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Address {
    /// An IP address or a host name.
    pub host: String,
    /// Its ports, in the order in which the fleet's settings name them.
    pub ports: Vec<u16>,
}

/// The state of a server, according to the platform.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PlacementState {
    /// The platform has accepted the order.
    Starting,
    /// It runs.
    Running,
    /// It is being stopped.
    Stopping,
    /// It has ended, but the platform still keeps something of it, which [`Allocator::stop`] removes. The text says how
    /// it ended: `exit status 3`.
    Ended(String),
}

impl PlacementState {
    /// Whether the server has ended.
    #[must_use]
    pub const fn has_ended(&self) -> bool {
        matches!(self, Self::Ended(_))
    }
}

/// One server of this installation on a platform.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Placement {
    /// The order that it was started for, from its mark.
    pub allocation: AllocationId,
    /// The id that it sends, from its mark.
    pub server: ServerId,
    /// The platform's own id of it, for people: `process 4711, port 7800`.
    pub id: String,
    /// Where it can be reached, if the platform says so.
    pub address: Option<Address>,
    /// When it was started, by the platform's clock, if the platform says so.
    pub started_at: Option<Timestamp>,
    /// Its state.
    pub state: PlacementState,
}

/// What runs on a platform with the mark of this installation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listing {
    placements: Vec<Placement>,
    is_complete: bool,
}

impl Listing {
    /// The first [`MAX_LISTED`] of `placements`; incomplete if there are more.
    #[must_use]
    pub fn of(placements: impl IntoIterator<Item = Placement>) -> Self {
        let mut placements = placements.into_iter();
        let listed: Vec<_> = placements.by_ref().take(MAX_LISTED).collect();
        Self { placements: listed, is_complete: placements.next().is_none() }
    }

    /// The same, but incomplete: the platform did not return the rest.
    #[must_use]
    pub fn cut(self) -> Self {
        Self { is_complete: false, ..self }
    }

    /// The servers, at most [`MAX_LISTED`].
    #[must_use]
    pub fn placements(&self) -> &[Placement] {
        &self.placements
    }

    /// Whether nothing is missing. Servers that are missing from an incomplete list may well run.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        self.is_complete
    }
}

/// The adapter to one platform.
///
/// Everything that it starts carries the installation's id, the allocation's id and the server's id as a mark. It never
/// lists, describes or stops anything without such a mark or with that of another installation.
#[async_trait]
pub trait Allocator: Send + Sync {
    /// What the platform can do.
    fn capabilities(&self) -> Capabilities;

    /// Starts the server of `order`. Idempotent: repeating an order returns the same answer and starts nothing.
    ///
    /// # Errors
    /// [`AllocatorError`]: nothing is left running, unless its class says that the outcome is unknown or that the boot
    /// failed.
    async fn start(&self, order: &StartOrder) -> Result<Started, AllocatorError>;

    /// Stops the server of `allocation`, and returns when nothing of it is left. Idempotent: a server that the platform
    /// does not know counts as stopped.
    ///
    /// # Errors
    /// [`AllocatorError`], in which case it may still run.
    async fn stop(&self, allocation: &AllocationId, server: &ServerId) -> Result<(), AllocatorError>;

    /// Every server with the mark of this installation, whichever process started it.
    ///
    /// # Errors
    /// [`AllocatorError`] if the platform does not answer.
    async fn list(&self) -> Result<Listing, AllocatorError>;

    /// The server of `allocation`, looked up by its mark; `None` if there is none. Must find every server whose start
    /// the platform has acknowledged, even if a list still lacks it.
    ///
    /// # Errors
    /// [`AllocatorError`] if the platform does not answer.
    async fn describe(&self, allocation: &AllocationId) -> Result<Option<Placement>, AllocatorError>;
}

/// The end of a server that was not requested through the allocator.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServerExit {
    /// The order that it was started for.
    pub allocation: AllocationId,
    /// The id that it sent.
    pub server: ServerId,
    /// How it ended, in words: `exit status 3`, `killed by signal 11 (SIGSEGV)`.
    pub status: String,
    /// Whether it was stopped together with the control plane, which does not count against its fleet.
    pub with_control_plane: bool,
}

/// Is notified about servers that end on their own.
#[async_trait]
pub trait ExitListener: Send + Sync {
    /// Takes the report, and returns when it is durable. Until then the allocator keeps the server's record, and an
    /// allocator that is opened later reports the end again.
    async fn exited(&self, exit: ServerExit);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placement(number: usize) -> Placement {
        Placement {
            allocation: AllocationId::new(&format!("allocation-{number}")).unwrap(),
            server: ServerId::new("server-1").unwrap(),
            id: String::new(),
            address: None,
            started_at: None,
            state: PlacementState::Running,
        }
    }

    #[test]
    fn a_list_says_when_it_is_cut() {
        let most = Listing::of((0..MAX_LISTED).map(placement));
        assert!(most.is_complete());
        assert_eq!(most.placements().len(), MAX_LISTED);
        let more = Listing::of((0..=MAX_LISTED).map(placement));
        assert!(!more.is_complete());
        assert_eq!(more.placements().len(), MAX_LISTED);
        assert!(!Listing::of([placement(1)]).cut().is_complete());
    }
}
