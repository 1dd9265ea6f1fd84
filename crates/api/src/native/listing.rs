//! Lists and their pages.

use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use schemars::JsonSchema;
use serde::Serialize;
use sortie_domain::broker::FleetView;
use sortie_domain::broker::model::{Server, ServerState};
use sortie_domain::ids::{AllocationId, BadId, FleetId, ServerId};
use sortie_domain::time::Timestamp;

use super::{answer, rfc3339};
use crate::error::ApiError;
use crate::params::Params;
use crate::state::Api;

/// Default number of items of a page.
pub(super) const PAGE: usize = 100;
/// Maximum number of items of a page.
pub(super) const MAX_PAGE: usize = 1_000;

/// The requested page.
pub(super) struct PageParams<Id> {
    pub(super) after: Option<Id>,
    pub(super) limit: usize,
}

impl<Id> PageParams<Id> {
    pub(super) fn take(params: &mut Params, new: fn(&str) -> Result<Id, BadId>) -> Result<Self, ApiError> {
        let after = params.one("after")?.map(|text| new(&text)).transpose();
        let after = after.map_err(|problem| ApiError::field("after", problem))?;
        let limit = params.parsed("limit", format_args!("a number from 1 to {MAX_PAGE}"))?.unwrap_or(PAGE);
        if !(1..=MAX_PAGE).contains(&limit) {
            return Err(ApiError::field("limit", format!("must be a number from 1 to {MAX_PAGE}")));
        }
        Ok(Self { after, limit })
    }
}

pub(super) fn page_of<Id>(uri: &Uri, new: fn(&str) -> Result<Id, BadId>) -> Result<PageParams<Id>, ApiError> {
    let mut params = Params::of(uri)?;
    let page = PageParams::take(&mut params, new)?;
    params.finish().map(|()| page)
}

/// One page.
#[derive(Serialize, JsonSchema)]
pub(super) struct Servers {
    servers: Vec<ServerView>,
    /// The next page begins after this one; absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// A game server that the broker knows.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Server")]
struct ServerView {
    server_id: String,
    #[schemars(extend("enum" = ["pending", "available", "full", "draining"]))]
    state: &'static str,
    /// Why it is draining.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fleet: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    allocation_id: Option<String>,
    /// Ids of the matches that it has.
    matches: Vec<String>,
    /// When it was ordered, or first seen.
    #[schemars(extend("format" = "date-time"))]
    since: String,
}

/// `GET /v1/servers`
pub(super) async fn servers(State(api): State<Api>, uri: Uri) -> Response {
    let list = async {
        let PageParams { after, limit } = page_of(&uri, ServerId::new)?;
        let page = api.query(move |broker| {
            let page = broker.servers(after.as_ref(), limit);
            let allocation = |server: &Server| broker.allocation_of(&server.id).map(|order| order.id.clone());
            let items: Vec<_> = page.items.into_iter().map(|server| (allocation(&server), server)).collect();
            (items, page.more)
        });
        let (items, more) = page.await?;
        let next = items.last().filter(|_| more).map(|(_, server)| server.id.to_string());
        let servers = items.into_iter().map(|(allocation, server)| server_view(&server, allocation.as_ref()));
        Ok((StatusCode::OK, Servers { servers: servers.collect(), next }))
    };
    answer(list.await)
}

fn server_view(server: &Server, allocation: Option<&AllocationId>) -> ServerView {
    ServerView {
        server_id: server.id.to_string(),
        state: server.state.name(),
        reason: match server.state {
            ServerState::Draining { cause } => Some(cause.name()),
            _ => None,
        },
        fleet: server.fleet.as_ref().map(ToString::to_string),
        allocation_id: allocation.map(ToString::to_string),
        matches: server.matches.iter().map(ToString::to_string).collect(),
        since: rfc3339(server.born_at),
    }
}

/// One page.
#[derive(Serialize, JsonSchema)]
pub(super) struct Fleets {
    fleets: Vec<Fleet>,
    /// The next page begins after this one; absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// A fleet and its state.
#[derive(Serialize, JsonSchema)]
struct Fleet {
    /// Its id.
    fleet: String,
    /// JMESPath over the match document; empty takes any match.
    requirements: String,
    /// Maximum number of servers at a time.
    max: u32,
    /// Number of idle servers to keep ready.
    warm: u32,
    /// Servers that were ordered and have not ended.
    live: usize,
    /// Of them, those that have not called yet.
    pending: usize,
    /// Of them, those without a match.
    idle: usize,
    /// Orders that failed since the last successful one.
    failures: u32,
    /// Until when nothing is ordered after failures.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    backoff_until: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<String>,
}

/// `GET /v1/fleets`
pub(super) async fn fleets(State(api): State<Api>, uri: Uri) -> Response {
    let list = async {
        let PageParams { after, limit } = page_of(&uri, FleetId::new)?;
        let page = api.query(move |broker| broker.fleets(after.as_ref(), limit)).await?;
        let next = page.items.last().filter(|_| page.more).map(|view| view.fleet.id.to_string());
        Ok((StatusCode::OK, Fleets { fleets: page.items.into_iter().map(fleet_view).collect(), next }))
    };
    answer(list.await)
}

fn fleet_view(view: FleetView) -> Fleet {
    let FleetView { fleet, live, pending, idle, health } = view;
    Fleet {
        fleet: fleet.id.to_string(),
        requirements: fleet.requirements,
        max: fleet.max,
        warm: fleet.warm,
        live,
        pending,
        idle,
        failures: health.failures,
        backoff_until: (health.backoff_until > Timestamp::ZERO).then(|| rfc3339(health.backoff_until)),
        last_error: health.last_error.map(|error| error.as_ref().to_owned()),
    }
}
