//! Which server may get which match: checks the decisions of one step by plain evaluation.

use std::time::Duration;

use serde_json::Value;
use sortie_domain::broker::model::{Fleet, GoneCause, Match, MatchState, ServerState, Settings};
use sortie_domain::broker::{Broker, Command, Event, Hints, Reply};
use sortie_domain::ids::{MatchId, ServerId};
use sortie_domain::machine::{Answer, CallId, Machine, Record};
use sortie_domain::time::Timestamp;

use super::actors::Caller;
use super::checks::document;
use super::world::World;

impl World {
    /// Checks the records and answers that are new in the step.
    pub(super) fn check_decisions(&mut self) {
        let (seen, answers) = self.looked_at;
        let new = self.step.records.iter().filter(|record| record.seq > seen);
        let new: Vec<Record<Event>> = new.cloned().collect();
        self.looked_at = (self.broker.last_seq(), self.step.answers.len());
        let problems = self.step.answers[answers.min(self.step.answers.len())..].iter();
        let mut problems: Vec<String> =
            problems.filter_map(|(call, answer)| self.exit_problem(*call, answer)).collect();
        // Decisions under earlier settings cannot be checked against the current ones.
        let is_changed = |record: &Record<Event>| {
            matches!(record.event, Event::Configured { .. } | Event::Reconfigured { .. })
        };
        if !new.iter().any(is_changed) {
            problems.extend(new.iter().filter_map(|record| self.record_problem(record)));
            problems.extend(self.warm_problem(&new));
        }
        problems.into_iter().for_each(|problem| self.fail(problem));
    }

    /// A server is told to exit only when it has no match.
    fn exit_problem(&self, call: CallId, answer: &Answer<Broker>) -> Option<String> {
        let hints = match answer {
            Ok(Reply::Requested { hints, .. } | Reply::Noted { hints, .. }) => *hints,
            Ok(_) => Hints::NONE,
            Err(refusal) => refusal.hints(),
        };
        let server = match self.calls.get(&call)? {
            Caller::Request(server) | Caller::Ready(server, _) | Caller::End(server, _) => server,
            _ => return None,
        };
        let held = self.broker.find_server(server).and_then(|known| known.matches.get_min());
        let held = held.filter(|_| hints.has(Hints::SHUTDOWN))?;
        Some(format!("1: server {server} is told to exit while it has match {held}"))
    }

    fn record_problem(&self, record: &Record<Event>) -> Option<String> {
        let settings = self.broker.settings();
        match &record.event {
            Event::MatchPickedUp { id, server } => {
                let (game, server) = (self.broker.find_match(id)?, self.broker.find_server(server)?);
                let fleets = self.broker.fleets(None, usize::MAX).items;
                let fleets: Vec<Fleet> = fleets.into_iter().map(|view| view.fleet).collect();
                let fleet = fleets.iter().find(|fleet| Some(&fleet.id) == server.fleet.as_ref());
                if may_outlast(settings, fleet, record.time, server.born_at) {
                    return Some(format!("2: match {id} may outlast the server {}", server.id));
                }
                let fleet = fleet?;
                let problem = || format!("1: server {} of {} takes match {id}", server.id, fleet.id);
                (!takes(fleet, &fleets, game)).then(problem)
            }
            Event::AllocationOrdered { for_match: Some(id), .. }
            | Event::AllocationAssigned { for_match: id, .. } => {
                let game = self.broker.find_match(id)?;
                let problem = || format!("3: a server is ordered for match {id}, which is about to fail");
                (game.queued_at + settings.match_pickup_time <= record.time).then(problem)
            }
            _ => None,
        }
    }

    /// A server of a warm pool that could still take a match is only retired for its age if enough others are idle, or
    /// if its fleet has no room for the replacement and another one is idle.
    fn warm_problem(&self, new: &[Record<Event>]) -> Option<String> {
        let settings = self.broker.settings();
        let fleets = self.broker.fleets(None, usize::MAX).items;
        let takes_idle = |record: &Record<Event>| match &record.event {
            Event::ServerGone { cause, .. } => *cause != GoneCause::Aged,
            Event::MatchPickedUp { .. } | Event::ServerFull { .. } | Event::ServerDraining { .. } => true,
            _ => false,
        };
        if new.iter().any(takes_idle) {
            return None;
        }
        let mut early = new.iter().filter_map(|record| {
            let Event::ServerGone { server, .. } = &record.event else { return None };
            let order = self.broker.allocation_of(server)?;
            let view = fleets.iter().find(|view| view.fleet.id == order.fleet)?;
            let age = settings.last_pickup_age(Some(&view.fleet))?;
            (record.time < order.ordered_at + age && !self.was_draining(server)).then_some(view)
        });
        let view = early.next()?;
        let Fleet { id, warm, max, .. } = &view.fleet;
        let is_full = view.live >= *max as usize && view.pending == 0;
        let least = if is_full && early.next().is_none() { 1 } else { *warm as usize };
        let problem = || format!("3: fleet {id} has {} idle servers after one was replaced", view.idle);
        (view.idle < least).then(problem)
    }

    fn was_draining(&self, server: &ServerId) -> bool {
        let records = self.log.iter().chain(&self.step.records);
        let mut events = records.map(|record| &record.event);
        events.any(|event| matches!(event, Event::ServerDraining { server: of, .. } if of == server))
    }

    /// Right after timers have run, a draining server has a match.
    pub(super) fn check_draining(&mut self) {
        let snapshot = self.broker.snapshot();
        let mut servers = snapshot.servers.values();
        let left = servers
            .find(|server| matches!(server.state, ServerState::Draining { .. }) && server.matches.is_empty());
        if let Some(server) = left {
            self.fail(format!("3: server {} is draining and has no match", server.id));
        }
    }

    /// Whether the broker has given up on the server, so that it gets no match.
    pub(super) fn is_given_up(&self, server: &ServerId) -> bool {
        let Some(known) = self.broker.find_server(server) else {
            return self.broker.is_gone(server) || self.broker.snapshot().gone.get(server).is_some();
        };
        let fleets = self.broker.fleets(None, usize::MAX).items;
        let removed = |fleet| fleets.iter().all(|view| view.fleet.id != fleet);
        let of = fleets.iter().map(|view| &view.fleet).find(|fleet| Some(&fleet.id) == known.fleet.as_ref());
        let age = self.broker.settings().last_pickup_age(of);
        matches!(known.state, ServerState::Draining { .. })
            || known.fleet.clone().is_some_and(removed)
            || age.is_some_and(|age| known.born_at + age <= self.time())
    }

    /// Whether the fleet of the server, if it has one, takes the match.
    pub(super) fn fleet_takes(&self, server: &ServerId, game: &Match) -> bool {
        let fleet = self.broker.find_server(server).and_then(|known| known.fleet.clone());
        let Some(fleet) = fleet else { return game.spec.fleet.is_none() };
        let fleets = self.broker.fleets(None, usize::MAX).items;
        let fleets: Vec<Fleet> = fleets.into_iter().map(|view| view.fleet).collect();
        fleets.iter().any(|one| one.id == fleet && takes(one, &fleets, game))
    }

    // --- lost answers ---------------------------------------------------------------------------------------

    /// An answer was lost.
    pub(super) fn note_unheard(&mut self, caller: &Caller, answer: &Answer<Broker>) {
        let (Caller::Request(server), Ok(Reply::Requested { offer, more, .. })) = (caller, answer) else {
            return;
        };
        for offer in offer.iter().chain(more).filter(|offer| !offer.again) {
            self.unheard.insert(offer.match_id.clone(), server.clone());
        }
    }

    /// If the asking server has a match that it never heard about: whether that match comes first.
    pub(super) fn expected_again(&mut self, command: &Command) -> Option<bool> {
        let Command::RequestMatch { server, hints, most, .. } = command else { return None };
        let is_prepared = |id: &MatchId| {
            let game = self.broker.find_match(id);
            game.is_some_and(|game| {
                matches!(game.state, MatchState::PickedUp { .. }) && game.server.as_ref() == Some(server)
            })
        };
        let found = self.unheard.iter().any(|(id, of)| of == server && is_prepared(id));
        self.unheard.retain(|_, of| of != server);
        // A server that signs off returns its matches.
        let is_first = *most > 1 || self.servers.get(server).is_some_and(|server| server.room == 1);
        (found && !hints.has(Hints::FULL) && !hints.has(Hints::SHUTDOWN)).then_some(is_first)
    }

    pub(super) fn check_again(&mut self, call: CallId, expected: Option<&bool>, from: usize) {
        let Some(is_first) = expected else { return };
        let heard = match self.answer_since(call, from) {
            // Another match may have come first, if the server asks for one and has room for several.
            Some(Ok(Reply::Requested { offer, .. })) => {
                offer.as_ref().is_some_and(|offer| offer.again || !is_first)
            }
            Some(Err(_)) => return,
            _ => false,
        };
        if !heard {
            self.fail("1: a server that asks again does not hear of the match that it has".into());
        }
    }

    // --- several matches for one call -----------------------------------------------------------------------

    pub(super) fn note_told(&mut self, answer: &Answer<Broker>) {
        let Ok(Reply::Requested { offer, more, .. }) = answer else { return };
        for offer in offer.iter().chain(more) {
            self.told.insert((offer.match_id.clone(), offer.pickup));
        }
    }

    /// After a crash it is unknown what was told.
    pub(super) fn tell_all(&mut self) {
        let matches = self.broker.snapshot().matches;
        self.told.extend(matches.values().map(|game| (game.id.clone(), game.pickups)));
    }

    /// Whether the match is on the server whose call waits.
    pub(super) fn is_collected(&self, call: CallId, id: &MatchId) -> bool {
        let Some(Caller::Request(server)) = self.calls.get(&call) else { return false };
        self.broker.find_match(id).is_some_and(|game| game.server.as_ref() == Some(server))
    }

    /// Right after timers have run, every match that its server never heard about is being collected by a call of the
    /// server.
    pub(super) fn check_collected(&mut self) {
        let answers = self.step.answers.iter().map(|(_, answer)| answer.clone()).collect::<Vec<_>>();
        answers.iter().for_each(|answer| self.note_told(answer));
        let waits = |of: &ServerId| {
            let calls = self.calls.iter().filter(|(call, _)| !self.gone.contains(call));
            calls.into_iter().any(|(_, caller)| *caller == Caller::Request(of.clone()))
        };
        let left = self.broker.snapshot().matches.values().find_map(|game| {
            let is_told = self.told.contains(&(game.id.clone(), game.pickups));
            let server = game.server.clone().filter(|_| matches!(game.state, MatchState::PickedUp { .. }))?;
            (!is_told && !waits(&server)).then(|| game.id.clone())
        });
        if let Some(id) = left {
            self.fail(format!("1: match {id} is with a server that no answer tells of it"));
        }
    }
}

/// Whether a match that is picked up at `at` could outlast the server, if the settings leave time for any match.
fn may_outlast(settings: &Settings, fleet: Option<&Fleet>, at: Timestamp, born_at: Timestamp) -> bool {
    let longest = settings.match_ready_time + settings.match_max_run_time;
    let of_fleet = fleet.and_then(|fleet| fleet.max_run_time).unwrap_or(Duration::MAX);
    let lifetime = settings.server_max_lifetime.min(of_fleet);
    !settings.lifetime_ends_matches && lifetime > longest && at + longest > born_at + lifetime
}

/// Whether a fleet takes a match, according to its configuration.
fn takes(fleet: &Fleet, fleets: &[Fleet], game: &Match) -> bool {
    let document = document(game);
    let (name, version) = (&document["MatchProperties"]["game"], &document["MatchProperties"]["version"]);
    let is_bound = game.spec.fleet.is_some();
    let every_game_is_named = fleets.iter().all(|fleet| fleet.game.is_some());
    let runs = fleet.game.as_ref().is_none_or(|game| {
        let is_named = match name {
            Value::Null => is_bound || ((fleet.is_default || fleets.len() == 1) && every_game_is_named),
            name => *name == game.name.as_str(),
        };
        is_named && (version.is_null() || *version == game.version.as_str())
    });
    let text = if fleet.requirements.is_empty() { "`true`" } else { &fleet.requirements };
    let expression = jmespath::compile(text);
    let fits = expression.is_ok_and(|found| found.search(&document).is_ok_and(|value| value.is_truthy()));
    runs && fits && (!is_bound || game.spec.fleet.as_ref() == Some(&fleet.id))
}
