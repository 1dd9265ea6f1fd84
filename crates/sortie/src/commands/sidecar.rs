//! `sortie sidecar`: runs next to a game server, until a signal or until nothing is left to do.

use std::process::ExitCode;

use sortie_config::LogFormat;
use sortie_sidecar::Sidecar;
use sortie_sidecar::settings::{self, Encoder, Variables};
use tokio_util::sync::CancellationToken;

use super::output::line;
use super::signals::Signals;
use crate::cli;
use crate::failure::Failure;
use crate::logging;

pub(crate) async fn run(options: cli::Sidecar) -> Result<ExitCode, Failure> {
    let variables = variables();
    let loaded = settings::load(&options.config, &variables)
        .map_err(|error| Failure::new(format!("{}:\n{error}", options.config.display())))?;
    let settings::Loaded { settings, mut warnings } = loaded;
    let format = match settings.logging.encoder {
        Encoder::Console => LogFormat::Text,
        Encoder::Json => LogFormat::Json,
    };
    logging::start(settings.logging.level.name(), format);
    if let Some(motd) = &settings.motd {
        tracing::info!("{motd}");
    }
    let mut signals = Signals::listen()?;
    let starting = async move {
        let sidecar = Sidecar::start(settings, &variables, &mut warnings).await;
        (sidecar, warnings)
    };
    let (sidecar, warnings) = match signals.while_starting(starting).await {
        Ok(started) => started?,
        Err(code) => return Ok(code),
    };
    for warning in &warnings {
        tracing::warn!("{warning}");
    }
    let sidecar = sidecar.map_err(|error| Failure::new(error.to_string()))?;
    for listening in sidecar.listening() {
        line(listening)?;
    }
    line("ready")?;
    let closing = CancellationToken::new();
    let running = tokio::spawn(sidecar.run(closing.clone()));
    let ended = match signals.outlast(&closing, running).await {
        Ok(ended) => ended?,
        Err(code) => return Ok(code),
    };
    let report = ended.map_err(|error| Failure::new(error.to_string()))?;
    tracing::info!(undelivered = report.undelivered, kept = report.kept, "the sidecar has stopped");
    Ok(ExitCode::SUCCESS)
}

/// The environment variables that are valid Unicode; others cannot be settings.
fn variables() -> Variables {
    let texts = std::env::vars_os();
    texts.filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))).collect()
}
