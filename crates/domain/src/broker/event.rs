//! The broker's decisions. Each event has everything that its subscribers need; applying it is the only way in which
//! the durable state changes.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use super::model::{CancelCause, EndCause, FailReason, Fleet, GoneCause, SeatEnd, Settings};
use crate::connection::Connection;
use crate::ids::{AllocationId, FleetId, MatchId, PlayerId, SeatId, ServerId};
use crate::match_spec::MatchSpec;
use crate::size::{ENTRY_BYTES, Size};

/// A decision of the broker.
#[derive(Clone, PartialEq, Debug)]
pub enum Event {
    /// The operator's configuration is in force.
    Configured {
        /// Timers and schedule.
        settings: Settings,
        /// Every fleet.
        fleets: Vec<Fleet>,
    },
    /// Settings were changed at run time.
    Reconfigured {
        /// All settings, with the changes.
        settings: Settings,
    },
    /// A match waits for a server.
    MatchQueued {
        /// Which.
        id: MatchId,
        /// The order.
        spec: Arc<MatchSpec>,
    },
    /// A server has the match.
    MatchPickedUp {
        /// The match.
        id: MatchId,
        /// The server.
        server: ServerId,
    },
    /// The match is back at its place in the queue: the server never got it, or exited before it was ready.
    MatchReturned {
        /// The match.
        id: MatchId,
        /// The server that had it.
        server: ServerId,
        /// Why the server does not play it; `None` if the server never got it.
        reason: Option<FailReason>,
    },
    /// Players can connect.
    MatchReady {
        /// The match.
        id: MatchId,
        /// The server.
        server: ServerId,
        /// Every player who hears about it.
        players: Vec<PlayerId>,
        /// Where they connect.
        connection: Arc<Connection>,
    },
    /// The match is over.
    MatchEnded {
        /// Which.
        id: MatchId,
        /// Every player who hears about it.
        players: Vec<PlayerId>,
        /// Who ended it.
        cause: EndCause,
    },
    /// The match went wrong.
    MatchFailed {
        /// Which.
        id: MatchId,
        /// Every player who hears about it.
        players: Vec<PlayerId>,
        /// What went wrong.
        reason: FailReason,
    },
    /// The match was cancelled.
    MatchCancelled {
        /// Which.
        id: MatchId,
        /// Every player who hears about it.
        players: Vec<PlayerId>,
        /// Who cancelled it.
        cause: CancelCause,
    },
    /// A place is kept for a player.
    SeatReserved {
        /// The seat.
        seat: SeatId,
        /// The match.
        match_id: MatchId,
        /// The player.
        player: PlayerId,
        /// The netcode client id of the player's connect token.
        client_id: u64,
        /// How long the player may take, once the match is ready.
        ttl: Duration,
    },
    /// The player has asked again, and the deadline to claim the seat is renewed; a claimed seat may be claimed again.
    SeatRenewed {
        /// The seat.
        seat: SeatId,
        /// The match.
        match_id: MatchId,
    },
    /// The player has connected.
    SeatClaimed {
        /// The seat.
        seat: SeatId,
        /// The match.
        match_id: MatchId,
    },
    /// The place is free again.
    SeatClosed {
        /// The seat.
        seat: SeatId,
        /// The match.
        match_id: MatchId,
        /// How it ended.
        end: SeatEnd,
    },
    /// The server has reported a new number of free places.
    MatchPlacesReported {
        /// The match.
        id: MatchId,
        /// Places without a player, as the server counts them.
        free: u32,
    },
    /// A server that was not ordered has registered itself.
    ServerRegistered {
        /// Which.
        server: ServerId,
    },
    /// An ordered server has made its first call.
    ServerAvailable {
        /// Which.
        server: ServerId,
    },
    /// The server takes no further match for now.
    ServerFull {
        /// Which.
        server: ServerId,
    },
    /// The server takes matches again.
    ServerNotFull {
        /// Which.
        server: ServerId,
    },
    /// The server gets no further match and is dismissed after those it has.
    ServerDraining {
        /// Which.
        server: ServerId,
        /// Why.
        cause: GoneCause,
    },
    /// The server is not wanted any more, or has exited.
    ServerGone {
        /// Which.
        server: ServerId,
        /// Why.
        cause: GoneCause,
    },
    /// A server is ordered from a fleet.
    AllocationOrdered {
        /// The order.
        allocation: AllocationId,
        /// The id that the server will send.
        server: ServerId,
        /// The fleet.
        fleet: FleetId,
        /// The match that it is ordered for.
        for_match: Option<MatchId>,
    },
    /// An order without a match is assigned to another one.
    AllocationAssigned {
        /// The order.
        allocation: AllocationId,
        /// The match.
        for_match: MatchId,
    },
    /// The platform runs the server.
    AllocationStarted {
        /// The order.
        allocation: AllocationId,
    },
    /// The platform has to stop the server.
    AllocationStopOrdered {
        /// The order.
        allocation: AllocationId,
        /// The fleet.
        fleet: FleetId,
        /// The error, if there was one: the fleet then backs off.
        error: Option<Arc<str>>,
    },
    /// Nothing of it is left on the platform.
    AllocationEnded {
        /// The order.
        allocation: AllocationId,
        /// The fleet.
        fleet: FleetId,
        /// The error, if there was one: the fleet then backs off.
        error: Option<Arc<str>>,
    },
}

impl Event {
    /// The event's type as a CloudEvent, in the reverse-domain style of that specification.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Configured { .. } => "sortie.broker.configured",
            Self::Reconfigured { .. } => "sortie.broker.reconfigured",
            Self::MatchQueued { .. } => "sortie.match.queued",
            Self::MatchPickedUp { .. } => "sortie.match.picked_up",
            Self::MatchReturned { .. } => "sortie.match.returned",
            Self::MatchReady { .. } => "sortie.match.ready",
            Self::MatchEnded { .. } => "sortie.match.ended",
            Self::MatchFailed { .. } => "sortie.match.failed",
            Self::MatchCancelled { .. } => "sortie.match.cancelled",
            Self::MatchPlacesReported { .. } => "sortie.match.places_reported",
            Self::SeatReserved { .. } => "sortie.seat.reserved",
            Self::SeatRenewed { .. } => "sortie.seat.renewed",
            Self::SeatClaimed { .. } => "sortie.seat.claimed",
            Self::SeatClosed { .. } => "sortie.seat.closed",
            Self::ServerRegistered { .. } => "sortie.server.registered",
            Self::ServerAvailable { .. } => "sortie.server.available",
            Self::ServerFull { .. } => "sortie.server.full",
            Self::ServerNotFull { .. } => "sortie.server.not_full",
            Self::ServerDraining { .. } => "sortie.server.draining",
            Self::ServerGone { .. } => "sortie.server.gone",
            Self::AllocationOrdered { .. } => "sortie.allocation.ordered",
            Self::AllocationAssigned { .. } => "sortie.allocation.assigned",
            Self::AllocationStarted { .. } => "sortie.allocation.started",
            Self::AllocationStopOrdered { .. } => "sortie.allocation.stop_ordered",
            Self::AllocationEnded { .. } => "sortie.allocation.ended",
        }
    }

    /// Whether callers that wait for a match to be ready may hear something new.
    pub(super) const fn is_decision(&self) -> bool {
        matches!(
            self,
            Self::MatchReady { .. }
                | Self::MatchEnded { .. }
                | Self::MatchFailed { .. }
                | Self::MatchCancelled { .. }
                | Self::SeatClosed { .. }
        )
    }

    /// The match that the event is about.
    #[must_use]
    pub const fn match_id(&self) -> Option<&MatchId> {
        match self {
            Self::MatchQueued { id, .. }
            | Self::MatchPickedUp { id, .. }
            | Self::MatchReturned { id, .. }
            | Self::MatchReady { id, .. }
            | Self::MatchEnded { id, .. }
            | Self::MatchFailed { id, .. }
            | Self::MatchCancelled { id, .. }
            | Self::MatchPlacesReported { id, .. } => Some(id),
            Self::SeatReserved { match_id, .. }
            | Self::SeatRenewed { match_id, .. }
            | Self::SeatClaimed { match_id, .. }
            | Self::SeatClosed { match_id, .. } => Some(match_id),
            Self::AllocationOrdered { for_match, .. } => for_match.as_ref(),
            Self::AllocationAssigned { for_match, .. } => Some(for_match),
            _ => None,
        }
    }
}

impl Size for Event {
    fn byte_size(&self) -> usize {
        let content = match self {
            Self::Configured { settings, fleets } => settings.byte_size() + fleets.byte_size(),
            Self::Reconfigured { settings } => settings.byte_size(),
            Self::MatchQueued { id, spec } => id.byte_size() + spec.byte_size(),
            Self::MatchPickedUp { id, server } | Self::MatchReturned { id, server, .. } => {
                id.byte_size() + server.byte_size()
            }
            Self::MatchReady { id, server, players, connection } => {
                id.byte_size() + server.byte_size() + players.byte_size() + connection.byte_size()
            }
            Self::MatchEnded { id, players, .. }
            | Self::MatchFailed { id, players, .. }
            | Self::MatchCancelled { id, players, .. } => id.byte_size() + players.byte_size(),
            Self::SeatReserved { seat, match_id, player, .. } => {
                seat.byte_size() + match_id.byte_size() + player.byte_size()
            }
            Self::SeatRenewed { seat, match_id }
            | Self::SeatClaimed { seat, match_id }
            | Self::SeatClosed { seat, match_id, .. } => seat.byte_size() + match_id.byte_size(),
            Self::MatchPlacesReported { id, .. } => id.byte_size(),
            Self::ServerRegistered { server }
            | Self::ServerAvailable { server }
            | Self::ServerFull { server }
            | Self::ServerNotFull { server }
            | Self::ServerDraining { server, .. }
            | Self::ServerGone { server, .. } => server.byte_size(),
            Self::AllocationOrdered { allocation, server, fleet, for_match } => {
                allocation.byte_size() + server.byte_size() + fleet.byte_size() + for_match.byte_size()
            }
            Self::AllocationAssigned { allocation, for_match } => {
                allocation.byte_size() + for_match.byte_size()
            }
            Self::AllocationStarted { allocation } => allocation.byte_size(),
            Self::AllocationStopOrdered { allocation, fleet, error }
            | Self::AllocationEnded { allocation, fleet, error } => {
                allocation.byte_size() + fleet.byte_size() + error.byte_size()
            }
        };
        ENTRY_BYTES + content
    }
}

/// Work of a platform that follows from the state. The allocation id is the idempotency key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Effect {
    /// Start a server. Outcome: `AllocationStarted` or `AllocationFailed`.
    Start {
        /// The order.
        allocation: AllocationId,
        /// The id that the server has to send.
        server: ServerId,
        /// The fleet.
        fleet: FleetId,
    },
    /// Stop a server. Outcome: `AllocationStopped`.
    Stop {
        /// The order.
        allocation: AllocationId,
        /// The server's id.
        server: ServerId,
        /// The fleet.
        fleet: FleetId,
    },
}

impl Effect {
    /// The idempotency key: effects with the same key run one after another.
    #[must_use]
    pub const fn allocation(&self) -> &AllocationId {
        match self {
            Self::Start { allocation, .. } | Self::Stop { allocation, .. } => allocation,
        }
    }
}
