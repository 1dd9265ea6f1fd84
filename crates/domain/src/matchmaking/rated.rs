//! The data that a queue's rules judge players by, and that players may therefore not state themselves.
//!
//! That is every rating, and the properties that a rule compares as numbers: the property of a `distance` or a
//! `balance`, however it is measured, because matches carry it under that name too; and in an expression everything
//! that is compared by order or passed to a numeric function. A property that is only compared for equality (a map, a
//! mode, a version) is a wish, not a judgement.

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use jmespath::Variable;
use jmespath::ast::{Ast, Comparator};

use super::Matchmaker;
use super::json;
use super::model::TicketSpec;
use super::settings::{Hook, HookPoint, Queue, RuleKind};
use super::values::variable;
use crate::ids::QueueId;
use crate::properties::Properties;
use crate::requirements::{self, path_of};

/// Functions that turn their argument into a number, or order it.
const OF_NUMBERS: [&str; 11] =
    ["abs", "avg", "ceil", "floor", "max", "max_by", "min", "min_by", "sort", "sort_by", "sum"];
/// The function that turns a text into a number.
const TO_NUMBER: &str = "to_number";

/// Paths of properties that a queue's rules judge by.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Rated {
    paths: BTreeSet<Vec<Box<str>>>,
}

impl Rated {
    /// The paths of a queue.
    #[must_use]
    pub fn of(queue: &Queue) -> Self {
        let mut rated = Self::default();
        for rule in &queue.rules {
            match &rule.kind {
                RuleKind::Distance { property, .. } | RuleKind::Balance { property, .. } => {
                    rated.paths.insert(property.split('.').map(Box::from).collect());
                    rated.paths.insert(Vec::from([property.clone()]));
                }
                RuleKind::Expression { expression, .. } => {
                    // Checked with the settings, so what does not parse does not occur here.
                    if let Ok(Some(ast)) = requirements::parse(expression) {
                        rated.gather(&ast, false);
                    }
                }
                RuleKind::Equal { .. } | RuleKind::Latency { .. } | RuleKind::NotBlocked => {}
            }
        }
        rated
    }

    /// `judged`: whether the value of `ast` is compared by order.
    fn gather(&mut self, ast: &Ast, judged: bool) {
        if judged && let Some(path) = path_of(ast) {
            let path: Vec<Box<str>> = path.iter().map(|name| Box::from(&**name)).collect();
            self.paths.extend(within_properties(&path).filter(|path| !path.is_empty()).map(<[_]>::to_vec));
            return;
        }
        match ast {
            Ast::Comparison { comparator, lhs, rhs, .. } => {
                self.gather(lhs, judged || orders(comparator));
                self.gather(rhs, judged || orders(comparator));
            }
            Ast::Function { name, args, .. } => {
                let judged = judged || is_of_numbers(name);
                args.iter().filter(|_| judged).for_each(|arg| self.gather_whole(arg));
                args.iter().for_each(|arg| self.gather(arg, judged));
            }
            // The result of the left side is the input of the right one.
            Ast::Projection { lhs, rhs, .. } | Ast::Subexpr { lhs, rhs, .. } => {
                self.gather(lhs, judged || judges(rhs));
                self.gather(rhs, judged);
            }
            Ast::Condition { predicate: one, then: other, .. }
            | Ast::And { lhs: one, rhs: other, .. }
            | Ast::Or { lhs: one, rhs: other, .. } => {
                self.gather(one, judged);
                self.gather(other, judged);
            }
            Ast::Expref { ast: node, .. } | Ast::Flatten { node, .. } | Ast::Not { node, .. } => {
                self.gather(node, judged);
            }
            Ast::ObjectValues { node, .. } => {
                if judged {
                    self.gather_whole(node);
                }
                self.gather(node, judged);
            }
            Ast::MultiList { elements, .. } => elements.iter().for_each(|one| self.gather(one, judged)),
            Ast::MultiHash { elements, .. } => {
                elements.iter().for_each(|one| self.gather(&one.value, judged));
            }
            Ast::Field { .. }
            | Ast::Identity { .. }
            | Ast::Index { .. }
            | Ast::Literal { .. }
            | Ast::Slice { .. } => {}
        }
    }

    /// The path is empty if the rules judge all properties.
    fn gather_whole(&mut self, ast: &Ast) {
        let path = path_of(ast).unwrap_or_default();
        let path: Vec<Box<str>> = path.iter().map(|name| Box::from(&**name)).collect();
        if !path.is_empty() && within_properties(&path).is_some_and(<[_]>::is_empty) {
            self.paths.insert(Vec::new());
        }
    }

    /// The first place in a ticket that states how good a player is: `ratings`, or the path of a property.
    #[must_use]
    pub fn said_in(&self, spec: &TicketSpec) -> Option<String> {
        if spec.players().any(|player| !player.ratings.is_empty()) {
            return Some("ratings".to_string());
        }
        let of_players = spec.players().map(|player| &player.properties);
        let mut all = core::iter::once(&spec.properties).chain(of_players);
        all.find_map(|properties| self.said_in_properties(properties))
    }

    /// The path of the first of them that properties have.
    #[must_use]
    pub fn said_in_properties(&self, properties: &Properties) -> Option<String> {
        properties.text()?;
        let document = variable(properties);
        let says_something = document.as_object().is_some_and(|object| !object.is_empty());
        let path = self.paths.iter().find(|path| says_something && has(&document, path))?;
        let names = core::iter::once("properties").chain(path.iter().map(|name| &**name));
        Some(names.collect::<Vec<_>>().join("."))
    }

    /// Removes everything that [`Self::said_in`] finds.
    pub fn take_from(&self, spec: &mut TicketSpec) {
        self.take(&mut spec.properties);
        for player in spec.parties.iter_mut().flat_map(|party| &mut party.players) {
            player.ratings.clear();
            self.take(&mut player.properties);
        }
    }

    fn take(&self, properties: &mut Properties) {
        if self.said_in_properties(properties).is_none() {
            return;
        }
        if self.paths.iter().any(Vec::is_empty) {
            *properties = Properties::default();
            return;
        }
        let text = properties.text().unwrap_or_default().to_string();
        let left = self.paths.iter().fold(text, |text, path| without(&text, path));
        // It is shorter than before, so it fits.
        *properties = Properties::written(&left).unwrap_or_default();
    }
}

const fn orders(comparator: &Comparator) -> bool {
    !matches!(comparator, Comparator::Equal | Comparator::NotEqual)
}

fn is_of_numbers(function: &str) -> bool {
    OF_NUMBERS.contains(&function) || function == TO_NUMBER
}

/// Whether an expression compares anything by order, or converts anything to a number.
fn judges(ast: &Ast) -> bool {
    match ast {
        Ast::Comparison { comparator, lhs, rhs, .. } => orders(comparator) || judges(lhs) || judges(rhs),
        Ast::Function { name, args, .. } => is_of_numbers(name) || args.iter().any(judges),
        Ast::Projection { lhs: one, rhs: other, .. }
        | Ast::Subexpr { lhs: one, rhs: other, .. }
        | Ast::Condition { predicate: one, then: other, .. }
        | Ast::And { lhs: one, rhs: other, .. }
        | Ast::Or { lhs: one, rhs: other, .. } => judges(one) || judges(other),
        Ast::Expref { ast: node, .. }
        | Ast::Flatten { node, .. }
        | Ast::Not { node, .. }
        | Ast::ObjectValues { node, .. } => judges(node),
        Ast::MultiList { elements, .. } => elements.iter().any(judges),
        Ast::MultiHash { elements, .. } => elements.iter().any(|one| judges(&one.value)),
        Ast::Field { .. }
        | Ast::Identity { .. }
        | Ast::Index { .. }
        | Ast::Literal { .. }
        | Ast::Slice { .. } => false,
    }
}

/// The path within the properties of a ticket or a player that a path of an expression leads to; `None` if it leads
/// elsewhere. A path that does not begin at a ticket is relative to some value within.
fn within_properties(path: &[Box<str>]) -> Option<&[Box<str>]> {
    let name = |at: usize| path.get(at).map(|name| &**name);
    let from = usize::from(matches!(name(0), Some("ticket" | "candidate")));
    match name(from) {
        Some("properties") => path.get(from + 1..),
        // By player id.
        Some("player_properties") => path.get(from + 2..),
        _ if from == 0 => Some(path),
        _ => None,
    }
}

fn has(value: &Variable, path: &[Box<str>]) -> bool {
    let Some((first, rest)) = path.split_first() else { return true };
    let Some(found) = value.as_object().and_then(|object| object.get(&**first)) else { return false };
    has(found, rest)
}

/// The object `text` without the value at a path; everything else stays as it was written.
fn without(text: &str, path: &[Box<str>]) -> String {
    let Some((first, rest)) = path.split_first().filter(|_| text.trim_start().starts_with('{')) else {
        return text.to_string();
    };
    let mut left = String::from("{");
    for (quoted, value) in json::members(text) {
        if json::name(quoted) != **first {
            json::push(&mut left, quoted, value);
        } else if !rest.is_empty() {
            json::push(&mut left, quoted, &without(value, rest));
        }
    }
    left.push('}');
    left
}

impl Matchmaker {
    /// What the tickets of a queue are judged by: there, and in the queues that its hooks may send them to.
    #[must_use]
    pub fn rated(&self, queue: &QueueId) -> Vec<Arc<Rated>> {
        let settings = self.settings();
        let own = settings.queues.get(queue).map(|queue| queue.hooks.as_slice()).unwrap_or_default();
        let mut queues = BTreeSet::from([queue]);
        for hook in settings.hooks.iter().chain(own) {
            match hook {
                Hook::QueueByPartySize(others) => queues.extend(others.values()),
                // It may send a ticket anywhere.
                Hook::Outside(hook) if hook.about == HookPoint::ValidateTicket => {
                    queues.extend(settings.queues.keys());
                }
                _ => {}
            }
        }
        queues.into_iter().filter_map(|queue| self.rated_of(queue)).collect()
    }
}
