//! A data folder on a disk that is full.
//!
//! On a small file system of its own, which only root may mount. Elsewhere these tests end there; what they show of the
//! log alone, the engine's tests show with a disk that fails by order.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::control_plane::{ControlPlane, REQUEST};
use crate::site::{Site, fixed_address, fleet, is_alive, soon};

/// Room for a data folder and not much more.
const SIZE: &str = "size=3m";
/// Room for so many files and folders.
const FILES: &str = "nr_inodes=500";
/// More matches than the last page of a file has room for.
const MAX_SUBMITTED: usize = 200;

/// A file system that is unmounted when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None` where nothing may be mounted.
    fn mount(at: PathBuf) -> Option<Self> {
        std::fs::create_dir(&at).unwrap();
        let mut mount = Command::new("mount");
        let options = format!("{SIZE},{FILES}");
        mount.args(["-t", "tmpfs", "-o", &options, "sortie-e2e"]).arg(&at).stderr(Stdio::null());
        if mount.status().is_ok_and(|status| status.success()) {
            return Some(Self(at));
        }
        eprintln!("no file system can be mounted here: nothing was tested");
        None
    }

    fn remount(&self, mode: &str) {
        let options = format!("remount,{mode}");
        let mounted = Command::new("mount").args(["-o", &options]).arg(&self.0).status();
        assert!(mounted.unwrap().success());
    }

    fn ballast(&self) -> PathBuf {
        self.0.join("ballast")
    }

    /// Leaves no room for anything.
    fn fill(&self) {
        let mut file = File::create(self.ballast()).unwrap();
        let error = std::iter::repeat_with(|| file.write_all(&[1; 4096])).find_map(Result::err).unwrap();
        assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
    }

    fn make_room(&self) {
        std::fs::remove_file(self.ballast()).unwrap();
    }

    fn ballast_folder(&self) -> PathBuf {
        self.0.join("ballast-files")
    }

    /// Leaves no room for another file or folder.
    fn fill_with_files(&self) {
        std::fs::create_dir(self.ballast_folder()).unwrap();
        let mut number = 0;
        let error = std::iter::repeat_with(|| {
            number += 1;
            File::create(self.ballast_folder().join(number.to_string()))
        })
        .find_map(Result::err);
        assert_eq!(error.unwrap().kind(), std::io::ErrorKind::StorageFull);
    }

    fn make_room_for_files(&self) {
        std::fs::remove_dir_all(self.ballast_folder()).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _reported_by_the_next_run = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

/// A control plane whose own log, too, is on the full disk, as it often is.
async fn up(site: &Site, address: &str, key: &str) -> ControlPlane {
    let stderr = site.data("stderr");
    let log = File::options().create(true).append(true).open(&stderr).unwrap();
    let mut control_plane = ControlPlane::start(site.sortie(&["up", "--listen", address]), log, stderr).await;
    control_plane.key = Some(key.to_owned());
    control_plane
}

fn order(number: usize) -> String {
    let player = format!("p{number}");
    json!({"players": [player], "properties": {"nobody": true}, "idempotency_key": player}).to_string()
}

/// Submits until that is refused; gives the ids, and the refusal.
async fn submit_all(control_plane: &ControlPlane) -> (Vec<String>, Value) {
    let mut ids = Vec::new();
    loop {
        let (status, answer) = control_plane.send("POST", "/v1/matches", order(ids.len())).await;
        if status == 503 {
            return (ids, answer);
        }
        ids.push(answer["match_id"].as_str().unwrap().to_owned());
        assert!(ids.len() < MAX_SUBMITTED, "the disk is not full");
    }
}

/// Everything is refused, and says why; what needs no room works.
async fn check_refuses(control_plane: &ControlPlane, ids: &[String]) {
    let (status, answer) = control_plane.send("POST", REQUEST, r#"{"serverId": "s"}"#).await;
    assert_eq!((status, &answer["details"][0]["reason"]), (503, &json!("disk_full")), "{answer}");
    let (status, answer) = control_plane.send("GET", "/readyz", "").await;
    assert_eq!((status, &answer["error"]["code"]), (503, &json!("disk_full")), "{answer}");
    control_plane.get("/healthz").await;
    for (number, id) in ids.iter().enumerate() {
        assert_eq!(control_plane.show(id).await["players"], json!([format!("p{number}")]));
    }
}

#[tokio::test]
async fn it_refuses_while_there_is_no_room_and_goes_on_when_there_is() {
    // First, so that it goes last: what runs there is to be gone by then.
    let site = Site::new();
    let Some(disk) = SmallDisk::mount(site.path("data")) else { return };
    let serve = ["arena", "serve", "--requirements", "!(MatchProperties.nobody)"];
    let more = json!({
        "warm": 1, "game": "arena", "version": "1", "protocol_id": 7, "requirements": "!(MatchProperties.nobody)",
    });
    let arena = fleet(env!("CARGO_BIN_EXE_sortie").as_ref(), &serve, 1, &more);
    // A snapshot every few matches, so that one has to be written while there is no room.
    site.configure(&json!({
        "netcode": {"key_file": "netcode.hex"}, "log": {"snapshot_every": 7}, "fleets": {"arena": arena},
    }));
    std::fs::write(site.path("netcode.hex"), "2a".repeat(32)).unwrap();
    let create = ["key", "create", "--name", "a", "--permission", "admin", "--json"];
    let key = site.run(&create).await.json()["key"].as_str().unwrap().to_owned();
    let address = fixed_address();
    let control_plane = up(&site, &address, &key).await;
    control_plane.event("sortie.server.available", None).await;
    let servers = site.game_servers();

    disk.fill();
    let (mut ids, refusal) = submit_all(&control_plane).await;
    assert_eq!(refusal["error"]["code"], "disk_full");
    assert!(refusal["error"]["message"].as_str().unwrap().contains("disk is full"), "{refusal}");
    check_refuses(&control_plane, &ids).await;
    control_plane.kill().await;
    let control_plane = up(&site, &address, &key).await;
    let (more, _) = submit_all(&control_plane).await;
    assert_eq!(more[..ids.len()], ids, "what was acknowledged is there, and known by its key");
    ids = more;
    check_refuses(&control_plane, &ids).await;

    disk.make_room();
    let (status, answer) = control_plane.send("POST", "/v1/matches", order(ids.len())).await;
    assert_eq!(status, 202, "{answer}");
    ids.push(answer["match_id"].as_str().unwrap().to_owned());
    // It serves at once, and is whole again with the next snapshot.
    while control_plane.get("/readyz").await != json!({"status": "ready"}) {
        let (status, answer) = control_plane.send("POST", "/v1/matches", order(ids.len())).await;
        assert_eq!(status, 202, "{answer}");
        ids.push(answer["match_id"].as_str().unwrap().to_owned());
        assert!(ids.len() < MAX_SUBMITTED, "there is never a snapshot");
    }
    // The game server, whose output found no room either, has lived through it.
    let played = control_plane.submit(json!({"players": ["q"]})).await;
    control_plane.event("sortie.match.ready", Some(&played)).await;
    assert_eq!(site.game_servers(), servers);
    control_plane.kill().await;
    let control_plane = up(&site, &address, &key).await;
    for id in &ids {
        assert_eq!(control_plane.show(id).await["state"], "queued");
    }
    assert!(is_alive(servers[0]));
    let left = std::fs::read_dir(site.data("snapshots")).unwrap().map(|entry| entry.unwrap().path());
    assert!(left.into_iter().all(|path| path.extension() == Some("snap".as_ref())));
}

/// What is due at the start needs a write, and so does a changed configuration.
#[tokio::test]
async fn a_start_without_room_serves_although_something_is_due() {
    const PICKUP: Duration = Duration::from_secs(2);
    let site = Site::new();
    let Some(disk) = SmallDisk::mount(site.path("data")) else { return };
    let config = |warm: u32| {
        let mut fleet = crate::site::idle_fleet();
        fleet["warm"] = warm.into();
        let queues = json!({"duel": {"players_per_team": 1}});
        json!({
            "dev": true, "fleets": {"quiet": fleet}, "broker": {"match_pickup_time": "2s"},
            "matchmaker": {"queues": queues},
        })
    };
    site.configure(&config(0));
    let control_plane = site.up(&[]).await;
    disk.fill();
    let (ids, _) = submit_all(&control_plane).await;
    let last = ids.last().unwrap();
    // Nothing tells of a deadline that could not be written.
    tokio::time::sleep(PICKUP).await;
    control_plane.kill().await;
    for warm in [0, 0, 1] {
        site.configure(&config(warm));
        let control_plane = site.up(&[]).await;
        assert_eq!(control_plane.show(last).await["state"], "queued");
        let (status, answer) = control_plane.send("GET", "/readyz", "").await;
        assert_eq!((status, &answer["error"]["code"]), (503, &json!("disk_full")), "{answer}");
        control_plane.get("/v1/tickets").await;
        // The refusal names the owner, which was written down although the disk is full.
        let said = site.refused(&[]).await;
        assert!(said.contains(&format!("in use by process {};", control_plane.pid)), "{said}");
        control_plane.kill().await;
    }
    let control_plane = site.up(&[]).await;
    disk.make_room();
    // Nobody calls for that.
    control_plane.event("sortie.match.failed", Some(last)).await;
    control_plane.event("sortie.allocation.ordered", None).await;
    assert_eq!(control_plane.get("/readyz").await, json!({"status": "ready"}));
}

/// What a start makes where it is missing: as after `sortie restore`, with a folder of an earlier version, or with a
/// matchmaker that is new in the configuration.
#[tokio::test]
async fn a_start_that_has_to_make_files_serves_without_room_and_makes_them_later() {
    let site = Site::new();
    let Some(disk) = SmallDisk::mount(site.path("data")) else { return };
    let requirements = "!(MatchProperties.nobody)";
    let more = json!({
        "warm": 1, "game": "arena", "version": "1", "protocol_id": 7, "requirements": requirements,
    });
    let serve = ["arena", "serve", "--requirements", requirements];
    let arena = fleet(env!("CARGO_BIN_EXE_sortie").as_ref(), &serve, 1, &more);
    let mut config = json!({"dev": true, "fleets": {"arena": arena}});
    site.configure(&config);
    let control_plane = site.up(&[]).await;
    control_plane.event("sortie.server.available", None).await;
    let order = json!({"players": ["p"], "properties": {"nobody": true}});
    let id = control_plane.submit(order).await;
    // Its servers end with it, so that the next start has one to start.
    control_plane.stop().await;
    let made = ["game_server.key", "installation.json", "netcode.key", "used"];
    for name in made {
        std::fs::remove_file(site.data(name)).unwrap();
    }
    config["matchmaker"] = json!({"queues": {"duel": {"players_per_team": 1}}});
    site.configure(&config);
    disk.fill_with_files();
    for _ in 0..2 {
        let control_plane = site.up(&[]).await;
        let game = control_plane.show(&id).await;
        assert_eq!(game["state"], "queued", "{game}");
        assert_eq!(control_plane.get("/v1/tickets").await["tickets"], json!([]));
        let ticket = json!({"queue": "duel", "players": [{"id": "q"}]}).to_string();
        let (status, answer) = control_plane.send("POST", "/v1/tickets", ticket).await;
        assert_eq!((status, &answer["error"]["code"]), (503, &json!("disk_full")), "{answer}");
        assert!(made.iter().all(|name| !site.data(name).exists()));
        control_plane.kill().await;
    }
    let control_plane = site.up(&[]).await;
    // The broker's log has its files, and takes the match; the server for it waits until what marks it is kept.
    let played = control_plane.submit(json!({"players": ["q"]})).await;
    assert_eq!(site.processes(), [control_plane.pid]);
    disk.make_room_for_files();
    control_plane.event("sortie.match.ready", Some(&played)).await;
    assert!(made[..3].iter().all(|name| site.data(name).exists()));
    assert_eq!(site.game_servers().len(), 1, "it has the id that is kept");
    soon("the matchmaker", async {
        let ticket = json!({"queue": "duel", "players": [{"id": "r"}]}).to_string();
        while control_plane.send("POST", "/v1/tickets", ticket.clone()).await.0 != 201 {}
    })
    .await;
    control_plane.kill().await;
    let control_plane = site.up(&[]).await;
    assert_eq!(control_plane.show(&id).await["state"], "queued");
    assert_eq!(control_plane.show(&played).await["state"], "ready", "its server is known");
    control_plane.stop().await;
}

#[tokio::test]
async fn a_first_start_without_room_says_so() {
    let site = Site::with_config(&json!({"dev": true, "fleets": {"quiet": crate::site::idle_fleet()}}));
    let Some(disk) = SmallDisk::mount(site.path("data")) else { return };
    disk.fill();
    let said = site.refused(&[]).await;
    assert!(said.contains("No space left on device") && names(&said, &site.path("data")), "{said}");
    disk.make_room();
    site.up(&[]).await.stop().await;
}

/// A control plane that can write nothing down must not hand out anything either, nor hold a folder that it cannot lock.
#[tokio::test]
async fn a_read_only_folder_is_refused_by_name() {
    let site = Site::with_config(&json!({"dev": true, "fleets": {"quiet": crate::site::idle_fleet()}}));
    let Some(disk) = SmallDisk::mount(site.path("data")) else { return };
    site.up(&[]).await.stop().await;
    disk.remount("ro");
    let said = site.refused(&[]).await;
    assert!(said.contains("Read-only file system") && names(&said, &site.path("data")), "{said}");
    disk.remount("rw");
    site.up(&[]).await.stop().await;
}

fn names(text: &str, path: &Path) -> bool {
    text.contains(path.to_str().unwrap())
}
