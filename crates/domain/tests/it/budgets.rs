//! Budgets of bytes: waiting records are refused beyond their budget, records of the past make room within theirs.

use sortie_domain::broker::model::{Fleet, MIN_BUDGET_BYTES, Settings};
use sortie_domain::broker::{Command, Hints, SeatsElsewhere};
use sortie_domain::ids::MatchId;
use sortie_domain::match_spec::{MAX_PLAYERS, MatchSpec};
use sortie_domain::properties::Properties;
use sortie_domain::refusal::RefusalKind;

use crate::table::{
    Asked, Table, fleet, fleet_id, game, player, request, secs, server, spec, submit, with_properties,
};

/// Bytes of a large match's properties.
const LARGE: usize = 60_000;

fn large(of: &[&str]) -> MatchSpec {
    let text = format!(r#"{{"a":"{}"}}"#, "x".repeat(LARGE));
    MatchSpec { players: spec(of).players, ..with_properties(&text) }
}

fn small_budgets(fleets: Vec<Fleet>) -> Table {
    let least = Settings {
        waiting_bytes: MIN_BUDGET_BYTES,
        kept_bytes: MIN_BUDGET_BYTES,
        match_pickup_time: secs(3600),
        ..Settings::default()
    };
    Table::with(least, fleets)
}

impl Table {
    /// Submits matches of that kind until no more are accepted.
    fn fill(&mut self, name: &str, spec: &MatchSpec) -> Vec<MatchId> {
        let mut taken = Vec::new();
        loop {
            let id = game(&format!("{name} {:06}", taken.len()));
            let Asked::Answered(answer) = self.ask(submit(&id, spec.clone())) else { panic!() };
            assert!(self.broker.waiting_bytes() as u64 <= MIN_BUDGET_BYTES);
            if answer.is_err() {
                return taken;
            }
            taken.push(id);
        }
    }

    /// Sends small requests until one is refused, which is soon.
    fn refused_soon(&mut self, command: impl Fn(usize) -> Command) {
        for n in 0..10 {
            let Asked::Answered(answer) = self.ask(command(n)) else { panic!() };
            if let Err(refusal) = *answer {
                assert_eq!(refusal.code(), "over_budget");
                return;
            }
        }
        panic!("all of them were taken");
    }

    fn end_at_once(&mut self, id: &MatchId, spec: MatchSpec) {
        self.ok(submit(id, spec));
        self.ok(Command::CancelMatch { id: id.clone() });
    }
}

#[test]
fn what_would_wait_beyond_the_budget_is_refused_without_a_trace() {
    let mut table = small_budgets(vec![fleet("eu")]);
    let taken = table.fill("large", &large(&["ann"]));
    // As many as fit: each counts at least its properties, and little more than its contents.
    let most = usize::try_from(MIN_BUDGET_BYTES).unwrap() / LARGE;
    assert!((most - most / 10..=most).contains(&taken.len()), "{} of {most}", taken.len());
    let refusal = table.refused("over_budget", submit(&game("one more"), large(&[])));
    assert_eq!(refusal.kind(), RefusalKind::Exhausted);
    assert!(refusal.to_string().contains(&MIN_BUDGET_BYTES.to_string()), "{refusal}");
    // Small ones fit until there are too many of them too.
    table.fill("small", &spec(&["bob"]));
    let join = Command::Join {
        fleet: fleet_id("eu"),
        player: player("cat"),
        capacity: 2,
        ttl: secs(10),
        properties: Properties::default(),
        beside: [].into(),
        rejoin: true,
    };
    table.refused("over_budget", join);
    table.refused_soon(|n| request(&server(&format!("stranger {n}")), "'x' == 'y'", Hints::NONE));
    // The same order again does not count twice.
    table.ok(submit(&taken[0], large(&["ann"])));
    // Removed records make room.
    for id in &taken[..2] {
        table.ok(Command::CancelMatch { id: id.clone() });
    }
    table.submit("one more", large(&[]));
}

#[test]
fn seats_count_and_a_full_queue_does_not_keep_matches_from_being_played() {
    let mut table = small_budgets(vec![fleet("eu")]);
    let host = table.idle_server();
    let open = MatchSpec { capacity: Some(10_000), fleet: Some(fleet_id("eu")), ..spec(&[]) };
    let id = table.submit("open", open);
    assert_eq!(table.poll(&host).as_ref(), Some(&id));
    let before = table.broker.waiting_bytes();
    let reserve = |who: &str| Command::ReserveSeat {
        match_id: game("open"),
        player: player(who),
        ttl: secs(10),
        elsewhere: SeatsElsewhere::Ignored,
    };
    table.ok(reserve("ann"));
    assert!(table.broker.waiting_bytes() > before + 100);
    table.fill("large", &large(&[]));
    table.fill("small", &spec(&[]));
    table.refused_soon(|n| reserve(&format!("late {n}")));
    table.ready(&host, &id);
    table.advance(secs(10));
    table.end(&host, &id);
    assert_eq!(table.state(&id), "ended: server");
    assert_eq!(table.poll(&host), Some(game("large 000000")), "the queue gets shorter");
}

#[test]
fn everything_that_waited_leaves_nothing_behind() {
    let mut table = Table::with_fleets(vec![fleet("eu")]);
    let nothing = table.broker.waiting_bytes();
    assert_eq!(nothing, 0);
    let host = table.idle_server();
    let idle = table.broker.waiting_bytes();
    let id =
        table.submit("m", MatchSpec { capacity: Some(5), fleet: Some(fleet_id("eu")), ..large(&["ann"]) });
    assert_eq!(table.poll(&host).as_ref(), Some(&id));
    let reserve = |who: &str| Command::ReserveSeat {
        match_id: game("m"),
        player: player(who),
        ttl: secs(10),
        elsewhere: SeatsElsewhere::Ignored,
    };
    for who in ["ann", "bob", "cat"] {
        table.ok(reserve(who));
    }
    table.ready(&host, &id);
    let seats: Vec<_> = table.find(&id).seats.values().cloned().collect();
    for seat in &seats[..2] {
        table.ok(Command::ClaimSeat { seat: seat.id.clone(), server: None });
        table.done(Command::ReleaseSeat { seat: seat.id.clone() });
    }
    table.ok(Command::ReportFreePlaces { match_id: id.clone(), server: None, free: 3 });
    table.ok(reserve("dan"));
    table.end(&host, &id);
    assert_eq!(table.broker.waiting_bytes(), idle);
    let order = table.allocation_of(&host);
    table.exited(&order);
    assert_eq!(table.broker.waiting_bytes(), nothing);
}

#[test]
fn properties_of_finished_matches_go_first_and_the_oldest_before_the_newest() {
    let mut table = small_budgets(Vec::new());
    let id = |n: usize| game(&format!("m{n:06}"));
    let fit = usize::try_from(MIN_BUDGET_BYTES).unwrap() / LARGE;
    for n in 0..fit * 2 {
        table.end_at_once(&id(n), large(&["ann"]));
        assert!(table.broker.kept_bytes() as u64 <= MIN_BUDGET_BYTES);
    }
    let (oldest, newest) = (table.find(&id(0)), table.find(&id(fit * 2 - 1)));
    assert!(oldest.stripped && oldest.spec.properties.text().is_none());
    assert_eq!(
        (oldest.spec.players.clone(), table.state(&id(0))),
        (spec(&["ann"]).players, "cancelled: requested".into())
    );
    assert!(!newest.stripped && newest.spec.properties.text().is_some());
    let page = table.all_matches();
    assert_eq!(page.len(), fit * 2, "none of them is forgotten");
    let first_whole = page.iter().position(|game| !game.stripped).unwrap();
    assert!(page[first_whole..].iter().all(|game| !game.stripped));
    assert!((fit..fit + fit / 5).contains(&first_whole), "no more than had to go: {first_whole} of {fit}");
    // The same after a restart, and the next record strips the next match.
    table.restart();
    table.end_at_once(&id(fit * 2), large(&["ann"]));
    assert!(table.find(&id(first_whole)).stripped);
}

#[test]
fn whole_matches_go_when_nothing_else_is_left_to_go() {
    let mut table = small_budgets(Vec::new());
    let names: Vec<_> = (0..MAX_PLAYERS).map(|n| player(&format!("player {n}"))).collect();
    let full = MatchSpec { players: names, ..MatchSpec::default() };
    let id = |n: usize| game(&format!("m{n:06}"));
    let most = usize::try_from(MIN_BUDGET_BYTES).unwrap() / (MAX_PLAYERS * 50);
    for n in 0..most * 2 {
        table.end_at_once(&id(n), full.clone());
        assert!(table.broker.kept_bytes() as u64 <= MIN_BUDGET_BYTES);
    }
    assert!(table.broker.find_match(&id(0)).is_none());
    assert_eq!(table.state(&id(most * 2 - 1)), "cancelled: requested");
    let page = table.all_matches();
    assert_eq!(
        page.first().map(|game| game.id.clone()),
        Some(id(most * 2 - page.len())),
        "the newest are there"
    );
    assert_eq!(table.ok(submit(&id(0), full)), sortie_domain::broker::Reply::Submitted { match_id: id(0) });
    assert!(table.broker.find_match(&id(0)).is_none(), "the order is still remembered");
}

#[test]
fn a_lowered_budget_is_reached_bit_by_bit() {
    let mut table = Table::new();
    let id = |n: usize| game(&format!("m{n:06}"));
    let text = format!(r#"{{"a":"{}"}}"#, "x".repeat(2_000));
    for n in 0..9_000 {
        table.end_at_once(&id(n), with_properties(&text));
    }
    let before = table.broker.kept_bytes();
    assert!(before as u64 > MIN_BUDGET_BYTES);
    let stripped = |table: &Table| {
        let page = table.all_matches();
        page.iter().filter(|game| game.stripped).count()
    };
    assert_eq!(stripped(&table), 0);
    let settings = Settings { kept_bytes: MIN_BUDGET_BYTES, ..Settings::default() };
    table.done(Command::Configure { settings, fleets: Vec::new() });
    let after_one = stripped(&table);
    assert!((1..100).contains(&after_one), "one record: {after_one} matches");
    for n in 0..9_000 {
        table.end_at_once(&game(&format!("later {n:06}")), spec(&[]));
    }
    assert!(table.broker.kept_bytes() as u64 <= MIN_BUDGET_BYTES);
}

#[test]
fn a_budget_has_a_least_value() {
    let mut table = Table::new();
    let least =
        Settings { waiting_bytes: MIN_BUDGET_BYTES, kept_bytes: MIN_BUDGET_BYTES, ..Settings::default() };
    table.done(Command::Configure { settings: least.clone(), fleets: Vec::new() });
    for settings in [
        Settings { waiting_bytes: MIN_BUDGET_BYTES - 1, ..least.clone() },
        Settings { kept_bytes: MIN_BUDGET_BYTES - 1, ..least },
    ] {
        table.refused("invalid_field", Command::Configure { settings, fleets: Vec::new() });
    }
}
