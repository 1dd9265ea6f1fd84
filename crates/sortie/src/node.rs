//! A whole control plane in one process: data folder, log, broker, allocators, matchmaker, API and gateway, in this
//! order, each resting on the ones before. They end the other way round.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use sortie_allocators::{Fleets, ServerEnvironment, ServerKey};
use sortie_api::{
    ApiKey, ApiOptions, Auth, ConfiguredAllocator, LeadsBack, NamingOthers, Permission, PlayerRights,
    ServersOfKey,
};
use sortie_config::{Config, FleetConfig, PlayerKeys, Players, PlayersConfig};
use sortie_domain::broker::{Broker, Command};
use sortie_domain::matchmaking::Matchmaker;
use sortie_engine::supervisor::{OnFailure, Outcome, Stage, Supervisor};
use sortie_engine::{
    Codec, Cursor, DecodeError, EmbeddedLog, Ended, Engine, EngineOptions, Entropy, Handle, Parts, Prepared,
    SystemClock,
};
use sortie_gateway::{Game, GameFleet, Gateway, GatewayOptions, SpeaksForPlayers};
use sortie_identity::{Fetching, PlayerTokens, ServerKeys, TokenKeys, TokenOptions};
use sortie_serving::{Allowances, Limits};
use sortie_tokens::{Dialect, PrivateKey};
use sortie_wire::stored;
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::api_keys::{self, ApiKeys};
use crate::boot_clock;
use crate::dispatch;
use crate::edge::{self, Door};
use crate::failure::Failure;
use crate::machine_start::{self, Pending};
use crate::matchmaker;
use crate::metrics;
use crate::opened::Opened;
use crate::platforms::{self, Platforms};
use crate::presence::{Presence, Report};
use crate::reconciliation;
use crate::room::Unwritten;
use crate::secrets;
use crate::used::Accepted;

/// A control plane that serves.
pub(crate) struct Node {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// Where drivers come in, if not there.
    pub(crate) dispatch_address: Option<SocketAddr>,
    pub(crate) broker: Handle<Broker>,
    supervisor: Supervisor,
    shutdown_deadline: Duration,
}

impl Node {
    /// Starts everything. When it returns the port is being served.
    pub(crate) async fn start(config: &Config, accepted: Accepted) -> Result<Self, Failure> {
        let Opened { log, log_of_matchmaker, installation, presence, mut unwritten } =
            Opened::open(config, accepted).await?;
        let keys = Keys::load(config, &mut unwritten)?;
        let tls = edge::tls(config.tls.as_ref())?;
        let auth = auth(config, &keys);
        let dispatch = dispatch::Role::start(config, &auth).await?;
        let more = dispatch.as_ref().map_or(0, |_| dispatch::open_files(&config.dispatch));
        let limits = Limits { connections: edge::connections(config, more), ..edge::limits(config) };
        let listener = TcpListener::bind(config.listen)
            .await
            .map_err(|error| Failure::of(format!("cannot listen on {}", config.listen), error))?;
        let address = listener.local_addr()?;
        let mut platforms = Platforms::of(config);
        let prepared = prepare_broker(config, log, platforms.performer(), accepted).await?;
        let broker = prepared.handle();
        let matchmaker = matchmaker::prepare(config, log_of_matchmaker, &broker, accepted).await?;
        // Nothing refuses from here on because of what the logs say; so nothing outside was touched until now.
        boot_clock::note(&config.data);
        let url = config.public_url_or(address);
        let (tell, exits) = reconciliation::exits();
        let environment = |fleet: &FleetConfig| server_environment(config, &keys, &url, fleet);
        platforms.open(config, installation.id(), &environment, &exits).await?;
        if unwritten.is_empty() {
            platforms.release();
        }
        let engine = prepared.run();
        tell.send_replace(Some(broker.clone()));
        let unconfigured = configure(config, &broker).await?;
        let (matchmaker, maker_unconfigured) = matchmaker::run(config, matchmaker).await?;
        let closing = CancellationToken::new();
        // In this order, so that what is at no path is answered by the API.
        let maker = matchmaker.as_ref().map(Engine::handle);
        let gateway = gateway(config, (&keys, &auth), &broker, maker, &closing)?;
        let router = gateway.clone().map(sortie_gateway::router).unwrap_or_default();
        let leads_back = gateway.clone().map(leads_back);
        let logs =
            metrics::Logs { broker: broker.clone(), matchmaker: matchmaker.as_ref().map(Engine::handle) };
        let router = router.merge(beside(dispatch.as_ref(), &auth, logs));
        let described = described(&keys, dispatch.as_ref());
        let maker = matchmaker.as_ref().map(Engine::handle);
        let router = router.merge(api(
            config,
            (auth, keys.player_calls.clone()),
            (described, leads_back),
            (&broker, maker),
            &closing,
        ));
        let dispatch_address = dispatch.as_ref().and_then(dispatch::Role::address);
        let mut supervisor = Supervisor::new();
        if let Some(dispatch) = dispatch {
            dispatch.spawn(&mut supervisor, &limits);
        }
        let visitors = edge::visitors(config, !config.dev);
        let door = Door { listener, tls, router, visitors, gateway, limits, closing };
        edge::spawn_listener(&mut supervisor, door);
        machine_start::spawn_configure(&mut supervisor, unconfigured);
        machine_start::spawn_configure(&mut supervisor, maker_unconfigured);
        spawn_presence(&mut supervisor, presence, report(config, &keys));
        if !unwritten.is_empty() {
            let release = unwritten.written().map(platforms.releasing());
            spawn_work(&mut supervisor, "what waits for room on the disk", release);
        }
        reconciliation::spawn(&mut supervisor, broker.clone(), &platforms, installation);
        platforms.spawn(&mut supervisor, config.dev);
        if let Some(engine) = matchmaker {
            matchmaker::spawn(&mut supervisor, engine, broker.clone(), config.shutdown_deadline / 3);
        }
        spawn_engine(&mut supervisor, engine, config.shutdown_deadline / 3);
        Ok(Self {
            address,
            dispatch_address,
            broker,
            supervisor,
            shutdown_deadline: config.shutdown_deadline,
        })
    }

    /// Serves until `stop`, then ends everything in order.
    pub(crate) async fn run(self, stop: impl Future<Output = ()>) -> Outcome {
        self.supervisor.run(stop, self.shutdown_deadline).await
    }
}

/// Every key of the process.
struct Keys {
    netcode: Option<PrivateKey>,
    netcode_hex: Option<String>,
    /// Makes the key of each game server that is started here.
    servers: ServerKeys,
    api: Arc<ApiKeys>,
    players: Option<PlayerTokens>,
    /// How often one player may call, wherever it does.
    player_calls: Allowances,
}

impl Keys {
    fn load(config: &Config, unwritten: &mut Unwritten) -> Result<Self, Failure> {
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
            // Servers that an older version started show the secret itself.
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
            netcode_hex: netcode.map(|key| secrets::hex(&key)),
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

fn auth(config: &Config, keys: &Keys) -> Auth {
    let auth = if config.dev { Auth::dev() } else { Auth::keys_from(Arc::clone(&keys.api) as _) };
    let auth = auth.with_servers(keys.servers.clone());
    match &keys.players {
        Some(tokens) => auth.with_players(tokens.clone()),
        None => auth,
    }
}

/// What the servers of `fleet` are told.
fn server_environment(config: &Config, keys: &Keys, url: &str, fleet: &FleetConfig) -> ServerEnvironment {
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

async fn prepare_broker(
    config: &Config,
    log: EmbeddedLog,
    performer: Fleets,
    accepted: Accepted,
) -> Result<Prepared<Broker>, Failure> {
    let parts = Parts {
        name: "broker",
        log: Box::new(log),
        codec: codec(),
        empty: Box::new(Broker::new),
        performer: Arc::new(performer),
        clock: Arc::new(SystemClock::start()),
        entropy: Entropy::system()?,
        options: EngineOptions {
            snapshot_every_records: config.log.snapshot_every,
            ..EngineOptions::default()
        },
    };
    machine_start::prepare("broker", parts, machine_start::broker_is_live, accepted).await
}

/// Between the broker's types and its log.
pub(crate) fn codec() -> Codec<Broker> {
    Codec {
        encode_event: stored::encode_event,
        decode_event: |bytes| stored::decode_event(bytes).map_err(DecodeError::new),
        encode_snapshot: stored::write_snapshot,
        decode_snapshot: |pieces| stored::read_snapshot(pieces).map_err(DecodeError::new),
    }
}

async fn configure(config: &Config, broker: &Handle<Broker>) -> Result<Option<Pending<Broker>>, Failure> {
    let fleets: Vec<_> = config.fleets.iter().map(|fleet| fleet.fleet.clone()).collect();
    let settings = config.broker.clone();
    let command = move || Command::Configure { settings: settings.clone(), fleets: fleets.clone() };
    machine_start::configure("broker", broker, command).await
}

/// Work that ends by itself, or with the control plane.
pub(crate) fn spawn_work(
    supervisor: &mut Supervisor,
    name: &'static str,
    work: impl Future<Output = ()> + Send + 'static,
) {
    supervisor.spawn(name, Stage::Work, OnFailure::GoOn, |stop| async move {
        tokio::select! {
            () = work => {}
            () = stop.stopped() => {}
        }
        Ok(())
    });
}

/// Says what this process holds to `sortie key`, and that it runs to copies of its folder.
fn spawn_presence(
    supervisor: &mut Supervisor,
    presence: Option<Presence>,
    report: impl Fn() -> Report + Send + Sync + 'static,
) {
    let Some(presence) = presence else { return };
    spawn_work(supervisor, "the answers to `sortie key`", presence.answer(report));
}

fn report(config: &Config, keys: &Keys) -> impl Fn() -> Report + Send + Sync + 'static {
    let (data, asks_for_keys, api) = (config.data.clone(), !config.dev, Arc::clone(&keys.api));
    move || {
        let (keys, problem) = api.held();
        Report { process: std::process::id(), data: data.clone(), asks_for_keys, keys, problem }
    }
}

/// What is served beside API and gateway: the dispatcher, and the metrics of every role.
fn beside(dispatch: Option<&dispatch::Role>, auth: &Auth, logs: metrics::Logs) -> axum::Router {
    let (asked, dispatcher) = (auth.clone(), dispatch.map(|role| role.dispatch.clone()));
    let metrics = metrics::of(dispatcher.clone(), Some(logs));
    let metrics = sortie_metrics::router(metrics, move |headers| {
        asked.permits(headers, Permission::Admin)
            || dispatcher.as_ref().is_some_and(|dispatcher| dispatcher.is_operator(headers))
    });
    dispatch.map(dispatch::Role::shared_router).unwrap_or_default().merge(metrics)
}

/// The descriptions of what others than the API serve at its port.
fn described(keys: &Keys, dispatch: Option<&dispatch::Role>) -> Vec<serde_json::Value> {
    let gateway = keys.netcode.iter().map(|_| sortie_gateway::description());
    let dispatch = dispatch.filter(|role| role.address().is_none());
    let dispatch = dispatch.map(|_| sortie_dispatch::description());
    gateway.chain(dispatch).chain([sortie_metrics::description()]).collect()
}

fn api(
    config: &Config,
    (auth, player_calls): (Auth, Allowances),
    (described, leads_back): (Vec<serde_json::Value>, Option<LeadsBack>),
    (broker, matchmaker): (&Handle<Broker>, Option<Handle<Matchmaker>>),
    closing: &CancellationToken,
) -> axum::Router {
    let allocators = config.fleets.iter().map(|fleet| ConfiguredAllocator {
        name: fleet.fleet.id.to_string(),
        description: fleet.description.clone(),
        requirements: fleet.fleet.requirements.clone(),
        raw_configuration: fleet.raw_configuration(),
    });
    sortie_api::router(ApiOptions {
        broker: broker.clone(),
        matchmaker,
        clock: Arc::new(SystemClock::start()),
        auth,
        player_rights: player_rights(config),
        leads_back,
        allocators: allocators.collect(),
        available_allocators: platforms::names().map(str::to_owned).collect(),
        source: "/sortie".to_owned(),
        limits: edge::api_limits(config),
        player_calls,
        described,
        closing: closing.clone(),
    })
}

/// The match that the gateway leads a player back to.
fn leads_back(gateway: Gateway) -> LeadsBack {
    Arc::new(move |broker, player, now| gateway.own_match(broker, player, now))
}

fn player_rights(config: &Config) -> PlayerRights {
    PlayerRights {
        may_name_others: match config.player_rights.may_name_others {
            sortie_config::NamingOthers::No => NamingOthers::No,
            sortie_config::NamingOthers::PartyHook => NamingOthers::PartyHook,
            sortie_config::NamingOthers::Yes => NamingOthers::Yes,
        },
        may_rate_themselves: config.player_rights.may_rate_themselves,
    }
}

fn gateway(
    config: &Config,
    (keys, auth): (&Keys, &Auth),
    broker: &Handle<Broker>,
    matchmaker: Option<Handle<Matchmaker>>,
    closing: &CancellationToken,
) -> Result<Option<Gateway>, Failure> {
    let Some(key) = keys.netcode.clone() else { return Ok(None) };
    let game = |game: &sortie_config::Game| Game { name: game.name.clone(), version: game.version.clone() };
    let games = config.fleets.iter().filter_map(|fleet| {
        Some(GameFleet {
            game: fleet.game.as_ref().map(game)?,
            fleet: fleet.fleet.id.clone(),
            preference: fleet.fleet.preference,
            capacity: fleet.capacity,
            seat_ttl: fleet.seat_ttl,
            dialect: dialect(fleet.dialect),
            protocol_id: fleet.protocol_id,
            properties: serde_json::Map::new(),
        })
    });
    let default = config.gateway.default_fleet.as_ref();
    let default = default.and_then(|id| config.fleets.iter().find(|fleet| fleet.fleet.id == *id));
    let options = GatewayOptions {
        matchmaker,
        reconnect_grace: config.gateway.reconnect_grace,
        rejoin: config.gateway.rejoin,
        default_game: default.and_then(|fleet| fleet.game.as_ref()).map(game),
        wait_deadline: config.gateway.wait_deadline,
        progress_interval: config.gateway.progress_interval,
        per_address: edge::address_limits(config),
        player_calls: keys.player_calls.clone(),
        closing: closing.clone(),
        trusted_proxies: config.gateway.trusted_proxies.clone(),
        cors_origins: config.gateway.cors_origins.clone(),
        loopback_replacement: config.gateway.loopback_ip_replacement,
        dev: config.dev,
        players: keys.players.clone(),
        must_sign_in: config.gateway.players == Players::SignedIn,
        speaks_for_players: (!config.dev).then(|| speaks_for_players(auth)),
        may_rate_themselves: config.player_rights.may_rate_themselves,
        ..GatewayOptions::new(games.collect(), key)
    };
    Ok(Some(Gateway::new(broker.clone(), options)?))
}

fn speaks_for_players(auth: &Auth) -> SpeaksForPlayers {
    let auth = auth.clone();
    Arc::new(move |headers| auth.permits(headers, Permission::Client))
}

const fn dialect(dialect: sortie_config::Dialect) -> Dialect {
    match dialect {
        sortie_config::Dialect::Standard => Dialect::Standard,
        sortie_config::Dialect::Renet => Dialect::Renet,
        sortie_config::Dialect::Lightyear => Dialect::Lightyear,
    }
}

/// Takes every fleet away and waits, for at most `longest`, until nothing of them runs. Gives the number of servers
/// that are left.
pub(crate) async fn retire_fleets(broker: &Handle<Broker>, longest: Duration) -> Result<usize, Failure> {
    let mut events = broker.subscribe(Cursor::Latest);
    let settings = broker.query(|broker| broker.settings().clone()).await?;
    let command = Command::Configure { settings, fleets: Vec::new() };
    broker.call(command).await.map_err(|error| Failure::of("cannot take the fleets away", error))?;
    let gone = async {
        while broker.query(|broker| broker.allocations().count()).await? > 0 {
            events.next().await.map_err(|error| Failure::of("lost the event log", error))?;
        }
        Ok::<_, Failure>(())
    };
    if let Ok(result) = timeout(longest, gone).await {
        result?;
    }
    Ok(broker.query(|broker| broker.allocations().count()).await?)
}

fn spawn_engine(supervisor: &mut Supervisor, engine: Engine<Broker>, deadline: Duration) {
    supervisor.spawn("the broker", Stage::Base, OnFailure::StopAll, move |stop| async move {
        let handle = engine.handle();
        let ended = tokio::select! {
            ended = handle.ended() => ended,
            () = stop.stopped() => engine.shutdown(deadline).await,
        };
        outcome(ended)
    });
}

/// What the end of an engine means for its task.
pub(crate) fn outcome(ended: Ended) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    match ended {
        Ended::Ordered => Ok(()),
        Ended::Killed => Err("it was stopped".into()),
        Ended::Failed(problem) => Err(problem.into()),
    }
}
