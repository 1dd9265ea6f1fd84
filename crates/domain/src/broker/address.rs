//! Parses connection details as an address.
//!
//! To the broker they are text that players understand: a join code, JSON, or any format of the game. The gateway
//! however seals an address into connect tokens. So the connection details of a match that players join through the
//! gateway must be an address that a player can connect to. Those of any other match may be any text, but if the text
//! is an IP address, a player must be able to connect to it as well. `Broker::is_joined_at_gateway` decides which case
//! applies.

use core::fmt;
use core::net::{IpAddr, SocketAddr};

use super::command::Refusal;
use crate::connection::Connection;

/// Maximum length of a host name, in characters.
const MAX_HOST_CHARS: usize = 253;
/// Maximum length of a part of a host name between two dots, in characters.
const MAX_LABEL_CHARS: usize = 63;

/// Where connection details lead.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place<'a> {
    /// To an address.
    Address(SocketAddr),
    /// To a host that has to be looked up.
    Host {
        /// Its name.
        name: &'a str,
        /// The port.
        port: u16,
    },
}

/// Why connection details lead nowhere.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NoPlace {
    /// The address is `0.0.0.0` or `[::]`.
    Unspecified,
    /// The address is multicast or broadcast.
    NotOneHost,
    /// The address is only valid on one network link.
    LinkLocal,
    /// The port is 0.
    PortZero,
    /// They are an address without a port, or not an address.
    NoAddress,
}

impl fmt::Display for NoPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unspecified => {
                "0.0.0.0 and [::] are where a server listens; send the address at which players reach it"
            }
            Self::NotOneHost => {
                "is a multicast or broadcast address; send the address at which players reach this one server"
            }
            Self::LinkLocal => {
                "is a link-local address, which cannot be reached from other networks; send the address at which players reach the server"
            }
            Self::PortZero => "nobody can connect to port 0; send the port at which players reach the server",
            Self::NoAddress => {
                "must be an address and a port, like 203.0.113.7:7777, [2001:db8::7]:7777 or game.example.com:7777"
            }
        })
    }
}

/// Reads `ip:port`, `[v6]:port` or `host:port`.
///
/// # Errors
/// [`NoPlace`] if nobody can connect there.
pub fn place(details: &str) -> Result<Place<'_>, NoPlace> {
    let details = details.trim();
    if let Ok(address) = details.parse::<SocketAddr>() {
        check_ip(address.ip())?;
        return if address.port() == 0 { Err(NoPlace::PortZero) } else { Ok(Place::Address(address)) };
    }
    if let Some(ip) = bare_ip(details) {
        check_ip(ip)?;
    }
    let (name, port) = details.rsplit_once(':').ok_or(NoPlace::NoAddress)?;
    let port: u16 = port.parse().map_err(|_| NoPlace::NoAddress)?;
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let is_label = |label: &str| {
        !label.is_empty()
            && label.len() <= MAX_LABEL_CHARS
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    // A name whose last label is a number would be an IPv4 address, which this is not.
    let labels = name.strip_suffix('.').unwrap_or(name);
    let is_number =
        labels.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
    if name.len() > MAX_HOST_CHARS
        || !name.chars().all(is_name)
        || !labels.split('.').all(is_label)
        || is_number
    {
        return Err(NoPlace::NoAddress);
    }
    if port == 0 { Err(NoPlace::PortZero) } else { Ok(Place::Host { name, port }) }
}

/// Checks that a player can connect to an IP address, as far as the address alone shows.
///
/// # Errors
/// [`NoPlace`] if nobody can connect to it.
pub fn check_ip(ip: IpAddr) -> Result<(), NoPlace> {
    match ip.to_canonical() {
        ip if ip.is_unspecified() => Err(NoPlace::Unspecified),
        ip if ip.is_multicast() => Err(NoPlace::NotOneHost),
        IpAddr::V4(ip) if ip.is_broadcast() => Err(NoPlace::NotOneHost),
        IpAddr::V4(ip) if ip.octets()[0] == 0 => Err(NoPlace::Unspecified),
        IpAddr::V4(ip) if ip.is_link_local() => Err(NoPlace::LinkLocal),
        IpAddr::V6(ip) if ip.is_unicast_link_local() => Err(NoPlace::LinkLocal),
        _ => Ok(()),
    }
}

fn bare_ip(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    bare.parse().ok()
}

/// Refuses connection details with which nobody can connect. `needs_address`: players join the match through the
/// gateway.
pub(super) fn check(connection: &Connection, needs_address: bool) -> Result<(), Refusal> {
    let checked = |field, details: &str| match place(details) {
        Err(problem) if needs_address || is_bad_address(details, problem) => {
            Err(Refusal::field(field, problem))
        }
        _ => Ok(()),
    };
    checked("connection_details", &connection.details)?;
    connection.per_player.values().try_for_each(|details| checked("per_player_connection_details", details))
}

/// Whether the text is an IP address, with or without a port, at which there cannot be a server. In `room:0` the game
/// may see something else than a port.
fn is_bad_address(details: &str, problem: NoPlace) -> bool {
    let details = details.trim();
    problem != NoPlace::NoAddress && (details.parse::<SocketAddr>().is_ok() || bare_ip(details).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_or_a_host_with_a_port_is_a_place() {
        for text in ["10.1.2.3:7777", " 10.1.2.3:7777\n", "[2001:db8::1]:7777"] {
            assert_eq!(place(text), Ok(Place::Address(text.trim().parse().unwrap())));
        }
        assert_eq!(place("game-1.example.com:1"), Ok(Place::Host { name: "game-1.example.com", port: 1 }));
    }

    #[test]
    fn where_nobody_can_connect_is_told_why() {
        for (text, why) in [
            ("0.0.0.0:7777", NoPlace::Unspecified),
            ("[::]:1", NoPlace::Unspecified),
            ("[::ffff:0.0.0.0]:1", NoPlace::Unspecified),
            ("0.0.0.0:0", NoPlace::Unspecified),
            ("0.0.0.0", NoPlace::Unspecified),
            ("::", NoPlace::Unspecified),
            ("[::]", NoPlace::Unspecified),
            ("0.1.2.3:7777", NoPlace::Unspecified),
            ("224.0.0.1:7777", NoPlace::NotOneHost),
            ("239.255.255.250", NoPlace::NotOneHost),
            ("[ff02::1]:7777", NoPlace::NotOneHost),
            ("[::ffff:224.0.0.1]:7777", NoPlace::NotOneHost),
            ("255.255.255.255:7777", NoPlace::NotOneHost),
            ("169.254.1.2:7777", NoPlace::LinkLocal),
            ("[fe80::1]:7777", NoPlace::LinkLocal),
            ("[fe80::1%2]:7777", NoPlace::LinkLocal),
            ("10.1.2.3:0", NoPlace::PortZero),
            ("[2001:db8::1]:0", NoPlace::PortZero),
            ("example.com:0", NoPlace::PortZero),
            ("", NoPlace::NoAddress),
            ("10.1.2.3", NoPlace::NoAddress),
            ("10.1.2.3:", NoPlace::NoAddress),
            ("10.1.2.3:65536", NoPlace::NoAddress),
            ("example.com", NoPlace::NoAddress),
            ("localhost", NoPlace::NoAddress),
            ("127.0.0.1:65536", NoPlace::NoAddress),
            ("999.1.2.3:7777", NoPlace::NoAddress),
            ("10.1.2:7777", NoPlace::NoAddress),
            ("-a.example.com:7777", NoPlace::NoAddress),
            ("a..example.com:7777", NoPlace::NoAddress),
            (".:7777", NoPlace::NoAddress),
            (":7777", NoPlace::NoAddress),
            ("a b:7777", NoPlace::NoAddress),
            ("{\"ip\":\"1.2.3.4\"}", NoPlace::NoAddress),
            ("https://example.com:443", NoPlace::NoAddress),
            ("2001:db8::1:7777:", NoPlace::NoAddress),
        ] {
            assert_eq!(place(text), Err(why), "{text}");
        }
    }
}
