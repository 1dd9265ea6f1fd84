//! Who calls: players by signed tokens (JWT), game servers by keys of their own; and what these are checked with.
//!
//! | where | what |
//! |---|---|
//! | `token` | a token becomes a player id, or a reason why not |
//! | `jwks` | the keys of a JWKS document, and which of them a token is held against |
//! | `fetched` | keys from a URL: when they are fetched, and what holds meanwhile |
//! | `signatures` | the four algorithms, by ring |
//! | `server_key` | keys of game servers, each made of the server's id |
//! | `watched` | a file whose newest content counts |
//!
//! A crate of its own because both doors need it, the API and the gateway, and neither may use the other.
//!
//! Why signed tokens and no sessions of our own: a game has its accounts already, wherever it has them. What signs in
//! players there signs a token, and nothing has to be asked or kept here.

mod fetched;
mod jwks;
mod server_key;
mod signatures;
mod token;
mod watched;

pub use fetched::Fetching;
pub use jwks::{MAX_DOCUMENT_BYTES, MAX_KEYS};
pub use server_key::ServerKeys;
pub use token::{
    BadTokenOptions, MAX_TOKEN_BYTES, MIN_SECRET_BYTES, PlayerTokens, TokenError, TokenKeys, TokenOptions,
    looks_like_token,
};
pub use watched::{FileError, Look, Watched};
