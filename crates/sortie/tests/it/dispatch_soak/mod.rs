//! The dispatcher under mixed load for as long as one has time for: every byte is checked, and memory and descriptors
//! stay flat.
//!
//! Load comes in rounds. After each round everybody leaves, and only what the dispatcher keeps of them is measured: its
//! open descriptors must be as many as before the first round, and its memory must not grow from round to round, once
//! the first third of them has warmed it up.
//!
//! | file | what is in it |
//! |---|---|
//! | `drivers` | drivers that echo, are slow, are killed, or send what is no frame |
//! | `devices` | devices that come and go, are slow, or read nothing; peers |
//! | `gauge` | what the process keeps, and whether it grows |

mod devices;
mod drivers;
mod gauge;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use self::drivers::{Driver, Pace};
use self::gauge::{Gauge, growth};
use crate::dispatcher::{Dispatcher, free_port};
use crate::site::{Site, soon};

/// How long to go on, in minutes, and the seed of what is drawn; `cargo xtask torture --dispatch` sets both.
const MINUTES: &str = "SORTIE_TEST_SOAK_MINUTES";
const SEED: &str = "SORTIE_TEST_SOAK_SEED";

/// One round of a soak, and of a short run within the tests.
const ROUND: Duration = Duration::from_secs(10);
const SHORT_ROUND: Duration = Duration::from_secs(1);
const SHORT_ROUNDS: u32 = 4;

/// How much memory may grow from the end of the warm-up to the end, by the slope over all rounds between, in KiB. What
/// the allocator keeps goes up and down by a few MiB; a leak of 100 bytes a connection would be twice this in an hour.
const MAX_GROWTH_KIB: f64 = 8.0 * 1024.0;

/// Devices that come and go at the same time.
const DEVICES: usize = 16;
const SLOW_DEVICES: usize = 4;
const PEERS: usize = 4;

/// What came of it all.
#[derive(Default)]
pub(super) struct Tally {
    visits: AtomicU64,
    bytes: AtomicU64,
    datagrams: AtomicU64,
    lost_datagrams: AtomicU64,
    kills: AtomicU64,
    refusals: AtomicU64,
}

impl Tally {
    fn count(counter: &AtomicU64, more: u64) {
        counter.fetch_add(more, Ordering::Relaxed);
    }

    fn shown(&self) -> String {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        format!(
            "{} connections, {} MiB there and back, {} datagrams and {} lost, {} drivers killed, {} messages refused",
            of(&self.visits),
            of(&self.bytes) >> 20,
            of(&self.datagrams),
            of(&self.lost_datagrams),
            of(&self.kills),
            of(&self.refusals),
        )
    }
}

/// Minutes from the environment and the rounds that they make, or a short run.
fn plan() -> (Duration, u32) {
    let Ok(minutes) = std::env::var(MINUTES) else { return (SHORT_ROUND, SHORT_ROUNDS) };
    let minutes: u32 = minutes.parse().unwrap_or_else(|_| panic!("{MINUTES} must be a number"));
    (ROUND, (minutes * 60 / ROUND.as_secs() as u32).max(SHORT_ROUNDS))
}

fn seed() -> u64 {
    let text = std::env::var(SEED).ok();
    text.map_or_else(
        || fastrand::u64(..),
        |text| text.parse().unwrap_or_else(|_| panic!("{SEED} must be a number")),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn soak() {
    let ((lasting, rounds), seed) = (plan(), seed());
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let site = Site::new();
    let dispatcher = Dispatcher::start(&site).await;
    let pid = dispatcher.process.pid;
    let before = Gauge::read(pid);
    let tally = Arc::new(Tally::default());
    let mut memory = Vec::new();
    // The same in each round, so that they are opened and closed again and again.
    let ports = [(); 6].map(|()| free_port());
    for number in 1..=rounds {
        round(&dispatcher, ports, lasting, &mut random, &tally).await;
        let gauge = Gauge::settled(pid, before.descriptors).await;
        memory.push(gauge.resident_kib as f64);
        println!("round {number} of {rounds}: {gauge}; {}", tally.shown());
    }
    let settled = &memory[memory.len() / 3..];
    let growth = growth(settled);
    println!(
        "memory grew by {growth:.0} KiB over {} rounds after the warm-up; {MAX_GROWTH_KIB} are allowed",
        settled.len()
    );
    assert!(growth <= MAX_GROWTH_KIB, "memory after each round, in KiB: {memory:?}");
    for counter in [&tally.visits, &tally.bytes, &tally.datagrams, &tally.kills, &tally.refusals] {
        assert!(counter.load(Ordering::Relaxed) > 0, "a part of the load did nothing: {}", tally.shown());
    }
    dispatcher.process.stop().await;
}

/// Load for a while; then everybody leaves.
async fn round(
    dispatcher: &Dispatcher,
    ports: [u16; 6],
    lasting: Duration,
    random: &mut fastrand::Rng,
    tally: &Arc<Tally>,
) {
    let (stop, leave) = (CancellationToken::new(), CancellationToken::new());
    let [quick, slow, udp, lazy, killed, wrong] = ports;
    let (mut load, mut answering) = (JoinSet::new(), JoinSet::new());
    for (protocol, port, pace) in [
        ("tcp", quick, Pace::Quick),
        ("tcp", slow, Pace::Quick),
        ("udp", udp, Pace::Quick),
        ("tcp", lazy, Pace::Slow),
    ] {
        let driver = Driver::open(&dispatcher.address, protocol, port).await;
        answering.spawn(drivers::echo(driver, pace, leave.clone()));
    }
    let mut spawn = |port, count, manners: fn(&mut fastrand::Rng) -> devices::Manners| {
        for _ in 0..count {
            load.spawn(devices::come_and_go(port, manners, random.fork(), stop.clone(), Arc::clone(tally)));
        }
    };
    spawn(quick, DEVICES, devices::Manners::quick);
    spawn(slow, SLOW_DEVICES, devices::Manners::slow);
    spawn(lazy, SLOW_DEVICES, devices::Manners::quick);
    for _ in 0..PEERS {
        load.spawn(devices::peer(udp, random.fork(), stop.clone(), Arc::clone(tally)));
    }
    let address = &dispatcher.address;
    load.spawn(drivers::killed(address.clone(), killed, stop.clone(), Arc::clone(tally)));
    load.spawn(drivers::malformed(address.clone(), wrong, random.fork(), stop.clone(), Arc::clone(tally)));
    tokio::select! {
        () = sleep(lasting) => {}
        Some(ended) = load.join_next() => panic!("a part of the load broke off: {ended:?}"),
        Some(ended) = answering.join_next() => panic!("a driver broke off: {ended:?}"),
    }
    stop.cancel();
    while let Some(ended) = soon("the end of the load", load.join_next()).await {
        ended.unwrap();
    }
    leave.cancel();
    while let Some(ended) = soon("the end of the drivers", answering.join_next()).await {
        ended.unwrap();
    }
    let is_idle = |stats: &serde_json::Value| {
        ["drivers", "devices", "queued_bytes", "backlog_bytes"].iter().all(|name| stats[name] == 0)
            && stats["ports"] == json!([])
    };
    dispatcher.until("a dispatcher that nobody uses", is_idle).await;
}
