//! SIGKILL at random moments under load, over and over: nothing acknowledged is lost, no match has two servers, no
//! seat is claimed twice, no process is left alone.
//!
//! The binary as it is, real processes and real files: the simulation shows the same of the rules alone, and in far
//! more schedules, but not that files, processes and sockets keep what it takes for granted. Most matches are played by
//! game servers that nobody ordered, inside the test, because they are fast; those that players join through the
//! gateway are played by processes of a fleet, of the arena.
//!
//! | file | what is in it |
//! |---|---|
//! | `director` | deaths and restarts, and what is checked after each |
//! | `clients`, `world` | the load, and how it gets through |
//! | `journal` | what the clients were told |
//! | `history` | what the log says |
//! | `processes` | what runs |

mod clients;
mod director;
mod history;
mod journal;
mod processes;
mod world;

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use sortie_arena::{Arrivals, BotEvent, PlayOptions, PlaySummary, play};
use tokio::sync::watch;
use tokio::task::JoinSet;

use self::director::{Director, Tally};
use self::history::History;
use self::world::World;
use crate::site::{Site, fixed_address, fleet, idle_fleet, soon};

/// Rounds, and the seed of everything that is drawn, unless the environment has others; `cargo xtask torture` sets both.
const ROUNDS: &str = "SORTIE_TEST_TORTURE_ROUNDS";
const SEED: &str = "SORTIE_TEST_TORTURE_SEED";
const USUAL_ROUNDS: u32 = 20;

/// Servers of the fleet.
const MAX_SERVERS: usize = 4;
const SUBMITTERS: u32 = 3;
const SERVERS: u32 = 6;
const JOINERS: u32 = 3;
const BOTS: u32 = 6;
/// The fleet's servers take what the test's own leave.
const REQUIREMENTS: &str = "!(MatchProperties.light || MatchProperties.marker)";

/// The variable's value; `otherwise` if it is not set.
fn setting<T: std::str::FromStr>(name: &str, otherwise: impl FnOnce() -> T) -> T {
    let Ok(text) = std::env::var(name) else { return otherwise() };
    text.parse().unwrap_or_else(|_| panic!("{name} must be a number"))
}

fn config(fleets: &Value) -> Value {
    json!({
        // Snapshots and old segments come and go.
        "log": {"snapshot_every": 300},
        "broker": {"wait": "1s", "match_ready_time": "20s"},
        "netcode": {"key_file": "netcode.hex"},
        "fleets": fleets,
    })
}

fn arena() -> Value {
    let more = json!({
        "game": "arena", "version": "1", "protocol_id": 7, "capacity": 2, "requirements": REQUIREMENTS, "seat_ttl": "5s",
    });
    let serve = ["arena", "serve", "--matches", "1", "--match-length", "1s", "--requirements", REQUIREMENTS];
    let max = u16::try_from(MAX_SERVERS).unwrap();
    fleet(env!("CARGO_BIN_EXE_sortie").as_ref(), &serve, max, &more)
}

async fn director(random: fastrand::Rng) -> Director {
    let site = Site::with_config(&config(&json!({"arena": arena()})));
    std::fs::write(site.path("netcode.hex"), "17".repeat(32)).unwrap();
    let create = ["key", "create", "--name", "all", "--permission", "admin", "--json"];
    let key = site.run(&create).await.json()["key"].as_str().unwrap().to_owned();
    let address = fixed_address();
    let world = Arc::new(World::new(format!("http://{address}"), key.clone()));
    let (history, tally) = (History::default(), Tally::default());
    Director { site, world, address, key, random, history, tally, markers: 0 }
}

/// Players of the arena, who go on until the end.
async fn bots(world: Arc<World>, url: String, seed: u64, joined: watch::Sender<u32>) -> PlaySummary {
    let arrivals = Arrivals::Keep { players: BOTS, lasting: Duration::from_secs(365 * 24 * 3600) };
    let mut options = PlayOptions::new(url, arrivals, seed);
    (options.game, options.version) = (Some("arena".to_owned()), Some("1".to_owned()));
    options.play_for = Duration::from_millis(50)..=Duration::from_millis(500);
    let observe = |event: &BotEvent| {
        if matches!(event, BotEvent::Joined { .. }) {
            joined.send_modify(|count| *count += 1);
        }
    };
    play(options, world.closed(), observe).await.unwrap()
}

fn load(director: &mut Director) -> JoinSet<()> {
    let mut load = JoinSet::new();
    for number in 0..SUBMITTERS {
        let random = director.random.fork();
        load.spawn(clients::submitter(Arc::clone(&director.world), format!("order-{number}"), random));
    }
    for number in 0..SERVERS {
        let random = director.random.fork();
        load.spawn(clients::server(Arc::clone(&director.world), format!("light-{number}"), random));
    }
    for _ in 0..JOINERS {
        load.spawn(clients::joiner(Arc::clone(&director.world), director.random.fork()));
    }
    load.spawn(clients::administrator(Arc::clone(&director.world), director.random.fork()));
    load
}

#[tokio::test]
async fn torture() {
    let (rounds, seed) = (setting(ROUNDS, || USUAL_ROUNDS), setting(SEED, || fastrand::u64(..)));
    println!("seed {seed}");
    let mut director = director(fastrand::Rng::with_seed(seed)).await;
    let mut life = director.begin().await;
    let world = Arc::clone(&director.world);
    let mut load = load(&mut director);
    let joined = watch::Sender::new(0);
    let url = format!("http://{}", director.address);
    let bots = tokio::spawn(bots(Arc::clone(&world), url, seed, joined.clone()));
    for _ in 0..rounds {
        life = tokio::select! {
            life = director.round(life) => life,
            Some(ended) = load.join_next() => panic!("a client broke off: {ended:?}"),
        };
    }
    soon("a bot in the arena", joined.subscribe().wait_for(|count| *count > 0)).await.unwrap();
    world.close();
    while let Some(ended) = soon("the end of the load", load.join_next()).await {
        ended.unwrap();
    }
    let bots = soon("the end of the bots", bots).await.unwrap();
    let (tally, history) = director.finish(life, &config(&json!({"quiet": idle_fleet()}))).await;
    let lost = history.games.iter().filter(|(_, game)| game.key.is_some() && game.state == "failed");
    let lost: Vec<_> = lost.map(|(id, game)| (id, &game.reason)).collect();
    assert!(lost.is_empty(), "servers that never fail had these matches: {lost:?}");
    summarize(rounds, seed, &world, &tally, &history, &bots);
}

fn summarize(rounds: u32, seed: u64, world: &World, tally: &Tally, history: &History, bots: &PlaySummary) {
    let Tally { kills, kills_at_start, adopted, downtimes } = tally;
    let mut sorted = downtimes.clone();
    sorted.sort_unstable();
    let at = |part: usize| sorted.get(sorted.len() * part / 100).copied().unwrap_or_default().as_millis();
    println!(
        "{rounds} rounds of seed {seed}: {kills} kills while serving and {kills_at_start} at starts; {} calls \
         acknowledged, {} events; {} matches, {} seats claimed; {} servers started, taken over {adopted} times; {} bots \
         played; away for {} ms (median), {} ms (longest)",
        world.acknowledged(),
        history.texts.len(),
        history.games.len(),
        history.seats.values().filter(|seat| seat.claimed).count(),
        history.orders.len(),
        bots.joined,
        at(50),
        sorted.last().copied().unwrap_or_default().as_millis(),
    );
}
