//! A fleet's terms for the matches that its servers take: the game, its version, and requirements. They apply in
//! addition to the servers' own requirements, whichever way a match comes to a server.
//!
//! Both a fleet's terms and a server's requirements are expressions, and so is their conjunction. So the indexes that
//! find a match for a server, and a server for a match, only handle expressions.
//!
//! A match that names a different game or version than the fleet does not fit. A match without a version goes to any
//! version. A match without a game goes to fleets without a game; if every fleet has one, it goes to the default fleet,
//! or the only one. A match that is bound to a fleet does not have to name a game.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use jmespath::Variable;

use super::model::Fleet;
use super::state::State;
use super::{BrokenRule, Broker};
use crate::game::GameVersion;
use crate::ids::{FleetId, MatchId, ServerId};
use crate::match_spec::MatchSpec;
use crate::requirements::{Document, NoRoom, Requirement, Requirements};

/// Which matches a server takes.
#[derive(Clone, Debug)]
pub(crate) struct Filter {
    /// Its own requirements.
    pub(crate) asked: Arc<Requirement>,
    /// For matches that any fleet may take.
    pub(crate) open: Arc<Requirement>,
    /// For matches that only its fleet may take.
    pub(crate) bound: Arc<Requirement>,
}

impl Filter {
    /// The filter of a server without a fleet.
    pub(crate) fn of(asked: Arc<Requirement>) -> Self {
        Self { open: Arc::clone(&asked), bound: Arc::clone(&asked), asked }
    }

    /// The requirement for matches of `fleet`, or for those that any fleet may take.
    pub(crate) const fn for_matches_of(&self, fleet: Option<&FleetId>) -> &Arc<Requirement> {
        if fleet.is_some() { &self.bound } else { &self.open }
    }

    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.open, &other.open) && Arc::ptr_eq(&self.bound, &other.bound)
    }
}

/// A fleet's terms.
pub(crate) struct Terms {
    /// For matches that any fleet may take.
    open: Arc<Requirement>,
    /// For matches that only this fleet may take.
    bound: Arc<Requirement>,
    /// The same without the fleet's requirements: only the part about the game.
    open_game: String,
    bound_game: String,
    /// The part about the game for a match that names one.
    named_game: String,
}

impl Terms {
    /// The requirement for a match of this order.
    pub(crate) const fn for_match(&self, spec: &MatchSpec) -> &Arc<Requirement> {
        if spec.fleet.is_some() { &self.bound } else { &self.open }
    }

    /// Its part about the game; empty if the fleet names none.
    pub(crate) fn about_game(&self, spec: &MatchSpec, names_game: bool) -> &str {
        match spec.fleet {
            _ if names_game => &self.named_game,
            Some(_) => &self.bound_game,
            None => &self.open_game,
        }
    }
}

/// The terms of all fleets.
#[derive(Default)]
pub(crate) struct AllTerms(BTreeMap<FleetId, Terms>);

impl AllTerms {
    pub(crate) fn of(state: &State, requirements: &mut Requirements) -> Self {
        let default = default_fleet(state).map(|fleet| fleet.id.clone());
        let terms = state.fleets.values().map(|fleet| {
            let open_game = about_game(fleet.game.as_ref(), default.as_ref() == Some(&fleet.id));
            let bound_game = about_game(fleet.game.as_ref(), true);
            let named_game = about_game(fleet.game.as_ref(), false);
            // They were checked when they were configured.
            let mut compile =
                |text: &str| requirements.compile(text).unwrap_or_else(|_| Arc::new(Requirement::none()));
            let (own, open, bound) =
                (compile(&fleet.requirements), compile(&open_game), compile(&bound_game));
            let (open, bound) = (requirements.both(&open, &own), requirements.both(&bound, &own));
            (fleet.id.clone(), Terms { open, bound, open_game, bound_game, named_game })
        });
        Self(terms.collect())
    }

    pub(crate) fn get(&self, fleet: &FleetId) -> Option<&Terms> {
        self.0.get(fleet)
    }
}

fn names_every_game(state: &State) -> bool {
    state.fleets.values().all(|fleet| fleet.game.is_some())
}

/// The fleet that takes matches without a game if every fleet names one.
fn default_fleet(state: &State) -> Option<&Fleet> {
    let fleets = &state.fleets;
    let only = || fleets.values().next().filter(|_| fleets.len() == 1);
    fleets.values().find(|fleet| fleet.is_default).or_else(only).filter(|_| names_every_game(state))
}

/// The expression for a fleet's game. `unnamed`: matches without a game fit.
fn about_game(game: Option<&GameVersion>, unnamed: bool) -> String {
    let Some(GameVersion { name, version }) = game else { return String::new() };
    let (name, version) = (literal(name), literal(version));
    let game = format!("MatchProperties.game == {name}");
    let game = if unnamed { format!("(MatchProperties.game == `null` || {game})") } else { game };
    format!("{game} && (MatchProperties.version == `null` || MatchProperties.version == {version})")
}

/// A text as a literal of an expression.
fn literal(text: &str) -> String {
    if text.chars().all(|one| one.is_ascii_graphic() && !matches!(one, '\'' | '\\') || one == ' ') {
        return format!("'{text}'");
    }
    format!("`{}`", Variable::String(text.into()).to_string().replace('`', "\\`"))
}

/// Where a match without a game goes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Unnamed {
    /// To fleets without a game.
    FleetsWithoutGame,
    /// Every fleet names one: to the default fleet.
    DefaultFleet(FleetId),
    /// Every fleet names one, and there is no default fleet: to servers without a fleet.
    NoFleet,
}

impl Broker {
    /// Applies the terms of the configured fleets.
    pub(super) fn note_terms(&mut self) {
        self.terms = AllTerms::of(&self.state, &mut self.requirements);
        self.beside.free = None;
        self.beside.waiters.note_new_terms();
    }

    /// The filter of a server that asks for `asked`.
    pub(super) fn filter_of(&mut self, server: &ServerId, asked: &Arc<Requirement>) -> Filter {
        let fleet = self.state.servers.get(server).and_then(|known| known.fleet.clone());
        self.filter(fleet.as_ref(), asked)
    }

    /// The filter of a server of `fleet` that asks for `asked`.
    pub(super) fn filter(&mut self, fleet: Option<&FleetId>, asked: &Arc<Requirement>) -> Filter {
        let terms = fleet.and_then(|fleet| self.terms.get(fleet));
        let Some(terms) = terms.filter(|_| !self.broken(BrokenRule::IgnoreFleet)) else {
            return Filter::of(Arc::clone(asked));
        };
        Filter {
            open: self.requirements.both(&terms.open, asked),
            bound: self.requirements.both(&terms.bound, asked),
            asked: Arc::clone(asked),
        }
    }

    /// Keeps the expressions of the filter, for a holder that is about to store it.
    pub(super) fn keep(&mut self, filter: &Filter) -> Result<(), NoRoom> {
        let Filter { asked, open, bound } = filter;
        [asked, open, bound].into_iter().try_for_each(|one| self.requirements.keep(one))
    }

    /// The fleets that may take a queued match, in the order in which they are tried; `None` if the step's work limit
    /// is reached before that is known.
    pub(super) fn fleets_for(&self, id: &MatchId, spec: &MatchSpec, place: u64) -> Option<Vec<FleetId>> {
        let document = Document::new(id, spec);
        let mut fitting = Vec::new();
        for fleet in spec.fleet.as_ref().map_or(&self.state.preferred[..], core::slice::from_ref) {
            if self.may_take(fleet, spec, &document, Some(place))? {
                fitting.push(fleet.clone());
            }
        }
        Some(fitting)
    }

    /// Whether servers of a fleet may take a match, which is at `place` if it is in the queue; `None` if the step's
    /// work limit is reached before that is known.
    pub(super) fn may_take(
        &self,
        fleet: &FleetId,
        spec: &MatchSpec,
        document: &Document<'_>,
        place: Option<u64>,
    ) -> Option<bool> {
        if spec.fleet.as_ref().is_some_and(|of| of != fleet) {
            return Some(false);
        }
        let Some(terms) = self.terms.get(fleet) else { return Some(false) };
        self.state.index.queue.fits_fleet(&self.requirements, terms.for_match(spec), place, document)
    }

    /// Where the match goes if it names no game, is not bound to a fleet, and some fleet names a game.
    pub(super) fn unnamed(&self, spec: &MatchSpec, document: &Document<'_>) -> Option<Unnamed> {
        let fleets = &self.state.fleets;
        let is_unbound = spec.fleet.is_none() && fleets.values().any(|fleet| fleet.game.is_some());
        if !is_unbound || document.names_game() {
            return None;
        }
        if !names_every_game(&self.state) {
            return Some(Unnamed::FleetsWithoutGame);
        }
        Some(
            default_fleet(&self.state)
                .map_or(Unnamed::NoFleet, |fleet| Unnamed::DefaultFleet(fleet.id.clone())),
        )
    }
}
