//! One player's way to a seat: reserve it, wait until its match can be played, mint the token.
//!
//! The seat is reserved first and the waiting done afterwards, so that the place of whoever waits is the broker's
//! business and survives this process. Only the wait itself is kept here, and whoever stops waiting gives the seat
//! back.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use sortie_domain::broker::model::{Match, MatchState, Seat, SeatState};
use sortie_domain::broker::words::summary;
use sortie_domain::broker::{Broker, Command, Refusal, Reply, Standing};
use sortie_domain::ids::{PlayerId, SeatId};
use sortie_domain::time::Timestamp;
use sortie_engine::{CallError, Handle, Unavailable};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, timeout};

use crate::address::resolve;
use crate::admission::{Admission, token};
use crate::error::JoinError;
use crate::feedback::{Feedback, Reports};
use crate::games::{Candidate, Candidates, first_with_room};
use crate::seat_guard::SeatGuard;
use crate::stats::Start;
use crate::{Inner, WaitPermit};

/// Seats that are tried for one player, where matches end before they can be joined.
const MAX_ATTEMPTS: u32 = 3;

/// What a player wants.
pub(crate) struct Wish {
    pub(crate) candidates: Candidates,
    pub(crate) player: PlayerId,
    pub(crate) client_ip: Option<IpAddr>,
    /// Held as long as the player waits.
    pub(crate) permit: WaitPermit,
}

/// Finds a seat for a player, telling `reports` what is going on.
///
/// # Errors
/// [`JoinError`]; the seat, if there was one, is given back, as it is when the future is dropped.
pub(crate) async fn join(gateway: Arc<Inner>, wish: Wish, reports: Reports) -> Result<Admission, JoinError> {
    let mut start = Start::new(&gateway.counters);
    let mut search = Search::new(&gateway, &wish, &reports);
    let found = tokio::select! {
        biased;
        found = timeout(gateway.options.wait_deadline, search.run()) => found.unwrap_or(Err(JoinError::Deadline)),
        () = gateway.options.closing.cancelled() => Err(Unavailable::ShuttingDown.into()),
    };
    start.warm = search.warm;
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

struct Search<'a> {
    gateway: &'a Inner,
    wish: &'a Wish,
    reports: &'a Reports,
    ticks: Interval,
    last_report: Option<String>,
    /// Whether a server had the first match already.
    warm: bool,
}

impl<'a> Search<'a> {
    fn new(gateway: &'a Inner, wish: &'a Wish, reports: &'a Reports) -> Self {
        let period = gateway.options.progress_interval;
        let mut ticks = interval_at(Instant::now() + period, period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { gateway, wish, reports, ticks, last_report: None, warm: false }
    }

    const fn broker(&self) -> &'a Handle<Broker> {
        &self.gateway.broker
    }

    async fn run(&mut self) -> Result<Admission, JoinError> {
        self.reports.send(Feedback::Acknowledged).await;
        for attempt in 0..MAX_ATTEMPTS {
            let mut reserved = self.reserve().await?;
            self.warm = attempt == 0 && reserved.game.state != MatchState::Queued;
            self.reports.send(Feedback::SessionRequestAccepted(reserved.seat.to_string())).await;
            match self.wait(&mut reserved).await? {
                Waited::Ready { seat, expires_at, details } => {
                    let address = resolve(&details).await.ok_or_else(|| {
                        tracing::warn!(game = %seat.match_id, "connection details that are no address");
                        JoinError::NoAddress
                    })?;
                    return self.admit(reserved, &seat, expires_at, address);
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
    ) -> Result<Admission, JoinError> {
        let token = token(&self.gateway.options, &reserved.candidate.fleet, seat, expires_at, address)?;
        Ok(Admission { address, token, seat: reserved.guard, warm: self.warm })
    }

    /// A seat in the fleet that can give one soonest; in another, if the broker does not know that one (any more).
    async fn reserve(&self) -> Result<Reserved<'a>, JoinError> {
        let wish = self.wish;
        let first = self.first_candidate().await?;
        let (before, from_first) = wish.candidates.split_at(first);
        let mut refusal = JoinError::OtherReply;
        for candidate in from_first.iter().chain(before) {
            let fleet = &candidate.fleet;
            let command = Command::Join {
                fleet: fleet.fleet.clone(),
                player: wish.player.clone(),
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
        if self.wish.candidates.len() < 2 {
            return Ok(0);
        }
        let fleets: Vec<_> =
            self.wish.candidates.iter().map(|candidate| candidate.fleet.fleet.clone()).collect();
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
                _ = self.ticks.tick(), if self.reports.wanted() => {
                    let text = self.text(game).await;
                    self.report(text).await;
                }
            }
        }
    }

    /// Reports, unless the player would hear the same again: others taking seats is no news.
    async fn report_news(&mut self, game: &Match) {
        if !self.reports.wanted() {
            return;
        }
        let text = self.text(game).await;
        if self.last_report.as_ref() != Some(&text) {
            self.report(text).await;
        }
    }

    async fn text(&self, game: &Match) -> String {
        let known = Standing::from(&game.state);
        if game.state != MatchState::Queued {
            return summary(&known);
        }
        let id = game.id.clone();
        let asked = self.broker().query(move |broker| broker.standing(&id)).await;
        // Whoever waits for news hears why there was no answer.
        summary(&asked.ok().flatten().unwrap_or(known))
    }

    async fn report(&mut self, text: String) {
        let told = match self.last_report {
            None => from_where(self.wish.client_ip, &text),
            Some(_) => text.clone(),
        };
        self.last_report = Some(text);
        self.ticks.reset();
        self.reports.send(Feedback::ProgressReport(told)).await;
    }
}

/// `text`, and for whom it is told.
fn from_where(client_ip: Option<IpAddr>, text: &str) -> String {
    client_ip.map_or_else(|| text.to_owned(), |ip| format!("joining from {ip}: {text}"))
}

/// The time by the wall clock.
pub(crate) fn now() -> Timestamp {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(u64::try_from(now.as_millis()).unwrap_or(u64::MAX))
}
