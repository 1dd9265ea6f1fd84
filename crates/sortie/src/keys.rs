//! Every key of the process, and what follows from them: who may call, and what game servers are given.

use std::sync::Arc;

use sortie_allocators::{ServerEnvironment, ServerKey};
use sortie_api::{ApiKey, Auth, ServersOfKey};
use sortie_config::{Config, FleetConfig, PlayerKeys, PlayersConfig};
use sortie_identity::{Fetching, PlayerTokens, ServerKeys, TokenKeys, TokenOptions};
use sortie_serving::Allowances;
use sortie_tokens::PrivateKey;

use crate::api_keys::{self, ApiKeys};
use crate::edge;
use crate::failure::Failure;
use crate::presence::Report;
use crate::room::Unwritten;
use crate::secrets;

/// Every key of the process.
pub(crate) struct Keys {
    pub(crate) netcode: Option<PrivateKey>,
    netcode_hex: Option<String>,
    /// Makes the key of each game server that is started here.
    servers: ServerKeys,
    api: Arc<ApiKeys>,
    pub(crate) players: Option<PlayerTokens>,
    /// How often one player may call, across all APIs.
    pub(crate) player_calls: Allowances,
}

impl Keys {
    pub(crate) fn load(config: &Config, unwritten: &mut Unwritten) -> Result<Self, Failure> {
        let netcode = match &config.netcode_key {
            Some(key) => Some(*key.bytes()),
            None if config.dev => Some(secrets::netcode_key(&config.data, unwritten)?),
            None if config.needs_netcode_key() => {
                return Err(Failure::new(
                    "a fleet with a game needs a netcode key: put 32 random bytes as 64 hexadecimal digits into a \
                     file (openssl rand -hex 32) and name it as key_file under [netcode]",
                ));
            }
            None => None,
        };
        let game_server = secrets::game_server_key(&config.data, unwritten)?;
        if config.needs_api_key() && api_keys::is_empty(&config.data)? {
            return Err(Failure::new(format!(
                "no API key is configured: make one with `sortie key create --name admin --permission admin --data {}`, \
                 or start with --dev, which needs none and listens on loopback only",
                config.data.display()
            )));
        }
        let mut others = vec![ApiKey {
            name: "game servers".to_owned(),
            sha256: secrets::hash(&game_server),
            permissions: vec![sortie_api::Permission::GameServerMatch],
            // Servers that an older version started send the secret itself.
            servers: ServersOfKey::Inherited,
        }];
        others.extend(config.api_keys.iter().map(|key| ApiKey {
            name: key.name.clone(),
            sha256: key.sha256,
            permissions: key.permissions.iter().copied().map(secrets::permission).collect(),
            servers: ServersOfKey::of(key.fleets.clone()),
        }));
        Ok(Self {
            netcode: netcode.map(PrivateKey::new),
            netcode_hex: netcode.map(|key| base16ct::lower::encode_string(&key)),
            servers: ServerKeys::new(game_server.as_bytes()),
            api: Arc::new(ApiKeys::open(&config.data, others)?),
            players: config.players.as_ref().map(player_tokens).transpose()?,
            player_calls: edge::player_calls(config),
        })
    }
}

fn player_tokens(config: &PlayersConfig) -> Result<PlayerTokens, Failure> {
    let keys = match &config.keys {
        PlayerKeys::Secret(_, secret) => TokenKeys::Secret(secret.bytes().clone()),
        PlayerKeys::JwksFile(path) => TokenKeys::File(path.clone()),
        PlayerKeys::JwksUrl(url) => TokenKeys::Url(url.clone()),
    };
    Ok(PlayerTokens::new(TokenOptions {
        issuer: config.issuer.clone(),
        audience: config.audience.clone(),
        leeway: config.leeway,
        keys,
        fetching: Fetching::default(),
    })?)
}

/// Who may call.
pub(crate) fn auth(config: &Config, keys: &Keys) -> Auth {
    let auth = if config.dev { Auth::dev() } else { Auth::keys_from(Arc::clone(&keys.api) as _) };
    let auth = auth.with_servers(keys.servers.clone());
    match &keys.players {
        Some(tokens) => auth.with_players(tokens.clone()),
        None => auth,
    }
}

/// What the servers of `fleet` are given.
pub(crate) fn server_environment(
    config: &Config,
    keys: &Keys,
    url: &str,
    fleet: &FleetConfig,
) -> ServerEnvironment {
    ServerEnvironment {
        api: url.to_owned(),
        api_key: Some(server_key(&keys.servers)),
        ca: config.tls.as_ref().and_then(|tls| tls.ca.as_ref()).map(|ca| ca.display().to_string()),
        netcode_key: keys.netcode_hex.clone(),
        protocol_id: Some(fleet.protocol_id),
    }
}

fn server_key(keys: &ServerKeys) -> ServerKey {
    let keys = keys.clone();
    Arc::new(move |server| keys.key(server))
}

/// The keys of this process, for `sortie key`.
pub(crate) fn report(config: &Config, keys: &Keys) -> impl Fn() -> Report + Send + Sync + 'static {
    let (data, asks_for_keys, api) = (config.data.clone(), !config.dev, Arc::clone(&keys.api));
    move || {
        let (keys, problem) = api.held();
        Report { process: std::process::id(), data: data.clone(), asks_for_keys, keys, problem }
    }
}
