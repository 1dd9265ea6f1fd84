//! Why a ticket still waits: as data.
//!
//! It is asked on the thread of the machine, so it looks at a bounded part of the queue: the tickets that have waited
//! longest. Nothing here changes anything.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::time::Duration;

use super::Matchmaker;
use super::documents::Documents;
use super::forming::BYTES_PER_COMPARISON;
use super::mixes::Mixes;
use super::model::{Status, Ticket, TicketState};
use super::rules::Ruleset;
use super::settings::{ExpirationAction, Queue};
use crate::broker::waits::Shares;
use crate::ids::{QueueId, TicketId};
use crate::size::Size;
use crate::time::Timestamp;

/// Other tickets of the queue that one explanation looks at.
pub const MAX_LOOKED_AT: usize = 1_000;
/// What one explanation may cost, in comparisons of two numbers: a few milliseconds.
const MAX_WORK: u64 = 400_000;
/// What a look at another ticket costs, likewise.
const LOOK_COST: u64 = 300;
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
    /// How much longer it is likely to wait; `None` where nothing tells.
    pub expected_wait: Option<ExpectedWait>,
}

/// How much longer a waiting ticket is likely to wait: as much as those did lately, of its queue, that got a match after
/// they had waited as long as it has.
///
/// That is the whole estimate, because it needs no idea of how tickets arrive and how rules widen: both are in what the
/// others went through. It knows nothing of tickets that never got a match, and it is never later than the ticket's end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ExpectedWait {
    /// How many those are. 0: nobody waited as long, and the queue makes a match of the tickets that wait when the ticket's time
    /// is over, which both others then are.
    pub seen: usize,
    /// Half of them waited at most so much longer.
    pub p50: Duration,
    /// Nine in ten of them waited at most so much longer.
    pub p90: Duration,
}

impl ExpectedWait {
    /// For a ticket that has waited for `waited` and may for `left`, by the waits of others, the shortest first.
    fn of(sorted: &[Duration], waited: Duration, left: Duration, at_end: ExpirationAction) -> Option<Self> {
        let as_long = sorted.get(sorted.partition_point(|wait| *wait < waited)..).unwrap_or_default();
        let more = |wait: Duration| wait.saturating_sub(waited).min(left);
        match (Shares::of(as_long), at_end) {
            (Some(Shares { seen, p50, p90 }), _) => Some(Self { seen, p50: more(p50), p90: more(p90) }),
            (None, ExpirationAction::Minimum) => Some(Self { seen: 0, p50: left, p90: left }),
            (None, ExpirationAction::Drop) => None,
        }
    }
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
            match self.beside.pools.rules(&ticket.queue).filter(|rules| rules.queue == *queue) {
                Some(rules) => self.explain_waiting(ticket, rules, now, &mut explanation),
                None => self.explain_waiting(
                    ticket,
                    &Ruleset::new(queue, &mut Mixes::default()),
                    now,
                    &mut explanation,
                ),
            }
        }
        Some(explanation)
    }

    /// The same without a look at other tickets, which costs next to nothing: where it stands, its place, how long others
    /// waited. `None` if it is not known.
    #[must_use]
    pub fn glance(&self, id: &TicketId, now: Timestamp) -> Option<Explanation> {
        let ticket = self.state.find(id)?;
        let waits = ticket.state == TicketState::Waiting;
        let others = self.beside.waits.sorted(|of| *of == ticket.queue);
        let shares = Shares::of(&others);
        let waited = now.since(ticket.waits_since);
        let line = self.state.index.lines.get(&ticket.queue);
        let queue = self.state.queue(&ticket.queue).filter(|_| waits);
        let expires_at = if waits { self.state.expires_at(ticket) } else { None };
        let expected_wait = queue.zip(expires_at).and_then(|(queue, end)| {
            ExpectedWait::of(&others, waited, end.since(now), queue.expiration_action)
        });
        Some(Explanation {
            ticket: id.clone(),
            queue: ticket.queue.clone(),
            status: ticket.status(),
            waited,
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
            expires_at,
            typical_wait: shares.map(|shares| (shares.p50, shares.p90)),
            expected_wait,
        })
    }

    fn explain_waiting(&self, ticket: &Ticket, rules: &Ruleset, now: Timestamp, found: &mut Explanation) {
        let documents = Documents::default();
        let own = rules.profile(ticket, now, &documents);
        found.team_wanted = own.wanted;
        found.widens_at = own.until;
        found.held_by = rules.refusing_rule(&own, &documents).map(|rule| rule.name.clone());
        let Some(line) = self.state.index.lines.get(&ticket.queue) else { return };
        let mut kept_out: BTreeMap<Box<str>, usize> = BTreeMap::new();
        let others = line.by_place.values().filter(|other| **other != ticket.id);
        let mut work = 0;
        for other in others.take(MAX_LOOKED_AT).filter_map(|id| self.state.ticket(id)) {
            if work >= MAX_WORK {
                break;
            }
            found.looked_at += 1;
            let pools = &self.beside.pools;
            let known = pools.slot(other.place).and_then(|slot| pools.get(slot));
            let known = known.filter(|known| core::ptr::eq(&*known.rules, rules));
            let profile = rules.profile_again(other, known.map(|known| &known.profile), now, &documents);
            let read = if known.is_some() { 0 } else { other.spec.byte_size() };
            let bytes = read + own.judged + profile.judged;
            work += LOOK_COST + bytes as u64 / BYTES_PER_COMPARISON;
            let rule = rules.rule_between(&own, &profile, &documents);
            let rule = rule.or_else(|| rules.refusing_rule(&profile, &documents));
            work += documents.take_read();
            match rule {
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

#[cfg(test)]
mod tests {
    use super::*;

    const fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn expected(waits: &[u64], waited: u64, left: u64) -> Option<(usize, u64, u64)> {
        let waits: Vec<_> = waits.iter().map(|wait| secs(*wait)).collect();
        let found = ExpectedWait::of(&waits, secs(waited), secs(left), ExpirationAction::Drop)?;
        Some((found.seen, found.p50.as_secs(), found.p90.as_secs()))
    }

    #[test]
    fn what_those_waited_who_had_waited_as_long_is_to_be_expected() {
        let waits = [0, 0, 1, 2, 3, 10, 20, 30, 60, 90];
        assert_eq!(expected(&waits, 0, 300), Some((10, 3, 60)));
        // Half of those who came through the first seconds were there for half a minute more.
        assert_eq!(expected(&waits, 3, 300), Some((6, 17, 87)));
        assert_eq!(expected(&waits, 4, 300), Some((5, 26, 86)));
        assert_eq!(expected(&waits, 90, 300), Some((1, 0, 0)));
    }

    #[test]
    fn it_is_never_more_than_the_ticket_has_left() {
        assert_eq!(expected(&[60, 90], 50, 20), Some((2, 10, 20)));
        assert_eq!(expected(&[60, 90], 50, 0), Some((2, 0, 0)));
    }

    #[test]
    fn where_nobody_waited_as_long_the_end_is_known_or_nothing_is() {
        for waits in [&[] as &[u64], &[1, 2, 3]] {
            assert_eq!(expected(waits, 4, 60), None);
        }
        let found = ExpectedWait::of(&[secs(1)], secs(4), secs(60), ExpirationAction::Minimum);
        assert_eq!(found, Some(ExpectedWait { seen: 0, p50: secs(60), p90: secs(60) }));
    }
}
