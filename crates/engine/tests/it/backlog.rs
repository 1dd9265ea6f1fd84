//! The broker starts on a log in which more is due than the log takes at once.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sortie_domain::broker::model::{FailReason, Settings};
use sortie_domain::broker::{Broker, Command, Effect, Event, Reply};
use sortie_domain::ids::{MatchId, PlayerId};
use sortie_domain::match_spec::MatchSpec;
use sortie_domain::time::Timestamp;
use sortie_engine::log::{Batch, Log};
use sortie_engine::{
    Codec, Cursor, DecodeError, EmbeddedLog, Engine, EngineOptions, Entropy, LogOptions, ManualClock, Parts,
    Performer, Retry,
};
use sortie_wire::stored;
use tempfile::tempdir;

const BEGIN: Timestamp = Timestamp::from_millis(1_700_000_000_000);
/// A batch that has reached this size, in bytes, is written.
const BATCH_BYTES: usize = 4 << 20;

struct Idle;

#[async_trait::async_trait]
impl Performer<Broker> for Idle {
    fn key(&self, effect: &Effect) -> String {
        effect.allocation().to_string()
    }

    async fn perform(&self, _: Effect) -> Result<Option<Command>, Retry> {
        Ok(None)
    }
}

/// A log with this many queued matches of this many players, whose ids have the maximum length.
fn write_log(data: &Path, matches: usize, players: usize) {
    let mut log = EmbeddedLog::open(data, LogOptions::default()).unwrap();
    let mut batch = Batch::new(1);
    for number in 0..matches {
        let id = MatchId::new(&format!("{number:0>128}")).unwrap();
        let named = (0..players).map(|n| PlayerId::new(&format!("{n:0>128}")).unwrap());
        let spec = Arc::new(MatchSpec { players: named.collect(), ..MatchSpec::default() });
        batch.push(BEGIN, |out| stored::encode_event(&Event::MatchQueued { id, spec }, out));
        if batch.body().len() >= BATCH_BYTES {
            log.append(&batch).unwrap();
            batch = Batch::new(batch.last_seq() + 1);
        }
    }
    if !batch.is_empty() {
        log.append(&batch).unwrap();
    }
}

async fn start(data: &Path, now: Timestamp) -> Engine<Broker> {
    let codec = Codec {
        encode_event: stored::encode_event,
        decode_event: |bytes| stored::decode_event(bytes).map_err(DecodeError::new),
        encode_snapshot: stored::write_snapshot,
        decode_snapshot: |pieces| stored::read_snapshot(pieces).map_err(DecodeError::new),
    };
    let parts = Parts {
        name: "broker",
        log: Box::new(EmbeddedLog::open(data, LogOptions::default()).unwrap()),
        codec,
        empty: Box::new(Broker::new),
        performer: Arc::new(Idle),
        clock: Arc::new(ManualClock::at(now)),
        entropy: Entropy::seeded(1),
        options: EngineOptions::default(),
    };
    Engine::start(parts).await.unwrap()
}

async fn starts_and_fails_them_all(matches: usize, players: usize) {
    let data = tempdir().unwrap();
    write_log(data.path(), matches, players);
    let engine = start(data.path(), BEGIN + Duration::from_secs(3600)).await;
    let handle = engine.handle();
    let mut news = handle.subscribe(Cursor::From(matches as u64 + 1));
    // The first thing that the program does.
    let configure = Command::Configure { settings: Settings::default(), fleets: Vec::new() };
    assert_eq!(handle.call(configure).await.unwrap(), Reply::Done);
    let mut failed = 0;
    while failed < matches {
        if let Event::MatchFailed { reason, .. } = &news.next().await.unwrap().event {
            assert_eq!(*reason, FailReason::PickupTimeout);
            failed += 1;
        }
    }
    let stats = handle.stats();
    assert_eq!((stats.accepting, stats.failed_batches), (true, 0));
    assert!(stats.batches > 16, "{} batches", stats.batches);
}

#[tokio::test]
async fn it_starts_with_140_matches_of_1000_players_to_fail() {
    starts_and_fails_them_all(140, 1_000).await;
}

#[tokio::test]
async fn it_starts_with_4300_matches_of_100_players_to_fail() {
    starts_and_fails_them_all(4_300, 100).await;
}

#[tokio::test]
async fn it_starts_with_37000_matches_of_10_players_to_fail() {
    starts_and_fails_them_all(37_000, 10).await;
}
