//! A broker, its engine, game servers that do as they are told, and a gateway that listens.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};
use sortie_domain::broker::model::{FastSchedule, Fleet, Match, SeatState, Settings};
use sortie_domain::broker::{Broker, Command, Effect, Event, Hints, Offer, Reply};
use sortie_domain::connection::Connection;
use sortie_domain::game::GameVersion;
use sortie_domain::ids::{FleetId, MatchId, SeatId, ServerId};
use sortie_domain::machine::{Machine, Record};
use sortie_domain::matchmaking::{self, Matchmaker};
use sortie_domain::time::Timestamp;
use sortie_engine::{
    Codec, Cursor, DecodeError, EmbeddedLog, Engine, EngineOptions, Entropy, Handle, LogOptions, ManualClock,
    Parts, Performer, Retry, Subscription,
};
use sortie_gateway::{GameFleet, Gateway, GatewayOptions, router};
use sortie_matchmaker::{Hooks, Work};
use sortie_tokens::{Dialect, PrivateKey, Token, open};
use sortie_wire::stored;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, JoinHandle};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

pub(crate) const KEY: [u8; 32] = *b"a private key of the test, 32 by";
pub(crate) const PROTOCOL_ID: u64 = 0x5347_0000_0000_0001;
/// Only so that a broken test fails rather than hangs.
const GIVE_UP: Duration = Duration::from_secs(60);

pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(GIVE_UP, future).await.expect("it should have happened by now")
}

/// How the platform and its game servers behave.
pub(crate) struct Script {
    /// Servers that may come up, in addition to those that [`World::let_boot`] permits.
    pub(crate) boots: usize,
    /// Matches that may get ready, in addition to those that [`World::let_ready`] permits.
    pub(crate) readies: usize,
    /// The connection details that servers send, by their number.
    pub(crate) connection: fn(u16, &Offer) -> Connection,
    /// The matchmaker's settings, if there is one.
    pub(crate) queues: Option<sortie_domain::matchmaking::Settings>,
}

impl Default for Script {
    fn default() -> Self {
        let (boots, readies) = (Semaphore::MAX_PERMITS / 2, Semaphore::MAX_PERMITS / 2);
        Self { boots, readies, connection: loopback, queues: None }
    }
}

impl Script {
    /// Nothing comes up before the test permits it.
    pub(crate) fn held() -> Self {
        Self { boots: 0, readies: 0, ..Self::default() }
    }
}

fn loopback(number: u16, _: &Offer) -> Connection {
    details(&format!("127.0.0.1:{}", 7000 + number))
}

pub(crate) fn details(text: &str) -> Connection {
    Connection { details: text.into(), ..Connection::default() }
}

pub(crate) fn game(name: &str, version: &str) -> GameVersion {
    GameVersion { name: name.to_owned(), version: version.to_owned() }
}

pub(crate) fn fleet_id(id: &str) -> FleetId {
    FleetId::new(id).unwrap()
}

/// The game `arena 1.0` on the fleet `local`, with matches of this many players.
pub(crate) fn arena(capacity: u32) -> GameFleet {
    GameFleet {
        game: game("arena", "1.0"),
        fleet: fleet_id("local"),
        preference: 0,
        capacity,
        seat_ttl: Duration::from_secs(30),
        dialect: Dialect::Standard,
        protocol_id: PROTOCOL_ID,
        properties: Map::new(),
    }
}

pub(crate) fn options(games: Vec<GameFleet>) -> GatewayOptions {
    GatewayOptions {
        default_game: games.first().map(|fleet| fleet.game.clone()),
        progress_interval: Duration::from_millis(20),
        ..GatewayOptions::new(games, PrivateKey::new(KEY))
    }
}

struct Platform {
    broker: OnceLock<Handle<Broker>>,
    boots: Semaphore,
    readies: Semaphore,
    connection: fn(u16, &Offer) -> Connection,
    servers: Mutex<Vec<AbortHandle>>,
}

impl Platform {
    fn start(self: &Arc<Self>, server: ServerId) {
        let mut servers = self.servers.lock().unwrap();
        let number = u16::try_from(servers.len() + 1).unwrap();
        let platform = Arc::clone(self);
        servers.push(tokio::spawn(async move { platform.serve(server, number).await }).abort_handle());
    }

    /// The life of a game server: one match.
    async fn serve(&self, server: ServerId, number: u16) {
        self.boots.acquire().await.unwrap().forget();
        let broker = self.broker.get().unwrap();
        let request = Command::RequestMatch {
            server: server.clone(),
            requirements: String::new(),
            hints: Hints::WILLING_TO_WAIT,
            most: 1,
            wait: None,
        };
        let offer = loop {
            match broker.call(request.clone()).await {
                Ok(Reply::Requested { offer: Some(offer), .. }) => break offer,
                Ok(Reply::Requested { offer: None, hints: Hints::NONE, .. }) => {}
                _ => return,
            }
        };
        self.readies.acquire().await.unwrap().forget();
        let connection = (self.connection)(number, &offer);
        let ready = Command::MatchReady { server, match_id: offer.match_id, connection, hints: Hints::FULL };
        // The match may be over by now.
        let _ = broker.call(ready).await;
    }
}

struct Performs(Arc<Platform>);

#[async_trait::async_trait]
impl Performer<Broker> for Performs {
    fn key(&self, effect: &Effect) -> String {
        effect.allocation().to_string()
    }

    async fn perform(&self, effect: Effect) -> Result<Option<Command>, Retry> {
        Ok(Some(match effect {
            Effect::Start { allocation, server, .. } => {
                self.0.start(server);
                Command::AllocationStarted { allocation }
            }
            Effect::Stop { allocation, .. } => Command::AllocationStopped { allocation },
        }))
    }
}

fn codec() -> Codec<Broker> {
    Codec {
        encode_event: stored::encode_event,
        decode_event: |bytes| stored::decode_event(bytes).map_err(DecodeError::new),
        encode_snapshot: stored::write_snapshot,
        decode_snapshot: |pieces| stored::read_snapshot(pieces).map_err(DecodeError::new),
    }
}

fn now() -> Timestamp {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Timestamp::from_millis(u64::try_from(now.as_millis()).unwrap())
}

pub(crate) type WebSocket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Everything, stopped when dropped.
pub(crate) struct World {
    pub(crate) broker: Handle<Broker>,
    pub(crate) gateway: Gateway,
    pub(crate) clock: ManualClock,
    pub(crate) http: reqwest::Client,
    pub(crate) address: SocketAddr,
    listening: JoinHandle<()>,
    platform: Arc<Platform>,
    engine: Option<Engine<Broker>>,
    /// Set if there are queues.
    making: Option<Making>,
    _data: tempfile::TempDir,
}

struct Making {
    engine: Engine<Matchmaker>,
    linking: JoinHandle<()>,
}

impl Making {
    async fn start(
        data: &std::path::Path,
        clock: &ManualClock,
        broker: &Handle<Broker>,
        settings: sortie_domain::matchmaking::Settings,
    ) -> Self {
        let hooks = Hooks::new(BTreeMap::new()).unwrap();
        let engine = Engine::start(Parts {
            name: "matchmaker",
            log: Box::new(EmbeddedLog::open(&data.join("matchmaker"), LogOptions::default()).unwrap()),
            codec: sortie_matchmaker::codec(),
            empty: Box::new(Matchmaker::new),
            performer: Arc::new(Work::new(broker.clone(), hooks)),
            clock: Arc::new(clock.clone()),
            entropy: Entropy::seeded(8),
            options: EngineOptions::default(),
        });
        let engine = engine.await.unwrap();
        let command = matchmaking::Command::Configure { settings };
        engine.handle().call(command).await.unwrap();
        let linking = tokio::spawn(sortie_matchmaker::follow(broker.clone(), engine.handle()));
        Self { engine, linking }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.listening.abort();
        if let Some(making) = &self.making {
            making.linking.abort();
        }
        self.platform.servers.lock().unwrap().iter().for_each(AbortHandle::abort);
    }
}

impl World {
    /// A world with the game `arena 1.0`, matches of `capacity` players, and servers that come up at once.
    pub(crate) async fn with_capacity(capacity: u32) -> Self {
        Self::start(Script::default(), options(vec![arena(capacity)])).await
    }

    pub(crate) async fn start(script: Script, options: GatewayOptions) -> Self {
        let mut fleets: Vec<FleetId> = options.games.iter().map(|game| game.fleet.clone()).collect();
        fleets.dedup();
        let fleets = fleets.into_iter().map(|id| (id, 1_000)).collect();
        Self::start_with_fleets(script, options, fleets).await
    }

    /// A world with these fleets, each with its maximum of servers.
    pub(crate) async fn start_with_fleets(
        script: Script,
        mut options: GatewayOptions,
        fleets: Vec<(FleetId, u32)>,
    ) -> Self {
        let data = tempfile::tempdir().unwrap();
        let platform = Arc::new(Platform {
            broker: OnceLock::new(),
            boots: Semaphore::new(script.boots),
            readies: Semaphore::new(script.readies),
            connection: script.connection,
            servers: Mutex::default(),
        });
        let clock = ManualClock::at(now());
        let engine = Engine::start(Parts {
            name: "broker",
            log: Box::new(EmbeddedLog::open(data.path(), LogOptions::default()).unwrap()),
            codec: codec(),
            empty: Box::new(Broker::new),
            performer: Arc::new(Performs(Arc::clone(&platform))),
            clock: Arc::new(clock.clone()),
            entropy: Entropy::seeded(7),
            options: EngineOptions::default(),
        });
        let engine = engine.await.unwrap();
        let broker = engine.handle();
        platform.broker.set(broker.clone()).ok().unwrap();
        configure(&broker, &options.games, fleets).await;
        let mut making = None;
        if let Some(settings) = script.queues {
            let started = Making::start(data.path(), &clock, &broker, settings).await;
            options.matchmaker = Some(started.engine.handle());
            making = Some(started);
        }
        let gateway = Gateway::new(broker.clone(), options).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let service = router(gateway.clone()).into_make_service_with_connect_info::<SocketAddr>();
        let listening = tokio::spawn(async move { axum::serve(listener, service).await.unwrap() });
        let http = sortie_tls::http_client("http:", None).unwrap().build().unwrap();
        let engine = Some(engine);
        Self { broker, gateway, clock, http, address, listening, platform, engine, making, _data: data }
    }

    pub(crate) fn let_boot(&self, servers: usize) {
        self.platform.boots.add_permits(servers);
    }

    pub(crate) fn let_ready(&self, matches: usize) {
        self.platform.readies.add_permits(matches);
    }

    pub(crate) async fn shut_down(&mut self) {
        if let Some(engine) = self.engine.take() {
            engine.shutdown(Duration::ZERO).await;
        }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) async fn get(&self, path: &str) -> reqwest::Response {
        within(self.http.get(self.url(path)).send()).await.unwrap()
    }

    pub(crate) async fn post(&self, path: &str) -> reqwest::Response {
        within(self.http.post(self.url(path)).send()).await.unwrap()
    }

    /// Asks with one answer; gets a seat.
    pub(crate) async fn join(&self) -> Value {
        let answer = self.post("/matchmaker/wannaplay").await;
        let (status, text) = (answer.status(), answer.text().await.unwrap());
        assert_eq!(status, 200, "{text}");
        serde_json::from_str(&text).unwrap()
    }

    pub(crate) async fn stream(&self, path: &str) -> Chunks {
        let response = self.post(path).await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "application/json");
        Chunks(response)
    }

    pub(crate) async fn websocket(&self, path: &str) -> WebSocket {
        let (socket, _) = within(connect_async(format!("ws://{}{path}", self.address))).await.unwrap();
        socket
    }

    /// The matchmaker of a world with queues.
    pub(crate) fn maker(&self) -> Handle<Matchmaker> {
        self.making.as_ref().expect("a world with queues").engine.handle()
    }

    pub(crate) fn events(&self) -> Events {
        Events(self.broker.subscribe(Cursor::Earliest))
    }

    /// Every match so far.
    pub(crate) async fn matches(&self) -> Vec<Match> {
        self.broker.query(|broker| broker.matches(&[], None, 1_000).items).await.unwrap()
    }

    pub(crate) async fn last_seq(&self) -> u64 {
        self.broker.query(Machine::last_seq).await.unwrap()
    }
}

/// The fleets run the gateway's games. Matches without a game go to the first.
async fn configure(broker: &Handle<Broker>, games: &[GameFleet], fleets: Vec<(FleetId, u32)>) {
    let game_of = |id: &FleetId| games.iter().find(|game| game.fleet == *id).map(|game| game.game.clone());
    let fleets = fleets.into_iter().enumerate().map(|(at, (id, max))| Fleet {
        game: game_of(&id),
        id,
        is_default: at == 0,
        requirements: String::new(),
        max,
        warm: 0,
        ready_deadline: Duration::from_secs(3600),
        max_run_time: None,
        preference: 0,
    });
    let settings = Settings {
        fast_schedule: FastSchedule::Always,
        server_max_lifetime: Duration::from_secs(3600),
        ..Settings::default()
    };
    broker.call(Command::Configure { settings, fleets: fleets.collect() }).await.unwrap();
}

/// A streamed answer.
pub(crate) struct Chunks(pub(crate) reqwest::Response);

impl Chunks {
    /// The next feedback; `None` after the last. Each is a chunk of its own, and a line.
    pub(crate) async fn next(&mut self) -> Option<Value> {
        let chunk = within(self.0.chunk()).await.unwrap()?;
        let line = std::str::from_utf8(&chunk).unwrap().strip_suffix('\n').expect("a whole line");
        Some(serde_json::from_str(line).unwrap())
    }

    /// Feedback up to the first of this kind, which is returned.
    pub(crate) async fn until(&mut self, kind: &str) -> Value {
        loop {
            let feedback = self.next().await.expect("more feedback");
            if let Some(content) = feedback.get(kind) {
                return content.clone();
            }
            assert!(feedback.get("Error").is_none(), "{feedback}");
        }
    }

    /// Feedback up to a progress report that ends like this.
    pub(crate) async fn reports(&mut self, ending: &str) -> String {
        loop {
            let report = self.until("ProgressReport").await;
            let report = report.as_str().unwrap();
            if report.ends_with(ending) {
                return report.to_owned();
            }
        }
    }

    pub(crate) async fn rest(&mut self) -> Vec<Value> {
        let mut rest = Vec::new();
        while let Some(feedback) = self.next().await {
            rest.push(feedback);
        }
        rest
    }
}

/// The broker's log.
pub(crate) struct Events(Subscription<Broker>);

impl Events {
    /// Waits for an event that `pick` selects.
    pub(crate) async fn find<T>(&mut self, pick: impl Fn(&Event) -> Option<T>) -> (T, Arc<Record<Event>>) {
        let find = async {
            loop {
                let record = self.0.next().await.unwrap();
                if let Some(found) = pick(&record.event) {
                    return (found, record);
                }
            }
        };
        within(find).await
    }

    pub(crate) async fn reserved(&mut self) -> (SeatId, MatchId) {
        let pick = |event: &Event| match event {
            Event::SeatReserved { seat, match_id, .. } => Some((seat.clone(), match_id.clone())),
            _ => None,
        };
        self.find(pick).await.0
    }

    /// Waits until the seat is closed, and returns how it ended.
    pub(crate) async fn closed(&mut self, seat: &SeatId) -> &'static str {
        let pick = |event: &Event| match event {
            Event::SeatClosed { seat: closed, end, .. } if closed == seat => Some(end.name()),
            _ => None,
        };
        self.find(pick).await.0
    }
}

pub(crate) fn opened(base64: &Value, dialect: Dialect) -> Token {
    let bytes = STANDARD.decode(base64.as_str().unwrap()).unwrap();
    open(&bytes, dialect, &PrivateKey::new(KEY)).unwrap()
}

/// The seat that a token is for: the start of its user data.
pub(crate) fn seat_of(token: &Token) -> SeatId {
    let data = token.spec.user_data;
    let length = data.iter().position(|byte| *byte == 0).unwrap();
    assert!(data[length..].iter().all(|byte| *byte == 0));
    SeatId::new(std::str::from_utf8(&data[..length]).unwrap()).unwrap()
}

/// Checks a token against the seat that the broker knows, and returns the seat's match.
pub(crate) async fn check(world: &World, token: &Token, address: &str) -> Match {
    let seat_id = seat_of(token);
    let matches = world.matches().await;
    let game = matches.into_iter().find(|game| game.seats.contains_key(&seat_id)).expect("the seat's match");
    let seat = game.seats.get(&seat_id).unwrap();
    assert_eq!(token.spec.client_id, seat.client_id);
    assert_eq!(token.spec.protocol_id, PROTOCOL_ID);
    assert_eq!(token.spec.timeout_seconds, 15);
    assert_eq!(token.spec.server_addresses, [address.parse().unwrap()]);
    let SeatState::Reserved { expires_at: Some(expires_at) } = seat.state else { panic!("{seat:?}") };
    assert_eq!(token.spec.expire_timestamp, expires_at.as_millis().div_ceil(1000));
    assert!(token.spec.create_timestamp < token.spec.expire_timestamp);
    game
}
