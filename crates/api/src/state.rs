//! The shared state of all calls, and the limits of this layer.

use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use sortie_domain::broker::{Broker, Command, Refusal, Reply};
use sortie_domain::matchmaking::{self, Matchmaker};
use sortie_domain::time::Timestamp;
use sortie_engine::{CallError, Clock, Handle, Hosted, Unavailable};
use sortie_openapi::Description;
use sortie_serving::Allowances;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::auth::Auth;
use crate::codes;
use crate::error::ApiError;
use crate::one_place::LeadsBack;
use crate::player_feed::PlayerFeed;
use crate::player_order::PlayerRights;
use crate::servers::Holders;
use crate::shares::CallerShares;

/// The parts of the API.
pub struct ApiOptions {
    /// The broker that answers.
    pub broker: Handle<Broker>,
    /// The matchmaker that answers; without one its calls are refused.
    pub matchmaker: Option<Handle<Matchmaker>>,
    /// The clock for explanations.
    pub clock: Arc<dyn Clock>,
    /// Who may call.
    pub auth: Auth,
    /// What players may put into tickets that they start without a key.
    pub player_rights: PlayerRights,
    /// Finds the match that a player is led back to, if there is a gateway: players of such a match cannot start
    /// tickets.
    pub leads_back: Option<LeadsBack>,
    /// The fleets' allocators, in the order in which they are tried.
    pub allocators: Vec<ConfiguredAllocator>,
    /// Names of the allocators that this build has.
    pub available_allocators: Vec<String>,
    /// `source` of CloudEvents: a URI reference.
    pub source: String,
    /// Limits of requests and streams.
    pub limits: Limits,
    /// How often one player may call; shared with the other parts that take players' calls.
    pub player_calls: Allowances,
    /// Descriptions of other routes on the same port.
    pub described: Vec<Description>,
    /// What `/readyz` asks the other parts of the process.
    pub checks: Vec<Check>,
    /// Cancelled when the process shuts down: streams and held calls end, health reports it.
    pub closing: CancellationToken,
}

/// Something that is wrong although calls are served.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    /// Its stable name.
    pub code: &'static str,
    /// In words, for operators and for anybody else: health checks need no key.
    pub message: String,
}

/// What is wrong with a part of the process at the moment.
pub type Check = Arc<dyn Fn() -> Vec<Problem> + Send + Sync>;

/// One configured use of an allocator, as operators see it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfiguredAllocator {
    /// The fleet's id.
    pub name: String,
    /// A description for operators.
    pub description: String,
    /// JMESPath over the match document; empty takes any match.
    pub requirements: String,
    /// Its configuration as a JSON text, without secrets.
    pub raw_configuration: String,
}

/// Limits of requests and streams.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Limits of requests.
    pub serving: sortie_serving::Limits,
    /// Maximum number of concurrent streams of players' events.
    pub player_streams: usize,
    /// Maximum number of concurrent streams that follow the whole log: CloudEvents, events by tag.
    pub log_streams: usize,
    /// Maximum number of concurrent streams about one player.
    pub streams_per_player: usize,
    /// Maximum number of concurrent streams of one key.
    pub streams_per_key: usize,
    /// Maximum number of concurrent calls that wait for news of a match.
    pub waits: usize,
    /// The same for one key.
    pub waits_per_key: usize,
    /// Maximum number of concurrent watches of health and conversations about reflection.
    pub watches: usize,
    /// The same for one address (IPv6: one /64).
    pub watches_per_address: usize,
    /// Time between signs of life on a stream, and maximum wait for news of a match.
    pub heartbeat: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            serving: sortie_serving::Limits::default(),
            player_streams: 50_000,
            log_streams: 4_000,
            streams_per_player: 16,
            streams_per_key: 1_000,
            waits: 50_000,
            waits_per_key: 10_000,
            watches: 4_096,
            watches_per_address: 16,
            heartbeat: Duration::from_secs(15),
        }
    }
}

/// The shared state of all calls. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Api(Arc<Shared>);

pub(crate) struct Shared {
    pub(crate) options: ApiOptions,
    pub(crate) player_feed: PlayerFeed,
    /// Who speaks for which game server.
    pub(crate) holders: Holders,
    /// The description of everything that is served here, created at the first request.
    pub(crate) openapi: OnceLock<Bytes>,
    log_streams: Arc<Semaphore>,
    /// What each caller has open.
    pub(crate) shares: CallerShares,
}

impl Deref for Api {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Api")
    }
}

/// The code of a problem: a damaged file of keys.
const KEYS_DAMAGED: &str = "keys_damaged";

impl Api {
    pub(crate) fn new(options: ApiOptions) -> Self {
        let (broker, maker) = (options.broker.clone(), options.matchmaker.clone());
        let player_feed =
            PlayerFeed::new(broker, maker, options.limits.player_streams, options.closing.clone());
        let log_streams = Arc::new(Semaphore::new(options.limits.log_streams));
        let shares = CallerShares::new(&options.limits);
        let (holders, openapi) = (Holders::default(), OnceLock::new());
        Self(Arc::new(Shared { options, player_feed, holders, openapi, log_streams, shares }))
    }
}

impl Shared {
    /// Sends the broker a command.
    pub(crate) async fn call(&self, command: Command) -> Result<Reply, CallError<Refusal>> {
        self.options.broker.call(command).await
    }

    /// Sends the broker a command whose answer it may hold back. A shutdown of the process ends the wait, or prevents
    /// it, and returns `None`.
    pub(crate) async fn call_held(&self, command: Command) -> Result<Option<Reply>, CallError<Refusal>> {
        if self.options.closing.is_cancelled() {
            return Err(CallError::Unavailable(Unavailable::ShuttingDown));
        }
        tokio::select! {
            biased;
            reply = self.options.broker.call(command) => reply.map(Some),
            () = self.options.closing.cancelled() => Ok(None),
        }
    }

    /// Queries the broker's state.
    pub(crate) async fn query<R: Send + 'static>(
        &self,
        ask: impl FnOnce(&Broker) -> R + Send + 'static,
    ) -> Result<R, ApiError> {
        self.options.broker.query(ask).await.map_err(ApiError::from)
    }

    /// The matchmaker.
    pub(crate) fn maker(&self) -> Result<&Handle<Matchmaker>, ApiError> {
        let none = "there is no matchmaker: none is configured";
        self.options.matchmaker.as_ref().ok_or_else(|| codes::NO_MATCHMAKER.error(none))
    }

    /// Sends the matchmaker a command.
    pub(crate) async fn call_maker(
        &self,
        command: matchmaking::Command,
    ) -> Result<matchmaking::Reply, ApiError> {
        self.maker()?.call(command).await.map_err(ApiError::from)
    }

    /// Queries the matchmaker's state.
    pub(crate) async fn query_maker<R: Send + 'static>(
        &self,
        ask: impl FnOnce(&Matchmaker) -> R + Send + 'static,
    ) -> Result<R, ApiError> {
        self.maker()?.query(ask).await.map_err(ApiError::from)
    }

    /// The time now.
    pub(crate) fn now(&self) -> Timestamp {
        self.options.clock.now()
    }

    /// Why no call would be served now, if so.
    pub(crate) async fn not_serving(&self) -> Option<ApiError> {
        if self.options.auth.problem().is_some() {
            let text = "API keys cannot be looked up: their file cannot be read; see the log";
            return Some(codes::UNAVAILABLE.error(text));
        }
        match (self.broker_not_serving().await, &self.options.matchmaker) {
            (None, Some(_)) => self.maker_not_serving().await,
            (problem, _) => problem,
        }
    }

    /// Problems that do not prevent calls from being served.
    pub(crate) fn problems(&self) -> Vec<Problem> {
        // Probes need no credentials, so they get neither the path nor the content of the file.
        let keys = self.options.auth.doubt().map(|_| Problem {
            code: KEYS_DAMAGED,
            message: "the file of API keys is damaged: the keys that it had before stay valid; see the log"
                .to_owned(),
        });
        self.options.checks.iter().flat_map(|check| check()).chain(keys).collect()
    }

    /// Why no call of the broker would be served now, if so.
    pub(crate) async fn broker_not_serving(&self) -> Option<ApiError> {
        self.engine_not_serving(&self.options.broker, "the broker").await
    }

    /// Why no call of the matchmaker would be served now, if so.
    pub(crate) async fn maker_not_serving(&self) -> Option<ApiError> {
        match self.maker() {
            Ok(maker) => self.engine_not_serving(maker, "the matchmaker").await,
            Err(error) => Some(error),
        }
    }

    async fn engine_not_serving<M: Hosted>(&self, engine: &Handle<M>, name: &str) -> Option<ApiError> {
        if self.options.closing.is_cancelled() {
            return Some(Unavailable::ShuttingDown.into());
        }
        // A query first, because a machine that has not started, or has ended, does not report that on its own.
        if let Err(error) = engine.query(|_| ()).await {
            return Some(error.into());
        }
        let stats = engine.stats();
        match stats.refused {
            Some(why) => Some(why.into()),
            None if stats.accepting => None,
            None => {
                let text = format!("{name} has not started; nothing is accepted until it has");
                Some(codes::UNAVAILABLE.error(text))
            }
        }
    }

    /// A permit for a stream that follows the whole log, released when it is dropped.
    pub(crate) fn log_stream(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        let permit = Arc::clone(&self.log_streams).try_acquire_owned();
        permit.map_err(|_| ApiError::too_many("streams of events", self.options.limits.log_streams))
    }
}
