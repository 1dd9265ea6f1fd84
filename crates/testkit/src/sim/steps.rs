//! Full steps: timers that take several of them, a log that refuses larger ones.

use sortie_domain::broker::Broker;
use sortie_domain::machine::{Machine, Step, StepLimits};
use sortie_domain::size::Size;

use super::world::World;

/// Maximum number of ticks until nothing is due.
const MAX_TICKS: u32 = 1_000;
/// Small steps, so that schedules fill them: with simultaneous timers, or a match with many players.
const STEP: StepLimits = StepLimits { bytes: 4 << 10, records: 12 };
/// Maximum numbers of bytes, and of records and answers, of a step: a full step plus the last piece of work, of which
/// the largest is the end of a match with many players.
const LARGEST_STEP: StepLimits = StepLimits { bytes: 16 << 10, records: 60 };

pub(super) const fn new_step() -> Step<Broker> {
    Step::within(STEP)
}

impl World {
    /// Whether earlier steps have left nothing to do.
    pub(super) fn is_settled(&self) -> bool {
        self.broker.next_deadline().is_none_or(|deadline| deadline > self.time())
    }

    pub(super) fn tick(&mut self) {
        let at = self.moment();
        if self.broker.next_deadline().is_some_and(|deadline| deadline <= at.now) {
            self.catch_up();
            self.after_input();
        } else {
            self.plan_tick();
        }
    }

    /// Runs timers until nothing is due, in as many steps as needed; sometimes not to the end, like a host that has
    /// other inputs.
    pub(super) fn catch_up(&mut self) {
        for again in 0..MAX_TICKS {
            // A host begins a new step if the last one is full.
            if self.step.is_full() {
                self.commit();
            }
            let at = self.moment();
            self.broker.tick(at, &mut self.step);
            self.check_step();
            if self.is_settled() {
                return self.check_due();
            }
            if again > 0 && self.rng.u8(0..4) == 0 {
                return;
            }
        }
        self.fail("2: a deadline stays due however often timers run".into());
    }

    /// No step is larger than a full one and one piece of work: the log would refuse it.
    pub(super) fn check_step(&mut self) {
        let bytes: usize = self.step.records.iter().map(|record| record.event.byte_size()).sum();
        let count = self.step.records.len() + self.step.answers.len();
        if bytes > LARGEST_STEP.bytes || count > LARGEST_STEP.records {
            self.fail(format!("2: the log takes no step of {count} records and answers and {bytes} bytes"));
        }
        self.check_decisions();
    }
}
