//! Deadlines are met however much there is to form, in any queue; and matches are formed however much is due.

use sortie_domain::machine::Machine;
use sortie_domain::matchmaking::model::{Status, TicketSpec};
use sortie_domain::matchmaking::settings::{
    About, ExpirationAction, HookPoint, Need, OnFailure, Queue, Rule, RuleKind, WidenStep,
};
use sortie_domain::matchmaking::{Command, TicketVerdict};

use super::table::{Table, hook_id, outside, player_id, queue_id, rated, secs, settings, spec, ticket_id};

/// Ticks within which a deadline has to be met once it is due.
const TICKS: usize = 2;

/// A rule that no ticket meets and that is expensive to check, and 16 steps that make all tickets look again.
fn costly() -> Queue {
    let expression = "length(sort(map(&to_string(@), candidate.players[]))) > `1000`";
    let required =
        RuleKind::Expression { expression: expression.into(), about: About::Pair, need: Need::Required };
    let step = |n: u16| WidenStep { after: secs(u64::from(n)), value: f64::from(n) * 10.0 + 1.0 };
    let distance = RuleKind::Distance {
        property: "mmr".into(),
        measure: sortie_domain::matchmaking::settings::Measure::Average,
        most: 1.0,
        missing: 0.0,
    };
    let widening = Rule { widen: (1..=16).map(step).collect(), ..Rule::new("skill", distance) };
    Queue { rules: vec![Rule::new("costly", required), widening], ..Queue::default() }
}

fn of(queue: &str, who: &str) -> TicketSpec {
    TicketSpec { queue: queue_id(queue), ..rated(100.0, spec(&[who])) }
}

/// The number of ticks until `done`, at this time; `TICKS + 1` if it takes longer.
fn ticks_until(table: &mut Table, done: impl Fn(&Table) -> bool) -> usize {
    for ticks in 0..=TICKS {
        if done(table) {
            return ticks;
        }
        table.advance_once();
    }
    TICKS + 1
}

fn is_busy(table: &Table) -> bool {
    table.maker.next_deadline().is_some_and(|at| at <= table.time())
}

#[test]
fn a_backlog_of_one_queue_delays_no_deadline_of_another() {
    let accept = Queue { accept: Some(secs(2)), ..Queue::default() };
    let mut table = Table::configured(settings([("busy", costly()), ("q", accept)]));
    table.solo("ann");
    table.solo("bob");
    table.tick();
    let game = table.formation().id;
    for n in 0..1_500 {
        let who = format!("p{n:04}");
        table.start(&who, of("busy", &who));
    }
    for _ in 0..20 {
        table.now += 100;
        table.advance_once();
    }
    table.now += 300;
    assert!(is_busy(&table), "there is a backlog");
    let ended =
        ticks_until(&mut table, |table| table.maker.formations().all(|formation| formation.id != game));
    assert!(ended <= TICKS, "the accept step is over after {ended} ticks");
    assert_eq!((table.status("ann"), table.status("bob")), (Status::Cancelled, Status::Cancelled));
    assert!(is_busy(&table), "and the backlog is still there");
}

/// Four queues, each with a thousand tickets that are expensive to look at and demand less every second.
fn with_backlogs(queue: Queue) -> Table {
    let busy = ["busy 0", "busy 1", "busy 2", "busy 3"];
    let [a, b, c, d] = busy.map(|id| (id, costly()));
    let mut table = Table::configured(settings([a, b, c, d, ("q", queue)]));
    for n in 0..4_000 {
        let who = format!("p{n:04}");
        table.start(&who, of(busy[n % 4], &who));
    }
    for _ in 0..40 {
        table.now += 100;
        table.advance_once();
    }
    assert!(is_busy(&table), "there is a backlog");
    table
}

#[test]
fn a_backlog_of_other_queues_delays_no_match() {
    let mut table = with_backlogs(Queue::default());
    for n in 0..10 {
        let pair = [format!("a{n}"), format!("b{n}")];
        pair.iter().for_each(|who| drop(table.solo(who)));
        table.now += 100;
        let ticks = ticks_until(&mut table, |table| {
            pair.iter().all(|who| table.status(who) == Status::FindingServer)
        });
        assert!(ticks <= 1, "the match {n} is formed in the tick {ticks}");
        assert!(is_busy(&table), "and the backlog is still there");
    }
}

#[test]
fn a_backlog_of_other_queues_delays_nobody_whose_demands_relax() {
    let distance = RuleKind::Distance {
        property: "mmr".into(),
        measure: sortie_domain::matchmaking::settings::Measure::Average,
        most: 1.0,
        missing: 0.0,
    };
    let rule = Rule { relax_after: Some(secs(3)), ..Rule::new("skill", distance) };
    let mut table = with_backlogs(Queue { rules: vec![rule], ..Queue::default() });
    table.start("ann", rated(0.0, spec(&["ann"])));
    table.start("bob", rated(1_000.0, spec(&["bob"])));
    table.now += 2_999;
    table.advance_once();
    assert_eq!(table.status("ann"), Status::InProgress);
    table.now += 1;
    let ticks = ticks_until(&mut table, |table| table.status("ann") == Status::FindingServer);
    assert!(ticks <= 2, "{ticks}");
    assert!(is_busy(&table), "and the backlog is still there");
}

#[test]
fn a_backlog_of_other_queues_keeps_nobody_out_of_a_match_of_the_waiting_tickets() {
    let lobby = Queue { teams: 0, players_per_team: 0, ticket_expiration: secs(2), ..Queue::default() };
    let lobby = Queue { min_players_per_team: 1, expiration_action: ExpirationAction::Minimum, ..lobby };
    let mut table = with_backlogs(lobby);
    for who in ["ann", "bob", "eve"] {
        table.solo(who);
    }
    table.now += 100;
    table.advance_once();
    table.now += 1_900;
    let ticks = ticks_until(&mut table, |table| table.status("ann") == Status::FindingServer);
    assert!(ticks <= 1, "{ticks}");
    assert_eq!(table.formed().last().map(|teams| teams.concat().len()), Some(3));
    assert!(is_busy(&table), "and the backlog is still there");
}

#[test]
fn tickets_expire_in_spite_of_a_backlog_in_their_own_queue() {
    let queue = Queue { ticket_expiration: secs(3), ..costly() };
    let mut table = Table::configured(settings([("busy", queue)]));
    for n in 0..1_500 {
        let who = format!("p{n:04}");
        table.start(&who, of("busy", &who));
    }
    table.now += 3_000;
    assert!(is_busy(&table));
    let expired = ticks_until(&mut table, |table| table.status("p0000") == Status::TimedOut);
    assert!(expired <= TICKS, "{expired}");
}

#[test]
fn what_is_due_in_one_queue_delays_neither_another_nor_what_can_be_formed() {
    let many = Queue {
        teams: 2,
        players_per_team: 5,
        min_players_per_team: 5,
        ticket_expiration: secs(3),
        expiration_action: ExpirationAction::Minimum,
        rules: vec![Rule::new("code", RuleKind::Equal { property: "code".into() })],
        ..Queue::default()
    };
    let hook = outside("v", HookPoint::ValidateTicket, OnFailure::Refuse);
    let checked = Queue { hooks: vec![hook], ..Queue::default() };
    let mut table = Table::configured(settings([("a", many), ("q", Queue::default()), ("z", checked)]));
    table.start("zoe", of("z", "zoe"));
    table.advance(secs(2));
    for n in 0..3_000 {
        let who = format!("p{n:04}");
        let latest = TicketSpec { queue: queue_id("a"), ..with_code(n, &who) };
        table.start(&who, latest);
    }
    table.advance(secs(1));
    // The hook of another queue is as late as all of those.
    table.now += 2_000;
    table.solo("ann");
    table.solo("bob");
    let done =
        |table: &Table| table.status("zoe") == Status::Failed && table.status("ann") == Status::FindingServer;
    let ticks = ticks_until(&mut table, done);
    assert!(ticks <= TICKS, "{ticks}");
    assert_eq!(table.status("p2999"), Status::InProgress, "most of the others are still to be ended");
    let formed = Command::Decline { match_id: table.match_of("ann"), player: player_id("ann") };
    table.refused("nothing_to_accept", formed);
    assert!(table.maker.ticket(&ticket_id("p0000")).is_some());
}

fn with_code(n: usize, who: &str) -> TicketSpec {
    super::table::with_properties(&format!(r#"{{"code":{n}}}"#), spec(&[who]))
}

/// The next deadline is the first of all queues, whatever has changed in them.
#[test]
fn the_first_deadline_of_all_queues_is_known_after_every_change() {
    let lasting = |seconds| Queue { ticket_expiration: secs(seconds), ..Queue::default() };
    let hooks = vec![outside("v", HookPoint::ValidateTicket, OnFailure::Refuse)];
    let asking = Queue { hooks, ..lasting(900) };
    let mut table = Table::configured(settings([
        ("asking", asking.clone()),
        ("long", lasting(300)),
        ("short", lasting(100)),
    ]));
    let begin = table.now;
    // In milliseconds, once nothing is left to be formed.
    let next = |table: &mut Table| {
        table.tick();
        table.maker.next_deadline().expect("something is due").as_millis() - begin
    };
    table.start("a", of("long", "a"));
    assert_eq!(next(&mut table), 300_000);
    table.start("b", of("short", "b"));
    assert_eq!(next(&mut table), 150 + 100_000);
    table.start("c", of("asking", "c"));
    assert_eq!(next(&mut table), 300 + 5_000, "the hook has five seconds");
    let (ticket, hook, outcome) = (ticket_id("c"), hook_id("v"), TicketVerdict::ACCEPT);
    table.done(Command::TicketValidated { ticket, hook, outcome });
    assert_eq!(next(&mut table), 150 + 100_000);
    table.cancel("b");
    assert_eq!(next(&mut table), 300_000);
    let shorter = settings([("asking", asking.clone()), ("long", lasting(50))]);
    table.done(Command::Reconfigure { settings: shorter });
    assert_eq!(next(&mut table), 50_000, "by the settings in force");
    table.done(Command::Reconfigure { settings: settings([("asking", asking)]) });
    assert_eq!(next(&mut table), 50_000, "a queue that is gone keeps its settings");
    table.restart();
    assert_eq!(next(&mut table), 50_000);
    table.cancel("a");
    assert_eq!(next(&mut table), 300 + 900_000);
}
