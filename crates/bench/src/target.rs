//! The control plane that is measured: a running one, or one of the benchmark's own, with an empty data folder that is
//! deleted afterwards.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use crate::stats::Cpu;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::cli::TargetOptions;
use crate::client::Connection;
use crate::failure::Failure;

/// Maximum time until a control plane serves, and until it has ended.
const PATIENCE: Duration = Duration::from_secs(30);
/// Longer than any benchmark: nothing in one may end by a deadline.
const NEVER: &str = "24h";
/// A server outlives its matches; otherwise the configuration has warnings.
const LONGER_STILL: &str = "72h";
/// Printed by a control plane when it serves; its address follows.
const SERVES: &str = "listening on ";
/// Name of the thread that decides and commits.
const MACHINE_THREAD: &str = "(broker)";
/// Unit of CPU times in `/proc`: USER_HZ, which is 100 on every platform that is built for.
const TICK: Duration = Duration::from_millis(10);

/// What is measured.
pub(crate) struct Target {
    url: String,
    key: Option<String>,
    /// The folder on its disk, as far as the benchmark knows it.
    folder: PathBuf,
    own: Option<Own>,
}

/// A control plane that was started here. Killed when dropped.
struct Own {
    child: Child,
    _data: TempDir,
}

impl Target {
    /// The control plane that `options` name, or a new one with these fleets.
    pub(crate) async fn open(options: &TargetOptions, fleets: Value) -> Result<Self, Failure> {
        let folder = folder(options.data.as_deref());
        if let Some(url) = &options.url {
            let url = url.trim_end_matches('/').to_owned();
            return Ok(Self { url, key: options.key.clone(), folder, own: None });
        }
        let data = temporary_folder(&folder)?;
        let config = data.path().join("sortie.json");
        let settings = json!({
            "dev": true,
            "listen": "127.0.0.1:0",
            "data": data.path().join("data"),
            "log": { "level": "warn" },
            "broker": {
                "match_pickup_time": NEVER,
                "match_ready_time": NEVER,
                "match_max_run_time": NEVER,
                "server_max_lifetime": LONGER_STILL,
                "wait": NEVER,
            },
            "fleets": fleets,
        });
        std::fs::write(&config, settings.to_string())?;
        let (child, said) = start("up", &config, SERVES).await?;
        let url = said.last().and_then(|line| line.strip_prefix(SERVES)).unwrap_or_default().to_owned();
        Ok(Self { url, key: None, folder, own: Some(Own { child, _data: data }) })
    }

    /// Its base address.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Connections to it.
    pub(crate) async fn connect(&self, count: usize) -> Result<Vec<Connection>, Failure> {
        let mut connections = Vec::with_capacity(count);
        for _ in 0..count {
            connections.push(Connection::open(&self.url, self.key.as_deref()).await?);
        }
        Ok(connections)
    }

    /// Its resident memory in MiB; `None` if it was not started here.
    pub(crate) fn resident_mib(&self) -> Option<f64> {
        resident_mib(&self.own.as_ref()?.child)
    }

    /// Its CPU time so far; `None` if it was not started here.
    pub(crate) fn cpu(&self) -> Option<Cpu> {
        let process = PathBuf::from(format!("/proc/{}", self.own.as_ref()?.child.id()?));
        let all = cpu_time(&process)?;
        let mut threads = std::fs::read_dir(process.join("task")).ok()?.flatten();
        let machine = threads.find_map(|thread| {
            let stat = std::fs::read_to_string(thread.path().join("stat")).ok()?;
            stat.contains(MACHINE_THREAD).then(|| cpu_time(&thread.path()))?
        })?;
        Some(Cpu { machine, rest: all.saturating_sub(machine) })
    }

    /// Stops what was started here, and the game servers that it started.
    pub(crate) async fn close(self) -> Result<(), Failure> {
        let Some(Own { child, _data }) = self.own else { return Ok(()) };
        end(child).await
    }
}

/// The folder for a benchmark's data: the given one, or the working folder.
pub(crate) fn folder(named: Option<&Path>) -> PathBuf {
    named.map_or_else(|| PathBuf::from("."), Path::to_owned)
}

/// A folder in `folder`, deleted when dropped.
pub(crate) fn temporary_folder(folder: &Path) -> Result<TempDir, Failure> {
    let problem = || format!("cannot make a folder in {}; name another with --data", folder.display());
    // Absolute, because the control plane gets the path too, and its working folder may change one day.
    let folder = folder.canonicalize().map_err(|error| Failure::of(problem(), error))?;
    let made = tempfile::Builder::new().prefix(".sortie-bench-").tempdir_in(&folder);
    made.map_err(|error| Failure::of(problem(), error))
}

/// User and system time of a process or thread.
fn cpu_time(of: &Path) -> Option<Duration> {
    let stat = std::fs::read_to_string(of.join("stat")).ok()?;
    // Fields are counted after the name, which may contain anything: proc(5), utime and stime.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut ticks = fields.split_whitespace().skip(11).map(str::parse::<u32>);
    let (user, system) = (ticks.next()?.ok()?, ticks.next()?.ok()?);
    Some(TICK * (user + system))
}

/// Runs `sortie` with a role and its configuration, and waits until it has written a line that begins with `last`.
/// Returns its output until then.
pub(crate) async fn start(role: &str, config: &Path, last: &str) -> Result<(Child, Vec<String>), Failure> {
    let mut command = Command::new(std::env::current_exe()?);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("SORTIE_") {
            command.env_remove(name);
        }
    }
    command.arg(role).arg("--config").arg(config);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
    let output = child.stdout.take().ok_or_else(|| Failure::new("what was started has no output"))?;
    let mut lines = BufReader::new(output).lines();
    let mut said = Vec::new();
    let ready = async {
        while let Some(line) = lines.next_line().await? {
            let is_last = line.starts_with(last);
            said.push(line);
            if is_last {
                return Ok(());
            }
        }
        Err(Failure::new(format!("`sortie {role}` did not start; it says why above")))
    };
    let in_time = timeout(PATIENCE, ready).await;
    in_time.unwrap_or_else(|_| Err(Failure::new(format!("`sortie {role}` did not serve in time"))))?;
    Ok((child, said))
}

/// Asks for a graceful shutdown, and does not wait for it forever.
pub(crate) async fn end(mut child: Child) -> Result<(), Failure> {
    let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    if let Some(pid) = pid {
        kill_process(pid, Signal::TERM)?;
    }
    if timeout(PATIENCE, child.wait()).await.is_err() {
        child.kill().await?;
    }
    Ok(())
}

/// Resident memory of a process, in MiB.
pub(crate) fn resident_mib(process: &Child) -> Option<f64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.id()?)).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: f64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib / 1024.0)
}
