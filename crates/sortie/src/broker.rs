//! The broker of a control plane, on which every role depends.

use std::sync::Arc;
use std::time::Duration;

use sortie_allocators::Fleets;
use sortie_config::Config;
use sortie_domain::broker::{Broker, Command};
use sortie_engine::supervisor::{OnFailure, Stage, Supervisor};
use sortie_engine::{
    Codec, Cursor, DecodeError, EmbeddedLog, Engine, EngineOptions, Entropy, Handle, Parts, Prepared,
    SystemClock,
};
use sortie_wire::stored;
use tokio::time::timeout;

use crate::failure::Failure;
use crate::machine_start::{self, Pending};
use crate::used::Accepted;

/// Replays its log.
pub(crate) async fn prepare(
    config: &Config,
    log: EmbeddedLog,
    performer: Fleets,
    accepted: Accepted,
) -> Result<Prepared<Broker>, Failure> {
    let parts = Parts {
        name: "broker",
        log: Box::new(log),
        codec: codec(),
        empty: Box::new(Broker::new),
        performer: Arc::new(performer),
        clock: Arc::new(SystemClock::start()),
        entropy: Entropy::system()?,
        options: EngineOptions {
            snapshot_every_records: config.log.snapshot_every,
            ..EngineOptions::default()
        },
    };
    machine_start::prepare("broker", parts, machine_start::broker_is_live, accepted).await
}

/// Between the broker's types and its log.
pub(crate) fn codec() -> Codec<Broker> {
    Codec {
        encode_event: stored::encode_event,
        decode_event: |bytes| stored::decode_event(bytes).map_err(DecodeError::new),
        encode_snapshot: stored::write_snapshot,
        decode_snapshot: |pieces| stored::read_snapshot(pieces).map_err(DecodeError::new),
    }
}

/// Applies its configuration; returns it if that has to wait.
pub(crate) async fn configure(
    config: &Config,
    broker: &Handle<Broker>,
) -> Result<Option<Pending<Broker>>, Failure> {
    let fleets: Vec<_> = config.fleets.iter().map(|fleet| fleet.fleet.clone()).collect();
    let settings = config.broker.clone();
    let command = move || Command::Configure { settings: settings.clone(), fleets: fleets.clone() };
    machine_start::configure("broker", broker, command).await
}

/// Removes every fleet and waits, for at most `longest`, until none of their servers runs. Returns the number of
/// servers that are left.
pub(crate) async fn retire_fleets(broker: &Handle<Broker>, longest: Duration) -> Result<usize, Failure> {
    let mut events = broker.subscribe(Cursor::Latest);
    let settings = broker.query(|broker| broker.settings().clone()).await?;
    let command = Command::Configure { settings, fleets: Vec::new() };
    broker.call(command).await.map_err(|error| Failure::of("cannot remove the fleets", error))?;
    let gone = async {
        while broker.query(|broker| broker.allocations().count()).await? > 0 {
            events.next().await.map_err(|error| Failure::of("lost the event log", error))?;
        }
        Ok::<_, Failure>(())
    };
    if let Ok(result) = timeout(longest, gone).await {
        result?;
    }
    Ok(broker.query(|broker| broker.allocations().count()).await?)
}

/// Ends last.
pub(crate) fn spawn(supervisor: &mut Supervisor, engine: Engine<Broker>, deadline: Duration) {
    supervisor.spawn("the broker", Stage::Base, OnFailure::StopAll, move |stop| async move {
        let handle = engine.handle();
        let ended = tokio::select! {
            ended = handle.ended() => ended,
            () = stop.stopped() => engine.shutdown(deadline).await,
        };
        ended.into_result()
    });
}
