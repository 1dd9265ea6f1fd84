//! The things the matchmaker knows: tickets, matches that are being made, offers of free seats.
//!
//! Plain data, all of it durable: it is what a snapshot holds. What a queue demands is in [`settings`](super::settings).

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

/// Most bytes of one ticket, with all that it holds, as [`Size`] counts them.
pub const MAX_TICKET_BYTES: usize = 4 << 20;
/// Most players of one ticket.
pub const MAX_TICKET_PLAYERS: usize = 100;
/// Most regions that latencies of one player or ticket name.
pub const MAX_REGIONS: usize = 32;
/// Most ratings of one player.
pub const MAX_RATINGS: usize = 16;
/// Most players that one player blocks.
pub const MAX_BLOCKED: usize = 200;
/// Longest round trip, in milliseconds.
pub const MAX_LATENCY: u32 = u32::MAX;
/// Largest rating, of either sign.
pub const MAX_RATING: f64 = 1e12;

/// A measured round trip in whole milliseconds, rounded up so that rounding never brings it below a limit. `None` for
/// what is not a number from 0 to [`MAX_LATENCY`].
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
    /// Who.
    pub id: PlayerId,
    /// Numbers that rules compare, by name.
    pub ratings: BTreeMap<Box<str>, f64>,
    /// Round trip to regions, in milliseconds.
    pub latencies: BTreeMap<RegionId, u32>,
    /// Players whom this one will not play with.
    pub blocked: Vec<PlayerId>,
    /// Passed on into the match.
    pub properties: Properties,
}

impl Player {
    /// A player of whom nothing but the id is known.
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

/// Players who came together.
#[derive(Clone, PartialEq, Debug)]
pub struct Party {
    /// Its id, where it has one.
    pub id: Option<Box<str>>,
    /// Its players.
    pub players: Vec<Player>,
}

/// What somebody asks for who wants to play. All its players land on one team.
#[derive(Clone, PartialEq, Debug)]
pub struct TicketSpec {
    /// The queue asked for.
    pub queue: QueueId,
    /// The players, by party.
    pub parties: Vec<Party>,
    /// Who speaks for all, where anybody does.
    pub leader: Option<PlayerId>,
    /// What rules and servers look at.
    pub properties: Properties,
    /// Round trip to regions of players who name none themselves, in milliseconds.
    pub latencies: BTreeMap<RegionId, u32>,
    /// The order given twice under one key is one ticket.
    pub idempotency_key: Option<IdempotencyKey>,
    /// Called off when nobody has renewed it for so long, a whole number of seconds; `None` if nobody has to.
    pub ttl: Option<Duration>,
    /// The ticket whose place it takes, which is over from then on.
    pub replaces: Option<TicketId>,
}

impl TicketSpec {
    /// Every player, party by party.
    pub fn players(&self) -> impl Iterator<Item = &Player> {
        self.parties.iter().flat_map(|party| &party.players)
    }

    /// How many players.
    #[must_use]
    pub fn size(&self) -> usize {
        self.parties.iter().map(|party| party.players.len()).sum()
    }

    /// Their ids.
    #[must_use]
    pub fn player_ids(&self) -> Vec<PlayerId> {
        self.players().map(|player| player.id.clone()).collect()
    }

    /// The worst round trip of any player to each region that all have measured, in milliseconds.
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

/// A hook that was asked and has not answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Check {
    /// Which.
    pub hook: HookId,
    /// When its default takes its place.
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
    /// Its id.
    pub id: TicketId,
    /// What is asked for.
    pub spec: Arc<TicketSpec>,
    /// What was asked for at first, where a hook has changed it since.
    pub asked: Option<Arc<TicketSpec>>,
    /// The queue that it is in, which a hook may have chosen.
    pub queue: QueueId,
    /// Its place in the queue, for good: sequence number of the event that began it, or that began the first of those which
    /// it replaces. The place of one that was replaced is the sequence number of the event that ended it.
    pub place: u64,
    /// When it came, or the first of those that it replaces.
    pub started_at: Timestamp,
    /// From when its wait counts: later than `started_at` by the time that it, or another ticket of its players, spent in
    /// matches which came to nothing.
    pub waits_since: Timestamp,
    /// When its client was heard of last; `None` if it has no `ttl`.
    pub renewed_at: Option<Timestamp>,
    /// Sequence number of the last event about it.
    pub changed_seq: u64,
    /// How often it came back because no server could be had.
    pub requeues: u32,
    /// How often a hook outside has moved it to another queue.
    pub moves: u32,
    /// How many tickets had its place before.
    pub replaced: u32,
    /// The last match that it came back from because no server could be had.
    pub lost: Option<Arc<LostMatch>>,
    /// Where it stands.
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

/// What a ticket takes that is not over, beside what it holds: its numbers, the indexes, the pools. In bytes.
const WAITING_BYTES: usize = 1_024;
/// What one takes that is over. In bytes.
const OVER_BYTES: usize = 256;

/// The bytes that a new ticket takes.
pub(crate) fn new_ticket_bytes(id: &TicketId, queue: &QueueId, spec: &TicketSpec) -> usize {
    WAITING_BYTES + id.byte_size() + queue.byte_size() + spec.byte_size()
}

/// What a ticket takes over from the one that it replaces.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct QueuePlace {
    /// Its place.
    pub number: u64,
    /// When it came.
    pub started_at: Timestamp,
    /// From when its wait counts.
    pub waits_since: Timestamp,
    /// How often it came back because no server could be had.
    pub requeues: u32,
    /// How many tickets had the place before.
    pub replaced: u32,
    /// The last match that it came back from, because no server could be had.
    pub lost: Option<Arc<LostMatch>>,
}

/// A match for which no server could be had.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LostMatch {
    /// Which.
    pub match_id: MatchId,
    /// Why, in the words of the broker; may be empty. Up to `MAX_LOST_BYTES`.
    pub reason: Arc<str>,
}

impl Size for LostMatch {
    fn byte_size(&self) -> usize {
        ENTRY_BYTES + self.match_id.byte_size() + self.reason.byte_size()
    }
}

/// Where a ticket stands.
#[derive(Clone, PartialEq, Debug)]
pub enum TicketState {
    /// A hook looks at it.
    Validating(Check),
    /// It waits for others.
    Waiting,
    /// It is in a match that its players or a hook have yet to agree to.
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
        /// Since when it is in it.
        since: Timestamp,
    },
    /// It is to get free seats of a running match.
    Seating {
        /// The match.
        match_id: MatchId,
        /// Since when.
        since: Timestamp,
    },
    /// One of its players is in a match by another ticket, which may still come to nothing.
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
        /// What.
        cause: FailCause,
        /// In the words of the hook or the broker; may be empty.
        detail: Arc<str>,
        /// The hook by whose answer; `None` if it was none.
        hook: Option<HookId>,
        /// The match that it was in; `None` if it was in none.
        match_id: Option<MatchId>,
    },
    /// It was called off.
    Cancelled(CancelCause),
    /// It waited as long as its queue lets it.
    TimedOut,
}

impl Ticket {
    /// What was asked for at first.
    #[must_use]
    pub fn asked_for(&self) -> &TicketSpec {
        self.asked.as_ref().unwrap_or(&self.spec)
    }

    /// Its status, as players hear it.
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

    /// Whether it is in a match that is being made or runs, and not over.
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
    /// The status that it leads to.
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

/// A ticket's status, as players hear it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Status {
    /// It waits for others.
    InProgress,
    /// It is in a match, which waits for a server.
    FindingServer,
    /// Its players can connect.
    Completed,
    /// Something went wrong.
    Failed,
    /// It was called off.
    Cancelled,
    /// It waited as long as its queue lets it.
    TimedOut,
}

impl Status {
    /// Its name, as it leaves the system.
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

    /// Whether nothing follows it.
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
    /// Who called a ticket off.
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
    /// Why a match that was being made came to nothing.
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

/// What is asked of the broker for a match of tickets: marked, so that whoever knows the broker's side only can tell it
/// from a match that somebody else submitted. Its idempotency key is its own id, which nobody knows before.
#[must_use]
pub fn marked(id: &MatchId, mut spec: MatchSpec) -> MatchSpec {
    spec.idempotency_key = IdempotencyKey::new(id.as_str()).ok();
    spec
}

/// Whether a match of the broker is one of tickets.
#[must_use]
pub fn is_marked(id: &MatchId, spec: &MatchSpec) -> bool {
    spec.idempotency_key.as_ref().is_some_and(|key| key.as_str() == id.as_str())
}

/// A match that is being made: from its tickets being chosen until its players can connect.
#[derive(Clone, PartialEq, Debug)]
pub struct Formation {
    /// The match's id, here and at the broker.
    pub id: MatchId,
    /// The queue.
    pub queue: QueueId,
    /// Tickets, by team.
    pub teams: Arc<[Vec<Named>]>,
    /// Where it is to be played.
    pub region: Option<RegionId>,
    /// What is asked of the broker.
    pub spec: Arc<MatchSpec>,
    /// Where it stands.
    pub stage: Stage,
}

impl Formation {
    /// Every ticket, team by team.
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
        // Twice, because those who accept are noted.
        2 * ENTRY_BYTES + self.id.byte_size() + self.queue.byte_size() + 2 * teams + self.spec.byte_size()
    }
}

/// Where a match that is being made stands.
#[derive(Clone, PartialEq, Debug)]
pub enum Stage {
    /// Its players have to agree.
    Accepting {
        /// By when.
        until: Timestamp,
        /// Who has agreed.
        accepted: BTreeSet<PlayerId>,
    },
    /// A hook looks at it.
    Checking(Check),
    /// It waits for a server.
    FindingServer {
        /// Whether whoever finds servers has taken it.
        submitted: bool,
    },
}

/// Free seats of a running match.
#[derive(Clone, PartialEq, Debug)]
pub struct SeatOffer {
    /// The match.
    pub match_id: MatchId,
    /// Whose tickets may take them.
    pub queue: QueueId,
    /// How many.
    pub seats: u32,
    /// Where it is played; `None` suits everybody.
    pub region: Option<RegionId>,
    /// What rules look at, as in a ticket.
    pub properties: Properties,
    /// Its rating by name, as in a ticket's players; one that is missing suits everybody.
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

/// An offer of free seats and what has become of them.
#[derive(Clone, PartialEq, Debug)]
pub struct Offered {
    /// The offer.
    pub offer: Arc<SeatOffer>,
    /// Sequence number of the event that brought it.
    pub place: u64,
    /// Tickets that are to get some of them, with how many they need and until when they are waited for.
    pub seating: BTreeMap<TicketId, (u32, Timestamp)>,
    /// Seats that nobody is to get.
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
    /// Counts up.
    pub number: u64,
    /// Tickets behind this place are looked at.
    pub after: u64,
    /// The hook that was asked; `None` between rounds.
    pub check: Option<Check>,
}
