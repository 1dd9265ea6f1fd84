//! What a virtual server does next, and when.
//!
//! No clock, no I/O: the time since its start and the results of its calls are arguments; random choices come from a
//! generator that is passed in. So a server's whole day can be tested in microseconds, and a seed replays it.

use std::collections::VecDeque;
use std::time::Duration;

use fastrand::Rng;

use super::behaviour::{Behaviour, Step};

/// A strategy, in numbers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Plan {
    /// Minimum time between two requests for a match, for each of its concurrent matches.
    pub(super) interval: Duration,
    /// From taking a match to reporting it as ready.
    pub(super) ready_delay: Duration,
    /// From reporting a match as ready to its end.
    pub(super) duration: Duration,
    /// Maximum number of concurrent matches; at least 1.
    pub(super) at_a_time: usize,
    /// Maximum number of matches in total.
    pub(super) total: Option<u64>,
    /// How late a late server is.
    pub(super) late_by: Duration,
    /// How long a match that is never ended occupies the server.
    pub(super) forget_after: Duration,
    /// Relative weights of the behaviours. Not empty, and none is 0.
    pub(super) weights: Vec<(Behaviour, u32)>,
}

/// What to do now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Action {
    /// Request a match; report the result to [`Planner::answered`].
    Ask,
    /// Report a match as ready; if it is refused, call [`Planner::refused`].
    Ready {
        /// Its id.
        match_id: String,
    },
    /// Report a match as over.
    End {
        /// Its id.
        match_id: String,
    },
}

/// The result of requesting a match.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Answer {
    /// This match.
    Match(String),
    /// None right now.
    Nothing,
}

/// Plans one server.
pub(super) struct Planner {
    plan: Plan,
    random: Rng,
    /// One for each concurrent match.
    slots: Vec<Slot>,
    /// The slot that a match is being requested for.
    asking: Option<usize>,
    /// Number of matches that it may still take; `None` without a limit.
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
    /// The remaining steps, in order of time.
    steps: VecDeque<(Duration, Step)>,
}

/// What comes next: a step of a slot, or a request for it.
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

    /// What to do at `now`, the time since the start. Call it repeatedly until there is nothing.
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

    /// The result of [`Action::Ask`].
    pub(super) fn answered(&mut self, now: Duration, answer: Answer) {
        let Some(asked) = self.asking.take() else { return };
        match answer {
            // A backend assigns a match again that was not reported as ready.
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
        // Nor is there one for its other slots.
        for slot in 0..self.slots.len() {
            self.delay_asking(slot, now);
        }
    }

    /// The backend refused [`Action::Ready`] for this match: a well-behaved server gives it up.
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

    /// Resumes, at the start, a match that the server held before a restart. Matches beyond the maximum are ignored.
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
        self.left == Some(0) && self.asking.is_none() && self.slots.iter().all(|slot| slot.playing.is_none())
    }

    /// Whether the server should look dead.
    pub(super) fn is_silent(&self) -> bool {
        let mut playing = self.slots.iter().filter_map(|slot| slot.playing.as_ref());
        playing.any(|playing| playing.behaviour == Behaviour::SilentAfterTaking)
    }

    fn is_playing(&self, match_id: &str) -> bool {
        let mut playing = self.slots.iter().filter_map(|slot| slot.playing.as_ref());
        playing.any(|playing| playing.match_id == match_id)
    }

    /// The earliest event. At the same time, steps come before requests: a match ends before the next one is requested.
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

    /// Takes the next step of a slot, which is free after its last.
    fn step(&mut self, slot: usize) -> Option<Action> {
        let slot = self.slots.get_mut(slot)?;
        let playing = slot.playing.as_mut()?;
        let (at, step) = playing.steps.pop_front()?;
        let match_id = playing.match_id.clone();
        if playing.steps.is_empty() {
            slot.playing = None;
            slot.ask_at = slot.ask_at.max(at);
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn plan() -> Plan {
        Plan {
            interval: 5 * SECOND,
            ready_delay: 2 * SECOND,
            duration: 20 * SECOND,
            at_a_time: 1,
            total: None,
            late_by: 35 * SECOND,
            forget_after: 60 * SECOND,
            weights: vec![(Behaviour::Normal, 1)],
        }
    }

    fn planner(plan: Plan) -> Planner {
        Planner::new(plan, fastrand::Rng::with_seed(7))
    }

    /// Runs it with a clock that jumps to what is due. `matches` decides for each request at its time whether there is
    /// a match, m-0, m-1, …; the answer comes at once.
    fn run(
        planner: &mut Planner,
        until: Duration,
        mut matches: impl FnMut(Duration) -> bool,
    ) -> Vec<(u64, String)> {
        let mut log = Vec::new();
        let mut given = 0;
        while let Some(now) = planner.due().filter(|due| *due <= until) {
            while let Some(action) = planner.next(now) {
                let text = match action {
                    Action::Ask => "ask".to_owned(),
                    Action::Ready { match_id } => format!("ready {match_id}"),
                    Action::End { match_id } => format!("end {match_id}"),
                };
                let asks = text == "ask";
                log.push((now.as_secs(), text));
                if asks {
                    let answer =
                        if matches(now) { Answer::Match(format!("m-{given}")) } else { Answer::Nothing };
                    given += usize::from(answer != Answer::Nothing);
                    planner.answered(now, answer);
                }
            }
        }
        log
    }

    fn of(log: &[(u64, &str)]) -> Vec<(u64, String)> {
        log.iter().map(|(at, text)| (*at, (*text).to_owned())).collect()
    }

    #[test]
    fn matches_follow_one_another() {
        let log = run(&mut planner(plan()), 27 * SECOND, |now| now >= 5 * SECOND);
        let expected = [(0, "ask"), (5, "ask"), (7, "ready m-0"), (27, "end m-0"), (27, "ask")];
        assert_eq!(log, of(&expected));
    }

    #[test]
    fn the_next_question_waits_for_its_interval() {
        let plan = Plan { ready_delay: Duration::ZERO, duration: SECOND, ..plan() };
        let log = run(&mut planner(plan), 5 * SECOND, |_| true);
        let expected = [(0, "ask"), (0, "ready m-0"), (1, "end m-0"), (5, "ask"), (5, "ready m-1")];
        assert_eq!(log, of(&expected));
    }

    #[test]
    fn once_is_done_after_its_match() {
        let mut planner = planner(Plan { total: Some(1), ..plan() });
        assert!(!planner.is_done());
        let log = run(&mut planner, 1000 * SECOND, |_| true);
        assert_eq!(log, of(&[(0, "ask"), (2, "ready m-0"), (22, "end m-0")]));
        assert!(planner.is_done() && planner.due().is_none());
    }

    #[test]
    fn several_are_taken_at_once_and_no_more() {
        let mut planner = planner(Plan { at_a_time: 3, ..plan() });
        let log = run(&mut planner, 2 * SECOND, |_| true);
        let expected =
            [(0, "ask"), (0, "ask"), (0, "ask"), (2, "ready m-0"), (2, "ready m-1"), (2, "ready m-2")];
        assert_eq!(log, of(&expected));
    }

    #[test]
    fn nothing_for_one_is_nothing_for_the_others() {
        let mut planner = planner(Plan { at_a_time: 3, ..plan() });
        let log = run(&mut planner, 6 * SECOND, |_| false);
        assert_eq!(log, of(&[(0, "ask"), (5, "ask")]));
    }

    #[test]
    fn a_match_that_it_has_is_not_taken_twice() {
        let mut planner = planner(Plan { at_a_time: 2, ..plan() });
        for _ in 0..2 {
            assert_eq!(planner.next(Duration::ZERO), Some(Action::Ask));
            planner.answered(Duration::ZERO, Answer::Match("m".to_owned()));
        }
        assert_eq!(planner.due(), Some(2 * SECOND));
        assert_eq!(planner.next(2 * SECOND), Some(Action::Ready { match_id: "m".to_owned() }));
        assert_eq!(planner.next(2 * SECOND), None);
    }

    #[test]
    fn a_refused_match_is_ended_at_once() {
        let mut planner = planner(plan());
        run(&mut planner, 2 * SECOND, |_| true);
        planner.refused(3 * SECOND, "another");
        assert_eq!(planner.due(), Some(22 * SECOND));
        planner.refused(3 * SECOND, "m-0");
        assert_eq!(planner.next(3 * SECOND), Some(Action::End { match_id: "m-0".to_owned() }));
        assert_eq!(planner.due(), Some(5 * SECOND), "it asks again after its interval");
    }

    #[test]
    fn after_a_shutdown_it_plays_to_the_end_and_is_done() {
        let mut planner = planner(plan());
        run(&mut planner, 2 * SECOND, |_| true);
        planner.shut_down();
        assert!(!planner.is_done());
        assert_eq!(run(&mut planner, 1000 * SECOND, |_| true), of(&[(22, "end m-0")]));
        assert!(planner.is_done());
    }

    #[test]
    fn matches_from_before_a_restart_are_played_on() {
        let mut planner = planner(Plan { at_a_time: 2, ..plan() });
        planner.resume("taken".to_owned(), false);
        planner.resume("ready".to_owned(), true);
        planner.resume("too many".to_owned(), true);
        let log = run(&mut planner, 22 * SECOND, |_| false);
        let expected = [(2, "ready taken"), (22, "end taken"), (22, "end ready"), (22, "ask")];
        assert_eq!(log, of(&expected));
    }

    #[test]
    fn each_behaviour_breaks_its_rule() {
        use Behaviour as B;
        let played = |behaviour| {
            let mut planner = planner(Plan { weights: vec![(behaviour, 3)], ..plan() });
            let mut log = run(&mut planner, 60 * SECOND, |_| true);
            log.retain(|(at, text)| *at > 0 && !text.contains("m-1") && !text.contains("m-2"));
            let next = log.iter().position(|(_, text)| text == "ask").expect("it goes on");
            log.truncate(next + 1);
            log
        };
        let ready = (2, "ready m-0");
        let end = (22, "end m-0");
        let asks = (22, "ask");
        assert_eq!(played(B::Normal), of(&[ready, end, asks]));
        assert_eq!(played(B::LateReady), of(&[(37, "ready m-0"), (57, "end m-0"), (57, "ask")]));
        assert_eq!(played(B::NeverReady), of(&[(60, "ask")]));
        assert_eq!(played(B::SilentAfterTaking), of(&[(60, "ask")]));
        assert_eq!(played(B::DoubleEnd), of(&[ready, end, end, asks]));
        assert_eq!(played(B::EndBeforeReady), of(&[(2, "end m-0"), ready, (5, "ask")]));
        assert_eq!(played(B::WrongMatchId), of(&[(2, "ready m-0-wrong"), ready, end, asks]));
        assert_eq!(played(B::ReadyTwice), of(&[ready, ready, end, asks]));
        assert_eq!(played(B::NeverEnds), of(&[ready, (60, "ask")]));
    }

    #[test]
    fn only_a_server_with_a_silent_match_is_silent() {
        let mut planner =
            planner(Plan { weights: vec![(Behaviour::SilentAfterTaking, 1)], at_a_time: 2, ..plan() });
        assert!(!planner.is_silent());
        run(&mut planner, 59 * SECOND, |_| true);
        assert!(planner.is_silent());
        assert_eq!(planner.next(60 * SECOND), Some(Action::Ask), "and it asks nothing until it is back");
        assert!(!planner.is_silent());
    }

    #[test]
    fn weights_are_how_often() {
        let weights = vec![(Behaviour::Normal, 1), (Behaviour::ReadyTwice, 3)];
        let mut planner = planner(Plan { weights, ..plan() });
        let twice = (0..4000).filter(|_| planner.choose() == Behaviour::ReadyTwice).count();
        assert!((2800..3200).contains(&twice), "{twice} of 4000");
    }

    fn any_plan() -> impl Strategy<Value = Plan> {
        let seconds = |max: u64| (0..=max).prop_map(Duration::from_secs);
        let weights = prop::collection::vec((prop::sample::select(Behaviour::ALL.to_vec()), 1_u32..5), 1..6);
        (
            1_u64..10,
            seconds(10),
            seconds(30),
            1_usize..4,
            prop::option::of(1_u64..6),
            seconds(40),
            seconds(40),
            weights,
        )
            .prop_map(
                |(interval, ready_delay, duration, at_a_time, total, late_by, forget_after, weights)| Plan {
                    interval: Duration::from_secs(interval),
                    ready_delay,
                    duration,
                    at_a_time,
                    total,
                    late_by,
                    forget_after,
                    weights,
                },
            )
    }

    proptest! {
        #[test]
        fn every_plan_keeps_its_limits_and_never_stalls(plan in any_plan(), seed: u64, there in prop::collection::vec(any::<bool>(), 1..20)) {
            let mut planner = Planner::new(plan.clone(), fastrand::Rng::with_seed(seed));
            let mut asked = 0;
            let mut taken = 0;
            let mut answers = there.iter().cycle();
            let mut now = Duration::ZERO;
            for _ in 0..200 {
                let Some(due) = planner.due() else { break };
                prop_assert!(due >= now || planner.next(now).is_none(), "nothing is left undone");
                now = now.max(due);
                while let Some(action) = planner.next(now) {
                    if action != Action::Ask {
                        continue;
                    }
                    asked += 1;
                    let has_one = *answers.next().unwrap();
                    taken += u64::from(has_one);
                    let answer = if has_one { Answer::Match(format!("m-{taken}")) } else { Answer::Nothing };
                    planner.answered(now, answer);
                    let playing = planner.slots.iter().filter(|slot| slot.playing.is_some()).count();
                    prop_assert!(playing <= plan.at_a_time);
                }
            }
            prop_assert!(plan.total.is_none_or(|total| taken <= total));
            let rounds = now.as_secs() / plan.interval.as_secs() + 1;
            prop_assert!(asked <= rounds * plan.at_a_time as u64, "{asked} questions in {now:?}");
            if planner.due().is_none() {
                prop_assert!(planner.is_done());
            }
        }

        #[test]
        fn a_seed_replays(plan in any_plan(), seed: u64) {
            let again = || run(&mut Planner::new(plan.clone(), fastrand::Rng::with_seed(seed)), 300 * SECOND, |now| now.as_secs() % 3 != 1);
            prop_assert_eq!(again(), again());
        }
    }
}
