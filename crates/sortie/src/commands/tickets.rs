//! `sortie ticket`.

use std::process::ExitCode;

use reqwest::Method;
use serde_json::{Map, Value, json};

use super::output::{explained, item, items, json_of, line};
use crate::cli::{self, TicketAction, TicketList, TicketStart, TicketVote};
use crate::failure::Failure;
use crate::remote::{ControlPlane, escape};

pub(crate) async fn run(options: cli::Ticket) -> Result<ExitCode, Failure> {
    match options.action {
        TicketAction::Start(order) => start(order).await?,
        TicketAction::List(list) => self::list(list).await?,
        TicketAction::Show(one) => about(one, Method::GET, "").await?,
        TicketAction::Explain(one) => {
            let (path, json) = (path(&one, "/explain"), one.remote.json);
            let explanation = ControlPlane::new(one.remote)?.call(Method::GET, &path, None).await?;
            explained(&explanation, "ticket_id", json)?;
        }
        TicketAction::Renew(one) => about(one, Method::POST, "/renew").await?,
        TicketAction::Cancel(one) => about(one, Method::DELETE, "").await?,
        TicketAction::Accept(vote) => self::vote(vote, "/accept").await?,
        TicketAction::Decline(vote) => self::vote(vote, "/decline").await?,
    }
    Ok(ExitCode::SUCCESS)
}

fn path(one: &cli::TicketId, below: &str) -> String {
    format!("/v1/tickets/{}{below}", escape(&one.id))
}

async fn list(list: TicketList) -> Result<(), Failure> {
    let query = list.player.map_or_else(String::new, |player| format!("?player={}", escape(&player)));
    let json = list.remote.json;
    let found = ControlPlane::new(list.remote)?.list(&format!("/v1/tickets{query}"), "tickets").await?;
    let columns = [
        ("TICKET", "/ticket_id"),
        ("QUEUE", "/queue"),
        ("STATE", "/state"),
        ("MATCH", "/match_id"),
        ("SINCE", "/started_at"),
    ];
    items(&found, &columns, json)
}

async fn about(one: cli::TicketId, method: Method, below: &str) -> Result<(), Failure> {
    let (path, json) = (path(&one, below), one.remote.json);
    item(&ControlPlane::new(one.remote)?.call(method, &path, None).await?, json)
}

async fn vote(vote: TicketVote, below: &str) -> Result<(), Failure> {
    let TicketVote { ticket, player } = vote;
    let (path, json) = (path(&ticket, below), ticket.remote.json);
    let body = json!({"player_id": player});
    item(&ControlPlane::new(ticket.remote)?.call(Method::POST, &path, Some(&body)).await?, json)
}

async fn start(order: TicketStart) -> Result<(), Failure> {
    let TicketStart { remote, queue, players, leader, properties, idempotency_key, ttl, replaces } = order;
    let players = players.iter().map(|text| match text.trim_start().starts_with('{') {
        true => json_of("--player", text),
        false => Ok(json!({"id": text})),
    });
    let mut body = Map::new();
    body.insert("queue".to_owned(), queue.into());
    body.insert("players".to_owned(), players.collect::<Result<_, _>>()?);
    if let Some(text) = properties {
        body.insert("properties".to_owned(), json_of("--properties", &text)?);
    }
    if let Some(ttl) = ttl {
        body.insert("ttl".to_owned(), ttl.into());
    }
    let optional = [("leader", leader), ("idempotency_key", idempotency_key), ("replaces", replaces)];
    body.extend(
        optional.into_iter().filter_map(|(name, value)| Some((name.to_owned(), Value::String(value?)))),
    );
    let json = remote.json;
    let started =
        ControlPlane::new(remote)?.call(Method::POST, "/v1/tickets", Some(&Value::Object(body))).await?;
    match started.get("ticket_id").and_then(Value::as_str) {
        Some(id) if !json => line(id),
        _ => line(started),
    }
}
