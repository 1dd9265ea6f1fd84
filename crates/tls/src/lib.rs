//! TLS by rustls with ring, for both sides of it.
//!
//! | where | what |
//! |---|---|
//! | `files` | a certificate chain and its key, read and held against each other |
//! | `server` | what a port serves, kept up with its files |
//! | `client` | HTTP clients, and whom they trust |
//!
//! A crate of its own so that one choice of library, provider and roots holds for every role. ring is named everywhere:
//! with two providers linked, rustls panics when it has to choose.

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
