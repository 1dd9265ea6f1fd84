//! `sortie bench broker`: whole lives of matches. Each call is answered after its decision is durable; the limit is the
//! health check, which takes the same path and writes nothing.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::cli::BrokerOptions;
use crate::client::{Connection, workers};
use crate::disk::SyncLoop;
use crate::failure::Failure;
use crate::load::{Errors, Until, Work, load};
use crate::scale;
use crate::stats::{Cpu, Timings, Turns, median, merged, shown};
use crate::target::Target;
use crate::{MAX_CONNECTIONS, Outcome, ROUNDS};

/// The calls of a match's life, in order.
const CALLS: [&str; 4] = ["submit", "request", "ready", "end"];
/// What takes turns in a round: cycles, health checks, syncs.
const IN_A_ROUND: u32 = 3;

/// A fleet that matches no match, so that nothing happens except what is measured.
pub(crate) fn idle_fleets() -> Value {
    json!({ "idle": {
        "max": 1,
        "requirements": "MatchProperties.none == 'ever'",
        "local_process": { "path": "/bin/true" },
    } })
}

pub(crate) async fn run(options: &BrokerOptions) -> Result<Outcome, Failure> {
    if options.queued > 0 && options.target.url.is_some() {
        let problem =
            "--queued leaves matches behind, so it needs a control plane of its own: leave --url out";
        return Err(Failure::new(problem));
    }
    let target = Target::open(&options.target, idle_fleets()).await?;
    let name = format!("bench-{}", std::process::id());
    let (mut errors, mut levels, mut text) = (Errors::default(), Vec::new(), Vec::new());
    for in_flight in &options.levels.in_flight {
        let level = Level::measure(&target, &name, usize::from(*in_flight), options.levels.lasting).await?;
        levels.push(level.json());
        text.extend(level.text());
        errors.add(level.errors);
    }
    let scale = match options.queued {
        0 => None,
        queued => {
            let size = scale::Size {
                queued: queued as usize,
                filters: options.filters as usize,
                waiting: options.waiting as usize,
            };
            let found = scale::measure(&target, &name, size).await?;
            text.extend(found.text());
            let document = found.json();
            errors.add(found.errors);
            Some(document)
        }
    };
    target.close().await?;
    Ok(Outcome { json: json!({ "bench": "broker", "levels": levels, "scale": scale }), text, errors })
}

/// One game server, and a backend that makes matches for it.
struct Cycle {
    connection: Connection,
    server: String,
    requirements: String,
    order: String,
    timings: [Timings; CALLS.len()],
}

impl Work for Cycle {
    async fn once(&mut self) -> Result<(), Failure> {
        let connection = &mut self.connection;
        let submit = Instant::now();
        connection.submit(self.order.clone()).await?;
        let request = Instant::now();
        let offer = connection.request_match(&self.server, &self.requirements, 0).await?;
        let ready = Instant::now();
        let game =
            offer.r#match.ok_or_else(|| Failure::new("a server was given no match, though one is queued"))?;
        connection.match_ready(&self.server, &game.match_id, "127.0.0.1:1").await?;
        let end = Instant::now();
        connection.end_match(&self.server, &game.match_id).await?;
        let times = [submit, request, ready, end, Instant::now()];
        for (timings, of) in self.timings.iter_mut().zip(times.windows(2)) {
            timings.record(of[1] - of[0]);
        }
        Ok(())
    }
}

/// The limit.
struct HealthCheck {
    connection: Connection,
    timings: Timings,
}

impl Work for HealthCheck {
    async fn once(&mut self) -> Result<(), Failure> {
        let began = Instant::now();
        self.connection.check_health().await?;
        self.timings.record(began.elapsed());
        Ok(())
    }
}

/// The result with a number of calls in flight.
struct Level {
    in_flight: usize,
    connections: usize,
    cycles: u64,
    turns: Turns,
    syncs: Vec<f64>,
    calls: [Timings; CALLS.len()],
    health: Timings,
    /// CPU time of the control plane for the cycles and for the health checks, if it is known.
    cpu: Option<(Cpu, Cpu)>,
    errors: Errors,
}

impl Level {
    async fn measure(
        target: &Target,
        name: &str,
        in_flight: usize,
        lasting: Duration,
    ) -> Result<Self, Failure> {
        let connections = target.connect(in_flight.min(MAX_CONNECTIONS)).await?;
        let mut cycles = workers(&connections, in_flight, |connection, index| Cycle {
            connection,
            server: format!("{name}-{index}"),
            requirements: format!("MatchProperties.bench == '{name}'"),
            order: json!({ "players": ["a", "b"], "properties": { "bench": name } }).to_string(),
            timings: std::array::from_fn(|_| Timings::new()),
        });
        let mut health = workers(&connections, in_flight, |connection, _| HealthCheck {
            connection,
            timings: Timings::new(),
        });
        let syncs = SyncLoop::in_folder(target.folder())?;
        let slice = lasting / (ROUNDS * IN_A_ROUND);
        let mut level = Self::nothing(in_flight, connections.len());
        // A warm-up round.
        for round in 0..=ROUNDS {
            let before = target.cpu();
            let checked = load(health, Until::after(slice)).await?;
            let between = target.cpu();
            let cycled = load(cycles, Until::after(slice)).await?;
            let after = target.cpu();
            let synced = syncs.measure(slice).await?;
            if round > 0 {
                level.turns.push(cycled.rate() * CALLS.len() as f64, checked.rate());
                level.syncs.push(synced);
                level.cycles += cycled.done;
                level.count_cpu(before, between, after);
            }
            (cycles, health) = (cycled.workers, checked.workers);
            if round == 0 {
                cycles.iter_mut().flat_map(|worker| &mut worker.timings).for_each(|of| *of = Timings::new());
                health.iter_mut().for_each(|worker| worker.timings = Timings::new());
            }
            level.errors.add(cycled.errors);
            level.errors.add(checked.errors);
        }
        level.calls = std::array::from_fn(|call| merged(cycles.iter().map(|worker| &worker.timings[call])));
        level.health = merged(health.iter().map(|worker| &worker.timings));
        Ok(level)
    }

    fn nothing(in_flight: usize, connections: usize) -> Self {
        Self {
            in_flight,
            connections,
            cycles: 0,
            turns: Turns::default(),
            syncs: Vec::new(),
            calls: std::array::from_fn(|_| Timings::new()),
            health: Timings::new(),
            cpu: None,
            errors: Errors::default(),
        }
    }

    fn count_cpu(&mut self, before: Option<Cpu>, between: Option<Cpu>, after: Option<Cpu>) {
        let (Some(before), Some(between), Some(after)) = (before, between, after) else { return };
        let (cycles, health) = self.cpu.get_or_insert_default();
        health.add(between.since(before));
        cycles.add(after.since(between));
    }

    /// CPU time per call of a cycle, and per health check, in microseconds: the machine thread, the rest.
    fn cpu_of_each(&self) -> Option<[(f64, f64); 2]> {
        let (cycles, health) = self.cpu?;
        Some([
            cycles.of_each(self.cycles * CALLS.len() as u64)?,
            health.of_each(self.health.summary().count)?,
        ])
    }

    fn json(&self) -> Value {
        let mut calls: serde_json::Map<_, _> = CALLS
            .iter()
            .zip(&self.calls)
            .map(|(name, of)| ((*name).to_owned(), json!(of.summary())))
            .collect();
        calls.insert("health".to_owned(), json!(self.health.summary()));
        let cpu = self
            .cpu_of_each()
            .map(|each| each.map(|(machine, rest)| json!({ "machine": machine, "rest": rest })));
        let cpu = cpu.map(|[cycle, health]| json!({ "cycle": cycle, "health": health }));
        json!({
            "in_flight": self.in_flight,
            "connections": self.connections,
            "cycles": self.cycles,
            "calls_per_second": self.turns.measured(),
            "health_per_second": self.turns.limit(),
            "ratio": self.turns.ratio(),
            "syncs_per_second": median(&self.syncs),
            "calls": calls,
            "cpu_us_per_call": cpu,
        })
    }

    fn text(&self) -> Vec<String> {
        let mut text = vec![
            format!("{} in flight over {} connections", self.in_flight, self.connections),
            format!(
                "  cycles         {:>8} calls/s, {} times the rate of health checks",
                shown(self.turns.measured(), 0),
                shown(self.turns.ratio(), 2)
            ),
            format!(
                "  health checks  {:>8} calls/s, {}",
                shown(self.turns.limit(), 0),
                self.health.summary()
            ),
            format!("  bare syncs     {:>8} a second", shown(median(&self.syncs), 0)),
        ];
        let calls = CALLS.iter().zip(&self.calls);
        if let Some([cycle, health]) = self.cpu_of_each() {
            let shown =
                |(machine, rest): (f64, f64)| format!("{machine:.1} µs broker + {rest:.1} µs network");
            text.push(format!("  CPU of a call  cycle {}, health check {}", shown(cycle), shown(health)));
        }
        text.extend(calls.map(|(name, of)| format!("    {name:<9}{}", of.summary())));
        text
    }
}
