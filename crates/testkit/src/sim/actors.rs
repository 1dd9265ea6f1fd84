//! The broker's callers: game servers, well-behaved and hostile, and clients.

use std::collections::BTreeSet;

use sortie_domain::broker::Hints;
use sortie_domain::ids::{AllocationId, MatchId, SeatId, ServerId};

/// How a game server behaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Manner {
    /// Correctly.
    Good,
    /// Never calls.
    Silent,
    /// Takes matches and is never ready.
    NeverReady,
    /// Exits while it has a match.
    Crashes,
    /// Sends everything twice.
    Repeats,
    /// Reports on matches and seats of others.
    Lies,
    /// Continues after it was told to exit.
    Stubborn,
}

impl Manner {
    /// Most servers are good; all other manners occur in long runs.
    pub(super) fn draw(rng: &mut fastrand::Rng) -> Self {
        match rng.u8(0..20) {
            0 => Self::Silent,
            1 => Self::NeverReady,
            2 => Self::Crashes,
            3 | 4 => Self::Repeats,
            5 | 6 => Self::Lies,
            7 => Self::Stubborn,
            _ => Self::Good,
        }
    }
}

/// A game server.
pub(super) struct Server {
    pub(super) id: ServerId,
    /// `None` for a server that was not ordered.
    pub(super) allocation: Option<AllocationId>,
    pub(super) manner: Manner,
    pub(super) alive: bool,
    /// Matches that it got and has not ended or been told to drop.
    pub(super) holds: BTreeSet<MatchId>,
    /// Those of them that it has reported ready.
    pub(super) ready: BTreeSet<MatchId>,
    pub(super) hints: Hints,
    pub(super) requirements: &'static str,
    /// Maximum number of matches at a time.
    pub(super) room: usize,
    /// Its request is in flight.
    pub(super) asking: bool,
}

impl Server {
    pub(super) fn new(id: ServerId, allocation: Option<AllocationId>, rng: &mut fastrand::Rng) -> Self {
        let hints = match rng.u8(0..4) {
            0 => Hints::NONE,
            1 => Hints::WILLING_TO_WAIT,
            2 => Hints::WILLING_TO_WAIT.with(Hints::WILLING_TO_SHUTDOWN),
            _ => Hints::WILLING_TO_SHUTDOWN,
        };
        let requirements = *rng.choice(&REQUIREMENTS).unwrap_or(&"");
        Self {
            id,
            allocation,
            manner: Manner::draw(rng),
            alive: true,
            holds: BTreeSet::new(),
            ready: BTreeSet::new(),
            hints,
            requirements,
            room: rng.usize(1..=3),
            asking: false,
        }
    }

    /// Drops every match that it has not reported ready.
    pub(super) fn drop_unready(&mut self) {
        self.holds.clone_from(&self.ready);
    }

    pub(super) fn drop_match(&mut self, id: &MatchId) {
        self.holds.remove(id);
        self.ready.remove(id);
    }
}

/// Requirements of servers, most of which take any match.
pub(super) const REQUIREMENTS: [&str; 6] = [
    "",
    "",
    "MatchProperties.map == 'forest'",
    "MatchProperties.map != 'desert'",
    "length(PlayerIds) < `3`",
    "MatchProperties.size > `2`",
];

/// Properties of matches.
pub(super) const PROPERTIES: [&str; 8] = [
    "",
    r#"{"game":"duel","version":"1"}"#,
    r#"{"game":"chess"}"#,
    r#"{"game":"chess","version":"1","map":"forest"}"#,
    r#"{"map":"forest"}"#,
    r#"{"map":"desert","size":1}"#,
    r#"{"size":4}"#,
    r#"{"map":"forest","size":9}"#,
];

/// Who made a call, which determines what an answer to it means.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Caller {
    /// A client that wants a match.
    Submitter,
    /// A client that cancels its match.
    Canceller(MatchId),
    /// A server that asked for a match.
    Request(ServerId),
    /// A server that reported a match ready.
    Ready(ServerId, MatchId),
    /// A server that reported the end of a match.
    End(ServerId, MatchId),
    /// A player who wants a seat.
    Player,
    /// A server to which a player came.
    Claim(SeatId),
    /// A caller that released a seat.
    Release,
    /// A caller that waits for news of a match.
    Watcher,
    /// The platform, with the outcome of an effect.
    Outcome(AllocationId),
    /// The platform, with the end of a process.
    Exit(AllocationId),
    /// A server that reported its free places.
    Places,
    /// An administrator.
    Admin,
}
