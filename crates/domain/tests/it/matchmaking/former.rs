//! Hooks that form matches: which tickets they are asked about, when, and how a partly wrong answer is handled.

use sortie_domain::ids::{QueueId, TicketId};
use sortie_domain::machine::Machine as _;
use sortie_domain::matchmaking::settings::{Hook, HookPoint, OnFailure, OutsideHook, Queue, Settings};
use sortie_domain::matchmaking::words::of_ignored;
use sortie_domain::matchmaking::{Command, Effect, FORM_BATCH, FormedMatch, IgnoredCause, Matchmaker, Reply};

use super::table::{Table, ids, queue_id, secs, settings, spec, ticket_id};

fn formed(on_failure: OnFailure) -> Queue {
    Queue {
        hooks: vec![super::table::outside("f", HookPoint::FormMatch, on_failure)],
        ticket_expiration: secs(600),
        ..Queue::default()
    }
}

/// The rounds that began since the last call: queue, number, tickets.
fn rounds(table: &mut Table) -> Vec<(QueueId, u64, Vec<TicketId>)> {
    let effects = std::mem::take(&mut table.effects).into_iter();
    let rounds = effects.filter_map(|effect| match effect {
        Effect::FormMatches { queue, round, .. } => {
            let tickets = table.maker.asked_about(&queue, round)?;
            Some((queue, round, tickets.into_iter().map(|(id, _)| id).collect()))
        }
        _ => None,
    });
    rounds.collect()
}

fn answer(table: &mut Table, round: u64, matches: Option<Vec<Result<FormedMatch, String>>>) -> Reply {
    table.ok(Command::MatchesFormed { queue: queue_id("q"), round, matches })
}

fn pair(one: &str, other: &str) -> Result<FormedMatch, String> {
    Ok(FormedMatch { teams: vec![vec![ticket_id(one)], vec![ticket_id(other)]], region: None })
}

fn only(rounds: &[(QueueId, u64, Vec<TicketId>)]) -> (u64, Vec<String>) {
    let [(_, number, tickets)] = rounds else { panic!("{} rounds", rounds.len()) };
    (*number, tickets.iter().map(ToString::to_string).collect())
}

#[test]
fn two_tickets_that_come_one_after_the_other_are_asked_about_together() {
    let mut table = Table::with(formed(OnFailure::Refuse));
    table.solo("ann");
    table.tick();
    let (round, asked) = only(&rounds(&mut table));
    assert_eq!(asked, ["ann"]);
    // The second arrives while the hook is working on the first.
    table.solo("bob");
    table.tick();
    assert!(rounds(&mut table).is_empty(), "one question at a time");
    answer(&mut table, round, Some(vec![]));
    table.tick();
    let (round, asked) = only(&rounds(&mut table));
    assert_eq!(asked, ["ann", "bob"]);
    answer(&mut table, round, Some(vec![pair("ann", "bob")]));
    assert_eq!(table.together(), [ids(&["ann", "bob"])]);
}

#[test]
fn a_hook_is_asked_again_at_its_interval_while_somebody_waits() {
    for (interval, expected) in [(None, 5), (Some(secs(2)), 2)] {
        let mut table = Table::with(Queue {
            hooks: vec![Hook::Outside(OutsideHook {
                id: super::table::hook_id("f"),
                about: HookPoint::FormMatch,
                timeout: secs(1),
                on_failure: OnFailure::Refuse,
                interval,
                address: None,
            })],
            ticket_expiration: secs(600),
            ..Queue::default()
        });
        table.solo("ann");
        table.solo("bob");
        table.tick();
        let (round, _) = only(&rounds(&mut table));
        answer(&mut table, round, Some(vec![]));
        table.advance(secs(expected) - std::time::Duration::from_millis(1));
        assert!(rounds(&mut table).is_empty(), "nothing is new");
        table.advance(std::time::Duration::from_millis(200));
        let (round, asked) = only(&rounds(&mut table));
        assert_eq!(asked, ["ann", "bob"]);
        table.cancel("ann");
        table.cancel("bob");
        answer(&mut table, round, Some(vec![]));
        table.advance(secs(60));
        assert!(rounds(&mut table).is_empty(), "nobody waits");
    }
}

#[test]
fn a_hook_is_asked_at_its_interval_whatever_happens_in_other_queues() {
    let queues = ["q", "r", "s"].map(|queue| (queue_id(queue), formed(OnFailure::Refuse)));
    let plain = (queue_id("plain"), Queue::default());
    let mut table =
        Table::configured(Settings { queues: queues.into_iter().chain([plain]).collect(), ..settings([]) });
    let start = |table: &mut Table, who: &str, queue: &str| {
        let spec = sortie_domain::matchmaking::model::TicketSpec { queue: queue_id(queue), ..spec(&[who]) };
        table.start(who, spec);
    };
    for (who, queue) in [("ann", "q"), ("bob", "r"), ("cat", "s")] {
        start(&mut table, who, queue);
        table.advance(secs(1));
    }
    for lap in 0..4 {
        let asked = rounds(&mut table);
        let queues: std::collections::BTreeSet<_> = asked.iter().map(|(queue, ..)| queue.clone()).collect();
        assert_eq!(queues, ["q", "r", "s"].map(queue_id).into(), "lap {lap}");
        for (queue, round, _) in asked {
            table.ok(Command::MatchesFormed { queue, round, matches: Some(Vec::new()) });
        }
        // Ticks between the laps, in which no hook is due.
        for at in 0..3 {
            start(&mut table, &format!("{lap}-{at}"), "plain");
            table.advance(secs(1));
        }
        table.advance(secs(4));
    }
}

#[test]
fn a_ticket_that_comes_while_a_failed_hook_pauses_is_asked_about_after_the_pause() {
    for queue in ["q", "plain"] {
        let queues = [(queue_id("q"), formed(OnFailure::Refuse)), (queue_id("plain"), Queue::default())];
        let mut table = Table::configured(Settings { queues: queues.into_iter().collect(), ..settings([]) });
        table.solo("ann");
        table.tick();
        let (round, _) = only(&rounds(&mut table));
        answer(&mut table, round, None);
        table.advance(std::time::Duration::from_millis(300));
        let spec = sortie_domain::matchmaking::model::TicketSpec { queue: queue_id(queue), ..spec(&["bob"]) };
        table.start("bob", spec);
        table.advance(std::time::Duration::from_millis(300));
        assert!(rounds(&mut table).is_empty(), "the pause is a second");
        table.advance(secs(1));
        let (_, asked) = only(&rounds(&mut table));
        assert_eq!(asked, if queue == "q" { vec!["ann", "bob"] } else { vec!["ann"] });
    }
}

#[test]
fn a_hook_that_has_failed_is_asked_again_later_each_time() {
    let mut table = Table::with(formed(OnFailure::Refuse));
    table.solo("ann");
    table.solo("bob");
    table.tick();
    for (round, pause) in [(1, 1), (2, 2), (3, 4)] {
        assert_eq!(only(&rounds(&mut table)), (round, vec!["ann".to_owned(), "bob".to_owned()]));
        answer(&mut table, round, None);
        table.advance(secs(pause) - std::time::Duration::from_millis(1));
        assert!(rounds(&mut table).is_empty(), "{pause}");
        table.advance(std::time::Duration::from_millis(200));
    }
    // One success resets all failures.
    answer(&mut table, 4, Some(vec![pair("ann", "bob")]));
    assert_eq!(table.formed().len(), 1);
    rounds(&mut table);
    table.solo("cat");
    table.tick();
    answer(&mut table, 5, None);
    rounds(&mut table);
    table.advance(std::time::Duration::from_millis(1_200));
    assert_eq!(only(&rounds(&mut table)).0, 6);
}

#[test]
fn more_tickets_than_a_question_holds_are_asked_about_in_turns() {
    let mut table = Table::with(formed(OnFailure::Refuse));
    let names: Vec<String> = (0..FORM_BATCH + 500).map(|n| format!("p{n:04}")).collect();
    for who in &names {
        table.solo(who);
    }
    table.advance(secs(1));
    // One page after the other immediately, and all of them again after the interval.
    let pages = [(&names[..FORM_BATCH], 150), (&names[FORM_BATCH..], 5_150), (&names[..FORM_BATCH], 150)];
    for (expected, pause) in pages {
        let (round, asked) = only(&rounds(&mut table));
        assert!(asked == expected, "{} tickets from {:?}", asked.len(), asked.first());
        answer(&mut table, round, Some(vec![]));
        table.advance(std::time::Duration::from_millis(pause));
    }
}

#[test]
fn many_rounds_begin_over_several_ticks_in_turn() {
    let queues: Vec<String> = (0..200).map(|n| format!("q{n:03}")).collect();
    let all = queues.iter().map(|queue| (queue_id(queue), formed(OnFailure::Refuse)));
    let mut table = Table::configured(Settings { queues: all.collect(), ..settings([]) });
    for queue in &queues {
        for n in 0..50 {
            let who = format!("{queue}-{n}");
            table.start(
                &who,
                sortie_domain::matchmaking::model::TicketSpec { queue: queue_id(queue), ..spec(&[&who]) },
            );
        }
    }
    table.advance(secs(2));
    let open = rounds(&mut table);
    assert_eq!(open.len(), 200, "each has its turn");
    for (queue, round, _) in open {
        table.ok(Command::MatchesFormed { queue, round, matches: Some(Vec::new()) });
    }
    // All of them are due again at the same time.
    table.now += 5_000;
    let mut asked = std::collections::BTreeSet::new();
    for _ in 0..100 {
        table.advance_once();
        let begun = rounds(&mut table);
        let tickets: usize = begun.iter().map(|(_, _, tickets)| tickets.len()).sum();
        assert!(tickets < 2_050, "{} rounds, {tickets} tickets", begun.len());
        asked.extend(begun.into_iter().map(|(queue, ..)| queue));
    }
    assert_eq!(asked.len(), 200, "each has its turn");
}

#[test]
fn a_malformed_match_is_ignored_alone_and_remembered() {
    let mut table = Table::with(formed(OnFailure::Refuse));
    for who in ["ann", "bob", "cat", "dan"] {
        table.solo(who);
    }
    table.tick();
    let matches = vec![
        Err("missing field `teams`\u{1b}[2J".to_owned()),
        pair("ann", "bob"),
        pair("cat", "cat"),
        pair("cat", "stranger"),
        pair("cat", "dan"),
        pair("ann", "cat"),
    ];
    let Reply::Formed { taken, ignored, left } = answer(&mut table, 1, Some(matches)) else { panic!() };
    let numbers: Vec<usize> = ignored.iter().map(|(at, _)| *at).collect();
    assert_eq!((taken, &numbers[..], left), (2, &[0, 2, 3, 5][..], 0));
    assert_eq!(table.together(), [ids(&["ann", "bob"]), ids(&["cat", "dan"])]);
    let fault = |maker: &Matchmaker| maker.last_fault(&queue_id("q")).cloned().expect("a fault");
    let last = fault(&table.maker);
    assert_eq!((last.hook.as_str(), last.ignored), ("f", 4));
    assert!(last.problem.starts_with("matches[5]: ticket ann"), "{}", last.problem);
    let by_cause =
        [(IgnoredCause::Malformed, 1), (IgnoredCause::NotWaiting, 2), (IgnoredCause::NamedTwice, 1)];
    assert_eq!(last.by_cause, by_cause.into());
    assert_eq!((last.answer.round, last.answer.count), (1, 4));
    assert_eq!(last.answer.first, "matches[0]: missing field `teams`\\u{1b}[2J");
    table.solo("eve");
    table.tick();
    let explained = table.maker.explain(&ticket_id("eve"), table.time()).unwrap().ignored.unwrap();
    assert_eq!((explained.hook.as_str(), explained.count, explained.total), ("f", 4, 4));
    assert_eq!(explained.first, last.answer.first);
    let said = "In an answer of the hook `f`, which forms the matches of the queue, 4 matches were ignored";
    assert_eq!(of_ignored(&explained, false), format!("{said}."));
    assert_eq!(of_ignored(&explained, true), format!("{said}: {}.", last.answer.first));
    assert_eq!(
        table.maker.explain(&ticket_id("ann"), table.time()).unwrap().ignored,
        None,
        "it waits no more"
    );
    answer(&mut table, 2, Some(vec![Err("a\u{1b}[2J".to_owned())]));
    assert_eq!(fault(&table.maker).problem, "matches[0]: a\\u{1b}[2J");
    let last = fault(&table.maker);
    assert_eq!((last.ignored, last.by_cause[&IgnoredCause::Malformed]), (5, 2));
    assert_eq!((last.answer.round, last.answer.count), (2, 1));
}

/// A thousand queues may have open rounds of a thousand tickets each at a start: effects only name rounds, and their
/// tickets are read when the hook is called.
#[test]
fn the_tickets_of_a_round_are_read_when_its_hook_is_called() {
    let mut table = Table::with(formed(OnFailure::Refuse));
    for who in ["ann", "bob", "cat"] {
        table.solo(who);
    }
    table.tick();
    let queue = queue_id("q");
    let specs: Vec<_> = ["ann", "bob", "cat"].map(|who| table.find(who).spec.clone()).into();
    let held = || specs.iter().map(std::sync::Arc::strong_count).collect::<Vec<_>>();
    let before = held();
    let outstanding = table.maker.outstanding();
    assert!(matches!(&outstanding[..], [Effect::FormMatches { round: 1, .. }]), "{outstanding:?}");
    assert_eq!(held(), before, "no ticket is in it");
    let asked = |table: &Table, round| {
        let tickets = table.maker.asked_about(&queue, round)?;
        Some(tickets.into_iter().map(|(id, _)| id.to_string()).collect::<Vec<_>>())
    };
    // Tickets that have left are not asked about; new ones are, in the next round.
    table.cancel("bob");
    table.solo("dan");
    assert_eq!(asked(&table, 1), Some(vec!["ann".to_owned(), "cat".to_owned()]));
    assert_eq!((asked(&table, 0), asked(&table, 2)), (None, None));
    answer(&mut table, 1, Some(vec![]));
    assert_eq!(asked(&table, 1), None, "it is over");
    table.tick();
    assert_eq!(asked(&table, 2).map(|asked| asked.len()), Some(3));
    // The same after a restart.
    table.restart();
    assert_eq!(asked(&table, 2).map(|asked| asked.len()), Some(3));
}
