//! The lifecycle of a ticket: started, validated, waiting; and its cancellation.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::ToString;
use alloc::sync::Arc;

use super::command::{Refusal, Reply, TicketVerdict};
use super::documents::Documents;
use super::forming::judged_too_much;
use super::keepalive::check_ttl;
use super::kept::bare;
use super::model::{
    CancelCause, Check, DissolveCause, FailCause, MAX_BLOCKED, MAX_RATING, MAX_RATINGS, MAX_REGIONS,
    MAX_TICKET_BYTES, Player, Ticket, TicketSpec, TicketState, new_ticket_bytes,
};
use super::order::KEY_LASTS;
use super::replacing::check_same_queue;
use super::rules::{Ruleset, judged_bytes};
use super::settings::{OnFailure, RuleKind, largest_ticket};
use super::{BrokenRule, Event, MAX_TICKETS, Turn, hooks};
use crate::ids::{HookId, PlayerId, QueueId, TicketId};
use crate::size::Size;
use crate::text::closest;

/// Maximum length of the explanation that is kept with a failed ticket, in bytes; the rest is cut off.
const MAX_DETAIL_BYTES: usize = 2_048;
/// Maximum length of the kept reason why a ticket's match was lost, in bytes; the rest is cut off.
const MAX_LOST_BYTES: usize = 256;

impl Turn<'_> {
    pub(super) fn start(&mut self, id: Option<TicketId>, spec: TicketSpec) -> Result<Reply, Refusal> {
        if let Some(known) = self.known(id.as_ref(), &spec)? {
            self.renewed(&known);
            return Ok(Reply::Started { ticket: known });
        }
        let old = self.old_ticket(&spec)?;
        if old.is_none() && self.state().tickets.len() >= MAX_TICKETS {
            return Err(Refusal::TooMany { what: "tickets that wait", limit: MAX_TICKETS });
        }
        check_spec(&spec)?;
        self.check_count(&spec)?;
        let mut queue = spec.queue.clone();
        if !self.state().settings.queues.contains_key(&queue) {
            return Err(self.no_queue(queue));
        }
        let check = hooks::validate(self.state(), &spec, &mut queue, None, self.now)?;
        self.check_in_queue(&spec, &queue, spec.replaces.as_ref())?;
        old.as_ref().map_or(Ok(()), |old| check_same_queue(old, &spec, &queue))?;
        self.check_fits(&queue, id.as_ref(), &spec)?;
        let id = id.unwrap_or_else(|| TicketId::draw(&mut self.draw));
        let freed = old.as_ref().map_or(0, Size::byte_size);
        self.check_room(new_ticket_bytes(&id, &queue, &spec).saturating_sub(freed))?;
        if !self.broken(BrokenRule::LoseTicket) {
            let place = old.and_then(|old| self.take_over(&old));
            self.emit(Event::TicketStarted { id: id.clone(), spec: Arc::new(spec), queue, check, place });
        }
        Ok(Reply::Started { ticket: id })
    }

    /// The ticket that was started before under this id or key with the same content.
    fn known(&self, id: Option<&TicketId>, spec: &TicketSpec) -> Result<Option<TicketId>, Refusal> {
        let state = self.state();
        let key = spec.idempotency_key.as_ref();
        let used = key.and_then(|key| state.keys.get(key));
        let known = key.and_then(|key| state.index.by_key.get(key)).and_then(|id| state.find(id));
        let by_key = match (known, used) {
            (_, Some(used)) if known.is_some() || used.used_at + KEY_LASTS > self.now => {
                Some((&used.ticket, used.content == spec.content()))
            }
            (Some(ticket), _) => Some((&ticket.id, is_same(ticket, spec))),
            (None, _) => None,
        };
        if let Some((ticket, same)) = by_key {
            return if same && id.is_none_or(|id| id == ticket) {
                Ok(Some(ticket.clone()))
            } else {
                Err(Refusal::KeyReused(ticket.clone()))
            };
        }
        match id.and_then(|id| state.find(id)) {
            Some(ticket) if is_same(ticket, spec) => Ok(Some(ticket.id.clone())),
            Some(ticket) => Err(Refusal::TicketExists(ticket.id.clone())),
            None => Ok(None),
        }
    }

    /// Whether this many more bytes may wait.
    pub(super) fn check_room(&self, bytes: usize) -> Result<(), Refusal> {
        let (state, limit) = (self.state(), self.state().settings.waiting_bytes);
        if bytes > 0 && state.index.waiting_bytes.saturating_add(bytes as u64) > limit {
            let limit = usize::try_from(limit).unwrap_or(usize::MAX);
            return Err(Refusal::TooMany { what: "bytes of tickets, matches and offers that wait", limit });
        }
        Ok(())
    }

    /// No queue of that name takes tickets.
    pub(super) fn no_queue(&self, queue: QueueId) -> Refusal {
        let names = self.state().settings.queues.keys().map(QueueId::as_str);
        let meant = closest(queue.as_str(), names).and_then(|name| QueueId::new(name).ok());
        Refusal::QueueNotFound { queue, meant }
    }

    /// Whether a queue could ever match such a ticket.
    fn check_fits(&self, id: &QueueId, ticket: Option<&TicketId>, spec: &TicketSpec) -> Result<(), Refusal> {
        let queue = self.state().settings.queues.get(id).ok_or_else(|| self.no_queue(id.clone()))?;
        let (size, most) = (spec.size(), largest_ticket(queue));
        if size > most {
            let problem = format!("has {size} players, and a team of queue {id} has at most {most}");
            return Err(Refusal::field("entity", problem));
        }
        let looks_at_latency = queue.rules.iter().any(|rule| matches!(rule.kind, RuleKind::Latency { .. }));
        if looks_at_latency && spec.worst_latencies().is_empty() {
            let problem = format!("queue {id} needs at least one region that all players have measured");
            return Err(Refusal::field("latencies", problem));
        }
        if let Some(refusal) = hooks::too_large(self.state(), (id, queue), ticket, spec) {
            return Err(refusal);
        }
        let rules = self.maker.beside.pools.rules(id);
        if let Some(refusal) = rules.and_then(|rules| judged_too_much(rules, id, judged_bytes(spec))) {
            return Err(refusal);
        }
        match rules.and_then(|rules| refused_for_ever(rules, id, spec, self.now)) {
            Some(rule) => Err(Refusal::RuleRefuses { queue: id.clone(), rule }),
            None => Ok(()),
        }
    }

    pub(super) fn cancel(&mut self, id: &TicketId) -> Result<Reply, Refusal> {
        let ticket = self.state().find(id).ok_or_else(|| Refusal::TicketNotFound(id.clone()))?;
        if let TicketState::Over { end, .. } = &ticket.state {
            return match end {
                super::model::TicketEnd::Cancelled(_) => Ok(Reply::Ticket(ticket.clone())),
                _ => Err(Refusal::TicketOver { ticket: id.clone(), status: ticket.status().name() }),
            };
        }
        self.call_off(id, CancelCause::Requested);
        let ticket = self.state().find(id).ok_or_else(|| Refusal::TicketNotFound(id.clone()))?;
        Ok(Reply::Ticket(ticket.clone()))
    }

    /// Dissolves the match that it is in.
    pub(super) fn call_off(&mut self, id: &TicketId, cause: CancelCause) {
        let from = match self.state().ticket(id).map(|ticket| &ticket.state) {
            Some(TicketState::Proposed { match_id, .. } | TicketState::FindingServer { match_id, .. }) => {
                Some(match_id.clone())
            }
            _ => None,
        };
        self.cancelled(id, cause);
        if let Some(match_id) = from {
            self.dissolve(&match_id, DissolveCause::Cancelled);
        }
    }

    pub(super) fn cancelled(&mut self, id: &TicketId, cause: CancelCause) {
        if let Some(ticket) = self.state().named(id) {
            self.emit(Event::TicketCancelled { ticket, cause });
        }
    }

    /// A ticket fails, because of the answer of `hook` if there is one.
    pub(super) fn failed(&mut self, id: &TicketId, cause: FailCause, detail: &str, hook: Option<&HookId>) {
        let detail = Arc::from(cut(detail, MAX_DETAIL_BYTES));
        let match_id = self.state().ticket(id).and_then(Ticket::match_id).cloned();
        if let Some(ticket) = self.state().named(id) {
            self.emit(Event::TicketFailed { ticket, cause, detail, hook: hook.cloned(), match_id });
        }
    }

    pub(super) fn ticket_validated(&mut self, id: &TicketId, hook: &HookId, verdict: TicketVerdict) -> Reply {
        let Some(ticket) = self.state().ticket(id) else { return Reply::Done };
        let asked = matches!(&ticket.state, TicketState::Validating(Check { hook: of, .. }) if of == hook);
        if !asked {
            // The hook had timed out, or the answer came twice.
            return Reply::Done;
        }
        let (mut spec, mut queue) = (Arc::clone(&ticket.spec), ticket.queue.clone());
        let verdict = match verdict {
            TicketVerdict::Failed => match hooks::on_failure(self.state(), &queue, hook) {
                OnFailure::Accept => TicketVerdict::ACCEPT,
                OnFailure::Refuse => TicketVerdict::Refuse { reason: format!("hook {hook} did not answer") },
            },
            verdict => verdict,
        };
        match verdict {
            TicketVerdict::Accept { queue: other, properties, ratings } => {
                if let Some(properties) = properties {
                    Arc::make_mut(&mut spec).properties = properties;
                }
                if !ratings.is_empty() {
                    rate(Arc::make_mut(&mut spec), ratings);
                }
                queue = other.unwrap_or(queue);
                self.go_on(id, hook, spec, queue);
            }
            TicketVerdict::Refuse { reason } => self.failed(id, FailCause::Refused, &reason, Some(hook)),
            TicketVerdict::Failed => {}
        }
        Reply::Done
    }

    /// Continues behind a hook that accepted the ticket.
    fn go_on(&mut self, id: &TicketId, hook: &HookId, spec: Arc<TicketSpec>, mut queue: QueueId) {
        let Some(ticket) = self.state().ticket(id) else { return };
        let (from, moves) = (ticket.queue.clone(), ticket.moves + u32::from(ticket.queue != queue));
        if moves > hooks::MAX_MOVES {
            let problem = format!(
                "hook {hook} sends the ticket from queue {from} to queue {queue}, and hooks have moved it {} times before: \
                 they send tickets in a circle",
                hooks::MAX_MOVES
            );
            return self.failed(id, FailCause::Refused, &problem, Some(hook));
        }
        let after = Some((hook, &from));
        let checked = hooks::validate(self.state(), &spec, &mut queue, after, self.now);
        // A queue that was removed in the meantime keeps its tickets.
        let kept = self.state().ticket(id).is_some_and(|ticket| ticket.queue == queue);
        let fits = || {
            if kept && self.state().closed.contains_key(&queue) {
                return Ok(());
            }
            check_spec(&spec)?;
            if !kept {
                self.check_in_queue(&spec, &queue, Some(id))?;
            }
            let before = self.state().ticket(id).map_or(0, |ticket| ticket.spec.byte_size());
            self.check_room(spec.byte_size().saturating_sub(before))?;
            self.check_fits(&queue, Some(id), &spec)
        };
        // A built-in hook behind the one that answered has refused it, or that answer has made it invalid.
        let fits = match checked {
            Ok(check) => fits().map(|()| check).map_err(|refusal| (refusal, Some(hook))),
            Err(refusal) => Err((refusal, None)),
        };
        match fits {
            Ok(check) => self.emit(Event::TicketChecked { id: id.clone(), spec, queue, check, moves }),
            Err((refusal, by)) => self.failed(id, FailCause::Refused, &refusal.to_string(), by),
        }
    }
}

/// The reason why a match was lost, as it is kept with its tickets.
pub(super) fn reason_of_loss(reason: &str) -> Arc<str> {
    Arc::from(cut(reason, MAX_LOST_BYTES))
}

/// The beginning of a text, up to this many bytes.
fn cut(text: &str, most: usize) -> &str {
    text.get(..text.floor_char_boundary(most)).unwrap_or_default()
}

/// Whether this is the ticket's order; if its properties are forgotten, its players are compared.
fn is_same(ticket: &Ticket, spec: &TicketSpec) -> bool {
    ticket.asked_for().same_content(spec) || (ticket.is_over() && *ticket.asked_for() == bare(spec))
}

/// Sets the ratings of players; ratings of players who are not in the ticket are ignored.
fn rate(spec: &mut TicketSpec, mut ratings: BTreeMap<PlayerId, BTreeMap<Box<str>, f64>>) {
    for player in spec.parties.iter_mut().flat_map(|party| &mut party.players) {
        if let Some(own) = ratings.remove(&player.id) {
            player.ratings = own;
        }
    }
}

/// The rule about single tickets that will never let it be matched.
fn refused_for_ever(
    rules: &Ruleset,
    id: &QueueId,
    spec: &TicketSpec,
    now: crate::time::Timestamp,
) -> Option<alloc::string::String> {
    if !rules.judges_singles() {
        return None;
    }
    let ticket = Ticket {
        id: TicketId::new("new").ok()?,
        spec: Arc::new(spec.clone()),
        asked: None,
        queue: id.clone(),
        place: 0,
        started_at: now,
        waits_since: now,
        renewed_at: None,
        changed_seq: 0,
        requeues: 0,
        moves: 0,
        replaced: 0,
        lost: None,
        state: TicketState::Waiting,
    };
    let documents = Documents::default();
    let refusing = rules
        .refusing_rule(&rules.profile(&ticket, now, &documents), &documents)
        .filter(|rule| rule.relax_after.is_none());
    refusing.map(|rule| rule.name.to_string())
}

fn check_spec(spec: &TicketSpec) -> Result<(), Refusal> {
    let bytes = spec.byte_size();
    if bytes > MAX_TICKET_BYTES {
        let problem = format!("the ticket has {bytes} bytes, at most {MAX_TICKET_BYTES} are allowed");
        return Err(Refusal::TooLarge(problem));
    }
    let refuse = |problem: alloc::string::String| Err(Refusal::field("entity", problem));
    if spec.size() == 0 || spec.parties.iter().any(|party| party.players.is_empty()) {
        return refuse("contains a party without players".to_string());
    }
    let mut seen = BTreeSet::new();
    for player in spec.players() {
        if !seen.insert(&player.id) {
            return refuse(format!("names player {} twice", player.id));
        }
        check_player(player)?;
    }
    if spec.latencies.len() > MAX_REGIONS {
        return Err(Refusal::field("latencies", format!("must name at most {MAX_REGIONS} regions")));
    }
    check_ttl(spec)?;
    match &spec.leader {
        Some(leader) if !seen.contains(leader) => {
            Err(Refusal::field("leader", format!("{leader} must be one of the ticket's players")))
        }
        _ => Ok(()),
    }
}

fn check_player(player: &Player) -> Result<(), Refusal> {
    if player.latencies.len() > MAX_REGIONS {
        return Err(Refusal::field("latencies", format!("must name at most {MAX_REGIONS} regions")));
    }
    let bad = |rating: &f64| !rating.is_finite() || rating.abs() > MAX_RATING;
    if player.ratings.len() > MAX_RATINGS || player.ratings.values().any(bad) {
        let problem = format!("must be at most {MAX_RATINGS} numbers, each from -1e12 to 1e12");
        return Err(Refusal::field("ratings", problem));
    }
    if player.blocked.len() > MAX_BLOCKED {
        return Err(Refusal::field("blocked", format!("must name at most {MAX_BLOCKED} players")));
    }
    Ok(())
}
