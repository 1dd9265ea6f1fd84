//! The same order sent twice is one match, for a day after that match is over; orders are compared by content, not by
//! text.

use std::time::Duration;

use sortie_domain::broker::model::{MIN_BUDGET_BYTES, Settings};
use sortie_domain::broker::{Command, FINISHED_KEPT, ORDERS_KEPT_FOR, Reply};
use sortie_domain::ids::MatchId;
use sortie_domain::machine::Machine;
use sortie_domain::match_spec::MatchSpec;
use sortie_domain::properties::Properties;

use crate::table::{MS, Table, game, key, player, spec, submit, with_properties};

const DAY: Duration = Duration::from_secs(24 * 3600);

fn order(spec: MatchSpec) -> Command {
    Command::SubmitMatch { id: None, spec }
}

fn keyed(at_key: &str, spec: MatchSpec) -> MatchSpec {
    MatchSpec { idempotency_key: key(at_key), ..spec }
}

impl Table {
    fn ordered(&mut self, command: Command) -> MatchId {
        match self.ok(command) {
            Reply::Submitted { match_id } => match_id,
            other => panic!("{other:?}"),
        }
    }

    /// Orders the match again, which has no effect.
    fn again(&mut self, command: Command) -> MatchId {
        let mark = self.mark();
        let id = self.ordered(command);
        assert_eq!(self.kinds_since(mark), [""; 0], "{id} was made before");
        id
    }

    /// Orders the match and cancels it.
    fn play(&mut self, id: &MatchId, spec: MatchSpec) {
        self.ok(submit(id, spec));
        self.ok(Command::CancelMatch { id: id.clone() });
    }
}

#[test]
fn an_order_is_known_after_everything_else_about_its_match_is_forgotten() {
    let mut table = Table::new();
    let first = game("first");
    table.play(&first, keyed("k", with_properties(r#"{"map":"forest"}"#)));
    for n in 0..FINISHED_KEPT {
        table.play(&game(&format!("m{n}")), spec(&[]));
    }
    assert!(table.broker.find_match(&first).is_none());
    for _ in 0..2 {
        let same = keyed("k", with_properties(r#"{"map":"forest"}"#));
        assert_eq!(table.again(order(same.clone())), first);
        assert_eq!(table.again(submit(&first, same)), first);
        let other = keyed("k", with_properties(r#"{"map":"desert"}"#));
        table.refused("idempotency_key_reused", order(other.clone()));
        table.refused("idempotency_key_reused", submit(&first, other));
        // Without the key it is a different order than the one with that id.
        table.refused("match_exists", submit(&first, with_properties(r#"{"map":"forest"}"#)));
        // An order without a key is identified by its id.
        assert_eq!(table.again(submit(&game("m0"), spec(&[]))), game("m0"));
        table.refused("match_exists", submit(&game("m0"), spec(&["ann"])));
        table.restart();
    }
}

#[test]
fn an_order_is_remembered_for_a_day_after_its_match_is_over() {
    assert_eq!(ORDERS_KEPT_FOR, DAY);
    let settings = Settings { match_pickup_time: DAY * 10, schedule_frequency: DAY, ..Settings::default() };
    let mut table = Table::with(settings, Vec::new());
    let first = table.submit("first", keyed("k", spec(&["ann"])));
    table.advance(DAY * 2);
    assert_eq!(table.again(order(keyed("k", spec(&["ann"])))), first, "it still waits");
    table.ok(Command::CancelMatch { id: first.clone() });
    // So that only its order is left.
    for n in 0..FINISHED_KEPT {
        table.play(&game(&format!("m{n}")), spec(&[]));
    }
    table.advance(DAY - MS);
    table.play(&game("some match"), spec(&[]));
    assert_eq!(table.again(order(keyed("k", spec(&["ann"])))), first);
    table.advance(MS);
    table.play(&game("another match"), spec(&[]));
    assert_ne!(table.ordered(order(keyed("k", spec(&["bob"])))), first, "the key is free");
}

#[test]
fn remembered_orders_take_half_of_what_may_be_kept() {
    let settings = Settings { kept_bytes: MIN_BUDGET_BYTES, ..Settings::default() };
    let mut table = Table::with(settings, Vec::new());
    let id = |n: usize| game(&format!("match number {n}"));
    // Each takes at least 200 bytes.
    let many = usize::try_from(MIN_BUDGET_BYTES).unwrap() / 2 / 200;
    for n in 0..many {
        table.play(&id(n), keyed(&format!("key {n}"), spec(&[])));
        assert!(table.broker.kept_bytes() as u64 <= MIN_BUDGET_BYTES);
    }
    table.refused("idempotency_key_reused", order(keyed(&format!("key {}", many - 1), spec(&["ann"]))));
    table.refused("idempotency_key_reused", order(keyed(&format!("key {}", many - 10_000), spec(&["ann"]))));
    let kept = table.broker.snapshot().orders;
    assert!(kept.bytes() as u64 <= MIN_BUDGET_BYTES / 2 && kept.len() > 10_000, "{}", kept.len());
    assert_ne!(table.ordered(order(keyed("key 0", spec(&["ann"])))), id(0), "the oldest was forgotten");
}

#[test]
fn orders_are_compared_by_content() {
    let same = [
        (r#"{"a":1,"b":2}"#, r#"{"b":2,"a":1.0}"#),
        ("", "{}"),
        ("{}", " { } "),
        (r#"{"name":"\u00e9"}"#, r#"{"name":"é"}"#),
        (r#"{"a":{"x":[1,{"p":-0,"q":1e2}]}}"#, r#"{"a":{"x":[1.0,{"q":100,"p":0}]}}"#),
        (r#"{"a":1,"a":2}"#, r#"{"a":2}"#),
    ];
    let different = [
        (r#"{"a":[1,2]}"#, r#"{"a":[2,1]}"#),
        (r#"{"a":1}"#, r#"{"a":"1"}"#),
        (r#"{"a":null}"#, "{}"),
        (r#"{"a":9007199254740992}"#, r#"{"a":9007199254740993}"#),
    ];
    // While the match waits, and after it is over.
    for is_over in [false, true] {
        let mut table = Table::new();
        let pairs = same.map(|pair| (pair, true)).into_iter().chain(different.map(|pair| (pair, false)));
        for (n, ((first, second), is_same)) in pairs.enumerate() {
            let at_key = format!("key {n}");
            let of = |text: &str| keyed(&at_key, with_properties(text));
            let id = table.submit(&format!("m{n}"), of(first));
            if is_over {
                table.ok(Command::CancelMatch { id: id.clone() });
            }
            if is_same {
                assert_eq!(table.again(order(of(second))), id, "{first} is {second}");
                assert_eq!(table.again(submit(&id, of(second))), id, "{first} is {second}");
            } else {
                table.refused("idempotency_key_reused", order(of(second)));
            }
        }
    }
}

#[test]
fn properties_of_players_are_compared_by_content_too() {
    let of = |each: &[(&str, &str)]| MatchSpec {
        player_properties: each
            .iter()
            .map(|(name, text)| (player(name), Properties::parse(text).unwrap()))
            .collect(),
        ..keyed("k", spec(&["ann", "bob"]))
    };
    let mut table = Table::new();
    let id = table.submit("m", of(&[("ann", r#"{"a":1,"b":2}"#)]));
    for _ in 0..2 {
        assert_eq!(table.again(order(of(&[("bob", "{}"), ("ann", r#"{"b":2,"a":1}"#)]))), id);
        table.refused("idempotency_key_reused", order(of(&[("bob", r#"{"a":1,"b":2}"#)])));
        table.refused("idempotency_key_reused", order(of(&[])));
        let turned =
            MatchSpec { players: spec(&["bob", "ann"]).players, ..of(&[("ann", r#"{"a":1,"b":2}"#)]) };
        table.refused("idempotency_key_reused", order(turned));
        let sized = MatchSpec { capacity: Some(2), ..of(&[("ann", r#"{"a":1,"b":2}"#)]) };
        table.refused("idempotency_key_reused", order(sized));
        if table.state(&id) == "queued" {
            table.ok(Command::CancelMatch { id: id.clone() });
        }
    }
}
