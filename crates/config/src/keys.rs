//! The table of keys: the only place where a key's name, default and meaning are written.
//!
//! In paths `<name>` stands for a name of the user's choice and `[]` for each entry of a list.

use serde_json::Value;

use crate::matchmaker::{HookKind, RuleName, names};
use crate::model::{Dialect, LogFormat, Permission, Players};

/// What all settings' variables begin with.
pub(crate) const PREFIX: &str = "SORTIE_";

/// What kind of value a key takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Any text within the limits that the meaning states.
    Text,
    /// One of these texts.
    Choice(&'static [&'static str]),
    /// `true` or `false`.
    Switch,
    /// A whole number.
    Integer,
    /// A number, with a fraction or without.
    Number,
    /// A whole number, or the same as text, `0x…` for hexadecimal.
    Identifier,
    /// Text with units, like `"90s"` or `"1h 30m"`.
    Duration,
    /// Text with a unit, like `"1MiB"`.
    Size,
    /// A path; a relative one in a file starts at the file's folder.
    Path,
    /// A list of texts.
    Texts,
    /// A list of these texts.
    Choices(&'static [&'static str]),
    /// A table of texts under names of the user's choice.
    Table,
}

impl Kind {
    /// The kind in a few words, for people.
    #[must_use]
    pub fn describe(self) -> String {
        let quoted = |names: &[&str]| names.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>();
        match self {
            Self::Text => "text".to_owned(),
            Self::Choice(names) => quoted(names).join(" or "),
            Self::Switch => "true or false".to_owned(),
            Self::Integer => "integer".to_owned(),
            Self::Number => "number".to_owned(),
            Self::Identifier => "integer, or text \"0x…\"".to_owned(),
            Self::Duration => "duration".to_owned(),
            Self::Size => "byte size".to_owned(),
            Self::Path => "path".to_owned(),
            Self::Texts => "list of texts".to_owned(),
            Self::Choices(names) => format!("list of {}", quoted(names).join(", ")),
            Self::Table => "table of texts".to_owned(),
        }
    }

    /// The value that `text` stands for where there is nothing but text: in the environment and in the table
    /// of keys. Text that does not fit stays text, for the reader to refuse.
    pub(crate) fn read(self, text: &str) -> Value {
        let trimmed = text.trim();
        let parsed = match self {
            Self::Switch => trimmed.parse::<bool>().ok().map(Value::from),
            Self::Integer => trimmed
                .parse::<i64>()
                .map(Value::from)
                .or_else(|_| trimmed.parse::<u64>().map(Value::from))
                .ok(),
            Self::Number => trimmed.parse::<f64>().ok().filter(|number| number.is_finite()).map(Value::from),
            Self::Table => serde_json::from_str(trimmed).ok(),
            Self::Texts | Self::Choices(_) if trimmed.starts_with('[') => serde_json::from_str(trimmed).ok(),
            Self::Texts | Self::Choices(_) => Some(commas(trimmed)),
            Self::Text | Self::Choice(_) | Self::Identifier | Self::Duration | Self::Size | Self::Path => {
                None
            }
        };
        parsed.unwrap_or_else(|| Value::from(text))
    }
}

fn commas(text: &str) -> Value {
    text.split(',').map(str::trim).filter(|entry| !entry.is_empty()).map(Value::from).collect()
}

/// What happens when a key is not given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Presence {
    /// It must be given.
    Required,
    /// It has no value then, which means this.
    Optional(&'static str),
    /// It has this value then, written as in an environment variable.
    Default(&'static str),
}

/// One key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KeyDoc {
    /// Where it stands, like `fleets.<name>.max` or `api_keys[].name`.
    pub path: &'static str,
    /// What it takes.
    pub kind: Kind,
    /// The unit of a number; empty where the value names its own or has none.
    pub unit: &'static str,
    /// What happens without it.
    pub presence: Presence,
    /// What it is for, and its limits.
    pub meaning: &'static str,
}

const fn key(path: &'static str, kind: Kind, presence: Presence, meaning: &'static str) -> KeyDoc {
    KeyDoc { path, kind, unit: "", presence, meaning }
}

const fn count(path: &'static str, unit: &'static str, presence: Presence, meaning: &'static str) -> KeyDoc {
    KeyDoc { path, kind: Kind::Integer, unit, presence, meaning }
}

use Kind::{Choice, Choices, Duration, Identifier, Integer, Number, Path, Size, Switch, Table, Text, Texts};
use Presence::{Default, Optional, Required};

/// What [`AllocatorConfig`](crate::AllocatorConfig) can be.
pub(crate) const ALLOCATORS: &[&str] = &["local_process"];

/// What the keys of a hook mean: the matchmaker's and each queue's have the same.
struct HookMeanings {
    outside: &'static str,
    kind: &'static str,
    name: &'static str,
    url: &'static str,
    timeout: &'static str,
    on_failure: &'static str,
    concurrency: &'static str,
    breaker_failures: &'static str,
    breaker_pause: &'static str,
    key_env: &'static str,
    queues: &'static str,
    property: &'static str,
}

const HOOK: HookMeanings = HookMeanings {
    outside: "required with `validate_ticket`, `form_match` and `new_match`",
    kind: "What has a say about tickets and matches, in the order of the list, the matchmaker's before the queue's. The last three are called by HTTP; `form_match` only under a queue. At most 16.",
    name: "Names a hook that is called: each once among the matchmaker's and one queue's.",
    url: "Called by `POST` with JSON: `http` or `https`, without user, query or fragment.",
    timeout: "Longest time of a call, the wait for its turn included, 10ms to 1m.",
    on_failure: "What happens where it fails: as if it had no objection (`form_match`: the rules form), or as if it had refused (`form_match`: nobody does).",
    concurrency: "Calls at a time for one queue, 1 to 1000; further ones wait.",
    breaker_failures: "After so many failures in a row it is not called for `breaker_pause`, 1 to 1000; then one call tries.",
    breaker_pause: "How long it is left alone then, 10ms to 1h.",
    key_env: "Name of the environment variable with a key that is sent as `authorization: Bearer …`.",
    queues: "`queue_by_party_size`: the queue for each number of players, like `{ 1 = \"solo\", 2 = \"duo\" }`.",
    property: "`peer_to_peer_host`: the first player's property with the address that all connect to.",
};

static KEYS: &[KeyDoc] = &[
    key(
        "listen",
        Text,
        Default("127.0.0.1:7400"),
        "Address and port for everything: gRPC, HTTP, the dashboard. Port 0 takes a free one.",
    ),
    key(
        "data",
        Path,
        Default("data"),
        "Folder of the log, the snapshots and the servers' output. The default starts at the working folder.",
    ),
    key(
        "dev",
        Switch,
        Default("false"),
        "Development mode: nobody needs a key, so `listen` must be a loopback address.",
    ),
    key(
        "public_url",
        Text,
        Optional("`http://` and the address that was bound"),
        "What game servers and players are told to call: `http` or `https`, without user, query or fragment.",
    ),
    key(
        "shutdown_deadline",
        Duration,
        Default("30s"),
        "Longest time from SIGTERM or Ctrl-C to the end, 1s to 10m; a third of it is for open calls. A second signal ends at once.",
    ),
    key(
        "tls.certificate",
        Path,
        Optional("plain HTTP"),
        "PEM file: the certificate for everything at `listen`, then those between it and a root. Read again when it or the key changes.",
    ),
    key(
        "tls.key",
        Path,
        Optional("allowed only without `certificate`"),
        "PEM file with its private key, not encrypted.",
    ),
    key(
        "tls.ca",
        Path,
        Optional("they trust the roots of their system"),
        "PEM file with roots that local game servers are to trust, for a certificate of your own authority: they find its path in `SORTIE_CA`.",
    ),
    count(
        "limits.connections",
        "connections",
        Default("65536"),
        "Most at a time, 1 to 1000000, TLS handshakes among them; further ones wait. The limit of open files is raised to fit; where it cannot be, there are fewer.",
    ),
    count(
        "limits.connections_per_address",
        "connections",
        Default("0"),
        "Most at a time from one address (of IPv6 from one /64), up to 1000000; further ones are closed. 0: no limit, as behind a proxy, whose address all have.",
    ),
    count(
        "limits.calls_per_connection",
        "calls",
        Default("1024"),
        "Most calls at a time on one HTTP/2 connection, 1 to 100000.",
    ),
    key(
        "limits.body",
        Size,
        Default("1MiB"),
        "Longest body of a call, and message of gRPC, 1KiB to 64MiB; players' are 64KiB.",
    ),
    key(
        "limits.body_time",
        Duration,
        Default("30s"),
        "Longest time that a body may take to arrive, 1s to 10m.",
    ),
    key("limits.headers", Size, Default("16KiB"), "Headers of a request in all, 1KiB to 1MiB."),
    key(
        "limits.idle_time",
        Duration,
        Default("75s"),
        "How long an HTTP/1 connection may be idle, and the headers of its next request take, 1s to 1h.",
    ),
    key(
        "limits.handshake_time",
        Duration,
        Default("10s"),
        "Longest time that a TLS handshake may take, 1s to 10m.",
    ),
    key("log.format", Choice(LogFormat::NAMES), Default("text"), "Form of the lines on standard error."),
    key(
        "log.level",
        Text,
        Default("info"),
        "Lowest level that is written: `off`, `error`, `warn`, `info`, `debug` or `trace`; more after commas for single modules, like `info,sortie_engine=debug`.",
    ),
    key(
        "log.retention",
        Size,
        Default("1GiB"),
        "Events kept on disk beyond what the snapshots need, for subscribers that come back. At most 1PiB.",
    ),
    count(
        "log.snapshot_every",
        "events",
        Default("100000"),
        "Events between two snapshots, 1 to 1000000000. More makes restarts slower.",
    ),
    count(
        "broker.fast_schedule",
        "",
        Default("1"),
        "0: a new server only on the schedule. 1: at once, unless a known free server could take the match. 2: at once, one for every match.",
    ),
    key(
        "broker.server_max_lifetime",
        Duration,
        Default("10m"),
        "A server older than this has failed, with the matches on it.",
    ),
    key("broker.match_pickup_time", Duration, Default("90s"), "Longest wait of a match in the queue."),
    key(
        "broker.match_ready_time",
        Duration,
        Default("30s"),
        "Longest time from a server's pickup of a match until it says ready.",
    ),
    key(
        "broker.match_max_run_time",
        Duration,
        Default("2h"),
        "Longest time from ready to the end of a match.",
    ),
    key(
        "broker.schedule_frequency",
        Duration,
        Default("30s"),
        "Time between attempts to order servers for queued matches.",
    ),
    key(
        "broker.delay_allocation",
        Duration,
        Default("30s"),
        "How long a match waits for the servers there are, before the schedule orders one.",
    ),
    key(
        "broker.wait",
        Duration,
        Default("30s"),
        "How long the call of a server that is willing to wait is held.",
    ),
    key(
        "api_keys[].name",
        Text,
        Required,
        "Names the key in logs and on the dashboard: 1 to 64 printable ASCII characters, each name once.",
    ),
    key(
        "api_keys[].sha256",
        Text,
        Required,
        "SHA-256 of the key, 64 hexadecimal digits. The key itself is kept nowhere.",
    ),
    key(
        "api_keys[].permissions",
        Choices(Permission::NAMES),
        Required,
        "What its holder may do; at least one.",
    ),
    key(
        "players.issuer",
        Text,
        Optional("players do not sign in"),
        "`iss` of the tokens (JWT) by which players sign in; their `sub` is the player id.",
    ),
    key(
        "players.audience",
        Text,
        Optional("allowed only where players do not sign in"),
        "`aud` of the tokens, or one of it.",
    ),
    key(
        "players.leeway",
        Duration,
        Default("60s"),
        "By how much clocks may differ for `exp` and `nbf`: whole seconds, 0s to 10m.",
    ),
    key(
        "players.secret_file",
        Path,
        Optional("see `jwks_url`"),
        "File with the secret of HS256 tokens, taken as it stands but for a line's end: 32 to 4096 bytes. Read at start.",
    ),
    key(
        "players.secret_env",
        Text,
        Optional("see `jwks_url`"),
        "Name of the environment variable with the same.",
    ),
    key(
        "players.jwks_file",
        Path,
        Optional("see `jwks_url`"),
        "JWKS file with the public keys of RS256, ES256 and EdDSA tokens; read again when it changes.",
    ),
    key(
        "players.jwks_url",
        Text,
        Optional("exactly one of the four is given where players sign in"),
        "`https` or `http` URL of the same; asked when a token needs it, when its keys are 5m old, and at most every 10s when a token names a key that is not among them.",
    ),
    key(
        "netcode.key_file",
        Path,
        Optional("see `key_env`"),
        "File with the private netcode key: 32 raw bytes, or 64 hexadecimal digits or base64 of them. Not together with `key_env`.",
    ),
    key(
        "netcode.key_env",
        Text,
        Optional("no key, unless by `key_file`; development mode makes one"),
        "Name of the environment variable with the private netcode key, as hexadecimal digits or base64.",
    ),
    key(
        "gateway.default_fleet",
        Text,
        Optional("players must name a game and a version"),
        "Fleet for players who name no game; it must have a `game`.",
    ),
    key(
        "gateway.players",
        Choice(Players::NAMES),
        Default("anyone"),
        "Who gets a seat: `signed_in` asks for a player token, which needs `[players]`; with `anyone`, a token that is there has to be good and gives the player id.",
    ),
    key(
        "gateway.wait_deadline",
        Duration,
        Default("120s"),
        "Longest time that a player is kept waiting for a seat, 1s to 1h.",
    ),
    key(
        "gateway.progress_interval",
        Duration,
        Default("2s"),
        "Time between two progress reports to a waiting player, 100ms to 1m.",
    ),
    key(
        "gateway.reconnect_grace",
        Duration,
        Default("30s"),
        "How long the ticket of a player whose connection is gone waits on, to be found again by the same player; then it is called off. 0s to 1h.",
    ),
    key(
        "gateway.trusted_proxies",
        Texts,
        Default("[]"),
        "Networks, like `10.0.0.0/8`, whose word on a player's address is taken: the rightmost of `X-Forwarded-For` that is not in one of them. At most 100.",
    ),
    count(
        "gateway.rate_per_address",
        "joins a second",
        Default("5"),
        "Joins that one address (of IPv6 one /64) may ask for in the long run, up to 1000; others get 429 with `Retry-After`. 0: no limit. Not in development mode, nor for a trusted proxy's own calls.",
    ),
    count(
        "gateway.burst_per_address",
        "joins",
        Default("20"),
        "Joins that it may ask for at once after a pause, 1 to 100000.",
    ),
    count(
        "gateway.waiting_per_address",
        "players",
        Default("200"),
        "Players from one address who may wait at a time, up to 20000. 0: no limit.",
    ),
    key(
        "gateway.cors_origins",
        Texts,
        Default("[]"),
        "Origins of web pages, like `https://play.example.com`, that may call the gateway; without cookies, and no `*`. At most 100.",
    ),
    key(
        "gateway.loopback_ip_replacement",
        Text,
        Optional("a loopback address stays as it is"),
        "IP address taken in place of a player's loopback address.",
    ),
    key(
        "dispatch.enabled",
        Switch,
        Default("false"),
        "Whether `sortie up` opens TCP and UDP ports for drivers; `sortie dispatch` does in any case.",
    ),
    key(
        "dispatch.listen",
        Text,
        Optional(
            "`sortie up` serves drivers at its own `listen`; `sortie dispatch` at 127.0.0.1:3000, or as `SG_SERVER_HOST` and `SG_SERVER_PORT` say",
        ),
        "Address and port for drivers' websockets. Port 0 takes a free one.",
    ),
    key(
        "dispatch.secret_file",
        Path,
        Optional("see `secret_env`"),
        "File with the secret that drivers show, taken as it stands but for a line's end: 1 to 4096 bytes of UTF-8. Read at start. Not together with `secret_env`.",
    ),
    key(
        "dispatch.secret_env",
        Text,
        Optional(
            "drivers need a dispatch token; in development mode, nothing. `sortie dispatch` takes `PLACE_SERVER_SECRET`, then `SERVER_SECRET`, before either",
        ),
        "Name of the environment variable with the same.",
    ),
    key(
        "dispatch.hosts",
        Texts,
        Default(r#"["0.0.0.0", "::"]"#),
        "IP addresses of this machine on which ports for devices are opened; `0.0.0.0` is all of IPv4, `::` all of IPv6. 1 to 64.",
    ),
    key(
        "dispatch.allowed_ports",
        Texts,
        Default(r#"["1-65535"]"#),
        "Ports that drivers may have opened, as `7000` or `7000-7999`. 1 to 256 entries.",
    ),
    key(
        "dispatch.only_to_peers_that_spoke",
        Switch,
        Default("true"),
        "Whether datagrams go only to addresses that have sent one to the port before.",
    ),
    key(
        "dispatch.tls.certificate",
        Path,
        Optional("that of `[tls]`"),
        "PEM file: the certificate for `dispatch.listen`, then those between it and a root. Read again when it or the key changes.",
    ),
    key(
        "dispatch.tls.key",
        Path,
        Optional("allowed only without `certificate`"),
        "PEM file with its private key, not encrypted.",
    ),
    count(
        "dispatch.limits.drivers",
        "websockets",
        Default("4096"),
        "Most drivers at a time, 1 to 1000000; others get 503.",
    ),
    count(
        "dispatch.limits.drivers_per_port",
        "websockets",
        Default("256"),
        "Most drivers of one port at a time, 1 to 1000000.",
    ),
    count(
        "dispatch.limits.ports",
        "ports",
        Default("2048"),
        "Most open ports at a time, TCP and UDP together, 1 to 131070.",
    ),
    count(
        "dispatch.limits.devices",
        "connections",
        Default("16384"),
        "Most connected devices at a time (TCP), 1 to 1000000; others are disconnected at once. The limit of open files is raised to fit.",
    ),
    count(
        "dispatch.limits.accept_entries",
        "entries",
        Default("256"),
        "Most addresses and ranges that one driver accepts, 1 to 10000.",
    ),
    key("dispatch.limits.message", Size, Default("1MiB"), "Longest message of a driver, 128KiB to 64MiB."),
    key(
        "dispatch.limits.driver_queue",
        Size,
        Default("1MiB"),
        "What may wait for one driver, 256KiB to 1GiB: then its devices are not read (TCP), or the oldest datagrams are dropped (UDP).",
    ),
    key(
        "dispatch.limits.queue",
        Size,
        Default("256MiB"),
        "The same for all drivers together, 256KiB to 1TiB.",
    ),
    key(
        "dispatch.limits.device_backlog",
        Size,
        Default("1MiB"),
        "What may wait for one device, 256KiB to 1GiB: then its driver is not read.",
    ),
    key(
        "dispatch.limits.backlog",
        Size,
        Default("256MiB"),
        "The same for all devices together, 256KiB to 1TiB.",
    ),
    key(
        "dispatch.limits.driver_stall",
        Duration,
        Default("10s"),
        "A driver that takes nothing for so long while something waits for it is cut off, 1s to 1h.",
    ),
    key(
        "dispatch.limits.device_patience",
        Duration,
        Default("2s"),
        "A device whose backlog is full and that takes nothing for so long, while its driver has other devices, is disconnected, 100ms to 1h.",
    ),
    key(
        "dispatch.limits.device_stall",
        Duration,
        Default("1m"),
        "A device that takes nothing for so long while something waits for it is disconnected, 1s to 1h.",
    ),
    key(
        "dispatch.limits.half_close_time",
        Duration,
        Default("10s"),
        "How long a device that has shut its sending side stays connected after the last bytes that its driver wrote, 100ms to 1h.",
    ),
    count(
        "dispatch.limits.half_closed",
        "connections",
        Default("1024"),
        "Most such devices at a time, 1 to 1000000; beyond it the one that has waited longest is disconnected.",
    ),
    key(
        "dispatch.limits.ping_period",
        Duration,
        Default("20s"),
        "Time between two pings to a driver, 1s to 1h.",
    ),
    key(
        "dispatch.limits.ping_deadline",
        Duration,
        Default("20s"),
        "A driver of which nothing is heard for so long after a ping is cut off, 1s to 1h.",
    ),
    key(
        "dispatch.limits.close_time",
        Duration,
        Default("5s"),
        "How long a driver has to read the close frame, and a device the end of its connection, 100ms to 1h.",
    ),
    count(
        "dispatch.limits.udp_peers_per_port",
        "addresses",
        Default("65536"),
        "Senders of datagrams that a port remembers, 1 to 1000000; beyond it the oldest are forgotten.",
    ),
    count(
        "dispatch.limits.tokens",
        "tokens",
        Default("10000"),
        "Most dispatch tokens at a time, 1 to 1000000.",
    ),
    key(
        "dispatch.limits.token_time",
        Duration,
        Default("1day"),
        "Longest life of a dispatch token, 1s to 30d.",
    ),
    key(
        "fleets.<name>.allocator",
        Choice(ALLOCATORS),
        Default("local_process"),
        "The platform that runs the servers; its settings stand in the table of that name.",
    ),
    key("fleets.<name>.description", Text, Default(""), "For people. At most 1000 characters."),
    key(
        "fleets.<name>.requirements",
        Text,
        Default(""),
        "JMESPath over the match document: which matches fit. Empty takes any.",
    ),
    key(
        "fleets.<name>.server_requirements",
        Text,
        Optional("not known, unless the arguments are those of the built-in arena"),
        "JMESPath that the fleet's own servers ask for matches with. Only `sortie config check` uses it, to find requirements that can never both be met.",
    ),
    count("fleets.<name>.max", "servers", Required, "Most servers at a time, 1 to 10000."),
    count("fleets.<name>.warm", "servers", Default("0"), "Idle servers kept ready; at most `max`."),
    key(
        "fleets.<name>.ready_deadline",
        Duration,
        Default("30s"),
        "Longest time from the order of a server until it is heard of, 1s to 24h.",
    ),
    key(
        "fleets.<name>.preference",
        Integer,
        Default("0"),
        "Fleets are tried from the lowest number up, equal numbers by name.",
    ),
    key(
        "fleets.<name>.game",
        Text,
        Optional("the gateway does not use the fleet"),
        "Game that players name at the gateway: 1 to 30 of `A-Z a-z 0-9 _ -` and space. Several fleets may have the same game and version.",
    ),
    key(
        "fleets.<name>.version",
        Text,
        Optional("allowed only without `game`"),
        "Version that players name at the gateway: like `game`, and `.` too.",
    ),
    count(
        "fleets.<name>.capacity",
        "players",
        Default("8"),
        "Most players in a match that the gateway makes, 1 to 10000.",
    ),
    key(
        "fleets.<name>.seat_ttl",
        Duration,
        Default("30s"),
        "How long a seat, and its connect token, waits for the player, 1s to 1h.",
    ),
    key(
        "fleets.<name>.dialect",
        Choice(Dialect::NAMES),
        Default("standard"),
        "Format of connect tokens that the servers' netcode library reads.",
    ),
    key(
        "fleets.<name>.protocol_id",
        Identifier,
        Default("0"),
        "Netcode protocol id of the game: 64 bits, the same in its servers and clients.",
    ),
    key("fleets.<name>.local_process.path", Path, Required, "The server's program."),
    key(
        "fleets.<name>.local_process.arguments",
        Texts,
        Default("[]"),
        "Its arguments; `{port}`, `{server_id}` and `{fleet}` are filled in. At most 1000.",
    ),
    key(
        "fleets.<name>.local_process.environment",
        Table,
        Default("{}"),
        "Variables added to its environment, with the same placeholders. `config show` hides their values. At most 1000.",
    ),
    key(
        "fleets.<name>.local_process.working_folder",
        Path,
        Optional("the working folder of the control plane"),
        "Folder it is started in.",
    ),
    key(
        "fleets.<name>.local_process.ports",
        Text,
        Default("7800-7899"),
        "First and last port, one for each server: at least `max` of them. Fleets may share a range.",
    ),
    key(
        "fleets.<name>.local_process.address",
        Text,
        Default("127.0.0.1"),
        "IP address that players are told when a server gives none.",
    ),
    key(
        "fleets.<name>.local_process.stop_grace",
        Duration,
        Default("5s"),
        "Time to exit by itself after SIGTERM, 0s to 10m; then it is killed.",
    ),
    key(
        "fleets.<name>.local_process.output_limit",
        Size,
        Default("1MiB"),
        "Newest output of a server that is kept, 4KiB to 1GiB.",
    ),
    key(
        "fleets.<name>.local_process.max_run_time",
        Duration,
        Optional("no limit"),
        "A server older than this is stopped, 1s to 366d.",
    ),
    key(
        "fleets.<name>.local_process.reaper_period",
        Duration,
        Default("60s"),
        "Time between two looks for servers that are too old, 1s to 24h.",
    ),
    key(
        "matchmaker.status_expiration",
        Duration,
        Default("10m"),
        "How long the status of a ticket that is over can be asked for, up to 366d. The matchmaker runs where the table `[matchmaker]` is there, even if it is empty.",
    ),
    key("matchmaker.tick", Duration, Default("100ms"), "Matches are formed so often, 1ms to 1m."),
    key("matchmaker.hooks[].kind", Choice(HookKind::NAMES), Required, HOOK.kind),
    key("matchmaker.hooks[].name", Text, Optional(HOOK.outside), HOOK.name),
    key("matchmaker.hooks[].url", Text, Optional(HOOK.outside), HOOK.url),
    key("matchmaker.hooks[].timeout", Duration, Default("2s"), HOOK.timeout),
    key("matchmaker.hooks[].on_failure", Choice(names::ON_FAILURE), Default("accept"), HOOK.on_failure),
    count("matchmaker.hooks[].concurrency", "calls", Default("16"), HOOK.concurrency),
    count("matchmaker.hooks[].breaker_failures", "calls", Default("5"), HOOK.breaker_failures),
    key("matchmaker.hooks[].breaker_pause", Duration, Default("10s"), HOOK.breaker_pause),
    key("matchmaker.hooks[].key_env", Text, Optional("no key is sent"), HOOK.key_env),
    key(
        "matchmaker.hooks[].queues",
        Table,
        Optional("required with the kind `queue_by_party_size`"),
        HOOK.queues,
    ),
    key("matchmaker.hooks[].property", Text, Optional("`address`"), HOOK.property),
    count(
        "matchmaker.queues.<name>.teams",
        "teams",
        Default("2"),
        "Teams of a match. 1: no teams. 0: a match of whoever is there when a ticket expires, or of `players_per_team` before that.",
    ),
    count(
        "matchmaker.queues.<name>.players_per_team",
        "players",
        Optional("allowed only with `teams` 0, where it means no limit"),
        "Players of a full team. A match has at most 1000.",
    ),
    count(
        "matchmaker.queues.<name>.min_players_per_team",
        "players",
        Optional("`players_per_team`: teams are full; 1 with `teams` 0"),
        "Players that a team has at least: the size asked for sinks to it in equal steps as a ticket nears expiry.",
    ),
    key(
        "matchmaker.queues.<name>.ticket_expiration",
        Duration,
        Default("2m"),
        "Longest wait of a ticket, 1s to 366d.",
    ),
    key(
        "matchmaker.queues.<name>.expiration_action",
        Choice(names::EXPIRATION_ACTIONS),
        Default("drop"),
        "What happens then: it times out, or gets a match of whoever is there with teams of at least the minimum.",
    ),
    key(
        "matchmaker.queues.<name>.accept",
        Duration,
        Optional("nobody is asked"),
        "How long players have to accept a match, 1s to 1h. Who does not leaves; the others return to their place.",
    ),
    key(
        "matchmaker.queues.<name>.backfill",
        Choice(names::BACKFILLS),
        Default("off"),
        "Whether tickets take free seats of running matches: before a new match is formed, or where none can be.",
    ),
    key(
        "matchmaker.queues.<name>.seat_timeout",
        Duration,
        Default("30s"),
        "How long a ticket waits for such seats before it returns to its place, 1s to 1h.",
    ),
    count(
        "matchmaker.queues.<name>.max_requeues",
        "times",
        Default("3"),
        "How often a ticket returns to its place when no server could be had, before it fails: up to 1000.",
    ),
    key("matchmaker.queues.<name>.hooks[].kind", Choice(HookKind::NAMES), Required, HOOK.kind),
    key("matchmaker.queues.<name>.hooks[].name", Text, Optional(HOOK.outside), HOOK.name),
    key("matchmaker.queues.<name>.hooks[].url", Text, Optional(HOOK.outside), HOOK.url),
    key("matchmaker.queues.<name>.hooks[].timeout", Duration, Default("2s"), HOOK.timeout),
    key(
        "matchmaker.queues.<name>.hooks[].on_failure",
        Choice(names::ON_FAILURE),
        Default("accept"),
        HOOK.on_failure,
    ),
    count("matchmaker.queues.<name>.hooks[].concurrency", "calls", Default("16"), HOOK.concurrency),
    count("matchmaker.queues.<name>.hooks[].breaker_failures", "calls", Default("5"), HOOK.breaker_failures),
    key("matchmaker.queues.<name>.hooks[].breaker_pause", Duration, Default("10s"), HOOK.breaker_pause),
    key("matchmaker.queues.<name>.hooks[].key_env", Text, Optional("no key is sent"), HOOK.key_env),
    key(
        "matchmaker.queues.<name>.hooks[].queues",
        Table,
        Optional("required with the kind `queue_by_party_size`"),
        HOOK.queues,
    ),
    key("matchmaker.queues.<name>.hooks[].property", Text, Optional("`address`"), HOOK.property),
    key(
        "matchmaker.queues.<name>.rules.<name>.kind",
        Choice(RuleName::NAMES),
        Required,
        "What tickets of one match must have in common. A queue has at most 32 rules.",
    ),
    key(
        "matchmaker.queues.<name>.rules.<name>.property",
        Text,
        Optional("required with `equal`, `distance` and `balance`"),
        "Name of the property or rating that is compared; names of nested properties are joined by dots.",
    ),
    key(
        "matchmaker.queues.<name>.rules.<name>.measure",
        Choice(names::MEASURES),
        Optional("`average`"),
        "`distance`: how a ticket of several players gets its number: from its own properties, or from its players' ratings.",
    ),
    key(
        "matchmaker.queues.<name>.rules.<name>.most",
        Number,
        Optional("required with `distance` and `latency`; with `balance`: as even as can be"),
        "What is allowed at first, 0 to 1e12: the distance, the round trip in milliseconds, or how far the averages of teams may be apart.",
    ),
    key(
        "matchmaker.queues.<name>.rules.<name>.missing",
        Number,
        Optional("0"),
        "`distance` and `balance`: the number of a player who has none, -1e12 to 1e12.",
    ),
    key(
        "matchmaker.queues.<name>.rules.<name>.expression",
        Text,
        Optional("required with `required`, `preferred` and `ticket`"),
        "JMESPath over `{ticket, candidate}`, each `{id, size, players, properties, ratings, player_properties}`; with `ticket` over `{ticket}`.",
    ),
    key(
        "matchmaker.queues.<name>.rules.<name>.relax_after",
        Duration,
        Optional("it holds for good"),
        "After this wait of a ticket it demands nothing any more, 1ms to 366d.",
    ),
    key(
        "matchmaker.queues.<name>.rules.<name>.widen[].after",
        Duration,
        Required,
        "A ticket that has waited for so long, 1ms to 366d, …",
    ),
    key(
        "matchmaker.queues.<name>.rules.<name>.widen[].most",
        Number,
        Required,
        "… is allowed this in place of the rule's own `most`. Each step is later and larger than the one before; at most 16.",
    ),
];

/// Every key there is, in the order of a file.
#[must_use]
pub fn reference() -> &'static [KeyDoc] {
    KEYS
}

/// The key at a path of the table.
pub(crate) fn lookup(path: &str) -> Option<&'static KeyDoc> {
    KEYS.iter().find(|key| key.path == path)
}

/// What stands directly below a section of the table: keys, tables, and lists with their `[]`.
pub(crate) fn children(section: &str) -> Vec<&'static str> {
    let below = KEYS.iter().filter_map(|key| match section {
        "" => Some(key.path),
        _ => key.path.strip_prefix(section)?.strip_prefix('.'),
    });
    let mut names: Vec<_> = below.filter_map(|rest| rest.split('.').next()).collect();
    names.dedup();
    names
}

/// `section.child`, or `child` at the top.
pub(crate) fn below(section: &str, child: &str) -> String {
    if section.is_empty() { child.to_owned() } else { format!("{section}.{child}") }
}

/// The name that is meant, most likely, by one that is not known: close in spelling.
pub(crate) fn closest<'a>(wrong: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let far = |name: &str| strsim::osa_distance(&wrong.to_lowercase(), &name.to_lowercase());
    let (distance, name) = names.into_iter().map(|name| (far(name), name)).min_by_key(|(far, _)| *far)?;
    // A third of the letters wrong is a slip; more is another word.
    (distance <= (name.chars().count() / 3).max(1)).then_some(name)
}

/// Where a key that is unknown in `section` was most likely meant to be.
pub(crate) fn suggest(section: &str, wrong: &str) -> Option<String> {
    let siblings = children(section).into_iter().map(|name| name.trim_end_matches("[]"));
    if let Some(name) = closest(wrong, siblings) {
        return Some(name.to_owned());
    }
    KEYS.iter().map(|key| key.path).find(|path| path.rsplit('.').next() == Some(wrong)).map(str::to_owned)
}
