//! Which source of a player's address is trusted.
//!
//! A player could name any address, so `client_ip` counts only from a backend whose key may speak for players, or in
//! development mode: a proxy passes on what players write into a query or a body. For all other callers the address is
//! that of the connection, or, if the connection comes from a trusted proxy, the one that it forwards for.
//!
//! Each proxy appends its caller to `X-Forwarded-For`, so the rightmost address that is not a trusted proxy's counts:
//! the player can choose everything before it. The header `Forwarded` is not read: no proxy sends it by default, and
//! two sources would have to be compared with each other.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use crate::error::JoinError;
use crate::options::GatewayOptions;

/// What a request says about its origin.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Claims<'a> {
    /// The other end of the connection, if the server supplies it.
    pub(crate) peer: Option<IpAddr>,
    /// The address that the request names.
    pub(crate) asked: Option<&'a str>,
    /// Whether the request shows a key that may speak for players.
    pub(crate) speaks_for_players: bool,
    /// The headers `X-Forwarded-For`, joined by commas.
    pub(crate) forwarded_for: Option<&'a str>,
}

/// The player's address; `None` if it cannot be known.
///
/// # Errors
/// [`JoinError::Invalid`] if a trusted caller sends something that is not an address.
pub(crate) fn client_ip(claims: Claims<'_>, options: &GatewayOptions) -> Result<Option<IpAddr>, JoinError> {
    let peer = claims.peer.map(|ip| ip.to_canonical());
    let trusted = options.dev || peer.is_some_and(|ip| is_among(ip, &options.trusted_proxies));
    let named = if options.dev || claims.speaks_for_players { named(claims)? } else { None };
    let forwarded = claims.forwarded_for.filter(|_| trusted).and_then(|list| forwarded(list, options));
    let ip = named.or(forwarded).or(peer).map(|ip| ip.to_canonical());
    Ok(ip.map(|ip| match options.loopback_replacement {
        Some(replacement) if ip.is_loopback() => replacement,
        _ => ip,
    }))
}

/// The caller's address for rate limits: never one that the caller chose. `None` for a trusted proxy that calls for
/// itself, and if nothing is known.
pub(crate) fn limited_ip(claims: Claims<'_>, options: &GatewayOptions) -> Option<IpAddr> {
    let peer = claims.peer?.to_canonical();
    if !is_among(peer, &options.trusted_proxies) {
        return Some(peer);
    }
    claims.forwarded_for.and_then(|list| forwarded(list, options))
}

fn named(claims: Claims<'_>) -> Result<Option<IpAddr>, JoinError> {
    let ip = claims.asked.map(|asked| asked.trim().parse()).transpose();
    ip.map_err(|_| JoinError::invalid("client_ip", "must be an IP address"))
}

/// The rightmost address that is not a trusted proxy's; `None` if the list ends, or has something else than an address,
/// before that.
fn forwarded(list: &str, options: &GatewayOptions) -> Option<IpAddr> {
    for entry in list.rsplit(',') {
        let ip = address(entry.trim())?.to_canonical();
        if !is_among(ip, &options.trusted_proxies) {
            return Some(ip);
        }
    }
    None
}

/// An address; some proxies append the port.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    bare.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()))
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
        let peer = Some(peer.parse().unwrap());
        let claims = Claims { peer, asked, speaks_for_players: false, forwarded_for };
        client_ip(claims, options).unwrap().unwrap().to_string()
    }

    fn with_key(peer: &str, asked: Option<&str>, forwarded_for: Option<&str>) -> String {
        let peer = Some(peer.parse().unwrap());
        let claims = Claims { peer, asked, speaks_for_players: true, forwarded_for };
        client_ip(claims, &options()).unwrap().unwrap().to_string()
    }

    #[test]
    fn a_stranger_is_not_believed() {
        assert_eq!(found("9.9.9.9", Some("1.1.1.1"), Some("2.2.2.2"), &options()), "9.9.9.9");
        assert_eq!(found("9.9.9.9", Some("no address"), None, &options()), "9.9.9.9");
    }

    #[test]
    fn what_a_player_names_never_beats_what_its_proxy_says() {
        assert_eq!(found("10.1.2.3", Some("1.1.1.1"), Some("2.2.2.2"), &options()), "2.2.2.2");
        assert_eq!(found("10.1.2.3", Some("1.1.1.1"), None, &options()), "10.1.2.3");
        assert_eq!(found("10.1.2.3", Some("no address"), Some("2.2.2.2"), &options()), "2.2.2.2");
    }

    #[test]
    fn a_backend_with_a_key_names_its_player_s_address() {
        assert_eq!(with_key("9.9.9.9", Some("1.1.1.1"), None), "1.1.1.1");
        assert_eq!(with_key("10.1.2.3", Some("1.1.1.1"), Some("2.2.2.2")), "1.1.1.1");
        // Without `client_ip` the usual rules apply.
        assert_eq!(with_key("9.9.9.9", None, Some("2.2.2.2")), "9.9.9.9");
        assert_eq!(with_key("10.1.2.3", None, Some("2.2.2.2")), "2.2.2.2");
    }

    #[test]
    fn a_trusted_proxy_is_believed_about_whom_it_forwards_for() {
        assert_eq!(found("10.1.2.3", None, Some("2001:db8::1"), &options()), "2001:db8::1");
        assert_eq!(found("10.1.2.3", None, None, &options()), "10.1.2.3");
        assert_eq!(found("fd00::7", None, Some("2.2.2.2"), &options()), "2.2.2.2");
        assert_eq!(found("::ffff:10.1.2.3", None, Some("2.2.2.2"), &options()), "2.2.2.2");
    }

    #[test]
    fn of_a_chain_the_rightmost_stranger_counts() {
        for (list, expected) in [
            (" 2.2.2.2 , 3.3.3.3", "3.3.3.3"),
            ("1.1.1.1, 2.2.2.2, 10.9.9.9,fd00::1", "2.2.2.2"),
            ("1.1.1.1, unknown, 10.9.9.9", "10.1.2.3"),
            ("10.9.9.9", "10.1.2.3"),
            ("2.2.2.2:4711", "2.2.2.2"),
            ("[2001:db8::1]:4711, ::ffff:10.9.9.9", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
        ] {
            assert_eq!(found("10.1.2.3", None, Some(list), &options()), expected, "{list}");
        }
    }

    #[test]
    fn limits_go_by_what_the_caller_cannot_choose() {
        let limited = |peer: &str, forwarded_for| {
            let peer = Some(peer.parse().unwrap());
            let claims = Claims { peer, asked: Some("1.1.1.1"), speaks_for_players: true, forwarded_for };
            limited_ip(claims, &options()).map(|ip| ip.to_string())
        };
        assert_eq!(limited("9.9.9.9", Some("2.2.2.2")).as_deref(), Some("9.9.9.9"));
        assert_eq!(limited("10.1.2.3", Some("1.1.1.1, 2.2.2.2")).as_deref(), Some("2.2.2.2"));
        assert_eq!(limited("10.1.2.3", None), None);
        assert_eq!(limited_ip(Claims::default(), &options()), None);
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
        assert_eq!(with_key("10.1.2.3", Some("127.0.0.9"), None), "81.128.157.100");
        let unchanged = GatewayOptions { loopback_replacement: None, ..options() };
        assert_eq!(found("127.0.0.1", None, None, &unchanged), "127.0.0.1");
    }

    #[test]
    fn an_unknown_peer_is_not_trusted() {
        let claims = Claims { asked: Some("1.1.1.1"), ..Claims::default() };
        assert_eq!(client_ip(claims, &options()).unwrap(), None);
        assert_eq!(client_ip(claims, &dev()).unwrap(), Some("1.1.1.1".parse().unwrap()));
    }
}
