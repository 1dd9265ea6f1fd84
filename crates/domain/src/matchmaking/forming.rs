//! A tick: which tickets are looked at, and what happens with the matches found.
//!
//! Work follows changes. A ticket is looked at when it arrives or returns, when it demands less, and when free seats
//! are offered; oldest first, so that no waiting ticket is passed over. The work of one tick is bounded; the rest is
//! done in the next, in the same order.
//!
//! Queues take turns, by the work done for each of them (`fair`), so that no queue waits for the work of another one.
//! Free seats are handled in the same way.
//!
//! If the rules of a queue or the process are new, a *sweep* looks at every waiting ticket of the queue one time: it is
//! a place in the queue that advances with each of its turns, between tickets that are due anyway.
//!
//! A search that was cut continues in the next ticks. While there are such searches, they get a part of each tick, plus
//! what is left over; each of them has at most one turn per tick. They do not make ticks follow one another without a
//! pause, because some of them would take practically forever.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::backfill::Sought;
use super::command::Refusal;
use super::fair::Line;
use super::hooks;
use super::model::{FailCause, Named, Ticket, TicketSpec, TicketState};
use super::pools::{Slot, Waiting};
use super::rules::{Ruleset, judged_bytes};
use super::search::{COMPARISONS_PER_TURN, Found, Hunt, Outcome, Search};
use super::settings::{Backfill, ExpirationAction};
use super::{BrokenRule, Event, Matchmaker, Turn, is_broken};
use crate::ids::{MatchId, QueueId, RegionId, TicketId};
use crate::size::Size;
use crate::time::Timestamp;

/// The work of one tick, in comparisons of two numbers: a few milliseconds.
pub const WORK_PER_TICK: u64 = 200_000;
/// The part of it for searches that were cut, while there are any.
const WORK_OF_UNFINISHED: u64 = WORK_PER_TICK / 4;
/// Maximum number of older roots with continuing searches that are tried in place of a match's root.
const MAX_OLDER: usize = 16;
/// Minimum budget for which a search gets a turn.
const MIN_TURN: u64 = COMPARISONS_PER_TURN / 8;
/// The cost of finding out what a ticket demands, in comparisons.
const ENTER_COST: u64 = 300;
/// The cost of adding it to one pool, in comparisons.
const POOL_COST: u64 = 100;
/// The cost of forming a match, per ticket, in comparisons.
const FORM_COST: u64 = 1_500;
/// Bytes of tickets that are read per comparison of two numbers.
pub(crate) const BYTES_PER_COMPARISON: u64 = 16;
/// Maximum size of the properties of a ticket, including its players', that expressions look at; in bytes.
pub const MAX_JUDGED_BYTES: usize = 16 * 1_024;
/// The cost of a queue's turn, without what is done in it; in comparisons.
const TURN_COST: u64 = 20;
/// The cost of compiling a rule, and of a queue's rules without them; in comparisons.
const RULE_COST: u64 = 300;
/// Tickets that demand less and are noted in one turn of their queue.
const WIDENED_AT_A_TURN: usize = 64;
/// The work on a hook's answer in one turn of its queue, in comparisons.
const WORK_OF_ANSWER: u64 = WORK_PER_TICK / 16;
/// The cost of ending a ticket, in comparisons.
const END_COST: u64 = 1_000;
/// The part of a tick for free seats, while any are offered or looked for.
const WORK_OF_SEATS: u64 = WORK_PER_TICK / 4;
/// The cost of postponing a ticket, in comparisons.
const SKIP_COST: u64 = 50;
/// A ticket of a new match.
pub(super) struct Chosen {
    pub(super) place: u64,
    pub(super) spec: Arc<TicketSpec>,
    /// When its wait began to count.
    pub(super) since: Timestamp,
}

/// The refusal of a ticket with more bytes than expressions look at, if the queue has expressions.
pub(super) fn judged_too_much(rules: &Ruleset, queue: &QueueId, bytes: usize) -> Option<Refusal> {
    (rules.judges() && bytes > MAX_JUDGED_BYTES).then(|| {
        Refusal::TooLarge(format!(
            "the rules of queue {queue} contain expressions, so its tickets and the matches with free seats may have at \
             most {MAX_JUDGED_BYTES} bytes of properties; this one has {bytes}"
        ))
    })
}

impl Matchmaker {
    /// When matches are next formed; `None` if nothing has changed.
    pub(crate) fn forms_at(&self) -> Option<Timestamp> {
        let beside = &self.beside;
        if !beside.awake {
            let hosts = !self.state.formations.is_empty() && hooks::hosts_any(&self.state);
            let work = !self.state.index.lines.is_empty() || !self.state.offers.is_empty() || hosts;
            return work.then_some(Timestamp::ZERO);
        }
        let next = beside.formed_at + self.state.settings.tick;
        let carried = (beside.carried || !beside.answers.is_empty()).then_some(beside.formed_at);
        let changed = (!beside.due.is_empty() || !beside.unfinished.is_empty()).then_some(next);
        let widens = beside.pools.alarms.next().map(|at| at.max(next));
        let asks = beside.rounds.next_timer().map(|at| at.max(next));
        [carried, changed, widens, asks].into_iter().flatten().min()
    }
}

impl Turn<'_> {
    /// Forms the matches that can be formed, within the bound of one tick.
    pub(super) fn form(&mut self) {
        if self.maker.forms_at().is_none_or(|at| at > self.now) {
            return;
        }
        self.maker.beside.formed_at = self.now;
        self.maker.beside.carried = false;
        let of_unfinished = if self.maker.beside.unfinished.is_empty() { 0 } else { WORK_OF_UNFINISHED };
        let most = WORK_PER_TICK - of_unfinished;
        // Offered seats go to tickets that have been waiting, before new ones.
        self.sweep_offers();
        self.look_at_first_offers(WORK_OF_SEATS);
        self.look_at_queues(most);
        if self.maker.beside.due.has_seats() {
            self.work = self.work.min(most - WORK_OF_SEATS);
        }
        // Only now is it known which tickets get no new match.
        self.fill_last_seats(most);
        self.begin_rounds();
        let asks = self.maker.beside.rounds.next_timer().is_some_and(|at| at <= self.now);
        let seeks = self.maker.beside.due.has_seats();
        self.maker.beside.carried = asks || seeks || !self.has_room(most);
        self.go_on_searching();
    }

    /// Serves the queues in which a ticket is to be looked at, or an answer of a hook is to be taken, in turns.
    fn look_at_queues(&mut self, most: u64) {
        loop {
            let queues = self.queues_to_look_at();
            let mut line = self.maker.beside.due.looked.line_up(queues);
            if line.is_empty() {
                break;
            }
            while self.has_room(most) {
                let Some(next) = self.next_queue(&mut line) else { break };
                let before = self.work;
                self.look_at_queue(&next.1, most);
                let has_more = self.has_to_look_at(&next.1);
                line.served(next, self.work - before, has_more);
            }
            self.maker.beside.due.looked.settle(line);
            if !self.has_room(most) {
                break;
            }
        }
    }

    fn next_queue(&self, line: &mut Line) -> Option<(u64, QueueId)> {
        if !self.broken(BrokenRule::OldestQueueFirst) {
            return line.next();
        }
        let due = &self.maker.beside.due;
        let oldest = |queue: &&QueueId| due.first(queue).or_else(|| due.sweeps.get(*queue).copied());
        let first = line.queues().min_by_key(oldest).cloned()?;
        line.take(&first)
    }

    fn queues_to_look_at(&self) -> BTreeSet<QueueId> {
        let beside = &self.maker.beside;
        let queues = beside.due.tickets.keys().chain(beside.due.sweeps.keys()).chain(beside.answers.keys());
        queues.chain(beside.pools.alarms.due(self.now)).cloned().collect()
    }

    fn has_to_look_at(&self, queue: &QueueId) -> bool {
        let beside = &self.maker.beside;
        beside.due.tickets.contains_key(queue)
            || beside.due.sweeps.contains_key(queue)
            || beside.answers.contains_key(queue)
            || beside.pools.alarms.is_due(queue, self.now)
    }

    /// A turn of a queue: a part of a hook's answer, some tickets that demand less, one ticket that is new, has
    /// returned or demands less, and one of its sweep.
    fn look_at_queue(&mut self, queue: &QueueId, most: u64) {
        self.work += TURN_COST;
        if let Some(rules) = self.maker.beside.pools.uncompiled(queue) {
            self.work += RULE_COST * (1 + rules as u64);
        }
        if self.maker.beside.answers.contains_key(queue) {
            self.go_on_with_answer(queue, most.min(self.work + WORK_OF_ANSWER));
        }
        for _ in 0..WIDENED_AT_A_TURN {
            let Some(place) = self.maker.beside.pools.alarms.take(queue, self.now) else { break };
            self.work += ENTER_COST / 4;
            if !self.broken(BrokenRule::ForgetWidening) {
                self.maker.beside.due.note(queue, place);
            }
        }
        if self.maker.beside.pools.alarms.is_due(queue, self.now) || !self.has_room(most) {
            // Older ones may be among those.
            return;
        }
        let swept = self.maker.beside.due.sweeps.get(queue).copied();
        let first = self.maker.beside.due.first(queue);
        // Those behind the place of a sweep are left to it.
        if let Some(place) = first.filter(|place| swept.is_none_or(|swept| *place <= swept)) {
            self.maker.beside.due.forget(queue, place);
            self.look_at(place);
        }
        if let Some(after) = swept {
            self.sweep(queue, after);
        }
    }

    /// Looks at the next ticket of a queue whose tickets are all looked at, oldest first.
    fn sweep(&mut self, queue: &QueueId, after: u64) {
        let line = self.state().index.lines.get(queue);
        let next = line.and_then(|line| line.by_place.range(after + 1..).next());
        match next.map(|(place, _)| *place) {
            Some(place) => {
                self.maker.beside.due.forget(queue, place);
                self.maker.beside.due.sweeps.insert(queue.clone(), place);
                self.look_at(place);
            }
            None => drop(self.maker.beside.due.sweeps.remove(queue)),
        }
    }

    fn look_at(&mut self, place: u64) {
        if self.refuse_too_large(place) {
            return;
        }
        let Some(slot) = self.enter_pools(place) else { return };
        let Some(waiting) = self.maker.beside.pools.get(slot) else { return };
        if waiting.rules.queue.backfill == Backfill::First && self.take_seats(slot, place) != Sought::Nothing
        {
            return;
        }
        self.look_for_match(place, slot);
    }

    /// The search for an offer is over, and none suits the ticket.
    pub(super) fn has_found_no_seats(&mut self, place: u64, slot: Slot) {
        let waiting = self.maker.beside.pools.get(slot);
        if waiting.is_some_and(|waiting| waiting.rules.queue.backfill == Backfill::First) {
            self.look_for_match(place, slot);
        }
    }

    fn look_for_match(&mut self, place: u64, slot: Slot) {
        let by_rules = self.maker.beside.due.by_rules.remove(&place);
        let Some(waiting) = self.maker.beside.pools.get(slot) else { return };
        let backfill = waiting.rules.queue.backfill;
        let former = waiting.rules.queue.former().is_some();
        let queue = waiting.queue.clone();
        if former && !by_rules {
            self.maker.beside.due.rounds.insert(queue.clone());
        } else if let Some(found) = self.search(slot) {
            self.propose(&found);
            return;
        }
        if backfill == Backfill::Last {
            self.maker.beside.due.note_unmatched(&queue, place);
        }
    }

    /// Whether the ticket at this place takes more bytes of a match than its queue's matches have room for, so that it
    /// fails: it arrived when the queue's matches were smaller, or before there was a limit.
    fn refuse_too_large(&mut self, place: u64) -> bool {
        let Some(ticket) = self.state().tickets.get(&place) else { return false };
        if ticket.state != TicketState::Waiting {
            return false;
        }
        let Some(refusal) = self.too_large(ticket) else { return false };
        let id = ticket.id.clone();
        self.failed(&id, FailCause::Refused, &refusal.to_string(), None);
        true
    }

    pub(super) fn too_large(&self, ticket: &Ticket) -> Option<Refusal> {
        let queue = (&ticket.queue, self.state().queue(&ticket.queue)?);
        let too_large = hooks::too_large(self.state(), queue, Some(&ticket.id), &ticket.spec);
        let rules = self.maker.beside.pools.rules(&ticket.queue);
        too_large.or_else(|| judged_too_much(rules?, &ticket.queue, judged_bytes(&ticket.spec)))
    }

    /// Adds a waiting ticket to the pools by its current demands.
    pub(super) fn enter_pools(&mut self, place: u64) -> Option<Slot> {
        self.work += ENTER_COST;
        let ticket = self.maker.state.tickets.get(&place)?;
        if ticket.state != TicketState::Waiting {
            return None;
        }
        let rules = self.maker.beside.pools.rules(&ticket.queue)?;
        let pools = &self.maker.beside.pools;
        let known = pools.slot(place).and_then(|slot| pools.get(slot));
        let known = known.filter(|waiting| Arc::ptr_eq(&waiting.rules, rules));
        let documents = &self.maker.beside.documents;
        let known = known.map(|waiting| &waiting.profile);
        let bytes = if known.is_some() { 0 } else { ticket.spec.byte_size() as u64 };
        let mut profile = rules.profile_again(ticket, known, self.now, documents);
        self.work += bytes / BYTES_PER_COMPARISON + documents.take_read();
        if self.broken(BrokenRule::ForgetEqual) {
            profile.equal = Arc::from("");
        }
        if self.broken(BrokenRule::ForgetLatency) && profile.regions.iter().all(|(of, _)| of.is_some()) {
            let all = ticket.spec.worst_latencies().into_iter();
            profile.regions = all.map(|(region, latency)| (Some(region), latency)).collect();
        }
        let queue = ticket.queue.clone();
        let slot = self.maker.beside.pools.enter(&queue, profile)?;
        let pools = self.maker.beside.pools.get(slot).map_or(0, |waiting| waiting.pools.len());
        self.work += POOL_COST * pools as u64;
        Some(slot)
    }

    /// The match for a ticket; if one turn does not find it, the search continues in the next ticks.
    fn search(&mut self, slot: Slot) -> Option<Found> {
        self.search_within(slot, None, self.maker.turn())
    }

    fn search_within(&mut self, slot: Slot, hunt: Option<Hunt>, budget: u64) -> Option<Found> {
        let broken = self.maker.broken_rule();
        let beside = &mut self.maker.beside;
        let waiting = beside.pools.get(slot)?;
        let (rules, queue, place) =
            (Arc::clone(&waiting.rules), waiting.queue.clone(), waiting.profile.place);
        let is_new = hunt.is_none();
        beside.unfinished.remove(place);
        let documents = &beside.documents;
        let search = Search::new(&beside.pools, &rules, documents, &mut beside.verdicts, broken);
        let mut search = search.within(budget);
        let outcome = match hunt {
            Some(hunt) => search.go_on(slot, hunt),
            None => search.begin(slot),
        };
        self.work += search.cost;
        match outcome {
            Outcome::Found(mut found) => {
                let older = beside.unfinished.older(&queue, place, MAX_OLDER);
                let older: Vec<Slot> =
                    older.into_iter().filter_map(|place| beside.pools.slot(place)).collect();
                if !older.is_empty() && !rules.balances() {
                    let documents = &beside.documents;
                    let mut search =
                        Search::new(&beside.pools, &rules, documents, &mut beside.verdicts, broken);
                    let gave_way = search.give_way(slot, &mut found, &older);
                    self.work += search.cost;
                    if gave_way {
                        // The search goes on for another match.
                        beside.due.note(&queue, place);
                    }
                }
                Some(found)
            }
            Outcome::Nothing => None,
            Outcome::Cut(hunt) => {
                let beside = &mut self.maker.beside;
                beside.cut_searches += u64::from(is_new);
                if !is_broken(broken, BrokenRule::ForgetUnfinished) {
                    beside.unfinished.insert(&queue, place, hunt);
                }
                None
            }
        }
    }

    /// Continues searches that were cut, each for at most one turn.
    fn go_on_searching(&mut self) {
        for _ in 0..self.maker.beside.unfinished.len() {
            if WORK_PER_TICK.saturating_sub(self.work) < MIN_TURN || self.is_full() {
                break;
            }
            let Some((place, hunt)) = self.maker.beside.unfinished.next() else { break };
            let Some(slot) = self.maker.beside.pools.slot(place) else { continue };
            let budget = self.maker.turn().min(2 * (WORK_PER_TICK - self.work));
            if let Some(found) = self.search_within(slot, Some(hunt), budget) {
                self.propose(&found);
            }
        }
        while self.has_room(WORK_PER_TICK) {
            let Some((queue, place)) = self.maker.beside.unfinished.next_anew() else { break };
            self.work += SKIP_COST;
            self.maker.beside.due.note(&queue, place);
        }
    }

    /// A ticket that reached its queue's maximum wait: a last attempt if the queue wants one, then the end.
    pub(super) fn expire(&mut self, id: &TicketId) {
        self.work += END_COST;
        let Some(ticket) = self.state().ticket(id) else { return };
        let place = ticket.place;
        if self.refuse_too_large(place) {
            return;
        }
        let Some(ticket) = self.state().ticket(id) else { return };
        let last = self.state().queue(&ticket.queue).map(|queue| queue.expiration_action);
        if last == Some(ExpirationAction::Minimum)
            && let Some(slot) = self.enter_pools(place)
        {
            let found = self.search(slot).or_else(|| self.search_last(slot));
            if let Some(found) = found {
                self.propose(&found);
                return;
            }
        }
        if let Some(ticket) = self.state().named(id) {
            self.emit(Event::TicketTimedOut { ticket });
        }
    }

    /// A match of whatever tickets there are, for a ticket that expires.
    fn search_last(&mut self, slot: Slot) -> Option<Found> {
        let broken = self.maker.broken_rule();
        let beside = &mut self.maker.beside;
        let rules = Arc::clone(&beside.pools.get(slot)?.rules);
        let mut search = Search::new(&beside.pools, &rules, &beside.documents, &mut beside.verdicts, broken);
        let found = search.last(slot);
        self.work += search.cost;
        found
    }

    /// Makes a match of the tickets found.
    fn propose(&mut self, found: &Found) {
        let pools = &self.maker.beside.pools;
        let waiting = || found.teams.iter().flatten().filter_map(|slot| pools.get(*slot));
        let Some(queue) = waiting().next().map(|waiting| waiting.queue.clone()) else { return };
        let named = |slot: &Slot| {
            let profile = &pools.get(*slot)?.profile;
            Some(Named { ticket: profile.id.clone(), players: profile.spec.player_ids() })
        };
        let teams: Vec<Vec<Named>> =
            found.teams.iter().map(|team| team.iter().filter_map(named).collect()).collect();
        let tickets: Vec<Chosen> = waiting()
            .map(|Waiting { profile, .. }| Chosen {
                place: profile.place,
                spec: Arc::clone(&profile.spec),
                since: profile.since,
            })
            .collect();
        self.begin_match(queue, teams, &tickets, found.region.clone());
    }

    /// Begins a match of these tickets, all of which wait in the queue.
    pub(super) fn begin_match(
        &mut self,
        queue: QueueId,
        teams: Vec<Vec<Named>>,
        tickets: &[Chosen],
        region: Option<RegionId>,
    ) {
        self.work += FORM_COST * tickets.len() as u64;
        let bytes: usize = tickets.iter().map(|ticket| ticket.spec.byte_size()).sum();
        self.work += bytes as u64 / BYTES_PER_COMPARISON;
        let Some(settings) = self.state().queue(&queue) else { return };
        let accept = settings.accept;
        for ticket in tickets {
            self.maker.beside.waits.note(queue.clone(), self.now.since(ticket.since));
            self.take_place(ticket.place);
        }
        let specs: Vec<_> = tickets.iter().map(|ticket| Arc::clone(&ticket.spec)).collect();
        let spec = hooks::match_spec(self.state(), &queue, &teams, &specs, region.as_ref());
        let id = MatchId::draw(&mut self.draw);
        let teams: Arc<[Vec<Named>]> = teams.into();
        if let Some(accept) = accept {
            let accept_until = Some(self.now + accept);
            let spec = Arc::new(spec);
            self.emit(Event::MatchProposed { id, queue, teams, region, spec, accept_until, check: None });
            return;
        }
        self.check_match(
            super::match_lifecycle::Draft { id, queue, teams, region, spec, is_new: true },
            None,
        );
    }
}
