//! Follows a seat: waits until its match can be played, resolves the server's address, mints the token.

use std::net::SocketAddr;
use std::sync::Arc;

use sortie_domain::broker::model::{FailReason, Match, MatchState, Seat};
use sortie_domain::broker::words::summary;
use sortie_domain::broker::{Command, Refusal, Reply, Standing};
use sortie_domain::ids::{MatchId, SeatId};
use sortie_domain::time::Timestamp;
use sortie_engine::CallError;
use tokio::time::Instant;

use crate::Inner;
use crate::address::{Unresolved, resolve};
use crate::admission::{Admission, Given, Way, token};
use crate::error::JoinError;
use crate::feedback::Feedback;
use crate::options::GameFleet;
use crate::progress::Progress;
use crate::seat_guard::SeatGuard;

/// A seat, its match as last known, and the match's fleet.
pub(crate) struct Reserved<'a> {
    pub(crate) fleet: &'a GameFleet,
    pub(crate) seat: SeatId,
    pub(crate) guard: SeatGuard,
    pub(crate) game: Match,
}

/// The result of following a seat.
pub(crate) enum Followed {
    Admitted(Admission),
    /// The seat is gone, with or without its match; there may be another.
    Lost,
    /// Nobody can connect to the match; there may be another.
    Unreachable,
}

/// How a wait without an error ended.
enum Waited {
    /// The match can be played.
    Ready {
        seat: Seat,
        expires_at: Timestamp,
        details: Arc<str>,
    },
    Lost,
    /// Another player could not connect to the match.
    Unreachable,
}

impl Inner {
    /// Waits for the match of a seat and makes the token; `is_first` if the player had no other seat before in this
    /// call.
    ///
    /// # Errors
    /// [`JoinError`]; the seat is released, unless the player knows about it.
    pub(crate) async fn follow(
        &self,
        mut reserved: Reserved<'_>,
        is_first: bool,
        progress: &mut Progress<'_>,
    ) -> Result<Followed, JoinError> {
        let is_warm = is_first && reserved.game.state != MatchState::Queued;
        let way = if is_warm { Way::Warm } else { Way::Cold };
        progress.send(Feedback::SessionRequestAccepted(reserved.seat.to_string())).await;
        let (seat, expires_at, details) = match self.wait(&mut reserved, progress).await? {
            Waited::Ready { seat, expires_at, details } => (seat, expires_at, details),
            Waited::Lost => {
                tracing::debug!(seat = %reserved.seat, "lost a seat");
                return Ok(Followed::Lost);
            }
            Waited::Unreachable => return Ok(Followed::Unreachable),
        };
        let Some(address) = self.reach(&seat.match_id, &details, progress.until()).await? else {
            return Ok(Followed::Unreachable);
        };
        let token = token(&self.options, reserved.fleet, &seat, expires_at, address)?;
        Ok(Followed::Admitted(Admission {
            address,
            token,
            given: Given::Seat(reserved.guard),
            way,
            player_key: None,
        }))
    }

    /// The address behind a match's connection details. If there is none, the broker is notified, so that no other
    /// players are sent there. A name service that does not answer says nothing about the match.
    ///
    /// # Errors
    /// [`JoinError`] if there is no answer by `until`, or the broker cannot be told.
    pub(crate) async fn reach(
        &self,
        match_id: &MatchId,
        details: &str,
        until: Instant,
    ) -> Result<Option<SocketAddr>, JoinError> {
        match resolve(&self.options.name_service, details, until).await {
            Ok(address) => Ok(Some(address)),
            Err(Unresolved::NoAnswer) => Err(JoinError::NoNameService),
            Err(Unresolved::Nowhere) => {
                tracing::warn!(game = %match_id, "connection details that lead nowhere");
                self.broker.call(Command::ReportUnreachable { match_id: match_id.clone() }).await?;
                Ok(None)
            }
        }
    }

    /// Deadline of name look-ups for a player who starts to wait now: a little before the player's own, so that the
    /// player hears the cause.
    pub(crate) fn lookup_until(&self) -> Instant {
        let longest = self.options.wait_deadline;
        Instant::now() + (longest - longest / 20)
    }

    /// Waits until the match of a seat is ready or over.
    async fn wait(
        &self,
        reserved: &mut Reserved<'_>,
        progress: &mut Progress<'_>,
    ) -> Result<Waited, JoinError> {
        loop {
            if let Some(waited) = waited(&reserved.game, &reserved.seat)? {
                return Ok(waited);
            }
            self.report_news(&reserved.game, progress).await;
            match self.news(&reserved.game, &reserved.seat, progress).await? {
                Some(game) => reserved.game = game,
                None => return Ok(Waited::Lost),
            }
        }
    }

    /// Waits for the next news about the match, reporting progress; `None` if the match is forgotten. A player who gets
    /// a single answer is not woken for every other player who joins the match.
    async fn news(
        &self,
        game: &Match,
        seat: &SeatId,
        progress: &mut Progress<'_>,
    ) -> Result<Option<Match>, JoinError> {
        let watch = if progress.wanted() {
            Command::WatchMatch { id: game.id.clone(), seen: game.changed_seq }
        } else {
            Command::AwaitReady { match_id: game.id.clone(), seat: seat.clone() }
        };
        let mut watching = std::pin::pin!(self.broker.call(watch));
        loop {
            tokio::select! {
                biased;
                reply = &mut watching => return match reply {
                    Ok(Reply::Match(game)) => Ok(Some(game)),
                    Ok(_) => Err(JoinError::OtherReply),
                    Err(CallError::Refused(Refusal::MatchNotFound(_))) => Ok(None),
                    Err(error) => Err(error.into()),
                },
                () = progress.due(), if progress.wanted() => progress.report(self.text(game).await).await,
            }
        }
    }

    async fn report_news(&self, game: &Match, progress: &mut Progress<'_>) {
        if progress.wanted() {
            progress.news(self.text(game).await).await;
        }
    }

    async fn text(&self, game: &Match) -> String {
        let known = Standing::from(&game.state);
        if game.state != MatchState::Queued {
            return summary(&known);
        }
        let id = game.id.clone();
        let asked = self.broker.query(move |broker| broker.standing(&id)).await;
        // The wait for news reports why there was no answer.
        summary(&asked.ok().flatten().unwrap_or(known))
    }
}

/// Whether a match is over because nobody can connect to it. There is another server for its players.
pub(crate) const fn is_unreachable(game: &Match) -> bool {
    matches!(game.state, MatchState::Failed { reason: FailReason::Unreachable, .. })
}

/// Whether the wait for a seat's match is over; `None` if it continues.
///
/// # Errors
/// [`JoinError`] if the match is over for a reason that would also apply to another match.
fn waited(game: &Match, seat: &SeatId) -> Result<Option<Waited>, JoinError> {
    if is_unreachable(game) {
        return Ok(Some(Waited::Unreachable));
    }
    match &game.state {
        MatchState::Failed { reason, .. } => return Err(JoinError::MatchFailed(*reason)),
        MatchState::Cancelled { cause, .. } => return Err(JoinError::MatchCancelled(*cause)),
        MatchState::Ended { .. } => return Ok(Some(Waited::Lost)),
        MatchState::Queued | MatchState::PickedUp { .. } | MatchState::Ready { .. } => {}
    }
    let Some(seat) = game.seats.get(seat) else { return Ok(Some(Waited::Lost)) };
    let MatchState::Ready { connection, .. } = &game.state else { return Ok(None) };
    // Another call of the player was faster: the seat is already claimed.
    let Some(expires_at) = seat.claimable_until() else { return Ok(Some(Waited::Lost)) };
    let details = Arc::clone(connection.for_player(&seat.player));
    Ok(Some(Waited::Ready { seat: seat.clone(), expires_at, details }))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use sortie_domain::broker::Broker;
    use sortie_domain::broker::model::{Fleet, Settings};
    use sortie_domain::ids::{FleetId, PlayerId};
    use sortie_domain::machine::{CallId, Machine, Moment, Step};
    use sortie_domain::properties::Properties;

    use super::*;

    /// A seat in a match that waits for a server.
    fn seated() -> (Match, SeatId) {
        let fleet = FleetId::new("local").unwrap();
        let mut broker = Broker::new();
        let mut call = |command| {
            let (now, mut step) = (Timestamp::from_millis(1_000), Step::new());
            broker.handle(Moment { now, entropy: [1, 2] }, CallId(1), command, &mut step);
            step.answers.pop().unwrap().1.unwrap()
        };
        let of_fleet = Fleet {
            id: fleet.clone(),
            game: None,
            is_default: false,
            requirements: String::new(),
            max: 1,
            warm: 0,
            ready_deadline: Duration::from_secs(60),
            max_run_time: None,
            preference: 0,
        };
        call(Command::Configure { settings: Settings::default(), fleets: vec![of_fleet] });
        let join = Command::Join {
            fleet,
            player: PlayerId::new("ann").unwrap(),
            capacity: 2,
            ttl: Duration::from_secs(30),
            properties: Properties::default(),
            beside: Arc::new([]),
            rejoin: true,
        };
        let Reply::Seated { seat, game, .. } = call(join) else { panic!() };
        (game, seat.id)
    }

    #[test]
    fn another_match_is_tried_if_nobody_can_reach_the_one_of_a_seat() {
        let (game, seat) = seated();
        assert!(matches!(waited(&game, &seat), Ok(None)));
        let failed = |reason| Match {
            state: MatchState::Failed { at: Timestamp::from_millis(2_000), reason },
            ..game.clone()
        };
        assert!(matches!(waited(&failed(FailReason::Unreachable), &seat), Ok(Some(Waited::Unreachable))));
        let error = waited(&failed(FailReason::PickupTimeout), &seat).err().unwrap();
        assert!(matches!(error, JoinError::MatchFailed(FailReason::PickupTimeout)));
    }
}
