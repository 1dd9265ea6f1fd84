//! Logs go to standard error, so that standard output is for what was asked for.

use std::io::{self, IsTerminal};

use sortie_config::LogFormat;
use tracing_subscriber::EnvFilter;

use crate::terminal::LogLines;

/// Logs nothing below `levels`, a list as `RUST_LOG` takes it.
pub(crate) fn start(levels: &str, format: LogFormat) {
    // Its library reports every bad datagram as an error, which any stranger can send.
    let filter = EnvFilter::try_new(format!("{levels},renetcode=off")).unwrap_or_default();
    let coloured = format == LogFormat::Text && io::stderr().is_terminal();
    let logging = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(LogLines { coloured })
        // Where a line cannot be written, on a full disk, the library would say so in the same place and panic.
        .log_internal_errors(false)
        .with_ansi(coloured);
    // A second start within one process changes nothing.
    let _ = match format {
        LogFormat::Text => logging.with_target(false).try_init(),
        LogFormat::Json => logging.json().try_init(),
    };
}
