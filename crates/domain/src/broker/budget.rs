//! The budget in bytes of everything that waits and runs. What would exceed it is refused before anything is recorded.
//!
//! Orders that follow from the configuration (warm servers, servers for queued matches) are counted and never refused:
//! fleets have their maximum.

use super::Turn;
use super::command::Refusal;

/// Maximum bytes of a match in addition to its order, with a server and an id of any length.
pub(super) const MAX_MATCH_OVERHEAD_BYTES: usize = 2 * 1024;
/// Maximum bytes of a seat.
pub(super) const MAX_SEAT_BYTES: usize = 1024;
/// Maximum bytes of a server at its first call.
pub(super) const MAX_SERVER_BYTES: usize = 1024;
/// One part in this many of the budget is added for servers' reports on their matches: otherwise a full queue would
/// block the very matches that could make it shorter.
const RESERVE: u64 = 8;

impl Turn<'_> {
    /// Checks that `more` bytes may wait.
    pub(super) fn check_bytes(&self, more: usize) -> Result<(), Refusal> {
        self.check_within(self.state().settings.waiting_bytes, more)
    }

    /// Checks that a match on a server may take `more` bytes.
    pub(super) fn check_bytes_of_running(&self, more: usize) -> Result<(), Refusal> {
        let budget = self.state().settings.waiting_bytes;
        self.check_within(budget.saturating_add(budget / RESERVE), more)
    }

    fn check_within(&self, budget: u64, more: usize) -> Result<(), Refusal> {
        let all = self.state().waiting_bytes.saturating_add(more) as u64;
        let limit = self.state().settings.waiting_bytes;
        if all > budget { Err(Refusal::OverBudget { limit }) } else { Ok(()) }
    }
}
