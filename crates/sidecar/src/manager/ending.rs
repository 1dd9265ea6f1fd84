//! The sidecar's shutdown: its matches end or are handed over, and pending calls are delivered.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::delivery::{self, Keep};
use super::{Manager, Shared, asking};

/// What happens to held matches when the sidecar shuts down.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AtShutdown {
    /// They end: the game servers end with the sidecar.
    EndMatches,
    /// They stay in the folder, for the next sidecar that opens it.
    KeepMatches,
}

/// What was left after the shutdown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ShutdownReport {
    /// Calls that the backend has not received. They are in the folder, and the next sidecar that opens it delivers
    /// them.
    pub undelivered: usize,
    /// Matches that were handed over.
    pub kept: usize,
}

impl Manager {
    /// Takes no more matches, ends or keeps those that are held, and delivers pending calls for at most `deadline`.
    /// Nothing is delivered after that. Only the first call decides; later ones just wait.
    pub async fn shutdown(&self, how: AtShutdown, deadline: Duration) -> ShutdownReport {
        let shared = &self.0;
        let is_first = shared.ending.set(how).is_ok();
        shared.closing.cancel();
        let work = async {
            if is_first && how == AtShutdown::EndMatches {
                end_all(shared).await;
            }
            shared.state().questions.withdraw_all();
            delivered(shared).await;
        };
        if timeout(deadline, work).await.is_err() {
            tracing::warn!(?deadline, "not all calls could be delivered to the backend in time");
        }
        shared.stopped.cancel();
        let state = shared.state();
        let kept = state.held.servers.values().map(|server| server.matches.len()).sum();
        ShutdownReport { undelivered: state.queue.len(), kept }
    }
}

impl Shared {
    /// Whether the backend has pending calls or questions.
    fn is_busy(&self) -> bool {
        let state = self.state();
        !state.queue.is_empty() || !state.questions.are_settled()
    }
}

/// All at once through the queue: one write makes all of them durable, and the lanes deliver them.
async fn end_all(shared: &Arc<Shared>) {
    let servers: Vec<_> = shared.state().held.servers.keys().cloned().collect();
    let mut calls = Vec::new();
    for server_id in &servers {
        let matches = shared.change(|held| {
            held.gone(server_id);
            held.matches_of(server_id)
        });
        asking::take_leave(shared, server_id);
        calls.extend(matches.into_iter().map(|match_id| delivery::end_call(server_id, match_id)));
        shared.release(server_id);
    }
    if !calls.is_empty() {
        let _nothing_fails_at_any_rate =
            delivery::enqueue(shared, "sidecar", calls, Keep::AtAnyRate, "the sidecar is shutting down")
                .await;
    }
    for server_id in &servers {
        shared.change(|held| held.forget(server_id));
    }
}

/// Returns when no calls wait for the backend, and every question is settled.
async fn delivered(shared: &Shared) {
    let mut changes = shared.changes.subscribe();
    while shared.is_busy() {
        if changes.changed().await.is_err() {
            return;
        }
    }
}
