//! Why a ticket still waits: as data.
//!
//! It runs on the thread of the machine, so it looks at a bounded part of the queue: the tickets that have waited
//! longest. Nothing here changes anything.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use super::Matchmaker;
use super::documents::Documents;
use super::forming::BYTES_PER_COMPARISON;
use super::gaps::{SizeGap, gap};
use super::json::MAX_READ;
use super::mixes::Mixes;
use super::model::{CancelCause, FailCause, LostMatch, Status, Ticket, TicketEnd, TicketState};
use super::rules::{Profile, Ruleset};
use super::search::EVALUATION_PER_COMPARISON;
use super::settings::{ExpirationAction, Queue};
use crate::ids::{HookId, MatchId, QueueId, TicketId};
use crate::size::Size;
use crate::time::Timestamp;
use crate::waits::Shares;

/// Maximum number of other tickets of the queue that one explanation looks at.
pub const MAX_LOOKED_AT: usize = 1_000;
/// Maximum cost of one explanation, in comparisons of two numbers: half of a tick, since players may ask for it.
const MAX_WORK: u64 = 100_000;
/// The cost of looking at another ticket, in comparisons.
const LOOK_COST: u64 = 40;
/// The cost of finding out another ticket's demands if they are not known, in comparisons.
const PROFILE_COST: u64 = 300;
/// Maximum length of a value that an explanation shows, in bytes.
const MAX_SHOWN: usize = 64;
/// Maximum number of tickets in reach that are named.
pub const MAX_NAMED: usize = 20;

/// Why a ticket is in its current state.
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
    /// The number of older tickets that wait in the queue; `None` if it does not wait.
    pub ahead: Option<usize>,
    /// The number of other waiting tickets of the queue that were looked at.
    pub looked_at: usize,
    /// The number of other waiting tickets of the queue that were not looked at.
    pub not_looked_at: usize,
    /// The number of those looked at that could be in one match with it.
    pub in_reach: usize,
    /// Some of them, oldest first, at most [`MAX_NAMED`].
    pub named: Vec<TicketId>,
    /// The number of players of those in reach, including its own.
    pub players_in_reach: usize,
    /// Players of a full match; `None` if unlimited.
    pub players_wanted: Option<u32>,
    /// The team size that it asks for now.
    pub team_wanted: u32,
    /// Rules that keep others out, with how many; each of these tickets is counted under the first rule only.
    pub kept_out: Vec<KeptOut>,
    /// A rule about single tickets that keeps it from being matched.
    pub held_by: Option<Box<str>>,
    /// The search for a match with it is not finished and continues.
    pub searching: bool,
    /// Set if the sizes of the tickets in reach cannot fill the teams.
    pub size_gap: Option<SizeGap>,
    /// The match that it is in.
    pub match_id: Option<MatchId>,
    /// How often it returned because no server was found.
    pub requeues: u32,
    /// Whether it is on hold, because one of its players is in a match by another ticket.
    pub on_hold: bool,
    /// The last match that it returned from because no server was found.
    pub lost: Option<Arc<LostMatch>>,
    /// Matches of the hook that forms the queue's matches which were ignored; only while the ticket waits for that hook.
    pub ignored: Option<IgnoredMatches>,
    /// Why it failed.
    pub failure: Option<Failure>,
    /// Who cancelled it.
    pub cancelled: Option<CancelCause>,
    /// When it next demands less.
    pub widens_at: Option<Timestamp>,
    /// When it times out.
    pub expires_at: Option<Timestamp>,
    /// How long tickets of the queue waited recently: median and 90th percentile.
    pub typical_wait: Option<(Duration, Duration)>,
    /// The expected remaining wait; `None` if unknown.
    pub expected_wait: Option<ExpectedWait>,
}

/// The expected remaining wait of a ticket: that of recent tickets of its queue which got a match after waiting at
/// least as long.
///
/// The estimate needs no model of how tickets arrive and how rules widen: both are part of what the others experienced.
/// It ignores tickets that never got a match, and never exceeds the ticket's end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ExpectedWait {
    /// The number of those tickets. 0: none waited as long, but the queue makes a match of the waiting tickets when the
    /// ticket's time is over; then both other values are that time.
    pub seen: usize,
    /// The median of their remaining wait.
    pub p50: Duration,
    /// The 90th percentile of their remaining wait.
    pub p90: Duration,
}

impl ExpectedWait {
    /// For a ticket that has waited for `waited` and has `left` to go, by the waits of others in ascending order.
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

/// The number of tickets that a rule keeps out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeptOut {
    /// The rule.
    pub rule: Box<str>,
    /// The number of tickets.
    pub tickets: usize,
    /// Those that are only kept out because of the type of a value.
    pub by_type: Option<ByType>,
}

/// A property that is a number in one ticket and a text in others, and would be equal otherwise.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ByType {
    /// The property's name.
    pub property: Box<str>,
    /// The value of the ticket, as JSON.
    pub own: Box<str>,
    /// The value of another ticket, as JSON.
    pub theirs: Box<str>,
    /// The number of tickets that it keeps out.
    pub tickets: usize,
}

/// Matches that a hook has formed and that were ignored, each on its own.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IgnoredMatches {
    /// The hook.
    pub hook: HookId,
    /// When the last one was ignored.
    pub at: Timestamp,
    /// How many of the last answer with such matches were ignored.
    pub count: usize,
    /// The problem with the first of these, with deceptive characters escaped. It may name other tickets, so it is not
    /// for players.
    pub first: String,
    /// How many were ignored since the process began.
    pub total: u64,
}

/// Why a ticket failed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// The cause.
    pub cause: FailCause,
    /// In the words of the hook or the broker; may be empty.
    pub detail: Arc<str>,
    /// The hook whose answer made it fail.
    pub hook: Option<HookId>,
    /// The match that it was in.
    pub match_id: Option<MatchId>,
}

impl Matchmaker {
    /// Explains the state of a ticket; `None` if it is not known.
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

    /// The same without looking at other tickets, which is cheap: its state, its place, how long others waited. `None`
    /// if it is not known.
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
            searching: waits && self.beside.unfinished.contains(ticket.place),
            size_gap: None,
            match_id: ticket.match_id().cloned(),
            requeues: ticket.requeues,
            on_hold: matches!(ticket.state, TicketState::OnHold { .. }),
            lost: ticket.lost.clone(),
            ignored: queue.and_then(|queue| self.ignored(&ticket.queue, queue)),
            failure: failure(&ticket.state),
            cancelled: cancelled(&ticket.state),
            widens_at: None,
            expires_at,
            typical_wait: shares.map(|shares| (shares.p50, shares.p90)),
            expected_wait,
        })
    }

    fn ignored(&self, id: &QueueId, queue: &Queue) -> Option<IgnoredMatches> {
        let fault = self.last_fault(id)?;
        queue.former().filter(|former| former.id == fault.hook)?;
        Some(IgnoredMatches {
            hook: fault.hook.clone(),
            at: fault.at,
            count: fault.answer.count,
            first: fault.answer.first.clone(),
            total: fault.ignored,
        })
    }

    fn explain_waiting(&self, ticket: &Ticket, rules: &Ruleset, now: Timestamp, found: &mut Explanation) {
        let documents = Documents::default();
        let own = rules.profile(ticket, now, &documents);
        found.team_wanted = own.wanted;
        found.widens_at = own.until;
        found.held_by = rules.refusing_rule(&own, &documents).map(|rule| rule.name.clone());
        let Some(line) = self.state.index.lines.get(&ticket.queue) else { return };
        let mut seen = Seen::new(&own);
        let others = line.by_place.values().filter(|other| **other != ticket.id);
        rules.take_evaluated();
        for other in others.take(MAX_LOOKED_AT).filter_map(|id| self.state.ticket(id)) {
            if seen.work >= MAX_WORK {
                break;
            }
            found.looked_at += 1;
            let known = self.known_profile(other, rules, now);
            let made = if known.is_some() { None } else { Some(rules.profile(other, now, &documents)) };
            let Some(profile) = known.or(made.as_ref()) else { continue };
            if made.is_some() {
                seen.work += PROFILE_COST + other.spec.byte_size() as u64 / BYTES_PER_COMPARISON;
            }
            let is_in_reach = seen.look_at(&own, profile, rules, &documents);
            if is_in_reach && found.named.len() < MAX_NAMED {
                found.named.push(other.id.clone());
            }
        }
        found.not_looked_at = line.by_place.len().saturating_sub(1 + found.looked_at);
        found.in_reach = seen.in_reach;
        found.players_in_reach = seen.sizes.iter().map(|(size, count)| usize::from(*size) * count).sum();
        if own.eligible && !found.searching && found.not_looked_at == 0 {
            found.size_gap = gap(rules, own.size, &seen.sizes, seen.least);
        }
        found.kept_out = seen.into_kept_out();
    }

    /// A ticket's properties and demands, if they were found out before.
    fn known_profile(&self, ticket: &Ticket, rules: &Ruleset, now: Timestamp) -> Option<&Profile> {
        let pools = &self.beside.pools;
        let known = pools.slot(ticket.place).and_then(|slot| pools.get(slot))?;
        let profile = &known.profile;
        let is_so = core::ptr::eq(&*known.rules, rules)
            && Arc::ptr_eq(&profile.spec, &ticket.spec)
            && profile.since == ticket.waits_since
            && profile.until.is_none_or(|until| now < until);
        is_so.then_some(profile)
    }
}

fn failure(state: &TicketState) -> Option<Failure> {
    match state {
        TicketState::Over { end: TicketEnd::Failed { cause, detail, hook, match_id }, .. } => Some(Failure {
            cause: *cause,
            detail: Arc::clone(detail),
            hook: hook.clone(),
            match_id: match_id.clone(),
        }),
        _ => None,
    }
}

const fn cancelled(state: &TicketState) -> Option<CancelCause> {
    match state {
        TicketState::Over { end: TicketEnd::Cancelled(cause), .. } => Some(*cause),
        _ => None,
    }
}

/// What was seen of other tickets.
struct Seen {
    /// The cost so far, in comparisons of two numbers.
    work: u64,
    in_reach: usize,
    /// The number of tickets of each size in reach, including the explained ticket.
    sizes: BTreeMap<u16, usize>,
    /// The smallest team size that one of these asks for.
    least: u32,
    kept_out: BTreeMap<Box<str>, (usize, Option<ByType>)>,
}

impl Seen {
    fn new(own: &Profile) -> Self {
        let sizes = BTreeMap::from([(own.size, 1)]);
        Self { work: 0, in_reach: 0, sizes, least: own.wanted, kept_out: BTreeMap::new() }
    }

    /// Whether a ticket is in reach.
    fn look_at(&mut self, own: &Profile, other: &Profile, rules: &Ruleset, documents: &Documents) -> bool {
        let between = rules.rule_between(own, other, documents);
        let refusing = || if other.eligible { None } else { rules.refusing_rule(other, documents) };
        let rule = between.or_else(refusing);
        let bytes = documents.take_read();
        let evaluated = rules.take_evaluated() / EVALUATION_PER_COMPARISON;
        self.work += LOOK_COST + bytes + evaluated;
        let Some(rule) = rule else {
            self.in_reach += 1;
            *self.sizes.entry(other.size).or_default() += 1;
            self.least = self.least.min(other.wanted);
            return true;
        };
        let (tickets, by_type) = self.kept_out.entry(rule.name.clone()).or_default();
        *tickets += 1;
        if let Some(between) = between {
            let length = |of: &Profile| of.spec.properties.text().map_or(0, str::len) as u64;
            // Values within values are read once for each level.
            self.work += length(own).min(MAX_READ as u64) + length(other).min(MAX_READ as u64);
            self.work += (length(own) + length(other)) / BYTES_PER_COMPARISON;
            match (rules.apart_by_type(between, own, other, MAX_SHOWN), by_type) {
                (Some(_), Some(known)) => known.tickets += 1,
                (Some((property, own, theirs)), by_type) if own.len().max(theirs.len()) <= MAX_SHOWN => {
                    let (own, theirs) = (own.into(), theirs.into());
                    *by_type = Some(ByType { property: property.into(), own, theirs, tickets: 1 });
                }
                _ => {}
            }
        }
        false
    }

    fn into_kept_out(self) -> Vec<KeptOut> {
        let all = self.kept_out.into_iter();
        let mut kept_out: Vec<KeptOut> =
            all.map(|(rule, (tickets, by_type))| KeptOut { rule, tickets, by_type }).collect();
        kept_out.sort_by(|a, b| b.tickets.cmp(&a.tickets).then_with(|| a.rule.cmp(&b.rule)));
        kept_out
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
        // Half of those who stayed beyond the first seconds waited for half a minute more.
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
