//! What the matchmaker decides: events, the only thing that changes its durable state, and the effects that follow.

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::model::{
    CancelCause, Check, DissolveCause, FailCause, Named, QueuePlace, SeatOffer, Status, TicketSpec,
};
use super::settings::Settings;
use super::words::FINDING_SERVER;
use crate::connection::Connection;
use crate::ids::{HookId, MatchId, PlayerId, QueueId, RegionId, TicketId};
use crate::match_spec::MatchSpec;
use crate::size::{ENTRY_BYTES, Size};
use crate::time::Timestamp;

/// A decision.
#[derive(Clone, PartialEq, Debug)]
pub enum Event {
    /// The operator's configuration is in force.
    Configured {
        /// The whole configuration.
        settings: Arc<Settings>,
    },
    /// Settings were changed at run time.
    Reconfigured {
        /// All settings that are in force from now on.
        settings: Arc<Settings>,
    },
    /// A ticket is taken.
    TicketStarted {
        /// Its id.
        id: TicketId,
        /// The order.
        spec: Arc<TicketSpec>,
        /// The queue that it is in.
        queue: QueueId,
        /// The hook that is asked about it; `None` if it waits immediately.
        check: Option<Check>,
        /// The place that it takes over; `None` if it gets its own.
        place: Option<QueuePlace>,
    },
    /// A hook has accepted a ticket.
    TicketChecked {
        /// The ticket.
        id: TicketId,
        /// The order that is in force from now on.
        spec: Arc<TicketSpec>,
        /// The queue that it is in from now on.
        queue: QueueId,
        /// The hook that is asked next; `None` if it waits.
        check: Option<Check>,
        /// How often external hooks have moved it to another queue so far.
        moves: u32,
    },
    /// A ticket was cancelled.
    TicketCancelled {
        /// It and its players.
        ticket: Named,
        /// By whom.
        cause: CancelCause,
    },
    /// The client of a ticket with a `ttl` is still there.
    TicketRenewed {
        /// The ticket.
        id: TicketId,
    },
    /// A ticket failed.
    TicketFailed {
        /// It and its players.
        ticket: Named,
        /// The cause.
        cause: FailCause,
        /// In the words of the hook or the broker; may be empty.
        detail: Arc<str>,
        /// The hook whose answer made it fail; `None` if there was none.
        hook: Option<HookId>,
        /// The match that it was in; `None` if it was in none.
        match_id: Option<MatchId>,
    },
    /// A ticket reached its queue's maximum wait.
    TicketTimedOut {
        /// It and its players.
        ticket: Named,
    },
    /// Tickets are chosen for a match that its players or a hook have yet to accept.
    MatchProposed {
        /// Its id.
        id: MatchId,
        /// The queue.
        queue: QueueId,
        /// Tickets, by team.
        teams: Arc<[Vec<Named>]>,
        /// The region.
        region: Option<RegionId>,
        /// The order for the broker.
        spec: Arc<MatchSpec>,
        /// When players have to accept; `None` if they are not asked.
        accept_until: Option<Timestamp>,
        /// The hook that is asked, if players are not.
        check: Option<Check>,
    },
    /// A player accepts a match.
    MatchAccepted {
        /// The match.
        id: MatchId,
        /// The player.
        player: PlayerId,
    },
    /// Players or a hook have accepted a match; the next hook is asked.
    MatchChecked {
        /// The match.
        id: MatchId,
        /// The order for the broker.
        spec: Arc<MatchSpec>,
        /// The hook that is asked.
        check: Check,
    },
    /// A match is formed: a server is looked for.
    MatchFormed {
        /// Its id.
        id: MatchId,
        /// The queue.
        queue: QueueId,
        /// Tickets, by team.
        teams: Arc<[Vec<Named>]>,
        /// The region.
        region: Option<RegionId>,
        /// The order for the broker.
        spec: Arc<MatchSpec>,
    },
    /// The broker has the match.
    MatchSubmitted {
        /// The match.
        id: MatchId,
    },
    /// A match is dissolved. Its tickets that are not over return to their places.
    MatchDissolved {
        /// The match.
        id: MatchId,
        /// Why.
        cause: DissolveCause,
        /// Tickets that return, and whether their players had heard of the match.
        returned: Vec<Named>,
        /// Whether players had heard that the search for a server has begun.
        heard: bool,
        /// Whether the broker is looking for a server and must be told to stop.
        withdraw: bool,
        /// Why there is no server, in the broker's words; may be empty.
        reason: Arc<str>,
    },
    /// The broker no longer looks for a server for a dissolved match.
    MatchWithdrawn {
        /// The match.
        id: MatchId,
    },
    /// The players of a match can connect. The matchmaker is done with the match.
    MatchReady {
        /// The match.
        id: MatchId,
        /// Its tickets.
        tickets: Vec<Named>,
        /// The connection details.
        connection: Arc<Connection>,
    },
    /// A running match has free seats.
    SeatsOffered {
        /// The offer.
        offer: Arc<SeatOffer>,
    },
    /// A running match takes no more players.
    SeatsWithdrawn {
        /// The match.
        match_id: MatchId,
    },
    /// A ticket is about to get free seats.
    SeatsTaken {
        /// Of which match.
        match_id: MatchId,
        /// It and its players.
        ticket: Named,
        /// When it returns to its place if there is no answer.
        until: Timestamp,
    },
    /// The players of a ticket can connect to a running match.
    TicketSeated {
        /// The match.
        match_id: MatchId,
        /// It and its players.
        ticket: Named,
        /// The connection details.
        connection: Arc<Connection>,
    },
    /// The free seats did not exist: the ticket returns to its place.
    TicketReturned {
        /// The match.
        match_id: MatchId,
        /// It and its players.
        ticket: Named,
    },
    /// A hook is asked to form matches of the waiting tickets of a queue.
    RoundBegun {
        /// The queue.
        queue: QueueId,
        /// Sequential number.
        number: u64,
        /// Tickets behind this place are included.
        after: u64,
        /// The hook.
        check: Check,
    },
    /// The hook has answered, or has timed out.
    RoundEnded {
        /// The queue.
        queue: QueueId,
        /// Where the next round begins.
        after: u64,
    },
}

/// What the players of a ticket hear about an event.
#[derive(Clone, PartialEq, Debug)]
pub struct Notice<'a> {
    /// The ticket.
    pub ticket: &'a TicketId,
    /// Its players.
    pub players: &'a [PlayerId],
    /// Its status from now on.
    pub status: Status,
    /// The explanation for players.
    pub message: String,
    /// The stable name of the cause of its end; `None` if it is not over, or if its status says it.
    pub reason: Option<&'static str>,
    /// The match that it is in, if any.
    pub match_id: Option<&'a MatchId>,
    /// Where its players connect, once they can.
    pub connection: Option<&'a Connection>,
}

impl Event {
    /// The event's type as a CloudEvent, in the reverse-domain style of that specification.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Configured { .. } => "sortie.matchmaker.configured",
            Self::Reconfigured { .. } => "sortie.matchmaker.reconfigured",
            Self::TicketStarted { .. } => "sortie.ticket.started",
            Self::TicketChecked { .. } => "sortie.ticket.checked",
            Self::TicketCancelled { .. } => "sortie.ticket.cancelled",
            Self::TicketRenewed { .. } => "sortie.ticket.renewed",
            Self::TicketFailed { .. } => "sortie.ticket.failed",
            Self::TicketTimedOut { .. } => "sortie.ticket.timed_out",
            Self::MatchProposed { .. } => "sortie.match.proposed",
            Self::MatchAccepted { .. } => "sortie.match.accepted",
            Self::MatchChecked { .. } => "sortie.match.checked",
            Self::MatchFormed { .. } => "sortie.match.formed",
            Self::MatchSubmitted { .. } => "sortie.match.submitted",
            Self::MatchDissolved { .. } => "sortie.match.dissolved",
            Self::MatchWithdrawn { .. } => "sortie.match.withdrawn",
            Self::MatchReady { .. } => "sortie.tickets.completed",
            Self::SeatsOffered { .. } => "sortie.seats.offered",
            Self::SeatsWithdrawn { .. } => "sortie.seats.withdrawn",
            Self::SeatsTaken { .. } => "sortie.seats.taken",
            Self::TicketSeated { .. } => "sortie.ticket.seated",
            Self::TicketReturned { .. } => "sortie.ticket.returned",
            Self::RoundBegun { .. } => "sortie.round.begun",
            Self::RoundEnded { .. } => "sortie.round.ended",
        }
    }

    /// What players hear about it: each change of a ticket's status once. For the start of a ticket that is `players`,
    /// since the event has them in its specification only.
    pub fn notices<'a>(&'a self, players: &'a mut Vec<PlayerId>) -> Vec<Notice<'a>> {
        let one = |named, status, message: &str| Vec::from([notice(named, status, message)]);
        match self {
            Self::TicketStarted { id, spec, .. } => {
                *players = spec.player_ids();
                let message = "waiting for other players".to_owned();
                Vec::from([Notice {
                    ticket: id,
                    players,
                    status: Status::InProgress,
                    message,
                    reason: None,
                    match_id: None,
                    connection: None,
                }])
            }
            Self::TicketCancelled { ticket, cause } => {
                Vec::from([notice(ticket, Status::Cancelled, cause.text()).because(cause.name())])
            }
            Self::TicketFailed { ticket, cause, detail, .. } => {
                let message = if detail.is_empty() { cause.text() } else { detail };
                Vec::from([notice(ticket, Status::Failed, message).because(cause.name())])
            }
            Self::TicketTimedOut { ticket } => one(ticket, Status::TimedOut, "no match was found in time"),
            Self::MatchFormed { id, teams, .. } => {
                let named = teams.iter().flatten();
                let found = named.map(|named| notice(named, Status::FindingServer, FINDING_SERVER).of(id));
                found.collect()
            }
            Self::MatchDissolved { returned, heard: true, cause, .. } => {
                let found = returned.iter().map(|named| notice(named, Status::InProgress, cause.text()));
                found.collect()
            }
            Self::MatchReady { id, tickets, connection } => {
                let named = tickets.iter();
                named.map(|named| notice(named, Status::Completed, "").of(id).at(connection)).collect()
            }
            Self::SeatsTaken { match_id, ticket, .. } => {
                let text = "a running match has free seats";
                Vec::from([notice(ticket, Status::FindingServer, text).of(match_id)])
            }
            Self::TicketSeated { match_id, ticket, connection } => {
                Vec::from([notice(ticket, Status::Completed, "").of(match_id).at(connection)])
            }
            Self::TicketReturned { ticket, .. } => {
                one(ticket, Status::InProgress, "the seats were taken; waiting for other players")
            }
            _ => Vec::new(),
        }
    }
}

fn notice<'a>(named: &'a Named, status: Status, message: &str) -> Notice<'a> {
    Notice {
        ticket: &named.ticket,
        players: &named.players,
        status,
        message: message.to_owned(),
        reason: None,
        match_id: None,
        connection: None,
    }
}

impl<'a> Notice<'a> {
    const fn of(mut self, match_id: &'a MatchId) -> Self {
        self.match_id = Some(match_id);
        self
    }

    const fn because(mut self, reason: &'static str) -> Self {
        self.reason = Some(reason);
        self
    }

    const fn at(mut self, connection: &'a Connection) -> Self {
        self.connection = Some(connection);
        self
    }
}

impl Size for Event {
    fn byte_size(&self) -> usize {
        let content = match self {
            Self::Configured { settings } | Self::Reconfigured { settings } => settings.byte_size(),
            Self::TicketStarted { id, spec, queue, check, place } => {
                let lost = place.as_ref().map_or(0, |place| place.lost.byte_size());
                id.byte_size() + spec.byte_size() + queue.byte_size() + check.byte_size() + lost
            }
            Self::TicketChecked { id, spec, queue, check, .. } => {
                id.byte_size() + spec.byte_size() + queue.byte_size() + check.byte_size()
            }
            Self::TicketCancelled { ticket, .. } | Self::TicketTimedOut { ticket } => ticket.byte_size(),
            Self::TicketRenewed { id } => id.byte_size(),
            Self::TicketFailed { ticket, detail, hook, match_id, .. } => {
                ticket.byte_size() + detail.byte_size() + hook.byte_size() + match_id.byte_size()
            }
            Self::MatchProposed { id, queue, teams, region, spec, check, .. } => {
                formed_size(id, queue, teams, region.as_ref(), spec) + check.byte_size()
            }
            Self::MatchFormed { id, queue, teams, region, spec } => {
                formed_size(id, queue, teams, region.as_ref(), spec)
            }
            Self::MatchAccepted { id, player } => id.byte_size() + player.byte_size(),
            Self::MatchChecked { id, spec, check } => id.byte_size() + spec.byte_size() + check.byte_size(),
            Self::MatchSubmitted { id } | Self::MatchWithdrawn { id } => id.byte_size(),
            Self::MatchDissolved { id, returned, reason, .. } => {
                id.byte_size() + returned.byte_size() + reason.byte_size()
            }
            Self::MatchReady { id, tickets, connection } => {
                id.byte_size() + tickets.byte_size() + connection.byte_size()
            }
            Self::SeatsOffered { offer } => offer.byte_size(),
            Self::SeatsWithdrawn { match_id } => match_id.byte_size(),
            Self::SeatsTaken { match_id, ticket, .. } | Self::TicketReturned { match_id, ticket } => {
                match_id.byte_size() + ticket.byte_size()
            }
            Self::TicketSeated { match_id, ticket, connection } => {
                match_id.byte_size() + ticket.byte_size() + connection.byte_size()
            }
            Self::RoundBegun { queue, check, .. } => queue.byte_size() + check.byte_size(),
            Self::RoundEnded { queue, .. } => queue.byte_size(),
        };
        2 * ENTRY_BYTES + content
    }
}

fn formed_size(
    id: &MatchId,
    queue: &QueueId,
    teams: &[Vec<Named>],
    region: Option<&RegionId>,
    spec: &MatchSpec,
) -> usize {
    let teams = teams.iter().map(|team| ENTRY_BYTES + team.byte_size()).sum::<usize>();
    let region = region.map_or(0, Size::byte_size);
    id.byte_size() + queue.byte_size() + teams + region + spec.byte_size()
}

/// External work that follows from the state. Repeating an effect does no harm.
#[derive(Clone, PartialEq, Debug)]
pub enum Effect {
    /// Ask a hook about a ticket. Outcome: `TicketValidated`.
    ValidateTicket {
        /// The hook.
        hook: HookId,
        /// The ticket.
        ticket: TicketId,
        /// The queue that it is in.
        queue: QueueId,
        /// The order.
        spec: Arc<TicketSpec>,
    },
    /// Ask a hook to form matches from the tickets that [`Matchmaker::asked_about`](super::Matchmaker::asked_about)
    /// returns at the time of the call. They are not part of the effect: a thousand open rounds at a start would be a
    /// million tickets. Outcome: `MatchesFormed`.
    FormMatches {
        /// The hook.
        hook: HookId,
        /// The queue.
        queue: QueueId,
        /// The round.
        round: u64,
    },
    /// Ask a hook about a match. Outcome: `MatchChecked`.
    CheckMatch {
        /// The hook.
        hook: HookId,
        /// The match.
        match_id: MatchId,
        /// The queue.
        queue: QueueId,
        /// Tickets, by team.
        teams: Arc<[Vec<Named>]>,
        /// The order.
        spec: Arc<MatchSpec>,
    },
    /// Find a server for a match. Outcome: `Submitted`; later `MatchReady`, `NoServer` or `MatchEnded`.
    Submit {
        /// The match.
        match_id: MatchId,
        /// The order.
        spec: Arc<MatchSpec>,
    },
    /// The match no longer needs a server; if it has one already, it is ended. Outcome: `Withdrawn`.
    Withdraw {
        /// The match.
        match_id: MatchId,
    },
    /// Reserve seats of a running match, one for each player, all or none. Outcome: `Seated` or `NotSeated`.
    Seat {
        /// The match.
        match_id: MatchId,
        /// The ticket and its players.
        ticket: Named,
    },
}
