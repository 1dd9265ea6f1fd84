//! The broker's commands, replies and refusals.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use super::model::{Fleet, Match, Seat, SeatEnd, Settings, SettingsChange};
use crate::connection::Connection;
use crate::ids::{AllocationId, FleetId, MatchId, PlayerId, SeatId, ServerId};
use crate::match_spec::MatchSpec;
use crate::properties::Properties;
use crate::refusal::RefusalKind;
use crate::requirements::InvalidRequirements;

/// Hints of the server manager contract: a set of bits.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Hints(u32);

impl Hints {
    /// No hint.
    pub const NONE: Self = Self(0);
    /// To the broker: the server exits. To the server: exit.
    pub const SHUTDOWN: Self = Self(1);
    /// The server would rather wait for a match than ask again.
    pub const WILLING_TO_WAIT: Self = Self(2);
    /// The server would exit if it is not needed.
    pub const WILLING_TO_SHUTDOWN: Self = Self(4);
    /// The server takes no further match for now.
    pub const FULL: Self = Self(8);
    /// The server takes matches again.
    pub const NOT_FULL: Self = Self(16);
    /// Both at once: the server takes no match now, and may ask again at any time. Its waiting calls are answered
    /// without a match, and it does not count as full afterwards.
    pub const WITHDRAW: Self = Self(8 | 16);
    const ALL: u32 = 31;

    /// Hints from their number on the wire; `None` if it has unknown bits.
    #[must_use]
    pub const fn from_bits(bits: u32) -> Option<Self> {
        if bits & !Self::ALL == 0 { Some(Self(bits)) } else { None }
    }

    /// Their number on the wire.
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// Whether every hint of `other` is among these.
    #[must_use]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// These and those of `other`.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// A command to the broker.
#[derive(Clone, PartialEq, Debug)]
pub enum Command {
    /// The operator's configuration. Applied if it differs from the operator's previous one, so that settings changed
    /// at run time survive a restart, but not an edited file.
    Configure {
        /// Timers and schedule.
        settings: Settings,
        /// Every fleet.
        fleets: Vec<Fleet>,
    },
    /// Changes settings while running.
    Reconfigure {
        /// What changes.
        change: SettingsChange,
    },
    /// A new match.
    SubmitMatch {
        /// Its id, if the sender chose one.
        id: Option<MatchId>,
        /// The order.
        spec: MatchSpec,
    },
    /// Cancels a match.
    CancelMatch {
        /// Which.
        id: MatchId,
    },
    /// An administrator ends a match, whatever its state.
    EndActiveMatch {
        /// Which.
        id: MatchId,
    },
    /// A server asks for a match. Kept until one fits if the server is willing to wait. With [`Hints::SHUTDOWN`] the
    /// server signs off instead, with [`Hints::WITHDRAW`] it withdraws its requests.
    RequestMatch {
        /// The server that asks.
        server: ServerId,
        /// JMESPath over the match document; empty takes any match.
        requirements: String,
        /// Its hints.
        hints: Hints,
        /// Maximum number of matches that it takes at once, 1 to [`MAX_OFFERS`](super::MAX_OFFERS).
        most: u32,
        /// How long the call collects matches if it takes several; it is held at least this long until the first one
        /// fits. `None` collects only what is available, and the hints and the settings decide about waiting.
        wait: Option<Duration>,
    },
    /// A server is ready for the players of a match.
    MatchReady {
        /// The server.
        server: ServerId,
        /// The match.
        match_id: MatchId,
        /// Where players connect.
        connection: Connection,
        /// Its hints.
        hints: Hints,
    },
    /// A match is over. A match that the server is not ready for goes back to the queue if the server exits or is full;
    /// otherwise it fails.
    EndMatch {
        /// The server.
        server: ServerId,
        /// The match.
        match_id: MatchId,
        /// Its hints.
        hints: Hints,
    },
    /// An administrator starts a server, for a match if there is one.
    AllocateServer {
        /// The match's id, if the sender chose one.
        id: Option<MatchId>,
        /// The match.
        spec: Option<MatchSpec>,
    },
    /// An administrator stops a server.
    DeallocateServer {
        /// Which.
        server: ServerId,
    },
    /// A player joins a fleet's game: a seat in a match with free places, or in a new one.
    Join {
        /// The fleet.
        fleet: FleetId,
        /// The player.
        player: PlayerId,
        /// Capacity of a new match.
        capacity: u32,
        /// How long the player may take to claim the seat once the match is ready.
        ttl: Duration,
        /// Properties of a new match.
        properties: Properties,
        /// Further fleets of the same game. A player who has a seat in a match of one of them, or of `fleet`, gets that
        /// seat.
        beside: Arc<[FleetId]>,
        /// Whether that also applies to players who are in the match, and to those named in its order. If such a match
        /// is of another version of the game, the call is refused: the player could not connect to it.
        rejoin: bool,
    },
    /// A player of a certain match comes back to it: to its own seat, with a renewed deadline to claim it, or to a new
    /// seat.
    Rejoin {
        /// The match.
        match_id: MatchId,
        /// The player.
        player: PlayerId,
        /// How long the player may take to claim a new seat once the match is ready.
        ttl: Duration,
        /// Which seats in other matches block a new one.
        elsewhere: SeatsElsewhere,
    },
    /// Players cannot connect to the match: its connection details are not an address, or the name does not resolve.
    ReportUnreachable {
        /// The match.
        match_id: MatchId,
    },
    /// A seat in a certain match.
    ReserveSeat {
        /// The match.
        match_id: MatchId,
        /// The player.
        player: PlayerId,
        /// How long the player may take to claim it once the match is ready.
        ttl: Duration,
        /// Which seats in other matches block it.
        elsewhere: SeatsElsewhere,
    },
    /// The player has connected.
    ClaimSeat {
        /// The seat.
        seat: SeatId,
        /// The server that the player connected to; `None` skips the check.
        server: Option<ServerId>,
    },
    /// The player has left, or will not come.
    ReleaseSeat {
        /// The seat.
        seat: SeatId,
    },
    /// How many places of a match are free for further players, as counted by its server: without a player, and not
    /// kept for a named player who has yet to come. The broker subtracts places of reserved seats.
    ReportFreePlaces {
        /// The match.
        match_id: MatchId,
        /// The server that reports it; `None` skips the check that it has the match.
        server: Option<ServerId>,
        /// The number of free places.
        free: u32,
    },
    /// Kept until there is news of the match later than event `seen`.
    WatchMatch {
        /// The match.
        id: MatchId,
        /// [`Match::changed_seq`] of the caller's last news; 0 for none.
        seen: u64,
    },
    /// Kept until the match of a seat is ready or over, or the seat is gone. Other players who come and go do not end
    /// the wait.
    AwaitReady {
        /// The match.
        match_id: MatchId,
        /// The seat.
        seat: SeatId,
    },
    /// The platform runs the server.
    AllocationStarted {
        /// The allocation.
        allocation: AllocationId,
    },
    /// The platform will not run the server.
    AllocationFailed {
        /// The allocation.
        allocation: AllocationId,
        /// The platform's error.
        error: String,
    },
    /// The platform no longer runs the server.
    AllocationStopped {
        /// The allocation.
        allocation: AllocationId,
    },
    /// The server's process has exited.
    ServerExited {
        /// The allocation.
        allocation: AllocationId,
        /// How it ended, as text.
        status: String,
    },
}

/// Which seats of a player, in other live matches of any version of the same game, block a new seat.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SeatsElsewhere {
    /// None: the caller decides how many seats a player has.
    Ignored,
    /// Those that are reserved and not claimed.
    Reserved,
    /// All of them.
    All,
}

/// A match given to a server.
#[derive(Clone, PartialEq, Debug)]
pub struct Offer {
    /// The server.
    pub server: ServerId,
    /// Its id.
    pub match_id: MatchId,
    /// Every player known so far.
    pub players: Vec<PlayerId>,
    /// What was asked for.
    pub spec: Arc<MatchSpec>,
    /// The number of this pickup.
    pub pickup: u32,
    /// The server may have got it before.
    pub again: bool,
}

/// The broker's replies.
#[derive(Clone, PartialEq, Debug)]
pub enum Reply {
    /// Done, or nothing to do.
    Done,
    /// The match is queued, or was already, under this id or key.
    Submitted {
        /// Its id.
        match_id: MatchId,
    },
    /// To `RequestMatch`.
    Requested {
        /// The match, if one fits.
        offer: Option<Offer>,
        /// Further ones that fit, if the server takes several at once.
        more: Vec<Offer>,
        /// Hints to the server.
        hints: Hints,
    },
    /// To `MatchReady`, `EndMatch`.
    Noted {
        /// The match.
        match_id: MatchId,
        /// Hints to the server.
        hints: Hints,
    },
    /// To `AllocateServer`.
    Allocated {
        /// The id that the server will send.
        server: ServerId,
        /// The match it was ordered for.
        match_id: Option<MatchId>,
    },
    /// To `DeallocateServer`.
    Deallocated {
        /// Its state before.
        state: super::model::ServerState,
        /// Its matches before, with their connection details.
        matches: Vec<(MatchId, Option<Arc<str>>)>,
    },
    /// To `Join`, `Rejoin`, `ReserveSeat`, `ClaimSeat`: the seat and its match.
    Seated {
        /// The seat.
        seat: Seat,
        /// Its match.
        game: Match,
        /// The player had the seat before.
        again: bool,
    },
    /// To `CancelMatch`, `EndActiveMatch`, `ReportFreePlaces`, `WatchMatch`, `AwaitReady`: the match as it is now.
    Match(Match),
}

/// Why a command was refused. A refused command has no effect.
#[derive(Clone, PartialEq, Debug)]
pub enum Refusal {
    /// A field is out of range.
    InvalidField {
        /// Its name.
        field: &'static str,
        /// What would be right.
        problem: String,
    },
    /// `requirements` is not a valid expression.
    InvalidRequirements(InvalidRequirements),
    /// `requirements` is an expression that could be too expensive to evaluate.
    RequirementsTooCostly(String),
    /// No match of that id is known.
    MatchNotFound(MatchId),
    /// No server of that id is known.
    ServerNotFound(ServerId),
    /// No seat of that id is known.
    SeatNotFound(SeatId),
    /// No fleet of that id is configured.
    FleetNotFound(FleetId),
    /// A different match with that id exists.
    MatchExists(MatchId),
    /// The idempotency key was used for another match.
    KeyReused(MatchId),
    /// The server does not have the match (any more).
    MatchNotHeld {
        /// The match.
        match_id: MatchId,
        /// What became of it, if this server had it: the state of other servers' matches is not revealed.
        state: Option<&'static str>,
        /// Whether the server is asked to exit.
        shutdown: bool,
    },
    /// The match is ready already, with other connection details.
    AlreadyReady(MatchId),
    /// The match is over.
    MatchOver {
        /// The match.
        match_id: MatchId,
        /// Its state.
        state: &'static str,
    },
    /// The match takes no further players: it was submitted without a capacity, and its server has not reported free
    /// places.
    NoCapacity(MatchId),
    /// Every place is taken.
    MatchFull(MatchId),
    /// The player has a seat in the match.
    AlreadySeated(PlayerId),
    /// The player has a seat or a kept place in another match of the game.
    AlreadyInMatch {
        /// The player.
        player: PlayerId,
        /// That match.
        match_id: MatchId,
    },
    /// The player does not belong to the match.
    NotOfMatch {
        /// The player.
        player: PlayerId,
        /// The match.
        match_id: MatchId,
    },
    /// The seat is claimed.
    AlreadyClaimed(SeatId),
    /// The match is not ready, so no player can be in it.
    NotReady(MatchId),
    /// The seat belongs to a match on another server.
    OtherServer(SeatId),
    /// The seat is over.
    SeatOver {
        /// The seat.
        seat: SeatId,
        /// How it ended.
        end: SeatEnd,
    },
    /// No fleet can start a server.
    NoFleet {
        /// Why not, fleet by fleet.
        why: BTreeMap<FleetId, &'static str>,
    },
    /// Waiting and running matches and servers use up the memory budget.
    OverBudget {
        /// The budget in bytes, see [`Settings::waiting_bytes`].
        limit: u64,
    },
    /// A limit was reached.
    TooMany {
        /// What there is too much of.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// Something is larger than its maximum.
    TooLarge {
        /// What it is.
        what: &'static str,
        /// Its size in bytes, as [`Size`](crate::size::Size) counts.
        bytes: usize,
        /// The maximum.
        limit: usize,
    },
}

impl Reply {
    /// The reply without a match to a server that asked for one.
    pub(crate) const fn no_match(hints: Hints) -> Self {
        Self::Requested { offer: None, more: Vec::new(), hints }
    }

    /// The reply with one match to a server that asked for one.
    pub(crate) const fn one_match(offer: Offer) -> Self {
        Self::Requested { offer: Some(offer), more: Vec::new(), hints: Hints::NONE }
    }

    /// The reply with these matches to a server that asked for several.
    pub(crate) fn several(mut offers: Vec<Offer>, hints: Hints) -> Self {
        let more = offers.split_off(offers.len().min(1));
        Self::Requested { offer: offers.pop(), more, hints }
    }
}

impl Refusal {
    /// Every stable code, for the test that keeps them documented.
    pub const CODES: &'static [&'static str] = &[
        "invalid_field",
        "invalid_requirements",
        "requirements_too_costly",
        "match_not_found",
        "server_not_found",
        "seat_not_found",
        "fleet_not_found",
        "match_exists",
        "idempotency_key_reused",
        "match_not_held",
        "already_ready",
        "match_over",
        "no_capacity",
        "match_full",
        "already_seated",
        "already_in_match",
        "not_of_match",
        "already_claimed",
        "not_ready",
        "other_server",
        "seat_over",
        "no_fleet",
        "over_budget",
        "too_many",
        "too_large",
    ];

    /// The stable code; `contract/errors.md` documents it.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::InvalidField { .. } => "invalid_field",
            Self::InvalidRequirements(_) => "invalid_requirements",
            Self::RequirementsTooCostly(_) => "requirements_too_costly",
            Self::MatchNotFound(_) => "match_not_found",
            Self::ServerNotFound(_) => "server_not_found",
            Self::SeatNotFound(_) => "seat_not_found",
            Self::FleetNotFound(_) => "fleet_not_found",
            Self::MatchExists(_) => "match_exists",
            Self::KeyReused(_) => "idempotency_key_reused",
            Self::MatchNotHeld { .. } => "match_not_held",
            Self::AlreadyReady(_) => "already_ready",
            Self::MatchOver { .. } => "match_over",
            Self::NoCapacity(_) => "no_capacity",
            Self::MatchFull(_) => "match_full",
            Self::AlreadySeated(_) => "already_seated",
            Self::AlreadyInMatch { .. } => "already_in_match",
            Self::NotOfMatch { .. } => "not_of_match",
            Self::AlreadyClaimed(_) => "already_claimed",
            Self::NotReady(_) => "not_ready",
            Self::OtherServer(_) => "other_server",
            Self::SeatOver { .. } => "seat_over",
            Self::NoFleet { .. } => "no_fleet",
            Self::OverBudget { .. } => "over_budget",
            Self::TooMany { .. } => "too_many",
            Self::TooLarge { .. } => "too_large",
        }
    }

    /// What kind of refusal it is.
    #[must_use]
    pub const fn kind(&self) -> RefusalKind {
        match self {
            Self::InvalidField { .. } | Self::InvalidRequirements(_) | Self::RequirementsTooCostly(_) => {
                RefusalKind::Invalid
            }
            Self::MatchNotFound(_)
            | Self::ServerNotFound(_)
            | Self::SeatNotFound(_)
            | Self::NotOfMatch { .. }
            | Self::FleetNotFound(_) => RefusalKind::NotFound,
            Self::MatchExists(_) | Self::KeyReused(_) => RefusalKind::Exists,
            Self::MatchNotHeld { .. }
            | Self::AlreadyReady(_)
            | Self::NoCapacity(_)
            | Self::MatchFull(_)
            | Self::AlreadySeated(_)
            | Self::AlreadyInMatch { .. }
            | Self::AlreadyClaimed(_)
            | Self::NotReady(_)
            | Self::OtherServer(_)
            | Self::NoFleet { .. } => RefusalKind::Conflict,
            Self::MatchOver { .. } | Self::SeatOver { .. } => RefusalKind::Gone,
            Self::OverBudget { .. } | Self::TooMany { .. } => RefusalKind::Exhausted,
            Self::TooLarge { .. } => RefusalKind::TooLarge,
        }
    }

    /// Whether the refused game server should exit.
    #[must_use]
    pub const fn hints(&self) -> Hints {
        match self {
            Self::MatchNotHeld { shutdown: true, .. } => Hints::SHUTDOWN,
            _ => Hints::NONE,
        }
    }

    /// A refusal of one field.
    pub(crate) fn field(field: &'static str, problem: impl fmt::Display) -> Self {
        Self::InvalidField { field, problem: problem.to_string() }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidField { field, problem } => write!(f, "{field}: {problem}"),
            Self::InvalidRequirements(error) => write!(f, "requirements: {error}"),
            Self::RequirementsTooCostly(problem) => write!(f, "requirements: {problem}"),
            Self::MatchNotFound(id) => write!(f, "no match {id} is known"),
            Self::ServerNotFound(id) => write!(f, "no server {id} is known"),
            Self::SeatNotFound(id) => write!(f, "no seat {id} is known"),
            Self::FleetNotFound(id) => write!(f, "no fleet {id} is configured"),
            Self::MatchExists(id) => {
                write!(f, "another match {id} exists; leave its id out to get a new one")
            }
            Self::KeyReused(id) => {
                write!(f, "idempotency_key: used before for match {id}, which is a different one")
            }
            Self::MatchNotHeld { match_id, state, .. } => {
                write!(f, "this server does not have match {match_id}")?;
                if let Some(state) = state {
                    write!(f, ", which is {state}")?;
                }
                write!(f, "; drop it")
            }
            Self::AlreadyReady(id) => {
                write!(f, "match {id} is ready already, with other connection details; its players have them")
            }
            Self::MatchOver { match_id, state } => write!(f, "match {match_id} is over: it is {state}"),
            Self::NoCapacity(id) => {
                write!(
                    f,
                    "match {id} takes no further players: it was submitted without a capacity, and its server has not reported free seats"
                )
            }
            Self::MatchFull(id) => write!(f, "match {id} is full"),
            Self::AlreadySeated(player) => write!(f, "player {player} has a seat in this match"),
            Self::AlreadyInMatch { player, match_id } => {
                write!(
                    f,
                    "player {player} has a place in match {match_id}; come back to that match, or leave it first"
                )
            }
            Self::NotOfMatch { player, match_id } => {
                write!(
                    f,
                    "player {player} is not in match {match_id}: the player has no seat in it and is not named in it"
                )
            }
            Self::AlreadyClaimed(seat) => write!(f, "seat {seat} is claimed already"),
            Self::NotReady(id) => write!(f, "match {id} is not ready, so nobody can be in it yet"),
            Self::OtherServer(seat) => write!(f, "seat {seat} belongs to a match on another server"),
            Self::SeatOver { seat, end } => write!(f, "seat {seat} is over: {}", end.text()),
            Self::NoFleet { why } if why.is_empty() => write!(f, "no fleet is configured"),
            Self::NoFleet { why } => {
                write!(f, "no fleet can start a server:")?;
                why.iter().try_for_each(|(fleet, reason)| write!(f, " {fleet} {reason};"))
            }
            Self::OverBudget { limit } => write!(
                f,
                "the memory budget broker.waiting_bytes of {limit} bytes is used up; try again later"
            ),
            Self::TooMany { what, limit } => write!(f, "too many {what}: at most {limit} are allowed"),
            Self::TooLarge { what, bytes, limit } => {
                write!(f, "the {what} takes {bytes} bytes, at most {limit} are accepted; send less")
            }
        }
    }
}

impl core::error::Error for Refusal {}

impl From<InvalidRequirements> for Refusal {
    fn from(error: InvalidRequirements) -> Self {
        if error.too_costly {
            Self::RequirementsTooCostly(error.problem)
        } else {
            Self::InvalidRequirements(error)
        }
    }
}
