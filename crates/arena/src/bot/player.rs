//! The life of one bot: ask for a place, connect, walk around, verify updates, leave.

use std::time::Duration;

use fastrand::Rng;
use renetcode::DisconnectReason;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout};

use crate::api_client::{ApiClient, ApiError, Wish};
use crate::bot::check::Check;
use crate::bot::event::{BotEvent, FailureReason};
use crate::bot::link::Link;
use crate::bot::{BotPlan, token};
use crate::protocol::{DecodeError, ServerMessage};
use crate::world::Directions;

/// Interval between inputs: 20 per second.
const INPUT_EVERY: Duration = Duration::from_millis(50);
/// Maximum time without an update, while connecting or connected.
const SILENCE: Duration = Duration::from_secs(15);
/// Maximum number of consecutive attempts without seeing a world.
const MAX_TRIES: u32 = 3;
/// Pause before asking again, per attempt so far; up to twice as long at random.
const REJOIN_PAUSE: Duration = Duration::from_millis(100);
/// Chance that a bot changes direction with an input: one in this many.
const TURN_ONE_IN: u32 = 8;

/// State that all bots of a run share.
#[derive(Clone)]
pub(crate) struct Surroundings {
    pub(crate) api: ApiClient,
    pub(crate) wish: Wish,
    /// When bots stop arriving: a bot in a queue after that may wait for others who never come.
    pub(crate) goes_home_at: Option<Instant>,
    pub(crate) join_within: Duration,
    pub(crate) events: mpsc::Sender<BotEvent>,
    pub(crate) stop: watch::Receiver<bool>,
}

struct Failure {
    reason: FailureReason,
    detail: String,
}

/// How a bot got its token.
#[derive(Clone, Copy)]
struct Arrival {
    asked: Instant,
    join: Duration,
    warm: bool,
}

/// How one visit to a match ended.
enum Visit {
    /// The bot has played for its time, or was told to stop.
    Done,
    /// The bot waited in a queue, and no more bots are coming.
    WentHome,
    /// The match ended before the bot did.
    Over(Failure),
    /// Something is wrong.
    Failed(Failure),
}

fn failed(reason: FailureReason, detail: &impl ToString) -> Visit {
    Visit::Failed(Failure { reason, detail: detail.to_string() })
}

pub(crate) struct Player {
    plan: BotPlan,
    around: Surroundings,
    random: Rng,
    heading: Directions,
    /// When it has played for its time; known after the first update.
    leaves_at: Option<Instant>,
    updates: u64,
}

impl Player {
    pub(crate) fn new(plan: BotPlan, around: Surroundings) -> Self {
        let random = Rng::with_seed(plan.seed);
        Self { plan, around, random, heading: Directions::default(), leaves_at: None, updates: 0 }
    }

    /// Runs the bot. Returns whether it succeeded.
    pub(crate) async fn run(mut self) -> bool {
        let bot = self.plan.number;
        self.tell(BotEvent::Started { bot }).await;
        let mut tries = 0;
        let failure = loop {
            let updates_before = self.updates;
            let failure = match self.visit().await {
                Visit::Done => {
                    self.tell(BotEvent::Left { bot, updates: self.updates }).await;
                    return true;
                }
                Visit::WentHome => return true,
                Visit::Failed(failure) => break failure,
                Visit::Over(failure) => failure,
            };
            if self.leaves_at.is_some_and(|leaves_at| leaves_at <= Instant::now()) {
                self.tell(BotEvent::Left { bot, updates: self.updates }).await;
                return true;
            }
            tries = if self.updates > updates_before { 1 } else { tries + 1 };
            if tries >= MAX_TRIES {
                break failure;
            }
            tracing::debug!(bot, reason = %failure.reason, detail = failure.detail, "asking again");
            self.tell(BotEvent::Rejoining { bot, reason: failure.reason }).await;
            self.pause(tries).await;
        };
        self.tell(BotEvent::Failed { bot, reason: failure.reason, detail: failure.detail }).await;
        false
    }

    async fn tell(&self, event: BotEvent) {
        // Nobody listens any more only if the run is being dropped.
        let _ = self.around.events.send(event).await;
    }

    async fn pause(&mut self, tries: u32) {
        let pause = REJOIN_PAUSE.mul_f64(f64::from(tries) * (1.0 + self.random.f64()));
        tokio::select! {
            () = sleep(pause) => {}
            () = stopped(&mut self.around.stop) => {}
        }
    }

    async fn visit(&mut self) -> Visit {
        let asked = Instant::now();
        let around = self.around.clone();
        let wait = around.join_within;
        let ask = around.api.wanna_play(&self.plan.player_id, &around.wish, wait);
        let goes_home = around.goes_home_at.filter(|_| around.wish.queue.is_some());
        let answer = tokio::select! {
            answer = timeout(wait, ask) => answer,
            () = sleep_until(goes_home.unwrap_or(asked)), if goes_home.is_some() => {
                return Visit::WentHome;
            }
            () = stopped(&mut self.around.stop) => return Visit::Done,
        };
        let invitation = match answer {
            Ok(Ok(invitation)) => invitation,
            Ok(Err(error)) => return failed(gateway_reason(&error), &error),
            Err(_) => return failed(FailureReason::GatewayTimeout, &"no answer in time"),
        };
        let token = match token::read(&invitation) {
            Ok(token) => token,
            Err(problem) => return failed(FailureReason::BadInvitation, &problem),
        };
        let arrival = Arrival { asked, join: asked.elapsed(), warm: invitation.warm };
        let mut link = match Link::open(token).await {
            Ok(link) => link,
            Err(error) => return failed(FailureReason::Local, &error),
        };
        let end = self.play(&mut link, arrival).await;
        link.leave();
        end
    }

    async fn play(&mut self, link: &mut Link, arrival: Arrival) -> Visit {
        let mut check = Check::default();
        let mut inputs = interval(INPUT_EVERY);
        inputs.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut silent_at = Instant::now() + SILENCE;
        loop {
            // A bot whose time ran out on the way to a match still takes its seat before it releases it.
            let leaves_at = self.leaves_at.filter(|_| check.updates() > 0);
            tokio::select! {
                message = link.receive() => match message {
                    Err(error) => return failed(FailureReason::Local, &error),
                    Ok(None) => {}
                    Ok(Some(message)) => match self.hear(&mut check, message, arrival).await {
                        Ok(true) => silent_at = Instant::now() + SILENCE,
                        Ok(false) => {}
                        Err(end) => return end,
                    },
                },
                _ = inputs.tick() => {
                    link.keep_up();
                    if link.is_connected() {
                        link.send(&check.walk(self.heading()));
                    }
                }
                () = sleep_until(leaves_at.unwrap_or(silent_at)), if leaves_at.is_some() => return Visit::Done,
                () = sleep_until(silent_at) => return silent(link),
                () = stopped(&mut self.around.stop) => return Visit::Done,
            }
            if let Some(reason) = link.disconnected() {
                return disconnected(reason);
            }
        }
    }

    /// Handles a message. Returns whether the world advanced, or how the visit ends.
    async fn hear(
        &mut self,
        check: &mut Check,
        message: Result<ServerMessage, DecodeError>,
        arrival: Arrival,
    ) -> Result<bool, Visit> {
        let update = match message {
            Ok(ServerMessage::World(update)) => update,
            Ok(ServerMessage::Farewell(reason)) => {
                let reason = FailureReason::Dismissed(reason);
                return Err(Visit::Over(Failure { reason, detail: "the game server said so".to_owned() }));
            }
            Err(error) => return Err(failed(FailureReason::WrongWorld, &error)),
        };
        let is_news = check.take(&update).map_err(|wrong| failed(FailureReason::WrongWorld, &wrong))?;
        if !is_news {
            return Ok(false);
        }
        self.updates += 1;
        if check.updates() == 1 {
            let now = Instant::now();
            self.leaves_at.get_or_insert(now + self.plan.play_for);
            let Arrival { asked, join, warm } = arrival;
            let first_update = now.duration_since(asked);
            self.tell(BotEvent::Joined { bot: self.plan.number, join, first_update, warm }).await;
        }
        Ok(true)
    }

    /// A random walk that keeps its direction for a while.
    fn heading(&mut self) -> Directions {
        if self.random.u32(..TURN_ONE_IN) == 0 {
            self.heading = Directions::from_bits(self.random.u8(..16)).unwrap_or_default();
        }
        self.heading
    }
}

/// Completes when the run is told to stop.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    if stop.wait_for(|stop| *stop).await.is_err() {
        // The sender is gone; the bot then stops with its task.
        std::future::pending::<()>().await;
    }
}

fn gateway_reason(error: &ApiError) -> FailureReason {
    match error {
        ApiError::Unreachable { .. } => FailureReason::GatewayUnreachable,
        ApiError::TimedOut { .. } | ApiError::Refused { status: 408, .. } => FailureReason::GatewayTimeout,
        ApiError::Refused { .. } => FailureReason::GatewayRefused,
        ApiError::BadAnswer { .. } | ApiError::BadAddress(_) | ApiError::Roots(_) => {
            FailureReason::BadInvitation
        }
    }
}

fn silent(link: &Link) -> Visit {
    if link.is_connected() {
        failed(FailureReason::NoUpdates, &format!("no update of the world for {SILENCE:?}"))
    } else {
        failed(FailureReason::ConnectTimeout, &format!("no connection within {SILENCE:?}"))
    }
}

fn disconnected(reason: DisconnectReason) -> Visit {
    match reason {
        DisconnectReason::ConnectionDenied => {
            Visit::Over(Failure { reason: FailureReason::ConnectionDenied, detail: reason.to_string() })
        }
        DisconnectReason::DisconnectedByServer | DisconnectReason::DisconnectedByClient => {
            Visit::Over(Failure { reason: FailureReason::Disconnected, detail: reason.to_string() })
        }
        DisconnectReason::ConnectionTimedOut => failed(FailureReason::LostConnection, &reason),
        DisconnectReason::ConnectTokenExpired
        | DisconnectReason::ConnectionResponseTimedOut
        | DisconnectReason::ConnectionRequestTimedOut => failed(FailureReason::ConnectTimeout, &reason),
    }
}
