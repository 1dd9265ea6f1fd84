//! The benchmarks of `sortie bench`: they measure a control plane from outside, through its users' interfaces.
//!
//! Load and control plane share one machine, which is seldom quiet. So nothing is compared across runs: each figure has
//! a limit next to it (the cheapest call over the same connections, a bare loop of syncs on the same disk), measured in
//! turns with it, and the ratio counts.
//!
//! | where | what |
//! |---|---|
//! | `cli` | what is measured, as options of a command line |
//! | `broker` | whole lives of matches, against health checks and syncs |
//! | `scale` | requests for matches with a long queue and many waiting servers, against few of both; memory |
//! | `replay` | a start over a long log |
//! | `sidecar` | a game server's calls through a sidecar, against the same calls without one |
//! | `matchmaker` | the matchmaker's ticks, against a plain scan |
//! | `dispatch`, [`data_path`] | what goes through a dispatcher, against relays that do less; `cargo bench` runs it, too |
//! | `gateway` | players' seats and connect tokens, against the cheapest HTTP call |
//! | `game_server` | what plays the gateway's matches, as a process of a fleet |
//! | `target` | the control plane: a running one, or one of the benchmark's own |
//! | `client` | a connection to it |
//! | `load` | many tasks that call at the same time |
//! | `disk` | the loop of syncs |
//! | `stats` | percentiles, medians |
//!
//! A crate of its own, so that what is measured does not contain what it is compared with.

mod broker;
mod cli;
mod client;
pub mod data_path;
mod disk;
mod dispatch;
mod failure;
mod game_server;
mod gateway;
mod load;
mod matchmaker;
mod replay;
mod scale;
mod sidecar;
mod stats;
mod target;

use serde_json::Value;
use sortie_domain::broker::Broker;
use sortie_engine::Codec;

use cli::Action;
pub use cli::Bench;
pub use failure::Failure;
use load::Errors;

/// Maximum number of HTTP/2 connections that calls are spread over; further calls share them.
const MAX_CONNECTIONS: usize = 8;
/// Number of turns of what is measured and its limit.
const ROUNDS: u32 = 5;

/// What the program that runs a benchmark provides.
#[derive(Clone, Copy, Debug)]
pub struct Program {
    /// Between the broker's types and its log.
    pub codec: fn() -> Codec<Broker>,
    /// Shows one line on standard output. Benchmarks that take minutes show each figure as soon as it is known.
    pub show: fn(&str),
}

/// The result of a benchmark.
#[derive(Debug)]
pub struct Report {
    /// For programs; includes the number of `errors`.
    pub json: Value,
    /// For people, line by line, without what has been shown already.
    pub text: Vec<String>,
    /// Whether the output is for programs.
    pub for_programs: bool,
    /// Number of calls that failed.
    pub failed_calls: u64,
    /// Some of their errors.
    pub examples: Vec<String>,
}

/// The result of one benchmark.
struct Outcome {
    json: Value,
    text: Vec<String>,
    errors: Errors,
}

/// Runs a benchmark; `None` for the processes that benchmarks start. Everything that was started ends when the future
/// is dropped.
///
/// # Errors
/// [`Failure`] if nothing could be measured.
pub async fn run(options: Bench, program: Program) -> Result<Option<Report>, Failure> {
    // Programs read one line at the end.
    let show: fn(&str) = if options.json { |_| {} } else { program.show };
    let outcome = match options.action {
        Action::Broker(options) => Box::pin(broker::run(&options)).await?,
        Action::Gateway(options) => Box::pin(gateway::run(&options)).await?,
        Action::Sidecar(options) => Box::pin(sidecar::run(&options)).await?,
        Action::Dispatch(options) => dispatch::run(&options, show).await?,
        Action::Matchmaker(options) => matchmaker::run(&options, show).await?,
        Action::Replay(options) => replay::run(&options, program.codec).await?,
        Action::GameServer => {
            game_server::run().await?;
            return Ok(None);
        }
        Action::DispatchRelay(options) => {
            dispatch::relay(options).await?;
            return Ok(None);
        }
    };
    let Outcome { mut json, text, errors } = outcome;
    json["errors"] = errors.count().into();
    let examples = errors.examples().to_vec();
    Ok(Some(Report { json, text, for_programs: options.json, failed_calls: errors.count(), examples }))
}
