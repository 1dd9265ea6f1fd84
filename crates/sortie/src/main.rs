//! The one binary. Each subcommand is a role or a tool; what they do is in the crates, here they are put together.
//!
//! | where | what |
//! |---|---|
//! | `cli` | the command line |
//! | `node` | a whole control plane: log, broker, allocators, API, gateway |
//! | `edge` | TLS, limits, the listener and its end |
//! | `dispatch` | the dispatcher as a role |
//! | `metrics` | what every process tells of itself |
//! | `secrets` | keys in the data folder |
//! | `api_keys` | those of them that `sortie key` makes |
//! | `commands` | a file a subcommand |
//! | `remote` | the HTTP client of the subcommands that talk to a running `sortie` |

mod api_keys;
mod cli;
mod commands;
mod dispatch;
mod edge;
mod failure;
mod logging;
mod machine_start;
mod matchmaker;
mod metrics;
mod node;
mod remote;
mod secrets;
mod used;

use std::process::ExitCode;

use clap::Parser;
use tokio::runtime::Builder;

use cli::{Cli, Command};
use failure::Failure;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match threads(&cli.command).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("sortie: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let result = runtime.block_on(run(cli.command));
    // Name look-ups and the like may hang in threads that cannot be stopped.
    runtime.shutdown_background();
    match result {
        Ok(code) => code,
        Err(failure) => {
            eprintln!("sortie: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// What stands beside one game server has little to do at a time: on one thread no call wakes another, and it takes less
/// of what the game server needs.
fn threads(command: &Command) -> Builder {
    match command {
        Command::Sidecar(_) => Builder::new_current_thread(),
        _ => Builder::new_multi_thread(),
    }
}

async fn run(command: Command) -> Result<ExitCode, Failure> {
    sortie_engine::clock::check_wall_clock(std::time::SystemTime::now())?;
    match command {
        Command::Up(options) => commands::up::run(options).await,
        Command::Demo(options) => commands::demo::run(options).await,
        Command::Arena(options) => commands::arena::run(options).await,
        Command::Sidecar(options) => commands::sidecar::run(options).await,
        Command::Dispatch(options) => commands::dispatch::run(options).await,
        Command::Match(options) => commands::matches::run(options).await,
        Command::Ticket(options) => commands::tickets::run(options).await,
        Command::Queue(options) => commands::lists::queues(options).await,
        Command::Server(options) => commands::lists::servers(options).await,
        Command::Fleet(options) => commands::lists::fleets(options).await,
        Command::Events(options) => commands::events::run(options).await,
        Command::Matchmaker(options) => commands::matchmaker::run(options).await,
        Command::Config(options) => commands::config::run(&options),
        Command::Key(options) => commands::key::run(options),
        Command::Completions(options) => commands::completions::run(&options),
        Command::Bench(options) => commands::bench::run(options).await,
    }
}
