//! Players of the arena, and what they notice of the death of the control plane: nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;
use sortie_arena::{Arrivals, BotEvent, PlayOptions, PlaySummary, play};
use tokio::sync::watch;

use crate::site::{Site, fixed_address, fleet, soon};

const PLAYERS: u32 = 6;
const LONG: Duration = Duration::from_secs(600);

/// So many bots, who play until `stop`; `joined` counts them.
async fn bots(
    url: String,
    players: u32,
    stop: watch::Sender<bool>,
    joined: watch::Sender<u32>,
) -> PlaySummary {
    let arrivals = Arrivals::Spread { players, over: Duration::ZERO };
    let mut options = PlayOptions::new(url, arrivals, 11);
    (options.game, options.version) = (Some("arena".to_owned()), Some("1".to_owned()));
    options.play_for = LONG..=LONG;
    let stopped = async move { drop(stop.subscribe().wait_for(|stop| *stop).await.unwrap()) };
    let observe = |event: &BotEvent| {
        if matches!(event, BotEvent::Joined { .. }) {
            joined.send_modify(|count| *count += 1);
        }
    };
    play(options, stopped, observe).await.unwrap()
}

#[tokio::test]
async fn players_play_on_and_their_matches_end_properly() {
    let more = json!({"game": "arena", "version": "1", "protocol_id": 7, "capacity": 4});
    let arena = fleet(env!("CARGO_BIN_EXE_sortie").as_ref(), &["arena", "serve", "--matches", "1"], 3, &more);
    let config = json!({"netcode": {"key_file": "netcode.hex"}, "fleets": {"arena": arena}});
    let site = Site::with_config(&config);
    std::fs::write(site.path("netcode.hex"), "2a".repeat(32)).unwrap();
    let create = ["key", "create", "--name", "a", "--permission", "admin", "--json"];
    let key = site.run(&create).await.json()["key"].as_str().unwrap().to_owned();
    let address = fixed_address();
    let flags = ["--listen", &address];
    let control_plane = site.up(&flags).await;
    let (stop, joined) = (watch::Sender::new(false), watch::Sender::new(0));
    let playing = tokio::spawn(bots(control_plane.url.clone(), PLAYERS, stop.clone(), joined.clone()));
    soon("the players", joined.subscribe().wait_for(|joined| *joined == PLAYERS)).await.unwrap();
    let servers = site.game_servers();
    assert_eq!(servers.len(), 2, "four players fit a match, and one match a server");
    control_plane.kill().await;
    assert_eq!(site.game_servers(), servers);

    let mut control_plane = site.up(&flags).await;
    control_plane.key = Some(key);
    let adopted = site.stderr().lines().filter(|line| line.contains("taken over")).count();
    assert_eq!(adopted, servers.len(), "{}", site.stderr());
    // Two more find their places in the match that has some left, on a server of before.
    let more = tokio::spawn(bots(control_plane.url.clone(), 2, stop.clone(), joined.clone()));
    soon("two more", joined.subscribe().wait_for(|joined| *joined == PLAYERS + 2)).await.unwrap();
    assert_eq!(site.game_servers(), servers);
    let listed = control_plane.get("/v1/servers").await;
    let matches =
        listed["servers"].as_array().unwrap().iter().flat_map(|server| server["matches"].as_array());
    let matches: Vec<_> = matches.flatten().map(|id| id.as_str().unwrap().to_owned()).collect();
    assert_eq!(matches.len(), 2, "{listed}");
    for id in &matches {
        let seats = json!({"reserved": 0, "claimed": 4, "free": 0});
        assert_eq!(control_plane.show(id).await["seats"], seats, "every player is where they were");
    }

    stop.send_replace(true);
    for (bots, players) in [(playing, PLAYERS), (more, 2)] {
        let summary = soon("the bots", bots).await.unwrap();
        assert_eq!(summary.failed, BTreeMap::new(), "a bot that is not served says so");
        assert_eq!((summary.joined, summary.left), (u64::from(players), u64::from(players)));
    }
    for id in &matches {
        let ended = control_plane.event("sortie.match.ended", Some(id)).await;
        assert_eq!(ended["data"]["cause"], "server");
    }
    assert!(site.game_servers().iter().all(|pid| servers.contains(pid)), "none was started since");
}
