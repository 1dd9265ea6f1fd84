//! Who calls: players with signed tokens (JWT), game servers with keys of their own; and how these are verified.
//!
//! | where | what |
//! |---|---|
//! | `error` | why a token, or a way to verify tokens, is refused |
//! | `token` | turns a token into a player id, or a reason for refusal |
//! | `jwks` | the keys of a JWKS document, and which of them verifies a token |
//! | `fetched` | keys from a URL: when they are fetched, and what is valid in between |
//! | `signatures` | the four algorithms, with ring |
//! | `server_key` | keys of game servers, derived from the server's id |
//!
//! A crate of its own because both the API and the gateway need it, and neither may use the other.
//!
//! Why signed tokens rather than sessions of our own: a game already has accounts somewhere. Whatever signs players in
//! there signs a token, and nothing has to be looked up or stored here.

mod error;
mod fetched;
mod jwks;
mod server_key;
mod signatures;
mod token;

pub use error::{BadTokenOptions, MAX_TOKEN_BYTES, MIN_SECRET_BYTES, TokenError};
pub use fetched::Fetching;
pub use jwks::{MAX_DOCUMENT_BYTES, MAX_KEYS};
pub use server_key::ServerKeys;
pub use token::{PlayerTokens, TokenKeys, TokenOptions, looks_like_token};
