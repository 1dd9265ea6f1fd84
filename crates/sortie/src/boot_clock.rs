//! Whether the wall clock has moved as far as the machine has been up since the last start.
//!
//! If the log ends hours ago, the clock may be wrong or the control plane may have been off. Only the machine's own
//! count of time tells the two apart: the kernel's uptime goes on while a control plane is stopped and while the
//! machine sleeps, and no correction of the wall clock changes it. So each start records both. If the machine has
//! rebooted since, nothing can be compared, and only the age of the log counts
//! ([`sortie_engine::host::MAX_IDLE_PAUSE`]).
//!
//! Source: `proc_uptime(5)`, and `boot_id` in `proc_sys_kernel(5)`.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use sortie_domain::time::Timestamp;
use sortie_engine::host::MAX_PAUSE;
use sortie_wire::cloud_event::rfc3339;

use crate::failure::Failure;
use crate::private;

/// The file's name in the data folder.
pub(crate) const FILE: &str = "clock.json";
/// Larger than any such file.
const MAX_BYTES: u64 = 4096;

/// The clocks of a machine at one moment.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub(crate) struct Reading {
    /// Changes with each boot.
    boot_id: String,
    /// How long the machine had been up, sleep included.
    uptime_millis: u64,
    /// The wall clock: milliseconds since 1970.
    wall_millis: u64,
}

impl Reading {
    /// The clocks now; `None` if the kernel does not tell.
    fn now() -> Option<Self> {
        let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        let uptime = std::fs::read_to_string("/proc/uptime").ok()?;
        let seconds = uptime.split_whitespace().next()?.parse().ok()?;
        let uptime = Duration::try_from_secs_f64(seconds).ok()?;
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
        Some(Self {
            boot_id: boot_id.trim().to_owned(),
            uptime_millis: u64::try_from(uptime.as_millis()).ok()?,
            wall_millis: u64::try_from(wall.as_millis()).ok()?,
        })
    }

    /// How much further than real time the wall clock has moved since `before`; `None` if that is unknown.
    fn ahead_of(&self, before: &Self) -> Option<Duration> {
        if self.boot_id != before.boot_id {
            return None;
        }
        let passed = self.uptime_millis.checked_sub(before.uptime_millis)?;
        let moved = self.wall_millis.checked_sub(before.wall_millis)?;
        Some(Duration::from_millis(moved.saturating_sub(passed)))
    }
}

/// Refuses a wall clock that was moved ahead by more than an hour since the last start. Writes nothing.
///
/// # Errors
/// [`Failure`].
pub(crate) fn check(data: &Path, accept: bool) -> Result<(), Failure> {
    let (Some(now), Some(before)) = (Reading::now(), read(data)) else { return Ok(()) };
    let Some(ahead) = now.ahead_of(&before).filter(|ahead| *ahead > MAX_PAUSE) else { return Ok(()) };
    let said = rfc3339(Timestamp::from_millis(now.wall_millis));
    let ahead = humantime::format_duration(Duration::from_secs(ahead.as_secs()));
    if accept {
        tracing::warn!(
            "the clock says {said}, {ahead} more than has passed since the last start, which was accepted"
        );
        return Ok(());
    }
    Err(Failure::new(format!(
        "the clock says {said}, and has moved {ahead} further since the last start than this machine has been up: either it \
         is wrong, then set it, or it was wrong at the last start. Start with --accept-clock if that is so: deadlines that \
         have passed then fire at once, and timestamps continue from the clock's time"
    )))
}

/// Records the clocks for the next start. If that fails, the next start has less to compare.
pub(crate) fn note(data: &Path) {
    let Some(now) = Reading::now() else { return };
    let Ok(text) = serde_json::to_vec(&now) else { return };
    if let Err(problem) = private::replace(data, FILE, &text) {
        tracing::warn!(%problem, "cannot record what the clock says");
    }
}

/// The record of the last start; `None` if there is none or it is not usable.
fn read(data: &Path) -> Option<Reading> {
    let bytes = private::read(&data.join(FILE), MAX_BYTES).ok().flatten()?;
    serde_json::from_slice(&bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600_000;

    fn reading(boot: &str, uptime: u64, wall: u64) -> Reading {
        Reading { boot_id: boot.to_owned(), uptime_millis: uptime, wall_millis: wall }
    }

    #[test]
    fn a_long_pause_is_not_a_clock_jump() {
        let (before, after) = (reading("a", HOUR, 9 * HOUR), reading("a", 1_001 * HOUR, 1_009 * HOUR));
        assert_eq!(after.ahead_of(&before), Some(Duration::ZERO));
    }

    #[test]
    fn a_jump_is_what_the_wall_clock_moved_beyond_the_time_that_passed() {
        let (before, after) = (reading("a", HOUR, 9 * HOUR), reading("a", 3 * HOUR, 13 * HOUR));
        assert_eq!(after.ahead_of(&before), Some(Duration::from_secs(2 * 3_600)));
    }

    #[test]
    fn a_clock_that_was_set_back_is_not_ahead() {
        let (before, after) = (reading("a", HOUR, 9 * HOUR), reading("a", 3 * HOUR, 10 * HOUR));
        assert_eq!(after.ahead_of(&before), Some(Duration::ZERO));
        assert_eq!(reading("a", 3 * HOUR, HOUR).ahead_of(&before), None);
    }

    #[test]
    fn nothing_is_known_across_a_start_of_the_machine() {
        assert_eq!(reading("b", 0, 99 * HOUR).ahead_of(&reading("a", HOUR, 9 * HOUR)), None);
        assert_eq!(reading("a", 0, 99 * HOUR).ahead_of(&reading("a", HOUR, 9 * HOUR)), None);
    }
}
