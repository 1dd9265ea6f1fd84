//! Every section except the fleets: from the tree to checked values.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path;
use std::time::Duration;

use serde_json::Value;
use sortie_domain::broker::model::{FastSchedule, MIN_BUDGET_BYTES, Settings};
use sortie_domain::ids::FleetId;

use crate::contradictions;
use crate::dispatch;
use crate::edge;
use crate::fleets;
use crate::keys;
use crate::load::Overrides;
use crate::matchmaker;
use crate::model::{ApiKey, Config, FleetConfig, GatewayConfig, LogConfig, LogFormat, Permission, Players};
use crate::netcode;
use crate::parse::{self, HOUR, SECOND};
use crate::players;
use crate::section::Section;

/// Maximum number of host names in development mode.
const MAX_DEV_HOSTS: usize = 100;
/// Maximum number of networks, and of origins, of the gateway.
const MAX_GATEWAY_ENTRIES: usize = 100;
/// Maximum number of events between two snapshots.
const MAX_SNAPSHOT_EVERY: u64 = 1_000_000_000;
/// Maximum size of the log that is kept, in bytes: 1 PiB.
const MAX_RETENTION: u64 = 1 << 50;

/// Reads everything; `None` if a problem was reported.
pub(crate) fn config(top: &Section<'_>, overrides: Overrides) -> Option<Config> {
    let listen = overrides.listen.or_else(|| top.get("listen", parse::socket));
    let data = match overrides.data {
        Some(data) => path::absolute(data)
            .map_err(|error| top.problem("data", format!("cannot be made absolute: {error}")))
            .ok(),
        None => top.path("data"),
    };
    let dev = overrides.dev.or_else(|| top.get("dev", parse::switch));
    let dev_hosts = top.get("dev_hosts", parse::list(MAX_DEV_HOSTS, parse::host));
    let public_url = top.optional("public_url", parse::public_url);
    if let Some(listen) = listen {
        reach(top, listen, dev, public_url.as_ref());
    }
    let shutdown_deadline = top.get("shutdown_deadline", parse::duration(SECOND..=600 * SECOND));
    let tls = top.section("tls").and_then(|section| edge::tls(&section));
    let limits = top.section("limits").and_then(|section| edge::limits(&section));
    let log = top.section("log").and_then(|section| log(&section));
    let broker = top.section("broker").and_then(|section| broker(&section));
    let api_keys = api_keys(top);
    let players_section = top.section("players");
    let player_rights = players_section.as_ref().and_then(players::rights);
    let players = players_section.and_then(|section| players::read(&section));
    let netcode_key = top.section("netcode").and_then(|section| netcode::read(&section));
    let dispatch = top.section("dispatch").and_then(|section| dispatch::read(&section, dev));
    let fleets_section = top.section("fleets");
    let gateway_section = top.section("gateway");
    let gateway = gateway_section.as_ref().and_then(|section| gateway(section, fleets_section.as_ref()));
    let matchmaker =
        top.section("matchmaker").and_then(|section| matchmaker::read(&section, top.given("matchmaker")));
    let must_sign_in = gateway.as_ref().is_some_and(|gateway| gateway.players == Players::SignedIn);
    if must_sign_in
        && players == Some(None)
        && dev != Some(true)
        && let Some(section) = &gateway_section
    {
        section.problem("players", "is `signed_in`, but `[players]` does not say which tokens are good");
    }
    let fleets = fleets_section.and_then(|section| fleets::read(&section));
    let mut fleets = fleets?;
    let gateway = gateway?;
    for fleet in &mut fleets {
        fleet.fleet.is_default = gateway.default_fleet.as_ref() == Some(&fleet.fleet.id);
    }
    let config = Config {
        listen: listen?,
        data: data?,
        dev: dev?,
        dev_hosts: dev_hosts?,
        public_url: public_url?,
        shutdown_deadline: shutdown_deadline?,
        tls: tls?,
        limits: limits?,
        log: log?,
        broker: broker?,
        api_keys: api_keys?,
        players: players?,
        player_rights: player_rights?,
        netcode_key: netcode_key?,
        gateway,
        dispatch: dispatch?,
        fleets,
        matchmaker: matchmaker?,
        warnings: Vec::new(),
        remarks: Vec::new(),
    };
    contradictions::warn(top, &config);
    Some(config)
}

/// Compares who can reach `listen` with who should.
fn reach(top: &Section<'_>, listen: SocketAddr, dev: Option<bool>, public_url: Option<&Option<String>>) {
    if dev == Some(true) && !listen.ip().is_loopback() {
        let port = listen.port();
        top.problem(
            "listen",
            format!(
                "is {listen}, but in development mode nobody needs a key: use a loopback address like \
                 127.0.0.1:{port}, or leave development mode and configure `api_keys`"
            ),
        );
    }
    if listen.ip().is_unspecified() && public_url == Some(&None) {
        top.warn(
            "public_url",
            "is not given and `listen` is every address: game servers and players on other machines are told \
             a loopback address",
        );
    }
}

fn log(section: &Section<'_>) -> Option<LogConfig> {
    let format = section.get("format", parse::choice(LogFormat::NAMES, LogFormat::by_name));
    let level = section.get("level", parse::levels);
    let retention = section.get("retention", parse::size(0..=MAX_RETENTION));
    let snapshot_every = section.get("snapshot_every", parse::integer(1..=MAX_SNAPSHOT_EVERY));
    Some(LogConfig { format: format?, level: level?, retention: retention?, snapshot_every: snapshot_every? })
}

/// Accessor of a duration in the broker's settings.
type Timer = (&'static str, fn(&mut Settings) -> &mut Duration);

const TIMERS: [Timer; 8] = [
    ("server_max_lifetime", |settings| &mut settings.server_max_lifetime),
    ("match_pickup_time", |settings| &mut settings.match_pickup_time),
    ("match_ready_time", |settings| &mut settings.match_ready_time),
    ("match_max_run_time", |settings| &mut settings.match_max_run_time),
    ("schedule_frequency", |settings| &mut settings.schedule_frequency),
    ("delay_allocation", |settings| &mut settings.delay_allocation),
    ("wait", |settings| &mut settings.wait),
    ("suspect_time", |settings| &mut settings.suspect_time),
];

/// Accessor of a byte budget in the broker's settings.
type Budget = (&'static str, fn(&mut Settings) -> &mut u64);

const BUDGETS: [Budget; 2] = [
    ("waiting_bytes", |settings| &mut settings.waiting_bytes),
    ("kept_bytes", |settings| &mut settings.kept_bytes),
];

/// The budgets of `settings` by name.
pub(crate) fn budgets(settings: &Settings) -> impl Iterator<Item = (&'static str, u64)> {
    let mut settings = settings.clone();
    BUDGETS.into_iter().map(move |(name, field)| (name, *field(&mut settings)))
}

/// The durations of `settings` by name.
pub(crate) fn timers(settings: &Settings) -> impl Iterator<Item = (&'static str, Duration)> {
    let mut settings = settings.clone();
    TIMERS.into_iter().map(move |(name, field)| (name, *field(&mut settings)))
}

fn broker(section: &Section<'_>) -> Option<Settings> {
    let mut settings = Settings::default();
    let mut complete = true;
    match section.get("fast_schedule", parse::integer(0..=2_u32)) {
        Some(0) => settings.fast_schedule = FastSchedule::OnSchedule,
        Some(1) => settings.fast_schedule = FastSchedule::UnlessFree,
        Some(_) => settings.fast_schedule = FastSchedule::Always,
        None => complete = false,
    }
    for (name, field) in TIMERS {
        // The domain reports one error at a time, so each duration is checked among valid ones.
        let in_range = |duration: &Duration| {
            let mut alone = Settings::default();
            *field(&mut alone) = *duration;
            alone.check().map_err(|(_, problem)| section.problem(name, problem)).is_ok()
        };
        match section.get(name, parse::any_duration).filter(in_range) {
            Some(duration) => *field(&mut settings) = duration,
            None => complete = false,
        }
    }
    match section.get("lifetime_ends_matches", parse::switch) {
        Some(ends) => settings.lifetime_ends_matches = ends,
        None => complete = false,
    }
    for (name, field) in BUDGETS {
        match section.get(name, parse::size(MIN_BUDGET_BYTES..=MAX_RETENTION)) {
            Some(bytes) => *field(&mut settings) = bytes,
            None => complete = false,
        }
    }
    if !complete {
        return None;
    }
    Some(settings)
}

fn api_keys(top: &Section<'_>) -> Option<Vec<ApiKey>> {
    let sections = top.list("api_keys");
    if sections.len() > ApiKey::MAX {
        top.problem(
            "api_keys",
            format!("has {} entries, at most {} are allowed", sections.len(), ApiKey::MAX),
        );
        return None;
    }
    let (mut names, mut hashes) = (BTreeSet::new(), BTreeSet::new());
    let read = |section: &Section<'_>| {
        let key = api_key(section)?;
        if !names.insert(key.name.clone()) {
            section.problem("name", format!("{} names an earlier key too", parse::quoted(&key.name)));
        }
        if !hashes.insert(key.sha256) {
            section
                .problem("sha256", "is that of an earlier key; give each key once, with all its permissions");
        }
        Some(key)
    };
    sections.iter().map(read).collect::<Vec<_>>().into_iter().collect()
}

fn api_key(section: &Section<'_>) -> Option<ApiKey> {
    let printable = |character: char| character == ' ' || character.is_ascii_graphic();
    let name = section.get("name", parse::characters(1..=64, printable, "printable ASCII characters"));
    let sha256 = section.get("sha256", parse::sha256);
    let permission = parse::choice(Permission::NAMES, Permission::by_name);
    let permissions = section.get("permissions", |value| {
        let mut permissions = parse::list(Permission::NAMES.len(), permission)(value)?;
        permissions.sort_unstable();
        permissions.dedup();
        if permissions.is_empty() {
            Err("must name at least one permission".to_owned())
        } else {
            Ok(permissions)
        }
    });
    let fleets = section.get("fleets", parse::list(FleetConfig::MAX, fleets::id));
    let key = ApiKey { name: name?, sha256: sha256?, permissions: permissions?, fleets: fleets? };
    if !key.fleets.is_empty() && key.permissions != [Permission::GameServerMatch] {
        section.problem("fleets", "needs `game_server_match` as the only permission");
    }
    Some(key)
}

fn gateway(section: &Section<'_>, fleets: Option<&Section<'_>>) -> Option<GatewayConfig> {
    let default_fleet = default_fleet(section, fleets);
    let players = section.get("players", parse::choice(Players::NAMES, Players::by_name));
    let wait_deadline = section.get("wait_deadline", parse::duration(SECOND..=HOUR));
    let least = Duration::from_millis(100);
    let progress_interval = section.get("progress_interval", parse::duration(least..=60 * SECOND));
    let reconnect_grace = section.get("reconnect_grace", parse::duration(Duration::ZERO..=HOUR));
    let rejoin = section.get("rejoin", parse::switch);
    let trusted_proxies = section.get("trusted_proxies", parse::list(MAX_GATEWAY_ENTRIES, parse::network));
    let rate_per_address = section.get("rate_per_address", parse::integer(0..=1_000));
    let burst_per_address = section.get("burst_per_address", parse::integer(1..=100_000));
    let waiting_per_address = section.get("waiting_per_address", parse::integer(0..=20_000));
    let cors_origins = section.get("cors_origins", parse::list(MAX_GATEWAY_ENTRIES, parse::origin));
    let loopback_ip_replacement = section.optional("loopback_ip_replacement", |value| {
        let ip = parse::ip(value)?;
        if ip.is_loopback() { Err(format!("must not be a loopback address itself, is {ip}")) } else { Ok(ip) }
    });
    Some(GatewayConfig {
        default_fleet: default_fleet?,
        players: players?,
        wait_deadline: wait_deadline?,
        progress_interval: progress_interval?,
        reconnect_grace: reconnect_grace?,
        rejoin: rejoin?,
        trusted_proxies: trusted_proxies?,
        rate_per_address: rate_per_address?,
        burst_per_address: burst_per_address?,
        waiting_per_address: waiting_per_address?,
        cors_origins: cors_origins?,
        loopback_ip_replacement: loopback_ip_replacement?,
    })
}

/// For players who name no game: an existing fleet that has a game.
fn default_fleet(section: &Section<'_>, fleets: Option<&Section<'_>>) -> Option<Option<FleetId>> {
    let id = section.optional("default_fleet", fleets::id)?;
    if let (Some(id), Some(fleets)) = (&id, fleets) {
        match fleets.raw(id.as_str()) {
            None => {
                let meant = keys::closest(id.as_str(), fleets.names());
                let hint =
                    meant.map_or_else(String::new, |name| format!("; did you mean {}?", parse::quoted(name)));
                section.problem("default_fleet", format!("names a fleet that is not configured{hint}"));
            }
            Some(fleet) if fleet.get("game").is_none_or(Value::is_null) => {
                section.problem(
                    "default_fleet",
                    "names a fleet without a `game`: give it a `game` and a `version`",
                );
            }
            Some(_) => {}
        }
    }
    Some(id)
}
