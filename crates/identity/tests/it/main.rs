//! Player tokens, signed by the tests' own keys.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod signer;
mod tokens;
mod urls;

use sortie_identity::{Fetching, TokenKeys, TokenOptions};

const ISSUER: &str = "https://accounts.example";
const AUDIENCE: &str = "my-game";

fn options(keys: TokenKeys) -> TokenOptions {
    TokenOptions {
        issuer: ISSUER.to_owned(),
        audience: AUDIENCE.to_owned(),
        leeway: std::time::Duration::from_secs(5),
        keys,
        fetching: Fetching::default(),
    }
}
