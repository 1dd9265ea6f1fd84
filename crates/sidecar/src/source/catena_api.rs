//! `catena_api_event_source`: game servers call the sidecar with the Catena server manager contract, over gRPC and
//! HTTP.
//!
//! Nothing is decided here: calls go to the manager, and its answers come back.

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::extract::{Request as HttpRequest, State};
use axum::http::HeaderValue;
use axum::http::header::{CONTENT_TYPE, WWW_AUTHENTICATE};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response as HttpResponse};
use axum::routing::{get, post};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sortie_serving::{
    Limits, ListenAddr, Visitors, end_grpc_streams, json_response, limit_grpc_bodies, serve,
};
use sortie_wire::catena::server_manager::catena_server_manager_server::{
    CatenaServerManager, CatenaServerManagerServer,
};
use sortie_wire::catena::server_manager::{
    AdminAllocateServerRequest, AdminAllocateServerResponse, AdminDeallocateServerRequest,
    AdminDeallocateServerResponse, EndMatchRequest, EndMatchResponse, ListServersRequest,
    ListServersResponse, MatchReadyRequest, MatchReadyResponse, RequestMatchRequest, RequestMatchResponse,
    ServerInfo, ServerMatchInfo,
};
use sortie_wire::hints;
use sortie_wire::status::{Status, refusal};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::{Code, Request, Response};
use tonic_reflection::server::Builder;

use super::{EventSource, SourceError, visitors};
use crate::control::ControlKey;
use crate::http_answer::{Refused, answer, not_this_way, nothing_here, read};
use crate::manager::{Manager, MatchView, ServerView};

/// Its name in the settings.
const NAME: &str = "catena_api_event_source";
/// Maximum number of connections: a sidecar has few game servers.
const CONNECTIONS: usize = 1_024;
/// Maximum time that open calls get at shutdown.
const GRACE: Duration = Duration::from_secs(2);

/// Addresses for game servers. At least one is given; if both are the same, one port serves both.
#[derive(Clone, Debug, Default)]
pub struct CatenaApiOptions {
    /// `GrpcListenAddr`
    pub grpc_listen: Option<ListenAddr>,
    /// `HttpListenAddr`
    pub http_listen: Option<ListenAddr>,
    /// The key that callers must send; `None`: none.
    pub api_key: Option<ControlKey>,
    /// Names of this machine that callers may use without a key, in addition to its own address and its loopback names.
    pub allowed_hosts: Vec<String>,
}

/// The event source, already listening.
#[derive(Debug)]
pub struct CatenaApiSource {
    ports: Vec<BoundPort>,
    limits: Limits,
    api_key: Option<ControlKey>,
}

#[derive(Debug)]
struct BoundPort {
    listener: TcpListener,
    visitors: Visitors,
    has_grpc: bool,
    has_http: bool,
}

impl CatenaApiSource {
    /// Binds the ports.
    ///
    /// # Errors
    /// [`SourceError`] with the key whose address is not available.
    pub async fn bind(options: &CatenaApiOptions) -> Result<Self, SourceError> {
        let limits = Limits { connections: CONNECTIONS, grace: GRACE, ..Limits::default() };
        let mut ports = Vec::new();
        match (&options.grpc_listen, &options.http_listen) {
            (Some(grpc), Some(http)) if grpc == http => {
                ports.push(port("GrpcListenAddr and HttpListenAddr", grpc, options, (true, true)).await?);
            }
            (None, None) => return Err(failed("give GrpcListenAddr, HttpListenAddr or both".to_owned())),
            (grpc, http) => {
                if let Some(address) = grpc {
                    ports.push(port("GrpcListenAddr", address, options, (true, false)).await?);
                }
                if let Some(address) = http {
                    ports.push(port("HttpListenAddr", address, options, (false, true)).await?);
                }
            }
        }
        Ok(Self { ports, limits, api_key: options.api_key.clone() })
    }

    /// The same with other limits of requests and connections.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Address of gRPC.
    #[must_use]
    pub fn grpc_address(&self) -> Option<SocketAddr> {
        self.ports.iter().find(|port| port.has_grpc)?.listener.local_addr().ok()
    }

    /// Address of HTTP.
    #[must_use]
    pub fn http_address(&self) -> Option<SocketAddr> {
        self.ports.iter().find(|port| port.has_http)?.listener.local_addr().ok()
    }
}

async fn port(
    key: &str,
    address: &ListenAddr,
    options: &CatenaApiOptions,
    (has_grpc, has_http): (bool, bool),
) -> Result<BoundPort, SourceError> {
    let visitors = match &options.api_key {
        Some(_) => Visitors::with_credentials(),
        None => visitors(address, &options.allowed_hosts),
    };
    match address.bind().await {
        Ok(listener) => Ok(BoundPort { listener, visitors, has_grpc, has_http }),
        Err(error) => Err(failed(format!("{key}: cannot listen on {address}: {error}"))),
    }
}

const fn failed(problem: String) -> SourceError {
    SourceError { source_name: NAME, problem }
}

#[async_trait]
impl EventSource for CatenaApiSource {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn run(self: Box<Self>, manager: Manager, closing: CancellationToken) -> Result<(), SourceError> {
        let Self { ports, limits, api_key } = *self;
        let api = Api { manager, limits: limits.clone(), closing: closing.clone() };
        let mut serving = Vec::new();
        for port in ports {
            let mut router = router(&api, &port).await;
            if let Some(key) = &api_key {
                router = router.layer(from_fn_with_state(key.clone(), need_key));
            }
            if let Ok(address) = port.listener.local_addr() {
                let (grpc, http) = (port.has_grpc, port.has_http);
                tracing::info!(%address, grpc, http, "ready for calls of game servers");
            }
            serving.push(serve(port.listener, router, port.visitors, None, &limits, closing.clone()));
        }
        futures::future::join_all(serving).await;
        Ok(())
    }
}

/// State that every call can reach.
#[derive(Clone)]
struct Api {
    manager: Manager,
    limits: Limits,
    closing: CancellationToken,
}

async fn router(api: &Api, port: &BoundPort) -> Router {
    let mut router = Router::new();
    if port.has_http {
        router = router.merge(http(api));
    }
    if port.has_grpc {
        router = router.merge(grpc(api).await);
    }
    router.fallback(elsewhere).method_not_allowed_fallback(not_this_way)
}

/// Accepts callers with the key, and anybody's health checks.
async fn need_key(State(key): State<ControlKey>, request: HttpRequest, next: Next) -> HttpResponse {
    let path = request.uri().path();
    if path == "/healthz" || path.starts_with("/grpc.health.v1.Health/") || key.is_shown(request.headers()) {
        return next.run(request).await;
    }
    let problem = "this port needs the key of the event source: authorization: Bearer <key>";
    if is_grpc(&request) {
        return tonic::Status::unauthenticated(problem).into_http();
    }
    let mut response = Refused::new(Code::Unauthenticated, "unauthenticated", problem).into_response();
    response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    response
}

fn is_grpc(request: &HttpRequest) -> bool {
    let content_type = request.headers().get(CONTENT_TYPE);
    content_type.is_some_and(|text| text.as_bytes().starts_with(b"application/grpc"))
}

/// An unknown path, answered in the caller's protocol.
async fn elsewhere(request: HttpRequest) -> HttpResponse {
    if is_grpc(&request) {
        return tonic::Status::unimplemented("nothing is at this path").into_http();
    }
    nothing_here().await.into_response()
}

impl Api {
    async fn request_match(self, request: RequestMatchRequest) -> Result<RequestMatchResponse, Status> {
        check_hints(request.hint_flags)?;
        // The sidecar assigns its matches one by one: it asks the backend for one match, however many the server
        // accepts, and does not hold that one back for others.
        let takes_several = request.max_matches.is_some();
        let request = RequestMatchRequest { max_matches: None, wait_seconds: None, ..request };
        tokio::select! {
            biased;
            response = self.manager.request_match(NAME, request) => response.map(|mut response| {
                response.matches = response.r#match.iter().filter(|_| takes_several).cloned().collect();
                response
            }),
            // A held call would delay the shutdown.
            () = self.closing.cancelled() => Ok(RequestMatchResponse::default()),
        }
    }

    async fn match_ready(self, request: MatchReadyRequest) -> Result<MatchReadyResponse, Status> {
        check_hints(request.hint_flags)?;
        self.manager.match_ready(NAME, request).await
    }

    async fn end_match(self, request: EndMatchRequest) -> Result<EndMatchResponse, Status> {
        check_hints(request.hint_flags)?;
        self.manager.end_match(NAME, request).await
    }

    /// The servers of this sidecar.
    async fn list_servers(self, _: ListServersRequest) -> Result<ListServersResponse, Status> {
        let servers = self.manager.view().servers.into_iter().map(server_info).collect();
        Ok(ListServersResponse { servers })
    }
}

fn check_hints(bits: u32) -> Result<(), Status> {
    let unknown =
        |error: hints::UnknownHints| refusal(Code::InvalidArgument, "invalid_field", error.to_string());
    hints::check(bits).map(|_| ()).map_err(unknown)
}

fn server_info(server: ServerView) -> ServerInfo {
    ServerInfo {
        server_id: server.id,
        requested_match: server.has_asked,
        matches: server.matches.into_iter().map(match_info).collect(),
        is_full: false,
        originating_allocator: String::new(),
    }
}

fn match_info(game: MatchView) -> ServerMatchInfo {
    ServerMatchInfo { match_id: game.id, connection_string: game.connection_details }
}

fn no_admin() -> Status {
    let text = "a sidecar neither starts nor stops servers by this call: make it to the control plane";
    refusal(Code::Unimplemented, "method_not_allowed", text)
}

fn http(api: &Api) -> Router {
    let healthz = || async { json_response(axum::http::StatusCode::OK, br#"{"status":"ok"}"#.to_vec()) };
    let list = |State(api): State<Api>| async move {
        answer(api.list_servers(ListServersRequest {}).await.map_err(Refused::from))
    };
    let no_admin = || async { Refused::from(no_admin()).into_response() };
    Router::new()
        .route("/api/v1/server/request_match", post(call(Api::request_match)))
        .route("/api/v1/server/match_ready", post(call(Api::match_ready)))
        .route("/api/v1/server/end_match", post(call(Api::end_match)))
        .route("/api/v1/servers", post(call(Api::list_servers)).get(list))
        .route("/api/v1/server/allocate", post(no_admin))
        .route("/api/v1/server/deallocate", post(no_admin))
        .route("/healthz", get(healthz))
        .with_state(api.clone())
}

/// A call with its message in the body.
fn call<Req, Res, Fut>(
    call: fn(Api, Req) -> Fut,
) -> impl Fn(State<Api>, HttpRequest) -> futures::future::BoxFuture<'static, HttpResponse> + Clone
where
    Req: DeserializeOwned + Send + 'static,
    Res: Serialize + Send + 'static,
    Fut: Future<Output = Result<Res, Status>> + Send + 'static,
{
    move |State(api), request| {
        Box::pin(async move {
            match read(request, &api.limits).await {
                Ok(message) => answer(call(api, message).await.map_err(Refused::from)),
                Err(refused) => answer::<Res>(Err(refused)),
            }
        })
    }
}

async fn grpc(api: &Api) -> Router {
    let max = api.limits.body_bytes;
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_serving::<CatenaServerManagerServer<Api>>().await;
    let manager = CatenaServerManagerServer::new(api.clone()).max_decoding_message_size(max);
    let mut routes = Routes::new(manager).add_service(health.max_decoding_message_size(max));
    // Many tools still support only the draft of the reflection service.
    match (reflection().build_v1(), reflection().build_v1alpha()) {
        (Ok(current), Ok(draft)) => {
            routes = routes
                .add_service(current.max_decoding_message_size(max))
                .add_service(draft.max_decoding_message_size(max));
        }
        // The descriptors are part of the program, so this is a bug; everything else works without them.
        (Err(error), _) | (_, Err(error)) => tracing::error!(%error, "gRPC reflection is not served"),
    }
    let services = limit_grpc_bodies(routes.into_axum_router().reset_fallback(), api.limits.body_time);
    end_grpc_streams(services, api.closing.clone())
}

fn reflection() -> Builder<'static> {
    Builder::configure()
        .register_encoded_file_descriptor_set(sortie_wire::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .with_service_name("catena.catena_server_manager.CatenaServerManager")
        .with_service_name("grpc.health.v1.Health")
}

type Answer<T> = Result<Response<T>, tonic::Status>;

fn told<T>(result: Result<T, Status>) -> Answer<T> {
    result.map(Response::new).map_err(Into::into)
}

#[tonic::async_trait]
impl CatenaServerManager for Api {
    async fn request_match(&self, request: Request<RequestMatchRequest>) -> Answer<RequestMatchResponse> {
        told(self.clone().request_match(request.into_inner()).await)
    }

    async fn match_ready(&self, request: Request<MatchReadyRequest>) -> Answer<MatchReadyResponse> {
        told(self.clone().match_ready(request.into_inner()).await)
    }

    async fn end_match(&self, request: Request<EndMatchRequest>) -> Answer<EndMatchResponse> {
        told(self.clone().end_match(request.into_inner()).await)
    }

    async fn list_servers(&self, request: Request<ListServersRequest>) -> Answer<ListServersResponse> {
        told(self.clone().list_servers(request.into_inner()).await)
    }

    async fn admin_allocate_server(
        &self,
        _: Request<AdminAllocateServerRequest>,
    ) -> Answer<AdminAllocateServerResponse> {
        told(Err(no_admin()))
    }

    async fn admin_deallocate_server(
        &self,
        _: Request<AdminDeallocateServerRequest>,
    ) -> Answer<AdminDeallocateServerResponse> {
        told(Err(no_admin()))
    }
}
