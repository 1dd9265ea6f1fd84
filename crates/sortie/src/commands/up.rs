//! `sortie up`: runs the control plane until a signal.

use std::process::ExitCode;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::config::load;
use super::output::line;
use super::signals::Signals;
use crate::cli;
use crate::failure::Failure;
use crate::logging;
use crate::node::Node;
use crate::roles::dispatch;
use crate::used::Accepted;

pub(crate) async fn run(options: cli::Up) -> Result<ExitCode, Failure> {
    let config = load(&options.source)?;
    let accepted = Accepted { loss: options.accept_loss, clock: options.accept_clock };
    logging::start(&config.log.level, config.log.format);
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let mut signals = Signals::listen()?;
    let config = Arc::new(config);
    let own = Arc::clone(&config);
    let node = match signals.while_starting(async move { Node::start(&own, accepted).await }).await {
        Ok(started) => started??,
        Err(code) => return Ok(code),
    };
    if let Err(problem) = line(format_args!("listening on {}://{}", config.scheme(), node.address)) {
        tracing::warn!(%problem, address = %node.address, "cannot print the listening address on standard output");
    }
    if let Some(address) = node.dispatch_address {
        let scheme = dispatch::scheme(&config);
        if let Err(problem) = line(format_args!("drivers on {scheme}://{address}")) {
            tracing::warn!(%problem, %address, "cannot print the drivers' address on standard output");
        }
    }
    let closing = CancellationToken::new();
    let running = tokio::spawn(node.run(closing.clone().cancelled_owned()));
    match signals.outlast(&closing, running).await {
        Ok(outcome) => Ok(report(&outcome?)),
        Err(code) => Ok(code),
    }
}

fn report(outcome: &sortie_engine::supervisor::Outcome) -> ExitCode {
    if outcome.failed.is_none() && outcome.broken_off.is_empty() {
        tracing::info!("{outcome}");
        return ExitCode::SUCCESS;
    }
    tracing::error!("{outcome}");
    ExitCode::FAILURE
}
