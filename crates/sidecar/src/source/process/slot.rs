//! One server: takes a match, runs a program for it, and reports its progress.

use std::convert::Infallible;
use std::future::pending;
use std::io;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use sortie_retry::Backoff;
use sortie_wire::catena::server_manager::{EndMatchRequest, Match, MatchReadyRequest};
use tokio::io::AsyncWriteExt;
use tokio::process::ChildStdin;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::NAME;
use super::answering::answers;
use super::handover::{Handed, HandoverError, HandoverMatch, Surroundings};
use super::match_file::MatchFile;
use super::output::Output;
use super::program::{LaunchSpec, StartError, Started, start};
use super::settings::{Checked, Ready, ReadyPort, Start};
use crate::child::Child;
use crate::manager::{Manager, Next};
use crate::resolver::Address;
use crate::resolver::ports::Ports;
use crate::source::wants_shutdown;

/// Pause after failures. The maximum is long because each further failure costs a match.
const BACKOFF: Backoff = Backoff { first: Duration::from_secs(1), max: Duration::from_secs(60) };

/// State that all servers of one event source share.
pub(super) struct Shared {
    pub(super) settings: Checked,
    pub(super) manager: Manager,
    pub(super) ports: Option<Arc<Ports>>,
    /// The sidecar is shutting down: programs are stopped.
    pub(super) closing: CancellationToken,
    /// No more matches are taken; cancelled together with `closing`.
    pub(super) no_more: CancellationToken,
}

/// One server. It plays one match at a time.
#[derive(Clone)]
pub(super) struct Slot {
    pub(super) shared: Arc<Shared>,
    pub(super) server_id: String,
}

/// Why a match was not played to a proper end.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Handover(#[from] HandoverError),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error("cannot write the match file: {0}; make room or correct TMPDIR")]
    File(io::Error),
    #[error("cannot write to standard input: {0}; MatchLine is for programs that read it")]
    Input(io::Error),
    #[error("no port of PortRange is free; widen it, or stop whatever is using the ports")]
    NoFreePort,
    #[error("players cannot be sent to it: {0}")]
    NoAddress(String),
    #[error("the program was not ready within ReadyDeadline")]
    NotReady,
    #[error("the program ended before it was ready: {0}")]
    EndedEarly(String),
    #[error("the program failed: {0}")]
    Exited(String),
    #[error("the backend refused that the match is ready: {0}")]
    Refused(String),
    #[error("it is no longer wanted")]
    Closing,
}

/// Where a program is reached.
struct ServerAddress {
    port: Option<u16>,
    public_address: Option<String>,
    _lease: Option<Lease>,
}

/// A port of `PortRange`; released when dropped.
struct Lease {
    ports: Arc<Ports>,
    server_id: String,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.ports.release(&self.server_id);
    }
}

/// A program and its resources. Dropped in this order: the port is released after the program has ended.
struct Running {
    program: Child,
    /// Standard input, if matches are passed there.
    input: Option<ChildStdin>,
    output: Output,
    file: Option<MatchFile>,
    place: ServerAddress,
}

/// The outcome of a match, or of waiting for one.
enum MatchOutcome {
    Played,
    Failed,
    /// There will be no more matches.
    Over,
}

impl Slot {
    /// Plays matches until there are no more.
    pub(super) async fn run(self) {
        let Shared { manager, no_more, .. } = &*self.shared;
        self.end_what_was_left().await;
        if let Err(status) = manager.register(NAME, &self.server_id) {
            tracing::error!(
                server_id = self.server_id,
                error = status.message,
                "a server cannot be registered"
            );
            return;
        }
        // Its process is watched here, so silence means nothing.
        manager.vouch_for(&self.server_id);
        let mut failures = 0;
        while !no_more.is_cancelled() {
            let turn = match self.shared.settings.start {
                Start::OnMatch => self.play_on_match().await,
                Start::Ahead => self.play_ahead().await,
            };
            match turn {
                MatchOutcome::Played => failures = 0,
                MatchOutcome::Failed => {
                    failures += 1;
                    self.rest(failures, no_more).await;
                }
                MatchOutcome::Over => break,
            }
        }
        manager.server_gone(&self.server_id, "its event source has ended").await;
    }

    /// The programs of an earlier sidecar are gone, and so are their matches.
    async fn end_what_was_left(&self) {
        let view = self.shared.manager.view();
        let mut servers = view.servers.iter();
        if servers.any(|server| server.id == self.server_id && !server.matches.is_empty()) {
            self.shared.manager.server_gone(&self.server_id, "its sidecar was started again").await;
        }
    }

    async fn rest(&self, failures: u32, until: &CancellationToken) {
        let pause = BACKOFF.delay(failures);
        tracing::info!(
            server_id = self.server_id,
            ?pause,
            failures,
            "pausing before the next request for a match"
        );
        tokio::select! {
            () = sleep(pause) => {}
            () = until.cancelled() => {}
        }
    }

    async fn play_on_match(&self) -> MatchOutcome {
        // A server that cannot be given players takes no match.
        if let Err(failure) = self.place().await {
            tracing::error!(server_id = self.server_id, %failure, "cannot host matches");
            return MatchOutcome::Failed;
        }
        match self.next().await {
            Ok(game) => {
                let match_id = game.match_id.clone();
                let played = self.host(game).await;
                self.conclude(&match_id, played).await
            }
            Err(turn) => turn,
        }
    }

    async fn play_ahead(&self) -> MatchOutcome {
        let (warm, wanted, unwanted) =
            (CancellationToken::new(), CancellationToken::new(), CancellationToken::new());
        let ask = async {
            let next = tokio::select! {
                () = warm.cancelled() => self.next().await,
                () = self.shared.no_more.cancelled() => Err(MatchOutcome::Over),
            };
            match next {
                Ok(_) => wanted.cancel(),
                Err(_) => unwanted.cancel(),
            }
            next
        };
        let (running, next) = tokio::join!(self.keep_warm(&warm, &wanted, &unwanted), ask);
        match (running, next) {
            (Some(running), Ok(game)) => {
                let match_id = game.match_id.clone();
                let played = self.hand_over(running, game).await;
                self.conclude(&match_id, played).await
            }
            (None, Ok(game)) => self.conclude(&game.match_id, Err(Failure::NotReady)).await,
            (Some(running), Err(turn)) => {
                self.stop(running).await;
                turn
            }
            (None, Err(turn)) => turn,
        }
    }

    /// Keeps a ready program waiting for a match, restarted whenever it ends, until it is needed or no longer wanted.
    /// `None` if there is none then, or not within the deadline.
    async fn keep_warm(
        &self,
        warm: &CancellationToken,
        wanted: &CancellationToken,
        unwanted: &CancellationToken,
    ) -> Option<Running> {
        let give_up = CancellationToken::new();
        let watch = async {
            let too_late = async {
                wanted.cancelled().await;
                sleep(self.shared.settings.ready_deadline).await;
            };
            tokio::select! {
                () = unwanted.cancelled() => {}
                () = too_late => {}
            }
            give_up.cancel();
            pending::<Infallible>().await
        };
        let keep = async {
            let mut failures = 0;
            while !give_up.is_cancelled() {
                match self.launch(None, &give_up).await {
                    Ok(running) => {
                        warm.cancel();
                        let since = Instant::now();
                        tokio::select! {
                            biased;
                            () = running.program.exited() => {}
                            () = wanted.cancelled() => return Some(running),
                            () = give_up.cancelled() => return Some(running),
                        }
                        let ended = running.end().await;
                        tracing::warn!(server_id = self.server_id, %ended, "the program ended without a match");
                        if since.elapsed() >= BACKOFF.max {
                            failures = 0;
                        }
                    }
                    Err(Failure::Closing) => return None,
                    Err(failure) => {
                        tracing::error!(server_id = self.server_id, %failure, "no program to wait for a match");
                    }
                }
                failures += 1;
                self.rest(failures, &give_up).await;
            }
            None
        };
        tokio::select! {
            running = keep => running,
            never = watch => match never {},
        }
    }

    /// The next match, or why there is none.
    async fn next(&self) -> Result<Match, MatchOutcome> {
        let Shared { settings, manager, no_more, .. } = &*self.shared;
        let (requirements, pace) = (&settings.requirements, settings.request_interval);
        match manager.next_match(NAME, &self.server_id, requirements, pace, no_more).await {
            Ok(Next::Match(game)) => {
                let (match_id, players) = (&game.match_id, game.player_ids.len());
                tracing::info!(server_id = self.server_id, match_id, players, "took a match");
                Ok(game)
            }
            Ok(Next::Shutdown) => {
                self.take_no_more();
                Err(MatchOutcome::Over)
            }
            Ok(Next::Closing) => Err(MatchOutcome::Over),
            Err(status) => {
                let error = status.message;
                tracing::error!(server_id = self.server_id, error, "the backend refuses to give matches");
                Err(MatchOutcome::Failed)
            }
        }
    }

    /// Plays a match with a new program.
    async fn host(&self, game: Match) -> Result<(), Failure> {
        let game = Arc::new(HandoverMatch::read(game)?);
        let running = self.launch(Some(Arc::clone(&game)), &self.shared.closing).await?;
        self.attend(running, &game.match_id).await
    }

    /// Plays a match with a waiting program.
    async fn hand_over(&self, mut running: Running, game: Match) -> Result<(), Failure> {
        let game = HandoverMatch::read(game);
        let handed = match &game {
            Ok(game) => {
                let handed = running.hand_over(&self.server_id, game);
                timeout(self.shared.settings.ready_deadline, handed).await.unwrap_or(Err(Failure::NotReady))
            }
            Err(error) => Err(error.clone().into()),
        };
        match (handed, game) {
            (Ok(()), Ok(game)) => self.attend(running, &game.match_id).await,
            (handed, _) => {
                self.stop(running).await;
                handed
            }
        }
    }

    /// Reports the match as ready, and waits for its end.
    async fn attend(&self, running: Running, match_id: &str) -> Result<(), Failure> {
        let Shared { manager, closing, .. } = &*self.shared;
        let request = MatchReadyRequest {
            server_id: self.server_id.clone(),
            match_id: match_id.to_owned(),
            connection_details: running.place.public_address.clone().unwrap_or_default(),
            ..MatchReadyRequest::default()
        };
        match manager.match_ready(NAME, request).await {
            Ok(response) if wants_shutdown(response.hint_flags) => self.take_no_more(),
            Ok(_) => {}
            Err(status) => {
                self.stop(running).await;
                return Err(Failure::Refused(status.message));
            }
        }
        tokio::select! {
            () = running.program.exited() => {}
            () = closing.cancelled() => {
                self.stop(running).await;
                return Err(Failure::Closing);
            }
        }
        let ended = running.end().await;
        if ended.is_good() { Ok(()) } else { Err(Failure::Exited(ended.to_string())) }
    }

    /// Ends the match, whatever its outcome. During a shutdown, the end of the server does that.
    async fn conclude(&self, match_id: &str, played: Result<(), Failure>) -> MatchOutcome {
        let server_id = &self.server_id;
        match &played {
            Ok(()) => tracing::info!(server_id, match_id, "a match is over"),
            Err(Failure::Closing) => return MatchOutcome::Over,
            Err(failure) => tracing::error!(server_id, match_id, %failure, "a match is given up"),
        }
        let request = EndMatchRequest {
            server_id: server_id.clone(),
            match_id: match_id.to_owned(),
            ..EndMatchRequest::default()
        };
        match self.shared.manager.end_match(NAME, request).await {
            Ok(response) if wants_shutdown(response.hint_flags) => self.take_no_more(),
            Ok(_) => {}
            Err(status) => {
                tracing::warn!(server_id, match_id, error = status.message, "the end of a match was refused");
            }
        }
        if played.is_ok() { MatchOutcome::Played } else { MatchOutcome::Failed }
    }

    fn take_no_more(&self) {
        tracing::info!(server_id = self.server_id, "the backend wants no more of these servers");
        self.shared.no_more.cancel();
    }

    /// Starts a program and waits until it is ready or given up. A program for a match gets the match first.
    async fn launch(
        &self,
        game: Option<Arc<HandoverMatch>>,
        give_up: &CancellationToken,
    ) -> Result<Running, Failure> {
        let place = self.place().await?;
        let (slot, its_game) = (self.clone(), game.clone());
        let start = tokio::task::spawn_blocking(move || slot.start(place, its_game.as_deref()));
        let mut running = start.await.map_err(|stopped| Failure::File(io::Error::other(stopped)))??;
        let settings = &self.shared.settings;
        let why = {
            let Running { program, input, output, file, place } = &mut running;
            let become_ready = async {
                if let (Some(input), Some(game)) = (input, &game) {
                    let document = place.surroundings(&self.server_id, file.as_ref()).document(game)?;
                    write_line(input, &document).await?;
                }
                is_ready(&settings.ready, output, place).await
            };
            tokio::select! {
                biased;
                ready = become_ready => ready.err(),
                () = program.exited() => Some(Failure::EndedEarly(String::new())),
                () = sleep(settings.ready_deadline) => Some(Failure::NotReady),
                () = give_up.cancelled() => Some(Failure::Closing),
            }
        };
        match why {
            None => Ok(running),
            Some(Failure::EndedEarly(_)) => Err(Failure::EndedEarly(running.end().await.to_string())),
            Some(why) => {
                self.stop(running).await;
                Err(why)
            }
        }
    }

    /// Blocks; needs a runtime.
    fn start(&self, place: ServerAddress, game: Option<&HandoverMatch>) -> Result<Running, Failure> {
        let settings = &self.shared.settings;
        let file = match settings.match_file {
            true => Some(MatchFile::new().map_err(Failure::File)?),
            false => None,
        };
        let around = place.surroundings(&self.server_id, file.as_ref());
        if let (Some(file), Some(game)) = (&file, game) {
            file.write(&around.document(game)?).map_err(Failure::File)?;
        }
        let handed = Handed::new(&settings.args, &settings.env, &around, game)?;
        let mut output = Output::new(self.server_id.clone(), settings.ready.pattern());
        let spec = LaunchSpec {
            command: &settings.command,
            working_directory: settings.working_directory.as_deref(),
            handed,
            pass_environment: &settings.pass_environment,
            takes_lines: settings.match_line,
        };
        let Started { child: program, input } = start(&spec, &mut output)?;
        tracing::info!(
            server_id = self.server_id,
            pid = program.id(),
            port = place.port,
            "started a program"
        );
        Ok(Running { program, input, output, file, place })
    }

    async fn place(&self) -> Result<ServerAddress, Failure> {
        let (mut own_port, mut lease) = (None, None);
        if let Some(ports) = &self.shared.ports {
            own_port = ports.get(&self.server_id).map_err(|_names_another_key| Failure::NoFreePort)?;
            lease = Some(Lease { ports: Arc::clone(ports), server_id: self.server_id.clone() });
        }
        let resolved = self.shared.manager.address_of(&self.server_id).await;
        let resolved = resolved.map_err(|error| Failure::NoAddress(error.to_string()))?;
        let resolved_port = resolved.as_ref().and_then(|address| address.port);
        let port = own_port.or(resolved_port);
        let public_address = match resolved {
            Some(Address { host, .. }) => Some(Address { host, port: resolved_port.or(port) }.to_string()),
            None => port.map(|port| format!("127.0.0.1:{port}")),
        };
        Ok(ServerAddress { port, public_address, _lease: lease })
    }

    async fn stop(&self, running: Running) {
        running.program.stop(self.shared.settings.stop_deadline).await;
        let ended = running.end().await;
        tracing::info!(server_id = self.server_id, %ended, "a program was stopped");
    }
}

impl ServerAddress {
    fn surroundings<'a>(&'a self, server_id: &'a str, file: Option<&'a MatchFile>) -> Surroundings<'a> {
        Surroundings {
            server_id,
            port: self.port,
            public_address: self.public_address.as_deref(),
            match_file: file.map(MatchFile::path),
        }
    }
}

/// Returns when a program is ready.
async fn is_ready(ready: &Ready, output: &Output, place: &ServerAddress) -> Result<(), Failure> {
    match ready {
        Ready::AtOnce => {}
        Ready::Pattern(_) => output.matched().await,
        Ready::Port(ReadyPort { number, is_udp }) => {
            let port = number.or(place.port).ok_or(HandoverError::NoPort)?;
            answers(port, *is_udp).await;
        }
    }
    Ok(())
}

/// Writes a line to a program. Returns only when the program has read enough of it.
async fn write_line(input: &mut ChildStdin, line: &str) -> Result<(), Failure> {
    let write = async {
        input.write_all(line.as_bytes()).await?;
        input.write_all(b"\n").await
    };
    write.await.map_err(Failure::Input)
}

impl Running {
    /// Passes a match to a waiting program.
    async fn hand_over(&mut self, server_id: &str, game: &HandoverMatch) -> Result<(), Failure> {
        let document = self.place.surroundings(server_id, self.file.as_ref()).document(game)?;
        if let Some(file) = &self.file {
            file.write(&document).map_err(Failure::File)?;
        }
        match &mut self.input {
            Some(input) => write_line(input, &document).await,
            None => Ok(()),
        }
    }

    /// Returns how the program ended; kills the processes it has left behind.
    async fn end(self) -> Ended {
        let Self { program, output, .. } = self;
        let status = program.reap();
        Ended { status, last_lines: output.end().await }
    }
}

/// How a program ended.
struct Ended {
    status: io::Result<ExitStatus>,
    last_lines: String,
}

impl Ended {
    fn is_good(&self) -> bool {
        self.status.as_ref().is_ok_and(ExitStatus::success)
    }
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.status {
            Ok(status) => write!(f, "{status}")?,
            Err(error) => write!(f, "how is unknown: {error}")?,
        }
        match self.last_lines.as_str() {
            "" => write!(f, "; it printed nothing"),
            lines => write!(f, "; its last lines: {lines}"),
        }
    }
}
