//! The compiled rules of a queue: what each ticket demands at a given time, and whether tickets go together.
//!
//! Rules are mutual: a match meets the demands of each of its tickets, by that ticket's own wait. So nobody gets a
//! worse match than their own wait allows for, and two tickets go together from one moment on: when the later of the
//! two demands has widened. Therefore it is enough to look at a ticket when it arrives and when it widens.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use jmespath::{Rcvar, Variable};

use super::documents::Documents;
use super::json;
use super::mixes::{Mix, Mixes};
use super::model::{SeatOffer, Ticket, TicketSpec};
use super::names::hash;
use super::rated::Rated;
use super::settings::{
    About, MAX_DISTANCES, MAX_EQUALITIES, MAX_RELAXING_EQUALITIES, Measure, Need, Queue, Rule, RuleKind,
};
use super::values::{NULL, as_number, list, number, object, text, variable, write_kind, write_value};
use crate::ids::{PlayerId, RegionId, TicketId, mix};
use crate::properties::Properties;
use crate::requirements::{Requirement, Requirements};
use crate::size::Size;
use crate::time::Timestamp;

/// Maximum number of cells of the first distance in the widest finite window.
const CELLS_PER_WINDOW: f64 = 8.0;
/// Cost units of an expression's meter per comparison of two numbers.
const WORK_PER_COMPARISON: u64 = 16;
/// Separates the values of equality rules in a key.
pub(crate) const SEPARATOR: char = '\u{1f}';

/// A rule that asks for equality, or an equality that an expression implies.
struct Equality {
    rule: usize,
    path: Vec<String>,
    /// The expression decides; this equality only tells which tickets need not be checked against it.
    of_expression: bool,
}

struct Distance {
    rule: usize,
    name: Box<str>,
    path: Vec<String>,
    measure: Measure,
    missing: f64,
}

struct Expression {
    rule: usize,
    requirement: Arc<Requirement>,
    need: Need,
}

/// A queue's rules, compiled.
pub(crate) struct Ruleset {
    pub(crate) queue: Queue,
    pub(crate) rated: Arc<Rated>,
    requirements: Requirements,
    equalities: Vec<Equality>,
    distances: Vec<Distance>,
    latency: Option<usize>,
    balance: Option<(usize, Box<str>, f64)>,
    not_blocked: Option<usize>,
    pairs: Vec<Expression>,
    singles: Vec<Expression>,
    /// Width of a cell of the first distance; 0 if there is none.
    pub(crate) cell: f64,
    /// The widest finite window of the first distance.
    pub(crate) widest_finite: f64,
    /// For each team size, the mixes of ticket sizes that fill the teams; `None` if there are too many.
    mixes: BTreeMap<u16, Option<Arc<[Mix]>>>,
}

/// The properties of a waiting ticket, and its demands from `since` until `until`.
pub(crate) struct Profile {
    pub(crate) id: TicketId,
    pub(crate) place: u64,
    /// The number of tickets that had that place before.
    pub(crate) edition: u16,
    pub(crate) size: u16,
    pub(crate) spec: Arc<TicketSpec>,
    /// When its wait began to count.
    pub(crate) since: Timestamp,
    pub(crate) values: [f64; MAX_DISTANCES],
    pub(crate) windows: [f64; MAX_DISTANCES],
    /// Team size that it asks for, in players.
    pub(crate) wanted: u32,
    /// Acceptable regions, best first, with the round trip; one without a name if no rule looks at regions.
    pub(crate) regions: Vec<(Option<RegionId>, u32)>,
    /// The values that must be equal.
    pub(crate) equal: Arc<str>,
    /// Which of them are relaxed, as bits.
    pub(crate) relaxed_equal: u8,
    /// Maximum difference of the teams' averages.
    pub(crate) balance: f64,
    /// The sum of its players' ratings.
    pub(crate) rating: f64,
    /// Relaxed rules, as bits.
    relaxed: u64,
    /// Whether the rules about single tickets let it be matched.
    pub(crate) eligible: bool,
    /// When it next demands less.
    pub(crate) until: Option<Timestamp>,
    /// Sorted hashes of the players that its own players block, and of its players; only if a rule needs them.
    blocked: Arc<[u64]>,
    players: Arc<[u64]>,
    /// Bytes that expressions look at.
    pub(crate) judged: usize,
}

/// The part of a ticket that does not depend on the time.
struct Nature {
    values: [f64; MAX_DISTANCES],
    equal: Arc<str>,
    rating: f64,
    blocked: Arc<[u64]>,
    players: Arc<[u64]>,
}

/// An offer of free seats, as rules see it.
pub(crate) struct Seats {
    pub(crate) place: u64,
    offer: Arc<SeatOffer>,
    pub(crate) equal: Vec<Option<String>>,
    values: Vec<Option<f64>>,
    /// Who plays, as sorted hashes.
    players: Arc<[u64]>,
}

impl Ruleset {
    pub(crate) fn new(queue: &Queue, mixes: &mut Mixes) -> Self {
        let mut set = Self {
            queue: queue.clone(),
            rated: Arc::new(Rated::of(queue)),
            requirements: Requirements::new(),
            equalities: Vec::new(),
            distances: Vec::new(),
            latency: None,
            balance: None,
            not_blocked: None,
            pairs: Vec::new(),
            singles: Vec::new(),
            cell: 0.0,
            widest_finite: 0.0,
            mixes: BTreeMap::new(),
        };
        for (at, rule) in queue.rules.iter().enumerate() {
            set.add(at, rule);
        }
        set.add_equalities_of_expressions();
        if let Some(first) = set.distances.first().and_then(|first| queue.rules.get(first.rule)) {
            (set.cell, set.widest_finite) = cell_width(first);
        }
        if queue.teams > 0 {
            let sizes = queue.min_players_per_team..=queue.players_per_team;
            for size in sizes.filter_map(|size| u16::try_from(size).ok()) {
                set.mixes.insert(size, mixes.of(queue.teams, size));
            }
        }
        set
    }

    /// Equalities that are implied by an expression over every two tickets. Tickets that differ in them are kept in
    /// different pools, so that two matching tickets find each other behind any number of others.
    fn add_equalities_of_expressions(&mut self) {
        for pair in self.pairs.iter().filter(|pair| pair.need == Need::Required) {
            let relaxes =
                |rule: usize| self.queue.rules.get(rule).is_some_and(|rule| rule.relax_after.is_some());
            for path in pair.requirement.shared_paths("ticket", "candidate") {
                let [first, path @ ..] = &*path else { continue };
                let relaxing = self.equalities.iter().filter(|equality| relaxes(equality.rule)).count();
                let room = self.equalities.len() < MAX_EQUALITIES
                    && (!relaxes(pair.rule) || relaxing < MAX_RELAXING_EQUALITIES);
                if &**first != "properties" || path.is_empty() || !room {
                    continue;
                }
                let path = path.iter().map(ToString::to_string).collect();
                self.equalities.push(Equality { rule: pair.rule, path, of_expression: true });
            }
        }
    }

    fn add(&mut self, at: usize, rule: &Rule) {
        match &rule.kind {
            RuleKind::Equal { property } => {
                self.equalities.push(Equality { rule: at, path: path(property), of_expression: false });
            }
            RuleKind::Distance { property, measure, missing, .. } => {
                self.distances.push(Distance::new(at, property, *measure, *missing));
            }
            RuleKind::Latency { .. } => self.latency = Some(at),
            RuleKind::Balance { property, missing, .. } => {
                self.balance = Some((at, property.clone(), *missing));
            }
            RuleKind::NotBlocked => self.not_blocked = Some(at),
            RuleKind::Expression { expression, about, need } => {
                // Checked with the settings, so what does not compile does not occur here.
                let Ok(requirement) = self.requirements.compile(expression) else { return };
                let expression = Expression { rule: at, requirement, need: *need };
                match about {
                    About::Pair => self.pairs.push(expression),
                    About::Ticket => self.singles.push(expression),
                }
            }
        }
    }

    /// The mixes of ticket sizes that fill teams of this size; `None` if they are not known.
    pub(crate) fn mixes(&self, size: u16) -> Option<&[Mix]> {
        self.mixes.get(&size)?.as_deref()
    }

    /// Whether pairs of tickets must be compared by more than their numbers.
    pub(crate) const fn compares_pairs(&self) -> bool {
        !self.pairs.is_empty() || self.not_blocked.is_some()
    }

    /// Whether there are expressions, which need the whole ticket.
    pub(crate) const fn judges(&self) -> bool {
        !self.singles.is_empty() || !self.pairs.is_empty()
    }

    /// Whether there are expressions over single tickets.
    pub(crate) const fn judges_singles(&self) -> bool {
        !self.singles.is_empty()
    }

    pub(crate) const fn balances(&self) -> bool {
        self.balance.is_some()
    }

    pub(crate) const fn distances(&self) -> usize {
        self.distances.len()
    }

    fn allows(&self, rule: usize, waited: Duration) -> Option<f64> {
        self.queue.rules.get(rule)?.allows(waited)
    }

    /// The rule's limit for a number; infinite if it is relaxed.
    fn limit(&self, rule: usize, waited: Duration) -> f64 {
        self.allows(rule, waited).unwrap_or(f64::INFINITY)
    }

    /// The ticket's current properties and demands.
    pub(crate) fn profile(&self, ticket: &Ticket, now: Timestamp, documents: &Documents) -> Profile {
        self.profile_again(ticket, None, now, documents)
    }

    /// The same, reusing an earlier result: only the demands can have changed.
    pub(crate) fn profile_again(
        &self,
        ticket: &Ticket,
        known: Option<&Profile>,
        now: Timestamp,
        documents: &Documents,
    ) -> Profile {
        let waited = now.since(ticket.waits_since);
        let spec = &ticket.spec;
        let known = known.filter(|known| Arc::ptr_eq(&known.spec, spec));
        let nature = known.map_or_else(|| self.nature(spec), Profile::nature);
        let Nature { values, equal, rating, blocked, players } = nature;
        let mut windows = [f64::INFINITY; MAX_DISTANCES];
        for (distance, window) in self.distances.iter().zip(&mut windows) {
            *window = self.limit(distance.rule, waited);
        }
        let rules = self.queue.rules.iter();
        let relaxed = rules.enumerate().filter(|(_, rule)| rule.allows(waited).is_none());
        let relaxed = relaxed.fold(0_u64, |bits, (at, _)| bits | 1 << at.min(63));
        let mut profile = Profile {
            id: ticket.id.clone(),
            place: ticket.place,
            edition: u16::try_from(ticket.replaced).unwrap_or(u16::MAX),
            size: u16::try_from(spec.size()).unwrap_or(u16::MAX),
            spec: Arc::clone(spec),
            since: ticket.waits_since,
            values,
            windows,
            wanted: self.queue.wanted(waited),
            regions: self.regions(spec, waited),
            equal,
            relaxed_equal: self.relaxed_equal(relaxed),
            balance: self.balance.as_ref().map_or(f64::INFINITY, |(rule, _, _)| self.limit(*rule, waited)),
            rating,
            relaxed,
            eligible: true,
            until: self.widens_after(waited).map(|after| ticket.waits_since + after),
            blocked,
            players,
            judged: if self.judges() { judged_bytes(spec) } else { 0 },
        };
        profile.eligible = self.refusing_rule(&profile, documents).is_none();
        profile
    }

    fn nature(&self, spec: &TicketSpec) -> Nature {
        let properties = spec.properties.text().unwrap_or_default();
        let mut values = [0.0; MAX_DISTANCES];
        for (distance, value) in self.distances.iter().zip(&mut values) {
            *value = distance.value(spec, properties);
        }
        let blocks = self.not_blocked.is_some();
        let blocked = spec.players().filter(|_| blocks).flat_map(|player| &player.blocked);
        let players = spec.players().filter(|_| blocks).map(|player| &player.id);
        Nature {
            values,
            equal: self.equal(properties),
            rating: self.rating(spec),
            blocked: hashes(blocked),
            players: hashes(players),
        }
    }

    /// When a ticket next demands less, after a wait.
    pub(crate) fn widens_after(&self, waited: Duration) -> Option<Duration> {
        let rules = self.queue.rules.iter().filter_map(|rule| rule.widens_after(waited));
        rules.chain(self.queue.wants_less_after(waited)).min()
    }

    fn equal(&self, properties: &str) -> Arc<str> {
        let mut key = String::new();
        for (at, equality) in self.equalities.iter().enumerate() {
            if at > 0 {
                key.push(SEPARATOR);
            }
            let value = json::at_path(properties, &equality.path).unwrap_or(NULL);
            if equality.of_expression {
                write_kind(value, &mut key);
            } else {
                write_value(value, &mut key);
            }
        }
        Arc::from(key)
    }

    /// Relaxed equalities, as bits.
    fn relaxed_equal(&self, relaxed: u64) -> u8 {
        let equalities = self.equalities.iter().enumerate();
        equalities
            .fold(0, |bits, (at, equality)| bits | u8::from(is_set(relaxed, equality.rule)) << at.min(7))
    }

    /// Acceptable regions, best first.
    fn regions(&self, spec: &TicketSpec, waited: Duration) -> Vec<(Option<RegionId>, u32)> {
        let Some(rule) = self.latency else { return Vec::from([(None, 0)]) };
        let most = self.limit(rule, waited);
        let all = spec.worst_latencies().into_iter();
        let mut regions: Vec<_> = all
            .filter(|(_, latency)| f64::from(*latency) <= most)
            .map(|(id, latency)| (Some(id), latency))
            .collect();
        regions.sort_by(|a, b| (a.1, &a.0).cmp(&(b.1, &b.0)));
        regions
    }

    fn rating(&self, spec: &TicketSpec) -> f64 {
        let Some((_, name, missing)) = &self.balance else { return 0.0 };
        spec.players().map(|player| player.ratings.get(name).copied().unwrap_or(*missing)).sum()
    }

    /// The rule about single tickets that keeps this one from being matched now.
    pub(crate) fn refusing_rule(&self, profile: &Profile, documents: &Documents) -> Option<&Rule> {
        let refusing = self.singles.iter().find(|single| {
            !is_set(profile.relaxed, single.rule)
                && !self.fits(single, &profile.document(documents), None, documents)
        });
        self.queue.rules.get(refusing?.rule)
    }

    fn fits(
        &self,
        expression: &Expression,
        ticket: &Rcvar,
        candidate: Option<&Rcvar>,
        documents: &Documents,
    ) -> bool {
        let mut fields = BTreeMap::from([("ticket".to_string(), Rcvar::clone(ticket))]);
        if let Some(candidate) = candidate {
            fields.insert("candidate".to_string(), Rcvar::clone(candidate));
        }
        let root = Rcvar::new(Variable::Object(fields));
        self.requirements.begin_step();
        let fits = self.requirements.fits_value(&expression.requirement, &root);
        documents.spend(self.requirements.spent() / WORK_PER_COMPARISON);
        fits
    }

    /// Whether one of two tickets blocks a player of the other.
    pub(crate) fn is_blocked(&self, one: &Profile, other: &Profile) -> bool {
        self.blocker(one, other).is_some()
    }

    /// Sorted hashes of the players that a ticket blocks.
    pub(crate) fn blocked_by<'a>(&self, profile: &'a Profile) -> &'a [u64] {
        match self.not_blocked {
            Some(rule) if !is_set(profile.relaxed, rule) => &profile.blocked,
            _ => &[],
        }
    }

    /// Whether there are expressions that every two tickets must meet.
    pub(crate) fn requires(&self) -> bool {
        self.pairs.iter().any(|pair| pair.need == Need::Required)
    }

    /// Whether there are expressions that make some tickets preferred.
    pub(crate) fn prefers(&self) -> bool {
        self.pairs.iter().any(|pair| pair.need == Need::Preferred)
    }

    /// Identifies what two tickets demand of each other by expressions: it changes when one of them demands less.
    pub(crate) fn demands(&self, one: &Profile, other: &Profile) -> u64 {
        let editions = u64::from(one.edition) << 16 | u64::from(other.edition);
        let editions = if editions == 0 { 0 } else { mix(editions) };
        one.relaxed.rotate_left(32) ^ other.relaxed ^ editions
    }

    /// Whether two tickets meet the expressions that each demands of the other.
    pub(crate) fn meet(&self, one: &Profile, other: &Profile, documents: &Documents) -> bool {
        let met = |pair: &Expression| {
            self.demand_met(pair, one, other, documents) && self.demand_met(pair, other, one, documents)
        };
        self.pairs.iter().filter(|pair| pair.need == Need::Required).all(met)
    }

    /// The cost of evaluating expressions since the last call, in nanoseconds.
    pub(crate) fn take_evaluated(&self) -> u64 {
        let spent = self.requirements.spent();
        self.requirements.begin_step();
        spent
    }

    fn demand_met(
        &self,
        pair: &Expression,
        ticket: &Profile,
        candidate: &Profile,
        documents: &Documents,
    ) -> bool {
        is_set(ticket.relaxed, pair.rule)
            || self.fits(pair, &ticket.document(documents), Some(&candidate.document(documents)), documents)
    }

    /// The rule about blocked players, if it keeps two tickets apart.
    fn blocker(&self, one: &Profile, other: &Profile) -> Option<usize> {
        let rule = self.not_blocked?;
        let blocks =
            |from: &Profile, whom: &Profile| !is_set(from.relaxed, rule) && from.blocks(&whom.players);
        (blocks(one, other) || blocks(other, one)).then_some(rule)
    }

    /// The number of preferred expressions that a candidate does not meet.
    pub(crate) fn misses(&self, ticket: &Profile, candidate: &Profile, documents: &Documents) -> u8 {
        let preferred = self.pairs.iter().filter(|pair| pair.need == Need::Preferred);
        let missed = preferred.filter(|pair| !self.demand_met(pair, ticket, candidate, documents));
        u8::try_from(missed.count()).unwrap_or(u8::MAX)
    }

    /// The first rule that keeps two tickets apart: for explanations, by checking everything.
    pub(crate) fn rule_between(
        &self,
        one: &Profile,
        other: &Profile,
        documents: &Documents,
    ) -> Option<&Rule> {
        let unequal = self.unequal(one, other).map(|equality| equality.rule);
        let rule = unequal.or_else(|| self.too_far(one, other));
        let rule = rule.or_else(|| self.no_region(one, other)).or_else(|| self.blocker(one, other));
        let rule = rule.or_else(|| {
            let mut required = self.pairs.iter().filter(|pair| pair.need == Need::Required);
            let unmet = required.find(|pair| {
                !self.demand_met(pair, one, other, documents) || !self.demand_met(pair, other, one, documents)
            });
            unmet.map(|pair| pair.rule)
        });
        self.queue.rules.get(rule?)
    }

    /// If `rule` only keeps two tickets apart because a property is a number in one and the same number as a text in the
    /// other, or the like: the property's name, and both values. If these are longer than `longest`, the first part of
    /// them that differs.
    pub(crate) fn apart_by_type<'a>(
        &self,
        rule: &Rule,
        one: &'a Profile,
        other: &'a Profile,
        longest: usize,
    ) -> Option<(String, &'a str, &'a str)> {
        let is_of = |equality: &&Equality| {
            equality.of_expression
                && self.queue.rules.get(equality.rule).is_some_and(|of| of.name == rule.name)
        };
        let equalities = self.unequal(one, other).into_iter().chain(self.equalities.iter().filter(is_of));
        let value = |of: &'a Profile, path: &[String]| json::at_path(of.spec.properties.text()?, path);
        for Equality { path, .. } in equalities {
            let Some((own, theirs)) = value(one, path).zip(value(other, path)) else { continue };
            let Some((within, inner, their_inner)) = json::apart_by_type(own, theirs) else { continue };
            let property = path.join(".");
            return Some(if own.len().max(theirs.len()) <= longest {
                (property, own, theirs)
            } else {
                (property + &within, inner, their_inner)
            });
        }
        None
    }

    fn unequal(&self, one: &Profile, other: &Profile) -> Option<&Equality> {
        let values = one.equal.split(SEPARATOR).zip(other.equal.split(SEPARATOR));
        let mut equalities = self.equalities.iter().zip(values);
        let found = equalities.find(|(equality, (a, b))| {
            a != b && !(is_set(one.relaxed, equality.rule) && is_set(other.relaxed, equality.rule))
        });
        found.map(|(equality, _)| equality)
    }

    fn too_far(&self, one: &Profile, other: &Profile) -> Option<usize> {
        let numbers = one.values.iter().zip(&other.values).zip(one.windows.iter().zip(&other.windows));
        let mut distances = self.distances.iter().zip(numbers);
        let found = distances.find(|(_, ((a, b), (x, y)))| (*a - *b).abs() > x.min(**y));
        found.map(|(distance, _)| distance.rule)
    }

    fn no_region(&self, one: &Profile, other: &Profile) -> Option<usize> {
        let shared = one.regions.iter().any(|(region, _)| other.regions.iter().any(|(of, _)| of == region));
        if shared { None } else { self.latency }
    }

    /// An offer of free seats, as rules see it.
    pub(crate) fn seats(&self, offer: &Arc<SeatOffer>, place: u64) -> Seats {
        let properties = offer.properties.text().unwrap_or_default();
        let equal = self.equalities.iter().map(|equality| {
            let value = json::at_path(properties, &equality.path);
            let mut text = String::new();
            if equality.of_expression {
                // For an expression, what an offer leaves out is null.
                write_kind(value.unwrap_or(NULL), &mut text);
                return Some(text);
            }
            let value = value.filter(|value| *value != NULL)?;
            write_value(value, &mut text);
            Some(text)
        });
        let values = self.distances.iter().map(|distance| {
            let own = offer.ratings.get(&distance.name).copied();
            own.or_else(|| json::at_path(properties, &distance.path).and_then(as_number))
        });
        let (equal, values) = (equal.collect(), values.collect());
        Seats { place, offer: Arc::clone(offer), equal, values, players: hashes(offer.players.iter()) }
    }

    /// Whether free seats meet a ticket's demands.
    pub(crate) fn seats_fit(&self, ticket: &Profile, seats: &Seats, documents: &Documents) -> bool {
        let offer = &seats.offer;
        let mut equal = self.equalities.iter().zip(&seats.equal).zip(ticket.equal.split(SEPARATOR));
        let mut near = ticket.values.iter().zip(&ticket.windows).zip(&seats.values);
        ticket.eligible
            && equal.all(|((equality, theirs), own)| {
                is_set(ticket.relaxed, equality.rule) || theirs.as_ref().is_none_or(|theirs| theirs == own)
            })
            && near.all(|((own, window), theirs)| theirs.is_none_or(|theirs| (theirs - own).abs() <= *window))
            && (self.latency.is_none()
                || offer.region.is_none()
                || ticket.regions.iter().any(|(region, _)| *region == offer.region))
            && self.players_fit(ticket, seats)
            && self.pairs.iter().filter(|pair| pair.need == Need::Required).all(|pair| {
                is_set(ticket.relaxed, pair.rule)
                    || self.fits(
                        pair,
                        &ticket.document(documents),
                        Some(&seats.document(documents)),
                        documents,
                    )
            })
    }

    fn players_fit(&self, ticket: &Profile, seats: &Seats) -> bool {
        let hash = |player: &PlayerId| hash(0, player.as_str());
        let already =
            ticket.spec.players().any(|player| seats.players.binary_search(&hash(&player.id)).is_ok());
        let blocked = self
            .not_blocked
            .is_some_and(|rule| !is_set(ticket.relaxed, rule) && ticket.blocks(&seats.players));
        !already && !blocked
    }
}

/// The number by which a rule compares a ticket: of this property or rating, by this measure; players without one count
/// as `missing`.
#[must_use]
pub fn number_of(spec: &TicketSpec, property: &str, measure: Measure, missing: f64) -> f64 {
    Distance::new(0, property, measure, missing).value(spec, spec.properties.text().unwrap_or_default())
}

impl Distance {
    fn new(rule: usize, property: &str, measure: Measure, missing: f64) -> Self {
        Self { rule, name: property.into(), path: path(property), measure, missing }
    }

    fn value(&self, spec: &TicketSpec, properties: &str) -> f64 {
        let ratings =
            || spec.players().map(|player| player.ratings.get(&self.name).copied().unwrap_or(self.missing));
        match self.measure {
            Measure::Ticket => {
                json::at_path(properties, &self.path).and_then(as_number).unwrap_or(self.missing)
            }
            Measure::Average => ratings().sum::<f64>() / spec.size().max(1) as f64,
            Measure::Max => ratings().fold(f64::NEG_INFINITY, f64::max),
        }
    }
}

impl Profile {
    fn nature(&self) -> Nature {
        Nature {
            values: self.values,
            equal: Arc::clone(&self.equal),
            rating: self.rating,
            blocked: Arc::clone(&self.blocked),
            players: Arc::clone(&self.players),
        }
    }

    /// Its players, as sorted hashes; only if a rule needs them.
    pub(crate) fn players(&self) -> &[u64] {
        &self.players
    }

    /// Whether it blocks one of these players. A collision of the 64-bit hashes only keeps two tickets apart that could
    /// have played together.
    fn blocks(&self, players: &[u64]) -> bool {
        !self.blocked.is_empty() && players.iter().any(|player| self.blocked.binary_search(player).is_ok())
    }

    /// Whether a ticket with these demands lies in the same pools, at the same spot.
    pub(crate) fn lies_where(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.spec, &other.spec)
            && self.equal == other.equal
            && (self.relaxed_equal, self.eligible) == (other.relaxed_equal, other.eligible)
            && self.regions == other.regions
    }

    /// The ticket as expressions see it: `{"id", "size", "players", "properties", "ratings", "player_properties"}`,
    /// where a rating is the average of its players.
    fn document(&self, documents: &Documents) -> Rcvar {
        documents.get((self.place, self.edition), self.judged, || {
            let spec = &self.spec;
            let mut sums: BTreeMap<&str, (f64, f64)> = BTreeMap::new();
            for (name, rating) in spec.players().flat_map(|player| &player.ratings) {
                let (sum, count) = sums.entry(name).or_default();
                *sum += rating;
                *count += 1.0;
            }
            let ratings =
                sums.into_iter().map(|(name, (sum, count))| (name.to_string(), number(sum / count)));
            let players = spec.players();
            let of_players =
                players.map(|player| (player.id.to_string(), variable(&player.properties))).collect();
            object([
                ("id", text(self.id.as_str())),
                ("size", number(f64::from(self.size))),
                ("players", list(spec.players().map(|player| &player.id))),
                ("properties", variable(&spec.properties)),
                ("ratings", Rcvar::new(Variable::Object(ratings.collect()))),
                ("player_properties", Rcvar::new(Variable::Object(of_players))),
            ])
        })
    }
}

impl Ruleset {
    /// Whether a rule looks at round trips.
    pub(crate) const fn looks_at_latency(&self) -> bool {
        self.latency.is_some()
    }

    /// Equalities that may relax, as bits.
    pub(crate) fn relaxing(&self) -> u8 {
        let equalities = self.equalities.iter().enumerate();
        let relaxes = |rule: usize| self.queue.rules.get(rule).is_some_and(|rule| rule.relax_after.is_some());
        equalities.fold(0, |bits, (at, equality)| bits | u8::from(relaxes(equality.rule)) << at.min(7))
    }

    /// The widest window of the first distance; infinite if it may relax or there is none.
    pub(crate) fn widest(&self) -> f64 {
        let rule = self.distances.first().and_then(|distance| self.queue.rules.get(distance.rule));
        rule.map_or(f64::INFINITY, |rule| {
            if rule.relax_after.is_some() {
                return f64::INFINITY;
            }
            let widened = rule.widen.last().map(|step| step.value);
            widened.or_else(|| rule.allows(Duration::ZERO)).unwrap_or(f64::INFINITY)
        })
    }
}

impl Profile {
    /// The values that must be equal, one for each equality.
    pub(crate) fn equal_values(&self) -> impl Iterator<Item = &str> {
        self.equal.split(SEPARATOR).filter(|_| !self.equal.is_empty())
    }
}

impl Seats {
    /// Equalities that the offer says nothing about, as bits.
    pub(crate) fn missing(&self) -> u8 {
        let values = self.equal.iter().enumerate();
        values.fold(0, |bits, (at, value)| bits | u8::from(value.is_none()) << at.min(7))
    }

    /// Where the match is played, if the offer says so.
    pub(crate) fn region(&self) -> Option<&RegionId> {
        self.offer.region.as_ref()
    }

    /// The first number that rules compare.
    pub(crate) fn first_value(&self) -> Option<f64> {
        self.values.first().copied().flatten()
    }

    /// The match in the form in which expressions see a candidate.
    fn document(&self, documents: &Documents) -> Rcvar {
        documents.get((self.place, 0), self.offer.byte_size(), || {
            let ratings = self.offer.ratings.iter().map(|(name, rating)| (name.to_string(), number(*rating)));
            object([
                ("id", text(self.offer.match_id.as_str())),
                ("size", number(self.offer.players.len() as f64)),
                ("players", list(self.offer.players.iter())),
                ("properties", variable(&self.offer.properties)),
                ("ratings", Rcvar::new(Variable::Object(ratings.collect()))),
            ])
        })
    }
}

/// The cell width of this distance, and its widest finite window.
fn cell_width(rule: &Rule) -> (f64, f64) {
    let numbers = rule.allows(Duration::ZERO).into_iter().chain(rule.widen.iter().map(|step| step.value));
    let finite = numbers.filter(|number| number.is_finite() && *number > 0.0);
    let (least, most) =
        finite.fold((f64::INFINITY, 0.0_f64), |(least, most), value| (least.min(value), most.max(value)));
    (if most > 0.0 { least.max(most / CELLS_PER_WINDOW) } else { 1.0 }, most)
}

const fn is_set(bits: u64, at: usize) -> bool {
    at < 64 && bits & (1 << at) != 0
}

fn path(property: &str) -> Vec<String> {
    property.split('.').map(ToString::to_string).collect()
}

/// The hashes of ids, sorted.
fn hashes<'a>(players: impl Iterator<Item = &'a PlayerId>) -> Arc<[u64]> {
    let mut hashes: Vec<u64> = players.map(|player| hash(0, player.as_str())).collect();
    hashes.sort_unstable();
    hashes.dedup();
    hashes.into()
}

/// The bytes of a ticket that expressions look at, without ids and numbers.
pub(crate) fn judged_bytes(spec: &TicketSpec) -> usize {
    let length = |properties: &Properties| properties.text().map_or(0, str::len);
    length(&spec.properties) + spec.players().map(|player| length(&player.properties)).sum::<usize>()
}
