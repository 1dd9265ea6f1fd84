//! `sortie demo`: runs everything on this machine, and leaves nothing behind.

mod handover;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use sortie_arena::{Arrivals, BotEvent, PlayOptions, PlaySummary, play};
use sortie_config::LogFormat;
use sortie_domain::broker::{Broker, Event};
use sortie_engine::{Cursor, Handle};
use tokio::sync::Notify;
use tokio::time::{Instant, interval};

use super::arena::{failures, millis, percentiles, times};
use super::config::{ArenaFleet, arena_config};
use super::output::line;
use super::signals::Signals;
use crate::broker::retire_fleets;
use crate::cli::{self, Teams};
use crate::failure::Failure;
use crate::logging;
use crate::node::Node;
use crate::used::Accepted;

/// Places in a match of the demo.
const CAPACITY: u32 = 10;
/// Idle servers kept ready.
const WARM: u32 = 1;
/// UDP ports of the servers; the demo uses those that are free.
const PORTS: std::ops::RangeInclusive<u16> = 20_000..=29_999;
/// Maximum time for servers to exit after the last player.
const CLEAN_UP_TIME: Duration = Duration::from_secs(20);
/// Handovers to waiting servers that are measured.
const HANDOVERS: u32 = 50;
/// Interval between progress reports without a terminal.
const REPORT_EVERY: Duration = Duration::from_secs(2);

/// Totals so far.
#[derive(Default)]
struct Counters {
    playing: AtomicU64,
    joined: AtomicU64,
    failed: AtomicU64,
    matches: AtomicU64,
    servers: AtomicU64,
}

pub(crate) async fn run(options: cli::Demo) -> Result<ExitCode, Failure> {
    logging::start("warn", LogFormat::Text);
    let data = tempfile::tempdir().map_err(|error| Failure::of("cannot make a temporary folder", error))?;
    let binary = std::env::current_exe()?;
    // Matches of a queue take no further players.
    let (size, spare) = match options.queue {
        Some(Teams { teams, players }) => (teams * players, 3),
        None => (CAPACITY, 2),
    };
    // Enough for all players, plus some while old matches finish.
    let fleet = ArenaFleet {
        max: options.players.div_ceil(size) * spare + WARM + 1,
        warm: WARM,
        capacity: CAPACITY,
        ports: PORTS,
        queue: options.queue,
    };
    let mut config = arena_config(&binary, &fleet)?;
    config.data = data.path().to_owned();
    config.listen.set_port(0);
    let mut signals = Signals::listen()?;
    let start = async move { Node::start(&config, Accepted::default()).await };
    let node = match signals.while_starting(start).await {
        Ok(started) => started??,
        Err(code) => return Ok(code),
    };
    line(format_args!("listening on http://{}", node.address))?;
    let (url, broker) = (format!("http://{}", node.address), node.broker.clone());
    let done = Arc::new(Notify::new());
    let stop = Arc::clone(&done);
    let running = tokio::spawn(node.run(async move { stop.notified().await }));
    let counters = Arc::new(Counters::default());
    let counting = tokio::spawn(count_events(broker.clone(), Arc::clone(&counters)));
    let played = play_all(&options, &url, &broker, &counters, &mut signals).await;
    // Clean up in any case.
    let servers_left = retire_fleets(&broker, CLEAN_UP_TIME).await;
    done.notify_one();
    let outcome = running.await?;
    counting.await?;
    let (played, servers_left) = (played?, servers_left?);
    report(&options, &played, &counters, servers_left)?;
    let clean = outcome.failed.is_none() && outcome.broken_off.is_empty() && servers_left == 0;
    let good = played.summary.failures() == 0 && played.summary.joined > 0;
    Ok(if good && clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Results of the bots and of the handover measurement.
struct Played {
    summary: PlaySummary,
    /// Times from a match to its waiting server, sorted.
    handovers: Vec<Duration>,
}

async fn play_all(
    options: &cli::Demo,
    url: &str,
    broker: &Handle<Broker>,
    counters: &Counters,
    signals: &mut Signals,
) -> Result<Played, Failure> {
    let arrivals = Arrivals::Keep { players: options.players, lasting: options.lasting };
    let mut bots = PlayOptions::new(url.to_owned(), arrivals, options.seed);
    bots.queue = options.queue.map(|queue| queue.to_string());
    let measuring = {
        let (url, broker) = (url.to_owned(), broker.clone());
        tokio::spawn(async move { handover::measure(&url, &broker, HANDOVERS).await })
    };
    let summary = watch_bots(bots, options.lasting, counters, signals).await?;
    Ok(Played { summary, handovers: measuring.await?? })
}

/// Counts matches and servers from the event log until it ends.
async fn count_events(broker: Handle<Broker>, counters: Arc<Counters>) {
    let mut events = broker.subscribe(Cursor::Earliest);
    while let Ok(record) = events.next().await {
        match &record.event {
            Event::MatchReady { server, .. } if server.as_str().starts_with(handover::PROBE) => 0,
            Event::MatchReady { .. } => counters.matches.fetch_add(1, Ordering::Relaxed),
            // Not `AllocationStarted`: it is missing if the server's first call came before the platform's answer.
            Event::ServerAvailable { .. } => counters.servers.fetch_add(1, Ordering::Relaxed),
            _ => 0,
        };
    }
}

/// Runs the bots and shows their progress.
async fn watch_bots(
    bots: PlayOptions,
    lasting: Duration,
    counters: &Counters,
    signals: &mut Signals,
) -> Result<PlaySummary, Failure> {
    let bar = progress_bar(lasting);
    let began = Instant::now();
    let observe = |event: &BotEvent| match event {
        BotEvent::Joined { .. } => {
            counters.playing.fetch_add(1, Ordering::Relaxed);
            counters.joined.fetch_add(1, Ordering::Relaxed);
        }
        BotEvent::Left { .. } | BotEvent::Rejoining { .. } => {
            let less = |playing: u64| Some(playing.saturating_sub(1));
            let _ = counters.playing.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        }
        BotEvent::Failed { bot, reason, detail } => {
            counters.failed.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(bot, %reason, detail, "a bot failed");
        }
        BotEvent::Started { .. } => {}
    };
    let stop = async {
        signals.next().await;
    };
    let playing = play(bots, stop, observe);
    tokio::pin!(playing);
    let mut ticks = interval(if bar.is_some() { REPORT_EVERY / 20 } else { REPORT_EVERY });
    loop {
        tokio::select! {
            summary = &mut playing => {
                if let Some(bar) = &bar {
                    bar.finish_and_clear();
                }
                return Ok(summary?);
            }
            _ = ticks.tick() => show(bar.as_ref(), began.elapsed().min(lasting), counters)?,
        }
    }
}

/// A progress bar; `None` without a terminal.
fn progress_bar(lasting: Duration) -> Option<ProgressBar> {
    let bar = ProgressBar::new(lasting.as_millis() as u64);
    let style =
        ProgressStyle::with_template("{bar:30} {msg}").unwrap_or_else(|_| ProgressStyle::default_bar());
    bar.set_style(style);
    (!bar.is_hidden()).then_some(bar)
}

fn show(bar: Option<&ProgressBar>, elapsed: Duration, counters: &Counters) -> Result<(), Failure> {
    let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let text = format!(
        "{} playing, {} joined, {} matches, {} servers started, {} failed",
        read(&counters.playing),
        read(&counters.joined),
        read(&counters.matches),
        read(&counters.servers),
        read(&counters.failed),
    );
    match bar {
        Some(bar) => {
            bar.set_position(elapsed.as_millis() as u64);
            bar.set_message(text);
            Ok(())
        }
        None => line(format_args!("{:>3} s: {text}", elapsed.as_secs())),
    }
}

fn report(
    options: &cli::Demo,
    played: &Played,
    counters: &Counters,
    servers_left: usize,
) -> Result<(), Failure> {
    let Played { summary, handovers } = played;
    let matches = counters.matches.load(Ordering::Relaxed);
    let servers = counters.servers.load(Ordering::Relaxed);
    line(format_args!("players joined    {} ({} played to the end)", summary.joined, summary.left))?;
    line(format_args!("matches played    {matches}"))?;
    if options.queue.is_some() {
        line(format_args!("join time, queue  {}", times(&summary.join)))?;
    } else {
        line(format_args!("join time, warm   {}", times(&summary.join_warm)))?;
        line(format_args!("join time, cold   {}", times(&summary.join_cold)))?;
    }
    line(format_args!("match to server   {}", handover_times(handovers)))?;
    line(format_args!("servers started   {servers}, left running {servers_left}"))?;
    let failures = failures(summary);
    line(format_args!("failures          {}", summary.failures()))?;
    for (reason, count) in &failures {
        line(format_args!("  {reason}: {count}"))?;
    }
    if options.json {
        let mut document = json!({
            "players_joined": summary.joined,
            "matches_played": matches,
            "servers_started": servers,
            "servers_left": servers_left,
            "failures": failures,
        });
        if options.queue.is_some() {
            document["join_ms_queue"] = percentiles(&summary.join);
        } else {
            document["join_ms_warm"] = percentiles(&summary.join_warm);
            document["join_ms_cold"] = percentiles(&summary.join_cold);
        }
        line(document)?;
    }
    Ok(())
}

/// Percentiles of a sorted list of handover times.
fn handover_times(sorted: &[Duration]) -> String {
    let at = |percent: usize| sorted.get((sorted.len() * percent / 100).min(sorted.len().saturating_sub(1)));
    match (at(50), at(99)) {
        (Some(p50), Some(p99)) => {
            format!(
                "p50 {} ms, p99 {} ms ({} measured, server waiting)",
                millis(*p50),
                millis(*p99),
                sorted.len()
            )
        }
        _ => "none".to_owned(),
    }
}
