//! Player tokens: JWTs ([RFC 7519]) that say who a player is.
//!
//! A token is good if it is signed by a key that is known, with the one algorithm which that key is for, names the
//! issuer and the audience that are configured, has a time when it ends and is within its times, and its subject is a
//! player id. The algorithm in a token's header decides nothing: it only has to be that of the key ([RFC 8725], 3.1).
//!
//! A token is checked when a call begins. What has begun with it goes on when it expires.
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

/// Longest token, in bytes.
pub const MAX_TOKEN_BYTES: usize = 8 << 10;
/// Shortest secret, in bytes: as many as the hash has (RFC 7518, 3.2).
pub const MIN_SECRET_BYTES: usize = 32;

/// What every token begins with: `{"` in base64.
const BEGINNING: &str = "eyJ";

/// Whether `text` is meant as a token, and not as a key or a player id.
#[must_use]
pub fn looks_like_token(text: &str) -> bool {
    text.starts_with(BEGINNING) && text.bytes().filter(|byte| *byte == b'.').count() == 2
}

/// Why a token says nothing about who calls. The texts are for whoever sent it.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TokenError {
    /// More than is ever read.
    #[error("the player token has {0} bytes, at most {MAX_TOKEN_BYTES} are allowed")]
    TooLong(usize),
    /// No token at all, or one of a kind that is never taken, like `none`.
    #[error("this is no player token: it must be a JWT, signed with HS256, RS256, ES256 or EdDSA")]
    Malformed,
    /// It has header fields that whoever does not understand them must refuse it for (RFC 7515, 4.1.11).
    #[error("the player token has critical header fields (`crit`), and none are understood")]
    Critical,
    /// The key is for another algorithm.
    #[error("the player token is signed with another algorithm than its key is for")]
    Algorithm,
    /// No such key, even after another look.
    #[error("the key that the player token is signed with is not known")]
    UnknownKey,
    /// It could be any of several keys.
    #[error("the player token must name its key (`kid`), because there are several that it could be")]
    AmbiguousKey,
    /// Signed by somebody else, or changed since.
    #[error("the signature of the player token is wrong")]
    Signature,
    /// `exp` is past.
    #[error("the player token has expired; sign in again")]
    Expired,
    /// `nbf` is to come.
    #[error("the player token is not valid yet")]
    NotYet,
    /// `iss` is another one.
    #[error("the player token comes from another issuer (`iss`) than the one that is trusted here")]
    Issuer,
    /// `aud` names somebody else.
    #[error("the player token is for another audience (`aud`)")]
    Audience,
    /// Something must be there that is not, or has the wrong form.
    #[error("the player token has no good `{0}`")]
    Claim(String),
    /// `sub` is no player id.
    #[error("the subject (`sub`) of the player token is no player id: {0}")]
    Subject(String),
    /// Not the token's fault: there are no keys to hold it against.
    #[error(
        "player tokens cannot be checked at the moment, because their keys cannot be fetched; try again later"
    )]
    KeysUnavailable,
}

/// What tokens are checked with. `Debug` output does not show a secret.
#[derive(Clone)]
pub enum TokenKeys {
    /// HS256: whoever has this secret can make tokens. At least [`MIN_SECRET_BYTES`] bytes.
    Secret(Zeroizing<Vec<u8>>),
    /// RS256, ES256, EdDSA: the public keys of this JWKS file, whose newest content counts.
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

/// Which tokens are good.
#[derive(Clone, Debug)]
pub struct TokenOptions {
    /// What `iss` must be.
    pub issuer: String,
    /// What `aud` must be, or hold.
    pub audience: String,
    /// By how much clocks may differ, for `exp` and `nbf`; whole seconds.
    pub leeway: Duration,
    /// What they are checked with.
    pub keys: TokenKeys,
    /// How keys are fetched from a URL.
    pub fetching: Fetching,
}

/// Why tokens could not be checked with these options.
#[derive(Debug, thiserror::Error)]
pub enum BadTokenOptions {
    /// A secret that could be guessed.
    #[error("the secret of player tokens has {0} bytes, but HS256 needs at least {MIN_SECRET_BYTES}")]
    Secret(usize),
    /// The file of keys.
    #[error("the keys of player tokens: {0}")]
    File(#[from] FileError),
    /// Not a URL.
    #[error("the keys of player tokens: {0:?} is no URL")]
    Url(String),
    /// Nobody's certificate could be checked.
    #[error("the keys of player tokens: {0}")]
    Roots(#[from] sortie_tls::RootsError),
    /// A fault of the program.
    #[error("the keys of player tokens: no client for their URL: {0}")]
    Client(reqwest::Error),
}

/// Tells who players are by their tokens. Clones share their keys.
#[derive(Clone)]
pub struct PlayerTokens(Arc<Inner>);

struct Inner {
    /// All that is asked of a token but its algorithm.
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
    /// Reads a file of keys; a URL is asked when the first token comes.
    ///
    /// # Errors
    /// [`BadTokenOptions`] if no token could ever be checked.
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

    /// The player whom `token` is about.
    ///
    /// # Errors
    /// [`TokenError`]. Only [`TokenError::KeysUnavailable`] is worth another try with the same token.
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
                // A key that was taken out of the file must not be good only because the file cannot be read.
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
    /// `algorithm` is the one that `key` is for.
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
            // Its signature was good, so what cannot be read is the one claim that is read.
            ErrorKind::Json(_) => TokenError::Claim("sub".to_owned()),
            _ => TokenError::Malformed,
        })?;
        let subject = claims.claims.sub.ok_or_else(|| TokenError::Claim("sub".to_owned()))?;
        PlayerId::new(&subject).map_err(|problem| TokenError::Subject(problem.to_string()))
    }
}
