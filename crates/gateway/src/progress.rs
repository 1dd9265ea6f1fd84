//! What is going on, in words for a waiting player.

use std::fmt;
use std::net::IpAddr;

use sortie_domain::broker::Broker;
use sortie_domain::broker::model::{AllocationState, Match, MatchState};
use sortie_domain::ids::MatchId;

/// Where a queued match stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Standing {
    /// Older matches in the queue; `None` if the match is no longer there.
    ahead: Option<usize>,
    allocation: Option<AllocationState>,
}

impl Standing {
    pub(crate) fn of(broker: &Broker, id: &MatchId) -> Self {
        let allocation = broker.allocation_for(id).map(|allocation| allocation.state);
        Self { ahead: broker.place_in_queue(id), allocation }
    }
}

/// The text about a match that waits for a server.
pub(crate) fn queued(game: &Match, standing: Standing) -> String {
    let again = if game.pickups > 0 { "the server that had the match is gone; " } else { "" };
    let place =
        standing.ahead.map(|ahead| format!(": {} in the queue", Ordinal(ahead + 1))).unwrap_or_default();
    let server = match standing.allocation {
        Some(AllocationState::Ordered) => ", one is being started",
        Some(_) => ", one has been started",
        None => "",
    };
    format!("{again}waiting for a server{place}{server}")
}

/// The text about a match in any other state.
pub(crate) const fn preparing(state: &MatchState) -> &'static str {
    match state {
        MatchState::PickedUp { .. } => "a server has the match and prepares it",
        MatchState::Queued => "waiting for a server",
        MatchState::Ready { .. } => "the match is ready",
        MatchState::Ended { .. } | MatchState::Failed { .. } | MatchState::Cancelled { .. } => {
            "the match is over"
        }
    }
}

/// `text`, and for whom it is told.
pub(crate) fn from_where(client_ip: Option<IpAddr>, text: &str) -> String {
    client_ip.map_or_else(|| text.to_owned(), |ip| format!("joining from {ip}: {text}"))
}

struct Ordinal(usize);

impl fmt::Display for Ordinal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ending = match (self.0 % 10, self.0 % 100) {
            (_, 11..=13) => "th",
            (1, _) => "st",
            (2, _) => "nd",
            (3, _) => "rd",
            _ => "th",
        };
        write!(f, "{}{ending}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinals_end_as_people_say_them() {
        let ordinals = [1, 2, 3, 4, 10, 11, 12, 13, 21, 22, 111, 101].map(|n| Ordinal(n).to_string());
        let expected =
            ["1st", "2nd", "3rd", "4th", "10th", "11th", "12th", "13th", "21st", "22nd", "111th", "101st"];
        assert_eq!(ordinals, expected);
    }
}
