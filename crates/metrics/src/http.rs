//! `GET /metrics`.

use std::sync::Arc;

use axum::Router;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE as CONTENT_TYPE_HEADER};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use serde_json::json;
use sortie_openapi::{ADMIN_KEY, Description, Operation};
use sortie_serving::error_response;

use crate::Metrics;

/// Path of the route.
pub const PATH: &str = "/metrics";
/// Content type: OpenMetrics 1.0.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// `GET /metrics` for callers that `may_see` accepts; it receives the headers of each request.
pub fn router(metrics: Metrics, may_see: impl Fn(&HeaderMap) -> bool + Send + Sync + 'static) -> Router {
    let may_see = Arc::new(may_see);
    let show = move |headers: HeaderMap| async move {
        if !may_see(&headers) {
            return not_you();
        }
        match metrics.text().await {
            Ok(text) => shown(text),
            Err(error) => {
                tracing::error!(%error, "the metrics could not be written");
                let problem = "something is wrong inside the server; its log says what";
                error_response(StatusCode::INTERNAL_SERVER_ERROR, "internal", problem, None)
            }
        }
    };
    Router::new().route(PATH, get(show))
}

fn shown(text: String) -> Response {
    let headers = [
        (CONTENT_TYPE_HEADER, HeaderValue::from_static(CONTENT_TYPE)),
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    (headers, text).into_response()
}

fn not_you() -> Response {
    let problem = "metrics need an API key with the permission `admin`, or the secret of drivers: \
        `authorization: Bearer …`";
    error_response(StatusCode::UNAUTHORIZED, "unauthenticated", problem, None)
}

/// The route as a part of an OpenAPI document; its errors are `Error` there.
#[must_use]
pub fn description() -> Description {
    const TAG: &str = "Metrics";
    let metrics =
        Operation::new(&format!("GET {PATH}"), TAG, "metrics", "Show the metrics of this process")
            .text(
                "For Prometheus: the text format of OpenMetrics 1.0. Needs an API key with the permission `admin`, \
                 or the secret of drivers.",
            )
            .security(ADMIN_KEY)
            .content(200, "The metrics", CONTENT_TYPE, &json!({"type": "string"}))
            .error("Error");
    Description::default().tag(TAG, "Metrics for monitoring.").operations([metrics])
}
