//! What is in progress on one connection: calls, and bytes that have not been sent yet.
//!
//! hyper drops the body of a response as soon as it has its bytes, which may then wait in hyper for a slow reader. So a
//! call ends with its body, but the connection is idle only when the system has also taken what was written.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::sleep;

/// Counts what is in progress. Clones share the count.
#[derive(Clone, Default)]
pub(crate) struct Activity(Arc<Shared>);

#[derive(Default)]
struct Shared {
    count: AtomicUsize,
    /// Notified when the count leaves zero and when it returns to it.
    turns: Notify,
}

/// One thing in progress, until this is dropped.
pub(crate) struct UnderWay(Activity);

impl Activity {
    pub(crate) fn begin(&self) -> UnderWay {
        if self.0.count.fetch_add(1, Ordering::AcqRel) == 0 {
            self.0.turns.notify_one();
        }
        UnderWay(self.clone())
    }

    pub(crate) fn count(&self) -> usize {
        self.0.count.load(Ordering::Acquire)
    }

    /// Waits until nothing has been in progress for `pause`. For one caller at a time.
    pub(crate) async fn rested(&self, pause: Duration) {
        loop {
            // A notification that nobody waited for wakes one wait too early, so the count is checked again.
            if self.count() > 0 {
                self.0.turns.notified().await;
                continue;
            }
            tokio::select! {
                biased;
                () = self.0.turns.notified() => {}
                () = sleep(pause) => return,
            }
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        if self.0.0.count.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.0.turns.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{Instant, advance};

    use super::*;

    const PAUSE: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn rest_begins_with_the_end_of_the_last() {
        let activity = Activity::default();
        let (first, second) = (activity.begin(), activity.begin());
        let began = Instant::now();
        let ends = async {
            advance(PAUSE * 5).await;
            drop(first);
            advance(PAUSE * 5).await;
            drop(second);
            advance(PAUSE / 2).await;
            // Even short activity restarts the pause.
            drop(activity.begin());
        };
        tokio::join!(activity.rested(PAUSE), ends);
        // Timers have a resolution of one millisecond.
        let rested = began.elapsed().saturating_sub(PAUSE * 10 + PAUSE / 2);
        assert!(
            (PAUSE..PAUSE + Duration::from_millis(2)).contains(&rested),
            "by the clock of this test: {rested:?}"
        );
    }
}
