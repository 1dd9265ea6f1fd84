//! An explanation as text: one line for waiting players, sentences for operators.
//!
//! In one place, so that the gateway, the events for players and the API say the same about a match. The caller formats
//! times for its readers.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::Unnamed;
use super::explain::{
    Explanation, FleetAccount, FleetState, FreeServers, Losses, Prospect, ServerGroup, Standing, Timer,
    TimerKind, Unmet,
};
use super::model::{AllocationState, FailReason};
use crate::time::Timestamp;
use crate::waits::TypicalWait;
use crate::words::{Ordinal, seconds};

/// The caller's format of times.
type Clock<'a> = &'a dyn Fn(Timestamp) -> String;

/// The state of a match, in one line.
#[must_use]
pub fn summary(standing: &Standing) -> String {
    match standing {
        Standing::Queued { ahead, returned, lost, prospect } => {
            let again = match (returned, lost) {
                (false, _) => String::new(),
                (true, None) => "the server that had the match is gone; ".to_string(),
                (true, Some(reason)) => {
                    format!("the server that had the match is gone ({}); ", reason.text())
                }
            };
            let place = ahead.map(place).unwrap_or_default();
            let prospect = prospect.map(outlook).unwrap_or_default();
            format!("{again}waiting for a server{place}{prospect}")
        }
        Standing::PickedUp => "a server has the match and prepares it".to_string(),
        Standing::Ready => "the match is ready".to_string(),
        Standing::Ended(cause) => cause.text().to_string(),
        Standing::Failed(reason) => reason.text().to_string(),
        Standing::Cancelled(cause) => cause.text().to_string(),
    }
}

fn place(ahead: usize) -> String {
    format!(": {} in the queue", Ordinal(ahead + 1))
}

const fn outlook(prospect: Prospect) -> &'static str {
    match prospect {
        Prospect::Ordered => ", one is being started",
        Prospect::Started => ", one has been started",
        Prospect::Free => ", a free one is about to take it",
        Prospect::Full => ", all that may run are in use",
        Prospect::BackingOff => ", one could not be started, which is retried soon",
        Prospect::NoFleet => ", none can be started for such a match",
    }
}

/// The explanation in sentences: state, reasons, what comes next. `clock` formats a time for the reader.
#[must_use]
pub fn sentences(explanation: &Explanation, clock: Clock<'_>) -> Vec<String> {
    let mut said = Vec::from([opening(explanation, clock)]);
    said.extend(history(explanation));
    if explanation.standing == Standing::Failed(FailReason::PickupTimeout) {
        said.push("The following describes the current state, not the state at that time.".to_string());
    }
    if matches!(explanation.standing, Standing::Queued { .. }) {
        said.push(order(explanation, clock));
    }
    if let Some(servers) = &explanation.servers {
        said.extend(of_servers(servers));
        if explanation.fleets.is_empty() {
            said.push("No fleet is configured that could start a server for it.".to_string());
        }
    }
    said.extend(explanation.fleets.iter().map(|fleet| of_fleet(fleet, clock)));
    if explanation.fleets_unlisted > 0 {
        said.push(format!("{} more fleets were not checked.", explanation.fleets_unlisted));
    }
    said.extend(explanation.unnamed.as_ref().map(of_unnamed));
    if let Some(bound) = explanation.bound_to.as_ref().filter(|_| explanation.servers.is_some()) {
        said.push(format!("Only servers of the fleet {bound} may take the match."));
    }
    said.extend(explanation.timers.first().map(|timer| of_timer(timer, clock)));
    if matches!(explanation.standing, Standing::Queued { .. } | Standing::PickedUp) {
        said.push(of_wait(explanation.typical_wait.as_ref()));
    }
    said
}

fn opening(explanation: &Explanation, clock: Clock<'_>) -> String {
    let since = clock(explanation.since);
    let on = explanation.server.as_ref().map(|holder| format!(" {}", holder.server)).unwrap_or_default();
    match &explanation.standing {
        Standing::Queued { ahead, .. } => {
            let before = match ahead.unwrap_or_default() {
                0 => "no older one is in the queue".to_string(),
                1 => "1 older one is in the queue".to_string(),
                ahead => format!("{ahead} older ones are in the queue"),
            };
            format!("The match waits for a server since {since}; {before}.")
        }
        Standing::PickedUp => format!("The server{on} has the match since {since} and prepares it."),
        Standing::Ready => format!("Players can connect since {since}, to the server{on}."),
        Standing::Ended(cause) => format!("The match ended at {since}: {}.", cause.text()),
        Standing::Failed(reason) => format!("The match failed at {since}: {}.", reason.text()),
        Standing::Cancelled(cause) => format!("The match was cancelled at {since}: {}.", cause.text()),
    }
}

/// The servers that had it, and why they do not play it.
fn history(explanation: &Explanation) -> Vec<String> {
    let mut said = Vec::new();
    if matches!(explanation.standing, Standing::Queued { .. }) && explanation.pickups > 0 {
        let losses = Losses {
            pickups: explanation.pickups,
            max_pickups: explanation.max_pickups,
            reason: explanation.lost,
        };
        said.push(of_losses(&losses));
    }
    if let Some(holder) = &explanation.server
        && let Some(cause) = holder.gone
    {
        said.push(format!("Its server {} gets no further match: {}.", holder.server, cause.text()));
    }
    said
}

/// The same for players: without the servers' names.
#[must_use]
pub fn of_losses(losses: &Losses) -> String {
    let Losses { pickups, max_pickups, reason } = losses;
    let last = reason.map(|reason| format!("; the last time: {}", reason.text())).unwrap_or_default();
    format!(
        "Servers have taken the match {pickups} of at most {max_pickups} times and ended before it was ready{last}."
    )
}

fn order(explanation: &Explanation, clock: Clock<'_>) -> String {
    if let Some(order) = &explanation.order {
        let state = if order.state == AllocationState::Ordered {
            "the platform has not confirmed yet that it runs"
        } else {
            "the platform runs it, and it has not asked for a match yet"
        };
        let (server, fleet, at) = (&order.server, &order.fleet, clock(order.ordered_at));
        return format!("The server {server} was ordered for it from the fleet {fleet} at {at}: {state}.");
    }
    match &explanation.expected {
        Some(server) => format!("The server {server} is free and is expected to take it when it asks next."),
        None => "No server is ordered for it.".to_string(),
    }
}

fn of_servers(servers: &FreeServers) -> Vec<String> {
    let mut said: Vec<String> = servers.groups.iter().map(of_group).collect();
    if said.is_empty() && servers.unlisted == 0 {
        said.push("No server is free.".to_string());
    }
    if servers.unlisted > 0 {
        said.push(format!("{} more free servers were not checked.", servers.unlisted));
    }
    if servers.of_other_fleets > 0 {
        said.push(format!("{} servers of other fleets are free.", servers.of_other_fleets));
    }
    said
}

fn of_group(group: &ServerGroup) -> String {
    let names = group.servers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let more = if group.count > group.servers.len() { ", …" } else { "" };
    let of = group.fleet.as_ref().map(|fleet| format!(" of the fleet {fleet}")).unwrap_or_default();
    let (servers, they) = if group.count == 1 { ("server", "it asks") } else { ("servers", "they ask") };
    let who = format!("{} free {servers}{of} ({names}{more})", group.count);
    match (&group.requirements, group.unmet.as_slice()) {
        (None, []) => format!("{who}: no call since the control plane started."),
        (None, unmet) => format!("{who}: their fleet does not take the match, {}.", list(unmet)),
        (Some(_), []) => format!("{who}: the match fits, and goes there when {they} next."),
        (Some(_), unmet) => {
            format!("{who}: {they} for requirements that the match does not meet, {}.", list(unmet))
        }
    }
}

fn list(unmet: &[Unmet]) -> String {
    unmet.iter().map(part).collect::<Vec<_>>().join("; ")
}

fn part(unmet: &Unmet) -> String {
    let requirement = &unmet.requirement;
    match unmet.found.as_deref() {
        Some("null") => format!("{requirement} (the match has no value there)"),
        Some(found) => format!("{requirement} (the match has {found})"),
        None => requirement.clone(),
    }
}

fn of_fleet(fleet: &FleetAccount, clock: Clock<'_>) -> String {
    let FleetAccount { fleet: name, live, max, .. } = fleet;
    let mut text = match fleet.state {
        FleetState::FilteredOut => {
            return format!("The fleet {name} does not take it: {}.", list(&fleet.unmet));
        }
        FleetState::Starting => format!("The fleet {name} starts a server for it and has {live} of {max}"),
        FleetState::Full => format!("The fleet {name} is full: it has {live} of {max} servers"),
        FleetState::BackingOff => {
            let until = fleet.backoff_until.map(clock).unwrap_or_default();
            format!("The fleet {name} failed and backs off until {until}")
        }
        FleetState::Room => format!("The fleet {name} can start a server: it has {live} of {max}"),
    };
    if let Some(since) = fleet.starting_since {
        text += &format!("; {} of its servers are starting, the first since {}", fleet.pending, clock(since));
    }
    if let Some(error) = &fleet.last_error {
        let times = if fleet.failures == 1 { "time" } else { "times" };
        text += &format!("; it failed {} {times} in a row, the last time with: {error}", fleet.failures);
    }
    if text.ends_with('.') { text } else { text + "." }
}

fn of_unnamed(unnamed: &Unnamed) -> String {
    let goes = match unnamed {
        Unnamed::FleetsWithoutGame => "to fleets that name none".to_string(),
        Unnamed::DefaultFleet(fleet) => {
            format!("to the default fleet {fleet}, because every fleet names one")
        }
        Unnamed::NoFleet => "to no fleet, because each names one and there is no default fleet".to_string(),
    };
    format!("The match names no game: it goes {goes}.")
}

fn of_timer(timer: &Timer, clock: Clock<'_>) -> String {
    format!("Next, at {}: {}.", clock(timer.at), meaning(&timer.kind))
}

/// What happens when a timer fires.
#[must_use]
pub fn meaning(kind: &TimerKind) -> String {
    match kind {
        TimerKind::Pickup => "the match fails if no server has taken it by then".to_string(),
        TimerKind::Ready => "the match fails if its server is not ready by then".to_string(),
        TimerKind::Run => "the match is ended, because it reaches its maximum run time".to_string(),
        TimerKind::Lifetime => {
            "its server is stopped with the match on it, because it is too old".to_string()
        }
        TimerKind::Seat => "an unclaimed seat is released".to_string(),
        TimerKind::Schedule => "the schedule orders a server for it, if a fleet can start one".to_string(),
        TimerKind::ReadyDeadline(fleet) => {
            format!("the server ordered from the fleet {fleet} is given up if it has not called by then")
        }
        TimerKind::Backoff(fleet) => format!("the fleet {fleet} is asked for a server again"),
    }
}

/// Stable name of a timer: the setting's name if there is one.
#[must_use]
pub const fn timer_name(kind: &TimerKind) -> &'static str {
    match kind {
        TimerKind::Pickup => "match_pickup_time",
        TimerKind::Ready => "match_ready_time",
        TimerKind::Run => "match_max_run_time",
        TimerKind::Lifetime => "server_max_lifetime",
        TimerKind::Seat => "seat_ttl",
        TimerKind::Schedule => "schedule_frequency",
        TimerKind::ReadyDeadline(_) => "ready_deadline",
        TimerKind::Backoff(_) => "backoff",
    }
}

fn of_wait(wait: Option<&TypicalWait>) -> String {
    let Some(TypicalWait { fleet, seen, p50, p90 }) = wait else {
        return "It is not known yet how long matches wait: none has become ready since this process started."
            .to_string();
    };
    let of = fleet.as_ref().map(|fleet| format!(" of the fleet {fleet}")).unwrap_or_default();
    let (half, most) = (seconds(*p50), seconds(*p90));
    format!("Of the last {seen} matches{of}, half were ready within {half} and nine in ten within {most}.")
}
