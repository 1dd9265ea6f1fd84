//! The API's description at `/openapi.json`, and a page at `/docs` to read and try it.
//!
//! The page is Swagger UI, served by this process alone: it works without a network, and its policy makes browsers
//! refuse resources from elsewhere.

use axum::body::Body;
use axum::extract::Path;
use axum::extract::State;
use axum::extract::rejection::PathRejection;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use sortie_serving::json_response;

use crate::codes;
use crate::error::{ApiError, Form};
use crate::http::Routes;
use crate::openapi;
use crate::params::path_param;
use crate::state::Api;

const PAGE: &[u8] = include_bytes!("index.html");

/// Only from this origin. Swagger UI needs inline styles, and has its images as data URIs in its styles.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; object-src 'none'; base-uri 'none'; \
     form-action 'none'; frame-ancestors 'none'",
);

/// How long a browser keeps a file without asking again.
const KEPT: HeaderValue = HeaderValue::from_static("public, max-age=3600");

/// A file of the page.
struct Asset {
    name: &'static str,
    kind: &'static str,
    packed: bool,
    bytes: &'static [u8],
}

macro_rules! packed {
    ($name:literal, $kind:literal) => {
        Asset {
            name: $name,
            kind: $kind,
            packed: true,
            bytes: include_bytes!(concat!(env!("OUT_DIR"), "/", $name, ".gz")),
        }
    };
}

/// The files from the build script are compressed with gzip, which every browser accepts.
const ASSETS: [Asset; 5] = [
    packed!("swagger-ui-bundle.js", "text/javascript; charset=utf-8"),
    packed!("swagger-ui.css", "text/css; charset=utf-8"),
    packed!("index.css", "text/css; charset=utf-8"),
    packed!("favicon-32x32.png", "image/png"),
    Asset {
        name: "page.js",
        kind: "text/javascript; charset=utf-8",
        packed: false,
        bytes: include_bytes!("page.js"),
    },
];

/// Every route.
pub(crate) fn routes() -> Routes {
    Routes::default().get("/openapi.json", openapi).get("/docs", page).get("/docs/{file}", file)
}

async fn openapi(State(api): State<Api>) -> Response {
    let make = || openapi::document(&api.options.described).to_string().into();
    json_response(StatusCode::OK, api.openapi.get_or_init(make).to_vec())
}

async fn page() -> Response {
    let mut response = guarded("text/html; charset=utf-8", PAGE);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

async fn file(name: Result<Path<String>, PathRejection>) -> Response {
    let name = match path_param("file", name) {
        Ok(name) => name,
        Err(error) => return error.respond(Form::Native),
    };
    let Some(asset) = ASSETS.iter().find(|asset| asset.name == name) else {
        let none: ApiError = codes::NOT_FOUND.error("the page has no such file");
        return none.respond(Form::Native);
    };
    let mut response = guarded(asset.kind, asset.bytes);
    response.headers_mut().insert(CACHE_CONTROL, KEPT);
    if asset.packed {
        response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    response
}

fn guarded(kind: &'static str, bytes: &'static [u8]) -> Response {
    let mut response = Response::new(Body::from(bytes));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CONTENT_SECURITY_POLICY, POLICY);
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}
