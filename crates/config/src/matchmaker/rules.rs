//! The rules of a queue, in the order of their names: a match has to meet all of them, so their order does not matter.

use std::time::Duration;

use sortie_domain::matchmaking::settings::{
    About, MAX_DISTANCES, MAX_EQUALITIES, MAX_RELAXING_EQUALITIES, MAX_RULES, MAX_STEPS, Measure, Need, Rule,
    RuleKind, WidenStep,
};
use sortie_domain::requirements;

use crate::parse::{self, YEAR};
use crate::section::Section;

/// Maximum length of the name of a rule and of a property, in characters.
const MAX_NAME: usize = 128;
/// Largest number of a rule.
const MAX_NUMBER: f64 = 1e12;

/// Names of [`Measure`].
pub(crate) const MEASURES: &[&str] = &["ticket", "average", "max"];

/// What a rule's `kind` can be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum RuleName {
    Equal,
    Distance,
    Latency,
    Required,
    Preferred,
    Ticket,
    NotBlocked,
    Balance,
}

impl RuleName {
    pub(crate) const NAMES: &'static [&'static str] =
        &["equal", "distance", "latency", "required", "preferred", "ticket", "not_blocked", "balance"];

    fn by_name(name: &str) -> Option<Self> {
        Some(match name {
            "equal" => Self::Equal,
            "distance" => Self::Distance,
            "latency" => Self::Latency,
            "required" => Self::Required,
            "preferred" => Self::Preferred,
            "ticket" => Self::Ticket,
            "not_blocked" => Self::NotBlocked,
            "balance" => Self::Balance,
            _ => return None,
        })
    }

    /// The name in the configuration, and the keys that belong to it.
    const fn keys(self) -> (&'static str, &'static [&'static str]) {
        match self {
            Self::Equal => ("equal", &["property"]),
            Self::Distance => ("distance", &["property", "measure", "most", "missing", "widen"]),
            Self::Latency => ("latency", &["most", "widen"]),
            Self::Required => ("required", &["expression"]),
            Self::Preferred => ("preferred", &["expression"]),
            Self::Ticket => ("ticket", &["expression"]),
            Self::NotBlocked => ("not_blocked", &[]),
            Self::Balance => ("balance", &["property", "most", "missing", "widen"]),
        }
    }
}

/// The kind of a rule in the configuration.
pub(crate) const fn name_of(kind: &RuleKind) -> &'static str {
    let name = match kind {
        RuleKind::Equal { .. } => RuleName::Equal,
        RuleKind::Distance { .. } => RuleName::Distance,
        RuleKind::Latency { .. } => RuleName::Latency,
        RuleKind::Expression { about: About::Ticket, .. } => RuleName::Ticket,
        RuleKind::Expression { need: Need::Required, .. } => RuleName::Required,
        RuleKind::Expression { need: Need::Preferred, .. } => RuleName::Preferred,
        RuleKind::NotBlocked => RuleName::NotBlocked,
        RuleKind::Balance { .. } => RuleName::Balance,
    };
    name.keys().0
}

fn measure(name: &str) -> Option<Measure> {
    match name {
        "ticket" => Some(Measure::Ticket),
        "average" => Some(Measure::Average),
        "max" => Some(Measure::Max),
        _ => None,
    }
}

pub(super) fn read(section: &Section<'_>) -> Option<Vec<Rule>> {
    let count = section.names().len();
    if count > MAX_RULES {
        section.refuse(format!("has {count} rules, at most {MAX_RULES} are allowed"));
        return None;
    }
    let rules: Vec<_> = section.named().into_iter().map(|(name, rule)| self::rule(name, &rule?)).collect();
    let rules: Vec<Rule> = rules.into_iter().collect::<Option<_>>()?;
    counts(section, &rules).then_some(rules)
}

/// Whether each kind has at most its maximum number of rules; too many are reported.
fn counts(section: &Section<'_>, rules: &[Rule]) -> bool {
    let relaxes = |rule: &Rule| matches!(rule.kind, RuleKind::Equal { .. }) && rule.relax_after.is_some();
    let of_kind =
        |name: &'static str, most| (name, most, rules.iter().filter(|r| name_of(&r.kind) == name).count());
    let relaxing = rules.iter().filter(|rule| relaxes(rule)).count();
    let counts = [
        of_kind("latency", 1),
        of_kind("balance", 1),
        of_kind("distance", MAX_DISTANCES),
        of_kind("equal", MAX_EQUALITIES),
        ("equal` with `relax_after", MAX_RELAXING_EQUALITIES, relaxing),
    ];
    let too_many: Vec<_> = counts.iter().filter(|(_, most, found)| found > most).collect();
    for (kind, most, found) in &too_many {
        section.refuse(format!("has {found} rules of the kind `{kind}`, at most {most} are allowed"));
    }
    too_many.is_empty()
}

fn rule(name: &str, section: &Section<'_>) -> Option<Rule> {
    let is_name = (1..=MAX_NAME).contains(&name.chars().count()) && !name.contains(char::is_control);
    if !is_name {
        section.refuse(format!("the rule's name must have 1 to {MAX_NAME} printable characters"));
    }
    let kind = section.get("kind", parse::choice(RuleName::NAMES, RuleName::by_name));
    let printable = |character: char| !character.is_control();
    let named = parse::characters(1..=MAX_NAME, printable, "printable characters");
    let property = section.optional("property", named);
    let measure = section.optional("measure", parse::choice(MEASURES, measure));
    let most = section.optional("most", parse::number(0.0..=MAX_NUMBER));
    let missing = section.optional("missing", parse::number(-MAX_NUMBER..=MAX_NUMBER));
    let expression = section.optional("expression", |value| {
        let text = parse::text(value)?;
        requirements::check(text).map_err(|problem| problem.to_string())?;
        if text.trim().is_empty() { Err("must not be empty".to_owned()) } else { Ok(text.trim().to_owned()) }
    });
    let relax_after = section.optional("relax_after", parse::duration(Duration::from_millis(1)..=YEAR));
    let widen = widen(section);
    let chosen = kind?;
    if !belongs(section, chosen) {
        return None;
    }
    let require =
        |key: &str| section.problem(key, format!("is required with the kind `{}`", chosen.keys().0));
    let property = || {
        property.clone()?.map(Box::from).or_else(|| {
            require("property");
            None
        })
    };
    let number = || {
        most?.or_else(|| {
            require("most");
            None
        })
    };
    let expression = |about, need| {
        let expression = expression.clone()?.or_else(|| {
            require("expression");
            None
        })?;
        Some(RuleKind::Expression { expression, about, need })
    };
    let kind = match chosen {
        RuleName::Equal => RuleKind::Equal { property: property()? },
        RuleName::Distance => {
            let (property, most) = (property(), number());
            let measure = measure?.unwrap_or(Measure::Average);
            RuleKind::Distance { property: property?, measure, most: most?, missing: missing?.unwrap_or(0.0) }
        }
        RuleName::Latency => RuleKind::Latency { most: number()? },
        RuleName::Required => expression(About::Pair, Need::Required)?,
        RuleName::Preferred => expression(About::Pair, Need::Preferred)?,
        RuleName::Ticket => expression(About::Ticket, Need::Required)?,
        RuleName::NotBlocked => RuleKind::NotBlocked,
        RuleName::Balance => {
            let most = most?.unwrap_or(f64::INFINITY);
            RuleKind::Balance { property: property()?, most, missing: missing?.unwrap_or(0.0) }
        }
    };
    let rule = Rule { name: name.into(), kind, widen: widen?, relax_after: relax_after? };
    (is_name && widens(section, &rule)).then_some(rule)
}

/// Whether every given key belongs to the kind; others are reported.
fn belongs(section: &Section<'_>, kind: RuleName) -> bool {
    let (name, keys) = kind.keys();
    let strangers =
        section.names().filter(|key| !["kind", "relax_after"].contains(key) && !keys.contains(key));
    let strangers: Vec<&str> = strangers.filter(|key| section.given(key)).collect();
    for key in &strangers {
        let known =
            keys.iter().chain(&["relax_after"]).map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ");
        section.problem(key, format!("means nothing with the kind `{name}`, which takes {known}"));
    }
    strangers.is_empty()
}

fn widen(section: &Section<'_>) -> Option<Vec<WidenStep>> {
    let steps = section.list("widen");
    if steps.len() > MAX_STEPS {
        section.problem("widen", format!("has {} steps, at most {MAX_STEPS} are allowed", steps.len()));
        return None;
    }
    // A value that is not a list was reported.
    let whole = section.raw("widen").is_none_or(|value| value.is_null() || value.is_array());
    let step = |step: &Section<'_>| {
        let after = step.get("after", parse::duration(Duration::from_millis(1)..=YEAR));
        let value = step.get("most", parse::number(0.0..=MAX_NUMBER));
        Some(WidenStep { after: after?, value: value? })
    };
    let given = section.raw("widen").and_then(serde_json::Value::as_array).map_or(0, Vec::len);
    let read: Option<Vec<_>> = steps.iter().map(step).collect::<Vec<_>>().into_iter().collect();
    read.filter(|read| whole && read.len() == given)
}

/// Whether each step of the rule allows more than the one before; others are reported.
fn widens(section: &Section<'_>, rule: &Rule) -> bool {
    let first = match &rule.kind {
        RuleKind::Distance { most, .. } | RuleKind::Latency { most } | RuleKind::Balance { most, .. } => {
            *most
        }
        RuleKind::Equal { .. } | RuleKind::Expression { .. } | RuleKind::NotBlocked => 0.0,
    };
    let (mut after, mut allowed) = (Duration::ZERO, first);
    for (at, step) in rule.widen.iter().enumerate() {
        if step.after <= after || step.value <= allowed {
            let text = if first.is_infinite() {
                "has steps, but without `most` any distance is allowed from the beginning".to_owned()
            } else {
                format!("must widen: step {at} has to be later and larger than what is before it")
            };
            section.problem("widen", text);
            return false;
        }
        (after, allowed) = (step.after, step.value);
    }
    if rule.relax_after.is_some_and(|relax| relax <= after) {
        section.problem("relax_after", "must be later than the last step of `widen`");
        return false;
    }
    true
}
