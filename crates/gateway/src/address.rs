//! Where the server is: connection details as an address.

use std::net::SocketAddr;
use std::time::Duration;

use sortie_domain::broker::address::{Place, place};
use tokio::net::lookup_host;
use tokio::time::timeout;

/// Longest wait for the name service.
const LOOKUP_DEADLINE: Duration = Duration::from_secs(5);

/// The address behind `ip:port`, `[v6]:port` or `host:port`; `None` if there is none. Of a host with several, the
/// first IPv4 one: a player may have no IPv6.
pub(crate) async fn resolve(details: &str) -> Option<SocketAddr> {
    match place(details).ok()? {
        Place::Address(address) => Some(address),
        Place::Host { name, port } => look_up(name, port).await,
    }
}

async fn look_up(host: &str, port: u16) -> Option<SocketAddr> {
    match timeout(LOOKUP_DEADLINE, lookup_host((host, port))).await {
        // Some name services answer with the unspecified address for what they block.
        Ok(Ok(found)) => first_v4(found.filter(|address| !address.ip().to_canonical().is_unspecified())),
        Ok(Err(error)) => {
            tracing::warn!(host, %error, "a game server's host name cannot be resolved");
            None
        }
        Err(_) => {
            tracing::warn!(host, "the name service did not answer in time");
            None
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

    #[tokio::test]
    async fn addresses_are_taken_as_they_are() {
        for text in ["10.1.2.3:7777", "[2001:db8::1]:7777"] {
            assert_eq!(resolve(text).await.unwrap().to_string(), text);
        }
    }

    #[tokio::test]
    async fn a_host_name_is_looked_up() {
        let address = resolve("localhost:7777").await.unwrap();
        assert!(address.ip().is_loopback());
        assert_eq!(address.port(), 7777);
    }

    #[tokio::test]
    async fn what_leads_nowhere_is_no_address() {
        for text in ["", "10.1.2.3:0", "0.0.0.0:7777", "0:7777", "no-such-host.invalid:7777"] {
            assert_eq!(resolve(text).await, None, "{text}");
        }
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
