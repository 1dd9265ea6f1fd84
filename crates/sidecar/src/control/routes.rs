//! The calls of the sidecar's own API, over HTTP.

use std::convert::Infallible;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{delete, get, post};
use futures::stream::{Stream, unfold};
use sortie_serving::json_response;
use sortie_wire::json;
use tonic::Code;

use super::gate::HEALTH;
use super::messages::{
    GetAllServersResponse, GetAllSidecarsResponse, GetProfilesResponse, HealthcheckResponse,
    LaunchServerPayload, LaunchServerRequest, LaunchServerResponse, Line, RegisterProfilesRequest,
    RegisterProfilesResponse, RegisterServerRequest, RegisterServerResponse, Sidecar,
};
use super::profiles::check_arguments;
use super::servers::Follow;
use super::state::{Control, StreamPermit};
use crate::http_answer::{Refused, answer, read};

/// Every route.
pub(super) fn routes() -> Router<Control> {
    Router::new()
        .route(HEALTH, get(health))
        .route("/api/core/v1/sidecars", get(sidecars))
        .route("/api/v1/profiles", get(all_profiles).post(register_profiles))
        .route("/api/v1/profiles/{id}", get(one_profile))
        .route("/api/v1/servers", get(all_servers))
        .route("/api/v1/servers/launch", post(launch))
        .route("/api/v1/servers/register", post(register))
        .route("/api/v1/servers/{id}", delete(terminate))
}

async fn health(State(control): State<Control>) -> Response {
    let is_closing = control.closing.is_cancelled();
    let refused = || Refused::new(Code::Unavailable, "shutting_down", "the sidecar is shutting down");
    answer(if is_closing { Err(refused()) } else { Ok(HealthcheckResponse { message: "ok" }) })
}

async fn sidecars(State(control): State<Control>) -> Response {
    let sidecar = Sidecar {
        id: control.id.clone(),
        hostname: control.options.hostname.clone(),
        grpc_port: control.options.grpc_port.unwrap_or_default(),
        http_port: control.options.http_port.unwrap_or_default(),
    };
    answer(Ok(GetAllSidecarsResponse { sidecars: [sidecar] }))
}

async fn all_profiles(State(control): State<Control>) -> Response {
    answer(Ok(GetProfilesResponse { profiles: control.profiles().all() }))
}

async fn one_profile(State(control): State<Control>, id: Result<Path<String>, PathRejection>) -> Response {
    let profile = path_param("profileid", id).and_then(|id| control.profiles().get(&id));
    answer(profile.map(|profile| GetProfilesResponse { profiles: vec![profile] }))
}

async fn register_profiles(State(control): State<Control>, request: Request) -> Response {
    let register = async {
        let message: RegisterProfilesRequest = read(request, &control.options.limits).await?;
        control.profiles().register(message.profiles)?;
        Ok(RegisterProfilesResponse {})
    };
    answer(register.await)
}

async fn all_servers(State(control): State<Control>) -> Response {
    answer(Ok(GetAllServersResponse { servers: control.servers.all() }))
}

async fn register(State(control): State<Control>, request: Request) -> Response {
    let register = async {
        let message: RegisterServerRequest = read(request, &control.options.limits).await?;
        let port = u16::try_from(message.port)
            .map_err(|_| Refused::field("port", "must be a port, or 0 if it is unknown"))?;
        if !message.profile_id.is_empty() {
            control.profiles().get(&message.profile_id)?;
        }
        Ok(RegisterServerResponse { server_id: control.servers.register(port)? })
    };
    answer(register.await)
}

async fn terminate(State(control): State<Control>, id: Result<Path<String>, PathRejection>) -> Response {
    let terminate = async { control.servers.terminate(&path_param("id", id)?).await };
    answer(terminate.await)
}

async fn launch(State(control): State<Control>, request: Request) -> Response {
    let launch = async {
        let message: LaunchServerRequest = read(request, &control.options.limits).await?;
        let mut profile = control.profiles().get(&message.profile_id)?;
        if !message.argument_override.is_empty() {
            check_arguments(&message.argument_override)
                .map_err(|problem| Refused::field("argumentOverride", problem))?;
            profile.args = message.argument_override;
        }
        // Before the start: otherwise the program would run although its caller was refused.
        let permit = if message.subscribe { Some(control.stream_permit()?) } else { None };
        let follow = control.servers.launch(profile).await?;
        Ok::<_, Refused>((follow, permit))
    };
    match launch.await {
        Ok((follow, permit)) => {
            let mut response = json_response(StatusCode::OK, Vec::new());
            *response.body_mut() = Body::from_stream(lines(follow, permit));
            response
        }
        Err(refused) => refused.into_response(),
    }
}

/// One line per state; without a stream slot, only the first.
fn lines(follow: Follow, permit: Option<StreamPermit>) -> impl Stream<Item = Result<Bytes, Infallible>> {
    unfold(Some((follow, permit)), |state| async {
        let (mut follow, permit) = state?;
        let (server_data, message) = follow.next().await?;
        let payload = LaunchServerPayload { server_data, message };
        // These messages always serialize.
        let mut line = json::encode(&Line { result: LaunchServerResponse { payload } }).ok()?;
        line.push(b'\n');
        let further = permit.is_some().then_some((follow, permit));
        Some((Ok(line.into()), further))
    })
}

fn path_param(name: &str, param: Result<Path<String>, PathRejection>) -> Result<String, Refused> {
    param.map(|Path(text)| text).map_err(|_| Refused::field(name, "must be UTF-8"))
}
