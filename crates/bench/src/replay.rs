//! `sortie bench replay`: a start over a long log without a snapshot. The broker itself writes the log, as in a control
//! plane, only in larger batches.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use sortie_allocators::Fleets;
use sortie_domain::broker::model::Settings;
use sortie_domain::broker::{Broker, Command, Hints, Reply};
use sortie_domain::connection::Connection;
use sortie_domain::ids::{MatchId, PlayerId, ServerId};
use sortie_domain::machine::{CallId, Machine as _, Moment, Step};
use sortie_domain::match_spec::MatchSpec;
use sortie_domain::properties::Properties;
use sortie_domain::time::Timestamp;
use sortie_engine::log::{Batch, Log as _};
use sortie_engine::{
    Clock as _, Codec, EmbeddedLog, Engine, EngineOptions, Entropy, LogOptions, Parts, SystemClock,
};
use sortie_wire::stored;

use crate::Outcome;
use crate::cli::ReplayOptions;
use crate::failure::Failure;
use crate::load::Errors;
use crate::target::{folder, temporary_folder};

/// Number of servers that take the matches in turn.
const SERVERS: u64 = 1_000;
/// Number of queued matches before the oldest is picked up.
const QUEUED: u64 = 100;
/// Size at which a batch is written, in bytes.
const BATCH_BYTES: usize = 64 << 10;
/// Longer than the log, so that no deadline in it fires.
const NEVER: Duration = Duration::from_secs(365 * 24 * 3600);

pub(crate) async fn run(options: &ReplayOptions, codec: fn() -> Codec<Broker>) -> Result<Outcome, Failure> {
    let data = temporary_folder(&folder(options.data.as_deref()))?;
    let (path, wanted) = (data.path().to_owned(), u64::from(options.events));
    let (events, bytes) = tokio::task::spawn_blocking(move || write(&path, wanted)).await??;
    let began = Instant::now();
    let log = EmbeddedLog::open(data.path(), LogOptions::default())?;
    let opened = began.elapsed();
    let parts = Parts {
        name: "broker",
        log: Box::new(log),
        codec: codec(),
        empty: Box::new(Broker::new),
        performer: Arc::new(Fleets::new(BTreeMap::new(), Vec::new())),
        clock: Arc::new(SystemClock::start()),
        entropy: Entropy::system()?,
        options: EngineOptions { snapshot_every_records: u64::MAX, ..EngineOptions::default() },
    };
    let engine = Engine::start(parts).await?;
    let replayed = began.elapsed();
    let last_seq = engine.handle().query(Broker::last_seq).await?;
    // Not gracefully, which would write a snapshot.
    drop(engine);
    if last_seq != events {
        return Err(Failure::new(format!("{events} events were written and {last_seq} replayed")));
    }
    let path = data.path().to_owned();
    let decoded = tokio::task::spawn_blocking(move || decode_all(&path)).await??;
    let rate = events as f64 / replayed.as_secs_f64();
    let millis = |time: Duration| time.as_secs_f64() * 1000.0;
    let document = json!({
        "bench": "replay",
        "events": events,
        "bytes": bytes,
        "open_ms": millis(opened),
        "total_ms": millis(replayed),
        "decode_ms": millis(decoded),
        "events_per_second": rate,
    });
    let text = vec![
        format!("{events} events in {:.1} MiB, no snapshot", bytes as f64 / f64::from(1 << 20)),
        format!("  started after {:.2} s, {rate:.0} events/s", replayed.as_secs_f64()),
        format!("    of it {:.2} s to open and check the log", opened.as_secs_f64()),
        format!("    reading and decoding alone takes {:.2} s", decoded.as_secs_f64()),
    ];
    Ok(Outcome { json: document, text, errors: Errors::default() })
}

/// Reads and decodes without applying; the rest of a replay is the broker's own.
fn decode_all(data: &Path) -> Result<Duration, Failure> {
    const READ_BYTES: usize = 4 << 20;
    let reader = EmbeddedLog::open(data, LogOptions::default())?.reader();
    let (began, mut next) = (Instant::now(), 1);
    loop {
        let batches = reader.read(next, READ_BYTES)?;
        let Some(last) = batches.last() else { return Ok(began.elapsed()) };
        next = last.last_seq() + 1;
        for record in batches.iter().flat_map(Batch::records) {
            std::hint::black_box(stored::decode_event(record.payload)?);
        }
    }
}

/// A broker whose decisions are written to a log.
struct Writer {
    broker: Broker,
    log: EmbeddedLog,
    /// The time of the first event; each further one is a millisecond later.
    began: Timestamp,
    batch: Batch,
    calls: u64,
    bytes: u64,
}

/// Writes a log of at least this many events; returns their number and the size of their records in bytes.
fn write(data: &Path, wanted: u64) -> Result<(u64, u64), Failure> {
    let log = EmbeddedLog::open(data, LogOptions::default())?;
    let began = SystemClock::start().now();
    let mut writer = Writer { broker: Broker::new(), log, began, batch: Batch::new(1), calls: 0, bytes: 0 };
    let settings = Settings { server_max_lifetime: NEVER, match_pickup_time: NEVER, ..Settings::default() };
    writer.call(Command::Configure { settings, fleets: Vec::new() })?;
    let servers = (0..SERVERS).map(|number| ServerId::new(&format!("server-{number}")));
    let servers = servers.collect::<Result<Vec<_>, _>>().map_err(bad_id)?;
    let mut number = 0;
    let mut takers = servers.iter().cycle();
    while writer.broker.last_seq() < wanted {
        writer.submit(number)?;
        number += 1;
        if number > QUEUED
            && let Some(server) = takers.next()
        {
            writer.play(server)?;
        }
    }
    writer.flush()?;
    Ok((writer.broker.last_seq(), writer.bytes))
}

impl Writer {
    fn submit(&mut self, number: u64) -> Result<(), Failure> {
        let player = |side: char| PlayerId::new(&format!("player-{number}-{side}")).map_err(bad_id);
        let properties =
            json!({ "mode": "duel", "region": "eu-central", "map": "harbour", "level": number % 100 });
        let spec = MatchSpec {
            players: vec![player('a')?, player('b')?],
            properties: Properties::parse(&properties.to_string()).map_err(Failure::new)?,
            ..MatchSpec::default()
        };
        self.call(Command::SubmitMatch { id: None, spec }).map(drop)
    }

    /// A server plays the oldest match, from beginning to end.
    fn play(&mut self, server: &ServerId) -> Result<(), Failure> {
        let ask = Command::RequestMatch {
            server: server.clone(),
            requirements: "MatchProperties.mode == 'duel'".to_owned(),
            hints: Hints::NONE,
            most: 1,
            wait: None,
        };
        let Reply::Requested { offer: Some(offer), .. } = self.call(ask)? else {
            return Err(Failure::new("the broker gave a server no match, though some are queued"));
        };
        let id: MatchId = offer.match_id;
        let connection = Connection { details: "203.0.113.7:7777".into(), per_player: BTreeMap::new() };
        let (server, hints) = (server.clone(), Hints::NONE);
        self.call(Command::MatchReady { server: server.clone(), match_id: id.clone(), connection, hints })?;
        self.call(Command::EndMatch { server, match_id: id, hints }).map(drop)
    }

    fn call(&mut self, command: Command) -> Result<Reply, Failure> {
        self.calls += 1;
        let now = self.began + Duration::from_millis(self.broker.last_seq());
        // Any bits that differ each time are good enough.
        let entropy = [self.calls, self.calls.wrapping_mul(0x9e37_79b9_7f4a_7c15)];
        let mut step = Step::new();
        self.broker.handle(Moment { now, entropy }, CallId(self.calls), command, &mut step);
        for record in &step.records {
            self.batch.push(record.time, |out| stored::encode_event(&record.event, out));
        }
        if self.batch.body().len() >= BATCH_BYTES {
            self.flush()?;
        }
        let answer = step.answers.into_iter().find(|(call, _)| *call == CallId(self.calls));
        let answer = answer.ok_or_else(|| Failure::new("the broker did not answer"))?.1;
        answer.map_err(|refusal| Failure::of("the broker refused", refusal))
    }

    fn flush(&mut self) -> Result<(), Failure> {
        let next = Batch::new(self.broker.last_seq() + 1);
        let batch = std::mem::replace(&mut self.batch, next);
        if batch.is_empty() {
            return Ok(());
        }
        self.bytes += batch.body().len() as u64;
        Ok(self.log.append(&batch)?)
    }
}

fn bad_id(problem: impl std::fmt::Display) -> Failure {
    Failure::of("an id of the benchmark is invalid: it", problem)
}
