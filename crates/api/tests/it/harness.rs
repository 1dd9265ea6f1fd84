//! A server on a free port, and callers.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use reqwest::{Client, Method, RequestBuilder, Response};
use serde_json::{Value, json};
use sortie_api::{ApiOptions, Auth, ConfiguredAllocator, Limits, PlayerRights, router};
use sortie_domain::broker::event::{Effect, Event};
use sortie_domain::broker::model::{Fleet, Settings};
use sortie_domain::broker::{Broker, Command};
use sortie_domain::ids::{FleetId, QueueId};
use sortie_domain::machine::{Machine as _, Record};
use sortie_domain::matchmaking::model::marked;
use sortie_domain::matchmaking::settings::{Queue, Settings as MakerSettings};
use sortie_domain::matchmaking::{self, Matchmaker};
use sortie_domain::time::Timestamp;
use sortie_engine::{
    Codec, Cursor, DecodeError, EmbeddedLog, Engine, EngineOptions, Entropy, Handle, LogOptions, ManualClock,
    Parts, Performer, Retry,
};
use sortie_serving::{Allowance, Allowances, Visitors, serve};
use sortie_wire::stored;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::schemas::check_answer;

/// Maximum wait of a test.
const PATIENCE: Duration = Duration::from_secs(20);

/// Awaits a future that must complete soon.
pub(crate) async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.expect("it never happened")
}

/// Retention of the log, and players' rate limit.
struct Keeping {
    log: LogOptions,
    snapshot_every: u64,
    player_calls: Allowance,
}

impl Default for Keeping {
    fn default() -> Self {
        let snapshot_every = EngineOptions::default().snapshot_every_records;
        Self { log: LogOptions::default(), snapshot_every, player_calls: Allowance::NONE }
    }
}

struct Platform;

#[async_trait::async_trait]
impl Performer<Broker> for Platform {
    fn key(&self, effect: &Effect) -> String {
        effect.allocation().to_string()
    }

    async fn perform(&self, effect: Effect) -> Result<Option<Command>, Retry> {
        Ok(Some(match effect {
            Effect::Start { allocation, .. } => Command::AllocationStarted { allocation },
            Effect::Stop { allocation, .. } => Command::AllocationStopped { allocation },
        }))
    }
}

/// Submits the matchmaker's matches to the broker.
struct Submitting(Handle<Broker>);

#[async_trait::async_trait]
impl Performer<Matchmaker> for Submitting {
    fn key(&self, effect: &matchmaking::Effect) -> String {
        match effect {
            matchmaking::Effect::Submit { match_id, .. } | matchmaking::Effect::Withdraw { match_id } => {
                match_id.to_string()
            }
            matchmaking::Effect::ValidateTicket { ticket, .. } => ticket.to_string(),
            matchmaking::Effect::CheckMatch { match_id, .. } => format!("check {match_id}"),
            other => panic!("no test is about {other:?}"),
        }
    }

    async fn perform(&self, effect: matchmaking::Effect) -> Result<Option<matchmaking::Command>, Retry> {
        Ok(Some(match effect {
            matchmaking::Effect::Submit { match_id, spec } => {
                let spec = marked(&match_id, (*spec).clone());
                let submit = Command::SubmitMatch { id: Some(match_id.clone()), spec };
                self.0.call(submit).await.unwrap();
                matchmaking::Command::Submitted { match_id }
            }
            matchmaking::Effect::Withdraw { match_id } => {
                let _gone_is_fine = self.0.call(Command::CancelMatch { id: match_id.clone() }).await;
                matchmaking::Command::Withdrawn { match_id }
            }
            // Tests answer in place of hooks.
            matchmaking::Effect::ValidateTicket { .. } | matchmaking::Effect::CheckMatch { .. } => {
                std::future::pending().await
            }
            other => panic!("no test is about {other:?}"),
        }))
    }
}

/// Reports ready matches to the matchmaker.
async fn tell_ready(broker: Handle<Broker>, maker: Handle<Matchmaker>) {
    let mut events = broker.subscribe(Cursor::Earliest);
    while let Ok(record) = events.next().await {
        let command = match &record.event {
            Event::MatchReady { id, connection, .. } => {
                matchmaking::Command::MatchReady { match_id: id.clone(), connection: (**connection).clone() }
            }
            Event::MatchFailed { id, reason, .. } => {
                matchmaking::Command::NoServer { match_id: id.clone(), reason: reason.text().to_owned() }
            }
            _ => continue,
        };
        let _ended_is_fine = maker.call(command).await;
    }
}

/// Queues of a test: `duel` is for two, `asked` asks them first, `crowd` is never full.
pub(crate) fn queues() -> MakerSettings {
    let duel = Queue { max_requeues: 0, ..Queue::default() };
    let asked = Queue { accept: Some(Duration::from_secs(20)), ..duel.clone() };
    let crowd = Queue { players_per_team: 100, min_players_per_team: 100, ..duel.clone() };
    let queues = [("duel", duel), ("asked", asked), ("crowd", crowd)];
    let queues = queues.map(|(name, queue)| (QueueId::new(name).unwrap(), queue));
    MakerSettings { queues: queues.into(), tick: Duration::ZERO, ..MakerSettings::default() }
}

async fn start_maker(data: &TempDir, clock: &ManualClock, broker: Handle<Broker>) -> Engine<Matchmaker> {
    let folder = data.path().join("matchmaker");
    std::fs::create_dir_all(&folder).unwrap();
    let parts = Parts {
        name: "matchmaker",
        log: Box::new(EmbeddedLog::open(&folder, LogOptions::default()).unwrap()),
        codec: Codec {
            encode_event: stored::matchmaker::encode_event,
            decode_event: |bytes| stored::matchmaker::decode_event(bytes).map_err(DecodeError::new),
            encode_snapshot: stored::matchmaker::write_snapshot,
            decode_snapshot: |pieces| stored::matchmaker::read_snapshot(pieces).map_err(DecodeError::new),
        },
        empty: Box::new(Matchmaker::new),
        performer: Arc::new(Submitting(broker)),
        clock: Arc::new(clock.clone()),
        entropy: Entropy::seeded(11),
        options: EngineOptions::default(),
    };
    let engine = Engine::start(parts).await.unwrap();
    engine.handle().call(matchmaking::Command::Configure { settings: queues() }).await.unwrap();
    engine
}

/// A server under test; everything is stopped when it is dropped.
pub(crate) struct Server {
    pub(crate) address: String,
    pub(crate) clock: ManualClock,
    pub(crate) closing: CancellationToken,
    pub(crate) broker: Handle<Broker>,
    pub(crate) maker: Option<Handle<Matchmaker>>,
    pub(crate) served: Option<JoinHandle<()>>,
    told: Option<JoinHandle<()>>,
    engine: Option<Engine<Broker>>,
    maker_engine: Option<Engine<Matchmaker>>,
    client: Client,
    data: Option<TempDir>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.closing.cancel();
        self.served.take().inspect(JoinHandle::abort);
        self.told.take().inspect(JoinHandle::abort);
    }
}

async fn start_engine(data: &TempDir, clock: &ManualClock, keeping: Keeping) -> Engine<Broker> {
    let codec = Codec::<Broker> {
        encode_event: stored::encode_event,
        decode_event: |bytes| stored::decode_event(bytes).map_err(DecodeError::new),
        encode_snapshot: stored::write_snapshot,
        decode_snapshot: |pieces| stored::read_snapshot(pieces).map_err(DecodeError::new),
    };
    let parts = Parts {
        name: "broker",
        log: Box::new(EmbeddedLog::open(data.path(), keeping.log).unwrap()),
        codec,
        empty: Box::new(Broker::new),
        performer: Arc::new(Platform),
        clock: Arc::new(clock.clone()),
        entropy: Entropy::seeded(7),
        options: EngineOptions { snapshot_every_records: keeping.snapshot_every, ..EngineOptions::default() },
    };
    Engine::start(parts).await.unwrap()
}

impl Server {
    /// In development mode, without fleets.
    pub(crate) async fn start() -> Self {
        Self::start_with(Auth::dev(), Limits::default()).await
    }

    /// In development mode, with these limits of requests and connections.
    pub(crate) async fn start_limited(serving: sortie_serving::Limits) -> Self {
        Self::start_with(Auth::dev(), Limits { serving, ..Limits::default() }).await
    }

    pub(crate) async fn start_with(auth: Auth, limits: Limits) -> Self {
        Self::start_keeping(auth, limits, Keeping::default(), true).await
    }

    /// With this rate limit of players.
    pub(crate) async fn start_with_player_calls(auth: Auth, player_calls: Allowance) -> Self {
        let keeping = Keeping { player_calls, ..Keeping::default() };
        Self::start_keeping(auth, Limits::default(), keeping, true).await
    }

    /// In development mode, without a matchmaker.
    pub(crate) async fn start_without_matchmaker() -> Self {
        Self::start_keeping(Auth::dev(), Limits::default(), Keeping::default(), false).await
    }

    /// With a short retention of the log.
    pub(crate) async fn start_forgetful() -> Self {
        let log = LogOptions { segment_bytes: 200, retention_bytes: 0, ..LogOptions::default() };
        Self::start_keeping(
            Auth::dev(),
            Limits::default(),
            Keeping { log, snapshot_every: 5, ..Keeping::default() },
            false,
        )
        .await
    }

    async fn start_keeping(auth: Auth, limits: Limits, keeping: Keeping, matchmaker: bool) -> Self {
        let data = tempfile::tempdir().unwrap();
        let clock = ManualClock::at(Timestamp::from_millis(1_790_000_000_000));
        Self::start_in(data, clock, auth, (limits, PlayerRights::default()), keeping, matchmaker).await
    }

    /// With these rights of players.
    pub(crate) async fn start_for_players(auth: Auth, limits: Limits, rights: PlayerRights) -> Self {
        let data = tempfile::tempdir().unwrap();
        let clock = ManualClock::at(Timestamp::from_millis(1_790_000_000_000));
        Self::start_in(data, clock, auth, (limits, rights), Keeping::default(), true).await
    }

    /// As after a restart: another process over the same logs.
    pub(crate) async fn restart(mut self) -> Self {
        self.closing.cancel();
        self.told.take().inspect(JoinHandle::abort);
        if let Some(maker) = self.maker_engine.take() {
            maker.shutdown(Duration::ZERO).await;
        }
        self.stop_engine().await;
        let data = self.data.take().unwrap();
        let clock = self.clock.clone();
        let allowed = (Limits::default(), PlayerRights::default());
        Self::start_in(data, clock, Auth::dev(), allowed, Keeping::default(), self.maker.is_some()).await
    }

    async fn start_in(
        data: TempDir,
        clock: ManualClock,
        auth: Auth,
        (limits, player_rights): (Limits, PlayerRights),
        keeping: Keeping,
        matchmaker: bool,
    ) -> Self {
        let player_calls = Allowances::new(keeping.player_calls);
        let engine = start_engine(&data, &clock, keeping).await;
        let maker_engine = match matchmaker {
            true => Some(start_maker(&data, &clock, engine.handle()).await),
            false => None,
        };
        let maker = maker_engine.as_ref().map(Engine::handle);
        let told = maker.clone().map(|maker| tokio::spawn(tell_ready(engine.handle(), maker)));
        let (closing, looks) = (CancellationToken::new(), AtomicUsize::new(0));
        let options = ApiOptions {
            broker: engine.handle(),
            matchmaker: maker.clone(),
            clock: Arc::new(clock.clone()),
            auth,
            player_rights,
            // The player `late` takes its seat just after the first look for it.
            leads_back: Some(Arc::new(move |broker, player, now| {
                if player.as_str() == "late" && looks.fetch_add(1, SeqCst) == 0 {
                    return None;
                }
                broker.own_match(player, true, now, |_, _| true).map(|(game, _)| game)
            })),
            allocators: vec![ConfiguredAllocator {
                name: "local".into(),
                description: "processes on this machine".into(),
                requirements: String::new(),
                raw_configuration: r#"{"max":4}"#.into(),
            }],
            available_allocators: vec!["local_process".into()],
            source: "/sortie/test".into(),
            limits: limits.clone(),
            player_calls,
            described: Vec::new(),
            checks: Vec::new(),
            closing: closing.clone(),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let router = router(options);
        let until = closing.clone();
        let visitors = Visitors::with_credentials();
        let served =
            tokio::spawn(
                async move { serve(listener, router, visitors, None, &limits.serving, until).await },
            );
        let client = sortie_tls::http_client("http:", None).unwrap().build().unwrap();
        let broker = engine.handle();
        Self {
            address,
            clock,
            closing,
            broker,
            maker,
            served: Some(served),
            told,
            engine: Some(engine),
            maker_engine,
            client,
            data: Some(data),
        }
    }

    /// With a fleet `local` that can start servers.
    pub(crate) async fn with_fleet(self) -> Self {
        let fleet = Fleet {
            id: FleetId::new("local").unwrap(),
            game: None,
            is_default: false,
            requirements: String::new(),
            max: 4,
            warm: 0,
            ready_deadline: Duration::from_secs(60),
            max_run_time: None,
            preference: 0,
        };
        let settings = Settings::default();
        self.broker.call(Command::Configure { settings, fleets: vec![fleet] }).await.unwrap();
        self
    }

    /// From now on the test reports to the matchmaker what happens to its matches.
    pub(crate) fn hold_news(&mut self) {
        self.told.take().inspect(JoinHandle::abort);
    }

    pub(crate) async fn stop_engine(&mut self) {
        self.engine.take().unwrap().shutdown(Duration::ZERO).await;
    }

    pub(crate) fn request(&self, method: &str, path: &str) -> RequestBuilder {
        let method: Method = method.parse().unwrap();
        self.client.request(method, format!("http://{}{path}", self.address))
    }

    /// Opens a stream.
    pub(crate) async fn open(&self, path: &str, headers: &[(&str, &str)]) -> Response {
        let request = headers
            .iter()
            .fold(self.request("GET", path), |request, (name, value)| request.header(*name, *value));
        soon(request.send()).await.unwrap()
    }

    /// Sends `body` and takes the JSON that comes back; answers of the Catena contract must be as published.
    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        body: impl Into<reqwest::Body>,
    ) -> (u16, Value) {
        let response = soon(self.request(method, path).body(body).send()).await.unwrap();
        let status = response.status().as_u16();
        let text = soon(response.text()).await.unwrap();
        let answer =
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("{method} {path}: {error}: {text}"));
        if path.starts_with("/api/") && !text.contains("\"not_found\"") && status != 405 {
            check_answer(method, path, status, &answer);
        }
        (status, answer)
    }

    /// The answer to a request that has to succeed.
    pub(crate) async fn ok(&self, method: &str, path: &str, body: Value) -> Value {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let (status, answer) = self.send(method, path, body).await;
        assert!((200..300).contains(&status), "{method} {path}: {status} {answer}");
        answer
    }

    pub(crate) async fn last_seq(&self) -> u64 {
        self.broker.query(Broker::last_seq).await.unwrap()
    }

    /// Everything durable, as bytes.
    pub(crate) async fn state(&self) -> Vec<u8> {
        let mut state =
            self.broker.query(|broker| stored::encode_snapshot(&broker.snapshot())).await.unwrap();
        if let Some(maker) = &self.maker {
            let own = maker.query(|maker| stored::matchmaker::encode_snapshot(&maker.snapshot())).await;
            state.extend(own.unwrap());
        }
        state
    }

    /// A ticket of these players, started.
    pub(crate) async fn ticket(&self, queue: &str, players: &[&str]) -> String {
        let players: Vec<_> = players.iter().map(|id| json!({"id": id})).collect();
        let answer = self.ok("POST", "/v1/tickets", json!({"queue": queue, "players": players})).await;
        answer["ticket_id"].as_str().unwrap().to_owned()
    }

    /// Waits for an event of the matchmaker that is in its log or will be.
    pub(crate) async fn await_ticket(&self, wanted: impl Fn(&Record<matchmaking::Event>) -> bool) {
        let mut events = self.maker.as_ref().unwrap().subscribe(Cursor::Earliest);
        soon(async { while !wanted(&events.next().await.unwrap()) {} }).await;
    }

    /// Waits for an event that is in the log or will be.
    pub(crate) async fn await_event(&self, wanted: impl Fn(&Record<Event>) -> bool) {
        let mut events = self.broker.subscribe(Cursor::Earliest);
        soon(async { while !wanted(&events.next().await.unwrap()) {} }).await;
    }

    /// A match with these players, queued.
    pub(crate) async fn submit(&self, players: &[&str]) -> String {
        let answer = self.ok("POST", "/v1/matches", json!({"players": players})).await;
        answer["match_id"].as_str().unwrap().to_owned()
    }

    /// A match that `server` took, ready.
    pub(crate) async fn ready_match(&self, server: &str, order: Value) -> String {
        self.ok("POST", "/v1/matches", order).await;
        let offer = self.ok("POST", "/api/v1/server/request_match", json!({"serverId": server})).await;
        let id = offer["match"]["matchId"].as_str().unwrap().to_owned();
        let ready = json!({"serverId": server, "matchId": id, "connectionDetails": "203.0.113.7:7777"});
        self.ok("POST", "/api/v1/server/match_ready", ready).await;
        id
    }
}

/// A response read in pieces that end with `end`.
pub(crate) struct Pieces {
    response: Response,
    end: &'static str,
    rest: String,
}

impl Pieces {
    pub(crate) fn of(response: Response, end: &'static str) -> Self {
        Self { response, end, rest: String::new() }
    }

    /// The next piece, without its end; `None` when the response is over.
    pub(crate) async fn next(&mut self) -> Option<String> {
        loop {
            if let Some((piece, rest)) = self.rest.split_once(self.end) {
                let piece = piece.to_owned();
                self.rest = rest.to_owned();
                return Some(piece);
            }
            let chunk = soon(self.response.chunk()).await.unwrap()?;
            self.rest.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }

    /// The next line as a document.
    pub(crate) async fn json(&mut self) -> Value {
        serde_json::from_str(&self.next().await.expect("the stream ended")).unwrap()
    }
}
