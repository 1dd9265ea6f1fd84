//! The keys of `[limits]`: for connections and calls, and for what callers may have open.

use super::Kind::{Duration, Size};
use super::Presence::Default;
use super::{KeyDoc, count, key};

/// In the order of a file.
pub(super) static LIMITS: &[KeyDoc] = &[
    count(
        "limits.connections",
        "connections",
        Default("65536"),
        "Maximum number of connections, TLS handshakes included, 1 to 1000000; further ones wait. The limit of open files is raised to fit; if that fails, the maximum is lower.",
    ),
    count(
        "limits.connections_per_address",
        "connections",
        Default("0"),
        "Maximum number from one address (IPv6: one /64), up to 1000000; further ones are closed. 0: no limit, e.g. behind a proxy, where all connections share one address.",
    ),
    count(
        "limits.calls_per_connection",
        "calls",
        Default("1024"),
        "Maximum number of concurrent calls on one HTTP/2 connection, 1 to 100000.",
    ),
    key(
        "limits.body",
        Size,
        Default("1MiB"),
        "Maximum size of a call's body, and of a gRPC message, 1KiB to 4MiB; for players 64KiB. A call is written to the log in one piece, so this is also about the maximum size of a match.",
    ),
    key("limits.body_time", Duration, Default("30s"), "Maximum time for a body to arrive, 1s to 10m."),
    key("limits.headers", Size, Default("16KiB"), "Maximum total size of a request's headers, 1KiB to 1MiB."),
    key(
        "limits.idle_time",
        Duration,
        Default("75s"),
        "How long an HTTP/1 connection may be idle, and how long the headers of its next request may take, 1s to 1h.",
    ),
    key("limits.handshake_time", Duration, Default("10s"), "Maximum time of a TLS handshake, 1s to 10m."),
    key(
        "limits.stall_time",
        Duration,
        Default("30s"),
        "Maximum time for which a caller may read nothing of what is sent to it, 1s to 10m. Then its connection is closed, or on HTTP/2 only the response that it does not read.",
    ),
    count(
        "limits.player_streams",
        "streams",
        Default("50000"),
        "Maximum number of streams of players' events (events, lines, server-sent events, websockets, gRPC), 1 to 1000000; further ones get 429, over gRPC RESOURCE_EXHAUSTED.",
    ),
    count(
        "limits.log_streams",
        "streams",
        Default("4000"),
        "Maximum number of streams that follow a whole log (`/v1/events`, events by tag), 1 to 100000; further ones get 429.",
    ),
    count(
        "limits.streams_per_player",
        "streams",
        Default("16"),
        "Maximum number of event streams about one player, 1 to 100000; further ones get 429.",
    ),
    count(
        "limits.streams_per_key",
        "streams",
        Default("1000"),
        "Maximum number of event streams opened with one API key, 1 to 1000000; further ones get 429. A backend that follows the events of many players needs one per player.",
    ),
    count(
        "limits.waits",
        "calls",
        Default("50000"),
        "Maximum number of calls that wait for news of a match (`seen`), 1 to 1000000; further ones get 429.",
    ),
    count(
        "limits.waits_per_key",
        "calls",
        Default("10000"),
        "Maximum number of calls with one API key that wait for news of a match or, from game servers, for a match, 1 to 1000000; further ones get 429.",
    ),
    count(
        "limits.watches",
        "calls",
        Default("4096"),
        "Maximum number of long-lived calls that need no key (health watches and reflection over gRPC), 1 to 100000; further ones get RESOURCE_EXHAUSTED.",
    ),
    count(
        "limits.watches_per_address",
        "calls",
        Default("16"),
        "Maximum number of such calls from one address (IPv6: one /64), 1 to 100000; further ones get RESOURCE_EXHAUSTED. Behind a proxy all callers share its address.",
    ),
    count(
        "limits.rate_per_player",
        "calls a second",
        Default("20"),
        "Sustained rate of calls that one player may make with its token, to the API and the gateway together, up to 1000; further ones get 429 with `Retry-After`, over gRPC RESOURCE_EXHAUSTED. 0: no limit. Does not apply to keys with `client`, nor in development mode.",
    ),
    count(
        "limits.burst_per_player",
        "calls",
        Default("100"),
        "Calls that one player may make at once after a pause, 1 to 100000.",
    ),
];
