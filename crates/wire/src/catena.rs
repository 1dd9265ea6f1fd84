//! The Catena services: messages, clients and servers, under plain names.
//!
//! In the contract each package has a folder; here they are grouped by the service that uses them.
//! `contract/catena/openapi.yaml` is the published HTTP form of the same calls.

/// Service `catena.catena_server_manager.CatenaServerManager`: the calls of game servers.
pub mod server_manager {
    pub use crate::generated::catena::catena_server_manager::*;
    pub use crate::generated::catena::match_broker::Match;
}

/// Service `catena.catena_match_broker.CatenaMatchBroker`: operators' calls about matches and allocators.
pub mod match_broker {
    pub use crate::generated::catena::catena_match_broker::*;
    pub use crate::generated::catena::match_broker::Match;
}

/// Service `catena.catena_matchmaking.CatenaMatchmaking`: tickets; and their events, which players receive through
/// [`events`].
pub mod matchmaking {
    pub use crate::generated::catena::catena_matchmaking::*;
    pub use crate::generated::catena::match_broker::Match;
}

/// Service `catena.events.Events`, and all its events outside [`matchmaking`].
pub mod events {
    pub use crate::generated::catena::catena_accounts::{AccountsEvent, AccountsUpdateType};
    pub use crate::generated::catena::catena_announcements::AnnouncementEvent;
    pub use crate::generated::catena::catena_authentication::{
        AuthenticationEvent, AuthenticationUpdateType,
    };
    pub use crate::generated::catena::catena_friends::{FriendsEvent, FriendsEventType};
    pub use crate::generated::catena::catena_parties::{
        PartyEventValue, PartyUpdateEvent, PartyUpdateType, Player, party_event_value,
    };
    pub use crate::generated::catena::events::*;
}

/// Messages that several services share: health, custom data, platforms.
pub mod common {
    pub use crate::generated::catena::core::*;
    pub use crate::generated::catena::groups::*;
    pub use crate::generated::catena::public_common::*;
}
