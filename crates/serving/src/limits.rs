//! The limits of requests and connections.

use std::time::Duration;

/// Limits of requests and connections.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Maximum size of a request's body, or of a gRPC message, in bytes.
    pub body_bytes: usize,
    /// Maximum time for a body to arrive.
    pub body_time: Duration,
    /// Maximum total size of a request's headers, in bytes.
    pub header_bytes: u32,
    /// Maximum number of a request's headers.
    pub headers: usize,
    /// Maximum time from one request to the end of the headers of the next one on an HTTP/1 connection: also how long
    /// such a connection may be idle.
    pub header_time: Duration,
    /// Maximum number of connections; further ones wait to be accepted.
    pub connections: usize,
    /// Maximum number of connections from one address (IPv6: one /64); `None` for no limit. Further ones are closed.
    pub connections_per_address: Option<usize>,
    /// Maximum time of a TLS handshake.
    pub handshake_time: Duration,
    /// Maximum number of concurrent calls on one HTTP/2 connection.
    pub calls_per_connection: u32,
    /// Maximum time for which the peer may read nothing of what is written to it, or of one response on HTTP/2; then
    /// the connection is closed, or that response is aborted.
    pub stall_time: Duration,
    /// Maximum time that open calls have to end during shutdown.
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
