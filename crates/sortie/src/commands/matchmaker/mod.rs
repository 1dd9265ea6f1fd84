//! `sortie matchmaker`: what was recorded of tickets, and what other rules would have made of them.

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
    // Files are read and tickets replayed in one go, with nothing to wait for.
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
