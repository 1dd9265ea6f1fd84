//! A process of `sortie` that says where it is and then `ready`.

use std::fs::File;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};

use rustix::process::Signal;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::site::{Site, signal, soon};

/// Killed when dropped.
pub(crate) struct Ready {
    child: Child,
    stderr: PathBuf,
    pub(crate) pid: i32,
    /// What it said before `ready`.
    pub(crate) said: Vec<String>,
}

impl Ready {
    /// Waits until it is ready. Its log goes to the file `<name>.stderr` of the folder.
    pub(crate) async fn start(site: &Site, name: &str, mut command: Command) -> Self {
        let stderr = site.path(&format!("{name}.stderr"));
        let log = File::options().create(true).append(true).open(&stderr).unwrap();
        let mut child = command.stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let pid = i32::try_from(child.id().unwrap()).unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut said = Vec::new();
        loop {
            let line = soon(name, lines.next_line()).await.unwrap();
            let line = line.unwrap_or_else(|| panic!("{name} ended: {}", log_of(&stderr)));
            if line == "ready" {
                return Self { child, stderr, pid, said };
            }
            said.push(line);
        }
    }

    /// What it has written to standard error.
    pub(crate) fn log(&self) -> String {
        log_of(&self.stderr)
    }

    /// How it ends by itself.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        soon("its end", self.child.wait()).await.unwrap()
    }

    /// Asks it to end, which it does without complaint.
    pub(crate) async fn stop(mut self) {
        signal(self.pid, Signal::TERM);
        assert_eq!(self.ended().await.code(), Some(0), "{}", self.log());
    }

    /// Ends it as a power cut would.
    pub(crate) async fn kill(mut self) {
        signal(self.pid, Signal::KILL);
        assert_eq!(self.ended().await.code(), None);
    }
}

fn log_of(stderr: &PathBuf) -> String {
    std::fs::read_to_string(stderr).unwrap_or_default()
}
