//! The section `dispatch`: ports on demand for drivers and their devices.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use serde_json::Value;

use crate::edge;
use crate::model::{DispatchConfig, DispatchLimits};
use crate::parse::{self, HOUR, SECOND};
use crate::secret::{self, MAX_SECRET_BYTES, Secret, SecretSource};
use crate::section::Section;

/// Size of a secret, in bytes.
const SECRET_BYTES: RangeInclusive<usize> = 1..=MAX_SECRET_BYTES;
/// A shorter secret can be guessed, in bytes.
const SHORT_SECRET_BYTES: usize = 16;
/// Maximum number of addresses of this machine to open ports on.
const MAX_HOSTS: usize = 64;
/// Maximum number of port ranges.
const MAX_RANGES: usize = 256;
/// Maximum number of anything that each driver or token has one of.
const MANY: u32 = 1_000_000;
/// Maximum number of open ports: every port number, TCP and UDP.
const MAX_PORTS: u32 = 2 * u16::MAX as u32;
/// Maximum number of entries of an accept list.
const MAX_ACCEPT_ENTRIES: u32 = 10_000;
const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
/// Size of messages: the minimum has room for the longest datagram.
const MESSAGE: RangeInclusive<u64> = 128 * KIB..=64 * MIB;
/// Size of the queue of one driver, or one device.
const OWN_QUEUE: RangeInclusive<u64> = 256 * KIB..=GIB;
/// Size of all their queues together.
const COMMON_QUEUE: RangeInclusive<u64> = 256 * KIB..=1024 * GIB;
const SHORT: RangeInclusive<Duration> = Duration::from_millis(100)..=HOUR;
const LONG: RangeInclusive<Duration> = SECOND..=HOUR;
const MONTH: Duration = Duration::from_secs(30 * 24 * 3600);

/// The section; `dev` if nobody needs a key.
pub(crate) fn read(section: &Section<'_>, dev: Option<bool>) -> Option<DispatchConfig> {
    let enabled = section.get("enabled", parse::switch);
    let listen = section.optional("listen", parse::socket);
    let secret = secret(section);
    let tls = section.section("tls").and_then(|section| edge::certificate(&section));
    let hosts =
        section.get("hosts", |value| at_least_one(parse::list(MAX_HOSTS, host)(value)?, "an address"));
    let allowed_ports = section
        .get("allowed_ports", |value| at_least_one(parse::list(MAX_RANGES, parse::ports)(value)?, "a range"));
    let only_to_peers_that_spoke = section.get("only_to_peers_that_spoke", parse::switch);
    let limits = section.section("limits").and_then(|section| limits(&section));
    let config = DispatchConfig {
        enabled: enabled?,
        listen: listen?,
        secret: secret?,
        tls: tls?,
        hosts: hosts?,
        allowed_ports: allowed_ports?,
        only_to_peers_that_spoke: only_to_peers_that_spoke?,
        limits: limits?,
    };
    reach(section, &config, dev);
    Some(config)
}

/// Compares who can open ports with who should.
fn reach(section: &Section<'_>, config: &DispatchConfig, dev: Option<bool>) {
    if !config.enabled {
        return;
    }
    if let Some(listen) = config.listen.filter(|listen| !listen.ip().is_loopback())
        && dev == Some(true)
        && config.secret.is_none()
    {
        section.problem(
            "listen",
            format!(
                "is {listen}, but in development mode and without a secret everybody may open ports: use a loopback \
                 address like 127.0.0.1:{}, or give a `secret_file` or `secret_env`",
                listen.port()
            ),
        );
    }
    if config.tls.is_some() && config.listen.is_none() {
        section.warn(
            "tls",
            "is given without `listen`: only `sortie dispatch` uses it; `sortie up` serves drivers at its own `listen`, \
             with `[tls]`",
        );
    }
}

fn secret(section: &Section<'_>) -> Option<Option<(SecretSource, Secret)>> {
    let file = section.optional_path("secret_file");
    let variable = section.optional("secret_env", parse::variable_name);
    let (key, source, secret) = match (file?, variable?) {
        (None, None) => return Some(None),
        (Some(_), Some(_)) => {
            section.problem("secret_env", "is given together with `secret_file`; keep one of them");
            return None;
        }
        (Some(path), None) => {
            let secret = secret::from_file(&path, SECRET_BYTES);
            ("secret_file", SecretSource::File(path), secret)
        }
        (None, Some(name)) => {
            let secret = secret::from_variable(section, &name, SECRET_BYTES);
            ("secret_env", SecretSource::Variable(name), secret)
        }
    };
    let is_text = |secret: &Secret| str::from_utf8(secret.bytes()).is_ok();
    let secret = secret.and_then(|secret| {
        if is_text(&secret) {
            Ok(secret)
        } else {
            Err("leads to a secret that is not valid UTF-8".to_owned())
        }
    });
    let secret = secret.map_err(|problem| section.problem(key, problem)).ok()?;
    if secret.bytes().len() < SHORT_SECRET_BYTES {
        section.warn(
            key,
            format!(
                "leads to a secret of less than {SHORT_SECRET_BYTES} bytes, which can be guessed: openssl rand -hex 32"
            ),
        );
    }
    Some(Some((source, secret)))
}

fn at_least_one<T>(list: Vec<T>, what: &str) -> Result<Vec<T>, String> {
    if list.is_empty() { Err(format!("must have {what} at least")) } else { Ok(list) }
}

/// An address of this machine, or all of them.
fn host(value: &Value) -> Result<IpAddr, String> {
    let parsed: Option<IpAddr> = value.as_str().and_then(|text| text.parse().ok());
    parsed.filter(|ip| !ip.is_multicast()).ok_or_else(|| {
        "must be an IP address of this machine, \"0.0.0.0\" for all of IPv4, \"::\" for all of IPv6"
            .to_owned()
    })
}

fn limits(section: &Section<'_>) -> Option<DispatchLimits> {
    let count = |key, most: u32| section.get(key, parse::integer(1..=most));
    let size = |key, range| section.get(key, parse::size(range));
    let time = |key, range| section.get(key, parse::duration(range));
    let drivers = count("drivers", MANY);
    let drivers_per_port = count("drivers_per_port", MANY);
    let ports = count("ports", MAX_PORTS);
    let devices = count("devices", MANY);
    let accept_entries = count("accept_entries", MAX_ACCEPT_ENTRIES);
    let message = size("message", MESSAGE);
    let driver_queue = size("driver_queue", OWN_QUEUE);
    let queue = size("queue", COMMON_QUEUE);
    let device_backlog = size("device_backlog", OWN_QUEUE);
    let backlog = size("backlog", COMMON_QUEUE);
    let driver_stall = time("driver_stall", LONG);
    let device_patience = time("device_patience", SHORT);
    let device_stall = time("device_stall", LONG);
    let half_close_time = time("half_close_time", SHORT);
    let half_closed = count("half_closed", MANY);
    let ping_period = time("ping_period", LONG);
    let ping_deadline = time("ping_deadline", LONG);
    let close_time = time("close_time", SHORT);
    let udp_peers_per_port = count("udp_peers_per_port", MANY);
    let tokens = count("tokens", MANY);
    let token_time = time("token_time", SECOND..=MONTH);
    Some(DispatchLimits {
        drivers: drivers?,
        drivers_per_port: drivers_per_port?,
        ports: ports?,
        devices: devices?,
        accept_entries: accept_entries?,
        message: message?,
        driver_queue: driver_queue?,
        queue: queue?,
        device_backlog: device_backlog?,
        backlog: backlog?,
        driver_stall: driver_stall?,
        device_patience: device_patience?,
        device_stall: device_stall?,
        half_close_time: half_close_time?,
        half_closed: half_closed?,
        ping_period: ping_period?,
        ping_deadline: ping_deadline?,
        close_time: close_time?,
        udp_peers_per_port: udp_peers_per_port?,
        tokens: tokens?,
        token_time: token_time?,
    })
}
