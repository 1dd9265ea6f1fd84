//! The address of the dispatcher.

use std::fmt;

use sortie_dispatch::Protocol;
use thiserror::Error;
use url::Url;

/// The path family that a tunnel uses.
const FAMILY: &str = "/api/dispatch/v1";

/// Why a text is not the address of a dispatcher.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum EndpointError {
    /// Not a URL.
    #[error("{0:?} is not a URL: give one like ws://host:3000 or wss://host:3000")]
    NoUrl(String),
    /// The scheme is not for websockets.
    #[error("a websocket cannot be opened with {0}: give ws:// or wss://")]
    Scheme(String),
    /// It has parts that it must not have. Not repeated, because they may be secret.
    #[error(
        "the URL of a dispatcher must not have a user, query or fragment; pass the secret by file or environment"
    )]
    TooMuch,
}

/// The base address of a dispatcher: `ws` or `wss` (or `http`, `https`), host, port, and an optional path that precedes
/// the dispatcher's own.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Endpoint {
    host: String,
    port: u16,
    is_tls: bool,
    /// Without a trailing slash.
    path: String,
}

impl Endpoint {
    /// Parses a URL.
    ///
    /// # Errors
    /// [`EndpointError`]
    pub fn parse(text: &str) -> Result<Self, EndpointError> {
        let no_url =
            || EndpointError::NoUrl(text.split(['?', '@', '#']).next().unwrap_or_default().to_owned());
        let url = Url::parse(text).map_err(|_| no_url())?;
        let is_tls = match url.scheme() {
            "ws" | "http" => false,
            "wss" | "https" => true,
            other => return Err(EndpointError::Scheme(other.to_owned())),
        };
        let has_user = !url.username().is_empty() || url.password().is_some();
        if has_user || url.query().is_some() || url.fragment().is_some() {
            return Err(EndpointError::TooMuch);
        }
        Ok(Self {
            host: url.host_str().filter(|host| !host.is_empty()).ok_or_else(no_url)?.to_owned(),
            port: url.port_or_known_default().filter(|port| *port > 0).ok_or_else(no_url)?,
            is_tls,
            path: url.path().trim_end_matches('/').to_owned(),
        })
    }

    /// The dispatcher's host, without the brackets of an IPv6 address.
    #[must_use]
    pub fn host(&self) -> &str {
        self.host.trim_matches(['[', ']'])
    }

    /// `host:port` where devices reach a dispatched port.
    #[must_use]
    pub fn dispatched(&self, port: u16) -> String {
        format!("{}:{port}", self.host)
    }

    pub(crate) const fn port(&self) -> u16 {
        self.port
    }

    pub(crate) const fn is_tls(&self) -> bool {
        self.is_tls
    }

    /// The URL of a websocket. It contains no secret, because intermediaries log URLs.
    pub(crate) fn websocket(&self, protocol: Protocol, port: u16, accept: &str) -> String {
        let query = form_urlencoded::Serializer::new(String::new())
            .append_pair("port", &port.to_string())
            .append_pair("accept", accept)
            .finish();
        let route = match protocol {
            Protocol::Tcp => "tcp_dispatch",
            Protocol::Udp => "udp_dispatch",
        };
        format!("{self}{FAMILY}/{route}?{query}")
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_tls { "wss" } else { "ws" };
        write!(f, "{scheme}://{}:{}{}", self.host, self.port, self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn websocket(text: &str) -> String {
        Endpoint::parse(text).unwrap().websocket(Protocol::Udp, 7777, "0.0.0.0/0,::/0")
    }

    #[test]
    fn urls_become_those_of_websockets() {
        let rest = "/api/dispatch/v1/udp_dispatch?port=7777&accept=0.0.0.0%2F0%2C%3A%3A%2F0";
        assert_eq!(websocket("ws://play.example.org:3000"), format!("ws://play.example.org:3000{rest}"));
        assert_eq!(websocket("wss://play.example.org"), format!("wss://play.example.org:443{rest}"));
        assert_eq!(websocket("https://play.example.org/eu/"), format!("wss://play.example.org:443/eu{rest}"));
        assert_eq!(websocket("http://[2001:db8::1]:3000/"), format!("ws://[2001:db8::1]:3000{rest}"));
        let endpoint = Endpoint::parse("ws://[::1]:3000").unwrap();
        assert_eq!((endpoint.host(), endpoint.port(), endpoint.is_tls()), ("::1", 3000, false));
        assert_eq!(endpoint.dispatched(7777), "[::1]:7777");
    }

    #[test]
    fn an_invalid_address_is_refused_without_showing_secrets() {
        for (text, error) in [
            ("play.example.org:3000", EndpointError::Scheme("play.example.org".to_owned())),
            ("", EndpointError::NoUrl(String::new())),
            ("ws://", EndpointError::NoUrl("ws://".to_owned())),
            ("ws://host:0", EndpointError::NoUrl("ws://host:0".to_owned())),
            ("ws://host:70000", EndpointError::NoUrl("ws://host:70000".to_owned())),
            ("ftp://host", EndpointError::Scheme("ftp".to_owned())),
            ("ws://user:hush@host", EndpointError::TooMuch),
            ("ws://host?bearer_token=hush", EndpointError::TooMuch),
            ("ws://host:x?bearer_token=hush", EndpointError::NoUrl("ws://host:x".to_owned())),
            ("ws://host#hush", EndpointError::TooMuch),
        ] {
            assert_eq!(Endpoint::parse(text), Err(error), "{text}");
        }
    }
}
