use sortie_domain::matchmaking::Command;
use sortie_domain::matchmaking::model::TicketSpec;
use sortie_domain::matchmaking::settings::{About, Measure, Need, Queue, Rule, RuleKind, WidenStep};

use super::table::{Table, far_from, ids, player_id, rated, region, secs, settings, spec, with_properties};

pub(crate) fn equal(property: &str) -> Rule {
    Rule::new(property, RuleKind::Equal { property: property.into() })
}

/// A distance of `most`, and of 100 after ten seconds.
pub(crate) fn skill(most: f64) -> Rule {
    let kind = RuleKind::Distance { property: "mmr".into(), measure: Measure::Average, most, missing: 0.0 };
    Rule { widen: vec![WidenStep { after: secs(10), value: 100.0 }], ..Rule::new("skill", kind) }
}

pub(crate) fn latency(most: f64) -> Rule {
    Rule::new("latency", RuleKind::Latency { most })
}

fn expression(text: &str, about: About, need: Need) -> Rule {
    Rule::new("expression", RuleKind::Expression { expression: text.into(), about, need })
}

fn with(rule: Rule) -> Queue {
    Queue { rules: vec![rule], ..Queue::default() }
}

#[test]
fn tickets_of_one_match_agree_in_what_must_be_equal() {
    let mut table = Table::with(with(equal("map")));
    table.start("a", with_properties(r#"{"map":"forest"}"#, spec(&["a"])));
    table.start("b", with_properties(r#"{"map":"desert"}"#, spec(&["b"])));
    table.start("none", spec(&["none"]));
    table.tick();
    assert_eq!(table.formed().len(), 0);
    table.start("c", with_properties(r#"{"map":"forest","level":3}"#, spec(&["c"])));
    table.tick();
    assert_eq!(table.together(), [ids(&["a", "c"])]);
    let properties = table.formation().spec.properties.clone();
    assert_eq!(properties.text(), Some(r#"{"map":"forest","queue_name":"q"}"#), "what they agree in");
}

#[test]
fn numbers_are_equal_however_they_are_written_and_nested_properties_are_found() {
    let mut table = Table::with(with(equal("game.level")));
    table.start("a", with_properties(r#"{"game":{"level":1}}"#, spec(&["a"])));
    table.start("b", with_properties(r#"{"game":{"level":1.0}}"#, spec(&["b"])));
    table.tick();
    assert_eq!(table.formed().len(), 1);
}

#[test]
fn an_equality_that_relaxes_lets_those_together_who_have_both_waited() {
    let mut table = Table::with(with(Rule { relax_after: Some(secs(20)), ..equal("map") }));
    table.start("a", with_properties(r#"{"map":"forest"}"#, spec(&["a"])));
    table.advance(secs(10));
    table.start("b", with_properties(r#"{"map":"desert"}"#, spec(&["b"])));
    table.advance(secs(11));
    assert_eq!(table.formed().len(), 0, "b has not waited long enough");
    table.advance(secs(10));
    assert_eq!(table.together(), [ids(&["a", "b"])]);
}

#[test]
fn a_ticket_whose_equality_has_relaxed_still_plays_with_its_own_kind() {
    let mut table = Table::with(with(Rule { relax_after: Some(secs(20)), ..equal("map") }));
    table.start("a", with_properties(r#"{"map":"forest"}"#, spec(&["a"])));
    table.advance(secs(30));
    table.start("b", with_properties(r#"{"map":"forest"}"#, spec(&["b"])));
    table.tick();
    assert_eq!(table.formed().len(), 1);
}

#[test]
fn a_distance_widens_with_the_wait_of_both() {
    let mut table = Table::with(with(skill(50.0)));
    table.start("a", rated(1000.0, spec(&["a"])));
    table.advance(secs(5));
    table.start("b", rated(1080.0, spec(&["b"])));
    table.advance(secs(9));
    assert_eq!(table.formed().len(), 0, "a has widened, b has not");
    table.advance(secs(2));
    assert_eq!(table.formed().len(), 1);
}

#[test]
fn the_distance_of_parties_is_by_their_average_or_their_best() {
    for (measure, together) in [(Measure::Average, true), (Measure::Max, false)] {
        let kind = RuleKind::Distance { property: "mmr".into(), measure, most: 10.0, missing: 0.0 };
        let queue = Queue { players_per_team: 2, min_players_per_team: 2, ..with(Rule::new("skill", kind)) };
        let mut table = Table::with(queue);
        let mut mixed = rated(100.0, spec(&["a", "b"]));
        mixed.parties[0].players[1].ratings.insert("mmr".into(), 200.0);
        table.start("mixed", mixed);
        table.start("even", rated(150.0, spec(&["c", "d"])));
        table.tick();
        assert_eq!(table.formed().len() == 1, together, "{measure:?}");
    }
    let kind =
        RuleKind::Distance { property: "level".into(), measure: Measure::Ticket, most: 1.0, missing: 5.0 };
    let mut table = Table::with(with(Rule::new("level", kind)));
    table.start("a", with_properties(r#"{"level":9}"#, spec(&["a"])));
    table.start("b", spec(&["b"]));
    table.tick();
    assert_eq!(table.formed().len(), 0, "b counts as 5");
    table.start("c", with_properties(r#"{"level":4}"#, spec(&["c"])));
    table.tick();
    assert_eq!(table.together(), [ids(&["b", "c"])]);
}

#[test]
fn a_match_gets_the_region_that_is_best_for_who_fares_worst_there() {
    let mut table = Table::with(with(latency(100.0)));
    table.start("a", far_from(&[("eu", 10), ("us", 90), ("asia", 200)], spec(&["a"])));
    table.start("b", far_from(&[("eu", 99), ("us", 20), ("asia", 30)], spec(&["b"])));
    table.tick();
    let formation = table.formation();
    assert_eq!(formation.region, Some(region("us")), "90 and 20 is better than 10 and 99");
    assert!(formation.spec.properties.text().unwrap().contains(r#""region":"us""#));
}

#[test]
fn who_can_bear_no_region_together_is_not_together() {
    let mut table = Table::with(with(latency(50.0)));
    table.start("a", far_from(&[("eu", 10), ("us", 90)], spec(&["a"])));
    table.start("b", far_from(&[("eu", 80), ("us", 20)], spec(&["b"])));
    table.tick();
    assert_eq!(table.formed().len(), 0);
    let text = table.refused("invalid_field", Command::Start { id: None, spec: spec(&["c"]) });
    assert!(text.contains("latencies"), "{text}");
    // One player of a party may be far from where the others are.
    let mut party = far_from(&[("eu", 10)], spec(&["d"]));
    party.parties[0].players[0].latencies = [(region("asia"), 10)].into();
    table.start("d", party);
    table.tick();
    assert_eq!(table.formed().len(), 0);
}

#[test]
fn who_has_blocked_a_player_does_not_play_with_them() {
    let mut table = Table::with(with(Rule::new("blocked", RuleKind::NotBlocked)));
    let mut ann = spec(&["ann"]);
    ann.parties[0].players[0].blocked.push(player_id("bob"));
    table.start("ann", ann);
    table.solo("bob");
    table.tick();
    assert_eq!(table.formed().len(), 0);
    table.solo("cat");
    table.tick();
    assert_eq!(table.together(), [ids(&["ann", "cat"])]);
}

#[test]
fn expressions_between_two_tickets_hold_both_ways() {
    let text = "ticket.properties.wants == 'any' || ticket.properties.wants == candidate.properties.is";
    let mut table = Table::with(with(expression(text, About::Pair, Need::Required)));
    table.start("picky", with_properties(r#"{"wants":"tank","is":"healer"}"#, spec(&["a"])));
    table.start("other", with_properties(r#"{"wants":"any","is":"healer"}"#, spec(&["b"])));
    table.tick();
    assert_eq!(table.formed().len(), 0, "the picky one does not want a healer");
    table.start("tank", with_properties(r#"{"wants":"healer","is":"tank"}"#, spec(&["c"])));
    table.tick();
    assert_eq!(table.together(), [ids(&["picky", "tank"])]);
}

#[test]
fn a_preferred_expression_goes_before_age() {
    let text = "ticket.properties.language == candidate.properties.language";
    let queue = Queue {
        teams: 1,
        players_per_team: 3,
        min_players_per_team: 3,
        ..with(expression(text, About::Pair, Need::Preferred))
    };
    let mut table = Table::with(queue);
    let speaks =
        |language: &str, who: &[&str]| with_properties(&format!(r#"{{"language":"{language}"}}"#), spec(who));
    table.start("french", speaks("fr", &["a", "b"]));
    table.start("english", speaks("en", &["c", "d"]));
    table.start("solo", speaks("en", &["e"]));
    table.tick();
    assert_eq!(table.together(), [ids(&["english", "solo"])]);
    table.start("other", speaks("de", &["f"]));
    table.tick();
    assert_eq!(table.together().last(), Some(&ids(&["french", "other"])), "nobody has to meet it");
}

#[test]
fn an_expression_over_the_ticket_keeps_it_from_waiting_or_from_being_matched() {
    let text = "ticket.properties.level >= `10`";
    let leveled = |level, who| with_properties(&format!(r#"{{"level":{level}}}"#), spec(&[who]));
    let mut table = Table::with(with(expression(text, About::Ticket, Need::Required)));
    let text_of = table.refused("rule_refuses", Command::Start { id: None, spec: leveled(9, "a") });
    assert!(text_of.contains("`expression`"), "{text_of}");
    let relaxing = Rule { relax_after: Some(secs(10)), ..expression(text, About::Ticket, Need::Required) };
    table.done(Command::Configure { settings: settings([("q", with(relaxing))]) });
    table.start("a", leveled(9, "a"));
    table.start("b", leveled(11, "b"));
    table.advance(secs(9));
    assert_eq!(table.formed().len(), 0);
    table.advance(secs(2));
    assert_eq!(table.formed().len(), 1);
}

#[test]
fn teams_are_balanced_by_rating_or_not_made() {
    let balance =
        |most| Rule::new("balance", RuleKind::Balance { property: "mmr".into(), most, missing: 0.0 });
    let queue = |most| Queue { players_per_team: 2, min_players_per_team: 2, ..with(balance(most)) };
    let start = |table: &mut Table| {
        for (who, rating) in [("a", 10.0), ("b", 10.0), ("c", 2.0), ("d", 2.0)] {
            table.start(who, rated(rating, spec(&[who])));
        }
        table.tick();
    };
    let mut table = Table::with(queue(0.5));
    start(&mut table);
    let formed = table.formed();
    for team in &formed[0] {
        let strong = team.iter().filter(|who| *who == "a" || *who == "b").count();
        assert_eq!(strong, 1, "{formed:?}");
    }
    let mut table = Table::with(queue(0.5));
    table.start("pair", rated(10.0, spec(&["a", "b"])));
    table.start("weak", rated(2.0, spec(&["c", "d"])));
    table.tick();
    assert_eq!(table.formed().len(), 0);
    let mut table = Table::with(queue(f64::INFINITY));
    table.start("pair", rated(10.0, spec(&["a", "b"])));
    table.start("weak", rated(2.0, spec(&["c", "d"])));
    table.tick();
    assert_eq!(table.formed().len(), 1);
}

#[test]
fn a_match_that_one_rule_spoils_is_made_of_others() {
    // The two oldest are too far apart; each goes with the third.
    let rules = vec![skill(50.0), equal("map")];
    let mut table = Table::with(Queue { rules, ..Queue::default() });
    let on = |rating, who| rated(rating, with_properties(r#"{"map":"x"}"#, spec(&[who])));
    table.start("low", on(1000.0, "low"));
    table.start("high", on(1090.0, "high"));
    table.start("middle", on(1045.0, "middle"));
    table.tick();
    assert_eq!(table.together(), [ids(&["low", "middle"])]);
}

#[test]
fn rules_that_make_no_sense_are_refused_with_the_reason() {
    let mut table = Table::with(Queue::default());
    let mut refuse = |rule: Rule, expected: &str| {
        let text =
            table.refused("invalid_field", Command::Configure { settings: settings([("q", with(rule))]) });
        assert!(text.contains(expected), "{text}");
    };
    let step = |after, value| WidenStep { after: secs(after), value };
    refuse(Rule { widen: vec![step(10, 5.0)], ..skill(50.0) }, "must widen");
    refuse(Rule { widen: vec![step(10, 60.0), step(5, 70.0)], ..skill(50.0) }, "must widen");
    refuse(Rule { relax_after: Some(secs(10)), ..skill(50.0) }, "must relax after");
    refuse(Rule { widen: vec![step(10, 60.0)], ..equal("map") }, "no number");
    refuse(skill(f64::NAN), "less than 0");
    refuse(expression("a ==", About::Pair, Need::Required), "JMESPath");
    refuse(expression("a", About::Ticket, Need::Preferred), "compare two");
}

#[test]
fn a_ticket_out_of_reach_of_all_does_not_hold_up_the_others() {
    let mut table = Table::with(with(skill(50.0)));
    table.start("far", rated(9999.0, spec(&["far"])));
    for n in 0..4 {
        let who = format!("p{n}");
        table.start(&who, rated(1000.0, spec(&[&who])));
    }
    table.tick();
    assert_eq!(table.together(), [ids(&["p0", "p1"]), ids(&["p2", "p3"])]);
    let unrated: TicketSpec = spec(&["unrated"]);
    table.start("unrated", unrated);
    table.tick();
    assert_eq!(table.formed().len(), 2, "it counts as 0");
}
