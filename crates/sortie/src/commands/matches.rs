//! `sortie match`.

use std::process::ExitCode;

use clap::ValueEnum;
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::output::{explained, item, items, json_of, line};
use crate::cli::{self, MatchAction, Submit};
use crate::failure::Failure;
use crate::remote::{ControlPlane, escape};

pub(crate) async fn run(options: cli::Match) -> Result<ExitCode, Failure> {
    match options.action {
        MatchAction::Submit(submission) => submit(submission).await?,
        MatchAction::List(list) => {
            let state = list.state.and_then(|state| state.to_possible_value());
            let state = state.map(|state| format!("state={}", state.get_name()));
            let player = list.player.map(|player| format!("player={}", escape(&player)));
            let asked: Vec<_> = state.into_iter().chain(player).collect();
            let query = if asked.is_empty() { String::new() } else { format!("?{}", asked.join("&")) };
            let json = list.remote.json;
            let found =
                ControlPlane::new(list.remote)?.list(&format!("/v1/matches{query}"), "matches").await?;
            let columns = [
                ("MATCH", "/match_id"),
                ("STATE", "/state"),
                ("REASON", "/reason"),
                ("SERVER", "/server_id"),
                ("PLAYERS", "/players"),
            ];
            items(&found, &columns, json)?;
        }
        MatchAction::Show(one) => about(one, Method::GET).await?,
        MatchAction::Explain(one) => explain(one).await?,
        MatchAction::Cancel(one) => about(one, Method::DELETE).await?,
        MatchAction::Rejoin(back) => rejoin(back).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn about(one: cli::MatchId, method: Method) -> Result<(), Failure> {
    let json = one.remote.json;
    let path = format!("/v1/matches/{}", escape(&one.id));
    item(&ControlPlane::new(one.remote)?.call(method, &path, None).await?, json)
}

/// Prints the gateway's answer. It is not logged, because the token admits anybody who holds it.
async fn rejoin(back: cli::Rejoin) -> Result<(), Failure> {
    let json = back.remote.json;
    let path = format!("/matchmaker/matches/{}/rejoin", escape(&back.id));
    let body = json!({ "player_id": back.player });
    let given = ControlPlane::new(back.remote)?.call(Method::POST, &path, Some(&body)).await?;
    if json {
        return line(given);
    }
    let field = |name: &str| given.get(name).cloned().unwrap_or_default();
    item(&json!({ "address": field("link"), "connect_token": field("connect_token") }), false)
}

async fn explain(one: cli::MatchId) -> Result<(), Failure> {
    let json = one.remote.json;
    let path = format!("/v1/matches/{}/explain", escape(&one.id));
    let explanation = ControlPlane::new(one.remote)?.call(Method::GET, &path, None).await?;
    explained(&explanation, "match_id", json)
}

async fn submit(submission: Submit) -> Result<(), Failure> {
    let Submit { remote, players, properties, capacity, fleet, idempotency_key } = submission;
    let mut body = Map::new();
    body.insert("players".to_owned(), json!(players));
    if let Some(text) = properties {
        body.insert("properties".to_owned(), json_of("--properties", &text)?);
    }
    let optional = [
        ("capacity", capacity.map(|capacity| json!(capacity))),
        ("fleet", fleet.map(Value::String)),
        ("idempotency_key", idempotency_key.map(Value::String)),
    ];
    body.extend(optional.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
    let json = remote.json;
    let made =
        ControlPlane::new(remote)?.call(Method::POST, "/v1/matches", Some(&Value::Object(body))).await?;
    match made.get("match_id").and_then(Value::as_str) {
        Some(id) if !json => line(id),
        _ => line(made),
    }
}
