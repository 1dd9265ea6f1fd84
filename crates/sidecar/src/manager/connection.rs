//! Connection details for players: the resolver's address instead of what the game server sent.

use crate::resolver::Address;

/// The resolver's address, with the game server's port if the resolver knows none.
pub(super) fn replaced(address: &Address, sent: &str) -> String {
    Address { host: address.host.clone(), port: address.port.or_else(|| port_of(sent)) }.to_string()
}

/// The port of `7777`, `:7777`, `host:7777` and `[::1]:7777`. In any other form the port is not certain.
pub(super) fn port_of(sent: &str) -> Option<u16> {
    let sent = sent.trim();
    let port = match sent.rsplit_once(':') {
        None => sent,
        Some((host, port)) if host.starts_with('[') && host.ends_with(']') => port,
        Some((host, _)) if host.contains([':', '/']) => return None,
        Some((_, port)) => port,
    };
    let is_number = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    if is_number { port.parse().ok().filter(|port| *port != 0) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(port: Option<u16>, sent: &str) -> String {
        replaced(&Address { host: "203.0.113.9".to_owned(), port }, sent)
    }

    #[test]
    fn a_resolver_with_a_port_has_the_last_word() {
        for sent in ["", "7777", "10.0.0.1:7777", "udp://10.0.0.1:7777"] {
            assert_eq!(with(Some(9000), sent), "203.0.113.9:9000", "{sent}");
        }
    }

    #[test]
    fn without_one_the_game_servers_port_stays() {
        for sent in ["7777", " 7777 ", ":7777", "10.0.0.1:7777", "localhost:7777", "[::1]:7777"] {
            assert_eq!(with(None, sent), "203.0.113.9:7777", "{sent}");
        }
    }

    #[test]
    fn what_is_no_port_is_left_out() {
        for sent in ["", "0", "+7", "70000", "host", "host:", "::1", "udp://10.0.0.1:7777", "host:0", "[::1]"]
        {
            assert_eq!(with(None, sent), "203.0.113.9", "{sent}");
        }
    }

    #[test]
    fn an_ipv6_address_has_brackets_beside_a_port() {
        let address = Address { host: "2001:db8::1".to_owned(), port: None };
        assert_eq!(replaced(&address, "7777"), "[2001:db8::1]:7777");
    }
}
