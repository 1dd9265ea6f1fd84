//! The three services over gRPC, one line per call.

use std::pin::Pin;
use std::sync::Arc;

use axum::Router;
use futures::{Stream, StreamExt as _};
use sortie_serving::{Limits, limit_grpc_bodies};
use sortie_wire::agones::alpha::sdk_server::{Sdk as Alpha, SdkServer as AlphaServer};
use sortie_wire::agones::beta::sdk_server::{Sdk as Beta, SdkServer as BetaServer};
use sortie_wire::agones::sdk::sdk_server::{Sdk, SdkServer};
use sortie_wire::agones::{alpha, beta, sdk};
use tonic::service::Routes;
use tonic::{Request, Response, Status, Streaming};

use super::calls;
use super::desk::Desk;

/// This method's only call lasts as long as the game server: a message deadline does not fit.
const HEALTH: &str = "/agones.dev.sdk.SDK/Health";

type Answer<T> = Result<Response<T>, Status>;

/// Every service, by its full name.
pub(super) fn routes(desk: &Arc<Desk>, limits: &Limits) -> Router {
    let max = limits.body_bytes;
    let service = Service(Arc::clone(desk));
    let stable = SdkServer::new(service.clone()).max_decoding_message_size(max);
    let services = Routes::new(stable.clone())
        .add_service(BetaServer::new(service.clone()).max_decoding_message_size(max))
        .add_service(AlphaServer::new(service).max_decoding_message_size(max));
    limit_grpc_bodies(services.into_axum_router(), limits.body_time)
        .merge(Router::new().route_service(HEALTH, stable))
}

#[derive(Clone)]
struct Service(Arc<Desk>);

/// The streams of the first service, and the unary calls of all of them.
macro_rules! service {
    (impl $service:ident { $($name:ident($request:ty) -> $answer:ty;)* } $($streams:tt)*) => {
        #[tonic::async_trait]
        impl $service for Service {
            $(async fn $name(&self, request: Request<$request>) -> Answer<$answer> {
                Ok(Response::new(calls::$name(&self.0, request.into_inner())?))
            })*
            $($streams)*
        }
    };
}

service! {
    impl Sdk {
        ready(sdk::Empty) -> sdk::Empty;
        allocate(sdk::Empty) -> sdk::Empty;
        shutdown(sdk::Empty) -> sdk::Empty;
        get_game_server(sdk::Empty) -> sdk::GameServer;
        set_label(sdk::KeyValue) -> sdk::Empty;
        set_annotation(sdk::KeyValue) -> sdk::Empty;
        reserve(sdk::Duration) -> sdk::Empty;
    }

    type WatchGameServerStream = Pin<Box<dyn Stream<Item = Result<sdk::GameServer, Status>> + Send>>;

    async fn health(&self, request: Request<Streaming<sdk::Empty>>) -> Answer<sdk::Empty> {
        let mut beats = request.into_inner();
        loop {
            tokio::select! {
                beat = beats.message() => match beat? {
                    Some(beat) => calls::health(&self.0, beat)?,
                    None => break,
                },
                () = self.0.closing().cancelled() => break,
            };
        }
        Ok(Response::new(sdk::Empty {}))
    }

    async fn watch_game_server(&self, _: Request<sdk::Empty>) -> Answer<Self::WatchGameServerStream> {
        self.0.call(|_, _| ());
        let states = Arc::clone(&self.0).watch();
        Ok(Response::new(Box::pin(states.map(Ok))))
    }
}

service! {
    impl Beta {
        get_counter(beta::GetCounterRequest) -> beta::Counter;
        update_counter(beta::UpdateCounterRequest) -> beta::Counter;
        get_list(beta::GetListRequest) -> beta::List;
        update_list(beta::UpdateListRequest) -> beta::List;
        add_list_value(beta::AddListValueRequest) -> beta::List;
        remove_list_value(beta::RemoveListValueRequest) -> beta::List;
    }
}

service! {
    impl Alpha {
        player_connect(alpha::PlayerId) -> alpha::Bool;
        player_disconnect(alpha::PlayerId) -> alpha::Bool;
        set_player_capacity(alpha::Count) -> alpha::Empty;
        get_player_capacity(alpha::Empty) -> alpha::Count;
        get_player_count(alpha::Empty) -> alpha::Count;
        is_player_connected(alpha::PlayerId) -> alpha::Bool;
        get_connected_players(alpha::Empty) -> alpha::PlayerIdList;
    }
}
