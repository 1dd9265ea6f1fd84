//! A broker and a matchmaker, each with its log in a folder, and the game servers and players of a test.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use async_trait::async_trait;
use sortie_domain::broker::model::FastSchedule;
use sortie_domain::broker::{self, Broker, Hints};
use sortie_domain::connection::Connection;
use sortie_domain::ids::{HookId, MatchId, PlayerId, QueueId, ServerId, TicketId};
use sortie_domain::matchmaking::model::{Party, Player, Status, Ticket, TicketSpec};
use sortie_domain::matchmaking::settings::{Queue, Settings};
use sortie_domain::matchmaking::{Command, Matchmaker, Reply};
use sortie_domain::time::Timestamp;
use sortie_engine::effects::MAX_PENDING_EFFECTS;
use sortie_engine::log::{Disk, SystemDisk};
use sortie_engine::{
    Codec, Cursor, DecodeError, EffectLimits, EmbeddedLog, Engine, EngineOptions, Entropy, Handle,
    LogOptions, ManualClock, Parts, Performer, Retry, SystemClock,
};
use sortie_matchmaker::{HookOptions, Hooks, Work, codec, follow};
use sortie_wire::stored;
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// Maximum wait for something that should happen at once, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// The result of `work`, which must not take long.
pub(crate) async fn soon<T>(what: &str, work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.unwrap_or_else(|_| panic!("{what}: not within {PATIENCE:?}"))
}

pub(crate) fn player(id: &str) -> PlayerId {
    PlayerId::new(id).unwrap()
}

pub(crate) fn queue_id(id: &str) -> QueueId {
    QueueId::new(id).unwrap()
}

/// A duel of two players, formed at once.
pub(crate) fn duel() -> Queue {
    Queue { max_requeues: 0, ..Queue::default() }
}

/// These queues, and a tick that no test has to wait for.
pub(crate) fn settings(queues: &[(&str, Queue)]) -> Settings {
    let queues = queues.iter().map(|(id, queue)| (queue_id(id), queue.clone())).collect();
    Settings { queues, tick: Duration::from_millis(5), ..Settings::default() }
}

/// The order of a ticket for these players.
pub(crate) fn spec(queue: &str, players: &[&str]) -> TicketSpec {
    let players = players.iter().map(|id| Player::new(player(id))).collect();
    TicketSpec {
        queue: queue_id(queue),
        parties: vec![Party { id: None, players }],
        leader: None,
        properties: Default::default(),
        latencies: BTreeMap::new(),
        idempotency_key: None,
        ttl: None,
        replaces: None,
    }
}

pub(crate) type HookMap = BTreeMap<(Option<QueueId>, HookId), HookOptions>;

/// A broker without fleets orders no servers.
struct NoFleets;

#[async_trait]
impl Performer<Broker> for NoFleets {
    fn key(&self, effect: &broker::Effect) -> String {
        effect.allocation().to_string()
    }

    async fn perform(&self, _: broker::Effect) -> Result<Option<broker::Command>, Retry> {
        Err(Retry::because("no test has fleets"))
    }
}

fn broker_codec() -> Codec<Broker> {
    Codec {
        encode_event: stored::encode_event,
        decode_event: |bytes| stored::decode_event(bytes).map_err(DecodeError::new),
        encode_snapshot: stored::write_snapshot,
        decode_snapshot: |pieces| stored::read_snapshot(pieces).map_err(DecodeError::new),
    }
}

fn log(folder: &Path, disk: Arc<dyn Disk>) -> Box<EmbeddedLog> {
    std::fs::create_dir_all(folder).unwrap();
    Box::new(EmbeddedLog::open_on(folder, LogOptions::default(), disk).unwrap())
}

/// A disk whose next sync reports that it has begun, and waits for permission to continue.
#[derive(Default)]
pub(crate) struct GatedDisk {
    gate: Mutex<Option<(oneshot::Sender<()>, mpsc::Receiver<()>)>>,
}

impl GatedDisk {
    /// The signal that the next sync has begun, and the one that lets it continue.
    pub(crate) fn hold_next_sync(&self) -> (oneshot::Receiver<()>, mpsc::SyncSender<()>) {
        let ((entered, on_entered), (leave, on_leave)) = (oneshot::channel(), mpsc::sync_channel(1));
        *self.gate.lock().unwrap() = Some((entered, on_leave));
        (on_entered, leave)
    }
}

impl Disk for GatedDisk {
    fn sync(&self, file: &File) -> std::io::Result<()> {
        let gate = self.gate.lock().unwrap().take();
        if let Some((entered, leave)) = gate {
            entered.send(()).unwrap();
            leave.recv().unwrap();
        }
        SystemDisk.sync(file)
    }
}

/// The broker's clock stands still unless a test moves it, so that no deadline fires on its own.
async fn broker_engine(folder: &Path, clock: &ManualClock) -> Engine<Broker> {
    let parts = Parts {
        name: "broker",
        log: log(folder, Arc::new(SystemDisk)),
        codec: broker_codec(),
        empty: Box::new(Broker::new),
        performer: Arc::new(NoFleets),
        clock: Arc::new(clock.clone()),
        entropy: Entropy::system().unwrap(),
        options: EngineOptions::default(),
    };
    let engine = Engine::start(parts).await.unwrap();
    let settings = broker::model::Settings {
        fast_schedule: FastSchedule::OnSchedule,
        ..broker::model::Settings::default()
    };
    engine.handle().call(broker::Command::Configure { settings, fleets: Vec::new() }).await.unwrap();
    engine
}

pub(crate) async fn maker_engine(
    folder: &Path,
    performer: Arc<dyn Performer<Matchmaker>>,
    disk: Arc<dyn Disk>,
) -> Engine<Matchmaker> {
    let parts = Parts {
        name: "matchmaker",
        log: log(folder, disk),
        codec: codec(),
        empty: Box::new(Matchmaker::new),
        performer,
        clock: Arc::new(SystemClock::start()),
        entropy: Entropy::system().unwrap(),
        options: EngineOptions {
            effects: EffectLimits { concurrent: MAX_PENDING_EFFECTS, ..EffectLimits::default() },
            ..EngineOptions::default()
        },
    };
    Engine::start(parts).await.unwrap()
}

/// Both engines, joined.
pub(crate) struct World {
    folder: TempDir,
    clock: ManualClock,
    hooks: HookMap,
    broker: Option<Engine<Broker>>,
    maker: Option<Engine<Matchmaker>>,
    link: Option<JoinHandle<()>>,
    /// Of the matchmaker's log.
    pub(crate) disk: Arc<GatedDisk>,
}

impl World {
    pub(crate) async fn new(settings: Settings) -> Self {
        Self::with_hooks(settings, HookMap::new()).await
    }

    pub(crate) async fn with_hooks(settings: Settings, hooks: HookMap) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = ManualClock::at(Timestamp::from_millis(1_000_000));
        let mut world =
            Self { folder, clock, hooks, broker: None, maker: None, link: None, disk: Arc::default() };
        world.start_broker().await;
        world.start_maker().await;
        world.configure(settings).await;
        world
    }

    pub(crate) async fn configure(&self, settings: Settings) {
        self.maker().call(Command::Configure { settings }).await.unwrap();
    }

    pub(crate) async fn start_broker(&mut self) {
        self.broker = Some(broker_engine(&self.folder.path().join("broker"), &self.clock).await);
    }

    pub(crate) async fn start_maker(&mut self) {
        let hooks = Hooks::new(self.hooks.clone()).unwrap();
        let work = Arc::new(Work::new(self.broker(), hooks));
        self.start_maker_with(Arc::clone(&work) as _).await;
        work.connect(self.maker());
        self.link();
    }

    /// With effects performed by the test, and not joined.
    pub(crate) async fn start_maker_with(&mut self, performer: Arc<dyn Performer<Matchmaker>>) {
        let disk = Arc::clone(&self.disk) as Arc<dyn Disk>;
        self.maker = Some(maker_engine(&self.folder.path().join("matchmaker"), performer, disk).await);
    }

    pub(crate) fn link(&mut self) {
        self.link = Some(tokio::spawn(follow(self.broker(), self.maker())));
    }

    /// Ends the link between the two.
    pub(crate) fn unlink(&mut self) {
        if let Some(link) = self.link.take() {
            link.abort();
        }
    }

    /// As if the process had ended, for the matchmaker only.
    pub(crate) fn kill_maker(&mut self) {
        self.unlink();
        self.maker = None;
    }

    /// The configuration has no hooks any more when the matchmaker is next started.
    pub(crate) fn forget_hooks(&mut self) {
        self.hooks = HookMap::new();
    }

    pub(crate) fn kill_both(&mut self) {
        self.kill_maker();
        self.broker = None;
    }

    /// The broker starts with an empty log.
    pub(crate) fn lose_brokers_log(&self) {
        assert!(self.broker.is_none());
        std::fs::remove_dir_all(self.folder.path().join("broker")).unwrap();
    }

    pub(crate) fn broker(&self) -> Handle<Broker> {
        self.broker.as_ref().unwrap().handle()
    }

    pub(crate) fn maker(&self) -> Handle<Matchmaker> {
        self.maker.as_ref().unwrap().handle()
    }

    /// Moves the broker's time forward.
    pub(crate) fn pass(&self, time: Duration) {
        self.clock.advance(time);
    }

    pub(crate) async fn ticket(&self, queue: &str, players: &[&str]) -> TicketId {
        let reply = self.maker().call(Command::Start { id: None, spec: spec(queue, players) }).await.unwrap();
        let Reply::Started { ticket } = reply else { panic!("{reply:?}") };
        ticket
    }

    pub(crate) async fn find(&self, id: &TicketId) -> Ticket {
        let id = id.clone();
        self.maker().query(move |maker| maker.ticket(&id).cloned()).await.unwrap().unwrap()
    }

    /// The ticket, once `is` holds of it.
    pub(crate) async fn until(&self, id: &TicketId, what: &str, is: impl Fn(&Ticket) -> bool) -> Ticket {
        let mut events = self.maker().subscribe(Cursor::Latest);
        let found = async {
            loop {
                let ticket = self.find(id).await;
                if is(&ticket) {
                    return ticket;
                }
                events.next().await.unwrap();
            }
        };
        soon(what, found).await
    }

    pub(crate) async fn until_status(&self, id: &TicketId, status: Status) -> Ticket {
        self.until(id, status.name(), |ticket| ticket.status() == status).await
    }

    /// The statuses that the players of a ticket have heard, in order.
    pub(crate) async fn heard(&self, id: &TicketId) -> Vec<&'static str> {
        let last = self.maker().stats().last_seq;
        let (mut events, mut heard) = (self.maker().subscribe(Cursor::Earliest), Vec::new());
        while events.next_seq() <= last {
            let record = events.next().await.unwrap();
            let mut players = Vec::new();
            let notices = record.event.notices(&mut players);
            heard.extend(
                notices.iter().filter(|notice| notice.ticket == id).map(|notice| notice.status.name()),
            );
        }
        heard
    }

    /// A game server that takes the oldest match and gets ready for it.
    pub(crate) async fn serve(&self, server: &str) -> MatchId {
        let match_id = self.pick_up(server).await;
        self.ready(server, &match_id).await;
        match_id
    }

    pub(crate) async fn pick_up(&self, server: &str) -> MatchId {
        let server = ServerId::new(server).unwrap();
        let command = broker::Command::RequestMatch {
            server,
            requirements: String::new(),
            hints: Hints::WILLING_TO_WAIT,
            most: 1,
            wait: None,
        };
        let reply = soon("a match for a server", self.broker().call(command)).await.unwrap();
        let broker::Reply::Requested { offer: Some(offer), .. } = reply else { panic!("{reply:?}") };
        offer.match_id
    }

    pub(crate) async fn ready(&self, server: &str, match_id: &MatchId) {
        let command = broker::Command::MatchReady {
            server: ServerId::new(server).unwrap(),
            match_id: match_id.clone(),
            connection: Connection {
                details: Arc::from(format!("{server}:7777")),
                per_player: BTreeMap::new(),
            },
            hints: Hints::NONE,
        };
        self.broker().call(command).await.unwrap();
    }

    /// The game server reports how many places of its match are free.
    pub(crate) async fn say_free(&self, server: &str, match_id: &MatchId, free: u32) {
        let command = broker::Command::ReportFreePlaces {
            match_id: match_id.clone(),
            server: Some(ServerId::new(server).unwrap()),
            free,
        };
        self.broker().call(command).await.unwrap();
    }

    pub(crate) async fn end(&self, server: &str, match_id: &MatchId) {
        let command = broker::Command::EndMatch {
            server: ServerId::new(server).unwrap(),
            match_id: match_id.clone(),
            hints: Hints::NONE,
        };
        self.broker().call(command).await.unwrap();
    }

    /// The number of matches in the broker's log.
    pub(crate) async fn matches_queued(&self) -> usize {
        let last = self.broker().stats().last_seq;
        let (mut events, mut count) = (self.broker().subscribe(Cursor::Earliest), 0);
        while events.next_seq() <= last {
            let record = events.next().await.unwrap();
            count += usize::from(matches!(record.event, broker::Event::MatchQueued { .. }));
        }
        count
    }

    /// Waits until the broker has emitted a matching event.
    pub(crate) async fn until_broker(
        &self,
        what: &str,
        is: impl Fn(&Broker) -> bool + Clone + Send + 'static,
    ) {
        let mut events = self.broker().subscribe(Cursor::Latest);
        let found = async {
            while !self.broker().query(is.clone()).await.unwrap() {
                events.next().await.unwrap();
            }
        };
        soon(what, found).await;
    }
}
