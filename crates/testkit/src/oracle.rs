//! Is a match possible, and is this one allowed? An exhaustive search, without any of the matchmaker's own code.

use std::collections::BTreeSet;
use std::time::Duration;

use jmespath::Variable;
use serde_json::{Value, json};
use sortie_domain::ids::RegionId;
use sortie_domain::matchmaking::model::Ticket;
use sortie_domain::matchmaking::settings::{About, Measure, Need, Queue, Rule, RuleKind};
use sortie_domain::time::Timestamp;

/// Maximum number of tickets of which every subset is tried.
pub const MAX_TICKETS: usize = 12;

/// Averages that differ by at most this count as equal.
const ROUNDING: f64 = 1e-6;

/// What a rule allows a ticket now; `None` if it is relaxed.
fn allows(rule: &Rule, ticket: &Ticket, now: Timestamp) -> Option<f64> {
    let waited = now.since(ticket.waits_since);
    if rule.relax_after.is_some_and(|after| waited >= after) {
        return None;
    }
    let mut value = match rule.kind {
        RuleKind::Distance { most, .. } | RuleKind::Latency { most } | RuleKind::Balance { most, .. } => most,
        _ => 0.0,
    };
    for step in &rule.widen {
        if waited >= step.after {
            value = step.value;
        }
    }
    Some(value)
}

fn property(ticket: &Ticket, name: &str) -> Variable {
    let text = ticket.spec.properties.text().unwrap_or("{}");
    Variable::from_json(text).map_or(Variable::Null, |all| Variable::clone(&all.get_field(name)))
}

/// A ticket as expressions see it, with the fields that tests use.
fn document(ticket: &Ticket) -> Value {
    let text = ticket.spec.properties.text().unwrap_or("{}");
    let properties: Value = serde_json::from_str(text).unwrap_or_default();
    json!({"id": ticket.id.as_str(), "size": ticket.spec.size(), "properties": properties})
}

/// Whether `expression` is true of a ticket and, if there is one, a candidate.
fn is_true(expression: &str, ticket: &Ticket, candidate: Option<&Ticket>) -> bool {
    let data = match candidate {
        None => json!({"ticket": document(ticket)}),
        Some(candidate) => json!({"ticket": document(ticket), "candidate": document(candidate)}),
    };
    let found = jmespath::compile(expression).and_then(|expression| expression.search(data));
    found.is_ok_and(|found| found.is_truthy())
}

fn ratings(ticket: &Ticket, name: &str, missing: f64) -> Vec<f64> {
    ticket.spec.players().map(|player| player.ratings.get(name).copied().unwrap_or(missing)).collect()
}

fn number(ticket: &Ticket, name: &str, measure: Measure, missing: f64) -> f64 {
    let ratings = ratings(ticket, name, missing);
    match measure {
        Measure::Ticket => property(ticket, name).as_number().unwrap_or(missing),
        Measure::Average => ratings.iter().sum::<f64>() / ratings.len() as f64,
        Measure::Max => ratings.into_iter().fold(f64::MIN, f64::max),
    }
}

fn blocks(from: &Ticket, whom: &Ticket) -> bool {
    from.spec
        .players()
        .flat_map(|player| &player.blocked)
        .any(|id| whom.spec.players().any(|of| of.id == *id))
}

/// What `one` demands of `other`, for rules between two tickets.
#[must_use]
pub fn accepts(queue: &Queue, one: &Ticket, other: &Ticket, now: Timestamp) -> bool {
    queue.rules.iter().all(|rule| {
        let Some(allowed) = allows(rule, one, now) else { return true };
        match &rule.kind {
            RuleKind::Equal { property: name } => property(one, name) == property(other, name),
            RuleKind::Distance { property, measure, missing, .. } => {
                let of = |ticket| number(ticket, property, *measure, *missing);
                (of(one) - of(other)).abs() <= allowed
            }
            RuleKind::NotBlocked => !blocks(one, other),
            RuleKind::Expression { expression, about: About::Pair, need: Need::Required } => {
                is_true(expression, one, Some(other))
            }
            _ => true,
        }
    })
}

/// How many preferred expressions `other` does not meet, as `one` sees it.
#[must_use]
pub fn misses(queue: &Queue, one: &Ticket, other: &Ticket, now: Timestamp) -> usize {
    let missed = queue.rules.iter().filter(|rule| match &rule.kind {
        RuleKind::Expression { expression, about: About::Pair, need: Need::Preferred } => {
            allows(rule, one, now).is_some() && !is_true(expression, one, Some(other))
        }
        _ => false,
    });
    missed.count()
}

fn latency_rule(queue: &Queue) -> Option<&Rule> {
    queue.rules.iter().find(|rule| matches!(rule.kind, RuleKind::Latency { .. }))
}

/// The regions that a ticket accepts; `None` if no rule uses them.
fn regions(queue: &Queue, ticket: &Ticket, now: Timestamp) -> Option<BTreeSet<RegionId>> {
    let allowed = allows(latency_rule(queue)?, ticket, now);
    let bears = |latency: u32| allowed.is_none_or(|most| f64::from(latency) <= most);
    let worst = ticket.spec.worst_latencies().into_iter();
    Some(worst.filter(|(_, latency)| bears(*latency)).map(|(region, _)| region).collect())
}

fn share_a_region(queue: &Queue, tickets: &[&Ticket], now: Timestamp) -> bool {
    let mut all = tickets.iter().filter_map(|ticket| regions(queue, ticket, now));
    let Some(first) = all.next() else { return true };
    !all.fold(first, |common, own| &common & &own).is_empty()
}

/// Whether a match of these tickets may have this region.
#[must_use]
pub fn all_bear(queue: &Queue, tickets: &[&Ticket], region: Option<&RegionId>, now: Timestamp) -> bool {
    tickets.iter().all(|ticket| match (regions(queue, ticket, now), region) {
        (None, region) => region.is_none(),
        (Some(own), Some(region)) => own.contains(region),
        (Some(_), None) => false,
    })
}

/// Whether `other` goes with every ticket that `one` goes with, as far as equalities and regions are concerned: it has
/// the same values, or does not need them any more where `one` does not, and accepts each region that `one` accepts.
/// `one` is evaluated `now`, `other` at `before`.
#[must_use]
pub fn can_stand_in(queue: &Queue, other: &Ticket, one: &Ticket, before: Timestamp, now: Timestamp) -> bool {
    let alike = queue.rules.iter().all(|rule| match &rule.kind {
        RuleKind::Equal { property: name } => {
            property(other, name) == property(one, name)
                && (allows(rule, other, before).is_none() || allows(rule, one, now).is_some())
        }
        _ => true,
    });
    match (regions(queue, one, now), regions(queue, other, before)) {
        (Some(own), Some(others)) => alike && own.is_subset(&others),
        _ => alike,
    }
}

/// The team size that a ticket asks for.
#[must_use]
pub fn wanted(queue: &Queue, ticket: &Ticket, now: Timestamp) -> u32 {
    let steps = queue.players_per_team - queue.min_players_per_team;
    let waited = now.since(ticket.waits_since);
    (0..=steps)
        .rev()
        .find(|step| waited >= queue.ticket_expiration * *step / (steps + 1) + rounding(*step))
        .map_or(queue.players_per_team, |step| queue.players_per_team - step)
}

/// Steps are reached in whole milliseconds, rounded up.
const fn rounding(step: u32) -> Duration {
    if step == 0 { Duration::ZERO } else { Duration::from_millis(1) }
}

/// Whether the tickets can be put into teams of `size`, balanced if a rule says so.
#[must_use]
pub fn fill(queue: &Queue, tickets: &[&Ticket], size: u32, now: Timestamp) -> bool {
    let mut teams = vec![Vec::new(); queue.teams.max(1) as usize];
    fills(queue, tickets, size as usize, &mut teams, 0, now)
}

fn fills(
    queue: &Queue,
    tickets: &[&Ticket],
    size: usize,
    teams: &mut Vec<Vec<usize>>,
    at: usize,
    now: Timestamp,
) -> bool {
    if at == tickets.len() {
        // Sums in another order may differ in the last digits.
        return teams.iter().all(|team| players(tickets, team) == size)
            && apart(queue, tickets, teams, now).is_none_or(|(apart, limit)| apart <= limit - ROUNDING);
    }
    (0..teams.len()).any(|team| {
        if players(tickets, &teams[team]) + tickets[at].spec.size() > size {
            return false;
        }
        teams[team].push(at);
        let found = fills(queue, tickets, size, teams, at + 1, now);
        teams[team].pop();
        found
    })
}

fn players(tickets: &[&Ticket], team: &[usize]) -> usize {
    team.iter().map(|at| tickets[*at].spec.size()).sum()
}

/// How far the averages of these teams are apart, and the limit; `None` if no rule limits it.
fn apart(queue: &Queue, tickets: &[&Ticket], teams: &[Vec<usize>], now: Timestamp) -> Option<(f64, f64)> {
    let (rule, property, missing) = queue.rules.iter().find_map(|rule| match &rule.kind {
        RuleKind::Balance { property, missing, .. } => Some((rule, property, *missing)),
        _ => None,
    })?;
    let limits = tickets.iter().filter_map(|ticket| allows(rule, ticket, now));
    let limit = limits.fold(f64::INFINITY, f64::min);
    let averages = teams.iter().map(|team| {
        let all: Vec<f64> = team.iter().flat_map(|at| ratings(tickets[*at], property, missing)).collect();
        all.iter().sum::<f64>() / all.len() as f64
    });
    let (least, most) =
        averages.fold((f64::MAX, f64::MIN), |(least, most), value| (least.min(value), most.max(value)));
    Some((most - least, limit))
}

/// Whether these teams are as balanced as the rules require.
#[must_use]
pub fn even(queue: &Queue, teams: &[Vec<&Ticket>], now: Timestamp) -> bool {
    let tickets: Vec<&Ticket> = teams.iter().flatten().copied().collect();
    let mut next = 0..;
    let numbers: Vec<Vec<usize>> =
        teams.iter().map(|team| next.by_ref().take(team.len()).collect()).collect();
    apart(queue, &tickets, &numbers, now).is_none_or(|(apart, limit)| apart <= limit + ROUNDING)
}

/// How many matches of `teams` full teams can be taken from tickets of these sizes, one after the other: it is exact
/// about whether there is any.
#[must_use]
pub fn max_matches(teams: usize, size: usize, sizes: &[usize]) -> usize {
    let mut counts = vec![0; size + 1];
    sizes.iter().filter(|of| **of <= size).for_each(|of| counts[*of] += 1);
    let mut matches = 0;
    while takes_teams(teams, size, &mut counts) {
        matches += 1;
    }
    matches
}

/// Takes this number of teams from the tickets of each size, if possible.
fn takes_teams(teams: usize, size: usize, counts: &mut Vec<usize>) -> bool {
    teams == 0 || takes_team(teams, size, size, size, counts)
}

/// Takes the rest of a team, of tickets no larger than `largest`, and then the other teams.
fn takes_team(teams: usize, size: usize, room: usize, largest: usize, counts: &mut Vec<usize>) -> bool {
    if room == 0 {
        return takes_teams(teams - 1, size, counts);
    }
    for of in (1..=largest.min(room)).rev() {
        if counts[of] == 0 {
            continue;
        }
        counts[of] -= 1;
        if takes_team(teams, size, room - of, of, counts) {
            return true;
        }
        counts[of] += 1;
    }
    false
}

/// Whether all tickets accept one another, and a region, at a time.
#[must_use]
pub fn go_together(queue: &Queue, tickets: &[&Ticket], now: Timestamp) -> bool {
    let accept = |one: &&Ticket| {
        let mut others = tickets.iter().filter(|other| other.id != one.id);
        others.all(|other| accepts(queue, one, other, now))
    };
    tickets.iter().all(accept) && (tickets.is_empty() || share_a_region(queue, tickets, now))
}

/// Tickets that could play together by now, if there are any. Only the first [`MAX_TICKETS`] are tried.
#[must_use]
pub fn legal_match(queue: &Queue, waiting: &[Ticket], now: Timestamp) -> Option<Vec<String>> {
    let waiting = waiting.get(..MAX_TICKETS).unwrap_or(waiting);
    let teams = queue.teams.max(1);
    let accept = |one: &Ticket| {
        let accepted = waiting.iter().enumerate();
        let accepted = accepted.filter(|(_, other)| other.id == one.id || accepts(queue, one, other, now));
        accepted.fold(0_u32, |bits, (at, _)| bits | 1 << at)
    };
    let accepted: Vec<u32> = waiting.iter().map(accept).collect();
    for subset in 1..1_u32 << waiting.len() {
        let members = (0..waiting.len()).filter(|at| subset & (1 << at) != 0);
        if members.clone().any(|at| subset & !accepted[at] != 0) {
            continue;
        }
        let tickets: Vec<&Ticket> = members.map(|at| &waiting[at]).collect();
        let count: u32 =
            tickets.iter().map(|ticket| u32::try_from(ticket.spec.size()).unwrap_or(u32::MAX)).sum();
        let size = count / teams;
        let right_size =
            count == size * teams && (queue.min_players_per_team..=queue.players_per_team).contains(&size);
        if !right_size || !tickets.iter().any(|ticket| wanted(queue, ticket, now) <= size) {
            continue;
        }
        if share_a_region(queue, &tickets, now) && fill(queue, &tickets, size, now) {
            return Some(tickets.iter().map(|ticket| ticket.id.to_string()).collect());
        }
    }
    None
}
