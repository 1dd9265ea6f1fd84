//! How much may wait and run, in bytes. What would take more is refused before anything is recorded.
//!
//! Orders by the configuration (warm servers, servers for queued matches) are counted and never refused: fleets have
//! their maximum.

use super::Turn;
use super::command::Refusal;

/// Room that a match takes beside its order, in bytes, with a server and an id of any length.
pub(super) const MAX_MATCH_OVERHEAD_BYTES: usize = 2 * 1024;
/// Room that a seat takes at most, in bytes.
pub(super) const MAX_SEAT_BYTES: usize = 1024;
/// Room that a server takes at most when it is first heard of, in bytes.
pub(super) const MAX_SERVER_BYTES: usize = 1024;
/// This part of the budget comes on top for what servers say of matches that they have: else a full queue would keep
/// those from running that could make it shorter.
const RESERVE: u64 = 8;

impl Turn<'_> {
    /// Whether `more` bytes may wait.
    pub(super) fn check_bytes(&self, more: usize) -> Result<(), Refusal> {
        self.check_within(self.state().settings.waiting_bytes, more)
    }

    /// Whether a match that a server has may take `more` bytes.
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
