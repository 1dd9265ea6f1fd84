//! Keys in the data folder, readable by their owner only: made once and kept, so that servers that outlive a
//! restart still know them.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use sha2::{Digest, Sha256};
use sortie_config::Permission;

use crate::failure::Failure;

/// Bytes of every key that is made here.
const KEY_BYTES: usize = 32;
/// The netcode key of a development installation.
const NETCODE_KEY: &str = "netcode.key";
/// The API key that is handed to the game servers that are started here.
const GAME_SERVER_KEY: &str = "game_server.key";
/// Begins every API key, so that one that leaked is known for what it is.
const API_KEY_PREFIX: &str = "sortie_";

/// A fresh key of [`KEY_BYTES`] as hexadecimal digits.
fn draw() -> Result<String, Failure> {
    let mut bytes = [0; KEY_BYTES];
    getrandom::fill(&mut bytes).map_err(|error| Failure::of("cannot draw a key", error))?;
    Ok(hex(&bytes))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The netcode key of the data folder, made at first use.
pub(crate) fn netcode_key(data: &Path) -> Result<[u8; KEY_BYTES], Failure> {
    let path = data.join(NETCODE_KEY);
    let digits = keep(&path, draw)?;
    let bytes: Option<Vec<u8>> = (0..KEY_BYTES)
        .map(|at| digits.get(2 * at..2 * at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok()))
        .collect();
    let whole = digits.len() == 2 * KEY_BYTES;
    bytes.filter(|_| whole).and_then(|bytes| bytes.try_into().ok()).ok_or_else(|| {
        Failure::new(format!(
            "{} does not hold 64 hexadecimal digits: put the key back, or remove the file to get a new key",
            path.display()
        ))
    })
}

/// The API key for the game servers that are started here, made at first use.
pub(crate) fn game_server_key(data: &Path) -> Result<String, Failure> {
    keep(&data.join(GAME_SERVER_KEY), draw_api_key)
}

/// A fresh API key.
pub(crate) fn draw_api_key() -> Result<String, Failure> {
    Ok(format!("{API_KEY_PREFIX}{}", draw()?))
}

/// What the file holds; where there is none, what `make` makes.
fn keep(path: &Path, make: impl FnOnce() -> Result<String, Failure>) -> Result<String, Failure> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(text.trim().to_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let made = make()?;
            write(path, made.as_bytes())
                .map_err(|error| Failure::of(format!("cannot write {}", path.display()), error))?;
            Ok(made)
        }
        Err(error) => Err(Failure::of(format!("cannot read {}", path.display()), error)),
    }
}

/// Replaces the file as a whole; only its owner may read it.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let fresh = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&fresh, path)?;
    fs::File::open(folder)?.sync_all()
}

/// The key's hash, as it is kept.
pub(crate) fn hash(key: &str) -> [u8; 32] {
    Sha256::digest(key).into()
}

/// The API's name for a permission of the configuration.
pub(crate) const fn permission(permission: Permission) -> sortie_api::Permission {
    match permission {
        Permission::GameServerMatch => sortie_api::Permission::GameServerMatch,
        Permission::Client => sortie_api::Permission::Client,
        Permission::Admin => sortie_api::Permission::Admin,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn keys_are_made_once_and_only_their_owner_may_read_them() {
        let data = tempfile::tempdir().unwrap();
        assert_eq!(netcode_key(data.path()).unwrap(), netcode_key(data.path()).unwrap());
        assert_eq!(game_server_key(data.path()).unwrap(), game_server_key(data.path()).unwrap());
        for name in [NETCODE_KEY, GAME_SERVER_KEY] {
            let mode = fs::metadata(data.path().join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
    }

    #[test]
    fn a_damaged_key_is_refused_and_not_shown() {
        let data = tempfile::tempdir().unwrap();
        fs::write(data.path().join(NETCODE_KEY), "half a secret").unwrap();
        let failure = netcode_key(data.path()).unwrap_err().to_string();
        assert!(failure.contains("64 hexadecimal digits") && !failure.contains("secret"), "{failure}");
    }
}
