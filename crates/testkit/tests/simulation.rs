//! The simulations over many seeds, and the proof that they notice broken rules.

use sortie_testkit::matchmaking;
use sortie_testkit::sim::{BrokenRule, Report, run};

/// Seeds run with all rules whole.
const SEEDS: u64 = 2_000;
/// Seeds within which each broken rule must be noticed.
const SEEDS_TO_NOTICE: u64 = 300;

#[test]
fn the_invariants_hold_under_every_schedule() {
    let mut sum = Report::default();
    for seed in 0..SEEDS {
        let report = run(seed, None).unwrap_or_else(|failure| panic!("{failure}"));
        sum.crashes += report.crashes;
        sum.ready += report.ready;
        sum.claims += report.claims;
        sum.processes += report.processes;
    }
    // A simulation in which nothing happens proves nothing.
    assert!(sum.crashes > SEEDS / 4 && sum.ready > SEEDS * 5, "{sum:?}");
    assert!(sum.claims > SEEDS && sum.processes > SEEDS * 5, "{sum:?}");
}

#[test]
fn every_broken_rule_is_noticed() {
    let unnoticed: Vec<_> = BrokenRule::ALL
        .iter()
        .filter(|rule| (0..SEEDS_TO_NOTICE).all(|seed| run(seed, Some(**rule)).is_ok()))
        .collect();
    assert!(unnoticed.is_empty(), "broken and not noticed within {SEEDS_TO_NOTICE} seeds: {unnoticed:?}");
}

/// Seeds of the matchmaker run with all rules whole.
const MATCHMAKER_SEEDS: u64 = 600;

#[test]
fn the_matchmakers_invariants_hold_under_every_schedule() {
    let mut sum = matchmaking::Report::default();
    for seed in 0..MATCHMAKER_SEEDS {
        sum += matchmaking::run(seed, None).unwrap_or_else(|failure| panic!("{failure}"));
    }
    // A simulation in which nothing happens proves nothing.
    assert!(sum.crashes > MATCHMAKER_SEEDS / 4 && sum.matches > MATCHMAKER_SEEDS * 5, "{sum}");
    assert!(sum.completed > MATCHMAKER_SEEDS * 5 && sum.seated > MATCHMAKER_SEEDS / 2, "{sum}");
    assert!(sum.abandoned > MATCHMAKER_SEEDS * 2 && sum.elsewhere > MATCHMAKER_SEEDS, "{sum}");
    assert!(sum.replaced > MATCHMAKER_SEEDS, "{sum}");
    assert!(sum.compared > MATCHMAKER_SEEDS * 50 && sum.of_crowds > MATCHMAKER_SEEDS, "{sum}");
}

#[test]
fn every_broken_rule_of_the_matchmaker_is_noticed() {
    let unnoticed: Vec<_> = matchmaking::BrokenRule::ALL
        .iter()
        .filter(|rule| (0..SEEDS_TO_NOTICE).all(|seed| matchmaking::run(seed, Some(**rule)).is_ok()))
        .collect();
    assert!(unnoticed.is_empty(), "broken and not noticed within {SEEDS_TO_NOTICE} seeds: {unnoticed:?}");
}
