//! The limits of requests and connections.

use std::time::Duration;

/// Limits of requests and connections.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Longest body of a request, or message of a gRPC call, in bytes.
    pub body_bytes: usize,
    /// Longest time that a body may take to arrive.
    pub body_time: Duration,
    /// Headers of a request, in bytes.
    pub header_bytes: u32,
    /// Number of headers of a request.
    pub headers: usize,
    /// Longest time from one request to the end of the headers of the next one on an HTTP/1 connection: also how long
    /// such a connection may be idle.
    pub header_time: Duration,
    /// Connections at a time; further ones wait to be accepted.
    pub connections: usize,
    /// Connections at a time from one address (of IPv6: one /64); `None` for no limit. Further ones are closed.
    pub connections_per_address: Option<usize>,
    /// Longest time of a TLS handshake.
    pub handshake_time: Duration,
    /// Calls at a time on one HTTP/2 connection.
    pub calls_per_connection: u32,
    /// Longest time that the other side may take nothing of what is written to it, or of one answer on HTTP/2; then the
    /// connection ends, or that answer.
    pub stall_time: Duration,
    /// Longest time that open calls have to end once the process is to end.
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: 1 << 20,
            body_time: Duration::from_secs(30),
            header_bytes: 16 << 10,
            headers: 64,
            header_time: Duration::from_secs(75),
            connections: 65_536,
            connections_per_address: None,
            handshake_time: Duration::from_secs(10),
            calls_per_connection: 1_024,
            stall_time: Duration::from_secs(30),
            grace: Duration::from_secs(10),
        }
    }
}
