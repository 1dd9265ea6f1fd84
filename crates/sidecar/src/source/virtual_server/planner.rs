//! What a virtual server does next, and when.
//!
//! No clock, no I/O: it is told the time since its start, and what its calls brought; its random choices come from a
//! generator that is handed in. So a whole day of a server is a test of microseconds, and a seed replays it.

use std::collections::VecDeque;
use std::time::Duration;

use fastrand::Rng;

use super::behaviour::{Behaviour, Step};

/// A strategy, in numbers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Plan {
    /// Least time between two questions for a match, for each of those that it may hold at a time.
    pub(super) interval: Duration,
    /// From taking a match to saying that it is ready.
    pub(super) ready_delay: Duration,
    /// From saying that a match is ready to its end.
    pub(super) duration: Duration,
    /// Most matches at a time; at least 1.
    pub(super) at_a_time: usize,
    /// Most matches in all.
    pub(super) total: Option<u64>,
    /// How late a late server is.
    pub(super) late_by: Duration,
    /// How long a match that is never ended occupies the server.
    pub(super) forget_after: Duration,
    /// How often each behaviour is chosen, relative to the others. Not empty, and none is 0.
    pub(super) weights: Vec<(Behaviour, u32)>,
}

/// What is to be done now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Action {
    /// Ask for a match; [`Planner::answered`] is to be told what came of it.
    Ask,
    /// Say that a match is ready; if that is refused, [`Planner::refused`] is to be told.
    Ready {
        /// Its id.
        match_id: String,
    },
    /// Say that a match is over.
    End {
        /// Its id.
        match_id: String,
    },
}

/// What came of asking for a match.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Answer {
    /// This match.
    Match(String),
    /// None now.
    Nothing,
}

/// Plans one server.
pub(super) struct Planner {
    plan: Plan,
    random: Rng,
    /// One for each match that it may hold at a time.
    slots: Vec<Slot>,
    /// The slot that a match is being asked for.
    asking: Option<usize>,
    /// Matches that it may still take; `None` without a limit.
    left: Option<u64>,
}

#[derive(Default)]
struct Slot {
    /// When it may ask again, once it is free.
    ask_at: Duration,
    playing: Option<Playing>,
}

struct Playing {
    match_id: String,
    behaviour: Behaviour,
    /// What is left to do, in order of time.
    steps: VecDeque<(Duration, Step)>,
}

/// What comes next: a step of a slot, or a question for it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Next {
    Step(usize),
    Ask(usize),
}

impl Planner {
    pub(super) fn new(plan: Plan, random: Rng) -> Self {
        let slots = (0..plan.at_a_time).map(|_| Slot::default()).collect();
        Self { left: plan.total, plan, random, slots, asking: None }
    }

    /// When [`Self::next`] has something to do; `None` while only an answer can change anything.
    pub(super) fn due(&self) -> Option<Duration> {
        self.first().map(|(at, _)| at)
    }

    /// What is to be done at `now`, the time since the start. To be asked again until there is nothing.
    pub(super) fn next(&mut self, now: Duration) -> Option<Action> {
        loop {
            let (_, next) = self.first().filter(|(at, _)| *at <= now)?;
            match next {
                Next::Ask(slot) => {
                    self.asking = Some(slot);
                    self.delay_asking(slot, now);
                    return Some(Action::Ask);
                }
                Next::Step(slot) => {
                    if let Some(action) = self.step(slot) {
                        return Some(action);
                    }
                }
            }
        }
    }

    /// What came of [`Action::Ask`].
    pub(super) fn answered(&mut self, now: Duration, answer: Answer) {
        let Some(asked) = self.asking.take() else { return };
        match answer {
            // A backend gives a match that was not said to be ready once more when it is asked again.
            Answer::Match(match_id) if self.is_playing(&match_id) => {}
            Answer::Match(match_id) => {
                self.left = self.left.map(|left| left.saturating_sub(1));
                let behaviour = self.choose();
                let steps = behaviour.steps(&self.plan);
                self.play(asked, now, match_id, behaviour, steps);
                return;
            }
            Answer::Nothing => {}
        }
        // Neither is there one for the others that it could hold.
        for slot in 0..self.slots.len() {
            self.delay_asking(slot, now);
        }
    }

    /// The backend refused [`Action::Ready`] for this match: a server that keeps to the rules gives it up.
    pub(super) fn refused(&mut self, now: Duration, match_id: &str) {
        for slot in &mut self.slots {
            let Some(playing) = slot.playing.as_mut().filter(|playing| playing.match_id == match_id) else {
                continue;
            };
            if playing.behaviour == Behaviour::Normal {
                playing.steps = VecDeque::from([(now, Step::End)]);
            }
        }
    }

    /// Goes on, from the start, with a match that the server held before it was started again. More than it may hold are
    /// left alone.
    pub(super) fn resume(&mut self, match_id: String, is_ready: bool) {
        let Some(slot) = self.slots.iter().position(|slot| slot.playing.is_none()) else { return };
        let mut steps = Behaviour::Normal.steps(&self.plan);
        if is_ready {
            steps.retain(|(_, step)| *step == Step::End);
        }
        self.play(slot, Duration::ZERO, match_id, Behaviour::Normal, steps);
    }

    /// Takes no more matches.
    pub(super) fn shut_down(&mut self) {
        self.left = Some(0);
    }

    /// Whether nothing is left to do.
    pub(super) fn is_done(&self) -> bool {
        self.left == Some(0)
            && self.asking.is_none()
            && self.slots.iter().all(|slot| slot.playing.is_none())
    }

    /// Whether the server is to look as if it were gone.
    pub(super) fn is_silent(&self) -> bool {
        let mut playing = self.slots.iter().filter_map(|slot| slot.playing.as_ref());
        playing.any(|playing| playing.behaviour == Behaviour::SilentAfterTaking)
    }

    fn is_playing(&self, match_id: &str) -> bool {
        let mut playing = self.slots.iter().filter_map(|slot| slot.playing.as_ref());
        playing.any(|playing| playing.match_id == match_id)
    }

    /// What comes first. At the same time, steps come before questions: a match ends before the next one is asked for.
    fn first(&self) -> Option<(Duration, Next)> {
        let may_ask = self.asking.is_none() && self.left != Some(0) && !self.is_silent();
        let dues = self.slots.iter().enumerate().filter_map(|(index, slot)| match &slot.playing {
            Some(playing) => playing.steps.front().map(|(at, _)| (*at, Next::Step(index))),
            None => may_ask.then_some((slot.ask_at, Next::Ask(index))),
        });
        dues.min()
    }

    fn play(
        &mut self,
        slot: usize,
        now: Duration,
        match_id: String,
        behaviour: Behaviour,
        steps: Vec<(Duration, Step)>,
    ) {
        let steps = steps.into_iter().map(|(after, step)| (now + after, step)).collect();
        if let Some(slot) = self.slots.get_mut(slot) {
            slot.playing = Some(Playing { match_id, behaviour, steps });
        }
    }

    /// Does the next step of a slot, which is free after its last.
    fn step(&mut self, slot: usize) -> Option<Action> {
        let slot = self.slots.get_mut(slot)?;
        let playing = slot.playing.as_mut()?;
        let (_, step) = playing.steps.pop_front()?;
        let match_id = playing.match_id.clone();
        if playing.steps.is_empty() {
            slot.playing = None;
        }
        match step {
            Step::Ready => Some(Action::Ready { match_id }),
            Step::ReadyOfAnother => Some(Action::Ready { match_id: format!("{match_id}-wrong") }),
            Step::End => Some(Action::End { match_id }),
            Step::Forget => None,
        }
    }

    fn delay_asking(&mut self, slot: usize, now: Duration) {
        if let Some(slot) = self.slots.get_mut(slot) {
            slot.ask_at = slot.ask_at.max(now + self.plan.interval);
        }
    }

    fn choose(&mut self) -> Behaviour {
        let sum = self.plan.weights.iter().map(|(_, weight)| u64::from(*weight)).sum::<u64>().max(1);
        let mut at = self.random.u64(0..sum);
        for (behaviour, weight) in &self.plan.weights {
            match at.checked_sub(u64::from(*weight)) {
                Some(rest) => at = rest,
                None => return *behaviour,
            }
        }
        Behaviour::Normal
    }
}
