//! `sortie dispatch tunnel`: makes a local server reachable at a port of a dispatcher, until a signal.

use std::process::ExitCode;

use sortie_config::LogFormat;
use sortie_tunnel::{ConnectError, Endpoint, Protocol, TokenSource, TunnelOptions};
use tokio_util::sync::CancellationToken;

use super::settings::Variables;
use crate::cli::DispatchTunnel;
use crate::commands::output::line;
use crate::commands::signals::Signals;
use crate::edge;
use crate::failure::Failure;
use crate::logging;

/// Open files in addition to local connections: the websockets, the standard streams.
const OTHER_FILES: u64 = 64;

pub(crate) async fn run(options: DispatchTunnel) -> Result<ExitCode, Failure> {
    logging::start("info", LogFormat::Text);
    let mut signals = Signals::listen()?;
    let options = tunnel_options(options)?;
    allow_files(&options);
    let protocols = options.protocols.clone();
    let reachable = options.dispatcher.dispatched(options.port);
    let closing = CancellationToken::new();
    let (tell, ready) = tokio::sync::oneshot::channel();
    let running = tokio::spawn(sortie_tunnel::run(options, closing.clone(), || {
        let _nobody_waits = tell.send(());
    }));
    tokio::pin!(running);
    let ready = async {
        // If it never gets ready, the tunnel returns the reason.
        if ready.await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        ended = &mut running => return finished(ended?),
        signal = signals.next() => {
            tracing::debug!(?signal, "exiting at once: no port is open yet");
            return Ok(ExitCode::SUCCESS);
        }
        () = ready => {}
    }
    for protocol in protocols {
        line(format_args!("{} on {reachable}", name(protocol)))?;
    }
    line("ready")?;
    match signals.outlast(&closing, running).await {
        Ok(ended) => finished(ended?),
        Err(code) => Ok(code),
    }
}

fn finished(result: Result<(), ConnectError>) -> Result<ExitCode, Failure> {
    result.map_err(|error| Failure::of("cannot open the port", error))?;
    tracing::info!("the tunnel has ended");
    Ok(ExitCode::SUCCESS)
}

const fn name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
    }
}

fn tunnel_options(options: DispatchTunnel) -> Result<TunnelOptions, Failure> {
    let dispatcher = Endpoint::parse(&options.url).map_err(|error| Failure::of("--url", error))?;
    let token = match options.token_file {
        Some(path) => TokenSource::File(path),
        None => Variables(|name: &str| std::env::var(name).ok()).token()?,
    };
    let protocols = match (options.tcp, options.udp) {
        (true, false) => vec![Protocol::Tcp],
        (false, true) => vec![Protocol::Udp],
        _ => vec![Protocol::Tcp, Protocol::Udp],
    };
    Ok(TunnelOptions {
        protocols,
        accept: options.accept,
        token,
        ca: options.ca,
        ..TunnelOptions::new(dispatcher, options.port, options.to)
    })
}

/// If the system does not allow enough, further local connections fail one by one, each with a message.
fn allow_files(options: &TunnelOptions) {
    let wanted = (options.limits.connections + options.limits.peers) as u64 + OTHER_FILES;
    let files = edge::allow_files(wanted);
    if files < wanted {
        tracing::info!(
            files,
            wanted,
            "the limit of open files is lower than the maximum number of local connections"
        );
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command, DispatchRole};

    fn options(more: &[&str]) -> DispatchTunnel {
        let needed =
            ["sortie", "dispatch", "tunnel", "--to", "127.0.0.1:1", "--url", "ws://h:3000", "--port", "7"];
        match Cli::try_parse_from(needed.iter().chain(more)).unwrap().command {
            Command::Dispatch(dispatch) => match dispatch.role {
                Some(DispatchRole::Tunnel(options)) => options,
                None => panic!("no role"),
            },
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn both_protocols_unless_one_is_named() {
        let (tcp, udp) = (Protocol::Tcp, Protocol::Udp);
        for (flags, protocols) in [
            (&[][..], vec![tcp, udp]),
            (&["--tcp"], vec![tcp]),
            (&["--udp"], vec![udp]),
            (&["--tcp", "--udp"], vec![tcp, udp]),
        ] {
            assert_eq!(tunnel_options(options(flags)).unwrap().protocols, protocols, "{flags:?}");
        }
    }

    #[test]
    fn a_url_with_a_secret_is_refused_without_repeating_it() {
        let mut options = options(&[]);
        options.url = "ws://host:3000?bearer_token=hush".to_owned();
        let refused = tunnel_options(options).unwrap_err().to_string();
        assert!(refused.starts_with("--url: ") && !refused.contains("hush"), "{refused}");
    }
}
