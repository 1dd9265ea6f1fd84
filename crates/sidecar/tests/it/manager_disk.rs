//! What outlives the process, and a failing disk.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sortie_sidecar::manager::{
    AtShutdown, Disk, MAX_QUEUED_CALLS, Manager, ManagerOptions, OpenError, SystemDisk,
};
use sortie_wire::status::reason;

use crate::fake_backend::{FakeBackend, Mood, ask, end, game, ready};

const SOURCE: &str = "catena_api_event_source";

fn options(folder: &Path) -> ManagerOptions {
    ManagerOptions { data: Some(folder.to_owned()), ..ManagerOptions::default() }
}

fn open(folder: &Path, backend: &FakeBackend) -> Result<Manager, OpenError> {
    Manager::open(options(folder), backend.shared(), None)
}

/// Opens a folder whose last manager was dropped a moment ago: its tasks end when they next run.
async fn reopen(folder: &Path, backend: &FakeBackend) -> Manager {
    loop {
        match open(folder, backend) {
            Err(OpenError::InUse { .. }) => tokio::task::yield_now().await,
            opened => return opened.unwrap(),
        }
    }
}

async fn delivered(manager: &Manager) {
    let mut changes = manager.changes();
    while !manager.view().queued.is_empty() {
        changes.changed().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn ids_servers_and_matches_outlive_the_process() {
    let (folder, backend) = (tempfile::tempdir().unwrap(), FakeBackend::new());
    let manager = open(folder.path(), &backend).unwrap();
    let id = manager.server_id_of(SOURCE);
    backend.has(&["m1"]);
    manager.request_match(SOURCE, ask("")).await.unwrap();
    drop(manager);

    let manager = reopen(folder.path(), &backend).await;
    assert_eq!(manager.server_id_of(SOURCE), id);
    // Whether the answer arrived is unknown, so it is given again in full, without asking the backend.
    assert_eq!(manager.request_match(SOURCE, ask("")).await.unwrap().r#match, Some(game("m1")));
    assert_eq!(manager.match_ready(SOURCE, ready("", "", "h:1")).await.unwrap().match_id, "m1");
    drop(manager);

    backend.forget_heard();
    let manager = reopen(folder.path(), &backend).await;
    backend.hears(&format!("MatchReady {id} m1 h:1")).await;
    manager.end_match(SOURCE, end("", "")).await.unwrap();
    drop(manager);
    assert!(reopen(folder.path(), &backend).await.view().servers[0].matches.is_empty());
}

#[tokio::test(start_paused = true)]
async fn pending_calls_outlive_the_process_in_order() {
    let (folder, backend) = (tempfile::tempdir().unwrap(), FakeBackend::new());
    let manager = open(folder.path(), &backend).unwrap();
    backend.set(Mood::Away);
    manager.match_ready(SOURCE, ready("s", "m1", "h:1")).await.unwrap();
    manager.end_match(SOURCE, end("s", "m1")).await.unwrap();
    let report = manager.shutdown(AtShutdown::KeepMatches, Duration::from_secs(1)).await;
    assert_eq!((report.undelivered, report.kept), (2, 0));
    drop(manager);
    backend.set(Mood::Answers);
    backend.forget_heard();
    let manager = reopen(folder.path(), &backend).await;
    delivered(&manager).await;
    assert_eq!(backend.heard(), ["MatchReady s m1 h:1", "EndMatch s m1 0"]);
}

#[tokio::test(start_paused = true)]
async fn a_folder_has_one_sidecar() {
    let (folder, backend) = (tempfile::tempdir().unwrap(), FakeBackend::new());
    let manager = open(folder.path(), &backend).unwrap();
    let error = open(folder.path(), &backend).err().unwrap();
    assert!(matches!(error, OpenError::InUse { .. }), "{error}");
    assert!(error.to_string().contains(folder.path().to_str().unwrap()), "{error}");
    drop(manager);
    reopen(folder.path(), &backend).await;
}

#[tokio::test(start_paused = true)]
async fn damage_stops_the_start_and_names_the_file() {
    let backend = FakeBackend::new();
    let damages = [
        ("queue.json", ""),
        ("queue.json", "{}"),
        ("queue.json", r#"{"version":2,"calls":[]}"#),
        ("queue.json", r#"{"version":1,"calls":[{"source":"x","call":{"endMatch":"{]"}}]}"#),
        ("ids.json", "\0\0\0"),
    ];
    for (name, content) in damages {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(name), content).unwrap();
        let error = open(folder.path(), &backend).err().unwrap();
        assert!(matches!(error, OpenError::Damaged { .. }), "{name} {content:?}: {error}");
        let text = error.to_string();
        assert!(text.contains(name) && text.contains("move it away"), "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn one_of_the_two_held_files_may_be_damaged() {
    let (folder, backend) = (tempfile::tempdir().unwrap(), FakeBackend::new());
    let manager = open(folder.path(), &backend).unwrap();
    // Registered, asking, holding: each is a write, alternately.
    backend.has(&["m1", "m2"]);
    manager.request_match(SOURCE, ask("s")).await.unwrap();
    manager.request_match(SOURCE, ask("s")).await.unwrap();
    drop(manager);
    let files = ["held.0", "held.1"].map(|name| folder.path().join(name));
    let whole = files.clone().map(|path| std::fs::read(path).unwrap());
    for (path, content) in files.iter().zip(&whole) {
        std::fs::write(path, &content[..content.len() / 2]).unwrap();
        let manager = reopen(folder.path(), &backend).await;
        assert!(!manager.view().servers[0].matches.is_empty(), "the other one has at least the first match");
        drop(manager);
        std::fs::write(path, content).unwrap();
    }
    for path in &files {
        std::fs::write(path, "what is this").unwrap();
    }
    let error = loop {
        match open(folder.path(), &backend) {
            Err(OpenError::InUse { .. }) => tokio::task::yield_now().await,
            opened => break opened.err().unwrap().to_string(),
        }
    };
    assert!(error.contains("held.0") && error.contains("neither it nor held.1"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn leftovers_of_a_power_cut_are_not_damage() {
    let (folder, backend) = (tempfile::tempdir().unwrap(), FakeBackend::new());
    std::fs::write(folder.path().join("held.0"), "").unwrap();
    std::fs::write(folder.path().join("queue.new"), "half a fi").unwrap();
    let manager = open(folder.path(), &backend).unwrap();
    assert!(manager.view().servers.is_empty());
}

/// A disk that fills up.
#[derive(Default)]
struct FullDisk(AtomicBool);

impl Disk for FullDisk {
    fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        SystemDisk.read(path)
    }

    fn replace(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        self.check()?;
        SystemDisk.replace(path, content)
    }

    fn overwrite(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        self.check()?;
        SystemDisk.overwrite(path, content)
    }
}

impl FullDisk {
    fn check(&self) -> io::Result<()> {
        if self.0.load(Ordering::Relaxed) { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
}

#[tokio::test(start_paused = true)]
async fn on_a_full_disk_nothing_is_promised_that_cannot_be_kept() {
    let (folder, backend, disk) =
        (tempfile::tempdir().unwrap(), FakeBackend::new(), Arc::new(FullDisk::default()));
    let shared: Arc<dyn Disk> = Arc::clone(&disk) as _;
    let manager = Manager::open_on(options(folder.path()), backend.shared(), None, shared).unwrap();
    backend.set(Mood::Away);
    manager.match_ready(SOURCE, ready("s", "m1", "h:1")).await.unwrap();
    disk.0.store(true, Ordering::Relaxed);
    let refused = manager.end_match(SOURCE, end("s", "m1")).await.unwrap_err();
    assert_eq!(reason(&refused).as_deref(), Some("disk_full"));
    assert!(refused.message.contains("nothing was done, try again"), "{}", refused.message);
    assert_eq!(manager.view().queued.len(), 1);
    assert_eq!(manager.view().servers[0].matches.len(), 1, "the match is not over");
    // While the backend is there, a full disk does not matter.
    backend.set(Mood::Answers);
    delivered(&manager).await;
    manager.end_match(SOURCE, end("s", "m1")).await.unwrap();
    backend.has(&["m2"]);
    assert_eq!(manager.request_match(SOURCE, ask("s")).await.unwrap().r#match, Some(game("m2")));
    // There is room again, without a restart: the next write contains everything.
    disk.0.store(false, Ordering::Relaxed);
    manager.match_ready(SOURCE, ready("s", "m2", "h:2")).await.unwrap();
    drop(manager);
    let manager = reopen(folder.path(), &backend).await;
    assert_eq!(manager.view().servers[0].matches[0].id, "m2");
}

#[tokio::test(start_paused = true)]
async fn the_number_of_queued_calls_is_limited() {
    let backend = FakeBackend::new();
    let manager = Manager::new(ManagerOptions::default(), backend.shared(), None);
    backend.set(Mood::Away);
    for count in 0..MAX_QUEUED_CALLS {
        manager.end_match(SOURCE, end("s", &format!("m{count}"))).await.unwrap();
    }
    let refused = manager.end_match(SOURCE, end("s", "more")).await.unwrap_err();
    assert_eq!(reason(&refused).as_deref(), Some("too_many"));
    assert!(refused.message.contains("1000 calls wait"), "{}", refused.message);
    assert_eq!(manager.view().queued.len(), MAX_QUEUED_CALLS);
}
