//! Whether every match meets a requirement, found by trying matches.
//!
//! The forms of expressions that are always true have no end (`length(PlayerIds) >= 0`, `type(@) == 'object'`), so what
//! counts is what an expression does: it is evaluated for many different matches, made of the very names and literals
//! that it contains and of values of every kind. One that refuses a match is met by some matches only. In theory an
//! expression could refuse a match that is not among those tried; the result is for warnings, not for decisions.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use jmespath::ast::Ast;
use jmespath::{Rcvar, Variable};

use crate::ids::{MatchId, PlayerId, mix};
use crate::match_spec::{MAX_PLAYERS, MatchSpec};
use crate::properties::Properties;
use crate::requirements::{self, Document, InvalidRequirements, Path, Requirements, path_of};

/// Maximum numbers of names and of literals of an expression that matches are made of.
const MAX_PARTS: usize = 32;
/// Number of matches whose properties are drawn at random.
const RANDOM: usize = 500;

/// Values of every kind, as JSON.
const KINDS: [&str; 14] = [
    "null",
    "true",
    "false",
    "0",
    "1",
    "-1",
    "2.5",
    "1e12",
    r#""""#,
    r#""x""#,
    "[]",
    r#"["x",1]"#,
    "{}",
    r#"{"x":1}"#,
];

/// Whether every match meets the requirement, as far as many different matches show.
///
/// # Errors
/// [`InvalidRequirements`] if it is not a valid expression.
pub fn is_always_met(text: &str) -> Result<bool, InvalidRequirements> {
    let Some(ast) = requirements::parse(text)? else { return Ok(true) };
    let mut requirements = Requirements::new();
    let requirement = requirements.compile(text)?;
    // Matches also have properties of which the expression does not know.
    let mut parts = Parts { paths: vec![vec!["unknown".into()]], ..Parts::default() };
    parts.note(&ast);
    let mut is_met = |(id, spec): (MatchId, MatchSpec)| {
        requirements.begin_step();
        requirements.fits(&requirement, &Document::new(&id, &spec))
    };
    Ok(parts.crowds().all(&mut is_met) && parts.properties().all(&mut is_met) && parts.drawn().all(is_met))
}

type Values = BTreeMap<String, Rcvar>;

/// What an expression contains.
#[derive(Default)]
struct Parts {
    /// Names of values, from the top of the document or of a part of it.
    paths: Vec<Path>,
    literals: Vec<Rcvar>,
    /// The literals that names are compared with.
    compared: Vec<(Path, Rcvar)>,
}

impl Parts {
    fn note(&mut self, ast: &Ast) {
        if let Some(path) = path_of(ast) {
            return add(&mut self.paths, path);
        }
        match ast {
            Ast::Identity { .. } | Ast::Field { .. } | Ast::Index { .. } | Ast::Slice { .. } => {}
            Ast::Literal { value, .. } => self.note_literal(value),
            Ast::Expref { ast: node, .. }
            | Ast::Flatten { node, .. }
            | Ast::Not { node, .. }
            | Ast::ObjectValues { node, .. } => self.note(node),
            Ast::Subexpr { lhs, rhs, .. }
            | Ast::Projection { lhs, rhs, .. }
            | Ast::And { lhs, rhs, .. }
            | Ast::Or { lhs, rhs, .. }
            | Ast::Condition { predicate: lhs, then: rhs, .. } => {
                self.note(lhs);
                self.note(rhs);
            }
            Ast::Comparison { lhs, rhs, .. } => {
                for (one, other) in [(lhs, rhs), (rhs, lhs)] {
                    if let (Some(path), Ast::Literal { value, .. }) = (path_of(one), &**other) {
                        add(&mut self.compared, (path, value.clone()));
                    }
                    self.note(one);
                }
            }
            Ast::MultiList { elements, .. } => elements.iter().for_each(|element| self.note(element)),
            Ast::MultiHash { elements, .. } => elements.iter().for_each(|element| self.note(&element.value)),
            Ast::Function { args, .. } => args.iter().for_each(|argument| self.note(argument)),
        }
    }

    fn note_literal(&mut self, value: &Rcvar) {
        add(&mut self.literals, value.clone());
        for element in value.as_array().into_iter().flatten() {
            add(&mut self.literals, element.clone());
        }
    }

    /// Matches without properties, of all sizes about which the expression may say something.
    fn crowds(&self) -> impl Iterator<Item = (MatchId, MatchSpec)> + '_ {
        let numbers = self.literals.iter().filter_map(|value| value.as_number());
        let near = numbers.flat_map(|number| [number - 1.0, number, number + 1.0]);
        let near = near.filter(|number| (0.0..=MAX_PLAYERS as f64).contains(number));
        let sizes = near.map(|number| number as usize).chain([0, 1, 2, 3, MAX_PLAYERS]);
        sizes.filter_map(|size| self.game(size, &[]))
    }

    /// Matches in which all names, or one of them, have a value.
    fn properties(&self) -> impl Iterator<Item = (MatchId, MatchSpec)> + '_ {
        let aligned = [0.0, -1.0, 1.0].map(|by| {
            let values = self.compared.iter().map(|(path, value)| (path, shifted(value, by)));
            self.game(2, &values.collect::<Vec<_>>())
        });
        let all = self.values().into_iter().flat_map(|value| {
            let every: Vec<_> = self.paths.iter().map(|path| (path, value.clone())).collect();
            let single = every.clone().into_iter().map(|one| self.game(1, &[one])).collect::<Vec<_>>();
            [self.game(0, &every), self.game(2, &every)].into_iter().chain(single)
        });
        aligned.into_iter().chain(all).flatten()
    }

    /// Matches in which each name has some value or none.
    fn drawn(&self) -> impl Iterator<Item = (MatchId, MatchSpec)> + '_ {
        let values = self.values();
        // The same matches every time.
        let mut count = 0_u64;
        let mut draw = move |below: usize| {
            count += 1;
            (mix(count) >> 33) as usize % below.max(1)
        };
        (0..RANDOM).filter_map(move |_| {
            let drawn = self.paths.iter().filter_map(|path| {
                let value = values.get(draw(values.len() + values.len() / 4))?;
                Some((path, value.clone()))
            });
            let drawn: Vec<_> = drawn.collect();
            self.game(draw(4), &drawn)
        })
    }

    /// Values of every kind, and those of the expression, with similar ones.
    fn values(&self) -> Vec<Rcvar> {
        let mut values: Vec<Rcvar> = KINDS.iter().filter_map(|text| json(text)).collect();
        for literal in &self.literals {
            for by in if literal.is_number() { &[0.0, -1.0, 1.0][..] } else { &[0.0] } {
                let value = shifted(literal, *by);
                values.extend([Rcvar::new(Variable::Array(vec![value.clone()])), value]);
            }
        }
        // Values within lists.
        let within = self.literals.iter().map(|literal| {
            let fields = self.paths.iter().filter_map(|path| path.last()).map(ToString::to_string);
            let object: Values = fields.map(|name| (name, literal.clone())).collect();
            Rcvar::new(Variable::Array(vec![Rcvar::new(Variable::Object(object))]))
        });
        values.extend(within.collect::<Vec<_>>());
        values
    }

    /// A match of that many players in which names have values.
    fn game(&self, players: usize, values: &[(&Path, Rcvar)]) -> Option<(MatchId, MatchSpec)> {
        let (mut of_match, mut of_player) = (Values::new(), Values::new());
        let (mut id, mut named) = (None, Vec::new());
        for (path, value) in values {
            let names: Vec<&str> = path.iter().map(|name| &**name).collect();
            match names.as_slice() {
                ["MatchId"] => id = value.as_string().and_then(|id| MatchId::new(id).ok()),
                ["PlayerIds"] => named.extend(ids(value)),
                ["MatchProperties", rest @ ..] => set(&mut of_match, rest, value),
                ["PlayerProperties", player, rest @ ..] => {
                    named.extend(PlayerId::new(player));
                    set(&mut of_player, rest, value);
                }
                rest => {
                    set(&mut of_match, rest, value);
                    set(&mut of_player, rest, value);
                }
            }
        }
        let strings = self.literals.iter().flat_map(ids).filter(|_| !values.is_empty() && players > 1);
        let numbered = (0..players).filter_map(|number| PlayerId::new(&format!("player-{number}")).ok());
        named.extend(strings.chain(numbered));
        named.sort();
        named.dedup();
        let properties =
            |values| Properties::parse(&Variable::Object(values).to_string()).unwrap_or_default();
        let of_player = properties(of_player);
        let player_properties = named.iter().map(|player| (player.clone(), of_player.clone()));
        let spec = MatchSpec {
            player_properties: player_properties.filter(|_| !values.is_empty()).collect(),
            properties: properties(of_match),
            players: named,
            ..MatchSpec::default()
        };
        Some((id.or_else(|| MatchId::new("match").ok())?, spec))
    }
}

/// Adds a part, unless it is there or there are too many.
fn add<T: PartialEq>(parts: &mut Vec<T>, part: T) {
    if parts.len() < MAX_PARTS && !parts.contains(&part) {
        parts.push(part);
    }
}

/// The player ids in a value.
fn ids(value: &Rcvar) -> Vec<PlayerId> {
    let texts = value.as_array().into_iter().flatten().chain([value]).filter_map(|value| value.as_string());
    texts.filter_map(|text| PlayerId::new(text).ok()).collect()
}

fn set(values: &mut Values, path: &[&str], value: &Rcvar) {
    match path {
        [] => {}
        [last] => drop(values.insert((*last).to_string(), value.clone())),
        [first, rest @ ..] => {
            let inner = values.get(*first).and_then(|inner| inner.as_object()).cloned();
            let mut inner = inner.unwrap_or_default();
            set(&mut inner, rest, value);
            values.insert((*first).to_string(), Rcvar::new(Variable::Object(inner)));
        }
    }
}

/// A number that differs by that much; any other value as it is.
fn shifted(value: &Rcvar, by: f64) -> Rcvar {
    let number = value.as_number().and_then(|number| json(&(number + by).to_string()));
    number.unwrap_or_else(|| value.clone())
}

fn json(text: &str) -> Option<Rcvar> {
    Variable::from_json(text).ok().map(Rcvar::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expression_that_takes_every_match_is_recognized_by_what_it_does() {
        for text in [
            "",
            "`true`",
            "`1`",
            "'text'",
            "@",
            "@ == @",
            "MatchId",
            "length(MatchId) > `0`",
            "length(PlayerIds) >= `0`",
            "length(PlayerIds) < `1001`",
            "length(PlayerIds) > `-1`",
            "PlayerIds || `true`",
            "type(@) == 'object'",
            "type(MatchProperties) == 'object'",
            "length(keys(@)) == `4`",
            "contains(keys(@), 'PlayerIds')",
            "MatchProperties.mode == 'duel' || MatchProperties.mode != 'duel'",
            "MatchProperties.mode == MatchProperties.mode",
            "!(MatchProperties.mode == 'duel' && MatchProperties.mode == 'team')",
            "[MatchProperties.mode]",
            "!contains(PlayerIds, `1`)",
            "MatchProperties.level > `3` || !(MatchProperties.level > `3`)",
        ] {
            assert_eq!(is_always_met(text).ok(), Some(true), "{text}");
        }
    }

    #[test]
    fn an_expression_that_refuses_some_match_is_not() {
        for text in [
            "`false`",
            "`null`",
            "''",
            "`[]`",
            "PlayerIds",
            "MatchProperties",
            "PlayerProperties",
            "MatchProperties.mode",
            "!MatchProperties.mode",
            "length(PlayerIds) > `0`",
            "length(PlayerIds) < `1000`",
            "length(PlayerIds) != `17`",
            "length(PlayerIds) >= `0` && MatchProperties.map != 'desert'",
            "MatchProperties.map != 'desert'",
            "MatchProperties.deep.map != 'desert'",
            "MatchProperties.\"odd name\" != 'x'",
            "MatchProperties.a != 'x' || MatchProperties.b != 'y'",
            "!(MatchProperties.a == 'x' && MatchProperties.b == 'y')",
            "MatchProperties.level != `7`",
            "!(MatchProperties.level > `7`)",
            "!contains(PlayerIds, 'bob')",
            "MatchId != 'the one'",
            "PlayerProperties.bob.level != `3`",
            "length(PlayerProperties.*.level) == `0`",
            "length(PlayerProperties.*.level[?@ > `90`]) == `0`",
            "MatchProperties.tags[0].name != 'x'",
            "!starts_with(to_string(MatchProperties.mode), 'ranked')",
            "contains(`[\"a\",\"b\"]`, MatchProperties.mode) == `false`",
            "type(MatchProperties.mode) != 'boolean'",
            "length(keys(MatchProperties)) == `0`",
            "not_null(MatchProperties.mode, 'duel')",
            "to_string(MatchProperties.mode)",
        ] {
            assert_eq!(is_always_met(text).ok(), Some(false), "{text}");
        }
        assert!(is_always_met("a ==").is_err());
    }
}
