//! Errors in the form of Sortie's own API, for everything that is served next to it.

use axum::http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use serde_json::{Value, json};

use crate::body::json_response;

/// When to retry if there was no room or nobody to serve the call, in seconds.
const RETRY_AFTER_SECONDS: HeaderValue = HeaderValue::from_static("5");

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
            response.headers_mut().insert(RETRY_AFTER, RETRY_AFTER_SECONDS);
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
