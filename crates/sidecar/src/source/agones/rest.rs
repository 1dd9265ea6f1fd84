//! The same calls over HTTP, with the paths and JSON of Agones's gateway, one line per call.
//!
//! Errors are `google.rpc.Status` documents with all fields; an unsupported method of a path is 501, as in the gateway.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, get, on, patch, post};
use futures::StreamExt as _;
use prost_types::FieldMask;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sortie_serving::{BodyError, Limits, empty_is_object, json_response, read_body};
use sortie_wire::agones::{alpha, beta};
use sortie_wire::json;
use sortie_wire::status::http_code;
use tonic::Code;

use super::calls;
use super::desk::Desk;
use super::refusal::Refusal;

/// State of every handler.
#[derive(Clone)]
struct Api {
    desk: Arc<Desk>,
    limits: Limits,
}

/// Why a request failed.
enum Problem {
    Refused(Refusal),
    Body(BodyError),
}

type Named = Result<Path<String>, PathRejection>;
type Call<Q, A> = fn(&Desk, Q) -> Result<A, Refusal>;

/// Every path of the gateway.
pub(super) fn routes(desk: &Arc<Desk>, limits: &Limits) -> Router {
    let api = Api { desk: Arc::clone(desk), limits: limits.clone() };
    let player = |player_id| alpha::PlayerId { player_id };
    Routes::default()
        .send(MethodFilter::POST, "/ready", calls::ready)
        .send(MethodFilter::POST, "/allocate", calls::allocate)
        .send(MethodFilter::POST, "/shutdown", calls::shutdown)
        .send(MethodFilter::POST, "/reserve", calls::reserve)
        .send(MethodFilter::PUT, "/metadata/label", calls::set_label)
        .send(MethodFilter::PUT, "/metadata/annotation", calls::set_annotation)
        .ask("/gameserver", calls::get_game_server)
        .send(MethodFilter::POST, "/alpha/player/connect", calls::player_connect)
        .send(MethodFilter::POST, "/alpha/player/disconnect", calls::player_disconnect)
        .send(MethodFilter::PUT, "/alpha/player/capacity", calls::set_player_capacity)
        .ask("/alpha/player/capacity", calls::get_player_capacity)
        .ask("/alpha/player/count", calls::get_player_count)
        .ask("/alpha/player/connected", calls::get_connected_players)
        .about("/alpha/player/connected/{id}", player, calls::is_player_connected)
        .about("/v1beta1/counters/{name}", |name| beta::GetCounterRequest { name }, calls::get_counter)
        .about("/v1beta1/lists/{name}", |name| beta::GetListRequest { name }, calls::get_list)
        .0
        .route("/health", post(health))
        .route("/watch/gameserver", get(watch))
        .route("/v1beta1/counters/{name}", patch(update_counter))
        .route("/v1beta1/lists/{name}", patch(update_list).post(change_values))
        .fallback(|| async { refused(&Refusal::NotFound("nothing is at this path".to_owned())) })
        .method_not_allowed_fallback(|| async { refused(&Refusal::Method) })
        .with_state(api)
}

#[derive(Default)]
struct Routes(Router<Api>);

impl Routes {
    /// A call with its message in the body.
    fn send<Q, A>(self, method: MethodFilter, path: &str, call: Call<Q, A>) -> Self
    where
        Q: DeserializeOwned + 'static,
        A: Serialize + 'static,
    {
        let handler = move |State(api): State<Api>, request: Request| async move {
            answer(body(&api, request).await.and_then(|body| Ok(call(&api.desk, message(&body)?)?)))
        };
        Self(self.0.route(path, on(method, handler)))
    }

    /// A call without a message.
    fn ask<Q: Default + 'static, A: Serialize + 'static>(self, path: &str, call: Call<Q, A>) -> Self {
        let handler = move |State(api): State<Api>| async move {
            answer(call(&api.desk, Q::default()).map_err(Into::into))
        };
        Self(self.0.route(path, get(handler)))
    }

    /// A call about the item named in the path.
    fn about<Q: 'static, A: Serialize + 'static>(
        self,
        path: &str,
        name: fn(String) -> Q,
        call: Call<Q, A>,
    ) -> Self {
        let handler = move |State(api): State<Api>, named: Named| async move {
            answer(text(named).and_then(|text| Ok(call(&api.desk, name(text))?)))
        };
        Self(self.0.route(path, get(handler)))
    }
}

/// Without a body it means nothing: a probe that posts an empty body does not make a server look healthy.
async fn health(State(api): State<Api>, request: Request) -> Response {
    let beat = async {
        let body = body(&api, request).await?;
        if body.is_empty() {
            return Err(Refusal::Field("the body must be {}".to_owned()).into());
        }
        Ok(calls::health(&api.desk, message(&body)?)?)
    };
    answer(beat.await)
}

/// One line per state, each `{"result": …}`.
async fn watch(State(api): State<Api>) -> Response {
    api.desk.call(|_, _| ());
    let lines = api.desk.watch().map(|state| {
        let state = json::encode(&state).unwrap_or_else(|_| b"null".to_vec());
        let line = [br#"{"result":"#.as_slice(), &state, b"}\n"].concat();
        Ok::<_, Infallible>(Bytes::from(line))
    });
    let mut response = json_response(StatusCode::OK, Vec::new());
    *response.body_mut() = Body::from_stream(lines);
    response
}

async fn update_counter(State(api): State<Api>, named: Named, request: Request) -> Response {
    let updated = async {
        let name = text(named)?;
        let change: CounterUpdate = message(&body(&api, request).await?)?;
        let request = beta::CounterUpdateRequest {
            name,
            count: change.count.map(|number| number.0),
            capacity: change.capacity.map(|number| number.0),
            count_diff: change.count_diff.map_or(0, |number| number.0),
        };
        let request = beta::UpdateCounterRequest { counter_update_request: Some(request) };
        Ok(calls::update_counter(&api.desk, request)?)
    };
    answer(updated.await)
}

/// Without a mask in the query, the fields of the body are changed.
async fn update_list(
    State(api): State<Api>,
    named: Named,
    query: Result<Query<MaskQuery>, QueryRejection>,
    request: Request,
) -> Response {
    let updated = async {
        let name = text(named)?;
        let query = query.map_err(|error| Refusal::Field(error.body_text()))?;
        let body = body(&api, request).await?;
        let mut list: beta::List = message(&body)?;
        list.name = name;
        let mask = query.0.update_mask.unwrap_or_default();
        let mut paths: Vec<_> = mask.split(',').filter(|path| !path.is_empty()).map(str::to_owned).collect();
        if paths.is_empty() {
            let fields: Map<String, Value> = message(&body)?;
            paths.extend(
                ["capacity", "values"]
                    .into_iter()
                    .filter(|field| fields.contains_key(*field))
                    .map(str::to_owned),
            );
        }
        let request = beta::UpdateListRequest { list: Some(list), update_mask: Some(FieldMask { paths }) };
        Ok(calls::update_list(&api.desk, request)?)
    };
    answer(updated.await)
}

/// The operation on a list's values follows its name: `{name}:addValue`.
async fn change_values(State(api): State<Api>, named: Named, request: Request) -> Response {
    let changed = async {
        let named = text(named)?;
        let (name, verb) = named.rsplit_once(':').unwrap_or((named.as_str(), ""));
        let name = name.to_owned();
        match verb {
            "addValue" => {
                let request: beta::AddListValueRequest = message(&body(&api, request).await?)?;
                let request = beta::AddListValueRequest { name, ..request };
                Ok(calls::add_list_value(&api.desk, request)?)
            }
            "removeValue" => {
                let request: beta::RemoveListValueRequest = message(&body(&api, request).await?)?;
                let request = beta::RemoveListValueRequest { name, ..request };
                Ok(calls::remove_list_value(&api.desk, request)?)
            }
            _ => Err(Refusal::Method.into()),
        }
    };
    answer(changed.await)
}

/// The JSON of [`beta::CounterUpdateRequest`], whose numbers are optional.
#[derive(Deserialize)]
struct CounterUpdate {
    count: Option<Number>,
    capacity: Option<Number>,
    #[serde(rename = "countDiff")]
    count_diff: Option<Number>,
}

/// A 64-bit integer, as a number or as a string.
#[derive(Clone, Copy)]
struct Number(i64);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Number(i64),
            Text(String),
            Other(IgnoredAny),
        }
        let number = match Form::deserialize(deserializer)? {
            Form::Number(number) => Some(number),
            Form::Text(text) => text.parse().ok(),
            Form::Other(_) => None,
        };
        number
            .map(Self)
            .ok_or_else(|| serde::de::Error::custom("must be a whole number of 64 bits, or one in a string"))
    }
}

#[derive(Deserialize)]
struct MaskQuery {
    #[serde(alias = "updateMask")]
    update_mask: Option<String>,
}

/// The only path parameter.
fn text(named: Named) -> Result<String, Problem> {
    named.map(|Path(text)| text).map_err(|_| Refusal::Field("the path must be UTF-8".to_owned()).into())
}

async fn body(api: &Api, request: Request) -> Result<Bytes, Problem> {
    read_body(request, &api.limits).await.map_err(Problem::Body)
}

fn message<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    json::decode(empty_is_object(body)).map_err(|error| Refusal::Field(error.to_string()).into())
}

fn answer<T: Serialize>(result: Result<T, Problem>) -> Response {
    let document = result
        .and_then(|message| json::encode(&message).map_err(|error| Refusal::Field(error.to_string()).into()));
    match document {
        Ok(document) => json_response(StatusCode::OK, document),
        Err(Problem::Refused(refusal)) => refused(&refusal),
        Err(Problem::Body(error)) => {
            let (status, code) = match error {
                BodyError::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, Code::ResourceExhausted),
                BodyError::TooSlow { .. } => (StatusCode::REQUEST_TIMEOUT, Code::DeadlineExceeded),
                BodyError::ShuttingDown => (StatusCode::SERVICE_UNAVAILABLE, Code::Unavailable),
            };
            failed(status, code, &error.to_string())
        }
    }
}

fn refused(refusal: &Refusal) -> Response {
    let code = refusal.code();
    let status = StatusCode::from_u16(http_code(code)).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    failed(status, code, &refusal.to_string())
}

fn failed(status: StatusCode, code: Code, text: &str) -> Response {
    let document = json!({ "code": i32::from(code), "message": text, "details": [] });
    json_response(status, document.to_string().into_bytes()).into_response()
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}
