//! Starts control planes, kills them at moments that a seed chooses, and looks after each start whether everything
//! is as everybody was told.

use std::collections::BTreeSet;
use std::fs::File;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::history::History;
use super::world::World;
use super::{MAX_SERVERS, processes};
use crate::control_plane::{ControlPlane, Events};
use crate::site::{Site, soon};

/// Most acknowledged calls between two deaths.
const MAX_CALLS: u64 = 200;
/// Longest time from a start to a death in its midst, about what a start takes.
const MAX_START: Duration = Duration::from_millis(150);
/// One of so many starts is killed in its midst.
const KILLED_STARTS: u32 = 4;

/// What came of it all, for people.
#[derive(Default)]
pub(super) struct Tally {
    pub(super) kills: u32,
    pub(super) kills_at_start: u32,
    /// Servers of the fleet that were found running after a restart.
    pub(super) adopted: usize,
    /// From each death to the next control plane that served.
    pub(super) downtimes: Vec<Duration>,
}

pub(super) struct Director {
    pub(super) site: Site,
    pub(super) world: Arc<World>,
    pub(super) address: String,
    pub(super) key: String,
    pub(super) random: fastrand::Rng,
    pub(super) history: History,
    pub(super) tally: Tally,
    pub(super) markers: u32,
}

/// A control plane that serves, and its log from the last event on that was read.
pub(super) struct Life {
    control_plane: ControlPlane,
    events: Events,
}

impl Director {
    /// A control plane that serves; others may have to die for it.
    pub(super) async fn begin(&mut self) -> Life {
        while self.random.u32(..KILLED_STARTS) == 0 {
            self.start_and_kill().await;
        }
        let mut control_plane = self.site.up(&["--listen", &self.address]).await;
        control_plane.key = Some(self.key.clone());
        self.world.serves();
        let from = format!("/v1/events?from={}", self.history.texts.len() + 1);
        let events = Events::of(control_plane.request("GET", &from)).await;
        Life { control_plane, events }
    }

    /// Not after something that could be awaited: any instant of a start has to do.
    async fn start_and_kill(&mut self) {
        let log = File::options().create(true).append(true).open(self.site.path("stderr")).unwrap();
        let mut command = self.site.sortie(&["up", "--listen", &self.address]);
        let mut child = command.stdout(Stdio::null()).stderr(log).spawn().unwrap();
        tokio::time::sleep(MAX_START.mul_f64(self.random.f64())).await;
        child.start_kill().unwrap();
        soon("the end of a start", child.wait()).await.unwrap();
        self.tally.kills_at_start += 1;
    }

    /// From one death to the next.
    pub(super) async fn round(&mut self, life: Life) -> Life {
        let mut life = life;
        self.check(&mut life).await;
        soon("calls", self.world.more_acknowledged(self.random.u64(1..=MAX_CALLS))).await;
        let before = processes::running(&self.site);
        let died = Instant::now();
        life.control_plane.kill().await;
        self.tally.kills += 1;
        let life = self.begin().await;
        self.tally.downtimes.push(died.elapsed());
        let after = processes::running(&self.site);
        self.tally.adopted += after.iter().filter(|(id, pid)| before.get(*id) == Some(pid)).count();
        life
    }

    /// Reads all that is in the log by now.
    async fn catch_up(&mut self, life: &mut Life) {
        self.markers += 1;
        let name = format!("marker-{}", self.markers);
        let order = json!({"players": [name], "properties": {"marker": true}});
        let id = life.control_plane.submit(order).await;
        life.control_plane.ok("DELETE", &format!("/v1/matches/{id}"), Value::Null).await;
        while self.history.games.get(&id).is_none_or(|game| !game.is_over()) {
            self.read(life).await;
        }
    }

    async fn read(&mut self, life: &mut Life) {
        let event = life.events.next().await;
        self.history.take(&event);
        assert!(self.history.live() <= MAX_SERVERS, "more servers than the fleet may have: {event}");
    }

    /// Compares what everybody was told, what runs, and what the log says.
    pub(super) async fn check(&mut self, life: &mut Life) {
        let told = self.world.journal().clone();
        self.catch_up(life).await;
        told.check(&self.history);
        self.check_states(life).await;
        let gone: BTreeSet<String> =
            self.history.orders.iter().filter(|(_, order)| order.ended).map(|(id, _)| id.clone()).collect();
        let running = processes::running(&self.site);
        let given = processes::given(&self.site);
        self.catch_up(life).await;
        assert!(running.len() <= MAX_SERVERS, "{running:?}");
        for (id, pid) in running {
            assert!(self.history.orders.contains_key(&id), "nobody knows process {pid} of {id}");
            assert!(!gone.contains(&id), "process {pid} outlives {id}");
        }
        for (id, matches) in given {
            let server = &self.history.orders[&id].server;
            for game in matches {
                assert!(self.history.game(&game).holders.contains(server), "{server} was given {game}");
            }
        }
        // One that has just exited is about to be reported.
        loop {
            let missing = processes::missing(&self.history, &processes::running(&self.site));
            if missing.is_empty() {
                break;
            }
            self.read(life).await;
        }
    }

    /// The matches that go on are known, and are where the log has them unless they have moved since.
    async fn check_states(&mut self, life: &mut Life) {
        let going_on = self.history.games.iter().filter(|(_, game)| !game.is_over());
        let going_on: Vec<_> = going_on.map(|(id, game)| (id.clone(), game.state)).collect();
        let mut shown = Vec::new();
        for (id, _) in &going_on {
            shown.push(life.control_plane.show(id).await["state"].clone());
        }
        self.catch_up(life).await;
        for ((id, before), shown) in going_on.iter().zip(shown) {
            let after = self.history.game(id).state;
            assert!(
                *before != after || shown == after,
                "{id} is {before} in the log and {shown} for callers"
            );
        }
    }

    /// Waits for the end of every match and takes the fleet away; nothing is left of it.
    pub(super) async fn finish(mut self, life: Life, retired: &Value) -> (Tally, History) {
        let mut life = life;
        let over = |director: &Self, what: &str| {
            let mut waiting = director.history.games.iter().filter(|(_, game)| game.state == what);
            waiting.next().map(|(id, _)| id.clone())
        };
        self.check(&mut life).await;
        while let Some(id) = over(&self, "queued") {
            // Nobody plays any more.
            let _over_by_now = life.control_plane.send("DELETE", &format!("/v1/matches/{id}"), "").await;
            self.catch_up(&mut life).await;
        }
        life.control_plane.stop().await;
        self.site.configure(retired);
        life = self.begin().await;
        while over(&self, "picked_up").or_else(|| over(&self, "ready")).is_some() || self.history.live() > 0 {
            self.read(&mut life).await;
        }
        self.check(&mut life).await;
        assert_eq!(self.site.game_servers(), crate::site::NONE);
        let mut again = Events::of(life.control_plane.request("GET", "/v1/events?from=earliest")).await;
        for text in &self.history.texts {
            assert_eq!(again.next().await.to_string(), *text, "what was read once is for good");
        }
        life.control_plane.stop().await;
        assert_eq!(self.site.processes(), crate::site::NONE);
        (self.tally, self.history)
    }
}
