//! Keys in the data folder, readable by their owner only: created once and kept, so that servers that outlive a restart
//! still know them.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use sha2::{Digest, Sha256};
use sortie_config::Permission;
use zeroize::Zeroizing;

use crate::failure::Failure;
use crate::private;
use crate::room::Unwritten;

/// Size of every key that is created here, in bytes.
const KEY_BYTES: usize = 32;
/// The netcode key of a development installation.
const NETCODE_KEY: &str = "netcode.key";
/// The API key that is given to the game servers that are started here.
const GAME_SERVER_KEY: &str = "game_server.key";
/// Prefix of every API key, so that a leaked one is recognized.
const API_KEY_PREFIX: &str = "sortie_";

/// A new key of [`KEY_BYTES`] as hexadecimal digits.
fn draw() -> Result<String, Failure> {
    let mut bytes = [0; KEY_BYTES];
    getrandom::fill(&mut bytes).map_err(|error| Failure::of("cannot generate a key", error))?;
    Ok(base16ct::lower::encode_string(&bytes))
}

/// The netcode key of the data folder, created at first use.
pub(crate) fn netcode_key(data: &Path, unwritten: &mut Unwritten) -> Result<[u8; KEY_BYTES], Failure> {
    let path = data.join(NETCODE_KEY);
    let digits = keep(data, NETCODE_KEY, draw, unwritten)?;
    let mut key = [0; KEY_BYTES];
    let decoded = base16ct::mixed::decode(&digits, &mut key).map(<[u8]>::len);
    decoded.ok().filter(|bytes| *bytes == KEY_BYTES).map(|_| key).ok_or_else(|| {
        Failure::new(format!(
            "{} does not hold 64 hexadecimal digits: put the key back, or remove the file to get a new key",
            path.display()
        ))
    })
}

/// The API key for the game servers that are started here, created at first use.
pub(crate) fn game_server_key(data: &Path, unwritten: &mut Unwritten) -> Result<String, Failure> {
    let key = keep(data, GAME_SERVER_KEY, draw_api_key, unwritten)?;
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    let digits = key.strip_prefix(API_KEY_PREFIX).filter(|digits| digits.len() == 2 * KEY_BYTES);
    if digits.is_some_and(|digits| digits.bytes().all(is_digit)) {
        return Ok(key);
    }
    Err(Failure::new(format!(
        "{} does not hold {API_KEY_PREFIX} and {} hexadecimal digits: put the key back, or remove the file to get a new key, \
         which running game servers do not have",
        data.join(GAME_SERVER_KEY).display(),
        2 * KEY_BYTES
    )))
}

/// A new API key.
pub(crate) fn draw_api_key() -> Result<String, Failure> {
    Ok(format!("{API_KEY_PREFIX}{}", draw()?))
}

/// Maximum size of a file with a key, in bytes: much more than any needs.
const MAX_FILE_BYTES: u64 = 4096;

/// The content of the file in the data folder; if it does not exist, the result of `make`, which is written when there
/// is room.
fn keep(
    data: &Path,
    name: &'static str,
    make: impl FnOnce() -> Result<String, Failure>,
    unwritten: &mut Unwritten,
) -> Result<String, Failure> {
    let path = data.join(name);
    let mut text = Zeroizing::new(String::new());
    let read = File::open(&path).and_then(|file| file.take(MAX_FILE_BYTES).read_to_string(&mut text));
    match read {
        Ok(_) => Ok(text.trim().to_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let made = make()?;
            let (data, kept) = (data.to_owned(), Zeroizing::new(made.clone()));
            unwritten.write(move || private::replace(&data, name, kept.as_bytes()))?;
            Ok(made)
        }
        Err(error) => Err(Failure::of(format!("cannot read {}", path.display()), error)),
    }
}

/// The key's hash, as it is stored.
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
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn keys_are_made_once_and_only_their_owner_may_read_them() {
        let data = tempfile::tempdir().unwrap();
        assert_eq!(
            netcode_key(data.path(), &mut Unwritten::default()).unwrap(),
            netcode_key(data.path(), &mut Unwritten::default()).unwrap()
        );
        assert_eq!(
            game_server_key(data.path(), &mut Unwritten::default()).unwrap(),
            game_server_key(data.path(), &mut Unwritten::default()).unwrap()
        );
        for name in [NETCODE_KEY, GAME_SERVER_KEY] {
            let mode = fs::metadata(data.path().join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
    }

    #[test]
    fn a_damaged_key_is_refused_and_not_shown() {
        let data = tempfile::tempdir().unwrap();
        fs::write(data.path().join(NETCODE_KEY), "half a secret").unwrap();
        let failure = netcode_key(data.path(), &mut Unwritten::default()).unwrap_err().to_string();
        assert!(failure.contains("64 hexadecimal digits") && !failure.contains("secret"), "{failure}");
        let digits = "0123456789abcdef".repeat(4);
        for bad in [format!("+{}", &digits[1..]), digits[1..].to_owned(), format!("{digits}00")] {
            fs::write(data.path().join(NETCODE_KEY), &bad).unwrap();
            let failure = netcode_key(data.path(), &mut Unwritten::default()).unwrap_err().to_string();
            assert!(failure.contains("64 hexadecimal digits") && !failure.contains("0123"), "{failure}");
        }
        for bad in [
            "",
            "\n",
            "x",
            "sortie_",
            &digits,
            &format!("sortie_{}", &digits[1..]),
            &format!("sortie_{}g", &digits[1..]),
        ] {
            fs::write(data.path().join(GAME_SERVER_KEY), bad).unwrap();
            let failure = game_server_key(data.path(), &mut Unwritten::default()).unwrap_err().to_string();
            assert!(
                failure.contains("64 hexadecimal digits") && failure.contains("remove the file"),
                "{failure}"
            );
            assert!(!failure.contains("0123"), "{failure}");
        }
        fs::write(data.path().join(GAME_SERVER_KEY), format!("sortie_{digits}\n")).unwrap();
        assert_eq!(
            game_server_key(data.path(), &mut Unwritten::default()).unwrap(),
            format!("sortie_{digits}")
        );
    }
}
