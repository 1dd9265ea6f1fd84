//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Brings players and dedicated game servers together.
#[derive(Parser, Debug)]
#[command(name = "sortie", version, about, propagate_version = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Run the control plane: API, gateway, broker, allocators
    Up(Up),
    /// Show everything at work: a control plane, arena servers as real processes, bots that keep arriving
    Demo(Demo),
    /// The built-in game: a server for it, or bots that play it
    Arena(Arena),
    /// Stand beside a game server, and speak to whatever matches it
    Sidecar(Sidecar),
    /// Submit, list, show, explain or cancel matches of a running control plane
    Match(Match),
    /// Game servers of a running control plane
    Server(Listing),
    /// Fleets of a running control plane
    Fleet(Listing),
    /// Events of a running control plane
    Events(Events),
    /// Check or show the configuration
    Config(Config),
    /// Make, list or revoke API keys
    Key(Key),
    /// Print a script that completes this command line in a shell
    Completions(Completions),
    /// Measure a control plane
    Bench(Bench),
}

/// Where the configuration comes from.
#[derive(Args, Clone, Debug)]
pub(crate) struct Source {
    /// Configuration file (TOML, JSON or YAML); without it ./sortie.toml is read if there is one
    #[arg(long, env = "SORTIE_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// Address and port to listen on
    #[arg(long)]
    pub(crate) listen: Option<SocketAddr>,
    /// Data folder
    #[arg(long)]
    pub(crate) data: Option<PathBuf>,
    /// Development mode: no keys needed, loopback only, the arena game if no fleet is configured
    #[arg(long)]
    pub(crate) dev: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Up {
    #[command(flatten)]
    pub(crate) source: Source,
}

#[derive(Args, Debug)]
pub(crate) struct Sidecar {
    /// Settings file: JSON as the Catena sidecar has it, or the same keys as TOML
    #[arg(long, env = "SORTIE_SIDECAR_CONFIG")]
    pub(crate) config: PathBuf,
}

#[derive(Args, Debug)]
pub(crate) struct Demo {
    /// Bots that play at a time
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=2000))]
    pub(crate) players: u32,
    /// How long bots keep arriving
    #[arg(long = "for", default_value = "20s", value_parser = duration)]
    pub(crate) lasting: Duration,
    /// Seed of what the bots do
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// End with one line of JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Arena {
    #[command(subcommand)]
    pub(crate) role: ArenaRole,
}

#[derive(Subcommand, Debug)]
pub(crate) enum ArenaRole {
    /// Run a game server; what is not given is read from the environment that Sortie starts servers with
    Serve(ArenaServe),
    /// Send bots through a gateway
    // Its own `--version` is the game's.
    #[command(disable_version_flag = true)]
    Play(ArenaPlay),
}

#[derive(Args, Debug)]
pub(crate) struct ArenaServe {
    /// Base address of the control plane (SORTIE_API)
    #[arg(long)]
    pub(crate) api: Option<String>,
    /// PEM file with roots to trust beside those of the system (SORTIE_CA)
    #[arg(long)]
    pub(crate) ca: Option<PathBuf>,
    /// Id of this server (SORTIE_SERVER_ID)
    #[arg(long)]
    pub(crate) server_id: Option<String>,
    /// UDP port (SORTIE_PORT)
    #[arg(long)]
    pub(crate) port: Option<u16>,
    /// host:port at which players reach this server (SORTIE_PUBLIC_ADDRESS)
    #[arg(long)]
    pub(crate) public_address: Option<String>,
    /// Which matches it takes: JMESPath over the match document
    #[arg(long, default_value = "")]
    pub(crate) requirements: String,
    /// Matches played at a time
    #[arg(long, default_value_t = 1)]
    pub(crate) matches: usize,
    /// Longest match
    #[arg(long, value_parser = duration)]
    pub(crate) match_length: Option<Duration>,
}

#[derive(Args, Debug)]
pub(crate) struct ArenaPlay {
    #[command(flatten)]
    pub(crate) remote: Remote,
    /// Bots in all
    #[arg(long, default_value_t = 1)]
    pub(crate) players: u32,
    /// Time over which they arrive
    #[arg(long, default_value = "1s", value_parser = duration)]
    pub(crate) over: Duration,
    /// How long each plays
    #[arg(long = "for", default_value = "5s", value_parser = duration)]
    pub(crate) lasting: Duration,
    /// Game to ask for
    #[arg(long)]
    pub(crate) game: Option<String>,
    /// Version to ask for
    #[arg(long)]
    pub(crate) version: Option<String>,
    /// Seed of what the bots do
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
}

/// Which control plane to talk to.
#[derive(Args, Clone, Debug)]
pub(crate) struct Remote {
    /// Base address of the control plane
    #[arg(long, env = "SORTIE_API", default_value = "http://127.0.0.1:7400")]
    pub(crate) url: String,
    /// PEM file with roots to trust beside those of the system
    #[arg(long, env = "SORTIE_CA")]
    pub(crate) ca: Option<PathBuf>,
    /// API key
    #[arg(long, env = "SORTIE_API_KEY", hide_env_values = true)]
    pub(crate) key: Option<String>,
    /// JSON instead of a table
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Match {
    #[command(subcommand)]
    pub(crate) action: MatchAction,
}

#[derive(Subcommand, Debug)]
pub(crate) enum MatchAction {
    /// Submit a match
    Submit(Submit),
    /// List matches
    List(MatchList),
    /// Show one match
    Show(MatchId),
    /// Say why a match still waits, or why it failed
    Explain(MatchId),
    /// Cancel a match
    Cancel(MatchId),
}

#[derive(Args, Debug)]
pub(crate) struct Submit {
    #[command(flatten)]
    pub(crate) remote: Remote,
    /// A player's id; repeat for each player
    #[arg(long = "player")]
    pub(crate) players: Vec<String>,
    /// Properties of the match, a JSON object
    #[arg(long)]
    pub(crate) properties: Option<String>,
    /// Places, for drop-in play
    #[arg(long)]
    pub(crate) capacity: Option<u32>,
    /// The fleet whose servers may take it
    #[arg(long)]
    pub(crate) fleet: Option<String>,
    /// The same submission under the same key is one match
    #[arg(long)]
    pub(crate) idempotency_key: Option<String>,
}

#[derive(Clone, Copy, ValueEnum, Debug)]
#[value(rename_all = "snake_case")]
pub(crate) enum State {
    Queued,
    PickedUp,
    Ready,
    Ended,
    Failed,
    Cancelled,
}

#[derive(Args, Debug)]
pub(crate) struct MatchList {
    #[command(flatten)]
    pub(crate) remote: Remote,
    /// Only those in this state
    #[arg(long)]
    pub(crate) state: Option<State>,
}

#[derive(Args, Debug)]
pub(crate) struct MatchId {
    #[command(flatten)]
    pub(crate) remote: Remote,
    /// The match's id
    pub(crate) id: String,
}

#[derive(Args, Debug)]
pub(crate) struct Listing {
    #[command(subcommand)]
    pub(crate) action: ListingAction,
}

#[derive(Subcommand, Debug)]
pub(crate) enum ListingAction {
    /// List them
    List(Remote),
}

#[derive(Args, Debug)]
pub(crate) struct Events {
    #[command(subcommand)]
    pub(crate) action: EventsAction,
}

#[derive(Subcommand, Debug)]
pub(crate) enum EventsAction {
    /// Follow events as they come
    Tail(Tail),
}

#[derive(Args, Debug)]
pub(crate) struct Tail {
    #[command(flatten)]
    pub(crate) remote: Remote,
    /// Where to begin: a sequence number, earliest or latest
    #[arg(long, default_value = "latest")]
    pub(crate) from: String,
    /// Only types that begin so, like sortie.match; repeat for several
    #[arg(long = "type")]
    pub(crate) types: Vec<String>,
}

#[derive(Args, Debug)]
pub(crate) struct Config {
    #[command(subcommand)]
    pub(crate) action: ConfigAction,
}

#[derive(Subcommand, Debug)]
pub(crate) enum ConfigAction {
    /// Say everything that is wrong with the configuration
    Check(Source),
    /// Print the configuration in force, without its secrets
    Show(Source),
    /// Print every key: type, unit, default and meaning
    Reference(Reference),
    /// Write the sortie.toml that does what the settings of a Catena node do, and say what it could not take over
    ImportCatena(ImportCatena),
}

#[derive(Args, Debug)]
pub(crate) struct Key {
    #[command(subcommand)]
    pub(crate) action: KeyAction,
}

#[derive(Subcommand, Debug)]
pub(crate) enum KeyAction {
    /// Make a key and keep its hash in the data folder; the key itself is shown once. It is good at once
    Create(KeyCreate),
    /// List the keys of the data folder and of the configuration
    List(KeyPlace),
    /// Take a key away. A running control plane refuses it at once
    Revoke(KeyRevoke),
}

/// Where the keys are.
#[derive(Args, Debug)]
pub(crate) struct KeyPlace {
    /// Data folder; without it, that of the configuration
    #[arg(long)]
    pub(crate) data: Option<PathBuf>,
    /// Configuration file; without it ./sortie.toml is read if there is one
    #[arg(long, env = "SORTIE_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// One line of JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct KeyCreate {
    /// Name of the key, for lists and logs
    #[arg(long)]
    pub(crate) name: String,
    /// What its holder may do: game_server_match, client or admin; repeat for several
    #[arg(long = "permission", required = true, value_parser = permission)]
    pub(crate) permissions: Vec<sortie_config::Permission>,
    #[command(flatten)]
    pub(crate) place: KeyPlace,
}

#[derive(Args, Debug)]
pub(crate) struct KeyRevoke {
    /// Name of the key
    #[arg(long)]
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) place: KeyPlace,
}

#[derive(Args, Debug)]
pub(crate) struct Reference {
    /// Form of the output
    #[arg(long, value_enum, default_value_t = ReferenceFormat::Text)]
    pub(crate) format: ReferenceFormat,
}

#[derive(Clone, Copy, ValueEnum, Debug)]
pub(crate) enum ReferenceFormat {
    /// For a terminal
    Text,
    /// The contents of docs/config.md
    Markdown,
    /// A list of objects
    Json,
}

#[derive(Args, Debug)]
pub(crate) struct ImportCatena {
    /// The node's settings: JSON with a block MatchBroker, at the top or under Catena
    pub(crate) file: PathBuf,
    /// File to write; without it the configuration goes to standard output
    #[arg(long)]
    pub(crate) output: Option<PathBuf>,
    /// Replace the file if there is one
    #[arg(long, requires = "output")]
    pub(crate) force: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Completions {
    /// The shell
    #[arg(value_enum)]
    pub(crate) shell: clap_complete::Shell,
}

#[derive(Args, Debug)]
pub(crate) struct Bench {
    #[command(subcommand)]
    pub(crate) action: BenchAction,
}

#[derive(Subcommand, Debug)]
pub(crate) enum BenchAction {
    /// Whole lives of matches, against health checks and bare syncs; with --queued, a long queue against a short one
    Broker(BenchBroker),
    /// Players' seats and connect tokens, against health checks
    // Its own `--version` is the game's.
    #[command(disable_version_flag = true)]
    Gateway(BenchGateway),
    /// A game server's calls through a sidecar, against the same calls without one; a sidecar's start and memory
    Sidecar(BenchSidecar),
    /// A start over a long log
    Replay(BenchReplay),
    /// What plays the gateway's matches
    #[command(hide = true)]
    GameServer,
}

/// What is measured.
#[derive(Args, Debug)]
pub(crate) struct BenchTarget {
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
pub(crate) struct BenchBroker {
    #[command(flatten)]
    pub(crate) target: BenchTarget,
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
pub(crate) struct BenchGateway {
    #[command(flatten)]
    pub(crate) target: BenchTarget,
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
pub(crate) struct BenchSidecar {
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
pub(crate) struct BenchReplay {
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

fn duration(text: &str) -> Result<Duration, String> {
    sortie_config::duration_of(text)
}

fn permission(text: &str) -> Result<sortie_config::Permission, String> {
    sortie_config::Permission::by_name(text)
        .ok_or_else(|| format!("must be one of {}", sortie_config::Permission::NAMES.join(", ")))
}
