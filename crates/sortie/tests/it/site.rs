//! A folder of a test's own, and everything that is started there. Whatever a test leaves running is killed.

use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

use crate::control_plane::ControlPlane;

/// Longest wait for something that should happen at once, on a machine that is busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// No process is left.
pub(crate) const NONE: [i32; 0] = [];

/// The user and the group of nobody, by convention: what only another user than root can show is tested as this one.
pub(crate) const NOBODY: u32 = 65_534;

/// In the environment of everything that is started in a folder, and of its children: a folder in it. Game servers
/// inherit it, too.
const MARK: &str = "TMPDIR";

/// A folder with a `sortie.toml`, a data folder and the processes that belong to it.
pub(crate) struct Site {
    folder: TempDir,
}

/// What a command came to.
pub(crate) struct Finished {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Finished {
    /// The last line of standard output as JSON.
    pub(crate) fn json(&self) -> Value {
        let line = self.stdout.lines().last().unwrap_or_default();
        serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {:?}\n{}", line, self.stderr))
    }
}

/// The result of `work`, which must not take long.
pub(crate) async fn soon<T>(what: &str, work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.unwrap_or_else(|_| panic!("{what}: not within {PATIENCE:?}"))
}

impl Site {
    pub(crate) fn new() -> Self {
        Self::below(&std::env::temp_dir())
    }

    fn below(parent: &Path) -> Self {
        let folder = tempfile::Builder::new().prefix("sortie-e2e-").tempdir_in(parent).unwrap();
        std::fs::create_dir(folder.path().join("tmp")).unwrap();
        Self { folder }
    }

    /// A folder that belongs to [`NOBODY`] and has a copy of `sortie` in it, because the folder of the build, and that of
    /// temporary files, may be closed to everybody but root.
    ///
    /// `None` if the tests are not run by root.
    pub(crate) fn of_nobody() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            eprintln!("only root can become another user: nothing was tested");
            return None;
        }
        let open = |folder: &Path| std::fs::metadata(folder).is_ok_and(|found| found.mode() & 0o001 != 0);
        let parents = [std::env::temp_dir(), PathBuf::from("/tmp"), PathBuf::from("/var/tmp")];
        let parent = parents.iter().find(|parent| parent.ancestors().all(open));
        let site = Self::below(parent.expect("a folder for temporary files that is open to all users"));
        let program = site.path("sortie");
        std::fs::copy(env!("CARGO_BIN_EXE_sortie"), &program).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        for name in ["", "tmp"] {
            chown(site.path(name), Some(NOBODY), Some(NOBODY)).unwrap();
        }
        Some(site)
    }

    /// A folder whose `sortie.toml` says this.
    pub(crate) fn with_config(config: &Value) -> Self {
        let site = Self::new();
        site.configure(config);
        site
    }

    /// From now on `sortie.toml` says this.
    pub(crate) fn configure(&self, config: &Value) {
        std::fs::write(self.path("sortie.toml"), toml::to_string(config).unwrap()).unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn data(&self, name: &str) -> PathBuf {
        self.path("data").join(name)
    }

    /// What the control planes of this folder have written to standard error.
    pub(crate) fn stderr(&self) -> String {
        std::fs::read_to_string(self.path("stderr")).unwrap_or_default()
    }

    /// A program that runs in this folder, with none of our own settings.
    pub(crate) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("SORTIE_") {
                command.env_remove(name);
            }
        }
        command.env(MARK, self.path("tmp"));
        command.current_dir(self.folder.path()).stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    pub(crate) fn sortie(&self, arguments: &[&str]) -> Command {
        let mut command = self.command(env!("CARGO_BIN_EXE_sortie"));
        command.args(arguments);
        command
    }

    /// Runs `sortie` to its end.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Finished {
        finish(self.sortie(arguments)).await
    }

    /// `sortie up` with these flags; on a port that the system chooses, unless they name one.
    pub(crate) async fn up(&self, flags: &[&str]) -> ControlPlane {
        let mut command = self.sortie(&["up"]);
        command.args(flags);
        if !flags.contains(&"--listen") {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        let log = File::options().create(true).append(true).open(self.path("stderr")).unwrap();
        ControlPlane::start(command, log, self.path("stderr")).await
    }

    /// `sortie up`, which is expected to refuse.
    pub(crate) async fn refused(&self, flags: &[&str]) -> String {
        let mut command = self.sortie(&["up", "--listen", "127.0.0.1:0"]);
        command.args(flags);
        let finished = finish(command).await;
        assert_eq!((finished.code, finished.stdout.as_str()), (Some(1), ""), "{}", finished.stderr);
        finished.stderr
    }

    /// The processes that were started here, by whomever, and still run.
    pub(crate) fn processes(&self) -> Vec<i32> {
        let wanted = format!("{MARK}={}", self.path("tmp").display());
        let entries = std::fs::read_dir("/proc").unwrap().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        pids.filter(|pid| is_alive(*pid) && variables(*pid).any(|variable| variable == wanted)).collect()
    }

    /// The id of the installation of this data folder.
    pub(crate) fn installation(&self) -> Option<String> {
        let text = std::fs::read_to_string(self.data("installation.json")).ok()?;
        serde_json::from_str::<Value>(&text).unwrap()["id"].as_str().map(str::to_owned)
    }

    /// The game servers that were started for this data folder and still run.
    pub(crate) fn game_servers(&self) -> Vec<i32> {
        let Some(id) = self.installation() else { return Vec::new() };
        let wanted = format!("SORTIE_DATA_ID={id}");
        let here = self.processes();
        here.into_iter().filter(|pid| variables(*pid).any(|variable| variable == wanted)).collect()
    }
}

impl Site {
    /// Those of game servers that no control plane has seen end.
    fn remove_control_groups(&self) {
        let Ok(entries) = std::fs::read_dir(self.data("servers")) else { return };
        let records = entries.flatten().filter_map(|entry| std::fs::read(entry.path()).ok());
        for record in records.filter_map(|record| serde_json::from_slice::<Value>(&record).ok()) {
            let _absent_is_fine = record["control_group"].as_str().map(std::fs::remove_dir);
        }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        // Something may just be starting something else; a few looks find it.
        for _ in 0..1000 {
            let left = self.processes();
            if left.is_empty() {
                self.remove_control_groups();
                return;
            }
            left.into_iter().for_each(|pid| signal(pid, Signal::KILL));
            std::thread::yield_now();
        }
    }
}

/// Runs a command to its end.
pub(crate) async fn finish(mut command: Command) -> Finished {
    let what = format!("{command:?}");
    let output = soon(&what, command.output()).await.unwrap_or_else(|error| panic!("{what}: {error}"));
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Finished { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

pub(crate) fn signal(pid: i32, signal: Signal) {
    let _gone_is_fine = kill_process(Pid::from_raw(pid).unwrap(), signal);
}

/// The environment of a process.
pub(crate) fn variables(pid: i32) -> impl Iterator<Item = String> {
    let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    let variables: Vec<_> =
        environment.split(|byte| *byte == 0).map(|part| String::from_utf8_lossy(part).into_owned()).collect();
    variables.into_iter()
}

/// Whether a process runs; one that has ended and was not reaped does not.
pub(crate) fn is_alive(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, fields)| !fields.starts_with(" Z") && !fields.starts_with(" X"))
}

/// A range of ports that no other test of this process uses, and below those that the system hands out.
pub(crate) fn ports(count: u16) -> (u16, u16) {
    const FIRST: u16 = 10_000;
    /// Ports for one run of the tests. Two runs at a time seldom meet.
    const PER_RUN: u16 = 400;
    static TAKEN: AtomicU16 = AtomicU16::new(0);
    let taken = TAKEN.fetch_add(count, Ordering::Relaxed);
    assert!(taken + count <= PER_RUN, "give the tests more ports");
    let run = u16::try_from(std::process::id() % 30).unwrap();
    let first = FIRST + run * PER_RUN + taken;
    (first, first + count - 1)
}

/// An address to listen on that is the same after a restart, which one that the system chooses need not be.
pub(crate) fn fixed_address() -> String {
    let (first, last) = ports(10);
    let free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    let port = (first..=last).find(free).expect("a free port");
    format!("127.0.0.1:{port}")
}

/// A fleet of servers that `path` with these arguments runs.
pub(crate) fn fleet(path: &Path, arguments: &[&str], max: u16, more: &Value) -> Value {
    let (first, last) = ports(max + 4);
    let process = json!({"path": path, "arguments": arguments, "ports": format!("{first}-{last}")});
    let mut fleet = json!({"max": max, "local_process": process});
    for (key, value) in more.as_object().unwrap() {
        fleet[key] = value.clone();
    }
    fleet
}

/// A fleet that no match fits, so that nothing happens but what the test does.
pub(crate) fn idle_fleet() -> Value {
    json!({"max": 1, "requirements": "MatchProperties.none == 'ever'", "local_process": {"path": "/bin/true"}})
}
