//! The invariants. Each message begins with the number that ARCHITECTURE.md gives the invariant.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use sortie_domain::broker::model::{AllocationState, Match, MatchState, SeatState};
use sortie_domain::broker::{Broker, Command, Event, Hints, LEAVE_TIME, Offer, Reply};
use sortie_domain::ids::{FleetId, MatchId};
use sortie_domain::machine::{CallId, Machine};

use super::world::World;

impl World {
    /// Invariants of every state.
    pub(super) fn check_state(&mut self) {
        let snapshot = self.broker.snapshot();
        for game in snapshot.matches.values() {
            let seats = u32::try_from(game.seats.len()).unwrap_or(u32::MAX);
            // A server may report fewer places than were promised; that case is checked when seats are given.
            let ordered = game.spec.capacity.filter(|_| game.reported_free.is_none());
            if ordered.is_some_and(|capacity| seats > capacity || game.occupied() > capacity) {
                self.fail(format!("4: match {} has more players than places", game.id));
            }
            let holder = game.server.as_ref();
            let known = holder.and_then(|id| snapshot.servers.get(id));
            match game.state {
                MatchState::Queued if holder.is_some() => {
                    self.fail(format!("1: queued match {} is held", game.id));
                }
                MatchState::PickedUp { .. } | MatchState::Ready { .. }
                    if known.is_none_or(|server| !server.matches.contains(&game.id)) =>
                {
                    self.fail(format!("2: match {} is held by a server that is gone", game.id));
                }
                _ => {}
            }
        }
        for server in snapshot.servers.values() {
            let mut held = server.matches.iter();
            let astray = held.find(|id| {
                let game = snapshot.matches.get(*id);
                game.is_none_or(|game| game.server.as_ref() != Some(&server.id))
            });
            if let Some(id) = astray {
                self.fail(format!("1: server {} lists match {id}, which it does not hold", server.id));
            }
        }
        self.check_fleets();
    }

    /// Fleets stay within their maximum, according to the broker and to the platform.
    fn check_fleets(&mut self) {
        let mut running: BTreeMap<FleetId, usize> = BTreeMap::new();
        for process in self.platform.running.values() {
            *running.entry(process.fleet.clone()).or_default() += 1;
        }
        for view in self.broker.fleets(None, usize::MAX).items {
            let most = view.fleet.max as usize;
            let real = running.get(&view.fleet.id).copied().unwrap_or(0);
            if view.live > most || real > most {
                self.fail(format!(
                    "3: fleet {} runs {real}/{}, its maximum is {most}",
                    view.fleet.id, view.live
                ));
            }
        }
    }

    /// Right after the timers have run, nothing may be overdue.
    pub(super) fn check_due(&mut self) {
        let settings = self.broker.settings().clone();
        let now = self.time();
        for game in self.broker.snapshot().matches.values() {
            let (timer, due) = match game.state {
                MatchState::Queued => ("pickup", game.queued_at + settings.match_pickup_time),
                MatchState::PickedUp { at } => ("ready", at + settings.match_ready_time),
                MatchState::Ready { at, .. } => ("run", at + settings.match_max_run_time),
                _ => continue,
            };
            if due <= now {
                self.fail(format!("2: match {} is beyond its {timer} time", game.id));
            }
            for seat in game.seats.values() {
                if matches!(seat.state, SeatState::Reserved { expires_at: Some(at) } if at <= now) {
                    self.fail(format!("4: seat {} is reserved beyond its time", seat.id));
                }
            }
        }
        self.check_draining();
        self.check_collected();
        if self.broker.next_deadline().is_some_and(|deadline| deadline <= now) {
            self.fail("2: a deadline is due right after all timers have run".into());
        }
        let overdue =
            |state| matches!(state, AllocationState::Leaving { since } if since + LEAVE_TIME <= now);
        let lingering = self.broker.allocations().find(|order| overdue(order.state));
        if let Some(server) = lingering.map(|order| order.server.clone()) {
            self.fail(format!("3: server {server} should have been stopped"));
        }
    }

    /// The oldest fitting match, by evaluating every queued one.
    pub(super) fn expected_offer(&self, command: &Command) -> Option<Option<MatchId>> {
        let Command::RequestMatch { server, requirements, hints, .. } = command else { return None };
        if hints.has(Hints::FULL) || self.is_given_up(server) {
            return None;
        }
        let expression =
            jmespath::compile(if requirements.is_empty() { "`true`" } else { requirements }).ok()?;
        let fits = |game: &&Match| {
            let result = expression.search(document(game));
            self.fleet_takes(server, game) && result.is_ok_and(|value| value.is_truthy())
        };
        Some(self.broker.queued().find(fits).map(|game| game.id.clone()))
    }

    pub(super) fn check_offer(&mut self, call: CallId, expected: &Option<MatchId>, from: usize) {
        let offered = match self.answer_since(call, from) {
            Some(Ok(Reply::Requested { hints, .. })) if hints.has(Hints::SHUTDOWN) => return,
            Some(Ok(Reply::Requested { offer: Some(offer), .. })) if offer.again => {
                let offer = offer.clone();
                return self.check_given_again(&offer);
            }
            Some(Ok(Reply::Requested { offer, .. })) => offer.as_ref().map(|offer| offer.match_id.clone()),
            Some(_) => return,
            None if expected.as_ref().is_some_and(|id| self.is_collected(call, id)) => return,
            None => None,
        };
        if offered != *expected {
            self.fail(format!("1: offered {offered:?}, the oldest that fits is {expected:?}"));
        }
    }

    /// A server gets a match again only if it prepares it and may never have heard about it.
    fn check_given_again(&mut self, offer: &Offer) {
        let game = self.broker.find_match(&offer.match_id);
        let holds = game.is_some_and(|game| {
            game.server.as_ref() == Some(&offer.server) && matches!(game.state, MatchState::PickedUp { .. })
        });
        if !holds {
            self.fail(format!("1: {} was given {} again", offer.server, offer.match_id));
        }
    }

    /// After a crash: the log holds what was acknowledged, and every way to replay it gives the same state.
    pub(super) fn check_replay(&mut self) {
        let mut replayed = Broker::new();
        for record in &self.log {
            replayed.apply(record);
        }
        let state = replayed.snapshot();
        if state != self.broker.snapshot() {
            self.fail("6: snapshot and replay differ from replay alone".into());
        }
        let restored = Broker::restore(state.clone());
        if restored.snapshot() != state {
            self.fail("6: a snapshot does not survive being restored".into());
        }
        let bytes = |broker: &Broker| (broker.waiting_bytes(), broker.kept_bytes());
        if bytes(&restored) != bytes(&replayed) || bytes(&restored) != bytes(&self.broker) {
            self.fail("6: bytes are counted in another way after a restore".into());
        }
        if replayed.next_deadline() != Broker::restore(state).next_deadline() {
            self.fail("6: deadlines differ after a restore".into());
        }
        self.check_acknowledged();
    }

    fn check_acknowledged(&mut self) {
        let (mut queued, mut ready, mut over, mut claimed) =
            (BTreeSet::new(), BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for record in &self.log {
            match &record.event {
                Event::MatchQueued { id, .. } => {
                    queued.insert(id.clone());
                }
                Event::MatchReady { id, .. } => {
                    ready.insert(id.clone());
                }
                Event::MatchCancelled { id, .. } | Event::MatchEnded { id, .. } => {
                    over.insert(id.clone());
                }
                Event::SeatClaimed { seat, .. } => {
                    claimed.insert(seat.clone());
                }
                _ => {}
            }
        }
        let lost = [
            ("match", self.matches.difference(&queued).next().map(ToString::to_string)),
            ("readiness of", self.readied.difference(&ready).next().map(ToString::to_string)),
            ("end of", self.cancelled.difference(&over).next().map(ToString::to_string)),
            ("claim of", self.claimed.difference(&claimed).next().map(ToString::to_string)),
        ];
        for (what, id) in lost {
            if let Some(id) = id {
                self.fail(format!("6: {what} {id} was acknowledged and is not in the log"));
            }
        }
    }

    /// When everything has come to rest.
    pub(super) fn check_end(&mut self) {
        if self.problem.is_some() {
            return;
        }
        self.check_replay();
        self.check_heard();
        let snapshot = self.broker.snapshot();
        if let Some((_, game)) = snapshot.matches.get_min() {
            self.fail(format!("2: match {} is {} forever", game.id, game.state.name()));
        }
        if let Some((_, order)) = snapshot.allocations.get_min() {
            self.fail(format!("3: allocation {} is {} forever", order.id, order.state.name()));
        }
        if let Some((_, process)) = self.platform.running.first_key_value() {
            self.fail(format!("3: server {} runs forever", process.server));
        }
    }

    /// What players hear, in log order: ready at most once, then one end at most, then nothing.
    fn check_heard(&mut self) {
        let mut ready = BTreeSet::new();
        let mut over = BTreeSet::new();
        let mut problems = Vec::new();
        for record in &self.log {
            let Some(id) = record.event.match_id() else { continue };
            if over.contains(id) {
                problems.push(format!("7: {} of match {id} after its end", record.event.kind()));
            }
            match &record.event {
                Event::MatchReady { id, .. } if !ready.insert(id.clone()) => {
                    problems.push(format!("7: match {id} became ready twice"));
                }
                Event::MatchEnded { id, .. }
                | Event::MatchFailed { id, .. }
                | Event::MatchCancelled { id, .. } => {
                    over.insert(id.clone());
                }
                _ => {}
            }
        }
        problems.into_iter().for_each(|problem| self.fail(problem));
    }
}

/// The match document, built without the broker's own code.
pub(super) fn document(game: &Match) -> Value {
    let parse = |text: Option<&str>| {
        text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_else(|| json!({}))
    };
    let players: Vec<_> = game.spec.players.iter().map(ToString::to_string).collect();
    let each = game.spec.player_properties.iter();
    let player_properties: serde_json::Map<_, _> =
        each.map(|(id, properties)| (id.to_string(), parse(properties.text()))).collect();
    json!({
        "MatchId": game.id.to_string(),
        "PlayerIds": players,
        "MatchProperties": parse(game.spec.properties.text()),
        "PlayerProperties": player_properties,
    })
}
