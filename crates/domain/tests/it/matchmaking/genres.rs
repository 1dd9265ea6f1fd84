//! Five genres as configurations, each with a crowd that arrives over some time.

use std::collections::BTreeMap;

use sortie_domain::ids::MatchId;
use sortie_domain::matchmaking::Command;
use sortie_domain::matchmaking::model::{SeatOffer, Status, TicketSpec};
use sortie_domain::matchmaking::settings::{
    Backfill, ExpirationAction, Measure, Queue, Rule, RuleKind, WidenStep,
};
use sortie_domain::properties::Properties;

use super::table::{Table, far_from, queue_id, rated, region, secs, spec, with_properties};

/// A small generator, so that every run has the same players.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        u32::try_from(self.0 % u64::from(end)).unwrap()
    }
}

fn widening(name: &str, kind: RuleKind, steps: &[(u64, f64)]) -> Rule {
    let widen = steps.iter().map(|(after, value)| WidenStep { after: secs(*after), value: *value });
    Rule { widen: widen.collect(), ..Rule::new(name, kind) }
}

fn skill(most: f64, steps: &[(u64, f64)]) -> Rule {
    let kind =
        RuleKind::Distance { property: "mmr".into(), measure: Measure::Average, most, missing: 1500.0 };
    widening("skill", kind, steps)
}

fn latency(most: f64, steps: &[(u64, f64)]) -> Rule {
    widening("latency", RuleKind::Latency { most }, steps)
}

fn party(random: &mut Random, n: u32, size: u32) -> TicketSpec {
    let names: Vec<String> = (0..size).map(|of| format!("p{n}-{of}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let rating = f64::from(1_000 + random.below(1_000));
    let (eu, us) = (20 + random.below(120), 20 + random.below(120));
    far_from(&[("eu", eu), ("us", us), ("asia", 160)], rated(rating, spec(&names)))
}

/// This many tickets over this many seconds; then two minutes more. Returns the share of them that found a match.
fn crowd(table: &mut Table, tickets: u32, seconds: u64, sizes: &[u32]) -> f64 {
    let mut random = Random(42);
    for n in 0..tickets {
        let size = sizes[random.below(u32::try_from(sizes.len()).unwrap()) as usize];
        let spec = party(&mut random, n, size);
        table.start(&format!("t{n}"), spec);
        table.advance(std::time::Duration::from_millis(seconds * 1_000 / u64::from(tickets)));
    }
    table.advance(secs(120));
    let found = (0..tickets).filter(|n| table.status(&format!("t{n}")) == Status::FindingServer).count();
    found as f64 / f64::from(tickets)
}

/// The limits that each match's tickets must have met: the spread of ratings, and the worst latency in its region.
fn quality(table: &Table) -> Vec<(f64, u32, Vec<usize>)> {
    let formations = table.maker.formations().map(|formation| {
        let specs: Vec<_> = formation
            .tickets()
            .map(|named| table.maker.ticket(&named.ticket).unwrap().spec.clone())
            .collect();
        let ratings: Vec<f64> = specs.iter().map(|spec| spec.parties[0].players[0].ratings["mmr"]).collect();
        let spread =
            ratings.iter().fold(f64::MIN, |a, b| a.max(*b)) - ratings.iter().fold(f64::MAX, |a, b| a.min(*b));
        let worst = formation.region.as_ref().map_or(0, |region| {
            specs.iter().map(|spec| spec.worst_latencies()[region]).max().unwrap_or_default()
        });
        let teams = formation.teams.iter();
        let sizes = teams.map(|team| team.iter().map(|named| named.players.len()).sum()).collect();
        (spread, worst, sizes)
    });
    formations.collect()
}

#[test]
fn a_ladder_of_one_against_one() {
    let steps = [(10, 100.0), (20, 200.0), (40, 400.0)];
    let mut table = Table::with(Queue { rules: vec![skill(50.0, &steps)], ..Queue::default() });
    assert!(crowd(&mut table, 301, 60, &[1]) > 0.99);
    let quality = quality(&table);
    assert_eq!(quality.len(), 150);
    assert!(quality.iter().all(|(spread, _, _)| *spread <= 400.0));
    let close = quality.iter().filter(|(spread, _, _)| *spread <= 50.0).count();
    assert!(close > 140, "{close} of 150 had somebody near");
}

#[test]
fn five_against_five_ranked_with_parties() {
    let rules = vec![
        skill(150.0, &[(20, 300.0), (40, 600.0)]),
        latency(100.0, &[(30, 140.0)]),
        Rule::new(
            "balance",
            RuleKind::Balance { property: "mmr".into(), most: f64::INFINITY, missing: 1500.0 },
        ),
    ];
    let mut table = Table::with(Queue {
        players_per_team: 5,
        min_players_per_team: 5,
        ticket_expiration: secs(600),
        rules,
        ..Queue::default()
    });
    let matched = crowd(&mut table, 300, 60, &[1, 1, 1, 2, 2, 3]);
    assert!(matched > 0.8, "{matched}");
    for (spread, worst, sizes) in quality(&table) {
        assert!(spread <= 600.0 && worst <= 140, "{spread} {worst}");
        assert_eq!(sizes, [5, 5]);
    }
}

#[test]
fn battle_royale_of_sixty_in_squads() {
    let mut table = Table::with(Queue {
        teams: 20,
        players_per_team: 3,
        min_players_per_team: 3,
        ticket_expiration: secs(300),
        rules: vec![latency(150.0, &[])],
        ..Queue::default()
    });
    let matched = crowd(&mut table, 150, 30, &[1, 2, 3, 3]);
    assert!(matched > 0.7, "{matched}");
    let quality = quality(&table);
    assert!(quality.len() >= 4, "{}", quality.len());
    assert!(quality.iter().all(|(_, _, sizes)| *sizes == [3; 20]));
}

#[test]
fn battle_royale_of_sixty_alone_with_fewer_where_the_wait_gets_long() {
    let queue = Queue {
        teams: 1,
        players_per_team: 60,
        min_players_per_team: 30,
        ticket_expiration: secs(90),
        expiration_action: ExpirationAction::Minimum,
        ..Queue::default()
    };
    let mut table = Table::with(queue);
    assert!(crowd(&mut table, 100, 20, &[1]) > 0.99);
    let sizes: Vec<usize> = quality(&table).into_iter().map(|(_, _, sizes)| sizes[0]).collect();
    assert_eq!(sizes.iter().sum::<usize>(), 100);
    assert!(sizes[0] >= 50 && sizes.iter().all(|size| *size >= 30), "{sizes:?}");
}

#[test]
fn co_op_drop_in() {
    let map = || Rule {
        relax_after: Some(secs(20)),
        ..Rule::new("map", RuleKind::Equal { property: "map".into() })
    };
    let mut table = Table::with(Queue {
        teams: 1,
        players_per_team: 4,
        min_players_per_team: 2,
        ticket_expiration: secs(60),
        backfill: Backfill::First,
        rules: vec![map()],
        ..Queue::default()
    });
    let properties = Properties::parse(r#"{"map":"cave"}"#).unwrap();
    let offer = SeatOffer {
        match_id: MatchId::new("running").unwrap(),
        queue: queue_id("q"),
        seats: 2,
        region: None,
        properties,
        ratings: BTreeMap::new(),
        players: Vec::new(),
    };
    table.done(Command::OfferSeats { offer });
    table.start("other", with_properties(r#"{"map":"castle"}"#, spec(&["other"])));
    table.start("drop in", with_properties(r#"{"map":"cave"}"#, spec(&["drop in"])));
    table.tick();
    assert_eq!(table.status("drop in"), Status::FindingServer, "it need not wait for three others");
    assert_eq!(table.match_of("drop in").as_str(), "running");
    table.advance(secs(20));
    assert_eq!(table.match_of("other").as_str(), "running", "any map by now");
    table.start("a", with_properties(r#"{"map":"cave"}"#, spec(&["a"])));
    table.start("b", with_properties(r#"{"map":"cave"}"#, spec(&["b"])));
    table.advance(secs(41));
    assert_eq!(table.formed().len(), 1, "two are enough in the end");
    assert_eq!(table.formation().spec.capacity, Some(4), "others may drop in");
}

#[test]
fn quick_play_by_latency() {
    let mut table = Table::with(Queue {
        players_per_team: 4,
        min_players_per_team: 2,
        ticket_expiration: secs(60),
        rules: vec![latency(60.0, &[(10, 100.0), (20, 200.0)])],
        ..Queue::default()
    });
    let matched = crowd(&mut table, 200, 60, &[1, 2]);
    assert!(matched > 0.95, "{matched}");
    let quality = quality(&table);
    let near = quality.iter().filter(|(_, worst, _)| *worst <= 100).count();
    assert!(near * 2 > quality.len(), "{near} of {}", quality.len());
    assert!(table.maker.formations().any(|formation| formation.region == Some(region("eu"))));
}
