//! Errors in the form of Sortie's own API, for everything that is served next to it.

use std::time::Duration;

use axum::http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use serde_json::{Value, json};

use crate::body::json_response;

/// When to retry if there was no room or nobody to serve the call, in seconds.
pub const RETRY_AFTER_SECONDS: u64 = 5;

/// The value of `retry-after` for a pause: whole seconds, and at least one.
#[must_use]
pub fn retry_after_seconds(pause: Duration) -> u64 {
    u64::try_from(pause.as_millis().div_ceil(1000)).unwrap_or(u64::MAX).max(1)
}

/// The value of `error`: `{"code", "message", "field"?}`. The message begins with the field.
#[must_use]
pub fn error_document(code: &str, problem: &str, field: Option<&str>) -> Value {
    match field {
        Some(field) => json!({"code": code, "message": format!("{field}: {problem}"), "field": field}),
        None => json!({"code": code, "message": problem}),
    }
}

/// `{"error": {"code", "message", "field"?}}`. `code` is a row of `contract/errors.md`, `status` the one in that row.
#[must_use]
pub fn error_response(status: StatusCode, code: &str, problem: &str, field: Option<&str>) -> Response {
    let document = json!({"error": error_document(code, problem, field)});
    let mut response = json_response(status, document.to_string().into_bytes());
    match status {
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
            response.headers_mut().insert(RETRY_AFTER, RETRY_AFTER_SECONDS.into());
        }
        StatusCode::UNAUTHORIZED => {
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        _ => {}
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_rounded_up_to_whole_seconds() {
        let seconds =
            [0, 1, 1_000, 1_001, 59_999].map(|pause| retry_after_seconds(Duration::from_millis(pause)));
        assert_eq!(seconds, [1, 1, 1, 2, 60]);
    }

    #[test]
    fn the_message_begins_with_the_field() {
        let document = error_document("invalid_field", "is too long", Some("name"));
        assert_eq!(
            document,
            json!({"code": "invalid_field", "message": "name: is too long", "field": "name"})
        );
        assert_eq!(
            error_document("internal", "a bug", None),
            json!({"code": "internal", "message": "a bug"})
        );
    }

    #[test]
    fn headers_say_what_to_do() {
        let header = |status, name: &str| error_response(status, "c", "p", None).headers().get(name).cloned();
        assert_eq!(header(StatusCode::UNAUTHORIZED, "www-authenticate").unwrap(), "Bearer");
        assert_eq!(header(StatusCode::SERVICE_UNAVAILABLE, "retry-after").unwrap(), "5");
        assert_eq!(header(StatusCode::BAD_REQUEST, "retry-after"), None);
    }
}
