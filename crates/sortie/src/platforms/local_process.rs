//! Processes on this machine.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use sortie_allocators::local_process::{Helper, Helpers, LocalFleet, LocalProcess, LocalProcessAllocator};
use sortie_config::LocalProcessConfig;

use super::{Opened, Opening, Platform};
use crate::failure::Failure;

/// Maximum run time of a game server of a fleet without a limit of its own.
const NO_RUN_TIME_LIMIT: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

pub(super) const PLATFORM: Platform =
    Platform { name: "local_process", opens_without_fleets: true, open: |opening| open(opening).boxed() };

async fn open(opening: Opening<'_>) -> Result<Opened, Failure> {
    let Opening { data, installation, fleets, exits } = opening;
    let fleets = fleets.into_iter().filter_map(|(fleet, environment)| {
        let process = fleet.allocator.settings().map(local_process)?;
        Some((fleet.fleet.id.clone(), LocalFleet { process, environment }))
    });
    let allocator =
        LocalProcessAllocator::open(data, installation, helpers(), fleets.collect(), exits).await?;
    let allocator = Arc::new(allocator);
    let stopped = Arc::clone(&allocator);
    let stop_all =
        move |grace| async move { stopped.stop_all(grace).await.map_err(|left| left.len()) }.boxed();
    Ok(Opened { allocator, stop_all: Box::new(stop_all) })
}

fn local_process(config: &LocalProcessConfig) -> LocalProcess {
    LocalProcess {
        path: config.path.clone(),
        arguments: config.arguments.clone(),
        environment: config.environment.0.clone(),
        pass_environment: config.pass_environment.clone(),
        working_folder: config.working_folder.clone(),
        ports: config.ports.clone(),
        address: config.address,
        stop_grace: config.stop_grace,
        output_limit: config.output_limit,
        max_run_time: config.max_run_time.unwrap_or(NO_RUN_TIME_LIMIT),
        reaper_period: config.reaper_period,
    }
}

/// This program, which stays the same when its file is replaced.
fn helpers() -> Helpers {
    let helper = |task: &str| Helper { program: "/proc/self/exe".into(), arguments: vec![task.into()] };
    Helpers { keep_output: helper("keep-output"), enter_group: helper("enter-group") }
}
