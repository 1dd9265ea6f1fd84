//! What lies between the network and the calls: TLS, and the limits of connections.

use std::path::PathBuf;
use std::time::Duration;

use crate::model::{CallerLimits, LimitsConfig, TlsConfig};
use crate::parse::{self, HOUR, SECOND};
use crate::section::Section;

/// Maximum number of connections.
const MAX_CONNECTIONS: u64 = 1_000_000;
/// Maximum number of concurrent calls on one connection.
const MAX_CALLS: u32 = 100_000;
const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
/// Maximum size of a call's body. The content of one call becomes one record of the log, which takes at most 16 MiB at
/// once; a match may take 4 MiB.
const LARGEST_BODY: u64 = 4 * MIB;

/// The section `tls`; `Some(None)` for plain HTTP.
pub(crate) fn tls(section: &Section<'_>) -> Option<Option<TlsConfig>> {
    let certificate = section.optional_path("certificate");
    let key = section.optional_path("key");
    let ca = section.optional_path("ca");
    let (certificate, key, ca) = (certificate?, key?, ca?);
    if certificate.is_none() && key.is_none() && ca.is_some() {
        section.problem("ca", "is given without `certificate`, so there is no TLS to trust");
        return None;
    }
    pair(section, certificate, key, ca)
}

/// A section with only a certificate and its key; `Some(None)` if they are not given.
pub(crate) fn certificate(section: &Section<'_>) -> Option<Option<TlsConfig>> {
    let certificate = section.optional_path("certificate");
    let key = section.optional_path("key");
    pair(section, certificate?, key?, None)
}

fn pair(
    section: &Section<'_>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
    ca: Option<PathBuf>,
) -> Option<Option<TlsConfig>> {
    match (certificate, key) {
        (Some(certificate), Some(key)) => Some(Some(TlsConfig { certificate, key, ca })),
        (Some(_), None) => {
            section.problem("key", "is required with `certificate`: name the file with its private key");
            None
        }
        (None, Some(_)) => {
            section.problem("certificate", "is required with `key`: name the file with its certificate");
            None
        }
        (None, None) => Some(None),
    }
}

/// The section `limits`.
pub(crate) fn limits(section: &Section<'_>) -> Option<LimitsConfig> {
    let connections = section.get("connections", parse::integer(1..=MAX_CONNECTIONS));
    let per_address = section.get("connections_per_address", parse::integer(0..=MAX_CONNECTIONS));
    let calls_per_connection = section.get("calls_per_connection", parse::integer(1..=MAX_CALLS));
    let body = section.get("body", parse::size(KIB..=LARGEST_BODY));
    let body_time = section.get("body_time", parse::duration(SECOND..=TEN_MINUTES));
    let headers = section.get("headers", parse::size(KIB..=MIB));
    let idle_time = section.get("idle_time", parse::duration(SECOND..=HOUR));
    let handshake_time = section.get("handshake_time", parse::duration(SECOND..=TEN_MINUTES));
    let stall_time = section.get("stall_time", parse::duration(SECOND..=TEN_MINUTES));
    let callers = callers(section);
    Some(LimitsConfig {
        connections: usize::try_from(connections?).ok()?,
        connections_per_address: usize::try_from(per_address?).ok().filter(|most| *most > 0),
        calls_per_connection: calls_per_connection?,
        body: usize::try_from(body?).ok()?,
        body_time: body_time?,
        headers: u32::try_from(headers?).ok()?,
        idle_time: idle_time?,
        handshake_time: handshake_time?,
        stall_time: stall_time?,
        callers: callers?,
    })
}

fn callers(section: &Section<'_>) -> Option<CallerLimits> {
    let count = |name: &'static str, most: u32| {
        section.get(name, parse::integer(1..=most)).and_then(|count: u32| usize::try_from(count).ok())
    };
    let player_streams = count("player_streams", MAX_STREAMS);
    let log_streams = count("log_streams", MAX_SHARE);
    let streams_per_player = count("streams_per_player", MAX_SHARE);
    let streams_per_key = count("streams_per_key", MAX_STREAMS);
    let waits = count("waits", MAX_STREAMS);
    let waits_per_key = count("waits_per_key", MAX_STREAMS);
    let watches = count("watches", MAX_SHARE);
    let watches_per_address = count("watches_per_address", MAX_SHARE);
    let rate_per_player = section.get("rate_per_player", parse::integer(0..=1_000));
    let burst_per_player = section.get("burst_per_player", parse::integer(1..=100_000));
    Some(CallerLimits {
        player_streams: player_streams?,
        log_streams: log_streams?,
        streams_per_player: streams_per_player?,
        streams_per_key: streams_per_key?,
        waits: waits?,
        waits_per_key: waits_per_key?,
        watches: watches?,
        watches_per_address: watches_per_address?,
        rate_per_player: rate_per_player?,
        burst_per_player: burst_per_player?,
    })
}

/// Maximum number of streams, and of waiting calls, in total or per key.
const MAX_STREAMS: u32 = 1_000_000;
/// Maximum of any other share.
const MAX_SHARE: u32 = 100_000;
const TEN_MINUTES: Duration = Duration::from_secs(600);
