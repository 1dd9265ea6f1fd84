//! The platforms that fleets can run on: each has a module here, which turns its section of the configuration into the
//! allocator, and a line in [`PLATFORMS`].

mod local_process;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use sortie_allocators::{Allocator, ExitListener, Fleets, Reconciliation, ServerEnvironment};
use sortie_config::{Config, FleetConfig};
use sortie_domain::ids::FleetId;
use sortie_engine::supervisor::{OnFailure, Stage, Supervisor};

use crate::failure::Failure;
use crate::room::HeldBack;

/// Every platform, in the order of `sortie_config`.
const PLATFORMS: &[Platform] = &[local_process::PLATFORM];

/// Time that a game server has to exit when the control plane stops its servers at its own shutdown.
const SERVER_STOP_GRACE: Duration = Duration::from_secs(5);

/// One platform.
#[derive(Clone, Copy)]
struct Platform {
    /// The value of a fleet's `allocator`; also the name of its task.
    name: &'static str,
    /// Whether it is opened even if no fleet uses it, so that the servers of a removed fleet can still be stopped.
    opens_without_fleets: bool,
    /// Gets ready to start and stop servers, and takes over those that an earlier control plane has left.
    open: for<'a> fn(Opening<'a>) -> BoxFuture<'a, Result<Opened, Failure>>,
}

/// What a platform is opened with.
struct Opening<'a> {
    data: &'a Path,
    installation: &'a str,
    /// Its fleets, each with what its servers are given.
    fleets: Vec<(&'a FleetConfig, ServerEnvironment)>,
    exits: Arc<dyn ExitListener>,
}

/// Stops every server, each within this time, and starts no further ones. An error is the number of servers that are
/// left.
type StopAll = Box<dyn FnOnce(Duration) -> BoxFuture<'static, Result<(), usize>> + Send>;

/// A platform that has been opened.
struct Opened {
    allocator: Arc<dyn Allocator>,
    stop_all: StopAll,
}

/// The names of all platforms.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    PLATFORMS.iter().map(|platform| platform.name)
}

/// A platform that this configuration uses.
struct Used {
    platform: Platform,
    fleets: BTreeSet<FleetId>,
    /// Carries out the broker's effects.
    held_back: Arc<HeldBack>,
    opened: Option<Opened>,
}

/// The platforms that a configuration uses.
pub(crate) struct Platforms(Vec<Used>);

impl Platforms {
    /// None is open yet.
    pub(crate) fn of(config: &Config) -> Self {
        let used = PLATFORMS.iter().filter_map(|platform| {
            let fleets = config.fleets.iter().filter(|fleet| fleet.allocator.platform() == platform.name);
            let fleets: BTreeSet<_> = fleets.map(|fleet| fleet.fleet.id.clone()).collect();
            (platform.opens_without_fleets || !fleets.is_empty()).then(|| Used {
                platform: *platform,
                fleets,
                held_back: Arc::default(),
                opened: None,
            })
        });
        Self(used.collect())
    }

    /// Carries out the broker's effects once the platforms are open and released.
    pub(crate) fn performer(&self) -> Fleets {
        let allocator = |used: &Used| Arc::clone(&used.held_back) as Arc<dyn Allocator>;
        let by_fleet = self
            .0
            .iter()
            .flat_map(|used| used.fleets.iter().map(move |fleet| (fleet.clone(), allocator(used))));
        Fleets::new(by_fleet.collect::<BTreeMap<_, _>>(), self.0.iter().map(allocator).collect())
    }

    /// Opens each of them. The ends of servers are reported to `exits`.
    ///
    /// # Errors
    /// [`Failure`] of the first that cannot be opened.
    pub(crate) async fn open(
        &mut self,
        config: &Config,
        installation: &str,
        environment: &(dyn Fn(&FleetConfig) -> ServerEnvironment + Sync),
        exits: &Arc<dyn ExitListener>,
    ) -> Result<(), Failure> {
        for used in &mut self.0 {
            let fleets = config.fleets.iter().filter(|fleet| used.fleets.contains(&fleet.fleet.id));
            let opening = Opening {
                data: &config.data,
                installation,
                fleets: fleets.map(|fleet| (fleet, environment(fleet))).collect(),
                exits: Arc::clone(exits),
            };
            used.opened = Some((used.platform.open)(opening).await?);
        }
        Ok(())
    }

    /// From now on effects are carried out.
    pub(crate) fn release(&self) {
        self.releasing()(());
    }

    /// Releases it when called.
    pub(crate) fn releasing(&self) -> impl FnOnce(()) + Send + use<> {
        let pairs = self.0.iter().filter_map(|used| {
            let opened = used.opened.as_ref()?;
            Some((Arc::clone(&used.held_back), Arc::clone(&opened.allocator)))
        });
        let pairs: Vec<_> = pairs.collect();
        move |()| pairs.into_iter().for_each(|(held_back, allocator)| held_back.release(allocator))
    }

    /// `comparison` with every platform in it.
    pub(crate) fn compared_by(&self, comparison: Reconciliation) -> Reconciliation {
        self.0.iter().fold(comparison, |comparison, used| match &used.opened {
            Some(opened) => {
                comparison.with(used.platform.name, Arc::clone(&opened.allocator), used.fleets.clone())
            }
            None => comparison,
        })
    }

    /// In development mode the servers end with the control plane; otherwise they keep running and the next one adopts
    /// them.
    pub(crate) fn spawn(self, supervisor: &mut Supervisor, takes_servers: bool) {
        for Used { platform, opened, .. } in self.0 {
            let Some(Opened { allocator, stop_all }) = opened else { continue };
            supervisor.spawn(platform.name, Stage::Work, OnFailure::GoOn, move |stop| async move {
                stop.stopped().await;
                // Not by removing the fleets: that would fail their matches, and the next start has the fleets again.
                let stopped = if takes_servers { stop_all(SERVER_STOP_GRACE).await } else { Ok(()) };
                drop(allocator);
                stopped.map_err(|left| format!("{left} game servers could not be stopped").into())
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_platform_that_can_be_configured_can_be_opened() {
        assert!(names().eq(sortie_config::platform_names().iter().copied()));
    }
}
