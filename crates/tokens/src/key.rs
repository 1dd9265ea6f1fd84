//! The private key that seals tokens.

use core::fmt;
use core::str::FromStr;

use base64ct::Encoding as _;
use zeroize::Zeroize as _;

/// Length of the private key and of each session key, in bytes.
pub const KEY_BYTES: usize = 32;

const HEX_CHARACTERS: usize = 2 * KEY_BYTES;
const BASE64_CHARACTERS: usize = KEY_BYTES.div_ceil(3) * 4;

/// The secret that the minter shares with the game servers of a fleet.
///
/// `Debug` output never shows it, and its memory is cleared when it is dropped. Its text form (see [`FromStr`]) is 64
/// hexadecimal digits or the 44 characters of standard base64 with padding; both are decoded in constant time.
#[derive(Clone)]
pub struct PrivateKey([u8; KEY_BYTES]);

impl PrivateKey {
    /// A key from its bytes.
    #[must_use]
    pub const fn new(bytes: [u8; KEY_BYTES]) -> Self {
        Self(bytes)
    }

    /// The secret itself, for deriving other keys from it.
    #[must_use]
    pub const fn bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }
}

impl FromStr for PrivateKey {
    type Err = BadKey;

    fn from_str(text: &str) -> Result<Self, BadKey> {
        // Decoded straight into the key, so that anything decoded is cleared with it.
        let mut key = Self([0; KEY_BYTES]);
        let decoded = match text.len() {
            HEX_CHARACTERS => base16ct::mixed::decode(text, &mut key.0).map_err(|_| BadKey::NotHex)?,
            BASE64_CHARACTERS => base64ct::Base64::decode(text, &mut key.0).map_err(|_| BadKey::NotBase64)?,
            bytes => return Err(BadKey::WrongLength { bytes }),
        };
        // 44 characters of base64 with one `=` are 32 bytes; with two they are 31.
        if decoded.len() == KEY_BYTES { Ok(key) } else { Err(BadKey::NotBase64) }
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(redacted)")
    }
}

impl Drop for PrivateKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// Why a text is not a [`PrivateKey`]. Never contains any of the text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BadKey {
    /// The text has the length of neither form.
    WrongLength {
        /// Its length in bytes.
        bytes: usize,
    },
    /// It has the length of the hexadecimal form, but contains other characters.
    NotHex,
    /// It has the length of the base64 form, but is not 32 bytes in standard base64.
    NotBase64,
}

impl fmt::Display for BadKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WrongLength { bytes } => write!(
                f,
                "a private key has {HEX_CHARACTERS} hexadecimal digits or {BASE64_CHARACTERS} characters of \
                 base64, this text has {bytes}"
            ),
            Self::NotHex => write!(
                f,
                "a private key of {HEX_CHARACTERS} characters must be hexadecimal: 0-9, a-f or A-F only"
            ),
            Self::NotBase64 => write!(
                f,
                "a private key of {BASE64_CHARACTERS} characters must be {KEY_BYTES} bytes in standard base64 \
                 with padding"
            ),
        }
    }
}

impl core::error::Error for BadKey {}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use alloc::string::ToString;

    const BYTES: [u8; KEY_BYTES] = *b"an example very very secret key.";
    const HEX: &str = "616e206578616d706c652076657279207665727920736563726574206b65792e";
    const BASE64: &str = "YW4gZXhhbXBsZSB2ZXJ5IHZlcnkgc2VjcmV0IGtleS4=";

    #[test]
    fn both_text_forms_are_read() {
        assert_eq!(HEX.parse::<PrivateKey>().unwrap().bytes(), &BYTES);
        assert_eq!(HEX.to_uppercase().parse::<PrivateKey>().unwrap().bytes(), &BYTES);
        assert_eq!(BASE64.parse::<PrivateKey>().unwrap().bytes(), &BYTES);
    }

    #[test]
    fn a_bad_text_is_refused_without_showing_it() {
        let too_short = "W".repeat(43);
        let two_pads = format!("{}==", "A".repeat(42));
        for (text, wrong) in [
            ("", BadKey::WrongLength { bytes: 0 }),
            (too_short.as_str(), BadKey::WrongLength { bytes: 43 }),
            ("W".repeat(64).as_str(), BadKey::NotHex),
            ("-".repeat(44).as_str(), BadKey::NotBase64),
            ("A".repeat(44).as_str(), BadKey::NotBase64),
            (two_pads.as_str(), BadKey::NotBase64),
        ] {
            let refusal = text.parse::<PrivateKey>().unwrap_err();
            assert_eq!(refusal, wrong, "{text}");
            assert!(text.is_empty() || !refusal.to_string().contains(text));
        }
    }

    #[test]
    fn debug_output_has_no_key() {
        assert_eq!(format!("{:?}", PrivateKey::new(BYTES)), "PrivateKey(redacted)");
    }
}
