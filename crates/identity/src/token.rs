//! Player tokens: JWTs ([RFC 7519]) that say who a player is.
//!
//! A token is valid if it is signed by a known key with that key's algorithm, names the configured issuer and audience,
//! has an expiry time and is within its times, and its subject is a player id. The algorithm in a token's header
//! decides nothing: it only has to match the key's ([RFC 8725], 3.1).
//!
//! A token is verified when a call begins. Calls that have begun go on after it expires.
//!
//! [RFC 7519]: https://www.rfc-editor.org/rfc/rfc7519
//! [RFC 8725]: https://www.rfc-editor.org/rfc/rfc8725

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, Header, Validation, decode, decode_header};
use serde::Deserialize;
use sortie_domain::ids::PlayerId;
use sortie_watched::{Look, Watched};
use zeroize::Zeroizing;

use crate::error::{BadTokenOptions, MAX_TOKEN_BYTES, MIN_SECRET_BYTES, TokenError};
use crate::fetched::{Fetched, Fetching};
use crate::jwks::{KeySet, MAX_DOCUMENT_BYTES};
use crate::signatures;

/// Beginning of every token: `{"` in base64.
const BEGINNING: &str = "eyJ";

/// Whether `text` looks like a token, rather than a key or a player id.
#[must_use]
pub fn looks_like_token(text: &str) -> bool {
    text.starts_with(BEGINNING) && text.bytes().filter(|byte| *byte == b'.').count() == 2
}

/// Keys that verify tokens. `Debug` output does not show a secret.
#[derive(Clone)]
pub enum TokenKeys {
    /// HS256: anybody with this secret can create tokens. At least [`MIN_SECRET_BYTES`] bytes.
    Secret(Zeroizing<Vec<u8>>),
    /// RS256, ES256, EdDSA: the public keys of this JWKS file, which is reread when it changes.
    File(PathBuf),
    /// The same from a URL, `http` or `https`.
    Url(String),
}

impl fmt::Debug for TokenKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Secret(_) => f.write_str("Secret(…)"),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::Url(url) => f.debug_tuple("Url").field(url).finish(),
        }
    }
}

/// Which tokens are valid.
#[derive(Clone, Debug)]
pub struct TokenOptions {
    /// Required `iss`.
    pub issuer: String,
    /// Required `aud`, or a member of it.
    pub audience: String,
    /// Tolerated clock difference for `exp` and `nbf`; whole seconds.
    pub leeway: Duration,
    /// Keys that verify them.
    pub keys: TokenKeys,
    /// How keys are fetched from a URL.
    pub fetching: Fetching,
}

/// Identifies players by their tokens. Clones share their keys.
#[derive(Clone)]
pub struct PlayerTokens(Arc<Inner>);

struct Inner {
    /// Everything required of a token except its algorithm.
    demands: Validation,
    keys: Keys,
}

enum Keys {
    Secret(DecodingKey),
    File(Watched<KeySet>),
    Url(Fetched),
}

impl fmt::Debug for PlayerTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PlayerTokens")
    }
}

#[derive(Deserialize)]
struct Claims {
    sub: Option<String>,
}

impl PlayerTokens {
    /// Reads a key file; a URL is fetched when the first token arrives.
    ///
    /// # Errors
    /// [`BadTokenOptions`] if no token could ever be verified.
    pub fn new(options: TokenOptions) -> Result<Self, BadTokenOptions> {
        signatures::install();
        let mut demands = Validation::default();
        demands.set_issuer(&[options.issuer]);
        demands.set_audience(&[options.audience]);
        demands.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        demands.validate_nbf = true;
        demands.leeway = options.leeway.as_secs();
        let keys = match options.keys {
            TokenKeys::Secret(secret) if secret.len() < MIN_SECRET_BYTES => {
                return Err(BadTokenOptions::Secret(secret.len()));
            }
            TokenKeys::Secret(secret) => Keys::Secret(DecodingKey::from_secret(&secret)),
            TokenKeys::File(path) => {
                Keys::File(Watched::open(path, MAX_DOCUMENT_BYTES as u64, |document| {
                    KeySet::parse(document.ok_or_else(|| "is not there".to_owned())?)
                })?)
            }
            TokenKeys::Url(url) => Keys::Url(Fetched::new(&url, options.fetching)?),
        };
        Ok(Self(Arc::new(Inner { demands, keys })))
    }

    /// The player that `token` is about.
    ///
    /// # Errors
    /// [`TokenError`]. Only for [`TokenError::KeysUnavailable`] is it worth retrying with the same token.
    pub async fn player(&self, token: &str) -> Result<PlayerId, TokenError> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(TokenError::TooLong(token.len()));
        }
        let header = decode_header(token).map_err(|_| TokenError::Malformed)?;
        if header.crit.is_some() {
            return Err(TokenError::Critical);
        }
        let Header { alg, kid, .. } = header;
        let inner = &*self.0;
        match &inner.keys {
            Keys::Secret(secret) if alg == Algorithm::HS256 => inner.check(token, alg, secret),
            Keys::Secret(_) => Err(TokenError::Algorithm),
            Keys::File(file) => match file.look() {
                Look::Good(keys) | Look::Damaged(keys, _) => {
                    inner.check(token, alg, keys.find(kid.as_deref(), alg)?)
                }
                // A key that was removed from the file must not stay valid just because the file cannot be read.
                Look::Unreadable(..) => Err(TokenError::KeysUnavailable),
            },
            Keys::Url(keys) => {
                let key = keys.find(|keys| keys.find(kid.as_deref(), alg).cloned()).await?;
                inner.check(token, alg, &key)
            }
        }
    }
}

impl Inner {
    /// `algorithm` is the one of `key`.
    fn check(&self, token: &str, algorithm: Algorithm, key: &DecodingKey) -> Result<PlayerId, TokenError> {
        let demands = Validation { algorithms: vec![algorithm], ..self.demands.clone() };
        let claims = decode::<Claims>(token, key, &demands).map_err(|error| match error.kind() {
            ErrorKind::InvalidSignature => TokenError::Signature,
            ErrorKind::ExpiredSignature => TokenError::Expired,
            ErrorKind::ImmatureSignature => TokenError::NotYet,
            ErrorKind::InvalidIssuer => TokenError::Issuer,
            ErrorKind::InvalidAudience => TokenError::Audience,
            ErrorKind::InvalidAlgorithm => TokenError::Algorithm,
            ErrorKind::MissingRequiredClaim(claim) | ErrorKind::InvalidClaimFormat(claim) => {
                TokenError::Claim(claim.clone())
            }
            // Its signature is valid, so what cannot be parsed is the one claim that is parsed.
            ErrorKind::Json(_) => TokenError::Claim("sub".to_owned()),
            _ => TokenError::Malformed,
        })?;
        let subject = claims.claims.sub.ok_or_else(|| TokenError::Claim("sub".to_owned()))?;
        PlayerId::new(&subject).map_err(|problem| TokenError::Subject(problem.to_string()))
    }
}
