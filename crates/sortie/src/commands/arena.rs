//! `sortie arena`: the built-in game, its server and its bots.

use std::process::ExitCode;
use std::time::Duration;

use serde_json::json;
use sortie_arena::{ApiKey, Arrivals, BotEvent, PlayOptions, PlaySummary, ServeOptions, play, serve};
use sortie_config::LogFormat;

use super::output::line;
use super::signals::Signals;
use crate::cli::{self, ArenaPlay, ArenaRole, ArenaServe};
use crate::failure::Failure;
use crate::logging;

pub(crate) async fn run(options: cli::Arena) -> Result<ExitCode, Failure> {
    logging::start("info", LogFormat::Text);
    match options.role {
        ArenaRole::Serve(options) => run_server(options).await,
        ArenaRole::Play(options) => run_bots(options).await,
    }
}

async fn run_server(options: ArenaServe) -> Result<ExitCode, Failure> {
    let port = options.port.map(|port| port.to_string());
    let lookup = |name: &str| {
        let flag = match name {
            "SORTIE_API" => options.api.clone(),
            "SORTIE_SERVER_ID" => options.server_id.clone(),
            "SORTIE_PORT" => port.clone(),
            "SORTIE_CA" => options.ca.as_ref().map(|ca| ca.display().to_string()),
            "SORTIE_PUBLIC_ADDRESS" => options.public_address.clone(),
            _ => None,
        };
        flag.or_else(|| std::env::var(name).ok())
    };
    let mut server = ServeOptions::from_variables(lookup)?;
    server.max_matches = options.matches;
    server.match_length = options.match_length;
    server.requirements = options.requirements;
    let mut signals = Signals::listen()?;
    let stop = async move {
        signals.next().await;
    };
    let summary = serve(server, stop).await?;
    tracing::info!(?summary, "the game server has stopped");
    Ok(ExitCode::SUCCESS)
}

async fn run_bots(options: ArenaPlay) -> Result<ExitCode, Failure> {
    let arrivals = Arrivals::Spread { players: options.players, over: options.over };
    let mut bots = PlayOptions::new(options.remote.url.clone(), arrivals, options.seed);
    bots.api_key = options.remote.key.clone().map(ApiKey::new);
    bots.ca = options.remote.ca.clone();
    (bots.game, bots.version, bots.queue) = (options.game, options.version, options.queue);
    bots.play_for = options.lasting..=options.lasting;
    let mut signals = Signals::listen()?;
    let stop = async move {
        signals.next().await;
    };
    let summary = play(bots, stop, |event| {
        if let BotEvent::Failed { bot, reason, detail } = event {
            tracing::warn!(bot, %reason, detail, "a bot failed");
        }
    })
    .await?;
    report(&summary, options.remote.json)?;
    Ok(if summary.failures() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn report(summary: &PlaySummary, json: bool) -> Result<(), Failure> {
    let failures = failures(summary);
    if json {
        return line(json!({
            "players_joined": summary.joined,
            "players_left": summary.left,
            "updates": summary.updates,
            "join_ms": percentiles(&summary.join),
            "failures": failures,
        }));
    }
    line(format_args!(
        "{} joined, {} played to the end, {} world updates verified, join {}",
        summary.joined,
        summary.left,
        summary.updates,
        times(&summary.join)
    ))?;
    for (reason, count) in failures {
        line(format_args!("failed: {count} × {reason}"))?;
    }
    Ok(())
}

/// Failures by the stable name of their reason.
pub(crate) fn failures(summary: &PlaySummary) -> std::collections::BTreeMap<String, u64> {
    summary.failed.iter().map(|(reason, count)| (reason.to_string(), *count)).collect()
}

/// `{p50, p99}` in milliseconds; null if nothing was measured.
pub(crate) fn percentiles(latency: &sortie_arena::Latency) -> serde_json::Value {
    let at = |percent| (latency.count() > 0).then(|| millis(latency.percentile(percent)));
    json!({ "p50": at(50.0), "p99": at(99.0) })
}

/// The same as text.
pub(crate) fn times(latency: &sortie_arena::Latency) -> String {
    if latency.count() == 0 {
        return "none".to_owned();
    }
    let (p50, p99) = (millis(latency.percentile(50.0)), millis(latency.percentile(99.0)));
    format!("p50 {p50} ms, p99 {p99} ms ({} measured)", latency.count())
}

/// Milliseconds with two decimals.
pub(crate) fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 100_000.0).round() / 100.0
}
