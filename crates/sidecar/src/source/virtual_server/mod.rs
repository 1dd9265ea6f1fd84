//! A simulated game server: requests matches, reports them as ready and ends them, all according to a plan.
//!
//! For testing a backend, an allocator or a client without a game, and for a game server that uses no API and counts as
//! ready when it has a match. A pure planner decides what to do and when; this module does it. Requests for a match may
//! take long, so they run concurrently with the other calls, which are made one after another.

mod behaviour;
mod driver;
mod planner;
mod settings;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use self::driver::{Calls, End, VirtualDriver};
use self::planner::{Plan, Planner};
pub use self::settings::{ChaosSettings, ParallelSettings, StrategySettings, VirtualServerSettings};
use super::{BadSetting, EventSource, SourceError};
use crate::manager::Manager;

/// Its name in the settings.
pub const NAME: &str = "virtual_server_event_source";

/// A virtual server.
pub struct VirtualServer {
    plan: Plan,
    seed: u64,
    requirements: String,
    /// Address for players without a resolver.
    connection_details: String,
}

impl VirtualServer {
    /// A virtual server with these settings.
    ///
    /// # Errors
    /// [`BadSetting`]
    pub fn new(settings: VirtualServerSettings) -> Result<Self, BadSetting> {
        let (plan, seed) = settings.plan()?;
        if settings.connection_details.is_empty() {
            return Err(BadSetting::new("ConnectionDetails", "must say where players connect"));
        }
        Ok(Self {
            plan,
            seed: seed.unwrap_or_else(|| fastrand::u64(..)),
            requirements: settings.requirements,
            connection_details: settings.connection_details,
        })
    }
}

#[async_trait]
impl EventSource for VirtualServer {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn run(self: Box<Self>, manager: Manager, closing: CancellationToken) -> Result<(), SourceError> {
        let server_id = manager.server_id_of(NAME);
        tracing::info!(server_id, seed = self.seed, "a virtual server starts");
        let calls = Calls {
            manager: &manager,
            server_id: &server_id,
            requirements: &self.requirements,
            connection_details: &self.connection_details,
            pace: self.plan.interval,
            closing: &closing,
        };
        let mut planner = Planner::new(self.plan, fastrand::Rng::with_seed(self.seed));
        for server in manager.view().servers {
            if server.id == server_id {
                server.matches.into_iter().for_each(|held| planner.resume(held.id, held.is_ready));
            }
        }
        if VirtualDriver::new(planner, &calls).run().await == End::Done {
            manager.server_gone(&server_id, "its last match is over").await;
        }
        Ok(())
    }
}
