//! Logs which matches of hooks' answers are ignored, and why.
//!
//! The machine processes a long answer in parts and does not log, so it is queried whenever a round of a queue has
//! ended. It counts all ignored matches; the log lines are for people, and therefore rare.

use std::collections::BTreeMap;
use std::time::Duration;

use sortie_domain::ids::QueueId;
use sortie_domain::machine::Machine as _;
use sortie_domain::matchmaking::{Event, Matchmaker};
use sortie_engine::{Cursor, Handle, SubscribeError};
use tokio::time::{Instant, sleep};

/// Minimum time between two log lines about one queue.
const TELL_EVERY: Duration = Duration::from_secs(60);
/// Maximum number of queues that are remembered; beyond that all are forgotten. More than a configuration may have.
const MAX_QUEUES_TOLD: usize = 2_048;
/// Pause before a lost log is followed again.
const PAUSE: Duration = Duration::from_millis(500);

/// Logs faults in the answers of hooks that form matches, until the engine of `maker` ends: the first fault of an
/// answer and the number of faults, at most once a minute for each queue.
pub async fn report_faults(maker: Handle<Matchmaker>) {
    let mut told = Told::default();
    loop {
        let Ok(last) = maker.query(Matchmaker::last_seq).await else { return };
        let mut events = maker.subscribe(Cursor::From(last + 1));
        loop {
            match events.next().await {
                Ok(record) => {
                    if let Event::RoundEnded { queue, .. } = &record.event {
                        report(&maker, queue, &mut told).await;
                    }
                }
                Err(SubscribeError::Ended) => return,
                // Missed faults are in the counts.
                Err(_) => break,
            }
        }
        sleep(PAUSE).await;
    }
}

async fn report(maker: &Handle<Matchmaker>, queue: &QueueId, told: &mut Told) {
    let asked = queue.clone();
    let fault = maker.query(move |maker| maker.last_fault(&asked).cloned()).await;
    let Some(fault) = fault.ok().flatten() else { return };
    if told.may_tell(queue, fault.answer.round, Instant::now()) {
        // The text was escaped and truncated when it was recorded.
        let (hook, count, first, total) =
            (&fault.hook, fault.answer.count, &fault.answer.first, fault.ignored);
        tracing::warn!(%queue, %hook, count, %first, total, "matches of a hook's answer are ignored");
    }
}

/// What was logged about which queue.
#[derive(Default)]
struct Told {
    /// The last checked round, and the time of the last log line.
    queues: BTreeMap<QueueId, (u64, Instant)>,
}

impl Told {
    /// Whether to log about the answer to this round; if so, records that.
    fn may_tell(&mut self, queue: &QueueId, round: u64, now: Instant) -> bool {
        if let Some((known, at)) = self.queues.get_mut(queue) {
            let is_new = core::mem::replace(known, round) != round;
            let may = is_new && now.duration_since(*at) >= TELL_EVERY;
            if may {
                *at = now;
            }
            return may;
        }
        if self.queues.len() >= MAX_QUEUES_TOLD {
            self.queues.clear();
        }
        self.queues.insert(queue.clone(), (round, now));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_told_once_and_a_queue_once_a_minute() {
        let (mut told, began) = (Told::default(), Instant::now());
        let at = |seconds: u64| began + Duration::from_secs(seconds);
        let [duel, trio] = ["duel", "trio"].map(|id| QueueId::new(id).unwrap());
        assert!(told.may_tell(&duel, 1, at(0)) && told.may_tell(&trio, 1, at(0)));
        assert!(!told.may_tell(&duel, 1, at(120)), "the same answer");
        assert!(told.may_tell(&duel, 2, at(120)));
        assert!(!told.may_tell(&duel, 3, at(179)) && !told.may_tell(&duel, 3, at(180)), "told too recently");
        assert!(told.may_tell(&duel, 4, at(180)));
    }

    #[test]
    fn what_is_known_is_bounded() {
        let (mut told, now) = (Told::default(), Instant::now());
        for number in 0..=MAX_QUEUES_TOLD {
            assert!(told.may_tell(&QueueId::new(&format!("q{number}")).unwrap(), 1, now));
        }
        assert_eq!(told.queues.len(), 1);
    }
}
