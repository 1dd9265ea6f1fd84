//! Keys of game servers: each server that is started here has its own key, which identifies it.
//!
//! A key is derived from the server's id and a secret of the installation, and verified with the same secret. So
//! nothing is stored, nothing is lost at a restart, and a server can only identify as itself.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use sortie_domain::ids::ServerId;

/// Prefix of every such key, so that a leaked one is recognizable.
const PREFIX: &str = "sortie_server_";
/// Prepended to the id in what is signed, so that no other use of the secret yields a key.
const CONTEXT: &[u8] = b"sortie game server key 1\0";

/// Creates and verifies the keys of servers. Clones share the secret.
#[derive(Clone)]
pub struct ServerKeys(hmac::Key);

impl fmt::Debug for ServerKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServerKeys(…)")
    }
}

impl ServerKeys {
    /// Keys from this secret, which must be as hard to guess as they are.
    #[must_use]
    pub fn new(secret: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    /// The key of one server: visible ASCII, less than 512 bytes.
    #[must_use]
    pub fn key(&self, server: &ServerId) -> String {
        let mut signed = hmac::Context::with_key(&self.0);
        signed.update(CONTEXT);
        signed.update(server.as_str().as_bytes());
        let (id, tag) = (URL_SAFE_NO_PAD.encode(server.as_str()), URL_SAFE_NO_PAD.encode(signed.sign()));
        format!("{PREFIX}{id}.{tag}")
    }

    /// The server that this key identifies; `None` for any other text. The comparison takes constant time.
    #[must_use]
    pub fn server(&self, key: &str) -> Option<ServerId> {
        let (id, tag) = key.strip_prefix(PREFIX)?.split_once('.')?;
        let (id, tag) = (URL_SAFE_NO_PAD.decode(id).ok()?, URL_SAFE_NO_PAD.decode(tag).ok()?);
        hmac::verify(&self.0, &[CONTEXT, &id].concat(), &tag).ok()?;
        ServerId::new(str::from_utf8(&id).ok()?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(id: &str) -> ServerId {
        ServerId::new(id).unwrap()
    }

    #[test]
    fn a_key_names_its_server_and_nobody_can_make_one_without_the_secret() {
        let keys = ServerKeys::new(b"secret");
        let key = keys.key(&server("server-1"));
        assert_eq!(keys.server(&key), Some(server("server-1")));
        assert_eq!(keys.key(&server("server-1")), key, "the same after a restart");
        assert_ne!(keys.key(&server("server-2")), key);
        assert_eq!(ServerKeys::new(b"another").server(&key), None);
        let (id, tag) = key.strip_prefix(PREFIX).unwrap().split_once('.').unwrap();
        let other = URL_SAFE_NO_PAD.encode("server-2");
        for bad in [
            String::new(),
            "secret".to_owned(),
            format!("{PREFIX}{id}"),
            format!("{PREFIX}{id}."),
            format!("{PREFIX}{other}.{tag}"),
            format!("{PREFIX}{id}.{}", &tag[1..]),
            format!("{key}."),
        ] {
            assert_eq!(keys.server(&bad), None, "{bad}");
        }
    }

    #[test]
    fn debug_output_has_no_secret() {
        assert_eq!(format!("{:?}", ServerKeys::new(b"secret")), "ServerKeys(…)");
    }
}
