//! Queues: where tickets wait for one another.

use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use schemars::JsonSchema;
use serde::Serialize;
use sortie_domain::ids::QueueId;
use sortie_domain::matchmaking::settings::{Backfill, Queue};

use super::answer;
use super::listing::page_of;
use crate::names::action_name;
use crate::state::Api;

/// One page.
#[derive(Serialize, JsonSchema)]
pub(super) struct Queues {
    queues: Vec<QueueView>,
    /// The next page begins after this one; absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// A queue that accepts tickets.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Queue")]
struct QueueView {
    queue: String,
    /// Number of waiting tickets.
    waiting: usize,
    /// Teams of a match; 1 is a match without teams, 0 a match of the tickets that wait when a ticket expires.
    teams: u32,
    /// Players of a full team.
    players_per_team: u32,
    min_players_per_team: u32,
    /// Maximum wait of a ticket.
    ticket_expiration_seconds: f64,
    /// What happens after that wait.
    #[schemars(extend("enum" = ["drop", "minimum"]))]
    expiration_action: &'static str,
    /// How long players have to accept a match; absent if they are not asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    accept_seconds: Option<f64>,
    /// Whether tickets take free seats of running matches.
    #[schemars(extend("enum" = ["off", "first", "last"]))]
    backfill: &'static str,
    /// Names of its rules.
    rules: Vec<String>,
}

/// `GET /v1/queues`
pub(super) async fn queues(State(api): State<Api>, uri: Uri) -> Response {
    let list = async {
        let page = page_of(&uri, QueueId::new)?;
        let found = api.query_maker(move |maker| {
            let queues = maker.settings().queues.iter();
            let mut after = queues.filter(|(id, _)| page.after.as_ref().is_none_or(|after| *id > after));
            let items = after.by_ref().take(page.limit).map(|(id, queue)| view(id, queue, maker.waiting(id)));
            let items: Vec<_> = items.collect();
            (items, after.next().is_some())
        });
        let (queues, more) = found.await?;
        let next = queues.last().filter(|_| more).map(|queue| queue.queue.clone());
        Ok((StatusCode::OK, Queues { queues, next }))
    };
    answer(list.await)
}

fn view(id: &QueueId, queue: &Queue, waiting: usize) -> QueueView {
    QueueView {
        queue: id.to_string(),
        waiting,
        teams: queue.teams,
        players_per_team: queue.players_per_team,
        min_players_per_team: queue.min_players_per_team,
        ticket_expiration_seconds: queue.ticket_expiration.as_secs_f64(),
        expiration_action: action_name(queue.expiration_action),
        accept_seconds: queue.accept.as_ref().map(Duration::as_secs_f64),
        backfill: match queue.backfill {
            Backfill::Off => "off",
            Backfill::First => "first",
            Backfill::Last => "last",
        },
        rules: queue.rules.iter().map(|rule| rule.name.to_string()).collect(),
    }
}
