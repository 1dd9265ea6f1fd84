//! Who calls, and what they may do.
//!
//! Programs show an API key, `authorization: Bearer <key>` or `catena-api-key: <key>`. Keys are known by their SHA-256
//! only and compared in constant time. A backend that speaks for a player names the player in `catena-session-id`
//! (older clients: `session-id`).
//!
//! Why plain SHA-256 and not a slow hash: keys are long random texts, not passwords, and are checked at each call.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use sha2::{Digest, Sha256};
use sortie_domain::ids::PlayerId;
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

use crate::codes;
use crate::error::ApiError;

const API_KEY: &str = "catena-api-key";
const SESSION_ID: &str = "catena-session-id";
const OLD_SESSION_ID: &str = "session-id";
const BEARER: &[u8] = b"bearer ";

/// Longest API key, in bytes.
const MAX_KEY_BYTES: usize = 1024;

/// What the holder of a key may do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Permission {
    /// The calls of game servers.
    GameServerMatch,
    /// The calls of players' backends, and to speak for players.
    Client,
    /// Everything.
    Admin,
}

impl Permission {
    /// Its name in the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::GameServerMatch => "game_server_match",
            Self::Client => "client",
            Self::Admin => "admin",
        }
    }

    const fn bit(self) -> u8 {
        match self {
            Self::GameServerMatch => 1,
            Self::Client => 2,
            Self::Admin => 4,
        }
    }
}

/// A set of permissions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Permissions(u8);

impl Permissions {
    const EVERYTHING: Self = Self(u8::MAX);

    fn of(permissions: &[Permission]) -> Self {
        Self(permissions.iter().fold(0, |bits, permission| bits | permission.bit()))
    }

    pub(crate) const fn has(self, permission: Permission) -> bool {
        self.0 & (permission.bit() | Permission::Admin.bit()) != 0
    }

    /// Whether one of `permissions` is among these.
    pub(crate) fn has_any(self, permissions: &[Permission]) -> bool {
        permissions.iter().any(|permission| self.has(*permission))
    }
}

/// One key.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey {
    /// Its name, for logs.
    pub name: String,
    /// SHA-256 of the key.
    pub sha256: [u8; 32],
    /// What its holder may do.
    pub permissions: Vec<Permission>,
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Whoever sees the hash of a weak key can guess the key.
        f.debug_struct("ApiKey")
            .field("name", &self.name)
            .field("permissions", &self.permissions)
            .finish_non_exhaustive()
    }
}

struct KnownKey {
    sha256: [u8; 32],
    permissions: Permissions,
}

/// Decides who may call. Clones share their keys.
#[derive(Clone)]
pub struct Auth(Mode);

#[derive(Clone)]
enum Mode {
    Dev,
    Keys(Arc<RwLock<Arc<[KnownKey]>>>),
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Mode::Dev => "Auth(dev)",
            Mode::Keys(_) => "Auth(keys)",
        })
    }
}

impl Auth {
    /// Development mode: everybody may do everything, without a key.
    #[must_use]
    pub const fn dev() -> Self {
        Self(Mode::Dev)
    }

    /// Whoever shows one of `keys` may do what it permits.
    #[must_use]
    pub fn keys(keys: &[ApiKey]) -> Self {
        Self(Mode::Keys(Arc::new(RwLock::new(known(keys)))))
    }

    /// From now on these are the keys. Does nothing in development mode, where keys have no meaning.
    pub fn replace_keys(&self, keys: &[ApiKey]) {
        if let Mode::Keys(shared) = &self.0 {
            *shared.write().unwrap_or_else(PoisonError::into_inner) = known(keys);
        }
    }

    /// What whoever sent `headers` may do.
    ///
    /// # Errors
    /// `unauthenticated` without a key that is known.
    pub(crate) fn permissions(&self, headers: &HeaderMap) -> Result<Permissions, ApiError> {
        let Mode::Keys(shared) = &self.0 else { return Ok(Permissions::EVERYTHING) };
        let shown = Sha256::digest(key_in(headers)?);
        let known = Arc::clone(&shared.read().unwrap_or_else(PoisonError::into_inner));
        // All keys are looked at, so that the time tells nothing about which one it was.
        let (mut found, mut bits) = (Choice::from(0), 0);
        for key in known.iter() {
            let same = key.sha256.ct_eq(&shown);
            bits = u8::conditional_select(&bits, &key.permissions.0, same);
            found |= same;
        }
        if bool::from(found) {
            Ok(Permissions(bits))
        } else {
            Err(codes::UNAUTHENTICATED.error("this API key is not known"))
        }
    }
}

fn known(keys: &[ApiKey]) -> Arc<[KnownKey]> {
    let known = keys
        .iter()
        .map(|key| KnownKey { sha256: key.sha256, permissions: Permissions::of(&key.permissions) });
    known.collect()
}

fn key_in(headers: &HeaderMap) -> Result<&[u8], ApiError> {
    let key = match (headers.get(AUTHORIZATION), headers.get(API_KEY)) {
        (Some(value), _) => {
            let value = value.as_bytes();
            let is_bearer = value.get(..BEARER.len()).is_some_and(|head| head.eq_ignore_ascii_case(BEARER));
            if !is_bearer {
                return Err(codes::UNAUTHENTICATED.error("authorization: must be `Bearer <API key>`"));
            }
            &value[BEARER.len()..]
        }
        (None, Some(value)) => value.as_bytes(),
        (None, None) => {
            let problem = format!("needs an API key: `authorization: Bearer <key>` or `{API_KEY}: <key>`");
            return Err(codes::UNAUTHENTICATED.error(problem));
        }
    };
    let key = key.trim_ascii();
    if key.is_empty() || key.len() > MAX_KEY_BYTES {
        return Err(codes::UNAUTHENTICATED.error(format!("an API key has 1 to {MAX_KEY_BYTES} bytes")));
    }
    Ok(key)
}

/// Who calls, as far as a call can tell.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    player: Option<PlayerId>,
}

impl Caller {
    /// Somebody, who may speak for the player that `headers` name.
    ///
    /// # Errors
    /// `invalid_field` if the player id is none.
    pub(crate) fn of(permissions: Permissions, headers: &HeaderMap) -> Result<Self, ApiError> {
        if !permissions.has(Permission::Client) {
            return Ok(Self::nobody());
        }
        let named = [SESSION_ID, OLD_SESSION_ID].iter().find_map(|name| Some((*name, headers.get(*name)?)));
        let Some((name, value)) = named else { return Ok(Self::nobody()) };
        let text = value.to_str().map_err(|_| ApiError::field(name, "must be printable ASCII"))?;
        let player = PlayerId::new(text).map_err(|problem| ApiError::field(name, problem))?;
        Ok(Self { player: Some(player) })
    }

    /// Somebody who speaks for no player.
    pub(crate) const fn nobody() -> Self {
        Self { player: None }
    }

    /// The player.
    ///
    /// # Errors
    /// `unauthenticated` if the caller speaks for none.
    pub(crate) fn player(&self) -> Result<&PlayerId, ApiError> {
        let missing = || codes::UNAUTHENTICATED.error("must say which player this is for").about(SESSION_ID);
        self.player.as_ref().ok_or_else(missing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str, text: &str, permissions: &[Permission]) -> ApiKey {
        let permissions = permissions.to_vec();
        ApiKey { name: name.into(), sha256: Sha256::digest(text).into(), permissions }
    }

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn a_key_gives_its_own_permissions_wherever_it_stands() {
        let auth = Auth::keys(&[
            key("a", "alpha", &[Permission::GameServerMatch]),
            key("b", "beta", &[Permission::Client]),
            key("c", "gamma", &[Permission::Admin]),
        ]);
        let may = |pairs| {
            let permissions = auth.permissions(&headers(pairs)).unwrap();
            [Permission::GameServerMatch, Permission::Client, Permission::Admin]
                .map(|one| permissions.has(one))
        };
        assert_eq!(may(&[("authorization", "Bearer alpha")]), [true, false, false]);
        assert_eq!(may(&[("authorization", "bearer beta")]), [false, true, false]);
        assert_eq!(may(&[("catena-api-key", "gamma")]), [true, true, true]);
        for bad in [
            &[("authorization", "Bearer alph")][..],
            &[("authorization", "Bearer ")],
            &[("authorization", "alpha")],
            &[("catena-api-key", "alphabet")],
            &[],
        ] {
            assert!(auth.permissions(&headers(bad)).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn replaced_keys_count_for_every_clone() {
        let auth = Auth::keys(&[key("a", "alpha", &[Permission::Admin])]);
        let clone = auth.clone();
        auth.replace_keys(&[key("b", "beta", &[Permission::Admin])]);
        assert!(clone.permissions(&headers(&[("catena-api-key", "alpha")])).is_err());
        assert!(clone.permissions(&headers(&[("catena-api-key", "beta")])).is_ok());
    }

    #[test]
    fn only_clients_speak_for_players() {
        let session = headers(&[("session-id", "p1")]);
        let game_server = Permissions::of(&[Permission::GameServerMatch]);
        assert!(Caller::of(game_server, &session).unwrap().player().is_err());
        let client = Permissions::of(&[Permission::Client]);
        assert_eq!(Caller::of(client, &session).unwrap().player().unwrap().as_str(), "p1");
    }

    #[test]
    fn debug_output_has_no_hash() {
        let key = key("a", "alpha", &[]);
        assert_eq!(format!("{key:?}"), "ApiKey { name: \"a\", permissions: [], .. }");
    }
}
