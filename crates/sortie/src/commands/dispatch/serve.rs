//! `sortie dispatch`: ports on demand, until a signal.

use std::process::ExitCode;

use sortie_config::Config;
use sortie_dispatch::{Dispatch, Secret};
use sortie_serving::{Limits, ListenAddr};
use tokio_util::sync::CancellationToken;

use super::settings::{Variables, default_listen, need_secret};
use crate::cli;
use crate::commands::config;
use crate::commands::output::line;
use crate::commands::signals::Signals;
use crate::edge;
use crate::failure::Failure;
use crate::logging;
use crate::roles::dispatch::{self, Port};

/// Where the dispatcher listens, and which secret drivers send.
struct Door {
    listen: ListenAddr,
    secret: Option<Secret>,
    dev: bool,
}

pub(crate) async fn run(options: cli::DispatchServe) -> Result<ExitCode, Failure> {
    let config = config::load_file(options.config)?;
    let variables = Variables(|name: &str| std::env::var(name).ok());
    logging::start(&variables.levels(&config.log.level), config.log.format);
    // Other warnings concern the control plane.
    for warning in config.warnings.iter().filter(|warning| warning.path.starts_with("dispatch.")) {
        tracing::warn!("{warning}");
    }
    let configured = config.dispatch.listen.map(ListenAddr::from);
    let listen = match options.listen {
        Some(listen) => listen,
        None => variables.listen()?.or(configured).unwrap_or_else(default_listen),
    };
    let secret = match variables.secret()? {
        Some(secret) => Some(secret),
        None => dispatch::configured_secret(&config.dispatch)?,
    };
    serve(&config, Door { listen, secret, dev: options.dev || config.dev }).await
}

async fn serve(config: &Config, door: Door) -> Result<ExitCode, Failure> {
    let Door { listen, secret, dev } = door;
    let signals = Signals::listen()?;
    let listener =
        listen.bind().await.map_err(|error| Failure::of(format!("cannot listen on {listen}"), error))?;
    let address = listener.local_addr()?;
    need_secret(secret.is_some(), dev, address)?;
    let tls = edge::tls(dispatch::certificate(config))?;
    let dispatcher = Dispatch::new(dispatch::options(&config.dispatch, secret, None))
        .map_err(|problem| Failure::of("dispatch", problem))?;
    let connections = edge::connections(config, dispatch::open_files(&config.dispatch));
    let limits = Limits { connections, grace: config.shutdown_deadline, ..edge::limits(config) };
    let closing = CancellationToken::new();
    let close = closing.clone();
    let visitors = edge::visitors(config, !dispatcher.is_open());
    let port = Port { listener, tls, router: dispatch::router(&dispatcher), visitors };
    let running = tokio::spawn(async move {
        dispatch::serve(&dispatcher, port, &limits, closing).await;
    });
    line(format_args!("listening on {}://{address}", dispatch::scheme(config)))?;
    line("ready")?;
    match signals.outlast(&close, running).await {
        Ok(ended) => ended?,
        Err(code) => return Ok(code),
    }
    tracing::info!("the dispatcher has ended");
    Ok(ExitCode::SUCCESS)
}
