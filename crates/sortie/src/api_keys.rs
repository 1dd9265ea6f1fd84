//! The API keys that `sortie key` makes, in `<data>/api_keys.json`: their names, hashes and permissions.
//!
//! Why a file that both sides read, and not a call to the running process: a key can be created before a process
//! exists, and revoked when the process does not answer or nobody has an admin key left. A change is in force when the
//! command returns, because the process checks the file at each call ([`sortie_watched::Watched`]), in less than a
//! microsecond. What a revoked key has opened is closed: streams end with their next event or heartbeat. A call that is
//! held open is still answered, within `broker.wait`, because it may have taken a match already.
//!
//! The file is replaced as a whole, and each change holds a lock, so that two commands at once lose nothing. The file
//! belongs to the user who runs the control plane, even after root has changed it ([`crate::private`]). The command
//! then asks the running control plane which keys it holds ([`crate::presence`]), and reports that.
//!
//! While the file has changed and cannot be read (no descriptors left, a failing disk), none of its keys is accepted: a
//! revoked key must not work because of that. Callers get `unavailable` and `/readyz` says why; each call tries again.
//! A file that can be read but is malformed revokes nothing: `sortie key` never writes one, and a slip in an editor
//! would close all streams. `/readyz` then says `degraded`.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use sortie_api::{ApiKey, KeyRing, KeySource, ServersOfKey};
use sortie_config::Permission;
use sortie_domain::ids::FleetId;
use sortie_engine::log::open_own;
use sortie_watched::{Look, Watched};

use crate::failure::Failure;
use crate::private;
use crate::secrets::{self, hash};

/// The file.
const API_KEYS: &str = "api_keys.json";
/// Locked while the file is changed.
const LOCK: &str = "api_keys.lock";
/// Maximum size of the file, in bytes: enough for the maximum number of keys with the longest names.
const MAX_FILE_BYTES: u64 = 1 << 20;
/// Maximum length of a key's name, in characters.
const MAX_NAME: usize = 64;

/// One key, as it is stored.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredKey {
    name: String,
    sha256: String,
    permissions: Vec<String>,
    /// The fleets whose servers the key speaks for; empty: servers that register themselves.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    fleets: Vec<String>,
    /// RFC 3339, UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    created_at: Option<String>,
}

impl StoredKey {
    fn checked(&self) -> Result<ApiKey, String> {
        let sha256 = unhex(&self.sha256).ok_or_else(|| format!("sha256 of {:?}", self.name))?;
        let permissions = self.permissions.iter().map(|name| {
            let known = Permission::by_name(name);
            known.map(secrets::permission).ok_or_else(|| format!("permission {name:?}"))
        });
        let fleets = self.fleets.iter().map(|name| FleetId::new(name));
        let fleets: Vec<_> = fleets
            .collect::<Result<_, _>>()
            .map_err(|problem| format!("fleet of {:?} {problem}", self.name))?;
        let servers = ServersOfKey::of(fleets);
        let (name, permissions) = (self.name.clone(), permissions.collect::<Result<_, _>>()?);
        Ok(ApiKey { name, sha256, permissions, servers })
    }
}

fn unhex(digits: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    let decoded = base16ct::mixed::decode(digits, &mut bytes).ok()?;
    (decoded.len() == 32).then_some(bytes)
}

/// One key in a list of keys.
#[derive(Serialize)]
pub(crate) struct Listed {
    pub(crate) name: String,
    pub(crate) permissions: Vec<String>,
    pub(crate) fleets: Vec<String>,
    pub(crate) created_at: Option<String>,
    /// `file` or `config`.
    pub(crate) source: &'static str,
}

fn parse(bytes: Option<&[u8]>) -> Result<Vec<StoredKey>, String> {
    let Some(bytes) = bytes else { return Ok(Vec::new()) };
    let advice = |problem: String| format!("is damaged: {problem}; put it back, or remove it and make keys");
    let keys: Vec<StoredKey> = serde_json::from_slice(bytes).map_err(|error| advice(error.to_string()))?;
    keys.iter().try_for_each(|key| key.checked().map(drop)).map_err(advice)?;
    Ok(keys)
}

/// For commands, which root may run.
fn stored(data: &Path) -> Result<Vec<StoredKey>, Failure> {
    let path = data.join(API_KEYS);
    // One byte more, so that a file that is too large is not taken for a truncated one.
    let bytes = private::read(&path, MAX_FILE_BYTES + 1)
        .map_err(|error| Failure::of(format!("cannot read {}", path.display()), error))?;
    if bytes.as_ref().is_some_and(|bytes| bytes.len() as u64 > MAX_FILE_BYTES) {
        return Err(Failure::new(format!("{} has more than {MAX_FILE_BYTES} bytes", path.display())));
    }
    parse(bytes.as_deref()).map_err(|problem| Failure::new(format!("{} {problem}", path.display())))
}

/// The keys created here, in the order of their creation.
pub(crate) fn list(data: &Path) -> Result<Vec<Listed>, Failure> {
    let listed = |key: StoredKey| Listed {
        name: key.name,
        permissions: key.permissions,
        fleets: key.fleets,
        created_at: key.created_at,
        source: "file",
    };
    Ok(stored(data)?.into_iter().map(listed).collect())
}

/// Creates a key and stores its hash. The key itself is not stored. `fleets` are those whose servers it speaks for;
/// `taken` are the names of keys elsewhere.
pub(crate) fn create(
    data: &Path,
    name: &str,
    permissions: &[Permission],
    fleets: &[FleetId],
    taken: &[String],
) -> Result<String, Failure> {
    let printable = name.chars().all(|character| character == ' ' || character.is_ascii_graphic());
    if name.is_empty() || name.len() > MAX_NAME || !printable {
        return Err(Failure::new(format!("a key's name has 1 to {MAX_NAME} printable ASCII characters")));
    }
    if !fleets.is_empty() && permissions != [Permission::GameServerMatch] {
        return Err(Failure::new(
            "--fleet says which game servers a key speaks for: it needs --permission game_server_match as the only permission",
        ));
    }
    let key = secrets::draw_api_key()?;
    let stored = StoredKey {
        name: name.to_owned(),
        sha256: base16ct::lower::encode_string(&hash(&key)),
        permissions: permissions.iter().map(|permission| permission.name().to_owned()).collect(),
        fleets: fleets.iter().map(ToString::to_string).collect(),
        created_at: Some(humantime::format_rfc3339_millis(SystemTime::now()).to_string()),
    };
    change(data, |keys| {
        if taken.iter().chain(keys.iter().map(|key| &key.name)).any(|other| other == name) {
            return Err(Failure::new(format!("there is a key named {name:?} already; choose another name")));
        }
        let max = sortie_config::ApiKey::MAX;
        if keys.len() >= max {
            return Err(Failure::new(format!(
                "there are {max} keys already, which is the maximum; revoke some"
            )));
        }
        keys.push(stored);
        Ok(())
    })?;
    Ok(key)
}

/// Revokes a key. `configured` are the names of keys in the configuration.
pub(crate) fn revoke(data: &Path, name: &str, configured: &[String]) -> Result<(), Failure> {
    change(data, |keys| {
        let Some(at) = keys.iter().position(|key| key.name == name) else {
            let problem = if configured.iter().any(|other| other == name) {
                format!(
                    "the key {name:?} is in the configuration: remove it from `api_keys` there, and restart"
                )
            } else {
                format!(
                    "there is no key named {name:?} in {}; `sortie key list` shows the existing ones",
                    data.display()
                )
            };
            return Err(Failure::new(problem));
        };
        keys.remove(at);
        Ok(())
    })
}

fn change(
    data: &Path,
    change: impl FnOnce(&mut Vec<StoredKey>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let _lock = lock(data)?;
    let mut keys = stored(data)?;
    change(&mut keys)?;
    private::replace(data, API_KEYS, &serde_json::to_vec_pretty(&keys)?)
}

/// Held until it is dropped.
fn lock(data: &Path) -> Result<File, Failure> {
    let path = data.join(LOCK);
    let failed = |error| Failure::of(format!("cannot lock {}", path.display()), error);
    private::create(data).map_err(failed)?;
    let file = open_own(&path).map_err(failed)?;
    private::hand_over(data, &file)?;
    file.lock().map_err(failed)?;
    Ok(file)
}

/// The keys of a process: those in the file as it is now, and others that never change.
pub(crate) struct ApiKeys {
    file: Watched<Held>,
    /// Used while the file cannot be read.
    others: Arc<KeyRing>,
}

/// The keys of one version of the file.
struct Held {
    names: Vec<String>,
    /// Together with the others.
    ring: Arc<KeyRing>,
}

impl ApiKeys {
    /// Keys of the data folder, together with `others`.
    pub(crate) fn open(data: &Path, others: Vec<ApiKey>) -> Result<Self, Failure> {
        let alone = Arc::new(KeyRing::of(&others));
        let held = move |bytes: Option<&[u8]>| {
            let checked = parse(bytes)?.iter().map(StoredKey::checked).collect::<Result<Vec<_>, _>>()?;
            let names = checked.iter().map(|key| key.name.clone()).collect();
            Ok(Held { names, ring: Arc::new(KeyRing::of(&[checked, others.clone()].concat())) })
        };
        Ok(Self { file: Watched::open(data.join(API_KEYS), MAX_FILE_BYTES, held)?, others: alone })
    }

    /// The names of the file's keys that are valid now, and what is wrong with the file, if anything.
    pub(crate) fn held(&self) -> (Vec<String>, Option<String>) {
        match self.file.look() {
            Look::Good(held) => (held.names.clone(), None),
            Look::Damaged(held, problem) => (held.names.clone(), Some(problem.to_string())),
            Look::Unreadable(_, problem) => (Vec::new(), Some(problem.to_string())),
        }
    }
}

impl KeySource for ApiKeys {
    fn keys(&self) -> Arc<KeyRing> {
        match self.file.look() {
            Look::Good(held) | Look::Damaged(held, _) => Arc::clone(&held.ring),
            Look::Unreadable(..) => Arc::clone(&self.others),
        }
    }

    fn problem(&self) -> Option<String> {
        match self.file.look() {
            Look::Good(_) | Look::Damaged(..) => None,
            Look::Unreadable(_, problem) => Some(problem.to_string()),
        }
    }

    fn doubt(&self) -> Option<String> {
        match self.file.look() {
            Look::Damaged(_, problem) => Some(problem.to_string()),
            Look::Good(_) | Look::Unreadable(..) => None,
        }
    }
}

/// Whether any key has been created here.
pub(crate) fn is_empty(data: &Path) -> Result<bool, Failure> {
    Ok(Watched::open(data.join(API_KEYS), MAX_FILE_BYTES, parse)?.look().last_good().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// A revoked key does not become valid again because the file cannot be read.
    #[test]
    fn while_the_file_cannot_be_read_only_other_keys_are_good() {
        let data = tempfile::tempdir().unwrap();
        create(data.path(), "ci", &[Permission::Client], &[], &[]).unwrap();
        let keys = ApiKeys::open(data.path(), Vec::new()).unwrap();
        assert_eq!((keys.held(), keys.problem()), ((vec!["ci".to_owned()], None), None));
        let (path, aside) = (data.path().join(API_KEYS), data.path().join("aside"));
        fs::rename(&path, &aside).unwrap();
        fs::create_dir(&path).unwrap();
        for _ in 0..2 {
            assert_eq!(keys.held().0, Vec::<String>::new());
            assert!(Arc::ptr_eq(&keys.keys(), &keys.others));
            let problem = keys.problem().unwrap();
            assert!(problem.contains("cannot read"), "{problem}");
        }
        fs::remove_dir(&path).unwrap();
        fs::rename(&aside, &path).unwrap();
        assert_eq!((keys.held(), keys.problem()), ((vec!["ci".to_owned()], None), None));
        assert_eq!(keys.doubt(), None);
    }

    #[test]
    fn a_file_that_makes_no_sense_takes_no_key_away_and_is_in_doubt() {
        let data = tempfile::tempdir().unwrap();
        create(data.path(), "ci", &[Permission::Client], &[], &[]).unwrap();
        let keys = ApiKeys::open(data.path(), Vec::new()).unwrap();
        fs::write(data.path().join(API_KEYS), "[{").unwrap();
        assert_eq!((keys.held().0, keys.problem()), (vec!["ci".to_owned()], None));
        let doubt = keys.doubt().unwrap();
        assert!(doubt.contains("is damaged"), "{doubt}");
    }

    #[test]
    fn a_key_is_kept_as_a_hash_under_a_name_of_its_own_until_it_is_revoked() {
        let data = tempfile::tempdir().unwrap();
        let key = create(data.path(), "ci", &[Permission::Client], &[], &[]).unwrap();
        let kept = fs::read_to_string(data.path().join(API_KEYS)).unwrap();
        assert!(!kept.contains(&key));
        let stored = stored(data.path()).unwrap()[0].checked().unwrap();
        assert_eq!((stored.name.as_str(), stored.sha256), ("ci", hash(&key)));
        assert_eq!(stored.permissions, [sortie_api::Permission::Client]);
        assert!(create(data.path(), "ci", &[Permission::Admin], &[], &[]).is_err());
        assert!(create(data.path(), "other", &[Permission::Admin], &[], &["other".to_owned()]).is_err());
        for bad in ["", "a\nb", &"x".repeat(65)] {
            assert!(create(data.path(), bad, &[Permission::Admin], &[], &[]).is_err(), "{bad:?}");
        }
        revoke(data.path(), "ci", &[]).unwrap();
        assert!(is_empty(data.path()).unwrap());
        let unknown = revoke(data.path(), "ci", &[]).unwrap_err().to_string();
        assert!(unknown.contains("no key named \"ci\""), "{unknown}");
        let configured = revoke(data.path(), "ci", &["ci".to_owned()]).unwrap_err().to_string();
        assert!(configured.contains("configuration"), "{configured}");
    }

    #[test]
    fn keys_of_an_older_version_are_read() {
        let old = format!(r#"[{{"name": "a", "sha256": "{}", "permissions": ["admin"]}}]"#, "0".repeat(64));
        assert_eq!(parse(Some(old.as_bytes())).unwrap()[0].created_at, None);
    }

    #[test]
    fn a_key_for_fleets_speaks_for_their_servers_and_does_nothing_else() {
        let data = tempfile::tempdir().unwrap();
        let fleets = [FleetId::new("eu").unwrap(), FleetId::new("us").unwrap()];
        create(data.path(), "eu", &[Permission::GameServerMatch], &fleets, &[]).unwrap();
        create(data.path(), "any", &[Permission::GameServerMatch], &[], &[]).unwrap();
        let stored = stored(data.path()).unwrap();
        let servers: Vec<_> = stored.iter().map(|key| key.checked().unwrap().servers).collect();
        assert_eq!(servers, [ServersOfKey::OfFleets(fleets.to_vec()), ServersOfKey::SelfRegistered]);
        for others in [&[Permission::Client][..], &[Permission::GameServerMatch, Permission::Admin]] {
            assert!(create(data.path(), "bad", others, &fleets, &[]).is_err(), "{others:?}");
        }
    }

    #[test]
    fn a_damaged_file_says_what_to_do() {
        let hash = "0".repeat(64);
        for bad in [
            "[".to_owned(),
            r#"[{"name": "a", "sha256": "00", "permissions": []}]"#.to_owned(),
            format!(r#"[{{"name": "a", "sha256": "{hash}", "permissions": ["root"]}}]"#),
        ] {
            let problem = parse(Some(bad.as_bytes())).err().unwrap();
            assert!(problem.starts_with("is damaged: ") && problem.ends_with("and make keys"), "{problem}");
        }
    }

    /// Root may run the commands while another user owns the folder.
    #[test]
    fn a_link_in_place_of_the_file_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        fs::create_dir(&data).unwrap();
        let victim = folder.path().join("victim");
        fs::write(&victim, "[]").unwrap();
        std::os::unix::fs::symlink(&victim, data.join(API_KEYS)).unwrap();
        let tries = [
            list(&data).map(drop),
            create(&data, "ci", &[Permission::Client], &[], &[]).map(drop),
            revoke(&data, "ci", &[]),
        ];
        for tried in tries {
            let problem = tried.unwrap_err().to_string();
            assert!(problem.starts_with("cannot read ") && problem.contains("symbolic link"), "{problem}");
        }
        assert_eq!(fs::read_to_string(&victim).unwrap(), "[]");
    }

    #[test]
    fn of_many_commands_at_once_none_is_lost() {
        let data = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for at in 0..8 {
                let data = data.path();
                scope.spawn(move || {
                    create(data, &format!("key {at}"), &[Permission::Client], &[], &[]).unwrap()
                });
            }
        });
        assert_eq!(list(data.path()).unwrap().len(), 8);
    }
}
