//! The manager's state as shown to the debug panel, the sidecar's own API and tests.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Serialize, Serializer};

use super::held::{Held, HeldMatch, Server, ServerState, Stage};
use super::queue::Queue;

/// Number of calls that are remembered.
pub const CALLS_KEPT: usize = 200;

/// Everything that is held at one moment. Its JSON has lowerCamelCase names; times are milliseconds since 1970.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ManagerView {
    /// By server id.
    pub servers: Vec<ServerView>,
    /// In the order of the calls.
    pub queued: Vec<QueuedView>,
    /// The backend.
    pub backend: BackendView,
}

/// One server.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServerView {
    /// Its id.
    pub id: String,
    /// Its event source.
    pub source: String,
    /// Its state.
    pub state: ServerState,
    /// Whether it waits for an answer to its question for a match.
    pub is_asking: bool,
    /// Whether it has ever asked for a match.
    pub has_asked: bool,
    /// Time since the last sign of life.
    #[serde(rename = "silentMs", serialize_with = "milliseconds")]
    pub silent_for: Duration,
    /// Where players reach it, according to the resolver's last answer.
    pub address: Option<String>,
    /// In order of arrival.
    pub matches: Vec<MatchView>,
}

/// One match.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MatchView {
    /// Its id.
    pub id: String,
    /// Players may connect.
    pub is_ready: bool,
    /// Connection details reported in MatchReady; empty before that.
    pub connection_details: String,
    /// The same per player.
    pub per_player_connection_details: BTreeMap<String, String>,
    /// The backend does not know it.
    pub is_disowned: bool,
}

/// A call that the backend has not received.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct QueuedView {
    /// `MatchReady` or `EndMatch`.
    pub call: &'static str,
    /// Its event source.
    pub source: String,
    /// The server that made it.
    pub server_id: String,
    /// Its match.
    pub match_id: String,
}

/// The backend, according to the last calls.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BackendView {
    /// Its name in the settings.
    pub name: &'static str,
    /// Since when it is away; `None` while it answers.
    pub away: Option<Away>,
}

/// Details of a backend that is away.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Away {
    /// Time of the first call that failed.
    #[serde(rename = "sinceMs", serialize_with = "since_1970")]
    pub since: SystemTime,
    /// Why the last one failed.
    pub why: String,
}

/// One call, made by a game server or by the manager itself.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CallRecord {
    /// When it ended.
    #[serde(rename = "atMs", serialize_with = "since_1970")]
    pub at: SystemTime,
    /// Its event source.
    pub source: String,
    /// `RequestMatch`, `MatchReady` or `EndMatch`.
    pub call: &'static str,
    /// The server that made it.
    pub server_id: String,
    /// Its match; empty if there is none.
    pub match_id: String,
    /// Its outcome.
    pub outcome: Outcome,
    /// Its duration.
    #[serde(rename = "tookUs", serialize_with = "microseconds")]
    pub took: Duration,
}

/// The outcome of a call.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// The backend accepted it, or assigned a match.
    Answered,
    /// There is no match now.
    Nothing,
    /// The backend is away: the call is queued, and was reported to the game server as done.
    Queued,
    /// A queued call was accepted by the backend.
    Delivered,
    /// The backend is away, and the call was not kept.
    Away(String),
    /// It was refused, by the backend or here.
    Refused(String),
}

fn milliseconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

fn microseconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX))
}

fn since_1970<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    milliseconds(&time.duration_since(UNIX_EPOCH).unwrap_or_default(), serializer)
}

pub(super) fn servers(held: &Held, now: Duration) -> Vec<ServerView> {
    held.servers.iter().map(|(id, server)| server_view(id, server, now)).collect()
}

fn server_view(id: &str, server: &Server, now: Duration) -> ServerView {
    ServerView {
        id: id.to_owned(),
        source: server.source.clone(),
        state: server.state,
        is_asking: server.asking > 0,
        has_asked: server.has_asked,
        silent_for: now.saturating_sub(server.heard),
        address: server.address.as_ref().map(ToString::to_string),
        matches: server.matches.iter().map(match_view).collect(),
    }
}

fn match_view(held: &HeldMatch) -> MatchView {
    let (is_ready, reach) = match &held.stage {
        Stage::Taken(_) => (false, None),
        Stage::Ready(reach) => (true, Some(reach.clone())),
    };
    let reach = reach.unwrap_or_default();
    MatchView {
        id: held.id.clone(),
        is_ready,
        connection_details: reach.details,
        per_player_connection_details: reach.per_player,
        is_disowned: held.disowned,
    }
}

pub(super) fn queued(queue: &Queue) -> Vec<QueuedView> {
    let views = queue.iter().map(|queued| QueuedView {
        call: queued.call.name(),
        source: queued.source.clone(),
        server_id: queued.call.server_id().to_owned(),
        match_id: queued.call.match_id().to_owned(),
    });
    views.collect()
}

/// The last calls.
#[derive(Debug, Default)]
pub(super) struct Calls(VecDeque<CallRecord>);

impl Calls {
    pub(super) fn add(&mut self, call: CallRecord) {
        if self.0.len() == CALLS_KEPT {
            self.0.pop_front();
        }
        self.0.push_back(call);
    }

    /// Oldest first.
    pub(super) fn all(&self) -> Vec<CallRecord> {
        self.0.iter().cloned().collect()
    }
}
