//! How often a player is given another match if nothing comes of one.
//!
//! Matches that end before their player comes are rare, so a few attempts are enough. Game servers whose connection
//! details lead nowhere come in numbers, because one fault of a fleet is in all its servers: they use up no attempt, and
//! another one is tried until the player's deadline. The broker takes each of them out of placement. A pause before the
//! next one keeps a fleet full of them from occupying the gateway.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::time::sleep;

use crate::error::JoinError;

/// Maximum number of seats, or tickets, tried for one player if matches end before they can be joined.
const MAX_ATTEMPTS: u32 = 3;
/// Maximum number of unreachable game servers that one call of a player meets.
const MAX_UNREACHABLE: u32 = 100;
/// Pause after the second unreachable server; it doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// Maximum pause after an unreachable server.
const MAX_PAUSE: Duration = Duration::from_secs(5);

/// The number of unreachable game servers that a player has met.
#[derive(Default)]
pub(crate) struct Unreachable(AtomicU32);

impl Unreachable {
    pub(crate) fn count(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The attempts of one player.
pub(crate) struct Attempts<'a> {
    lost: u32,
    unreachable: &'a Unreachable,
}

impl<'a> Attempts<'a> {
    pub(crate) const fn new(unreachable: &'a Unreachable) -> Self {
        Self { lost: 0, unreachable }
    }

    pub(crate) fn is_first(&self) -> bool {
        self.lost == 0 && self.unreachable.count() == 0
    }

    /// A match was over before its player came.
    ///
    /// # Errors
    /// [`JoinError::MatchesEnded`] if that was the last attempt.
    pub(crate) const fn lost(&mut self) -> Result<(), JoinError> {
        self.lost += 1;
        if self.lost < MAX_ATTEMPTS { Ok(()) } else { Err(JoinError::MatchesEnded) }
    }

    /// Nobody can connect to a match: waits until another one may be tried.
    ///
    /// # Errors
    /// [`JoinError::NoAddress`] if that was the last attempt.
    pub(crate) async fn unreachable(&mut self) -> Result<(), JoinError> {
        sleep(self.met()?).await;
        Ok(())
    }

    /// Counts an unreachable server; returns the pause after it.
    fn met(&mut self) -> Result<Duration, JoinError> {
        let met = self.unreachable.0.fetch_add(1, Ordering::Relaxed) + 1;
        if met < MAX_UNREACHABLE { Ok(pause(met)) } else { Err(JoinError::NoAddress { servers: met }) }
    }
}

/// The pause after this many unreachable servers: none after the first, which may be the only one.
fn pause(met: u32) -> Duration {
    let Some(doublings) = met.checked_sub(2) else { return Duration::ZERO };
    FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(doublings)).min(MAX_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_a_limit() {
        let pauses = [1, 2, 3, 4, 8, 9, MAX_UNREACHABLE, u32::MAX].map(|met| pause(met).as_millis());
        assert_eq!(pauses, [0, 50, 100, 200, 3_200, 5_000, 5_000, 5_000]);
    }

    #[test]
    fn unreachable_servers_use_up_no_attempt_and_are_limited() {
        let unreachable = Unreachable::default();
        let mut attempts = Attempts::new(&unreachable);
        assert!(attempts.is_first());
        for _ in 1..MAX_UNREACHABLE {
            attempts.met().unwrap();
        }
        assert!(!attempts.is_first());
        attempts.lost().unwrap();
        attempts.lost().unwrap();
        assert!(matches!(attempts.lost(), Err(JoinError::MatchesEnded)));
        assert!(matches!(attempts.met(), Err(JoinError::NoAddress { servers: MAX_UNREACHABLE })));
    }
}
