//! The keys of a JWKS document ([RFC 7517]), and which of them verifies a token.
//!
//! The algorithm of a key follows from the key itself, never from what a token says: RSA is RS256, P-256 is ES256,
//! Ed25519 is EdDSA. Keys for anything else are skipped, as the RFC asks; so are secrets, which do not belong in a
//! public document.
//!
//! [RFC 7517]: https://www.rfc-editor.org/rfc/rfc7517

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;

use crate::error::TokenError;

/// Maximum size of a JWKS document, in bytes.
pub const MAX_DOCUMENT_BYTES: usize = 256 << 10;
/// Maximum number of keys in a document.
pub const MAX_KEYS: usize = 100;

/// Public keys by id.
#[derive(Default)]
pub(crate) struct KeySet(Vec<Key>);

struct Key {
    id: Option<String>,
    algorithm: Algorithm,
    decoding: DecodingKey,
}

#[derive(Deserialize)]
struct Document {
    keys: Vec<serde_json::Value>,
}

impl KeySet {
    /// The error text continues a sentence about the document.
    pub(crate) fn parse(document: &[u8]) -> Result<Self, String> {
        let Document { keys } = serde_json::from_slice(document)
            .map_err(|error| format!("is not a JWKS document like {{\"keys\": […]}}: {error}"))?;
        if keys.len() > MAX_KEYS {
            return Err(format!("has {} keys, at most {MAX_KEYS} are allowed", keys.len()));
        }
        let usable: Vec<_> = keys.into_iter().filter_map(Key::read).collect();
        if usable.is_empty() {
            return Err("has no key for RS256, ES256 or EdDSA signatures".to_owned());
        }
        Ok(Self(usable))
    }

    /// The key that verifies a token with this header.
    pub(crate) fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Result<&DecodingKey, TokenError> {
        let mut named = self.0.iter().filter(|key| id.is_none() || key.id.as_deref() == id).peekable();
        if named.peek().is_none() {
            return Err(TokenError::UnknownKey);
        }
        let mut fitting = named.filter(|key| key.algorithm == algorithm);
        match (fitting.next(), fitting.next()) {
            (Some(key), None) => Ok(&key.decoding),
            (Some(_), Some(_)) => Err(TokenError::AmbiguousKey),
            (None, _) => Err(TokenError::Algorithm),
        }
    }
}

impl Key {
    fn read(entry: serde_json::Value) -> Option<Self> {
        let jwk: Jwk = serde_json::from_value(entry).ok()?;
        let (algorithm, name) = match &jwk.algorithm {
            AlgorithmParameters::RSA(_) => (Algorithm::RS256, KeyAlgorithm::RS256),
            AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => {
                (Algorithm::ES256, KeyAlgorithm::ES256)
            }
            AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
                (Algorithm::EdDSA, KeyAlgorithm::EdDSA)
            }
            _ => return None,
        };
        let for_signatures =
            jwk.common.public_key_use.as_ref().is_none_or(|used| *used == PublicKeyUse::Signature);
        let fits = jwk.common.key_algorithm.is_none_or(|named| named == name);
        let decoding = DecodingKey::from_jwk(&jwk).ok()?;
        (for_signatures && fits).then(|| Self { id: jwk.common.key_id, algorithm, decoding })
    }
}
