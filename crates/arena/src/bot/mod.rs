//! Bots: simulated players that test an installation from outside, the way its players use it.
//!
//! A bot knows only the gateway's address. It plays for a while and verifies what the server says (`check`), so that a
//! run without failures means that players were matched, admitted and served by the right server. A match may end while
//! a bot is in it, or on its way to it: then the bot asks again, and fails only if that happens too often in a row.

mod check;
mod event;
mod link;
mod player;
mod token;

use std::collections::BTreeSet;
use std::future::Future;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::pin::pin;
use std::time::Duration;

use fastrand::Rng;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::api_client::{ApiClient, ApiError, ApiKey, Wish};
use crate::bot::player::{Player, Surroundings};

pub use event::{BotEvent, FailureReason, Latency, PlaySummary};

/// Maximum number of concurrent bots.
pub const MAX_BOTS: u32 = 10_000;
/// Maximum number of events that wait to be observed; beyond it bots wait.
const EVENT_QUEUE: usize = 1024;
/// Maximum time over which the first bots of [`Arrivals::Keep`] arrive.
const RAMP: Duration = Duration::from_secs(1);
/// Pause before a failed bot is replaced, so that a gateway that is down is not flooded.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(500);

/// When bots arrive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Arrivals {
    /// This many bots, spread evenly over a time.
    Spread {
        /// Total number of bots, 1 to [`MAX_BOTS`].
        players: u32,
        /// From the first arrival to the last.
        over: Duration,
    },
    /// This many concurrent bots: when one is done the next arrives, until the time is over and the last finish.
    Keep {
        /// Concurrent bots, 1 to [`MAX_BOTS`].
        players: u32,
        /// How long bots keep arriving.
        lasting: Duration,
    },
}

/// Options of a run of bots.
#[derive(Clone, Debug)]
pub struct PlayOptions {
    /// Base address of the gateway.
    pub gateway: String,
    /// API key for the gateway, if it needs one.
    pub api_key: Option<ApiKey>,
    /// PEM file with roots to trust in addition to the system's, if the gateway's address is `https://`.
    pub ca: Option<PathBuf>,
    /// The game to ask for; `None` leaves it to the gateway.
    pub game: Option<String>,
    /// The version of the game to ask for; `None` leaves it to the gateway.
    pub version: Option<String>,
    /// The queue to enter; `None` is any match with room.
    pub queue: Option<String>,
    /// When bots arrive.
    pub arrivals: Arrivals,
    /// How long each bot plays after its first update; drawn at random for each.
    pub play_for: RangeInclusive<Duration>,
    /// Timeout for the gateway to find a place.
    pub join_within: Duration,
    /// Seed of all random choices of bots, and part of their player ids.
    pub seed: u64,
}

impl PlayOptions {
    /// Options with the defaults: 2 to 5 s of play each, a minute for the gateway to find a place.
    #[must_use]
    pub fn new(gateway: String, arrivals: Arrivals, seed: u64) -> Self {
        Self {
            gateway,
            api_key: None,
            ca: None,
            game: None,
            version: None,
            queue: None,
            arrivals,
            play_for: Duration::from_secs(2)..=Duration::from_secs(5),
            join_within: Duration::from_secs(60),
            seed,
        }
    }
}

/// Why bots could not be started.
#[derive(Debug, thiserror::Error)]
pub enum PlayError {
    /// The gateway's address is unusable.
    #[error(transparent)]
    Gateway(#[from] ApiError),
    /// Too few or too many bots.
    #[error("{0} bots are not possible: give a number from 1 to {MAX_BOTS}")]
    BadCount(u32),
    /// The shortest time is longer than the longest.
    #[error("bots cannot play for {} to {} s: the first must not be longer than the second", .0.as_secs_f64(), .1.as_secs_f64())]
    BadPlayTime(Duration, Duration),
}

/// What a bot will do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct BotPlan {
    /// Counts from 1.
    number: u64,
    player_id: String,
    play_for: Duration,
    seed: u64,
}

/// Draws plans; the same seed yields the same ones.
struct Bots {
    random: Rng,
    run: u32,
    play_for: RangeInclusive<Duration>,
    last: u64,
}

impl Bots {
    fn new(options: &PlayOptions) -> Self {
        let mut random = Rng::with_seed(options.seed);
        Self { run: random.u32(..), random, play_for: options.play_for.clone(), last: 0 }
    }

    fn next(&mut self) -> BotPlan {
        self.last += 1;
        let (shortest, longest) = (*self.play_for.start(), *self.play_for.end());
        BotPlan {
            number: self.last,
            player_id: format!("bot-{}-{:08x}", self.last, self.run),
            play_for: shortest + (longest - shortest).mul_f64(self.random.f64()),
            seed: self.random.u64(..),
        }
    }
}

/// Starts bots and waits for the last of them. `observe` receives every event as it happens, and must be quick. After
/// `stop` no more bots arrive, and those playing leave.
///
/// # Errors
/// [`PlayError`] if the options are invalid. Bots that fail are not an error: they are in the summary.
pub async fn play(
    options: PlayOptions,
    stop: impl Future<Output = ()>,
    observe: impl FnMut(&BotEvent),
) -> Result<PlaySummary, PlayError> {
    let (shortest, longest) = (*options.play_for.start(), *options.play_for.end());
    if shortest > longest {
        return Err(PlayError::BadPlayTime(shortest, longest));
    }
    let (Arrivals::Spread { players, .. } | Arrivals::Keep { players, .. }) = options.arrivals;
    if !(1..=MAX_BOTS).contains(&players) {
        return Err(PlayError::BadCount(players));
    }
    let api = ApiClient::new(&options.gateway, options.api_key.clone(), options.ca.as_deref())?;
    Ok(Run::new(options, api, observe).finish(stop).await)
}

struct Run<F> {
    observe: F,
    bots: Bots,
    around: Surroundings,
    heard: mpsc::Receiver<BotEvent>,
    stop: watch::Sender<bool>,
    playing: JoinSet<bool>,
    /// Pending arrivals; the number distinguishes those due at the same time.
    due: BTreeSet<(Instant, u64)>,
    last_due: u64,
    /// Until when a finished bot is replaced by the next.
    replaced_until: Option<Instant>,
    summary: PlaySummary,
}

impl<F: FnMut(&BotEvent)> Run<F> {
    fn new(options: PlayOptions, api: ApiClient, observe: F) -> Self {
        let (events, heard) = mpsc::channel(EVENT_QUEUE);
        let (stop, stopped) = watch::channel(false);
        let bots = Bots::new(&options);
        let (players, over, lasting) = match options.arrivals {
            Arrivals::Spread { players, over } => (players, over, None),
            Arrivals::Keep { players, lasting } => (players, RAMP.min(lasting), Some(lasting)),
        };
        let now = Instant::now();
        let steps = players.saturating_sub(1).max(1);
        let due = (0..players).map(|i| (now + over.mul_f64(f64::from(i) / f64::from(steps)), u64::from(i)));
        Self {
            observe,
            bots,
            around: Surroundings {
                api,
                wish: Wish { game: options.game, version: options.version, queue: options.queue },
                goes_home_at: lasting.map(|lasting| now + lasting),
                join_within: options.join_within,
                events,
                stop: stopped,
            },
            heard,
            stop,
            playing: JoinSet::new(),
            due: due.collect(),
            last_due: u64::from(players),
            replaced_until: lasting.map(|lasting| now + lasting),
            summary: PlaySummary::new(),
        }
    }

    async fn finish(mut self, stop: impl Future<Output = ()>) -> PlaySummary {
        let mut stop = pin!(stop);
        let mut is_stopping = false;
        while !(self.due.is_empty() && self.playing.is_empty()) {
            let next = self.due.first().map(|(at, _)| *at);
            tokio::select! {
                Some(event) = self.heard.recv() => self.hear(&event),
                Some(end) = self.playing.join_next() => self.replace(end.unwrap_or(false)),
                () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => self.arrive(),
                () = &mut stop, if !is_stopping => {
                    is_stopping = true;
                    self.replaced_until = None;
                    self.due.clear();
                    self.stop.send_replace(true);
                }
            }
        }
        while let Ok(event) = self.heard.try_recv() {
            self.hear(&event);
        }
        self.summary
    }

    fn hear(&mut self, event: &BotEvent) {
        self.summary.count(event);
        (self.observe)(event);
    }

    fn arrive(&mut self) {
        let Some((at, _)) = self.due.pop_first() else { return };
        // A bot that fails this late is not replaced.
        if self.replaced_until.is_some_and(|until| at > until) {
            return;
        }
        let player = Player::new(self.bots.next(), self.around.clone());
        self.playing.spawn(player.run());
    }

    fn replace(&mut self, went_well: bool) {
        if self.replaced_until.is_none() {
            return;
        }
        let pause = if went_well { Duration::ZERO } else { PAUSE_AFTER_FAILURE };
        self.last_due += 1;
        self.due.insert((Instant::now() + pause, self.last_due));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(seed: u64) -> PlayOptions {
        let arrivals = Arrivals::Spread { players: 1, over: Duration::ZERO };
        PlayOptions::new("http://127.0.0.1:1".to_owned(), arrivals, seed)
    }

    #[test]
    fn the_same_seed_draws_the_same_bots() {
        let draw = |seed| {
            let mut bots = Bots::new(&options(seed));
            (0..20).map(|_| bots.next()).collect::<Vec<_>>()
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1)[0].player_id, draw(2)[0].player_id);
        assert!(draw(3).iter().all(|plan| options(3).play_for.contains(&plan.play_for)));
    }

    #[tokio::test]
    async fn invalid_options_are_refused() {
        let refused = async |change: fn(&mut PlayOptions)| {
            let mut options = options(1);
            change(&mut options);
            play(options, std::future::pending(), |_| {}).await.unwrap_err()
        };
        let nobody = |options: &mut PlayOptions| {
            options.arrivals = Arrivals::Keep { players: 0, lasting: Duration::from_secs(1) };
        };
        assert!(matches!(refused(nobody).await, PlayError::BadCount(0)));
        let backwards = |options: &mut PlayOptions| {
            options.play_for = Duration::from_secs(5)..=Duration::from_secs(2);
        };
        assert!(matches!(refused(backwards).await, PlayError::BadPlayTime(..)));
        let nowhere = |options: &mut PlayOptions| options.gateway = "nowhere".to_owned();
        assert!(matches!(refused(nowhere).await, PlayError::Gateway(_)));
    }

    #[tokio::test]
    async fn an_unreachable_gateway_fails_the_bot() {
        let mut options = options(1);
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        options.gateway = format!("http://{free}");
        let mut events = Vec::new();
        let summary =
            play(options, std::future::pending(), |event| events.push(event.clone())).await.unwrap();
        assert_eq!(summary.failed.into_iter().collect::<Vec<_>>(), [(FailureReason::GatewayUnreachable, 1)]);
        assert!(matches!(events[..], [BotEvent::Started { bot: 1 }, BotEvent::Failed { bot: 1, .. }]));
    }
}
