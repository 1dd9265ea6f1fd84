//! A certificate chain and its key: two PEM files that must match.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error as TlsError, InconsistentKeys};
use sortie_watched::Stamp;
use x509_cert::Certificate;
use x509_cert::der::Decode as _;

/// Maximum size of a file, in bytes.
pub const MAX_FILE_BYTES: u64 = 1 << 20;
/// Maximum number of certificates in one file.
const MAX_CERTIFICATES: usize = 1_000;
/// A certificate that expires sooner than this is worth a warning.
const SOON: Duration = Duration::from_secs(7 * 24 * 3600);

/// Paths of a certificate and its key. Symbolic links are followed each time, so they may be changed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CertificateFiles {
    /// PEM, the server's certificate first, then the intermediate ones.
    pub certificate: PathBuf,
    /// PEM, not encrypted: PKCS #8, PKCS #1 or SEC 1.
    pub key: PathBuf,
}

/// Why files are unusable.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// A file cannot be read.
    #[error("cannot read {}: {error}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's error.
        error: io::Error,
    },
    /// A file is too large to be a certificate or a key.
    #[error("{} is longer than {MAX_FILE_BYTES} bytes: it must be a PEM file of certificates or a key", .0.display())]
    TooLong(PathBuf),
    /// The file contains no certificate.
    #[error("{} contains no certificate: it must have PEM sections \"BEGIN CERTIFICATE\", the server's own first", .0.display())]
    NoCertificate(PathBuf),
    /// Something in the file is not a certificate.
    #[error("{} contains a certificate that cannot be read: {problem}", .path.display())]
    BadCertificate {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The key needs a passphrase.
    #[error("the key in {} is encrypted, and there is nobody to ask for the passphrase: use one without (openssl pkey -in {} -out key.pem)", .0.display(), .0.display())]
    Encrypted(PathBuf),
    /// The file contains no key.
    #[error("{} contains no private key: it must have a PEM section \"BEGIN PRIVATE KEY\"", .0.display())]
    NoKey(PathBuf),
    /// The key is of a kind that is not supported.
    #[error("the key in {} cannot be used: it must be RSA with 2048 bits or more, ECDSA P-256 or P-384, or Ed25519", .0.display())]
    BadKey(PathBuf),
    /// Certificate and key do not match.
    #[error("the key in {} does not belong to the first certificate in {}", .key.display(), .certificate.display())]
    NotAPair {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// The TLS library cannot be set up.
    #[error("TLS cannot be set up: {0}")]
    Library(TlsError),
}

/// How long a certificate is valid.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Expiry {
    /// Its last valid moment.
    pub not_after: SystemTime,
}

impl Expiry {
    /// A warning about it at `now`, if one is needed.
    #[must_use]
    pub fn warning(&self, now: SystemTime) -> Option<String> {
        let days = |duration: Duration| duration.as_secs() / (24 * 3600);
        match self.not_after.duration_since(now) {
            Ok(left) if left > SOON => None,
            Ok(left) => Some(format!("the TLS certificate expires in {} days: renew it", days(left))),
            Err(over) => Some(format!(
                "the TLS certificate expired {} days ago, so clients refuse to connect: renew it",
                days(over.duration())
            )),
        }
    }
}

/// A chain with its key.
pub(crate) struct Pair {
    pub(crate) key: Arc<CertifiedKey>,
    pub(crate) expiry: Expiry,
}

impl CertificateFiles {
    /// Reads both files as a server would, and returns how long the certificate is valid.
    ///
    /// # Errors
    /// [`FileError`]
    pub fn check(&self) -> Result<Expiry, FileError> {
        self.load().map(|pair| pair.expiry)
    }

    pub(crate) fn load(&self) -> Result<Pair, FileError> {
        let chain = certificates(&self.certificate)?;
        let expiry = expiry(&self.certificate, &chain)?;
        let key = private_key(&self.key)?;
        match CertifiedKey::from_der(chain, key, &crate::provider()) {
            Ok(key) => Ok(Pair { key: Arc::new(key), expiry }),
            Err(TlsError::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
                Err(FileError::NotAPair { certificate: self.certificate.clone(), key: self.key.clone() })
            }
            Err(TlsError::InvalidCertificate(problem)) => Err(FileError::BadCertificate {
                path: self.certificate.clone(),
                problem: problem.to_string(),
            }),
            Err(_) => Err(FileError::BadKey(self.key.clone())),
        }
    }

    /// `None` for a file of which the system does not say.
    pub(crate) fn stamps(&self) -> [Option<Stamp>; 2] {
        [Stamp::at(&self.certificate), Stamp::at(&self.key)]
    }
}

/// All certificates of a PEM file, at least one.
pub(crate) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, FileError> {
    let text = read(path)?;
    let sections = CertificateDer::pem_slice_iter(&text).take(MAX_CERTIFICATES);
    let chain = sections.collect::<Result<Vec<_>, _>>().map_err(|problem| FileError::BadCertificate {
        path: path.to_owned(),
        problem: problem.to_string(),
    })?;
    if chain.is_empty() { Err(FileError::NoCertificate(path.to_owned())) } else { Ok(chain) }
}

fn expiry(path: &Path, chain: &[CertificateDer<'_>]) -> Result<Expiry, FileError> {
    let first = chain.first().map_or(&[][..], |first| first);
    let parsed = Certificate::from_der(first).map_err(|problem| FileError::BadCertificate {
        path: path.to_owned(),
        problem: problem.to_string(),
    })?;
    let not_after = parsed.tbs_certificate.validity.not_after.to_unix_duration();
    Ok(Expiry { not_after: UNIX_EPOCH + not_after })
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, FileError> {
    let text = read(path)?;
    match PrivateKeyDer::from_pem_slice(&text) {
        // The traditional format says so in a header within the section, which then looks like a key.
        _ if is_encrypted(&text) => Err(FileError::Encrypted(path.to_owned())),
        Ok(key) => Ok(key),
        Err(_) => Err(FileError::NoKey(path.to_owned())),
    }
}

fn is_encrypted(text: &[u8]) -> bool {
    let marks: [&[u8]; 2] = [b"-----BEGIN ENCRYPTED PRIVATE KEY-----", b"Proc-Type: 4,ENCRYPTED"];
    marks.iter().any(|mark| text.windows(mark.len()).any(|window| window == *mark))
}

fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    use sortie_watched::FileError as Unread;
    let unreadable = |error| FileError::Unreadable { path: path.to_owned(), error };
    match sortie_watched::read(path, MAX_FILE_BYTES).and_then(|(_, content)| content) {
        Ok(Some(text)) => Ok(text),
        Ok(None) => Err(unreadable(io::ErrorKind::NotFound.into())),
        Err(Unread::Unreadable { error, .. }) => Err(unreadable(error)),
        Err(Unread::TooLarge { .. } | Unread::Content { .. }) => Err(FileError::TooLong(path.to_owned())),
    }
}
