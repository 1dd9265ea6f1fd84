//! The configuration as its user meets it: files, variables and flags in, a checked configuration or problems out.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests, too, fail by panicking")]

mod catena;
mod contradictions;
mod documents;
mod environment;
mod formats;
mod matchmaker;
mod problems;
mod properties;
mod reference;
mod show;

use std::fs;
use std::path::PathBuf;

use sortie_config::{Config, Finding, Overrides, Problems};
use tempfile::TempDir;

/// A folder with a configuration, gone when dropped.
struct Folder {
    dir: TempDir,
    file: PathBuf,
}

impl Folder {
    /// A folder with `text` in the file `name`.
    fn with(name: &str, text: &str) -> Self {
        let dir = TempDir::new().unwrap();
        let file = dir.path().join(name);
        fs::write(&file, text).unwrap();
        Self { dir, file }
    }

    fn load(&self, variables: &[(&str, &str)]) -> Result<Config, Problems> {
        self.load_with(variables, Overrides::default())
    }

    fn load_with(&self, variables: &[(&str, &str)], overrides: Overrides) -> Result<Config, Problems> {
        Config::load(Some(&self.file), owned(variables), overrides)
    }
}

fn owned(variables: &[(&str, &str)]) -> impl Iterator<Item = (String, String)> {
    variables.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned()))
}

/// Loads a TOML text.
fn toml(text: &str) -> Result<Config, Problems> {
    Folder::with("sortie.toml", text).load(&[])
}

/// The problems of a TOML text, `path: text` each.
fn problems(text: &str) -> Vec<String> {
    toml(text).unwrap_err().list.iter().map(Finding::to_string).collect()
}

/// A fleet that is complete, for texts that are about something else.
const FLEET: &str =
    "[fleets.arena]\nmax = 2\ngame = 'arena'\nversion = '1.0'\nlocal_process.path = 'arena'\n";

/// Every key there is, with none at its default.
const FULL: &str = r#"
listen = "127.0.0.1:7500"
data = "state"
dev = true
dev_hosts = ["Box.lan", "[2001:db8::1]"]
public_url = "https://sortie.example.com/api/"
shutdown_deadline = "45s"

[tls]
certificate = "tls.crt"
key = "/etc/sortie/tls.key"
ca = "ca.pem"

[limits]
connections = 1000
connections_per_address = 10
calls_per_connection = 100
body = "2MiB"
body_time = "20s"
headers = "8KiB"
idle_time = "1m"
handshake_time = "5s"
stall_time = "20s"
player_streams = 1001
log_streams = 1002
streams_per_player = 3
streams_per_key = 1004
waits = 1005
waits_per_key = 1006
watches = 1007
watches_per_address = 8
rate_per_player = 9
burst_per_player = 10

[log]
format = "json"
level = "warn,sortie_engine=debug"
retention = "1536MiB"
snapshot_every = 5000

[broker]
fast_schedule = 2
server_max_lifetime = "4h"
match_pickup_time = "1m 30s 5ms"
match_ready_time = "45s"
match_max_run_time = "3h"
schedule_frequency = "5s"
delay_allocation = "0s"
wait = "20s"
lifetime_ends_matches = true
suspect_time = "15s"
waiting_bytes = "300MiB"
kept_bytes = "80MiB"

[[api_keys]]
name = "game servers"
sha256 = "2C26B46B68FFC68FF99B453C1D30413413422D706483BFA0F98A5E886266E7AE"
permissions = ["game_server_match"]

[[api_keys]]
name = "backend"
sha256 = "fcde2b2edba56bf408601fb721fe9b5c338d10ee429ea04fae5511b68fbf8fb9"
permissions = ["client", "admin"]

[players]
issuer = "https://accounts.example.com/"
audience = "my-game"
leeway = "5s"
jwks_url = "https://accounts.example.com/jwks.json"

[netcode]
key_env = "GAME_KEY"

[gateway]
default_fleet = "arena"
players = "signed_in"
wait_deadline = "60s"
progress_interval = "500ms"
reconnect_grace = "45s"
rejoin = false
rate_per_address = 0
burst_per_address = 7
waiting_per_address = 0
trusted_proxies = ["10.0.0.0/8", "192.0.2.1", "2001:db8::/32"]
cors_origins = ["https://play.example.com", "http://localhost:8080/", "https://A.example:443", "capacitor://localhost", "tauri://localhost", "null"]
loopback_ip_replacement = "203.0.113.7"

[dispatch]
enabled = true
listen = "127.0.0.1:3001"
secret_env = "GAME_KEY"
hosts = ["127.0.0.1", "::1"]
allowed_ports = ["7000-7999", "162"]
only_to_peers_that_spoke = false

[dispatch.tls]
certificate = "dispatch.crt"
key = "dispatch.key"

[dispatch.limits]
drivers = 100
drivers_per_port = 10
ports = 50
devices = 1000
accept_entries = 20
message = "2MiB"
driver_queue = "512KiB"
queue = "1GiB"
device_backlog = "512KiB"
backlog = "64MiB"
driver_stall = "20s"
device_patience = "500ms"
device_stall = "30s"
half_close_time = "5s"
half_closed = 100
ping_period = "10s"
ping_deadline = "15s"
close_time = "2s"
udp_peers_per_port = 1000
tokens = 5
token_time = "2h"

[fleets.arena]
allocator = "local_process"
description = "Duels"
requirements = "MatchProperties.game == 'arena'"
server_requirements = "MatchProperties.version == '1.0'"
max = 4
warm = 1
ready_deadline = "20s"
preference = -3
game = "arena"
version = "1.0"
capacity = 2
seat_ttl = "15s"
dialect = "lightyear"
protocol_id = "0xffeeddccbbaa9988"

[fleets.arena.local_process]
path = "servers/arena"
arguments = ["--port", "{port}"]
environment = { RUST_LOG = "debug", TOKEN = "hunter2" }
working_folder = "servers"
ports = "9000-9003"
address = "192.0.2.9"
stop_grace = "3s"
output_limit = "64KiB"
max_run_time = "5h"
reaper_period = "10s"

[fleets."big maps"]
max = 1
local_process.path = "/opt/big"

[matchmaker]
status_expiration = "5m"
waiting_bytes = "1GiB"
kept_bytes = "64MiB"
queues_per_player = 3
tick = "50ms"

[[matchmaker.hooks]]
kind = "validate_ticket"
name = "bans"
url = "https://hooks.example.com/bans"
timeout = "1s"
on_failure = "refuse"
concurrency = 4
breaker_failures = 3
breaker_pause = "20s"
key_env = "GAME_KEY"

[[matchmaker.hooks]]
kind = "queue_by_party_size"
queues = { 1 = "arena", 2 = "open" }

[[matchmaker.hooks]]
kind = "party_membership"

[matchmaker.queues.arena]
teams = 2
players_per_team = 5
min_players_per_team = 4
ticket_expiration = "3m"
expiration_action = "minimum"
accept = "20s"
backfill = "first"
seat_timeout = "10s"
max_requeues = 1
properties = { game = "arena", version = "1", teams = 2 }

[[matchmaker.queues.arena.hooks]]
kind = "new_match"
name = "maps"
url = "http://127.0.0.1:9000/maps"
timeout = "3s"
on_failure = "refuse"
concurrency = 1
breaker_failures = 1
breaker_pause = "1m"
key_env = "GAME_KEY"

[[matchmaker.queues.arena.hooks]]
kind = "team_data"

[[matchmaker.queues.arena.hooks]]
kind = "queue_by_party_size"
queues = { 2 = "open", 5 = "open" }

[matchmaker.queues.arena.rules.arena]
kind = "distance"
property = "mmr"
measure = "max"
most = 100
missing = 1000.5
widen = [{ after = "15s", most = 200 }, { after = "30s", most = 400.25 }]
relax_after = "1m"

[matchmaker.queues.arena.rules.blocks]
kind = "not_blocked"

[matchmaker.queues.arena.rules.even]
kind = "balance"
property = "mmr"

[matchmaker.queues.arena.rules.language]
kind = "preferred"
expression = "ticket.properties.language == candidate.properties.language"

[matchmaker.queues.arena.rules.level]
kind = "ticket"
expression = "ticket.properties.level > `1`"

[matchmaker.queues.arena.rules.map]
kind = "equal"
property = "map.name"
relax_after = "40s"

[matchmaker.queues.arena.rules.mode]
kind = "required"
expression = "ticket.properties.mode == candidate.properties.mode"

[matchmaker.queues.arena.rules.ping]
kind = "latency"
most = 60

[matchmaker.queues.open]
teams = 0
expiration_action = "minimum"

[[matchmaker.queues.open.hooks]]
kind = "peer_to_peer_host"
property = "host"

[[matchmaker.queues.open.hooks]]
kind = "form_match"
name = "groups"
url = "http://127.0.0.1:9000/groups"
interval = "3s"
"#;

/// What [`FULL`] needs in the environment.
const GAME_KEY: (&str, &str) =
    ("GAME_KEY", "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f");
