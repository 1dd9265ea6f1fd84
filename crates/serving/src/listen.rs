//! An address to listen on, as written in settings.
//!
//! Not [`SocketAddr`], which has neither names nor the form `":8085"`: programs in Go write "all interfaces" like this,
//! and their settings files work unchanged. As in Go, a name is the first of its IPv4 addresses that can be bound, so
//! that `localhost` is where most clients look for it.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use serde::Deserialize;
use socket2::{Domain, Protocol, Socket, Type};
use thiserror::Error;
use tokio::net::{TcpListener, lookup_host};
use tokio::time::timeout;

/// Maximum length of a host name, in characters: RFC 1035, section 2.3.4.
const MAX_HOST_CHARS: usize = 253;
/// Length of the accept queue.
const BACKLOG: i32 = 1_024;
/// Maximum wait for the name service.
const LOOKUP_DEADLINE: Duration = Duration::from_secs(5);

/// `":8085"`, `"localhost:8081"`, `"0.0.0.0:8080"` or `"[::1]:8080"`. Port 0 picks a free one.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Deserialize)]
#[serde(try_from = "String")]
pub struct ListenAddr {
    host: Host,
    port: u16,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
enum Host {
    /// Every address of this machine, IPv6 and IPv4.
    Every,
    Ip(IpAddr),
    Name(String),
}

/// Why a text is not an address to listen on.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum ListenAddrError {
    /// There is nothing after the last colon, or no colon.
    #[error(
        "{0:?} has no port: write host:port, like \"localhost:8080\", or \":8080\" for every address of this machine"
    )]
    NoPort(String),
    /// The port is not a number.
    #[error("{0:?} is not a port: a port is a number from 0 to 65535, 0 for a free one")]
    Port(String),
    /// An IPv6 address without brackets: its end is ambiguous.
    #[error("{0:?} is an IPv6 address without brackets: write \"[{0}]:8080\", with the port")]
    Brackets(String),
    /// Neither an address nor a name.
    #[error(
        "{0:?} is not a host: write an IP address (IPv6 in brackets), a name like \"localhost\", or nothing"
    )]
    Host(String),
}

impl ListenAddr {
    /// Every address of this machine, IPv6 and IPv4.
    #[must_use]
    pub const fn every(port: u16) -> Self {
        Self { host: Host::Every, port }
    }

    /// The port; 0 for a free one.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The name, if it is one and not an address.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        match &self.host {
            Host::Name(name) => Some(name),
            Host::Every | Host::Ip(_) => None,
        }
    }

    /// Listens. If a name has several addresses, on the first that can be bound.
    ///
    /// # Errors
    /// The system's error for the last address that was tried; [`io::ErrorKind::NotFound`] for a name without an
    /// address, [`io::ErrorKind::TimedOut`] if the name service does not answer.
    pub async fn bind(&self) -> io::Result<TcpListener> {
        match &self.host {
            Host::Every => listen_everywhere(self.port),
            Host::Ip(ip) if *ip == Ipv6Addr::UNSPECIFIED => listen_everywhere(self.port),
            Host::Ip(ip) => TcpListener::bind((*ip, self.port)).await,
            Host::Name(name) => TcpListener::bind(&*look_up(name, self.port).await?).await,
        }
    }
}

impl From<SocketAddr> for ListenAddr {
    fn from(address: SocketAddr) -> Self {
        Self { host: Host::Ip(address.ip()), port: address.port() }
    }
}

impl FromStr for ListenAddr {
    type Err = ListenAddrError;

    fn from_str(text: &str) -> Result<Self, ListenAddrError> {
        if text.parse::<Ipv6Addr>().is_ok() {
            return Err(ListenAddrError::Brackets(text.to_owned()));
        }
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if !port.is_empty() => (host, port),
            _ => return Err(ListenAddrError::NoPort(text.to_owned())),
        };
        let host = host.parse()?;
        // Only digits: a sign is part of a number in Rust, but not of a port.
        let number = port.bytes().all(|byte| byte.is_ascii_digit()).then(|| port.parse().ok()).flatten();
        let port = number.ok_or_else(|| ListenAddrError::Port(port.to_owned()))?;
        Ok(Self { host, port })
    }
}

impl FromStr for Host {
    type Err = ListenAddrError;

    fn from_str(text: &str) -> Result<Self, ListenAddrError> {
        if text.is_empty() {
            return Ok(Self::Every);
        }
        let bracketed = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
        if let Some(ip) = bracketed.and_then(|ip| ip.parse::<Ipv6Addr>().ok()) {
            return Ok(Self::Ip(ip.into()));
        }
        if let Ok(ip) = text.parse::<Ipv4Addr>() {
            return Ok(Self::Ip(ip.into()));
        }
        if text.parse::<Ipv6Addr>().is_ok() {
            return Err(ListenAddrError::Brackets(text.to_owned()));
        }
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        if text.len() > MAX_HOST_CHARS || !text.chars().all(is_name) {
            return Err(ListenAddrError::Host(text.to_owned()));
        }
        Ok(Self::Name(text.to_owned()))
    }
}

impl TryFrom<String> for ListenAddr {
    type Error = ListenAddrError;

    fn try_from(text: String) -> Result<Self, ListenAddrError> {
        text.parse()
    }
}

impl fmt::Display for ListenAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Every => write!(f, ":{}", self.port),
            Host::Ip(ip) => SocketAddr::new(*ip, self.port).fmt(f),
            Host::Name(name) => write!(f, "{name}:{}", self.port),
        }
    }
}

/// IPv4 first.
async fn look_up(name: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let late =
        || io::Error::new(io::ErrorKind::TimedOut, format!("the name service does not know {name} yet"));
    let found = timeout(LOOKUP_DEADLINE, lookup_host((name, port))).await.map_err(|_| late())??;
    let mut found: Vec<_> = found.collect();
    if found.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, format!("{name} has no address")));
    }
    found.sort_by_key(SocketAddr::is_ipv6);
    Ok(found)
}

/// On IPv6 and IPv4 with one socket; without IPv6, on IPv4.
fn listen_everywhere(port: u16) -> io::Result<TcpListener> {
    let unspecified = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    match listen(Domain::IPV6, unspecified) {
        // These errors would be the same with IPv4.
        Err(error) if !matches!(error.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied) => {
            listen(Domain::IPV4, SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)))
        }
        listening => listening,
    }
}

/// Whether an IPv6 socket accepts IPv4 is a system setting, which only the socket itself can override.
fn listen(domain: Domain, address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    if domain == Domain::IPV6 {
        socket.set_only_v6(false)?;
    }
    // As in tokio: connections that linger from before a restart do not block the port.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::net::TcpStream;

    use super::*;

    #[test]
    fn what_is_an_address() {
        for text in [":8085", ":0", "localhost:8081", "0.0.0.0:8080", "[::1]:65535", "[::]:1", "a-b.c_d:1"] {
            assert_eq!(text.parse::<ListenAddr>().map(|address| address.to_string()), Ok(text.to_owned()));
        }
        assert_eq!(":8085".parse(), Ok(ListenAddr::every(8085)));
        assert_eq!("localhost:0081".parse::<ListenAddr>().unwrap().port(), 81);
        assert_eq!(ListenAddr::from(SocketAddr::from(([1, 2, 3, 4], 5))).to_string(), "1.2.3.4:5");
    }

    #[test]
    fn invalid_addresses_are_explained() {
        type E = ListenAddrError;
        let long = "x".repeat(254);
        for (text, wanted) in [
            ("", E::NoPort(String::new())),
            ("localhost", E::NoPort("localhost".into())),
            ("8080", E::NoPort("8080".into())),
            ("localhost:", E::NoPort("localhost:".into())),
            (":http", E::Port("http".into())),
            (":65536", E::Port("65536".into())),
            (":-1", E::Port("-1".into())),
            (":+1", E::Port("+1".into())),
            ("::1", E::Brackets("::1".into())),
            ("fe80::1:8080x", E::Brackets("fe80::1".into())),
            ("2001:db8:0:0:1:1:1:1:80", E::Brackets("2001:db8:0:0:1:1:1:1".into())),
            ("http://localhost:80", E::Host("http://localhost".into())),
            ("[localhost]:80", E::Host("[localhost]".into())),
            ("local host:80", E::Host("local host".into())),
            ("ü:80", E::Host("ü".into())),
            (&format!("{long}:80"), E::Host(long.clone())),
        ] {
            assert_eq!(text.parse::<ListenAddr>(), Err(wanted), "{text}");
        }
        let error = serde_json::from_str::<ListenAddr>(r#""localhost""#).unwrap_err();
        assert!(error.to_string().contains("\"localhost\" has no port: write host:port"), "{error}");
    }

    proptest! {
        #[test]
        fn any_text_is_an_address_or_an_error(text in ".*") {
            if let Ok(address) = text.parse::<ListenAddr>() {
                prop_assert_eq!(address.to_string().parse(), Ok(address));
            }
        }
    }

    async fn reaches(ip: IpAddr, listener: &TcpListener) -> bool {
        let port = listener.local_addr().unwrap().port();
        let (from, accepted) = tokio::join!(TcpStream::connect((ip, port)), async {
            tokio::time::timeout(Duration::from_secs(10), listener.accept()).await.is_ok_and(|it| it.is_ok())
        });
        from.is_ok() && accepted
    }

    #[tokio::test]
    async fn every_address_is_of_both_families() {
        let listener = ":0".parse::<ListenAddr>().unwrap().bind().await.unwrap();
        assert!(reaches(Ipv4Addr::LOCALHOST.into(), &listener).await);
        if listener.local_addr().unwrap().is_ipv6() {
            assert!(reaches(Ipv6Addr::LOCALHOST.into(), &listener).await);
        }
    }

    #[tokio::test]
    async fn a_name_is_looked_up() {
        let listener = "localhost:0".parse::<ListenAddr>().unwrap().bind().await.unwrap();
        let address = listener.local_addr().unwrap();
        assert!(address.ip().is_loopback(), "{address}");
        assert!("does-not-exist.invalid:0".parse::<ListenAddr>().unwrap().bind().await.is_err());
    }

    #[tokio::test]
    async fn a_port_in_use_is_an_error_and_not_another_family() {
        for text in [":", "127.0.0.1:", "localhost:"] {
            let first = format!("{text}0").parse::<ListenAddr>().unwrap().bind().await.unwrap();
            let port = first.local_addr().unwrap().port();
            let again = format!(":{port}").parse::<ListenAddr>().unwrap().bind().await;
            assert_eq!(again.unwrap_err().kind(), io::ErrorKind::AddrInUse, "{text}{port}");
        }
    }
}
