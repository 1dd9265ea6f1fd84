//! What docs/matchmaking.md promises, for any pool: compared with trying everything, by code that shares nothing with
//! the matchmaker's.

use std::time::Duration;

use proptest::prelude::*;
use proptest::sample::select;
use sortie_domain::matchmaking::model::{Ticket, TicketSpec, TicketState};
use sortie_domain::matchmaking::settings::{About, Measure, Need, Queue, Rule, RuleKind};
use sortie_domain::time::Timestamp;
use sortie_testkit::oracle::{MAX_TICKETS, legal_match, max_matches};

use super::placement::{balance, party, queue};
use super::table::{Table, player_id, rated, with_properties};

/// Ticks after which everything that is promised immediately is there.
const AT_ONCE: u64 = 2;
/// Ticks within which the exact promise for small pools holds.
const SMALL: u64 = 10;
/// Ticks within which even teams of neighbours are found.
const EVEN: u64 = 20;

fn rules() -> impl Strategy<Value = Vec<Rule>> {
    let number =
        |most| RuleKind::Distance { property: "mmr".into(), measure: Measure::Average, most, missing: 0.0 };
    let pair = |text: &str| RuleKind::Expression {
        expression: text.into(),
        about: About::Pair,
        need: Need::Required,
    };
    let all = vec![
        Rule::new("skill", number(120.0)),
        Rule::new("near", pair("ticket.properties.code == candidate.properties.code")),
        Rule::new(
            "or",
            pair("ticket.size != candidate.size || ticket.properties.code == candidate.properties.code"),
        ),
        Rule::new("blocked", RuleKind::NotBlocked),
        balance(60.0),
    ];
    proptest::sample::subsequence(all, 0..=3)
}

#[derive(Clone, Debug)]
struct Wish {
    size: usize,
    rating: u32,
    code: &'static str,
    blocks: Option<usize>,
}

fn wish() -> impl Strategy<Value = Wish> {
    let size = select(vec![1_usize, 1, 1, 2, 2, 3, 4]);
    let code = select(vec!["x", "x", "x", "y"]);
    (size, 0..10_u32, code, proptest::option::weighted(0.15, 0..12_usize))
        .prop_map(|(size, rating, code, blocks)| Wish { size, rating: rating * 20, code, blocks })
}

fn spec_of(n: usize, wish: &Wish, largest: usize) -> TicketSpec {
    let code = format!(r#"{{"code":"{}"}}"#, wish.code);
    let mut spec = with_properties(
        &code,
        rated(f64::from(wish.rating), party(&format!("t{n}"), wish.size.min(largest))),
    );
    spec.parties[0].players[0].blocked.extend(wish.blocks.map(|whom| player_id(&format!("t{whom}-0"))));
    spec
}

fn waiting(table: &Table) -> Vec<Ticket> {
    let tickets = table.maker.tickets(0, 1_000).items.into_iter();
    tickets.filter(|ticket| ticket.state == TicketState::Waiting).collect()
}

/// Whether ten players can be divided into two teams of five whose averages differ by at most this.
fn can_be_even(ratings: &[f64], most: f64) -> bool {
    let all: f64 = ratings.iter().sum();
    (0..1_u32 << ratings.len()).filter(|bits| bits.count_ones() == 5).any(|bits| {
        let one: f64 = (0..ratings.len()).filter(|at| bits >> at & 1 == 1).map(|at| ratings[at]).sum();
        ((one - (all - one)) / 5.0).abs() <= most - 1e-6
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    /// Up to twelve tickets, whatever the rules: if any match is possible, one forms.
    #[test]
    fn of_few_tickets_no_match_is_overlooked(
        sizes in select(vec![(2, 5), (2, 4), (3, 3), (1, 6), (1, 18), (2, 9)]),
        rules in rules(),
        wishes in proptest::collection::vec(wish(), 1..=MAX_TICKETS),
        one_by_one in any::<bool>(),
    ) {
        let queue: Queue = queue(sizes.0, sizes.1, rules);
        let mut table = Table::with(queue.clone());
        for (n, wish) in wishes.iter().enumerate() {
            table.start(&format!("t{n}"), spec_of(n, wish, sizes.1 as usize));
            if one_by_one {
                table.tick();
            }
        }
        table.advance(Duration::from_millis(100 * SMALL));
        let left = waiting(&table);
        prop_assert_eq!(legal_match(&queue, &left, Timestamp::from_millis(table.now - 110)), None);
        prop_assert_eq!(table.maker.unfinished_searches(), 0, "everything in reach was tried");
    }

    /// Many parties of all sizes: while the sizes of the waiting tickets fill the teams, a match forms.
    #[test]
    fn of_many_parties_all_that_sizes_allow_form(
        (teams, size) in select(vec![(2_u32, 5_u32), (2, 4), (3, 4), (4, 5), (1, 10), (2, 8), (6, 4)]),
        counts in proptest::collection::vec(select(vec![0_usize, 1, 3, 9, 40]), 10),
        order in 0..3_u8,
    ) {
        let mut table = Table::with(queue(teams, size, vec![]));
        let mut sizes: Vec<usize> = (1..=size as usize).flat_map(|of| vec![of; counts[(of - 1) % 10]]).collect();
        match order {
            0 => sizes.reverse(),
            1 => sizes.sort_by_key(|of| of * 7 % 11),
            _ => {}
        }
        for (n, of) in sizes.iter().enumerate() {
            table.start(&format!("t{n}"), party(&format!("t{n}"), *of));
            if n % 50 == 0 {
                table.tick();
            }
        }
        table.advance(Duration::from_millis(100 * AT_ONCE));
        let left: Vec<usize> = waiting(&table).iter().map(|ticket| ticket.spec.size()).collect();
        prop_assert_eq!(max_matches(teams as usize, size as usize, &left), 0, "{:?}", left);
    }

    /// No ten waiting tickets that are neighbours in rating can be divided into even teams.
    #[test]
    fn neighbours_in_rating_that_can_be_even_play(
        ratings in proptest::collection::vec(select(vec![0_u32, 100, 110, 130, 700, 705, 720, 1_500, 1_510, 4_000]), 10..50),
        spread in 1..40_u32,
        most in select(vec![1.0, 10.0, 60.0]),
        one_by_one in any::<bool>(),
    ) {
        let mut table = Table::with(queue(2, 5, vec![balance(most)]));
        for (n, rating) in ratings.iter().enumerate() {
            let rating = f64::from(rating + n as u32 * 13 % spread);
            table.start(&format!("t{n}"), rated(rating, party(&format!("t{n}"), 1)));
            if one_by_one {
                table.tick();
            }
        }
        table.advance(Duration::from_millis(100 * EVEN));
        let rating = |ticket: &Ticket| ticket.spec.players().next().unwrap().ratings["mmr"];
        let mut left: Vec<f64> = waiting(&table).iter().map(rating).collect();
        left.sort_by(f64::total_cmp);
        for run in left.windows(10) {
            prop_assert!(!can_be_even(run, most), "{:?} of {:?}", run, left);
        }
    }
}

/// Ticks within which ten of 120 players who have not blocked one another form a match; see `docs/matchmaking.md`.
const MAX_TICKS_AMONG_BLOCKED: u64 = 2;

/// The number of ticks until ten of this many players who have not blocked one another find one another, with about
/// `blocked` in 100 pairs kept apart by a block.
fn ticks_among_blocked(players: u64, blocked: u64) -> Option<u64> {
    let mut table = Table::with(queue(2, 5, vec![Rule::new("blocked", RuleKind::NotBlocked)]));
    // All over the queue, so that they are neither the oldest nor the youngest.
    let goes_along = |n: u64| n.is_multiple_of(players / 10);
    for n in 0..players {
        let mut spec = party(&format!("t{n}"), 1);
        let apart = |other: &u64| {
            let drawn = (n * players + *other).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33;
            !(goes_along(n) && goes_along(*other)) && drawn % 100 < blocked
        };
        let whom = (0..n).filter(apart).map(|other| player_id(&format!("t{other}-0")));
        spec.parties[0].players[0].blocked.extend(whom);
        table.start(&format!("t{n}"), spec);
    }
    (1..=MAX_TICKS_AMONG_BLOCKED).find(|_| {
        table.advance(Duration::from_millis(100));
        !table.formed().is_empty()
    })
}

/// Dense lists of blocked players neither prevent nor delay possible matches.
#[test]
fn those_who_have_not_blocked_one_another_play_however_many_others_have() {
    for players in [30, 60, 120] {
        for blocked in [95, 90, 80, 70, 60, 50, 30] {
            let ticks = ticks_among_blocked(players, blocked);
            assert!(ticks.is_some(), "{players} players of whom {blocked} % are apart");
        }
    }
}
