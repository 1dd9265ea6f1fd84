//! Servers that have fallen silent.
//!
//! Every call is a sign of life, and so is a question that the server is still waiting for.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::sleep;

use super::{Shared, delivery};

/// Minimum time between two checks.
const MIN: Duration = Duration::from_millis(10);

/// Reports servers as gone that have been silent for `after`, while there is a manager.
pub(super) async fn watch(manager: Weak<Shared>, after: Duration) {
    while let Some(pause) = pause(&manager, after) {
        sleep(pause).await;
        let Some(shared) = manager.upgrade() else { return };
        let silent = shared.state().held.silent(shared.now(), after);
        for server_id in silent {
            let shared = Arc::clone(&shared);
            let why = format!("silent for {} seconds", after.as_secs_f64());
            tokio::spawn(async move { delivery::server_gone(&shared, &server_id, &why).await });
        }
    }
}

/// Time until the first server can have been silent that long: a new one cannot be earlier than `after` from now.
fn pause(manager: &Weak<Shared>, after: Duration) -> Option<Duration> {
    let shared = manager.upgrade()?;
    if shared.is_closing() {
        return None;
    }
    let next = shared.state().held.next_silence(after);
    let left = next.map_or(after, |next| next.saturating_sub(shared.now()));
    Some(left.clamp(MIN, after.max(MIN)))
}
