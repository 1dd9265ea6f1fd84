//! The effective configuration as a file.

use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use sortie_domain::broker::model::{FastSchedule, Settings};
use sortie_domain::ids::FleetId;
use toml::{Table, Value};

use crate::checked;
use crate::matchmaker;
use crate::model::{
    ApiKey, Config, DispatchConfig, DispatchLimits, FleetConfig, GatewayConfig, LimitsConfig, LogConfig,
    Permission, TlsConfig,
};
use crate::netcode::KeySource;
use crate::parse::show_size;
use crate::players::{PlayerKeys, PlayersConfig};
use crate::secret::SecretSource;

/// Shown instead of the values of a game server's environment variables.
pub const HIDDEN: &str = "(hidden)";

impl Config {
    /// The configuration as TOML that [`Config::load`] reads: defaults written out, paths absolute. Values of game
    /// servers' environment variables are [`HIDDEN`]. API keys appear as their hashes, the netcode key and the secret
    /// of player tokens as their sources: a configuration contains none of them itself.
    #[must_use]
    pub fn show(&self) -> String {
        let mut top = Table::new();
        put(&mut top, "listen", self.listen.to_string());
        put(&mut top, "data", shown_path(&self.data));
        put(&mut top, "dev", self.dev);
        put(&mut top, "dev_hosts", self.dev_hosts.clone());
        put_some(&mut top, "public_url", self.public_url.clone());
        put(&mut top, "shutdown_deadline", shown(self.shutdown_deadline));
        put_some(&mut top, "tls", self.tls.as_ref().map(tls));
        put(&mut top, "limits", limits(&self.limits));
        put(&mut top, "log", log(&self.log));
        put(&mut top, "broker", broker(&self.broker));
        put(&mut top, "api_keys", self.api_keys.iter().map(api_key).collect::<Vec<_>>());
        put(&mut top, "players", players(self));
        let mut netcode = Table::new();
        match self.netcode_key.as_ref().map(crate::NetcodeKey::source) {
            Some(KeySource::File(path)) => put(&mut netcode, "key_file", shown_path(path)),
            Some(KeySource::Variable(name)) => put(&mut netcode, "key_env", name.clone()),
            None => {}
        }
        put(&mut top, "netcode", netcode);
        put(&mut top, "gateway", gateway(&self.gateway));
        put(&mut top, "dispatch", dispatch(&self.dispatch));
        let mut fleets = Table::new();
        for one in &self.fleets {
            put(&mut fleets, one.fleet.id.as_str(), fleet(one));
        }
        put(&mut top, "fleets", fleets);
        put_some(&mut top, "matchmaker", self.matchmaker.as_ref().map(matchmaker::show::table));
        top.to_string()
    }
}

pub(crate) fn put(table: &mut Table, key: &str, value: impl Into<Value>) {
    table.insert(key.to_owned(), value.into());
}

pub(crate) fn put_some(table: &mut Table, key: &str, value: Option<impl Into<Value>>) {
    if let Some(value) = value {
        put(table, key, value);
    }
}

pub(crate) fn shown_path(path: &Path) -> String {
    path.display().to_string()
}

pub(crate) fn shown(duration: Duration) -> String {
    humantime::format_duration(duration).to_string()
}

fn tls(tls: &TlsConfig) -> Table {
    let mut table = Table::new();
    put(&mut table, "certificate", shown_path(&tls.certificate));
    put(&mut table, "key", shown_path(&tls.key));
    put_some(&mut table, "ca", tls.ca.as_deref().map(shown_path));
    table
}

fn limits(limits: &LimitsConfig) -> Table {
    let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    let mut table = Table::new();
    put(&mut table, "connections", count(limits.connections));
    put(&mut table, "connections_per_address", count(limits.connections_per_address.unwrap_or(0)));
    put(&mut table, "calls_per_connection", limits.calls_per_connection);
    put(&mut table, "body", show_size(limits.body as u64));
    put(&mut table, "body_time", shown(limits.body_time));
    put(&mut table, "headers", show_size(limits.headers.into()));
    put(&mut table, "idle_time", shown(limits.idle_time));
    put(&mut table, "handshake_time", shown(limits.handshake_time));
    put(&mut table, "stall_time", shown(limits.stall_time));
    let callers = &limits.callers;
    for (name, most) in [
        ("player_streams", callers.player_streams),
        ("log_streams", callers.log_streams),
        ("streams_per_player", callers.streams_per_player),
        ("streams_per_key", callers.streams_per_key),
        ("waits", callers.waits),
        ("waits_per_key", callers.waits_per_key),
        ("watches", callers.watches),
        ("watches_per_address", callers.watches_per_address),
    ] {
        put(&mut table, name, count(most));
    }
    put(&mut table, "rate_per_player", callers.rate_per_player);
    put(&mut table, "burst_per_player", callers.burst_per_player);
    table
}

fn log(log: &LogConfig) -> Table {
    let mut table = Table::new();
    put(&mut table, "format", log.format.name());
    put(&mut table, "level", log.level.clone());
    put(&mut table, "retention", show_size(log.retention));
    put(&mut table, "snapshot_every", i64::try_from(log.snapshot_every).unwrap_or(i64::MAX));
    table
}

fn broker(settings: &Settings) -> Table {
    let mut table = Table::new();
    let fast_schedule = match settings.fast_schedule {
        FastSchedule::OnSchedule => 0,
        FastSchedule::UnlessFree => 1,
        FastSchedule::Always => 2,
    };
    put(&mut table, "fast_schedule", fast_schedule);
    put(&mut table, "lifetime_ends_matches", settings.lifetime_ends_matches);
    for (name, duration) in checked::timers(settings) {
        put(&mut table, name, shown(duration));
    }
    for (name, bytes) in checked::budgets(settings) {
        put(&mut table, name, show_size(bytes));
    }
    table
}

fn api_key(key: &ApiKey) -> Table {
    let mut table = Table::new();
    put(&mut table, "name", key.name.clone());
    put(&mut table, "sha256", base16ct::lower::encode_string(&key.sha256));
    put(
        &mut table,
        "permissions",
        key.permissions.iter().map(|permission| Permission::name(*permission)).collect::<Vec<_>>(),
    );
    put(&mut table, "fleets", key.fleets.iter().map(ToString::to_string).collect::<Vec<_>>());
    table
}

fn players(config: &Config) -> Table {
    let mut table = Table::new();
    if let Some(players) = &config.players {
        signing_in(&mut table, players);
    }
    put(&mut table, "may_name_others", config.player_rights.may_name_others.name());
    put(&mut table, "may_rate_themselves", config.player_rights.may_rate_themselves);
    table
}

fn signing_in(table: &mut Table, players: &PlayersConfig) {
    put(table, "issuer", players.issuer.clone());
    put(table, "audience", players.audience.clone());
    put(table, "leeway", shown(players.leeway));
    match &players.keys {
        PlayerKeys::Secret(SecretSource::File(path), _) => put(table, "secret_file", shown_path(path)),
        PlayerKeys::Secret(SecretSource::Variable(name), _) => put(table, "secret_env", name.clone()),
        PlayerKeys::JwksFile(path) => put(table, "jwks_file", shown_path(path)),
        PlayerKeys::JwksUrl(url) => put(table, "jwks_url", url.clone()),
    }
}

fn gateway(gateway: &GatewayConfig) -> Table {
    let mut table = Table::new();
    put_some(&mut table, "default_fleet", gateway.default_fleet.as_ref().map(FleetId::as_str));
    put(&mut table, "players", gateway.players.name());
    put(&mut table, "wait_deadline", shown(gateway.wait_deadline));
    put(&mut table, "progress_interval", shown(gateway.progress_interval));
    put(&mut table, "reconnect_grace", shown(gateway.reconnect_grace));
    put(&mut table, "rejoin", gateway.rejoin);
    put(
        &mut table,
        "trusted_proxies",
        gateway.trusted_proxies.iter().map(ToString::to_string).collect::<Vec<_>>(),
    );
    put(&mut table, "rate_per_address", gateway.rate_per_address);
    put(&mut table, "burst_per_address", gateway.burst_per_address);
    put(&mut table, "waiting_per_address", gateway.waiting_per_address);
    put(&mut table, "cors_origins", gateway.cors_origins.clone());
    put_some(&mut table, "loopback_ip_replacement", gateway.loopback_ip_replacement.map(|ip| ip.to_string()));
    table
}

fn dispatch(config: &DispatchConfig) -> Table {
    let mut table = Table::new();
    put(&mut table, "enabled", config.enabled);
    put_some(&mut table, "listen", config.listen.map(|listen| listen.to_string()));
    match config.secret.as_ref().map(|(source, _)| source) {
        Some(SecretSource::File(path)) => put(&mut table, "secret_file", shown_path(path)),
        Some(SecretSource::Variable(name)) => put(&mut table, "secret_env", name.clone()),
        None => {}
    }
    put_some(&mut table, "tls", config.tls.as_ref().map(tls));
    put(&mut table, "hosts", config.hosts.iter().map(ToString::to_string).collect::<Vec<_>>());
    let range = |ports: &RangeInclusive<u16>| format!("{}-{}", ports.start(), ports.end());
    put(&mut table, "allowed_ports", config.allowed_ports.iter().map(range).collect::<Vec<_>>());
    put(&mut table, "only_to_peers_that_spoke", config.only_to_peers_that_spoke);
    put(&mut table, "limits", dispatch_limits(&config.limits));
    table
}

fn dispatch_limits(limits: &DispatchLimits) -> Table {
    let mut table = Table::new();
    put(&mut table, "drivers", limits.drivers);
    put(&mut table, "drivers_per_port", limits.drivers_per_port);
    put(&mut table, "ports", limits.ports);
    put(&mut table, "devices", limits.devices);
    put(&mut table, "accept_entries", limits.accept_entries);
    put(&mut table, "message", show_size(limits.message));
    put(&mut table, "driver_queue", show_size(limits.driver_queue));
    put(&mut table, "queue", show_size(limits.queue));
    put(&mut table, "device_backlog", show_size(limits.device_backlog));
    put(&mut table, "backlog", show_size(limits.backlog));
    put(&mut table, "driver_stall", shown(limits.driver_stall));
    put(&mut table, "device_patience", shown(limits.device_patience));
    put(&mut table, "device_stall", shown(limits.device_stall));
    put(&mut table, "half_close_time", shown(limits.half_close_time));
    put(&mut table, "half_closed", limits.half_closed);
    put(&mut table, "ping_period", shown(limits.ping_period));
    put(&mut table, "ping_deadline", shown(limits.ping_deadline));
    put(&mut table, "close_time", shown(limits.close_time));
    put(&mut table, "udp_peers_per_port", limits.udp_peers_per_port);
    put(&mut table, "tokens", limits.tokens);
    put(&mut table, "token_time", shown(limits.token_time));
    table
}

fn fleet(config: &FleetConfig) -> Table {
    let mut table = Table::new();
    put(&mut table, "allocator", config.allocator.platform());
    put(&mut table, config.allocator.platform(), config.allocator.show());
    put(&mut table, "description", config.description.clone());
    put(&mut table, "requirements", config.fleet.requirements.clone());
    put_some(&mut table, "server_requirements", config.server_requirements.clone());
    put(&mut table, "max", config.fleet.max);
    put(&mut table, "warm", config.fleet.warm);
    put(&mut table, "ready_deadline", shown(config.fleet.ready_deadline));
    put(&mut table, "preference", config.fleet.preference);
    put_some(&mut table, "game", config.game.as_ref().map(|game| game.name.clone()));
    put_some(&mut table, "version", config.game.as_ref().map(|game| game.version.clone()));
    put(&mut table, "capacity", config.capacity);
    put(&mut table, "seat_ttl", shown(config.seat_ttl));
    put(&mut table, "dialect", config.dialect.name());
    // TOML integers are signed, so the upper half of the values does not fit.
    put(&mut table, "protocol_id", format!("{:#x}", config.protocol_id));
    table
}
