//! One player's way to a seat: reserve it, wait until its match can be played, mint the token.
//!
//! The seat is reserved first and the waiting done afterwards, so that the place of whoever waits is the broker's
//! business and survives this process. Only the wait itself is kept here, and whoever stops waiting gives the seat
//! back.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sortie_domain::broker::model::{Match, MatchState, Seat, SeatState};
use sortie_domain::broker::words::summary;
use sortie_domain::broker::{Broker, Command, Refusal, Reply, Standing};
use sortie_domain::ids::{PlayerId, SeatId};
use sortie_domain::time::Timestamp;
use sortie_engine::{CallError, Handle, Unavailable};
use tokio::time::timeout;

use crate::address::resolve;
use crate::admission::{Admission, Given, Way, token};
use crate::error::JoinError;
use crate::feedback::{Feedback, Reports};
use crate::games::{Candidate, Candidates, first_with_room};
use crate::progress::Progress;
use crate::queue::{self, Entry};
use crate::seat_guard::SeatGuard;
use crate::stats::Start;
use crate::{Inner, WaitPermit};

/// Seats, or tickets, that are tried for one player, where matches end before they can be joined.
pub(crate) const MAX_ATTEMPTS: u32 = 3;

/// What a player wants.
pub(crate) struct Wish {
    pub(crate) aim: Aim,
    pub(crate) player: PlayerId,
    pub(crate) client_ip: Option<IpAddr>,
    /// Held as long as the player waits.
    pub(crate) permit: WaitPermit,
}

/// Where a player wants to go.
pub(crate) enum Aim {
    /// Into any match of a game.
    DropIn(Candidates),
    /// Into a queue.
    Queue(Entry),
}

/// Finds a seat for a player, telling `reports` what is going on.
///
/// # Errors
/// [`JoinError`]; the seat, if there was one, is given back, as it is when the future is dropped.
pub(crate) async fn join(gateway: Arc<Inner>, wish: Wish, reports: Reports) -> Result<Admission, JoinError> {
    let mut start = Start::new(&gateway.counters);
    let mut progress = Progress::new(&reports, gateway.options.progress_interval, wish.client_ip);
    let (searching, limit) = (search(&gateway, &wish, &mut progress), limit(&gateway, &wish.aim, &reports));
    let found = tokio::select! {
        biased;
        found = within(limit, searching) => found,
        () = gateway.options.closing.cancelled() => Err(Unavailable::ShuttingDown.into()),
    };
    if let Ok(admission) = &found {
        start.way = admission.way;
    }
    let took_ms = start.finish(found.as_ref().err().map(JoinError::label)).as_millis() as u64;
    let (player, ip) = (&wish.player, wish.client_ip.map(tracing::field::display));
    match &found {
        Ok(admission) => {
            tracing::info!(%player, client_ip = ip, address = %admission.address, took_ms, "a player has a seat");
        }
        Err(error) => tracing::info!(%player, client_ip = ip, took_ms, %error, "a player got no seat"),
    }
    drop(wish.permit);
    found
}

async fn search(gateway: &Inner, wish: &Wish, progress: &mut Progress<'_>) -> Result<Admission, JoinError> {
    progress.send(Feedback::Acknowledged).await;
    match &wish.aim {
        Aim::DropIn(candidates) => Search { gateway, candidates, player: &wish.player, progress }.run().await,
        Aim::Queue(entry) => queue::play(gateway, &wish.player, entry, progress).await,
    }
}

/// How long a player is kept waiting, and what is said then. Whoever hears how a ticket fares waits as long as the ticket.
fn limit(gateway: &Inner, aim: &Aim, reports: &Reports) -> Option<(Duration, JoinError)> {
    let longest = gateway.options.wait_deadline;
    match aim {
        Aim::DropIn(_) => Some((longest, JoinError::Deadline)),
        Aim::Queue(_) => (!reports.wanted()).then_some((longest, JoinError::StillWaits)),
    }
}

async fn within(
    limit: Option<(Duration, JoinError)>,
    searching: impl Future<Output = Result<Admission, JoinError>>,
) -> Result<Admission, JoinError> {
    match limit {
        Some((longest, error)) => timeout(longest, searching).await.unwrap_or(Err(error)),
        None => searching.await,
    }
}

/// A seat, its match as it was last heard of, and the fleet that it is in.
struct Reserved<'a> {
    candidate: &'a Candidate,
    seat: SeatId,
    guard: SeatGuard,
    game: Match,
}

/// How a wait ended that did not go wrong.
enum Waited {
    /// The match can be played.
    Ready { seat: Seat, expires_at: Timestamp, details: Arc<str> },
    /// The seat is gone, with its match or without; there may be another.
    Lost,
}

/// The search for a seat in any match of a game.
struct Search<'a, 'b> {
    gateway: &'a Inner,
    candidates: &'a Candidates,
    player: &'a PlayerId,
    progress: &'a mut Progress<'b>,
}

impl<'a> Search<'a, '_> {
    const fn broker(&self) -> &'a Handle<Broker> {
        &self.gateway.broker
    }

    async fn run(&mut self) -> Result<Admission, JoinError> {
        for attempt in 0..MAX_ATTEMPTS {
            let mut reserved = self.reserve().await?;
            let is_warm = attempt == 0 && reserved.game.state != MatchState::Queued;
            let way = if is_warm { Way::Warm } else { Way::Cold };
            self.progress.send(Feedback::SessionRequestAccepted(reserved.seat.to_string())).await;
            match self.wait(&mut reserved).await? {
                Waited::Ready { seat, expires_at, details } => {
                    let address = resolve(&details).await.ok_or_else(|| {
                        tracing::warn!(game = %seat.match_id, "connection details that are no address");
                        JoinError::NoAddress
                    })?;
                    return self.admit(reserved, &seat, expires_at, address, way);
                }
                Waited::Lost => tracing::debug!(seat = %reserved.seat, "lost a seat, trying again"),
            }
        }
        Err(JoinError::MatchesEnded)
    }

    fn admit(
        &self,
        reserved: Reserved<'_>,
        seat: &Seat,
        expires_at: Timestamp,
        address: SocketAddr,
        way: Way,
    ) -> Result<Admission, JoinError> {
        let token = token(&self.gateway.options, &reserved.candidate.fleet, seat, expires_at, address)?;
        Ok(Admission { address, token, given: Given::Seat(reserved.guard), way })
    }

    /// A seat in the fleet that can give one soonest; in another, if the broker does not know that one (any more).
    async fn reserve(&self) -> Result<Reserved<'a>, JoinError> {
        let first = self.first_candidate().await?;
        let (before, from_first) = self.candidates.split_at(first);
        let mut refusal = JoinError::OtherReply;
        for candidate in from_first.iter().chain(before) {
            let fleet = &candidate.fleet;
            let command = Command::Join {
                fleet: fleet.fleet.clone(),
                player: self.player.clone(),
                capacity: fleet.capacity,
                ttl: fleet.seat_ttl,
                properties: candidate.properties.clone(),
            };
            match self.broker().call(command).await {
                Ok(Reply::Seated { seat, game }) => {
                    let guard = SeatGuard::new(self.broker().clone(), seat.id.clone());
                    return Ok(Reserved { candidate, seat: seat.id, guard, game });
                }
                Ok(_) => return Err(JoinError::OtherReply),
                Err(CallError::Refused(unknown @ Refusal::FleetNotFound(_))) => {
                    refusal = JoinError::Refused(unknown);
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(refusal)
    }

    /// With one fleet there is nothing to choose, and the broker is spared a question.
    async fn first_candidate(&self) -> Result<usize, JoinError> {
        if self.candidates.len() < 2 {
            return Ok(0);
        }
        let fleets: Vec<_> = self.candidates.iter().map(|candidate| candidate.fleet.fleet.clone()).collect();
        let now = now();
        Ok(self.broker().query(move |broker| first_with_room(broker, &fleets, now)).await?)
    }

    /// Waits until the match of a seat is ready or over.
    async fn wait(&mut self, reserved: &mut Reserved<'_>) -> Result<Waited, JoinError> {
        loop {
            let game = &reserved.game;
            match &game.state {
                MatchState::Failed { reason, .. } => return Err(JoinError::MatchFailed(*reason)),
                MatchState::Cancelled { cause, .. } => return Err(JoinError::MatchCancelled(*cause)),
                MatchState::Ended { .. } => return Ok(Waited::Lost),
                MatchState::Queued | MatchState::PickedUp { .. } | MatchState::Ready { .. } => {}
            }
            let Some(seat) = game.seats.get(&reserved.seat) else { return Ok(Waited::Lost) };
            if let (
                MatchState::Ready { connection, .. },
                SeatState::Reserved { expires_at: Some(expires_at) },
            ) = (&game.state, seat.state)
            {
                let details = Arc::clone(connection.for_player(&seat.player));
                return Ok(Waited::Ready { seat: seat.clone(), expires_at, details });
            }
            self.report_news(game).await;
            match self.news(game).await? {
                Some(game) => reserved.game = game,
                None => return Ok(Waited::Lost),
            }
        }
    }

    /// The match with the next news about it; `None` if it is forgotten. Reports progress meanwhile.
    async fn news(&mut self, game: &Match) -> Result<Option<Match>, JoinError> {
        let watch = Command::WatchMatch { id: game.id.clone(), seen: game.changed_seq };
        let mut watching = std::pin::pin!(self.broker().call(watch));
        loop {
            tokio::select! {
                biased;
                reply = &mut watching => return match reply {
                    Ok(Reply::Match(game)) => Ok(Some(game)),
                    Ok(_) => Err(JoinError::OtherReply),
                    Err(CallError::Refused(Refusal::MatchNotFound(_))) => Ok(None),
                    Err(error) => Err(error.into()),
                },
                () = self.progress.due(), if self.progress.wanted() => {
                    let text = text(self.gateway, game).await;
                    self.progress.report(text).await;
                }
            }
        }
    }

    async fn report_news(&mut self, game: &Match) {
        if self.progress.wanted() {
            let text = text(self.gateway, game).await;
            self.progress.news(text).await;
        }
    }
}

async fn text(gateway: &Inner, game: &Match) -> String {
    let known = Standing::from(&game.state);
    if game.state != MatchState::Queued {
        return summary(&known);
    }
    let id = game.id.clone();
    let asked = gateway.broker.query(move |broker| broker.standing(&id)).await;
    // Whoever waits for news hears why there was no answer.
    summary(&asked.ok().flatten().unwrap_or(known))
}

/// The time by the wall clock.
pub(crate) fn now() -> Timestamp {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(u64::try_from(now.as_millis()).unwrap_or(u64::MAX))
}
