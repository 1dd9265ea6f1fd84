//! A follower's knowledge: live matches and their players, listeners, and what was told lately.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use sortie_domain::broker::Standing;
use sortie_domain::broker::event::Event as BrokerEvent;
use sortie_domain::broker::model::{EndCause, Match, MatchState};
use sortie_domain::connection::Connection;
use sortie_domain::ids::{MatchId, PlayerId, SeatId, TicketId};
use sortie_domain::machine::Record;
use sortie_domain::match_spec::MatchSpec;
use sortie_domain::matchmaking::Event as MakerEvent;
use sortie_domain::matchmaking::model::{Named, is_marked};
use sortie_wire::catena::matchmaking::MatchmakingStatusUpdateType as UpdateType;
use tokio::sync::mpsc;

use super::behind::Behind;
use super::cursor::Position;
use super::news::News;
use super::underway::Underway;

/// Maximum number of events kept for players who resume; the oldest are dropped first.
pub(super) const KEPT_EVENTS: usize = 50_000;
/// Maximum number of matches of tickets that are remembered until the broker reports their end. The oldest are dropped
/// first: matches without a server are never reported, and matches that came to nothing were over before.
const KEPT_MATCHES: usize = 100_000;

/// One event for one player, as it was told.
pub(super) struct Told {
    player: PlayerId,
    news: News,
    /// Its place in its own log, with 0 for the other one.
    own: Position,
    /// How far the logs had been told then, including this event.
    pub(super) at: Position,
}

impl Told {
    /// Whether a player at `heard` already has it.
    pub(super) const fn is_within(&self, heard: Position) -> bool {
        self.own.is_within(heard)
    }

    /// The event as it is sent to a player who is then at `at`.
    pub(super) fn event(&self, at: Position) -> sortie_wire::catena::events::Event {
        self.news.event(&self.player, Some(at))
    }
}

pub(super) type Sender = mpsc::Sender<Arc<Told>>;

/// What is known about one live match.
pub(super) struct FeedMatch {
    spec: Arc<MatchSpec>,
    seats: BTreeMap<SeatId, PlayerId>,
    /// Whether tickets led to it.
    of_tickets: bool,
    /// Whether a server prepares it.
    picked_up: bool,
    connection: Option<Arc<Connection>>,
    /// Whether it was ready before anything was told.
    completed: bool,
    /// Its earlier state is unknown, because it is over.
    forgotten: bool,
}

impl From<&Match> for FeedMatch {
    fn from(game: &Match) -> Self {
        let connection = match &game.state {
            MatchState::Ready { connection, .. } => Some(Arc::clone(connection)),
            _ => None,
        };
        Self {
            spec: Arc::clone(&game.spec),
            seats: game.seats.iter().map(|(id, seat)| (id.clone(), seat.player.clone())).collect(),
            of_tickets: is_marked(&game.id, &game.spec),
            picked_up: matches!(game.state, MatchState::PickedUp { .. }),
            completed: matches!(game.state, MatchState::Ready { .. } | MatchState::Ended { .. }),
            connection,
            forgotten: false,
        }
    }
}

impl FeedMatch {
    /// The state of a match before its recent events.
    pub(super) fn before(game: &Match, became_ready: bool) -> Self {
        let now = Self::from(game);
        Self {
            seats: BTreeMap::new(),
            picked_up: false,
            completed: now.completed && !became_ready,
            connection: now.connection.filter(|_| !became_ready),
            forgotten: !matches!(
                game.state,
                MatchState::Queued | MatchState::PickedUp { .. } | MatchState::Ready { .. }
            ),
            ..now
        }
    }

    fn new(id: &MatchId, spec: &Arc<MatchSpec>) -> Self {
        Self {
            spec: Arc::clone(spec),
            seats: BTreeMap::new(),
            of_tickets: is_marked(id, spec),
            picked_up: false,
            connection: None,
            completed: false,
            forgotten: false,
        }
    }

    fn has(&self, player: &PlayerId) -> bool {
        self.seats.values().any(|seated| seated == player) || self.spec.players.contains(player)
    }

    /// Each player, some perhaps more than once.
    fn players(&self) -> impl Iterator<Item = &PlayerId> {
        self.spec.players.iter().chain(self.seats.values())
    }

    /// Its state, for `player`.
    fn news(&self, id: &MatchId, player: &PlayerId) -> News {
        match &self.connection {
            Some(connection) => News::completed(id, connection.for_player(player)),
            None if self.picked_up => News::finding_server(id, &Standing::PickedUp),
            None => News::finding_server(id, &Standing::from(&MatchState::Queued)),
        }
    }
}

/// The tickets that bring their players into one match.
#[derive(Default)]
struct Tickets {
    named: Vec<Named>,
    /// Players whose tickets have gone back: they do not hear about the match any more.
    gone: HashSet<PlayerId>,
    /// The outcome of their match for the matchmaker, once that has been told.
    came_to: Option<CameTo>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum CameTo {
    /// The players can connect; the broker reports what follows.
    Ready,
    Nothing,
}

/// What the machines' states say where a table starts.
#[derive(Default)]
pub(super) struct Known {
    pub(super) games: Vec<(MatchId, FeedMatch)>,
    /// Tickets that are getting seats of a match.
    pub(super) seating: Vec<(MatchId, Named)>,
    /// Matches that players are asked about.
    pub(super) proposals: HashSet<MatchId>,
    pub(super) underway: Underway,
}

#[derive(Default)]
pub(super) struct Table {
    pub(super) closed: bool,
    pub(super) listening: usize,
    /// How far both logs have been told.
    pub(super) at: Position,
    /// Events up to here are not kept any more.
    pub(super) floor: Position,
    /// The end of the broker's log when the matchmaker's was last read. Everything in the matchmaker's log was in the
    /// broker's by then.
    pub(super) broker_said: u64,
    /// Players who can connect according to the matchmaker, while the broker's log has not been told that far.
    pub(super) behind: Behind,
    last_id: u64,
    games: HashMap<MatchId, FeedMatch>,
    by_player: HashMap<PlayerId, BTreeSet<MatchId>>,
    proposals: HashSet<MatchId>,
    underway: Underway,
    tickets: HashMap<MatchId, Tickets>,
    tickets_order: VecDeque<MatchId>,
    listeners: HashMap<PlayerId, Vec<(u64, Sender)>>,
    kept: HashMap<PlayerId, VecDeque<Arc<Told>>>,
    /// The players of the kept events, oldest event first.
    kept_order: VecDeque<PlayerId>,
}

impl Table {
    /// A table that has told nothing and does not know events up to `floor`.
    pub(super) fn new(floor: Position, known: Known) -> Self {
        let mut table = Self { at: floor, floor, ..Self::default() };
        table.know(known);
        table
    }

    /// Takes over what the states say. Told events are kept.
    pub(super) fn know(&mut self, known: Known) {
        self.games.clear();
        self.by_player.clear();
        for (id, game) in known.games {
            self.enter(id, game);
        }
        for (id, named) in known.seating {
            self.came_by(&id, &[named]);
        }
        self.proposals = known.proposals;
        self.underway = known.underway;
    }

    pub(super) fn add(&mut self, player: &PlayerId, sender: Sender) -> u64 {
        self.last_id += 1;
        self.listening += 1;
        self.listeners.entry(player.clone()).or_default().push((self.last_id, sender));
        self.last_id
    }

    pub(super) fn remove(&mut self, player: &PlayerId, id: u64) {
        let Some(listeners) = self.listeners.get_mut(player) else { return };
        let before = listeners.len();
        listeners.retain(|(listener, _)| *listener != id);
        self.listening -= before - listeners.len();
        if listeners.is_empty() {
            self.listeners.remove(player);
        }
    }

    /// The state of the player's matches, except one that the player's ticket reports, and those in `missed`: the
    /// matchmaker's later events about a match are told after the standing, and say everything.
    pub(super) fn present(
        &self,
        player: &PlayerId,
        but: Option<&MatchId>,
        missed: &[Arc<Told>],
    ) -> Vec<News> {
        let ids = self.by_player.get(player).into_iter().flatten().filter(|id| Some(*id) != but);
        let games = ids.filter_map(|id| Some((id, self.games.get(id)?)));
        // The matchmaker reports a ticket until its players can connect.
        let told = games.filter(|(_, game)| !game.of_tickets || game.connection.is_some());
        let told = told.filter(|(id, _)| !missed.iter().any(|told| told.news.match_id() == Some(id)));
        told.map(|(id, game)| game.news(id, player).about(self.ticket_of(id, player))).collect()
    }

    /// The player's kept events after `heard`, in the order in which they were told.
    pub(super) fn kept(&self, player: &PlayerId, heard: Position) -> Vec<Arc<Told>> {
        let kept = self.kept.get(player).into_iter().flatten();
        kept.filter(|told| !told.is_within(heard)).map(Arc::clone).collect()
    }

    fn enter(&mut self, id: MatchId, game: FeedMatch) {
        for player in game.players() {
            self.by_player.entry(player.clone()).or_default().insert(id.clone());
        }
        self.games.insert(id, game);
    }

    /// Whether the matchmaker has yet to report whether players can connect to the match.
    pub(super) fn is_underway(&self, id: &MatchId) -> bool {
        let was_ready = self.games.get(id).is_some_and(|game| game.connection.is_some());
        was_ready && self.underway.has(id)
    }

    fn leave(&mut self, id: &MatchId) -> Option<FeedMatch> {
        let game = self.games.remove(id)?;
        for player in game.players() {
            self.forget(player, id);
        }
        Some(game)
    }

    fn forget(&mut self, player: &PlayerId, id: &MatchId) {
        if let Some(ids) = self.by_player.get_mut(player) {
            ids.remove(id);
            if ids.is_empty() {
                self.by_player.remove(player);
            }
        }
    }

    /// The ticket that brought the player into a match.
    fn ticket_of(&self, id: &MatchId, player: &PlayerId) -> Option<&TicketId> {
        let tickets = self.tickets.get(id)?;
        tickets.named.iter().find(|named| named.players.contains(player)).map(|named| &named.ticket)
    }

    /// Processes an event of the broker, and tells the players it concerns.
    pub(super) fn pass_on(&mut self, record: &Record<BrokerEvent>) {
        self.at.broker = record.seq;
        self.behind.told(record.seq);
        let own = Position { broker: record.seq, maker: 0 };
        match &record.event {
            BrokerEvent::MatchQueued { id, spec } => {
                let game = FeedMatch::new(id, spec);
                let of_tickets = game.of_tickets;
                self.enter(id.clone(), game);
                if !of_tickets {
                    let standing = Standing::from(&MatchState::Queued);
                    self.tell_all(&spec.players, own, |_| News::finding_server(id, &standing));
                }
            }
            BrokerEvent::MatchPickedUp { id, .. } => self.picked_up(id, true),
            BrokerEvent::MatchReturned { id, .. } => self.picked_up(id, false),
            BrokerEvent::MatchReady { id, players, connection, .. } => {
                let Some(game) = self.games.get_mut(id).filter(|game| !game.forgotten) else { return };
                game.connection = Some(Arc::clone(connection));
                if !game.of_tickets {
                    self.tell_all(players, own, |player| News::completed(id, connection.for_player(player)));
                }
            }
            BrokerEvent::SeatReserved { seat, match_id, player, .. } => {
                self.seat(seat, match_id, player, own);
            }
            BrokerEvent::SeatClosed { seat, match_id, .. } => self.unseat(seat, match_id),
            BrokerEvent::MatchFailed { id, players, reason } => {
                let (kind, standing) = (UpdateType::Failed, Standing::Failed(*reason));
                self.over(id, players, own, &News::over(id, kind, reason.name(), &standing));
            }
            BrokerEvent::MatchCancelled { id, players, cause } => {
                let (kind, standing) = (UpdateType::Cancelled, Standing::Cancelled(*cause));
                self.over(id, players, own, &News::over(id, kind, cause.name(), &standing));
            }
            BrokerEvent::MatchEnded { id, players, cause } => {
                let (kind, standing) = (UpdateType::Cancelled, Standing::Ended(*cause));
                // Players hear from the game itself that it is over.
                let players = if *cause == EndCause::Server { &[] } else { players.as_slice() };
                self.over(id, players, own, &News::over(id, kind, cause.name(), &standing));
            }
            _ => {}
        }
    }

    /// For players who join the match or start to listen later; the others hear its outcome.
    fn picked_up(&mut self, id: &MatchId, picked_up: bool) {
        if let Some(game) = self.games.get_mut(id) {
            game.picked_up = picked_up;
        }
    }

    /// A player who is new in the match hears its state; one who came by a ticket hears that from the ticket.
    fn seat(&mut self, seat: &SeatId, id: &MatchId, player: &PlayerId, own: Position) {
        let by_ticket = self.ticket_of(id, player).is_some();
        let Some(game) = self.games.get_mut(id) else {
            // Its state then is not known any more, so the event cannot be told again.
            self.floor = self.floor.max(own);
            return;
        };
        let is_new = !game.has(player);
        game.seats.insert(seat.clone(), player.clone());
        if is_new {
            let news = game.news(id, player);
            self.by_player.entry(player.clone()).or_default().insert(id.clone());
            if !by_ticket {
                self.tell(player, own, news);
            }
        }
    }

    fn unseat(&mut self, seat: &SeatId, id: &MatchId) {
        let Some(game) = self.games.get_mut(id) else { return };
        let Some(player) = game.seats.remove(seat) else { return };
        if !game.has(&player) {
            self.forget(&player, id);
        }
    }

    /// A match is over. The matchmaker reports a match of tickets, unless it is done with it.
    fn over(&mut self, id: &MatchId, players: &[PlayerId], own: Position, news: &News) {
        let game = self.leave(id);
        let came_to = self.tickets.get(id).and_then(|tickets| tickets.came_to);
        let is_told = match (&game, came_to) {
            (Some(game), None) if game.of_tickets && !game.completed => {
                if game.connection.is_some() {
                    // It is not known any more whether its players have heard that they can connect.
                    self.floor = self.floor.max(own);
                }
                false
            }
            (_, came_to) => came_to != Some(CameTo::Nothing),
        };
        for player in players.iter().filter(|_| is_told) {
            if self.tickets.get(id).is_none_or(|tickets| !tickets.gone.contains(player)) {
                let news = news.clone().about(self.ticket_of(id, player));
                self.tell(player, own, news);
            }
        }
        self.tickets.remove(id);
    }

    /// Processes an event of the matchmaker, and tells the players it concerns.
    pub(super) fn pass_on_ticket(&mut self, record: &Record<MakerEvent>) {
        self.at.maker = record.seq;
        self.underway.note(&record.event);
        let own = Position { broker: 0, maker: record.seq };
        match &record.event {
            MakerEvent::MatchProposed { id, teams, accept_until: Some(until), .. } => {
                self.proposals.insert(id.clone());
                for named in teams.iter().flatten() {
                    self.tell_all(&named.players, own, |_| News::proposed(named, id, *until));
                }
            }
            MakerEvent::MatchDissolved { id, returned, heard: false, cause, .. }
                if self.proposals.remove(id) =>
            {
                for named in returned {
                    self.tell_all(&named.players, own, |_| News::back(named, cause.name(), cause.text()));
                }
            }
            MakerEvent::MatchFormed { id, .. } | MakerEvent::MatchChecked { id, .. } => {
                self.proposals.remove(id);
            }
            MakerEvent::MatchDissolved { id, heard, .. } => {
                self.proposals.remove(id);
                if *heard {
                    self.came_by(id, &[]).came_to = Some(CameTo::Nothing);
                }
            }
            MakerEvent::MatchReady { id, tickets, .. } => {
                self.came_by(id, tickets).came_to = Some(CameTo::Ready);
            }
            MakerEvent::SeatsTaken { match_id, ticket, .. }
            | MakerEvent::TicketSeated { match_id, ticket, .. } => {
                self.came_by(match_id, std::slice::from_ref(ticket));
            }
            MakerEvent::TicketReturned { match_id, ticket } => self.went_back(match_id, ticket),
            _ => {}
        }
        let mut players = Vec::new();
        for notice in record.event.notices(&mut players) {
            if notice.connection.is_some() && self.broker_said > self.at.broker {
                notice.players.iter().for_each(|player| self.behind.note(player, self.broker_said));
            }
            self.tell_all(notice.players, own, |player| News::of_notice(&notice, player));
        }
    }

    /// Remembers which tickets bring their players into a match.
    fn came_by(&mut self, id: &MatchId, tickets: &[Named]) -> &mut Tickets {
        if !self.tickets.contains_key(id) {
            self.tickets_order.push_back(id.clone());
            while self.tickets_order.len() > KEPT_MATCHES {
                let oldest = self.tickets_order.pop_front();
                oldest.and_then(|id| self.tickets.remove(&id));
            }
        }
        let known = self.tickets.entry(id.clone()).or_default();
        for named in tickets {
            for player in &named.players {
                known.gone.remove(player);
            }
            if !known.named.contains(named) {
                known.named.push(named.clone());
            }
        }
        known
    }

    /// The ticket waits again.
    fn went_back(&mut self, id: &MatchId, ticket: &Named) {
        let Some(known) = self.tickets.get_mut(id) else { return };
        known.named.retain(|named| named.ticket != ticket.ticket);
        known.gone.extend(ticket.players.iter().cloned());
    }

    fn tell_all(&mut self, players: &[PlayerId], own: Position, news: impl Fn(&PlayerId) -> News) {
        for player in players {
            self.tell(player, own, news(player));
        }
    }

    fn tell(&mut self, player: &PlayerId, own: Position, news: News) {
        let told = Arc::new(Told { player: player.clone(), news, own, at: self.at });
        self.keep(&told);
        let Some(listeners) = self.listeners.get_mut(player) else { return };
        let before = listeners.len();
        listeners.retain(|(_, sender)| sender.try_send(Arc::clone(&told)).is_ok());
        self.listening -= before - listeners.len();
        if listeners.is_empty() {
            self.listeners.remove(player);
        }
    }

    fn keep(&mut self, told: &Arc<Told>) {
        self.kept.entry(told.player.clone()).or_default().push_back(Arc::clone(told));
        self.kept_order.push_back(told.player.clone());
        while self.kept_order.len() > KEPT_EVENTS {
            let Some(player) = self.kept_order.pop_front() else { return };
            let Some(kept) = self.kept.get_mut(&player) else { continue };
            if let Some(oldest) = kept.pop_front() {
                self.floor = self.floor.max(oldest.own);
            }
            if kept.is_empty() {
                self.kept.remove(&player);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use sortie_domain::matchmaking::model::marked;
    use sortie_domain::time::Timestamp;

    use super::*;

    fn player() -> PlayerId {
        PlayerId::new("p").unwrap()
    }

    fn match_id(number: u64) -> MatchId {
        MatchId::new(&format!("m{number}")).unwrap()
    }

    fn record<E>(seq: u64, event: E) -> Record<E> {
        Record { seq, time: Timestamp::ZERO, event }
    }

    fn queued(seq: u64) -> Record<BrokerEvent> {
        let spec = MatchSpec { players: vec![player()], ..MatchSpec::default() };
        record(seq, BrokerEvent::MatchQueued { id: match_id(seq), spec: Arc::new(spec) })
    }

    fn ended(seq: u64, of: u64, cause: EndCause) -> Record<BrokerEvent> {
        record(seq, BrokerEvent::MatchEnded { id: match_id(of), players: vec![player()], cause })
    }

    fn connection() -> Arc<Connection> {
        Arc::new(Connection { details: "a:1".into(), per_player: BTreeMap::new() })
    }

    /// A match of tickets: queued, ready.
    fn of_tickets(table: &mut Table, id: u64) {
        let spec = MatchSpec { players: vec![player()], ..MatchSpec::default() };
        let (id, spec) = (match_id(id), Arc::new(marked(&match_id(id), spec)));
        table.pass_on(&record(1, BrokerEvent::MatchQueued { id: id.clone(), spec }));
        let server = sortie_domain::ids::ServerId::new("s").unwrap();
        let ready = BrokerEvent::MatchReady { id, server, players: vec![player()], connection: connection() };
        table.pass_on(&record(2, ready));
    }

    fn named() -> Named {
        Named { ticket: TicketId::new("t").unwrap(), players: vec![player()] }
    }

    fn heard(table: &Table) -> Vec<String> {
        table.kept(&player(), Position::default()).iter().map(|told| told.event(told.at).event_id).collect()
    }

    #[test]
    fn a_listener_that_does_not_read_is_cut_off_and_others_are_not() {
        let mut table = Table::default();
        let (slow, mut unread) = mpsc::channel(2);
        let (fast, mut read) = mpsc::channel(2);
        table.add(&player(), slow);
        table.add(&player(), fast);
        for seq in 1..=5 {
            table.pass_on(&queued(seq));
            assert_eq!(read.try_recv().unwrap().at.broker, seq);
        }
        assert_eq!(table.listening, 1);
        assert_eq!(unread.try_recv().unwrap().at.broker, 1);
        assert_eq!(unread.try_recv().unwrap().at.broker, 2);
        assert_eq!(unread.try_recv().err(), Some(mpsc::error::TryRecvError::Disconnected));
    }

    #[test]
    fn nothing_is_known_of_matches_that_are_over_and_listeners_that_are_gone() {
        let mut table = Table::default();
        let (sender, _events) = mpsc::channel(8);
        let id = table.add(&player(), sender);
        table.pass_on(&queued(1));
        assert_eq!(table.present(&player(), None, &[]).len(), 1);
        table.pass_on(&ended(2, 1, EndCause::Server));
        table.remove(&player(), id);
        assert!(table.games.is_empty() && table.by_player.is_empty() && table.listeners.is_empty());
        assert_eq!(table.listening, 0);
    }

    #[test]
    fn who_comes_back_hears_what_came_since_and_only_that_much_is_kept() {
        let mut table = Table::default();
        for seq in 1..=KEPT_EVENTS as u64 + 3 {
            table.pass_on(&queued(seq));
        }
        assert_eq!(table.floor, Position { broker: 3, maker: 0 });
        let since = table.kept(&player(), Position { broker: KEPT_EVENTS as u64 + 1, maker: 0 });
        assert_eq!(since.iter().map(|told| told.at.broker).collect::<Vec<_>>(), [50_002, 50_003]);
    }

    #[test]
    fn a_match_of_tickets_is_told_by_the_matchmaker_until_it_is_done_with_it() {
        let mut table = Table::default();
        of_tickets(&mut table, 1);
        assert_eq!(heard(&table), Vec::<String>::new());
        let id = match_id(1);
        let ready = MakerEvent::MatchReady { id, tickets: vec![named()], connection: connection() };
        table.pass_on_ticket(&record(7, ready));
        table.pass_on(&ended(3, 1, EndCause::Admin));
        assert_eq!(heard(&table), ["2.7", "3.7"]);
        let told = table.kept(&player(), Position { broker: 2, maker: 7 });
        let event = told[0].event(told[0].at);
        let Some(sortie_wire::catena::events::event::Payload::MatchmakingStatusUpdateEvent(update)) =
            event.payload
        else {
            panic!("another event")
        };
        assert_eq!((update.ticket_id.as_str(), update.r#type()), ("t", UpdateType::Cancelled));
        assert!(table.tickets.is_empty());
    }

    /// A standing from before the follower's place: events in between are told after it, once.
    #[test]
    fn how_a_match_stands_is_not_told_beside_what_is_told_of_it_afterwards() {
        let mut table = Table::default();
        of_tickets(&mut table, 1);
        assert_eq!(table.present(&player(), None, &[]).len(), 1);
        let ready =
            MakerEvent::MatchReady { id: match_id(1), tickets: vec![named()], connection: connection() };
        table.pass_on_ticket(&record(7, ready));
        let missed = table.kept(&player(), Position { broker: 2, maker: 6 });
        assert_eq!(missed.len(), 1);
        assert!(table.present(&player(), None, &missed).is_empty());
        assert_eq!(table.present(&player(), None, &[]).len(), 1);
    }

    #[test]
    fn a_match_of_tickets_that_the_matchmaker_is_not_known_to_be_done_with_ends_for_nobody() {
        let mut table = Table::default();
        of_tickets(&mut table, 1);
        table.pass_on(&ended(3, 1, EndCause::Admin));
        assert_eq!(heard(&table), Vec::<String>::new());
        // The matchmaker's outcome is unknown: players who were told less cannot resume from there.
        assert_eq!(table.floor, Position { broker: 3, maker: 0 });
    }

    #[test]
    fn players_who_were_asked_about_a_match_hear_that_it_came_to_nothing() {
        use sortie_domain::ids::QueueId;
        use sortie_domain::matchmaking::model::DissolveCause;

        let mut table = Table::default();
        let proposed = MakerEvent::MatchProposed {
            id: match_id(1),
            queue: QueueId::new("q").unwrap(),
            teams: vec![vec![named()]].into(),
            region: None,
            spec: Arc::new(MatchSpec::default()),
            accept_until: Some(Timestamp::from_millis(5)),
            check: None,
        };
        let dissolved = MakerEvent::MatchDissolved {
            id: match_id(1),
            cause: DissolveCause::NotAccepted,
            returned: vec![named()],
            heard: false,
            withdraw: false,
            reason: Arc::default(),
        };
        table.pass_on_ticket(&record(1, proposed));
        table.pass_on_ticket(&record(2, dissolved.clone()));
        table.pass_on_ticket(&record(3, dissolved));
        assert_eq!(heard(&table), ["0.1", "0.2"]);
    }

    fn seats_taken(table: &mut Table, seq: u64) {
        let (match_id, ticket) = (match_id(1), named());
        let until = Timestamp::from_millis(5);
        table.pass_on_ticket(&record(seq, MakerEvent::SeatsTaken { match_id, ticket, until }));
    }

    /// A running match in which a player is getting a seat.
    fn seating() -> Table {
        let mut table = Table::default();
        let id = match_id(1);
        let spec = Arc::new(MatchSpec::default());
        table.pass_on(&record(1, BrokerEvent::MatchQueued { id: id.clone(), spec }));
        let server = sortie_domain::ids::ServerId::new("s").unwrap();
        let ready = BrokerEvent::MatchReady { id, server, players: vec![], connection: connection() };
        table.pass_on(&record(2, ready));
        seats_taken(&mut table, 1);
        assert!(table.is_underway(&match_id(1)));
        table
    }

    #[test]
    fn the_end_of_a_match_waits_for_tickets_that_are_to_get_seats_of_it() {
        let mut table = seating();
        let seated =
            MakerEvent::TicketSeated { match_id: match_id(1), ticket: named(), connection: connection() };
        table.pass_on_ticket(&record(2, seated));
        assert!(!table.is_underway(&match_id(1)));
        table.pass_on(&ended(3, 1, EndCause::Admin));
        assert_eq!(heard(&table), ["2.1", "2.2", "3.2"]);
    }

    #[test]
    fn the_end_of_a_match_is_nothing_to_whose_ticket_went_back() {
        let mut table = seating();
        let returned = MakerEvent::TicketReturned { match_id: match_id(1), ticket: named() };
        table.pass_on_ticket(&record(2, returned.clone()));
        assert!(!table.is_underway(&match_id(1)));
        // Again, and this time it stays.
        seats_taken(&mut table, 3);
        table.pass_on_ticket(&record(4, returned));
        table.pass_on(&ended(3, 1, EndCause::Admin));
        assert_eq!(heard(&table), ["2.1", "2.2", "2.3", "2.4"]);
    }

    #[test]
    fn a_match_whose_tickets_went_back_ends_for_nobody() {
        let mut table = Table::default();
        let formed = MakerEvent::MatchFormed {
            id: match_id(1),
            queue: sortie_domain::ids::QueueId::new("q").unwrap(),
            teams: vec![vec![named()]].into(),
            region: None,
            spec: Arc::new(MatchSpec::default()),
        };
        table.pass_on_ticket(&record(1, formed));
        of_tickets(&mut table, 1);
        assert!(table.is_underway(&match_id(1)));
        let dissolved = MakerEvent::MatchDissolved {
            id: match_id(1),
            cause: sortie_domain::matchmaking::model::DissolveCause::Cancelled,
            returned: vec![named()],
            heard: true,
            withdraw: true,
            reason: Arc::default(),
        };
        table.pass_on_ticket(&record(2, dissolved));
        assert!(!table.is_underway(&match_id(1)));
        table.pass_on(&ended(3, 1, EndCause::Admin));
        assert_eq!(heard(&table), ["0.1", "2.2"]);
        assert_eq!(table.floor, Position::default());
    }
}
