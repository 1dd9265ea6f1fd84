//! Where a game server's calls come from.

pub mod agones;
mod catena_api;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use crate::manager::Manager;

pub use catena_api::{CatenaApiOptions, CatenaApiSource};

/// Why an event source cannot go on. The text says what was wrong and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{source_name}: {problem}")]
pub struct SourceError {
    /// Its name in the settings.
    pub source_name: &'static str,
    /// What was wrong.
    pub problem: String,
}

/// One of them, with its settings.
#[async_trait]
pub trait EventSource: Send {
    /// The name it has in the settings.
    fn name(&self) -> &'static str;

    /// Serves or plays game servers until `closing` is cancelled. Returning earlier without an error means that there
    /// is nothing left to do: its last game server has ended.
    ///
    /// # Errors
    /// [`SourceError`]: the sidecar ends.
    async fn run(self: Box<Self>, manager: Manager, closing: CancellationToken) -> Result<(), SourceError>;
}
