//! Acts for the game server: requests its matches, reports their progress, and keeps its timers.
//!
//! One task, so that reports reach the control plane in order. Only requests for matches and for the resolver's
//! address, which may take long, run concurrently.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use sortie_wire::catena::server_manager::{EndMatchRequest, MatchReadyRequest};
use sortie_wire::hints::HintFlag;
use sortie_wire::status::Status;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tonic::Code;

use super::NAME;
use super::desk::Desk;
use super::game_server::{GameServer, Report};
use crate::manager::{Manager, Next};
use crate::resolver::{Address, ResolveError};

/// Minimum time between two requests for a match that were answered at once.
const PACE: Duration = Duration::from_secs(1);
/// Pause after the control plane refused a request: only a change of its settings or state can help.
const REFUSED_PAUSE: Duration = Duration::from_secs(30);
/// Pause after a temporary failure: of the resolver, or of the disk that stores calls.
const FAILED_PAUSE: Duration = Duration::from_secs(2);

type Asked = Result<Next, Status>;
type Resolved = Result<Option<Address>, ResolveError>;

/// Acts for one game server.
pub(super) struct AgonesDriver {
    desk: Arc<Desk>,
    manager: Manager,
    server_id: String,
    requirements: String,
    is_registered: bool,
    is_resolved: bool,
    /// When to retry what failed.
    try_at: Instant,
    /// When to request a match; `None` if there are no more.
    ask_at: Option<Instant>,
}

impl AgonesDriver {
    pub(super) fn new(desk: Arc<Desk>, manager: Manager, server_id: String, requirements: String) -> Self {
        let now = Instant::now();
        Self {
            desk,
            manager,
            server_id,
            requirements,
            is_registered: false,
            is_resolved: false,
            try_at: now,
            ask_at: Some(now),
        }
    }

    /// Runs until the game server is gone or `closing` is cancelled.
    pub(super) async fn run(&mut self, closing: &CancellationToken) {
        let mut asking: Option<BoxFuture<'static, Asked>> = None;
        let mut resolving: Option<BoxFuture<'static, Resolved>> = None;
        loop {
            self.settle().await;
            if self.desk.read(|game_server| game_server.is_over() && !game_server.has_reports()) {
                return;
            }
            // Dropped as soon as no match is wanted: the manager keeps one that comes anyway for the next request.
            match self.may_ask() {
                false => asking = None,
                true if asking.is_none() && is_due(self.ask_at) => asking = Some(self.ask(closing)),
                true => {}
            }
            if self.is_registered && !self.is_resolved && resolving.is_none() && is_due(Some(self.try_at)) {
                resolving = Some(self.resolve());
            }
            let wake = self.wake(asking.is_some(), resolving.is_some());
            tokio::select! {
                () = closing.cancelled() => return,
                () = self.desk.work() => {}
                () = at(wake) => self.desk.update(GameServer::tick),
                asked = outcome(&mut asking) => self.asked(asked),
                resolved = outcome(&mut resolving) => self.resolved(resolved),
            }
        }
    }

    /// Reports what has happened, as far as possible now.
    pub(super) async fn settle(&mut self) {
        self.register();
        if !is_due(Some(self.try_at)) {
            return;
        }
        while let Some(report) = self.desk.update(|game_server, _| game_server.take_report()) {
            if let Err(report) = self.report(report).await {
                self.desk.update(|game_server, _| game_server.put_back(report));
                return self.failed();
            }
        }
        let unannounced = self.desk.read(|game_server| game_server.unannounced().map(str::to_owned));
        if let Some(match_id) = unannounced.filter(|_| self.is_resolved) {
            self.announce(match_id).await;
        }
    }

    fn register(&mut self) {
        if self.is_registered || !self.desk.read(GameServer::is_known) {
            return;
        }
        match self.manager.register(NAME, &self.server_id) {
            Ok(()) => self.is_registered = true,
            Err(status) => {
                tracing::warn!(text = status.message, "the game server cannot be registered");
                self.failed();
            }
        }
        // Its health is watched here, and a server that need not report it may be silent for a whole match.
        self.manager.vouch_for(&self.server_id);
    }

    /// Returns a report that must be repeated.
    async fn report(&self, report: Report) -> Result<(), Report> {
        match &report {
            Report::Gone { why } => self.manager.server_gone(&self.server_id, why).await,
            Report::Ended { match_id } => {
                let request = EndMatchRequest {
                    server_id: self.server_id.clone(),
                    match_id: match_id.clone(),
                    hint_flags: 0,
                };
                match self.manager.end_match(NAME, request).await {
                    Ok(response) => self.hinted(response.hint_flags),
                    Err(status) if may_pass(&status) => return Err(report),
                    Err(status) => {
                        tracing::warn!(match_id, text = status.message, "the end of a match was refused");
                    }
                }
            }
        }
        Ok(())
    }

    async fn announce(&mut self, match_id: String) {
        let request = MatchReadyRequest {
            server_id: self.server_id.clone(),
            match_id: match_id.clone(),
            connection_details: self.desk.address().to_string(),
            ..MatchReadyRequest::default()
        };
        match self.manager.match_ready(NAME, request).await {
            Ok(response) => {
                self.desk.update(|game_server, _| game_server.announced(&match_id));
                self.hinted(response.hint_flags);
            }
            Err(status) if may_pass(&status) => {
                tracing::warn!(match_id, text = status.message, "a match cannot be reported as ready yet");
                self.failed();
            }
            Err(status) => {
                tracing::warn!(match_id, text = status.message, "a match was refused as ready");
                self.desk.update(|game_server, _| game_server.match_refused(&match_id));
            }
        }
    }

    fn may_ask(&self) -> bool {
        self.is_registered
            && self.desk.read(|game_server| game_server.wants_match() && !game_server.has_reports())
    }

    fn ask(&self, closing: &CancellationToken) -> BoxFuture<'static, Asked> {
        let (manager, closing) = (self.manager.clone(), closing.clone());
        let (server_id, requirements) = (self.server_id.clone(), self.requirements.clone());
        async move { manager.next_match(NAME, &server_id, &requirements, PACE, &closing).await }.boxed()
    }

    fn asked(&mut self, asked: Asked) {
        match asked {
            Ok(Next::Match(game)) => {
                tracing::info!(match_id = game.match_id, "the game server has a match");
                self.desk.update(|game_server, now| game_server.assigned(&game, now));
            }
            Ok(Next::Shutdown) => self.hinted(HintFlag::Shutdown as u32),
            Ok(Next::Closing) => self.ask_at = None,
            Err(status) => {
                tracing::warn!(text = status.message, "the request for a match was refused");
                self.ask_at = Some(Instant::now() + REFUSED_PAUSE);
            }
        }
    }

    fn resolve(&self) -> BoxFuture<'static, Resolved> {
        let (manager, server_id) = (self.manager.clone(), self.server_id.clone());
        async move { manager.address_of(&server_id).await }.boxed()
    }

    fn resolved(&mut self, resolved: Resolved) {
        match resolved {
            Ok(address) => {
                self.is_resolved = true;
                if let Some(address) = address {
                    self.desk.set_address(address);
                }
            }
            Err(error) => {
                tracing::warn!(%error, "the game server's address is not yet known");
                self.failed();
            }
        }
    }

    fn hinted(&self, hints: u32) {
        if hints & HintFlag::Shutdown as u32 != 0 {
            self.desk.update(|game_server, _| game_server.told_to_exit());
        }
    }

    fn failed(&mut self) {
        self.try_at = Instant::now() + FAILED_PAUSE;
    }

    /// The next time at which there is something to do that no event announces.
    fn wake(&self, is_asking: bool, is_resolving: bool) -> Option<Instant> {
        let deadline = self.desk.read(GameServer::deadline).and_then(|deadline| self.desk.time_of(deadline));
        let ask_at = self.ask_at.filter(|_| !is_asking && self.may_ask());
        let is_pending =
            |game_server: &GameServer| game_server.has_reports() || game_server.unannounced().is_some();
        let has_work =
            !self.is_registered || (!self.is_resolved && !is_resolving) || self.desk.read(is_pending);
        let try_at = Some(self.try_at).filter(|at| has_work && *at > Instant::now());
        [deadline, ask_at, try_at].into_iter().flatten().min()
    }
}

/// Whether the same call may succeed later.
fn may_pass(status: &Status) -> bool {
    Code::from(status.code) == Code::Unavailable
}

fn is_due(at: Option<Instant>) -> bool {
    at.is_some_and(|at| at <= Instant::now())
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => pending().await,
    }
}

/// The result of the future, which is then removed; pending while there is none.
async fn outcome<T>(running: &mut Option<BoxFuture<'static, T>>) -> T {
    let outcome = match running {
        Some(future) => future.as_mut().await,
        None => pending().await,
    };
    *running = None;
    outcome
}
