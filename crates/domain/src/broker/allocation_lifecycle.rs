//! Allocations: from the order for a server until nothing is left of it on the platform; and the configuration of
//! fleets.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::command::{Refusal, Reply};
use super::event::Event;
use super::looking::Then;
use super::model::{AllocationState, FailReason, Fleet, GoneCause, MatchState, Settings, SettingsChange};
use super::state::Configured;
use super::{BrokenRule, Turn};
use crate::ids::{AllocationId, FleetId, MatchId, ServerId};
use crate::match_spec::MatchSpec;
use crate::requirements;

/// Maximum number of fleets. With ids and requirements of maximum length their configuration takes about 5 MiB.
const MAX_FLEETS: usize = 1_000;
/// Maximum length of the name of a game, and of a version, in bytes.
const MAX_GAME_BYTES: usize = 128;
/// Maximum length of a platform's error text that is kept, in characters.
const MAX_ERROR_CHARACTERS: usize = 500;

impl Turn<'_> {
    pub(super) fn configure(&mut self, settings: Settings, fleets: Vec<Fleet>) -> Result<Reply, Refusal> {
        settings.check().map_err(|(field, problem)| Refusal::field(field, problem))?;
        if fleets.len() > MAX_FLEETS {
            return Err(Refusal::TooMany { what: "fleets", limit: MAX_FLEETS });
        }
        for (at, fleet) in fleets.iter().enumerate() {
            if fleets[..at].iter().any(|earlier| earlier.id == fleet.id) {
                return Err(Refusal::field("fleets", format!("{} is listed twice", fleet.id)));
            }
            requirements::check(&fleet.requirements)?;
            if fleets[..at].iter().any(|earlier| earlier.is_default && fleet.is_default) {
                return Err(Refusal::field("fleets", format!("{} is not the only default fleet", fleet.id)));
            }
            check_game(fleet)?;
            if fleet.warm > fleet.max {
                return Err(Refusal::field("warm", format!("more than the maximum of fleet {}", fleet.id)));
            }
        }
        let configured = Configured { settings, fleets };
        if self.state().configured.as_deref() == Some(&configured) {
            return Ok(Reply::Done);
        }
        let Configured { settings, fleets } = configured;
        self.emit(Event::Configured { settings, fleets });
        while !self.is_full() && self.remove_fleet() {}
        Ok(Reply::Done)
    }

    /// Removes one server of a fleet that is not configured any more, with its matches, or fails one queued match that
    /// only such a server could take. Returns whether there was one.
    pub(super) fn remove_fleet(&mut self) -> bool {
        let Some(fleet) = self.state().removed_fleet() else { return false };
        let index = &self.state().index;
        if let Some(server) = index.of_fleet.get(fleet).and_then(|servers| servers.first()).cloned() {
            self.clear_and_dismiss(&server, GoneCause::FleetRemoved);
        } else if let Some(id) = index.queue.first_of(fleet).map(|entry| entry.id.clone()) {
            self.failed(&id, FailReason::FleetRemoved);
        }
        true
    }

    pub(super) fn reconfigure(&mut self, change: &SettingsChange) -> Result<Reply, Refusal> {
        let settings = self.state().settings.with(change);
        settings.check().map_err(|(field, problem)| Refusal::field(field, problem))?;
        if settings != self.state().settings {
            self.emit(Event::Reconfigured { settings });
        }
        Ok(Reply::Done)
    }

    /// An administrator starts a server. With a match, the match is queued and the server ordered for it, unless a
    /// waiting server takes it.
    pub(super) fn allocate_server(
        &mut self,
        id: Option<MatchId>,
        spec: Option<MatchSpec>,
    ) -> Result<Reply, Refusal> {
        let Some(spec) = spec else {
            let fleet = self.fleet_with_room(|_| Some(true)).map_err(|why| Refusal::NoFleet { why })?;
            let Some(fleet) = fleet else { return Err(Refusal::NoFleet { why: BTreeMap::new() }) };
            let server = self.order_server(&fleet, None);
            return Ok(Reply::Allocated { server, match_id: None });
        };
        if let Some(known) = self.known(id.as_ref(), &spec)? {
            return match self.server_for(&known) {
                Some(server) => Ok(Reply::Allocated { server, match_id: Some(known) }),
                None => Err(Refusal::MatchExists(known)),
            };
        }
        self.check_spec(&spec)?;
        let id = id.unwrap_or_else(|| MatchId::draw(&mut self.draw));
        if !self.would_be_taken(&id, &spec) {
            self.fleet_for_new(&id, &spec).map_err(|why| Refusal::NoFleet { why })?;
        }
        self.queue_match(Some(id.clone()), spec, 0)?;
        self.offer(&id, Then::Order);
        match self.server_for(&id) {
            Some(server) => Ok(Reply::Allocated { server, match_id: Some(id) }),
            None => Ok(Reply::Submitted { match_id: id }),
        }
    }

    /// The server that has the match, or was ordered for it.
    fn server_for(&self, id: &MatchId) -> Option<ServerId> {
        let held = self.broker.find_match(id).and_then(|game| game.server.clone());
        held.or_else(|| {
            let order = self.state().index.by_match.get(id)?;
            self.state().allocations.get(order).map(|allocation| allocation.server.clone())
        })
    }

    /// Orders a server; returns the id that it will send.
    pub(super) fn order_server(&mut self, fleet: &FleetId, for_match: Option<MatchId>) -> ServerId {
        let (allocation, server) = (AllocationId::draw(&mut self.draw), ServerId::draw(&mut self.draw));
        self.emit(Event::AllocationOrdered {
            allocation,
            server: server.clone(),
            fleet: fleet.clone(),
            for_match,
        });
        server
    }

    pub(super) fn allocation_started(&mut self, allocation: &AllocationId) -> Reply {
        let known = self.state().allocations.get(allocation);
        if known.is_some_and(|known| known.state == AllocationState::Ordered) {
            self.emit(Event::AllocationStarted { allocation: allocation.clone() });
        }
        Reply::Done
    }

    pub(super) fn allocation_failed(&mut self, allocation: &AllocationId, error: &str) -> Reply {
        self.lost(allocation, GoneCause::AllocationFailed, Some(error));
        Reply::Done
    }

    pub(super) fn allocation_stopped(&mut self, allocation: &AllocationId) -> Reply {
        self.lost(allocation, GoneCause::Exited, None);
        Reply::Done
    }

    /// A process that exits before its first call, or with a match it was not ready for, counts as a failure of its
    /// fleet.
    pub(super) fn server_exited(&mut self, allocation: &AllocationId, status: &str) -> Reply {
        let Some(known) = self.state().allocations.get(allocation) else { return Reply::Done };
        let preparing = |id| {
            let game = self.state().matches.get(id);
            game.is_some_and(|game| matches!(game.state, MatchState::PickedUp { .. }))
        };
        let server = self.state().servers.get(&known.server);
        let preparing = server.is_some_and(|server| server.matches.iter().any(preparing));
        let failed = known.state.is_pending() || preparing;
        self.lost(allocation, GoneCause::Exited, failed.then_some(status));
        Reply::Done
    }

    /// Nothing is left of the allocation. Its matches fail, except those whose players do not know a server yet: these
    /// go back to the queue.
    fn lost(&mut self, allocation: &AllocationId, cause: GoneCause, error: Option<&str>) {
        let Some(known) = self.state().allocations.get(allocation) else { return };
        let (server, fleet) = (known.server.clone(), known.fleet.clone());
        // An allocation that is not wanted any more cannot fail, or has failed before.
        let unwanted = matches!(known.state, AllocationState::Leaving { .. } | AllocationState::Stopping);
        let error = error.filter(|_| !unwanted);
        if self.broken(BrokenRule::KeepMatchesOfExited) {
            self.dismiss(&server, cause);
        } else {
            self.clear_and_dismiss(&server, cause);
        }
        let error = error.map(|error| {
            let said = error.chars().take(MAX_ERROR_CHARACTERS);
            Arc::from(said.collect::<alloc::string::String>().trim().to_string())
        });
        self.emit(Event::AllocationEnded { allocation: allocation.clone(), fleet, error });
    }
}

fn check_game(fleet: &Fleet) -> Result<(), Refusal> {
    let names = fleet.game.iter().flat_map(|game| [&game.name, &game.version]);
    for name in names {
        if name.is_empty() || name.len() > MAX_GAME_BYTES {
            let problem = format!("game and version of {} must have 1 to {MAX_GAME_BYTES} bytes", fleet.id);
            return Err(Refusal::field("fleets", problem));
        }
    }
    Ok(())
}
