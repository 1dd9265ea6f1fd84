//! What game servers are told about the control plane, on every platform.

use std::fmt;
use std::sync::Arc;

use sortie_domain::ids::ServerId;

/// Returns the API key of a server.
pub type ServerKey = Arc<dyn Fn(&ServerId) -> String + Send + Sync>;

/// What every server of a fleet is told about the control plane.
#[derive(Clone)]
pub struct ServerEnvironment {
    /// `SORTIE_API`: the URL of the server manager API.
    pub api: String,
    /// `SORTIE_API_KEY`: each server's own key for that API, if it requires one.
    pub api_key: Option<ServerKey>,
    /// `SORTIE_CA`: a PEM file with roots to trust, if the system's roots do not suffice.
    pub ca: Option<String>,
    /// `SORTIE_NETCODE_KEY`: the private key that connect tokens are sealed with, if the fleet uses them.
    pub netcode_key: Option<String>,
    /// `SORTIE_PROTOCOL_ID`: the netcode protocol id, if the fleet uses connect tokens.
    pub protocol_id: Option<u64>,
}

impl fmt::Debug for ServerEnvironment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerEnvironment")
            .field("api", &self.api)
            .field("api_key", &self.api_key.as_ref().map(|_| "…"))
            .field("ca", &self.ca)
            .field("netcode_key", &self.netcode_key.as_ref().map(|_| "…"))
            .field("protocol_id", &self.protocol_id)
            .finish()
    }
}
