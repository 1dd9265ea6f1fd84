//! Where the server is: connection details as an address.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::lookup_host;
use tokio::time::timeout;

/// Longest host name, in characters.
const MAX_HOST_CHARS: usize = 253;
/// Longest wait for the name service.
const LOOKUP_DEADLINE: Duration = Duration::from_secs(5);

/// The address behind `ip:port`, `[v6]:port` or `host:port`; `None` if there is none. Of a host with several, the
/// first IPv4 one: a player may have no IPv6.
pub(crate) async fn resolve(details: &str) -> Option<SocketAddr> {
    let details = details.trim();
    let address = match details.parse::<SocketAddr>() {
        Ok(address) => address,
        Err(_) => look_up(details).await?,
    };
    let reachable = address.port() != 0 && !address.ip().is_unspecified();
    reachable.then_some(address)
}

async fn look_up(details: &str) -> Option<SocketAddr> {
    let (host, port) = details.rsplit_once(':')?;
    let port: u16 = port.parse().ok()?;
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if host.is_empty() || host.len() > MAX_HOST_CHARS || !host.chars().all(is_name) {
        return None;
    }
    match timeout(LOOKUP_DEADLINE, lookup_host((host, port))).await {
        Ok(Ok(found)) => first_v4(found),
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
        assert_eq!(resolve(" 10.1.2.3:7777\n").await.unwrap().to_string(), "10.1.2.3:7777");
    }

    #[tokio::test]
    async fn a_host_name_is_looked_up() {
        let address = resolve("localhost:7777").await.unwrap();
        assert!(address.ip().is_loopback());
        assert_eq!(address.port(), 7777);
    }

    #[tokio::test]
    async fn what_is_no_address_is_refused() {
        for text in [
            "",
            "10.1.2.3",
            "10.1.2.3:",
            "10.1.2.3:0",
            "10.1.2.3:65536",
            "0.0.0.0:7777",
            "[::]:7777",
            ":7777",
            "a b:7777",
            "{\"ip\":\"1.2.3.4\"}",
            "https://example.com:443",
            "2001:db8::1:7777:",
        ] {
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
