//! The API of game servers built for Agones: messages, clients and servers.
//!
//! Their JSON, by [`crate::json`], is that of Agones's HTTP gateway: output has the names of the `.proto` files and all
//! fields, input has those names or lowerCamelCase.

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
