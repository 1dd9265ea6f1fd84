//! A match as requirements see it.
//!
//! A document is made when an expression looks at it, and not kept with the match: as a tree of values it takes several
//! times the memory of its text. Few expressions look at the players, who are most of that tree, so it is made in two
//! steps.

use alloc::borrow::Cow;
use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use core::cell::{Cell, OnceCell};

use jmespath::{Rcvar, Variable};

use super::conjunction::Path;
use super::meter::{NODE, of_json};
use crate::game::GameVersion;
use crate::ids::MatchId;
use crate::match_spec::MatchSpec;
use crate::properties::Properties;

/// `{"MatchId", "PlayerIds", "MatchProperties", "PlayerProperties"}`.
#[derive(Clone)]
pub struct Document<'a> {
    id: &'a MatchId,
    spec: &'a MatchSpec,
    values: Cow<'a, Values>,
}

/// The parts of a document that were made so far.
#[derive(Clone, Default)]
pub(crate) struct Values {
    /// Without the players.
    of_match: OnceCell<Rcvar>,
    ids: OnceCell<Rcvar>,
    whole: OnceCell<Rcvar>,
    /// The work of making them.
    work: Cell<u64>,
}

/// Maximum memory per unit of work of making a value, in bytes: about 150 for each [`NODE`].
const BYTES_FOR_WORK: u64 = 3;

impl Values {
    /// Approximate size, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        usize::try_from(self.work.get() * BYTES_FOR_WORK).unwrap_or(usize::MAX)
    }
}

impl<'a> Document<'a> {
    /// The document of a match with that id.
    #[must_use]
    pub fn new(id: &'a MatchId, spec: &'a MatchSpec) -> Self {
        Self { id, spec, values: Cow::Owned(Values::default()) }
    }

    /// As [`Self::new`]; what is made of it stays in `values`.
    pub(crate) const fn kept(id: &'a MatchId, spec: &'a MatchSpec, values: &'a Values) -> Self {
        Self { id, spec, values: Cow::Borrowed(values) }
    }

    /// The document, or only the part that an expression needs which does not look at the players.
    pub(super) fn root(&self, players: bool) -> &Rcvar {
        let of_match = self.values.of_match.get_or_init(|| {
            self.note(self.work_of_match());
            object(self.of_match())
        });
        if !players {
            return of_match;
        }
        self.values.whole.get_or_init(|| {
            self.note(self.work_of_players());
            let mut fields = of_match.as_object().cloned().unwrap_or_default();
            fields.extend(self.of_players());
            object(fields)
        })
    }

    /// An upper bound for the remaining work of [`Self::root`].
    pub(super) fn work(&self, players: bool) -> u64 {
        let of_match = if self.values.of_match.get().is_some() { 0 } else { self.work_of_match() };
        let of_players =
            if !players || self.values.whole.get().is_some() { 0 } else { self.work_of_players() };
        of_match + of_players
    }

    fn note(&self, work: u64) {
        self.values.work.set(self.values.work.get() + work);
    }

    fn work_of_match(&self) -> u64 {
        4 * NODE + self.spec.properties.text().map_or(0, of_json)
    }

    fn work_of_players(&self) -> u64 {
        let properties = self.spec.player_properties.values();
        let properties: u64 = properties.map(|of| 4 * NODE + of.text().map_or(0, of_json)).sum();
        4 * NODE + 2 * NODE * self.spec.players.len() as u64 + properties
    }

    /// The value under a path; null if there is none. The players' properties are not searched.
    pub(crate) fn at(&self, path: &Path) -> Rcvar {
        let Some((first, rest)) = path.split_first() else { return Rcvar::clone(self.root(false)) };
        let first = match &**first {
            IDS => {
                let ids = self.values.ids.get_or_init(|| self.ids());
                Rcvar::clone(ids)
            }
            name => self.root(false).get_field(name),
        };
        rest.iter().fold(first, |value, name| value.get_field(name))
    }

    /// Whether the match names a game.
    pub(crate) fn names_game(&self) -> bool {
        !self.root(false).get_field("MatchProperties").get_field("game").is_null()
    }

    /// The game and version that the match names; `None` if it does not name both.
    pub(crate) fn game(&self) -> Option<GameVersion> {
        let properties = self.root(false).get_field("MatchProperties");
        let text = |name: &str| properties.get_field(name).as_string().cloned();
        Some(GameVersion { name: text("game")?, version: text("version")? })
    }

    fn of_match(&self) -> BTreeMap<String, Rcvar> {
        let fields =
            [("MatchId", string(self.id.as_str())), ("MatchProperties", self.spec.properties.variable())];
        fields.into_iter().map(|(name, value)| (name.to_string(), value)).collect()
    }

    fn of_players(&self) -> [(String, Rcvar); 2] {
        let properties = self.spec.player_properties.iter();
        let properties = properties.map(|(id, value)| (id.to_string(), value.variable())).collect();
        [(IDS.to_string(), self.ids()), (PROPERTIES.to_string(), object(properties))]
    }

    fn ids(&self) -> Rcvar {
        let players = self.spec.players.iter().map(|player| string(player.as_str())).collect();
        Rcvar::new(Variable::Array(players))
    }
}

/// The players' ids, as a list.
const IDS: &str = "PlayerIds";
/// The players' properties, by id.
pub(super) const PROPERTIES: &str = "PlayerProperties";

/// Whether a field of the document is about the players.
pub(super) fn is_of_players(name: &str) -> bool {
    matches!(name, IDS | PROPERTIES)
}

fn object(fields: BTreeMap<String, Rcvar>) -> Rcvar {
    Rcvar::new(Variable::Object(fields))
}

fn string(text: &str) -> Rcvar {
    Rcvar::new(Variable::String(text.to_string()))
}

impl Properties {
    fn variable(&self) -> Rcvar {
        // The text was validated when the properties were created, so the fallback is never used.
        let parsed = self.text().and_then(super::read);
        Rcvar::new(parsed.unwrap_or_else(|| Variable::Object(BTreeMap::new())))
    }
}
