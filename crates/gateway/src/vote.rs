//! A player's vote when a match has to be accepted, and the texts that ask for it.
//!
//! The vote is sent on the websocket that the player waits on, which identifies the player, or in a separate call by
//! clients without one; there the player has to identify itself. Only messages that bevygap's clients know are used: a
//! client without an accept step shows the text to its player.

use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;
use sortie_domain::ids::{MatchId, PlayerId, TicketId};
use sortie_domain::matchmaking::model::{Formation, Stage, Ticket, TicketState};
use sortie_domain::matchmaking::words::FINDING_SERVER;
use sortie_domain::matchmaking::{Command, Matchmaker, Refusal, Reply};
use sortie_domain::time::Timestamp;
use sortie_engine::CallError;
use sortie_wire::cloud_event::rfc3339;

use crate::Inner;
use crate::error::JoinError;
use crate::join::now;

/// Maximum number of votes on one connection: a ticket asked more often keeps meeting players who decline.
const MAX_VOTES: usize = 1_000;

/// Whether a player accepts a match.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Vote {
    Accept,
    Decline,
}

impl Vote {
    const fn name(self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Decline => "decline",
        }
    }
}

/// The result of a vote.
#[derive(Serialize, JsonSchema)]
pub(crate) struct VoteAnswer {
    /// The player's ticket.
    ticket_id: String,
    /// The match that the vote was about.
    match_id: String,
    /// The state of the match, as text.
    pub(crate) message: String,
}

/// The player of one websocket, who may vote there.
pub(crate) struct Voter {
    gateway: Arc<Inner>,
    player: PlayerId,
    votes: usize,
}

impl Voter {
    pub(crate) const fn new(gateway: Arc<Inner>, player: PlayerId) -> Self {
        Self { gateway, player, votes: 0 }
    }

    /// Handles a message and returns the reply; `None` if it was not a vote.
    pub(crate) async fn hear(&mut self, message: &str) -> Option<String> {
        let (vote, id) = match read(message)? {
            Ok(read) => read,
            Err(problem) => return Some(problem),
        };
        self.votes += 1;
        if self.votes > MAX_VOTES {
            return None;
        }
        let voted = self.gateway.vote(&self.player, &id, vote).await;
        Some(match voted {
            Ok(answer) => answer.message,
            Err(error) => format!("{}: {error}", vote.name()),
        })
    }
}

/// Parses a vote and the id that it names; `None` for any other message, which is ignored.
fn read(message: &str) -> Option<Result<(Vote, String), String>> {
    let Ok(Value::Object(fields)) = serde_json::from_str(message) else { return None };
    let named = [Vote::Accept, Vote::Decline].map(|vote| (vote, fields.get(vote.name())));
    let (vote, id) = match named {
        [(_, None), (_, None)] => return None,
        [(vote, Some(id)), (_, None)] | [(_, None), (vote, Some(id))] => (vote, id),
        _ => return Some(Err("name either `accept` or `decline`, not both".to_owned())),
    };
    let Value::String(id) = id else {
        return Some(Err(format!("{}: must be the id of the ticket or of the match, a text", vote.name())));
    };
    Some(Ok((vote, id.clone())))
}

impl Inner {
    /// Accepts or declines, for a player, the match with the id `id` or the match that the ticket `id` is asked about.
    ///
    /// # Errors
    /// [`JoinError::TicketRefused`] if the player has no such ticket or match, [`JoinError::NothingToAccept`] if it is
    /// not asked about (any more), [`JoinError::NoQueues`] without a matchmaker.
    pub(crate) async fn vote(
        &self,
        player: &PlayerId,
        id: &str,
        vote: Vote,
    ) -> Result<VoteAnswer, JoinError> {
        let Some(desk) = &self.desk else { return Err(JoinError::NoQueues) };
        let named = TicketId::new(id).map_err(|bad| JoinError::invalid("id", bad.to_string()))?;
        let (of, wanted) = (player.clone(), named.clone());
        let found = desk.maker.query(move |maker| asked_about(maker, &of, &wanted)).await?;
        let (ticket, match_id) =
            found.ok_or_else(|| JoinError::TicketRefused(Box::new(Refusal::TicketNotFound(named))))?;
        let match_id = match_id.ok_or_else(|| JoinError::NothingToAccept(ticket.clone()))?;
        let (of, wanted) = (player.clone(), match_id.clone());
        let command = match vote {
            Vote::Accept => Command::Accept { match_id: wanted, player: of },
            Vote::Decline => Command::Decline { match_id: wanted, player: of },
        };
        let message = match (desk.maker.call(command).await, vote) {
            (Ok(Reply::Formation(_)), Vote::Decline) => "you have declined the match".to_owned(),
            (Ok(Reply::Formation(Some(formation))), Vote::Accept) => words(&formation, player, now()),
            (Ok(Reply::Formation(None)), Vote::Accept) => "the match was accepted".to_owned(),
            (Ok(_), _) => return Err(JoinError::OtherReply),
            // It has been decided in the meantime.
            (Err(CallError::Refused(Refusal::NothingToAccept(_) | Refusal::MatchNotFound(_))), _) => {
                return Err(JoinError::NothingToAccept(ticket));
            }
            (Err(CallError::Refused(refusal)), _) => return Err(JoinError::TicketRefused(Box::new(refusal))),
            (Err(CallError::Unavailable(why)), _) => return Err(why.into()),
        };
        Ok(VoteAnswer { ticket_id: ticket.to_string(), match_id: match_id.to_string(), message })
    }
}

/// The player's ticket, named by its own id or its match's, and the match that its players are asked about.
fn asked_about(
    maker: &Matchmaker,
    player: &PlayerId,
    named: &TicketId,
) -> Option<(TicketId, Option<MatchId>)> {
    let of_player = |ticket: &&Ticket| ticket.spec.players().any(|one| one.id == *player);
    let by_match =
        |ticket: &&Ticket| ticket.match_id().is_some_and(|match_id| match_id.as_str() == named.as_str());
    let ticket = maker.ticket(named).filter(of_player);
    let ticket = ticket.or_else(|| maker.tickets_of(player).find(by_match))?;
    let asked = match &ticket.state {
        TicketState::Proposed { match_id, .. } => {
            maker.formation(match_id).filter(|formation| is_asked(formation))
        }
        _ => None,
    };
    Some((ticket.id.clone(), asked.map(|formation| formation.id.clone())))
}

const fn is_asked(formation: &Formation) -> bool {
    matches!(formation.stage, Stage::Accepting { .. })
}

/// By when a player has to accept a match; `None` if it has accepted, or is not asked.
pub(crate) fn accept_by(formation: &Formation, player: &PlayerId) -> Option<Timestamp> {
    match &formation.stage {
        Stage::Accepting { until, accepted } if !accepted.contains(player) => Some(*until),
        _ => None,
    }
}

/// The state of a match that is being made, in one line.
pub(crate) fn words(formation: &Formation, player: &PlayerId, now: Timestamp) -> String {
    let (until, accepted) = match &formation.stage {
        Stage::Accepting { until, accepted } => (*until, accepted),
        Stage::Checking(_) => return "a match was found and is being checked".to_owned(),
        Stage::FindingServer { .. } => return FINDING_SERVER.to_owned(),
    };
    let players = formation.tickets().map(|named| named.players.len()).sum::<usize>();
    let (by, left, agreed) = (rfc3339(until), left(until, now), accepted.len());
    if accepted.contains(player) {
        format!(
            "you have accepted the match: {agreed} of {players} players have, the others have until {by} ({left} s)"
        )
    } else {
        format!("a match was found: accept it by {by} ({left} s); {agreed} of {players} players have")
    }
}

/// Whole seconds.
fn left(until: Timestamp, now: Timestamp) -> u64 {
    Duration::as_secs(&until.since(now))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vote_names_one_id_and_what_is_none_is_let_pass() {
        let wanted = |vote| Some(Ok((vote, "ticket-1".to_owned())));
        assert_eq!(read(r#"{"accept": "ticket-1"}"#), wanted(Vote::Accept));
        assert_eq!(read(r#"{"decline": "ticket-1", "more": 1}"#), wanted(Vote::Decline));
        for chatter in
            ["", "are we there yet?", "[]", "7", r#""accept""#, "{}", r#"{"game": "arena"}"#, "{\"accept\""]
        {
            assert_eq!(read(chatter), None, "{chatter}");
        }
        for wrong in [
            r#"{"accept": "a", "decline": "a"}"#,
            r#"{"accept": null}"#,
            r#"{"accept": true}"#,
            r#"{"decline": ["a"]}"#,
        ] {
            assert!(matches!(read(wrong), Some(Err(_))), "{wrong}");
        }
    }
}
