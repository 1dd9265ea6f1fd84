//! Secrets that the configuration names but does not contain: in a file, or in an environment variable.

use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::section::Section;

/// Maximum size of a secret, in bytes.
pub(crate) const MAX_SECRET_BYTES: usize = 4096;

/// The source of a secret.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SecretSource {
    /// This file; absolute.
    File(PathBuf),
    /// The environment variable of this name.
    Variable(String),
}

/// A secret. Never appears in `Debug`; its memory is cleared when it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// These bytes as a secret.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self(Zeroizing::new(bytes.to_vec()))
    }

    /// The secret itself.
    #[must_use]
    pub const fn bytes(&self) -> &Zeroizing<Vec<u8>> {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// The secret in the file at `path`, with a size within `length`.
pub(crate) fn from_file(path: &Path, length: RangeInclusive<usize>) -> Result<Secret, String> {
    let file = File::open(path).map_err(|error| format!("names a file that cannot be opened: {error}"))?;
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_SECRET_BYTES + 1));
    file.take(MAX_SECRET_BYTES as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| format!("names a file that cannot be read: {error}"))?;
    secret(&bytes, length)
}

/// The secret in the environment variable `name`.
pub(crate) fn from_variable(
    section: &Section<'_>,
    name: &str,
    length: RangeInclusive<usize>,
) -> Result<Secret, String> {
    let text =
        section.variable(name).ok_or_else(|| format!("names the variable {name}, which is not set"))?;
    secret(text.as_bytes(), length)
}

/// The bytes unchanged, except for a trailing line end.
fn secret(bytes: &[u8], length: RangeInclusive<usize>) -> Result<Secret, String> {
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
    if !length.contains(&bytes.len()) {
        return Err(format!(
            "leads to a secret of {} bytes: it must have {} to {} (openssl rand -hex 32)",
            bytes.len(),
            length.start(),
            length.end()
        ));
    }
    Ok(Secret::of(bytes))
}
