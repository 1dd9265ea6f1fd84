//! A data folder with an allocator and shell scripts for game servers; everything that a test leaves is killed.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use sortie_allocators::local_process::{Helper, Helpers, LocalFleet, LocalProcess, LocalProcessAllocator};
use sortie_allocators::{Allocator, ExitListener, Placement, ServerEnvironment, ServerExit, StartOrder};
use sortie_domain::ids::{AllocationId, FleetId};
use tokio::sync::mpsc;

/// Maximum wait for something that should happen at once.
const PATIENCE: Duration = Duration::from_secs(30);

/// A data folder and what belongs to it.
pub(crate) struct Harness {
    data: tempfile::TempDir,
    /// The installation's id, different in each test.
    pub(crate) installation: String,
}

/// An allocator under test and the ends of servers that it reported.
pub(crate) struct Opened {
    pub(crate) allocator: LocalProcessAllocator,
    /// The servers that ran when it was opened.
    pub(crate) taken_over: Vec<Placement>,
    pub(crate) exits: mpsc::Receiver<ServerExit>,
}

/// Whether the listener stores reports or never returns.
struct Listener {
    heard: mpsc::Sender<ServerExit>,
    accepts: bool,
}

#[async_trait::async_trait]
impl ExitListener for Listener {
    async fn exited(&self, exit: ServerExit) {
        self.heard.send(exit).await.unwrap();
        if !self.accepts {
            std::future::pending::<()>().await;
        }
    }
}

impl Harness {
    pub(crate) fn new() -> Self {
        let data = tempfile::tempdir().unwrap();
        std::fs::create_dir(data.path().join("out")).unwrap();
        let installation = data.path().file_name().unwrap().to_string_lossy().into_owned();
        Self { data, installation }
    }

    /// A fleet whose servers run a shell script in the folder of [`Harness::out`].
    pub(crate) fn fleet(&self, script: &str) -> LocalFleet {
        LocalFleet {
            process: LocalProcess {
                path: "/bin/sh".into(),
                arguments: vec!["-c".to_owned(), script.to_owned()],
                environment: BTreeMap::new(),
                pass_environment: Vec::new(),
                working_folder: Some(self.out("")),
                ports: 21_000..=29_999,
                address: Ipv4Addr::LOCALHOST.into(),
                stop_grace: 2 * PATIENCE,
                output_limit: 1024 * 1024,
                max_run_time: Duration::from_secs(3600),
                reaper_period: Duration::from_millis(10),
            },
            environment: ServerEnvironment {
                api: "http://127.0.0.1:8080".to_owned(),
                api_key: None,
                ca: None,
                netcode_key: None,
                protocol_id: None,
            },
        }
    }

    /// An allocator with that fleet, named `eu`.
    pub(crate) async fn open(&self, fleet: LocalFleet) -> Opened {
        self.open_with([("eu", fleet)], true).await
    }

    /// An allocator with these fleets, whose listener takes reports or never returns.
    pub(crate) async fn open_with<const N: usize>(
        &self,
        fleets: [(&str, LocalFleet); N],
        accepts: bool,
    ) -> Opened {
        let (heard, exits) = mpsc::channel(64);
        let fleets = fleets.map(|(id, fleet)| (FleetId::new(id).unwrap(), fleet));
        let listener = Arc::new(Listener { heard, accepts });
        let allocator = LocalProcessAllocator::open(
            self.data.path(),
            &self.installation,
            helpers(),
            BTreeMap::from(fleets),
            listener,
        )
        .await
        .unwrap();
        let listed = allocator.list().await.unwrap();
        let running = listed.placements().iter().filter(|placement| !placement.state.has_ended());
        Opened { taken_over: running.cloned().collect(), allocator, exits }
    }

    /// A file in the servers' working folder.
    pub(crate) fn out(&self, name: &str) -> PathBuf {
        self.data.path().join("out").join(name)
    }

    /// A file in the allocator's own folder.
    pub(crate) fn kept(&self, name: &str) -> PathBuf {
        self.data.path().join("servers").join(name)
    }

    pub(crate) fn record(&self, order: &StartOrder) -> PathBuf {
        self.kept(&format!("{}.json", order.allocation))
    }

    /// The content of a file in the servers' working folder, once a whole line is in it.
    pub(crate) async fn line(&self, name: &str) -> String {
        let file = self.out(name);
        eventually(&format!("a line in {name}"), || {
            std::fs::read_to_string(&file).ok().filter(|text| text.ends_with('\n'))
        })
        .await
        .trim()
        .to_owned()
    }

    /// The process id in such a file.
    pub(crate) async fn pid(&self, name: &str) -> i32 {
        self.line(name).await.parse().unwrap()
    }

    /// The allocator's records.
    fn records(&self) -> Vec<serde_json::Value> {
        let Ok(entries) = std::fs::read_dir(self.kept("")) else { return Vec::new() };
        let files = entries
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.extension() == Some("json".as_ref()));
        files.filter_map(|path| serde_json::from_slice(&std::fs::read(path).ok()?).ok()).collect()
    }

    /// The process ids in them.
    fn recorded(&self) -> Vec<i32> {
        self.records().iter().filter_map(|record| record["pid"].as_i64()?.try_into().ok()).collect()
    }

    /// Whether the system lets us create control groups. If it does, each server has one in its record.
    pub(crate) fn has_control_groups(&self) -> bool {
        let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
        let mounted_at = mounts.lines().find_map(|line| match line.split(' ').collect::<Vec<_>>()[..] {
            [_, folder, "cgroup2", ..] => Some(folder),
            _ => None,
        });
        let own = std::fs::read_to_string("/proc/self/cgroup").unwrap();
        let own = own.lines().find_map(|line| line.strip_prefix("0::/"));
        let Some((mounted_at, own)) = mounted_at.zip(own) else { return false };
        let probe = Path::new(mounted_at).join(own).join(format!("probe-{}", self.installation));
        std::fs::create_dir(&probe).and_then(|()| std::fs::remove_dir(&probe)).is_ok()
    }

    /// The control group of a server, from its record. Present if groups are possible.
    pub(crate) fn control_group(&self, order: &StartOrder) -> Option<PathBuf> {
        let record: serde_json::Value =
            serde_json::from_slice(&std::fs::read(self.record(order)).unwrap()).unwrap();
        let group = record["control_group"].as_str().map(PathBuf::from);
        assert!(group.is_some() || !self.has_control_groups(), "{record}");
        group
    }

    /// The control groups in the allocator's records.
    fn control_groups(&self) -> Vec<PathBuf> {
        self.records().iter().filter_map(|record| Some(record["control_group"].as_str()?.into())).collect()
    }

    /// Waits until `count` processes of this folder run. A process that has just been started may not show its
    /// variables yet.
    pub(crate) async fn processes_are(&self, count: usize) {
        eventually(&format!("{count} processes"), || (self.processes(None).len() == count).then_some(()))
            .await;
    }

    /// The running processes of this folder, of one allocation if one is given.
    pub(crate) fn processes(&self, allocation: Option<&AllocationId>) -> Vec<i32> {
        let mut wanted = vec![format!("SORTIE_DATA_ID={}", self.installation)];
        wanted.extend(allocation.map(|id| format!("SORTIE_ALLOCATION_ID={id}")));
        let entries = std::fs::read_dir("/proc").unwrap().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        pids.filter(|pid| {
            let environ = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            let variables: Vec<_> = environ.split(|byte| *byte == 0).collect();
            wanted.iter().all(|variable| variables.contains(&variable.as_bytes())) && is_alive(*pid)
        })
        .collect()
    }
}

impl Drop for Harness {
    fn drop(&mut self) {
        // By their records, too: a process that has just been started may not show its variables yet.
        for pid in self.recorded() {
            let _gone_is_fine = kill_process_group(Pid::from_raw(pid).unwrap(), Signal::KILL);
        }
        for pid in self.processes(None) {
            kill(pid);
        }
        for group in self.control_groups() {
            // Its processes are still about to end.
            for _ in 0..1000 {
                match std::fs::remove_dir(&group) {
                    Err(error) if error.kind() == std::io::ErrorKind::ResourceBusy => {
                        std::thread::yield_now();
                    }
                    _ => break,
                }
            }
        }
    }
}

impl Opened {
    /// Starts a server on a port that was just returned. The processes that other tests start have copies of our
    /// sockets for a moment, and block the port.
    pub(crate) async fn starts(&self, order: &StartOrder) {
        let mut attempts = tokio::time::interval(Duration::from_millis(5));
        let start = async {
            while self.allocator.start(order).await.is_err() {
                attempts.tick().await;
            }
        };
        tokio::time::timeout(PATIENCE, start).await.expect("a port in time");
    }

    /// The next reported end of a server.
    pub(crate) async fn exit(&mut self) -> ServerExit {
        tokio::time::timeout(PATIENCE, self.exits.recv()).await.expect("an exit in time").expect("an exit")
    }

    /// Whether nothing was reported.
    pub(crate) fn is_silent(&mut self) -> bool {
        self.exits.try_recv().is_err()
    }
}

fn helpers() -> Helpers {
    let helper = |task: &str| Helper {
        program: env!("CARGO_BIN_EXE_sortie-allocators-test-helper").into(),
        arguments: vec![task.into()],
    };
    Helpers { keep_output: helper("keep-output"), enter_group: helper("enter-group") }
}

/// Waits until `look` sees something.
pub(crate) async fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let mut looks = tokio::time::interval(Duration::from_millis(5));
    let found = async {
        loop {
            looks.tick().await;
            if let Some(seen) = look() {
                return seen;
            }
        }
    };
    tokio::time::timeout(PATIENCE, found).await.unwrap_or_else(|_| panic!("no {what} in time"))
}

/// Whether a process runs; a zombie does not.
pub(crate) fn is_alive(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, fields)| !fields.starts_with(" Z") && !fields.starts_with(" X"))
}

/// The processes that `sleep` for this duration.
pub(crate) fn sleepers(duration: &str) -> Vec<i32> {
    let wanted = format!("sleep\0{duration}\0");
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|is| is == wanted.as_bytes()))
        .collect()
}

/// A duration that no other process on this machine sleeps for.
pub(crate) fn own_duration() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    format!("{}.{}", 1_000_000 + std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

pub(crate) fn kill(pid: i32) {
    let _gone_is_fine = kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL);
}

/// A port that is taken as long as the socket exists; not one that the system hands out, so that nobody else gets it
/// right after.
pub(crate) fn taken_port() -> (UdpSocket, u16) {
    let ports = 30_000..32_000;
    let first = ports.start + u16::try_from(std::process::id() % 1000).unwrap();
    let mut tried = (first..ports.end).chain(ports);
    tried.find_map(|port| Some((UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).ok()?, port))).unwrap()
}

/// The size of a file in bytes; 0 if it does not exist.
pub(crate) fn size(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |metadata| metadata.len())
}
