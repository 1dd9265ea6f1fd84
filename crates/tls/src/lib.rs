//! TLS with rustls and ring, for both sides.
//!
//! | where | what |
//! |---|---|
//! | `files` | a certificate chain and its key, read and checked against each other |
//! | `server` | a port's certificate, reloaded when its files change |
//! | `client` | HTTP clients, and the roots they trust |
//!
//! A crate of its own so that every role uses the same library, provider and roots. ring is named everywhere: if two
//! providers are linked, rustls panics when it has to choose.

mod client;
mod files;
mod server;

use std::sync::Arc;

use rustls::crypto::CryptoProvider;

pub use client::{RootsError, client_config, http_client};
pub use files::{CertificateFiles, Expiry, FileError, MAX_FILE_BYTES};
pub use server::{LOOK_PERIOD, server_config};

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
