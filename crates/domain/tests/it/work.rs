//! No input to the broker takes more work than a step's limit: the rest is done in later steps, with the same result.
//!
//! Work is counted in units of about a nanosecond, so these tests need no clock.

use sortie_domain::broker::model::{FastSchedule, Fleet, Settings};
use sortie_domain::broker::{Broker, Command, Event, Hints, Reply};
use sortie_domain::ids::{MatchId, ServerId};
use sortie_domain::machine::{Answer, CallId, Machine, Moment, Step};
use sortie_domain::match_spec::MatchSpec;
use sortie_domain::properties::Properties;
use sortie_domain::requirements::MAX_STEP_WORK;
use sortie_domain::time::Timestamp;

use crate::table::{fleet, fleet_id, game, on, player, request, secs, server, submit, with_properties};

const WAIT: Hints = Hints::WILLING_TO_WAIT;

/// A broker, step by step; each step is checked.
struct Steps {
    broker: Broker,
    calls: u64,
    ticks: usize,
    answers: Vec<(CallId, Answer<Broker>)>,
    events: Vec<Event>,
}

impl Steps {
    fn with(fast_schedule: FastSchedule, fleets: Vec<Fleet>) -> Self {
        let mut steps =
            Self { broker: Broker::new(), calls: 0, ticks: 0, answers: Vec::new(), events: Vec::new() };
        let settings =
            Settings { match_pickup_time: secs(1_000_000), wait: secs(1_000), ..on(fast_schedule) };
        steps.call(Command::Configure { settings, fleets });
        steps
    }

    fn new() -> Self {
        Self::with(FastSchedule::OnSchedule, Vec::new())
    }

    fn take(&mut self, step: Step<Broker>) {
        let work = self.broker.work_of_step();
        assert!(work <= MAX_STEP_WORK, "a step of {work}");
        self.answers.extend(step.answers);
        self.events.extend(step.records.into_iter().map(|record| record.event));
    }

    fn moment(&mut self) -> Moment {
        self.calls += 1;
        let entropy = [self.calls.wrapping_mul(0x9e37_79b9_7f4a_7c15), !self.calls];
        Moment { now: Timestamp::from_millis(1_700_000_000_000), entropy }
    }

    fn call(&mut self, command: Command) -> CallId {
        let (at, mut step) = (self.moment(), Step::new());
        let call = CallId(self.calls);
        self.broker.handle(at, call, command, &mut step);
        self.take(step);
        call
    }

    /// Whether there was something to do.
    fn tick(&mut self) -> bool {
        let at = self.moment();
        if self.broker.next_deadline().is_none_or(|due| due > at.now) {
            return false;
        }
        let mut step = Step::new();
        self.broker.tick(at, &mut step);
        self.take(step);
        self.ticks += 1;
        assert!(self.ticks < 100_000, "something is always due");
        true
    }

    fn finish(&mut self) {
        while self.tick() {}
    }

    fn submit(&mut self, id: &str, spec: MatchSpec) {
        self.call(submit(&game(id), spec));
    }

    fn answer(&mut self, call: CallId) -> Option<Option<MatchId>> {
        let at = self.answers.iter().position(|(of, _)| *of == call)?;
        match self.answers.remove(at).1.unwrap() {
            Reply::Requested { offer, .. } => Some(offer.map(|offer| offer.match_id)),
            other => panic!("{other:?}"),
        }
    }

    /// What the server gets in one step.
    fn at_once(&mut self, host: &ServerId, requirements: &str) -> Option<MatchId> {
        let call = self.call(request(host, requirements, Hints::NONE));
        self.answer(call).expect("an answer in the same step")
    }
}

/// Of about 970 KB.
fn large() -> MatchSpec {
    let properties = Properties::parse(&format!(r#"{{"x":"{}"}}"#, "é".repeat(32_000))).unwrap();
    let players: Vec<_> = (0..15).map(|n| player(&format!("p{n}"))).collect();
    let player_properties = players.iter().map(|id| (id.clone(), properties.clone())).collect();
    MatchSpec { players, player_properties, properties, ..MatchSpec::default() }
}

#[test]
fn costly_expressions_over_large_matches_keep_nobody_waiting() {
    let mut steps = Steps::new();
    for n in 0..6 {
        steps.submit(&format!("large-{n}"), large());
    }
    let costly = format!("[{}]|[0]=='x'", vec!["reverse(to_string(@))"; 20].join(","));
    let waiting = steps.call(request(&server("costly"), &costly, WAIT));
    assert_eq!(steps.answer(waiting), None);
    assert_eq!(steps.at_once(&server("plain"), ""), Some(game("large-0")));
    assert_eq!(steps.at_once(&server("plain"), "MatchId == 'large-3'"), Some(game("large-3")));
    steps.finish();
    assert!(steps.ticks > 1, "{}", steps.ticks);
    assert_eq!(steps.answer(waiting), None, "nothing fits, so it waits");
}

#[test]
fn what_multiplies_is_refused_as_too_costly() {
    let mut steps = Steps::new();
    let multiplies = ["[@, @]"; 40].join(" | ");
    let call = steps.call(request(&server("host"), &multiplies, WAIT));
    let (of, answer) = steps.answers.pop().unwrap();
    assert_eq!((of, answer.unwrap_err().code()), (call, "requirements_too_costly"));
}

fn tagged(tags: &str) -> MatchSpec {
    with_properties(&format!(r#"{{"tags":[{tags}],"mode":"duel"}}"#))
}

#[test]
fn a_search_that_is_cut_finds_the_oldest_match_in_the_end() {
    for requirements in ["contains(MatchProperties.tags, 'x')", "MatchProperties.tags == `[\"x\"]`"] {
        let mut steps = Steps::new();
        for n in 0..20_000 {
            steps.submit(&format!("m{n}"), tagged(if n == 18_000 || n == 18_500 { "\"x\"" } else { "" }));
        }
        // A server that is not willing to wait for a match still waits for the end of the search.
        let calls = ["one", "two", "three"].map(|host| {
            steps.call(request(&server(host), requirements, if host == "one" { Hints::NONE } else { WAIT }))
        });
        assert!(calls.iter().all(|call| steps.answer(*call).is_none()), "{requirements}");
        // A younger one comes first and must not be given away first.
        steps.submit("young", tagged("\"x\""));
        let unwilling =
            steps.call(request(&server("four"), "contains(MatchProperties.tags, 'y')", Hints::NONE));
        steps.finish();
        assert!(steps.ticks > 1, "{requirements}: {}", steps.ticks);
        let mut found: Vec<_> = calls.iter().map(|call| steps.answer(*call).unwrap()).collect();
        assert_eq!(found[0], Some(game("m18000")), "{requirements}");
        found.sort();
        assert_eq!(found, ["m18000", "m18500", "young"].map(|id| Some(game(id))), "{requirements}");
        assert_eq!(steps.answer(unwilling), Some(None), "{requirements}");
        // Now the result is known and answered at once.
        steps.submit("next", tagged("\"x\""));
        assert_eq!(steps.at_once(&server("five"), requirements), Some(game("next")), "{requirements}");
    }
}

/// Numbers that are filed with 1 and are not equal to it: neighbours, but not near enough.
#[test]
fn matches_made_to_be_filed_where_they_do_not_fit_keep_nobody_waiting() {
    let mut steps = Steps::new();
    let near = f64::from_bits(1.0_f64.to_bits() + 20);
    for n in 0..8_000 {
        steps.submit(&format!("m{n}"), with_properties(&format!(r#"{{"n":{near}}}"#)));
    }
    steps.submit("fits", with_properties(r#"{"n":1}"#));
    let call = steps.call(request(&server("host"), "MatchProperties.n == `1`", WAIT));
    steps.finish();
    assert_eq!(steps.answer(call), Some(Some(game("fits"))));
}

/// A list that takes a good part of a step to sort.
fn listed() -> MatchSpec {
    let list: Vec<_> = (0..2_500).map(|n| (n * 7_919 % 2_500).to_string()).collect();
    with_properties(&format!(r#"{{"list":[{}]}}"#, list.join(",")))
}

#[test]
fn a_match_is_offered_to_all_who_wait_over_several_steps() {
    let mut steps = Steps::new();
    let calls: Vec<_> = (0..60)
        .map(|n| {
            let requirements = format!("sort(MatchProperties.list)[0] == `{}`", 59 - n);
            steps.call(request(&server(&format!("s{n}")), &requirements, WAIT))
        })
        .collect();
    // Only the last waiting server may have it, and older matches do not keep a younger one from a server that it fits
    // at once.
    steps.submit("listed", listed());
    assert!(calls.iter().all(|call| steps.answer(*call).is_none()));
    let plain = steps.call(request(&server("plain"), "MatchProperties.mode == 'duel'", WAIT));
    steps.submit("plain", tagged(""));
    steps.finish();
    assert!(steps.ticks > 5, "{}", steps.ticks);
    assert_eq!(steps.answer(plain), Some(Some(game("plain"))));
    let last = *calls.last().unwrap();
    assert_eq!(steps.answer(last), Some(Some(game("listed"))));
    assert!(calls[..59].iter().all(|call| steps.answer(*call).is_none()), "they wait on");
}

#[test]
fn a_server_gets_the_oldest_match_although_that_is_still_being_offered_to_others() {
    let mut steps = Steps::new();
    for n in 0..60 {
        let requirements = format!("sort(MatchProperties.list)[0] == `{}`", n + 1);
        steps.call(request(&server(&format!("s{n}")), &requirements, WAIT));
    }
    let last = steps.call(request(&server("last"), "MatchProperties.list || MatchProperties.mode", WAIT));
    steps.submit("old", listed());
    steps.submit("young", tagged(""));
    steps.finish();
    assert_eq!(steps.answer(last), Some(Some(game("old"))));
}

#[test]
fn who_waits_in_vain_may_be_abandoned_in_the_middle_of_a_search() {
    let mut steps = Steps::new();
    for n in 0..12_000 {
        steps.submit(&format!("m{n}"), tagged(""));
    }
    let call = steps.call(request(&server("host"), "contains(MatchProperties.tags, 'x')", WAIT));
    steps.tick();
    steps.broker.abandon(call);
    steps.finish();
    assert_eq!(steps.answer(call), None);
    assert!(steps.ticks < 5, "the search ends with the call: {}", steps.ticks);
}

#[test]
fn servers_are_ordered_over_several_steps() {
    let of_list = |id: &str, first: u32| Fleet {
        requirements: format!("sort(MatchProperties.list)[0] == `{first}`"),
        ..fleet(id)
    };
    let mut fleets: Vec<_> = (0..30).map(|n| of_list(&format!("f{n}"), n + 1)).collect();
    fleets.push(Fleet { preference: 1, ..of_list("right", 0) });
    let mut steps = Steps::with(FastSchedule::UnlessFree, fleets);
    for n in 0..3 {
        steps.submit(&format!("m{n}"), listed());
    }
    steps.finish();
    assert!(steps.ticks > 5, "{}", steps.ticks);
    let orders = steps.events.iter().filter_map(|event| match event {
        Event::AllocationOrdered { fleet, for_match, .. } => Some((fleet.clone(), for_match.clone())),
        _ => None,
    });
    let mut orders: Vec<_> = orders.collect();
    orders.sort();
    let expected = [0, 1, 2].map(|n| (fleet_id("right"), Some(game(&format!("m{n}")))));
    assert_eq!(orders, expected);
}

#[test]
fn explaining_takes_no_more_work_than_a_step() {
    let fleets = (0..80).map(|n| Fleet {
        requirements: format!("sort(MatchProperties.list)[0] == `{}`", n + 1),
        ..fleet(&format!("f{n}"))
    });
    let mut steps = Steps::with(FastSchedule::UnlessFree, fleets.collect());
    steps.submit("m", listed());
    steps.finish();
    let explained = steps.broker.explain(&game("m")).unwrap();
    assert_eq!(explained.fleets.len(), 80);
    assert!(steps.broker.work_of_step() <= MAX_STEP_WORK, "{}", steps.broker.work_of_step());
    let unmet = |at: usize| explained.fleets[at].unmet[0].found.clone();
    assert_eq!(unmet(0).as_deref(), Some("0"));
    assert!(unmet(79).unwrap().contains("too much"), "{:?}", unmet(79));
}
