//! Who has access. Callers can start programs on this machine.
//!
//! | port | programs | browsers |
//! |---|---|---|
//! | on a loopback address, without a key | open: local users can start programs anyhow | cross-site requests are blocked |
//! | with a key, required for every other address | send it as `authorization: Bearer <key>` | ask for it (`Basic`, any name, the key as the password); cross-site requests are blocked |
//!
//! [`Visitors`] blocks cross-site requests, even if there is a key: browsers remember it and send it automatically.

use std::fmt;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use sha2::{Digest as _, Sha256};
use sortie_serving::{Visitors, bearer};
use subtle::ConstantTimeEq as _;
use tonic::Code;

use crate::http_answer::Refused;

/// The only path that needs no access.
pub(super) const HEALTH: &str = "/healthz";

/// Maximum length of an `authorization` header, in bytes.
const MAX_CREDENTIALS_BYTES: usize = 2_048;

/// Challenges for browsers and programs.
const CHALLENGES: [HeaderValue; 2] = [
    HeaderValue::from_static("Bearer"),
    HeaderValue::from_static(
        "Basic realm=\"sortie sidecar: any name, the key as the password\", charset=\"UTF-8\"",
    ),
];

/// A key of the sidecar's, as its SHA-256: keys are long random texts, so a fast hash suffices.
#[derive(Clone)]
pub struct ControlKey([u8; 32]);

impl ControlKey {
    /// `None` for an empty text, which would let everybody in.
    #[must_use]
    pub fn new(key: &str) -> Option<Self> {
        (!key.is_empty()).then(|| Self(Sha256::digest(key).into()))
    }

    /// Whether the credentials in `headers` contain the key.
    pub(crate) fn is_shown(&self, headers: &HeaderMap) -> bool {
        let shown = headers.get(AUTHORIZATION).and_then(|value| shown_key(value.as_bytes()));
        shown.is_some_and(|shown| self.is(&shown))
    }

    /// Constant time.
    fn is(&self, text: &[u8]) -> bool {
        self.0.ct_eq(Sha256::digest(text).as_slice()).into()
    }
}

impl fmt::Debug for ControlKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The hash of a weak key would reveal it.
        f.write_str("ControlKey")
    }
}

/// Who has access.
#[derive(Clone, Debug)]
pub(super) enum Access {
    /// Every caller that uses a name of this machine.
    Open,
    /// Callers with the key.
    Locked(Arc<ControlKey>),
}

impl Access {
    /// Which origins and hosts are accepted.
    pub(super) fn visitors(&self) -> Visitors {
        match self {
            Self::Open => Visitors::without_credentials(),
            Self::Locked(_) => Visitors::with_credentials().at_every_request(),
        }
    }
}

/// Passes `request` on, or refuses it.
pub(super) async fn gate(State(access): State<Access>, request: Request, next: Next) -> Response {
    if request.uri().path() == HEALTH {
        return next.run(request).await;
    }
    let problem = match &access {
        Access::Open => return next.run(request).await,
        Access::Locked(key) if key.is_shown(request.headers()) => return next.run(request).await,
        Access::Locked(_) if request.headers().contains_key(AUTHORIZATION) => {
            "the key in authorization is not this sidecar's"
        }
        Access::Locked(_) => "this needs authorization: Bearer <key>",
    };
    let mut response = Refused::new(Code::Unauthenticated, "unauthenticated", problem).into_response();
    for challenge in CHALLENGES {
        response.headers_mut().append(WWW_AUTHENTICATE, challenge);
    }
    response
}

/// The key in the credentials, of either scheme.
fn shown_key(credentials: &[u8]) -> Option<Vec<u8>> {
    if credentials.len() > MAX_CREDENTIALS_BYTES {
        return None;
    }
    if let Some(key) = bearer(credentials) {
        return Some(key.as_bytes().to_vec());
    }
    let at = credentials.iter().position(|byte| *byte == b' ')?;
    let (scheme, value) = credentials.split_at(at);
    let value = value.trim_ascii();
    if !scheme.eq_ignore_ascii_case(b"basic") {
        return None;
    }
    let pair = BASE64_STANDARD.decode(value).ok()?;
    let colon = pair.iter().position(|byte| *byte == b':')?;
    pair.get(colon + 1..).map(<[u8]>::to_vec)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_shown_as_bearer_or_as_the_password() {
        let key = ControlKey::new("s3cret").unwrap();
        let is_good =
            |text: &str| key.is_shown(&HeaderMap::from_iter([(AUTHORIZATION, text.parse().unwrap())]));
        let basic = |pair: &str| format!("Basic {}", BASE64_STANDARD.encode(pair));
        for good in ["Bearer s3cret", "bearer  s3cret", &basic("me:s3cret"), &basic(":s3cret")] {
            assert!(is_good(good), "{good}");
        }
        let long = format!("Bearer {}", "x".repeat(MAX_CREDENTIALS_BYTES));
        for bad in [
            "Bearer s3cre",
            "Bearer s3crett",
            "Bearer",
            "Bearer ",
            "s3cret",
            "Basic s3cret",
            &basic("s3cret:me"),
            &basic("s3cret"),
            "Basic ====",
            "Digest s3cret",
            &long,
        ] {
            assert!(!is_good(bad), "{bad}");
        }
        assert!(!key.is_shown(&HeaderMap::new()));
    }

    #[test]
    fn a_key_is_not_shown_and_not_empty() {
        assert!(ControlKey::new("").is_none());
        assert_eq!(
            format!("{:?}", Access::Locked(Arc::new(ControlKey::new("s3cret").unwrap()))),
            "Locked(ControlKey)"
        );
    }
}
