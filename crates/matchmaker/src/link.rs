//! Reports to the matchmaker what happens to its matches at the broker, and which running matches have free seats.
//!
//! Both are sent to the matchmaker as commands, by following the broker's log. When following starts (at the start,
//! after the log was lost, and every [`RECONCILE_EVERY`]), the two states are compared first, so that nothing depends
//! on what was followed before. The commands are idempotent.
//!
//! In this order, so that nothing is missed: the place in the broker's log, then the matchmaker's matches, then their
//! states at the broker. A match that is submitted after the second step has its events after the first. States are
//! compared page by page, since a query blocks the machine.
//!
//! Commands about one match are sent in order, commands about different matches concurrently: each command waits for a
//! commit, and one commit takes all waiting commands.

mod offers;
mod telling;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use sortie_domain::broker::model::{EndCause, FailReason, Match, MatchState};
use sortie_domain::broker::{Broker, Event as BrokerEvent};
use sortie_domain::connection::Connection;
use sortie_domain::ids::MatchId;
use sortie_domain::machine::{Machine as _, Record};
use sortie_domain::matchmaking::model::Stage;
use sortie_domain::matchmaking::{Command, Event, Matchmaker};
use sortie_engine::{Cursor, Handle, SubscribeError, Subscription, Unavailable};
use tokio::time::{Instant, sleep, sleep_until};

use offers::OpenMatches;
use telling::Telling;

/// How often the states are compared even if nothing was missed: it limits how long a bug in either can keep players
/// waiting.
pub const RECONCILE_EVERY: Duration = Duration::from_secs(30);
/// How long changes of free seats are gathered, so that a match that fills up makes few offers.
pub const SETTLE: Duration = Duration::from_millis(50);
/// Matches per query, which blocks the machine.
const MATCHES_PER_LOOK: usize = 250;
/// Pause before a command to an unavailable matchmaker is retried, and before a lost log is followed again.
const PAUSE: Duration = Duration::from_millis(500);

/// Why the link ends.
enum Ended {
    /// One of the engines has ended.
    Engine,
    /// Following starts again.
    Again,
}

impl From<Unavailable> for Ended {
    fn from(why: Unavailable) -> Self {
        match why {
            Unavailable::ShuttingDown | Unavailable::Stopped => Self::Engine,
            Unavailable::Overloaded
            | Unavailable::DiskFull
            | Unavailable::DiskFailed
            | Unavailable::BatchTooLarge
            | Unavailable::Interrupted => Self::Again,
        }
    }
}

/// Reports to `maker` what happens to its matches at `broker`, until one of the two ends.
pub async fn follow(broker: Handle<Broker>, maker: Handle<Matchmaker>) {
    let link = Link { broker, maker };
    while let Err(Ended::Again) = link.follow().await {
        sleep(PAUSE).await;
    }
}

struct Link {
    broker: Handle<Broker>,
    maker: Handle<Matchmaker>,
}

/// Subscriptions to both logs, and what is known from them.
struct Following {
    of_broker: Subscription<Broker>,
    of_maker: Subscription<Matchmaker>,
    open: OpenMatches,
    /// Matches whose free seats have changed.
    changed: BTreeSet<MatchId>,
    /// When they are checked.
    look_at: Option<Instant>,
}

impl Link {
    async fn follow(&self) -> Result<(), Ended> {
        let mut telling = Telling::new(self.maker.clone());
        let mut following = self.begin(&mut telling).await?;
        let mut reconcile_at = Instant::now() + RECONCILE_EVERY;
        loop {
            let look_at = following.look_at.filter(|_| telling.has_room());
            let look = async {
                match look_at {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                told = telling.told(), if !telling.is_idle() => told?,
                record = following.of_broker.next(), if telling.has_room() => {
                    let record = record.map_err(|error| lost(&error))?;
                    Self::heard(&record, &mut following, &mut telling);
                }
                record = following.of_maker.next() => {
                    let record = record.map_err(|error| lost(&error))?;
                    if following.noted(&record.event) {
                        reconcile_at = Instant::now();
                    }
                }
                () = look => self.look(&mut following, &mut telling).await?,
                () = sleep_until(reconcile_at) => {
                    following = self.begin(&mut telling).await?;
                    reconcile_at = Instant::now() + RECONCILE_EVERY;
                }
            }
        }
    }

    /// Compares the states, and follows from there. Pending commands are sent first.
    async fn begin(&self, telling: &mut Telling) -> Result<Following, Ended> {
        telling.finish().await?;
        let from = self.broker.query(Broker::last_seq).await?;
        let of_broker = self.broker.subscribe(Cursor::From(from + 1));
        let (from, queues) = self.maker.query(|maker| (maker.last_seq(), offers::queues(maker))).await?;
        let of_maker = self.maker.subscribe(Cursor::From(from + 1));
        self.settle(telling).await?;
        let mut open = OpenMatches::new(queues);
        self.enter_live(&mut open).await?;
        let offered = self.offered().await?;
        let changed: BTreeSet<MatchId> = open.ids().cloned().chain(offered).collect();
        let look_at = (!changed.is_empty()).then(Instant::now);
        Ok(Following { of_broker, of_maker, open, changed, look_at })
    }

    /// Reports the state of the matchmaker's matches at the broker.
    async fn settle(&self, telling: &mut Telling) -> Result<(), Ended> {
        let mut after = None;
        loop {
            let (matches, last) = self.maker.query(move |maker| ask_maker(maker, after.as_ref())).await?;
            let ids: Vec<MatchId> = matches.iter().map(|(id, _)| id.clone()).collect();
            let standing = self.broker.query(move |broker| {
                let found = ids.iter().map(|id| broker.find_match(id).map(Standing::of));
                found.collect::<Vec<_>>()
            });
            for ((id, submitted), standing) in matches.into_iter().zip(standing.await?) {
                let command = match standing {
                    Some(standing) => standing.command(id.clone()),
                    // It will be submitted by its effect, which is retried until it has an outcome.
                    None if !submitted => None,
                    None => {
                        let reason = "the broker does not know the match any more".to_owned();
                        Some(Command::NoServer { match_id: id.clone(), reason })
                    }
                };
                if let Some(command) = command {
                    telling.make_room().await?;
                    telling.tell(id, command);
                }
            }
            if last.is_none() {
                return Ok(());
            }
            after = last;
        }
    }

    /// Records the broker's live matches.
    async fn enter_live(&self, open: &mut OpenMatches) -> Result<(), Ended> {
        let mut after = None;
        while open.wants_matches() {
            let (matches, last) =
                self.broker.query(move |broker| offers::live(broker, after.as_ref())).await?;
            matches.iter().for_each(|(id, spec)| open.enter(id, spec));
            if last.is_none() {
                break;
            }
            after = last;
        }
        Ok(())
    }

    /// Matches whose seats are on offer.
    async fn offered(&self) -> Result<BTreeSet<MatchId>, Ended> {
        let (mut found, mut after) = (BTreeSet::new(), None);
        loop {
            let page = self.maker.query(move |maker| offers::offered(maker, after.as_ref())).await?;
            let last = page.last().filter(|_| page.len() == MATCHES_PER_LOOK).cloned();
            found.extend(page);
            if last.is_none() {
                return Ok(found);
            }
            after = last;
        }
    }

    /// Handles an event of the broker.
    fn heard(record: &Record<BrokerEvent>, following: &mut Following, telling: &mut Telling) {
        let Some((id, standing)) = following.open.note(&record.event) else { return };
        if following.open.has(&id) {
            following.mark(id.clone());
        }
        if let Some(command) = standing.and_then(|standing| standing.command(id.clone())) {
            telling.tell(id, command);
        }
    }

    /// Offers the free seats of the changed matches, and withdraws those that are not free any more.
    async fn look(&self, following: &mut Following, telling: &mut Telling) -> Result<(), Ended> {
        let mut ids = std::mem::take(&mut following.changed);
        if let Some(next) = ids.iter().nth(MATCHES_PER_LOOK).cloned() {
            following.changed = ids.split_off(&next);
        }
        following.look_at = (!following.changed.is_empty()).then(Instant::now);
        // Commands about these are still in flight to the matchmaker; they are checked afterwards.
        for id in ids.extract_if(.., |id| telling.is_telling(id)).collect::<Vec<_>>() {
            following.mark(id);
        }
        let ids = Arc::new(ids);
        let of_maker = Arc::clone(&ids);
        // In this order: a seat that is taken in between was promised before. A ticket that is seated in between causes
        // an event, after which the match is checked again; until then the broker refuses missing seats.
        let games = self.broker.query(move |broker| offers::games(broker, &ids)).await?;
        let promised = self.maker.query(move |maker| offers::promised(maker, &of_maker)).await?;
        for (id, command) in following.open.plan(&games, &promised) {
            telling.make_room().await?;
            telling.tell(id, command);
        }
        Ok(())
    }
}

impl Following {
    fn mark(&mut self, id: MatchId) {
        self.changed.insert(id);
        self.look_at.get_or_insert_with(|| Instant::now() + SETTLE);
    }

    /// Handles an event of the matchmaker. True if everything has to be compared again.
    fn noted(&mut self, event: &Event) -> bool {
        match event {
            // Seats that were promised are taken, or free again.
            Event::TicketSeated { match_id, .. } | Event::TicketReturned { match_id, .. } => {
                self.mark(match_id.clone());
                false
            }
            Event::Configured { .. } | Event::Reconfigured { .. } => true,
            _ => false,
        }
    }
}

/// A page of the matchmaker's matches that wait for a server, by id, with whether they were submitted to the broker;
/// and the match after which the next page begins, if there is one.
fn ask_maker(maker: &Matchmaker, after: Option<&MatchId>) -> (Vec<(MatchId, bool)>, Option<MatchId>) {
    let page: Vec<_> = maker.formations_after(after).take(MATCHES_PER_LOOK).collect();
    let last = page.last().filter(|_| page.len() == MATCHES_PER_LOOK).map(|formation| formation.id.clone());
    let matches = page.into_iter().filter_map(|formation| match &formation.stage {
        Stage::FindingServer { submitted } => Some((formation.id.clone(), *submitted)),
        Stage::Accepting { .. } | Stage::Checking(_) => None,
    });
    (matches.collect(), last)
}

fn lost(error: &SubscribeError) -> Ended {
    if matches!(error, SubscribeError::Ended) {
        return Ended::Engine;
    }
    tracing::warn!(%error, "the matchmaker lost the log that it follows and compares the states instead");
    Ended::Again
}

/// The state of a match at the broker, as far as the matchmaker needs it.
enum Standing {
    Waiting,
    Ready(Arc<Connection>),
    Failed(FailReason),
    Ended(&'static str),
}

impl Standing {
    fn of(game: &Match) -> Self {
        match &game.state {
            MatchState::Queued | MatchState::PickedUp { .. } => Self::Waiting,
            MatchState::Ready { connection, .. } => Self::Ready(Arc::clone(connection)),
            MatchState::Ended { cause, .. } => Self::ended(*cause),
            MatchState::Failed { reason, .. } => Self::Failed(*reason),
            MatchState::Cancelled { cause, .. } => Self::Ended(cause.text()),
        }
    }

    const fn ended(cause: EndCause) -> Self {
        Self::Ended(cause.text())
    }

    fn command(self, match_id: MatchId) -> Option<Command> {
        match self {
            Self::Waiting => None,
            Self::Ready(connection) => {
                Some(Command::MatchReady { match_id, connection: (*connection).clone() })
            }
            // No server ever had it.
            Self::Failed(reason @ (FailReason::PickupTimeout | FailReason::FleetRemoved)) => {
                Some(Command::NoServer { match_id, reason: reason.text().to_owned() })
            }
            Self::Failed(reason) => Some(Command::MatchEnded { match_id, reason: reason.text().to_owned() }),
            Self::Ended(text) => Some(Command::MatchEnded { match_id, reason: text.to_owned() }),
        }
    }
}
