//! `sortie bench sidecar`: what a sidecar adds to a game server's calls, compared with the same calls to the same
//! control plane without it, in turns; and a sidecar's start and the memory of an idle one.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::process::Child;

use crate::broker::idle_fleets;
use crate::cli::{SidecarOptions, TargetOptions};
use crate::client::{Connection, workers};
use crate::failure::Failure;
use crate::load::{Errors, Until, Work, load};
use crate::stats::{Percentiles, Timings, median, merged, shown};
use crate::target::{Target, end, resident_mib, start, temporary_folder};
use crate::{MAX_CONNECTIONS, Outcome, ROUNDS};

/// A game server's calls in the life of a match, in order.
const CALLS: [&str; 3] = ["request", "ready", "end"];
/// What takes turns in a round: with a sidecar, and without.
const IN_A_ROUND: u32 = 2;
/// Number of starts that are measured.
const STARTS: usize = 9;

pub(crate) async fn run(options: &SidecarOptions) -> Result<Outcome, Failure> {
    let own = TargetOptions { url: None, key: None, data: options.data.clone() };
    let target = Target::open(&own, idle_fleets()).await?;
    let (mut errors, mut levels, mut text) = (Errors::default(), Vec::new(), Vec::new());
    for backend in ["grpc", "http"] {
        let sidecar = Beside::start(&target, backend).await?;
        for in_flight in &options.in_flight {
            let count = usize::from(*in_flight);
            let level = Level::measure(&target, &sidecar, count, options.lasting).await?;
            text.extend(level.text(backend));
            levels.push(level.json(backend));
            errors.add(level.errors);
        }
        end(sidecar.child).await?;
    }
    let idle = Idle::measure(&target).await?;
    text.push(idle.text());
    target.close().await?;
    Ok(Outcome { json: json!({ "bench": "sidecar", "levels": levels, "idle": idle.json() }), text, errors })
}

/// A sidecar of the benchmark's own.
struct Beside {
    child: Child,
    /// Base address of its gRPC.
    url: String,
    _folder: tempfile::TempDir,
}

impl Beside {
    /// With the control plane as its backend, reached by `scheme`.
    async fn start(target: &Target, scheme: &str) -> Result<Self, Failure> {
        let folder = temporary_folder(target.folder())?;
        let config = folder.path().join("sidecar.json");
        let url = target.url().replacen("http", scheme, 1);
        std::fs::write(&config, settings(&url, folder.path()).to_string())?;
        let (child, said) = start("sidecar", &config, "ready").await?;
        let address = said.iter().find_map(|line| line.split_once("gRPC on ")).map(|(_, address)| address);
        let address = address.ok_or_else(|| Failure::new("the sidecar does not say where it listens"))?;
        Ok(Self { url: format!("http://{address}"), child, _folder: folder })
    }
}

fn settings(backend: &str, folder: &Path) -> Value {
    let source = json!({ "GrpcListenAddr": "127.0.0.1:0" });
    json!({ "app": {
        "logging": { "level": "warn" },
        "event_source": {
            "use": "catena_api_event_source",
            "configs": { "catena_api_event_source": source },
        },
        "resolver": { "use": "static_resolver", "configs": { "static_resolver": { "Address": "127.0.0.1:1" } } },
        "backend": { "use": "catena_backend", "configs": { "catena_backend": { "url": backend } } },
        "sidecar": { "DataFolder": folder.join("data") },
    } })
}

/// A game server, and a backend that makes matches for it.
struct GameServer {
    /// To the control plane, for the matches.
    direct: Connection,
    /// The target of its calls.
    connection: Connection,
    server: String,
    requirements: String,
    order: String,
    timings: [Timings; CALLS.len()],
}

impl Work for GameServer {
    async fn once(&mut self) -> Result<(), Failure> {
        self.direct.submit(self.order.clone()).await?;
        let connection = &mut self.connection;
        let request = Instant::now();
        let offer = connection.request_match(&self.server, &self.requirements, 0).await?;
        let ready = Instant::now();
        let game =
            offer.r#match.ok_or_else(|| Failure::new("a server was given no match, though one is queued"))?;
        connection.match_ready(&self.server, &game.match_id, "127.0.0.1:1").await?;
        let end = Instant::now();
        connection.end_match(&self.server, &game.match_id).await?;
        let times = [request, ready, end, Instant::now()];
        for (timings, of) in self.timings.iter_mut().zip(times.windows(2)) {
            timings.record(of[1] - of[0]);
        }
        Ok(())
    }
}

/// The result with a number of game servers.
struct Level {
    in_flight: usize,
    through: [Timings; CALLS.len()],
    direct: [Timings; CALLS.len()],
    errors: Errors,
}

impl Level {
    async fn measure(
        target: &Target,
        sidecar: &Beside,
        in_flight: usize,
        lasting: Duration,
    ) -> Result<Self, Failure> {
        let count = in_flight.min(MAX_CONNECTIONS);
        let direct = target.connect(count).await?;
        let mut beside = Vec::with_capacity(count);
        for _ in 0..count {
            beside.push(Connection::open(&sidecar.url, None).await?);
        }
        let servers = |name: &str, to: &[Connection]| {
            workers(to, in_flight, |connection, index| GameServer {
                direct: direct[index % direct.len()].clone(),
                connection,
                server: format!("{name}-{index}"),
                requirements: format!("MatchProperties.bench == '{name}-{index}'"),
                order: json!({ "players": ["a"], "properties": { "bench": format!("{name}-{index}") } })
                    .to_string(),
                timings: std::array::from_fn(|_| Timings::new()),
            })
        };
        let (mut through, mut without) = (servers("through", &beside), servers("direct", &direct));
        let slice = lasting / (ROUNDS * IN_A_ROUND);
        let mut errors = Errors::default();
        // A warm-up round.
        for round in 0..=ROUNDS {
            let [one, other] =
                [load(through, Until::after(slice)).await?, load(without, Until::after(slice)).await?];
            (through, without) = (one.workers, other.workers);
            errors.add(one.errors);
            errors.add(other.errors);
            if round == 0 {
                let all = through.iter_mut().chain(&mut without);
                all.flat_map(|server| &mut server.timings).for_each(|of| *of = Timings::new());
            }
        }
        let of = |servers: &[GameServer]| {
            std::array::from_fn(|call| merged(servers.iter().map(|server| &server.timings[call])))
        };
        Ok(Self { in_flight, through: of(&through), direct: of(&without), errors })
    }

    fn calls(&self) -> impl Iterator<Item = (&'static str, Percentiles, Percentiles)> {
        let both = self.through.iter().zip(&self.direct);
        CALLS.iter().zip(both).map(|(name, (through, direct))| (*name, through.summary(), direct.summary()))
    }

    fn json(&self, backend: &str) -> Value {
        let calls: serde_json::Map<_, _> = self
            .calls()
            .map(|(name, through, direct)| {
                let (added, ratio) = compared(through.p99_ms, direct.p99_ms);
                let found = json!({
                    "through": through, "direct": direct, "added_p99_ms": added, "p99_ratio": ratio,
                });
                (name.to_owned(), found)
            })
            .collect();
        json!({ "backend": backend, "in_flight": self.in_flight, "calls": calls })
    }

    fn text(&self, backend: &str) -> Vec<String> {
        let mut text = vec![format!("{} game servers, backend by {backend}", self.in_flight)];
        text.extend(self.calls().map(|(name, through, direct)| {
            let (added, ratio) = compared(through.p99_ms, direct.p99_ms);
            let (added, ratio) = (shown(added, 3), shown(ratio, 2));
            format!(
                "  {name:<8} through the sidecar {through}; direct {direct}; p99 {ratio} times, {added} ms more"
            )
        }));
        text
    }
}

/// The difference, and the ratio.
fn compared(through: Option<f64>, direct: Option<f64>) -> (Option<f64>, Option<f64>) {
    let both = through.zip(direct).filter(|(_, direct)| *direct > 0.0);
    (both.map(|(through, direct)| through - direct), both.map(|(through, direct)| through / direct))
}

/// An idle sidecar.
struct Idle {
    /// From its start until it serves, in milliseconds.
    start_ms: Option<f64>,
    resident_mib: Option<f64>,
}

impl Idle {
    async fn measure(target: &Target) -> Result<Self, Failure> {
        let (mut starts, mut resident) = (Vec::new(), Vec::new());
        for _ in 0..STARTS {
            let began = Instant::now();
            let sidecar = Beside::start(target, "grpc").await?;
            starts.push(began.elapsed().as_secs_f64() * 1000.0);
            resident.extend(resident_mib(&sidecar.child));
            end(sidecar.child).await?;
        }
        Ok(Self { start_ms: median(&starts), resident_mib: median(&resident) })
    }

    fn json(&self) -> Value {
        json!({ "start_ms": self.start_ms, "resident_mib": self.resident_mib })
    }

    fn text(&self) -> String {
        let (start, resident) = (shown(self.start_ms, 1), shown(self.resident_mib, 1));
        format!("idle: serves after {start} ms, {resident} MiB resident")
    }
}
