//! The private netcode key, from the source that the configuration names.

use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use base64ct::{Base64, Encoding as _};
use zeroize::Zeroizing;

use crate::parse;
use crate::section::Section;

/// Length of the key, in bytes.
pub const KEY_BYTES: usize = 32;

/// Maximum size of a key file, in bytes: the longest form and a line end.
const MAX_KEY_FILE_BYTES: u64 = 128;

/// The source of the key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum KeySource {
    /// This file; absolute.
    File(PathBuf),
    /// The environment variable of this name.
    Variable(String),
}

/// The key that seals connect tokens. Never appears in `Debug`; its memory is cleared when it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct NetcodeKey {
    source: KeySource,
    bytes: Zeroizing<[u8; KEY_BYTES]>,
}

impl NetcodeKey {
    /// Its source.
    #[must_use]
    pub const fn source(&self) -> &KeySource {
        &self.source
    }

    /// The secret itself.
    #[must_use]
    pub fn bytes(&self) -> &[u8; KEY_BYTES] {
        &self.bytes
    }
}

impl fmt::Debug for NetcodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NetcodeKey").field("source", &self.source).finish_non_exhaustive()
    }
}

/// The section `netcode`; `Some(None)` without a key.
pub(crate) fn read(section: &Section<'_>) -> Option<Option<NetcodeKey>> {
    let file = section.optional_path("key_file");
    let variable = section.optional("key_env", parse::variable_name);
    match (file?, variable?) {
        (None, None) => Some(None),
        (Some(_), Some(_)) => {
            section.problem("key_env", "is given together with `key_file`; keep one of them");
            None
        }
        (Some(file), None) => {
            let bytes = noted(section, "key_file", from_file(&file))?;
            Some(Some(NetcodeKey { source: KeySource::File(file), bytes }))
        }
        (None, Some(name)) => {
            let text =
                section.variable(&name).ok_or_else(|| format!("names the variable {name}, which is not set"));
            let bytes = noted(section, "key_env", text.and_then(|text| decode(text.as_bytes())))?;
            Some(Some(NetcodeKey { source: KeySource::Variable(name), bytes }))
        }
    }
}

fn noted<T>(section: &Section<'_>, key: &str, result: Result<T, String>) -> Option<T> {
    result.map_err(|problem| section.problem(key, problem)).ok()
}

fn from_file(path: &Path) -> Result<Zeroizing<[u8; KEY_BYTES]>, String> {
    let file = File::open(path).map_err(|error| format!("names a file that cannot be opened: {error}"))?;
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_KEY_FILE_BYTES as usize + 1));
    file.take(MAX_KEY_FILE_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| format!("names a file that cannot be read: {error}"))?;
    match <[u8; KEY_BYTES]>::try_from(bytes.as_slice()) {
        Ok(raw) => Ok(Zeroizing::new(raw)),
        Err(_) => decode(&bytes),
    }
}

/// A key from its text form, surrounding space ignored.
fn decode(text: &[u8]) -> Result<Zeroizing<[u8; KEY_BYTES]>, String> {
    let text = text.trim_ascii();
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    let hexadecimal =
        base16ct::mixed::decode(text, &mut *key).is_ok_and(|decoded| decoded.len() == KEY_BYTES);
    if hexadecimal {
        return Ok(key);
    }
    let base64 = str::from_utf8(text)
        .is_ok_and(|text| Base64::decode(text, &mut *key).is_ok_and(|decoded| decoded.len() == KEY_BYTES));
    if base64 {
        return Ok(key);
    }
    Err(format!(
        "does not lead to a valid key: it must be {KEY_BYTES} bytes, as 64 hexadecimal digits or 44 characters of base64"
    ))
}
