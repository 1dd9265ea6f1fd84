//! Why a ticket waits, or why it failed, over HTTP: what `explain` says about everything that can keep it from a match.

use std::time::Duration;

use serde_json::{Value, json};
use sortie_domain::broker::{self, Event as BrokerEvent};
use sortie_domain::ids::{HookId, MatchId, QueueId, TicketId};
use sortie_domain::matchmaking::settings::{
    About, Hook, HookPoint, Need, OnFailure, OutsideHook, Queue, Rule, RuleKind, Settings,
};
use sortie_domain::matchmaking::{Command, Event, MatchVerdict, TicketVerdict};

use crate::harness::{Server, soon};

fn hook(id: &str, about: HookPoint) -> Hook {
    let (id, timeout) = (HookId::new(id).unwrap(), Duration::from_secs(5));
    Hook::Outside(OutsideHook {
        id,
        about,
        timeout,
        on_failure: OnFailure::Refuse,
        interval: None,
        address: None,
    })
}

async fn with(queue: Queue) -> Server {
    let server = Server::start().await;
    let queues = [(QueueId::new("q").unwrap(), queue)].into();
    let settings = Settings { queues, tick: Duration::ZERO, ..Settings::default() };
    tell(&server, Command::Configure { settings }).await;
    server
}

async fn tell(server: &Server, command: Command) {
    server.maker.as_ref().unwrap().call(command).await.unwrap();
}

async fn start(server: &Server, players: Value, properties: Value) -> String {
    let order = json!({"queue": "q", "players": players, "properties": properties});
    server.ok("POST", "/v1/tickets", order).await["ticket_id"].as_str().unwrap().to_owned()
}

async fn solo(server: &Server, player: &str) -> String {
    start(server, json!([{"id": player}]), json!({})).await
}

async fn explain(server: &Server, ticket: &str) -> Value {
    server.ok("GET", &format!("/v1/tickets/{ticket}/explain"), Value::Null).await
}

fn says(told: &Value, sentence: &str) {
    let sentences = told["sentences"].as_array().unwrap();
    assert!(sentences.contains(&json!(sentence)), "{sentence:?} is not in {sentences:#?}");
}

/// The match of a ticket that waits for a server.
async fn match_of(server: &Server, ticket: &str) -> String {
    server
        .await_ticket(|record| match &record.event {
            Event::MatchFormed { teams, .. } => {
                teams.iter().flatten().any(|named| named.ticket.as_str() == ticket)
            }
            _ => false,
        })
        .await;
    explain(server, ticket).await["match_id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_search_that_goes_on_is_told() {
    let balance = RuleKind::Balance { property: "mmr".into(), most: 0.0, missing: 0.0 };
    let rules = vec![Rule::new("balance", balance)];
    let server =
        with(Queue { players_per_team: 5, min_players_per_team: 5, rules, ..Queue::default() }).await;
    let mut tickets = Vec::new();
    for at in 0..40_u32 {
        let rating = f64::from(at * at) * 1.37 + 1.0 / f64::from(at + 3);
        let player = json!([{"id": format!("p{at}"), "ratings": {"mmr": rating}}]);
        tickets.push(start(&server, player, json!({})).await);
    }
    let searching = async {
        loop {
            for ticket in &tickets {
                let told = explain(&server, ticket).await;
                if told["searching"] == true {
                    return told;
                }
            }
        }
    };
    let told = soon(searching).await;
    says(&told, "Not all of their combinations have been tried yet; the search continues.");
    assert_eq!(told.get("size_gap"), None, "not known yet");
}

#[tokio::test]
async fn sizes_that_cannot_fill_the_teams_are_told() {
    let server = with(Queue { players_per_team: 3, min_players_per_team: 3, ..Queue::default() }).await;
    let mut last = String::new();
    for pair in [["a", "b"], ["c", "d"], ["e", "f"]] {
        last = start(&server, json!([{"id": pair[0]}, {"id": pair[1]}]), json!({})).await;
    }
    let told = soon(async {
        loop {
            let told = explain(&server, &last).await;
            if told["searching"] == false {
                return told;
            }
        }
    })
    .await;
    let gap = json!({
        "teams": 2, "players_per_team": 3,
        "waiting": [{"players": 2, "tickets": 3}], "missing": [{"players": 1, "tickets": 2}],
    });
    assert_eq!(told["size_gap"], gap);
    says(
        &told,
        "There are enough players, but parties of 2+2+2 cannot make 3v3 without splitting a party; \
         2 single players more would fill the teams.",
    );
}

#[tokio::test]
async fn a_number_here_and_a_text_there_are_told_by_an_equality_and_by_an_expression() {
    let level = Rule::new("level", RuleKind::Equal { property: "level".into() });
    let mode = RuleKind::Expression {
        expression: "ticket.properties.mode == candidate.properties.mode".into(),
        about: About::Pair,
        need: Need::Required,
    };
    let server = with(Queue { rules: vec![level, Rule::new("mode", mode)], ..Queue::default() }).await;
    start(&server, json!([{"id": "a"}]), json!({"level": "40", "mode": 1})).await;
    start(&server, json!([{"id": "b"}]), json!({"level": 41, "mode": 1})).await;
    start(&server, json!([{"id": "c"}]), json!({"level": 40, "mode": "1"})).await;
    let me = start(&server, json!([{"id": "me"}]), json!({"level": 40, "mode": 1})).await;
    let told = explain(&server, &me).await;
    let by_type = |property: &str, own: &str, theirs: &str| json!({"property": property, "own": own, "theirs": theirs, "tickets": 1});
    let kept_out = json!([
        {"rule": "level", "tickets": 2, "by_type": by_type("level", "40", "\"40\"")},
        {"rule": "mode", "tickets": 1, "by_type": by_type("mode", "1", "\"1\"")},
    ]);
    assert_eq!(told["kept_out"], kept_out);
    says(
        &told,
        "The rule `level` keeps 2 tickets out; 1 of them only because of a JSON type: `level` is 40 in this ticket \
         and \"40\" there.",
    );
}

#[tokio::test]
async fn a_ticket_that_a_hook_refused_names_the_hook() {
    let hooks = vec![hook("bouncer", HookPoint::ValidateTicket)];
    let server = with(Queue { hooks, ..Queue::default() }).await;
    let ticket = solo(&server, "p").await;
    let told = explain(&server, &ticket).await;
    assert_eq!(
        (&told["state"], &told["summary"]),
        (&json!("validating"), &json!("a hook checks the ticket"))
    );
    let outcome = TicketVerdict::Refuse { reason: "banned\u{1b}[2J".to_owned() };
    let (id, hook) = (TicketId::new(&ticket).unwrap(), HookId::new("bouncer").unwrap());
    tell(&server, Command::TicketValidated { ticket: id, hook, outcome }).await;
    let told = explain(&server, &ticket).await;
    let failure = json!({"cause": "refused", "detail": "banned\u{1b}[2J", "hook": "bouncer"});
    assert_eq!((&told["state"], &told["failure"]), (&json!("failed"), &failure));
    let said =
        "The ticket failed because a rule of the operator refused it (the hook `bouncer`): banned\\u{1b}[2J.";
    says(&told, said);
}

#[tokio::test]
async fn a_ticket_whose_match_was_refused_names_the_hook_and_the_match() {
    let hooks = vec![hook("referee", HookPoint::NewMatch)];
    let server =
        with(Queue { players_per_team: 1, min_players_per_team: 1, hooks, ..Queue::default() }).await;
    let (ticket, _other) = (solo(&server, "a").await, solo(&server, "b").await);
    server.await_ticket(|record| matches!(record.event, Event::MatchProposed { .. })).await;
    let told = explain(&server, &ticket).await;
    let match_id = told["match_id"].as_str().unwrap();
    says(&told, &format!("It is in the match {match_id}."));
    let outcome = MatchVerdict::Refuse { reason: "not tonight".to_owned() };
    let (id, hook) = (MatchId::new(match_id).unwrap(), HookId::new("referee").unwrap());
    tell(&server, Command::MatchChecked { match_id: id, hook, outcome }).await;
    let told = explain(&server, &ticket).await;
    let failure =
        json!({"cause": "refused", "detail": "not tonight", "hook": "referee", "match_id": match_id});
    assert_eq!((&told["failure"], told.get("match_id")), (&failure, None));
    says(
        &told,
        &format!(
            "The ticket failed because a rule of the operator refused it (the hook `referee`): not tonight. \
             It was in the match {match_id}."
        ),
    );
}

#[tokio::test]
async fn a_server_that_crashes_while_it_is_waited_for_is_told() {
    let server = with(Queue { players_per_team: 1, min_players_per_team: 1, ..Queue::default() }).await;
    let server = server.with_fleet().await;
    let (ticket, _other) = (solo(&server, "a").await, solo(&server, "b").await);
    let match_id = match_of(&server, &ticket).await;
    let id = MatchId::new(&match_id).unwrap();
    server.await_event(|record| matches!(record.event, BrokerEvent::AllocationStarted { .. })).await;
    let order =
        server.broker.query(move |broker| broker.allocation_for(&id).cloned()).await.unwrap().unwrap();
    let request = json!({"serverId": order.server.as_str()});
    let offer = server.ok("POST", "/api/v1/server/request_match", request).await;
    assert_eq!(offer["match"]["matchId"], json!(match_id));
    let exited =
        broker::Command::ServerExited { allocation: order.id, status: "killed by signal 11".to_owned() };
    server.broker.call(exited).await.unwrap();

    let lost =
        "the server that had the match is gone (the game server's process exited); waiting for a server";
    let times = "Servers have taken the match 1 of at most 3 times and ended before it was ready; the last time: \
                 the game server's process exited.";
    let told = explain(&server, &ticket).await;
    assert_eq!((&told["state"], &told["match_id"]), (&json!("finding_server"), &json!(match_id)));
    let summary = told["summary"].as_str().unwrap();
    assert!(summary.starts_with(&format!("a match was found; {lost}")), "{summary}");
    says(&told, times);
    let all = told["sentences"].to_string();
    assert!(all.contains("the last time with: killed by signal 11"), "{all}");
    let told = server.ok("GET", &format!("/v1/matches/{match_id}/explain"), Value::Null).await;
    assert_eq!((&told["pickups"], &told["lost"]), (&json!(1), &json!("server_exited")));
}

#[tokio::test]
async fn a_ticket_that_came_back_without_a_server_says_from_which_match_and_why_and_so_does_one_that_failed()
{
    let queue = Queue { players_per_team: 1, min_players_per_team: 1, max_requeues: 1, ..Queue::default() };
    let server = with(queue).await;
    let (ticket, other) = (solo(&server, "a").await, solo(&server, "b").await);
    let first = match_of(&server, &ticket).await;
    // Another server has the match and is not ready in time.
    server.await_event(|record| matches!(record.event, BrokerEvent::MatchQueued { .. })).await;
    server.ok("POST", "/api/v1/server/request_match", json!({"serverId": "s1"})).await;
    // Before the match comes back, so that the other one does not wait.
    server.clock.advance(Duration::from_secs(600));
    let dissolved = |record: &sortie_domain::machine::Record<Event>| matches!(&record.event, Event::MatchDissolved { id, .. } if id.as_str() == first);
    server.await_ticket(dissolved).await;
    let reason = "the server that took the match did not become ready in time";
    let second = async {
        loop {
            let told = explain(&server, &ticket).await;
            if told["match_id"].as_str().is_some_and(|id| id != first) {
                return told;
            }
        }
    };
    let told = soon(second).await;
    let second = told["match_id"].as_str().unwrap();
    assert_eq!(
        (&told["requeues"], &told["lost"]),
        (&json!(1), &json!({"match_id": first, "reason": reason}))
    );
    says(
        &told,
        &format!("It returned to the queue once because no server was found: the match {first} ({reason})."),
    );

    server.clock.advance(Duration::from_secs(600));
    let failed = |record: &sortie_domain::machine::Record<Event>| matches!(&record.event, Event::TicketFailed { ticket, .. } if ticket.ticket.as_str() == other);
    server.await_ticket(failed).await;
    let told = explain(&server, &ticket).await;
    let detail = "no server could be obtained in time";
    let failure = json!({"cause": "no_server", "detail": detail, "match_id": second});
    assert_eq!(told["failure"], failure);
    let sentences = told["sentences"].to_string();
    assert!(sentences.contains(&format!("{detail}. It was in the match {second}.")), "{sentences}");
    // Backends hear what the broker knows about it.
    assert!(sentences.contains("The match failed at "), "{sentences}");
}
