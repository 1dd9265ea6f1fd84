//! State shared by all calls: the game server behind a lock, its watchers, and its driver.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use futures::stream::{Stream, unfold};
use sortie_wire::agones::sdk;
use sortie_wire::agones::sdk::game_server::status::{CounterStatus, ListStatus, PlayerStatus, Port};
use sortie_wire::agones::sdk::game_server::{ObjectMeta, Spec, Status, spec, status};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::game_server::GameServer;
use super::options::AgonesOptions;
use crate::manager::Manager;
use crate::resolver::Address;

/// Name of the first port if only a resolver knows it, as in Agones's examples.
const PORT_NAME: &str = "default";

/// The game server, shared. Time is measured from its creation.
pub(super) struct Desk {
    inner: Mutex<Inner>,
    manager: Manager,
    server_id: String,
    namespace: String,
    name: String,
    health: spec::Health,
    began: Instant,
    /// The version that watchers should have seen.
    shown: watch::Sender<u64>,
    /// There may be something to do outside.
    work: Notify,
    /// All streams end when this is cancelled.
    closing: CancellationToken,
}

struct Inner {
    game_server: GameServer,
    host: String,
    ports: Vec<Port>,
}

impl Desk {
    pub(super) fn new(
        options: &AgonesOptions,
        manager: Manager,
        server_id: String,
        closing: CancellationToken,
    ) -> Self {
        let counts = options.counts();
        let game_server = GameServer::new(options.health, options.ready_label, counts, SystemTime::now());
        let ports =
            options.ports.iter().map(|(name, port)| Port { name: name.clone(), port: (*port).into() });
        let name = if options.name.is_empty() { &server_id } else { &options.name };
        Self {
            shown: watch::Sender::new(game_server.version()),
            inner: Mutex::new(Inner { game_server, host: options.address.clone(), ports: ports.collect() }),
            name: name.clone(),
            namespace: options.namespace.clone(),
            health: health(options),
            manager,
            server_id,
            began: Instant::now(),
            work: Notify::new(),
            closing,
        }
    }

    /// Handles a call of the game server; every call is a sign of life.
    pub(super) fn call<T>(&self, call: impl FnOnce(&mut GameServer, Duration) -> T) -> T {
        self.manager.heard_from(&self.server_id);
        self.update(|game_server, now| {
            game_server.called(now);
            call(game_server, now)
        })
    }

    /// Changes the game server, and notifies watchers and driver.
    pub(super) fn update<T>(&self, update: impl FnOnce(&mut GameServer, Duration) -> T) -> T {
        let mut inner = self.inner();
        let (was_known, before) = (inner.game_server.is_known(), inner.game_server.version());
        let answer = update(&mut inner.game_server, self.began.elapsed());
        self.publish(&inner, was_known, before);
        answer
    }

    /// Reads the game server.
    pub(super) fn read<T>(&self, read: impl FnOnce(&GameServer) -> T) -> T {
        read(&self.inner().game_server)
    }

    /// Sets the resolver's address and port, which replaces the first one.
    pub(super) fn set_address(&self, address: Address) {
        let mut inner = self.inner();
        inner.host = address.host;
        if let Some(port) = address.port {
            match inner.ports.first_mut() {
                Some(first) => first.port = port.into(),
                None => inner.ports.push(Port { name: PORT_NAME.to_owned(), port: port.into() }),
            }
        }
        let before = inner.game_server.version();
        inner.game_server.changed();
        self.publish(&inner, true, before);
    }

    /// The address for players.
    pub(super) fn address(&self) -> Address {
        let inner = self.inner();
        let port = inner.ports.first().and_then(|first| u16::try_from(first.port).ok());
        Address { host: inner.host.clone(), port }
    }

    /// Returns once there may be something to do; at once if there already is.
    pub(super) fn work(&self) -> impl Future<Output = ()> {
        self.work.notified()
    }

    /// Converts a time of the game server, such as its deadline.
    pub(super) fn time_of(&self, since: Duration) -> Option<Instant> {
        self.began.checked_add(since)
    }

    /// Cancelled when every stream must end.
    pub(super) const fn closing(&self) -> &CancellationToken {
        &self.closing
    }

    /// The complete game server, at once and after every change; changes faster than the reader are merged. The final
    /// state is always delivered.
    pub(super) fn watch(self: Arc<Self>) -> impl Stream<Item = sdk::GameServer> + Send {
        let mut shown = self.shown.subscribe();
        shown.mark_changed();
        unfold((self, shown), |(desk, mut shown)| async move {
            tokio::select! {
                biased;
                change = shown.changed() => change.ok()?,
                () = desk.closing.cancelled() => return None,
            }
            Some((desk.show(), (desk, shown)))
        })
    }

    /// The game server as shown to itself.
    pub(super) fn show(&self) -> sdk::GameServer {
        let inner = self.inner();
        let game_server = &inner.game_server;
        let version = game_server.version();
        let object_meta = ObjectMeta {
            name: self.name.clone(),
            namespace: self.namespace.clone(),
            uid: self.server_id.clone(),
            resource_version: version.to_string(),
            generation: i64::try_from(version).unwrap_or(i64::MAX),
            creation_timestamp: game_server.began(),
            deletion_timestamp: 0,
            annotations: game_server.annotations().clone(),
            labels: game_server.labels().clone(),
        };
        sdk::GameServer {
            object_meta: Some(object_meta),
            spec: Some(Spec { health: Some(self.health) }),
            status: Some(inner.status()),
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Called under the lock, so that versions are in order.
    fn publish(&self, inner: &Inner, was_known: bool, before: u64) {
        let version = inner.game_server.version();
        if version != before {
            self.shown.send_replace(version);
        }
        if version != before || was_known != inner.game_server.is_known() {
            self.work.notify_one();
        }
    }
}

impl Inner {
    fn status(&self) -> Status {
        let counts = self.game_server.counts();
        let players = &counts.players;
        let counters = counts.counters.iter().map(|(name, counter)| {
            (name.clone(), CounterStatus { count: counter.count, capacity: counter.capacity })
        });
        let lists = counts.lists.iter().map(|(name, list)| {
            (name.clone(), ListStatus { capacity: list.capacity, values: list.values.clone() })
        });
        Status {
            state: self.game_server.state().name().to_owned(),
            address: self.host.clone(),
            ports: self.ports.clone(),
            players: Some(PlayerStatus {
                count: count(players.ids.len()),
                capacity: players.capacity,
                ids: players.ids.clone(),
            }),
            counters: counters.collect(),
            lists: lists.collect(),
            addresses: vec![status::Address {
                r#type: kind(&self.host).to_owned(),
                address: self.host.clone(),
            }],
        }
    }
}

/// The Kubernetes type of such a node address.
fn kind(host: &str) -> &'static str {
    match host.parse::<std::net::IpAddr>() {
        Ok(_) => "ExternalIP",
        Err(_) => "ExternalDNS",
    }
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Rounded up to whole seconds, the resolution of the message.
fn health(options: &AgonesOptions) -> spec::Health {
    let seconds = |time: Duration| {
        let whole = time.as_secs().saturating_add(u64::from(time.subsec_nanos() > 0));
        i32::try_from(whole).unwrap_or(i32::MAX)
    };
    match &options.health {
        None => spec::Health { disabled: true, ..spec::Health::default() },
        Some(health) => spec::Health {
            disabled: false,
            period_seconds: seconds(health.period),
            failure_threshold: i32::try_from(health.failure_threshold).unwrap_or(i32::MAX),
            initial_delay_seconds: seconds(health.initial_delay),
        },
    }
}
