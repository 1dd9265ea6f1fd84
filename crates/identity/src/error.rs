//! Why a token, or a way to verify tokens, is refused.

use sortie_watched::FileError;

/// Maximum length of a token, in bytes.
pub const MAX_TOKEN_BYTES: usize = 8 << 10;
/// Minimum length of a secret, in bytes: as long as the hash (RFC 7518, 3.2).
pub const MIN_SECRET_BYTES: usize = 32;

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
