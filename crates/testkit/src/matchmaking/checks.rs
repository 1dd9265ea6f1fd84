//! The invariants. Each message begins with the number that ARCHITECTURE.md gives the invariant.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use sortie_domain::ids::{MatchId, PlayerId, QueueId, RegionId, TicketId};
use sortie_domain::machine::{Machine, Record};
use sortie_domain::matchmaking::model::{
    CancelCause, Named, SeatOffer, Stage, Status, Ticket, TicketEnd, TicketState,
};
use sortie_domain::matchmaking::settings::{Backfill, ExpirationAction, Need, Queue, Rule, RuleKind};
use sortie_domain::matchmaking::{Event, Matchmaker, number_of};
use sortie_domain::time::Timestamp;

use super::clients::MAX_QUEUES;
use super::world::World;
use crate::oracle::{all_bear, can_stand_in, even, fill, go_together, legal_match, misses, wanted};

/// Maximum number of tickets of which every subset is tried after a tick.
const MAX_TRIED: usize = 9;
/// Longer than a tick, in milliseconds.
const A_TICK: u64 = 110;
/// How much later than a ticket the exhaustive search sees that it asks for less.
const ROUNDED: Duration = Duration::from_millis(1);

impl World {
    /// Invariants of every state.
    pub(super) fn check_state(&mut self) {
        let snapshot = self.maker.snapshot();
        let mut waits: BTreeSet<(&PlayerId, &QueueId)> = BTreeSet::new();
        let mut tickets: BTreeMap<&PlayerId, usize> = BTreeMap::new();
        let mut playing: BTreeMap<&PlayerId, &TicketId> = BTreeMap::new();
        let mut in_matches: BTreeMap<&TicketId, &MatchId> = BTreeMap::new();
        let mut problems = Vec::new();
        for formation in snapshot.formations.values() {
            for named in formation.tickets() {
                if let Some(other) = in_matches.insert(&named.ticket, &formation.id) {
                    problems.push(format!("5: ticket {} is in {other} and {}", named.ticket, formation.id));
                }
            }
        }
        for offered in snapshot.offers.values() {
            for ticket in offered.seating.keys() {
                if let Some(other) = in_matches.insert(ticket, &offered.offer.match_id) {
                    let id = &offered.offer.match_id;
                    problems.push(format!("5: ticket {ticket} is in {other} and takes seats of {id}"));
                }
            }
        }
        for ticket in snapshot.tickets.values() {
            for player in ticket.spec.players() {
                if !waits.insert((&player.id, &ticket.queue)) {
                    problems.push(format!("5: player {} is in two tickets of one queue", player.id));
                }
                let count = tickets.entry(&player.id).or_default();
                *count += 1;
                if *count > MAX_QUEUES {
                    problems.push(format!("5: player {} is in {count} tickets", player.id));
                }
                if ticket.is_in_match()
                    && let Some(other) = playing.insert(&player.id, &ticket.id)
                {
                    let id = &ticket.id;
                    problems.push(format!("5: player {} is in matches by {other} and {id}", player.id));
                }
            }
            if ticket.match_id() != in_matches.get(&ticket.id).copied() {
                let (id, own) = (&ticket.id, ticket.match_id());
                problems.push(format!("5: ticket {id} believes to be in {own:?}, which does not know it"));
            }
        }
        for ticket in snapshot.tickets.values() {
            let mut others = ticket.spec.players().filter_map(|player| playing.get(&player.id));
            let is_busy = others.any(|other| **other != ticket.id);
            let on_hold = matches!(ticket.state, TicketState::OnHold { .. });
            if on_hold && !is_busy {
                problems.push(format!("5: ticket {} is on hold for nothing", ticket.id));
            }
            if ticket.state == TicketState::Waiting && is_busy {
                problems.push(format!("5: ticket {} waits although its players are in a match", ticket.id));
            }
        }
        problems.into_iter().for_each(|problem| self.fail(problem));
    }

    /// A ticket that replaces another one has its place, and the other one is over.
    fn check_replaced(&mut self, id: &TicketId, old: &TicketId) {
        self.report.replaced += 1;
        let (Some(new), Some(old)) = (self.maker.ticket(id).cloned(), self.maker.ticket(old).cloned()) else {
            return self.fail(format!("6: ticket {id} or {old}, which it replaces, is not known"));
        };
        let place = self.first_place(&old.id);
        if Some(new.place) != place || new.started_at != old.started_at {
            self.fail(format!("5: ticket {id} has place {} and not {place:?} of {}", new.place, old.id));
        }
        if new.lost != old.lost {
            self.fail(format!("5: ticket {id} says {:?} of a lost match and not {:?}", new.lost, old.lost));
        }
        let end = TicketEnd::Cancelled(CancelCause::Replaced);
        if !matches!(&old.state, TicketState::Over { end: of, .. } if *of == end) {
            self.fail(format!("5: ticket {id} has the place of {}, which has it, too", old.id));
        }
    }

    /// The place of a ticket according to the log: that of the first in its chain of replacements.
    fn first_place(&self, id: &TicketId) -> Option<u64> {
        let (mut id, mut place) = (id.clone(), None);
        for record in self.records().rev() {
            if let Event::TicketStarted { id: of, spec, .. } = &record.event
                && *of == id
            {
                place = Some(record.seq);
                id = spec.replaces.clone().unwrap_or(id);
            }
        }
        place
    }

    /// Players who can connect do not wait anywhere any more.
    fn check_elsewhere(&mut self, tickets: &[Named]) {
        let players = tickets.iter().flat_map(|named| &named.players);
        let left = players.filter_map(|player| Some((player, self.maker.tickets_of(player).next()?)));
        let left = left.map(|(player, ticket)| format!("5: {player} can connect and is in {}", ticket.id));
        if let Some(problem) = left.last() {
            self.fail(problem);
        }
    }

    /// Right after the timers have run, nothing may be overdue.
    pub(super) fn check_due(&mut self) {
        let (now, snapshot) = (self.time(), self.maker.snapshot());
        let late = |ticket: &&Ticket| match &ticket.state {
            TicketState::Waiting => expires_at(&self.maker, ticket).is_some_and(|at| at <= now),
            TicketState::Validating(check) => check.until <= now,
            _ => false,
        };
        let ticket = snapshot.tickets.values().map(AsRef::as_ref).find(late).map(|ticket| ticket.id.clone());
        let formation = snapshot.formations.values().find(|formation| match &formation.stage {
            Stage::Accepting { until, .. } => *until <= now,
            Stage::Checking(check) => check.until <= now,
            Stage::FindingServer { .. } => false,
        });
        let formation = formation.map(|formation| formation.id.clone());
        let mut seating = snapshot.offers.values().flat_map(|offered| &offered.seating);
        let seating = seating.find(|(_, (_, until))| *until <= now).map(|(id, _)| id.clone());
        let dead =
            snapshot.tickets.values().find(|ticket| self.lives_until(ticket).is_some_and(|at| at <= now));
        if let Some(id) = dead.map(|ticket| ticket.id.clone()) {
            self.fail(format!("2: ticket {id} was not renewed in time, and it is not over"));
        }
        if let Some(id) = ticket.or(seating) {
            self.fail(format!("2: ticket {id} is beyond its time"));
        }
        if let Some(id) = formation {
            self.fail(format!("2: match {id} is beyond its time"));
        }
    }

    /// After a tick: every ticket that has waited for longer than one, and could have played then, has been matched.
    pub(super) fn check_overlooked(&mut self) {
        let before = Timestamp::from_millis(self.now.saturating_sub(A_TICK));
        if self.changed_lately(before) {
            return;
        }
        let snapshot = self.maker.snapshot();
        for (id, queue) in &self.maker.settings().queues.clone() {
            if queue.former().is_some() {
                continue;
            }
            let waited = |ticket: &&Ticket| {
                ticket.state == TicketState::Waiting
                    && ticket.queue == *id
                    && self.time_of(ticket.changed_seq) <= before
            };
            let waiting: Vec<Ticket> =
                snapshot.tickets.values().map(AsRef::as_ref).filter(waited).cloned().collect();
            if waiting.is_empty() || waiting.len() > MAX_TRIED {
                continue;
            }
            self.report.compared += 1;
            if let Some(tickets) = legal_match(queue, &waiting, before) {
                let going_on = self.maker.unfinished_searches();
                self.fail(format!(
                    "5: {tickets:?} of queue {id} could play together and still wait; {going_on} searches go on"
                ));
            }
            self.check_free_seats(id, queue, &waiting);
        }
    }

    /// Whether the rules have changed since then, or the process is new.
    fn changed_lately(&self, since: Timestamp) -> bool {
        let recent = self.records().rev().take_while(|record| record.time > since);
        let changes = |event: &Event| matches!(event, Event::Configured { .. } | Event::Reconfigured { .. });
        recent.into_iter().any(|record| changes(&record.event))
    }

    /// No ticket that fits waits while seats are free.
    fn check_free_seats(&mut self, id: &QueueId, queue: &Queue, waiting: &[Ticket]) {
        if queue.backfill == Backfill::Off {
            return;
        }
        let before = Timestamp::from_millis(self.now.saturating_sub(A_TICK));
        let offers = self.maker.snapshot().offers.into_iter().map(|(_, offered)| offered);
        let open = offers.filter(|offered| {
            offered.offer.queue == *id && offered.free > 0 && self.time_of(offered.place) <= before
        });
        for offered in open.collect::<Vec<_>>() {
            let fits = waiting.iter().find(|ticket| {
                let inside = |player: &PlayerId| offered.offer.players.contains(player);
                ticket.spec.size() <= offered.free as usize
                    && !ticket.spec.players().any(|player| inside(&player.id))
                    && queue.rules.iter().all(|rule| seats_suit(rule, ticket, &offered.offer, before))
            });
            // Seats that were taken and came back are offered again, so what is free now was free then.
            if let Some(ticket) = fits.map(|ticket| ticket.id.clone())
                && offered.seating.is_empty()
            {
                self.fail(format!("5: {ticket} waits while {} has free seats", offered.offer.match_id));
            }
        }
    }

    fn records(&self) -> impl DoubleEndedIterator<Item = &Record<Event>> {
        self.log.iter().chain(&self.step.records)
    }

    fn time_of(&self, seq: u64) -> Timestamp {
        let at = usize::try_from(seq).unwrap_or(usize::MAX).wrapping_sub(1);
        let durable = self.log.get(at);
        let record = durable.or_else(|| self.step.records.get(at.wrapping_sub(self.log.len())));
        record.map_or(Timestamp::ZERO, |record| record.time)
    }

    /// Invariants of each decision, checked right after it.
    pub(super) fn check_event(&mut self, record: &Record<Event>) {
        match &record.event {
            Event::TicketStarted { id, spec, .. } => {
                self.report.tickets += 1;
                if let Some(old) = &spec.replaces {
                    self.check_replaced(id, old);
                }
            }
            Event::MatchProposed { id, queue, teams, region, .. } => {
                self.check_match(record, id, queue, teams, region.as_ref());
            }
            Event::MatchFormed { id, queue, teams, region, spec } => {
                if self.is_new(record.seq, id) {
                    self.check_match(record, id, queue, teams, region.as_ref());
                }
                self.check_accepted(record.seq, id, &spec.players);
            }
            Event::SeatsTaken { match_id, .. } => self.check_seats(record.seq, match_id),
            Event::MatchReady { tickets, .. } => self.check_elsewhere(tickets),
            Event::TicketSeated { ticket, .. } => self.check_elsewhere(std::slice::from_ref(ticket)),
            Event::TicketCancelled { cause: CancelCause::MatchedElsewhere, .. } => {
                self.report.elsewhere += 1;
            }
            Event::TicketCancelled { ticket, cause: CancelCause::Abandoned } => {
                self.check_abandoned(record.time, &ticket.ticket);
            }
            _ => {}
        }
    }

    /// No ticket is cancelled that was renewed lately.
    fn check_abandoned(&mut self, at: Timestamp, id: &TicketId) {
        self.report.abandoned += 1;
        let over = self.maker.ticket(id).cloned();
        if over.and_then(|ticket| self.lives_until(&ticket)).is_none_or(|until| at < until) {
            self.fail(format!("2: ticket {id} was cancelled although it was renewed in time"));
        }
    }

    /// According to the log: when a ticket expires if it is not renewed; `None` if it does not have to be.
    fn lives_until(&self, ticket: &Ticket) -> Option<Timestamp> {
        let ttl = ticket.asked_for().ttl?;
        let shows_life = |event: &Event| match event {
            Event::TicketStarted { id, .. } | Event::TicketRenewed { id } => *id == ticket.id,
            Event::MatchAccepted { player, .. } => ticket.spec.players().any(|of| of.id == *player),
            _ => false,
        };
        let heard = self.records().rev().find(|record| shows_life(&record.event));
        let heard = heard.map_or(ticket.started_at, |record| record.time);
        Some(heard.max(self.restarted_at) + ttl)
    }

    /// Since an offer was made, no more seats were promised than it had.
    fn check_seats(&mut self, until: u64, id: &MatchId) {
        let (mut free, mut taken): (i64, BTreeMap<TicketId, i64>) = (0, BTreeMap::new());
        for record in self.records().take_while(|record| record.seq <= until) {
            match &record.event {
                Event::SeatsOffered { offer } if offer.match_id == *id => {
                    free = (i64::from(offer.seats) - taken.values().sum::<i64>()).max(0);
                }
                Event::SeatsWithdrawn { match_id } if match_id == id => free = 0,
                Event::SeatsTaken { match_id, ticket, .. } if match_id == id => {
                    free -= ticket.players.len() as i64;
                    taken.insert(ticket.ticket.clone(), ticket.players.len() as i64);
                }
                Event::TicketSeated { ticket, .. }
                | Event::TicketReturned { ticket, .. }
                | Event::TicketCancelled { ticket, .. } => drop(taken.remove(&ticket.ticket)),
                _ => {}
            }
        }
        if free < 0 {
            self.fail(format!("4: match {id} has promised {} seats twice", -free));
        }
    }

    fn is_new(&self, seq: u64, id: &MatchId) -> bool {
        let mut before = self.records().take_while(|record| record.seq < seq);
        !before.any(|record| matches!(&record.event, Event::MatchProposed { id: of, .. } if of == id))
    }

    /// A match is allowed by its queue, and no ticket was passed by.
    fn check_match(
        &mut self,
        record: &Record<Event>,
        id: &MatchId,
        queue: &QueueId,
        teams: &[Vec<Named>],
        region: Option<&RegionId>,
    ) {
        let Some(settings) = self.maker.settings().queues.get(queue).cloned() else { return };
        let sizes: Vec<usize> =
            teams.iter().map(|team| team.iter().map(|named| named.players.len()).sum()).collect();
        let allowed = settings.min_players_per_team as usize..=settings.players_per_team as usize;
        if sizes.len() != settings.teams as usize || sizes.iter().any(|size| !allowed.contains(size)) {
            self.fail(format!("5: match {id} has teams of {sizes:?} players"));
        }
        if settings.former().is_some() {
            return;
        }
        let known = |named: &Named| self.maker.ticket(&named.ticket).cloned();
        let tickets: Vec<Vec<Ticket>> =
            teams.iter().map(|team| team.iter().filter_map(known).collect()).collect();
        let tickets: Vec<Vec<&Ticket>> = tickets.iter().map(|team| team.iter().collect()).collect();
        let all: Vec<&Ticket> = tickets.iter().flatten().copied().collect();
        let rules = || format!("by {:?}: {all:?}", settings.rules);
        if !go_together(&settings, &all, record.time) {
            self.fail(format!("5: the tickets of match {id} do not go together {}", rules()));
        }
        if !all_bear(&settings, &all, region, record.time) {
            self.fail(format!("5: not all can bear {region:?}, where match {id} is played, {}", rules()));
        }
        if !even(&settings, &tickets, record.time) {
            self.fail(format!("5: the teams of match {id} are not balanced {}", rules()));
        }
        let at_expiry = settings.expiration_action == ExpirationAction::Minimum
            && all.iter().any(|ticket| ticket.waits_since + settings.ticket_expiration <= record.time);
        if at_expiry {
            // Any waiting tickets are allowed.
            return;
        }
        let size = sizes.iter().copied().max().unwrap_or_default() as u32;
        let asked_for = all.iter().any(|ticket| wanted(&settings, ticket, record.time + ROUNDED) <= size);
        if sizes.iter().any(|other| *other as u32 != size) || !asked_for {
            self.fail(format!("5: nobody asked for the teams of {sizes:?} players of match {id}"));
        }
        self.check_passed_by(record, &settings, queue, &all, size);
    }

    /// No ticket was passed by. After a match was formed, no ticket outside of it may still wait that is older than one
    /// of its members and could have taken that member's place for longer than a tick.
    ///
    /// It could have if it is as large; if, with the demands of a tick ago, it and all other members go together both
    /// ways, share a region, ask for teams of that size, and can be put into balanced teams; if no `preferred` rule of
    /// another member prefers the younger; and if a search that found the member finds it as well. A search covers one
    /// pool at a time, so it does if the ticket is in every pool in which the member is ([`can_stand_in`]). Without
    /// `preferred` rules it also does if the ticket is older than all members, because if several pools have a match,
    /// the one with the oldest ticket is taken.
    ///
    /// Not checked: matches that hooks formed, those formed because a ticket expired, and those of the first tick after
    /// a change of rules.
    fn check_passed_by(
        &mut self,
        record: &Record<Event>,
        settings: &Queue,
        queue: &QueueId,
        members: &[&Ticket],
        size: u32,
    ) {
        let before = Timestamp::from_millis(self.now.saturating_sub(A_TICK));
        if self.changed_lately(before) {
            return;
        }
        let prefers = settings
            .rules
            .iter()
            .any(|rule| matches!(&rule.kind, RuleKind::Expression { need, .. } if *need == Need::Preferred));
        let oldest = members.iter().map(|ticket| ticket.place).min().unwrap_or_default();
        let passed_by = |ticket: &Ticket, member: &Ticket| {
            let others: Vec<&Ticket> =
                members.iter().copied().filter(|other| other.id != member.id).collect();
            let instead: Vec<&Ticket> = others.iter().copied().chain([ticket]).collect();
            let as_liked = |other: &&Ticket| {
                misses(settings, other, ticket, record.time) <= misses(settings, other, member, record.time)
            };
            let is_found = can_stand_in(settings, ticket, member, before, record.time)
                || (!prefers && ticket.place < oldest);
            ticket.place < member.place
                && ticket.spec.size() == member.spec.size()
                && is_found
                && (!prefers || others.iter().all(as_liked))
                && instead.iter().any(|one| wanted(settings, one, before) <= size)
                && go_together(settings, &instead, before)
                && fill(settings, &instead, size, before)
        };
        let snapshot = self.maker.snapshot();
        let waited = snapshot.tickets.values().map(AsRef::as_ref).filter(|ticket| {
            ticket.state == TicketState::Waiting
                && ticket.queue == *queue
                && self.time_of(ticket.changed_seq) <= before
        });
        let mut pairs = waited.flat_map(|ticket| members.iter().map(move |member| (ticket, *member)));
        if let Some((ticket, member)) = pairs.find(|(ticket, member)| passed_by(ticket, member)) {
            let (id, other, at) = (&ticket.id, &member.id, record.time.as_millis());
            self.fail(format!("5: {id} was passed by for {other} at {at}"));
        }
    }

    /// A match that has to be accepted is only formed when all players have accepted it.
    fn check_accepted(&mut self, seq: u64, id: &MatchId, players: &[PlayerId]) {
        let (mut asked, mut accepted) = (false, BTreeSet::new());
        for record in self.records().take_while(|record| record.seq <= seq) {
            match &record.event {
                Event::MatchProposed { id: of, accept_until: Some(_), .. } if of == id => asked = true,
                Event::MatchAccepted { id: of, player } if of == id => {
                    accepted.insert(player.clone());
                }
                _ => {}
            }
        }
        if asked && players.iter().any(|player| !accepted.contains(player)) {
            self.fail(format!("5: match {id} is formed, and not all of its players have accepted it"));
        }
    }

    /// After a crash: the log holds what was acknowledged, and every way to replay it gives the same state.
    pub(super) fn check_replay(&mut self) {
        let mut replayed = Matchmaker::new();
        self.log.iter().for_each(|record| replayed.apply(record));
        let state = replayed.snapshot();
        if state != self.maker.snapshot() {
            self.fail("6: snapshot and replay differ from replay alone".into());
        }
        let restored = Matchmaker::restore(state.clone());
        if restored.snapshot() != state {
            self.fail("6: a snapshot does not survive being restored".into());
        }
        if replayed.next_deadline() != restored.next_deadline() {
            self.fail("6: deadlines differ after a restore".into());
        }
        if replayed.outstanding() != restored.outstanding() {
            self.fail("6: effects differ after a restore".into());
        }
        self.check_acknowledged();
    }

    fn check_acknowledged(&mut self) {
        let (mut started, mut cancelled) = (BTreeSet::new(), BTreeSet::new());
        for record in &self.log {
            match &record.event {
                Event::TicketStarted { id, .. } => drop(started.insert(id.clone())),
                Event::TicketCancelled { ticket, .. } => drop(cancelled.insert(ticket.ticket.clone())),
                _ => {}
            }
        }
        let lost = [
            ("ticket", self.started.difference(&started).next().cloned()),
            ("end of ticket", self.cancelled.difference(&cancelled).next().cloned()),
        ];
        for (what, id) in lost {
            if let Some(id) = id {
                self.fail(format!("6: {what} {id} was acknowledged and is not in the log"));
            }
        }
    }

    /// When everything has come to rest.
    pub(super) fn check_end(&mut self) {
        if self.problem.is_some() {
            return;
        }
        let mut replayed = Matchmaker::new();
        self.log.iter().for_each(|record| replayed.apply(record));
        if replayed.snapshot() != self.maker.snapshot() {
            self.fail("6: the state is not what the log says".into());
        }
        self.check_acknowledged();
        self.check_heard();
        let snapshot = self.maker.snapshot();
        if let Some(ticket) = snapshot.tickets.values().next() {
            self.fail(format!("2: ticket {} is {} forever", ticket.id, ticket.status().name()));
        }
        if let Some(formation) = snapshot.formations.values().next() {
            self.fail(format!("2: match {} is being made forever", formation.id));
        }
        if let Some(id) = snapshot.withdrawing.iter().next() {
            self.fail(format!("2: match {id} is being withdrawn forever"));
        }
        let completed: BTreeSet<&MatchId> = self.completed().collect();
        let unwanted = self.outside.first_unwanted(|id| completed.contains(id)).cloned();
        if let Some(id) = unwanted {
            self.fail(format!("5: match {id} has a server, and its players play elsewhere"));
        }
    }

    fn completed(&self) -> impl Iterator<Item = &MatchId> {
        self.log.iter().filter_map(|record| match &record.event {
            Event::MatchReady { id, .. } => Some(id),
            _ => None,
        })
    }

    /// What players hear about each ticket, in log order: waiting and finding a server alternately, then one end, then
    /// nothing.
    fn check_heard(&mut self) {
        let mut heard: BTreeMap<TicketId, Vec<Status>> = BTreeMap::new();
        for record in &self.log {
            let mut players = Vec::new();
            for notice in record.event.notices(&mut players) {
                heard.entry(notice.ticket.clone()).or_default().push(notice.status);
            }
        }
        for (id, statuses) in heard {
            let begun = statuses.first() == Some(&Status::InProgress);
            let turns = statuses.windows(2).all(|pair| match pair {
                [one, next] => one != next && !one.is_last(),
                _ => true,
            });
            if !begun || !turns || !statuses.last().is_some_and(|last| last.is_last()) {
                self.fail(format!("7: the players of ticket {id} heard {statuses:?}"));
            }
        }
    }
}

pub(super) fn expires_at(maker: &Matchmaker, ticket: &Ticket) -> Option<Timestamp> {
    Some(ticket.waits_since + maker.settings().queues.get(&ticket.queue)?.ticket_expiration)
}

/// Whether seats certainly meet a ticket's rule; unknown for required expressions.
fn seats_suit(rule: &Rule, ticket: &Ticket, offer: &SeatOffer, now: Timestamp) -> bool {
    let Some(most) = rule.allows(now.since(ticket.waits_since)) else { return true };
    match &rule.kind {
        // All offers of the simulation are of one map.
        RuleKind::Equal { .. } => {
            offer.properties.text().is_none() || ticket.spec.properties.text() == offer.properties.text()
        }
        RuleKind::Distance { property, measure, missing, .. } => {
            let own = number_of(&ticket.spec, property, *measure, *missing);
            offer.ratings.get(property).is_none_or(|theirs| (theirs - own).abs() <= most)
        }
        RuleKind::NotBlocked => {
            let mut blocked = ticket.spec.players().flat_map(|player| &player.blocked);
            !blocked.any(|player| offer.players.contains(player))
        }
        RuleKind::Latency { .. } => offer.region.is_none(),
        RuleKind::Expression { need, .. } => *need == Need::Preferred,
        RuleKind::Balance { .. } => true,
    }
}
