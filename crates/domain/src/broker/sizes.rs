//! How many bytes the broker's records take: see [`size`](crate::size).

use super::model::{Allocation, Fleet, Gone, Match, SeatEnd, Server, Settings};
use crate::game::GameVersion;
use crate::ids::MAX_ID_BYTES;
use crate::size::{ENTRY_BYTES, Size};

/// Bytes counted for a match in addition to its contents: its entries in the indexes of the broker.
const MATCH_BYTES: usize = 768;
/// Bytes counted for a server, an allocation or a fleet's order in addition to its ids.
const SERVER_BYTES: usize = 512;

impl Size for Match {
    fn byte_size(&self) -> usize {
        MATCH_BYTES + self.id.byte_size() + self.spec.live_bytes() + self.changing_bytes()
    }
}

impl Size for Server {
    fn byte_size(&self) -> usize {
        let matches = self.matches.len() * (ENTRY_BYTES + MAX_ID_BYTES);
        SERVER_BYTES + self.id.byte_size() + self.fleet.byte_size() + matches
    }
}

impl Size for Gone {
    fn byte_size(&self) -> usize {
        ENTRY_BYTES
    }
}

impl Size for SeatEnd {
    fn byte_size(&self) -> usize {
        ENTRY_BYTES
    }
}

impl Size for Allocation {
    fn byte_size(&self) -> usize {
        let ids = self.id.byte_size() + self.server.byte_size() + self.fleet.byte_size();
        // The id of a match comes and goes, so it is always counted.
        SERVER_BYTES + ids + ENTRY_BYTES + MAX_ID_BYTES
    }
}

impl Size for Fleet {
    fn byte_size(&self) -> usize {
        2 * ENTRY_BYTES + self.id.byte_size() + self.game.byte_size() + self.requirements.byte_size()
    }
}

impl Size for GameVersion {
    fn byte_size(&self) -> usize {
        ENTRY_BYTES + self.name.byte_size() + self.version.byte_size()
    }
}

impl Size for Settings {
    fn byte_size(&self) -> usize {
        // Eight durations of up to eleven bytes.
        4 * ENTRY_BYTES
    }
}
