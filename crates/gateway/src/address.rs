//! Resolves connection details to the server's address.
//!
//! A name that does not exist is the fault of the server that sent it. A name service that cannot or does not answer
//! says nothing about the server: the same name may be found a moment later, and the match is still good.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use sortie_domain::broker::address::{Place, check_ip, place};
use tokio::net::lookup_host;
use tokio::time::{Instant, sleep, timeout_at};

/// Maximum wait for one answer of the name service.
const LOOKUP_DEADLINE: Duration = Duration::from_secs(5);
/// Pause before the name service is asked again.
const LOOKUP_PAUSE: Duration = Duration::from_millis(500);

/// Names below this one do not exist (RFC 6761, section 6.4).
const NEVER_EXISTS: &str = ".invalid";

/// The messages of `getaddrinfo` (glibc, musl, BSD) for a name that does not exist or has no address. Rust only passes
/// on the text. Any other message counts as no answer, so that an unknown text harms no server.
const NOT_THERE: [&str; 6] = [
    "Name or service not known",
    "No address associated with hostname",
    "Name does not resolve",
    "Name has no usable address",
    "nodename nor servname provided, or not known",
    "No address associated with nodename",
];

type Found = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>>;

/// Asks a name service for the addresses of a host, and adds the port.
#[derive(Clone)]
pub struct NameService(Arc<dyn Fn(String, u16) -> Found + Send + Sync>);

impl NameService {
    /// A name service that calls `look_up`.
    pub fn new(look_up: impl Fn(String, u16) -> Found + Send + Sync + 'static) -> Self {
        Self(Arc::new(look_up))
    }
}

impl Default for NameService {
    /// The system's name service.
    fn default() -> Self {
        Self::new(|host, port| Box::pin(async move { Ok(lookup_host((host, port)).await?.collect()) }))
    }
}

impl fmt::Debug for NameService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NameService")
    }
}

/// Why there is no address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Unresolved {
    /// The details lead nowhere: they are not an address, or the name does not exist.
    Nowhere,
    /// The name service did not answer in time.
    NoAnswer,
}

/// The address behind `ip:port`, `[v6]:port` or `host:port`. If a host has several, the first IPv4 one: players may
/// have no IPv6. A name service that does not answer is asked again until `until`.
///
/// # Errors
/// [`Unresolved`].
pub(crate) async fn resolve(
    service: &NameService,
    details: &str,
    until: Instant,
) -> Result<SocketAddr, Unresolved> {
    let (name, port) = match place(details) {
        Ok(Place::Address(address)) => return Ok(address),
        Ok(Place::Host { name, port }) => (name, port),
        Err(_) => return Err(Unresolved::Nowhere),
    };
    loop {
        match look_up(service, name, port, until).await {
            Err(Unresolved::NoAnswer) if Instant::now() + LOOKUP_PAUSE < until => sleep(LOOKUP_PAUSE).await,
            found => return found,
        }
    }
}

async fn look_up(
    service: &NameService,
    host: &str,
    port: u16,
    until: Instant,
) -> Result<SocketAddr, Unresolved> {
    if host.trim_end_matches('.').to_ascii_lowercase().ends_with(NEVER_EXISTS) {
        return Err(Unresolved::Nowhere);
    }
    let deadline = until.min(Instant::now() + LOOKUP_DEADLINE);
    match timeout_at(deadline, (service.0)(host.to_owned(), port)).await {
        // Some name services answer with the unspecified address for blocked names.
        Ok(Ok(found)) => {
            let found = found.into_iter().filter(|address| check_ip(address.ip()).is_ok());
            first_v4(found).ok_or(Unresolved::Nowhere)
        }
        Ok(Err(error)) => {
            tracing::warn!(host, %error, "a game server's host name cannot be resolved");
            let text = error.to_string();
            let is_not_there = NOT_THERE.iter().any(|said| text.contains(said));
            Err(if is_not_there { Unresolved::Nowhere } else { Unresolved::NoAnswer })
        }
        Err(_) => {
            tracing::warn!(host, "the name service did not answer in time");
            Err(Unresolved::NoAnswer)
        }
    }
}

fn first_v4(found: impl Iterator<Item = SocketAddr>) -> Option<SocketAddr> {
    let mut first = None;
    for address in found {
        if address.is_ipv4() {
            return Some(address);
        }
        first = first.or(Some(address));
    }
    first
}

#[cfg(test)]
mod tests {
    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_millis(100)
    }

    fn answering(text: &'static str) -> NameService {
        NameService::new(move |_, _| Box::pin(async move { Err(io::Error::other(text)) }))
    }

    #[tokio::test]
    async fn addresses_are_taken_as_they_are() {
        for text in ["10.1.2.3:7777", "[2001:db8::1]:7777"] {
            let address = resolve(&answering("nobody is asked"), text, soon()).await.unwrap();
            assert_eq!(address.to_string(), text);
        }
    }

    #[tokio::test]
    async fn a_host_name_is_looked_up() {
        let until = Instant::now() + LOOKUP_DEADLINE;
        let address = resolve(&NameService::default(), "localhost:7777", until).await.unwrap();
        assert!(address.ip().is_loopback());
        assert_eq!(address.port(), 7777);
    }

    #[tokio::test]
    async fn what_leads_nowhere_is_no_address() {
        for text in ["", "10.1.2.3:0", "0.0.0.0:7777", "no-such-host.invalid:7777", "a.INVALID.:7777"] {
            let found = resolve(&answering("nobody is asked"), text, soon()).await;
            assert_eq!(found, Err(Unresolved::Nowhere), "{text}");
        }
        let blocked = NameService::new(|_, port| {
            Box::pin(async move { Ok(vec![SocketAddr::from(([0, 0, 0, 0], port))]) })
        });
        let nothing = NameService::new(|_, _| Box::pin(async { Ok(Vec::new()) }));
        for service in [blocked, nothing] {
            let found = resolve(&service, "game.example.com:7777", soon()).await;
            assert_eq!(found, Err(Unresolved::Nowhere));
        }
    }

    #[tokio::test]
    async fn only_a_name_that_does_not_exist_is_the_servers_fault() {
        let said = |why: &str| format!("failed to lookup address information: {why}").leak();
        for why in NOT_THERE {
            let found = resolve(&answering(said(why)), "game.example.com:7777", soon()).await;
            assert_eq!(found, Err(Unresolved::Nowhere), "{why}");
        }
        let others = [
            "Temporary failure in name resolution",
            "Non-recoverable failure in name resolution",
            "Try again",
            "Memory allocation failure",
            "Device or resource busy (os error 16)",
        ];
        for why in others {
            let found = resolve(&answering(said(why)), "game.example.com:7777", soon()).await;
            assert_eq!(found, Err(Unresolved::NoAnswer), "{why}");
        }
        let silent = NameService::new(|_, _| Box::pin(std::future::pending()));
        let found = resolve(&silent, "game.example.com:7777", soon()).await;
        assert_eq!(found, Err(Unresolved::NoAnswer));
    }

    #[test]
    fn ipv4_comes_first() {
        let (v6, v4): (SocketAddr, SocketAddr) =
            ("[2001:db8::1]:1".parse().unwrap(), "1.2.3.4:1".parse().unwrap());
        assert_eq!(first_v4([v6, v4].into_iter()), Some(v4));
        assert_eq!(first_v4([v6].into_iter()), Some(v6));
        assert_eq!(first_v4([].into_iter()), None);
    }
}
