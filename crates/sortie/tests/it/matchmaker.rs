//! The matchmaker within the process: its log beside the broker's, over restarts, and joined to the broker.

use serde_json::{Value, json};

use crate::control_plane::{ControlPlane, Events, Lines, READY, REQUEST};
use crate::python;
use crate::site::{Site, idle_fleet, soon};

/// Queues for whoever asks: one that is never full, and one that asks players first.
pub(crate) fn crowd() -> Value {
    let asked = json!({"teams": 2, "players_per_team": 1, "accept": "60s"});
    json!({"tick": "10ms", "queues": {"crowd": {"teams": 1, "players_per_team": 50}, "asked": asked}})
}

/// A queue for two, one that is never full, and one whose tickets soon expire.
fn duels() -> Value {
    let duel = json!({"teams": 2, "players_per_team": 1});
    let brief = json!({"teams": 2, "players_per_team": 1, "ticket_expiration": "1s"});
    let crowd = json!({"teams": 1, "players_per_team": 50});
    let queues = json!({"duel": duel, "crowd": crowd, "brief": brief});
    json!({"dev": true, "fleets": {"quiet": idle_fleet()}, "matchmaker": {"tick": "10ms", "queues": queues}})
}

/// What a player hears, from the event with this id on.
async fn hear(control_plane: &ControlPlane, player: &str, last: Option<&str>) -> Heard {
    let request =
        control_plane.request("GET", "/api/v1/events/subscribe").header("catena-session-id", player);
    let request = request.header("accept", "text/event-stream");
    let request = last.iter().fold(request, |request, id| request.header("last-event-id", *id));
    Heard(Lines::of(soon("a stream", request.send()).await.unwrap()))
}

struct Heard(Lines);

impl Heard {
    /// The next news: the event's id, its type without what all begin with, the ticket, and the additional data.
    async fn next(&mut self) -> (String, String, String, Value) {
        loop {
            let line = soon("news", self.0.next()).await.expect("more news");
            let Some(data) = line.strip_prefix("data: ") else { continue };
            let document: Value = serde_json::from_str(data).unwrap();
            let update = &document["event"]["matchmakingStatusUpdateEvent"];
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            if !update.is_null() {
                let kind =
                    text(&update["type"]).replace("MATCHMAKING_STATUS_UPDATE_", "").replace("TYPE_", "");
                let data = serde_json::from_str(&text(&update["additionalEventData"])).unwrap();
                return (text(&document["event"]["eventId"]), kind, text(&update["ticketId"]), data);
            }
        }
    }
}

async fn ticket(control_plane: &ControlPlane, queue: &str, player: &str) -> String {
    let order = json!({"queue": queue, "players": [{"id": player}]});
    let started = control_plane.ok("POST", "/v1/tickets", order).await;
    started["ticket_id"].as_str().unwrap().to_owned()
}

/// Takes the next match and is ready for it.
async fn play(control_plane: &ControlPlane) -> String {
    let request = json!({"serverId": "own", "hintFlags": 2});
    let taken = async {
        loop {
            let offer = control_plane.ok("POST", REQUEST, request.clone()).await;
            if let Some(id) = offer["match"]["matchId"].as_str() {
                return id.to_owned();
            }
        }
    };
    let id = soon("a match", taken).await;
    let ready = json!({"serverId": "own", "matchId": id, "connectionDetails": "203.0.113.7:7777"});
    control_plane.ok("POST", READY, ready).await;
    id
}

#[tokio::test]
async fn tickets_become_a_match_with_a_server_over_kills_and_each_is_heard_of_once() {
    let site = Site::with_config(&duels());
    let control_plane = site.up(&[]).await;
    let mut heard = hear(&control_plane, "ann", None).await;
    let ann = ticket(&control_plane, "duel", "ann").await;
    let (first, kind, of, _) = heard.next().await;
    assert_eq!((kind.as_str(), &of), ("IN_PROGRESS", &ann));
    control_plane.kill().await;

    // The ticket waits in the next process, and its player hears what came since.
    let control_plane = site.up(&[]).await;
    let mut heard = hear(&control_plane, "ann", Some(&first)).await;
    ticket(&control_plane, "duel", "bob").await;
    let (second, kind, of, data) = heard.next().await;
    assert_eq!((kind.as_str(), &of), ("FINDING_SERVER", &ann));
    control_plane.kill().await;

    let control_plane = site.up(&[]).await;
    let mut heard = hear(&control_plane, "ann", Some(&second)).await;
    let game = play(&control_plane).await;
    assert_eq!(data["matchId"], json!(game));
    let (third, kind, of, data) = heard.next().await;
    assert_eq!((kind.as_str(), &of), ("COMPLETED", &ann));
    assert_eq!(data, json!({"matchId": game, "connectionDetails": "203.0.113.7:7777"}));
    control_plane.kill().await;

    let control_plane = site.up(&[]).await;
    let mut heard = hear(&control_plane, "ann", Some(&first)).await;
    assert_eq!([heard.next().await.1, heard.next().await.1], ["FINDING_SERVER", "COMPLETED"]);
    let mut heard = hear(&control_plane, "ann", Some(&third)).await;
    control_plane.ok("DELETE", &format!("/api/v1/matchbroker/admin/delete/{game}"), Value::Null).await;
    let (_, kind, of, data) = heard.next().await;
    assert_eq!((kind.as_str(), &of, &data["reason"]), ("CANCELLED", &ann, &json!("admin")));
    control_plane.stop().await;
}

#[tokio::test]
async fn tickets_expire_and_are_called_off_and_a_party_is_one() {
    let site = Site::with_config(&duels());
    let control_plane = site.up(&[]).await;
    let mut heard = hear(&control_plane, "ann", None).await;
    let brief = ticket(&control_plane, "brief", "ann").await;
    let (first, second) = (heard.next().await, heard.next().await);
    assert_eq!(
        (first.1.as_str(), second.1.as_str(), second.2),
        ("IN_PROGRESS", "MATCHMAKING_TIMED_OUT", brief)
    );

    let start = [
        "ticket",
        "start",
        "--queue",
        "crowd",
        "--player",
        "ann",
        "--player",
        r#"{"id": "bob"}"#,
        "--leader",
        "ann",
    ];
    let party = control_plane.run_ok(&site, &start).await.stdout;
    let party = party.trim();
    assert_eq!(
        (heard.next().await.2.as_str(), hear(&control_plane, "bob", None).await.next().await.2.as_str()),
        (party, party)
    );
    let again = control_plane.run(&site, &["ticket", "start", "--queue", "duel", "--player", "bob"]).await;
    assert!(again.code == Some(1) && again.stderr.contains("player bob is in ticket"), "{}", again.stderr);
    let table = control_plane.run_ok(&site, &["ticket", "list"]).await.stdout;
    assert!(
        ["TICKET", "QUEUE", party, "crowd", "waiting"].iter().all(|part| table.contains(part)),
        "{table}"
    );
    let told = control_plane.run_ok(&site, &["ticket", "explain", party]).await.stdout;
    assert!(told.starts_with(&format!("{party} is waiting: waiting for other players")), "{told}");
    let queues = control_plane.run_ok(&site, &["queue", "list", "--json"]).await.json();
    assert_eq!((&queues[1]["queue"], &queues[1]["waiting"]), (&json!("crowd"), &json!(1)));
    let none = control_plane.run(&site, &["ticket", "accept", party, "--player", "ann"]).await;
    assert!(none.code == Some(1) && none.stderr.contains("409 Conflict: "), "{}", none.stderr);
    let shown = control_plane.run_ok(&site, &["ticket", "show", party, "--json"]).await.json();
    assert_eq!(shown["leader"], "ann");
    let cancelled = control_plane.run_ok(&site, &["ticket", "cancel", party, "--json"]).await.json();
    assert_eq!(cancelled["state"], "cancelled");
    assert_eq!(heard.next().await.1, "CANCELLED");
}

#[tokio::test]
async fn players_in_python_learn_grpc_from_reflection() {
    let mut config = duels();
    config.as_object_mut().unwrap().remove("dev");
    let site = Site::with_config(&config);
    let create = ["key", "create", "--name", "all", "--permission", "admin", "--json"];
    let key = site.run(&create).await.json()["key"].as_str().unwrap().to_owned();
    let control_plane = site.up(&[]).await;
    let address = control_plane.url.strip_prefix("http://").unwrap();
    let said = python::run(&site, "grpc_tickets.py", &[address, &key]).await.stdout;
    assert_eq!(said.trim().lines().last(), Some("done"), "{said}");
}

/// A queue whose tickets take free seats of running matches.
fn config() -> Value {
    let queue = json!({"teams": 1, "players_per_team": 4, "backfill": "first"});
    json!({
        "dev": true,
        "fleets": {"quiet": idle_fleet()},
        "matchmaker": {"tick": "10ms", "queues": {"coop": queue}},
    })
}

/// Waits until the matchmaker's log has free seats of a match.
async fn noted(control_plane: &ControlPlane, id: &str) {
    let mut events = Events::of(control_plane.request("GET", "/v1/events?of=matchmaker&from=earliest")).await;
    events.find("sortie.seats.offered", Some(id)).await;
}

fn with_free_seats() -> Value {
    json!({"players": ["ann"], "capacity": 4, "properties": {"queue_name": "coop"}})
}

#[tokio::test]
async fn free_seats_of_a_running_match_reach_the_matchmaker_over_kills() {
    let site = Site::with_config(&config());
    let control_plane = site.up(&[]).await;
    let first = control_plane.ready_match("s1", with_free_seats()).await;
    noted(&control_plane, &first).await;
    control_plane.kill().await;

    let control_plane = site.up(&[]).await;
    let second = control_plane.ready_match("s2", with_free_seats()).await;
    noted(&control_plane, &second).await;
    control_plane.stop().await;
    assert!(site.data("matchmaker/snapshots").is_dir());
}

/// Who is on the way to a match and who is there, once there are so many, as its server hears it.
async fn seats(control_plane: &ControlPlane, id: &str, count: usize) -> Vec<Value> {
    let path = format!("/v1/matches/{id}/seats");
    let heard = async {
        let mut heard = control_plane.ok("GET", &path, Value::Null).await;
        while heard["seats"].as_array().unwrap().len() < count {
            heard = control_plane.ok("GET", &format!("{path}?seen={}", heard["seen"]), Value::Null).await;
        }
        heard["seats"].as_array().unwrap().clone()
    };
    soon("seats", heard).await
}

/// Waits until a ticket has brought its players into a match, which must be this one.
async fn completed(control_plane: &ControlPlane, ticket: &str, game: &str) {
    let path = format!("/v1/tickets/{ticket}");
    let shown = async {
        loop {
            let shown = control_plane.get(&path).await;
            if shown["state"] == "completed" {
                return shown;
            }
        }
    };
    assert_eq!(soon("a seat for the ticket", shown).await["match_id"], json!(game));
}

#[tokio::test]
async fn a_game_server_says_of_free_seats_and_hears_who_comes_over_a_kill() {
    let site = Site::with_config(&config());
    let control_plane = site.up(&[]).await;
    let closed = json!({"players": ["ann"], "properties": {"queue_name": "coop"}});
    let game = control_plane.ready_match("s1", closed).await;
    let (listed, free) = (format!("/v1/matches/{game}/seats"), format!("/v1/matches/{game}/free-seats"));
    assert_eq!(control_plane.ok("GET", &listed, Value::Null).await["seats"], json!([]));

    let party = json!({"queue": "coop", "players": [{"id": "bob"}, {"id": "cat"}]});
    let party = control_plane.ok("POST", "/v1/tickets", party).await;
    control_plane.ok("PUT", &free, json!({"free": 2, "server_id": "s1"})).await;
    let coming = seats(&control_plane, &game, 2).await;
    let mut who: Vec<_> = coming.iter().map(|seat| seat["player_id"].as_str().unwrap()).collect();
    who.sort_unstable();
    assert_eq!(who, ["bob", "cat"]);
    for seat in &coming {
        let claim = format!("/v1/seats/{}/claim", seat["seat_id"].as_str().unwrap());
        control_plane.ok("POST", &claim, json!({"server_id": "s1"})).await;
    }
    control_plane.kill().await;

    let control_plane = site.up(&[]).await;
    let there = control_plane.ok("GET", &listed, Value::Null).await;
    assert_eq!(there["seats"].as_array().unwrap().len(), 2);
    assert!(there["seats"].as_array().unwrap().iter().all(|seat| seat["state"] == "claimed"), "{there}");
    completed(&control_plane, party["ticket_id"].as_str().unwrap(), &game).await;

    // One of them leaves, and the next one comes.
    let dan = ticket(&control_plane, "coop", "dan").await;
    let gone = coming[0]["seat_id"].as_str().unwrap();
    control_plane.ok("DELETE", &format!("/v1/seats/{gone}"), Value::Null).await;
    let view = control_plane.ok("PUT", &free, json!({"free": 1, "server_id": "s1"})).await;
    assert_eq!((&view["state"], &view["seats"]["claimed"]), (&json!("ready"), &json!(1)));
    let there = seats(&control_plane, &game, 2).await;
    assert!(there.iter().any(|seat| seat["player_id"] == "dan" && seat["state"] == "reserved"), "{there:?}");
    completed(&control_plane, &dan, &game).await;
    control_plane.stop().await;
}

#[tokio::test]
async fn it_runs_only_where_it_is_configured_and_its_log_is_not_forgotten() {
    let site = Site::with_config(&json!({"dev": true, "fleets": {"quiet": idle_fleet()}}));
    site.up(&[]).await.stop().await;
    assert!(!site.data("matchmaker").exists());

    site.configure(&config());
    site.up(&[]).await.stop().await;
    assert!(site.data("matchmaker/log").is_dir());

    site.configure(&json!({"dev": true, "fleets": {"quiet": idle_fleet()}}));
    site.up(&[]).await.stop().await;
    let said = site.stderr();
    assert!(said.contains("there is the log of a matchmaker, but none is configured"), "{said}");
}

/// The names of the queues, and how many minutes statuses are kept.
async fn queues(control_plane: &ControlPlane) -> (Vec<String>, Value) {
    let config = control_plane.get("/api/v1/matchmaking/admin/config").await;
    let config = &config["catenaMatchmakerConfig"];
    let names = config["matchmakingQueues"].as_object().unwrap().keys().cloned().collect();
    (names, config["statusExpirationMinutes"].clone())
}

#[tokio::test]
async fn queues_changed_at_run_time_outlive_a_kill_but_not_an_edited_file() {
    let site = Site::with_config(&config());
    let control_plane = site.up(&[]).await;
    let change = json!({"StatusExpirationMinutes": 3, "MatchmakingQueues": {"coop": {}, "late": {"PlayersPerTeam": 2}}});
    let body = json!({"config": change.to_string()});
    control_plane.ok("POST", "/api/v1/matchmaking/admin/config", body).await;
    let changed = queues(&control_plane).await;
    assert_eq!(
        (&changed.0[..], changed.1.as_str()),
        (&["coop".to_owned(), "late".to_owned()][..], Some("3"))
    );
    let waiting = ticket(&control_plane, "late", "ann").await;
    control_plane.kill().await;

    let control_plane = site.up(&[]).await;
    assert_eq!(queues(&control_plane).await, changed);
    assert_eq!(control_plane.get(&format!("/v1/tickets/{waiting}")).await["queue"], "late");
    control_plane.stop().await;

    let mut edited = config();
    edited["matchmaker"]["queues"]["coop"]["players_per_team"] = json!(3);
    site.configure(&edited);
    let control_plane = site.up(&[]).await;
    assert_eq!(queues(&control_plane).await.0, ["coop"]);
    assert_eq!(
        control_plane.get(&format!("/v1/tickets/{waiting}")).await["state"],
        "waiting",
        "nobody is lost"
    );
    control_plane.stop().await;
}

#[tokio::test]
async fn a_configuration_that_makes_no_sense_stops_the_start_with_its_keys() {
    let mut config = config();
    config["matchmaker"]["queues"]["coop"]["rules"] = json!({"skill": {"kind": "distance"}});
    let site = Site::with_config(&config);
    let said = site.refused(&[]).await;
    for key in ["property", "most"] {
        assert!(said.contains(&format!("matchmaker.queues.coop.rules.skill.{key}: is required")), "{said}");
    }
}
