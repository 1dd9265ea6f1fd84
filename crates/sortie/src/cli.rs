//! The command line.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use sortie_domain::ids::FleetId;
use sortie_serving::ListenAddr;
use sortie_tunnel::Target;

pub(crate) use sortie_bench::Bench;

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
    /// Run everything on this machine: a control plane, arena servers as processes, and bots that keep arriving
    Demo(Demo),
    /// The built-in game: run a server for it, or bots that play it
    Arena(Arena),
    /// Run next to a game server and call the matchmaking backend on its behalf
    Sidecar(Sidecar),
    /// Open TCP and UDP ports for drivers that ask for them by websocket, or act as such a driver
    Dispatch(Dispatch),
    /// Submit, list, show, explain or cancel matches of a running control plane
    Match(Match),
    /// Start, list, show, explain, renew or cancel tickets, and accept or decline their matches
    Ticket(Ticket),
    /// List the queues of a running control plane
    Queue(Listing),
    /// List the game servers of a running control plane
    Server(Listing),
    /// List the fleets of a running control plane
    Fleet(Listing),
    /// Follow the events of a running control plane
    Events(Events),
    /// Export recorded tickets, or replay them under other rules
    Matchmaker(Matchmaker),
    /// Check or show the configuration
    Config(Config),
    /// Create, list or revoke API keys
    Key(Key),
    /// Turn a copied data folder into an installation of its own; the original's game servers are left alone
    Restore(Restore),
    /// Print a script that completes this command line in a shell
    Completions(Completions),
    /// Measure a control plane
    Bench(Bench),
    /// Started by the control plane for each local game server, to keep its output
    #[command(hide = true)]
    KeepOutput(KeepOutput),
    /// Started by the control plane for each local game server: enters its control group and becomes the server
    #[command(hide = true)]
    EnterGroup(EnterGroup),
}

/// Where the configuration comes from.
#[derive(Args, Clone, Debug)]
pub(crate) struct Source {
    /// Configuration file (TOML, JSON or YAML); the default is ./sortie.toml if it exists
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
    /// Start even if acknowledged records are missing or damaged, and continue with the rest; unusable files are moved
    /// to the folder `lost` in the data folder
    #[arg(long)]
    pub(crate) accept_loss: bool,
    /// Start even if the clock is far ahead of the log: deadlines that have passed since then fire at once
    #[arg(long)]
    pub(crate) accept_clock: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Sidecar {
    /// Settings file: JSON as for the Catena sidecar, or the same keys as TOML
    #[arg(long, env = "SORTIE_SIDECAR_CONFIG")]
    pub(crate) config: PathBuf,
}

#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Dispatch {
    #[command(subcommand)]
    pub(crate) role: Option<DispatchRole>,
    #[command(flatten)]
    pub(crate) serve: DispatchServe,
}

/// Subcommands of `sortie dispatch`.
#[derive(Subcommand, Debug)]
pub(crate) enum DispatchRole {
    /// Make a local server reachable at a port of a dispatcher
    Tunnel(DispatchTunnel),
}

#[derive(Args, Debug)]
pub(crate) struct DispatchTunnel {
    /// host:port of the local server
    #[arg(long)]
    pub(crate) to: Target,
    /// The dispatcher: ws://host:3000 or wss://host:3000
    #[arg(long, env = "SORTIE_DISPATCH_URL")]
    pub(crate) url: String,
    /// The port for the dispatcher to open
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) port: u16,
    /// TCP; without --tcp and --udp, both protocols
    #[arg(long)]
    pub(crate) tcp: bool,
    /// UDP
    #[arg(long)]
    pub(crate) udp: bool,
    /// Devices that may connect: addresses and ranges, separated by commas
    #[arg(long, default_value = "0.0.0.0/0,::/0")]
    pub(crate) accept: String,
    /// File with the dispatcher's secret or a dispatch token, read again for each connection; without it,
    /// SORTIE_DISPATCH_TOKEN, PLACE_SERVER_SECRET or SERVER_SECRET holds the secret
    #[arg(long, env = "SORTIE_DISPATCH_TOKEN_FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// PEM file with roots to trust in addition to the system's
    #[arg(long, env = "SORTIE_CA")]
    pub(crate) ca: Option<PathBuf>,
}

/// The dispatcher alone, without a control plane.
#[derive(Args, Debug)]
pub(crate) struct DispatchServe {
    /// Configuration file (TOML, JSON or YAML); the default is ./sortie.toml if it exists
    #[arg(long, env = "SORTIE_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// Address and port of the websockets (SG_SERVER_HOST and SG_SERVER_PORT)
    #[arg(long)]
    pub(crate) listen: Option<ListenAddr>,
    /// Development mode: no secret needed, loopback only
    #[arg(long)]
    pub(crate) dev: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Demo {
    /// Number of bots that play at the same time
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=2000))]
    pub(crate) players: u32,
    /// How long bots keep arriving
    #[arg(long = "for", default_value = "20s", value_parser = duration)]
    pub(crate) lasting: Duration,
    /// Play through tickets of the matchmaker instead of dropping in, in matches of this form, like 2v2
    #[arg(long, value_name = "FORM")]
    pub(crate) queue: Option<Teams>,
    /// Seed of the bots' behaviour
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Print a line of JSON at the end
    #[arg(long)]
    pub(crate) json: bool,
}

/// Teams of equal size, written like `2v2`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Teams {
    pub(crate) teams: u32,
    pub(crate) players: u32,
}

impl Teams {
    /// Maximum number of players in a match.
    const MOST: u32 = 100;
}

impl std::str::FromStr for Teams {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "must be teams of equal size, like 1v1, 2v2 or 3v3v3, with at most {} players",
                Self::MOST
            )
        };
        let sizes: Vec<u32> =
            text.split('v').map(str::parse).collect::<Result<_, _>>().map_err(|_| wrong())?;
        let (teams, players) =
            (u32::try_from(sizes.len()).map_err(|_| wrong())?, *sizes.first().ok_or_else(wrong)?);
        let fits =
            teams >= 2 && players >= 1 && teams.checked_mul(players).is_some_and(|all| all <= Self::MOST);
        if fits && sizes.iter().all(|size| *size == players) {
            Ok(Self { teams, players })
        } else {
            Err(wrong())
        }
    }
}

impl std::fmt::Display for Teams {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let sizes = (0..self.teams).map(|_| self.players.to_string());
        f.write_str(&sizes.collect::<Vec<_>>().join("v"))
    }
}

#[derive(Args, Debug)]
pub(crate) struct Arena {
    #[command(subcommand)]
    pub(crate) role: ArenaRole,
}

#[derive(Subcommand, Debug)]
pub(crate) enum ArenaRole {
    /// Run a game server; options default to the environment variables that Sortie sets for its servers
    Serve(ArenaServe),
    /// Run bots that join through a gateway
    // Its own `--version` is the game's.
    #[command(disable_version_flag = true)]
    Play(ArenaPlay),
}

#[derive(Args, Debug)]
pub(crate) struct ArenaServe {
    /// Base address of the control plane (SORTIE_API)
    #[arg(long)]
    pub(crate) api: Option<String>,
    /// PEM file with roots to trust in addition to the system's (SORTIE_CA)
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
    /// Which matches the server takes: JMESPath over the match document
    #[arg(long, default_value = "")]
    pub(crate) requirements: String,
    /// Maximum number of concurrent matches
    #[arg(long, default_value_t = 1)]
    pub(crate) matches: usize,
    /// Maximum length of a match
    #[arg(long, value_parser = duration)]
    pub(crate) match_length: Option<Duration>,
}

#[derive(Args, Debug)]
pub(crate) struct ArenaPlay {
    #[command(flatten)]
    pub(crate) remote: Remote,
    /// Total number of bots
    #[arg(long, default_value_t = 1)]
    pub(crate) players: u32,
    /// Time over which the bots arrive
    #[arg(long, default_value = "1s", value_parser = duration)]
    pub(crate) over: Duration,
    /// How long each bot plays
    #[arg(long = "for", default_value = "5s", value_parser = duration)]
    pub(crate) lasting: Duration,
    /// Game to ask for
    #[arg(long)]
    pub(crate) game: Option<String>,
    /// Version to ask for
    #[arg(long)]
    pub(crate) version: Option<String>,
    /// Queue to enter; without it, bots drop in
    #[arg(long)]
    pub(crate) queue: Option<String>,
    /// Seed of the bots' behaviour
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
}

/// Which control plane to talk to.
#[derive(Args, Clone, Debug)]
pub(crate) struct Remote {
    /// Base address of the control plane
    #[arg(long, env = "SORTIE_API", default_value = "http://127.0.0.1:7400")]
    pub(crate) url: String,
    /// PEM file with roots to trust in addition to the system's
    #[arg(long, env = "SORTIE_CA")]
    pub(crate) ca: Option<PathBuf>,
    /// API key
    #[arg(long, env = "SORTIE_API_KEY", hide_env_values = true)]
    pub(crate) key: Option<String>,
    /// Print JSON instead of a table
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
    /// Explain why a match still waits, or why it failed
    Explain(MatchId),
    /// Cancel a match
    Cancel(MatchId),
    /// Give a player of a running match a fresh connect token
    Rejoin(Rejoin),
}

#[derive(Args, Debug)]
pub(crate) struct Rejoin {
    #[command(flatten)]
    pub(crate) remote: Remote,
    /// The match's id
    pub(crate) id: String,
    /// The player's id
    #[arg(long)]
    pub(crate) player: String,
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
    /// Number of places, for drop-in play
    #[arg(long)]
    pub(crate) capacity: Option<u32>,
    /// The fleet whose servers may take it
    #[arg(long)]
    pub(crate) fleet: Option<String>,
    /// Makes the submission idempotent: repeated with the same key, it makes no second match
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
    /// Only matches in this state
    #[arg(long)]
    pub(crate) state: Option<State>,
    /// Only matches of this player that are not over
    #[arg(long)]
    pub(crate) player: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct MatchId {
    #[command(flatten)]
    pub(crate) remote: Remote,
    /// The match's id
    pub(crate) id: String,
}

#[derive(Args, Debug)]
pub(crate) struct Ticket {
    #[command(subcommand)]
    pub(crate) action: TicketAction,
}

#[derive(Subcommand, Debug)]
pub(crate) enum TicketAction {
    /// Start a ticket
    Start(TicketStart),
    /// List tickets that are not over
    List(TicketList),
    /// Show one ticket
    Show(TicketId),
    /// Explain why a ticket still waits, or why it failed
    Explain(TicketId),
    /// Renew a ticket that was started with `--ttl`
    Renew(TicketId),
    /// Cancel a ticket
    Cancel(TicketId),
    /// Accept the match that a ticket is in
    Accept(TicketVote),
    /// Decline the match that a ticket is in
    Decline(TicketVote),
}

#[derive(Args, Debug)]
pub(crate) struct TicketStart {
    #[command(flatten)]
    pub(crate) remote: Remote,
    /// The queue
    #[arg(long)]
    pub(crate) queue: String,
    /// A player's id, or a JSON object like {"id": "p1", "ratings": {"mmr": 1200}}; repeat for each player
    #[arg(long = "player", required = true)]
    pub(crate) players: Vec<String>,
    /// The player who speaks for the party
    #[arg(long)]
    pub(crate) leader: Option<String>,
    /// Properties of the ticket, a JSON object
    #[arg(long)]
    pub(crate) properties: Option<String>,
    /// Makes the start idempotent: repeated with the same key, it starts no second ticket
    #[arg(long)]
    pub(crate) idempotency_key: Option<String>,
    /// Seconds after which the ticket is cancelled unless it is renewed
    #[arg(long)]
    pub(crate) ttl: Option<u64>,
    /// The waiting ticket whose place this one takes, for a party that somebody has left or joined
    #[arg(long, value_name = "TICKET")]
    pub(crate) replaces: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct TicketList {
    #[command(flatten)]
    pub(crate) remote: Remote,
    /// Only tickets of this player
    #[arg(long)]
    pub(crate) player: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct TicketId {
    #[command(flatten)]
    pub(crate) remote: Remote,
    /// The ticket's id
    pub(crate) id: String,
}

#[derive(Args, Debug)]
pub(crate) struct TicketVote {
    #[command(flatten)]
    pub(crate) ticket: TicketId,
    /// The player who accepts or declines
    #[arg(long)]
    pub(crate) player: String,
}

#[derive(Args, Debug)]
pub(crate) struct Listing {
    #[command(subcommand)]
    pub(crate) action: ListingAction,
}

#[derive(Subcommand, Debug)]
pub(crate) enum ListingAction {
    /// Print the list
    List(Remote),
}

#[derive(Args, Debug)]
pub(crate) struct Events {
    #[command(subcommand)]
    pub(crate) action: EventsAction,
}

#[derive(Subcommand, Debug)]
pub(crate) enum EventsAction {
    /// Print events as they arrive
    Tail(Tail),
}

#[derive(Args, Debug)]
pub(crate) struct Tail {
    #[command(flatten)]
    pub(crate) remote: Remote,
    /// Which events: broker for matches, servers and seats; matchmaker for tickets
    #[arg(long, value_enum, default_value_t)]
    pub(crate) of: Log,
    /// Where to start: a sequence number, earliest or latest
    #[arg(long, default_value = "latest")]
    pub(crate) from: String,
    /// Only types with this prefix, like sortie.match; repeat for several
    #[arg(long = "type")]
    pub(crate) types: Vec<String>,
}

/// Which log.
#[derive(ValueEnum, Clone, Copy, Default, Debug)]
pub(crate) enum Log {
    #[default]
    Broker,
    Matchmaker,
}

impl Log {
    /// Its name in the API.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Broker => "broker",
            Self::Matchmaker => "matchmaker",
        }
    }
}

#[derive(Args, Debug)]
pub(crate) struct Matchmaker {
    #[command(subcommand)]
    pub(crate) action: MatchmakerAction,
}

#[derive(Subcommand, Debug)]
pub(crate) enum MatchmakerAction {
    /// Replay recorded tickets under one or more sets of rules, in virtual time
    Replay(MatchmakerReplay),
    /// Write the recorded tickets of a data folder as lines of JSON
    Export(MatchmakerExport),
}

#[derive(Args, Debug)]
pub(crate) struct MatchmakerReplay {
    /// Data folder of a stopped control plane, or a file of exported tickets
    pub(crate) source: PathBuf,
    /// Configuration with other rules; repeat to compare several
    #[arg(long = "config")]
    pub(crate) configs: Vec<PathBuf>,
    /// One line of JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct MatchmakerExport {
    /// Data folder of a stopped control plane
    pub(crate) data: PathBuf,
}

#[derive(Args, Debug)]
pub(crate) struct Config {
    #[command(subcommand)]
    pub(crate) action: ConfigAction,
}

#[derive(Subcommand, Debug)]
pub(crate) enum ConfigAction {
    /// Report every problem in the configuration
    Check(Source),
    /// Print the effective configuration, without secrets
    Show(Source),
    /// Print every key: type, unit, default and meaning
    Reference(Reference),
    /// Convert the settings of a Catena node to a sortie.toml, and report what could not be converted
    ImportCatena(ImportCatena),
}

#[derive(Args, Debug)]
pub(crate) struct Key {
    #[command(subcommand)]
    pub(crate) action: KeyAction,
}

#[derive(Subcommand, Debug)]
pub(crate) enum KeyAction {
    /// Create a key and store its hash in the data folder; the key itself is shown once. It is valid at once
    Create(KeyCreate),
    /// List the keys of the data folder and of the configuration
    List(KeyPlace),
    /// Revoke a key. A running control plane refuses it at once
    Revoke(KeyRevoke),
}

/// A data folder.
#[derive(Args, Debug)]
pub(crate) struct KeyPlace {
    /// Data folder; the default is that of the configuration
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
pub(crate) struct KeepOutput {
    /// The folder
    pub(crate) folder: PathBuf,
    /// Name of the file
    pub(crate) name: String,
    /// Maximum size of both files together, in bytes
    pub(crate) limit: u64,
}

#[derive(Args, Debug)]
pub(crate) struct EnterGroup {
    /// The folder of the control group
    pub(crate) group: PathBuf,
    /// The program to become, and its arguments
    #[arg(last = true, required = true)]
    pub(crate) server: Vec<OsString>,
}

#[derive(Args, Debug)]
pub(crate) struct Restore {
    #[command(flatten)]
    pub(crate) place: KeyPlace,
    /// Also for a folder that is not a copy. Its game servers keep running, and nothing stops them
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Args, Debug)]
pub(crate) struct KeyCreate {
    /// Name of the key, for lists and logs
    #[arg(long)]
    pub(crate) name: String,
    /// What the holder may do: game_server_match, client or admin; repeat for several
    #[arg(long = "permission", required = true, value_parser = permission)]
    pub(crate) permissions: Vec<sortie_config::Permission>,
    /// Fleet whose game servers the key speaks for; repeat for several. Without it, servers that register themselves
    #[arg(long = "fleet", value_parser = fleet)]
    pub(crate) fleets: Vec<FleetId>,
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
    /// Format of the output
    #[arg(long, value_enum, default_value_t = ReferenceFormat::Text)]
    pub(crate) format: ReferenceFormat,
}

#[derive(Clone, Copy, ValueEnum, Debug)]
pub(crate) enum ReferenceFormat {
    /// Plain text, for a terminal
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
    /// File to write; the default is standard output
    #[arg(long)]
    pub(crate) output: Option<PathBuf>,
    /// Overwrite the file if it exists
    #[arg(long, requires = "output")]
    pub(crate) force: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Completions {
    /// The shell
    #[arg(value_enum)]
    pub(crate) shell: clap_complete::Shell,
}

fn duration(text: &str) -> Result<Duration, String> {
    sortie_config_file::duration(text)
}

fn fleet(text: &str) -> Result<FleetId, String> {
    FleetId::new(text).map_err(|problem| problem.to_string())
}

fn permission(text: &str) -> Result<sortie_config::Permission, String> {
    sortie_config::Permission::by_name(text)
        .ok_or_else(|| format!("must be one of {}", sortie_config::Permission::NAMES.join(", ")))
}
