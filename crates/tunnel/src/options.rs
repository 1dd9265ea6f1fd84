//! A tunnel's options: what it connects, its token, every limit.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use sortie_dispatch::Protocol;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::endpoint::Endpoint;

/// Accepts every device.
pub(crate) const EVERYONE: &str = "0.0.0.0/0,::/0";
/// Maximum length of a token, in bytes.
const MAX_TOKEN_BYTES: u64 = 4 << 10;

/// Authenticates the tunnel to the dispatcher: its secret, or a dispatch token. `Debug` output does not show it.
#[derive(Clone)]
pub struct Token(Zeroizing<String>);

impl Token {
    /// A token, with surrounding white space removed.
    ///
    /// # Errors
    /// [`TokenError::Text`] if it cannot be sent.
    pub fn new(text: String) -> Result<Self, TokenError> {
        let text = Zeroizing::new(text);
        let token = text.trim();
        let fits = !token.is_empty() && token.bytes().all(|byte| matches!(byte, b' '..=b'~'));
        if fits { Ok(Self(Zeroizing::new(token.to_owned()))) } else { Err(TokenError::Text) }
    }

    pub(crate) fn text(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// Why there is no token.
#[derive(Debug, Error)]
pub enum TokenError {
    /// It is empty, or has characters that an HTTP header cannot carry.
    #[error("the token is empty or has characters other than printable ASCII")]
    Text,
    /// Its file cannot be read.
    #[error("cannot read {}: {error}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's error.
        error: io::Error,
    },
    /// Its file contains no token.
    #[error("{} contains no token: it must be printable ASCII, at most {MAX_TOKEN_BYTES} bytes", .0.display())]
    File(PathBuf),
}

/// Where the token comes from.
#[derive(Clone, Debug)]
pub enum TokenSource {
    /// No token: for a dispatcher in development mode.
    None,
    /// A fixed token.
    Fixed(Token),
    /// A file that is read for each websocket, because dispatch tokens expire.
    File(PathBuf),
}

impl TokenSource {
    /// The current token.
    pub(crate) fn token(&self) -> Result<Option<Token>, TokenError> {
        match self {
            Self::None => Ok(None),
            Self::Fixed(token) => Ok(Some(token.clone())),
            Self::File(path) => {
                let unreadable = |error| TokenError::Unreadable { path: path.clone(), error };
                let mut text = String::new();
                let file = File::open(path).map_err(unreadable)?;
                file.take(MAX_TOKEN_BYTES + 1).read_to_string(&mut text).map_err(unreadable)?;
                let is_too_long = text.len() as u64 > MAX_TOKEN_BYTES;
                let token = Token::new(text).ok().filter(|_| !is_too_long);
                token.map(Some).ok_or_else(|| TokenError::File(path.clone()))
            }
        }
    }
}

/// `host:port` of the local server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Target {
    /// A name or an address, without brackets.
    pub host: String,
    /// Its port, above 0.
    pub port: u16,
}

/// A text is not `host:port`.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("{0:?} is not a host with a port from 1 to 65535, like 127.0.0.1:7777 or [::1]:7777")]
pub struct TargetError(String);

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        let wrong = || TargetError(text.to_owned());
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let is_bad = host.is_empty() || bare.is_none() && host.contains([':', '[', ']']);
        let is_number = port.bytes().all(|byte| byte.is_ascii_digit());
        let port = port.parse().ok().filter(|port| is_number && *port > 0);
        match port {
            Some(port) if !is_bad => Ok(Self { host: bare.unwrap_or(host).to_owned(), port }),
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

/// What a tunnel does.
#[derive(Clone, Debug)]
pub struct TunnelOptions {
    /// The dispatcher.
    pub dispatcher: Endpoint,
    /// The port to open.
    pub port: u16,
    /// Its protocols: each has a websocket of its own.
    pub protocols: Vec<Protocol>,
    /// Which devices may connect: addresses and ranges, separated by commas.
    pub accept: String,
    /// The local server.
    pub target: Target,
    /// Where its token comes from.
    pub token: TokenSource,
    /// PEM file with roots to trust in addition to the system's.
    pub ca: Option<PathBuf>,
    /// Every limit.
    pub limits: Limits,
}

impl TunnelOptions {
    /// TCP and UDP for every device, without a token.
    #[must_use]
    pub fn new(dispatcher: Endpoint, port: u16, target: Target) -> Self {
        Self {
            dispatcher,
            port,
            protocols: vec![Protocol::Tcp, Protocol::Udp],
            accept: EVERYONE.to_owned(),
            target,
            token: TokenSource::None,
            ca: None,
            limits: Limits::default(),
        }
    }
}

/// Every limit of a tunnel, each with its unit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Concurrent local connections (TCP); devices beyond that are disconnected.
    pub connections: usize,
    /// Bytes that may wait for one local connection.
    pub connection_bytes: usize,
    /// The same for all of them together.
    pub waiting_bytes: usize,
    /// How long a local connection may keep the other devices waiting before its device is disconnected.
    pub patience: Duration,
    /// How long a local connection may take nothing while its device is the only one. Shorter than a dispatcher's
    /// timeout for a driver that takes nothing.
    pub lone_patience: Duration,
    /// How long a local connection may take nothing while something waits for it and its device sends nothing more.
    pub write_time: Duration,
    /// How long the local server may take to accept a connection.
    pub connect_time: Duration,
    /// How long the local server has for the next bytes to a device that sends nothing more: the time that a dispatcher
    /// keeps it connected.
    pub half_close_time: Duration,
    /// How long it has in total: frames do not say when such a device is gone, and a server that keeps sending would
    /// send to nobody.
    pub half_close_limit: Duration,
    /// Concurrent local sockets (UDP), one per peer.
    pub peers: usize,
    /// A peer's socket is closed when it has been idle this long.
    pub peer_idle: Duration,
    /// When there are too many peers, the one that has been silent longest is removed, if it has been silent this long.
    pub peer_rest: Duration,
    /// Timeout for opening a websocket.
    pub open_time: Duration,
    /// Interval between two pings.
    pub ping_period: Duration,
    /// A dispatcher that has been silent this long is given up.
    pub silence: Duration,
    /// How long data in flight may take at a graceful shutdown.
    pub close_time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 4_096,
            connection_bytes: 1 << 20,
            waiting_bytes: 64 << 20,
            patience: Duration::from_secs(2),
            lone_patience: Duration::from_secs(8),
            write_time: Duration::from_secs(60),
            connect_time: Duration::from_secs(5),
            half_close_time: Duration::from_secs(10),
            half_close_limit: Duration::from_secs(2 * 60),
            peers: 1_024,
            peer_idle: Duration::from_secs(60),
            peer_rest: Duration::from_secs(5),
            open_time: Duration::from_secs(10),
            ping_period: Duration::from_secs(15),
            silence: Duration::from_secs(45),
            close_time: Duration::from_secs(5),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_hosts_with_ports() {
        for (text, host, port) in [
            ("127.0.0.1:7777", "127.0.0.1", 7777),
            ("[::1]:1", "::1", 1),
            ("game.example.org:65535", "game.example.org", 65_535),
        ] {
            let target: Target = text.parse().unwrap();
            assert_eq!((target.host.as_str(), target.port), (host, port));
            assert_eq!(target.to_string(), text);
        }
        for bad in
            ["", "7777", ":7777", "host", "host:", "host:0", "host:70000", "host:+1", "::1:7777", "[::1:7"]
        {
            assert_eq!(bad.parse::<Target>(), Err(TargetError(bad.to_owned())));
        }
    }

    #[test]
    fn tokens_are_read_from_their_file_each_time_and_not_shown() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let source = TokenSource::File(path.clone());
        assert!(matches!(source.token(), Err(TokenError::Unreadable { .. })));
        for (text, token) in
            [("hush\n", Some("hush")), ("rush", Some("rush")), ("\n", None), ("h\u{fc}sh", None)]
        {
            std::fs::write(&path, text).unwrap();
            assert_eq!(source.token().ok().flatten().as_ref().map(Token::text), token);
        }
        std::fs::write(&path, "a".repeat(5_000)).unwrap();
        assert!(matches!(source.token(), Err(TokenError::File(_))));
        assert_eq!(format!("{:?}", Token::new("hush".to_owned()).unwrap()), "Token(…)");
    }
}
