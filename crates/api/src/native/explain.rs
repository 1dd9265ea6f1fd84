//! Why a match still waits or why it failed: the broker's explanation, as data and as text.

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use schemars::JsonSchema;
use serde::Serialize;
use sortie_domain::broker::explain::{
    Explanation, FleetAccount, Holder, Order, ServerGroup, Standing, Timer, TimerKind, Unmet,
};
use sortie_domain::broker::model::FailReason;
use sortie_domain::broker::{Refusal, words};
use sortie_domain::waits::TypicalWait;

use super::matches::{STATES, match_id};
use super::{answer, rfc3339};
use crate::state::Api;

/// `GET /v1/matches/{id}/explain`
pub(super) async fn explain(State(api): State<Api>, id: Result<Path<String>, PathRejection>) -> Response {
    let explain = async {
        let id = match_id(id)?;
        let wanted = id.clone();
        match api.query(move |broker| broker.explain(&wanted)).await? {
            Some(explanation) => Ok((StatusCode::OK, ExplanationView::from(&explanation))),
            None => Err(Refusal::MatchNotFound(id).into()),
        }
    };
    answer(explain.await)
}

/// An explanation as it is shown. Times are RFC 3339.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Explanation")]
pub(super) struct ExplanationView {
    match_id: String,
    #[schemars(extend("enum" = STATES))]
    state: &'static str,
    /// The stable name of the reason why it is over.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    /// One line, which players also see.
    summary: String,
    sentences: Vec<String>,
    #[schemars(extend("format" = "date-time"))]
    queued_at: String,
    #[schemars(extend("format" = "date-time"))]
    state_since: String,
    /// Older matches in the queue.
    #[serde(skip_serializing_if = "Option::is_none")]
    ahead: Option<usize>,
    /// How often a server has taken it, and the maximum.
    pickups: u32,
    max_pickups: u32,
    /// The stable name of the reason why the last server gave it back.
    #[serde(skip_serializing_if = "Option::is_none")]
    lost: Option<&'static str>,
    /// The one fleet whose servers may take it.
    #[serde(skip_serializing_if = "Option::is_none")]
    fleet: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<ServerView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    order: Option<OrderView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expected_server_id: Option<String>,
    /// Servers without a match, compared with this match; in groups, the largest first.
    servers: Vec<GroupView>,
    servers_unlisted: usize,
    servers_of_other_fleets: usize,
    /// Fleets, in the order in which they are tried.
    fleets: Vec<FleetView>,
    fleets_unlisted: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_timer: Option<TimerView>,
    /// Pending timers, soonest first.
    timers: Vec<TimerView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    typical_wait: Option<WaitView>,
}

impl From<&Explanation> for ExplanationView {
    fn from(told: &Explanation) -> Self {
        let (state, reason) = told.state;
        let servers = told.servers.as_ref();
        Self {
            match_id: told.match_id.to_string(),
            state,
            reason,
            summary: words::summary(&told.standing),
            sentences: words::sentences(told, &rfc3339),
            queued_at: rfc3339(told.queued_at),
            state_since: rfc3339(told.since),
            ahead: match told.standing {
                Standing::Queued { ahead, .. } => ahead,
                _ => None,
            },
            pickups: told.pickups,
            max_pickups: told.max_pickups,
            lost: told.lost.map(FailReason::name),
            fleet: told.bound_to.as_ref().map(ToString::to_string),
            server: told.server.as_ref().map(ServerView::from),
            order: told.order.as_ref().map(OrderView::from),
            expected_server_id: told.expected.as_ref().map(ToString::to_string),
            servers: servers
                .map_or_else(Vec::new, |found| found.groups.iter().map(GroupView::from).collect()),
            servers_unlisted: servers.map_or(0, |found| found.unlisted),
            servers_of_other_fleets: servers.map_or(0, |found| found.of_other_fleets),
            fleets: told.fleets.iter().map(FleetView::from).collect(),
            fleets_unlisted: told.fleets_unlisted,
            next_timer: told.timers.first().map(TimerView::from),
            timers: told.timers.iter().map(TimerView::from).collect(),
            typical_wait: told.typical_wait.as_ref().map(WaitView::from),
        }
    }
}

/// The server that has the match, or had it last.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "HoldingServer")]
struct ServerView {
    server_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    fleet: Option<String>,
    /// The stable name of the reason why it is gone or draining.
    #[serde(skip_serializing_if = "Option::is_none")]
    gone: Option<&'static str>,
}

impl From<&Holder> for ServerView {
    fn from(holder: &Holder) -> Self {
        Self {
            server_id: holder.server.to_string(),
            fleet: holder.fleet.as_ref().map(ToString::to_string),
            gone: holder.gone.map(sortie_domain::broker::model::GoneCause::name),
        }
    }
}

/// The server that is ordered for the match.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ServerOrder")]
struct OrderView {
    server_id: String,
    fleet: String,
    state: &'static str,
    #[schemars(extend("format" = "date-time"))]
    ordered_at: String,
}

impl From<&Order> for OrderView {
    fn from(order: &Order) -> Self {
        Self {
            server_id: order.server.to_string(),
            fleet: order.fleet.to_string(),
            state: order.state.name(),
            ordered_at: rfc3339(order.ordered_at),
        }
    }
}

/// Free servers of one fleet that ask for the same requirements.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ServerGroup")]
struct GroupView {
    #[serde(skip_serializing_if = "Option::is_none")]
    fleet: Option<String>,
    /// Whether the match meets their requirements.
    #[schemars(extend("enum" = ["fits", "not_heard", "refused"]))]
    verdict: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    requirements: Option<String>,
    count: usize,
    /// Some of them.
    server_ids: Vec<String>,
    unmet: Vec<UnmetView>,
}

impl From<&ServerGroup> for GroupView {
    fn from(group: &ServerGroup) -> Self {
        let verdict = match (&group.requirements, group.unmet.is_empty()) {
            (_, false) => "refused",
            (None, true) => "not_heard",
            (Some(_), true) => "fits",
        };
        Self {
            fleet: group.fleet.as_ref().map(ToString::to_string),
            verdict,
            requirements: group.requirements.clone(),
            count: group.count,
            server_ids: group.servers.iter().map(ToString::to_string).collect(),
            unmet: group.unmet.iter().map(UnmetView::from).collect(),
        }
    }
}

/// A part of a requirement that the match does not meet.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "UnmetRequirement")]
struct UnmetView {
    requirement: String,
    /// The match's value: a JSON text, possibly truncated.
    #[serde(skip_serializing_if = "Option::is_none")]
    found: Option<String>,
}

impl From<&Unmet> for UnmetView {
    fn from(unmet: &Unmet) -> Self {
        Self { requirement: unmet.requirement.clone(), found: unmet.found.clone() }
    }
}

/// A fleet, compared with the match.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "FleetAccount")]
struct FleetView {
    fleet: String,
    /// What it can do for the match.
    #[schemars(extend("enum" = ["filtered_out", "starting", "backing_off", "full", "room"]))]
    state: &'static str,
    unmet: Vec<UnmetView>,
    /// Servers that it runs or starts.
    live: usize,
    /// Maximum number of servers at a time.
    max: u32,
    /// Its servers without a match.
    idle: usize,
    /// Its servers that were ordered and have not called yet.
    pending: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    starting_since: Option<String>,
    /// Starts that failed since the last server that worked.
    failures: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    backoff_until: Option<String>,
}

impl From<&FleetAccount> for FleetView {
    fn from(fleet: &FleetAccount) -> Self {
        Self {
            fleet: fleet.fleet.to_string(),
            state: fleet.state.name(),
            unmet: fleet.unmet.iter().map(UnmetView::from).collect(),
            live: fleet.live,
            max: fleet.max,
            idle: fleet.idle,
            pending: fleet.pending,
            starting_since: fleet.starting_since.map(rfc3339),
            failures: fleet.failures,
            last_error: fleet.last_error.as_deref().map(str::to_owned),
            backoff_until: fleet.backoff_until.map(rfc3339),
        }
    }
}

/// A pending timer.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Timer")]
struct TimerView {
    name: &'static str,
    #[schemars(extend("format" = "date-time"))]
    at: String,
    meaning: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    fleet: Option<String>,
}

impl From<&Timer> for TimerView {
    fn from(timer: &Timer) -> Self {
        let fleet = match &timer.kind {
            TimerKind::ReadyDeadline(fleet) | TimerKind::Backoff(fleet) => Some(fleet.to_string()),
            _ => None,
        };
        Self {
            name: words::timer_name(&timer.kind),
            at: rfc3339(timer.at),
            meaning: words::meaning(&timer.kind),
            fleet,
        }
    }
}

/// How long matches waited until they were ready, as seen by this process.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "TypicalWait")]
struct WaitView {
    #[serde(skip_serializing_if = "Option::is_none")]
    fleet: Option<String>,
    /// Number of matches seen.
    matches: usize,
    p50_seconds: f64,
    p90_seconds: f64,
}

impl From<&TypicalWait> for WaitView {
    fn from(wait: &TypicalWait) -> Self {
        Self {
            fleet: wait.fleet.as_ref().map(ToString::to_string),
            matches: wait.seen,
            p50_seconds: wait.p50.as_secs_f64(),
            p90_seconds: wait.p90.as_secs_f64(),
        }
    }
}
