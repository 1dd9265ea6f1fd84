//! Why a match still waits or why it failed: as data, and as text.

use sortie_domain::broker::explain::{
    Explanation, FleetState, MAX_FLEETS, MAX_GROUPS, MAX_SERVERS_NAMED, Prospect, Standing, TimerKind,
};
use sortie_domain::broker::model::{FailReason, FastSchedule, Fleet, GoneCause, Settings};
use sortie_domain::broker::{Command, Hints, SeatsElsewhere, words};
use sortie_domain::ids::MatchId;
use sortie_domain::time::Timestamp;

use crate::table::{
    Table, bound_to, fleet, fleet_id, on, player, request, secs, server, spec, submit, with_properties,
};

const DESERT: &str = "MatchProperties.map == 'desert'";

/// An explanation, with times as seconds since `from`.
struct Told {
    data: Explanation,
    words: Vec<String>,
    summary: String,
}

fn explain(table: &Table, id: &MatchId, from: Timestamp) -> Told {
    let data = table.broker.explain(id).unwrap();
    assert_eq!(table.broker.standing(id).as_ref(), Some(&data.standing));
    let clock = |at: Timestamp| format!("{} s", at.since(from).as_secs());
    let (words, summary) = (words::sentences(&data, &clock), words::summary(&data.standing));
    Told { data, words, summary }
}

impl Told {
    fn says(&self, sentence: &str) {
        assert!(self.words.iter().any(|said| said == sentence), "{sentence}\nis not in\n{:#?}", self.words);
    }

    fn fleet(&self, at: usize) -> (&str, FleetState) {
        (self.data.fleets[at].fleet.as_str(), self.data.fleets[at].state)
    }

    fn timers(&self) -> Vec<&TimerKind> {
        self.data.timers.iter().map(|timer| &timer.kind).collect()
    }
}

fn of_maps(id: &str, map: &str, preference: i32) -> Fleet {
    Fleet { requirements: format!("MatchProperties.map == '{map}'"), preference, ..fleet(id) }
}

#[test]
fn a_match_that_nothing_can_be_done_for() {
    let mut table = Table::new();
    let begin = table.now();
    let id = table.submit("m", spec(&["p"]));
    table.advance(secs(5));
    let told = explain(&table, &id, begin);
    assert_eq!(told.summary, "waiting for a server: 1st in the queue");
    assert_eq!(
        told.words,
        [
            "The match waits for a server since 0 s; no older one is in the queue.",
            "No server is ordered for it.",
            "No server is free.",
            "No fleet is configured that could start a server for it.",
            "Next, at 30 s: the schedule orders a server for it, if a fleet can start one.",
            "It is not known yet how long matches wait: none has become ready since this process started.",
        ]
    );
    assert_eq!(told.timers(), [&TimerKind::Schedule, &TimerKind::Pickup]);
    assert_eq!(told.data.timers[1].at, begin + secs(90));
    assert!(table.broker.explain(&MatchId::new("other").unwrap()).is_none());
}

#[test]
fn servers_refuse_by_the_parts_that_are_not_met() {
    let mut table = Table::new();
    let wants = format!(
        "{DESERT} && length(PlayerIds) >= `2` && MatchProperties.mode == 'duel' && MatchProperties.ranked"
    );
    for name in ["a", "b"] {
        table.kept(request(&server(name), &wants, Hints::WILLING_TO_WAIT));
    }
    let (none, _) = table.request(
        &server("c"),
        "MatchProperties.map == 'forest' || MatchProperties.map == 'sea'",
        Hints::NONE,
    );
    assert_eq!(none, None);
    let id = table.submit("m", with_properties(r#"{"map": "city", "mode": "duel"}"#));
    let told = explain(&table, &id, table.now());
    let groups = &told.data.servers.as_ref().unwrap().groups;
    assert_eq!((groups[0].count, groups[0].servers.clone()), (2, vec![server("a"), server("b")]));
    let unmet: Vec<_> =
        groups[0].unmet.iter().map(|part| (part.requirement.as_str(), part.found.as_deref())).collect();
    let expected = [
        (DESERT, Some("\"city\"")),
        ("length(PlayerIds) >= `2`", Some("0")),
        ("MatchProperties.ranked", Some("null")),
    ];
    assert_eq!(unmet, expected);
    told.says(
        "2 free servers (a, b): they ask for requirements that the match does not meet, \
         MatchProperties.map == 'desert' (the match has \"city\"); length(PlayerIds) >= `2` (the \
         match has 0); MatchProperties.ranked (the match has no value there).",
    );
    told.says(
        "1 free server (c): it asks for requirements that the match does not meet, MatchProperties.map == 'forest' || \
         MatchProperties.map == 'sea'.",
    );
}

#[test]
fn a_free_server_is_expected_to_take_it() {
    let mut table = Table::with_fleets(vec![fleet("eu")]);
    let host = table.idle_server();
    let id = table.submit("m", spec(&[]));
    let told = explain(&table, &id, table.now());
    assert_eq!(told.summary, "waiting for a server: 1st in the queue, a free one is about to take it");
    assert_eq!(told.data.expected.as_ref(), Some(&host));
    told.says(&format!("The server {host} is free and is expected to take it when it asks next."));
    told.says(&format!(
        "1 free server of the fleet eu ({host}): the match fits, and goes there when it asks next."
    ));
    table.restart();
    let told = explain(&table, &id, table.now());
    told.says(&format!("1 free server of the fleet eu ({host}): no call since the control plane started."));
}

#[test]
fn each_fleet_has_its_reason() {
    let full = Fleet { max: 1, preference: 2, ..fleet("full") };
    let fleets = vec![of_maps("forest", "forest", 1), full, Fleet { preference: 3, ..fleet("failing") }];
    let mut table = Table::with_fleets(fleets);
    let begin = table.now();
    let first = table.submit("first", spec(&[]));
    let order = table.allocation_for(&first).unwrap();
    assert_eq!(order.fleet, fleet_id("full"));
    let told = explain(&table, &first, begin);
    assert_eq!(told.fleet(1), ("full", FleetState::Starting));
    assert_eq!(told.summary, "waiting for a server: 1st in the queue, one is being started");
    told.says(&format!(
        "The server {} was ordered for it from the fleet full at 0 s: the platform has not confirmed yet that it runs.",
        order.server
    ));
    assert_eq!(told.timers(), [&TimerKind::ReadyDeadline(fleet_id("full")), &TimerKind::Pickup]);
    table.started(&order);
    assert!(explain(&table, &first, begin).summary.ends_with(", one has been started"));

    let second = table.submit("second", with_properties(r#"{"map": "city"}"#));
    let lost = table.allocation_for(&second).unwrap();
    table.start_failed(&lost);
    let told = explain(&table, &second, begin);
    assert_eq!(told.fleet(0), ("forest", FleetState::FilteredOut));
    assert_eq!(told.fleet(1), ("full", FleetState::Full));
    assert_eq!(told.fleet(2), ("failing", FleetState::BackingOff));
    let text = ", one could not be started, which is retried soon";
    assert_eq!(told.summary, format!("waiting for a server: 2nd in the queue{text}"));
    told.says("The fleet forest does not take it: MatchProperties.map == 'forest' (the match has \"city\").");
    told.says(
        "The fleet full is full: it has 1 of 1 servers; 1 of its servers are starting, the first since 0 s.",
    );
    told.says(
        "The fleet failing failed and backs off until 1 s; it failed 1 time in a row, the last time with: no \
         capacity.",
    );
    told.says("Next, at 1 s: the fleet failing is asked for a server again.");
    table.advance(secs(1));
    let told = explain(&table, &second, begin);
    assert_eq!(told.fleet(2), ("failing", FleetState::Starting), "it was asked again");
}

#[test]
fn room_that_is_not_used_yet_and_room_that_is_not_there() {
    let settings = Settings { delay_allocation: secs(45), ..on(FastSchedule::OnSchedule) };
    let one = Fleet { max: 1, ready_deadline: secs(80), ..fleet("eu") };
    let mut table = Table::with(settings, vec![one]);
    let begin = table.now();
    let id = table.submit("m", spec(&[]));
    let told = explain(&table, &id, begin);
    assert_eq!(told.fleet(0), ("eu", FleetState::Room));
    assert_eq!(told.summary, "waiting for a server: 1st in the queue");
    told.says("The fleet eu can start a server: it has 0 of 1.");
    // The schedule runs every 30 seconds, and the match has to have waited 45.
    told.says("Next, at 60 s: the schedule orders a server for it, if a fleet can start one.");
    let other = table.order();
    assert_eq!(other.fleet, fleet_id("eu"));
    let told = explain(&table, &id, begin);
    assert_eq!(told.summary, "waiting for a server: 1st in the queue, all that may run are in use");
    table.advance(secs(60));
    assert_eq!(table.allocation_for(&id).map(|order| order.id), Some(other.id), "and then it does");
}

#[test]
fn a_match_that_is_bound_to_a_fleet_is_told_of_no_other() {
    let mut table = Table::with_fleets(vec![fleet("eu"), of_maps("us", "desert", 1)]);
    table.idle_server();
    assert_eq!(table.poll(&server("own")), None);
    let id = table.submit("m", bound_to("us"));
    let told = explain(&table, &id, table.now());
    assert_eq!((told.data.fleets.len(), told.fleet(0)), (1, ("us", FleetState::FilteredOut)));
    told.says("Only servers of the fleet us may take the match.");
    told.says("2 servers of other fleets are free.");
    assert_eq!(told.data.servers.unwrap().groups, []);
    let bound =
        Standing::Queued { ahead: Some(0), returned: false, lost: None, prospect: Some(Prospect::NoFleet) };
    assert_eq!(told.data.standing, bound);
    assert_eq!(told.summary, "waiting for a server: 1st in the queue, none can be started for such a match");
}

#[test]
fn a_match_whose_servers_were_lost_says_how_often() {
    let mut table = Table::with_fleets(vec![fleet("eu")]);
    let id = table.submit("m", spec(&["p"]));
    let order = table.allocation_for(&id).unwrap();
    table.started(&order);
    assert_eq!(table.poll(&order.server), Some(id.clone()));
    table.exited(&order);
    let told = explain(&table, &id, table.now());
    let gone =
        "the server that had the match is gone (the game server's process exited); waiting for a server";
    assert!(told.summary.starts_with(gone), "{}", told.summary);
    let said = "Servers have taken the match 1 of at most 3 times and ended before it was ready; the last time: the \
        game server's process exited.";
    told.says(said);
    assert_eq!(told.data.fleets[0].last_error.as_deref(), Some("exit status 1"));
    let losses = table.broker.losses(&id).unwrap();
    assert_eq!(words::of_losses(&losses), said);
    let other = table.submit("other", spec(&["q"]));
    assert_eq!(table.broker.losses(&other), None, "no server had it");
}

#[test]
fn a_match_in_a_servers_hands_says_what_ends_it() {
    let lifetime = Settings { server_max_lifetime: secs(600), ..Settings::default() };
    let mut table = Table::with(Settings { lifetime_ends_matches: true, ..lifetime }, Vec::new());
    let begin = table.now();
    let id = table.picked_up("m", &server("host"));
    let told = explain(&table, &id, begin);
    assert_eq!(told.summary, "a server has the match and prepares it");
    told.says("The server host has the match since 0 s and prepares it.");
    told.says("Next, at 30 s: the match fails if its server is not ready by then.");
    assert_eq!(told.timers(), [&TimerKind::Ready, &TimerKind::Lifetime]);
    assert!(told.data.servers.is_none() && told.data.fleets.is_empty(), "it does not lack a server");
    table.ready(&server("host"), &id);
    let told = explain(&table, &id, begin);
    assert_eq!(told.summary, "the match is ready");
    told.says("Players can connect since 0 s, to the server host.");
    told.says("Next, at 600 s: its server is stopped with the match on it, because it is too old.");
    assert_eq!(told.timers(), [&TimerKind::Lifetime, &TimerKind::Run]);
}

#[test]
fn an_unclaimed_seat_is_a_timer_of_a_ready_match() {
    let mut table = Table::with_fleets(vec![fleet("eu")]);
    let host = table.idle_server();
    let id = table.submit("m", sortie_domain::match_spec::MatchSpec { capacity: Some(2), ..spec(&[]) });
    assert_eq!(table.poll(&host), Some(id.clone()));
    table.ready(&host, &id);
    table.ok(Command::ReserveSeat {
        match_id: id.clone(),
        player: player("p"),
        ttl: secs(7),
        elsewhere: SeatsElsewhere::Ignored,
    });
    let told = explain(&table, &id, table.now());
    told.says("Next, at 7 s: an unclaimed seat is released.");
}

#[test]
fn a_match_that_failed_says_why_and_what_is_still_known() {
    let mut table = Table::with_fleets(vec![of_maps("eu", "desert", 0)]);
    let begin = table.now();
    let id = table.submit("m", with_properties(r#"{"map": "city"}"#));
    table.advance(secs(90));
    let told = explain(&table, &id, begin);
    assert_eq!(told.data.standing, Standing::Failed(FailReason::PickupTimeout));
    assert_eq!(
        told.words,
        [
            "The match failed at 90 s: no server could be obtained in time.",
            "The following describes the current state, not the state at that time.",
            "No server is free.",
            "The fleet eu does not take it: MatchProperties.map == 'desert' (the match has \"city\").",
        ]
    );
    assert!(told.data.timers.is_empty());

    let slow = table.picked_up("slow", &server("slow"));
    table.advance(secs(30));
    let told = explain(&table, &slow, begin);
    assert_eq!(told.summary, "the server that took the match did not become ready in time");
    assert_eq!(told.data.server.as_ref().unwrap().gone, Some(GoneCause::ReadyTimeout));
    told.says("Its server slow gets no further match: a match that it took did not become ready in time.");

    let cancelled = table.submit("cancelled", spec(&[]));
    table.ok(Command::CancelMatch { id: cancelled.clone() });
    let told = explain(&table, &cancelled, begin);
    assert_eq!(told.words, ["The match was cancelled at 120 s: the match was cancelled on request."]);
    assert_eq!(told.data.state, ("cancelled", Some("requested")));

    let over = table.running("over", &server("host"));
    table.end(&server("host"), &over);
    let told = explain(&table, &over, begin);
    assert_eq!(told.words, ["The match ended at 120 s: the game server ended the match."]);
}

#[test]
fn the_typical_wait_is_what_this_process_has_seen() {
    let mut table = Table::with_fleets(vec![fleet("eu")]);
    for (name, wait) in [("a", 2), ("b", 20)] {
        let id = table.submit(name, bound_to("eu"));
        table.advance(secs(wait));
        let order = table.allocation_for(&id).unwrap();
        assert_eq!(table.poll(&order.server), Some(id.clone()));
        table.ready(&order.server, &id);
    }
    let id = table.submit("c", bound_to("eu"));
    let told = explain(&table, &id, table.now());
    let wait = told.data.typical_wait.clone().unwrap();
    assert_eq!((wait.seen, wait.p50, wait.p90), (2, secs(2), secs(20)));
    told.says(
        "Of the last 2 matches of the fleet eu, half were ready within 2.0 s and nine in ten within 20 s.",
    );
    table.restart();
    assert_eq!(explain(&table, &id, table.now()).data.typical_wait, None);
}

#[test]
fn the_answer_is_bounded_whatever_there_is() {
    const SERVERS: usize = 10_000;
    const OLDER: usize = 1_000;
    const ALIKE: usize = SERVERS - 1_500;
    let fleets = (0..MAX_FLEETS + 5).map(|number| of_maps(&format!("fleet{number}"), "desert", 0));
    // So that a new match does not search all servers for one to expect.
    let mut table = Table::with(on(FastSchedule::OnSchedule), fleets.collect());
    for number in 0..SERVERS {
        let wants = format!("MatchProperties.number == `{}`", number.max(ALIKE));
        table.kept(request(&server(&format!("s{number}")), &wants, Hints::WILLING_TO_WAIT));
    }
    for number in 0..=OLDER {
        table.ok(submit(&MatchId::new(&format!("older{number}")).unwrap(), spec(&[])));
    }
    let id = table.submit("m", spec(&[]));
    let told = explain(&table, &id, table.now());
    let servers = told.data.servers.as_ref().unwrap();
    assert_eq!((servers.groups.len(), servers.groups[0].count), (MAX_GROUPS, ALIKE + 1));
    assert!(servers.groups.iter().all(|group| group.servers.len() <= MAX_SERVERS_NAMED));
    let listed: usize = servers.groups.iter().map(|group| group.count).sum();
    assert_eq!(listed + servers.unlisted, SERVERS, "what is left out is counted");
    assert_eq!((told.data.fleets.len(), told.data.fleets_unlisted), (MAX_FLEETS, 5));
    assert!(told.summary.starts_with("waiting for a server: 1002nd in the queue"));
    let characters: usize = told.words.iter().map(String::len).sum();
    assert!(characters < 50_000, "{characters}");
}

#[test]
fn what_is_long_is_cut() {
    let mut table = Table::new();
    let text = "é".repeat(1_000);
    table.kept(request(&server("s"), &format!("MatchProperties.a == '{text}'"), Hints::WILLING_TO_WAIT));
    let id = table.submit("m", with_properties(&format!(r#"{{"a": "{}"}}"#, "ö".repeat(1_000))));
    let told = explain(&table, &id, table.now());
    let unmet = &told.data.servers.unwrap().groups[0].unmet[0];
    for shown in [&unmet.requirement, unmet.found.as_ref().unwrap()] {
        assert_eq!((shown.chars().count(), shown.ends_with('…')), (201, true));
    }
}
