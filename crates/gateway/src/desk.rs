//! The players who wait here for a ticket of the matchmaker, and those whose connection is gone.
//!
//! A ticket outlives the connection that it was entered over: for a configured time its player finds it again, with its
//! old place in the queue, or the match that was made of it. Only then is it cancelled. This applies to tickets that
//! were entered here; other callers cancel their own.
//!
//! This state is only in memory. After a restart the tickets that were entered here are found by their idempotency
//! keys, and their players get the same time to come back.
//!
//! One task follows the matchmaker's log and wakes the players an event concerns. With a subscription for each waiting
//! player, each of them would read the events of all others.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sortie_domain::ids::{IdempotencyKey, PlayerId, TicketId};
use sortie_domain::machine::Machine as _;
use sortie_domain::matchmaking::model::{Named, Ticket, TicketEnd, TicketState};
use sortie_domain::matchmaking::{Command, Event, Matchmaker, Snapshot};
use sortie_domain::time::Timestamp;
use sortie_engine::{CallError, Cursor, Handle, SubscribeError, Unavailable};
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, sleep_until};

use crate::join::now;

/// Prefix of the idempotency keys of tickets that are entered here.
const KEY: &str = "gateway-";
/// Pause before a lost log is followed again.
const PAUSE: Duration = Duration::from_millis(500);
/// Full explanations per second, for all players together; beyond that players hear only their place. One reads up to a
/// thousand tickets, on the thread that makes the matches.
const EXPLANATIONS_PER_SECOND: u32 = 50;

/// The key of a new ticket that is entered here.
pub(crate) fn key(ticket: &TicketId) -> Option<IdempotencyKey> {
    IdempotencyKey::new(&format!("{KEY}{ticket}")).ok()
}

/// Whether a ticket was entered here.
fn is_ours(ticket: &Ticket) -> bool {
    ticket.spec.idempotency_key.as_ref().is_some_and(|key| key.as_str().starts_with(KEY))
}

pub(crate) struct Desk {
    pub(crate) maker: Handle<Matchmaker>,
    shared: Arc<Shared>,
    following: AbortHandle,
}

struct Shared {
    grace: Duration,
    /// Maximum number of players who are away at a time; beyond that, the longest away is given up.
    max_away: usize,
    book: Mutex<Book>,
    /// Notified when a player has gone away.
    left: Notify,
}

#[derive(Default)]
struct Book {
    /// Bounded by the waiting players and `max_away`.
    players: BTreeMap<PlayerId, Seen>,
    /// When those who are away are given up.
    away: BTreeSet<(Instant, PlayerId)>,
    /// The current second, and the number of explanations in it.
    explained: Option<(Instant, u32)>,
}

/// A player with a ticket.
struct Seen {
    ticket: TicketId,
    /// Whether it was entered here.
    is_ours: bool,
    /// Whether the matchmaker is known to have the ticket.
    is_started: bool,
    /// Connections that wait for it.
    here: usize,
    away_until: Option<Instant>,
    news: Arc<Notify>,
}

/// One connection that waits for a player's ticket. When it is dropped, the player is away.
pub(crate) struct Visit {
    shared: Arc<Shared>,
    player: PlayerId,
    pub(crate) ticket: TicketId,
    /// Notified when there is news of the ticket.
    pub(crate) news: Arc<Notify>,
    /// Whether the player can come back at all.
    can_return: bool,
    is_over: bool,
}

/// What is known about a player here.
pub(crate) enum Found {
    /// A ticket.
    Ticket(Visit),
    /// A ticket that another connection is about to start; its news follows soon.
    Soon(Arc<Notify>),
    Nothing,
}

impl Desk {
    /// Players who go away are given up after `grace`, or when more than `max_away` are. Must be called inside a tokio
    /// runtime.
    pub(crate) fn new(maker: Handle<Matchmaker>, grace: Duration, max_away: usize) -> Self {
        let (book, left) = (Mutex::default(), Notify::new());
        let shared = Arc::new(Shared { grace, max_away, book, left });
        let following = tokio::spawn(follow(maker.clone(), Arc::clone(&shared))).abort_handle();
        Self { maker, shared, following }
    }

    /// The ticket that a player has here; a player who was away counts as back.
    pub(crate) fn find(&self, player: &PlayerId, can_return: bool) -> Found {
        let mut book = self.shared.book();
        let Some(seen) = book.players.get_mut(player) else { return Found::Nothing };
        if !seen.is_started {
            return Found::Soon(Arc::clone(&seen.news));
        }
        seen.here += 1;
        let until = seen.away_until.take();
        let visit = self.shared.visit(player, seen, can_return);
        if let Some(until) = until {
            book.away.remove(&(until, player.clone()));
        }
        Found::Ticket(visit)
    }

    /// Records a player's ticket, either new or already known to the matchmaker. `None` if another connection was
    /// faster.
    pub(crate) fn enter(&self, player: &PlayerId, ticket: &Entered<'_>, can_return: bool) -> Option<Visit> {
        let mut book = self.shared.book();
        if book.players.contains_key(player) {
            return None;
        }
        let (ticket, is_ours, is_started) = match ticket {
            Entered::New(id) => ((*id).clone(), true, false),
            Entered::Known(ticket) => (ticket.id.clone(), is_ours(ticket), true),
        };
        let news = Arc::new(Notify::new());
        let seen = Seen { ticket, is_ours, is_started, here: 1, away_until: None, news };
        let visit = self.shared.visit(player, &seen, can_return);
        book.players.insert(player.clone(), seen);
        Some(visit)
    }

    /// Whether another full explanation is within the limit.
    pub(crate) fn may_explain(&self) -> bool {
        let (mut book, now) = (self.shared.book(), Instant::now());
        let (since, count) =
            book.explained.filter(|(since, _)| now - *since < Duration::from_secs(1)).unwrap_or((now, 0));
        book.explained = Some((since, count.saturating_add(1)));
        count < EXPLANATIONS_PER_SECOND
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        self.following.abort();
    }
}

/// A ticket as it is recorded.
pub(crate) enum Entered<'a> {
    /// To be started now.
    New(&'a TicketId),
    /// The matchmaker has it.
    Known(&'a Ticket),
}

impl Visit {
    /// The matchmaker has the ticket.
    pub(crate) fn started(&self) {
        let mut book = self.shared.book();
        if let Some(seen) = book.players.get_mut(&self.player) {
            seen.is_started = true;
            seen.news.notify_waiters();
        }
    }

    /// The ticket is over: its player may enter again.
    pub(crate) fn over(mut self) {
        self.is_over = true;
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        let mut book = self.shared.book();
        let Some(seen) = book.players.get_mut(&self.player).filter(|seen| seen.ticket == self.ticket) else {
            return;
        };
        seen.here = seen.here.saturating_sub(1);
        // A connection that goes away before the answer does not know whether the ticket was started.
        seen.is_started = true;
        seen.news.notify_waiters();
        if self.is_over {
            let until = seen.away_until;
            book.players.remove(&self.player);
            if let Some(until) = until {
                book.away.remove(&(until, self.player.clone()));
            }
        } else if seen.here == 0 {
            let grace = if self.can_return { self.shared.grace } else { Duration::ZERO };
            let until = Instant::now() + grace;
            seen.away_until = Some(until);
            book.away.insert((until, self.player.clone()));
            self.shared.left.notify_one();
        }
    }
}

impl Shared {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn visit(self: &Arc<Self>, player: &PlayerId, seen: &Seen, can_return: bool) -> Visit {
        Visit {
            shared: Arc::clone(self),
            player: player.clone(),
            ticket: seen.ticket.clone(),
            news: Arc::clone(&seen.news),
            can_return,
            is_over: false,
        }
    }

    fn wake<'a>(&self, players: impl IntoIterator<Item = &'a PlayerId>) {
        let book = self.book();
        for seen in players.into_iter().filter_map(|player| book.players.get(player)) {
            seen.news.notify_waiters();
        }
    }

    fn wake_all(&self) {
        self.book().players.values().for_each(|seen| seen.news.notify_waiters());
    }

    /// When the next player is given up.
    fn next_due(&self) -> Option<Instant> {
        let book = self.book();
        if book.away.len() > self.max_away {
            return Some(Instant::now());
        }
        book.away.first().map(|(until, _)| *until)
    }

    /// The tickets of players who were away for too long, if they were entered here.
    fn give_up(&self) -> Vec<TicketId> {
        let (mut book, now) = (self.book(), Instant::now());
        let mut given_up = Vec::new();
        while let Some((until, _)) = book.away.first()
            && (*until <= now || book.away.len() > self.max_away)
        {
            let Some((_, player)) = book.away.pop_first() else { break };
            given_up.extend(book.players.remove(&player).filter(|seen| seen.is_ours).map(|seen| seen.ticket));
        }
        given_up
    }

    /// A ticket that was entered here before a restart: its player counts as having gone away now.
    fn adopt(&self, player: PlayerId, ticket: TicketId) {
        let mut book = self.book();
        if book.players.contains_key(&player) {
            return;
        }
        let until = Instant::now() + self.grace;
        let news = Arc::new(Notify::new());
        let seen = Seen { ticket, is_ours: true, is_started: true, here: 0, away_until: Some(until), news };
        book.players.insert(player.clone(), seen);
        book.away.insert((until, player));
    }
}

/// Wakes waiting players when there is news, and cancels the tickets of players who do not come back.
async fn follow(maker: Handle<Matchmaker>, shared: Arc<Shared>) {
    let mut events = maker.subscribe(Cursor::Latest);
    // Reading works on a full disk too.
    if let Err(why) = adopt_all(&maker, &shared).await {
        tracing::warn!(%why, "tickets that were entered before the start are not tracked");
    }
    loop {
        let due = shared.next_due();
        let give_up = async {
            match due {
                Some(due) => sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            record = events.next() => match record {
                Ok(record) => match &record.event {
                    Event::MatchAccepted { player, .. } => shared.wake([player]),
                    event => concerned(event).for_each(|named| shared.wake(&named.players)),
                },
                // Waiting players then ask the matchmaker and hear that it has ended.
                Err(SubscribeError::Ended) => return shared.wake_all(),
                Err(error) => {
                    tracing::warn!(%error, "the gateway lost the matchmaker's log and follows it again");
                    sleep(PAUSE).await;
                    events = maker.subscribe(Cursor::Latest);
                    shared.wake_all();
                }
            },
            () = give_up => {
                for ticket in shared.give_up() {
                    tokio::spawn(call_off(maker.clone(), ticket));
                }
            }
            () = shared.left.notified() => {}
        }
    }
}

async fn call_off(maker: Handle<Matchmaker>, ticket: TicketId) {
    match maker.call(Command::Cancel { id: ticket.clone() }).await {
        Ok(_) => tracing::info!(%ticket, "cancelled the ticket of a player who did not come back"),
        Err(CallError::Refused(_)) => {
            tracing::debug!(%ticket, "a ticket was over before it could be cancelled");
        }
        // It expires on its own.
        Err(CallError::Unavailable(why)) => tracing::warn!(%ticket, %why, "could not cancel a ticket"),
    }
}

/// The tickets that an event changes.
fn concerned(event: &Event) -> Box<dyn Iterator<Item = &Named> + '_> {
    match event {
        Event::TicketCancelled { ticket, .. }
        | Event::TicketFailed { ticket, .. }
        | Event::TicketTimedOut { ticket }
        | Event::SeatsTaken { ticket, .. }
        | Event::TicketSeated { ticket, .. }
        | Event::TicketReturned { ticket, .. } => Box::new(std::iter::once(ticket)),
        Event::MatchProposed { teams, .. } | Event::MatchFormed { teams, .. } => {
            Box::new(teams.iter().flatten())
        }
        Event::MatchDissolved { returned: tickets, .. } | Event::MatchReady { tickets, .. } => {
            Box::new(tickets.iter())
        }
        _ => Box::new(std::iter::empty()),
    }
}

/// Finds the tickets that were entered here before a restart.
async fn adopt_all(maker: &Handle<Matchmaker>, shared: &Shared) -> Result<(), Unavailable> {
    let since = now() - shared.grace;
    // A copy is cheap for the matchmaker, and is processed on another thread.
    let copy = maker.query(Matchmaker::snapshot).await?;
    let found = tokio::task::spawn_blocking(move || entered_here(&copy, since)).await;
    // Reversed, so that the waiting ticket counts if a player has both.
    for (player, ticket) in found.map_err(|_| Unavailable::Stopped)?.into_iter().rev() {
        shared.adopt(player, ticket);
    }
    Ok(())
}

/// Tickets that were entered here, for each of their players: those matched `since` then, after them the waiting ones.
fn entered_here(maker: &Snapshot, since: Timestamp) -> Vec<(PlayerId, TicketId)> {
    let completed = |ticket: &&Arc<Ticket>| {
        let end = &ticket.state;
        matches!(end, TicketState::Over { at, end: TicketEnd::Completed { .. } } if *at >= since)
    };
    let tickets = maker.over.values().filter(completed).chain(maker.tickets.values());
    tickets.filter(|ticket| is_ours(ticket)).flat_map(|ticket| of_players(ticket)).collect()
}

fn of_players(ticket: &Ticket) -> Vec<(PlayerId, TicketId)> {
    ticket.spec.player_ids().into_iter().map(|player| (player, ticket.id.clone())).collect()
}
