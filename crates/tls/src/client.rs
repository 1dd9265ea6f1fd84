//! HTTP clients and the roots they trust: those of the system, and a file of certificates if one is named.

use std::path::Path;

use reqwest::ClientBuilder;
use rustls::{ClientConfig, RootCertStore};

use crate::files::{FileError, certificates};

/// Why a client has no trusted roots.
#[derive(Debug, thiserror::Error)]
pub enum RootsError {
    /// The file with roots is unusable.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file contains no usable root.
    #[error("{0} contains no certificate that can be trusted as a root")]
    NoRoot(String),
    /// The system has no roots, and no file is named.
    #[error(
        "this system has no root certificates: install them (on Debian: ca-certificates), or name a file with SORTIE_CA"
    )]
    NoSystemRoots,
}

/// Builder of a client for `url`, without a proxy. For https it trusts the system's roots and those in the PEM file at
/// `ca`. For other URLs the roots are not read, so that a system need not have any.
///
/// # Errors
/// [`RootsError`]
pub fn http_client(url: &str, ca: Option<&Path>) -> Result<ClientBuilder, RootsError> {
    let is_https = url.get(..6).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https:"));
    let config = trusting(if is_https { roots(ca)? } else { RootCertStore::empty() })?;
    Ok(reqwest::Client::builder().no_proxy().tls_backend_preconfigured(config))
}

/// For clients of protocols other than HTTP: the same roots, and no application protocol yet.
///
/// # Errors
/// [`RootsError`]
pub fn client_config(ca: Option<&Path>) -> Result<ClientConfig, RootsError> {
    trusting(roots(ca)?)
}

fn trusting(roots: RootCertStore) -> Result<ClientConfig, RootsError> {
    let builder = ClientConfig::builder_with_provider(crate::provider());
    let builder = builder.with_safe_default_protocol_versions().map_err(FileError::Library)?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

fn roots(ca: Option<&Path>) -> Result<RootCertStore, RootsError> {
    let mut roots = RootCertStore::empty();
    // Some of the system's roots may be unusable; the others count.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = ca {
        let (added, _) = roots.add_parsable_certificates(certificates(path)?);
        if added == 0 {
            return Err(RootsError::NoRoot(path.display().to_string()));
        }
    }
    if roots.is_empty() { Err(RootsError::NoSystemRoots) } else { Ok(roots) }
}
