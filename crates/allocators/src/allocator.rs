//! What every platform can do: start one server, stop it, and say what runs there.
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
    /// The id that the server is to send.
    pub server: ServerId,
    /// The fleet that it is started for.
    pub fleet: FleetId,
}

/// The platform runs the server, or has run it: the order has been carried out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Started {
    /// The platform's own id of the server, for people.
    pub placement: String,
}

/// What a platform can do, as far as anything depends on it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Capabilities {
    /// [`Allocator::stop`] does next to nothing but wait for the server's end, so any number may run at a time.
    pub stop_only_waits: bool,
    /// The adapter tells an [`ExitListener`] of every server that ends by itself. The ends of other platforms'
    /// servers are found by listing.
    pub reports_exits: bool,
    /// How old a [`Listing`] may be. A server that started or ended within this time may be missing from a list, or may
    /// still be on it. Zero where a list is exact.
    pub list_lag: Duration,
}

/// Where a server can be reached, as the platform says it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Address {
    /// An IP address or a host name.
    pub host: String,
    /// Its ports, in the order in which the fleet's settings name them.
    pub ports: Vec<u16>,
}

/// How far a server is, as the platform says it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PlacementState {
    /// The platform has accepted the order.
    Starting,
    /// It runs.
    Running,
    /// It is being stopped.
    Stopping,
    /// It does not run any more, but the platform still keeps something of it, which [`Allocator::stop`] removes. The
    /// text says how it ended: `exit status 3`.
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
    /// Where it can be reached, if the platform says that.
    pub address: Option<Address>,
    /// When it was started, by the platform's clock, if the platform says that.
    pub started_at: Option<Timestamp>,
    /// How far it is.
    pub state: PlacementState,
}

/// What runs on a platform with the mark of this installation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listing {
    placements: Vec<Placement>,
    is_complete: bool,
}

impl Listing {
    /// The first [`MAX_LISTED`] of `placements`; incomplete where there are more.
    #[must_use]
    pub fn of(placements: impl IntoIterator<Item = Placement>) -> Self {
        let mut placements = placements.into_iter();
        let listed: Vec<_> = placements.by_ref().take(MAX_LISTED).collect();
        Self { placements: listed, is_complete: placements.next().is_none() }
    }

    /// The same, but not everything: the platform has not told the rest.
    #[must_use]
    pub fn cut(self) -> Self {
        Self { is_complete: false, ..self }
    }

    /// The servers, [`MAX_LISTED`] at most.
    #[must_use]
    pub fn placements(&self) -> &[Placement] {
        &self.placements
    }

    /// Whether nothing is missing. What is missing from an incomplete list may well run.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        self.is_complete
    }
}

/// The adapter to one platform.
///
/// Everything that it starts carries the installation's id, the allocation's id and the server's id as a mark. It
/// lists, describes and stops nothing that has no such mark or that of another installation.
#[async_trait]
pub trait Allocator: Send + Sync {
    /// What the platform can do.
    fn capabilities(&self) -> Capabilities;

    /// Starts the server of `order`. Idempotent: the same order again gets the same answer and starts nothing.
    ///
    /// # Errors
    /// [`AllocatorError`]: nothing is left running, unless its class says that the outcome is unknown or that the boot
    /// failed.
    async fn start(&self, order: &StartOrder) -> Result<Started, AllocatorError>;

    /// Stops the server of `allocation`, and returns when nothing of it is left. Idempotent: a server that the
    /// platform does not know counts as stopped.
    ///
    /// # Errors
    /// [`AllocatorError`], where it may still run.
    async fn stop(&self, allocation: &AllocationId, server: &ServerId) -> Result<(), AllocatorError>;

    /// Every server with the mark of this installation, whichever process started it.
    ///
    /// # Errors
    /// [`AllocatorError`], where the platform does not say.
    async fn list(&self) -> Result<Listing, AllocatorError>;

    /// The server of `allocation`, looked up by its mark; `None` if there is none. Must find every server whose start
    /// the platform has acknowledged, even where a list still lacks it.
    ///
    /// # Errors
    /// [`AllocatorError`], where the platform does not say.
    async fn describe(&self, allocation: &AllocationId) -> Result<Option<Placement>, AllocatorError>;
}

/// The end of a server that nobody asked the allocator for.
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

/// Learns of servers that ended by themselves.
#[async_trait]
pub trait ExitListener: Send + Sync {
    /// Takes the news, and returns when it is durable. Until then the allocator keeps the server's record, and an
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
