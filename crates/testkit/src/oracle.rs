//! Is there a match to be made, and may this one be? Found by trying everything, without any of the matchmaker's own code.

use std::time::Duration;

use jmespath::Variable;
use sortie_domain::matchmaking::model::Ticket;
use sortie_domain::matchmaking::settings::{Measure, Queue, Rule, RuleKind};
use sortie_domain::time::Timestamp;

/// Tickets of which every subset is tried.
pub const MOST_TICKETS: usize = 12;

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
            _ => true,
        }
    })
}

fn share_a_region(queue: &Queue, tickets: &[&Ticket], now: Timestamp) -> bool {
    let mut rules = queue.rules.iter();
    let Some(rule) = rules.find(|rule| matches!(rule.kind, RuleKind::Latency { .. })) else { return true };
    let bears = |ticket: &Ticket, region| {
        let worst = ticket.spec.worst_latencies();
        let latency: Option<&u32> = worst.get(region);
        latency
            .is_some_and(|latency| allows(rule, ticket, now).is_none_or(|most| f64::from(*latency) <= most))
    };
    let of_first = tickets[0].spec.worst_latencies();
    of_first.keys().any(|region| tickets.iter().all(|ticket| bears(ticket, region)))
}

fn wanted(queue: &Queue, ticket: &Ticket, now: Timestamp) -> u32 {
    let steps = queue.players_per_team - queue.min_players_per_team;
    let waited = now.since(ticket.waits_since);
    (0..=steps)
        .rev()
        .find(|step| waited >= queue.ticket_expiration * *step / (steps + 1) + rounding(*step))
        .map_or(queue.players_per_team, |step| queue.players_per_team - step)
}

/// Whole milliseconds only: a step is reached with the first one that is not before it.
const fn rounding(step: u32) -> Duration {
    if step == 0 { Duration::ZERO } else { Duration::from_millis(1) }
}

/// Whether the tickets can be put into teams of `size`, balanced if a rule says so.
fn fills(
    queue: &Queue,
    tickets: &[&Ticket],
    size: usize,
    teams: &mut Vec<Vec<usize>>,
    at: usize,
    now: Timestamp,
) -> bool {
    if at == tickets.len() {
        return teams.iter().all(|team| players(tickets, team) == size)
            && balanced(queue, tickets, teams, now);
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

fn balanced(queue: &Queue, tickets: &[&Ticket], teams: &[Vec<usize>], now: Timestamp) -> bool {
    queue.rules.iter().all(|rule| {
        let RuleKind::Balance { property, missing, .. } = &rule.kind else { return true };
        let limits = tickets.iter().filter_map(|ticket| allows(rule, ticket, now));
        let limit = limits.fold(f64::INFINITY, f64::min);
        let averages = teams.iter().map(|team| {
            let all: Vec<f64> =
                team.iter().flat_map(|at| ratings(tickets[*at], property, *missing)).collect();
            all.iter().sum::<f64>() / all.len() as f64
        });
        let averages: Vec<f64> = averages.collect();
        let (least, most) = averages
            .iter()
            .fold((f64::MAX, f64::MIN), |(least, most), value| (least.min(*value), most.max(*value)));
        // Sums in another order may differ in the last places.
        most - least <= limit - 1e-6
    })
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

/// Tickets that could play together by now, if there are any. Of more than [`MOST_TICKETS`] only the first are tried.
#[must_use]
pub fn legal_match(queue: &Queue, waiting: &[Ticket], now: Timestamp) -> Option<Vec<String>> {
    let waiting = waiting.get(..MOST_TICKETS).unwrap_or(waiting);
    let teams = queue.teams.max(1);
    for subset in 1..1_u32 << waiting.len() {
        let tickets: Vec<&Ticket> =
            (0..waiting.len()).filter(|at| subset & (1 << at) != 0).map(|at| &waiting[at]).collect();
        let count: u32 =
            tickets.iter().map(|ticket| u32::try_from(ticket.spec.size()).unwrap_or(u32::MAX)).sum();
        let size = count / teams;
        let right_size =
            count == size * teams && (queue.min_players_per_team..=queue.players_per_team).contains(&size);
        if !right_size || !tickets.iter().any(|ticket| wanted(queue, ticket, now) <= size) {
            continue;
        }
        let mut empty = vec![Vec::new(); teams as usize];
        if go_together(queue, &tickets, now) && fills(queue, &tickets, size as usize, &mut empty, 0, now) {
            return Some(tickets.iter().map(|ticket| ticket.id.to_string()).collect());
        }
    }
    None
}
