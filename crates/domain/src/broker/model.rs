//! The things the broker knows: matches with their seats, servers, allocations, fleets, settings.
//!
//! Plain data, all of it durable: it is what a snapshot holds. Who may change what is the business of the
//! `…_lifecycle` modules.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use imbl::OrdSet;

use super::seating::Count;
pub use super::seating::Seats;
pub use super::settings::{FastSchedule, MIN_BUDGET_BYTES, Settings, SettingsChange};
use crate::content::{Digest, Digester};
use crate::ids::{AllocationId, FleetId, IdempotencyKey, MatchId, PlayerId, SeatId, ServerId};
use crate::size::Size;
use crate::time::Timestamp;

/// Longest JSON text of one set of properties, in bytes.
pub const MAX_PROPERTIES_BYTES: usize = 64 * 1024;
/// Most players that one match may name.
pub const MAX_PLAYERS: usize = 1_000;
/// Most seats that one match may have.
pub const MAX_CAPACITY: u32 = 10_000;
/// Largest match, in bytes as [`Size`] counts what is asked for: so that what one match leads to, its text twice over
/// with every player's id, is far below the largest batch of a log.
pub const MAX_MATCH_BYTES: usize = 4 << 20;
/// Longest connection details, in bytes.
pub const MAX_CONNECTION_BYTES: usize = 4096;
/// Largest connection details of all players of a match together, in bytes as [`Size`] counts: enough for a connect token
/// for each of [`MAX_PLAYERS`].
pub const MAX_CONNECTIONS_BYTES: usize = 4 << 20;

/// A JSON object as text, exactly as it was sent; nothing at all counts as `{}`. Equal where the texts are; whether they
/// say the same is told by [`Properties::content`].
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Properties(Option<(Arc<str>, Digest)>);

impl Properties {
    /// Takes properties as somebody sent them.
    ///
    /// # Errors
    /// What is wrong, if the text is neither blank nor a JSON object, or longer than [`MAX_PROPERTIES_BYTES`].
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.trim().is_empty() {
            return Ok(Self(None));
        }
        let written = Self::written(text)?;
        match jmespath::Variable::from_json(text) {
            Ok(value) if value.is_object() => Ok(written),
            Ok(_) => Err("must be a JSON object".to_string()),
            Err(problem) => Err(alloc::format!("must be a JSON object: {problem}")),
        }
    }

    /// Takes the text of a JSON object that this crate has written.
    ///
    /// # Errors
    /// What is wrong, if it is longer than [`MAX_PROPERTIES_BYTES`].
    pub(crate) fn written(text: &str) -> Result<Self, String> {
        if text.len() > MAX_PROPERTIES_BYTES {
            return Err(alloc::format!(
                "has {} bytes, at most {MAX_PROPERTIES_BYTES} are allowed",
                text.len()
            ));
        }
        Ok(Self(Some((Arc::from(text), Digest::of_json(text)))))
    }

    /// The text; `None` where nothing was sent.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        self.0.as_ref().map(|(text, _)| &**text)
    }

    /// Stands for what they say: the same for `{"a":1,"b":2}` and `{"b":2,"a":1.0}`, and for nothing and `{}`. It was
    /// made with them and costs nothing here.
    #[must_use]
    pub fn content(&self) -> Digest {
        self.0.as_ref().map_or_else(|| Digest::of_json("{}"), |(_, content)| *content)
    }

    /// Whether both say the same.
    #[must_use]
    pub fn same_content(&self, other: &Self) -> bool {
        self == other || self.content() == other.content()
    }
}

/// What somebody asks for who wants a match.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct MatchSpec {
    /// The players, each once.
    pub players: Vec<PlayerId>,
    /// Of the match as a whole.
    pub properties: Properties,
    /// Per player.
    pub player_properties: BTreeMap<PlayerId, Properties>,
    /// Places in all, for drop-in play; `None` if nobody can join later.
    pub capacity: Option<u32>,
    /// The one fleet whose servers may take it; `None` for any server.
    pub fleet: Option<FleetId>,
    /// The order given twice under one key is one match.
    pub idempotency_key: Option<IdempotencyKey>,
}

impl MatchSpec {
    /// Stands for the order: equal for orders of the same content. It is stored, so what it is made of must never change;
    /// a field that is new is left out where it is not given.
    #[must_use]
    pub fn content(&self) -> Digest {
        let Self { players, properties, player_properties, capacity, fleet, idempotency_key } = self;
        let mut digest = Digester::default();
        digest.number(players.len() as u64);
        for player in players {
            digest.tagged(b'p', player.as_str().as_bytes());
        }
        digest.digest(properties.content());
        let nothing = Properties::default();
        for (player, properties) in player_properties.iter().filter(|(_, of)| !of.same_content(&nothing)) {
            digest.tagged(b'o', player.as_str().as_bytes());
            digest.digest(properties.content());
        }
        if let Some(capacity) = capacity {
            digest.tag(b'c');
            digest.number(u64::from(*capacity));
        }
        if let Some(fleet) = fleet {
            digest.tagged(b'f', fleet.as_str().as_bytes());
        }
        if let Some(key) = idempotency_key {
            digest.tagged(b'k', key.as_str().as_bytes());
        }
        digest.finish()
    }

    /// The order without its properties: what a match that is over may come down to.
    pub(super) fn stripped(&self) -> Self {
        Self { properties: Properties::default(), player_properties: BTreeMap::new(), ..self.clone() }
    }
}

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

/// What players need to reach a server; meaningful to them and passed on as it is.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Connection {
    /// For everyone not named below.
    pub details: Arc<str>,
    /// For single players.
    pub per_player: BTreeMap<PlayerId, Arc<str>>,
}

impl Connection {
    /// What `player` gets.
    #[must_use]
    pub fn for_player(&self, player: &PlayerId) -> &Arc<str> {
        self.per_player.get(player).unwrap_or(&self.details)
    }
}

/// Declares an enum of causes with their stable names and what each tells people.
macro_rules! causes {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $code:literal, $number:literal, $text:literal;)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum $name {
            $(#[doc = $text] $variant,)*
        }

        impl $name {
            /// Every one of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// Its stable, machine-readable name.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $code,)* }
            }

            /// What it means, in words for people.
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// Its number in stored records.
            #[must_use]
            pub const fn number(self) -> u32 {
                match self { $(Self::$variant => $number,)* }
            }

            /// The one with that number in stored records.
            #[must_use]
            pub const fn from_number(number: u32) -> Option<Self> {
                match number { $($number => Some(Self::$variant),)* _ => None }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.name())
            }
        }
    };
}

pub(crate) use causes;

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

/// A game in one version: what matches name as `game` and `version` in their properties.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Game {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
}

/// One configured use of an allocator.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fleet {
    /// Its id.
    pub id: FleetId,
    /// The game that its servers run; `None` where the fleet does not say.
    pub game: Option<Game>,
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
