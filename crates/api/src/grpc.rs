//! The Catena services over gRPC, one line per call, with reflection and health.

use std::pin::Pin;

use axum::Router;
use futures::{Stream, StreamExt as _};
use sortie_serving::{end_grpc_streams, limit_grpc_bodies};
use sortie_wire::catena::common::*;
use sortie_wire::catena::events::events_server::{Events, EventsServer};
use sortie_wire::catena::events::*;
use sortie_wire::catena::match_broker::catena_match_broker_server::{
    CatenaMatchBroker, CatenaMatchBrokerServer,
};
use sortie_wire::catena::match_broker::*;
use sortie_wire::catena::matchmaking::catena_matchmaking_server::{
    CatenaMatchmaking, CatenaMatchmakingServer,
};
use sortie_wire::catena::matchmaking::*;
use sortie_wire::catena::server_manager::catena_server_manager_server::{
    CatenaServerManager, CatenaServerManagerServer,
};
use sortie_wire::catena::server_manager::*;
use tonic::service::Routes;
use tonic::{Request, Response, Status};
use tonic_health::pb::health_server::HealthServer;

use crate::auth::Caller;
use crate::calls::{events, match_broker, matchmaking, server_manager};
use crate::error::ApiError;
use tonic_reflection::server::Builder;

use crate::gate::ANYBODYS_BYTES;
use crate::health::Health;
use crate::player_feed::resumed;
use crate::state::Api;

type Answer<T> = Result<Response<T>, Status>;
type Streamed<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Every service, each under its full name.
pub(crate) fn routes(api: &Api) -> Router {
    let most = api.options.limits.serving.body_bytes;
    let service = Service(api.clone());
    let mut routes =
        Routes::new(CatenaServerManagerServer::new(service.clone()).max_decoding_message_size(most))
            .add_service(CatenaMatchBrokerServer::new(service.clone()).max_decoding_message_size(most))
            .add_service(CatenaMatchmakingServer::new(service.clone()).max_decoding_message_size(most))
            .add_service(EventsServer::new(service).max_decoding_message_size(most))
            .add_service(
                HealthServer::new(Health::new(api.clone())).max_decoding_message_size(ANYBODYS_BYTES),
            );
    // Many tools only support the draft of the reflection service.
    let (current, draft) = (reflection().build_v1(), reflection().build_v1alpha());
    match (current, draft) {
        (Ok(current), Ok(draft)) => {
            routes = routes
                .add_service(current.max_decoding_message_size(ANYBODYS_BYTES))
                .add_service(draft.max_decoding_message_size(ANYBODYS_BYTES));
        }
        // The descriptors are compiled in, so this is a bug; everything else works without them.
        (Err(error), _) | (_, Err(error)) => tracing::error!(%error, "gRPC reflection is not served"),
    }
    let services =
        limit_grpc_bodies(routes.into_axum_router().reset_fallback(), api.options.limits.serving.body_time);
    end_grpc_streams(services, api.options.closing.clone())
}

fn reflection() -> Builder<'static> {
    Builder::configure()
        .register_encoded_file_descriptor_set(sortie_wire::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
}

#[derive(Clone)]
struct Service(Api);

fn answer<T>(result: Result<T, ApiError>) -> Answer<T> {
    result.map(Response::new).map_err(Into::into)
}

fn streamed<T, S>(stream: Result<S, ApiError>) -> Answer<Streamed<T>>
where
    S: Stream<Item = Result<T, ApiError>> + Send + 'static,
{
    let boxed = |stream: S| -> Streamed<T> { Box::pin(stream.map(|item| item.map_err(Into::into))) };
    answer(stream.map(boxed))
}

/// The caller, as identified by the gate.
fn caller_of<T>(request: &Request<T>) -> Caller {
    request.extensions().get().cloned().unwrap_or_else(Caller::nobody)
}

macro_rules! unary {
    (
        impl $service:ident { $($method:ident($request:ty) -> $response:ty = $call:path;)* }
        $(as caller { $($own:ident($order:ty) -> $reply:ty = $own_call:path;)* })?
    ) => {
        #[tonic::async_trait]
        impl $service for Service {
            $(async fn $method(&self, request: Request<$request>) -> Answer<$response> {
                answer($call(self.0.clone(), request.into_inner()).await)
            })*
            $($(async fn $own(&self, request: Request<$order>) -> Answer<$reply> {
                let caller = caller_of(&request);
                answer($own_call(self.0.clone(), caller, request.into_inner()).await)
            })*)?
        }
    };
}

#[rustfmt::skip]
unary! {
    impl CatenaServerManager {
        list_servers(ListServersRequest) -> ListServersResponse = server_manager::list_servers;
        admin_allocate_server(AdminAllocateServerRequest) -> AdminAllocateServerResponse = server_manager::admin_allocate_server;
        admin_deallocate_server(AdminDeallocateServerRequest) -> AdminDeallocateServerResponse = server_manager::admin_deallocate_server;
    }
    as caller {
        request_match(RequestMatchRequest) -> RequestMatchResponse = server_manager::request_match;
        match_ready(MatchReadyRequest) -> MatchReadyResponse = server_manager::match_ready;
        end_match(EndMatchRequest) -> EndMatchResponse = server_manager::end_match;
    }
}

#[rustfmt::skip]
unary! {
    impl CatenaMatchBroker {
        get_service_health(GetServiceHealthRequest) -> GetServiceHealthResponse = match_broker::get_service_health;
        list_queued_matches(ListQueuedMatchesRequest) -> ListQueuedMatchesResponse = match_broker::list_queued_matches;
        admin_list_active_matches(AdminListActiveMatchesRequest) -> AdminListActiveMatchesResponse = match_broker::admin_list_active_matches;
        admin_get_active_match_by_id(AdminGetActiveMatchByIdRequest) -> AdminGetActiveMatchByIdResponse = match_broker::admin_get_active_match_by_id;
        admin_end_active_match(AdminEndActiveMatchRequest) -> AdminEndActiveMatchResponse = match_broker::admin_end_active_match;
        admin_get_available_allocators(AdminGetAvailableAllocatorsRequest) -> AdminGetAvailableAllocatorsResponse = match_broker::admin_get_available_allocators;
        admin_get_configured_allocators(AdminGetConfiguredAllocatorsRequest) -> AdminGetConfiguredAllocatorsResponse = match_broker::admin_get_configured_allocators;
        admin_x_get_match_broker_config(AdminXGetMatchBrokerConfigRequest) -> AdminXGetMatchBrokerConfigResponse = match_broker::admin_x_get_match_broker_config;
        admin_x_reconfigure_match_broker(AdminXReconfigureMatchBrokerRequest) -> AdminXReconfigureMatchBrokerResponse = match_broker::admin_x_reconfigure_match_broker;
    }
}

#[rustfmt::skip]
unary! {
    impl CatenaMatchmaking {
        server_cancel_matchmaking(CancelMatchmakingRequest) -> CancelMatchmakingResponse = matchmaking::server_cancel_matchmaking;
        server_get_matchmaking_status(GetMatchmakingStatusRequest) -> GetMatchmakingStatusResponse = matchmaking::server_get_matchmaking_status;
        list_tickets(ListTicketsRequest) -> ListTicketsResponse = matchmaking::list_tickets;
        get_service_health(GetServiceHealthRequest) -> GetServiceHealthResponse = matchmaking::get_service_health;
        admin_x_get_matchmaker_config(AdminXGetMatchmakerConfigRequest) -> AdminXGetMatchmakerConfigResponse = matchmaking::admin_x_get_matchmaker_config;
        admin_x_reconfigure_matchmaker(AdminXReconfigureMatchmakerRequest) -> AdminXReconfigureMatchmakerResponse = matchmaking::admin_x_reconfigure_matchmaker;
    }
    as caller {
        server_start_matchmaking(StartMatchmakingRequest) -> StartMatchmakingResponse = matchmaking::server_start_matchmaking;
        start_matchmaking(StartMatchmakingRequest) -> StartMatchmakingResponse = matchmaking::start_matchmaking;
        cancel_matchmaking(CancelMatchmakingRequest) -> CancelMatchmakingResponse = matchmaking::cancel_matchmaking;
        get_matchmaking_status(GetMatchmakingStatusRequest) -> GetMatchmakingStatusResponse = matchmaking::get_matchmaking_status;
    }
}

#[tonic::async_trait]
impl Events for Service {
    type SubscribeToEventsStream = Streamed<SubscribeToEventsResponse>;
    type SubscribeToEventsByTagStream = Streamed<SubscribeToEventsByTagResponse>;

    async fn subscribe_to_events(
        &self,
        request: Request<SubscribeToEventsRequest>,
    ) -> Answer<Self::SubscribeToEventsStream> {
        let caller = caller_of(&request);
        match resumed(&request.metadata().clone().into_headers(), None) {
            Ok(from) => streamed(events::subscribe_to_events(self.0.clone(), &caller, from).await),
            Err(error) => Err(error.into()),
        }
    }

    async fn subscribe_to_events_by_tag(
        &self,
        request: Request<SubscribeToEventsByTagRequest>,
    ) -> Answer<Self::SubscribeToEventsByTagStream> {
        let caller = caller_of(&request);
        streamed(events::subscribe_to_events_by_tag(self.0.clone(), &caller, request.into_inner()).await)
    }

    async fn emit_update_event(
        &self,
        request: Request<EmitUpdateEventRequest>,
    ) -> Answer<EmitUpdateEventResponse> {
        answer(events::emit_update_event(self.0.clone(), request.into_inner()).await)
    }

    async fn admin_emit_update_event(
        &self,
        request: Request<AdminEmitUpdateEventRequest>,
    ) -> Answer<AdminEmitUpdateEventResponse> {
        answer(events::admin_emit_update_event(self.0.clone(), request.into_inner()).await)
    }
}
