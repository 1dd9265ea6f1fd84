//! What every request passes first, HTTP or gRPC: is it served, who calls, may they.

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::Response;

use crate::auth::Caller;
use crate::codes;
use crate::error::{ApiError, Form};
use crate::rules::{self, Access};
use crate::state::Api;

/// Lets `request` pass with its [`Caller`], or answers it.
pub(crate) async fn gate(State(api): State<Api>, mut request: Request, next: Next) -> Response {
    match admit(&api, &request) {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(error) => error.respond(Form::of(&request)),
    }
}

fn admit(api: &Api, request: &Request) -> Result<Caller, ApiError> {
    let path = request.uri().path();
    // Paths without parameters, gRPC methods among them, are their own pattern.
    let by_pattern = || rules::find(request.extensions().get::<MatchedPath>()?.as_str());
    let Some(entry) = rules::find(path).or_else(by_pattern) else {
        return Err(codes::NOT_FOUND.error("nothing is at this path"));
    };
    let Some(access) = entry.access(request.method()) else {
        let allowed = entry.allowed();
        let problem = format!("this path is for {allowed}");
        return Err(codes::METHOD_NOT_ALLOWED.error(problem).with_allowed(&allowed));
    };
    let Access::Holders(permissions) = access else { return Ok(Caller::nobody()) };
    let held = api.options.auth.permissions(request.headers())?;
    if !held.has_any(permissions) {
        let names: Vec<_> = permissions.iter().map(|permission| permission.name()).collect();
        let problem = format!("this call needs an API key with the permission `{}`", names.join("` or `"));
        return Err(codes::FORBIDDEN.error(problem));
    }
    Caller::of(held, request.headers())
}
