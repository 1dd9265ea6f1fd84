//! A tunnel: for each protocol one websocket after another, with pauses in between.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sortie_dispatch::Protocol;
use sortie_retry::Backoff;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::connect::{ConnectError, Websocket, open};
use crate::datagrams::Datagrams;
use crate::options::TunnelOptions;
use crate::session::{self, Traffic};
use crate::streams::Streams;

/// Pause before the next websocket; the maximum is how long a server's players wait once the dispatcher is back.
const BACKOFF: Backoff = Backoff { first: Duration::from_millis(250), max: Duration::from_secs(10) };
/// A websocket that was open this long does not count as a failure.
const STEADY: Duration = Duration::from_secs(10);

/// Runs a tunnel until `closing` is cancelled, then shuts it down gracefully: data in flight is delivered in both
/// directions, within [`crate::Limits::close_time`]. Calls `ready` once, when every protocol is reachable for the first
/// time.
///
/// A lost websocket is always reopened. Before the first one, opening is retried only if the dispatcher is away.
///
/// # Errors
/// [`ConnectError::is_lasting`]: the dispatcher refuses permanently, before there has been a websocket.
pub async fn run(
    options: TunnelOptions,
    closing: CancellationToken,
    ready: impl FnOnce(),
) -> Result<(), ConnectError> {
    let options = Arc::new(options);
    let mut waiting = options.protocols.len();
    let (opened, mut openings) = mpsc::channel(waiting.max(1));
    let ending = closing.child_token();
    let mut lines = JoinSet::new();
    for protocol in options.protocols.iter().copied() {
        let line = Line { options: Arc::clone(&options), protocol, closing: ending.clone() };
        lines.spawn(line.run(opened.clone()));
    }
    drop(opened);
    let mut ready = Some(ready);
    let mut result = Ok(());
    loop {
        tokio::select! {
            Some(()) = openings.recv() => {
                waiting = waiting.saturating_sub(1);
                if let Some(ready) = ready.take_if(|_| waiting == 0) {
                    ready();
                }
            }
            ended = lines.join_next() => match ended {
                Some(Ok(Err(error))) => {
                    result = result.and(Err(error));
                    ending.cancel();
                }
                Some(_) => {}
                None => return result,
            },
        }
    }
}

/// The websockets of one protocol.
struct Line {
    options: Arc<TunnelOptions>,
    protocol: Protocol,
    closing: CancellationToken,
}

impl Line {
    async fn run(self, opened: mpsc::Sender<()>) -> Result<(), ConnectError> {
        let mut opened = Some(opened);
        let mut failures = 0;
        let mut datagrams = Datagrams::new(self.options.target.clone(), self.options.limits.clone());
        loop {
            let websocket = tokio::select! {
                websocket = open(&self.options, self.protocol) => websocket,
                () = self.closing.cancelled() => return Ok(()),
            };
            let problem = match websocket {
                Err(error) if opened.is_some() && error.is_lasting() => return Err(error),
                Err(error) => {
                    failures += 1;
                    error.to_string()
                }
                Ok(websocket) => {
                    tracing::info!(protocol = self.name(), port = self.options.port, dispatcher = %self.options.dispatcher, "the port is open");
                    if let Some(opened) = opened.take() {
                        let _nobody_waits = opened.send(()).await;
                    }
                    let since = Instant::now();
                    let Some(problem) = self.serve(websocket, &mut datagrams).await else { return Ok(()) };
                    failures = if since.elapsed() >= STEADY { 1 } else { failures + 1 };
                    problem
                }
            };
            let pause = BACKOFF.delay(failures);
            tracing::warn!(protocol = self.name(), dispatcher = %self.options.dispatcher, problem, pause_ms = pause.as_millis() as u64, "the port is not open; trying again");
            tokio::select! {
                () = sleep(pause) => {}
                () = self.closing.cancelled() => return Ok(()),
            }
        }
    }

    async fn serve(&self, websocket: Websocket, datagrams: &mut Datagrams) -> Option<String> {
        let limits = &self.options.limits;
        let end = session::run(websocket, limits, &self.closing, |outbound| match self.protocol {
            Protocol::Tcp => {
                Traffic::Tcp(Streams::new(self.options.target.clone(), limits.clone(), outbound))
            }
            Protocol::Udp => {
                datagrams.use_outbound(Some(outbound));
                Traffic::Udp(datagrams)
            }
        })
        .await;
        datagrams.use_outbound(None);
        end
    }

    const fn name(&self) -> &'static str {
        match self.protocol {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        }
    }
}
