//! Which players hear about which tickets and matches.
//!
//! One follower reads the logs of broker and matchmaker for all players, keeps for each live match its players and
//! where they connect, and passes each event to its listeners. With one subscription per player and ten thousand
//! listeners, every event would wake ten thousand tasks, nearly all of them for nothing.
//!
//! A player hears the outcome of each ticket and each match exactly once, and each log's events in order. The
//! matchmaker reports a match of tickets until its players can connect, the broker after that. If a match ends while
//! the matchmaker is not done with it ([`underway`]), its end is told after the matchmaker's event, and so are all
//! later events of the broker, because a place in its log means that everything before it has been told. A new listener
//! hears the current state of its tickets and matches; one that resumes with the id of the last event hears what came
//! since, also from another process over the same logs ([`cursor`]). A listener that does not keep up is disconnected.
//!
//! The standing comes from the matchmaker's state, which is ahead of the follower: a stream starts once the follower
//! has reached it. Otherwise the events in between would be lost, above all that the players of a match can connect
//! ([`behind`]).

mod behind;
mod cursor;
mod news;
mod table;
mod underway;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sortie_domain::broker::event::Event as BrokerEvent;
use sortie_domain::broker::{Broker, Snapshot};
use sortie_domain::ids::{MatchId, PlayerId};
use sortie_domain::machine::{Machine, Record};
use sortie_domain::matchmaking::model::{Named, Stage, TicketState};
use sortie_domain::matchmaking::{Event as MakerEvent, Matchmaker, Snapshot as MakerSnapshot};
use sortie_engine::{Cursor, Handle, Hosted, SubscribeError, Subscription, Unavailable};
use sortie_wire::catena::events::Event;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::codes;
use crate::error::ApiError;

pub(crate) use cursor::{LAST_EVENT_ID, LAST_EVENT_ID_PARAM, Position, resumed};
use news::News;
use table::{FeedMatch, Known, Table, Told};
use underway::{Due, Underway, over};

/// Maximum number of events that wait for one listener.
const WAITING_EVENTS: usize = 256;
/// Records of each log that are read again when following starts, so that players can resume.
const READ_AGAIN: u64 = 10_000;
/// How long the end of a match waits for the matchmaker's event about it: twice the interval at which the two compare
/// their states. A matchmaker that takes longer cannot write, and must not silence the broker forever.
const MAKER_PATIENCE: Duration = Duration::from_secs(60);
/// How long a new stream waits for a follower that lags: a little longer than one match can delay it.
const FOLLOWER_PATIENCE: Duration = Duration::from_secs(65);

/// Starts the follower when the first player listens, and again if it loses a log.
pub(crate) struct PlayerFeed {
    broker: Handle<Broker>,
    maker: Option<Handle<Matchmaker>>,
    max_listeners: usize,
    closing: CancellationToken,
    follower: tokio::sync::Mutex<Option<Arc<Follower>>>,
}

impl PlayerFeed {
    pub(crate) fn new(
        broker: Handle<Broker>,
        maker: Option<Handle<Matchmaker>>,
        max_listeners: usize,
        closing: CancellationToken,
    ) -> Self {
        Self { broker, maker, max_listeners, closing, follower: tokio::sync::Mutex::new(None) }
    }

    /// The events after `from`; without it the state of the player's tickets and matches, and the events after that.
    pub(crate) async fn listen(
        &self,
        player: &PlayerId,
        from: Option<Position>,
    ) -> Result<Listener, ApiError> {
        tokio::select! {
            biased;
            () = self.closing.cancelled() => Err(Unavailable::ShuttingDown.into()),
            listener = self.open(player, from) => listener,
        }
    }

    async fn open(&self, player: &PlayerId, from: Option<Position>) -> Result<Listener, ApiError> {
        let follower = self.follower().await?;
        let listener = match from {
            Some(from) => {
                self.check_ahead(from).await?;
                follower.resume(player, from, self.max_listeners)?
            }
            None => {
                let standing = self.standing(player).await?;
                follower.reach(player, standing.seq).await?;
                follower.begin(player, standing, self.max_listeners)?
            }
        };
        listener.ok_or_else(|| codes::STREAM_BROKEN.error("the log cannot be followed; try again later"))
    }

    async fn follower(&self) -> Result<Arc<Follower>, ApiError> {
        let mut follower = self.follower.lock().await;
        if let Some(running) = follower.as_ref().filter(|running| !running.table().closed) {
            return Ok(Arc::clone(running));
        }
        let started = self.start().await?;
        *follower = Some(Arc::clone(&started));
        Ok(started)
    }

    /// The state of the player's live tickets, and the match that the player is in through one of them.
    async fn standing(&self, player: &PlayerId) -> Result<Standing, ApiError> {
        let Some(maker) = &self.maker else { return Ok(Standing::default()) };
        let player = player.clone();
        let asked = maker.query(move |maker| {
            let tickets = || maker.tickets_of(&player);
            Standing {
                seq: maker.last_seq(),
                tickets: tickets().map(|ticket| standing_of(maker, ticket)).collect(),
                in_match: tickets().find_map(|ticket| ticket.match_id().cloned()),
            }
        });
        asked.await.map_err(ApiError::from)
    }

    /// Refuses a cursor ahead of the logs: it comes from other logs.
    async fn check_ahead(&self, from: Position) -> Result<(), ApiError> {
        let broker = self.broker.query(Broker::last_seq).await?;
        let maker = match &self.maker {
            Some(maker) => maker.query(Matchmaker::last_seq).await?,
            None => 0,
        };
        if from.broker > broker {
            return Err(SubscribeError::Ahead { asked: from.broker, last: broker }.into());
        }
        if from.maker > maker {
            return Err(SubscribeError::Ahead { asked: from.maker, last: maker }.into());
        }
        Ok(())
    }

    /// Reads the latest records again, takes over the current state, and follows from there.
    async fn start(&self) -> Result<Arc<Follower>, ApiError> {
        let (to_broker, games) = gathered(&self.broker, |copy| (copy.seq, live(copy))).await?;
        let mut of_broker = self.broker.subscribe(again(&self.broker, to_broker));
        let from_broker = of_broker.next_seq().saturating_sub(1);
        let matches = read_to(&mut of_broker, to_broker).await?;
        let (mut maker_known, mut of_maker, mut to_maker) = (Known::default(), None, 0);
        if let Some(maker) = &self.maker {
            (to_maker, maker_known) = known_with(maker, &matches).await?;
            of_maker = Some(maker.subscribe(again(maker, to_maker)));
        }
        let floor = Position {
            broker: from_broker,
            maker: of_maker.as_ref().map_or(0, |of_maker| of_maker.next_seq().saturating_sub(1)),
        };
        let tickets = match &mut of_maker {
            Some(of_maker) => read_to(of_maker, to_maker).await?,
            None => VecDeque::new(),
        };
        let unknown = begun_before(&matches);
        let before = self.broker.query(move |broker| games_before(broker, &unknown)).await?;
        let mut table = Table::new(floor, Known { games: before, ..Known::default() });
        table.broker_said = self.broker.stats().last_seq;
        tell_again(&mut table, matches, tickets);
        table.know(Known { games, ..maker_known });
        let follower = Arc::new(Follower {
            told: watch::Sender::new(table.at),
            table: Mutex::new(table),
            broker: self.broker.clone(),
            maker: self.maker.clone(),
            ended: self.closing.child_token(),
        });
        tokio::spawn(Arc::clone(&follower).follow(of_broker, of_maker));
        Ok(follower)
    }
}

/// The state of the player's tickets at a place of the matchmaker's log.
#[derive(Default)]
struct Standing {
    seq: u64,
    tickets: Vec<News>,
    /// A player is in one match at a time.
    in_match: Option<MatchId>,
}

fn standing_of(maker: &Matchmaker, ticket: &sortie_domain::matchmaking::model::Ticket) -> News {
    let proposed = match &ticket.state {
        TicketState::Proposed { match_id, .. } => maker.formation(match_id),
        _ => None,
    };
    let until = proposed.and_then(|formation| match &formation.stage {
        Stage::Accepting { until, .. } => Some(*until),
        _ => None,
    });
    News::standing(ticket, until)
}

fn live(broker: &Snapshot) -> Vec<(MatchId, FeedMatch)> {
    broker.matches.iter().map(|(id, game)| (id.clone(), FeedMatch::from(&**game))).collect()
}

fn games_before(broker: &Broker, ids: &BTreeMap<MatchId, bool>) -> Vec<(MatchId, FeedMatch)> {
    let found = ids.iter().filter_map(|(id, became_ready)| Some((broker.find_match(id)?, *became_ready)));
    found.map(|(game, became_ready)| (game.id.clone(), FeedMatch::before(game, became_ready))).collect()
}

fn known_of(maker: &MakerSnapshot) -> Known {
    let offers = maker.offers.values();
    let offered = offers.flat_map(|offered| offered.seating.keys().map(|ticket| (ticket, &offered.offer)));
    let offered: HashMap<_, _> = offered.collect();
    let seating = maker.tickets.values().filter_map(|ticket| {
        let named = Named { ticket: ticket.id.clone(), players: ticket.spec.player_ids() };
        Some((offered.get(&ticket.id)?.match_id.clone(), named))
    });
    let asked =
        maker.formations.values().filter(|formation| matches!(formation.stage, Stage::Accepting { .. }));
    let proposals: HashSet<_> = asked.map(|formation| formation.id.clone()).collect();
    Known { games: Vec::new(), seating: seating.collect(), proposals, underway: Underway::of(maker) }
}

/// Processes a copy of the state, which is cheap for the machine, on another thread.
async fn gathered<M: Hosted, R: Send + 'static>(
    machine: &Handle<M>,
    gather: impl FnOnce(&M::Snapshot) -> R + Send + 'static,
) -> Result<R, Unavailable> {
    let copy = machine.query(M::snapshot).await?;
    tokio::task::spawn_blocking(move || gather(&copy)).await.map_err(|_| Unavailable::Stopped)
}

async fn known_now(maker: &Handle<Matchmaker>) -> Result<(u64, Known), Unavailable> {
    gathered(maker, |copy| (copy.seq, known_of(copy))).await
}

/// The place in the matchmaker's log and what is known there, once it has processed every match that is over at the
/// broker.
async fn known_with(maker: &Handle<Matchmaker>, matches: &Records<Broker>) -> Result<(u64, Known), ApiError> {
    let ended: HashSet<MatchId> = matches.iter().filter_map(|record| over(&record.event)).cloned().collect();
    let is_done = |known: &Known| !ended.iter().any(|id| known.underway.has(id));
    let mut known = known_now(maker).await?;
    let mut news = maker.subscribe(Cursor::From(known.0 + 1));
    let done = timeout(MAKER_PATIENCE, async {
        while !is_done(&known.1) {
            news.next().await?;
            known = known_now(maker).await?;
        }
        Ok(())
    });
    match done.await {
        Ok(done) => done.map(|()| known),
        Err(_) => {
            tracing::warn!("the matchmaker does not report what became of matches that are over");
            Ok(known)
        }
    }
}

/// Where to start reading again, so that it ends at `last`.
fn again<M: Hosted>(handle: &Handle<M>, last: u64) -> Cursor {
    let earliest = handle.subscribe(Cursor::Earliest).next_seq();
    Cursor::From(earliest.max((last + 1).saturating_sub(READ_AGAIN)))
}

type Records<M> = VecDeque<Arc<Record<<M as Machine>::Event>>>;

async fn read_to<M: Hosted>(subscription: &mut Subscription<M>, last: u64) -> Result<Records<M>, ApiError> {
    let mut records = VecDeque::new();
    while subscription.next_seq() <= last {
        records.push_back(subscription.next().await?);
    }
    Ok(records)
}

/// Matches in the records that were queued before them, each with whether it became ready since.
fn begun_before(records: &Records<Broker>) -> BTreeMap<MatchId, bool> {
    let (mut begun, mut before) = (HashSet::new(), BTreeMap::new());
    for record in records {
        let id = match &record.event {
            BrokerEvent::MatchQueued { id, .. } => {
                begun.insert(id);
                continue;
            }
            BrokerEvent::MatchReady { id, .. }
            | BrokerEvent::MatchFailed { id, .. }
            | BrokerEvent::MatchCancelled { id, .. }
            | BrokerEvent::MatchEnded { id, .. }
            | BrokerEvent::SeatReserved { match_id: id, .. } => id,
            _ => continue,
        };
        if !begun.contains(id) {
            let became_ready = matches!(record.event, BrokerEvent::MatchReady { .. });
            *before.entry(id.clone()).or_default() |= became_ready;
        }
    }
    before
}

/// Ordered by time. The matchmaker's events come first at equal times, because matches follow from them, and so do its
/// events about a match that is over.
fn tell_again(table: &mut Table, mut matches: Records<Broker>, mut tickets: Records<Matchmaker>) {
    let mut due: Due = tickets.iter().map(|record| &record.event).collect();
    loop {
        let ticket_first = match (matches.front(), tickets.front()) {
            (None, None) => return,
            (Some(game), Some(ticket)) => {
                ticket.time <= game.time || over(&game.event).is_some_and(|id| due.has(id))
            }
            (game, _) => game.is_none(),
        };
        if ticket_first && let Some(record) = tickets.pop_front() {
            due.remove(&record.event);
            table.pass_on_ticket(&record);
        } else if let Some(record) = matches.pop_front() {
            table.pass_on(&record);
        }
    }
}

/// Reads the logs for all listeners. Ends with the process or when a log cannot be followed; its listeners are then
/// disconnected, and the next one starts another follower.
struct Follower {
    table: Mutex<Table>,
    /// How far both logs have been told; `u64::MAX` once following has ended.
    told: watch::Sender<Position>,
    broker: Handle<Broker>,
    maker: Option<Handle<Matchmaker>>,
    ended: CancellationToken,
}

/// News from one of the logs.
enum Heard {
    Match(Arc<Record<BrokerEvent>>),
    Ticket(Arc<Record<MakerEvent>>),
}

impl Follower {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pass_on(&self, record: &Record<BrokerEvent>) {
        let mut table = self.table();
        table.pass_on(record);
        self.told.send_replace(table.at);
    }

    fn pass_on_ticket(&self, record: &Record<MakerEvent>) {
        let mut table = self.table();
        table.broker_said = self.broker.stats().last_seq;
        table.pass_on_ticket(record);
        self.told.send_replace(table.at);
    }

    /// Waits until the matchmaker's log has been told up to `maker`, and the broker's as far as the player's standing
    /// there needs; or until following has ended.
    async fn reach(&self, player: &PlayerId, maker: u64) -> Result<(), ApiError> {
        let mut told = self.told.subscribe();
        let reached = timeout(FOLLOWER_PATIENCE, async {
            // Cannot fail: the sender is a field of `self`.
            let _ = told.wait_for(|told| told.maker >= maker).await;
            let broker = self.table().behind.needed(player);
            let _ = told.wait_for(|told| told.broker >= broker).await;
        });
        reached.await.map_err(|_| {
            let text = "players' events are delayed too much to start a stream; try again later";
            codes::STREAM_BROKEN.error(text)
        })
    }

    async fn follow(
        self: Arc<Self>,
        mut of_broker: Subscription<Broker>,
        mut of_maker: Option<Subscription<Matchmaker>>,
    ) {
        // After a panic, listeners must not wait forever.
        let _close = CloseOnDrop(&self);
        let error = tokio::select! {
            biased;
            () = self.ended.cancelled() => return,
            Err(error) = self.tell_on(&mut of_broker, &mut of_maker) => error,
        };
        if !matches!(error, SubscribeError::Ended) {
            tracing::error!(%error, "players' events cannot be followed; their streams start again");
        }
    }

    /// Tells events until a log cannot be followed.
    async fn tell_on(
        &self,
        of_broker: &mut Subscription<Broker>,
        of_maker: &mut Option<Subscription<Matchmaker>>,
    ) -> Result<Infallible, SubscribeError> {
        loop {
            let heard = tokio::select! {
                biased;
                record = next_ticket(of_maker) => Heard::Ticket(record?),
                record = of_broker.next() => Heard::Match(record?),
            };
            match heard {
                Heard::Ticket(record) => self.pass_on_ticket(&record),
                Heard::Match(record) => {
                    self.catch_up(of_maker).await?;
                    self.await_maker(of_maker, &record.event).await?;
                    self.pass_on(&record);
                }
            }
        }
    }

    /// Tells everything that the matchmaker has decided so far: the broker's last event may follow from it.
    async fn catch_up(&self, of_maker: &mut Option<Subscription<Matchmaker>>) -> Result<(), SubscribeError> {
        let (Some(maker), Some(of_maker)) = (&self.maker, of_maker) else { return Ok(()) };
        let last = maker.stats().last_seq;
        while of_maker.next_seq() <= last {
            let record = of_maker.next().await?;
            self.pass_on_ticket(&record);
        }
        Ok(())
    }

    /// Before the end of a match, tells the matchmaker's events about it, if it is not done with it yet.
    async fn await_maker(
        &self,
        of_maker: &mut Option<Subscription<Matchmaker>>,
        event: &BrokerEvent,
    ) -> Result<(), SubscribeError> {
        let (Some(of_maker), Some(id)) = (of_maker, over(event)) else { return Ok(()) };
        let done = timeout(MAKER_PATIENCE, async {
            while self.table().is_underway(id) {
                let record = of_maker.next().await?;
                self.pass_on_ticket(&record);
            }
            Ok(())
        });
        done.await.unwrap_or_else(|_| {
            tracing::warn!(match_id = %id, "the matchmaker does not report what became of a match that is over");
            Ok(())
        })
    }

    /// `None` if it has ended. The standing has been [reached](Self::reach).
    fn begin(
        self: &Arc<Self>,
        player: &PlayerId,
        standing: Standing,
        most: usize,
    ) -> Result<Option<Listener>, ApiError> {
        let table = self.table();
        if table.closed {
            return Ok(None);
        }
        let heard = Position { broker: table.at.broker, maker: standing.seq };
        let missed = table.kept(player, heard);
        let mut present = table.present(player, standing.in_match.as_ref(), &missed);
        present.extend(standing.tickets);
        // Only the last of them can be resumed from: a listener that got only some of them starts again.
        let last = present.len().saturating_sub(1);
        let numbered = present.iter().zip(0..);
        let present = numbered.map(|(news, at)| news.event(player, (at == last).then_some(heard))).collect();
        self.register(table, player, heard, (present, missed), most).map(Some)
    }

    /// `None` if it has ended.
    fn resume(
        self: &Arc<Self>,
        player: &PlayerId,
        from: Position,
        most: usize,
    ) -> Result<Option<Listener>, ApiError> {
        let table = self.table();
        if table.closed {
            return Ok(None);
        }
        if !table.floor.is_within(from) {
            let text = "the events after this one are not kept any more; subscribe without it to get the state of \
                        tickets and matches";
            return Err(codes::CURSOR_GONE.error(text).about(LAST_EVENT_ID));
        }
        let missed = table.kept(player, from);
        self.register(table, player, from, (VecDeque::new(), missed), most).map(Some)
    }

    fn register(
        self: &Arc<Self>,
        mut table: MutexGuard<'_, Table>,
        player: &PlayerId,
        heard: Position,
        (present, missed): (VecDeque<Event>, Vec<Arc<Told>>),
        most: usize,
    ) -> Result<Listener, ApiError> {
        if table.listening >= most {
            return Err(ApiError::too_many("streams of players' events", most));
        }
        let missed = missed.into();
        let (sender, events) = mpsc::channel(WAITING_EVENTS);
        let id = table.add(player, sender);
        Ok(Listener {
            id,
            player: player.clone(),
            heard,
            present,
            missed,
            events,
            follower: Arc::clone(self),
        })
    }
}

async fn next_ticket(
    of_maker: &mut Option<Subscription<Matchmaker>>,
) -> Result<Arc<Record<MakerEvent>>, SubscribeError> {
    match of_maker {
        Some(of_maker) => of_maker.next().await,
        None => std::future::pending().await,
    }
}

struct CloseOnDrop<'a>(&'a Follower);

impl Drop for CloseOnDrop<'_> {
    fn drop(&mut self) {
        let mut table = self.0.table();
        *table = Table::default();
        table.closed = true;
        // No listener must wait for more.
        self.0.told.send_replace(Position { broker: u64::MAX, maker: u64::MAX });
    }
}

/// One listening player.
pub(crate) struct Listener {
    id: u64,
    player: PlayerId,
    /// The player has everything up to here.
    heard: Position,
    /// The state of tickets and matches, told first.
    present: VecDeque<Event>,
    /// Events since then, told next.
    missed: VecDeque<Arc<Told>>,
    events: mpsc::Receiver<Arc<Told>>,
    follower: Arc<Follower>,
}

impl Listener {
    /// The next event. A dropped future loses nothing.
    pub(crate) async fn next(&mut self) -> Result<Event, ApiError> {
        if let Some(event) = self.present.pop_front() {
            return Ok(event);
        }
        loop {
            let told = match self.missed.pop_front() {
                Some(told) => told,
                None => self.events.recv().await.ok_or_else(|| {
                    codes::STREAM_BROKEN.error("events came faster than they were read; subscribe again")
                })?,
            };
            if !told.is_within(self.heard) {
                self.heard = self.heard.max(told.at);
                return Ok(told.event(self.heard));
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.follower.table().remove(&self.player, self.id);
    }
}
