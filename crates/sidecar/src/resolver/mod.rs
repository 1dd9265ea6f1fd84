//! Where players reach a server.

use std::fmt;

use async_trait::async_trait;

/// A server's public address.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Address {
    /// A host name or an IP address, without brackets.
    pub host: String,
    /// The port, where the resolver knows one.
    pub port: Option<u16>,
}

impl fmt::Display for Address {
    /// `host:port`, with brackets around an IPv6 address; `host` where there is no port.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_v6 = self.host.contains(':');
        match self.port {
            Some(port) if is_v6 => write!(f, "[{}]:{port}", self.host),
            Some(port) => write!(f, "{}:{port}", self.host),
            None => f.write_str(&self.host),
        }
    }
}

/// Why there is no address. The text says what was wrong and what to do.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct ResolveError(pub String);

/// Finds addresses.
#[async_trait]
pub trait Resolver: Send + Sync {
    /// The name it has in the settings.
    fn name(&self) -> &'static str;

    /// The address of a server of this sidecar; the same as before for one that was asked for before.
    ///
    /// # Errors
    /// [`ResolveError`]
    async fn resolve(&self, server_id: &str) -> Result<Address, ResolveError>;

    /// The server is gone: what was kept for it, a port for one, is free again.
    fn release(&self, server_id: &str);
}
