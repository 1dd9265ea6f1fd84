//! Who is believed about a player's address.
//!
//! A player could name any address, so what a request says about it counts only if it comes from a proxy that is
//! configured as trusted, or in development mode. Otherwise the address is that of the connection.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::error::JoinError;
use crate::options::GatewayOptions;

/// What a request says about where it comes from.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Claims<'a> {
    /// The other end of the connection, if the server tells it.
    pub(crate) peer: Option<IpAddr>,
    /// The address that the request names.
    pub(crate) asked: Option<&'a str>,
    /// The header `X-Forwarded-For`.
    pub(crate) forwarded_for: Option<&'a str>,
}

/// The player's address; `None` if it cannot be known.
///
/// # Errors
/// [`JoinError::Invalid`] if somebody who is believed names something that is no address.
pub(crate) fn client_ip(claims: Claims<'_>, options: &GatewayOptions) -> Result<Option<IpAddr>, JoinError> {
    let peer = claims.peer.map(|ip| ip.to_canonical());
    let trusted = options.dev || peer.is_some_and(|ip| is_among(ip, &options.trusted_proxies));
    let claimed = if trusted { claimed(claims)? } else { None };
    let ip = claimed.or(peer).map(|ip| ip.to_canonical());
    Ok(ip.map(|ip| match options.loopback_replacement {
        Some(replacement) if ip.is_loopback() => replacement,
        _ => ip,
    }))
}

fn claimed(claims: Claims<'_>) -> Result<Option<IpAddr>, JoinError> {
    if let Some(asked) = claims.asked {
        let ip = asked.trim().parse();
        return ip.map(Some).map_err(|_| JoinError::invalid("client_ip", "must be an IP address"));
    }
    let first = claims.forwarded_for.and_then(|list| list.split(',').next());
    Ok(first.and_then(|first| first.trim().parse().ok()))
}

fn is_among(ip: IpAddr, networks: &[IpNet]) -> bool {
    networks.iter().any(|network| network.contains(&ip))
}

#[cfg(test)]
mod tests {
    use sortie_tokens::PrivateKey;

    use super::*;

    fn options() -> GatewayOptions {
        GatewayOptions {
            trusted_proxies: vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()],
            loopback_replacement: Some("81.128.157.100".parse().unwrap()),
            ..GatewayOptions::new(Vec::new(), PrivateKey::new([1; 32]))
        }
    }

    fn dev() -> GatewayOptions {
        GatewayOptions { dev: true, ..options() }
    }

    fn found(
        peer: &str,
        asked: Option<&str>,
        forwarded_for: Option<&str>,
        options: &GatewayOptions,
    ) -> String {
        let claims = Claims { peer: Some(peer.parse().unwrap()), asked, forwarded_for };
        client_ip(claims, options).unwrap().unwrap().to_string()
    }

    #[test]
    fn a_stranger_is_not_believed() {
        assert_eq!(found("9.9.9.9", Some("1.1.1.1"), Some("2.2.2.2"), &options()), "9.9.9.9");
        assert_eq!(found("9.9.9.9", Some("no address"), None, &options()), "9.9.9.9");
    }

    #[test]
    fn a_trusted_proxy_is_believed_what_is_asked_first() {
        assert_eq!(found("10.1.2.3", Some("1.1.1.1"), Some("2.2.2.2"), &options()), "1.1.1.1");
        assert_eq!(found("10.1.2.3", None, Some(" 2.2.2.2 , 3.3.3.3"), &options()), "2.2.2.2");
        assert_eq!(found("10.1.2.3", None, Some("2001:db8::1"), &options()), "2001:db8::1");
        assert_eq!(found("10.1.2.3", None, None, &options()), "10.1.2.3");
        assert_eq!(found("fd00::7", None, Some("2.2.2.2"), &options()), "2.2.2.2");
        assert_eq!(found("::ffff:10.1.2.3", None, Some("2.2.2.2"), &options()), "2.2.2.2");
    }

    #[test]
    fn everybody_is_believed_in_development() {
        assert_eq!(found("9.9.9.9", Some("1.1.1.1"), None, &dev()), "1.1.1.1");
        assert_eq!(found("9.9.9.9", None, Some("2.2.2.2"), &dev()), "2.2.2.2");
    }

    #[test]
    fn a_header_that_is_no_address_is_passed_over_and_a_named_one_refused() {
        assert_eq!(found("10.1.2.3", None, Some("unknown"), &options()), "10.1.2.3");
        let claims = Claims { asked: Some("example.com"), ..Claims::default() };
        let refusal = client_ip(claims, &dev()).unwrap_err();
        assert_eq!(
            (refusal.status(), refusal.to_string().as_str()),
            (400, "client_ip: must be an IP address")
        );
    }

    #[test]
    fn a_loopback_address_is_replaced_wherever_it_comes_from() {
        for peer in ["127.0.0.1", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(found(peer, None, None, &options()), "81.128.157.100");
        }
        assert_eq!(found("10.1.2.3", Some("127.0.0.9"), None, &options()), "81.128.157.100");
        let unchanged = GatewayOptions { loopback_replacement: None, ..options() };
        assert_eq!(found("127.0.0.1", None, None, &unchanged), "127.0.0.1");
    }

    #[test]
    fn an_unknown_peer_is_not_trusted() {
        let claims = Claims { peer: None, asked: Some("1.1.1.1"), forwarded_for: None };
        assert_eq!(client_ip(claims, &options()).unwrap(), None);
        assert_eq!(client_ip(claims, &dev()).unwrap(), Some("1.1.1.1".parse().unwrap()));
    }
}
