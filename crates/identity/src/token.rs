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
use zeroize::Zeroizing;

use crate::fetched::{Fetched, Fetching};
use crate::jwks::{KeySet, MAX_DOCUMENT_BYTES};
use crate::signatures;
use crate::watched::{FileError, Look, Watched};

/// Maximum length of a token, in bytes.
pub const MAX_TOKEN_BYTES: usize = 8 << 10;
/// Minimum length of a secret, in bytes: as long as the hash (RFC 7518, 3.2).
pub const MIN_SECRET_BYTES: usize = 32;

/// Beginning of every token: `{"` in base64.
const BEGINNING: &str = "eyJ";

/// Whether `text` looks like a token, rather than a key or a player id.
#[must_use]
pub fn looks_like_token(text: &str) -> bool {
    text.starts_with(BEGINNING) && text.bytes().filter(|byte| *byte == b'.').count() == 2
}

/// Why a token does not identify a caller. The texts are for the caller.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TokenError {
    /// More than is ever read.
    #[error("the player token has {0} bytes, at most {MAX_TOKEN_BYTES} are allowed")]
    TooLong(usize),
    /// Not a token, or one of a kind that is never accepted, like `none`.
    #[error("this is not a player token: it must be a JWT, signed with HS256, RS256, ES256 or EdDSA")]
    Malformed,
    /// It has critical header fields, which must be refused if they are not understood (RFC 7515, 4.1.11).
    #[error("the player token has critical header fields (`crit`), and none are understood")]
    Critical,
    /// Its algorithm is not the key's.
    #[error("the player token is signed with a different algorithm than its key's")]
    Algorithm,
    /// The key is unknown, even after a refresh.
    #[error("the player token is signed with an unknown key")]
    UnknownKey,
    /// Several keys could match.
    #[error("the player token must name its key (`kid`), because several keys could match")]
    AmbiguousKey,
    /// Signed by somebody else, or altered since.
    #[error("the signature of the player token is wrong")]
    Signature,
    /// `exp` is in the past.
    #[error("the player token has expired; sign in again")]
    Expired,
    /// `nbf` is in the future.
    #[error("the player token is not valid yet")]
    NotYet,
    /// `iss` is not the configured one.
    #[error("the player token comes from an issuer (`iss`) that is not trusted here")]
    Issuer,
    /// `aud` does not include the configured one.
    #[error("the player token is for another audience (`aud`)")]
    Audience,
    /// A required claim is missing or malformed.
    #[error("the player token has no valid `{0}`")]
    Claim(String),
    /// `sub` is not a player id.
    #[error("the subject (`sub`) of the player token is not a player id: {0}")]
    Subject(String),
    /// Not the token's fault: there are no keys to verify it with.
    #[error(
        "player tokens cannot be verified at the moment, because their keys cannot be fetched; try again later"
    )]
    KeysUnavailable,
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

/// Why tokens cannot be verified with these options.
#[derive(Debug, thiserror::Error)]
pub enum BadTokenOptions {
    /// The secret is too short.
    #[error("the secret of player tokens has {0} bytes, but HS256 needs at least {MIN_SECRET_BYTES}")]
    Secret(usize),
    /// The key file is unusable.
    #[error("the keys of player tokens: {0}")]
    File(#[from] FileError),
    /// Not a URL.
    #[error("the keys of player tokens: {0:?} is not a URL")]
    Url(String),
    /// There are no roots to verify the URL's certificate with.
    #[error("the keys of player tokens: {0}")]
    Roots(#[from] sortie_tls::RootsError),
    /// A bug in the program.
    #[error("the keys of player tokens: no client for their URL: {0}")]
    Client(reqwest::Error),
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
