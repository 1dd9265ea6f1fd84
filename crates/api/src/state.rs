//! The shared state of all calls.

use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use sortie_domain::broker::{Broker, Command, Refusal, Reply};
use sortie_domain::matchmaking::{self, Matchmaker};
use sortie_domain::time::Timestamp;
use sortie_engine::{CallError, Handle, Hosted, Unavailable};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::codes;
use crate::error::ApiError;
use crate::holders::Holders;
use crate::options::{ApiOptions, Problem};
use crate::player_feed::PlayerFeed;
use crate::shares::CallerShares;

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
