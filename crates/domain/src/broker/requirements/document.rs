//! A match as requirements see it.
//!
//! A document is made when an expression looks at it, not kept with the match: as a tree of values it takes several
//! times the memory of the text it is made from. Few expressions look at the players, who are most of that tree, so
//! it is made in two steps.

use alloc::borrow::Cow;
use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use core::cell::OnceCell;

use jmespath::{Rcvar, Variable};

use super::conjunction::Path;
use crate::broker::model::{MatchSpec, Properties};
use crate::ids::MatchId;

/// `{"MatchId", "PlayerIds", "MatchProperties", "PlayerProperties"}`.
#[derive(Clone)]
pub struct Document<'a> {
    id: &'a MatchId,
    spec: &'a MatchSpec,
    values: Cow<'a, Values>,
}

/// What has been made of a document so far.
#[derive(Clone, Default)]
pub(crate) struct Values {
    /// Without the players.
    of_match: OnceCell<Rcvar>,
    whole: OnceCell<Rcvar>,
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

    /// The document, or as much of it as an expression needs that does not look at the players.
    pub(super) fn root(&self, players: bool) -> &Rcvar {
        let of_match = self.values.of_match.get_or_init(|| object(self.of_match()));
        if !players {
            return of_match;
        }
        self.values.whole.get_or_init(|| {
            let mut fields = of_match.as_object().cloned().unwrap_or_default();
            fields.extend(self.of_players());
            object(fields)
        })
    }

    /// The value under a path; null where there is none.
    pub(crate) fn at(&self, path: &Path) -> Rcvar {
        let root = self.root(path.first().is_some_and(|name| is_of_players(name)));
        path.iter().fold(Rcvar::clone(root), |value, name| value.get_field(name))
    }

    fn of_match(&self) -> BTreeMap<String, Rcvar> {
        let fields =
            [("MatchId", string(self.id.as_str())), ("MatchProperties", self.spec.properties.variable())];
        fields.into_iter().map(|(name, value)| (name.to_string(), value)).collect()
    }

    fn of_players(&self) -> [(String, Rcvar); 2] {
        let players = self.spec.players.iter().map(|player| string(player.as_str())).collect();
        let properties = self.spec.player_properties.iter();
        let properties = properties.map(|(id, value)| (id.to_string(), value.variable())).collect();
        [
            ("PlayerIds".to_string(), Rcvar::new(Variable::Array(players))),
            ("PlayerProperties".to_string(), object(properties)),
        ]
    }
}

/// Whether a field of the document is about the players.
pub(super) fn is_of_players(name: &str) -> bool {
    matches!(name, "PlayerIds" | "PlayerProperties")
}

fn object(fields: BTreeMap<String, Rcvar>) -> Rcvar {
    Rcvar::new(Variable::Object(fields))
}

fn string(text: &str) -> Rcvar {
    Rcvar::new(Variable::String(text.to_string()))
}

impl Properties {
    fn variable(&self) -> Rcvar {
        // The text was checked when the properties were made, so the fallback is never taken.
        let parsed = self.text().and_then(|text| Variable::from_json(text).ok());
        Rcvar::new(parsed.unwrap_or_else(|| Variable::Object(BTreeMap::new())))
    }
}
