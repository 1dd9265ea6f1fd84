//! Event sources, where a game server's calls come from.

pub mod agones;
mod catena_api;
pub mod process;
pub mod virtual_server;

use std::ops::RangeInclusive;
use std::time::Duration;

use async_trait::async_trait;
use sortie_serving::{ListenAddr, Visitors};
use sortie_wire::hints::HintFlag;
use tokio_util::sync::CancellationToken;

use crate::manager::Manager;

pub use catena_api::{CatenaApiOptions, CatenaApiSource};

/// Why an event source failed. The text says what is wrong and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{source_name}: {problem}")]
pub struct SourceError {
    /// Its name in the settings.
    pub source_name: &'static str,
    /// What is wrong.
    pub problem: String,
}

/// An invalid setting of an event source.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{key}: {problem}")]
pub struct BadSetting {
    /// The path of its key, within the settings block of its event source.
    pub key: String,
    /// What is wrong, and what is valid.
    pub problem: String,
}

impl BadSetting {
    pub(crate) fn new(key: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { key: key.into(), problem: problem.into() }
    }
}

/// Access to a port without a key: for programs that use a name of this machine, and not for foreign web pages.
fn visitors(listen: &ListenAddr, allowed_hosts: &[String]) -> Visitors {
    let name = listen.name().map(ToOwned::to_owned);
    Visitors::without_credentials().and_hosts(allowed_hosts.iter().cloned().chain(name))
}

/// Whether the backend's hints say that the server must take no more matches.
fn wants_shutdown(hint_flags: u32) -> bool {
    hint_flags & HintFlag::Shutdown as u32 != 0
}

/// Checks that the duration of `key` is in `range`.
fn within(key: &str, duration: Duration, range: &RangeInclusive<Duration>) -> Result<(), BadSetting> {
    if range.contains(&duration) {
        return Ok(());
    }
    let [min, max, is] = [*range.start(), *range.end(), duration].map(humantime::format_duration);
    Err(BadSetting::new(key, format!("must be from {min} to {max}, is {is}")))
}

/// The number of concurrent matches of `key`, if valid.
fn at_a_time(key: &str, matches: u32, max: u32) -> Result<usize, BadSetting> {
    if !(1..=max).contains(&matches) {
        return Err(BadSetting::new(key, format!("must be from 1 to {max}, is {matches}")));
    }
    Ok(matches as usize)
}

/// An event source, with its settings.
#[async_trait]
pub trait EventSource: Send {
    /// Its name in the settings.
    fn name(&self) -> &'static str;

    /// Serves or simulates game servers until `closing` is cancelled. Returning earlier without an error means that
    /// nothing is left to do: its last game server has ended.
    ///
    /// # Errors
    /// [`SourceError`]: the sidecar shuts down.
    async fn run(self: Box<Self>, manager: Manager, closing: CancellationToken) -> Result<(), SourceError>;
}
