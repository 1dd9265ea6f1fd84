//! Every message that has a published schema, as a table that tests can loop over.

use prost::{Message, Name};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sortie_wire::catena::{common, events, match_broker, matchmaking, server_manager};
use sortie_wire::json::{self, JsonError};
use sortie_wire::status;

/// One message type.
pub(crate) struct MessageType {
    /// Its name in `openapi.yaml`.
    pub(crate) schema: &'static str,
    /// Its full protobuf name.
    pub(crate) name: String,
    pub(crate) json_to_proto: fn(&[u8]) -> Result<Vec<u8>, JsonError>,
    pub(crate) proto_to_json: fn(&[u8]) -> Result<Vec<u8>, JsonError>,
}

impl MessageType {
    fn of<M: Message + Name + Default + Serialize + DeserializeOwned>(schema: &'static str) -> Self {
        Self {
            schema,
            name: M::full_name(),
            json_to_proto: |document| json::decode::<M>(document).map(|message| message.encode_to_vec()),
            proto_to_json: |bytes| json::encode(&M::decode(bytes).unwrap()),
        }
    }

    pub(crate) fn json_to_json(&self, document: &[u8]) -> Result<Vec<u8>, JsonError> {
        (self.json_to_proto)(document).and_then(|bytes| (self.proto_to_json)(&bytes))
    }
}

macro_rules! of {
    ($($schema:literal: $($module:ident::$name:ident),+;)*) => {
        vec![$($(MessageType::of::<$module::$name>(concat!($schema, ".", stringify!($name))),)+)*]
    };
}

pub(crate) fn all() -> Vec<MessageType> {
    of! {
        "Catena.Core": common::ComponentHealth, common::GetServiceHealthResponse;
        "Catena.Events": events::AdminEmitUpdateEventRequest, events::AdminEmitUpdateEventResponse,
            events::EmitUpdateEventRequest, events::EmitUpdateEventResponse, events::EmptyEvent, events::Event,
            events::SubscribeToEventsByTagResponse, events::SubscribeToEventsResponse;
        "Catena.Groups": common::Entity, common::EntityMetadata, common::MetadataEntry, common::MetadataMap;
        "Catena.MatchBroker": match_broker::Match;
        "Catena.ServerManager": server_manager::AdminAllocateServerRequest,
            server_manager::AdminAllocateServerResponse, server_manager::AdminDeallocateServerRequest,
            server_manager::AdminDeallocateServerResponse, server_manager::EndMatchRequest,
            server_manager::EndMatchResponse, server_manager::ListServersRequest,
            server_manager::ListServersResponse, server_manager::MatchReadyRequest,
            server_manager::MatchReadyResponse, server_manager::RequestMatchRequest,
            server_manager::RequestMatchResponse, server_manager::ServerInfo, server_manager::ServerMatchInfo;
        "Google.Rpc": status::Status;
        "Services.CatenaAccounts": events::AccountsEvent;
        "Services.CatenaAnnouncements": events::AnnouncementEvent;
        "Services.CatenaAuthentication": events::AuthenticationEvent;
        "Services.CatenaFriends": events::FriendsEvent;
        "Services.CatenaMatchBroker": match_broker::AdminEndActiveMatchResponse,
            match_broker::AdminGetActiveMatchByIdResponse, match_broker::AdminGetAvailableAllocatorsResponse,
            match_broker::AdminGetConfiguredAllocatorsResponse, match_broker::AdminListActiveMatchesResponse,
            match_broker::AdminXGetMatchBrokerConfigResponse, match_broker::AdminXReconfigureMatchBrokerResponse,
            match_broker::AllocatorConfiguration, match_broker::ListQueuedMatchesResponse;
        "Services.CatenaMatchmaking": matchmaking::AdminXGetMatchmakerConfigResponse,
            matchmaking::AdminXReconfigureMatchmakerRequest, matchmaking::AdminXReconfigureMatchmakerResponse,
            matchmaking::CancelMatchmakingRequest, matchmaking::CancelMatchmakingResponse,
            matchmaking::CatenaMatchmakerConfig, matchmaking::FlexMatchConfig, matchmaking::GameLiftConfig,
            matchmaking::GetMatchmakingStatusResponse, matchmaking::ListTicketsResponse,
            matchmaking::MatchmakingStatusUpdateEvent, matchmaking::MatchmakingTicketWithState,
            matchmaking::NewMatchEvent, matchmaking::QueueConfig, matchmaking::StartMatchmakingRequest,
            matchmaking::StartMatchmakingResponse;
        "Services.CatenaParties": events::PartyEventValue, events::PartyUpdateEvent, events::Player;
    }
}
