use std::collections::BTreeMap;
use std::time::UNIX_EPOCH;

use proptest::prelude::*;

use super::*;

const ZERO: Duration = Duration::ZERO;
const HEALTH: HealthOptions = HealthOptions {
    period: Duration::from_secs(5),
    failure_threshold: 3,
    initial_delay: Duration::from_secs(10),
};

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn game_server(waits_for_label: bool) -> GameServer {
    let began = UNIX_EPOCH + Duration::from_secs(1_000);
    let mut game_server = GameServer::new(Some(HEALTH), waits_for_label, Counts::default(), began);
    game_server.called(ZERO);
    game_server
}

fn game(id: &str) -> Match {
    Match {
        match_id: id.to_owned(),
        player_ids: vec!["p1".to_owned(), "p\"2".to_owned()],
        match_properties: r#"{"map":"lake"}"#.to_owned(),
        player_properties: BTreeMap::from([
            ("p1".to_owned(), r#"{"skill": 7}"#.to_owned()),
            ("p\"2".to_owned(), String::new()),
        ]),
    }
}

fn reports(game_server: &mut GameServer) -> Vec<Report> {
    std::iter::from_fn(|| game_server.take_report()).collect()
}

fn ended(match_id: &str) -> Report {
    Report::Ended { match_id: match_id.to_owned() }
}

/// Ready and with a match.
fn allocated(waits_for_label: bool) -> GameServer {
    let mut game_server = game_server(waits_for_label);
    game_server.ready();
    game_server.assigned(&game("m1"), at(1));
    game_server
}

#[test]
fn a_server_is_given_a_match_once_it_is_ready() {
    let mut game_server = game_server(false);
    assert_eq!(game_server.state(), State::Scheduled);
    assert!(!game_server.wants_match());
    game_server.ready();
    assert!(game_server.wants_match());
    game_server.assigned(&game("m1"), at(90));
    assert_eq!(game_server.state(), State::Allocated);
    assert!(!game_server.wants_match());
    assert_eq!(game_server.unannounced(), Some("m1"));
    game_server.announced("m1");
    assert_eq!(game_server.unannounced(), None);
    assert_eq!(reports(&mut game_server), []);
}

#[test]
fn the_match_is_in_labels_and_annotations_until_it_is_over() {
    let mut game_server = allocated(false);
    let annotations = game_server.annotations().clone();
    assert_eq!(annotations[LAST_ALLOCATED], "1970-01-01T00:16:41.000000000Z");
    assert_eq!(annotations[MATCH_ID], "m1");
    assert_eq!(annotations[MATCH_PROPERTIES], r#"{"map":"lake"}"#);
    assert_eq!(annotations[PLAYER_IDS], r#"["p1","p\"2"]"#);
    assert_eq!(annotations[PLAYER_PROPERTIES], r#"{"p\"2":{},"p1":{"skill":7}}"#);
    assert_eq!(game_server.labels()[MATCH_ID], "m1");
    game_server.ready();
    assert_eq!(game_server.annotations().keys().collect::<Vec<_>>(), [LAST_ALLOCATED]);
    assert!(game_server.labels().is_empty());
}

#[test]
fn another_ready_ends_the_match() {
    let mut game_server = allocated(false);
    game_server.ready();
    assert_eq!(reports(&mut game_server), [ended("m1")]);
    assert!(game_server.wants_match());
    assert_eq!(game_server.unannounced(), None);
    game_server.ready();
    assert_eq!(reports(&mut game_server), []);
}

#[test]
fn shutdown_is_the_end() {
    let mut game_server = allocated(false);
    game_server.shutdown();
    assert_eq!(reports(&mut game_server), [Report::Gone { why: "it shut down" }]);
    game_server.ready();
    game_server.reserve(5, at(2));
    game_server.allocate(at(2));
    game_server.shutdown();
    game_server.tick(at(1_000));
    assert_eq!(game_server.state(), State::Shutdown);
    assert_eq!(game_server.deadline(), None);
    assert_eq!(reports(&mut game_server), []);
}

#[test]
fn a_server_that_takes_itself_is_not_given_a_match() {
    let mut game_server = game_server(false);
    game_server.ready();
    game_server.allocate(at(1));
    assert_eq!(game_server.state(), State::Allocated);
    assert!(!game_server.wants_match());
    assert!(game_server.annotations().contains_key(LAST_ALLOCATED));
    game_server.assigned(&game("late"), at(2));
    assert_eq!(reports(&mut game_server), [ended("late")]);
    assert!(!game_server.annotations().contains_key(MATCH_ID));
}

#[test]
fn allocate_keeps_the_match_that_there_is() {
    let mut game_server = allocated(false);
    game_server.allocate(at(2));
    assert_eq!(reports(&mut game_server), []);
    assert_eq!(game_server.unannounced(), Some("m1"));
    assert_eq!(game_server.annotations()[LAST_ALLOCATED], "1970-01-01T00:16:42.000000000Z");
}

#[test]
fn a_reservation_ends_on_its_own_or_with_ready() {
    let mut game_server = game_server(false);
    game_server.reserve(4, at(1));
    assert_eq!((game_server.state(), game_server.deadline()), (State::Reserved, Some(at(5))));
    game_server.tick(at(4));
    assert_eq!(game_server.state(), State::Reserved);
    game_server.tick(at(5));
    assert_eq!(game_server.state(), State::Ready);
    game_server.reserve(4, at(6));
    game_server.ready();
    game_server.allocate(at(7));
    game_server.tick(at(11));
    assert_eq!(game_server.state(), State::Allocated);
}

#[test]
fn a_reservation_without_a_positive_time_has_no_end() {
    for seconds in [0, -1, i64::MIN] {
        let mut game_server = GameServer::new(None, false, Counts::default(), UNIX_EPOCH);
        game_server.reserve(2, ZERO);
        game_server.reserve(seconds, ZERO);
        assert_eq!((game_server.state(), game_server.deadline()), (State::Reserved, None));
    }
    let mut game_server = GameServer::new(None, false, Counts::default(), UNIX_EPOCH);
    game_server.reserve(i64::MAX, Duration::MAX);
    game_server.tick(at(1));
    assert_eq!(game_server.state(), State::Reserved);
}

#[test]
fn a_reservation_ends_the_match() {
    let mut game_server = allocated(false);
    game_server.reserve(4, at(1));
    assert_eq!(reports(&mut game_server), [ended("m1")]);
}

#[test]
fn silence_counts_from_the_first_call_on() {
    let mut game_server = GameServer::new(Some(HEALTH), false, Counts::default(), UNIX_EPOCH);
    assert_eq!(game_server.deadline(), None);
    game_server.called(at(100));
    assert_eq!(game_server.deadline(), Some(at(125)));
    game_server.heard(at(105));
    assert_eq!(game_server.deadline(), Some(at(125)));
    game_server.heard(at(120));
    assert_eq!(game_server.deadline(), Some(at(135)));
    game_server.ready();
    game_server.tick(at(134));
    assert_eq!(game_server.state(), State::Ready);
    game_server.tick(at(135));
    assert_eq!(game_server.state(), State::Unhealthy);
    assert_eq!(reports(&mut game_server), [Report::Gone { why: "its health was not heard of" }]);
    game_server.heard(at(136));
    game_server.ready();
    assert_eq!(game_server.state(), State::Unhealthy);
}

#[test]
fn health_can_be_done_without() {
    let mut game_server = GameServer::new(None, false, Counts::default(), UNIX_EPOCH);
    game_server.called(ZERO);
    game_server.ready();
    game_server.tick(Duration::MAX);
    assert_eq!(game_server.state(), State::Ready);
}

#[test]
fn players_come_when_the_label_says_so() {
    let mut game_server = game_server(true);
    game_server.ready();
    game_server.set_label(READY_LABEL, "true".to_owned()).unwrap();
    game_server.assigned(&game("m1"), at(1));
    assert_eq!(game_server.unannounced(), None, "an earlier label does not count for this match");
    assert!(!game_server.labels().contains_key("agones.dev/sdk-match-ready"));
    game_server.set_label(READY_LABEL, NOT_READY.to_owned()).unwrap();
    assert_eq!(game_server.unannounced(), None);
    game_server.set_label(READY_LABEL, "true".to_owned()).unwrap();
    assert_eq!(game_server.unannounced(), Some("m1"));
    assert_eq!(game_server.labels()["agones.dev/sdk-match-ready"], "true");
}

#[test]
fn a_refused_match_ends_its_server() {
    let mut game_server = allocated(false);
    game_server.match_refused("another");
    assert_eq!(game_server.state(), State::Allocated);
    game_server.match_refused("m1");
    assert_eq!(game_server.state(), State::Shutdown);
    assert_eq!(reports(&mut game_server), [Report::Gone { why: "its match was refused" }]);
}

#[test]
fn a_late_announcement_does_not_count_for_the_next_match() {
    let mut game_server = allocated(false);
    game_server.ready();
    game_server.assigned(&game("m2"), at(2));
    game_server.announced("m1");
    assert_eq!(game_server.unannounced(), Some("m2"));
}

#[test]
fn a_resumed_server_has_its_match_and_requests_none_before_it_calls() {
    let new = || GameServer::new(Some(HEALTH), true, Counts::default(), UNIX_EPOCH);
    let mut with = new();
    with.resume(Some("m1"), at(3));
    assert_eq!((with.state(), with.unannounced()), (State::Allocated, None));
    assert_eq!(with.labels()[MATCH_ID], "m1");
    assert_eq!(with.deadline(), Some(at(28)), "it may have died");
    with.ready();
    assert_eq!(reports(&mut with), [ended("m1")]);
    let mut without = new();
    without.resume(None, at(3));
    assert_eq!((without.state(), without.wants_match()), (State::Ready, false));
    without.called(at(4));
    assert!(without.wants_match());
}

#[test]
fn the_servers_own_metadata_has_a_prefix_and_a_limit() {
    let mut game_server = game_server(false);
    game_server.set_annotation("mode", "duel".to_owned()).unwrap();
    assert_eq!(game_server.annotations()["agones.dev/sdk-mode"], "duel");
    assert!(matches!(game_server.set_label("", "x".to_owned()), Err(Refusal::Field(_))));
    let half = "x".repeat(MAX_METADATA_BYTES / 2);
    game_server.set_label("a", half.clone()).unwrap();
    game_server.set_label("a", half.clone()).unwrap();
    let before = game_server.version();
    assert!(matches!(game_server.set_label("b", half), Err(Refusal::TooMuch(_))));
    assert_eq!(game_server.version(), before);
}

#[test]
fn properties_that_are_not_json_stay_unchanged() {
    let game = Match { player_properties: BTreeMap::from([("p1".to_owned(), "{".to_owned())]), ..game("m1") };
    let annotations = BTreeMap::from(described(&game));
    assert_eq!(annotations[PLAYER_PROPERTIES], r#"{"p1":"{"}"#);
}

#[derive(Clone, Debug)]
enum Step {
    Ready,
    Allocate,
    Reserve(i64),
    Shutdown,
    Heard,
    Label(bool),
    Match,
    Announced,
    Refused,
    Exit,
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => Just(Step::Ready),
        2 => Just(Step::Allocate),
        2 => (-1i64..20).prop_map(Step::Reserve),
        1 => Just(Step::Shutdown),
        4 => Just(Step::Heard),
        2 => any::<bool>().prop_map(Step::Label),
        6 => Just(Step::Match),
        3 => Just(Step::Announced),
        1 => Just(Step::Refused),
        1 => Just(Step::Exit),
        6 => (0u64..12).prop_map(Step::Pass),
    ]
}

proptest! {
    /// In any order of events: every match given is either over exactly once or still held, final states are final, the
    /// server is gone at most once, and every visible change has a new version.
    #[test]
    fn every_match_ends_exactly_once(waits in any::<bool>(), steps in proptest::collection::vec(step(), 1..60)) {
        let mut game_server = game_server(waits);
        let (mut now, mut given, mut over, mut gone) = (ZERO, Vec::new(), Vec::new(), 0);
        for step in steps {
            let before = game_server.clone();
            match step {
                Step::Ready => game_server.ready(),
                Step::Allocate => game_server.allocate(now),
                Step::Reserve(seconds) => game_server.reserve(seconds, now),
                Step::Shutdown => game_server.shutdown(),
                Step::Heard => game_server.heard(now),
                Step::Label(set) => game_server.set_label(READY_LABEL, set.to_string()).unwrap(),
                Step::Match => {
                    let id = format!("m{}", given.len());
                    game_server.assigned(&game(&id), now);
                    given.push(id);
                }
                Step::Announced | Step::Refused => {
                    if let Some(id) = game_server.unannounced().map(str::to_owned) {
                        match step {
                            Step::Announced => game_server.announced(&id),
                            _ => game_server.match_refused(&id),
                        }
                    }
                }
                Step::Exit => game_server.told_to_exit(),
                Step::Pass(seconds) => {
                    now += at(seconds);
                    game_server.tick(now);
                }
            }
            for report in reports(&mut game_server) {
                match report {
                    Report::Ended { match_id } => over.push(match_id),
                    Report::Gone { .. } => {
                        gone += 1;
                        over.extend(before.held.as_ref().map(|held| held.match_id.clone()));
                    }
                }
            }
            let held = game_server.held.as_ref().map(|held| held.match_id.clone());
            let mut accounted: Vec<_> = over.iter().cloned().chain(held.clone()).collect();
            accounted.sort();
            let mut all = given.clone();
            all.sort();
            prop_assert_eq!(accounted, all);
            prop_assert!(held.is_none() || game_server.state() == State::Allocated);
            prop_assert_eq!(game_server.labels().get(MATCH_ID), held.as_ref());
            prop_assert!(gone <= 1 && game_server.is_over() == (gone == 1));
            prop_assert!(!before.is_over() || before.state() == game_server.state());
            let seen = |it: &GameServer| (it.state(), it.labels().clone(), it.annotations().clone());
            prop_assert!(seen(&before) == seen(&game_server) || before.version() < game_server.version());
            prop_assert!(game_server.deadline().is_none_or(|deadline| deadline > now) || !matches!(step, Step::Pass(_)));
        }
    }
}
