//! Players who wait in several queues: the first match wins, and a dissolved match costs nobody their place.

use sortie_domain::ids::MatchId;
use sortie_domain::machine::Machine as _;
use sortie_domain::matchmaking::model::{CancelCause, SeatOffer, Status, TicketEnd, TicketSpec, TicketState};
use sortie_domain::matchmaking::settings::{Backfill, Hook, HookPoint, OnFailure, Queue, Settings};
use sortie_domain::matchmaking::{Command, Effect, Event, FormedMatch, TicketVerdict, words};

use super::table::{
    Table, at, hook_id, outside, player_id, queue_id, region, secs, settings, spec, ticket_id,
    with_properties,
};

fn within(queues_per_player: u32, settings: Settings) -> Table {
    Table::configured(Settings { queues_per_player, ..settings })
}

/// Queues `q` and `r`, of two players each.
fn two_queues(queue: Queue) -> Table {
    within(2, settings([("q", queue.clone()), ("r", queue)]))
}

fn of(queue: &str, players: &[&str]) -> TicketSpec {
    TicketSpec { queue: queue_id(queue), ..spec(players) }
}

/// A ticket in `r` with its own name.
fn also(table: &mut Table, who: &str) -> String {
    let id = format!("{who} in r");
    table.start(&id, of("r", &[who]));
    id
}

fn is_on_hold(table: &Table, id: &str) -> bool {
    matches!(table.find(id).state, TicketState::OnHold { .. })
}

fn matched_elsewhere(table: &Table, id: &str) -> bool {
    let end = TicketEnd::Cancelled(CancelCause::MatchedElsewhere);
    matches!(&table.find(id).state, TicketState::Over { end: of, .. } if *of == end)
}

fn decline(table: &mut Table, who: &str) {
    let match_id = table.match_of(who);
    table.ok(Command::Decline { match_id, player: player_id(who) });
}

#[test]
fn a_player_waits_in_as_many_queues_as_are_allowed_and_once_in_each() {
    let queue = || Queue { players_per_team: 5, ..Queue::default() };
    let mut table = within(2, settings([("q", queue()), ("r", queue()), ("s", queue())]));
    table.solo("ann");
    let text = table.refused("player_waits", Command::Start { id: None, spec: of("q", &["ann", "bob"]) });
    assert!(text.contains("player ann") && text.contains("ticket ann"), "{text}");
    table.start("two", of("r", &["bob", "ann"]));
    table.refused("player_waits", Command::Start { id: None, spec: of("s", &["ann"]) });
    let own: Vec<String> =
        table.maker.tickets_of(&player_id("ann")).map(|ticket| ticket.id.to_string()).collect();
    assert_eq!(own, ["ann", "two"]);
    table.cancel("two");
    assert_eq!(table.status("ann"), Status::InProgress, "the other one stays");
    table.start("three", of("s", &["ann"]));
    // With a smaller number, existing tickets stay.
    let fewer =
        Settings { queues_per_player: 1, ..settings([("q", queue()), ("r", queue()), ("s", queue())]) };
    table.done(Command::Reconfigure { settings: fewer });
    table.cancel("three");
    table.refused("player_waits", Command::Start { id: None, spec: of("s", &["ann"]) });
    for wrong in [0, 5] {
        let settings = Settings { queues_per_player: wrong, ..Settings::default() };
        let text = table.refused("invalid_field", Command::Reconfigure { settings });
        assert!(text.contains("`queues_per_player` must be 1 to 4"), "{text}");
    }
}

#[test]
fn the_first_match_wins_and_the_others_end_when_the_players_can_connect() {
    let mut table = two_queues(Queue::default());
    table.solo("ann");
    let other = also(&mut table, "ann");
    table.solo("bob");
    table.tick();
    assert_eq!(table.formed().len(), 1);
    assert!(is_on_hold(&table, &other));
    let told = table.maker.explain(&ticket_id(&other), table.time()).unwrap();
    assert!(told.on_hold && told.ahead.is_none() && told.expires_at.is_none(), "{told:?}");
    assert!(words::summary(&told, table.time()).starts_with(words::ON_HOLD));
    // A suitable player arrives.
    table.start("cat", of("r", &["cat"]));
    table.advance(secs(200));
    assert!(is_on_hold(&table, &other), "it does not expire");
    assert_eq!(table.formed().len(), 1);
    let (id, before) = (table.match_of("ann"), table.log.len());
    table.ready(&id);
    assert_eq!(table.log.len(), before + 2, "both in one step");
    assert!(matched_elsewhere(&table, &other));
    assert_eq!(table.heard(&other), [Status::InProgress, Status::Cancelled]);
    let told = table.maker.explain(&ticket_id(&other), table.time()).unwrap();
    let text = words::summary(&told, table.time());
    assert_eq!(text, "the ticket was cancelled: one of its players got a match in another queue");
    also(&mut table, "ann");
}

#[test]
fn a_match_that_comes_to_nothing_gives_the_others_back_with_their_places() {
    let mut table = two_queues(Queue { ticket_expiration: secs(60), max_requeues: 9, ..Queue::default() });
    table.solo("ann");
    let other = also(&mut table, "ann");
    table.start("young", of("r", &["young"]));
    table.cancel("young");
    let before = table.find(&other).clone();
    table.advance(secs(10));
    table.solo("bob");
    table.tick();
    table.advance(secs(100));
    let id = table.match_of("ann");
    table.no_server(&id);
    let after = table.find(&other).clone();
    assert_eq!((&after.state, after.place), (&TicketState::Waiting, before.place));
    let waited = table.time().since(after.waits_since);
    assert!(waited >= secs(10) && waited < secs(11), "the time on hold does not count: {waited:?}");
    // The same two go together again in `q`, unless `r` is faster.
    table.cancel("bob");
    table.start("cat", of("r", &["cat"]));
    table.tick();
    assert_eq!(table.together().last().unwrap(), &super::table::ids(&[&other, "cat"]));
    assert!(is_on_hold(&table, "ann"));
    table.cancel("cat");
    table.advance(secs(49));
    assert_eq!(table.status("ann"), Status::InProgress);
    table.advance(secs(2));
    assert_eq!((table.status("ann"), table.status(&other)), (Status::TimedOut, Status::TimedOut));
}

#[test]
fn nobody_is_asked_about_two_matches_and_who_declines_waits_on_elsewhere() {
    let mut table = two_queues(Queue { accept: Some(secs(20)), ..Queue::default() });
    table.solo("ann");
    table.solo("bob");
    let (of_ann, of_bob) = (also(&mut table, "ann"), also(&mut table, "bob"));
    table.tick();
    assert_eq!(table.maker.formations().count(), 1, "two pairs, and one match at a time");
    assert!(is_on_hold(&table, &of_ann) && is_on_hold(&table, &of_bob));
    decline(&mut table, "bob");
    assert_eq!(table.status("bob"), Status::Cancelled);
    table.tick();
    // In `r` they meet again.
    assert_eq!(table.match_of(&of_ann), table.match_of(&of_bob));
    assert!(is_on_hold(&table, "ann"));
    table.advance(secs(21));
    for id in [&of_ann, &of_bob] {
        assert_eq!(table.status(id), Status::Cancelled, "nobody has answered");
    }
    assert_eq!(table.find("ann").state, TicketState::Waiting);
}

#[test]
fn a_party_is_on_hold_while_any_of_its_players_is_in_a_match() {
    let mut table = two_queues(Queue { players_per_team: 2, min_players_per_team: 1, ..Queue::default() });
    let one = || Queue::default();
    table.done(Command::Reconfigure {
        settings: Settings {
            queues_per_player: 2,
            ..settings([("q", one()), ("r", Queue { players_per_team: 2, ..one() })])
        },
    });
    table.start("party", of("r", &["ann", "bob"]));
    for who in ["ann", "cat", "bob", "dan"] {
        table.solo(who);
        table.tick();
    }
    let (of_ann, of_bob) = (table.match_of("ann"), table.match_of("bob"));
    assert_ne!(of_ann, of_bob);
    table.cancel("cat");
    assert!(is_on_hold(&table, "party"), "bob is still in a match");
    table.restart();
    assert!(is_on_hold(&table, "party"));
    table.ready(&of_bob);
    assert!(matched_elsewhere(&table, "party"));
    assert_eq!(table.status("ann"), Status::InProgress, "her own ticket waits on");
}

#[test]
fn a_ticket_that_comes_while_its_player_is_in_a_match_is_on_hold_from_the_beginning() {
    let hooks = vec![outside("v", HookPoint::ValidateTicket, OnFailure::Accept)];
    let mut table =
        within(2, settings([("q", Queue::default()), ("r", Queue { hooks, ..Queue::default() })]));
    table.solo("ann");
    table.solo("bob");
    table.tick();
    let other = also(&mut table, "ann");
    assert!(matches!(table.find(&other).state, TicketState::Validating(_)));
    let (ticket, hook) = (ticket_id(&other), hook_id("v"));
    table.done(Command::TicketValidated { ticket, hook, outcome: TicketVerdict::ACCEPT });
    assert!(is_on_hold(&table, &other));
    table.cancel(&other);
    assert_eq!(table.status("ann"), Status::FindingServer, "its match goes on");
    let other = also(&mut table, "bob");
    let id = table.match_of("ann");
    table.ready(&id);
    assert!(matched_elsewhere(&table, &other), "also while a hook looks at it");
}

#[test]
fn free_seats_win_too() {
    let open = Queue { backfill: Backfill::First, ..Queue::default() };
    let mut table = two_queues(open);
    table.solo("ann");
    let other = also(&mut table, "ann");
    table.tick();
    let match_id = MatchId::new("running").unwrap();
    let offer = SeatOffer {
        match_id: match_id.clone(),
        queue: queue_id("q"),
        seats: 1,
        region: Some(region("eu")),
        properties: Default::default(),
        ratings: Default::default(),
        players: Vec::new(),
    };
    table.done(Command::OfferSeats { offer: offer.clone() });
    table.tick();
    assert!(is_on_hold(&table, &other));
    table.done(Command::NotSeated { ticket: ticket_id("ann"), match_id: match_id.clone() });
    assert_eq!(table.find(&other).state, TicketState::Waiting);
    table.done(Command::OfferSeats { offer });
    table.tick();
    table.done(Command::Seated { ticket: ticket_id("ann"), match_id, connection: at("here") });
    assert!(matched_elsewhere(&table, &other));
}

#[test]
fn without_a_server_the_others_end_at_once() {
    let hooks = vec![Hook::PeerToPeerHost("address".into())];
    let mut table = two_queues(Queue { hooks, ..Queue::default() });
    let mut hosted = with_properties("", of("q", &["ann"]));
    let address = sortie_domain::properties::Properties::parse(r#"{"address":"here"}"#).unwrap();
    hosted.parties[0].players[0].properties = address;
    table.start("ann", hosted);
    let other = also(&mut table, "ann");
    table.solo("bob");
    table.tick();
    assert_eq!(table.status("ann"), Status::Completed);
    assert!(matched_elsewhere(&table, &other));
}

#[test]
fn a_hook_sends_nobody_twice_into_one_queue() {
    let hooks = vec![outside("v", HookPoint::ValidateTicket, OnFailure::Accept)];
    let mut table =
        within(2, settings([("q", Queue::default()), ("r", Queue { hooks, ..Queue::default() })]));
    table.solo("ann");
    let other = also(&mut table, "ann");
    let outcome =
        TicketVerdict::Accept { queue: Some(queue_id("q")), properties: None, ratings: Default::default() };
    table.done(Command::TicketValidated { ticket: ticket_id(&other), hook: hook_id("v"), outcome });
    assert_eq!(table.status(&other), Status::Failed);
    let state = format!("{:?}", table.find(&other).state);
    assert!(state.contains("player ann is in ticket ann"), "{state}");
    // Built-in hooks are no exception.
    let routes = Hook::QueueByPartySize([(1, queue_id("q"))].into());
    let routing = Queue { hooks: vec![routes], ..Queue::default() };
    let settings = settings([("q", Queue::default()), ("r", routing)]);
    table.done(Command::Reconfigure { settings: Settings { queues_per_player: 2, ..settings } });
    table.refused("player_waits", Command::Start { id: None, spec: of("r", &["ann"]) });
}

#[test]
fn a_hook_that_forms_matches_is_not_asked_about_tickets_on_hold() {
    let hooks = vec![outside("f", HookPoint::FormMatch, OnFailure::Refuse)];
    let mut table =
        within(2, settings([("q", Queue::default()), ("r", Queue { hooks, ..Queue::default() })]));
    let other = also(&mut table, "ann");
    table.start("cat", of("r", &["cat"]));
    table.tick();
    let asked = |table: &Table| match table.effects.last() {
        Some(Effect::FormMatches { queue, round, .. }) => {
            (*round, table.maker.asked_about(queue, *round).expect("the round is open").len())
        }
        effect => panic!("{effect:?}"),
    };
    let (round, count) = asked(&table);
    assert_eq!(count, 2);
    table.solo("ann");
    table.solo("bob");
    table.tick();
    assert!(is_on_hold(&table, &other));
    // It was asked before, and its answer comes too late.
    let formed = FormedMatch { teams: vec![vec![ticket_id(&other)], vec![ticket_id("cat")]], region: None };
    table.ok(Command::MatchesFormed { queue: queue_id("r"), round, matches: Some(vec![Ok(formed)]) });
    assert_eq!(table.maker.formations().count(), 1);
    table.advance(secs(6));
    let (_, count) = asked(&table);
    assert_eq!(count, 1, "only about the one that waits");
}

#[test]
fn to_agree_to_a_match_renews_all_tickets_of_a_player() {
    let mut table = two_queues(Queue { accept: Some(secs(20)), ..Queue::default() });
    let kept = |queue| TicketSpec { ttl: Some(secs(10)), ..of(queue, &["ann"]) };
    table.start("ann", kept("q"));
    table.start("other", kept("r"));
    table.solo("bob");
    table.tick();
    table.advance(secs(8));
    let match_id = table.match_of("ann");
    table.ok(Command::Accept { match_id, player: player_id("ann") });
    table.advance(secs(8));
    assert!(is_on_hold(&table, "other"));
    table.advance(secs(3));
    assert_eq!((table.status("ann"), table.status("other")), (Status::Cancelled, Status::Cancelled));
}

/// Many players wait in the same four queues: all find a match, and nobody finds two.
#[test]
fn a_crowd_in_four_queues_finds_its_matches_once() {
    let names = ["q", "r", "s", "t"];
    let queue = || Queue { players_per_team: 2, min_players_per_team: 2, ..Queue::default() };
    let mut table = within(4, settings(names.map(|name| (name, queue()))));
    for number in 0..400 {
        let who = format!("p{number}");
        for name in names {
            table.start(&format!("{who} in {name}"), of(name, &[&who]));
        }
    }
    table.advance(secs(5));
    assert_eq!(table.formed().len(), 100);
    let ids: Vec<MatchId> = table.maker.formations().map(|formation| formation.id.clone()).collect();
    ids.iter().for_each(|id| table.ready(id));
    assert!(table.maker.tickets(0, 10).items.is_empty());
}

/// Up to three other tickets for each of a thousand players: more than one step may end. Nobody hears that they can
/// connect while one of them is left, and after a restart the remaining ones end as well.
#[test]
fn very_many_other_tickets_end_over_several_steps_before_the_players_can_connect() {
    let queue = |size| Queue { players_per_team: size, min_players_per_team: size, ..Queue::default() };
    let names = ["q", "r", "s", "t"];
    let mut table = within(4, settings(names.map(|name| (name, queue(if name == "q" { 300 } else { 500 })))));
    for name in names {
        for number in 0..600 {
            let who = format!("p{number}");
            table.start(&format!("{who} in {name}"), of(name, &[&who]));
        }
    }
    table.advance(secs(1));
    let id = table.formation().id;
    let cancelled = |table: &Table| {
        let events = table.log.iter().map(|record| &record.event);
        events.filter(|event| matches!(event, Event::TicketCancelled { .. })).count()
    };
    let is_ready =
        |table: &Table| table.log.iter().any(|record| matches!(record.event, Event::MatchReady { .. }));
    table.ready(&id);
    let first = cancelled(&table);
    assert!((1..1_800).contains(&first) && !is_ready(&table), "{first}");
    table.advance_once();
    let second = cancelled(&table);
    assert!((first + 1..1_800).contains(&second) && !is_ready(&table), "{second}");
    // After a restart, the connection details are sent again.
    table.restart();
    assert_eq!(table.status("p0 in q"), Status::FindingServer);
    table.ready(&id);
    table.advance(secs(1));
    assert_eq!((cancelled(&table), is_ready(&table)), (1_800, true));
    let last = table.log.iter().rposition(|record| matches!(record.event, Event::TicketCancelled { .. }));
    let ready = table.log.iter().position(|record| matches!(record.event, Event::MatchReady { .. }));
    assert!(last < ready, "nobody waits elsewhere who can connect");
    assert!(table.maker.tickets(0, 10).items.is_empty());
    assert!(matched_elsewhere(&table, "p599 in t"));
}

/// The same for players who connect to one of them: nothing is submitted, and a restart loses nothing.
#[test]
fn very_many_other_tickets_of_a_match_without_a_server_end_over_several_steps() {
    let queue =
        |size, hooks| Queue { players_per_team: size, min_players_per_team: size, hooks, ..Queue::default() };
    let hosted = vec![Hook::PeerToPeerHost("address".into())];
    let names = ["q", "r", "s", "t"];
    let all = names.map(|name| match name {
        "q" => (name, queue(300, hosted.clone())),
        _ => (name, queue(500, Vec::new())),
    });
    let mut table = within(4, settings(all));
    let address = sortie_domain::properties::Properties::parse(r#"{"address":"here"}"#).unwrap();
    for name in names {
        for number in 0..600 {
            let who = format!("p{number}");
            let mut spec = of(name, &[&who]);
            spec.parties[0].players[0].properties = address.clone();
            table.start(&format!("{who} in {name}"), spec);
        }
    }
    let count = |table: &Table, wanted: fn(&Event) -> bool| {
        table.log.iter().filter(|record| wanted(&record.event)).count()
    };
    let cancelled = |table: &Table| count(table, |event| matches!(event, Event::TicketCancelled { .. }));
    let ready = |table: &Table| count(table, |event| matches!(event, Event::MatchReady { .. }));
    while table.maker.formations().count() == 0 {
        table.now += 100;
        table.advance_once();
    }
    let first = cancelled(&table);
    assert!(first < 1_800 && ready(&table) == 0, "{first}");
    table.advance_once();
    let second = cancelled(&table);
    assert!((first + 1..1_800).contains(&second) && ready(&table) == 0, "{second}");
    table.restart();
    table.advance(secs(1));
    assert_eq!((cancelled(&table), ready(&table)), (1_800, 1));
    assert!(table.effects.iter().all(|effect| !matches!(effect, Effect::Submit { .. })));
    assert!(table.maker.outstanding().is_empty());
    let last = table.log.iter().rposition(|record| matches!(record.event, Event::TicketCancelled { .. }));
    let told = table.log.iter().position(|record| matches!(record.event, Event::MatchReady { .. }));
    assert!(last < told, "nobody waits elsewhere who can connect");
    assert_eq!(table.status("p0 in q"), Status::Completed);
}

/// The match ends before all other tickets have: the rest of them waits again.
#[test]
fn a_match_that_ends_while_other_tickets_are_cancelled_gives_the_rest_back() {
    let queue = |size| Queue { players_per_team: size, min_players_per_team: size, ..Queue::default() };
    let mut table = within(2, settings([("q", queue(300)), ("r", queue(500))]));
    for name in ["q", "r"] {
        for number in 0..600 {
            let who = format!("p{number}");
            table.start(&format!("{who} in {name}"), of(name, &[&who]));
        }
    }
    table.advance(secs(1));
    let id = table.formation().id;
    table.ready(&id);
    assert!(!table.maker.tickets(0, 10).items.is_empty());
    table.done(Command::MatchEnded { match_id: id, reason: "it crashed".into() });
    assert!(table.maker.waiting(&queue_id("r")) > 0, "they are on hold no more");
    table.advance(secs(1));
    let again = table.formation().id;
    assert!(!table.log.iter().any(|record| matches!(record.event, Event::MatchReady { .. })));
    table.ready(&again);
    table.advance(secs(1));
    assert!(table.maker.tickets(0, 10).items.is_empty());
}
