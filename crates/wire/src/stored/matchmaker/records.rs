//! The tables of the matchmaker's records: which fields each has, and which alternatives each state.

use std::collections::BTreeMap;
use std::sync::Arc;

use sortie_domain::content::Digest;
use sortie_domain::ids::{IdempotencyKey, QueueId, TicketId};
use sortie_domain::matchmaking::Event;
use sortie_domain::matchmaking::model::{
    CancelCause, Check, DissolveCause, FailCause, Formation, LostMatch, Named, Offered, Party, Player,
    QueuePlace, Round, SeatOffer, Stage, Ticket, TicketEnd, TicketSpec, TicketState,
};
use sortie_domain::matchmaking::order::UsedKey;
use sortie_domain::matchmaking::settings::{
    About, Backfill, ExpirationAction, Hook, HookAddress, HookPoint, Measure, Need, OnFailure, OutsideHook,
    Queue, Rule, RuleKind, Settings, WidenStep,
};
use sortie_domain::time::Timestamp;

use super::form::{self, formation, hook, rule, stored_event, ticket, ticket_end};
use crate::stored::tables::{alternatives, causes, choices, records};
use crate::stored::{FieldProblem, Place, Stored, StoredError};

records! { form:
    Queue {
        teams, players_per_team, min_players_per_team, ticket_expiration, expiration_action, accept, backfill,
        seat_timeout, max_requeues, hooks, rules, properties
    }
    OutsideHook { id, about, timeout, on_failure, interval, address }
    HookAddress { url, concurrency, breaker_failures, breaker_pause, key_env }
    Rule { name, kind, widen, relax_after }
    WidenStep { after, value }
    Player { id, ratings, latencies, blocked, properties }
    Party { id, players }
    TicketSpec { queue, parties, leader, properties, latencies, idempotency_key, ttl, replaces }
    QueuePlace { number, started_at, waits_since, requeues, replaced, lost }
    Check { hook, until }
    Ticket {
        id, spec, queue, place, started_at, waits_since, changed_seq, requeues, state, asked, moves, renewed_at, lost,
        replaced
    }
    LostMatch { match_id, reason }
    Named { ticket, players }
    Formation { id, queue, teams, region, spec, stage }
    SeatOffer { match_id, queue, seats, region, properties, ratings, players }
    Offered { offer, place, seating, free }
}

alternatives! {
    Event = stored_event::Event of form, "" {
        Configured { settings }
        Reconfigured { settings }
        TicketStarted { id, spec, queue, check, place }
        TicketChecked { id, spec, queue, check, moves }
        TicketCancelled { ticket, cause }
        TicketRenewed { id }
        TicketFailed { ticket, cause, detail, hook, match_id }
        TicketTimedOut { ticket }
        MatchProposed { id, queue, teams, region, spec, accept_until, check }
        MatchAccepted { id, player }
        MatchChecked { id, spec, check }
        MatchFormed { id, queue, teams, region, spec }
        MatchSubmitted { id }
        MatchDissolved { id, cause, returned, heard, withdraw, reason }
        MatchWithdrawn { id }
        MatchReady { id, tickets, connection }
        SeatsOffered { offer }
        SeatsWithdrawn { match_id }
        SeatsTaken { match_id, ticket, until }
        TicketSeated { match_id, ticket, connection }
        TicketReturned { match_id, ticket }
        RoundBegun { queue, number, after, check }
        RoundEnded { queue, after }
    }
    TicketState = ticket::State of ticket, "Ticket." {
        Validating { check @ 0 }
        Waiting {}
        Proposed { match_id, since }
        FindingServer { match_id, since }
        Seating { match_id, since }
        Over { at, end }
        OnHold { since }
    }
    TicketEnd = ticket_end::End of ticket_end, "TicketEnd." {
        Completed { match_id, connection }
        Failed { cause, detail, hook, match_id }
        Cancelled { cause @ 0 }
        TimedOut {}
    }
    Stage = formation::Stage of formation, "Formation." {
        Accepting { until, accepted }
        Checking { check @ 0 }
        FindingServer { submitted }
    }
    Hook = hook::Kind of hook, "Hook." {
        QueueByPartySize { queues @ 0 }
        PartyMembership {}
        TeamData {}
        PeerToPeerHost { property @ 0 }
        Outside { hook @ 0 }
    }
    RuleKind = rule::Kind of rule, "Rule." {
        Equal { property }
        Distance { property, measure, most, missing }
        Latency { most }
        Expression { expression, about, need }
        NotBlocked {}
        Balance { property, most, missing }
    }
}

choices! { form:
    ExpirationAction { Drop, Minimum }
    Backfill { Off, First, Last }
    HookPoint { ValidateTicket, FormMatch, NewMatch }
    OnFailure { Accept, Refuse }
    Measure { Ticket, Average, Max }
    About { Pair, Ticket }
    Need { Required, Preferred }
}

causes!(CancelCause, DissolveCause, FailCause);

/// The limits before there were budgets: older records are replayed with these.
const OLD_BYTES: (u64, u64) = (512 << 20, 128 << 20);

/// Number of queues in which a player may wait if a record does not have it.
const ONE_QUEUE: u32 = 1;

impl Stored<form::Settings> for Settings {
    fn store(&self) -> form::Settings {
        let Self { queues, status_expiration, tick, hooks, waiting_bytes, kept_bytes, queues_per_player } =
            self;
        form::Settings {
            queues: queues.store(),
            status_expiration: status_expiration.store(),
            tick: tick.store(),
            hooks: hooks.store(),
            waiting_bytes: Some(*waiting_bytes),
            kept_bytes: Some(*kept_bytes),
            queues_per_player: (*queues_per_player != ONE_QUEUE).then_some(*queues_per_player),
        }
    }

    fn load(form: form::Settings, _: Place) -> Result<Self, StoredError> {
        let place = |field| Place { message: "Settings", field };
        Ok(Self {
            queues: Stored::load(form.queues, place("queues"))?,
            status_expiration: Stored::load(form.status_expiration, place("status_expiration"))?,
            tick: Stored::load(form.tick, place("tick"))?,
            hooks: Stored::load(form.hooks, place("hooks"))?,
            waiting_bytes: form.waiting_bytes.unwrap_or(OLD_BYTES.0),
            kept_bytes: form.kept_bytes.unwrap_or(OLD_BYTES.1),
            queues_per_player: form.queues_per_player.unwrap_or(ONE_QUEUE),
        })
    }
}

impl Stored<Option<form::Settings>> for Settings {
    fn store(&self) -> Option<form::Settings> {
        Some(self.store())
    }

    fn load(form: Option<form::Settings>, place: Place) -> Result<Self, StoredError> {
        Stored::load(form.ok_or_else(|| place.has(FieldProblem::Missing))?, place)
    }
}

impl Stored<form::Hook> for Hook {
    fn store(&self) -> form::Hook {
        form::Hook { kind: self.store() }
    }

    fn load(form: form::Hook, _: Place) -> Result<Self, StoredError> {
        Stored::load(form.kind, Place { message: "Hook", field: "kind" })
    }
}

impl Stored<Option<form::TicketEnd>> for TicketEnd {
    fn store(&self) -> Option<form::TicketEnd> {
        Some(form::TicketEnd { end: self.store() })
    }

    fn load(form: Option<form::TicketEnd>, place: Place) -> Result<Self, StoredError> {
        let form = form.ok_or_else(|| place.has(FieldProblem::Missing))?;
        Stored::load(form.end, Place { message: "TicketEnd", field: "end" })
    }
}

impl Stored<Vec<form::Team>> for Arc<[Vec<Named>]> {
    fn store(&self) -> Vec<form::Team> {
        self.iter().map(|team| form::Team { tickets: team.store() }).collect()
    }

    fn load(form: Vec<form::Team>, _: Place) -> Result<Self, StoredError> {
        let place = Place { message: "Team", field: "tickets" };
        form.into_iter().map(|team| Stored::load(team.tickets, place)).collect()
    }
}

impl Stored<Vec<form::Seating>> for BTreeMap<TicketId, (u32, Timestamp)> {
    fn store(&self) -> Vec<form::Seating> {
        let seating = self.iter().map(|(ticket, (seats, until))| form::Seating {
            ticket: ticket.store(),
            seats: *seats,
            until: until.store(),
        });
        seating.collect()
    }

    fn load(form: Vec<form::Seating>, _: Place) -> Result<Self, StoredError> {
        let place = |field| Place { message: "Seating", field };
        let entry = |form: form::Seating| {
            let until = Stored::load(form.until, place("until"))?;
            Ok((Stored::load(form.ticket, place("ticket"))?, (form.seats, until)))
        };
        form.into_iter().map(entry).collect()
    }
}

impl Stored<form::ClosedQueue> for (QueueId, Queue) {
    fn store(&self) -> form::ClosedQueue {
        let (id, queue) = self;
        form::ClosedQueue { id: id.store(), queue: queue.store() }
    }

    fn load(form: form::ClosedQueue, _: Place) -> Result<Self, StoredError> {
        let place = |field| Place { message: "ClosedQueue", field };
        Ok((Stored::load(form.id, place("id"))?, Stored::load(form.queue, place("queue"))?))
    }
}

impl Stored<form::QueueRound> for (QueueId, Round) {
    fn store(&self) -> form::QueueRound {
        let (queue, Round { number, after, check }) = self;
        form::QueueRound { queue: queue.store(), number: *number, after: *after, check: check.store() }
    }

    fn load(form: form::QueueRound, _: Place) -> Result<Self, StoredError> {
        let place = |field| Place { message: "QueueRound", field };
        let check = Stored::load(form.check, place("check"))?;
        let round = Round { number: form.number, after: form.after, check };
        Ok((Stored::load(form.queue, place("queue"))?, round))
    }
}

impl Stored<form::UsedKey> for (IdempotencyKey, UsedKey) {
    fn store(&self) -> form::UsedKey {
        let (key, UsedKey { ticket, content, used_at }) = self;
        let content = content.to_bytes().to_vec();
        form::UsedKey { key: key.store(), ticket: ticket.store(), content, used_at: used_at.store() }
    }

    fn load(form: form::UsedKey, _: Place) -> Result<Self, StoredError> {
        let place = |field| Place { message: "UsedKey", field };
        let content: Result<[u8; 16], _> = form.content.as_slice().try_into();
        let content = content.map_err(|_| place("content").has(FieldProblem::Missing))?;
        let used = UsedKey {
            ticket: Stored::load(form.ticket, place("ticket"))?,
            content: Digest::from_bytes(content),
            used_at: Stored::load(form.used_at, place("used_at"))?,
        };
        Ok((Stored::load(form.key, place("key"))?, used))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The `.proto` file spells the names and numbers of the domain.
    #[test]
    fn causes_have_the_names_and_numbers_of_the_domain() {
        crate::stored::values::same_causes! { form:
            CancelCause = "CANCEL_CAUSE";
            DissolveCause = "DISSOLVE_CAUSE";
            FailCause = "FAIL_CAUSE";
        }
    }
}
