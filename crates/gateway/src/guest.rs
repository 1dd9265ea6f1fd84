//! Keys of guests: how a player without an account is recognized again.
//!
//! A guest's first answer has an id, and a key that proves it: the id with a code that only holders of the private key
//! can make. No state is needed, so keys stay valid across restarts and as long as the private key stays the same. Game
//! servers have that key too and could make such codes, just as they could make connect tokens.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use sortie_domain::ids::PlayerId;
use sortie_tokens::PrivateKey;

/// Separates this use of the private key from its other uses.
const PURPOSE: &[u8] = b"sortie guest key 1";

pub(crate) struct GuestKeys(hmac::Key);

impl GuestKeys {
    pub(crate) fn new(private: &PrivateKey) -> Self {
        let private = hmac::Key::new(hmac::HMAC_SHA256, private.bytes());
        Self(hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&private, PURPOSE).as_ref()))
    }

    /// The key of a guest. Its bearer is that guest.
    pub(crate) fn of(&self, guest: &PlayerId) -> String {
        let code = hmac::sign(&self.0, guest.as_str().as_bytes());
        format!("{guest}.{}", URL_SAFE_NO_PAD.encode(code))
    }

    /// The guest that the key belongs to; `None` if it is invalid.
    pub(crate) fn guest(&self, key: &str) -> Option<PlayerId> {
        let (guest, code) = key.rsplit_once('.')?;
        let code = URL_SAFE_NO_PAD.decode(code).ok()?;
        hmac::verify(&self.0, guest.as_bytes(), &code).ok()?;
        PlayerId::new(guest).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_proves_one_guest_under_one_private_key() {
        let keys = GuestKeys::new(&PrivateKey::new([1; 32]));
        let guest = PlayerId::new("player-1").unwrap();
        let key = keys.of(&guest);
        assert_eq!(keys.guest(&key), Some(guest.clone()));
        assert_eq!(GuestKeys::new(&PrivateKey::new([1; 32])).guest(&key), Some(guest));
        assert_eq!(GuestKeys::new(&PrivateKey::new([2; 32])).guest(&key), None);
        let (_, code) = key.rsplit_once('.').unwrap();
        for wrong in [
            "",
            ".",
            "player-1",
            "player-1.",
            &format!("player-2.{code}"),
            &key[..key.len() - 1],
            &format!("{key}A"),
            &key.to_uppercase(),
        ] {
            assert_eq!(keys.guest(wrong), None, "{wrong}");
        }
    }
}
