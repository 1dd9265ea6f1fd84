use sortie_domain::matchmaking::model::{FailCause, TicketState};
use sortie_domain::matchmaking::settings::{About, Hook, HookPoint, Need, OnFailure, Queue, Rule, RuleKind};
use sortie_domain::matchmaking::{ByType, Command, Explanation, KeptOut, TicketVerdict};

use super::rules::{equal, skill};
use super::table::{
    Table, hook_id, outside, queue_id, rated, secs, settings, spec, ticket_id, with_properties,
};

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
    let kept = |rule: &str, tickets| KeptOut { rule: rule.into(), tickets, by_type: None };
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
    // Only one of them waited that long.
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

#[test]
fn sizes_that_cannot_fill_the_teams_are_named_with_what_is_missing() {
    let mut table = Table::with(Queue { players_per_team: 3, min_players_per_team: 3, ..Queue::default() });
    table.start("ab", spec(&["a", "b"]));
    table.start("cd", spec(&["c", "d"]));
    table.tick();
    assert_eq!(explain(&table, "ab").size_gap, None, "four players are too few, whatever their parties");
    table.start("ef", spec(&["e", "f"]));
    table.tick();
    let found = explain(&table, "ab");
    let gap = found.size_gap.unwrap();
    assert_eq!((gap.teams, gap.team, found.players_in_reach), (2, 3, 6));
    assert_eq!((gap.sizes, gap.missing), (vec![(2, 3)], vec![(1, 2)]));
}

#[test]
fn values_that_differ_only_by_their_type_are_told() {
    let required = Rule::new(
        "same mode",
        RuleKind::Expression {
            expression: "ticket.properties.mode == candidate.properties.mode".into(),
            about: About::Pair,
            need: Need::Required,
        },
    );
    let mut table = Table::with(Queue { rules: vec![equal("level"), required], ..Queue::default() });
    let with = |json: &str, who: &str| with_properties(json, spec(&[who]));
    table.start("text", with(r#"{"level":"40","mode":1}"#, "a"));
    table.start("other", with(r#"{"level":41,"mode":1}"#, "b"));
    table.start("mode", with(r#"{"level":40,"mode":"1"}"#, "c"));
    table.start("me", with(r#"{"level":40,"mode":1}"#, "me"));
    table.tick();
    let by_type = |property: &str, own: &str, theirs: &str| {
        let [property, own, theirs] = [property, own, theirs].map(Into::into);
        Some(ByType { property, own, theirs, tickets: 1 })
    };
    let level = KeptOut { rule: "level".into(), tickets: 2, by_type: by_type("level", "40", r#""40""#) };
    let mode = KeptOut { rule: "same mode".into(), tickets: 1, by_type: by_type("mode", "1", r#""1""#) };
    assert_eq!(explain(&table, "me").kept_out, [level, mode]);
}

#[test]
fn values_within_values_that_differ_by_their_type_only_are_named() {
    let expression = "ticket.properties.codes == candidate.properties.codes".into();
    let required = RuleKind::Expression { expression, about: About::Pair, need: Need::Required };
    let required = Rule::new("same codes", required);
    let mut table = Table::with(Queue { rules: vec![equal("level"), required], ..Queue::default() });
    let with = |json: &str, who: &str| with_properties(json, spec(&[who]));
    let long = "x".repeat(100);
    table.start("list", with(r#"{"level":["40"],"codes":[1]}"#, "a"));
    table.start("object", with(r#"{"level":[40],"codes":["1"]}"#, "b"));
    table.start("me", with(r#"{"level":[40],"codes":[1]}"#, "me"));
    let hint = |table: &Table, who: &str, rule: usize| {
        let kept = explain(table, who).kept_out;
        let of = kept[rule].by_type.clone().expect("a hint");
        (of.property.to_string(), of.own.to_string(), of.theirs.to_string())
    };
    let of =
        |property: &str, own: &str, theirs: &str| (property.to_owned(), own.to_owned(), theirs.to_owned());
    assert_eq!(hint(&table, "me", 0), of("level", "[40]", r#"["40"]"#));
    assert_eq!(hint(&table, "me", 1), of("codes", "[1]", r#"["1"]"#));
    let object = |level: &str| format!(r#"{{"level":{{"name":"{long}","min":[{level}]}}}}"#);
    table.start("long", with(&object(r#""7""#), "c"));
    table.start("mine", with(&object("7"), "d"));
    assert_eq!(hint(&table, "mine", 0), of("level.min[0]", "7", r#""7""#));
}

#[test]
fn a_ticket_that_failed_says_why_and_one_in_a_match_says_in_which() {
    let hooks = vec![outside("bouncer", HookPoint::ValidateTicket, OnFailure::Refuse)];
    let mut table =
        Table::with(Queue { players_per_team: 1, min_players_per_team: 1, hooks, ..Queue::default() });
    let verdict = |id: &str, outcome| Command::TicketValidated {
        ticket: ticket_id(id),
        hook: hook_id("bouncer"),
        outcome,
    };
    table.solo("bad");
    table.done(verdict("bad", TicketVerdict::Refuse { reason: "banned".to_owned() }));
    let failure = explain(&table, "bad").failure.unwrap();
    assert_eq!((failure.cause, &*failure.detail), (FailCause::Refused, "banned"));
    assert_eq!((failure.hook, failure.match_id), (Some(hook_id("bouncer")), None));
    for id in ["a", "b"] {
        table.solo(id);
        table.done(verdict(id, TicketVerdict::ACCEPT));
    }
    table.tick();
    let TicketState::FindingServer { match_id, .. } = &table.find("a").state else { panic!() };
    let found = explain(&table, "a");
    assert_eq!((found.match_id.as_ref(), found.failure), (Some(match_id), None));
}

#[test]
fn a_refusal_behind_a_hook_names_it_only_where_the_hook_made_the_ticket_what_it_is() {
    let sent = |queue: &str| TicketVerdict::Accept {
        queue: Some(queue_id(queue)),
        properties: None,
        ratings: Default::default(),
    };
    let from = Queue {
        hooks: vec![outside("mover", HookPoint::ValidateTicket, OnFailure::Refuse)],
        ..Queue::default()
    };
    // Three players do not fit there; in `led` a built-in hook requires a leader.
    let small = Queue { players_per_team: 1, min_players_per_team: 1, ..Queue::default() };
    let led = Queue { hooks: vec![Hook::PartyMembership], ..from.clone() };
    let mut table = Table::configured(settings([
        ("q", Queue { players_per_team: 3, ..from }),
        ("small", small),
        ("led", Queue { players_per_team: 3, ..led }),
    ]));
    for (id, queue, by) in [("a", "small", Some("mover")), ("b", "led", None)] {
        let players = [format!("{id}1"), format!("{id}2"), format!("{id}3")];
        let players: Vec<&str> = players.iter().map(String::as_str).collect();
        table.start(id, spec(&players));
        table.done(Command::TicketValidated {
            ticket: ticket_id(id),
            hook: hook_id("mover"),
            outcome: sent(queue),
        });
        let failure = explain(&table, id).failure.unwrap();
        assert_eq!(failure.hook, by.map(hook_id), "{failure:?}");
    }
}

#[test]
fn a_match_that_was_lost_is_remembered_over_a_restart_and_its_reason_is_cut() {
    let mut table = Table::with(Queue { max_requeues: 2, ..Queue::default() });
    table.solo("ann");
    table.solo("bob");
    table.tick();
    let id = table.match_of("ann");
    let reason = "ä".repeat(1_000);
    table.done(Command::NoServer { match_id: id.clone(), reason });
    table.restart();
    let found = explain(&table, "ann");
    let lost = found.lost.unwrap();
    assert_eq!((found.requeues, &lost.match_id, &*lost.reason), (1, &id, &*"ä".repeat(128)));
    // A match that is declined or cancelled does not count as lost.
    table.tick();
    table.cancel("bob");
    assert_eq!(explain(&table, "ann").lost.unwrap().match_id, id);
    // The last time it fails, and the explanation names the match.
    for name in ["carl", "dora"] {
        table.solo(name);
        table.tick();
        let last = table.match_of("ann");
        table.no_server(&last);
        if name == "dora" {
            assert_eq!(explain(&table, "ann").failure.unwrap().match_id, Some(last));
        } else {
            table.cancel(name);
        }
    }
}

/// Even teams of twelve with these ratings need a long search: until it ends, explanations must not say that nobody
/// fits.
#[test]
fn a_search_that_goes_on_is_told() {
    let mut table = Table::with(Queue::default());
    table.solo("alone");
    table.tick();
    assert!(!explain(&table, "alone").searching, "everything in reach was tried");
    let rules =
        vec![Rule::new("balance", RuleKind::Balance { property: "mmr".into(), most: 0.0, missing: 0.0 })];
    let mut table =
        Table::with(Queue { players_per_team: 5, min_players_per_team: 5, rules, ..Queue::default() });
    for at in 0..200_u32 {
        let name = format!("p{at}");
        table.start(&name, rated(f64::from(at * at) * 1.37 + 1.0 / f64::from(at + 3), spec(&[&name])));
    }
    table.tick();
    assert!(table.maker.unfinished_searches() > 0);
    let waiting = (0..200).map(|at| format!("p{at}"));
    let searching = waiting.filter(|id| explain(&table, id).searching).count();
    assert_eq!(searching, table.maker.unfinished_searches());
}

#[test]
fn what_an_explanation_evaluates_is_bounded() {
    let costly = Rule::new(
        "costly",
        RuleKind::Expression {
            expression: "length(ticket.properties.list[?contains(@, 'x')]) == length(candidate.properties.list[?contains(@, 'y')])".into(),
            about: About::Pair,
            need: Need::Required,
        },
    );
    let mut table = Table::with(Queue {
        players_per_team: 100,
        min_players_per_team: 100,
        rules: vec![costly],
        ..Queue::default()
    });
    let list = properties_with_list(1_000);
    for at in 0..150 {
        let name = format!("p{at}");
        table.start(&name, with_properties(&list, spec(&[&name])));
    }
    let found = explain(&table, "p0");
    assert!(found.looked_at > 0 && found.looked_at < 100, "{}", found.looked_at);
    assert_eq!(found.looked_at + found.not_looked_at, 149);
}

fn properties_with_list(items: usize) -> String {
    format!(r#"{{"list":[{}]}}"#, vec![r#""abc""#; items].join(","))
}
