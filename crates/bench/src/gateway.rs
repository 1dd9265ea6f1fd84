//! `sortie bench gateway`: players' seats and connect tokens, with a server that is ready to take them. The limit is
//! the cheapest HTTP call there is.

use std::time::{Duration, Instant};

use axum::http::Method;
use serde_json::{Value, json};

use crate::cli::GatewayOptions;
use crate::client::{Connection, workers};
use crate::failure::Failure;
use crate::load::{Errors, Until, Work, load};
use crate::stats::{Timings, Turns, merged, shown};
use crate::target::Target;
use crate::{MAX_CONNECTIONS, Outcome, ROUNDS};

/// What takes turns in a round: joins, health checks.
const IN_A_ROUND: u32 = 2;
/// Seats in a match.
const CAPACITY: u32 = 10;
/// The game's name and version if the benchmark starts its servers.
const GAME: (&str, &str) = ("bench", "1");
/// Maximum time until the first player finds a ready server.
const WARM_UP_TIME: Duration = Duration::from_secs(60);
/// Tells whether a server was ready.
const JOIN_HEADER: &str = "sortie-join";

pub(crate) async fn run(options: &GatewayOptions) -> Result<Outcome, Failure> {
    let target = Target::open(&options.target, fleets(&std::env::current_exe()?)).await?;
    let named = |given: &Option<String>, own: &str| match &options.target.url {
        Some(_) => given.clone(),
        None => Some(own.to_owned()),
    };
    let join_request =
        json!({ "game": named(&options.game, GAME.0), "version": named(&options.version, GAME.1) });
    warm_up(&target, &join_request).await?;
    let (mut errors, mut levels, mut text) = (Errors::default(), Vec::new(), Vec::new());
    for in_flight in &options.levels.in_flight {
        let level =
            Level::measure(&target, &join_request, usize::from(*in_flight), options.levels.lasting).await?;
        levels.push(level.json());
        text.extend(level.text());
        errors.add(level.errors);
    }
    target.close().await?;
    Ok(Outcome { json: json!({ "bench": "gateway", "levels": levels }), text, errors })
}

/// One fleet, whose one server takes any number of matches.
fn fleets(binary: &std::path::Path) -> Value {
    json!({ "bench": {
        "max": 1,
        "warm": 1,
        "game": GAME.0,
        "version": GAME.1,
        "capacity": CAPACITY,
        "local_process": { "path": binary, "arguments": ["bench", "game-server"], "ports": "30000-30999" },
    } })
}

/// Returns when a player has found a ready server.
async fn warm_up(target: &Target, join_request: &Value) -> Result<(), Failure> {
    let connection = target.connect(1).await?.into_iter().next();
    let connection = connection.ok_or_else(|| Failure::new("no connection was made"))?;
    let mut player = Player::new(connection, join_request);
    let warm = async {
        while player.warm.summary().count == 0 {
            player.once().await?;
        }
        Ok(())
    };
    let warmed = tokio::time::timeout(WARM_UP_TIME, warm).await;
    warmed.unwrap_or_else(|_| Err(Failure::new("no player found a server that was there already")))
}

/// Players, one after the other.
struct Player {
    connection: Connection,
    join_request: String,
    warm: Timings,
    cold: Timings,
}

impl Player {
    fn new(connection: Connection, join_request: &Value) -> Self {
        Self {
            connection,
            join_request: join_request.to_string(),
            warm: Timings::new(),
            cold: Timings::new(),
        }
    }
}

impl Work for Player {
    async fn once(&mut self) -> Result<(), Failure> {
        let began = Instant::now();
        let joined = self.connection.http(Method::POST, "/matchmaker/wannaplay", self.join_request.clone());
        let (headers, _) = joined.await?;
        let warm = headers.get(JOIN_HEADER).is_some_and(|how| how == "warm");
        (if warm { &mut self.warm } else { &mut self.cold }).record(began.elapsed());
        Ok(())
    }
}

/// The limit.
struct Probe {
    connection: Connection,
    timings: Timings,
}

impl Work for Probe {
    async fn once(&mut self) -> Result<(), Failure> {
        let began = Instant::now();
        self.connection.http(Method::GET, "/healthz", String::new()).await?;
        self.timings.record(began.elapsed());
        Ok(())
    }
}

/// The result with a number of calls in flight.
struct Level {
    in_flight: usize,
    connections: usize,
    turns: Turns,
    warm: Timings,
    cold: Timings,
    health: Timings,
    errors: Errors,
}

impl Level {
    async fn measure(
        target: &Target,
        join_request: &Value,
        in_flight: usize,
        lasting: Duration,
    ) -> Result<Self, Failure> {
        let connections = target.connect(in_flight.min(MAX_CONNECTIONS)).await?;
        let mut players =
            workers(&connections, in_flight, |connection, _| Player::new(connection, join_request));
        let mut probes =
            workers(&connections, in_flight, |connection, _| Probe { connection, timings: Timings::new() });
        let slice = lasting / (ROUNDS * IN_A_ROUND);
        let (mut turns, mut errors) = (Turns::default(), Errors::default());
        // A warm-up round.
        for round in 0..=ROUNDS {
            let probed = load(probes, Until::after(slice)).await?;
            let joined = load(players, Until::after(slice)).await?;
            if round > 0 {
                turns.push(joined.rate(), probed.rate());
            }
            (players, probes) = (joined.workers, probed.workers);
            if round == 0 {
                players.iter_mut().for_each(|of| (of.warm, of.cold) = (Timings::new(), Timings::new()));
                probes.iter_mut().for_each(|of| of.timings = Timings::new());
            }
            errors.add(joined.errors);
            errors.add(probed.errors);
        }
        Ok(Self {
            in_flight,
            connections: connections.len(),
            turns,
            warm: merged(players.iter().map(|player| &player.warm)),
            cold: merged(players.iter().map(|player| &player.cold)),
            health: merged(probes.iter().map(|probe| &probe.timings)),
            errors,
        })
    }

    fn json(&self) -> Value {
        json!({
            "in_flight": self.in_flight,
            "connections": self.connections,
            "joins_per_second": self.turns.measured(),
            "health_per_second": self.turns.limit(),
            "ratio": self.turns.ratio(),
            "warm": self.warm.summary(),
            "cold": self.cold.summary(),
            "health": self.health.summary(),
        })
    }

    fn text(&self) -> Vec<String> {
        let cold = self.cold.summary();
        vec![
            format!("{} in flight over {} connections", self.in_flight, self.connections),
            format!(
                "  joins          {:>8}/s, {} times the rate of health checks",
                shown(self.turns.measured(), 0),
                shown(self.turns.ratio(), 2)
            ),
            format!("    warm         {}", self.warm.summary()),
            format!("    cold         {} of them, {cold}", cold.count),
            format!("  health checks  {:>8}/s, {}", shown(self.turns.limit(), 0), self.health.summary()),
        ]
    }
}
