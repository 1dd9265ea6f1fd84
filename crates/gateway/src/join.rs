//! Gets one player a seat: finds the player's seat or reserves one, then `follow`s it.
//!
//! The seat is reserved before the wait, so that the broker keeps the place of waiting players, which survives this
//! process. Only the wait itself is kept here, and ending it releases the seat. The broker also ensures that a player
//! has only one seat, since calls may come at the same time.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sortie_domain::broker::model::Match;
use sortie_domain::broker::{Broker, Command, Refusal, Reply};
use sortie_domain::ids::PlayerId;
use sortie_domain::time::Timestamp;
use sortie_engine::{CallError, Handle, Unavailable};
use tokio::time::timeout;

use crate::admission::Admission;
use crate::attempts::{Attempts, Unreachable};
use crate::error::JoinError;
use crate::feedback::{Feedback, Reports};
use crate::follow::{Followed, Reserved};
use crate::games::{Candidate, Candidates, first_with_room};
use crate::options::GameFleet;
use crate::progress::Progress;
use crate::queue::{self, Entry};
use crate::seat_guard::SeatGuard;
use crate::stats::Start;
use crate::{Inner, WaitPermit};

/// A player's checked request.
pub(crate) struct Wish {
    pub(crate) aim: Aim,
    pub(crate) player: PlayerId,
    /// Whether the player is identified beyond this request.
    pub(crate) is_known: bool,
    /// The key that identifies a guest.
    pub(crate) player_key: Option<String>,
    pub(crate) client_ip: Option<IpAddr>,
    /// Held as long as the player waits.
    pub(crate) permit: WaitPermit,
}

/// What a player asks for.
pub(crate) enum Aim {
    /// Into any match of a game.
    DropIn(Candidates),
    /// Into a queue.
    Queue(Entry),
}

/// Finds a seat for a player, sending progress to `reports`.
///
/// # Errors
/// [`JoinError`]; the seat, if there was one, is released, also when the future is dropped.
pub(crate) async fn join(gateway: Arc<Inner>, wish: Wish, reports: Reports) -> Result<Admission, JoinError> {
    let mut start = Start::new(&gateway.counters);
    let (interval, until) = (gateway.options.progress_interval, gateway.lookup_until());
    let mut progress = Progress::new(&reports, interval, wish.client_ip, until);
    let unreachable = Unreachable::default();
    let searching = search(&gateway, &wish, &unreachable, &mut progress);
    let limit = limit(&gateway, &wish.aim, &reports);
    let mut found = tokio::select! {
        biased;
        found = within(limit, &unreachable, searching) => found,
        () = gateway.options.closing.cancelled() => Err(Unavailable::ShuttingDown.into()),
    };
    if let Ok(admission) = &mut found {
        start.way = admission.way;
        admission.player_key = wish.player_key;
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

async fn search(
    gateway: &Inner,
    wish: &Wish,
    unreachable: &Unreachable,
    progress: &mut Progress<'_>,
) -> Result<Admission, JoinError> {
    progress.send(Feedback::Acknowledged).await;
    let attempts = Attempts::new(unreachable);
    match &wish.aim {
        Aim::DropIn(candidates) => Search { gateway, candidates, wish, progress }.run(attempts).await,
        Aim::Queue(entry) => queue::play(gateway, &wish.player, entry, attempts, progress).await,
    }
}

/// The error at the deadline of a wait, given the number of unreachable servers until then.
type Late = fn(u32) -> JoinError;

/// The wait's deadline, and the error then. Players with progress reports wait as long as their ticket.
fn limit(gateway: &Inner, aim: &Aim, reports: &Reports) -> Option<(Duration, Late)> {
    let longest = gateway.options.wait_deadline;
    match aim {
        Aim::DropIn(_) => Some((longest, |unreachable| match unreachable {
            0 => JoinError::Deadline,
            servers => JoinError::NoAddress { servers },
        })),
        Aim::Queue(_) => {
            (!reports.wanted()).then_some((longest, |unreachable| JoinError::StillWaits { unreachable }))
        }
    }
}

async fn within(
    limit: Option<(Duration, Late)>,
    unreachable: &Unreachable,
    searching: impl Future<Output = Result<Admission, JoinError>>,
) -> Result<Admission, JoinError> {
    match limit {
        Some((longest, late)) => {
            timeout(longest, searching).await.unwrap_or_else(|_| Err(late(unreachable.count())))
        }
        None => searching.await,
    }
}

/// The search for a seat in any match of a game.
struct Search<'a, 'b> {
    gateway: &'a Inner,
    candidates: &'a Candidates,
    wish: &'a Wish,
    progress: &'a mut Progress<'b>,
}

impl<'a> Search<'a, '_> {
    const fn broker(&self) -> &'a Handle<Broker> {
        &self.gateway.broker
    }

    async fn run(&mut self, mut attempts: Attempts<'_>) -> Result<Admission, JoinError> {
        loop {
            let reserved = self.reserve().await?;
            match self.gateway.follow(reserved, attempts.is_first(), self.progress).await? {
                Followed::Admitted(admission) => return Ok(admission),
                Followed::Lost => attempts.lost()?,
                Followed::Unreachable => attempts.unreachable().await?,
            }
        }
    }

    /// The player's existing seat, or a new one.
    async fn reserve(&self) -> Result<Reserved<'a>, JoinError> {
        let (gateway, player) = (self.gateway, &self.wish.player);
        // An unknown player cannot have a seat yet.
        if !self.wish.is_known {
            return self.take_seat().await.map(|(reserved, _)| reserved);
        }
        if let Some(reserved) = gateway.lead_back(player, Some(self.candidates)).await? {
            return Ok(reserved);
        }
        let name = self.candidates.first().map_or("", |candidate| &candidate.fleet.game.name);
        gateway.check_waits_nowhere(player, name).await?;
        let (reserved, again) = self.take_seat().await?;
        if !again {
            gateway.call_off_ticket(player, name, &reserved.game.id).await;
        }
        Ok(reserved)
    }

    /// A seat in the fleet that has one soonest; in another, if the broker does not know that fleet (any more). Also
    /// whether the player had the seat before.
    async fn take_seat(&self) -> Result<(Reserved<'a>, bool), JoinError> {
        let first = self.first_candidate().await?;
        let (before, from_first) = self.candidates.split_at(first);
        let beside: Arc<[_]> =
            self.candidates.iter().map(|candidate| candidate.fleet.fleet.clone()).collect();
        let mut refusal = JoinError::OtherReply;
        for candidate in from_first.iter().chain(before) {
            let fleet = &candidate.fleet;
            let command = Command::Join {
                fleet: fleet.fleet.clone(),
                player: self.wish.player.clone(),
                capacity: fleet.capacity,
                ttl: fleet.seat_ttl,
                properties: candidate.properties.clone(),
                beside: Arc::clone(&beside),
                rejoin: self.gateway.options.rejoin,
            };
            match self.broker().call(command).await {
                Ok(Reply::Seated { seat, game, again }) => {
                    let held = &self.gateway.held;
                    let guard = SeatGuard::new(self.broker().clone(), held, seat.id.clone(), again);
                    let fleet = self.fleet_of(&game).unwrap_or(fleet);
                    return Ok((Reserved { fleet, seat: seat.id, guard, game }, again));
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

    /// The player may have had a seat in another fleet than the one that was asked.
    fn fleet_of(&self, game: &Match) -> Option<&'a GameFleet> {
        let named = |candidate: &&Candidate| game.spec.fleet.as_ref() == Some(&candidate.fleet.fleet);
        self.candidates.iter().find(named).map(Candidate::fleet)
    }

    /// With one fleet there is nothing to choose, which saves a query of the broker.
    async fn first_candidate(&self) -> Result<usize, JoinError> {
        if self.candidates.len() < 2 {
            return Ok(0);
        }
        let fleets: Vec<_> = self.candidates.iter().map(|candidate| candidate.fleet.fleet.clone()).collect();
        let now = now();
        Ok(self.broker().query(move |broker| first_with_room(broker, &fleets, now)).await?)
    }
}

/// The wall clock's time.
pub(crate) fn now() -> Timestamp {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(u64::try_from(now.as_millis()).unwrap_or(u64::MAX))
}
