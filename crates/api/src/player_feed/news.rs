//! The messages that a player hears.

use serde_json::json;
use sortie_domain::broker::{Standing, words};
use sortie_domain::ids::{MatchId, PlayerId, TicketId};
use sortie_domain::matchmaking::event::Notice;
use sortie_domain::matchmaking::model::{Named, Status, Ticket, TicketState};
use sortie_domain::matchmaking::words::{FINDING_SERVER, ON_HOLD};
use sortie_domain::time::Timestamp;
use sortie_wire::catena::events::{Event, event::Payload};
use sortie_wire::catena::matchmaking::{
    MatchmakingStatusUpdateEvent, MatchmakingStatusUpdateType as UpdateType,
};
use sortie_wire::cloud_event::rfc3339;

use super::cursor::Position;

/// News of a ticket, or of a match without tickets.
#[derive(Clone, Debug)]
pub(super) struct News {
    kind: UpdateType,
    /// The ticket; for a match without tickets, the match.
    ticket: String,
    match_id: Option<MatchId>,
    message: String,
    reason: Option<&'static str>,
    /// By when the player has to accept the match.
    accept_until: Option<Timestamp>,
}

impl News {
    fn of_match(kind: UpdateType, id: &MatchId, message: String) -> Self {
        let (ticket, match_id) = (id.to_string(), Some(id.clone()));
        Self { kind, ticket, match_id, message, reason: None, accept_until: None }
    }

    /// The match that it is about, if it is about one.
    pub(super) const fn match_id(&self) -> Option<&MatchId> {
        self.match_id.as_ref()
    }

    /// The match waits for a server, or its server prepares it.
    pub(super) fn finding_server(id: &MatchId, standing: &Standing) -> Self {
        Self::of_match(UpdateType::FindingServer, id, words::summary(standing))
    }

    /// The player can connect.
    pub(super) fn completed(id: &MatchId, details: &str) -> Self {
        Self::of_match(UpdateType::Completed, id, details.to_owned())
    }

    /// The match is over without having been played to its end.
    pub(super) fn over(id: &MatchId, kind: UpdateType, reason: &'static str, standing: &Standing) -> Self {
        let news = Self::of_match(kind, id, words::summary(standing));
        Self { reason: Some(reason), ..news }
    }

    /// The same about the ticket that led to the match.
    pub(super) fn about(mut self, ticket: Option<&TicketId>) -> Self {
        if let Some(ticket) = ticket {
            self.ticket = ticket.to_string();
        }
        self
    }

    /// What `player` hears when a ticket's status changes.
    pub(super) fn of_notice(notice: &Notice<'_>, player: &PlayerId) -> Self {
        let details = notice.connection.map(|connection| connection.for_player(player).as_ref().to_owned());
        Self {
            kind: update_type(notice.status),
            ticket: notice.ticket.to_string(),
            match_id: notice.match_id.cloned(),
            message: details.unwrap_or_else(|| notice.message.clone()),
            reason: notice.reason,
            accept_until: None,
        }
    }

    /// The players of a ticket have to accept a match.
    pub(super) fn proposed(named: &Named, id: &MatchId, until: Timestamp) -> Self {
        let message = format!("a match was found; accept it by {}", rfc3339(until));
        Self {
            kind: UpdateType::InProgress,
            ticket: named.ticket.to_string(),
            match_id: Some(id.clone()),
            message,
            reason: None,
            accept_until: Some(until),
        }
    }

    /// The proposed match comes to nothing; the ticket is back at its place.
    pub(super) fn back(named: &Named, cause: &'static str, text: &str) -> Self {
        Self {
            kind: UpdateType::InProgress,
            ticket: named.ticket.to_string(),
            match_id: None,
            message: text.to_owned(),
            reason: Some(cause),
            accept_until: None,
        }
    }

    /// The state of a live ticket. `accept_until` is the deadline of its proposed match.
    pub(super) fn standing(ticket: &Ticket, accept_until: Option<Timestamp>) -> Self {
        let message = match &ticket.state {
            TicketState::FindingServer { .. } => FINDING_SERVER.to_owned(),
            TicketState::OnHold { .. } => ON_HOLD.to_owned(),
            TicketState::Seating { .. } => "a running match has free seats".to_owned(),
            _ => match accept_until {
                Some(until) => format!("a match was found; accept it by {}", rfc3339(until)),
                None => "waiting for other players".to_owned(),
            },
        };
        let shown = accept_until.is_some() || ticket.status() == Status::FindingServer;
        Self {
            kind: update_type(ticket.status()),
            ticket: ticket.id.to_string(),
            match_id: ticket.match_id().filter(|_| shown).cloned(),
            message,
            reason: None,
            accept_until,
        }
    }

    /// The event as it is sent. `at` is the player's position after it; without it the stream cannot be resumed from
    /// this event.
    pub(super) fn event(&self, player: &PlayerId, at: Option<Position>) -> Event {
        let mut data = json!({});
        if let Some(id) = &self.match_id {
            data["matchId"] = id.as_str().into();
        }
        if self.kind == UpdateType::Completed {
            data["connectionDetails"] = self.message.as_str().into();
        }
        if let Some(reason) = self.reason {
            data["reason"] = reason.into();
        }
        if let Some(until) = self.accept_until {
            data["acceptUntil"] = rfc3339(until).into();
        }
        let update = MatchmakingStatusUpdateEvent {
            r#type: self.kind.into(),
            message: self.message.clone(),
            ticket_id: self.ticket.clone(),
            additional_event_data: data.to_string(),
        };
        Event {
            event_id: at.map(|at| at.to_string()).unwrap_or_default(),
            recipient_id: player.as_str().to_owned(),
            payload: Some(Payload::MatchmakingStatusUpdateEvent(update)),
        }
    }
}

const fn update_type(status: Status) -> UpdateType {
    match status {
        Status::InProgress => UpdateType::InProgress,
        Status::FindingServer => UpdateType::FindingServer,
        Status::Completed => UpdateType::Completed,
        Status::Failed => UpdateType::Failed,
        Status::Cancelled => UpdateType::Cancelled,
        Status::TimedOut => UpdateType::MatchmakingStatusUpdateMatchmakingTimedOut,
    }
}
