//! Who hears of which match.
//!
//! One follower reads the log for all players, keeps for each live match who is in it and where they connect, and
//! passes each event on to those who listen. Why not one subscription a player: with ten thousand players who
//! listen, every event would wake ten thousand tasks, nearly all of which had nothing to do with it.
//!
//! A player hears of each match exactly once what it came to, in log order: who begins to listen is told how the
//! matches stand, under the same lock under which events are passed on. A listener that does not keep up is cut
//! off; it begins anew, with how the matches stand then.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::json;
use sortie_domain::broker::event::Event as BrokerEvent;
use sortie_domain::broker::model::{Connection, EndCause, Match, MatchSpec, MatchState};
use sortie_domain::broker::{Broker, Standing, words};
use sortie_domain::ids::{MatchId, PlayerId, SeatId};
use sortie_domain::machine::{Machine as _, Record};
use sortie_engine::{Cursor, Handle, SubscribeError, Subscription};
use sortie_wire::catena::events::{Event, event::Payload};
use sortie_wire::catena::matchmaking::{
    MatchmakingStatusUpdateEvent, MatchmakingStatusUpdateType as UpdateType,
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::codes;
use crate::error::ApiError;

/// Events that may wait for one listener.
const WAITING_EVENTS: usize = 256;

/// Starts the follower when the first player listens, and again should it ever have lost the log.
pub(crate) struct PlayerFeed {
    broker: Handle<Broker>,
    most_listeners: usize,
    closing: CancellationToken,
    follower: tokio::sync::Mutex<Option<Arc<Follower>>>,
}

impl PlayerFeed {
    pub(crate) fn new(broker: Handle<Broker>, most_listeners: usize, closing: CancellationToken) -> Self {
        Self { broker, most_listeners, closing, follower: tokio::sync::Mutex::new(None) }
    }

    /// How the player's matches stand, and what comes after that.
    pub(crate) async fn listen(&self, player: &PlayerId) -> Result<(Vec<Event>, Listener), ApiError> {
        let mut follower = self.follower.lock().await;
        if let Some(running) = follower.as_ref()
            && let Some(listening) = running.listen(player, self.most_listeners)?
        {
            return Ok(listening);
        }
        let started = self.start().await?;
        let listening = started.listen(player, self.most_listeners)?;
        *follower = Some(started);
        listening.ok_or_else(|| codes::STREAM_BROKEN.error("the log cannot be followed; try again later"))
    }

    async fn start(&self) -> Result<Arc<Follower>, ApiError> {
        let known = self.broker.query(|broker| {
            let live = broker.queued().chain(broker.active());
            (broker.last_seq(), live.map(|game| (game.id.clone(), Game::from(game))).collect::<Vec<_>>())
        });
        let (seq, games) = known.await?;
        let follower = Arc::new(Follower { table: Mutex::new(Table::new(games)) });
        let subscription = self.broker.subscribe(Cursor::From(seq + 1));
        tokio::spawn(Arc::clone(&follower).follow(subscription, self.closing.clone()));
        Ok(follower)
    }
}

/// Reads the log for all listeners. Ends with the process or when the log cannot be followed; its listeners are
/// then cut off, and the next one to come starts another follower.
struct Follower {
    table: Mutex<Table>,
}

impl Follower {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn follow(self: Arc<Self>, mut subscription: Subscription<Broker>, closing: CancellationToken) {
        // Should this end in a panic, listeners must not wait for ever.
        let _close = CloseOnDrop(&self);
        loop {
            let record = tokio::select! {
                biased;
                () = closing.cancelled() => return,
                record = subscription.next() => record,
            };
            match record {
                Ok(record) => self.table().pass_on(&record),
                Err(SubscribeError::Ended) => return,
                Err(error) => {
                    tracing::error!(%error, "players' events cannot be followed; their streams begin anew");
                    return;
                }
            }
        }
    }

    /// `None` if it has ended.
    fn listen(
        self: &Arc<Self>,
        player: &PlayerId,
        most: usize,
    ) -> Result<Option<(Vec<Event>, Listener)>, ApiError> {
        let mut table = self.table();
        if table.closed {
            return Ok(None);
        }
        if table.listening >= most {
            return Err(ApiError::too_many("streams of players' events", most));
        }
        let (sender, events) = mpsc::channel(WAITING_EVENTS);
        let id = table.add(player, sender);
        let present = table.present(player);
        drop(table);
        Ok(Some((present, Listener { id, player: player.clone(), events, follower: Arc::clone(self) })))
    }
}

struct CloseOnDrop<'a>(&'a Follower);

impl Drop for CloseOnDrop<'_> {
    fn drop(&mut self) {
        let mut table = self.0.table();
        *table = Table::new(Vec::new());
        table.closed = true;
    }
}

/// One player who listens.
pub(crate) struct Listener {
    id: u64,
    player: PlayerId,
    events: mpsc::Receiver<Event>,
    follower: Arc<Follower>,
}

impl Listener {
    /// The next event. A dropped future loses nothing.
    pub(crate) async fn next(&mut self) -> Result<Event, ApiError> {
        let broken = || codes::STREAM_BROKEN.error("events came faster than they were read; subscribe again");
        self.events.recv().await.ok_or_else(broken)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.follower.table().remove(&self.player, self.id);
    }
}

/// What is known of one live match.
struct Game {
    spec: Arc<MatchSpec>,
    seats: BTreeMap<SeatId, PlayerId>,
    /// Whether a server prepares it.
    picked_up: bool,
    connection: Option<Arc<Connection>>,
    /// The event that brought it where it stands.
    seq: u64,
}

impl From<&Match> for Game {
    fn from(game: &Match) -> Self {
        Self {
            spec: Arc::clone(&game.spec),
            seats: game.seats.iter().map(|(id, seat)| (id.clone(), seat.player.clone())).collect(),
            picked_up: matches!(game.state, MatchState::PickedUp { .. }),
            connection: match &game.state {
                MatchState::Ready { connection, .. } => Some(Arc::clone(connection)),
                _ => None,
            },
            seq: game.changed_seq,
        }
    }
}

impl Game {
    fn has(&self, player: &PlayerId) -> bool {
        self.seats.values().any(|seated| seated == player) || self.spec.players.contains(player)
    }

    /// Each player, some perhaps more than once.
    fn players(&self) -> impl Iterator<Item = &PlayerId> {
        self.spec.players.iter().chain(self.seats.values())
    }

    /// How it stands, for `player`.
    fn news(&self, id: &MatchId, player: &PlayerId) -> News {
        match &self.connection {
            Some(connection) => News::completed(id, connection.for_player(player)),
            None if self.picked_up => News::finding_server(id, &Standing::PickedUp),
            None => News::finding_server(id, &Standing::from(&MatchState::Queued)),
        }
    }
}

#[derive(Default)]
struct Table {
    closed: bool,
    last_id: u64,
    listening: usize,
    games: HashMap<MatchId, Game>,
    by_player: HashMap<PlayerId, BTreeSet<MatchId>>,
    listeners: HashMap<PlayerId, Vec<(u64, mpsc::Sender<Event>)>>,
}

impl Table {
    fn new(games: Vec<(MatchId, Game)>) -> Self {
        let mut table = Self::default();
        for (id, game) in games {
            table.enter(id, game);
        }
        table
    }

    fn add(&mut self, player: &PlayerId, sender: mpsc::Sender<Event>) -> u64 {
        self.last_id += 1;
        self.listening += 1;
        self.listeners.entry(player.clone()).or_default().push((self.last_id, sender));
        self.last_id
    }

    fn remove(&mut self, player: &PlayerId, id: u64) {
        let Some(listeners) = self.listeners.get_mut(player) else { return };
        let before = listeners.len();
        listeners.retain(|(listener, _)| *listener != id);
        self.listening -= before - listeners.len();
        if listeners.is_empty() {
            self.listeners.remove(player);
        }
    }

    /// How the player's matches stand.
    fn present(&self, player: &PlayerId) -> Vec<Event> {
        let ids = self.by_player.get(player).into_iter().flatten();
        let games = ids.filter_map(|id| Some((id, self.games.get(id)?)));
        games.map(|(id, game)| game.news(id, player).event(player, game.seq)).collect()
    }

    fn enter(&mut self, id: MatchId, game: Game) {
        for player in game.players() {
            self.by_player.entry(player.clone()).or_default().insert(id.clone());
        }
        self.games.insert(id, game);
    }

    fn leave(&mut self, id: &MatchId) {
        let Some(game) = self.games.remove(id) else { return };
        for player in game.players() {
            self.forget(player, id);
        }
    }

    fn forget(&mut self, player: &PlayerId, id: &MatchId) {
        if let Some(ids) = self.by_player.get_mut(player) {
            ids.remove(id);
            if ids.is_empty() {
                self.by_player.remove(player);
            }
        }
    }

    /// Takes note of an event, and tells whom it concerns.
    fn pass_on(&mut self, record: &Record<BrokerEvent>) {
        let seq = record.seq;
        match &record.event {
            BrokerEvent::MatchQueued { id, spec } => {
                let (spec, seats) = (Arc::clone(spec), BTreeMap::new());
                let players = spec.players.clone();
                self.enter(id.clone(), Game { spec, seats, picked_up: false, connection: None, seq });
                let standing = Standing::from(&MatchState::Queued);
                self.tell_all(&players, seq, |_| News::finding_server(id, &standing));
            }
            BrokerEvent::MatchPickedUp { id, .. } => self.picked_up(id, true, seq),
            BrokerEvent::MatchReturned { id, .. } => self.picked_up(id, false, seq),
            BrokerEvent::MatchReady { id, players, connection, .. } => {
                if let Some(game) = self.games.get_mut(id) {
                    game.connection = Some(Arc::clone(connection));
                    game.seq = seq;
                }
                self.tell_all(players, seq, |player| News::completed(id, connection.for_player(player)));
            }
            BrokerEvent::SeatReserved { seat, match_id, player, .. } => {
                self.seat(seat, match_id, player, seq);
            }
            BrokerEvent::SeatClosed { seat, match_id, .. } => self.unseat(seat, match_id),
            BrokerEvent::MatchFailed { id, players, reason } => {
                self.leave(id);
                let (kind, standing) = (UpdateType::Failed, Standing::Failed(*reason));
                self.tell_all(players, seq, |_| News::over(id, kind, reason.name(), &standing));
            }
            BrokerEvent::MatchCancelled { id, players, cause } => {
                self.leave(id);
                let (kind, standing) = (UpdateType::Cancelled, Standing::Cancelled(*cause));
                self.tell_all(players, seq, |_| News::over(id, kind, cause.name(), &standing));
            }
            BrokerEvent::MatchEnded { id, players, cause } => {
                self.leave(id);
                // That the game is over players hear from the game.
                if *cause != EndCause::Server {
                    let (kind, standing) = (UpdateType::Cancelled, Standing::Ended(*cause));
                    self.tell_all(players, seq, |_| News::over(id, kind, cause.name(), &standing));
                }
            }
            _ => {}
        }
    }

    /// For whoever is new in the match or begins to listen; the others hear of what it comes to.
    fn picked_up(&mut self, id: &MatchId, picked_up: bool, seq: u64) {
        if let Some(game) = self.games.get_mut(id) {
            game.picked_up = picked_up;
            game.seq = seq;
        }
    }

    /// Whoever is new in the match hears how it stands.
    fn seat(&mut self, seat: &SeatId, id: &MatchId, player: &PlayerId, seq: u64) {
        let Some(game) = self.games.get_mut(id) else { return };
        let is_new = !game.has(player);
        game.seats.insert(seat.clone(), player.clone());
        if is_new {
            let news = game.news(id, player);
            self.by_player.entry(player.clone()).or_default().insert(id.clone());
            self.tell(player, seq, || news);
        }
    }

    fn unseat(&mut self, seat: &SeatId, id: &MatchId) {
        let Some(game) = self.games.get_mut(id) else { return };
        let Some(player) = game.seats.remove(seat) else { return };
        if !game.has(&player) {
            self.forget(&player, id);
        }
    }

    fn tell_all(&mut self, players: &[PlayerId], seq: u64, news: impl Fn(&PlayerId) -> News) {
        for player in players {
            self.tell(player, seq, || news(player));
        }
    }

    fn tell(&mut self, player: &PlayerId, seq: u64, news: impl FnOnce() -> News) {
        let Some(listeners) = self.listeners.get_mut(player) else { return };
        let event = news().event(player, seq);
        let before = listeners.len();
        listeners.retain(|(_, sender)| sender.try_send(event.clone()).is_ok());
        self.listening -= before - listeners.len();
        if listeners.is_empty() {
            self.listeners.remove(player);
        }
    }
}

/// What a player hears of a match.
struct News {
    kind: UpdateType,
    id: MatchId,
    message: String,
    reason: Option<&'static str>,
}

impl News {
    fn finding_server(id: &MatchId, standing: &Standing) -> Self {
        let message = words::summary(standing);
        Self { kind: UpdateType::FindingServer, id: id.clone(), message, reason: None }
    }

    fn completed(id: &MatchId, details: &Arc<str>) -> Self {
        let message = details.as_ref().to_owned();
        Self { kind: UpdateType::Completed, id: id.clone(), message, reason: None }
    }

    fn over(id: &MatchId, kind: UpdateType, reason: &'static str, standing: &Standing) -> Self {
        Self { kind, id: id.clone(), message: words::summary(standing), reason: Some(reason) }
    }

    /// The ticket of a match that no ticket led to is the match itself.
    fn event(self, player: &PlayerId, seq: u64) -> Event {
        let mut data = json!({"matchId": self.id.as_str()});
        if self.kind == UpdateType::Completed {
            data["connectionDetails"] = self.message.as_str().into();
        }
        if let Some(reason) = self.reason {
            data["reason"] = reason.into();
        }
        let update = MatchmakingStatusUpdateEvent {
            r#type: self.kind.into(),
            message: self.message,
            ticket_id: self.id.as_str().to_owned(),
            additional_event_data: data.to_string(),
        };
        Event {
            event_id: seq.to_string(),
            recipient_id: player.as_str().to_owned(),
            payload: Some(Payload::MatchmakingStatusUpdateEvent(update)),
        }
    }
}

#[cfg(test)]
mod tests {
    use sortie_domain::time::Timestamp;

    use super::*;

    fn queued(seq: u64, player: &PlayerId) -> Record<BrokerEvent> {
        let id = MatchId::new(&format!("m{seq}")).unwrap();
        let spec = MatchSpec { players: vec![player.clone()], ..MatchSpec::default() };
        let event = BrokerEvent::MatchQueued { id, spec: Arc::new(spec) };
        Record { seq, time: Timestamp::ZERO, event }
    }

    fn ended(seq: u64, of: u64, player: &PlayerId) -> Record<BrokerEvent> {
        let id = MatchId::new(&format!("m{of}")).unwrap();
        let event = BrokerEvent::MatchEnded { id, players: vec![player.clone()], cause: EndCause::Server };
        Record { seq, time: Timestamp::ZERO, event }
    }

    #[test]
    fn a_listener_that_does_not_read_is_cut_off_and_others_are_not() {
        let player = PlayerId::new("p").unwrap();
        let mut table = Table::default();
        let (slow, mut unread) = mpsc::channel(2);
        let (fast, mut read) = mpsc::channel(2);
        table.add(&player, slow);
        table.add(&player, fast);
        for seq in 1..=5 {
            table.pass_on(&queued(seq, &player));
            assert_eq!(read.try_recv().unwrap().event_id, seq.to_string());
        }
        assert_eq!(table.listening, 1);
        assert_eq!(unread.try_recv().unwrap().event_id, "1");
        assert_eq!(unread.try_recv().unwrap().event_id, "2");
        assert_eq!(unread.try_recv().unwrap_err(), mpsc::error::TryRecvError::Disconnected);
    }

    #[test]
    fn nothing_is_kept_of_matches_that_are_over_and_listeners_that_are_gone() {
        let player = PlayerId::new("p").unwrap();
        let mut table = Table::default();
        let (sender, _events) = mpsc::channel(8);
        let id = table.add(&player, sender);
        table.pass_on(&queued(1, &player));
        assert_eq!(table.present(&player).len(), 1);
        table.pass_on(&ended(2, 1, &player));
        table.remove(&player, id);
        assert!(table.games.is_empty() && table.by_player.is_empty() && table.listeners.is_empty());
        assert_eq!(table.listening, 0);
    }
}
