//! The tables of the broker's records: which fields each has, and which alternatives each state.

use std::sync::Arc;

use sortie_domain::broker::model::{
    Allocation, AllocationState, Fleet, FleetHealth, Gone, Match, MatchState, Seat, SeatEnd, SeatState,
    Seats, Server, ServerState, Settings,
};
use sortie_domain::broker::{Configured, Event, PastOrder};
use sortie_domain::connection::Connection;
use sortie_domain::content::Digest;
use sortie_domain::game::GameVersion;
use sortie_domain::ids::{FleetId, MatchId, PlayerId, SeatId, ServerId};
use sortie_domain::match_spec::MatchSpec;

use super::log::{allocation, r#match as game, seat, server, stored_event};
use super::tables::{alternatives, records};
use super::{FieldProblem, Place, Stored, StoredError, log};

records! { log:
    MatchSpec { players, properties, player_properties, capacity, fleet, idempotency_key }
    Connection { details, per_player }
    Seat { id, match_id, player, client_id, ttl, state }
    Server { id, fleet, state, born_at, matches }
    Allocation { id, server, fleet, for_match, ordered_at, state }
    Fleet { id, requirements, max, warm, ready_deadline, preference, game, is_default, max_run_time }
    GameVersion { name, version }
    Configured { settings, fleets }
}

alternatives! {
    Event = stored_event::Event of log, "" {
        Configured { settings, fleets }
        Reconfigured { settings }
        MatchQueued { id, spec }
        MatchPickedUp { id, server }
        MatchReturned { id, server, reason }
        MatchReady { id, server, players, connection }
        MatchEnded { id, players, cause }
        MatchFailed { id, players, reason }
        MatchCancelled { id, players, cause }
        SeatReserved { seat, match_id, player, client_id, ttl }
        SeatRenewed { seat, match_id }
        SeatClaimed { seat, match_id }
        SeatClosed { seat, match_id, end }
        ServerRegistered { server }
        ServerAvailable { server }
        ServerFull { server }
        ServerNotFull { server }
        ServerDraining { server, cause }
        ServerGone { server, cause }
        AllocationOrdered { allocation, server, fleet, for_match }
        AllocationAssigned { allocation, for_match }
        AllocationStarted { allocation }
        AllocationStopOrdered { allocation, fleet, error }
        AllocationEnded { allocation, fleet, error }
        MatchPlacesReported { id, free }
    }
    MatchState = game::State of game, "Match." {
        Queued {}
        PickedUp { at }
        Ready { at, connection }
        Ended { at, cause }
        Failed { at, reason }
        Cancelled { at, cause }
    }
    SeatState = seat::State of seat, "Seat." {
        Reserved { expires_at }
        Claimed { at, again_until }
    }
    ServerState = server::State of server, "Server." {
        Pending {}
        Available {}
        Full {}
        Draining { cause }
    }
    AllocationState = allocation::State of allocation, "Allocation." {
        Ordered {}
        Started {}
        Live {}
        Leaving { since }
        Stopping {}
    }
}

impl Stored<log::Match> for Match {
    fn store(&self) -> log::Match {
        let Self { id, spec, state, queued_seq, queued_at, changed_seq, pickups, server, .. } = self;
        let Self { seats, reported_free, stripped, lost, .. } = self;
        log::Match {
            id: id.store(),
            spec: spec.store(),
            state: state.store(),
            queued_seq: *queued_seq,
            queued_at: queued_at.store(),
            changed_seq: *changed_seq,
            pickups: *pickups,
            server: server.store(),
            seats: seats.values().map(Stored::store).collect(),
            reported_free: *reported_free,
            left: seats.left().iter().map(Stored::store).collect(),
            stripped: *stripped,
            lost: lost.store(),
        }
    }

    fn load(form: log::Match, _: Place) -> Result<Self, StoredError> {
        let place = |field| Place { message: "Match", field };
        let spec: Arc<MatchSpec> = Stored::load(form.spec, place("spec"))?;
        let seats: Vec<Seat> = Stored::load(form.seats, place("seats"))?;
        let left: Vec<PlayerId> = Stored::load(form.left, place("left"))?;
        Ok(Self {
            id: Stored::load(form.id, place("id"))?,
            seats: Seats::of(&spec.players, seats, left),
            spec,
            state: Stored::load(form.state, place("state"))?,
            queued_seq: form.queued_seq,
            queued_at: Stored::load(form.queued_at, place("queued_at"))?,
            changed_seq: form.changed_seq,
            pickups: form.pickups,
            server: Stored::load(form.server, place("server"))?,
            reported_free: form.reported_free,
            stripped: form.stripped,
            lost: Stored::load(form.lost, place("lost"))?,
        })
    }
}

/// In older records, settings that did not exist yet have the behaviour of that time, or the default.
impl Stored<Option<log::Settings>> for Settings {
    fn store(&self) -> Option<log::Settings> {
        Some(log::Settings {
            fast_schedule: self.fast_schedule.store(),
            server_max_lifetime: self.server_max_lifetime.store(),
            match_pickup_time: self.match_pickup_time.store(),
            match_ready_time: self.match_ready_time.store(),
            match_max_run_time: self.match_max_run_time.store(),
            schedule_frequency: self.schedule_frequency.store(),
            delay_allocation: self.delay_allocation.store(),
            wait: self.wait.store(),
            waiting_bytes: Some(self.waiting_bytes),
            kept_bytes: Some(self.kept_bytes),
            lifetime_ends_matches: Some(self.lifetime_ends_matches),
            suspect_time: Some(self.suspect_time.store()),
        })
    }

    fn load(form: Option<log::Settings>, place: Place) -> Result<Self, StoredError> {
        let form = form.ok_or_else(|| place.has(FieldProblem::Missing))?;
        let place = |field| Place { message: "Settings", field };
        let default = Self::default();
        Ok(Self {
            fast_schedule: Stored::load(form.fast_schedule, place("fast_schedule"))?,
            server_max_lifetime: Stored::load(form.server_max_lifetime, place("server_max_lifetime"))?,
            match_pickup_time: Stored::load(form.match_pickup_time, place("match_pickup_time"))?,
            match_ready_time: Stored::load(form.match_ready_time, place("match_ready_time"))?,
            match_max_run_time: Stored::load(form.match_max_run_time, place("match_max_run_time"))?,
            schedule_frequency: Stored::load(form.schedule_frequency, place("schedule_frequency"))?,
            delay_allocation: Stored::load(form.delay_allocation, place("delay_allocation"))?,
            wait: Stored::load(form.wait, place("wait"))?,
            waiting_bytes: form.waiting_bytes.unwrap_or(default.waiting_bytes),
            kept_bytes: form.kept_bytes.unwrap_or(default.kept_bytes),
            lifetime_ends_matches: form.lifetime_ends_matches.unwrap_or(true),
            suspect_time: match form.suspect_time {
                Some(time) => Stored::load(time, place("suspect_time"))?,
                None => default.suspect_time,
            },
        })
    }
}

impl Stored<log::EndedSeats> for (MatchId, Arc<[SeatId]>) {
    fn store(&self) -> log::EndedSeats {
        let (id, seats) = self;
        log::EndedSeats { match_id: id.store(), seats: seats.iter().map(Stored::store).collect() }
    }

    fn load(form: log::EndedSeats, _: Place) -> Result<Self, StoredError> {
        let place = |field| Place { message: "EndedSeats", field };
        let seats: Vec<SeatId> = Stored::load(form.seats, place("seats"))?;
        Ok((Stored::load(form.match_id, place("match_id"))?, Arc::from(seats)))
    }
}

impl Stored<log::PastOrder> for (MatchId, PastOrder) {
    fn store(&self) -> log::PastOrder {
        let (id, PastOrder { key, content, over_at }) = self;
        log::PastOrder {
            match_id: id.store(),
            idempotency_key: key.store(),
            content: content.to_bytes().to_vec(),
            over_at: over_at.store(),
        }
    }

    fn load(form: log::PastOrder, _: Place) -> Result<Self, StoredError> {
        let place = |field| Place { message: "PastOrder", field };
        let content = form.content.try_into().map_err(|_| place("content").has(FieldProblem::NotADigest))?;
        let order = PastOrder {
            key: Stored::load(form.idempotency_key, place("idempotency_key"))?,
            content: Digest::from_bytes(content),
            over_at: Stored::load(form.over_at, place("over_at"))?,
        };
        Ok((Stored::load(form.match_id, place("match_id"))?, order))
    }
}

impl Stored<log::FleetHealth> for (FleetId, FleetHealth) {
    fn store(&self) -> log::FleetHealth {
        let (fleet, FleetHealth { failures, backoff_until, last_error }) = self;
        log::FleetHealth {
            fleet: fleet.store(),
            failures: *failures,
            backoff_until: backoff_until.store(),
            last_error: last_error.store(),
        }
    }

    fn load(form: log::FleetHealth, _: Place) -> Result<Self, StoredError> {
        let place = |field| Place { message: "FleetHealth", field };
        let health = FleetHealth {
            failures: form.failures,
            backoff_until: Stored::load(form.backoff_until, place("backoff_until"))?,
            last_error: Stored::load(form.last_error, place("last_error"))?,
        };
        Ok((Stored::load(form.fleet, place("fleet"))?, health))
    }
}

/// Records of an older version do not say when the server ended and whether it was ordered: such a server is told to
/// exit again, and may then come back.
impl Stored<log::GoneServer> for (ServerId, Gone) {
    fn store(&self) -> log::GoneServer {
        let (server, Gone { cause, at, ordered }) = self;
        log::GoneServer { server: server.store(), cause: cause.store(), at: at.store(), ordered: *ordered }
    }

    fn load(form: log::GoneServer, _: Place) -> Result<Self, StoredError> {
        let place = |field| Place { message: "GoneServer", field };
        let gone = Gone {
            cause: Stored::load(form.cause, place("cause"))?,
            at: Stored::load(form.at, place("at"))?,
            ordered: form.ordered,
        };
        Ok((Stored::load(form.server, place("server"))?, gone))
    }
}

impl Stored<log::ClosedSeat> for (SeatId, SeatEnd) {
    fn store(&self) -> log::ClosedSeat {
        let (seat, end) = self;
        log::ClosedSeat { seat: seat.store(), end: end.store() }
    }

    fn load(form: log::ClosedSeat, _: Place) -> Result<Self, StoredError> {
        let place = |field| Place { message: "ClosedSeat", field };
        Ok((Stored::load(form.seat, place("seat"))?, Stored::load(form.end, place("end"))?))
    }
}
