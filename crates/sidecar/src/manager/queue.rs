//! Calls that were reported to game servers as done and that the backend has not received.
//!
//! One queue for all servers, in the order of the calls; it is delivered per server, so that one server's call that the
//! backend cannot handle delays no other server.

use std::collections::VecDeque;

use sortie_wire::catena::server_manager::{EndMatchRequest, MatchReadyRequest};

/// Maximum number of queued calls.
pub const MAX_QUEUED_CALLS: usize = 1_000;
/// Maximum total size of connection details in queued calls, in bytes: 4 MiB.
pub const MAX_QUEUED_BYTES: usize = 4 << 20;

/// A call that must not be lost.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Call {
    MatchReady(MatchReadyRequest),
    EndMatch(EndMatchRequest),
}

impl Call {
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::MatchReady(_) => "MatchReady",
            Self::EndMatch(_) => "EndMatch",
        }
    }

    pub(super) fn server_id(&self) -> &str {
        match self {
            Self::MatchReady(request) => &request.server_id,
            Self::EndMatch(request) => &request.server_id,
        }
    }

    pub(super) fn match_id(&self) -> &str {
        match self {
            Self::MatchReady(request) => &request.match_id,
            Self::EndMatch(request) => &request.match_id,
        }
    }

    /// Size beyond its ids, in bytes.
    fn bytes(&self) -> usize {
        match self {
            Self::MatchReady(request) => {
                let players = request.per_player_connection_details.iter();
                let per_player: usize = players.map(|(player, details)| player.len() + details.len()).sum();
                request.connection_details.len() + per_player
            }
            Self::EndMatch(_) => 0,
        }
    }
}

#[derive(Clone, PartialEq, Debug)]
pub(super) struct Queued {
    /// Distinguishes equal calls, within this process only.
    pub(super) number: u64,
    pub(super) source: String,
    pub(super) call: Call,
}

/// Why a call is not queued.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "the backend is away and {calls} calls wait for it already, which is the maximum: \
     try again when it is back"
)]
pub(super) struct QueueFull {
    calls: usize,
}

#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Queue {
    calls: VecDeque<Queued>,
    last: u64,
}

impl Queue {
    pub(super) fn check_room(&self, call: &Call) -> Result<(), QueueFull> {
        let bytes: usize = self.calls.iter().map(|queued| queued.call.bytes()).sum();
        if self.calls.len() >= MAX_QUEUED_CALLS || bytes + call.bytes() > MAX_QUEUED_BYTES {
            return Err(QueueFull { calls: self.calls.len() });
        }
        Ok(())
    }

    pub(super) fn push(&mut self, source: &str, call: Call) {
        self.last += 1;
        self.calls.push_back(Queued { number: self.last, source: source.to_owned(), call });
    }

    pub(super) fn first_of(&self, server_id: &str) -> Option<&Queued> {
        self.calls.iter().find(|queued| queued.call.server_id() == server_id)
    }

    pub(super) fn remove(&mut self, number: u64) {
        self.calls.retain(|queued| queued.number != number);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Queued> {
        self.calls.iter()
    }

    pub(super) fn len(&self) -> usize {
        self.calls.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }
}
