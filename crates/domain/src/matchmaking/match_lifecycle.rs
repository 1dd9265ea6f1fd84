//! The lifecycle of a match: its tickets are chosen, accepted, checked, formed; then its players can connect, or it is
//! dissolved.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::{self, Vec};
use core::iter::Enumerate;

use super::command::{FormedMatch, MatchVerdict, Refusal, Reply};
use super::forming::{Chosen, WORK_PER_TICK};
use super::model::{CancelCause, Check, DissolveCause, FailCause, Formation, Named, Stage, TicketState};
use super::rounds::{Ended, Ignored, IgnoredCause};
use super::settings::{OnFailure, Queue};
use super::ticket_lifecycle::reason_of_loss;
use super::{BrokenRule, Event, Turn, hooks};
use crate::connection::Connection;
use crate::ids::{HookId, MatchId, PlayerId, QueueId, RegionId, TicketId};
use crate::match_spec::{MAX_PLAYERS, MatchSpec};
use crate::size::Size;

/// Maximum number of matches that one answer of a hook may form.
pub const MAX_FORMED: usize = 1_000;
/// Maximum number of tickets that one answer of a hook may name, so that taking it is one short step.
pub const MAX_FORMED_TICKETS: usize = 1_000;

/// The cost of looking at a match of an answer, in comparisons of two numbers.
const NAMED_COST: u64 = 100;

/// The unprocessed rest of an answer of a hook that forms matches.
pub(crate) struct HookAnswer {
    /// The last place of its round.
    last: u64,
    /// The hook, and the place behind which its round began.
    hook: HookId,
    after: u64,
    /// By their numbers in the answer; invalid ones with what is wrong with them.
    matches: Enumerate<vec::IntoIter<Result<FormedMatch, String>>>,
    /// The number of tickets named by earlier matches.
    named: usize,
    /// The number of earlier matches that were taken.
    taken: usize,
    /// It named more tickets than an answer may.
    too_much: bool,
}

/// A match on its way through the hooks.
pub(super) struct Draft {
    pub(super) id: MatchId,
    pub(super) queue: QueueId,
    pub(super) teams: Arc<[Vec<Named>]>,
    pub(super) region: Option<RegionId>,
    pub(super) spec: MatchSpec,
    /// No event about it exists yet.
    pub(super) is_new: bool,
}

impl Draft {
    fn of(formation: &Formation) -> Self {
        Self {
            id: formation.id.clone(),
            queue: formation.queue.clone(),
            teams: Arc::clone(&formation.teams),
            region: formation.region.clone(),
            spec: MatchSpec::clone(&formation.spec),
            is_new: false,
        }
    }
}

impl Turn<'_> {
    pub(super) fn accept(&mut self, id: &MatchId, player: PlayerId) -> Result<Reply, Refusal> {
        let formation = self.asked_to_accept(id, &player)?;
        let Stage::Accepting { accepted, .. } = &formation.stage else {
            return Err(Refusal::NothingToAccept(id.clone()));
        };
        if !accepted.contains(&player) {
            self.emit(Event::MatchAccepted { id: id.clone(), player });
        }
        if let Some(formation) = self.state().formations.get(id)
            && let Stage::Accepting { accepted, .. } = &formation.stage
            && (formation.tickets().flat_map(|named| &named.players).all(|player| accepted.contains(player))
                || self.broken(BrokenRule::AcceptForAll))
        {
            let draft = Draft::of(formation);
            self.check_match(draft, None);
        }
        Ok(Reply::Formation(self.state().formations.get(id).map(|formation| Formation::clone(formation))))
    }

    pub(super) fn decline(&mut self, id: &MatchId, player: &PlayerId) -> Result<Reply, Refusal> {
        let formation = self.asked_to_accept(id, player)?;
        let declines = formation.tickets().find(|named| named.players.contains(player));
        if let Some(ticket) = declines.map(|named| named.ticket.clone()) {
            self.cancelled(&ticket, CancelCause::Declined);
        }
        self.dissolve(id, DissolveCause::NotAccepted);
        Ok(Reply::Formation(None))
    }

    fn asked_to_accept(&self, id: &MatchId, player: &PlayerId) -> Result<&Formation, Refusal> {
        let formation = self.state().formations.get(id).ok_or_else(|| Refusal::MatchNotFound(id.clone()))?;
        let until = match &formation.stage {
            Stage::Accepting { until, .. } => *until,
            Stage::Checking(_) | Stage::FindingServer { .. } => {
                return Err(Refusal::NothingToAccept(id.clone()));
            }
        };
        if until <= self.now {
            return Err(Refusal::NothingToAccept(id.clone()));
        }
        if formation.team_of(player).is_none() {
            return Err(Refusal::NotInMatch(player.clone()));
        }
        Ok(formation)
    }

    /// The time to accept is over: players who have not accepted leave.
    pub(super) fn not_accepted(&mut self, id: &MatchId) {
        let Some(formation) = self.state().formations.get(id) else { return };
        let Stage::Accepting { accepted, .. } = &formation.stage else { return };
        let silent =
            formation.tickets().filter(|named| named.players.iter().any(|player| !accepted.contains(player)));
        let silent: Vec<TicketId> = silent.map(|named| named.ticket.clone()).collect();
        for ticket in silent {
            self.cancelled(&ticket, CancelCause::NotAccepted);
        }
        self.dissolve(id, DissolveCause::NotAccepted);
    }

    /// Takes a match through the hooks behind `after`, and to the broker behind the last.
    pub(super) fn check_match(&mut self, draft: Draft, after: Option<&HookId>) {
        let Draft { id, queue, teams, region, mut spec, is_new } = draft;
        if !is_new && spec.byte_size() > hooks::MAX_DOCUMENT_BYTES {
            // It was made before there was a limit.
            return self.refuse_match(&id, "the match exceeds the maximum size", after);
        }
        let check = hooks::check_match(self.state(), &queue, &teams, &mut spec, after, self.now);
        let host = hooks::host_address(self.state(), &queue, &spec);
        let spec = Arc::new(spec);
        match check {
            Some(check) if is_new => {
                let check = Some(check);
                self.emit(Event::MatchProposed { id, queue, teams, region, spec, accept_until: None, check });
            }
            Some(check) => self.emit(Event::MatchChecked { id, spec, check }),
            None => {
                self.emit(Event::MatchFormed { id: id.clone(), queue, teams, region, spec });
                match host {
                    Ok(None) => {}
                    Ok(Some(connection)) => {
                        self.maker.beside.ready.insert(id.clone(), Arc::new(connection));
                        self.tell_ready(&id, self.work.saturating_add(self.maker.cancels()));
                    }
                    Err(problem) => self.refuse_match(&id, &problem, None),
                }
            }
        }
    }

    pub(super) fn match_checked(&mut self, id: &MatchId, hook: &HookId, verdict: MatchVerdict) -> Reply {
        let Some(formation) = self.state().formations.get(id) else { return Reply::Done };
        let asked = matches!(&formation.stage, Stage::Checking(Check { hook: of, .. }) if of == hook);
        if !asked {
            return Reply::Done;
        }
        let verdict = match verdict {
            MatchVerdict::Failed => match hooks::on_failure(self.state(), &formation.queue, hook) {
                OnFailure::Accept => {
                    MatchVerdict::Accept { properties: None, player_properties: Default::default() }
                }
                OnFailure::Refuse => MatchVerdict::Refuse { reason: format!("hook {hook} did not answer") },
            },
            verdict => verdict,
        };
        match verdict {
            MatchVerdict::Accept { properties, player_properties } => {
                let mut draft = Draft::of(formation);
                draft.spec.properties = properties.unwrap_or(draft.spec.properties);
                let players: BTreeSet<&PlayerId> = formation.spec.players.iter().collect();
                let of_players = player_properties.into_iter().filter(|(player, _)| players.contains(player));
                draft.spec.player_properties.extend(of_players);
                let (before, after) = (formation.spec.byte_size(), draft.spec.byte_size());
                if after > hooks::MAX_DOCUMENT_BYTES || self.check_room(after.saturating_sub(before)).is_err()
                {
                    return self.match_checked(id, hook, MatchVerdict::Failed);
                }
                self.check_match(draft, Some(hook));
            }
            MatchVerdict::Refuse { reason } => self.refuse_match(id, &reason, Some(hook)),
            MatchVerdict::Failed => {}
        }
        Reply::Done
    }

    /// The tickets of a refused match fail: back in the queue, they would make the same match again.
    fn refuse_match(&mut self, id: &MatchId, reason: &str, hook: Option<&HookId>) {
        for ticket in self.tickets_of(id) {
            self.failed(&ticket, FailCause::Refused, reason, hook);
        }
        self.dissolve(id, DissolveCause::Refused);
    }

    fn tickets_of(&self, id: &MatchId) -> Vec<TicketId> {
        let formation = self.state().formations.get(id);
        formation
            .into_iter()
            .flat_map(|formation| formation.tickets())
            .map(|named| named.ticket.clone())
            .collect()
    }

    /// Dissolves a match; its tickets that are not over return to their places.
    pub(super) fn dissolve(&mut self, id: &MatchId, cause: DissolveCause) {
        self.dissolve_for(id, cause, Arc::default());
    }

    fn dissolve_for(&mut self, id: &MatchId, cause: DissolveCause, reason: Arc<str>) {
        let Some(formation) = self.state().formations.get(id) else { return };
        let heard = matches!(formation.stage, Stage::FindingServer { .. });
        let withdraw = heard && !matches!(cause, DissolveCause::NoServer | DissolveCause::Ended);
        let left = formation.tickets().filter(|named| self.state().ticket(&named.ticket).is_some());
        let lost = usize::from(self.broken(BrokenRule::LoseReturned));
        let returned = left.skip(lost).cloned().collect();
        let withdraw = withdraw && !self.broken(BrokenRule::ForgetWithdrawal);
        self.emit(Event::MatchDissolved { id: id.clone(), cause, returned, heard, withdraw, reason });
    }

    pub(super) fn submitted(&mut self, id: MatchId) -> Reply {
        let formation = self.state().formations.get(&id);
        if formation.is_some_and(|formation| formation.stage == Stage::FindingServer { submitted: false }) {
            if self.broken(BrokenRule::ChangeWithoutEvent) {
                self.maker.state.withdrawing.insert(id.clone());
            }
            self.emit(Event::MatchSubmitted { id });
        }
        Reply::Done
    }

    pub(super) fn withdrawn(&mut self, id: MatchId) -> Reply {
        if self.state().withdrawing.contains(&id) {
            self.emit(Event::MatchWithdrawn { id });
        }
        Reply::Done
    }

    /// No server was found for a match, or the server was lost: its tickets return; those that returned too often fail.
    pub(super) fn no_server(&mut self, id: &MatchId, why: DissolveCause, reason: &str) -> Reply {
        let Some(formation) = self.state().formations.get(id) else { return Reply::Done };
        if !matches!(formation.stage, Stage::FindingServer { .. }) {
            return Reply::Done;
        }
        let most = self.state().queue(&formation.queue).map_or(0, |queue| queue.max_requeues);
        let cause = if why == DissolveCause::Ended { FailCause::MatchFailed } else { FailCause::NoServer };
        for ticket in self.tickets_of(id) {
            if self.state().ticket(&ticket).is_some_and(|ticket| ticket.requeues >= most) {
                self.failed(&ticket, cause, reason, None);
            }
        }
        self.dissolve_for(id, why, reason_of_loss(reason));
        Reply::Done
    }

    pub(super) fn match_ready(&mut self, id: &MatchId, connection: Arc<Connection>) -> Reply {
        let Some(formation) = self.state().formations.get(id) else { return Reply::Done };
        if matches!(formation.stage, Stage::FindingServer { .. }) {
            self.maker.beside.ready.insert(id.clone(), connection);
            self.tell_ready(id, self.maker.cancels());
        }
        Reply::Done
    }

    pub(super) fn match_ended(&mut self, id: &MatchId, reason: &str) -> Reply {
        self.withdraw_seats(id.clone());
        self.no_server(id, DissolveCause::Ended, reason)
    }

    /// Takes the matches that a hook has formed, each one on its own. A long answer is processed in parts, the rest by
    /// the ticks that follow. If the process ends in between, the round is still open and the hook is asked again.
    pub(super) fn matches_formed(
        &mut self,
        queue: &QueueId,
        round: u64,
        matches: Option<Vec<Result<FormedMatch, String>>>,
    ) -> Reply {
        let Some(known) = self.state().rounds.get(queue) else { return Reply::Done };
        let Some(check) = known.check.clone().filter(|_| known.number == round) else { return Reply::Done };
        if self.maker.beside.answers.contains_key(queue) {
            // It came twice.
            return Reply::Done;
        }
        let from = known.after;
        // A hook that the queue no longer has is ignored.
        let former = self.state().queue(queue).and_then(Queue::former);
        let matches = matches.filter(|_| former.is_some_and(|former| former.id == check.hook));
        let last = self.round_end(queue, from);
        let Some(mut matches) = matches else {
            if hooks::on_failure(self.state(), queue, &check.hook) == OnFailure::Accept {
                self.form_by_rules(queue, from, last);
            }
            self.end_round(queue, from, last, Ended::Failed);
            return Reply::Formed { taken: 0, ignored: Vec::new(), left: 0 };
        };
        matches.truncate(MAX_FORMED);
        let answer = HookAnswer {
            last,
            hook: check.hook,
            after: from,
            matches: matches.into_iter().enumerate(),
            named: 0,
            taken: 0,
            too_much: false,
        };
        self.maker.beside.answers.insert(queue.clone(), answer);
        let (mut taken, mut ignored) = (0, Vec::new());
        self.take_answer(queue, WORK_PER_TICK, |outcome| match outcome {
            Ok(()) => taken += 1,
            Err(why) => ignored.push(why),
        });
        let left = self.maker.beside.answers.get(queue).map_or(0, |answer| answer.matches.len());
        Reply::Formed { taken, ignored, left }
    }

    /// Continues with the answer of a queue's hook that is not fully processed.
    pub(super) fn go_on_with_answer(&mut self, queue: &QueueId, most: u64) {
        let round = self.state().rounds.get(queue).and_then(|round| round.check.as_ref());
        let former = self.state().queue(queue).and_then(Queue::former);
        if round.zip(former).is_some_and(|(check, former)| check.hook == former.id) {
            self.take_answer(queue, most, |_| {});
        } else {
            self.break_off_answer(queue);
        }
    }

    /// Takes the matches of an answer, up to the limits and while there is room; ends the round behind the last.
    fn take_answer(&mut self, queue: &QueueId, most: u64, mut note: impl FnMut(Result<(), (usize, String)>)) {
        let Some(mut answer) = self.maker.beside.answers.remove(queue) else { return };
        while answer.matches.len() > 0 {
            if !self.has_room(most) {
                self.maker.beside.answers.insert(queue.clone(), answer);
                return;
            }
            let Some((at, formed)) = answer.matches.next() else { break };
            self.work += NAMED_COST;
            let formed = match formed {
                Ok(formed) => formed,
                Err(problem) => {
                    let ignored = Ignored::new(IgnoredCause::Malformed, problem);
                    self.note_fault(queue, &answer.hook, at, &ignored);
                    note(Err((at, ignored.problem)));
                    continue;
                }
            };
            answer.named += formed.teams.iter().map(Vec::len).sum::<usize>();
            if answer.named > MAX_FORMED_TICKETS {
                let problem = format!(
                    "this match and those after it: an answer may name at most {MAX_FORMED_TICKETS} tickets"
                );
                let ignored = Ignored::new(IgnoredCause::TooMany, problem);
                self.note_fault(queue, &answer.hook, at, &ignored);
                note(Err((at, ignored.problem)));
                answer.too_much = true;
                break;
            }
            let outcome = self.take_formed(queue, &formed);
            answer.taken += usize::from(outcome.is_ok());
            if let Err(ignored) = &outcome {
                self.note_fault(queue, &answer.hook, at, ignored);
            }
            note(outcome.map_err(|ignored| (at, ignored.problem)));
        }
        let how = if answer.too_much && answer.taken > 0 { Ended::InPart } else { Ended::Answered };
        self.end_round(queue, answer.after, answer.last, how);
    }

    /// A round times out while its hook's answer is being processed: the rest is asked about again.
    pub(super) fn break_off_answer(&mut self, queue: &QueueId) {
        if let Some(answer) = self.maker.beside.answers.remove(queue) {
            self.end_round(queue, answer.after, answer.last, Ended::InPart);
        }
    }

    fn form_by_rules(&mut self, queue: &QueueId, from: u64, last: u64) {
        let Some(line) = self.maker.state.index.lines.get(queue) else { return };
        for (place, _) in line.by_place.range(from + 1..).take_while(|(place, _)| **place <= last) {
            self.maker.beside.due.by_rules.insert(*place);
            self.maker.beside.due.note(queue, *place);
        }
    }

    fn take_formed(&mut self, queue: &QueueId, formed: &FormedMatch) -> Result<(), Ignored> {
        let Some(settings) = self.state().queue(queue) else {
            return Err(Ignored::new(IgnoredCause::NotWaiting, format!("queue {queue} no longer exists")));
        };
        let mut seen = BTreeSet::new();
        let (mut teams, mut tickets) = (Vec::new(), Vec::new());
        for team in &formed.teams {
            let mut named = Vec::new();
            for id in team {
                let ticket = self.state().ticket(id);
                let waits =
                    ticket.filter(|ticket| ticket.state == TicketState::Waiting && ticket.queue == *queue);
                let Some(ticket) = waits else {
                    let problem = format!("ticket {id} is not waiting in queue {queue}");
                    return Err(Ignored::new(IgnoredCause::NotWaiting, problem));
                };
                if !seen.insert(id) {
                    let problem = format!("ticket {id} is named twice");
                    return Err(Ignored::new(IgnoredCause::NamedTwice, problem));
                }
                if let Some(refusal) = self.too_large(ticket) {
                    return Err(Ignored::new(IgnoredCause::TooLarge, format!("ticket {id}: {refusal}")));
                }
                let (place, spec, since) = (ticket.place, Arc::clone(&ticket.spec), ticket.waits_since);
                tickets.push(Chosen { place, spec, since });
                named.push(Named { ticket: id.clone(), players: ticket.spec.player_ids() });
            }
            teams.push(named);
        }
        check_teams(settings, &teams).map_err(|problem| Ignored::new(IgnoredCause::Teams, problem))?;
        self.begin_match(queue.clone(), teams, &tickets, formed.region.clone());
        Ok(())
    }
}

/// External logic must keep to the queue's number and size of teams, which players rely on.
fn check_teams(queue: &Queue, teams: &[Vec<Named>]) -> Result<(), String> {
    let wanted = queue.teams.max(1) as usize;
    if teams.len() != wanted {
        return Err(format!("has {} teams, the queue has {wanted}", teams.len()));
    }
    let most = if queue.players_per_team == 0 { MAX_PLAYERS } else { queue.players_per_team as usize };
    let least = queue.min_players_per_team.max(1) as usize;
    for (at, team) in teams.iter().enumerate() {
        let size: usize = team.iter().map(|named| named.players.len()).sum();
        if size < least || size > most {
            return Err(format!("team {at} has {size} players, teams of the queue have {least} to {most}"));
        }
    }
    Ok(())
}
