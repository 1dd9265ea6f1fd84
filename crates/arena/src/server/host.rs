//! The loop of a game server: handles datagrams, ticks and outcomes of calls as they come.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use sortie_retry::Backoff;
use tokio::task::AbortHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use crate::api_client::{ApiClient, ApiError, ClaimedSeat, Hints, MatchView, Offer};
use crate::protocol::{Farewell, Inputs};
use crate::server::calls::{Calls, Outcome};
use crate::server::door::{Arrival, Door};
use crate::server::options::{MAX_MATCHES, ServeOptions};
use crate::server::room::{Due, Pace, Room, Stage};
use crate::server::{ServeError, ServeSummary, StopReason};

/// Interval between ticks: 20 per second.
pub(crate) const TICK: Duration = Duration::from_millis(50);
/// Maximum time between a stop request and the end.
const STOP_WITHIN: Duration = Duration::from_secs(2);
/// Minimum time between two requests for a match, for a platform that answers at once instead of waiting.
const ASK_SPACING: Duration = Duration::from_millis(100);
/// Pause after the first failed request for a match.
const ASK_AGAIN: Duration = Duration::from_millis(200);
/// Number of consecutive refusals after which this server gives up.
const MAX_REFUSALS: u32 = 10;

/// State of the request for the next match.
enum Asking {
    /// To be sent at this time, if there is room.
    At(Instant),
    /// In flight.
    Now { call: AbortHandle, since: Instant },
    /// No further match is wanted.
    Never,
}

pub(crate) struct Host {
    options: ServeOptions,
    door: Door,
    calls: Calls,
    rooms: BTreeMap<String, Room>,
    /// Clients whose seat is being claimed, and the seat.
    claims: BTreeMap<u64, String>,
    asking: Asking,
    failures: u32,
    refusals: u32,
    stop_by: Option<Instant>,
    summary: ServeSummary,
}

impl Host {
    pub(crate) async fn open(options: ServeOptions) -> Result<Self, ServeError> {
        if !(1..=MAX_MATCHES).contains(&options.max_matches) {
            let problem = format!(
                "{} concurrent matches are not possible: give a number from 1 to {MAX_MATCHES}",
                options.max_matches
            );
            return Err(ServeError::Options(problem));
        }
        let api = ApiClient::new(&options.api, options.api_key.clone(), options.ca.as_deref())?;
        let door = Door::open(&options).await?;
        Ok(Self {
            calls: Calls::new(api, options.server_id.clone(), options.requirements.clone()),
            options,
            door,
            rooms: BTreeMap::new(),
            claims: BTreeMap::new(),
            asking: Asking::At(Instant::now()),
            failures: 0,
            refusals: 0,
            stop_by: None,
            summary: ServeSummary { reason: StopReason::Asked, matches: 0, admitted: 0, turned_away: 0 },
        })
    }

    pub(crate) async fn run(
        mut self,
        shutdown: impl Future<Output = ()>,
    ) -> Result<ServeSummary, ServeError> {
        let mut shutdown = pin!(shutdown);
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !self.is_done() {
            let (ask_at, stop_by) = (self.ask_at(), self.stop_by);
            tokio::select! {
                () = &mut shutdown, if stop_by.is_none() => self.stop(),
                outcome = self.calls.next() => {
                    if let Some(outcome) = outcome {
                        self.settle(outcome)?;
                    }
                }
                ready = self.door.readable() => {
                    ready.map_err(ServeError::Socket)?;
                    let arrivals = self.door.receive();
                    self.meet(arrivals);
                }
                _ = ticks.tick(), if self.is_busy() => self.tick(),
                () = sleep_until(ask_at.unwrap_or_else(Instant::now)), if ask_at.is_some() => self.ask(),
                () = sleep_until(stop_by.unwrap_or_else(Instant::now)), if stop_by.is_some() => break,
            }
        }
        self.door.close(Farewell::ServerStopping);
        tracing::info!(summary = ?self.summary, "the game server stops");
        Ok(self.summary)
    }

    fn is_done(&self) -> bool {
        matches!(self.asking, Asking::Never) && self.rooms.is_empty() && self.calls.is_empty()
    }

    /// Whether ticks are needed: an idle server sleeps.
    fn is_busy(&self) -> bool {
        !self.rooms.is_empty() || !self.door.is_empty()
    }

    // --- Matches ---

    /// When to request a match, if there is room for one.
    fn ask_at(&self) -> Option<Instant> {
        match self.asking {
            Asking::At(at) if self.rooms.len() < self.options.max_matches => Some(at),
            _ => None,
        }
    }

    fn ask(&mut self) {
        let mut hints = Hints::WILLING_TO_WAIT;
        if self.rooms.is_empty() {
            hints = hints.and(Hints::WILLING_TO_SHUTDOWN);
        }
        self.asking = Asking::Now { call: self.calls.request_match(hints), since: Instant::now() };
    }

    fn settle(&mut self, outcome: Outcome) -> Result<(), ServeError> {
        match outcome {
            Outcome::Asked(result) => return self.asked(result),
            Outcome::Readied { match_id, result } => self.readied(&match_id, result),
            Outcome::Ended { match_id, result } => self.ended(&match_id, result),
            Outcome::Claimed { client_id, seat_id, result } => self.claimed(client_id, seat_id, result),
            Outcome::Checked { match_id, result } => self.checked(&match_id, result),
            Outcome::Released { seat_id, result: Err(error) } => {
                tracing::warn!(seat_id, %error, "a seat was not released");
            }
            Outcome::Released { .. } => {}
        }
        Ok(())
    }

    fn asked(&mut self, result: Result<Offer, ApiError>) -> Result<(), ServeError> {
        let Asking::Now { since, .. } = self.asking else { return Ok(()) };
        let offer = match result {
            Ok(offer) => offer,
            Err(error) => return self.not_answered(error),
        };
        (self.failures, self.refusals) = (0, 0);
        self.asking = Asking::At((since + ASK_SPACING).max(Instant::now()));
        if let Some(offered) = offer.offered {
            self.begin(offered.match_id);
        }
        self.heed(offer.hint_flags);
        Ok(())
    }

    fn not_answered(&mut self, error: ApiError) -> Result<(), ServeError> {
        self.failures = self.failures.saturating_add(1);
        self.refusals = if error.is_lasting() { self.refusals + 1 } else { 0 };
        if self.refusals >= MAX_REFUSALS {
            return Err(ServeError::Unwanted(error));
        }
        // Retries are unlimited: platforms come back.
        let backoff = Backoff { first: ASK_AGAIN, max: self.options.max_pause };
        let pause = backoff.delay(self.failures);
        tracing::warn!(%error, ?pause, "no answer to a request for a match");
        self.asking = Asking::At(Instant::now() + pause);
        Ok(())
    }

    fn heed(&mut self, hints: Hints) {
        if hints.holds(Hints::SHUTDOWN) && self.stop_by.is_none() {
            tracing::info!("the platform asks this server to exit");
            self.summary.reason = StopReason::Hinted;
            self.ask_no_more();
        }
    }

    fn ask_no_more(&mut self) {
        if let Asking::Now { call, .. } = std::mem::replace(&mut self.asking, Asking::Never) {
            call.abort();
        }
    }

    fn begin(&mut self, match_id: String) {
        // A platform whose answer was lost assigns the same match again.
        if self.rooms.contains_key(&match_id) {
            return;
        }
        tracing::info!(match_id, "a match begins");
        self.summary.matches += 1;
        let pace = Pace {
            empty_after: self.options.empty_after,
            match_length: self.options.match_length,
            check_every: self.options.check_every,
        };
        self.rooms.insert(match_id.clone(), Room::new(pace, Instant::now()));
        self.calls.match_ready(match_id, self.door.address().to_owned());
    }

    fn readied(&mut self, match_id: &str, result: Result<Hints, ApiError>) {
        let Some(room) = self.rooms.get_mut(match_id).filter(|room| room.stage == Stage::Opening) else {
            return;
        };
        match result {
            Ok(hints) => {
                room.open(Instant::now());
                self.heed(hints);
            }
            Err(error) => {
                tracing::warn!(match_id, %error, "the match cannot begin");
                self.drop_match(match_id);
            }
        }
    }

    fn checked(&mut self, match_id: &str, result: Result<MatchView, ApiError>) {
        let nobody_is_coming = self.claims.is_empty();
        let Some(room) = self.rooms.get_mut(match_id).filter(|room| room.stage == Stage::Open) else {
            return;
        };
        room.checked(Instant::now());
        match result {
            Ok(view) if view.is_over() => self.drop_match(match_id),
            Ok(view) if room.is_empty() && nobody_is_coming && view.reserved() == 0 => {
                self.finish(match_id, Farewell::MatchOver, Hints::NONE);
            }
            Ok(_) => {}
            Err(ApiError::Refused { status: 404 | 410, .. }) => self.drop_match(match_id),
            Err(error) => tracing::warn!(match_id, %error, "cannot get the state of the match"),
        }
    }

    /// Ends a match that is still this server's.
    fn finish(&mut self, match_id: &str, farewell: Farewell, hints: Hints) {
        let Some(room) = self.rooms.get_mut(match_id) else { return };
        tracing::info!(match_id, ?farewell, "a match ends");
        for client_id in room.close() {
            self.door.dismiss(client_id, farewell);
        }
        self.calls.end_match(match_id.to_owned(), hints);
    }

    /// Drops a match that the platform has taken away.
    fn drop_match(&mut self, match_id: &str) {
        let Some(mut room) = self.rooms.remove(match_id) else { return };
        tracing::warn!(match_id, "the match was cancelled");
        for client_id in room.close() {
            self.door.dismiss(client_id, Farewell::MatchCancelled);
        }
    }

    fn ended(&mut self, match_id: &str, result: Result<Hints, ApiError>) {
        self.rooms.remove(match_id);
        match result {
            Ok(hints) => self.heed(hints),
            Err(error) => {
                tracing::warn!(match_id, %error, "the platform did not accept the end of the match");
            }
        }
    }

    fn stop(&mut self) {
        tracing::info!("asked to stop");
        self.summary.reason = StopReason::Asked;
        self.stop_by = Some(Instant::now() + STOP_WITHIN);
        self.ask_no_more();
        let open: Vec<_> =
            self.rooms.iter().filter(|(_, room)| room.admits()).map(|(id, _)| id.clone()).collect();
        for match_id in open {
            self.finish(&match_id, Farewell::ServerStopping, Hints::SHUTDOWN);
        }
    }

    // --- Players ---

    fn meet(&mut self, arrivals: Vec<Arrival>) {
        for arrival in arrivals {
            match arrival {
                Arrival::Connected { client_id, seat_id } => self.connected(client_id, seat_id),
                Arrival::Gone { client_id } => self.gone(client_id),
                Arrival::Message { client_id, bytes } => self.message(client_id, &bytes),
            }
        }
    }

    fn connected(&mut self, client_id: u64, seat_id: Option<String>) {
        let Some(seat_id) = seat_id else {
            tracing::warn!(client_id, "the token's user data does not begin with a seat id");
            return self.turn_away(client_id, Farewell::SeatRefused);
        };
        if !self.rooms.values().any(Room::admits) {
            return self.turn_away(client_id, Farewell::MatchOver);
        }
        self.claims.insert(client_id, seat_id.clone());
        self.calls.claim(client_id, seat_id);
    }

    fn claimed(&mut self, client_id: u64, seat_id: String, result: Result<ClaimedSeat, ApiError>) {
        let is_here = self.claims.get(&client_id) == Some(&seat_id);
        if is_here {
            self.claims.remove(&client_id);
        }
        let seat = match result {
            Ok(seat) => seat,
            Err(error) => {
                tracing::info!(client_id, seat_id, %error, "a player is not admitted");
                let lasting = error.is_lasting();
                let farewell = if lasting { Farewell::SeatRefused } else { Farewell::PlatformAway };
                if is_here {
                    self.turn_away(client_id, farewell);
                }
                return;
            }
        };
        if !is_here {
            return self.calls.release(seat_id);
        }
        let Some(room) = self.rooms.get_mut(&seat.match_id).filter(|room| room.admits()) else {
            self.calls.release(seat_id);
            return self.turn_away(client_id, Farewell::MatchOver);
        };
        if let Err(seat_id) = room.admit(client_id, seat_id) {
            self.calls.release(seat_id);
            return self.turn_away(client_id, Farewell::SeatRefused);
        }
        tracing::debug!(
            client_id,
            player_id = seat.player_id,
            match_id = seat.match_id,
            "a player is admitted"
        );
        self.summary.admitted += 1;
        if let Some(update) = room.update_for(client_id) {
            self.door.send(client_id, &update);
        }
    }

    fn turn_away(&mut self, client_id: u64, farewell: Farewell) {
        self.summary.turned_away += 1;
        self.door.dismiss(client_id, farewell);
    }

    fn gone(&mut self, client_id: u64) {
        self.claims.remove(&client_id);
        let now = Instant::now();
        if let Some(seated) = self.rooms.values_mut().find_map(|room| room.remove(client_id, now)) {
            self.calls.release(seated.seat_id);
        }
    }

    fn message(&mut self, client_id: u64, bytes: &[u8]) {
        match Inputs::decode(bytes) {
            Ok(inputs) => {
                for room in self.rooms.values_mut() {
                    room.take_inputs(client_id, &inputs);
                }
            }
            Err(error) => tracing::debug!(client_id, %error, "invalid message"),
        }
    }

    // --- Time ---

    fn tick(&mut self) {
        let gone = self.door.tick();
        self.meet(gone);
        let now = Instant::now();
        let mut due = Vec::new();
        for (match_id, room) in &mut self.rooms {
            room.tick();
            for (client_id, update) in room.updates() {
                self.door.send(client_id, &update);
            }
            match room.due(now) {
                Due::Nothing => {}
                what => due.push((match_id.clone(), what)),
            }
        }
        for (match_id, what) in due {
            match what {
                Due::Check => self.calls.check(match_id),
                Due::TimeIsUp => self.finish(&match_id, Farewell::MatchOver, Hints::NONE),
                Due::Nothing => {}
            }
        }
    }
}
