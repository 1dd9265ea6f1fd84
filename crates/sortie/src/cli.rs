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
    /// Show everything at work: a control plane, arena servers as real processes, bots that keep arriving
    Demo(Demo),
    /// The built-in game: a server for it, or bots that play it
    Arena(Arena),
    /// Stand beside a game server, and speak to whatever matches it
    Sidecar(Sidecar),
    /// Open TCP and UDP ports for drivers that ask for them by websocket, or be such a driver
    Dispatch(Dispatch),
    /// Submit, list, show, explain or cancel matches of a running control plane
    Match(Match),
    /// Start, list, show, explain or call off tickets of players, and agree to their matches or not
    Ticket(Ticket),
    /// Queues of a running control plane, where tickets wait
    Queue(Listing),
    /// Game servers of a running control plane
    Server(Listing),
    /// Fleets of a running control plane
    Fleet(Listing),
    /// Events of a running control plane
    Events(Events),
    /// What was recorded of the matchmaker's tickets, and what other rules would have made of them
    Matchmaker(Matchmaker),
    /// Check or show the configuration
    Config(Config),
    /// Make, list or revoke API keys
    Key(Key),
    /// Make an installation of its own of a copied data folder; game servers of the original are left alone
    Restore(Restore),
    /// Print a script that completes this command line in a shell
    Completions(Completions),
    /// Measure a control plane
    Bench(Bench),
    /// Started by the control plane beside each local game server
    #[command(hide = true)]
    KeepOutput(KeepOutput),
    /// Started by the control plane in the place of each local game server, which it becomes
    #[command(hide = true)]
    EnterGroup(EnterGroup),
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
    /// Start although records that were acknowledged are missing or damaged, and go on with what is left; what is of no
    /// use is put into the folder `lost` of the data folder
    #[arg(long)]
    pub(crate) accept_loss: bool,
    /// Start although the clock is far ahead of the log: deadlines that have passed meanwhile fire at once
    #[arg(long)]
    pub(crate) accept_clock: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Sidecar {
    /// Settings file: JSON as the Catena sidecar has it, or the same keys as TOML
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

/// What is not the dispatcher itself.
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
    /// The port that it is to open
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) port: u16,
    /// TCP; with neither this nor --udp it is both
    #[arg(long)]
    pub(crate) tcp: bool,
    /// UDP
    #[arg(long)]
    pub(crate) udp: bool,
    /// Who may come: addresses and ranges, with commas in between
    #[arg(long, default_value = "0.0.0.0/0,::/0")]
    pub(crate) accept: String,
    /// File with the dispatcher's secret or a dispatch token, read again for each connection; without it the secret is
    /// that of SORTIE_DISPATCH_TOKEN, PLACE_SERVER_SECRET or SERVER_SECRET
    #[arg(long, env = "SORTIE_DISPATCH_TOKEN_FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// PEM file with roots to trust beside those of the system
    #[arg(long, env = "SORTIE_CA")]
    pub(crate) ca: Option<PathBuf>,
}

/// The dispatcher alone, without a control plane.
#[derive(Args, Debug)]
pub(crate) struct DispatchServe {
    /// Configuration file (TOML, JSON or YAML); without it ./sortie.toml is read if there is one
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
    /// Bots that play at a time
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=2000))]
    pub(crate) players: u32,
    /// How long bots keep arriving
    #[arg(long = "for", default_value = "20s", value_parser = duration)]
    pub(crate) lasting: Duration,
    /// Play through tickets of the matchmaker instead of dropping in, in matches of this form, like 2v2
    #[arg(long, value_name = "FORM")]
    pub(crate) queue: Option<Teams>,
    /// Seed of what the bots do
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// End with one line of JSON
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
    /// Most players of a match.
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
    /// Queue to enter; without it bots drop in
    #[arg(long)]
    pub(crate) queue: Option<String>,
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
    /// Give one of its players a fresh connect token for a running match
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
    /// Only those that are not over and that this player belongs to
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
    /// Say why a ticket still waits
    Explain(TicketId),
    /// Say that the client of a ticket with a `--ttl` is still there
    Renew(TicketId),
    /// Call a ticket off
    Cancel(TicketId),
    /// Agree to the match that a ticket is in
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
    /// The player who speaks for all
    #[arg(long)]
    pub(crate) leader: Option<String>,
    /// Properties of the ticket, a JSON object
    #[arg(long)]
    pub(crate) properties: Option<String>,
    /// The same ticket under the same key is started once
    #[arg(long)]
    pub(crate) idempotency_key: Option<String>,
    /// Seconds after which the ticket is cancelled unless it is renewed
    #[arg(long)]
    pub(crate) ttl: Option<u64>,
    /// The waiting ticket whose place it takes: for a party that somebody has left or joined
    #[arg(long, value_name = "TICKET")]
    pub(crate) replaces: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct TicketList {
    #[command(flatten)]
    pub(crate) remote: Remote,
    /// Only that of this player
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
    /// Whose vote it is
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
    /// Whose events: those of matches, servers and seats, or those of tickets
    #[arg(long, value_enum, default_value_t)]
    pub(crate) of: Log,
    /// Where to begin: a sequence number, earliest or latest
    #[arg(long, default_value = "latest")]
    pub(crate) from: String,
    /// Only types that begin so, like sortie.match; repeat for several
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
    /// Let recorded tickets come again, under several sets of rules, in virtual time
    Replay(MatchmakerReplay),
    /// Write the recorded tickets of a data folder as lines of JSON
    Export(MatchmakerExport),
}

#[derive(Args, Debug)]
pub(crate) struct MatchmakerReplay {
    /// Data folder of a control plane that does not run, or a file of exported tickets
    pub(crate) source: PathBuf,
    /// Configuration with other rules; repeat to hold several against each other
    #[arg(long = "config")]
    pub(crate) configs: Vec<PathBuf>,
    /// One line of JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct MatchmakerExport {
    /// Data folder of a control plane that does not run
    pub(crate) data: PathBuf,
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

/// A data folder.
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
pub(crate) struct KeepOutput {
    /// The folder
    pub(crate) folder: PathBuf,
    /// Name of the file
    pub(crate) name: String,
    /// Most bytes of both files
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
    /// Also for a folder that is not a copy. Game servers that were started with it run on, and nobody stops them
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Args, Debug)]
pub(crate) struct KeyCreate {
    /// Name of the key, for lists and logs
    #[arg(long)]
    pub(crate) name: String,
    /// What its holder may do: game_server_match, client or admin; repeat for several
    #[arg(long = "permission", required = true, value_parser = permission)]
    pub(crate) permissions: Vec<sortie_config::Permission>,
    /// Fleet whose game servers it speaks for; repeat for several. Without it, it speaks for servers that register
    /// themselves
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
