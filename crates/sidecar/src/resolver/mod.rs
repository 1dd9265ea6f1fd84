//! Where players reach a server.
//!
//! Every platform tells a server its address in a different way, so each way is one resolver. They cover this machine
//! only: a sidecar runs next to its servers. Environment variables are read once at the start, when mistakes can still
//! be fixed; remote services are asked when the first server needs it.
//!
//! | resolver | the address is |
//! |---|---|
//! | `static_resolver` | in the settings |
//! | `ec2_resolver` | from the metadata service of AWS EC2 |
//! | `edgegap_resolver` | from Edgegap's environment variables |
//! | `docker_resolver`, `kubernetes_resolver` | in environment variables |
//! | `interface_resolver` | that of a network interface |
//!
//! Ports that a resolver assigns are in [`ports`].

pub mod ec2;
pub mod edgegap;
pub mod environment;
pub mod fixed;
pub mod interface;
pub mod ports;
mod settings;

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use async_trait::async_trait;
use serde::{Deserialize, Serialize, Serializer};

pub use settings::{RESOLVERS, ResolverSettings, from_settings};

/// Maximum length of a host name, in bytes: RFC 1035, section 2.3.4.
const MAX_HOST_BYTES: usize = 253;

/// A server's public address. As text `host`, `host:port` or `[v6]:port`.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(try_from = "String")]
pub struct Address {
    /// A host name or an IP address, without brackets.
    pub host: String,
    /// The port, if the resolver knows one.
    pub port: Option<u16>,
}

impl fmt::Display for Address {
    /// `host:port`, with brackets around an IPv6 address; `host` if there is no port.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_v6 = self.host.contains(':');
        match self.port {
            Some(port) if is_v6 => write!(f, "[{}]:{port}", self.host),
            Some(port) => write!(f, "{}:{port}", self.host),
            None => f.write_str(&self.host),
        }
    }
}

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl TryFrom<String> for Address {
    type Error = ResolveError;

    fn try_from(text: String) -> Result<Self, ResolveError> {
        text.parse()
    }
}

impl FromStr for Address {
    type Err = ResolveError;

    /// A bare IPv6 address has no port.
    fn from_str(text: &str) -> Result<Self, ResolveError> {
        let wrong = |why: &str| {
            let text: String = text.chars().take(MAX_HOST_BYTES).collect();
            let right = "must be the address where players reach this machine, like \"203.0.113.7\", \
                         \"play.example.com:7777\" or \"[2001:db8::7]:7777\"";
            ResolveError(format!("{right}; {text:?} {why}"))
        };
        let (host, port) = match text.strip_prefix('[').map(|rest| rest.split_once(']')) {
            _ if text.parse::<Ipv6Addr>().is_ok() => (text, None),
            Some(Some((host, rest))) if host.parse::<Ipv6Addr>().is_ok() => match rest.strip_prefix(':') {
                None if !rest.is_empty() => {
                    return Err(wrong("has something other than a port after its bracket"));
                }
                port => (host, port),
            },
            Some(_) => return Err(wrong("has no IPv6 address in its brackets")),
            None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
        };
        check_host(host).map_err(wrong)?;
        let Some(digits) = port else { return Ok(Self { host: host.to_owned(), port: None }) };
        let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
        let port = digits.parse().ok().filter(|port| is_number && *port != 0);
        if port.is_none() {
            return Err(wrong("has no port from 1 to 65535 after its colon"));
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

/// Whether this host is usable for players.
fn check_host(host: &str) -> Result<(), &'static str> {
    if let Ok(ip) = host.parse::<IpAddr>() {
        let is_one = !ip.is_unspecified() && !ip.is_multicast();
        return if is_one { Ok(()) } else { Err("is not the address of one machine") };
    }
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    if host.is_empty() || host.len() > MAX_HOST_BYTES || !host.bytes().all(is_name) {
        return Err("has no IP address or host name");
    }
    Ok(())
}

/// Why a resolver cannot be created from its options.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{problem}")]
pub struct OptionsError {
    /// The key in the resolver's settings; empty if the problem is about all of them.
    pub key: &'static str,
    /// What is wrong, and what to do.
    pub problem: String,
}

impl OptionsError {
    fn new(key: &'static str, problem: impl Into<String>) -> Self {
        Self { key, problem: problem.into() }
    }
}

/// Why there is no address. The text says what is wrong and what to do.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct ResolveError(pub String);

/// Resolves addresses.
#[async_trait]
pub trait Resolver: Send + Sync {
    /// Its name in the settings.
    fn name(&self) -> &'static str;

    /// The address of a server of this sidecar; the same for repeated calls.
    ///
    /// # Errors
    /// [`ResolveError`]
    async fn resolve(&self, server_id: &str) -> Result<Address, ResolveError>;

    /// The server is gone: releases what was kept for it, e.g. a port.
    fn release(&self, server_id: &str);

    /// Records that the server listens on this port: it said so, or was given it before a restart. A resolver that
    /// assigns ports gives it this one, if it is one of them and no other server has it.
    fn claim(&self, server_id: &str, port: u16) {
        let _ = (server_id, port);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_an_address() {
        for (text, host, port) in [
            ("203.0.113.7", "203.0.113.7", None),
            ("203.0.113.7:7777", "203.0.113.7", Some(7777)),
            ("server.local:8080", "server.local", Some(8080)),
            ("localhost", "localhost", None),
            ("2001:db8::7", "2001:db8::7", None),
            ("[2001:db8::7]", "2001:db8::7", None),
            ("[2001:db8::7]:1", "2001:db8::7", Some(1)),
        ] {
            let expected = Address { host: host.to_owned(), port };
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn an_error_says_what_would_be_valid() {
        let long = "x".repeat(254);
        for text in [
            "",
            ":7777",
            "host:",
            "host:0",
            "host:65536",
            "host:+1",
            "host:http",
            "http://host",
            "host/path",
            "a b",
            "0.0.0.0",
            "[::]:1",
            "224.0.0.1",
            "[host]:1",
            "[::1",
            "[::1]x",
            "[::1]:",
            "2001:db8::7:99999",
            "fe80::1%eth0",
            "h\u{e4}:1",
            long.as_str(),
        ] {
            let error = text.parse::<Address>().unwrap_err().to_string();
            assert!(error.starts_with("must be the address where players reach this machine"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_an_address_that_reads_the_same_again_or_an_error(text in "\\PC*|[0-9a-z.:\\[\\]]*") {
            if let Ok(address) = text.parse::<Address>() {
                prop_assert_eq!(address.to_string().parse(), Ok(address));
            }
        }
    }
}
