//! Commands to the matchmaker, its answers, and its refusals.

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

/// A command to the matchmaker.
#[derive(Clone, PartialEq, Debug)]
pub enum Command {
    /// The configuration as the operator wrote it. Applied if it differs from what the operator wrote before, so that
    /// settings changed at run time outlive a restart, but not an edited file. Tickets of a removed queue stay in it;
    /// it takes no new ones.
    Configure {
        /// The whole configuration.
        settings: Settings,
    },
    /// Changes settings while running.
    Reconfigure {
        /// All settings that are to be in force from now on.
        settings: Settings,
    },
    /// A player or a party wants to play.
    Start {
        /// The ticket's id, if the sender chose one.
        id: Option<TicketId>,
        /// The order.
        spec: TicketSpec,
    },
    /// They no longer want to play. A match that the ticket is in is dissolved unless its players can connect already.
    Cancel {
        /// The ticket.
        id: TicketId,
    },
    /// The client is still there: a ticket's `ttl` starts again.
    Renew {
        /// The ticket.
        id: TicketId,
    },
    /// A player accepts a match.
    Accept {
        /// The match.
        match_id: MatchId,
        /// The player.
        player: PlayerId,
    },
    /// A player declines a match.
    Decline {
        /// The match.
        match_id: MatchId,
        /// The player.
        player: PlayerId,
    },
    /// The outcome of [`Effect::ValidateTicket`](super::Effect::ValidateTicket).
    TicketValidated {
        /// The ticket.
        ticket: TicketId,
        /// The hook.
        hook: HookId,
        /// Its verdict.
        outcome: TicketVerdict,
    },
    /// The outcome of [`Effect::FormMatches`](super::Effect::FormMatches).
    MatchesFormed {
        /// The queue.
        queue: QueueId,
        /// The round.
        round: u64,
        /// The matches, each possibly invalid; `None` if the hook failed.
        matches: Option<Vec<Result<FormedMatch, String>>>,
    },
    /// The outcome of [`Effect::CheckMatch`](super::Effect::CheckMatch).
    MatchChecked {
        /// The match.
        match_id: MatchId,
        /// The hook.
        hook: HookId,
        /// Its verdict.
        outcome: MatchVerdict,
    },
    /// The outcome of [`Effect::Submit`](super::Effect::Submit): the broker has the match.
    Submitted {
        /// The match.
        match_id: MatchId,
    },
    /// The outcome of [`Effect::Withdraw`](super::Effect::Withdraw): the broker no longer looks for a server.
    Withdrawn {
        /// The match.
        match_id: MatchId,
    },
    /// No server was found for a match.
    NoServer {
        /// The match.
        match_id: MatchId,
        /// Why, as text.
        reason: String,
    },
    /// The players of a match can connect.
    MatchReady {
        /// The match.
        match_id: MatchId,
        /// The connection details.
        connection: Connection,
    },
    /// A match is over.
    MatchEnded {
        /// The match.
        match_id: MatchId,
        /// Why, as text.
        reason: String,
    },
    /// A running match has free seats. Replaces an earlier offer of the same match.
    OfferSeats {
        /// The offer.
        offer: SeatOffer,
    },
    /// A running match takes no more players.
    WithdrawSeats {
        /// The match.
        match_id: MatchId,
    },
    /// The outcome of [`Effect::Seat`](super::Effect::Seat): the ticket's players can connect.
    Seated {
        /// The ticket.
        ticket: TicketId,
        /// The match.
        match_id: MatchId,
        /// The connection details.
        connection: Connection,
    },
    /// The other outcome of [`Effect::Seat`](super::Effect::Seat): the ticket returns to its place, and the match's
    /// offer ends, since it was wrong.
    NotSeated {
        /// The ticket.
        ticket: TicketId,
        /// The match.
        match_id: MatchId,
    },
}

/// A hook's verdict on a ticket.
#[derive(Clone, PartialEq, Debug)]
pub enum TicketVerdict {
    /// It may wait.
    Accept {
        /// The queue; `None` for the current one.
        queue: Option<QueueId>,
        /// Its new properties; `None` leaves them unchanged.
        properties: Option<Properties>,
        /// The complete new ratings of the named players; the others keep theirs.
        ratings: BTreeMap<PlayerId, BTreeMap<Box<str>, f64>>,
    },
    /// It is refused.
    Refuse {
        /// Why, as text for the player.
        reason: String,
    },
    /// The hook failed: its default is used.
    Failed,
}

impl TicketVerdict {
    /// It may wait unchanged.
    pub const ACCEPT: Self = Self::Accept { queue: None, properties: None, ratings: BTreeMap::new() };
}

/// A hook's verdict on a match.
#[derive(Clone, PartialEq, Debug)]
pub enum MatchVerdict {
    /// It may be played.
    Accept {
        /// Its new properties; `None` leaves them unchanged.
        properties: Option<Properties>,
        /// The new properties of these players.
        player_properties: BTreeMap<PlayerId, Properties>,
    },
    /// It is refused: its tickets fail.
    Refuse {
        /// Why, as text for the players.
        reason: String,
    },
    /// The hook failed: its default is used.
    Failed,
}

/// A match that a hook has formed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FormedMatch {
    /// Tickets, by team.
    pub teams: Vec<Vec<TicketId>>,
    /// The region; `None` if it does not matter.
    pub region: Option<RegionId>,
}

/// A successful answer.
#[derive(Clone, PartialEq, Debug)]
pub enum Reply {
    /// Done, or nothing to do.
    Done,
    /// To `Start`: the new ticket, or the one that was started under its key before.
    Started {
        /// Its id.
        ticket: TicketId,
    },
    /// To `Cancel`, `Renew`: the ticket as it is now.
    Ticket(Ticket),
    /// To `Accept`, `Decline`: the match as it is now; `None` if it was dissolved.
    Formation(Option<Formation>),
    /// To `MatchesFormed`.
    Formed {
        /// The number of matches taken.
        taken: usize,
        /// Why others were not taken: their numbers from 0, and what is wrong with each.
        ignored: Vec<(usize, String)>,
        /// The number of matches left for the next ticks, because they are more than one step may take.
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
        /// What would be valid.
        problem: String,
    },
    /// No queue of that name takes tickets.
    QueueNotFound {
        /// The name.
        queue: QueueId,
        /// The queue that was most likely meant.
        meant: Option<QueueId>,
    },
    /// No ticket of that id is known.
    TicketNotFound(TicketId),
    /// No match of that id is being made.
    MatchNotFound(MatchId),
    /// A different ticket with that id exists.
    TicketExists(TicketId),
    /// The idempotency key was used for a different ticket.
    KeyReused(TicketId),
    /// The player is in tickets that are not over: in one of this queue, or in as many queues as a player may wait in.
    PlayerWaits {
        /// The player.
        player: PlayerId,
        /// The ticket.
        ticket: TicketId,
    },
    /// The ticket cannot be replaced (any more), because it does not wait.
    NotWaiting {
        /// The ticket.
        ticket: TicketId,
        /// Its state, as text.
        standing: &'static str,
    },
    /// The ticket is over.
    TicketOver {
        /// The ticket.
        ticket: TicketId,
        /// Its status.
        status: &'static str,
    },
    /// The match's players are not asked to accept (any more).
    NothingToAccept(MatchId),
    /// The ticket does not wait for seats of that match (any more): the seats are for others.
    SeatsNotWanted {
        /// The ticket.
        ticket: TicketId,
        /// The match.
        match_id: MatchId,
    },
    /// The player is not in the match.
    NotInMatch(PlayerId),
    /// A rule of the queue does not let the ticket wait.
    RuleRefuses {
        /// The queue.
        queue: QueueId,
        /// The rule.
        rule: String,
    },
    /// A built-in hook refuses the ticket.
    Refused(String),
    /// It is larger than the total budget; the text says how many bytes are allowed.
    TooLarge(String),
    /// A limit is reached.
    TooMany {
        /// What is limited.
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
                write!(f, "match {id} is not (or no longer) waiting for its players to accept it")
            }
            Self::SeatsNotWanted { ticket, match_id } => {
                write!(f, "ticket {ticket} no longer waits for seats of match {match_id}; release them")
            }
            Self::NotInMatch(player) => write!(f, "player {player} is not in this match"),
            Self::RuleRefuses { queue, rule } => {
                write!(f, "rule `{rule}` of queue {queue} does not accept this ticket")
            }
            Self::Refused(problem) | Self::TooLarge(problem) => write!(f, "{problem}"),
            Self::TooMany { what, limit } => write!(f, "too many {what}: at most {limit} are allowed"),
        }
    }
}

impl core::error::Error for Refusal {}
