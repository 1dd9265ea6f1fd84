//! Parses the gateway's connect token.
//!
//! The standard's token is 2048 bytes and starts with the version; renet's own framing puts the client id before it and
//! does not pad. `renetcode` reads only the latter. The client id in front is for the caller's own use: the server uses
//! the one sealed inside, so zeros are fine if the gateway has not sent it.

use std::net::{IpAddr, SocketAddr};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use renetcode::ConnectToken;

use crate::api_client::Invitation;

const VERSION: &[u8] = b"NETCODE 1.02\0";
const CLIENT_ID_BYTES: usize = 8;

/// Parses the token of an invitation; the error says why it is unusable.
pub(crate) fn read(invitation: &Invitation) -> Result<ConnectToken, String> {
    let bytes = STANDARD
        .decode(invitation.connect_token.trim())
        .map_err(|error| format!("the connect token is not base64: {error}"))?;
    let token = parse(&bytes)?;
    let Ok(ip) = invitation.gameserver_ip.parse::<IpAddr>() else { return Ok(token) };
    let address = SocketAddr::new(ip, invitation.gameserver_port);
    if token.server_addresses.iter().flatten().any(|named| *named == address) {
        return Ok(token);
    }
    Err(format!("the connect token does not name {address}, the address that came with it"))
}

fn parse(bytes: &[u8]) -> Result<ConnectToken, String> {
    let framed =
        if bytes.starts_with(VERSION) { [&[0; CLIENT_ID_BYTES], bytes].concat() } else { bytes.to_vec() };
    let token = ConnectToken::read(&mut framed.as_slice())
        .map_err(|error| format!("the connect token cannot be read: {error}"))?;
    // A client would panic on the first two, and a token in another dialect looks like this.
    let is_usable = token.server_addresses[0].is_some()
        && token.create_timestamp < token.expire_timestamp
        && token.version_info == *VERSION;
    if is_usable {
        return Ok(token);
    }
    Err("the connect token is invalid: the fleet's token dialect must be standard or renet".to_owned())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn token() -> ConnectToken {
        let addresses = vec!["127.0.0.1:7777".parse().unwrap()];
        ConnectToken::generate(Duration::from_secs(50), 3, 30, 77, 5, addresses, None, &[1; 32]).unwrap()
    }

    fn framed() -> Vec<u8> {
        let mut bytes = Vec::new();
        token().write(&mut bytes).unwrap();
        bytes
    }

    fn standard() -> Vec<u8> {
        let mut bytes = framed()[CLIENT_ID_BYTES..].to_vec();
        bytes.resize(2048, 0);
        bytes
    }

    fn invitation(bytes: &[u8], port: u16) -> Invitation {
        Invitation {
            connect_token: STANDARD.encode(bytes),
            gameserver_ip: "127.0.0.1".to_owned(),
            gameserver_port: port,
            warm: false,
        }
    }

    #[test]
    fn both_framings_are_read() {
        assert_eq!(parse(&standard()).unwrap().protocol_id, 3);
        assert_eq!(parse(&framed()).unwrap().client_id, 77);
    }

    #[test]
    fn the_address_must_be_one_of_the_tokens() {
        assert!(read(&invitation(&standard(), 7777)).is_ok());
        assert!(read(&invitation(&standard(), 7778)).unwrap_err().contains("127.0.0.1:7778"));
    }

    #[test]
    fn tokens_that_would_break_a_client_are_refused() {
        let patched = |at: usize, bytes: &[u8]| {
            let mut token = standard();
            token[at..at + bytes.len()].copy_from_slice(bytes);
            parse(&token)
        };
        let (create, address_count) = (21, 13 + 8 + 8 + 8 + 24 + 1024 + 4);
        assert!(patched(create, &u64::MAX.to_le_bytes()).is_err());
        assert!(patched(address_count, &0_u32.to_le_bytes()).is_err());
        for length in [0, 5, 13, 500] {
            assert!(parse(&standard()[..length]).is_err());
        }
    }

    /// Tokens made by other implementations.
    #[test]
    fn tokens_of_other_implementations_are_read() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../contract/golden/netcode");
        let golden = |name: &str| std::fs::read(folder.join(name)).unwrap();
        for name in ["standard-c-ipv4.token", "renet-ipv4.token", "renet-ipv6.token"] {
            assert!(parse(&golden(name)).is_ok(), "{name}");
        }
        assert!(parse(&golden("lightyear-ipv4.token")).is_err());
    }
}
