//! Who talks to the broker: game servers, well-behaved and hostile, and clients.

use std::collections::BTreeSet;

use sortie_domain::broker::Hints;
use sortie_domain::ids::{AllocationId, MatchId, SeatId, ServerId};

/// How a game server behaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Manner {
    /// As it should.
    Good,
    /// Never says a word.
    Silent,
    /// Takes matches and is never ready.
    NeverReady,
    /// Exits with a match in its hands.
    Crashes,
    /// Says everything twice.
    Repeats,
    /// Speaks of matches of others, and of seats of others.
    Lies,
    /// Goes on after it was told to exit.
    Stubborn,
}

impl Manner {
    /// Good servers come often, the others are all seen in a run of many.
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
    /// `None` for one that nobody ordered.
    pub(super) allocation: Option<AllocationId>,
    pub(super) manner: Manner,
    pub(super) alive: bool,
    /// Matches that it was given and has not ended or been told to drop.
    pub(super) holds: BTreeSet<MatchId>,
    /// Those of them that it said it is ready for.
    pub(super) ready: BTreeSet<MatchId>,
    pub(super) hints: Hints,
    pub(super) requirements: &'static str,
    /// How many matches it plays at a time.
    pub(super) room: usize,
    /// Its request is under way.
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

    /// Gives up every match that it is not ready for.
    pub(super) fn drop_unready(&mut self) {
        self.holds.clone_from(&self.ready);
    }

    pub(super) fn drop_match(&mut self, id: &MatchId) {
        self.holds.remove(id);
        self.ready.remove(id);
    }
}

/// What servers ask for, most of them for anything.
pub(super) const REQUIREMENTS: [&str; 6] = [
    "",
    "",
    "MatchProperties.map == 'forest'",
    "MatchProperties.map != 'desert'",
    "length(PlayerIds) < `3`",
    "MatchProperties.size > `2`",
];

/// What matches say of themselves.
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

/// Who made a call, and so what an answer to it means.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Caller {
    /// Somebody who wants a match.
    Submitter,
    /// Somebody who does not want one any more.
    Canceller(MatchId),
    /// A server that asked for a match.
    Request(ServerId),
    /// A server that said that it is ready.
    Ready(ServerId, MatchId),
    /// A server that said that a match is over.
    End(ServerId, MatchId),
    /// A player who wants in.
    Player,
    /// A server to which a player came.
    Claim(SeatId),
    /// Somebody who gave a seat back.
    Release,
    /// Somebody who waits for news of a match.
    Watcher,
    /// The platform, with the outcome of an effect.
    Outcome(AllocationId),
    /// The platform, with the end of a process.
    Exit(AllocationId),
    /// A server that said how many places are free.
    Places,
    /// An administrator.
    Admin,
}
