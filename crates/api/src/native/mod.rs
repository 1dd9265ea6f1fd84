//! Sortie's own API: JSON under `/v1`.
//!
//! Unlike the Catena contract it has pages, seats, capacity and every event, and it refuses unknown fields.

mod descriptions;
mod event_stream;
mod explain;
mod listing;
mod matches;
mod queues;
mod seats;
mod ticket_explain;
mod ticket_view;
mod tickets;

use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use sortie_domain::properties::Properties;

use sortie_serving::{json_response, not_a_list};
use sortie_wire::cloud_event::rfc3339;

use crate::codes;
use crate::error::{ApiError, Form};
use crate::http::Routes;

pub(crate) use descriptions::operations;

/// Every route.
pub(crate) fn routes() -> Routes {
    Routes::default()
        .post("/v1/matches", matches::submit)
        .get("/v1/matches", matches::list)
        .get("/v1/matches/{id}", matches::show)
        .delete("/v1/matches/{id}", matches::cancel)
        .get("/v1/matches/{id}/explain", explain::explain)
        .post("/v1/matches/{id}/seats", seats::reserve)
        .get("/v1/matches/{id}/seats", seats::list)
        .put("/v1/matches/{id}/free-seats", seats::report_free)
        .post("/v1/seats/{id}/claim", seats::claim)
        .delete("/v1/seats/{id}", seats::release)
        .post("/v1/tickets", tickets::start)
        .get("/v1/tickets", tickets::list)
        .get("/v1/tickets/{id}", tickets::show)
        .delete("/v1/tickets/{id}", tickets::cancel)
        .post("/v1/tickets/{id}/renew", tickets::renew)
        .post("/v1/tickets/{id}/accept", tickets::accept)
        .post("/v1/tickets/{id}/decline", tickets::decline)
        .get("/v1/tickets/{id}/explain", ticket_explain::explain)
        .get("/v1/queues", queues::queues)
        .get("/v1/servers", listing::servers)
        .get("/v1/fleets", listing::fleets)
        .get("/v1/events", event_stream::events)
}

/// An answer or error.
fn answer<T: Serialize>(result: Result<(StatusCode, T), ApiError>) -> Response {
    let document = result.and_then(|(status, body)| {
        let document = serde_json::to_vec(&body).map_err(ApiError::internal)?;
        Ok(json_response(status, document))
    });
    document.unwrap_or_else(|error| error.respond(Form::Native))
}

/// Parses a complete body.
fn parse<T: DeserializeOwned>(document: &[u8]) -> Result<T, ApiError> {
    let document =
        not_a_list(document).map_err(|list| codes::INVALID_JSON.error(format!("the body {list}")))?;
    let mut json = serde_json::Deserializer::from_slice(document);
    let parsed = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        (path, error.into_inner())
    });
    match parsed.and_then(|value| json.end().map(|()| value).map_err(|error| (".".to_owned(), error))) {
        Ok(value) => Ok(value),
        Err((path, error)) => Err(unreadable(path, &error)),
    }
}

/// Maximum number of bytes of the sender's own text in an error.
const MAX_SHOWN_BYTES: usize = 160;

fn cut(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(MAX_SHOWN_BYTES));
    text
}

/// The field is the path of the error, or the name in the error itself.
fn unreadable(path: String, error: &serde_json::Error) -> ApiError {
    let problem = error.to_string();
    let named = problem
        .split_once("field `")
        .and_then(|(_, rest)| rest.split_once('`'))
        .map(|(name, _)| cut(name.to_owned()));
    let (path, problem) = (cut(path), cut(problem));
    match (path.as_str(), named) {
        (".", Some(name)) => codes::INVALID_JSON.error(problem).about(name),
        (".", None) => codes::INVALID_JSON.error(problem),
        _ => codes::INVALID_JSON.error(problem).about(path),
    }
}

/// Properties as they are sent in.
fn properties(field: String, raw: &RawValue) -> Result<Properties, ApiError> {
    Properties::parse(raw.get()).map_err(|problem| ApiError::field(field, problem))
}

/// Properties exactly as they were sent.
fn raw(properties: &Properties) -> Result<Box<RawValue>, ApiError> {
    let text = properties.text().unwrap_or("{}");
    RawValue::from_string(text.to_owned()).map_err(ApiError::internal)
}
