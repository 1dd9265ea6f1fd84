//! The command line of `sortie bench`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use crate::data_path::Case;

/// Measure a control plane
#[derive(Args, Debug)]
pub struct Bench {
    /// One line of JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) action: Action,
}

impl Bench {
    /// Whether this is a game server started by a benchmark.
    #[must_use]
    pub const fn is_game_server(&self) -> bool {
        matches!(self.action, Action::GameServer)
    }
}

#[derive(Subcommand, Debug)]
pub(crate) enum Action {
    /// Whole lives of matches, against health checks and bare syncs; with --queued, a long queue against a short one
    Broker(BrokerOptions),
    /// Players' seats and connect tokens, against health checks
    // The game has a `--version` of its own.
    #[command(disable_version_flag = true)]
    Gateway(GatewayOptions),
    /// A game server's calls through a sidecar, against the same calls without one; a sidecar's start and memory
    Sidecar(SidecarOptions),
    /// What goes through a dispatcher, against relays that do less
    Dispatch(DispatchOptions),
    /// The matchmaker's ticks with many tickets, against a plain scan
    Matchmaker(MatchmakerOptions),
    /// A start over a long log
    Replay(ReplayOptions),
    /// What plays the gateway's matches
    #[command(hide = true)]
    GameServer,
    /// A relay that is measured
    #[command(hide = true)]
    DispatchRelay(RelayOptions),
}

/// What is measured.
#[derive(Args, Debug)]
pub(crate) struct TargetOptions {
    /// Base address of a running control plane; without it one is started and stopped again
    #[arg(long)]
    pub(crate) url: Option<String>,
    /// API key
    #[arg(long, env = "SORTIE_API_KEY", hide_env_values = true)]
    pub(crate) key: Option<String>,
    /// Folder for written data, on the disk to measure; default: the working folder
    #[arg(long)]
    pub(crate) data: Option<PathBuf>,
}

/// How much load.
#[derive(Args, Debug)]
pub(crate) struct LevelOptions {
    /// Calls in flight, or players that join concurrently, one level after the other
    #[arg(long, default_value = "1,8,64", value_delimiter = ',', value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) in_flight: Vec<u16>,
    /// Duration of each level
    #[arg(long = "for", default_value = "10s", value_parser = duration)]
    pub(crate) lasting: Duration,
}

#[derive(Args, Debug)]
pub(crate) struct BrokerOptions {
    #[command(flatten)]
    pub(crate) target: TargetOptions,
    #[command(flatten)]
    pub(crate) levels: LevelOptions,
    /// Number of matches in the long queue; without it, no long queue is measured
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=500_000))]
    pub(crate) queued: u32,
    /// Number of different requirements in the servers' requests
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(2..=100_000))]
    pub(crate) filters: u32,
    /// Servers that wait in addition to the long queue
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=50_000))]
    pub(crate) waiting: u32,
}

#[derive(Args, Debug)]
pub(crate) struct GatewayOptions {
    #[command(flatten)]
    pub(crate) target: TargetOptions,
    #[command(flatten)]
    pub(crate) levels: LevelOptions,
    /// Game to request from a running control plane
    #[arg(long, requires = "url")]
    pub(crate) game: Option<String>,
    /// Version to request
    #[arg(long, requires = "url")]
    pub(crate) version: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct SidecarOptions {
    /// Game servers that call concurrently, one level after the other
    #[arg(long, default_value = "1,8", value_delimiter = ',', value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) in_flight: Vec<u16>,
    /// Duration of each level
    #[arg(long = "for", default_value = "10s", value_parser = duration)]
    pub(crate) lasting: Duration,
    /// Folder for written data; default: the working folder
    #[arg(long)]
    pub(crate) data: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct DispatchOptions {
    /// What to measure; default: everything
    #[arg(long = "case", value_enum, value_delimiter = ',')]
    pub(crate) cases: Vec<Case>,
    /// Size of a message in bytes, one size after the other
    #[arg(long, default_value = "64,1024,16384", value_delimiter = ',', value_parser = bytes)]
    pub(crate) sizes: Vec<usize>,
    /// Number of devices that send or receive, one number after the other
    #[arg(long, default_value = "1,100", value_delimiter = ',', value_parser = devices)]
    pub(crate) devices: Vec<usize>,
    /// Number of rounds in which the dispatcher and the relays take turns
    #[arg(long, default_value = "5", value_parser = rounds)]
    pub(crate) rounds: usize,
    /// Duration of each of them in each round
    #[arg(long = "for", default_value = "800ms", value_parser = duration)]
    pub(crate) lasting: Duration,
    /// Number of idle devices whose memory is measured
    #[arg(long, default_value = "5000", value_parser = devices)]
    pub(crate) idle_devices: usize,
}

#[derive(Args, Debug)]
pub(crate) struct RelayOptions {
    /// Commands from the benchmark
    pub(crate) arguments: Vec<String>,
}

#[derive(Args, Debug)]
pub(crate) struct ReplayOptions {
    /// Number of events in the log
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    pub(crate) events: u32,
    /// Folder for the log; default: the working folder
    #[arg(long)]
    pub(crate) data: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct MatchmakerOptions {
    /// Number of waiting tickets, one number after the other
    #[arg(long, default_value = "1000,10000,100000,1000000", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=1_500_000))]
    pub(crate) tickets: Vec<u32>,
    /// The queue; default: all of them
    #[arg(long = "queue", value_enum, value_delimiter = ',')]
    pub(crate) queues: Vec<MatchmakerCase>,
    /// Only the kinds of rules that make searches long, and hostile input
    #[arg(long, conflicts_with = "queues")]
    pub(crate) kinds: bool,
    /// Tickets that arrive per second
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) arrivals: u32,
    /// Seconds of virtual time before the measurement
    #[arg(long, default_value_t = 45, value_parser = clap::value_parser!(u32).range(0..=600))]
    pub(crate) warm_up: u32,
    /// Seconds of virtual time that are measured
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=600))]
    pub(crate) seconds: u32,
}

#[derive(Clone, Copy, ValueEnum, Debug)]
pub(crate) enum MatchmakerCase {
    /// One against one, with the same value of a property
    #[value(name = "1v1-equality")]
    Equality,
    /// One against one, by rating, within a distance that widens
    #[value(name = "1v1-skill")]
    Skill,
    /// Five against five in parties, by rating and latency
    #[value(name = "5v5-skill-latency-parties")]
    Parties,
}

fn duration(text: &str) -> Result<Duration, String> {
    sortie_config_file::duration(text)
}

/// Size of one message in bytes: the limit of a dispatcher's frame.
fn bytes(text: &str) -> Result<usize, String> {
    within(text, 1..=32 << 10)
}

/// Number of connections: one address has about this many ports.
fn devices(text: &str) -> Result<usize, String> {
    within(text, 1..=20_000)
}

fn rounds(text: &str) -> Result<usize, String> {
    within(text, 1..=1_000)
}

fn within(text: &str, range: std::ops::RangeInclusive<usize>) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| range.contains(number));
    number.ok_or_else(|| format!("must be a number from {} to {}", range.start(), range.end()))
}
