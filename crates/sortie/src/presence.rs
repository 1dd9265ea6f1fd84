//! Makes a running control plane of an installation visible on this machine, and lets commands query it.
//!
//! For as long as it lives, it holds an abstract socket named after the installation's id: the kernel gives the name to
//! one process, and frees it however that process ends. So a clone of a folder that cannot be told from its original
//! does not start next to it, and `sortie key` finds the control plane whose keys it has changed, whatever address that
//! listens on. Both sides ignore processes of other users: anybody may take a name.
//!
//! A name is unique within a network namespace, so a container is not seen from outside; the folder's lock is.

use std::fs::{File, TryLockError};
use std::io::{self, Read as _};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener as StdListener, UnixStream as StdStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::{Instant, sleep, timeout};

use crate::failure::Failure;
use crate::private;

/// Maximum wait for a name that a process is just giving up, or that its children hold until they run their own
/// program.
const PATIENCE: Duration = Duration::from_secs(2);
/// Time between two attempts.
const PAUSE: Duration = Duration::from_millis(20);
/// Maximum time for one question and its answer.
const ANSWER_TIME: Duration = Duration::from_secs(5);
/// Maximum size of an answer, in bytes.
const MAX_ANSWER: u64 = 4 << 20;
/// Maximum length of the process id in the lock, in bytes.
const MAX_PROCESS: u64 = 32;

/// What a control plane reports about itself.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Report {
    /// Its process.
    pub(crate) process: u32,
    /// Its data folder.
    pub(crate) data: PathBuf,
    /// Whether it requires keys at all; not in development mode.
    pub(crate) asks_for_keys: bool,
    /// The names of the keys that it takes from its data folder.
    pub(crate) keys: Vec<String>,
    /// Why it cannot look keys up, if it cannot.
    pub(crate) problem: Option<String>,
}

/// Held as long as the process lives.
pub(crate) struct Presence(UnixListener);

impl Presence {
    /// Claims the name of an installation's running control plane. Needs a runtime. `None` if the name cannot be had
    /// for a reason other than that another control plane has it.
    ///
    /// # Errors
    /// [`Failure`] if another control plane of the installation runs.
    pub(crate) async fn claim(installation: &str) -> Result<Option<Self>, Failure> {
        let since = Instant::now();
        loop {
            let error = match bind(installation) {
                Ok(listener) => return Ok(Some(Self(listener))),
                Err(error) => error,
            };
            let waits = error.kind() == io::ErrorKind::AddrInUse && since.elapsed() < PATIENCE;
            if !waits {
                return unclaimed(installation, &error).await;
            }
            sleep(PAUSE).await;
        }
    }

    /// Answers connections for as long as it is polled, one at a time: the callers are people at a terminal.
    pub(crate) async fn answer(self, report: impl Fn() -> Report) {
        loop {
            match self.0.accept().await {
                Ok((stream, _)) if may_speak(&stream, None) => {
                    let _asks_again = timeout(ANSWER_TIME, tell(stream, &report())).await;
                }
                Ok(_) => {}
                // E.g. without descriptors.
                Err(_) => sleep(PAUSE).await,
            }
        }
    }
}

async fn tell(mut stream: UnixStream, report: &Report) -> io::Result<()> {
    stream.write_all(&serde_json::to_vec(report)?).await?;
    stream.shutdown().await
}

async fn unclaimed(installation: &str, error: &io::Error) -> Result<Option<Presence>, Failure> {
    if error.kind() == io::ErrorKind::AddrInUse
        && let Some(stream) = connect(installation).ok().filter(|stream| may_speak(stream, None))
    {
        let other = heard(stream).await.ok();
        let of = other.map(|other| format!(" (process {}, with {})", other.process, other.data.display()));
        return Err(Failure::new(format!(
            "another control plane of the same installation runs on this machine{}: stop it first. If this folder is a copy \
             of the other one, run `sortie restore` on it",
            of.unwrap_or_default()
        )));
    }
    tracing::warn!(%error, "`sortie key` cannot ask this control plane, and copies of its folder may start next to it");
    Ok(None)
}

/// The report of the running control plane of an installation with this data folder; `None` if none is found.
///
/// # Errors
/// If the exchange with it fails.
pub(crate) async fn ask(installation: &str, data: &Path) -> io::Result<Option<Report>> {
    match connect(installation) {
        Ok(stream) if may_speak(&stream, private::lock_user(data)) => heard(stream).await.map(Some),
        Ok(_) => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(None),
        Err(error) => Err(error),
    }
}

async fn heard(stream: UnixStream) -> io::Result<Report> {
    let mut answer = Vec::new();
    let reading = async { stream.take(MAX_ANSWER).read_to_end(&mut answer).await };
    timeout(ANSWER_TIME, reading).await.map_err(|_| io::ErrorKind::TimedOut)??;
    Ok(serde_json::from_slice(&answer)?)
}

fn address(installation: &str) -> io::Result<SocketAddr> {
    SocketAddr::from_abstract_name(format!("sortie-{installation}"))
}

fn bind(installation: &str) -> io::Result<UnixListener> {
    let listener = StdListener::bind_addr(&address(installation)?)?;
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener)
}

fn connect(installation: &str) -> io::Result<UnixStream> {
    let stream = StdStream::connect_addr(&address(installation)?)?;
    stream.set_nonblocking(true)?;
    UnixStream::from_std(stream)
}

/// Whether the other side runs as root, as the same user, or as the user who runs the control plane with the data
/// folder, if one is given. A caller that runs as root cannot trust the other side for that: while no control plane has
/// the name, any user may take it.
fn may_speak(stream: &UnixStream, user: Option<u32>) -> bool {
    let own = rustix::process::geteuid().as_raw();
    stream.peer_cred().is_ok_and(|peer| is_trusted(peer.uid(), own, user))
}

fn is_trusted(peer: u32, own: u32, user: Option<u32>) -> bool {
    [Some(0), Some(own), user].contains(&Some(peer))
}

/// The process that has locked the data folder, if any. It may be one that [`ask`] does not find.
pub(crate) fn lock_holder(data: &Path) -> Option<String> {
    // The path must not lead to another file, or to one that blocks when it is opened.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let lock = File::from(rustix::fs::open(data.join("lock"), flags, Mode::empty()).ok()?);
    let Err(TryLockError::WouldBlock) = lock.try_lock_shared() else { return None };
    let mut process = String::new();
    let _nobody_knows = lock.take(MAX_PROCESS).read_to_string(&mut process);
    Some(process.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let keys = vec!["ci".to_owned()];
        Report { process: 7, data: "/srv".into(), asks_for_keys: true, keys, problem: None }
    }

    #[tokio::test]
    async fn one_process_holds_an_installation_and_says_what_it_knows() {
        let id = format!("test-{}", std::process::id());
        assert_eq!(ask(&id, Path::new("/srv")).await.unwrap(), None);
        let held = Presence::claim(&id).await.unwrap().unwrap();
        let answering = tokio::spawn(held.answer(report));
        assert_eq!(ask(&id, Path::new("/srv")).await.unwrap(), Some(report()));
        let refused = Presence::claim(&id).await.err().unwrap().to_string();
        assert!(refused.contains("process 7, with /srv") && refused.contains("sortie restore"), "{refused}");
        answering.abort();
        assert!(answering.await.is_err());
        assert!(Presence::claim(&id).await.unwrap().is_some());
    }

    /// Any user may take the name while no control plane has it.
    #[test]
    fn root_believes_the_user_of_the_data_folder_and_no_other() {
        let (service, other) = (900, 1000);
        assert!(is_trusted(service, 0, Some(service)) && is_trusted(0, 0, Some(service)));
        assert!(!is_trusted(other, 0, Some(service)) && !is_trusted(other, 0, None));
        assert!(is_trusted(other, other, None) && is_trusted(0, other, None));
        assert!(!is_trusted(service, other, None));
    }
}
