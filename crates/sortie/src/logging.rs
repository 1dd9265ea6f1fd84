//! Logs go to standard error, so that standard output contains only what was asked for.

use std::io::{self, IsTerminal};

use sortie_config::LogFormat;
use tracing_subscriber::EnvFilter;

use crate::terminal::LogLines;

/// Logs nothing below `levels`, a list in the format of `RUST_LOG`.
pub(crate) fn start(levels: &str, format: LogFormat) {
    // This library reports every bad datagram as an error, and any stranger can send one.
    let filter = EnvFilter::try_new(format!("{levels},renetcode=off")).unwrap_or_default();
    let coloured = format == LogFormat::Text && io::stderr().is_terminal();
    let logging = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(LogLines { coloured })
        // If a line cannot be written, e.g. on a full disk, the library would report that in the same place and panic.
        .log_internal_errors(false)
        .with_ansi(coloured);
    // Has no effect on a second start within one process.
    let _ = match format {
        LogFormat::Text => logging.with_target(false).try_init(),
        LogFormat::Json => logging.json().try_init(),
    };
}
