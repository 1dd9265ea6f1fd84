//! A matchmaker in virtual time, with every step measured.

use sortie_domain::ids::BadId;
use sortie_domain::machine::{CallId, Machine, Moment, Step};
use sortie_domain::matchmaking::{Command, Event, Matchmaker};
use sortie_domain::time::Timestamp;

use crate::host::Failure;
use crate::times::{Times, Watch};

/// One tick, in milliseconds.
const TICK: u64 = 100;

pub(crate) struct Driver {
    pub(crate) maker: Matchmaker,
    now: u64,
    steps: u64,
    /// Every tick.
    pub(crate) ticks: Times,
    /// Every other input.
    pub(crate) inputs: Times,
    /// How long it took to compute the next deadline.
    pub(crate) deadlines: Times,
    /// Tickets that were matched.
    pub(crate) matched: usize,
}

impl Driver {
    pub(crate) fn new() -> Self {
        Self {
            maker: Matchmaker::new(),
            now: 1_700_000_000_000,
            steps: 0,
            ticks: Times::default(),
            inputs: Times::default(),
            deadlines: Times::default(),
            matched: 0,
        }
    }

    pub(crate) const fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.now)
    }

    const fn moment(&mut self) -> Moment {
        self.steps += 1;
        Moment { now: self.now(), entropy: [self.steps.wrapping_mul(0x9e37_79b9_7f4a_7c15), !self.steps] }
    }

    pub(crate) fn call(&mut self, command: Result<Command, BadId>) -> Result<Step<Matchmaker>, Failure> {
        let (command, at, mut step) = (command?, self.moment(), Step::new());
        let watch = Watch::start();
        self.maker.handle(at, CallId(self.steps), command, &mut step);
        self.inputs.add(watch.stop());
        self.due();
        let refusal = step.answers.iter().find_map(|(_, answer)| answer.as_ref().err().cloned());
        refusal.map_or(Ok(step), |refusal| Err(Failure::Refused(refusal)))
    }

    fn due(&mut self) -> bool {
        let watch = Watch::start();
        let due = self.maker.next_deadline();
        self.deadlines.add(watch.stop());
        due.is_some_and(|due| due.as_millis() <= self.now)
    }

    /// Advances time by this many ticks; passes the steps taken to `each`.
    pub(crate) fn ticks(&mut self, count: u64, mut each: impl FnMut(&Step<Matchmaker>)) {
        for _ in 0..count {
            self.now += TICK;
            while self.due() {
                let (at, mut step) = (self.moment(), Step::new());
                let watch = Watch::start();
                self.maker.tick(at, &mut step);
                self.ticks.add(watch.stop());
                for record in &step.records {
                    if let Event::MatchFormed { teams, .. } = &record.event {
                        self.matched += teams.iter().map(Vec::len).sum::<usize>();
                    }
                }
                each(&step);
            }
        }
    }
}
