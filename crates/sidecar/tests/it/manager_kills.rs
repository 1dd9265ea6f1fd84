//! Kills between any two steps of a sequence of calls, of restarts, and of a backend that comes and goes.
//!
//! After a kill, the backend answers nothing and the disk accepts nothing. Everything that was promised to a game
//! server before must reach the backend in a later life, in order.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use proptest::prelude::*;
use sortie_sidecar::backend::{Backend, BackendError};
use sortie_sidecar::manager::{Disk, Manager, ManagerOptions};
use sortie_wire::catena::server_manager::{
    EndMatchRequest, EndMatchResponse, MatchReadyRequest, MatchReadyResponse, RequestMatchRequest,
    RequestMatchResponse,
};

use crate::fake_backend::{end, ready};

const SOURCE: &str = "catena_api_event_source";
const SERVERS: usize = 2;

/// A step of the test.
#[derive(Clone, Debug)]
enum Op {
    Ready(usize),
    End(usize),
    Away(bool),
    Wait,
    /// A kill after this many further steps of disk or backend; the last one may be half done.
    KillAfter(u32),
    /// Loses everything that is not synced.
    PowerCut,
}

#[derive(Default)]
struct World {
    is_away: bool,
    is_dead: bool,
    steps_left: Option<u32>,
    /// What the backend accepted, by server.
    taken: BTreeMap<String, Vec<String>>,
    files: BTreeMap<PathBuf, Vec<u8>>,
    synced: BTreeMap<PathBuf, Vec<u8>>,
}

impl World {
    /// Returns false after the kill.
    fn step(&mut self) -> bool {
        match &mut self.steps_left {
            Some(0) => self.is_dead = true,
            Some(left) => *left -= 1,
            None => {}
        }
        !self.is_dead
    }
}

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<World>>);

impl Shared {
    fn with<T>(&self, f: impl FnOnce(&mut World) -> T) -> T {
        f(&mut self.0.lock().unwrap())
    }

    async fn take(&self, server: &str, call: String) -> Result<(), BackendError> {
        if !self.with(World::step) {
            return std::future::pending().await;
        }
        if self.with(|world| world.is_away) {
            return Err(BackendError::Away("connection refused".to_owned()));
        }
        self.with(|world| world.taken.entry(server.to_owned()).or_default().push(call));
        if !self.with(World::step) {
            return std::future::pending().await;
        }
        Ok(())
    }
}

#[async_trait]
impl Backend for Shared {
    fn name(&self) -> &'static str {
        "world"
    }

    async fn request_match(&self, _: RequestMatchRequest) -> Result<RequestMatchResponse, BackendError> {
        Ok(RequestMatchResponse::default())
    }

    async fn match_ready(&self, request: MatchReadyRequest) -> Result<MatchReadyResponse, BackendError> {
        self.take(&request.server_id, format!("ready {}", request.match_id)).await?;
        Ok(MatchReadyResponse::default())
    }

    async fn end_match(&self, request: EndMatchRequest) -> Result<EndMatchResponse, BackendError> {
        self.take(&request.server_id, format!("end {}", request.match_id)).await?;
        Ok(EndMatchResponse::default())
    }
}

impl Disk for Shared {
    fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        Ok(self.with(|world| world.files.get(path).cloned()))
    }

    fn replace(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        self.with(|world| {
            if world.step() {
                world.files.insert(path.to_owned(), content.to_owned());
                world.synced.insert(path.to_owned(), content.to_owned());
                world.step();
            }
            Ok(())
        })
    }

    /// A kill in the middle overwrites half of the old content.
    fn overwrite(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        self.with(|world| {
            if world.is_dead {
                return Ok(());
            }
            let written = if world.step() { content.len() } else { content.len() / 2 };
            let file = world.files.entry(path.to_owned()).or_default();
            let rest = file.split_off(written.min(file.len()));
            *file = content[..written].to_owned();
            if world.is_dead {
                file.extend(rest);
            } else {
                world.step();
            }
            Ok(())
        })
    }
}

/// What the game servers did, and what they were promised.
#[derive(Default)]
struct Game {
    matches: [u32; SERVERS],
    promised: BTreeMap<String, Vec<String>>,
}

impl Game {
    async fn play(&mut self, world: &Shared, manager: &Manager, op: &Op) {
        match op {
            Op::Ready(server) => {
                self.matches[*server] += 1;
                let (id, game) = self.names(*server);
                let told = manager.match_ready(SOURCE, ready(&id, &game, "h:1")).await.is_ok();
                self.note(world, told, id, format!("ready {game}"));
            }
            Op::End(server) => {
                let (id, game) = self.names(*server);
                let told = manager.end_match(SOURCE, end(&id, &game)).await.is_ok();
                self.note(world, told, id, format!("end {game}"));
            }
            Op::Away(is_away) => world.with(|world| world.is_away = *is_away),
            Op::Wait => tokio::time::sleep(Duration::from_secs(7)).await,
            Op::KillAfter(steps) => world.with(|world| world.steps_left = Some(*steps)),
            Op::PowerCut => world.with(|world| {
                world.files = world.synced.clone();
                world.is_dead = true;
            }),
        }
    }

    fn names(&self, server: usize) -> (String, String) {
        (format!("s{server}"), format!("s{server}-m{}", self.matches[server]))
    }

    fn note(&mut self, world: &Shared, told: bool, server: String, call: String) {
        let promised = self.promised.entry(server).or_default();
        if told && !world.with(|world| world.is_dead) && !promised.contains(&call) {
            promised.push(call);
        }
    }
}

/// One life of the process: returns the remaining `ops`.
fn live<'o>(folder: &Path, world: &Shared, game: &mut Game, mut ops: &'o [Op], is_last: bool) -> &'o [Op] {
    world.with(|world| (world.is_dead, world.steps_left) = (false, None));
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let options = ManagerOptions { data: Some(folder.to_owned()), ..ManagerOptions::default() };
        let shared = Arc::new(world.clone());
        let manager = Manager::open_on(options, Arc::clone(&shared) as _, None, shared).unwrap();
        while let ([op, rest @ ..], false) = (ops, world.with(|world| world.is_dead)) {
            ops = rest;
            game.play(world, &manager, op).await;
        }
        if is_last {
            world.with(|world| world.is_away = false);
            let mut changes = manager.changes();
            while !manager.view().queued.is_empty() {
                changes.changed().await.unwrap();
            }
        }
    });
    ops
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        4 => (0..SERVERS).prop_map(Op::Ready),
        4 => (0..SERVERS).prop_map(Op::End),
        2 => Just(Op::Away(true)),
        1 => Just(Op::Away(false)),
        1 => Just(Op::Wait),
        2 => (0..12_u32).prop_map(Op::KillAfter),
        1 => Just(Op::PowerCut),
    ];
    prop::collection::vec(op, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn promised_calls_reach_the_backend_in_order(ops in ops()) {
        let (folder, world, mut game) = (tempfile::tempdir().unwrap(), Shared::default(), Game::default());
        let mut left = ops.as_slice();
        while !left.is_empty() {
            left = live(folder.path(), &world, &mut game, left, false);
        }
        live(folder.path(), &world, &mut game, &[], true);
        for (server, promised) in &game.promised {
            let taken = world.with(|world| world.taken.get(server).cloned().unwrap_or_default());
            let mut first = Vec::new();
            for call in taken {
                if promised.contains(&call) && !first.contains(&call) {
                    first.push(call);
                }
            }
            prop_assert_eq!(&first, promised, "{}", server);
        }
    }
}
