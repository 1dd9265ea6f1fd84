//! The contract over HTTP: canonical JSON by POST.

use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Client, Response, StatusCode, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sortie_retry::retry_after;
use sortie_wire::json;
use sortie_wire::status::Status;
use tokio::time::Instant;
use tonic::Code;

use super::{ALIVE_PERIOD, CONNECT_TIME, CatenaBackendError, MAX_ANSWER_BYTES, last_cause, meaning};
use crate::backend::{BackendError, HELD_CALL_TIME};

/// Maximum pause that a backend can request.
const MAX_REST: Duration = Duration::from_secs(60);
/// Idle time after which a connection is closed: less than that of servers, which could otherwise close it during a
/// call.
const IDLE_TIME: Duration = Duration::from_secs(50);

/// A client for one backend.
#[derive(Debug)]
pub(super) struct Http {
    client: Client,
    /// `…/api/v1/server/`
    base: String,
    /// The backend asked not to be called before this.
    rests_until: Mutex<Option<Instant>>,
}

impl Http {
    pub(super) fn new(
        url: &Url,
        bearer: Option<&str>,
        ca: Option<&Path>,
    ) -> Result<Self, CatenaBackendError> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(bearer) = bearer {
            let mut value = HeaderValue::from_str(bearer).map_err(|_| CatenaBackendError::ApiKey)?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        let client = sortie_tls::http_client(url.as_str(), ca)?
            .default_headers(headers)
            .redirect(Policy::none())
            .connect_timeout(CONNECT_TIME)
            .timeout(HELD_CALL_TIME)
            .pool_idle_timeout(IDLE_TIME)
            .tcp_keepalive(ALIVE_PERIOD)
            .build()
            .map_err(|error| CatenaBackendError::Client {
                url: url.to_string(),
                problem: last_cause(&error),
            })?;
        let base = format!("{}/api/v1/server/", url.as_str().trim_end_matches('/'));
        Ok(Self { client, base, rests_until: Mutex::default() })
    }

    pub(super) async fn call<Req: Serialize, Res: DeserializeOwned>(
        &self,
        name: &str,
        request: &Req,
    ) -> Result<Res, BackendError> {
        self.check_rest()?;
        let body = json::encode(request).map_err(|error| {
            let message = format!("the call cannot be written as JSON: {error}");
            BackendError::Refused(Status { code: Code::InvalidArgument.into(), message, details: Vec::new() })
        })?;
        let sent = self.client.post(format!("{}{name}", self.base)).body(body).send().await;
        let response = sent.map_err(|error| BackendError::Away(last_cause(&error)))?;
        let (status, rest) = (response.status(), rest_of(&response));
        let body = read(response).await?;
        if status.is_success() {
            return json::decode(&body)
                .map_err(|error| BackendError::Away(format!("its answer violates the contract: {error}")));
        }
        let error = refused(status, &body);
        if let (BackendError::Away(_), Some(rest)) = (&error, rest) {
            let until = Instant::now() + rest.min(MAX_REST);
            *self.rests_until.lock().unwrap_or_else(PoisonError::into_inner) = Some(until);
        }
        Err(error)
    }

    fn check_rest(&self) -> Result<(), BackendError> {
        let mut until = self.rests_until.lock().unwrap_or_else(PoisonError::into_inner);
        match *until {
            Some(end) if end > Instant::now() => Err(BackendError::Away("it asked for a pause".to_owned())),
            _ => {
                *until = None;
                Ok(())
            }
        }
    }
}

fn rest_of(response: &Response) -> Option<Duration> {
    let value = response.headers().get(RETRY_AFTER)?.to_str().ok()?;
    retry_after(value, SystemTime::now())
}

async fn read(mut response: Response) -> Result<Vec<u8>, BackendError> {
    let mut body = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() <= MAX_ANSWER_BYTES => body.extend_from_slice(&chunk),
            Ok(Some(_)) => {
                let text = format!("its answer is longer than {MAX_ANSWER_BYTES} bytes");
                return Err(BackendError::Away(text));
            }
            Ok(None) => return Ok(body),
            Err(error) => return Err(BackendError::Away(last_cause(&error))),
        }
    }
}

/// Meaning of an unsuccessful answer: given by the contract's body, or, if there is none, by the HTTP status, because
/// then the answer comes from something in between.
fn refused(http: StatusCode, body: &[u8]) -> BackendError {
    match json::decode::<Status>(body) {
        Ok(status) if status.code != 0 && Code::from(status.code) != Code::Unknown => meaning(status),
        _ => {
            let reason = http.canonical_reason().unwrap_or("an unknown status");
            let message = format!("HTTP {}: {reason}", http.as_u16());
            meaning(Status { code: code_of(http).into(), message, details: Vec::new() })
        }
    }
}

/// The gRPC code for an HTTP status without one. A redirect means a wrong address in the settings or something in
/// between: nothing was refused.
fn code_of(http: StatusCode) -> Code {
    match http.as_u16() {
        400 => Code::InvalidArgument,
        401 => Code::Unauthenticated,
        403 => Code::PermissionDenied,
        404 => Code::NotFound,
        409 => Code::Aborted,
        408 | 425 | 429 => Code::Unavailable,
        501 => Code::Unimplemented,
        402..=499 => Code::FailedPrecondition,
        _ => Code::Unavailable,
    }
}
