//! `sortie matchmaker`: exports recorded tickets, and replays them under other rules.

mod recorded;
mod replay;

use std::process::ExitCode;

use sortie_config::LogFormat;
use sortie_replay::lines;

use super::output::line;
use crate::cli::{Matchmaker, MatchmakerAction};
use crate::failure::Failure;
use crate::logging;

pub(crate) async fn run(options: Matchmaker) -> Result<ExitCode, Failure> {
    logging::start("warn", LogFormat::Text);
    // Reads files and replays tickets without ever awaiting.
    let work = tokio::task::spawn_blocking(move || match options.action {
        MatchmakerAction::Replay(options) => replay::run(&options),
        MatchmakerAction::Export(options) => {
            let recording = recorded::of_folder(&options.data)?;
            recording.arrivals.iter().try_for_each(|arrival| line(lines::write(arrival)))
        }
    });
    work.await??;
    Ok(ExitCode::SUCCESS)
}
