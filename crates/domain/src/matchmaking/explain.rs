//! Why a ticket still waits: as data.
//!
//! It is asked on the thread of the machine, so it looks at a bounded part of the queue: the tickets that have waited
//! longest. Nothing here changes anything.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::time::Duration;

use super::Matchmaker;
use super::model::{Status, Ticket, TicketState};
use super::rules::Ruleset;
use super::settings::Queue;
use crate::ids::{QueueId, TicketId};
use crate::time::Timestamp;

/// Other tickets of the queue that one explanation looks at.
pub const MAX_LOOKED_AT: usize = 1_000;
/// Tickets in reach that are named.
pub const MAX_NAMED: usize = 20;

/// What is known about why a ticket stands where it stands.
#[derive(Clone, PartialEq, Debug)]
pub struct Explanation {
    /// The ticket.
    pub ticket: TicketId,
    /// Its queue.
    pub queue: QueueId,
    /// Its status.
    pub status: Status,
    /// How long its wait has counted.
    pub waited: Duration,
    /// Older tickets that wait in the queue; `None` where it does not wait.
    pub ahead: Option<usize>,
    /// Others that wait in the queue and have been looked at.
    pub looked_at: usize,
    /// Others that wait in the queue and have not been looked at.
    pub not_looked_at: usize,
    /// How many of those looked at could be in one match with it.
    pub in_reach: usize,
    /// Some of them, oldest first, at most [`MAX_NAMED`].
    pub named: Vec<TicketId>,
    /// Players of those in reach, and its own.
    pub players_in_reach: usize,
    /// Players of a full match; `None` where nothing limits them.
    pub players_wanted: Option<u32>,
    /// Players of a team that it asks for now.
    pub team_wanted: u32,
    /// Rules that keep others out, with how many; each of them is counted under the first rule that does.
    pub kept_out: Vec<KeptOut>,
    /// A rule over the ticket alone that keeps it from being matched.
    pub held_by: Option<Box<str>>,
    /// When it next demands less.
    pub widens_at: Option<Timestamp>,
    /// When it times out.
    pub expires_at: Option<Timestamp>,
    /// How long tickets of the queue waited lately: half of them at most so long, nine in ten at most so long.
    pub typical_wait: Option<(Duration, Duration)>,
}

/// How many tickets a rule keeps out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeptOut {
    /// The rule.
    pub rule: Box<str>,
    /// How many.
    pub tickets: usize,
}

impl Matchmaker {
    /// Why a ticket stands where it stands; `None` if it is not known.
    #[must_use]
    pub fn explain(&self, id: &TicketId, now: Timestamp) -> Option<Explanation> {
        let mut explanation = self.glance(id, now)?;
        let ticket = self.state.find(id)?;
        if ticket.state == TicketState::Waiting
            && let Some(queue) = self.state.queue(&ticket.queue)
        {
            self.explain_waiting(ticket, &Ruleset::new(queue), now, &mut explanation);
        }
        Some(explanation)
    }

    /// The same without a look at other tickets, which costs next to nothing: where it stands, its place, how long others
    /// waited. `None` if it is not known.
    #[must_use]
    pub fn glance(&self, id: &TicketId, now: Timestamp) -> Option<Explanation> {
        let ticket = self.state.find(id)?;
        let waits = ticket.state == TicketState::Waiting;
        let shares = self.beside.waits.shares(|of| *of == ticket.queue);
        let line = self.state.index.lines.get(&ticket.queue);
        let queue = self.state.queue(&ticket.queue).filter(|_| waits);
        Some(Explanation {
            ticket: id.clone(),
            queue: ticket.queue.clone(),
            status: ticket.status(),
            waited: now.since(ticket.waits_since),
            ahead: line.filter(|_| waits).map(|line| line.ranks.before(ticket.place)),
            looked_at: 0,
            not_looked_at: 0,
            in_reach: 0,
            named: Vec::new(),
            players_in_reach: ticket.spec.size(),
            players_wanted: queue.and_then(Queue::full),
            team_wanted: 0,
            kept_out: Vec::new(),
            held_by: None,
            widens_at: None,
            expires_at: if waits { self.state.expires_at(ticket) } else { None },
            typical_wait: shares.map(|shares| (shares.p50, shares.p90)),
        })
    }

    fn explain_waiting(&self, ticket: &Ticket, rules: &Ruleset, now: Timestamp, found: &mut Explanation) {
        let own = rules.profile(ticket, now);
        found.team_wanted = own.wanted;
        found.widens_at = own.until;
        found.held_by = rules.refusing_rule(&own).map(|rule| rule.name.clone());
        let Some(line) = self.state.index.lines.get(&ticket.queue) else { return };
        let mut kept_out: BTreeMap<Box<str>, usize> = BTreeMap::new();
        let others = line.by_place.values().filter(|other| **other != ticket.id);
        for other in others.take(MAX_LOOKED_AT).filter_map(|id| self.state.ticket(id)) {
            found.looked_at += 1;
            let profile = rules.profile(other, now);
            match rules.rule_between(&own, &profile).or_else(|| rules.refusing_rule(&profile)) {
                Some(rule) => *kept_out.entry(rule.name.clone()).or_default() += 1,
                None => {
                    found.in_reach += 1;
                    found.players_in_reach += other.spec.size();
                    if found.named.len() < MAX_NAMED {
                        found.named.push(other.id.clone());
                    }
                }
            }
        }
        found.not_looked_at = line.by_place.len().saturating_sub(1 + found.looked_at);
        let mut kept_out: Vec<KeptOut> =
            kept_out.into_iter().map(|(rule, tickets)| KeptOut { rule, tickets }).collect();
        kept_out.sort_by(|a, b| b.tickets.cmp(&a.tickets).then_with(|| a.rule.cmp(&b.rule)));
        found.kept_out = kept_out;
    }
}
