//! What a game server built for Agones calls: messages, clients and servers.
//!
//! Their JSON, by [`crate::json`], is that of Agones's HTTP gateway: out with the names of the `.proto` files and all
//! fields, in with those or lowerCamelCase.

/// Package `agones.dev.sdk`: what every game server uses.
pub mod sdk {
    pub use crate::generated::agones::dev::sdk::{
        Duration, Empty, GameServer, KeyValue, game_server, sdk_client, sdk_server,
    };
}

/// Package `agones.dev.sdk.beta`: counters and lists.
pub mod beta {
    pub use crate::generated::agones::dev::sdk::beta::*;
}

/// Package `agones.dev.sdk.alpha`: which players are connected.
pub mod alpha {
    pub use crate::generated::agones::dev::sdk::alpha::*;
}
