//! What a game server runs.

use alloc::string::String;
use core::fmt;

/// A game in one version: `game` and `version` in the properties of matches.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct GameVersion {
    /// The name of the game.
    pub name: String,
    /// Its version.
    pub version: String,
}

impl fmt::Display for GameVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.version)
    }
}
