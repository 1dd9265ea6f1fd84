//! The tables of the broker's records: which fields each has, and which alternatives each state.

use sortie_domain::broker::model::{
    Allocation, AllocationState, Connection, Fleet, FleetHealth, GoneCause, Match, MatchSpec, MatchState,
    Seat, SeatEnd, SeatState, Server, ServerState, Settings,
};
use sortie_domain::broker::{Configured, Event};
use sortie_domain::ids::{FleetId, SeatId, ServerId};

use super::log::{allocation, r#match as game, seat, server, stored_event};
use super::tables::{alternatives, records};
use super::{FieldProblem, Place, Stored, StoredError, log};

records! { log:
    MatchSpec { players, properties, player_properties, capacity, fleet, idempotency_key }
    Match { id, spec, state, queued_seq, queued_at, changed_seq, pickups, server, seats, reported_free, left }
    Connection { details, per_player }
    Seat { id, match_id, player, client_id, ttl, state }
    Server { id, fleet, state, born_at, matches }
    Allocation { id, server, fleet, for_match, ordered_at, state }
    Fleet { id, requirements, max, warm, ready_deadline, preference }
    Settings {
        fast_schedule, server_max_lifetime, match_pickup_time, match_ready_time, match_max_run_time,
        schedule_frequency, delay_allocation, wait
    }
    Configured { settings, fleets }
}

alternatives! {
    Event = stored_event::Event of log, "" {
        Configured { settings, fleets }
        Reconfigured { settings }
        MatchQueued { id, spec }
        MatchPickedUp { id, server }
        MatchReturned { id, server }
        MatchReady { id, server, players, connection }
        MatchEnded { id, players, cause }
        MatchFailed { id, players, reason }
        MatchCancelled { id, players, cause }
        SeatReserved { seat, match_id, player, client_id, ttl }
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
        Claimed { at }
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

impl Stored<log::GoneServer> for (ServerId, GoneCause) {
    fn store(&self) -> log::GoneServer {
        let (server, cause) = self;
        log::GoneServer { server: server.store(), cause: cause.store() }
    }

    fn load(form: log::GoneServer, _: Place) -> Result<Self, StoredError> {
        let place = |field| Place { message: "GoneServer", field };
        Ok((Stored::load(form.server, place("server"))?, Stored::load(form.cause, place("cause"))?))
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
