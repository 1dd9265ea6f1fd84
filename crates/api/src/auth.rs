//! Who calls, and what they may do.
//!
//! Programs send an API key, `authorization: Bearer <key>` or `catena-api-key: <key>`. Only the SHA-256 of a key is
//! stored, and it is compared in constant time.
//!
//! Players send a token, `authorization: Bearer <token>` or `catena-session-id: <token>` (older clients: `session-id`);
//! the token says whose it is, and gives access only to that player's own data. A backend that speaks for a player
//! sends its key and names the player in `catena-session-id`, in plain text.
//!
//! A game server that is started here sends a key that names it ([`ServerKeys`]), and speaks only for itself.
//! [`ServersOfKey`] says which servers the other keys with the permission of game servers speak for, and `servers`
//! enforces it.
//!
//! The keys are looked up at each call ([`KeySource`]), so that a new or revoked key takes effect with the next call.
//!
//! Plain SHA-256 and not a slow hash, because keys are long random texts, not passwords, and are checked at each call.

use std::fmt;
use std::sync::Arc;

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use sha2::{Digest, Sha256};
use sortie_domain::ids::PlayerId;
use sortie_identity::{PlayerTokens, ServerKeys, TokenError, looks_like_token};
use sortie_serving::bearer;
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

use crate::codes;
use crate::error::ApiError;
use crate::holders::{ServersOfKey, SpeaksFor};

const API_KEY: &str = "catena-api-key";
const SESSION_ID: &str = "catena-session-id";
const OLD_SESSION_ID: &str = "session-id";

/// Maximum length of an API key, in bytes.
const MAX_KEY_BYTES: usize = 1024;

/// What the holder of a key may do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Permission {
    /// The calls of game servers.
    GameServerMatch,
    /// The calls of players' backends, and speaking for players.
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
    const NONE: Self = Self(0);
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
    /// Which game servers it speaks for.
    pub servers: ServersOfKey,
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the hash, from which a weak key could be guessed.
        f.debug_struct("ApiKey")
            .field("name", &self.name)
            .field("permissions", &self.permissions)
            .field("servers", &self.servers)
            .finish_non_exhaustive()
    }
}

struct KnownKey {
    sha256: [u8; 32],
    permissions: Permissions,
    servers: Arc<ServersOfKey>,
}

/// The valid keys.
pub struct KeyRing(Vec<KnownKey>);

impl KeyRing {
    /// A ring of `keys`.
    #[must_use]
    pub fn of(keys: &[ApiKey]) -> Self {
        let known = keys.iter().map(|key| KnownKey {
            sha256: key.sha256,
            permissions: Permissions::of(&key.permissions),
            servers: Arc::new(key.servers.clone()),
        });
        Self(known.collect())
    }

    /// The key with this hash.
    fn find(&self, sha256: &[u8; 32]) -> Option<&KnownKey> {
        // All keys are compared, so that the time does not reveal which one matched.
        let (mut found, mut place) = (Choice::from(0), 0);
        for (key, at) in self.0.iter().zip(0_u64..) {
            let same = key.sha256.ct_eq(sha256);
            place = u64::conditional_select(&place, &at, same);
            found |= same;
        }
        let place = usize::try_from(place).ok().filter(|_| bool::from(found))?;
        self.0.get(place)
    }
}

/// Supplies the valid keys. It is called at each call, so it has to be fast.
pub trait KeySource: Send + Sync {
    /// The keys that are valid now, without those that cannot be looked up.
    fn keys(&self) -> Arc<KeyRing>;

    /// Why some keys cannot be looked up now, if so; for operators.
    fn problem(&self) -> Option<String> {
        None
    }

    /// Why the keys may not be those that an operator wants, although all can be looked up.
    fn doubt(&self) -> Option<String> {
        None
    }
}

/// A fixed set of keys.
struct Fixed(Arc<KeyRing>);

impl KeySource for Fixed {
    fn keys(&self) -> Arc<KeyRing> {
        Arc::clone(&self.0)
    }
}

/// Decides who may call. Clones share everything.
#[derive(Clone)]
pub struct Auth {
    /// `None` in development mode.
    keys: Option<Arc<dyn KeySource>>,
    players: Option<PlayerTokens>,
    /// The keys of servers that are started here; `None` if none are.
    servers: Option<ServerKeys>,
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.keys.is_none() { "Auth(dev)" } else { "Auth(keys)" })
    }
}

impl Auth {
    /// Development mode: every caller may do everything, without a key, and is trusted about the player it names.
    #[must_use]
    pub const fn dev() -> Self {
        Self { keys: None, players: None, servers: None }
    }

    /// Callers with one of `keys` may do what it permits.
    #[must_use]
    pub fn keys(keys: &[ApiKey]) -> Self {
        Self::keys_from(Arc::new(Fixed(Arc::new(KeyRing::of(keys)))))
    }

    /// Callers with a key that `source` has at that time may do what it permits.
    #[must_use]
    pub fn keys_from(source: Arc<dyn KeySource>) -> Self {
        Self { keys: Some(source), players: None, servers: None }
    }

    /// The same, and players may send one of `tokens`.
    #[must_use]
    pub fn with_players(self, tokens: PlayerTokens) -> Self {
        Self { players: Some(tokens), ..self }
    }

    /// The same, and game servers may send one of `keys`.
    #[must_use]
    pub fn with_servers(self, keys: ServerKeys) -> Self {
        Self { servers: Some(keys), ..self }
    }

    /// Whether servers that are started here have keys of their own.
    pub(crate) const fn knows_servers(&self) -> bool {
        self.servers.is_some()
    }

    /// The caller that sent `headers`.
    ///
    /// # Errors
    /// `unauthenticated` for an invalid or missing key or token; `forbidden` for the token of one player together with
    /// the name of another; `invalid_field` for an invalid player id; `unavailable` if tokens cannot be checked.
    pub(crate) async fn caller(&self, headers: &HeaderMap) -> Result<Caller, ApiError> {
        let (token, bearer) = self.token_or_key(headers);
        let Shown { permissions, servers, pass } = self.shown(bearer, headers)?;
        let signed_in = match token {
            Some(token) => self.signed_in(token).await?,
            None => None,
        };
        let named = self.named(permissions, headers).await?;
        let player = match (signed_in, named) {
            (Some(signed_in), Some(named)) if signed_in != named => {
                let problem = format!("names a different player than the token, which is for {signed_in}");
                return Err(codes::FORBIDDEN.error(problem).about(SESSION_ID));
            }
            (signed_in, named) => signed_in.or(named),
        };
        if permissions == Permissions::NONE && player.is_none() {
            return Err(self.nothing_shown());
        }
        Ok(Caller { permissions, player, servers, pass })
    }

    /// Why not every key can be looked up now, if so.
    pub(crate) fn problem(&self) -> Option<String> {
        self.keys.as_ref().and_then(|source| source.problem())
    }

    /// Why the valid keys may not be those that an operator wants.
    pub(crate) fn doubt(&self) -> Option<String> {
        self.keys.as_ref().and_then(|source| source.doubt())
    }

    /// Whether `headers` have a key with `permission`; in development mode every caller has it.
    #[must_use]
    pub fn permits(&self, headers: &HeaderMap, permission: Permission) -> bool {
        let (_, bearer) = self.token_or_key(headers);
        self.shown(bearer, headers).is_ok_and(|shown| shown.permissions.has(permission))
    }

    /// The text after `Bearer`: a player token, or otherwise an API key.
    fn token_or_key<'a>(&self, headers: &'a HeaderMap) -> (Option<&'a str>, Option<Bearer<'a>>) {
        let is_token = |bearer: &Bearer<'_>| {
            self.players.is_some() && bearer.as_ref().is_ok_and(|text| looks_like_token(text))
        };
        match shown_bearer(headers) {
            Some(bearer) if is_token(&bearer) => (bearer.ok(), None),
            other => (None, other),
        }
    }

    /// What the key in `headers` permits; nothing if there is none.
    fn shown(&self, bearer: Option<Bearer<'_>>, headers: &HeaderMap) -> Result<Shown, ApiError> {
        let Some(source) = &self.keys else { return Ok(Shown::of(Permissions::EVERYTHING, SpeaksFor::All)) };
        let key = match (bearer, headers.get(API_KEY)) {
            (Some(bearer), _) => bearer?.as_bytes(),
            (None, Some(value)) => value.as_bytes().trim_ascii(),
            (None, None) => return Ok(Shown::of(Permissions::NONE, SpeaksFor::None)),
        };
        if key.is_empty() || key.len() > MAX_KEY_BYTES {
            return Err(codes::UNAUTHENTICATED.error(format!("an API key has 1 to {MAX_KEY_BYTES} bytes")));
        }
        let server_of = |keys: &ServerKeys| keys.server(str::from_utf8(key).ok()?);
        if let Some(server) = self.servers.as_ref().and_then(server_of) {
            return Ok(Shown::of(Permissions::of(&[Permission::GameServerMatch]), SpeaksFor::Itself(server)));
        }
        let sha256 = Sha256::digest(key).into();
        let ring = source.keys();
        let known = ring.find(&sha256);
        let known = known.ok_or_else(|| unknown(&**source, "this API key is not known"))?;
        let servers = match known.permissions {
            permissions if permissions.has(Permission::Admin) => SpeaksFor::All,
            permissions if permissions.has(Permission::GameServerMatch) => {
                SpeaksFor::of_key(sha256, Arc::clone(&known.servers))
            }
            _ => SpeaksFor::None,
        };
        let pass = Pass(Some(Opener { source: Arc::clone(source), sha256, needed: &[] }));
        Ok(Shown { permissions: known.permissions, servers, pass })
    }

    /// The player whom the token `text` identifies; `None` if it is not a token, or tokens are not accepted.
    async fn signed_in(&self, text: &str) -> Result<Option<PlayerId>, ApiError> {
        match &self.players {
            Some(tokens) if looks_like_token(text) => {
                let player = tokens.player(text).await.map_err(|problem| match problem {
                    TokenError::KeysUnavailable => codes::UNAVAILABLE.error(problem.to_string()),
                    _ => codes::UNAUTHENTICATED.error(problem.to_string()),
                });
                player.map(Some)
            }
            _ => Ok(None),
        }
    }

    /// The player whom `catena-session-id` names: by a token, or in plain text from a trusted caller.
    async fn named(
        &self,
        permissions: Permissions,
        headers: &HeaderMap,
    ) -> Result<Option<PlayerId>, ApiError> {
        let Some((name, value)) =
            [SESSION_ID, OLD_SESSION_ID].iter().find_map(|name| Some((*name, headers.get(*name)?)))
        else {
            return Ok(None);
        };
        let text = value.to_str().map_err(|_| ApiError::field(name, "must be printable ASCII"));
        if let Ok(text) = &text
            && let Some(player) = self.signed_in(text).await?
        {
            return Ok(Some(player));
        }
        if !permissions.has(Permission::Client) {
            return Ok(None);
        }
        PlayerId::new(text?).map(Some).map_err(|problem| ApiError::field(name, problem))
    }

    fn nothing_shown(&self) -> ApiError {
        let mut problem = format!("needs an API key: `authorization: Bearer <key>` or `{API_KEY}: <key>`");
        if self.players.is_some() {
            problem += &format!(
                "; players send a player token: `authorization: Bearer <token>` or `{SESSION_ID}: <token>`"
            );
        }
        codes::UNAUTHENTICATED.error(problem)
    }
}

/// The error for a key that is not valid now: `unauthenticated` with this text, unless it may be one of those that
/// cannot be looked up.
fn unknown(source: &dyn KeySource, text: &'static str) -> ApiError {
    match source.problem() {
        Some(_) => {
            codes::UNAVAILABLE.error("API keys cannot be looked up now: try again, or see GET /readyz")
        }
        None => codes::UNAUTHENTICATED.error(text),
    }
}

/// The text after `Bearer`.
type Bearer<'a> = Result<&'a str, ApiError>;

fn shown_bearer(headers: &HeaderMap) -> Option<Bearer<'_>> {
    let value = headers.get(AUTHORIZATION)?.as_bytes();
    let bad = || codes::UNAUTHENTICATED.error("authorization: must be `Bearer <API key>`");
    Some(bearer(value).ok_or_else(bad))
}

/// What a key permits.
struct Shown {
    permissions: Permissions,
    servers: SpeaksFor,
    pass: Pass,
}

impl Shown {
    /// For callers without a key that could be revoked.
    const fn of(permissions: Permissions, servers: SpeaksFor) -> Self {
        Self { permissions, servers, pass: Pass::for_ever() }
    }
}

/// The credential that let a caller in, to be rechecked while a long answer lasts.
#[derive(Clone)]
pub(crate) struct Pass(Option<Opener>);

/// The key that opened a call, and the permissions of which one is needed; if there are none, the key only has to be
/// known.
#[derive(Clone)]
struct Opener {
    source: Arc<dyn KeySource>,
    sha256: [u8; 32],
    needed: &'static [Permission],
}

impl fmt::Debug for Pass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pass")
    }
}

impl Pass {
    const fn for_ever() -> Self {
        Self(None)
    }

    /// # Errors
    /// `unauthenticated` if the key has been revoked; `unavailable` if that cannot be checked; `forbidden` if it has
    /// lost the permission that opened the call.
    pub(crate) fn check(&self) -> Result<(), ApiError> {
        let Some(Opener { source, sha256, needed }) = &self.0 else { return Ok(()) };
        let ring = source.keys();
        let Some(key) = ring.find(sha256) else {
            return Err(unknown(&**source, "the API key has been revoked"));
        };
        if needed.is_empty() || key.permissions.has_any(needed) {
            return Ok(());
        }
        Err(codes::FORBIDDEN.error("the API key has lost the permission that this was opened with"))
    }
}

/// The caller, as far as a call identifies it.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    permissions: Permissions,
    player: Option<PlayerId>,
    servers: SpeaksFor,
    pass: Pass,
}

impl Caller {
    /// A caller without permissions who speaks for no player.
    pub(crate) const fn nobody() -> Self {
        let (permissions, servers) = (Permissions::NONE, SpeaksFor::None);
        Self { permissions, player: None, servers, pass: Pass::for_ever() }
    }

    /// Whether the caller has one of `permissions`.
    pub(crate) fn has_any(&self, permissions: &[Permission]) -> bool {
        self.permissions.has_any(permissions)
    }

    /// Whether the caller has the permission `client`: it may see and change every player's data.
    pub(crate) fn is_client(&self) -> bool {
        self.permissions.has(Permission::Client)
    }

    /// Whether the caller is a player, or may speak for one and does.
    pub(crate) const fn is_for_a_player(&self) -> bool {
        self.player.is_some()
    }

    /// The player.
    ///
    /// # Errors
    /// `unauthenticated` if the caller speaks for none.
    pub(crate) fn player(&self) -> Result<&PlayerId, ApiError> {
        let missing = || codes::UNAUTHENTICATED.error("must say which player this is for").about(SESSION_ID);
        self.player.as_ref().ok_or_else(missing)
    }

    /// The player, if the caller is one or names one.
    pub(crate) const fn player_named(&self) -> Option<&PlayerId> {
        self.player.as_ref()
    }

    /// Which game servers the caller speaks for.
    pub(crate) const fn servers(&self) -> &SpeaksFor {
        &self.servers
    }

    /// The same caller, recorded as let in by those of `permissions` that it has.
    pub(crate) fn let_in_by(mut self, permissions: &'static [Permission]) -> Self {
        if let Some(opener) = &mut self.pass.0
            && self.permissions.has_any(permissions)
        {
            opener.needed = permissions;
        }
        self
    }

    /// The SHA-256 of the caller's key; `None` for a player's token, and if no key is needed.
    pub(crate) fn key(&self) -> Option<[u8; 32]> {
        self.pass.0.as_ref().map(|opener| opener.sha256)
    }

    /// What let the caller in.
    pub(crate) fn pass(&self) -> Pass {
        self.pass.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    fn key(name: &str, text: &str, permissions: &[Permission]) -> ApiKey {
        let permissions = permissions.to_vec();
        let servers = ServersOfKey::default();
        ApiKey { name: name.into(), sha256: Sha256::digest(text).into(), permissions, servers }
    }

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[tokio::test]
    async fn a_key_gives_its_own_permissions_wherever_it_stands() {
        let auth = Auth::keys(&[
            key("a", "alpha", &[Permission::GameServerMatch]),
            key("b", "beta", &[Permission::Client]),
            key("c", "gamma", &[Permission::Admin]),
        ]);
        for (pairs, expected) in [
            (("authorization", "Bearer alpha"), [true, false, false]),
            (("authorization", "bearer beta"), [false, true, false]),
            (("catena-api-key", "gamma"), [true, true, true]),
        ] {
            let caller = auth.caller(&headers(&[pairs])).await.unwrap();
            let may = [Permission::GameServerMatch, Permission::Client, Permission::Admin]
                .map(|one| caller.has_any(&[one]));
            assert_eq!(may, expected);
            assert_eq!(auth.permits(&headers(&[pairs]), Permission::Admin), expected[2]);
        }
        for bad in [
            &[("authorization", "Bearer alph")][..],
            &[("authorization", "Bearer ")],
            &[("authorization", "alpha")],
            &[("authorization", "Bearer wrong"), ("catena-api-key", "gamma")],
            &[("catena-api-key", "alphabet")],
            &[("catena-session-id", "p1")],
            &[],
        ] {
            assert!(auth.caller(&headers(bad)).await.is_err(), "{bad:?}");
            assert!(!auth.permits(&headers(bad), Permission::GameServerMatch), "{bad:?}");
        }
    }

    struct Changing(Mutex<Arc<KeyRing>>);

    impl KeySource for Changing {
        fn keys(&self) -> Arc<KeyRing> {
            self.0.lock().unwrap().clone()
        }
    }

    #[tokio::test]
    async fn keys_count_as_they_are_now() {
        let ring = |name, text| Arc::new(KeyRing::of(&[key(name, text, &[Permission::Admin])]));
        let source = Arc::new(Changing(Mutex::new(ring("a", "alpha"))));
        let auth = Auth::keys_from(source.clone());
        let caller = auth.caller(&headers(&[("catena-api-key", "alpha")])).await.unwrap();
        assert!(caller.pass().check().is_ok());
        *source.0.lock().unwrap() = ring("b", "beta");
        assert!(caller.pass().check().is_err());
        assert!(auth.caller(&headers(&[("catena-api-key", "alpha")])).await.is_err());
        assert!(auth.caller(&headers(&[("catena-api-key", "beta")])).await.is_ok());
    }

    #[tokio::test]
    async fn only_clients_speak_for_players() {
        let game_server = key("a", "alpha", &[Permission::GameServerMatch]);
        let auth = Auth::keys(&[game_server, key("b", "beta", &[Permission::Client])]);
        let with = |key| headers(&[("catena-api-key", key), ("session-id", "p1")]);
        assert!(auth.caller(&with("alpha")).await.unwrap().player().is_err());
        assert_eq!(auth.caller(&with("beta")).await.unwrap().player().unwrap().as_str(), "p1");
    }

    #[test]
    fn debug_output_has_no_hash() {
        let key = key("a", "alpha", &[]);
        assert_eq!(
            format!("{key:?}"),
            "ApiKey { name: \"a\", permissions: [], servers: SelfRegistered, .. }"
        );
    }
}
