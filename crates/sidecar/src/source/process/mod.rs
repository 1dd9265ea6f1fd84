//! A game server that uses no API: a program is run for each match, and lives as long as the match.
//!
//! The match is ready when the program is, and over when the program ends; the program gets its match in its
//! environment, its arguments, a file or its standard input. Each of the concurrent programs is a server of its own,
//! with a persistent id: their matches cannot be confused, and a resolver can give each its own port. When the sidecar
//! shuts down, so do the programs.

mod answering;
mod handover;
mod lines;
mod match_file;
mod output;
mod program;
mod settings;
mod slot;
mod template;

use std::sync::Arc;

use async_trait::async_trait;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::settings::Checked;
pub use self::settings::{PortText, ProcessSettings, Start};
use self::slot::{Shared, Slot};
use super::{BadSetting, EventSource, SourceError};
use crate::manager::Manager;
use crate::resolver::ports::Ports;

/// Its name in the settings.
pub const NAME: &str = "process_event_source";

/// Programs as game servers.
pub struct ProcessSource {
    settings: Checked,
    ports: Option<Ports>,
}

impl ProcessSource {
    /// Programs with these settings.
    ///
    /// # Errors
    /// [`BadSetting`]
    pub fn new(settings: ProcessSettings) -> Result<Self, BadSetting> {
        let settings = settings.check()?;
        let ports = settings.port_range.map(|range| Ports::of(&[range])).transpose();
        let ports = ports.map_err(|error| BadSetting::new("PortRange", error.to_string()))?;
        Ok(Self { settings, ports })
    }

    /// The same, with these variables of the sidecar inherited by its programs in addition to those of every game
    /// server. Variables that begin with `SORTIE_` are never inherited, unless they are for game servers.
    #[must_use]
    pub fn passing(mut self, names: &[String]) -> Self {
        self.settings.pass_environment = names.to_vec();
        self
    }
}

#[async_trait]
impl EventSource for ProcessSource {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn run(self: Box<Self>, manager: Manager, closing: CancellationToken) -> Result<(), SourceError> {
        let Self { settings, ports } = *self;
        let first = manager.server_id_of(NAME);
        if ports.is_none() && matches!(manager.address_of(&first).await, Ok(None)) {
            let problem = "players cannot be sent anywhere: set PortRange, or a resolver".to_owned();
            return Err(SourceError { source_name: NAME, problem });
        }
        let matches = settings.matches;
        let ports = ports.map(Arc::new);
        let no_more = closing.child_token();
        let shared = Arc::new(Shared { settings, manager, ports, closing, no_more });
        let mut slots = JoinSet::new();
        for number in 1..=matches {
            let server_id = if number == 1 { first.clone() } else { format!("{first}-{number}") };
            slots.spawn(Slot { shared: Arc::clone(&shared), server_id }.run());
        }
        while let Some(ended) = slots.join_next().await {
            if let Err(error) = ended {
                return Err(SourceError { source_name: NAME, problem: format!("a bug: {error}") });
            }
        }
        Ok(())
    }
}
