//! Pause before the next websocket: exponential backoff with jitter.
//!
//! Jitter, so that the tunnels of a restarted dispatcher do not all come back at the same moment.

use std::time::Duration;

/// Maximum pause after the first failure.
const FIRST: Duration = Duration::from_millis(250);
/// Maximum pause: how long a server's players wait once the dispatcher is back.
const MAX: Duration = Duration::from_secs(10);

/// The pause after this many failures in a row: half of the step, plus `chance` (0 to 1) of the other half.
pub(crate) fn pause(failures: u32, chance: f64) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    let step = FIRST.saturating_mul(1 << doublings).min(MAX);
    step.mul_f64(0.5 + chance.clamp(0.0, 1.0) / 2.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn pauses_double_up_to_the_longest(failures in 0_u32..1_000, chance in 0.0..1.0) {
            let step = Duration::from_millis(250 << failures.saturating_sub(1).min(10)).min(MAX);
            let pause = pause(failures, chance);
            prop_assert!(pause >= step / 2 && pause <= step, "{:?} after {}", pause, failures);
        }
    }
}
