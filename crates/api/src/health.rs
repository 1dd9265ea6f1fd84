//! `grpc.health.v1.Health`, and the HTTP probes.
//!
//! Instead of tonic-health's reporter, because the answer is computed on request, so that nothing has to remember to
//! report.

use std::pin::Pin;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use futures::Stream;
use futures::stream::unfold;
use serde_json::json;
use sortie_serving::json_response;
use tonic::{Request, Status};
use tonic_health::pb;
use tonic_health::pb::health_check_response::ServingStatus;

use crate::error::Form;
use crate::http::Routes;
use crate::options::Problem;
use crate::state::Api;

/// How often the state is checked for watchers.
const WATCH_PERIOD: Duration = Duration::from_secs(1);

/// The known services; the empty name is the whole server.
const SERVICES: [&str; 5] = [
    "",
    "catena.catena_server_manager.CatenaServerManager",
    "catena.catena_match_broker.CatenaMatchBroker",
    "catena.events.Events",
    MATCHMAKING,
];

/// The optional one.
const MATCHMAKING: &str = "catena.catena_matchmaking.CatenaMatchmaking";

/// Probes.
pub(crate) fn routes() -> Routes {
    Routes::default().get("/healthz", healthz).get("/readyz", readyz)
}

/// Liveness: the process runs.
async fn healthz() -> Response {
    json_response(StatusCode::OK, br#"{"status":"ok"}"#.to_vec())
}

/// Readiness: calls are served. Other problems are reported with the same status code, because taking the control plane
/// out of service would not help.
async fn readyz(State(api): State<Api>) -> Response {
    if let Some(error) = api.not_serving().await {
        return error.respond(Form::Native);
    }
    let problems = api.problems().into_iter();
    let problems: Vec<_> =
        problems.map(|Problem { code, message }| json!({"code": code, "message": message})).collect();
    let body = if problems.is_empty() {
        json!({"status": "ready"})
    } else {
        json!({"status": "degraded", "problems": problems})
    };
    json_response(StatusCode::OK, body.to_string().into_bytes())
}

/// The health service.
pub(crate) struct Health {
    api: Api,
}

impl Health {
    pub(crate) const fn new(api: Api) -> Self {
        Self { api }
    }
}

async fn status(api: &Api, service: &str) -> ServingStatus {
    let problem = match service {
        MATCHMAKING => api.maker_not_serving().await,
        "" => api.not_serving().await,
        _ => api.broker_not_serving().await,
    };
    match problem {
        None => ServingStatus::Serving,
        Some(_) => ServingStatus::NotServing,
    }
}

fn response(status: ServingStatus) -> pb::HealthCheckResponse {
    pb::HealthCheckResponse { status: status.into() }
}

#[tonic::async_trait]
impl pb::health_server::Health for Health {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<pb::HealthCheckResponse, Status>> + Send>>;

    async fn check(
        &self,
        request: Request<pb::HealthCheckRequest>,
    ) -> Result<tonic::Response<pb::HealthCheckResponse>, Status> {
        let service = request.get_ref().service.as_str();
        if SERVICES.contains(&service) {
            Ok(tonic::Response::new(response(status(&self.api, service).await)))
        } else {
            Err(Status::not_found("there is no such service"))
        }
    }

    async fn watch(
        &self,
        request: Request<pb::HealthCheckRequest>,
    ) -> Result<tonic::Response<Self::WatchStream>, Status> {
        let service = SERVICES.into_iter().find(|service| *service == request.get_ref().service);
        // Watching needs no credentials.
        let share = self.api.shares.watch(request.extensions())?;
        let mut ticks = tokio::time::interval(WATCH_PERIOD);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let watch = (self.api.clone(), None, ticks, share);
        let changes = unfold(watch, move |(api, last, mut ticks, share)| async move {
            loop {
                let is_last = tokio::select! {
                    biased;
                    () = api.options.closing.cancelled() => true,
                    _ = ticks.tick() => false,
                };
                let now = match service {
                    Some(service) => status(&api, service).await,
                    None => ServingStatus::ServiceUnknown,
                };
                if last != Some(now) {
                    return Some((Ok(response(now)), (api, Some(now), ticks, share)));
                }
                if is_last {
                    return None;
                }
            }
        });
        Ok(tonic::Response::new(Box::pin(changes)))
    }
}
