//! Who may come in. Whoever does can start programs on this machine.
//!
//! | the port | programs | browsers |
//! |---|---|---|
//! | on a loopback address, without a key | open: who is on the machine can start programs anyhow | pages of others are kept out |
//! | with a key, which every other address needs | show it as `authorization: Bearer <key>` | ask for it (`Basic`, any name, the key as the password); pages of others are kept out |
//!
//! A page of somebody else that runs in the operator's browser can send requests here. Browsers say from which page one
//! comes (`Origin`), unless it only reads and cannot see the answer. One way around that is a name of the attacker's that
//! suddenly has the address 127.0.0.1 (DNS rebinding): then the page and its request have the same name, which is why
//! without a key only the names of this machine itself are good.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, HOST, ORIGIN, WWW_AUTHENTICATE};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use tonic::Code;

use crate::http_answer::Refused;

/// The one path that is for everybody.
pub(super) const HEALTH: &str = "/healthz";

/// Longest value of an `authorization` header that is looked at, in bytes.
const MAX_CREDENTIALS_BYTES: usize = 2_048;

/// What a browser or a program is asked for.
const CHALLENGES: [HeaderValue; 2] = [
    HeaderValue::from_static("Bearer"),
    HeaderValue::from_static(
        "Basic realm=\"sortie sidecar: any name, the key as the password\", charset=\"UTF-8\"",
    ),
];

/// The key of the sidecar's own API, as its SHA-256: keys are long random texts, so that a fast hash will do.
#[derive(Clone)]
pub struct ControlKey([u8; 32]);

impl ControlKey {
    /// `None` for an empty text, which would let everybody in.
    #[must_use]
    pub fn new(key: &str) -> Option<Self> {
        (!key.is_empty()).then(|| Self(Sha256::digest(key).into()))
    }

    /// In a time that tells nothing about the key.
    fn is(&self, text: &[u8]) -> bool {
        self.0.ct_eq(Sha256::digest(text).as_slice()).into()
    }
}

impl fmt::Debug for ControlKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Whoever sees the hash of a weak key can guess the key.
        f.write_str("ControlKey")
    }
}

/// Who may come in.
#[derive(Clone, Debug)]
pub(super) enum Door {
    /// Everybody who names this machine.
    Open,
    /// Who has the key.
    Locked(Arc<ControlKey>),
}

/// Lets `request` pass, or answers it.
pub(super) async fn gate(State(door): State<Door>, request: Request, next: Next) -> Response {
    if request.uri().path() == HEALTH {
        return next.run(request).await;
    }
    match admit(&door, request.uri(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(Denied::Stranger(problem)) => {
            Refused::new(Code::PermissionDenied, "forbidden", problem).into_response()
        }
        Err(Denied::NoKey(problem)) => {
            let refused = Refused::new(Code::Unauthenticated, "unauthenticated", problem);
            let mut response = refused.into_response();
            for challenge in CHALLENGES {
                response.headers_mut().append(WWW_AUTHENTICATE, challenge);
            }
            response
        }
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Denied {
    /// A page of somebody else.
    Stranger(&'static str),
    NoKey(&'static str),
}

fn admit(door: &Door, uri: &Uri, headers: &HeaderMap) -> Result<(), Denied> {
    let host = host(uri, headers).ok_or(Denied::Stranger("the request does not name one host"))?;
    if headers.contains_key(ORIGIN) && !is_own_page(headers, &host) {
        return Err(Denied::Stranger("pages of other origins may not use this API"));
    }
    match door {
        Door::Open if is_this_machine(&host) => Ok(()),
        Door::Open => Err(Denied::Stranger(
            "without an API key this port is for localhost, 127.0.0.1 or [::1], and the request names another host",
        )),
        Door::Locked(key) => {
            let credentials = headers.get(AUTHORIZATION);
            let credentials = credentials.ok_or(Denied::NoKey("this needs authorization: Bearer <key>"))?;
            let shown = shown_key(credentials.as_bytes());
            let is_good = shown.is_some_and(|shown| key.is(&shown));
            is_good
                .then_some(())
                .ok_or(Denied::NoKey("the key in authorization is not the one of this sidecar"))
        }
    }
}

/// The name that the request was sent to; HTTP/2 has it in the URI. `None` if there is not exactly one.
fn host(uri: &Uri, headers: &HeaderMap) -> Option<Authority> {
    let mut named = headers.get_all(HOST).iter();
    match (named.next(), named.next()) {
        (Some(host), None) => Authority::try_from(host.as_bytes()).ok(),
        (None, _) => uri.authority().cloned(),
        _ => None,
    }
}

fn is_this_machine(host: &Authority) -> bool {
    let name = host.host();
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    name.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Whether the page that sends the request comes from here. `null` is the page of nobody known.
fn is_own_page(headers: &HeaderMap, host: &Authority) -> bool {
    let is_own = |origin: &HeaderValue| {
        let origin = Uri::try_from(origin.as_bytes()).ok();
        origin.is_some_and(|origin| origin.scheme().is_some() && origin.authority() == Some(host))
    };
    headers.get_all(ORIGIN).iter().all(is_own)
}

/// The key in the credentials, whichever way they show one.
fn shown_key(credentials: &[u8]) -> Option<Vec<u8>> {
    if credentials.len() > MAX_CREDENTIALS_BYTES {
        return None;
    }
    let at = credentials.iter().position(|byte| *byte == b' ')?;
    let (scheme, value) = credentials.split_at(at);
    let value = value.trim_ascii();
    if scheme.eq_ignore_ascii_case(b"bearer") {
        return Some(value.to_vec());
    }
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

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    fn admitted(door: &Door, pairs: &[(&'static str, &str)]) -> Result<(), Denied> {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(*name, value.parse().unwrap());
        }
        admit(door, &Uri::from_static("/api/v1/servers"), &map)
    }

    #[test]
    fn without_a_key_only_this_machine_and_its_own_page() {
        let is_in = |pairs: &[(&'static str, &str)]| admitted(&Door::Open, pairs).is_ok();
        for host in ["localhost", "LOCALHOST:8081", "127.0.0.1:8081", "127.9.9.9", "[::1]:8081"] {
            assert!(is_in(&[("host", host)]), "{host}");
            assert!(is_in(&[("host", host), ("origin", &format!("http://{host}"))]), "{host}");
            for origin in
                ["null", "http://evil.example", "https://evil.example:8081", "", "localhost:8081", "http://"]
            {
                assert!(!is_in(&[("host", host), ("origin", origin)]), "{host} {origin}");
            }
        }
        for host in
            ["evil.example:8081", "10.0.0.1", "0.0.0.0:8081", "localhost.evil.example", "[::]:8081", ""]
        {
            assert!(!is_in(&[("host", host)]), "{host}");
            // After DNS rebinding the page has the same name.
            assert!(!is_in(&[("host", host), ("origin", &format!("http://{host}"))]), "{host}");
        }
        assert!(!is_in(&[]));
        assert!(!is_in(&[("host", "localhost"), ("host", "evil.example")]));
        assert!(!is_in(&[("host", "localhost:1"), ("origin", "http://localhost:2")]), "another port's page");
        assert!(!is_in(&[("host", "localhost"), ("origin", "http://localhost"), ("origin", "http://x")]));
        let http2 = Uri::from_static("http://localhost:8081/api/v1/servers");
        assert!(admit(&Door::Open, &http2, &headers(&[])).is_ok());
        let http2 = Uri::from_static("http://evil.example/api/v1/servers");
        assert!(admit(&Door::Open, &http2, &headers(&[])).is_err());
    }

    #[test]
    fn with_a_key_any_name_of_this_machine_but_the_key() {
        let door = Door::Locked(Arc::new(ControlKey::new("s3cret").unwrap()));
        let basic = |pair: &str| format!("Basic {}", BASE64_STANDARD.encode(pair));
        for good in ["Bearer s3cret", "bearer  s3cret", &basic("me:s3cret"), &basic(":s3cret")] {
            assert_eq!(
                admitted(&door, &[("host", "box.lan:8081"), ("authorization", good)]),
                Ok(()),
                "{good}"
            );
            let foreign = [("host", "box.lan"), ("authorization", good), ("origin", "http://evil.example")];
            assert!(matches!(admitted(&door, &foreign), Err(Denied::Stranger(_))));
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
            let found = admitted(&door, &[("host", "box.lan"), ("authorization", bad)]);
            assert!(matches!(found, Err(Denied::NoKey(_))), "{bad}");
        }
        assert!(matches!(admitted(&door, &[("host", "box.lan")]), Err(Denied::NoKey(_))));
    }

    #[test]
    fn a_key_is_not_shown_and_not_empty() {
        assert!(ControlKey::new("").is_none());
        assert_eq!(
            format!("{:?}", Door::Locked(Arc::new(ControlKey::new("s3cret").unwrap()))),
            "Locked(ControlKey)"
        );
    }
}
