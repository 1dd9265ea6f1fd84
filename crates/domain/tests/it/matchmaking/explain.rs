use sortie_domain::matchmaking::settings::Queue;
use sortie_domain::matchmaking::{Explanation, KeptOut};

use super::rules::{equal, skill};
use super::table::{Table, rated, secs, spec, ticket_id, with_properties};

fn explain(table: &Table, id: &str) -> Explanation {
    table.maker.explain(&ticket_id(id), table.time()).unwrap()
}

#[test]
fn an_explanation_says_who_is_in_reach_and_what_keeps_the_others_out() {
    let rules = vec![equal("map"), skill(50.0)];
    let queue = Queue {
        players_per_team: 2,
        min_players_per_team: 1,
        ticket_expiration: secs(60),
        rules,
        ..Queue::default()
    };
    let mut table = Table::with(queue);
    let on = |map: &str, rating, who| {
        rated(rating, with_properties(&format!(r#"{{"map":"{map}"}}"#), spec(&[who])))
    };
    table.start("first", on("forest", 1000.0, "first"));
    table.start("other map", on("desert", 1000.0, "a"));
    table.start("too strong", on("forest", 1060.0, "b"));
    table.start("near", on("forest", 1040.0, "c"));
    table.start("me", on("forest", 1005.0, "me"));
    table.advance(secs(4));
    let found = explain(&table, "me");
    assert_eq!((found.ahead, found.looked_at, found.not_looked_at), (Some(4), 4, 0));
    assert_eq!(found.in_reach, 2);
    assert_eq!(found.named, [ticket_id("first"), ticket_id("near")]);
    assert_eq!((found.players_in_reach, found.players_wanted, found.team_wanted), (3, Some(4), 2));
    let kept = |rule: &str, tickets| KeptOut { rule: rule.into(), tickets };
    assert_eq!(found.kept_out, [kept("map", 1), kept("skill", 1)]);
    let from = table.find("me").started_at;
    assert_eq!(found.widens_at, Some(from + secs(10)));
    assert_eq!(found.expires_at, Some(from + secs(60)));
    assert_eq!((found.typical_wait, found.held_by), (None, None));
    table.advance(secs(27));
    let found = explain(&table, "other map");
    assert_eq!((found.team_wanted, found.widens_at), (1, None));
}

#[test]
fn waits_of_others_tell_what_to_expect() {
    let mut table = Table::with(Queue::default());
    table.solo("a");
    table.advance(secs(10));
    table.solo("b");
    table.tick();
    table.solo("c");
    let (half, most) = explain(&table, "c").typical_wait.unwrap();
    assert!(half < secs(1) && most >= secs(10), "{half:?} {most:?}");
    let expected = explain(&table, "c").expected_wait.unwrap();
    assert_eq!((expected.seen, expected.p50, expected.p90), (2, half, most));
    // Of those who waited that long there is one.
    table.advance(secs(4));
    let expected = explain(&table, "c").expected_wait.unwrap();
    assert_eq!(
        (expected.seen, expected.p50 >= secs(5), expected.p50 <= secs(7)),
        (1, true, true),
        "{expected:?}"
    );
    table.advance(secs(30));
    assert_eq!(explain(&table, "c").expected_wait, None, "nobody waited as long");
    assert_eq!(explain(&table, "a").ahead, None, "it does not wait any more");
    assert_eq!(explain(&table, "a").expected_wait, None);
    assert_eq!(table.maker.explain(&ticket_id("nobody"), table.time()), None);
}
