//! What happens to bots, as events and in total.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::protocol::Farewell;

/// Maximum duration that is recorded exactly, in microseconds: ten minutes.
const MAX_MICROS: u64 = 600_000_000;

/// Why a bot could not play, or not to the end. Each has a stable name, fit for a metric's label.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum FailureReason {
    /// The gateway could not be reached.
    GatewayUnreachable,
    /// The gateway did not answer in time.
    GatewayTimeout,
    /// The gateway refused.
    GatewayRefused,
    /// The gateway's answer, or the token in it, is unusable.
    BadInvitation,
    /// A problem on the bot's own machine.
    Local,
    /// The game server did not answer.
    ConnectTimeout,
    /// The game server was full.
    ConnectionDenied,
    /// The game server closed the connection without saying why.
    Disconnected,
    /// The game server fell silent.
    LostConnection,
    /// Connected, but no world updates came.
    NoUpdates,
    /// The game server reported an impossible world.
    WrongWorld,
    /// The game server sent the bot away every time; this is the last reason.
    Dismissed(Farewell),
}

impl FailureReason {
    /// A stable name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::GatewayUnreachable => "gateway_unreachable",
            Self::GatewayTimeout => "gateway_timeout",
            Self::GatewayRefused => "gateway_refused",
            Self::BadInvitation => "bad_invitation",
            Self::Local => "local",
            Self::ConnectTimeout => "connect_timeout",
            Self::ConnectionDenied => "connection_denied",
            Self::Disconnected => "disconnected",
            Self::LostConnection => "lost_connection",
            Self::NoUpdates => "no_updates",
            Self::WrongWorld => "wrong_world",
            Self::Dismissed(Farewell::MatchOver) => "match_over",
            Self::Dismissed(Farewell::SeatRefused) => "seat_refused",
            Self::Dismissed(Farewell::MatchCancelled) => "match_cancelled",
            Self::Dismissed(Farewell::ServerStopping) => "server_stopping",
            Self::Dismissed(Farewell::PlatformAway) => "platform_away",
        }
    }
}

impl fmt::Display for FailureReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What happened to a bot. Every bot starts once, and after that leaves or fails once.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum BotEvent {
    /// It asks the gateway for a place to play for the first time.
    Started {
        /// The bot's number, from 1.
        bot: u64,
    },
    /// It is in a match.
    Joined {
        /// The bot's number.
        bot: u64,
        /// From asking the gateway to having token and address.
        join: Duration,
        /// From asking the gateway to the first update of the world.
        first_update: Duration,
        /// Whether a server was there already.
        warm: bool,
    },
    /// Its match ended before it did, so it asks the gateway again.
    Rejoining {
        /// The bot's number.
        bot: u64,
        /// Why it is no longer in its match.
        reason: FailureReason,
    },
    /// It has played for its time, or was told to stop.
    Left {
        /// The bot's number.
        bot: u64,
        /// World updates that it has received and verified, over all its matches.
        updates: u64,
    },
    /// It could not play to the end.
    Failed {
        /// The bot's number.
        bot: u64,
        /// Why.
        reason: FailureReason,
        /// Explanation for people.
        detail: String,
    },
}

/// A distribution of durations, with a precision of 0.1 %.
#[derive(Clone, Debug)]
pub struct Latency(Option<Histogram<u64>>);

impl Latency {
    fn new() -> Self {
        // The histogram accepts these bounds, so it always exists.
        Self(Histogram::new_with_bounds(1, MAX_MICROS, 3).ok())
    }

    fn record(&mut self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(MAX_MICROS);
        if let Some(histogram) = &mut self.0 {
            histogram.saturating_record(micros.clamp(1, MAX_MICROS));
        }
    }

    /// Number of durations measured.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.as_ref().map_or(0, Histogram::len)
    }

    /// The `percent` percentile of the durations; zero if there are none.
    #[must_use]
    pub fn percentile(&self, percent: f64) -> Duration {
        let micros = self.0.as_ref().map_or(0, |histogram| histogram.value_at_percentile(percent));
        Duration::from_micros(micros)
    }
}

/// Totals of all bots.
#[derive(Clone, Debug)]
pub struct PlaySummary {
    /// Bots that asked for a place to play.
    pub started: u64,
    /// Number of times that a bot got into a match.
    pub joined: u64,
    /// Number of times that a bot asked again because its match had ended.
    pub rejoining: u64,
    /// Bots that played for their time.
    pub left: u64,
    /// Bots that failed, by reason.
    pub failed: BTreeMap<FailureReason, u64>,
    /// World updates received and verified by the bots that left.
    pub updates: u64,
    /// From asking the gateway to having token and address.
    pub join: Latency,
    /// The same, for joins with a running server.
    pub join_warm: Latency,
    /// The same, for joins that had to start a server.
    pub join_cold: Latency,
    /// From asking the gateway to the first update of the world.
    pub first_update: Latency,
}

impl PlaySummary {
    pub(crate) fn new() -> Self {
        Self {
            started: 0,
            joined: 0,
            rejoining: 0,
            left: 0,
            failed: BTreeMap::new(),
            updates: 0,
            join: Latency::new(),
            join_warm: Latency::new(),
            join_cold: Latency::new(),
            first_update: Latency::new(),
        }
    }

    /// Number of bots that failed.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.failed.values().sum()
    }

    pub(crate) fn count(&mut self, event: &BotEvent) {
        match event {
            BotEvent::Started { .. } => self.started += 1,
            BotEvent::Joined { join, first_update, warm, .. } => {
                self.joined += 1;
                self.join.record(*join);
                if *warm { &mut self.join_warm } else { &mut self.join_cold }.record(*join);
                self.first_update.record(*first_update);
            }
            BotEvent::Rejoining { .. } => self.rejoining += 1,
            BotEvent::Left { updates, .. } => {
                self.left += 1;
                self.updates += updates;
            }
            BotEvent::Failed { reason, .. } => *self.failed.entry(*reason).or_default() += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_add_up() {
        let mut summary = PlaySummary::new();
        let joined = |millis| BotEvent::Joined {
            bot: 1,
            join: Duration::from_millis(millis),
            first_update: Duration::from_millis(2 * millis),
            warm: millis < 20,
        };
        let lost = FailureReason::LostConnection;
        let failed = BotEvent::Failed { bot: 2, reason: lost, detail: String::new() };
        for event in [
            BotEvent::Started { bot: 1 },
            joined(10),
            BotEvent::Rejoining { bot: 1, reason: FailureReason::Disconnected },
            joined(30),
            BotEvent::Left { bot: 1, updates: 9 },
            failed,
        ] {
            summary.count(&event);
        }
        assert_eq!((summary.started, summary.joined, summary.rejoining, summary.left), (1, 2, 1, 1));
        assert_eq!(summary.failed, BTreeMap::from([(lost, 1)]));
        assert_eq!((summary.failures(), summary.updates, summary.join.count()), (1, 9, 2));
        assert_eq!((summary.join_warm.count(), summary.join_cold.count()), (1, 1));
        let slowest = summary.join.percentile(100.0);
        assert!(slowest >= Duration::from_millis(30) && slowest < Duration::from_millis(31));
    }

    #[test]
    fn durations_out_of_range_are_taken_as_the_limit() {
        let mut latency = Latency::new();
        assert_eq!(latency.percentile(50.0), Duration::ZERO);
        latency.record(Duration::MAX);
        latency.record(Duration::ZERO);
        assert_eq!(latency.count(), 2);
        assert!(latency.percentile(100.0) >= Duration::from_micros(MAX_MICROS));
    }
}
