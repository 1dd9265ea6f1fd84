//! `sortie bench`: measures a control plane from outside, through the doors that its users have.
//!
//! The machine that measures is the one that is measured, and seldom a quiet one. So nothing is compared across runs:
//! each figure stands beside its limit (the cheapest call over the very same connections, a bare loop of syncs on the
//! same disk), taken in turns with it, and what counts is the ratio.
//!
//! | where | what |
//! |---|---|
//! | `broker` | whole lives of matches, against health checks and syncs |
//! | `scale` | requests for matches with a long queue and many waiting servers, against few of both; memory |
//! | `replay` | a start over a long log |
//! | `sidecar` | a game server's calls through a sidecar, against the same calls without one |
//! | `matchmaker` | the matchmaker's ticks, against a plain scan |
//! | `dispatch` | what goes through a dispatcher, against relays that do less |
//! | `gateway` | players' seats and connect tokens, against the cheapest HTTP call |
//! | `game_server` | what plays the gateway's matches, as a process of a fleet |
//! | `target` | the control plane: a running one, or one of the benchmark's own |
//! | `client` | a connection to it |
//! | `load` | many tasks that call at the same time |
//! | `disk` | the loop of syncs |
//! | `stats` | percentiles, medians |

mod broker;
mod client;
mod disk;
mod dispatch;
mod game_server;
mod gateway;
mod load;
mod matchmaker;
mod replay;
mod scale;
mod sidecar;
mod stats;
mod target;

use std::process::ExitCode;

use serde_json::Value;
use sortie_config::LogFormat;

use super::output::{line, note};
use super::signals::Signals;
use crate::cli::{Bench, BenchAction};
use crate::failure::Failure;
use crate::logging;
use load::Errors;

/// Most HTTP/2 connections that calls are spread over; further calls share them.
const MAX_CONNECTIONS: usize = 8;
/// Times that what is measured and its limit take turns.
const ROUNDS: u32 = 5;

/// What a benchmark found.
struct Outcome {
    /// For programs.
    json: Value,
    /// For people.
    text: Vec<String>,
    errors: Errors,
}

pub(crate) async fn run(options: Bench) -> Result<ExitCode, Failure> {
    logging::start("warn", LogFormat::Text);
    let mut signals = Signals::listen()?;
    let work = async {
        let (outcome, json) = match options.action {
            BenchAction::Broker(options) => (Box::pin(broker::run(&options)).await?, options.target.json),
            BenchAction::Gateway(options) => (Box::pin(gateway::run(&options)).await?, options.target.json),
            BenchAction::Sidecar(options) => (Box::pin(sidecar::run(&options)).await?, options.json),
            BenchAction::Dispatch(options) => (dispatch::run(&options).await?, options.json),
            BenchAction::Matchmaker(options) => (matchmaker::run(&options).await?, options.json),
            BenchAction::Replay(options) => (replay::run(&options).await?, options.json),
            BenchAction::GameServer => {
                game_server::run().await?;
                return Ok(ExitCode::SUCCESS);
            }
            BenchAction::DispatchRelay(options) => return dispatch::relay(options).await,
        };
        report(outcome, json)
    };
    // What was started goes when the work is dropped.
    tokio::select! {
        done = work => done,
        _ = signals.next() => Err(Failure::new("broken off")),
    }
}

fn report(outcome: Outcome, json: bool) -> Result<ExitCode, Failure> {
    let Outcome { json: mut document, text, errors } = outcome;
    if json {
        document["errors"] = errors.count().into();
        line(&document)?;
    } else {
        text.iter().try_for_each(line)?;
    }
    for example in errors.examples() {
        note(format_args!("sortie: {example}"));
    }
    if errors.count() == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("sortie: {} calls failed", errors.count());
    Ok(ExitCode::FAILURE)
}
