//! Connection details as an address.
//!
//! To the broker they are text that players understand: a join code, JSON, or any format of the game. Only what cannot be
//! right for anybody is refused. The gateway however seals an address into connect tokens, so that those of a match which
//! it sends players to have to be one.

use core::fmt;
use core::net::{IpAddr, SocketAddr};

use super::command::Refusal;
use super::model::{Connection, Match};

/// Longest host name, in characters.
const MAX_HOST_CHARS: usize = 253;

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
    /// The port is 0.
    PortZero,
    /// They are an address without a port, or none at all.
    NoAddress,
}

impl fmt::Display for NoPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unspecified => {
                "0.0.0.0 and [::] are where a server listens; send the address at which players reach it"
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
        return match address {
            _ if address.ip().to_canonical().is_unspecified() => Err(NoPlace::Unspecified),
            _ if address.port() == 0 => Err(NoPlace::PortZero),
            _ => Ok(Place::Address(address)),
        };
    }
    if bare_ip(details).is_some_and(|ip| ip.to_canonical().is_unspecified()) {
        return Err(NoPlace::Unspecified);
    }
    let (name, port) = details.rsplit_once(':').ok_or(NoPlace::NoAddress)?;
    let port: u16 = port.parse().map_err(|_| NoPlace::NoAddress)?;
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if name.is_empty() || name.len() > MAX_HOST_CHARS || !name.chars().all(is_name) {
        return Err(NoPlace::NoAddress);
    }
    if port == 0 { Err(NoPlace::PortZero) } else { Ok(Place::Host { name, port }) }
}

fn bare_ip(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    bare.parse().ok()
}

/// Refuses connection details of `game` with which nobody can connect.
pub(super) fn check(game: &Match, connection: &Connection) -> Result<(), Refusal> {
    let needs_address = is_joined_at_gateway(game);
    let checked = |field, details: &str| match place(details) {
        Err(NoPlace::NoAddress) if !needs_address => Ok(()),
        Err(problem) if needs_address || is_address(details) => Err(Refusal::field(field, problem)),
        _ => Ok(()),
    };
    checked("connection_details", &connection.details)?;
    connection.per_player.values().try_for_each(|details| checked("per_player_connection_details", details))
}

/// Whether the text is an IP address, with a port or without. In `room:0` the game may see something else than a port.
fn is_address(details: &str) -> bool {
    let details = details.trim();
    details.parse::<SocketAddr>().is_ok() || bare_ip(details).is_some()
}

/// Whether players come to the match by joining: it is as the gateway orders its matches.
fn is_joined_at_gateway(game: &Match) -> bool {
    game.spec.fleet.is_some() && game.spec.capacity.is_some() && game.spec.players.is_empty()
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
            ("10.1.2.3:0", NoPlace::PortZero),
            ("[2001:db8::1]:0", NoPlace::PortZero),
            ("example.com:0", NoPlace::PortZero),
            ("", NoPlace::NoAddress),
            ("10.1.2.3", NoPlace::NoAddress),
            ("10.1.2.3:", NoPlace::NoAddress),
            ("10.1.2.3:65536", NoPlace::NoAddress),
            ("example.com", NoPlace::NoAddress),
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
