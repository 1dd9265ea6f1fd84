//! What every request passes first, HTTP or gRPC: is it served, who calls, may they.

use axum::extract::{MatchedPath, Request, State};
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::Response;

use crate::auth::Caller;
use crate::codes;
use crate::error::{ApiError, Form};
use crate::rules::{self, Access};
use crate::state::Api;

/// Lets `request` pass with its [`Caller`], or answers it.
pub(crate) async fn gate(State(api): State<Api>, request: Request, next: Next) -> Response {
    let form = Form::of(&request);
    let (mut parts, body) = request.into_parts();
    match admit(&api, &parts).await {
        Ok(caller) => {
            parts.extensions.insert(caller);
            next.run(Request::from_parts(parts, body)).await
        }
        Err(error) => error.respond(form),
    }
}

async fn admit(api: &Api, request: &Parts) -> Result<Caller, ApiError> {
    let path = request.uri.path();
    // Paths without parameters, gRPC methods among them, are their own pattern.
    let by_pattern = || rules::find(request.extensions.get::<MatchedPath>()?.as_str());
    let Some(entry) = rules::find(path).or_else(by_pattern) else {
        return Err(codes::NOT_FOUND.error("nothing is at this path"));
    };
    let Some(access) = entry.access(&request.method) else {
        let allowed = entry.allowed();
        let problem = format!("this path is for {allowed}");
        return Err(codes::METHOD_NOT_ALLOWED.error(problem).with_allowed(&allowed));
    };
    let (permissions, players) = match access {
        Access::Anybody => return Ok(Caller::nobody()),
        Access::Holders(permissions) => (permissions, false),
        Access::HoldersAndPlayers(permissions) => (permissions, true),
    };
    let caller = api.options.auth.caller(&request.headers).await?;
    if caller.has_any(permissions) || players && caller.is_for_a_player() {
        return Ok(caller.let_in_by(permissions));
    }
    let names: Vec<_> = permissions.iter().map(|permission| permission.name()).collect();
    let mut problem = format!("this call needs an API key with the permission `{}`", names.join("` or `"));
    if players {
        problem += ", or a player token";
    }
    Err(codes::FORBIDDEN.error(problem))
}
