use std::collections::BTreeMap;

use sortie_domain::ids::{IdempotencyKey, TicketId};
use sortie_domain::machine::Machine;
use sortie_domain::matchmaking::match_lifecycle::MAX_FORMED_TICKETS;
use sortie_domain::matchmaking::model::{Status, TicketSpec};
use sortie_domain::matchmaking::settings::{Hook, HookPoint, OnFailure, Queue, Settings};
use sortie_domain::matchmaking::{Command, Effect, FormedMatch, MatchVerdict, Reply, TicketVerdict};
use sortie_domain::properties::Properties;

use super::table::{
    Table, hook_id, ids, outside, player_id, queue_id, rated, secs, settings, spec, ticket_id,
    with_properties,
};

fn hooked(hooks: Vec<Hook>) -> Queue {
    Queue { hooks, ..Queue::default() }
}

fn validated(table: &mut Table, who: &str, hook: &str, outcome: TicketVerdict) {
    table.done(Command::TicketValidated { ticket: ticket_id(who), hook: hook_id(hook), outcome });
}

fn accept() -> TicketVerdict {
    TicketVerdict::ACCEPT
}

#[test]
fn validation_hooks_of_matchmaker_and_queue_are_asked_one_after_another() {
    let own = hooked(vec![outside("own", HookPoint::ValidateTicket, OnFailure::Accept)]);
    let hooks = vec![outside("all", HookPoint::ValidateTicket, OnFailure::Accept)];
    let mut table = Table::configured(Settings { hooks, ..settings([("q", own)]) });
    table.solo("ann");
    let asked = |table: &Table| match &table.maker.outstanding()[..] {
        [Effect::ValidateTicket { hook, .. }] => hook.to_string(),
        other => panic!("{other:?}"),
    };
    assert_eq!(asked(&table), "all");
    validated(&mut table, "ann", "own", TicketVerdict::Refuse { reason: "too early".into() });
    assert_eq!(table.status("ann"), Status::InProgress, "that one was not asked");
    let properties = Properties::parse(r#"{"checked":true}"#).ok();
    validated(
        &mut table,
        "ann",
        "all",
        TicketVerdict::Accept { queue: None, properties, ratings: BTreeMap::new() },
    );
    table.restart();
    assert_eq!(asked(&table), "own");
    validated(&mut table, "ann", "own", accept());
    assert_eq!(table.maker.waiting(&queue_id("q")), 1);
    assert_eq!(table.find("ann").spec.properties.text(), Some(r#"{"checked":true}"#));
    assert_eq!(table.heard("ann"), [Status::InProgress]);
}

#[test]
fn a_hook_says_what_its_players_are_worth() {
    let hook = outside("v", HookPoint::ValidateTicket, OnFailure::Accept);
    let mut table = Table::with(hooked(vec![hook]));
    let order =
        TicketSpec { idempotency_key: IdempotencyKey::new("k").ok(), ..rated(9_000.0, spec(&["ann"])) };
    table.start("ann", order.clone());
    let mmr = |rating: f64| [("mmr".into(), rating)].into();
    let ratings = [(player_id("ann"), mmr(1_500.0)), (player_id("stranger"), mmr(1.0))].into();
    let outcome = TicketVerdict::Accept { queue: None, properties: None, ratings };
    validated(&mut table, "ann", "v", outcome);
    table.restart();
    let rating = |table: &Table| table.find("ann").spec.players().next().unwrap().ratings["mmr"];
    assert_eq!(rating(&table), 1_500.0);
    // Changes by a hook do not make it a different order.
    let again = table.ok(Command::Start { id: None, spec: order });
    assert_eq!(again, Reply::Started { ticket: ticket_id("ann") });

    table.start("bob", spec(&["bob"]));
    let ratings = [(player_id("bob"), mmr(f64::INFINITY))].into();
    let outcome = TicketVerdict::Accept { queue: None, properties: None, ratings };
    validated(&mut table, "bob", "v", outcome);
    assert_eq!(table.status("bob"), Status::Failed, "no number");
}

#[test]
fn a_refused_ticket_fails_with_the_hooks_words() {
    let mut table = Table::with(hooked(vec![outside("v", HookPoint::ValidateTicket, OnFailure::Accept)]));
    table.solo("ann");
    validated(&mut table, "ann", "v", TicketVerdict::Refuse { reason: "you are banned".into() });
    assert_eq!(table.status("ann"), Status::Failed);
    assert!(format!("{:?}", table.find("ann").state).contains("you are banned"));
}

#[test]
fn a_hook_that_fails_or_is_silent_is_replaced_by_its_default() {
    for (on_failure, silent, status) in [
        (OnFailure::Accept, true, Status::InProgress),
        (OnFailure::Accept, false, Status::InProgress),
        (OnFailure::Refuse, true, Status::Failed),
        (OnFailure::Refuse, false, Status::Failed),
    ] {
        let mut table = Table::with(hooked(vec![outside("v", HookPoint::ValidateTicket, on_failure)]));
        table.solo("ann");
        if silent {
            table.advance(secs(6));
        } else {
            validated(&mut table, "ann", "v", TicketVerdict::Failed);
        }
        assert_eq!(table.status("ann"), status);
        let waiting = usize::from(status == Status::InProgress);
        assert_eq!(table.maker.waiting(&queue_id("q")), waiting);
    }
}

#[test]
fn a_hook_of_one_queue_does_not_delay_another() {
    let slow = hooked(vec![outside("slow", HookPoint::FormMatch, OnFailure::Refuse)]);
    let mut table = Table::configured(settings([("slow", slow), ("q", Queue::default())]));
    table.start("s", TicketSpec { queue: queue_id("slow"), ..spec(&["s"]) });
    table.solo("ann");
    table.solo("bob");
    table.tick();
    assert_eq!(table.together(), [ids(&["ann", "bob"])]);
}

#[test]
fn a_hook_chooses_the_queue_by_party_size() {
    let sizes = BTreeMap::from([(1, queue_id("solos")), (2, queue_id("duos"))]);
    let duos = Queue { players_per_team: 2, min_players_per_team: 2, ..Queue::default() };
    let any = Queue { players_per_team: 0, teams: 0, ..hooked(vec![Hook::QueueByPartySize(sizes)]) };
    let mut table = Table::configured(settings([("q", any), ("solos", Queue::default()), ("duos", duos)]));
    table.solo("ann");
    table.start("duo", spec(&["bob", "cat"]));
    assert_eq!(table.find("ann").queue, queue_id("solos"));
    assert_eq!(table.find("duo").queue, queue_id("duos"));
    let text = table.refused("ticket_refused", Command::Start { id: None, spec: spec(&["x", "y", "z"]) });
    assert!(text.contains("parties of 3"), "{text}");
}

#[test]
fn hooks_that_send_tickets_in_a_circle_are_refused() {
    let to = |queue: &str| Hook::QueueByPartySize(BTreeMap::from([(1, queue_id(queue))]));
    let mut table = Table::with(Queue::default());
    let circle = settings([("a", hooked(vec![to("b")])), ("b", hooked(vec![to("a")]))]);
    let text = table.refused("invalid_field", Command::Configure { settings: circle });
    assert!(text.contains("sends them on"), "{text}");
    let nowhere = settings([("a", hooked(vec![to("nowhere")]))]);
    table.refused("invalid_field", Command::Configure { settings: nowhere });
    let twice = vec![
        outside("v", HookPoint::ValidateTicket, OnFailure::Accept),
        outside("v", HookPoint::NewMatch, OnFailure::Accept),
    ];
    table.refused("invalid_field", Command::Configure { settings: settings([("a", hooked(twice))]) });
}

#[test]
fn team_data_and_party_membership_are_written_into_properties() {
    let hooks = vec![Hook::TeamData, Hook::PartyMembership];
    let queue = Queue { players_per_team: 2, min_players_per_team: 2, ..hooked(hooks) };
    let mut table = Table::with(queue);
    let text = table.refused("ticket_refused", Command::Start { id: None, spec: spec(&["a", "b"]) });
    assert!(text.contains("leader"), "{text}");
    table.start("duo", TicketSpec { leader: Some(player_id("a")), ..spec(&["a", "b"]) });
    table.solo("c");
    table.solo("d");
    table.tick();
    let spec = table.formation().spec;
    let match_properties = spec.properties.text().unwrap();
    assert!(match_properties.contains(r#""teams":[["a","b"],["c","d"]]"#), "{match_properties}");
    let of = |who: &str| spec.player_properties[&player_id(who)].text().unwrap().to_owned();
    assert!(of("b").contains(r#""leader":"a""#) && of("b").contains(r#""players":["a","b"]"#), "{}", of("b"));
    assert!(of("d").contains(r#""team":1"#), "{}", of("d"));
}

#[test]
fn a_peer_to_peer_match_needs_no_server() {
    let mut table = Table::with(hooked(vec![Hook::PeerToPeerHost("address".into())]));
    let mut host = spec(&["host"]);
    host.parties[0].players[0].properties = Properties::parse(r#"{"address":"198.51.100.4:7000"}"#).unwrap();
    table.start("host", host);
    table.solo("guest");
    table.tick();
    assert_eq!((table.status("host"), table.status("guest")), (Status::Completed, Status::Completed));
    assert!(format!("{:?}", table.find("guest").state).contains("198.51.100.4:7000"));
    assert!(table.effects.is_empty(), "{:?}", table.effects);
    assert_eq!(table.heard("guest"), [Status::InProgress, Status::FindingServer, Status::Completed]);
    table.solo("ann");
    table.solo("bob");
    table.tick();
    assert_eq!(table.status("ann"), Status::Failed, "ann has no address");
}

#[test]
fn a_peer_s_address_holds_nothing_that_deceives_a_terminal() {
    let mut table = Table::with(hooked(vec![Hook::PeerToPeerHost("address".into())]));
    let mut host = spec(&["host"]);
    host.parties[0].players[0].properties =
        Properties::parse(r#"{"address":"198.51.100.4:7000\u001b[2J"}"#).unwrap();
    table.start("host", host);
    table.solo("guest");
    table.tick();
    assert_eq!(table.status("guest"), Status::Failed);
    assert!(!format!("{:?}", table.find("guest").state).contains("198.51"));
}

#[test]
fn a_hook_may_change_or_refuse_a_new_match() {
    let hooks = vec![
        Hook::TeamData,
        outside("one", HookPoint::NewMatch, OnFailure::Accept),
        outside("two", HookPoint::NewMatch, OnFailure::Refuse),
    ];
    let mut table = Table::with(hooked(hooks));
    table.solo("ann");
    table.solo("bob");
    table.tick();
    let id = table.formation().id;
    let Some(Effect::CheckMatch { hook, spec: seen, .. }) = table.effects.last() else { panic!() };
    assert_eq!(hook.as_str(), "one");
    assert!(
        seen.properties.text().unwrap().contains("teams"),
        "built-in hooks before it have had their turn"
    );
    assert_eq!(table.status("ann"), Status::InProgress);
    let outcome = MatchVerdict::Accept {
        properties: Properties::parse(r#"{"map":"arena"}"#).ok(),
        player_properties: BTreeMap::from([(player_id("stranger"), Properties::default())]),
    };
    table.done(Command::MatchChecked { match_id: id.clone(), hook: hook_id("one"), outcome });
    let Some(Effect::CheckMatch { hook, spec: seen, .. }) = table.effects.last() else { panic!() };
    assert_eq!((hook.as_str(), seen.properties.text()), ("two", Some(r#"{"map":"arena"}"#)));
    assert!(!seen.player_properties.contains_key(&player_id("stranger")));
    // The second does not answer, and its default is to refuse.
    table.advance(secs(6));
    assert_eq!((table.status("ann"), table.status("bob")), (Status::Failed, Status::Failed));
    assert_eq!(table.maker.formations().count(), 0);
}

fn formed_by_hook(on_failure: OnFailure) -> Table {
    let mut table = Table::with(hooked(vec![outside("f", HookPoint::FormMatch, on_failure)]));
    for who in ["ann", "bob", "cat"] {
        table.solo(who);
    }
    table.tick();
    table
}

fn round(table: &Table) -> (u64, Vec<String>) {
    match &table.maker.outstanding()[..] {
        [Effect::FormMatches { queue, round, .. }] => {
            let tickets = table.maker.asked_about(queue, *round).expect("the round is open");
            (*round, tickets.iter().map(|(id, _)| id.to_string()).collect())
        }
        other => panic!("{other:?}"),
    }
}

fn pair(one: &str, other: &str) -> Result<FormedMatch, String> {
    Ok(FormedMatch { teams: vec![vec![ticket_id(one)], vec![ticket_id(other)]], region: None })
}

#[test]
fn a_hook_forms_matches_of_the_tickets_it_is_given() {
    let mut table = formed_by_hook(OnFailure::Refuse);
    let (number, tickets) = round(&table);
    assert_eq!(tickets, ["ann", "bob", "cat"]);
    assert_eq!(table.formed().len(), 0, "the queue's rules do not form anything");
    let matches = Some(vec![
        pair("ann", "cat"),
        pair("bob", "cat"),
        pair("bob", "bob"),
        Ok(FormedMatch { teams: vec![vec![ticket_id("bob")]], region: None }),
        pair("bob", "nobody"),
    ]);
    let formed = Command::MatchesFormed { queue: queue_id("q"), round: number, matches: matches.clone() };
    let Reply::Formed { taken, ignored, .. } = table.ok(formed) else { panic!() };
    assert_eq!((taken, ignored.len()), (1, 4), "{ignored:?}");
    assert_eq!(table.together(), [ids(&["ann", "cat"])]);
    // Repeating it counts only once.
    table.done(Command::MatchesFormed { queue: queue_id("q"), round: number, matches });
    assert_eq!(table.formed().len(), 1);
    table.tick();
    assert_eq!(
        table.maker.outstanding().len(),
        1,
        "without news there is no new round so soon, only the match to submit"
    );
    table.solo("dan");
    table.tick();
    let rounds = table.maker.outstanding();
    assert!(rounds.iter().any(|effect| matches!(effect, Effect::FormMatches { round: 2, .. })), "{rounds:?}");
}

#[test]
fn where_a_hook_does_not_form_matches_the_rules_may() {
    let mut table = formed_by_hook(OnFailure::Accept);
    table.advance(secs(6));
    assert_eq!(table.together(), [ids(&["ann", "bob"])]);
    let mut table = formed_by_hook(OnFailure::Refuse);
    table.advance(secs(6));
    assert_eq!(table.formed().len(), 0);
}

#[test]
fn a_validated_ticket_that_does_not_fit_its_queue_fails() {
    let mut table = Table::configured(settings([
        (
            "q",
            Queue {
                teams: 0,
                players_per_team: 0,
                ..hooked(vec![outside("v", HookPoint::ValidateTicket, OnFailure::Accept)])
            },
        ),
        ("solos", Queue::default()),
    ]));
    table.start("duo", with_properties("{}", spec(&["a", "b"])));
    let outcome =
        TicketVerdict::Accept { queue: Some(queue_id("solos")), properties: None, ratings: BTreeMap::new() };
    validated(&mut table, "duo", "v", outcome);
    assert_eq!(table.status("duo"), Status::Failed);
}

/// Nothing that is left out is forgotten.
#[test]
fn an_answer_that_names_too_many_tickets_is_taken_in_part_and_the_rest_is_asked_about_again() {
    let mut table = Table::with(hooked(vec![outside("f", HookPoint::FormMatch, OnFailure::Refuse)]));
    let names: Vec<String> = (0..MAX_FORMED_TICKETS + 200).map(|n| format!("p{n:04}")).collect();
    for who in &names {
        table.solo(who);
    }
    table.advance(secs(1));
    let all = names.chunks(2).map(|two| pair(&two[0], &two[1])).collect();
    let (round, _) = asked(&table);
    let queue = queue_id("q");
    let answer = Command::MatchesFormed { queue: queue.clone(), round, matches: Some(all) };
    let Reply::Formed { taken, left, .. } = table.ok(answer) else { panic!() };
    assert!(taken > 0 && taken + left == names.len() / 2, "{taken} {left}");
    table.advance(secs(0));
    assert_eq!(table.formed().len(), MAX_FORMED_TICKETS / 2);
    table.tick();
    let (next, tickets) = asked(&table);
    assert_eq!((next, tickets.len()), (round + 1, 200));
}

/// The round that a hook is asked about, and its tickets.
fn asked(table: &Table) -> (u64, Vec<TicketId>) {
    let rounds = table.maker.outstanding().into_iter().filter_map(|effect| match effect {
        Effect::FormMatches { queue, round, .. } => {
            let tickets = table.maker.asked_about(&queue, round)?;
            Some((round, tickets.into_iter().map(|(id, _)| id).collect()))
        }
        _ => None,
    });
    rounds.last().expect("a round")
}

fn moved(to: &str) -> TicketVerdict {
    TicketVerdict::Accept { queue: Some(queue_id(to)), properties: None, ratings: BTreeMap::new() }
}

fn asked_of(table: &Table) -> Option<(String, String)> {
    table.maker.outstanding().into_iter().find_map(|effect| match effect {
        Effect::ValidateTicket { hook, queue, .. } => Some((hook.to_string(), queue.to_string())),
        _ => None,
    })
}

fn one_hook(id: &str) -> Queue {
    hooked(vec![outside(id, HookPoint::ValidateTicket, OnFailure::Refuse)])
}

#[test]
fn a_ticket_that_a_hook_moves_goes_through_the_hooks_of_its_new_queue() {
    // The hook of the new queue may have the same name: it is a different one.
    for name in ["door", "other"] {
        let hooks = vec![Hook::PartyMembership, outside(name, HookPoint::ValidateTicket, OnFailure::Refuse)];
        let mut table = Table::configured(settings([("q", one_hook("door")), ("vip", hooked(hooks))]));
        table.start("ann", spec(&["ann"]));
        assert_eq!(asked_of(&table), Some(("door".into(), "q".into())));
        validated(&mut table, "ann", "door", moved("vip"));
        assert_eq!(asked_of(&table), Some((name.into(), "vip".into())));
        assert_eq!(table.maker.waiting(&queue_id("vip")), 0);
        validated(&mut table, "ann", name, accept());
        assert_eq!(table.maker.waiting(&queue_id("vip")), 1);
    }
}

#[test]
fn hooks_that_move_a_ticket_in_a_circle_are_found_out() {
    let mut table = Table::configured(settings([("q", one_hook("one")), ("other", one_hook("two"))]));
    table.solo("ann");
    let mut moves = 0;
    while let Some((hook, queue)) = asked_of(&table) {
        validated(&mut table, "ann", &hook, moved(if queue == "q" { "other" } else { "q" }));
        moves += 1;
        table.restart();
        assert!(moves < 100, "it goes on for ever");
    }
    assert_eq!((moves, table.status("ann")), (9, Status::Failed));
    let end = format!("{:?}", table.find("ann").state);
    assert!(end.contains("in a circle") && end.contains("hook one"), "{end}");
}

#[test]
fn a_queue_that_is_taken_away_keeps_its_hooks_for_the_tickets_that_it_has() {
    let hooks = vec![
        outside("first", HookPoint::ValidateTicket, OnFailure::Refuse),
        outside("second", HookPoint::ValidateTicket, OnFailure::Refuse),
        Hook::TeamData,
    ];
    let both = settings([("q", hooked(hooks)), ("other", Queue::default())]);
    let mut table = Table::configured(both);
    for who in ["ann", "bob", "cat"] {
        table.solo(who);
        validated(&mut table, who, "first", accept());
    }
    validated(&mut table, "ann", "second", accept());
    table.done(Command::Reconfigure { settings: settings([("other", Queue::default())]) });
    table.restart();
    assert_eq!(asked_of(&table), Some(("second".into(), "q".into())));
    validated(&mut table, "bob", "second", accept());
    table.tick();
    let properties = table.formation().spec.properties.clone();
    assert!(properties.text().unwrap().contains(r#""teams":[["ann"],["bob"]]"#), "{properties:?}");
    // The configured default is used for its failure.
    validated(&mut table, "cat", "second", TicketVerdict::Failed);
    assert_eq!(table.status("cat"), Status::Failed);
}
