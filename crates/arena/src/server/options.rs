//! A game server's options, and how it reads them from the environment that the platform sets.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::api_client::ApiKey;

/// Maximum number of concurrent matches.
pub const MAX_MATCHES: usize = 8;

/// The private key that seals connect tokens for this server. Never shown.
#[derive(Clone)]
pub struct NetcodeKey([u8; 32]);

impl NetcodeKey {
    /// A key of 32 bytes.
    #[must_use]
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// A key from 64 hexadecimal digits; `None` for anything else.
    #[must_use]
    pub fn from_hex(digits: &str) -> Option<Self> {
        let digits: &[u8; 64] = digits.as_bytes().try_into().ok()?;
        let value = |digit: u8| char::from(digit).to_digit(16).map(|value| value as u8);
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.as_chunks::<2>().0) {
            *byte = value(pair[0])? << 4 | value(pair[1])?;
        }
        Some(Self(bytes))
    }

    pub(crate) const fn bytes(&self) -> [u8; 32] {
        self.0
    }
}

impl fmt::Debug for NetcodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NetcodeKey(…)")
    }
}

/// Options of a game server. Times are in real time.
#[derive(Clone, Debug)]
pub struct ServeOptions {
    /// Base address of the platform's HTTP interface.
    pub api: String,
    /// Id of this server, as assigned by the platform.
    pub server_id: String,
    /// PEM file with roots to trust in addition to the system's, if the platform's address is `https://`.
    pub ca: Option<PathBuf>,
    /// API key for the platform, if it needs one.
    pub api_key: Option<ApiKey>,
    /// Key that seals connect tokens.
    pub netcode_key: NetcodeKey,
    /// Protocol id of the connect tokens.
    pub protocol_id: u64,
    /// UDP address to listen on; port 0 picks a free one.
    pub bind: SocketAddr,
    /// `host:port` where players reach this server, if different from the address it listens on. Connect tokens must
    /// name it, or the address listened on.
    pub public_address: Option<String>,
    /// Which matches it accepts: JMESPath over the match document; empty accepts any.
    pub requirements: String,
    /// Concurrent matches, 1 to [`MAX_MATCHES`].
    pub max_matches: usize,
    /// How long a match goes on without players in it or on their way.
    pub empty_after: Duration,
    /// Maximum length of a match; `None` means as long as somebody plays.
    pub match_length: Option<Duration>,
    /// Interval for asking the platform whether a running match still exists.
    pub check_every: Duration,
    /// Maximum pause after a failed request for a match; pauses grow up to it.
    pub max_pause: Duration,
}

/// All settings that are missing or wrong.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the game server cannot start: {}", .problems.join("; "))]
pub struct OptionsError {
    /// One line per problem: what is wrong, and what is valid.
    pub problems: Vec<String>,
}

impl ServeOptions {
    /// Options with the defaults: one match at a time, over when empty for 2 s, of any length.
    #[must_use]
    pub fn new(
        api: String,
        server_id: String,
        netcode_key: NetcodeKey,
        protocol_id: u64,
        bind: SocketAddr,
    ) -> Self {
        Self {
            api,
            server_id,
            ca: None,
            api_key: None,
            netcode_key,
            protocol_id,
            bind,
            public_address: None,
            requirements: String::new(),
            max_matches: 1,
            empty_after: Duration::from_secs(2),
            match_length: None,
            check_every: Duration::from_secs(10),
            max_pause: Duration::from_secs(10),
        }
    }

    /// Options from the variables that the platform sets for a server it starts: `SORTIE_API`, `SORTIE_SERVER_ID`,
    /// `SORTIE_PORT`, `SORTIE_NETCODE_KEY`, `SORTIE_PROTOCOL_ID`, and optionally `SORTIE_API_KEY`, `SORTIE_CA` and
    /// `SORTIE_PUBLIC_ADDRESS`. `lookup` returns a variable's value, or that of a flag that overrides it.
    ///
    /// # Errors
    /// [`OptionsError`] with all problems at once.
    pub fn from_variables(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, OptionsError> {
        let mut problems = Vec::new();
        let mut wanted = |name: &str, what: &str| {
            let value = lookup(name).filter(|value| !value.is_empty());
            if value.is_none() {
                problems.push(format!("{name} is not set: give {what}"));
            }
            value
        };
        let api = wanted("SORTIE_API", "the address of the platform, such as http://127.0.0.1:7400");
        let server_id = wanted("SORTIE_SERVER_ID", "the id of this server");
        let port = wanted("SORTIE_PORT", "the UDP port to listen on");
        let key = wanted("SORTIE_NETCODE_KEY", "the private key as 64 hexadecimal digits");
        let protocol = wanted("SORTIE_PROTOCOL_ID", "the protocol id as a decimal number");
        let mut parsed =
            |name: &str, what: &str| problems.push(format!("{name} is wrong: it must be {what}"));
        let port = port.and_then(|port| {
            port.parse::<u16>().inspect_err(|_| parsed("SORTIE_PORT", "a number from 0 to 65535")).ok()
        });
        let protocol_id = protocol.and_then(|id| {
            id.parse::<u64>()
                .inspect_err(|_| parsed("SORTIE_PROTOCOL_ID", "a decimal number of 64 bits"))
                .ok()
        });
        let key = key.and_then(|key| {
            let key = NetcodeKey::from_hex(&key);
            if key.is_none() {
                parsed("SORTIE_NETCODE_KEY", "64 hexadecimal digits");
            }
            key
        });
        match (api, server_id, port, key, protocol_id) {
            (Some(api), Some(server_id), Some(port), Some(key), Some(protocol_id)) => {
                let bind = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
                let mut options = Self::new(api, server_id, key, protocol_id, bind);
                options.ca = lookup("SORTIE_CA").filter(|path| !path.is_empty()).map(PathBuf::from);
                options.api_key = lookup("SORTIE_API_KEY").filter(|key| !key.is_empty()).map(ApiKey::new);
                options.public_address =
                    lookup("SORTIE_PUBLIC_ADDRESS").filter(|address| !address.is_empty());
                Ok(options)
            }
            _ => Err(OptionsError { problems }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1eFF";

    fn variables(name: &str) -> Option<String> {
        let value = match name {
            "SORTIE_API" => "http://127.0.0.1:7400",
            "SORTIE_SERVER_ID" => "server-1",
            "SORTIE_PORT" => "7777",
            "SORTIE_NETCODE_KEY" => KEY,
            "SORTIE_PROTOCOL_ID" => "18446744073709551615",
            "SORTIE_API_KEY" => "open-sesame",
            _ => return None,
        };
        Some(value.to_owned())
    }

    #[test]
    fn the_platforms_variables_are_enough() {
        let options = ServeOptions::from_variables(variables).unwrap();
        assert_eq!(options.bind, "127.0.0.1:7777".parse().unwrap());
        assert_eq!(options.protocol_id, u64::MAX);
        assert_eq!(options.netcode_key.bytes()[..3], [0, 1, 2]);
        assert_eq!(options.netcode_key.bytes()[31], 255);
    }

    #[test]
    fn secrets_are_not_shown() {
        let shown = format!("{:?}", ServeOptions::from_variables(variables).unwrap());
        assert!(!shown.contains("sesame") && !shown.contains("0, 1, 2") && !shown.contains("000102"));
    }

    #[test]
    fn all_problems_are_named_at_once() {
        let error = ServeOptions::from_variables(|name| match name {
            "SORTIE_PORT" => Some("70000".to_owned()),
            "SORTIE_NETCODE_KEY" => Some("secret".to_owned()),
            "SORTIE_SERVER_ID" => Some("server-1".to_owned()),
            _ => None,
        })
        .unwrap_err();
        let named = |name: &str| error.problems.iter().any(|problem| problem.starts_with(name));
        assert_eq!(error.problems.len(), 4);
        assert!(
            ["SORTIE_API", "SORTIE_PORT", "SORTIE_NETCODE_KEY", "SORTIE_PROTOCOL_ID"].map(named) == [true; 4]
        );
        assert!(!error.to_string().contains("secret"));
    }
}
