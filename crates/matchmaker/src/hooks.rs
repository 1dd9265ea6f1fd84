//! Hooks: custom logic in any language, called by `POST` with JSON.
//!
//! | call | request, in addition to `hook`, `name` and `queue` | answers |
//! |---|---|---|
//! | `validate_ticket` | `ticket` | `{"accept": true, "queue": …, "properties": {…}, "ratings": {…}}`, or `{"accept": false, "reason": …}` |
//! | `form_match` | `round`, `tickets`, the oldest first | `{"matches": [{"teams": [[ticket ids], …], "region": …}]}` |
//! | `new_match` | `match`, `teams` | `{"accept": true, "properties": {…}, "player_properties": {…}}`, or `{"accept": false, "reason": …}` |
//!
//! Fields missing in an answer stay as they are. A hook fails if it cannot be reached, answers with a status other than
//! 200, with an invalid body, or too late; the configuration says what a failure means, and the machine applies it. If
//! a hook forms matches, only malformed ones are ignored. Calls are not retried: players wait, and the machine has its
//! own deadline.
//!
//! **Queues do not wait for each other.** Each queue has its own turns, its own count of failures and its own limit of
//! waiting calls, even for a hook that all queues share: a hook that is slow for the tickets of one queue delays only
//! that queue.

mod answers;
mod breaker;
mod call;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;
use sortie_domain::ids::{HookId, MatchId, QueueId, TicketId};
use sortie_domain::match_spec::MatchSpec;
use sortie_domain::matchmaking::model::{Named, TicketSpec};
use sortie_domain::matchmaking::settings::HookAddress;
use sortie_domain::matchmaking::{FormedMatch, MatchVerdict, TicketVerdict};
use sortie_tls::RootsError;
use sortie_wire::documents::{self, MatchDocument, TicketDocument};
use zeroize::Zeroizing;

use call::{Client, Lane};

pub use call::{MAX_ANSWER_BYTES, MAX_WAITING_CALLS};

/// A hook's URL, and how it is called.
#[derive(Clone)]
pub struct HookOptions {
    /// `http` or `https`. Must not have secrets: it appears in messages.
    pub url: String,
    /// Maximum time of a call, including the wait for its turn.
    pub timeout: Duration,
    /// Maximum number of concurrent calls for one queue.
    pub concurrency: usize,
    /// Number of consecutive failures that open the circuit breaker.
    pub breaker_failures: u32,
    /// How long the circuit breaker stays open; then one call tries.
    pub breaker_pause: Duration,
    /// Sent as `authorization: Bearer …`.
    pub key: Option<Zeroizing<String>>,
}

impl HookOptions {
    /// The options of a hook that is not configured any more, as the matchmaker's log has them.
    ///
    /// # Errors
    /// The environment variable with its key is not set.
    pub(crate) fn stored(timeout: Duration, address: HookAddress) -> Result<Self, String> {
        let HookAddress { url, concurrency, breaker_failures, breaker_pause, key_env } = address;
        let key = key_env.map(|name| {
            let key = std::env::var(&*name).map(Zeroizing::new);
            key.map_err(|_| format!("its key is in the environment variable {name}, which is not set"))
        });
        let (url, key) = (url.into(), key.transpose()?);
        let concurrency = concurrency as usize;
        Ok(Self { url, timeout, concurrency, breaker_failures, breaker_pause, key })
    }
}

impl fmt::Debug for HookOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HookOptions").field("url", &self.url).finish_non_exhaustive()
    }
}

/// Why a hook's options are invalid.
#[derive(Debug, thiserror::Error)]
pub enum BadHookOptions {
    /// The root certificates cannot be loaded.
    #[error("hook {hook}: {source}")]
    Roots {
        /// The hook.
        hook: HookId,
        /// What is wrong.
        source: RootsError,
    },
    /// The HTTP client cannot be created.
    #[error("hook {hook}: {source}")]
    Client {
        /// The hook.
        hook: HookId,
        /// What is wrong.
        source: reqwest::Error,
    },
    /// The URL is invalid.
    #[error("hook {hook}: {url} is not a URL")]
    Url {
        /// The hook.
        hook: HookId,
        /// The configured URL.
        url: String,
    },
    /// The key is not allowed in a header.
    #[error("hook {hook}: its key has characters that are not allowed in a header")]
    Key {
        /// The hook.
        hook: HookId,
    },
}

/// Why a hook returned no verdict.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum HookError {
    /// It is not configured.
    #[error("is not configured (any more)")]
    Unknown,
    /// Too many calls wait for it.
    #[error("has {MAX_WAITING_CALLS} calls waiting for their turn")]
    Overloaded,
    /// It failed too often lately, and its circuit breaker is open.
    #[error("failed too often and is not called for a while")]
    Resting,
    /// It timed out.
    #[error("did not answer in time")]
    Late,
    /// It could not be reached, or its connection broke.
    #[error("{0}")]
    Unreachable(String),
    /// It answered with this status.
    #[error("answered with the status {0}, not with 200")]
    Status(u16),
    /// Its answer is too large.
    #[error("answered with more than {MAX_ANSWER_BYTES} bytes")]
    TooLong,
    /// Its answer is not a verdict.
    #[error("answered with an invalid body: {0}")]
    NoVerdict(String),
}

type Key = (Option<QueueId>, HookId);

/// A request to a hook. Properties are written as text: as a value, long numbers would lose digits.
#[derive(Default, Serialize)]
struct Question<'a> {
    hook: &'a str,
    name: &'a str,
    queue: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    ticket: Option<TicketDocument<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    round: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tickets: Option<Vec<TicketDocument<'a>>>,
    #[serde(rename = "match", skip_serializing_if = "Option::is_none")]
    of_match: Option<MatchDocument<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    teams: Option<Value>,
}

/// All configured hooks, and those that only queues have which are no longer configured.
pub struct Hooks {
    clients: BTreeMap<Key, Arc<Client>>,
    /// By queue and hook, created at a queue's first call. At most as many as the configuration has of both, and
    /// [`MAX_LEARNED`].
    lanes: Mutex<BTreeMap<(QueueId, HookId), Arc<Lane>>>,
    /// Those of hooks that are not configured.
    learned: Mutex<BTreeSet<(QueueId, HookId)>>,
}

/// Maximum number of hooks of removed queues that are kept; beyond that all are forgotten, and learned again.
const MAX_LEARNED: usize = 1_024;

impl Hooks {
    /// Hooks of all queues are under `None`, those of one queue under its name.
    ///
    /// # Errors
    /// [`BadHookOptions`]
    pub fn new(options: BTreeMap<(Option<QueueId>, HookId), HookOptions>) -> Result<Self, BadHookOptions> {
        let clients = options.into_iter().map(|(key, options)| {
            let client = Client::new(&key.1, options)?;
            Ok((key, Arc::new(client)))
        });
        let (lanes, learned) = (Mutex::default(), Mutex::default());
        Ok(Self { clients: clients.collect::<Result<_, _>>()?, lanes, learned })
    }

    /// Whether a hook can be called for a queue.
    #[must_use]
    pub fn knows(&self, queue: &QueueId, hook: &HookId) -> bool {
        self.lane(queue, hook).is_some()
    }

    /// From now on a hook that is not configured can be called for a queue, which was removed and keeps its hooks.
    ///
    /// # Errors
    /// [`BadHookOptions`]
    pub fn learn(&self, queue: &QueueId, hook: &HookId, options: HookOptions) -> Result<(), BadHookOptions> {
        let client = Arc::new(Client::new(hook, options)?);
        let (mut lanes, mut learned) =
            (self.lanes(), self.learned.lock().unwrap_or_else(PoisonError::into_inner));
        if learned.len() >= MAX_LEARNED {
            core::mem::take(&mut *learned).iter().for_each(|key| drop(lanes.remove(key)));
        }
        let key = (queue.clone(), hook.clone());
        learned.insert(key.clone());
        lanes.entry(key).or_insert_with(|| Arc::new(Lane::new(format!("{hook} of queue {queue}"), client)));
        Ok(())
    }

    /// A hook's verdict about a ticket.
    ///
    /// # Errors
    /// [`HookError`]
    pub async fn validate_ticket(
        &self,
        queue: &QueueId,
        hook: &HookId,
        ticket: &TicketId,
        spec: &TicketSpec,
    ) -> Result<TicketVerdict, HookError> {
        let ticket = Some(TicketDocument::new(ticket, spec));
        let question = Question { ticket, ..Question::default() };
        self.ask("validate_ticket", queue, hook, question, answers::ticket).await
    }

    /// The matches that a hook forms of waiting tickets. A malformed one does not affect the others: its error takes
    /// its place.
    ///
    /// # Errors
    /// [`HookError`]
    pub async fn form_matches(
        &self,
        queue: &QueueId,
        hook: &HookId,
        round: u64,
        tickets: &[(TicketId, Arc<TicketSpec>)],
    ) -> Result<Vec<Result<FormedMatch, String>>, HookError> {
        let tickets = tickets.iter().map(|(id, spec)| TicketDocument::new(id, spec)).collect();
        let question = Question { round: Some(round), tickets: Some(tickets), ..Question::default() };
        self.ask("form_match", queue, hook, question, answers::matches).await
    }

    /// A hook's verdict about a match.
    ///
    /// # Errors
    /// [`HookError`]
    pub async fn check_match(
        &self,
        queue: &QueueId,
        hook: &HookId,
        id: &MatchId,
        teams: &[Vec<Named>],
        spec: &MatchSpec,
    ) -> Result<MatchVerdict, HookError> {
        let question = Question {
            of_match: Some(MatchDocument::new(id, spec)),
            teams: Some(documents::teams(teams)),
            ..Question::default()
        };
        self.ask("new_match", queue, hook, question, answers::of_match).await
    }

    async fn ask<T>(
        &self,
        about: &'static str,
        queue: &QueueId,
        hook: &HookId,
        question: Question<'_>,
        read: fn(&[u8]) -> Result<T, String>,
    ) -> Result<T, HookError> {
        let question = Question { hook: about, name: hook.as_str(), queue: queue.as_str(), ..question };
        let text = serde_json::to_string(&question);
        let text = text.map_err(|error| HookError::NoVerdict(error.to_string()))?;
        let lane = self.lane(queue, hook).ok_or(HookError::Unknown)?;
        let answer = lane.call(text, read).await;
        if let Err(error) = &answer {
            tracing::debug!(%queue, %hook, about, %error, "a hook failed; its default applies");
        }
        answer
    }

    /// The queue's own hook of this name, or the one of all queues.
    fn lane(&self, queue: &QueueId, hook: &HookId) -> Option<Arc<Lane>> {
        let mut lanes = self.lanes();
        let key = (queue.clone(), hook.clone());
        if let Some(known) = lanes.get(&key) {
            return Some(Arc::clone(known));
        }
        let own = self.clients.get(&(Some(queue.clone()), hook.clone()));
        let client = own.or_else(|| self.clients.get(&(None, hook.clone())))?;
        let new = || Arc::new(Lane::new(format!("{hook} of queue {queue}"), Arc::clone(client)));
        Some(Arc::clone(lanes.entry(key).or_insert_with(new)))
    }

    fn lanes(&self) -> MutexGuard<'_, BTreeMap<(QueueId, HookId), Arc<Lane>>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
