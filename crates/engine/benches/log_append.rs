//! Durable commits: the embedded log against redb and fjall, in one run on one disk.
//!
//! `cargo bench -p sortie-engine --bench log_append`
//!
//! Each store gets the same records from the same harness: one thread commits all waiting records (the group commit of
//! the engine), and one or 64 writers wait for their commit before they write again. The disk dominates, so only the
//! ratios within one run are meaningful. Rounds alternate between the stores, and the best round of each counts.
#![allow(clippy::unwrap_used, reason = "a benchmark fails by panicking")]
#![allow(missing_docs, reason = "nothing here is public")]

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use redb::{Durability, TableDefinition};
use sortie_domain::time::Timestamp;
use sortie_engine::log::{Batch, EmbeddedLog, Log, LogOptions};

const PAYLOAD_BYTES: usize = 200;
const ROUND: Duration = Duration::from_secs(2);
const ROUNDS: usize = 3;
const GROUP_WRITERS: usize = 64;
const REPLAYED_RECORDS: u64 = 1_000_000;

/// Makes the records from `first` on durable.
trait Store: Send {
    fn commit(&mut self, first: u64, payloads: &[Vec<u8>]);
}

struct Ours(EmbeddedLog);

impl Store for Ours {
    fn commit(&mut self, first: u64, payloads: &[Vec<u8>]) {
        let mut batch = Batch::new(first);
        for payload in payloads {
            batch.push(Timestamp::from_millis(first), |out| out.extend_from_slice(payload));
        }
        self.0.append(&batch).unwrap();
    }
}

struct Redb(redb::Database);

const TABLE: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("log");

impl Store for Redb {
    fn commit(&mut self, first: u64, payloads: &[Vec<u8>]) {
        let mut transaction = self.0.begin_write().unwrap();
        transaction.set_durability(Durability::Immediate).unwrap();
        let mut table = transaction.open_table(TABLE).unwrap();
        for (seq, payload) in (first..).zip(payloads) {
            table.insert(seq, payload.as_slice()).unwrap();
        }
        drop(table);
        transaction.commit().unwrap();
    }
}

struct Fjall(Database, Keyspace);

impl Store for Fjall {
    fn commit(&mut self, first: u64, payloads: &[Vec<u8>]) {
        let mut batch = self.0.batch().durability(Some(PersistMode::SyncData));
        for (seq, payload) in (first..).zip(payloads) {
            batch.insert(&self.1, seq.to_be_bytes(), payload.as_slice());
        }
        batch.commit().unwrap();
    }
}

fn open(name: &str, folder: &Path) -> Box<dyn Store> {
    match name {
        "embedded log" => Box::new(Ours(EmbeddedLog::open(folder, LogOptions::default()).unwrap())),
        "redb" => Box::new(Redb(redb::Database::create(folder.join("redb")).unwrap())),
        _ => {
            let database = Database::builder(folder.join("fjall")).open().unwrap();
            let keyspace = database.keyspace("log", KeyspaceCreateOptions::default).unwrap();
            Box::new(Fjall(database, keyspace))
        }
    }
}

type Write = (Vec<u8>, SyncSender<()>);

/// Commits waiting records until every writer is gone. Returns the number of records.
fn commit_loop(mut store: Box<dyn Store>, writes: &Receiver<Write>) -> u64 {
    let mut count = 0;
    while let Ok(first) = writes.recv() {
        let (payloads, done): (Vec<_>, Vec<_>) = std::iter::once(first).chain(writes.try_iter()).unzip();
        store.commit(count + 1, &payloads);
        count += payloads.len() as u64;
        done.iter().for_each(|done| done.send(()).unwrap());
    }
    count
}

/// Records per second made durable by this many writers.
fn measure(name: &str, writers: usize) -> f64 {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let store = open(name, folder.path());
    let (sender, receiver) = sync_channel::<Write>(writers);
    let begun = Instant::now();
    let writing: Vec<_> = (0..writers)
        .map(|writer| {
            let sender = sender.clone();
            thread::spawn(move || {
                let (done, on_done) = sync_channel(1);
                let payload: Vec<u8> = (0..PAYLOAD_BYTES).map(|at| (at * 31 + writer * 17) as u8).collect();
                while begun.elapsed() < ROUND {
                    sender.send((payload.clone(), done.clone())).unwrap();
                    on_done.recv().unwrap();
                }
            })
        })
        .collect();
    drop(sender);
    let count = commit_loop(store, &receiver);
    let took = begun.elapsed();
    writing.into_iter().for_each(|writer| writer.join().unwrap());
    count as f64 / took.as_secs_f64()
}

fn compare(title: &str, writers: usize) {
    const NAMES: [&str; 3] = ["embedded log", "redb", "fjall"];
    let mut best = [0f64; 3];
    for _ in 0..ROUNDS {
        for (name, best) in NAMES.iter().zip(&mut best) {
            *best = best.max(measure(name, writers));
        }
    }
    println!("{title}");
    for (name, rate) in NAMES.iter().zip(best) {
        println!("  {name:<14}{rate:>10.0} records/s   embedded log is {:.2} times as fast", best[0] / rate);
    }
}

/// Opening and reading back a log of small records, as a start does.
fn read_back() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let mut store = Ours(EmbeddedLog::open(folder.path(), LogOptions::default()).unwrap());
    let payloads = vec![vec![7; PAYLOAD_BYTES]; 1000];
    (0..REPLAYED_RECORDS / 1000).for_each(|at| store.commit(at * 1000 + 1, &payloads));
    drop(store);
    let begun = Instant::now();
    let reader: Arc<_> = EmbeddedLog::open(folder.path(), LogOptions::default()).unwrap().reader();
    let opened = begun.elapsed();
    let mut next = 1;
    while next <= REPLAYED_RECORDS {
        let batches = reader.read(next, 4 << 20).unwrap();
        next += batches.iter().map(|batch| batch.records().count() as u64).sum::<u64>();
    }
    println!("{REPLAYED_RECORDS} records of {PAYLOAD_BYTES} bytes, in groups of 1000");
    println!("  opened and checked in {opened:.2?}, read in {:.2?}", begun.elapsed() - opened);
}

fn main() {
    compare("one writer, a commit a record", 1);
    compare("64 writers, group commit", GROUP_WRITERS);
    read_back();
}
