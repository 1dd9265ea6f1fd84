//! The broker's data types: matches with their seats, servers, allocations, fleets, settings.
//!
//! Plain data, all of it durable: the contents of a snapshot. The `…_lifecycle` modules have the rules for changing it.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use imbl::OrdSet;

use super::seating::Count;
pub use super::seating::Seats;
pub use super::settings::{FastSchedule, MIN_BUDGET_BYTES, ReplacementStage, Settings, SettingsChange};
use crate::causes::causes;
use crate::connection::Connection;
use crate::game::GameVersion;
use crate::ids::{AllocationId, FleetId, MatchId, PlayerId, SeatId, ServerId};
use crate::match_spec::{MAX_CAPACITY, MatchSpec};
use crate::size::Size;
use crate::time::Timestamp;

/// One match.
#[derive(Clone, PartialEq, Debug)]
pub struct Match {
    /// Its id.
    pub id: MatchId,
    /// The order.
    pub spec: Arc<MatchSpec>,
    /// Its state.
    pub state: MatchState,
    /// Its place in the queue: sequence number of the event that queued it first.
    pub queued_seq: u64,
    /// When it was queued first.
    pub queued_at: Timestamp,
    /// Sequence number of the last event about it, for callers that wait for news.
    pub changed_seq: u64,
    /// How often a server has taken it.
    pub pickups: u32,
    /// The server that has it, or had it last.
    pub server: Option<ServerId>,
    /// Why the last server gave it back; `None` if none did.
    pub lost: Option<FailReason>,
    /// Live seats, and the named players who were in it and released their seat.
    pub seats: Seats,
    /// Free places as reported by its server, minus the seats claimed since; `None` before the first report.
    pub reported_free: Option<u32>,
    /// The match is over, and its properties have been forgotten to keep within the budget.
    pub stripped: bool,
}

/// Places are counted in two ways. Before the server's first report, the order counts: its capacity, minus one place
/// for each named player for the whole match, minus one for each seat of any other player.
///
/// A server that [reports how many places are free](super::Command::ReportFreePlaces) knows better who is there, but
/// not who is on the way. So its report counts, minus the reserved seats, and the order's capacity does not count any
/// more. It follows that
///
/// * the place of a player who is on the way is not promised to others, whether or not the server knows about it;
/// * a claim changes nothing: the place is subtracted from the server's report, and is no longer reserved;
/// * the place of a claimed seat is free when the server says so, not when the seat ends, whichever comes first;
/// * a player who came without a claim is subtracted twice, by the server as present and by the seat as coming, until
///   that seat expires: until then too few places are promised, afterwards the right number;
/// * any error in between is corrected by the server's next report.
///
/// The server does not count places that it keeps for named players who have yet to come as free, and their seats are
/// not subtracted. A named player who released a claimed seat has no kept place any more, and takes a free one like any
/// other player. A server that keeps the place keeps the seat claimed.
impl Match {
    /// Every player of the match, named or seated, each once.
    #[must_use]
    pub fn players(&self) -> Vec<PlayerId> {
        let mut players = self.spec.players.clone();
        let seated = self.seats.values().map(|seat| &seat.player);
        players.extend(seated.filter(|player| !self.names(player)).cloned());
        players
    }

    /// Players who are there or may come: without named players whose place is not kept any more.
    #[must_use]
    pub fn expected_players(&self) -> Vec<PlayerId> {
        let gone = |player: &PlayerId| self.reported_free.is_some() && self.seats.left().contains(player);
        let named = self.spec.players.iter().filter(|player| !gone(player));
        let seated = self.seats.values().map(|seat| &seat.player);
        named.chain(seated.filter(|player| !self.keeps_place_for(player))).cloned().collect()
    }

    /// Whether the player is named by the order or has a seat.
    #[must_use]
    pub fn has_player(&self, player: &PlayerId) -> bool {
        self.names(player) || self.seats.of_player(player).is_some()
    }

    /// Total number of places; `None` if nobody can join.
    #[must_use]
    pub fn capacity(&self) -> Option<u32> {
        match self.reported_free {
            Some(_) => Some(self.occupied().saturating_add(self.free_places())),
            None => self.spec.capacity,
        }
    }

    /// Number of taken places: those kept for named players, and the seats of all others.
    #[must_use]
    pub fn occupied(&self) -> u32 {
        let left = if self.reported_free.is_some() { self.seats.left().len() } else { 0 };
        count(self.spec.players.len().saturating_sub(left)).saturating_add(self.beside_kept().all())
    }

    /// Number of free places; 0 if the match has no capacity, or [`MAX_CAPACITY`] seats.
    #[must_use]
    pub fn free_places(&self) -> u32 {
        let free = match self.reported_free {
            Some(free) => free.saturating_sub(self.beside_kept().reserved),
            None => self.spec.capacity.map_or(0, |capacity| capacity.saturating_sub(self.occupied())),
        };
        free.min(MAX_CAPACITY.saturating_sub(count(self.seats.len())))
    }

    /// Whether a place is kept for the player: named players have one for the whole match or, if the server reports its
    /// places, until they leave.
    #[must_use]
    pub fn keeps_place_for(&self, player: &PlayerId) -> bool {
        let left = self.reported_free.is_some() && self.seats.left().contains(player);
        !left && self.names(player)
    }

    /// Restarts the time to claim a seat, if it has begun.
    pub(super) fn renew(&mut self, seat: &SeatId, now: Timestamp) -> Option<(Seat, Seat)> {
        let ttl = self.seats.get(seat).filter(|_| matches!(self.state, MatchState::Ready { .. }))?.ttl;
        self.seats.renew(seat, now + ttl)
    }

    fn names(&self, player: &PlayerId) -> bool {
        self.seats.names(&self.spec.players, player)
    }

    /// Seats of players without a kept place.
    fn beside_kept(&self) -> Count {
        let strangers = self.seats.strangers();
        if self.reported_free.is_some() { strangers.and(self.seats.returned()) } else { strangers }
    }

    /// The bytes that change while the match is live: its server, its seats and its connection details.
    pub(super) fn changing_bytes(&self) -> usize {
        let connection = match &self.state {
            MatchState::Ready { connection, .. } => connection.byte_size(),
            _ => 0,
        };
        connection + self.server.byte_size() + self.seats.byte_size()
    }
}

fn count(places: usize) -> u32 {
    u32::try_from(places).unwrap_or(u32::MAX)
}

/// The state of a match.
#[derive(Clone, PartialEq, Debug)]
pub enum MatchState {
    /// Waiting for a server.
    Queued,
    /// A server has it and prepares.
    PickedUp {
        /// Since when.
        at: Timestamp,
    },
    /// Players can connect.
    Ready {
        /// Since when.
        at: Timestamp,
        /// Where.
        connection: Arc<Connection>,
    },
    /// Ended normally.
    Ended {
        /// Since when.
        at: Timestamp,
        /// Who ended it.
        cause: EndCause,
    },
    /// Failed.
    Failed {
        /// Since when.
        at: Timestamp,
        /// What went wrong.
        reason: FailReason,
    },
    /// Cancelled.
    Cancelled {
        /// Since when.
        at: Timestamp,
        /// Who cancelled it.
        cause: CancelCause,
    },
}

impl MatchState {
    /// The state's name, as it leaves the system.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::PickedUp { .. } => "picked_up",
            Self::Ready { .. } => "ready",
            Self::Ended { .. } => "ended",
            Self::Failed { .. } => "failed",
            Self::Cancelled { .. } => "cancelled",
        }
    }

    /// Whether the match is over.
    #[must_use]
    pub const fn is_over(&self) -> bool {
        matches!(self, Self::Ended { .. } | Self::Failed { .. } | Self::Cancelled { .. })
    }

    /// Why a match failed or was cancelled, or what ended it.
    #[must_use]
    pub const fn reason(&self) -> Option<&'static str> {
        match self {
            Self::Ended { cause, .. } => Some(cause.name()),
            Self::Failed { reason, .. } => Some(reason.name()),
            Self::Cancelled { cause, .. } => Some(cause.name()),
            Self::Queued | Self::PickedUp { .. } | Self::Ready { .. } => None,
        }
    }
}

causes! {
    /// Who ended a match.
    EndCause {
        Server = "server", 1, "the game server ended the match";
        MaxRunTime = "max_run_time", 2, "the match is over: it reached its maximum run time";
        Admin = "admin", 3, "an administrator ended the match";
    }
}

causes! {
    /// Why a match failed.
    FailReason {
        PickupTimeout = "pickup_timeout", 1, "no server could be obtained in time";
        ReadyTimeout = "ready_timeout", 2, "the server that took the match did not become ready in time";
        ServerExited = "server_exited", 3, "the game server's process exited";
        ServerLifetime = "server_lifetime", 4, "the game server was older than servers may become";
        ServerDeallocated = "server_deallocated", 5, "an administrator stopped the game server";
        ServerShutDown = "server_shut_down", 6, "the game server said that it shuts down";
        EndedBeforeReady = "ended_before_ready", 7, "the game server gave the match up before it was ready";
        FleetRemoved = "fleet_removed", 8, "the fleet that the match belongs to is no longer configured";
        Unreachable = "unreachable", 9, "the game server gave an address that leads nowhere";
    }
}

causes! {
    /// Who cancelled a match.
    CancelCause {
        Requested = "requested", 1, "the match was cancelled on request";
        Abandoned = "abandoned", 2, "everyone who waited for the match went away";
    }
}

/// One player's place in one match.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Seat {
    /// Its id.
    pub id: SeatId,
    /// The match.
    pub match_id: MatchId,
    /// The player.
    pub player: PlayerId,
    /// The netcode client id of the player's connect token: a random number.
    pub client_id: u64,
    /// How long the player may take to claim it, from the moment that the match is ready.
    pub ttl: Duration,
    /// Reserved or claimed.
    pub state: SeatState,
}

impl Seat {
    /// Until when a server may claim the seat; `None` while its match is not ready, and once it is claimed.
    #[must_use]
    pub const fn claimable_until(&self) -> Option<Timestamp> {
        match self.state {
            SeatState::Reserved { expires_at: until } | SeatState::Claimed { again_until: until, .. } => {
                until
            }
        }
    }
}

/// How far a seat has come. Released and expired seats are forgotten.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SeatState {
    /// Reserved for the player.
    Reserved {
        /// When it expires; `None` while the match is not ready.
        expires_at: Option<Timestamp>,
    },
    /// The player is in the match.
    Claimed {
        /// Since when.
        at: Timestamp,
        /// Until when it may be claimed again, by a player who was led back to it.
        again_until: Option<Timestamp>,
    },
}

causes! {
    /// How a seat ended.
    SeatEnd {
        Released = "released", 1, "the seat was given back";
        Expired = "expired", 2, "the seat was not claimed in time";
        MatchOver = "match_over", 3, "the match is over";
    }
}

/// One game server process.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Server {
    /// The id it sends.
    pub id: ServerId,
    /// The fleet it was started for; `None` for one that registered itself.
    pub fleet: Option<FleetId>,
    /// Its state.
    pub state: ServerState,
    /// When it was ordered, or first called.
    pub born_at: Timestamp,
    /// Its live matches.
    pub matches: OrdSet<MatchId>,
}

/// The state of a server. Of servers that are gone only [`Gone`] is remembered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ServerState {
    /// Ordered, has not called yet.
    Pending,
    /// Takes matches.
    Available,
    /// Takes no further match for now, as it reported.
    Full,
    /// Takes no further match; dismissed when those it has are over.
    Draining {
        /// Why.
        cause: GoneCause,
    },
}

impl ServerState {
    /// The state's name, as it leaves the system.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Available => "available",
            Self::Full => "full",
            Self::Draining { .. } => "draining",
        }
    }
}

causes! {
    /// Why a server is no longer wanted, or has ended.
    GoneCause {
        ShutDown = "shut_down", 1, "it said that it shuts down";
        Surplus = "surplus", 2, "its fleet has more idle servers than its warm pool";
        Exited = "exited", 3, "its process exited";
        AllocationFailed = "allocation_failed", 4, "the platform could not start it";
        ReadyDeadline = "ready_deadline", 5, "it was not heard of before the fleet's ready deadline";
        ReadyTimeout = "ready_timeout", 6, "a match that it took did not become ready in time";
        Lifetime = "lifetime", 7, "it was older than servers may become";
        MaxRunTime = "max_run_time", 8, "a match on it reached its maximum run time";
        Deallocated = "deallocated", 9, "an administrator stopped it";
        FleetRemoved = "fleet_removed", 10, "its fleet is no longer configured";
        Aged = "aged", 11, "it was too old for a further match to end within its lifetime";
        Unreachable = "unreachable", 12, "it gave an address for a match that leads nowhere";
    }
}

impl GoneCause {
    /// Why this cause fails the server's matches; `None` if they continue to their end.
    #[must_use]
    pub const fn fails_matches(self) -> Option<FailReason> {
        match self {
            Self::ShutDown => Some(FailReason::ServerShutDown),
            Self::Exited | Self::AllocationFailed => Some(FailReason::ServerExited),
            Self::Lifetime => Some(FailReason::ServerLifetime),
            Self::Deallocated => Some(FailReason::ServerDeallocated),
            Self::FleetRemoved => Some(FailReason::FleetRemoved),
            Self::Surplus
            | Self::ReadyDeadline
            | Self::ReadyTimeout
            | Self::MaxRunTime
            | Self::Aged
            | Self::Unreachable => None,
        }
    }

    /// Whether a server that registered itself and ended for this cause may not come back for a while
    /// ([`Settings::suspect_time`]), because the next match would most likely fail on it as well.
    #[must_use]
    pub const fn is_suspicious(self) -> bool {
        matches!(self, Self::ReadyTimeout | Self::Unreachable)
    }
}

/// What is remembered about a server that is gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Gone {
    /// Why it ended.
    pub cause: GoneCause,
    /// When it ended; zero if an older version did not record it.
    pub at: Timestamp,
    /// Whether it was ordered. The id of an ordered server belongs to one process and never comes back; a server that
    /// registered itself may be started again under its id.
    pub ordered: bool,
}

/// The broker's order to a fleet for one server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Allocation {
    /// Its id, and its idempotency key at the platform.
    pub id: AllocationId,
    /// The id that the server will send.
    pub server: ServerId,
    /// The fleet.
    pub fleet: FleetId,
    /// The queued match it was ordered for; it may get any other fitting match.
    pub for_match: Option<MatchId>,
    /// When it was ordered.
    pub ordered_at: Timestamp,
    /// How far it has come.
    pub state: AllocationState,
}

/// The state of an allocation. Ended allocations are forgotten.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AllocationState {
    /// The platform has not answered yet.
    Ordered,
    /// The platform runs it; its server has not called yet.
    Started,
    /// Its server has called.
    Live,
    /// Its server was told to shut down, and has time to do so on its own.
    Leaving {
        /// Since when.
        since: Timestamp,
    },
    /// The platform has been told to stop it.
    Stopping,
}

impl AllocationState {
    /// The state's name, as it leaves the system.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ordered => "ordered",
            Self::Started => "started",
            Self::Live => "live",
            Self::Leaving { .. } => "leaving",
            Self::Stopping => "stopping",
        }
    }

    /// Whether its server has not called yet.
    #[must_use]
    pub const fn is_pending(self) -> bool {
        matches!(self, Self::Ordered | Self::Started)
    }
}

/// One configured use of an allocator.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fleet {
    /// Its id.
    pub id: FleetId,
    /// The game that its servers run; `None` if the fleet names none.
    pub game: Option<GameVersion>,
    /// Whether it takes the matches without a game if every fleet names one.
    pub is_default: bool,
    /// JMESPath over the match document; empty takes any match.
    pub requirements: String,
    /// Maximum number of servers at a time.
    pub max: u32,
    /// Number of idle servers to keep ready.
    pub warm: u32,
    /// Maximum time from the order to the first call.
    pub ready_deadline: Duration,
    /// The platform stops servers older than this, with the matches on them; `None` for no limit.
    pub max_run_time: Option<Duration>,
    /// Fleets are tried from the lowest number up, equal numbers by id.
    pub preference: i32,
}

/// A fleet's recent failures.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct FleetHealth {
    /// Allocations that failed since the last successful one.
    pub failures: u32,
    /// No order before this time.
    pub backoff_until: Timestamp,
    /// The platform's last error.
    pub last_error: Option<Arc<str>>,
}
