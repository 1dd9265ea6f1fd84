//! Which matches form, and within how many ticks: mixed parties, large teams, outliers, pairs that are expensive to
//! compare, numbers far apart. The bounds are those that docs/matchmaking.md states.

use std::collections::BTreeMap;
use std::time::Duration;

use sortie_domain::matchmaking::Command;
use sortie_domain::matchmaking::model::{Status, TicketSpec};
use sortie_domain::matchmaking::settings::{About, Measure, Need, Queue, Rule, RuleKind};

use super::table::{Table, ids, player_id, rated, secs, spec, ticket_id, with_properties};

/// Ticks within which every match that one turn of a search finds is there.
const AT_ONCE: usize = 2;
/// Ticks within which a match is there if all its pairs must be compared by expressions.
const COMPARED: usize = 20;

pub(crate) fn queue(teams: u32, players_per_team: u32, rules: Vec<Rule>) -> Queue {
    let ticket_expiration = secs(600);
    Queue {
        teams,
        players_per_team,
        min_players_per_team: players_per_team,
        ticket_expiration,
        rules,
        ..Queue::default()
    }
}

pub(crate) fn balance(most: f64) -> Rule {
    Rule::new("balance", RuleKind::Balance { property: "mmr".into(), most, missing: 1_500.0 })
}

fn distance(most: f64) -> Rule {
    let kind = RuleKind::Distance { property: "mmr".into(), measure: Measure::Average, most, missing: 0.0 };
    Rule::new("skill", kind)
}

fn pair(expression: &str, need: Need) -> Rule {
    Rule::new("pair", RuleKind::Expression { expression: expression.into(), about: About::Pair, need })
}

/// A ticket with this number of players.
pub(crate) fn party(name: &str, size: usize) -> TicketSpec {
    let names: Vec<String> = (0..size).map(|n| format!("{name}-{n}")).collect();
    spec(&names.iter().map(String::as_str).collect::<Vec<_>>())
}

impl Table {
    /// A number of tickets of the same size, all at once.
    fn parties(&mut self, what: &str, count: usize, size: usize) {
        for n in 0..count {
            let name = format!("{what}{n}");
            self.start(&name, party(&name, size));
        }
    }

    /// Ticks until this number of matches was formed.
    pub(crate) fn ticks_until(&mut self, matches: usize) -> usize {
        for ticks in 0..400 {
            if self.formed().len() >= matches {
                return ticks;
            }
            self.advance(Duration::from_millis(100));
        }
        panic!("{} matches, and not {matches}", self.formed().len());
    }

    /// Waits until all possible matches are formed, and returns their number, and how many of their tickets are of each
    /// size.
    fn settled(&mut self, ticks: usize) -> (usize, BTreeMap<usize, usize>) {
        self.advance(Duration::from_millis(100 * ticks as u64));
        let mut sizes = BTreeMap::new();
        let formed = self.formed();
        for id in formed.iter().flatten().flatten() {
            *sizes.entry(self.find(id).spec.size()).or_default() += 1;
        }
        (formed.len(), sizes)
    }
}

#[test]
fn parties_that_combine_with_nobody_hide_nobody() {
    // Two fives are a match, and fours are in none: there are no solos.
    let mut table = Table::with(queue(2, 5, vec![]));
    table.parties("four", 13, 4);
    table.tick();
    table.parties("five", 20, 5);
    assert_eq!(table.settled(AT_ONCE), (10, BTreeMap::from([(5, 20)])));
    // No five is left, so that two fours need two solos.
    table.parties("solo", 2, 1);
    assert_eq!(table.settled(AT_ONCE).0, 11);
    let last = table.together().pop().unwrap();
    assert_eq!(last, ids(&["four0", "four1", "solo0", "solo1"]), "the oldest fours");
}

#[test]
fn trios_wait_for_duos_however_many_they_are() {
    let mut table = Table::with(queue(2, 5, vec![]));
    table.parties("trio", 18, 3);
    table.tick();
    assert_eq!(table.formed().len(), 0);
    table.parties("duo", 18, 2);
    assert_eq!(table.settled(AT_ONCE), (9, BTreeMap::from([(2, 18), (3, 18)])));
}

#[test]
fn duos_wait_for_solos_however_many_they_are() {
    let mut table = Table::with(queue(2, 5, vec![]));
    table.parties("duo", 27, 2);
    table.tick();
    // A team of duos lacks one; two solos make one match, and not more.
    table.parties("solo", 2, 1);
    assert_eq!(table.settled(AT_ONCE), (1, BTreeMap::from([(1, 2), (2, 4)])));
    let first = table.together().pop().unwrap();
    assert_eq!(first, ids(&["duo0", "duo1", "duo2", "duo3", "solo0", "solo1"]));
}

#[test]
fn parties_hide_nobody_where_teams_have_to_be_even() {
    let mut table = Table::with(queue(2, 5, vec![balance(100.0)]));
    table.parties("four", 300, 4);
    table.tick();
    table.parties("five", 40, 5);
    assert_eq!(table.settled(4), (20, BTreeMap::from([(5, 40)])));
    // The same if numbers must be close, or players are looked at.
    let kinds = [
        distance(100.0),
        Rule::new("blocked", RuleKind::NotBlocked),
        pair("ticket.size == candidate.size", Need::Required),
    ];
    for rule in kinds {
        let name = rule.name.clone();
        let mut table = Table::with(queue(2, 5, vec![rule]));
        table.parties("four", 150, 4);
        table.tick();
        table.parties("five", 20, 5);
        assert_eq!(table.settled(AT_ONCE), (10, BTreeMap::from([(5, 20)])), "{name}");
    }
}

#[test]
fn an_outlier_keeps_nobody_else_from_playing() {
    let mut table = Table::with(queue(2, 5, vec![balance(100.0)]));
    table.start("out", rated(3_000.0, spec(&["out"])));
    for n in 0..60 {
        let name = format!("p{n:02}");
        table.start(&name, rated(1_500.0, spec(&[&name])));
    }
    let ticks = table.ticks_until(6);
    assert!(ticks <= AT_ONCE, "{ticks}");
    assert_eq!(table.status("out"), Status::InProgress);
    let order: Vec<String> = table.together().into_iter().flatten().collect();
    assert_eq!(order, (0..60).map(|n| format!("p{n:02}")).collect::<Vec<_>>(), "by age");
    // A second star arrives, with players in between, and the first one plays: two stars and eight others are even.
    for n in 0..8 {
        let name = format!("q{n}");
        table.start(&name, rated(1_500.0, spec(&[&name])));
    }
    table.tick();
    table.start("star", rated(3_000.0, spec(&["star"])));
    table.ticks_until(7);
    assert_eq!(table.status("out"), Status::FindingServer);
}

/// Outliers of several kinds, one after the other, including a party.
#[test]
fn several_outliers_keep_nobody_else_from_playing() {
    for (outliers, size) in [([3_000.0, 4_500.0, 100.0], 1), ([2_600.0, 9_000.0, 20.0], 2)] {
        let mut table = Table::with(queue(2, 5, vec![balance(50.0)]));
        for (n, rating) in outliers.into_iter().enumerate() {
            let name = format!("out{n}");
            table.start(&name, rated(rating, party(&name, size)));
            table.tick();
        }
        for n in 0..40 {
            let name = format!("p{n:02}");
            table.start(&name, rated(1_500.0 + f64::from(n % 4), spec(&[&name])));
            table.tick();
        }
        let ticks = table.ticks_until(4);
        assert!(ticks <= AT_ONCE, "{ticks} {size}");
    }
}

#[test]
fn matches_of_which_every_pair_is_compared_form() {
    let rules = [
        ("blocked", Rule::new("blocked", RuleKind::NotBlocked)),
        (
            "required",
            pair("ticket.properties.mode == candidate.properties.mode || ticket.size > `9`", Need::Required),
        ),
        ("preferred", pair("ticket.properties.mode == candidate.properties.mode", Need::Preferred)),
    ];
    for (name, rule) in rules {
        for (teams, per_team) in [(2, 7), (2, 8), (1, 60), (20, 3)] {
            let mut table = Table::with(queue(teams, per_team, vec![rule.clone()]));
            table.parties("p", (teams * per_team) as usize, 1);
            let ticks = table.ticks_until(1);
            println!("{teams}x{per_team} {name}: {ticks} ticks");
            assert!(ticks <= COMPARED, "{teams}x{per_team} {name}: {ticks}");
            assert_eq!(table.formed()[0].concat().len(), (teams * per_team) as usize);
        }
    }
}

/// One player is blocked by the first and is left out, and all others play.
#[test]
fn large_matches_do_without_whom_somebody_has_blocked() {
    let mut table = Table::with(queue(1, 60, vec![Rule::new("blocked", RuleKind::NotBlocked)]));
    for n in 0..61 {
        let name = format!("p{n:02}");
        let mut spec = spec(&[&name]);
        if n == 0 {
            spec.parties[0].players[0].blocked.push(player_id("p01"));
        }
        table.start(&name, spec);
    }
    let ticks = table.ticks_until(1);
    assert!(ticks <= COMPARED, "{ticks}");
    assert_eq!(table.status("p01"), Status::InProgress);
}

#[test]
fn two_with_one_code_find_each_other_behind_any_number_of_others() {
    let same = "ticket.properties.code == candidate.properties.code";
    for expression in
        [same, "ticket.size == candidate.size && candidate.properties.code == ticket.properties.code"]
    {
        for others in [94, 600] {
            let mut table = Table::with(queue(2, 1, vec![pair(expression, Need::Required)]));
            let coded =
                |code: &str, name: &str| with_properties(&format!(r#"{{"code":"{code}"}}"#), spec(&[name]));
            table.start("ann", coded("x", "ann"));
            for n in 0..others {
                let name = format!("p{n}");
                table.start(&name, coded(&name, &name));
            }
            table.advance(secs(3));
            assert_eq!(table.formed().len(), 0);
            table.start("bob", coded("x", "bob"));
            let ticks = table.ticks_until(1);
            assert!(ticks <= AT_ONCE, "{ticks}");
            assert_eq!(table.together(), [ids(&["ann", "bob"])]);
            // Two without a code have the same.
            table.solo("cat");
            table.solo("dan");
            table.tick();
            assert_eq!(table.together().last(), Some(&ids(&["cat", "dan"])));
        }
    }
}

/// The same without help from an index: the search finds it by continuing, even if tickets in between have left.
#[test]
fn partners_are_found_behind_others_that_no_index_leaves_out() {
    let by_code = "contains(ticket.properties.code, candidate.properties.code)";
    let coded = |code: &str, name: &str| with_properties(&format!(r#"{{"code":"{code}"}}"#), spec(&[name]));
    for leave in [false, true] {
        let mut table = Table::with(queue(2, 1, vec![pair(by_code, Need::Required)]));
        table.start("ann", coded("x", "ann"));
        for n in 0..700 {
            let name = format!("p{n}");
            table.start(&name, coded(&format!("other {n:04}"), &name));
        }
        table.advance(secs(30));
        table.start("bob", coded("x", "bob"));
        if leave {
            table.tick();
            (0..700).for_each(|n| table.cancel(&format!("p{n}")));
        }
        let ticks = table.ticks_until(1);
        println!("behind 700: {ticks} ticks");
        assert!(ticks <= COMPARED, "{ticks}");
        assert_eq!(table.together(), [ids(&["ann", "bob"])]);
    }
}

#[test]
fn an_equality_in_an_expression_relaxes_with_it() {
    let same = pair("ticket.properties.code == candidate.properties.code", Need::Required);
    let mut table = Table::with(queue(2, 1, vec![Rule { relax_after: Some(secs(20)), ..same }]));
    for who in ["ann", "bob"] {
        table.start(who, with_properties(&format!(r#"{{"code":"{who}"}}"#), spec(&[who])));
    }
    table.advance(secs(19));
    assert_eq!(table.formed().len(), 0);
    table.advance(secs(2));
    assert_eq!(table.formed().len(), 1);
}

#[test]
fn large_teams_form_at_once() {
    for (teams, per_team, waiting) in
        [(1, 300, 900), (1, 400, 400), (2, 250, 500), (1, 1_000, 1_000), (2, 500, 1_000)]
    {
        for rules in [vec![], vec![distance(100.0)]] {
            let with = rules.len();
            let mut table = Table::with(queue(teams, per_team, rules));
            for n in 0..waiting {
                let name = format!("p{n}");
                table.start(&name, rated(f64::from(n % 100), spec(&[&name])));
            }
            let all = (waiting as u32 / (teams * per_team)) as usize;
            let ticks = table.ticks_until(all);
            println!("{teams}x{per_team} of {waiting}, {with} rules: {ticks} ticks");
            assert!(ticks <= 5, "{teams}x{per_team}: {ticks}");
            let first = table.formed().swap_remove(0);
            assert!(first.iter().all(|team| team.len() == per_team as usize));
            let oldest: std::collections::BTreeSet<String> =
                (0..teams * per_team).map(|n| format!("p{n}")).collect();
            assert_eq!(table.together()[0], oldest);
        }
    }
}

#[test]
fn large_teams_of_mixed_parties_form_where_the_sizes_allow_it() {
    // (teams, players per team, tickets by count and size, number of possible matches)
    type Case = (u32, u32, &'static [(usize, usize)], usize);
    let cases: [Case; 8] = [
        (2, 250, &[(60, 4), (40, 5), (60, 1)], 1),
        (2, 250, &[(100, 4), (20, 5)], 1),
        (2, 250, &[(200, 4)], 0),
        (12, 5, &[(20, 3), (12, 2)], 1),
        (12, 5, &[(40, 3), (11, 2)], 0),
        (12, 5, &[(12, 3), (6, 2), (12, 1)], 1),
        // Twenty is five fours, and no sevens and fours; fourteen fours are two teams.
        (3, 20, &[(4, 7), (14, 4)], 0),
        (3, 20, &[(4, 7), (15, 4)], 1),
    ];
    for (teams, per_team, tickets, matches) in cases {
        let mut table = Table::with(queue(teams, per_team, vec![]));
        for (count, size) in tickets {
            table.parties(&format!("of{size}-"), *count, *size);
        }
        let found = table.settled(4);
        assert_eq!(found.0, matches, "{teams}x{per_team} of {tickets:?}: {found:?}");
        for team in table.formed().iter().flatten() {
            let players: usize = team.iter().map(|id| table.find(id).spec.size()).sum();
            assert_eq!(players, per_team as usize);
        }
    }
}

#[test]
fn large_teams_are_even_where_they_have_to_be() {
    let mut table = Table::with(queue(2, 100, vec![balance(5.0)]));
    for n in 0..200 {
        let name = format!("p{n}");
        table.start(&name, rated(f64::from(n * 37 % 200) * 10.0, spec(&[&name])));
    }
    let ticks = table.ticks_until(1);
    println!("2x100 balanced: {ticks} ticks");
    assert!(ticks <= COMPARED, "{ticks}");
}

#[test]
fn tickets_whose_distance_has_relaxed_find_each_other_at_any_distance() {
    for between in [104, 3_000] {
        let rule = Rule { relax_after: Some(secs(60)), ..distance(50.0) };
        let mut table = Table::with(queue(2, 1, vec![rule]));
        table.start("low", rated(0.0, spec(&["low"])));
        table.start("high", rated(10_000.0, spec(&["high"])));
        table.advance(Duration::from_millis(59_000));
        for n in 0..between {
            let name = format!("p{n}");
            // More than 50 from one another, if there is room for that.
            let rating = 10_000.0 / f64::from(between + 1) * f64::from(n + 1);
            let rating = if between > 104 { 1_000.0 * f64::from(n + 20) } else { rating };
            table.start(&name, rated(rating, spec(&[&name])));
        }
        table.advance(Duration::from_millis(900));
        assert_eq!(table.formed().len(), 0);
        table.advance(Duration::from_millis(250));
        assert_eq!(table.together(), [ids(&["low", "high"])], "at 60 s");
        // One that has relaxed still plays with one that is near and has not.
        table.advance(secs(60));
        let waits = table.maker.waiting(&super::table::queue_id("q"));
        assert_eq!(waits, between as usize % 2, "all others have relaxed and play, whatever their distance");
    }
}

#[test]
fn one_that_has_relaxed_plays_with_one_near_that_has_not() {
    let rule = Rule { relax_after: Some(secs(60)), ..distance(50.0) };
    let mut table = Table::with(queue(2, 1, vec![rule]));
    table.start("old", rated(500.0, spec(&["old"])));
    table.advance(secs(70));
    table.start("far", rated(551.0, spec(&["far"])));
    table.tick();
    assert_eq!(table.formed().len(), 0);
    table.start("near", rated(450.0, spec(&["near"])));
    table.tick();
    assert_eq!(table.together(), [ids(&["old", "near"])]);
}

/// A continuing search is reported, and is forgotten with its ticket, with other rules and with the process.
#[test]
fn searches_that_go_on_are_told_and_end_with_their_tickets() {
    let never = pair("contains(ticket.properties.code, candidate.properties.code)", Need::Required);
    let coded = |name: &str| with_properties(&format!(r#"{{"code":"{name}"}}"#), spec(&[name]));
    let mut table = Table::with(queue(2, 1, vec![never.clone()]));
    for n in 0..1_000 {
        let name = format!("p{n:04}");
        table.start(&name, coded(&name));
    }
    table.tick();
    let last = ticket_id("p0999");
    assert!(table.maker.is_searching(&last) && table.maker.unfinished_searches() > 0);
    table.cancel("p0999");
    assert!(!table.maker.is_searching(&last));
    // Everything in reach is tried in the end, and then nothing is left to do.
    table.advance(secs(300));
    assert_eq!((table.maker.unfinished_searches(), table.maker.backlog()), (0, 0));
    assert!(!table.maker.is_searching(&ticket_id("p0998")));
    table.start("late", coded("late"));
    table.tick();
    assert!(table.maker.is_searching(&ticket_id("late")));
    let settings = super::table::settings([("q", queue(2, 1, vec![]))]);
    table.done(Command::Reconfigure { settings });
    assert_eq!(table.maker.unfinished_searches(), 0);
    table.advance(secs(2));
    assert_eq!(table.formed().len(), 500);
}

/// A pair for which a queue of single players no longer has room hides nobody.
#[test]
fn tickets_too_large_for_the_queue_hide_nobody() {
    let mut table = Table::with(queue(2, 2, vec![]));
    table.parties("pair", 1, 2);
    table.tick();
    table.done(Command::Reconfigure { settings: super::table::settings([("q", queue(2, 1, vec![]))]) });
    table.parties("solo", 2, 1);
    table.tick();
    assert_eq!(table.together(), [ids(&["solo0", "solo1"])]);
    assert_eq!(table.maker.unfinished_searches(), 0);
}

/// New tickets have their turn besides continuing searches, and vice versa.
#[test]
fn neither_searches_that_go_on_nor_tickets_that_come_starve_the_others() {
    let mut table = Table::with(queue(
        1,
        60,
        vec![pair("ticket.size == candidate.size || ticket.size > `9`", Need::Required)],
    ));
    table.parties("p", 60, 1);
    table.tick();
    assert_eq!(table.formed().len(), 0, "this takes a while");
    // At the same time, as many arrive at once as a tick can look at.
    for wave in 0..COMPARED {
        table.parties(&format!("w{wave}-"), 100, 1);
        table.advance(Duration::from_millis(100));
    }
    let first = table.together().into_iter().next().expect("the first sixty");
    assert_eq!(first, (0..60).map(|n| format!("p{n}")).collect());
}
