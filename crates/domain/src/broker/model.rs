//! The things the broker knows: matches with their seats, servers, allocations, fleets, settings.
//!
//! Plain data, all of it durable: it is what a snapshot holds. Who may change what is the business of the
//! `…_lifecycle` modules.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use imbl::OrdSet;

use super::seating::Count;
pub use super::seating::Seats;
pub use super::settings::{FastSchedule, MIN_BUDGET_BYTES, Settings, SettingsChange};
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
    /// What was asked for.
    pub spec: Arc<MatchSpec>,
    /// Where it stands.
    pub state: MatchState,
    /// Its place in the queue: sequence number of the event that queued it first.
    pub queued_seq: u64,
    /// When it was queued first.
    pub queued_at: Timestamp,
    /// Sequence number of the last event about it: for whoever waits for news.
    pub changed_seq: u64,
    /// How often a server has taken it.
    pub pickups: u32,
    /// The server that has it, or had it last.
    pub server: Option<ServerId>,
    /// Why the last server that gave it back did so; `None` if none did.
    pub lost: Option<FailReason>,
    /// Live seats, and the named players who were in it and gave their seat back.
    pub seats: Seats,
    /// Places without a player by the word of its server, less those who have claimed a seat since; `None` until it
    /// speaks.
    pub reported_free: Option<u32>,
    /// The match is over, and its properties have been forgotten to keep within the budget.
    pub stripped: bool,
}

/// Places are counted in two ways. Until the server speaks, the order counts: its capacity, less one place for each
/// named player for the whole match, less one for each seat of anybody else.
///
/// A server that [says how many places are free](super::Command::ReportFreePlaces) knows better who is there, but not
/// who is on the way. So what it says counts, less the seats that are reserved. The order's capacity counts no more. It
/// follows that
///
/// * a place that somebody is on the way to is promised to nobody else, whether the server was told of it or not;
/// * a claim changes nothing: the place is taken off what the server said, and is no longer reserved;
/// * the place of a seat that was claimed is free when the server says so, not when the seat ends: which of the two
///   comes first makes no difference;
/// * a player who came without a claim is taken off twice, by the server as there and by the seat as coming, until that
///   seat expires: too few places are promised meanwhile, and as many as there are afterwards;
/// * whatever went wrong in between is right again with the server's next word.
///
/// The server does not count places that it keeps for named players who are still to come, and their seats take nothing
/// off. A named player who gave a claimed seat back has no place any more but what the server counts as free, and takes
/// one of those like anybody else. A server that keeps the place keeps the seat claimed.
impl Match {
    /// Every player of the match, named or seated, each once.
    #[must_use]
    pub fn players(&self) -> Vec<PlayerId> {
        let mut players = self.spec.players.clone();
        let seated = self.seats.values().map(|seat| &seat.player);
        players.extend(seated.filter(|player| !self.names(player)).cloned());
        players
    }

    /// Those of them who are there or may come: without named players whose place is not kept any more.
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

    /// Places in all; `None` if nobody can join.
    #[must_use]
    pub fn capacity(&self) -> Option<u32> {
        match self.reported_free {
            Some(_) => Some(self.occupied().saturating_add(self.free_places())),
            None => self.spec.capacity,
        }
    }

    /// Places taken: those that are kept for named players, and the seats of everyone else.
    #[must_use]
    pub fn occupied(&self) -> u32 {
        let left = if self.reported_free.is_some() { self.seats.left().len() } else { 0 };
        count(self.spec.players.len().saturating_sub(left)).saturating_add(self.beside_kept().all())
    }

    /// Places free; 0 where the match has no capacity, or [`MAX_CAPACITY`] seats.
    #[must_use]
    pub fn free_places(&self) -> u32 {
        let free = match self.reported_free {
            Some(free) => free.saturating_sub(self.beside_kept().reserved),
            None => self.spec.capacity.map_or(0, |capacity| capacity.saturating_sub(self.occupied())),
        };
        free.min(MAX_CAPACITY.saturating_sub(count(self.seats.len())))
    }

    /// Whether a place is kept for the player: named players have one for the whole match or, where the server counts
    /// its places, until they leave.
    #[must_use]
    pub fn keeps_place_for(&self, player: &PlayerId) -> bool {
        let left = self.reported_free.is_some() && self.seats.left().contains(player);
        !left && self.names(player)
    }

    /// The time to claim a seat begins anew, where it has begun.
    pub(super) fn renew(&mut self, seat: &SeatId, now: Timestamp) -> Option<(Seat, Seat)> {
        let ttl = self.seats.get(seat).filter(|_| matches!(self.state, MatchState::Ready { .. }))?.ttl;
        self.seats.renew(seat, now + ttl)
    }

    fn names(&self, player: &PlayerId) -> bool {
        self.seats.names(&self.spec.players, player)
    }

    /// Seats of players for whom no place is kept anyway.
    fn beside_kept(&self) -> Count {
        let strangers = self.seats.strangers();
        if self.reported_free.is_some() { strangers.and(self.seats.returned()) } else { strangers }
    }

    /// The bytes that change while the match is live: of its server, its seats and its connection details.
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

/// Where a match stands.
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
    /// Over, as it should be.
    Ended {
        /// Since when.
        at: Timestamp,
        /// Who ended it.
        cause: EndCause,
    },
    /// Over, because something went wrong.
    Failed {
        /// Since when.
        at: Timestamp,
        /// What went wrong.
        reason: FailReason,
    },
    /// Over, because somebody wanted so.
    Cancelled {
        /// Since when.
        at: Timestamp,
        /// Who wanted so.
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
    /// Kept for the player.
    Reserved {
        /// When it is given to somebody else; `None` while the match is not ready.
        expires_at: Option<Timestamp>,
    },
    /// The player is in the match.
    Claimed {
        /// Since when.
        at: Timestamp,
        /// Until when it may be claimed once more, by a player who was led back to it.
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
    /// Where it stands.
    pub state: ServerState,
    /// When it was ordered, or first heard of.
    pub born_at: Timestamp,
    /// The live matches it holds.
    pub matches: OrdSet<MatchId>,
}

/// Where a server stands. Servers that are gone are forgotten but for their ids.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ServerState {
    /// Ordered, not heard of.
    Pending,
    /// Takes matches.
    Available,
    /// Takes no further match for now, by its own word.
    Full,
    /// Takes no further match; gone as soon as those it has are over.
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
    /// Why a server is no longer wanted, or no longer there.
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
    /// Why the matches of a server fail that is not wanted any more, or not there any more, for this cause; `None` where
    /// they go on to their end.
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

    /// Whether a server that registered itself and went for this cause is kept from coming back for a while
    /// ([`Settings::suspect_time`]), because the next match would most likely fail on it as well.
    #[must_use]
    pub const fn is_suspicious(self) -> bool {
        matches!(self, Self::ReadyTimeout | Self::Unreachable)
    }
}

/// What is remembered of a server that is gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Gone {
    /// Why it went.
    pub cause: GoneCause,
    /// When it went; zero where an older version did not record that.
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
    /// The queued match it was ordered for; any fitting match may be the one that it gets.
    pub for_match: Option<MatchId>,
    /// When it was ordered.
    pub ordered_at: Timestamp,
    /// How far it has come.
    pub state: AllocationState,
}

/// How far an allocation has come. One that ended is forgotten.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AllocationState {
    /// The platform has not answered yet.
    Ordered,
    /// The platform runs it; its server has not been heard of.
    Started,
    /// Its server has been heard of.
    Live,
    /// Its server was told to shut down, and has time to do so by itself.
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

    /// Whether its server is still to be heard of.
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
    /// The game that its servers run; `None` where the fleet does not say.
    pub game: Option<GameVersion>,
    /// Whether it takes the matches that name no game where every fleet names one.
    pub is_default: bool,
    /// JMESPath over the match document; empty takes any match.
    pub requirements: String,
    /// Most servers at a time.
    pub max: u32,
    /// Idle servers kept ready.
    pub warm: u32,
    /// Longest time from order to first contact.
    pub ready_deadline: Duration,
    /// A server that is older than this is stopped by its platform, with the matches on it; `None` for no limit.
    pub max_run_time: Option<Duration>,
    /// Fleets are tried from the lowest number up, equal numbers by id.
    pub preference: i32,
}

/// What a fleet's recent past says about it.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct FleetHealth {
    /// Allocations that failed since the last one that worked.
    pub failures: u32,
    /// No order before this time.
    pub backoff_until: Timestamp,
    /// What the platform said last.
    pub last_error: Option<Arc<str>>,
}
