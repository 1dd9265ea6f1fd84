//! The command line of `sortie bench`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use crate::data_path::Case;

/// Measure a control plane
#[derive(Args, Debug)]
pub struct Bench {
    #[command(subcommand)]
    pub(crate) action: Action,
}

impl Bench {
    /// Whether this is a game server that a benchmark has started.
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
    // Its own `--version` is the game's.
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
    /// Base address of a running control plane; without it one is started, and ended again
    #[arg(long)]
    pub(crate) url: Option<String>,
    /// API key
    #[arg(long, env = "SORTIE_API_KEY", hide_env_values = true)]
    pub(crate) key: Option<String>,
    /// Folder for what is written on the way, on the disk that is to be measured; the working folder if not given
    #[arg(long)]
    pub(crate) data: Option<PathBuf>,
    /// One line of JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct BrokerOptions {
    #[command(flatten)]
    pub(crate) target: TargetOptions,
    /// Calls in flight, one level after the other
    #[arg(long, default_value = "1,8,64", value_delimiter = ',', value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) in_flight: Vec<u16>,
    /// How long each level is measured
    #[arg(long = "for", default_value = "10s", value_parser = duration)]
    pub(crate) lasting: Duration,
    /// Matches of the long queue; none is measured if not given
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=500_000))]
    pub(crate) queued: u32,
    /// Different requirements that servers ask the queues with
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(2..=100_000))]
    pub(crate) filters: u32,
    /// Servers that wait beside the long queue
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=50_000))]
    pub(crate) waiting: u32,
}

#[derive(Args, Debug)]
pub(crate) struct GatewayOptions {
    #[command(flatten)]
    pub(crate) target: TargetOptions,
    /// Players that join at a time, one level after the other
    #[arg(long, default_value = "1,8,64", value_delimiter = ',', value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) in_flight: Vec<u16>,
    /// How long each level is measured
    #[arg(long = "for", default_value = "10s", value_parser = duration)]
    pub(crate) lasting: Duration,
    /// Game to ask a running control plane for
    #[arg(long, requires = "url")]
    pub(crate) game: Option<String>,
    /// Version to ask for
    #[arg(long, requires = "url")]
    pub(crate) version: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct SidecarOptions {
    /// Game servers that call at a time, one level after the other
    #[arg(long, default_value = "1,8", value_delimiter = ',', value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) in_flight: Vec<u16>,
    /// How long each level is measured
    #[arg(long = "for", default_value = "10s", value_parser = duration)]
    pub(crate) lasting: Duration,
    /// Folder for what is written on the way; the working folder if not given
    #[arg(long)]
    pub(crate) data: Option<PathBuf>,
    /// One line of JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct DispatchOptions {
    /// What to measure; everything if not given
    #[arg(long = "case", value_enum, value_delimiter = ',')]
    pub(crate) cases: Vec<Case>,
    /// Bytes of a message, one size after the other
    #[arg(long, default_value = "64,1024,16384", value_delimiter = ',', value_parser = bytes)]
    pub(crate) sizes: Vec<usize>,
    /// Devices that send or are sent to, one number after the other
    #[arg(long, default_value = "1,100", value_delimiter = ',', value_parser = devices)]
    pub(crate) devices: Vec<usize>,
    /// Times that the dispatcher and the relays take turns
    #[arg(long, default_value = "5", value_parser = rounds)]
    pub(crate) rounds: usize,
    /// How long each of them is measured in each turn
    #[arg(long = "for", default_value = "800ms", value_parser = duration)]
    pub(crate) lasting: Duration,
    /// Idle devices whose memory is measured
    #[arg(long, default_value = "5000", value_parser = devices)]
    pub(crate) idle_devices: usize,
    /// One line of JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct RelayOptions {
    /// What the benchmark says to it
    pub(crate) arguments: Vec<String>,
}

#[derive(Args, Debug)]
pub(crate) struct ReplayOptions {
    /// Events of the log
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    pub(crate) events: u32,
    /// Folder for the log; the working folder if not given
    #[arg(long)]
    pub(crate) data: Option<PathBuf>,
    /// One line of JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct MatchmakerOptions {
    /// Tickets that wait, one number after the other
    #[arg(long, default_value = "1000,10000,100000,1000000", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=1_500_000))]
    pub(crate) tickets: Vec<u32>,
    /// The queue; each of them if not given
    #[arg(long = "queue", value_enum, value_delimiter = ',')]
    pub(crate) queues: Vec<MatchmakerCase>,
    /// Only the kinds of rules that make searches long, and input that was made to be bad
    #[arg(long, conflicts_with = "queues")]
    pub(crate) kinds: bool,
    /// Tickets that arrive in a second
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) arrivals: u32,
    /// Seconds of virtual time before anything is measured
    #[arg(long, default_value_t = 45, value_parser = clap::value_parser!(u32).range(0..=600))]
    pub(crate) warm_up: u32,
    /// Seconds of virtual time that are measured
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=600))]
    pub(crate) seconds: u32,
    /// One line of JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Clone, Copy, ValueEnum, Debug)]
pub(crate) enum MatchmakerCase {
    /// One against one, with the same value of a property
    #[value(name = "1v1-equality")]
    Equality,
    /// One against one, by a rating, within a distance that widens
    #[value(name = "1v1-skill")]
    Skill,
    /// Five against five in parties, by rating and latency
    #[value(name = "5v5-skill-latency-parties")]
    Parties,
}

fn duration(text: &str) -> Result<Duration, String> {
    sortie_config_file::duration(text)
}

/// Bytes of one message: what a frame of a dispatcher may have.
fn bytes(text: &str) -> Result<usize, String> {
    within(text, 1..=32 << 10)
}

/// Connections at a time: those of one address have about so many ports.
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
