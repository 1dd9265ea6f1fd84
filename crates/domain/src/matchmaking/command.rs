//! What the matchmaker is asked, what it answers, and how it refuses.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use super::model::{Formation, SeatOffer, Ticket, TicketSpec};
use super::settings::Settings;
use crate::connection::Connection;
use crate::ids::{HookId, MatchId, PlayerId, QueueId, RegionId, TicketId};
use crate::properties::Properties;
use crate::refusal::RefusalKind;

/// What is asked of the matchmaker.
#[derive(Clone, PartialEq, Debug)]
pub enum Command {
    /// The configuration as the operator wrote it. Taken over where it differs from what the operator wrote before; so
    /// that settings changed at run time outlive a restart, but not an edited file. Tickets of a queue that is gone
    /// stay in it; it takes no new ones.
    Configure {
        /// All of it.
        settings: Settings,
    },
    /// Changes settings while running.
    Reconfigure {
        /// All of them, as they are to be from now on.
        settings: Settings,
    },
    /// A player or a party wants to play.
    Start {
        /// The ticket's id where the sender chose one.
        id: Option<TicketId>,
        /// What is asked for.
        spec: TicketSpec,
    },
    /// They do not want to any more. A match that it is in comes to nothing unless its players can connect already.
    Cancel {
        /// Which ticket.
        id: TicketId,
    },
    /// Their client is still there: a ticket with a `ttl` lives so long from now on.
    Renew {
        /// Which ticket.
        id: TicketId,
    },
    /// A player agrees to a match.
    Accept {
        /// Which match.
        match_id: MatchId,
        /// Who.
        player: PlayerId,
    },
    /// A player does not.
    Decline {
        /// Which match.
        match_id: MatchId,
        /// Who.
        player: PlayerId,
    },
    /// The outcome of [`Effect::ValidateTicket`](super::Effect::ValidateTicket).
    TicketValidated {
        /// Which ticket.
        ticket: TicketId,
        /// Which hook.
        hook: HookId,
        /// What it said.
        outcome: TicketVerdict,
    },
    /// The outcome of [`Effect::FormMatches`](super::Effect::FormMatches).
    MatchesFormed {
        /// Which queue.
        queue: QueueId,
        /// Which round.
        round: u64,
        /// The matches, or what is wrong with one; `None` where the hook failed.
        matches: Option<Vec<Result<FormedMatch, String>>>,
    },
    /// The outcome of [`Effect::CheckMatch`](super::Effect::CheckMatch).
    MatchChecked {
        /// Which match.
        match_id: MatchId,
        /// Which hook.
        hook: HookId,
        /// What it said.
        outcome: MatchVerdict,
    },
    /// The outcome of [`Effect::Submit`](super::Effect::Submit): whoever finds servers has the match.
    Submitted {
        /// Which match.
        match_id: MatchId,
    },
    /// The outcome of [`Effect::Withdraw`](super::Effect::Withdraw): nobody looks for a server any more.
    Withdrawn {
        /// Which match.
        match_id: MatchId,
    },
    /// No server could be had for a match.
    NoServer {
        /// Which match.
        match_id: MatchId,
        /// Why, in words.
        reason: String,
    },
    /// The players of a match can connect.
    MatchReady {
        /// Which match.
        match_id: MatchId,
        /// Where.
        connection: Connection,
    },
    /// A match is over.
    MatchEnded {
        /// Which match.
        match_id: MatchId,
        /// Why, in words.
        reason: String,
    },
    /// A running match has free seats. Takes the place of what was offered of that match before.
    OfferSeats {
        /// Them.
        offer: SeatOffer,
    },
    /// A running match takes nobody any more.
    WithdrawSeats {
        /// Which match.
        match_id: MatchId,
    },
    /// The outcome of [`Effect::Seat`](super::Effect::Seat): the ticket's players can connect.
    Seated {
        /// Which ticket.
        ticket: TicketId,
        /// To which match.
        match_id: MatchId,
        /// Where.
        connection: Connection,
    },
    /// The other outcome of [`Effect::Seat`](super::Effect::Seat): the ticket goes back to its place, and the match's
    /// offer ends, since it was not true.
    NotSeated {
        /// Which ticket.
        ticket: TicketId,
        /// Which match.
        match_id: MatchId,
    },
}

/// What a hook says of a ticket.
#[derive(Clone, PartialEq, Debug)]
pub enum TicketVerdict {
    /// It may wait.
    Accept {
        /// In which queue; `None` for that which it is in.
        queue: Option<QueueId>,
        /// Its properties from now on; `None` leaves them.
        properties: Option<Properties>,
        /// All ratings of the players that are named, from now on; the others keep theirs.
        ratings: BTreeMap<PlayerId, BTreeMap<Box<str>, f64>>,
    },
    /// It may not.
    Refuse {
        /// Why, in words for the player.
        reason: String,
    },
    /// The hook failed: its default counts.
    Failed,
}

impl TicketVerdict {
    /// It may wait as it is.
    pub const ACCEPT: Self = Self::Accept { queue: None, properties: None, ratings: BTreeMap::new() };
}

/// What a hook says of a match.
#[derive(Clone, PartialEq, Debug)]
pub enum MatchVerdict {
    /// It may be played.
    Accept {
        /// Its properties from now on; `None` leaves them.
        properties: Option<Properties>,
        /// The properties of these players from now on.
        player_properties: BTreeMap<PlayerId, Properties>,
    },
    /// It may not: its tickets fail.
    Refuse {
        /// Why, in words for the players.
        reason: String,
    },
    /// The hook failed: its default counts.
    Failed,
}

/// A match that a hook has formed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FormedMatch {
    /// Tickets, by team.
    pub teams: Vec<Vec<TicketId>>,
    /// Where it is to be played; `None` where that does not matter.
    pub region: Option<RegionId>,
}

/// The good answers.
#[derive(Clone, PartialEq, Debug)]
pub enum Reply {
    /// Done, or nothing to do.
    Done,
    /// To `Start`: the ticket, or that which was begun under its key before.
    Started {
        /// Its id.
        ticket: TicketId,
    },
    /// To `Cancel`, `Renew`: the ticket as it is now.
    Ticket(Ticket),
    /// To `Accept`, `Decline`: the match as it is now; `None` if it came to nothing.
    Formation(Option<Formation>),
    /// To `MatchesFormed`.
    Formed {
        /// How many matches were taken.
        taken: usize,
        /// Why others were not: their numbers from 0, and what is wrong with each.
        ignored: Vec<(usize, String)>,
        /// How many of them the next ticks look at, because they are more than one step may take.
        left: usize,
    },
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
    /// No queue of that name takes tickets.
    QueueNotFound {
        /// The name.
        queue: QueueId,
        /// The queue that is most likely meant.
        meant: Option<QueueId>,
    },
    /// No ticket of that id is known.
    TicketNotFound(TicketId),
    /// No match of that id is being made.
    MatchNotFound(MatchId),
    /// A ticket of that id exists and is another one.
    TicketExists(TicketId),
    /// The idempotency key was used for another ticket.
    KeyReused(TicketId),
    /// The player is in a ticket that is not over: in this queue, or in as many queues as a player may wait in.
    PlayerWaits {
        /// Who.
        player: PlayerId,
        /// In which ticket.
        ticket: TicketId,
    },
    /// The ticket cannot be replaced (any more): it does not wait.
    NotWaiting {
        /// Which.
        ticket: TicketId,
        /// Where it stands, in words.
        standing: &'static str,
    },
    /// The ticket is over.
    TicketOver {
        /// Which.
        ticket: TicketId,
        /// Its status.
        status: &'static str,
    },
    /// The match's players are not asked to accept (any more).
    NothingToAccept(MatchId),
    /// The ticket waits for no seats of that match (any more): they are for others.
    SeatsNotWanted {
        /// The ticket.
        ticket: TicketId,
        /// The match.
        match_id: MatchId,
    },
    /// The player is not in the match.
    NotInMatch(PlayerId),
    /// A rule of the queue lets no such ticket wait.
    RuleRefuses {
        /// The queue.
        queue: QueueId,
        /// The rule.
        rule: String,
    },
    /// A hook that is built in refuses the ticket.
    Refused(String),
    /// It is larger than there is ever room for; the text says how many bytes are allowed.
    TooLarge(String),
    /// A limit is reached.
    TooMany {
        /// Of what.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
}

impl Refusal {
    /// Every stable code, for the test that keeps them documented.
    pub const CODES: &'static [&'static str] = &[
        "invalid_field",
        "queue_not_found",
        "ticket_not_found",
        "match_not_found",
        "ticket_exists",
        "idempotency_key_reused",
        "player_waits",
        "ticket_not_waiting",
        "ticket_over",
        "nothing_to_accept",
        "seats_not_wanted",
        "not_in_match",
        "rule_refuses",
        "ticket_refused",
        "too_large",
        "too_many",
    ];

    /// The stable code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::InvalidField { .. } => "invalid_field",
            Self::QueueNotFound { .. } => "queue_not_found",
            Self::TicketNotFound(_) => "ticket_not_found",
            Self::MatchNotFound(_) => "match_not_found",
            Self::TicketExists(_) => "ticket_exists",
            Self::KeyReused(_) => "idempotency_key_reused",
            Self::PlayerWaits { .. } => "player_waits",
            Self::NotWaiting { .. } => "ticket_not_waiting",
            Self::TicketOver { .. } => "ticket_over",
            Self::NothingToAccept(_) => "nothing_to_accept",
            Self::SeatsNotWanted { .. } => "seats_not_wanted",
            Self::NotInMatch(_) => "not_in_match",
            Self::RuleRefuses { .. } => "rule_refuses",
            Self::Refused(_) => "ticket_refused",
            Self::TooLarge(_) => "too_large",
            Self::TooMany { .. } => "too_many",
        }
    }

    /// What kind of refusal it is.
    #[must_use]
    pub const fn kind(&self) -> RefusalKind {
        match self {
            Self::InvalidField { .. } | Self::RuleRefuses { .. } | Self::Refused(_) => RefusalKind::Invalid,
            Self::QueueNotFound { .. } | Self::TicketNotFound(_) | Self::MatchNotFound(_) => {
                RefusalKind::NotFound
            }
            Self::TicketExists(_) | Self::KeyReused(_) => RefusalKind::Exists,
            Self::PlayerWaits { .. }
            | Self::NotWaiting { .. }
            | Self::NothingToAccept(_)
            | Self::SeatsNotWanted { .. }
            | Self::NotInMatch(_) => RefusalKind::Conflict,
            Self::TicketOver { .. } => RefusalKind::Gone,
            Self::TooLarge(_) => RefusalKind::TooLarge,
            Self::TooMany { .. } => RefusalKind::Exhausted,
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
            Self::QueueNotFound { queue, meant: None } => write!(f, "no queue {queue} is configured"),
            Self::QueueNotFound { queue, meant: Some(meant) } => {
                write!(f, "no queue {queue} is configured; did you mean {meant}?")
            }
            Self::TicketNotFound(id) => write!(f, "no ticket {id} is known"),
            Self::MatchNotFound(id) => write!(f, "no match {id} is being made"),
            Self::TicketExists(id) => {
                write!(f, "another ticket {id} exists; leave its id out to get a new one")
            }
            Self::KeyReused(id) => {
                write!(f, "idempotency_key: used before for ticket {id}, which is a different one")
            }
            Self::PlayerWaits { player, ticket } => {
                write!(f, "player {player} is in ticket {ticket}, which is not over; cancel that one first")
            }
            Self::NotWaiting { ticket, standing } => {
                write!(f, "ticket {ticket} {standing}, so no other ticket can take its place")
            }
            Self::TicketOver { ticket, status } => write!(f, "ticket {ticket} is over: it is {status}"),
            Self::NothingToAccept(id) => {
                write!(f, "match {id} is not waiting for its players to accept it (any more)")
            }
            Self::SeatsNotWanted { ticket, match_id } => {
                write!(f, "ticket {ticket} waits for no seats of match {match_id} any more; give them back")
            }
            Self::NotInMatch(player) => write!(f, "player {player} is not in this match"),
            Self::RuleRefuses { queue, rule } => {
                write!(f, "rule `{rule}` of queue {queue} lets no such ticket wait")
            }
            Self::Refused(problem) | Self::TooLarge(problem) => write!(f, "{problem}"),
            Self::TooMany { what, limit } => write!(f, "too many {what}: at most {limit} are allowed"),
        }
    }
}

impl core::error::Error for Refusal {}
