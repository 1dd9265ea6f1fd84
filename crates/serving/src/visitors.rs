//! Which hosts a request may name, and which web pages may send it.
//!
//! Any web page that is open in a browser on the same machine or network can send requests to a server, even to one
//! that listens on loopback only. Browsers then say which page sent a request: `Origin` ([Fetch, section
//! 3.2](https://fetch.spec.whatwg.org/#origin-header)), with every websocket ([RFC 6455, section
//! 10.2](https://www.rfc-editor.org/rfc/rfc6455#section-10.2)) and with every request that is more than a plain `GET`;
//! with the others at least that it comes from another site (`Sec-Fetch-Site`, [Fetch
//! Metadata](https://www.w3.org/TR/fetch-metadata/#sec-fetch-site-header)). A page can evade that if its owner's host
//! name suddenly resolves to this machine's address (DNS rebinding): page and request then have the same host name, so
//! the name itself has to be checked.
//!
//! If callers need a credential, foreign pages have none, and CORS decides what they may read. Only websockets ignore
//! CORS, so their pages are always checked. If no credential is needed, host and page are checked in every request.
//! Programs send no `Origin`, and name the host that they call.
//!
//! This is done for whole connections and not by a layer around some routes, so that no route can miss it.

use std::net::IpAddr;

use axum::body::Body;
use axum::http::header::{CONNECTION, CONTENT_TYPE, HOST, ORIGIN, UPGRADE};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, Version};
use axum::response::Response;
use sortie_wire::json;
use sortie_wire::status::refusal;
use tonic::Code;

use crate::body::json_response;
use crate::error::error_response;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
/// The stable code of every refusal here.
const FORBIDDEN: &str = "forbidden";
const WRONG_HOST: &str = "this port asks for no key, so it answers only to localhost, to its own address and to \
    configured names, and the request names another host";
const NO_HOST: &str = "the request names no host, or several";
const WRONG_PAGE: &str = "web pages of this origin may not call here: it is neither this host nor among the configured \
    origins";

/// Which hosts and web pages a port allows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Visitors {
    /// Names in addition to this machine's own; `None` if any name is allowed.
    hosts: Option<Vec<String>>,
    /// Whether the page is checked in every request, and not only for websockets.
    every_request: bool,
    /// Whether pages that this machine serves on other ports are allowed.
    loopback_pages: bool,
    /// Origins of other allowed pages, as browsers write them.
    origins: Vec<String>,
}

impl Visitors {
    /// If every caller needs a credential: any host, and websockets of the host's own pages.
    #[must_use]
    pub const fn with_credentials() -> Self {
        Self { hosts: None, every_request: false, loopback_pages: false, origins: Vec::new() }
    }

    /// If nobody does: programs and pages that name this machine, by `localhost`, a loopback address, or the address
    /// that the connection was made to.
    #[must_use]
    pub const fn without_credentials() -> Self {
        Self { hosts: Some(Vec::new()), every_request: true, loopback_pages: false, origins: Vec::new() }
    }

    /// Also allows callers to name these hosts. Without effect if any name is allowed.
    #[must_use]
    pub fn and_hosts(mut self, more: impl IntoIterator<Item = String>) -> Self {
        if let Some(hosts) = &mut self.hosts {
            hosts.extend(more);
        }
        self
    }

    /// Also allows pages of these origins: `https://play.example.com`, `capacitor://localhost`, `null`.
    #[must_use]
    pub fn and_origins(mut self, more: impl IntoIterator<Item = String>) -> Self {
        self.origins.extend(more);
        self
    }

    /// Also allows pages of `localhost` and loopback addresses with any port: a process that serves one on this machine
    /// can call without a browser, too.
    #[must_use]
    pub fn and_loopback_pages(self) -> Self {
        Self { loopback_pages: true, ..self }
    }

    /// Also checks the page in every request: for a port whose credential browsers store and send automatically.
    #[must_use]
    pub fn at_every_request(self) -> Self {
        Self { every_request: true, ..self }
    }

    /// The response to a request that is refused. `local` is the address that its connection was made to.
    pub(crate) fn refuse<B>(&self, request: &Request<B>, local: Option<IpAddr>) -> Option<Response> {
        let problem = self.judge(request, local).err()?;
        let status = if problem == NO_HOST { StatusCode::BAD_REQUEST } else { StatusCode::FORBIDDEN };
        Some(refusal_response(request, status, problem))
    }

    fn judge<B>(&self, request: &Request<B>, local: Option<IpAddr>) -> Result<(), &'static str> {
        let headers = request.headers();
        let asks_for_socket = *request.method() == Method::CONNECT || headers.contains_key(UPGRADE);
        if self.hosts.is_none() && !self.every_request && !(asks_for_socket && headers.contains_key(ORIGIN)) {
            return Ok(());
        }
        let named = named_hosts(request.uri(), headers).ok_or(NO_HOST)?;
        // HTTP/1.0 has no `Host`, and no browser speaks it.
        if named.is_empty() && request.version() > Version::HTTP_10 {
            return Err(NO_HOST);
        }
        if let Some(hosts) = &self.hosts
            && !named.iter().all(|host| is_this_machine(host, local) || is_among(host, hosts))
        {
            return Err(WRONG_HOST);
        }
        if self.every_request || asks_for_socket { self.judge_page(headers, &named) } else { Ok(()) }
    }

    fn judge_page(&self, headers: &HeaderMap, named: &[Authority]) -> Result<(), &'static str> {
        let mut origins = headers.get_all(ORIGIN).iter().peekable();
        if origins.peek().is_none() {
            let site = headers.get(SEC_FETCH_SITE).map(HeaderValue::as_bytes);
            let is_foreign =
                site == Some(b"cross-site") || site == Some(b"same-site") && !self.loopback_pages;
            return if self.every_request && is_foreign { Err(WRONG_PAGE) } else { Ok(()) };
        }
        let is_good = |origin: &HeaderValue| {
            let listed = |one: &String| origin.as_bytes().eq_ignore_ascii_case(one.as_bytes());
            self.origins.iter().any(listed) || self.is_own_page(origin, named)
        };
        if origins.all(is_good) { Ok(()) } else { Err(WRONG_PAGE) }
    }

    /// Whether a page comes from the host that the request names. The schemes may differ: a proxy may terminate TLS.
    fn is_own_page(&self, origin: &HeaderValue, named: &[Authority]) -> bool {
        let Ok(origin) = Uri::try_from(origin.as_bytes()) else { return false };
        let usual_port = match origin.scheme_str() {
            Some("http") => 80,
            Some("https") => 443,
            _ => return false,
        };
        let Some(page) = origin.authority() else { return false };
        let port = |of: &Authority| of.port_u16().unwrap_or(usual_port);
        let is_same =
            |host: &Authority| host.host().eq_ignore_ascii_case(page.host()) && port(host) == port(page);
        self.loopback_pages && is_loopback(page) || !named.is_empty() && named.iter().all(is_same)
    }
}

/// Every host that the request names: HTTP/2 and proxies have it in the URI. `None` if one of them is invalid, or there
/// are several headers.
fn named_hosts(uri: &Uri, headers: &HeaderMap) -> Option<Vec<Authority>> {
    let mut header = headers.get_all(HOST).iter();
    let in_header = match (header.next(), header.next()) {
        (None, _) => None,
        (Some(host), None) => Some(Authority::try_from(host.as_bytes()).ok()?),
        (Some(_), Some(_)) => return None,
    };
    let hosts: Vec<_> = uri.authority().cloned().into_iter().chain(in_header).collect();
    // A name before an `@` is not part of the host.
    (!hosts.iter().any(|host| host.as_str().contains('@'))).then_some(hosts)
}

fn address(host: &Authority) -> Option<IpAddr> {
    let name = host.host();
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    bare.parse::<IpAddr>().ok().map(|ip| ip.to_canonical())
}

fn is_loopback(host: &Authority) -> bool {
    host.host().eq_ignore_ascii_case("localhost") || address(host).is_some_and(|ip| ip.is_loopback())
}

fn is_this_machine(host: &Authority, local: Option<IpAddr>) -> bool {
    is_loopback(host) || address(host).is_some_and(|ip| Some(ip) == local.map(|local| local.to_canonical()))
}

fn is_among(host: &Authority, hosts: &[String]) -> bool {
    hosts.iter().any(|name| {
        let same_address = || Some(name.parse::<IpAddr>().ok()?.to_canonical() == address(host)?);
        host.host().eq_ignore_ascii_case(name) || same_address().unwrap_or(false)
    })
}

/// Whether this is a path of the dispatcher's drivers, which have their own form of errors.
fn is_drivers(path: &str) -> bool {
    path.starts_with("/api/server/") && path.ends_with("_dispatch") || path.starts_with("/api/dispatch/")
}

/// In the form that the caller understands. gRPC callers also get the HTTP status, which their clients translate
/// (<https://github.com/grpc/grpc/blob/master/doc/http-grpc-status-mapping.md>), and which browsers see.
fn refusal_response<B>(request: &Request<B>, status: StatusCode, problem: &str) -> Response {
    let code = if status == StatusCode::FORBIDDEN { Code::PermissionDenied } else { Code::InvalidArgument };
    let reason = if status == StatusCode::FORBIDDEN { FORBIDDEN } else { "invalid_field" };
    let content_type = request.headers().get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    let mut response = if content_type.is_some_and(|text| text.starts_with(b"application/grpc")) {
        let mut response: Response = tonic::Status::new(code, problem).into_http::<Body>();
        *response.status_mut() = status;
        response
    } else if is_drivers(request.uri().path()) {
        json_response(status, serde_json::json!({"error": problem}).to_string().into_bytes())
    } else if request.uri().path().starts_with("/api/") {
        json_response(status, json::encode(&refusal(code, reason, problem)).unwrap_or_default())
    } else {
        error_response(status, reason, problem, None)
    };
    // The rest of its body is not awaited.
    if request.version() <= Version::HTTP_11 {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(headers: &[(&str, &str)]) -> Request<()> {
        let request = Request::get("/v1/matches");
        headers.iter().fold(request, |request, (name, value)| request.header(*name, *value)).body(()).unwrap()
    }

    fn local() -> Option<IpAddr> {
        Some("192.0.2.7".parse().unwrap())
    }

    fn status(visitors: &Visitors, request: &Request<()>) -> u16 {
        visitors.refuse(request, local()).map_or(200, |response| response.status().as_u16())
    }

    fn found(visitors: &Visitors, headers: &[(&str, &str)]) -> u16 {
        status(visitors, &request(headers))
    }

    #[test]
    fn without_a_key_only_hosts_of_this_machine() {
        let open =
            Visitors::without_credentials().and_hosts(["box.lan".to_owned(), "2001:db8::1".to_owned()]);
        for host in [
            "localhost",
            "LOCALHOST:7400",
            "127.0.0.1:7400",
            "127.9.9.9",
            "[::1]:7400",
            "[::ffff:127.0.0.1]",
            "192.0.2.7:7400",
            "[::ffff:192.0.2.7]:7400",
            "Box.LAN",
            "box.lan:80",
            "[2001:db8::1]:7400",
        ] {
            assert_eq!(found(&open, &[("host", host)]), 200, "{host}");
        }
        for host in [
            "evil.example:7400",
            "10.0.0.1",
            "0.0.0.0:7400",
            "[::]:7400",
            "localhost.evil.example",
            "evil.localhost",
            "127.0.0.1.evil.example",
            "box.lan.evil.example",
            "192.0.2.70",
            "[2001:db8::2]",
        ] {
            assert_eq!(found(&open, &[("host", host)]), 403, "{host}");
            // After DNS rebinding the page has the same name.
            assert_eq!(found(&open, &[("host", host), ("origin", &format!("http://{host}"))]), 403, "{host}");
        }
    }

    #[test]
    fn a_request_names_one_host() {
        let open = Visitors::without_credentials();
        for wrong in [&[][..], &[("host", "")], &[("host", "localhost@evil.example")], &[("host", "a b")]] {
            assert_eq!(found(&open, wrong), 400, "{wrong:?}");
        }
        assert_eq!(found(&open, &[("host", "localhost"), ("host", "localhost")]), 400);
        let mut old = request(&[]);
        *old.version_mut() = Version::HTTP_10;
        assert_eq!(status(&open, &old), 200, "HTTP/1.0 has no Host");
        // HTTP/2 has the host in the URI; if a caller sends both, both count.
        for (authority, host, wanted) in [
            ("localhost:7400", None, 200),
            ("evil.example", None, 403),
            ("localhost:7400", Some("localhost:7400"), 200),
            ("localhost:7400", Some("evil.example"), 403),
            ("evil.example", Some("localhost:7400"), 403),
        ] {
            let headers = host.map(|host| ("host", host));
            let mut request = request(headers.as_slice());
            *request.uri_mut() = format!("http://{authority}/v1/matches").parse().unwrap();
            assert_eq!(status(&open, &request), wanted, "{authority} {host:?}");
        }
    }

    #[test]
    fn without_a_key_only_pages_of_this_host_and_configured_ones() {
        let listed = ["https://play.example.com", "capacitor://localhost", "null"].map(ToOwned::to_owned);
        let strict = Visitors::without_credentials();
        let open = strict.clone().and_loopback_pages().and_origins(listed);
        for (origin, by_strict, by_open) in [
            ("http://localhost:7400", 200, 200),
            ("https://localhost:7400", 200, 200),
            ("http://LOCALHOST:7400", 200, 200),
            ("http://localhost:8080", 403, 200),
            ("http://127.0.0.1:8080", 403, 200),
            ("http://[::1]:8080", 403, 200),
            ("https://play.example.com", 403, 200),
            ("capacitor://localhost", 403, 200),
            ("null", 403, 200),
            ("tauri://localhost", 403, 403),
            ("https://play.example.com:8443", 403, 403),
            ("http://play.example.com", 403, 403),
            ("https://evil.example", 403, 403),
            ("https://evil.example:7400", 403, 403),
            ("http://localhost.evil.example:7400", 403, 403),
            ("http://localhost:7400@evil.example", 403, 403),
            ("localhost:7400", 403, 403),
            ("file://", 403, 403),
            ("http://", 403, 403),
            ("", 403, 403),
        ] {
            let headers = [("host", "localhost:7400"), ("origin", origin)];
            assert_eq!(found(&strict, &headers), by_strict, "{origin:?}");
            assert_eq!(found(&open, &headers), by_open, "{origin:?}");
        }
        let two = [("host", "localhost"), ("origin", "http://localhost"), ("origin", "https://evil.example")];
        assert_eq!(found(&open, &two), 403);
        // Browsers omit the default port.
        assert_eq!(found(&strict, &[("host", "localhost:80"), ("origin", "http://localhost")]), 200);
        assert_eq!(found(&strict, &[("host", "localhost"), ("origin", "http://localhost:8080")]), 403);
    }

    #[test]
    fn a_request_without_origin_says_at_least_from_which_site_it_comes() {
        let open = Visitors::without_credentials().and_loopback_pages();
        for (site, wanted) in [("none", 200), ("same-origin", 200), ("same-site", 200), ("cross-site", 403)] {
            assert_eq!(found(&open, &[("host", "localhost"), ("sec-fetch-site", site)]), wanted, "{site}");
        }
        let strict = Visitors::without_credentials();
        assert_eq!(found(&strict, &[("host", "localhost"), ("sec-fetch-site", "same-site")]), 403);
    }

    #[test]
    fn with_a_key_only_websockets_of_foreign_pages_are_refused() {
        let keyed = Visitors::with_credentials().and_origins(["https://play.example.com".to_owned()]);
        let evil = [("host", "sortie.example.com"), ("origin", "https://evil.example")];
        assert_eq!(found(&keyed, &evil), 200, "what it may read is said by CORS");
        for (origin, wanted) in [
            (None, 200),
            (Some("https://sortie.example.com"), 200),
            (Some("https://play.example.com"), 200),
            (Some("https://evil.example"), 403),
            (Some("https://play.example.com.evil.example"), 403),
            (Some("http://localhost:8080"), 403),
            (Some("null"), 403),
        ] {
            let mut headers = vec![("host", "sortie.example.com"), ("upgrade", "websocket")];
            headers.extend(origin.map(|origin| ("origin", origin)));
            assert_eq!(found(&keyed, &headers), wanted, "{origin:?}");
        }
        let kept = Visitors::with_credentials().at_every_request();
        assert_eq!(found(&kept, &evil), 403, "browsers keep the credential");
        assert_eq!(found(&kept, &evil[..1]), 200);
    }

    #[test]
    fn refusals_have_the_form_of_what_was_called() {
        let refused = |path: &str, content_type: &str| {
            let request =
                Request::post(path).header("host", "evil.example").header(CONTENT_TYPE, content_type);
            Visitors::without_credentials().refuse(&request.body(()).unwrap(), None).unwrap()
        };
        for content_type in ["application/grpc", "application/grpc-web+proto", "application/grpc-web-text"] {
            let response = refused("/grpc.health.v1.Health/Check", content_type);
            assert_eq!(
                (response.status().as_u16(), &response.headers()["grpc-status"]),
                (403, &"7".parse().unwrap())
            );
        }
        assert_eq!(refused("/v1/matches", "text/plain").status(), 403);
    }
}
