//! Every request passes this first, HTTP or gRPC: is it served, who is the caller, is the call permitted.

use std::time::Instant;

use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::Response;

use http_body_util::BodyExt as _;
use sortie_serving::MostBytes;

use crate::auth::Caller;
use crate::codes;
use crate::error::{ApiError, Form};
use crate::rules::{self, Access};
use crate::shares::Watch;
use crate::state::Api;

/// Maximum size of the body, or gRPC message, of a player's call, in bytes.
const PLAYERS_BYTES: usize = 64 << 10;
/// The same for a call without credentials: the longest content is the name of a service.
pub(crate) const ANYBODYS_BYTES: usize = 4 << 10;
/// Calls that need no credentials and last as long as the caller likes.
const REFLECTION: &str = "/grpc.reflection.";

/// Lets `request` pass with its [`Caller`], or answers it.
pub(crate) async fn gate(State(api): State<Api>, request: Request, next: Next) -> Response {
    let form = Form::of(&request);
    let (mut parts, body) = request.into_parts();
    match admit(&api, &parts).await {
        Ok(Admitted { caller, max_bytes, watch }) => {
            parts.extensions.insert(caller);
            if let Some(max) = max_bytes {
                parts.extensions.insert(MostBytes(max));
            }
            let response = next.run(Request::from_parts(parts, body)).await;
            match watch {
                Some(watch) => response.map(|body| held(body, watch)),
                None => response,
            }
        }
        Err(error) => error.respond(form),
    }
}

/// An admitted caller, and the limits of the call.
struct Admitted {
    caller: Caller,
    /// Maximum size of the body, if it is lower than usual.
    max_bytes: Option<usize>,
    /// A share of the long calls that need no credentials.
    watch: Option<Watch>,
}

/// The same body, which holds `watch` until its end.
fn held(body: Body, watch: Watch) -> Body {
    Body::new(body.map_frame(move |frame| {
        let _until_the_end = &watch;
        frame
    }))
}

impl Admitted {
    fn nobody(api: &Api, request: &Parts) -> Result<Self, ApiError> {
        let converses = request.uri.path().starts_with(REFLECTION);
        let watch = converses.then(|| api.shares.watch(&request.extensions)).transpose()?;
        Ok(Self { caller: Caller::nobody(), max_bytes: (!converses).then_some(ANYBODYS_BYTES), watch })
    }
}

async fn admit(api: &Api, request: &Parts) -> Result<Admitted, ApiError> {
    let path = request.uri.path();
    // Paths without parameters, including gRPC methods, are their own pattern.
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
        Access::Anybody => return Admitted::nobody(api, request),
        Access::Holders(permissions) => (permissions, false),
        Access::HoldersAndPlayers(permissions) => (permissions, true),
    };
    let caller = api.options.auth.caller(&request.headers).await?;
    if caller.has_any(permissions) {
        let caller = caller.let_in_by(permissions);
        return Ok(Admitted { caller, max_bytes: None, watch: None });
    }
    if players && caller.is_for_a_player() {
        api.options.player_calls.pass_named(caller.player()?.as_str(), Instant::now())?;
        return Ok(Admitted { caller, max_bytes: Some(PLAYERS_BYTES), watch: None });
    }
    let names: Vec<_> = permissions.iter().map(|permission| permission.name()).collect();
    let mut problem = format!("this call needs an API key with the permission `{}`", names.join("` or `"));
    if players {
        problem += ", or a player token";
    }
    Err(codes::FORBIDDEN.error(problem))
}
