//! The data of the matchmaker: tickets, matches that are being made, offers of free seats.
//!
//! Plain data, all of it durable: this is the content of a snapshot. The demands of a queue are in
//! [`settings`](super::settings).

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use crate::causes::causes;
use crate::connection::Connection;
use crate::ids::{HookId, IdempotencyKey, MatchId, PlayerId, QueueId, RegionId, TicketId};
use crate::match_spec::MatchSpec;
use crate::properties::Properties;
use crate::size::{ENTRY_BYTES, Size};
use crate::time::Timestamp;

/// Maximum size of one ticket with all its content, in bytes as [`Size`] counts them.
pub const MAX_TICKET_BYTES: usize = 4 << 20;
/// Maximum number of players of one ticket.
pub const MAX_TICKET_PLAYERS: usize = 100;
/// Maximum number of regions that the latencies of one player or ticket name.
pub const MAX_REGIONS: usize = 32;
/// Maximum number of ratings of one player.
pub const MAX_RATINGS: usize = 16;
/// Maximum number of players that one player blocks.
pub const MAX_BLOCKED: usize = 200;
/// Maximum round trip, in milliseconds.
pub const MAX_LATENCY: u32 = u32::MAX;
/// Maximum absolute value of a rating.
pub const MAX_RATING: f64 = 1e12;

/// A measured round trip in whole milliseconds, rounded up so that rounding never brings it below a limit. `None` if it
/// is not a number from 0 to [`MAX_LATENCY`].
#[must_use]
pub fn whole_millis(measured: f64) -> Option<u32> {
    if !(0.0..=f64::from(MAX_LATENCY)).contains(&measured) {
        return None;
    }
    let whole = measured as u32;
    Some(whole + u32::from(f64::from(whole) < measured))
}

/// One player of a ticket.
#[derive(Clone, PartialEq, Debug)]
pub struct Player {
    /// The player's id.
    pub id: PlayerId,
    /// Numbers that rules compare, by rating name.
    pub ratings: BTreeMap<Box<str>, f64>,
    /// Round trip by region, in milliseconds.
    pub latencies: BTreeMap<RegionId, u32>,
    /// Players that this one refuses to play with.
    pub blocked: Vec<PlayerId>,
    /// Passed on into the match.
    pub properties: Properties,
}

impl Player {
    /// A player of whom only the id is known.
    #[must_use]
    pub fn new(id: PlayerId) -> Self {
        Self {
            id,
            ratings: BTreeMap::new(),
            latencies: BTreeMap::new(),
            blocked: Vec::new(),
            properties: Properties::default(),
        }
    }
}

/// A group of players who want to play together.
#[derive(Clone, PartialEq, Debug)]
pub struct Party {
    /// The party's id, if it has one.
    pub id: Option<Box<str>>,
    /// The party's players.
    pub players: Vec<Player>,
}

/// A request to play. All its players end up on one team.
#[derive(Clone, PartialEq, Debug)]
pub struct TicketSpec {
    /// The requested queue.
    pub queue: QueueId,
    /// The players, by party.
    pub parties: Vec<Party>,
    /// The player who speaks for all; optional.
    pub leader: Option<PlayerId>,
    /// What rules and servers look at.
    pub properties: Properties,
    /// Round trip by region for players who name none themselves, in milliseconds.
    pub latencies: BTreeMap<RegionId, u32>,
    /// The same order sent twice with one key is one ticket.
    pub idempotency_key: Option<IdempotencyKey>,
    /// The ticket is cancelled if it is not renewed for this long, a whole number of seconds; `None` if it needs no
    /// renewal.
    pub ttl: Option<Duration>,
    /// The ticket whose place it takes, and which is over from then on.
    pub replaces: Option<TicketId>,
}

impl TicketSpec {
    /// Every player, party by party.
    pub fn players(&self) -> impl Iterator<Item = &Player> {
        self.parties.iter().flat_map(|party| &party.players)
    }

    /// The number of players.
    #[must_use]
    pub fn size(&self) -> usize {
        self.parties.iter().map(|party| party.players.len()).sum()
    }

    /// The players' ids.
    #[must_use]
    pub fn player_ids(&self) -> Vec<PlayerId> {
        self.players().map(|player| player.id.clone()).collect()
    }

    /// The worst round trip of any player, for each region that all have measured, in milliseconds.
    #[must_use]
    pub fn worst_latencies(&self) -> BTreeMap<RegionId, u32> {
        let mut worst: Option<BTreeMap<RegionId, u32>> = None;
        for player in self.players() {
            let own = if player.latencies.is_empty() { &self.latencies } else { &player.latencies };
            worst = Some(match worst {
                None => own.clone(),
                Some(found) => {
                    let both = found.into_iter().filter_map(|(region, latency)| {
                        let other = own.get(&region)?;
                        Some((region, latency.max(*other)))
                    });
                    both.collect()
                }
            });
        }
        worst.unwrap_or_default()
    }
}

impl Size for Player {
    fn byte_size(&self) -> usize {
        let ratings = self.ratings.keys().map(|name| ENTRY_BYTES + name.byte_size()).sum::<usize>();
        self.id.byte_size()
            + ratings
            + latencies(&self.latencies)
            + self.blocked.byte_size()
            + self.properties.byte_size()
    }
}

impl Size for Party {
    fn byte_size(&self) -> usize {
        ENTRY_BYTES + self.id.as_deref().map_or(0, Size::byte_size) + self.players.byte_size()
    }
}

impl Size for TicketSpec {
    fn byte_size(&self) -> usize {
        ENTRY_BYTES
            + self.queue.byte_size()
            + self.parties.byte_size()
            + self.leader.byte_size()
            + self.properties.byte_size()
            + latencies(&self.latencies)
            + self.idempotency_key.byte_size()
            + self.replaces.byte_size()
    }
}

fn latencies(latencies: &BTreeMap<RegionId, u32>) -> usize {
    latencies.keys().map(|region| ENTRY_BYTES + region.byte_size()).sum()
}

/// A hook that was asked and has not answered yet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Check {
    /// The hook.
    pub hook: HookId,
    /// When its default is used instead of an answer.
    pub until: Timestamp,
}

impl Size for Check {
    fn byte_size(&self) -> usize {
        ENTRY_BYTES + self.hook.byte_size()
    }
}

/// One ticket.
#[derive(Clone, PartialEq, Debug)]
pub struct Ticket {
    /// The ticket's id.
    pub id: TicketId,
    /// The order.
    pub spec: Arc<TicketSpec>,
    /// The original order, if a hook has changed it since.
    pub asked: Option<Arc<TicketSpec>>,
    /// The queue that it is in; a hook may have chosen it.
    pub queue: QueueId,
    /// Its permanent place in the queue: the sequence number of the event that started it, or that started the first of
    /// the tickets that it replaces. The place of a replaced ticket is the sequence number of the event that ended it.
    pub place: u64,
    /// When it was started, or the first of those that it replaces.
    pub started_at: Timestamp,
    /// When its wait began to count: later than `started_at` by the time that it, or another ticket of its players,
    /// spent in matches that were dissolved.
    pub waits_since: Timestamp,
    /// When its client was last heard of; `None` if it has no `ttl`.
    pub renewed_at: Option<Timestamp>,
    /// Sequence number of the last event about it.
    pub changed_seq: u64,
    /// How often it returned because no server was found.
    pub requeues: u32,
    /// How often an external hook has moved it to another queue.
    pub moves: u32,
    /// The number of tickets that had its place before.
    pub replaced: u32,
    /// The last match that it returned from because no server was found.
    pub lost: Option<Arc<LostMatch>>,
    /// Its state.
    pub state: TicketState,
}

impl Size for Ticket {
    fn byte_size(&self) -> usize {
        let end = match &self.state {
            TicketState::Over { end: TicketEnd::Completed { connection, .. }, .. } => connection.byte_size(),
            TicketState::Over { end: TicketEnd::Failed { detail, hook, match_id, .. }, .. } => {
                detail.byte_size() + hook.byte_size() + match_id.byte_size()
            }
            _ => 0,
        };
        let own = if self.is_over() { OVER_BYTES } else { WAITING_BYTES };
        let names = self.id.byte_size() + self.queue.byte_size();
        own + names + self.spec.byte_size() + self.asked.byte_size() + self.lost.byte_size() + end
    }
}

/// The overhead of a ticket that is not over, in addition to its content: its numbers, the indexes, the pools. In
/// bytes.
const WAITING_BYTES: usize = 1_024;
/// The same for a ticket that is over, in bytes.
const OVER_BYTES: usize = 256;

/// The size of a new ticket, in bytes.
pub(crate) fn new_ticket_bytes(id: &TicketId, queue: &QueueId, spec: &TicketSpec) -> usize {
    WAITING_BYTES + id.byte_size() + queue.byte_size() + spec.byte_size()
}

/// What a ticket takes over from the one that it replaces.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct QueuePlace {
    /// The old ticket's place.
    pub number: u64,
    /// When the old ticket was started.
    pub started_at: Timestamp,
    /// When its wait began to count.
    pub waits_since: Timestamp,
    /// How often it returned because no server was found.
    pub requeues: u32,
    /// The number of tickets that had the place before.
    pub replaced: u32,
    /// The last match that it returned from because no server was found.
    pub lost: Option<Arc<LostMatch>>,
}

/// A match for which no server was found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LostMatch {
    /// The match.
    pub match_id: MatchId,
    /// Why, in the broker's words; may be empty. Up to `MAX_LOST_BYTES`.
    pub reason: Arc<str>,
}

impl Size for LostMatch {
    fn byte_size(&self) -> usize {
        ENTRY_BYTES + self.match_id.byte_size() + self.reason.byte_size()
    }
}

/// The state of a ticket.
#[derive(Clone, PartialEq, Debug)]
pub enum TicketState {
    /// A hook is checking it.
    Validating(Check),
    /// It waits for other tickets.
    Waiting,
    /// It is in a match that its players or a hook have yet to accept.
    Proposed {
        /// The match.
        match_id: MatchId,
        /// Since when.
        since: Timestamp,
    },
    /// It is in a match that waits for a server.
    FindingServer {
        /// The match.
        match_id: MatchId,
        /// Since when it is in the match.
        since: Timestamp,
    },
    /// It is about to get free seats of a running match.
    Seating {
        /// The match.
        match_id: MatchId,
        /// Since when.
        since: Timestamp,
    },
    /// On hold: one of its players is in a match by another ticket, and that match may still be dissolved.
    OnHold {
        /// Since when.
        since: Timestamp,
    },
    /// It is over.
    Over {
        /// Since when.
        at: Timestamp,
        /// How it ended.
        end: TicketEnd,
    },
}

/// How a ticket ended.
#[derive(Clone, PartialEq, Debug)]
pub enum TicketEnd {
    /// Its players can connect.
    Completed {
        /// To which match.
        match_id: MatchId,
        /// Where.
        connection: Arc<Connection>,
    },
    /// Something went wrong.
    Failed {
        /// The cause.
        cause: FailCause,
        /// In the words of the hook or the broker; may be empty.
        detail: Arc<str>,
        /// The hook whose answer made it fail; `None` if there was none.
        hook: Option<HookId>,
        /// The match that it was in; `None` if it was in none.
        match_id: Option<MatchId>,
    },
    /// It was cancelled.
    Cancelled(CancelCause),
    /// It reached its queue's maximum wait.
    TimedOut,
}

impl Ticket {
    /// The original order.
    #[must_use]
    pub fn asked_for(&self) -> &TicketSpec {
        self.asked.as_ref().unwrap_or(&self.spec)
    }

    /// Its status, as players see it.
    #[must_use]
    pub const fn status(&self) -> Status {
        match &self.state {
            TicketState::Validating(_)
            | TicketState::Waiting
            | TicketState::OnHold { .. }
            | TicketState::Proposed { .. } => Status::InProgress,
            TicketState::FindingServer { .. } | TicketState::Seating { .. } => Status::FindingServer,
            TicketState::Over { end, .. } => end.status(),
        }
    }

    /// Whether it is over.
    #[must_use]
    pub const fn is_over(&self) -> bool {
        matches!(self.state, TicketState::Over { .. })
    }

    /// Whether it is in a match that is being made or is running, and not over.
    #[must_use]
    pub const fn is_in_match(&self) -> bool {
        matches!(
            self.state,
            TicketState::Proposed { .. } | TicketState::FindingServer { .. } | TicketState::Seating { .. }
        )
    }

    /// The match that it is in.
    #[must_use]
    pub const fn match_id(&self) -> Option<&MatchId> {
        match &self.state {
            TicketState::Proposed { match_id, .. }
            | TicketState::FindingServer { match_id, .. }
            | TicketState::Seating { match_id, .. }
            | TicketState::Over { end: TicketEnd::Completed { match_id, .. }, .. } => Some(match_id),
            _ => None,
        }
    }
}

impl TicketEnd {
    /// The final status.
    #[must_use]
    pub const fn status(&self) -> Status {
        match self {
            Self::Completed { .. } => Status::Completed,
            Self::Failed { .. } => Status::Failed,
            Self::Cancelled(_) => Status::Cancelled,
            Self::TimedOut => Status::TimedOut,
        }
    }
}

/// A ticket's status, as players see it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Status {
    /// It waits for other tickets.
    InProgress,
    /// It is in a match, which waits for a server.
    FindingServer,
    /// Its players can connect.
    Completed,
    /// Something went wrong.
    Failed,
    /// It was cancelled.
    Cancelled,
    /// It reached its queue's maximum wait.
    TimedOut,
}

impl Status {
    /// Its external name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::InProgress => "IN_PROGRESS",
            Self::FindingServer => "FINDING_SERVER",
            Self::Completed => "COMPLETED",
            Self::Failed => "FAILED",
            Self::Cancelled => "CANCELLED",
            Self::TimedOut => "TIMED_OUT",
        }
    }

    /// Whether it is final.
    #[must_use]
    pub const fn is_last(self) -> bool {
        !matches!(self, Self::InProgress | Self::FindingServer)
    }
}

causes! {
    /// Why a ticket failed.
    FailCause {
        NoServer = "no_server", 1, "no server could be had for the match";
        Refused = "refused", 2, "a rule of the operator refused it";
        MatchFailed = "match_failed", 3, "the match ended before its players could connect";
    }
}

causes! {
    /// Who cancelled a ticket.
    CancelCause {
        Requested = "requested", 1, "it was cancelled on request";
        Declined = "declined", 2, "one of its players declined the match";
        NotAccepted = "not_accepted", 3, "one of its players did not accept the match in time";
        Abandoned = "abandoned", 4, "its client did not renew it in time";
        MatchedElsewhere = "matched_elsewhere", 5, "one of its players got a match in another queue";
        Replaced = "replaced", 6, "another ticket has taken its place";
    }
}

causes! {
    /// Why a match that was being made was dissolved.
    DissolveCause {
        Cancelled = "cancelled", 1, "one of its tickets was cancelled";
        NotAccepted = "not_accepted", 2, "not all of its players accepted it";
        Refused = "refused", 3, "a hook refused it";
        NoServer = "no_server", 4, "no server could be had for it";
        Ended = "ended", 5, "it ended before its players could connect";
    }
}

/// A ticket and its players, as events name them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Named {
    /// The ticket.
    pub ticket: TicketId,
    /// Its players.
    pub players: Vec<PlayerId>,
}

impl Size for Named {
    fn byte_size(&self) -> usize {
        ENTRY_BYTES + self.ticket.byte_size() + self.players.byte_size()
    }
}

/// The order that is submitted to the broker for a match of tickets: marked, so that readers of the broker's events can
/// tell it from a match that was submitted by others. Its idempotency key is its own id, which nobody knows in advance.
#[must_use]
pub fn marked(id: &MatchId, mut spec: MatchSpec) -> MatchSpec {
    spec.idempotency_key = IdempotencyKey::new(id.as_str()).ok();
    spec
}

/// Whether a match of the broker was formed from tickets.
#[must_use]
pub fn is_marked(id: &MatchId, spec: &MatchSpec) -> bool {
    spec.idempotency_key.as_ref().is_some_and(|key| key.as_str() == id.as_str())
}

/// A match that is being made: from the choice of its tickets until its players can connect.
#[derive(Clone, PartialEq, Debug)]
pub struct Formation {
    /// The match's id, here and at the broker.
    pub id: MatchId,
    /// The queue.
    pub queue: QueueId,
    /// Tickets, by team.
    pub teams: Arc<[Vec<Named>]>,
    /// The region.
    pub region: Option<RegionId>,
    /// The order for the broker.
    pub spec: Arc<MatchSpec>,
    /// Its state.
    pub stage: Stage,
}

impl Formation {
    /// All tickets, team by team.
    pub fn tickets(&self) -> impl Iterator<Item = &Named> {
        self.teams.iter().flatten()
    }

    /// The team of a player, from 0.
    #[must_use]
    pub fn team_of(&self, player: &PlayerId) -> Option<usize> {
        self.teams.iter().position(|team| team.iter().any(|named| named.players.contains(player)))
    }
}

impl Size for Formation {
    fn byte_size(&self) -> usize {
        let teams = self.teams.iter().map(|team| ENTRY_BYTES + team.byte_size()).sum::<usize>();
        // Counted twice, because the accepting players are recorded too.
        2 * ENTRY_BYTES + self.id.byte_size() + self.queue.byte_size() + 2 * teams + self.spec.byte_size()
    }
}

/// The state of a match that is being made.
#[derive(Clone, PartialEq, Debug)]
pub enum Stage {
    /// Its players have to accept it.
    Accepting {
        /// By when.
        until: Timestamp,
        /// Who has accepted.
        accepted: BTreeSet<PlayerId>,
    },
    /// A hook is checking it.
    Checking(Check),
    /// It waits for a server.
    FindingServer {
        /// Whether the broker has confirmed that it has the match.
        submitted: bool,
    },
}

/// Free seats of a running match.
#[derive(Clone, PartialEq, Debug)]
pub struct SeatOffer {
    /// The match.
    pub match_id: MatchId,
    /// The queue whose tickets may take them.
    pub queue: QueueId,
    /// The number of free seats.
    pub seats: u32,
    /// The region; `None` matches every ticket.
    pub region: Option<RegionId>,
    /// What rules look at, as in a ticket.
    pub properties: Properties,
    /// Its ratings by name, as in a ticket's players; a missing one matches every ticket.
    pub ratings: BTreeMap<Box<str>, f64>,
    /// Who plays in it.
    pub players: Vec<PlayerId>,
}

impl Size for SeatOffer {
    fn byte_size(&self) -> usize {
        let ratings = self.ratings.keys().map(|name| ENTRY_BYTES + name.byte_size()).sum::<usize>();
        ENTRY_BYTES
            + self.match_id.byte_size()
            + self.queue.byte_size()
            + self.region.byte_size()
            + self.properties.byte_size()
            + ratings
            + self.players.byte_size()
    }
}

/// An offer of free seats and its use so far.
#[derive(Clone, PartialEq, Debug)]
pub struct Offered {
    /// The offer.
    pub offer: Arc<SeatOffer>,
    /// Sequence number of the event that created it.
    pub place: u64,
    /// Tickets that are about to get some of them, with the number of seats and the deadline.
    pub seating: BTreeMap<TicketId, (u32, Timestamp)>,
    /// Seats that are not assigned to any ticket.
    pub free: u32,
}

impl Size for Offered {
    fn byte_size(&self) -> usize {
        let seating = self.seating.keys().map(|ticket| 2 * ENTRY_BYTES + ticket.byte_size()).sum::<usize>();
        ENTRY_BYTES + self.offer.byte_size() + seating
    }
}

/// A round of a queue whose matches a hook forms.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Round {
    /// Sequential number.
    pub number: u64,
    /// Tickets behind this place are included.
    pub after: u64,
    /// The hook that was asked; `None` between rounds.
    pub check: Option<Check>,
}
