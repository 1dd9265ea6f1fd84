//! How players reach a game server.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;

use crate::ids::PlayerId;
use crate::size::Size;

/// Maximum length of connection details, in bytes.
pub const MAX_CONNECTION_BYTES: usize = 4096;
/// Maximum size of the connection details of all players of a match together, in bytes as [`Size`] counts: enough for a
/// connect token for each of [`MAX_PLAYERS`].
pub const MAX_CONNECTIONS_BYTES: usize = 4 << 20;

/// What players need to reach a server; passed on to them unchanged.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Connection {
    /// For all players not in `per_player`.
    pub details: Arc<str>,
    /// For single players.
    pub per_player: BTreeMap<PlayerId, Arc<str>>,
}

impl Connection {
    /// The details for `player`.
    #[must_use]
    pub fn for_player(&self, player: &PlayerId) -> &Arc<str> {
        self.per_player.get(player).unwrap_or(&self.details)
    }
}

impl Size for Connection {
    fn byte_size(&self) -> usize {
        self.details.byte_size() + self.per_player.byte_size()
    }
}
