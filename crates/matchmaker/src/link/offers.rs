//! Free seats of running matches, as the matchmaker may offer them.
//!
//! A match has seats to offer if it runs, and its properties name a queue whose tickets take such seats (`queue_name`,
//! which the matchmaker writes into the matches that it makes). The broker knows how many are free, from the ordered
//! capacity or from its server's report, which may come at any time. Seats that it has reserved for tickets which the
//! matchmaker is still waiting for count as promised, not as taken, because the matchmaker subtracts promised ones
//! itself.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value;
use sortie_domain::broker::model::{Match, MatchState};
use sortie_domain::broker::{Broker, Event as BrokerEvent};
use sortie_domain::ids::{MatchId, PlayerId, QueueId, RegionId};
use sortie_domain::match_spec::MatchSpec;
use sortie_domain::matchmaking::model::SeatOffer;
use sortie_domain::matchmaking::settings::Backfill;
use sortie_domain::matchmaking::{Command, Matchmaker};
use sortie_domain::properties::Properties;

use super::{MATCHES_PER_LOOK, Standing};

/// Live matches that may have seats to offer, with the queue and region of the tickets that may take them.
pub(super) struct OpenMatches {
    queues: BTreeSet<QueueId>,
    /// At most as many as the broker has live matches.
    matches: BTreeMap<MatchId, (QueueId, Option<RegionId>)>,
}

/// The matchmaker's promises about a match's seats.
pub(super) struct Promised {
    offer: Arc<SeatOffer>,
    /// Offered seats that are not promised.
    free: u32,
    /// Seats promised to tickets.
    seats: u32,
    /// The players of those tickets.
    players: BTreeSet<PlayerId>,
}

/// The queues whose tickets take free seats.
pub(super) fn queues(maker: &Matchmaker) -> BTreeSet<QueueId> {
    let queues = maker.settings().queues.iter();
    queues.filter(|(_, queue)| queue.backfill != Backfill::Off).map(|(id, _)| id.clone()).collect()
}

/// A page of the matches whose seats are on offer, by id.
pub(super) fn offered(maker: &Matchmaker, after: Option<&MatchId>) -> Vec<MatchId> {
    let page = maker.offers_after(after).take(MATCHES_PER_LOOK);
    page.map(|offered| offered.offer.match_id.clone()).collect()
}

/// A page of the broker's live matches, by id, and the match after which the next page begins, if there is one.
pub(super) fn live(
    broker: &Broker,
    after: Option<&MatchId>,
) -> (Vec<(MatchId, Arc<MatchSpec>)>, Option<MatchId>) {
    let page = broker.matches(&["queued", "picked_up", "ready"], after, MATCHES_PER_LOOK);
    let last = page.items.last().filter(|_| page.more).map(|game| game.id.clone());
    (page.items.into_iter().map(|game| (game.id, game.spec)).collect(), last)
}

pub(super) fn promised(maker: &Matchmaker, ids: &BTreeSet<MatchId>) -> BTreeMap<MatchId, Promised> {
    let found = ids.iter().filter_map(|id| {
        let offered = maker.offered(id)?;
        let tickets = offered.seating.keys().filter_map(|ticket| maker.ticket(ticket));
        let players = tickets.flat_map(|ticket| ticket.spec.player_ids()).collect();
        let seats = offered.seating.values().map(|(seats, _)| *seats).sum();
        let promised = Promised { offer: Arc::clone(&offered.offer), free: offered.free, seats, players };
        Some((id.clone(), promised))
    });
    found.collect()
}

/// Those of the matches that are running.
pub(super) fn games(broker: &Broker, ids: &BTreeSet<MatchId>) -> Vec<Match> {
    let running = |game: &&Match| matches!(game.state, MatchState::Ready { .. });
    ids.iter().filter_map(|id| broker.find_match(id)).filter(running).cloned().collect()
}

impl OpenMatches {
    pub(super) const fn new(queues: BTreeSet<QueueId>) -> Self {
        Self { queues, matches: BTreeMap::new() }
    }

    /// Whether any match can have seats to offer.
    pub(super) fn wants_matches(&self) -> bool {
        !self.queues.is_empty()
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = &MatchId> {
        self.matches.keys()
    }

    pub(super) fn has(&self, id: &MatchId) -> bool {
        self.matches.contains_key(id)
    }

    pub(super) fn enter(&mut self, id: &MatchId, spec: &MatchSpec) {
        if self.queues.is_empty() {
            return;
        }
        let Some((queue, region)) = place(&spec.properties) else { return };
        if self.queues.contains(&queue) {
            self.matches.insert(id.clone(), (queue, region));
        }
    }

    /// The match that an event is about, if its seats or its state are news to the matchmaker, with the latter.
    pub(super) fn note(&mut self, event: &BrokerEvent) -> Option<(MatchId, Option<Standing>)> {
        let (id, standing) = match event {
            BrokerEvent::MatchQueued { id, spec } => {
                self.enter(id, spec);
                return None;
            }
            BrokerEvent::MatchReady { id, connection, .. } => (id, Standing::Ready(Arc::clone(connection))),
            BrokerEvent::MatchEnded { id, cause, .. } => (id, Standing::ended(*cause)),
            BrokerEvent::MatchFailed { id, reason, .. } => (id, Standing::Failed(*reason)),
            BrokerEvent::MatchCancelled { id, cause, .. } => (id, Standing::Ended(cause.text())),
            BrokerEvent::SeatReserved { match_id: id, .. }
            | BrokerEvent::SeatClosed { match_id: id, .. }
            | BrokerEvent::MatchPlacesReported { id, .. } => {
                return self.has(id).then(|| (id.clone(), None));
            }
            _ => return None,
        };
        if !matches!(standing, Standing::Ready(_)) {
            self.matches.remove(id);
        }
        Some((id.clone(), Some(standing)))
    }

    /// The commands about the matches in `promised`, and about the running matches `games`.
    pub(super) fn plan(
        &self,
        games: &[Match],
        promised: &BTreeMap<MatchId, Promised>,
    ) -> Vec<(MatchId, Command)> {
        let running: BTreeMap<&MatchId, &Match> = games.iter().map(|game| (&game.id, game)).collect();
        let over = promised
            .iter()
            .filter(|(id, promised)| promised.free > 0 && !(running.contains_key(id) && self.has(id)));
        let over = over.map(|(id, _)| (id.clone(), Command::WithdrawSeats { match_id: id.clone() }));
        let open = games.iter().filter_map(|game| {
            let (queue, region) = self.matches.get(&game.id)?;
            let change = change(game, queue, region.as_ref(), promised.get(&game.id))?;
            Some((game.id.clone(), change))
        });
        over.chain(open).collect()
    }
}

/// The command about a running match, if any.
fn change(
    game: &Match,
    queue: &QueueId,
    region: Option<&RegionId>,
    promised: Option<&Promised>,
) -> Option<Command> {
    let reserved = promised.map_or(0, |promised| {
        let mine = game.seats.values().filter(|seat| promised.players.contains(&seat.player));
        u32::try_from(mine.count()).unwrap_or(u32::MAX)
    });
    let seats = game.free_places().saturating_add(reserved);
    let (free_now, to_come) = promised.map_or((0, 0), |promised| (promised.free, promised.seats));
    let free = seats.saturating_sub(to_come);
    if free == 0 {
        return (free_now > 0).then(|| Command::WithdrawSeats { match_id: game.id.clone() });
    }
    let offer = SeatOffer {
        match_id: game.id.clone(),
        queue: queue.clone(),
        seats,
        region: region.cloned(),
        properties: game.spec.properties.clone(),
        ratings: BTreeMap::new(),
        players: game.expected_players(),
    };
    let same = |known: &Promised| {
        free == free_now && SeatOffer { seats: known.offer.seats, ..offer.clone() } == *known.offer
    };
    if promised.is_some_and(same) { None } else { Some(Command::OfferSeats { offer }) }
}

/// The queue whose tickets a match is for, and its region.
fn place(properties: &Properties) -> Option<(QueueId, Option<RegionId>)> {
    let properties: Value = serde_json::from_str(properties.text()?).ok()?;
    let queue = QueueId::new(properties.get("queue_name")?.as_str()?).ok()?;
    let region = properties.get("region").and_then(Value::as_str);
    Some((queue, region.and_then(|region| RegionId::new(region).ok())))
}
