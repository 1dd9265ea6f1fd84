//! `sortie dispatch`: ports on demand, until a signal.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use sortie_dispatch::{Dispatch, DispatchOptions};
use sortie_serving::Limits;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::settings::{Variables, default_listen, need_secret};
use crate::cli;
use crate::commands::config;
use crate::commands::output::line;
use crate::commands::signals::Signals;
use crate::edge;
use crate::failure::Failure;
use crate::logging;

pub(crate) async fn run(options: cli::DispatchServe) -> Result<ExitCode, Failure> {
    let config = config::load_file(options.config)?;
    let variables = Variables(|name: &str| std::env::var(name).ok());
    logging::start(&variables.levels(&config.log.level, "info"), config.log.format);
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let listen = match options.listen {
        Some(listen) => listen,
        None => variables.listen()?.unwrap_or_else(default_listen),
    };
    let secret = variables.secret()?;
    let mut signals = Signals::listen()?;
    let listener =
        listen.bind().await.map_err(|error| Failure::of(format!("cannot listen on {listen}"), error))?;
    let address = listener.local_addr()?;
    need_secret(secret.is_some(), options.dev || config.dev, address)?;
    let tls = edge::tls(&config)?;
    let scheme = if tls.is_some() { "https" } else { "http" };
    let dispatch = Dispatch::new(DispatchOptions { secret, ..DispatchOptions::default() })?;
    let served = Served { dispatch, listener, tls, limits: edge::limits(&config) };
    let closing = CancellationToken::new();
    let running = tokio::spawn(served.run(closing.clone(), config.shutdown_deadline));
    line(format_args!("listening on {scheme}://{address}"))?;
    line("ready")?;
    tokio::pin!(running);
    tokio::select! {
        ended = &mut running => ended?,
        _ = signals.next() => {
            closing.cancel();
            tokio::select! {
                ended = running => ended?,
                signal = signals.next() => {
                    tracing::warn!("a second signal: not waiting for an ordered end");
                    return Ok(signal.exit_code());
                }
            }
        }
    }
    tracing::info!("the dispatcher has ended");
    Ok(ExitCode::SUCCESS)
}

/// A dispatcher and its port.
struct Served {
    dispatch: Dispatch,
    listener: TcpListener,
    tls: Option<Arc<ServerConfig>>,
    limits: Limits,
}

impl Served {
    /// Until `closing` is cancelled; then drivers and devices have `deadline` to end in order.
    async fn run(self, closing: CancellationToken, deadline: Duration) {
        let Self { dispatch, listener, tls, limits } = self;
        let stop = closing.clone();
        let end = async {
            stop.cancelled().await;
            dispatch.shutdown(deadline).await;
        };
        let serving = sortie_serving::serve(listener, dispatch.router(), tls, &limits, closing);
        tokio::join!(serving, end);
    }
}
