//! The rows of `limits`: of connections and calls, and of what callers may have open.

use super::Kind::{Duration, Size};
use super::Presence::Default;
use super::{KeyDoc, count, key};

/// In the order of a file.
pub(super) static LIMITS: &[KeyDoc] = &[
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
        "Longest body of a call, and message of gRPC, 1KiB to 4MiB; players' are 64KiB. What one call asks for is written to the log at once, and the largest match is about as large.",
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
    key(
        "limits.stall_time",
        Duration,
        Default("30s"),
        "Longest time that a caller may take nothing of what is sent to it, 1s to 10m: then its connection ends, or on HTTP/2 the one answer that it does not take.",
    ),
    count(
        "limits.player_streams",
        "streams",
        Default("50000"),
        "Most streams of players' events at a time (events, lines, server-sent events, websockets, gRPC), 1 to 1000000; others get 429, over gRPC RESOURCE_EXHAUSTED.",
    ),
    count(
        "limits.log_streams",
        "streams",
        Default("4000"),
        "Most streams at a time that follow a whole log (`/v1/events`, events by tag), 1 to 100000; others get 429.",
    ),
    count(
        "limits.streams_per_player",
        "streams",
        Default("16"),
        "Most streams of events at a time about one player, 1 to 100000; others get 429.",
    ),
    count(
        "limits.streams_per_key",
        "streams",
        Default("1000"),
        "Most streams of events at a time that one API key has opened, 1 to 1000000; others get 429. A backend that follows the events of many players needs as many.",
    ),
    count(
        "limits.waits",
        "calls",
        Default("50000"),
        "Most calls at a time that wait for news of a match (`seen`), 1 to 1000000; others get 429.",
    ),
    count(
        "limits.waits_per_key",
        "calls",
        Default("10000"),
        "Most calls at a time with one API key that wait for news of a match, or, from game servers, for a match, 1 to 1000000; others get 429.",
    ),
    count(
        "limits.watches",
        "calls",
        Default("4096"),
        "Most calls at a time that anybody may make and that last, 1 to 100000: watches of health and conversations about reflection over gRPC; others get RESOURCE_EXHAUSTED.",
    ),
    count(
        "limits.watches_per_address",
        "calls",
        Default("16"),
        "Those from one address (of IPv6 from one /64), 1 to 100000; others get RESOURCE_EXHAUSTED. Behind a proxy all have its address.",
    ),
    count(
        "limits.rate_per_player",
        "calls a second",
        Default("20"),
        "Calls that one player may make with its token in the long run, of the API and of the gateway together, up to 1000; others get 429 with `Retry-After`, over gRPC RESOURCE_EXHAUSTED. 0: no limit. Not for keys with `client`, and not in development mode.",
    ),
    count(
        "limits.burst_per_player",
        "calls",
        Default("100"),
        "Calls that it may make at once after a pause, 1 to 100000.",
    ),
];
