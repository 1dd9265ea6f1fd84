//! How long to wait before the next websocket: exponential with jitter.
//!
//! Jitter, because all tunnels of a dispatcher that was restarted must not come back at the same moment.

use std::time::Duration;

/// Longest pause after the first failure.
const FIRST: Duration = Duration::from_millis(250);
/// Longest pause of all: players of a server wait no longer once the dispatcher is back.
const LONGEST: Duration = Duration::from_secs(10);

/// The pause after so many failures in a row: half of the step for certain, the other half by `chance`, 0 to 1.
pub(crate) fn pause(failures: u32, chance: f64) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    let step = FIRST.saturating_mul(1 << doublings).min(LONGEST);
    step.mul_f64(0.5 + chance.clamp(0.0, 1.0) / 2.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn pauses_double_up_to_the_longest(failures in 0_u32..1_000, chance in 0.0..1.0) {
            let step = Duration::from_millis(250 << failures.saturating_sub(1).min(10)).min(LONGEST);
            let pause = pause(failures, chance);
            prop_assert!(pause >= step / 2 && pause <= step, "{:?} after {}", pause, failures);
        }
    }
}
