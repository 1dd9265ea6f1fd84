//! Everything that is served, on one router, behind one gate.

use axum::Router;
use axum::middleware::from_fn_with_state;

use crate::gate::gate;
use crate::http::{Routes, catena_routes};
use crate::options::ApiOptions;
use crate::state::Api;
use crate::{docs, grpc, health, native};

/// gRPC and HTTP, with reflection, health, and the gate in front of all of it.
pub fn router(options: ApiOptions) -> Router {
    let api = Api::new(options);
    let grpc = grpc::routes(&api);
    let http = http_routes().into_router().with_state(api.clone());
    http.merge(grpc).layer(from_fn_with_state(api, gate))
}

/// Every HTTP route as `METHOD /path`, for tests that check all of them.
#[must_use]
pub fn routes() -> Vec<String> {
    http_routes().listed().to_vec()
}

/// Everything except gRPC.
pub(crate) fn http_routes() -> Routes {
    catena_routes().merge(native::routes()).merge(health::routes()).merge(docs::routes())
}
