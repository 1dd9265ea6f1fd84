//! What the broker is asked, what it answers, and how it refuses.

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
    /// Both at once: the server takes no match at this moment, and may ask again at any time. Its waiting calls are
    /// answered without a match, and it does not count as full afterwards.
    pub const WITHDRAW: Self = Self(8 | 16);
    const ALL: u32 = 31;

    /// Hints from their number on the wire; `None` if it has an unknown bit.
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

/// What is asked of the broker.
#[derive(Clone, PartialEq, Debug)]
pub enum Command {
    /// The configuration as the operator wrote it. Taken over where it differs from what the operator wrote
    /// before; so that settings changed at run time outlive a restart, but not an edited file.
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
    /// A match to be played.
    SubmitMatch {
        /// Its id where the sender chose one.
        id: Option<MatchId>,
        /// What is asked for.
        spec: MatchSpec,
    },
    /// The match is not wanted any more.
    CancelMatch {
        /// Which.
        id: MatchId,
    },
    /// An administrator ends a match, whatever its state.
    EndActiveMatch {
        /// Which.
        id: MatchId,
    },
    /// A server asks for a match. Kept until one fits if the server is willing to wait. With [`Hints::SHUTDOWN`] it takes
    /// its leave instead, with [`Hints::WITHDRAW`] it takes back that it asked.
    RequestMatch {
        /// Who asks.
        server: ServerId,
        /// JMESPath over the match document; empty takes any match.
        requirements: String,
        /// Its hints.
        hints: Hints,
        /// Most matches that it takes at once, 1 to [`MAX_OFFERS`](super::MAX_OFFERS).
        most: u32,
        /// How long the call collects matches where it takes several; it is held so long at least until the first one fits.
        /// `None` collects only what is there, and leaves the waiting to its hints and the settings.
        wait: Option<Duration>,
    },
    /// A server is ready for the players of a match.
    MatchReady {
        /// Which server.
        server: ServerId,
        /// Which match.
        match_id: MatchId,
        /// Where players connect.
        connection: Connection,
        /// Its hints.
        hints: Hints,
    },
    /// A match is over. One that the server is not ready for goes back to the queue if the server says that it exits or
    /// is full; otherwise it fails.
    EndMatch {
        /// Which server.
        server: ServerId,
        /// Which match.
        match_id: MatchId,
        /// Its hints.
        hints: Hints,
    },
    /// An administrator wants a server started, for a match if one is given.
    AllocateServer {
        /// The match's id where the sender chose one.
        id: Option<MatchId>,
        /// The match.
        spec: Option<MatchSpec>,
    },
    /// An administrator wants a server gone.
    DeallocateServer {
        /// Which.
        server: ServerId,
    },
    /// A player wants into a fleet's game: a seat in a match with room, or in a new one.
    Join {
        /// Whose servers.
        fleet: FleetId,
        /// Who.
        player: PlayerId,
        /// Places of a new match.
        capacity: u32,
        /// How long the player may take to claim the seat once the match is ready.
        ttl: Duration,
        /// Properties of a new match.
        properties: Properties,
        /// Further fleets of the same game. A player who has a seat in a match of theirs, or of `fleet`, is given that one.
        beside: Arc<[FleetId]>,
        /// Whether that holds for players who are in the match, and for those whom its order names, too. Such a match of
        /// the same game in another version is refused instead: its player could not connect to it.
        rejoin: bool,
    },
    /// A player of a certain match comes back to it: the player's own seat, with as long again to claim it, or a seat
    /// where the player has none.
    Rejoin {
        /// Which match.
        match_id: MatchId,
        /// Who.
        player: PlayerId,
        /// How long the player may take to claim a new seat once the match is ready.
        ttl: Duration,
        /// Which seats in other matches stand in the way of a new one.
        elsewhere: SeatsElsewhere,
    },
    /// Players cannot connect to the match: its connection details are not an address, or the name does not resolve.
    ReportUnreachable {
        /// Which match.
        match_id: MatchId,
    },
    /// A seat in a certain match.
    ReserveSeat {
        /// Which match.
        match_id: MatchId,
        /// For whom.
        player: PlayerId,
        /// How long the player may take to claim it once the match is ready.
        ttl: Duration,
        /// Which seats in other matches stand in the way.
        elsewhere: SeatsElsewhere,
    },
    /// The player has come.
    ClaimSeat {
        /// Which seat.
        seat: SeatId,
        /// The server that the player came to; `None` leaves that unchecked.
        server: Option<ServerId>,
    },
    /// The player has left, or will not come.
    ReleaseSeat {
        /// Which seat.
        seat: SeatId,
    },
    /// How many places of a match are free for further players, as its server counts: without a player, and not kept
    /// for a named one who is still to come. Places of seats that are reserved are taken off by the broker.
    ReportFreePlaces {
        /// Which match.
        match_id: MatchId,
        /// The server that says so; `None` leaves unchecked whether it has the match.
        server: Option<ServerId>,
        /// How many.
        free: u32,
    },
    /// Kept until there is news of the match later than event `seen`.
    WatchMatch {
        /// Which match.
        id: MatchId,
        /// [`Match::changed_seq`] of the news that the caller has; 0 for none.
        seen: u64,
    },
    /// Kept until the match of a seat is ready or over, or the seat is gone. Other players who come and go do not end the
    /// wait.
    AwaitReady {
        /// Which match.
        match_id: MatchId,
        /// Which seat.
        seat: SeatId,
    },
    /// The platform runs the server.
    AllocationStarted {
        /// Which allocation.
        allocation: AllocationId,
    },
    /// The platform will not run the server.
    AllocationFailed {
        /// Which allocation.
        allocation: AllocationId,
        /// What the platform said.
        error: String,
    },
    /// The platform no longer runs the server.
    AllocationStopped {
        /// Which allocation.
        allocation: AllocationId,
    },
    /// The server's process is no more.
    ServerExited {
        /// Which allocation.
        allocation: AllocationId,
        /// How it ended, in words.
        status: String,
    },
}

/// Which seats of a player, in other live matches of the same game in whatever version, stand in the way of a new seat.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SeatsElsewhere {
    /// None: the caller decides how many seats a player has.
    Ignored,
    /// Those that are reserved and not claimed.
    Reserved,
    /// All of them.
    All,
}

/// A match in a server's hands.
#[derive(Clone, PartialEq, Debug)]
pub struct Offer {
    /// The server.
    pub server: ServerId,
    /// Its id.
    pub match_id: MatchId,
    /// Every player known by now.
    pub players: Vec<PlayerId>,
    /// What was asked for.
    pub spec: Arc<MatchSpec>,
    /// Which pickup of the match this is.
    pub pickup: u32,
    /// The server may have been given it before.
    pub again: bool,
}

/// The good answers.
#[derive(Clone, PartialEq, Debug)]
pub enum Reply {
    /// Done, or nothing to do.
    Done,
    /// The match is queued, or was already under this id or key.
    Submitted {
        /// Its id.
        match_id: MatchId,
    },
    /// To `RequestMatch`.
    Requested {
        /// The match, if one fits.
        offer: Option<Offer>,
        /// Further ones that fit, where the server takes several at once.
        more: Vec<Offer>,
        /// What the server is asked for.
        hints: Hints,
    },
    /// To `MatchReady`, `EndMatch`.
    Noted {
        /// The match.
        match_id: MatchId,
        /// What the server is asked for.
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
        /// Its matches before, with where their players connected.
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

/// Why a command is refused. A refused command leaves no trace.
#[derive(Clone, PartialEq, Debug)]
pub enum Refusal {
    /// A field is out of range.
    InvalidField {
        /// Its name.
        field: &'static str,
        /// What would be right.
        problem: String,
    },
    /// `requirements` is no expression.
    InvalidRequirements(InvalidRequirements),
    /// `requirements` is an expression that could cost too much work.
    RequirementsTooCostly(String),
    /// No match of that id is known.
    MatchNotFound(MatchId),
    /// No server of that id is known.
    ServerNotFound(ServerId),
    /// No seat of that id is known.
    SeatNotFound(SeatId),
    /// No fleet of that id is configured.
    FleetNotFound(FleetId),
    /// A match of that id exists and is another one.
    MatchExists(MatchId),
    /// The idempotency key was used for another match.
    KeyReused(MatchId),
    /// The server does not hold the match (any more).
    MatchNotHeld {
        /// The match.
        match_id: MatchId,
        /// What became of it, if this server had it: the state of other servers' matches is none of its business.
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
    /// The match takes no further players: it was submitted without a capacity, and its server says of no free place.
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
    /// The player is not one of the match's.
    NotOfMatch {
        /// The player.
        player: PlayerId,
        /// The match.
        match_id: MatchId,
    },
    /// The seat is claimed.
    AlreadyClaimed(SeatId),
    /// The match is not ready, so nobody can be in it.
    NotReady(MatchId),
    /// The seat belongs to a match on another server.
    OtherServer(SeatId),
    /// The seat is no more.
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
    /// What waits and runs takes all the memory that it may.
    OverBudget {
        /// The budget in bytes, see [`Settings::waiting_bytes`].
        limit: u64,
    },
    /// A limit is reached.
    TooMany {
        /// Of what.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// One thing is larger than such things may be.
    TooLarge {
        /// What.
        what: &'static str,
        /// Its size in bytes, as [`Size`](crate::size::Size) counts.
        bytes: usize,
        /// The largest.
        limit: usize,
    },
}

impl Reply {
    /// No match for a server that asked for one.
    pub(crate) const fn no_match(hints: Hints) -> Self {
        Self::Requested { offer: None, more: Vec::new(), hints }
    }

    /// One match for a server that asked for one.
    pub(crate) const fn one_match(offer: Offer) -> Self {
        Self::Requested { offer: Some(offer), more: Vec::new(), hints: Hints::NONE }
    }

    /// Those matches for a server that asked for some.
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

    /// The stable code, documented in `contract/errors.md`.
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

    /// Whether the game server that is refused should exit.
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
                write!(f, "this server does not hold match {match_id}")?;
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
                    "match {id} takes no further players: it was submitted without a capacity, and its server has said of no free seats"
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
                    "player {player} is not in match {match_id}: no seat of it is the player's, nor is the player named in it"
                )
            }
            Self::AlreadyClaimed(seat) => write!(f, "seat {seat} is claimed already"),
            Self::NotReady(id) => write!(f, "match {id} is not ready, so nobody can be in it yet"),
            Self::OtherServer(seat) => write!(f, "seat {seat} belongs to a match on another server"),
            Self::SeatOver { seat, end } => write!(f, "seat {seat} is no more: {}", end.text()),
            Self::NoFleet { why } if why.is_empty() => write!(f, "no fleet is configured"),
            Self::NoFleet { why } => {
                write!(f, "no fleet can start a server:")?;
                why.iter().try_for_each(|(fleet, reason)| write!(f, " {fleet} {reason};"))
            }
            Self::OverBudget { limit } => write!(
                f,
                "what waits and runs takes {limit} bytes, as much as broker.waiting_bytes allows; try again later"
            ),
            Self::TooMany { what, limit } => write!(f, "too many {what}: at most {limit} are allowed"),
            Self::TooLarge { what, bytes, limit } => {
                write!(f, "the {what} counts {bytes} bytes, at most {limit} are taken; send less")
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
