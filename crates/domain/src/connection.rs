//! How players reach a game server.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;

use crate::ids::PlayerId;
use crate::size::Size;

/// Longest connection details, in bytes.
pub const MAX_CONNECTION_BYTES: usize = 4096;
/// Largest connection details of all players of a match together, in bytes as [`Size`] counts: enough for a connect token
/// for each of [`MAX_PLAYERS`].
pub const MAX_CONNECTIONS_BYTES: usize = 4 << 20;

/// What players need to reach a server; meaningful to them and passed on as it is.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Connection {
    /// For everyone not named below.
    pub details: Arc<str>,
    /// For single players.
    pub per_player: BTreeMap<PlayerId, Arc<str>>,
}

impl Connection {
    /// What `player` gets.
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
