//! The matchmaker beside the broker: a machine of its own with a log of its own, joined to the broker by commands.
//!
//! It runs only where it is configured. Without it matches come from whoever makes them, through the API.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use prometheus_client::encoding::EncodeLabelSet;
use sortie_config::{Config, HookConfig, MatchmakerConfig};
use sortie_domain::broker::Broker;
use sortie_domain::matchmaking::{Command, Matchmaker};
use sortie_engine::effects::MAX_PENDING_EFFECTS;
use sortie_engine::log::{Log, OpenError};
use sortie_engine::supervisor::{OnFailure, Stage, Supervisor};
use sortie_engine::{
    EffectLimits, Engine, EngineOptions, Entropy, Handle, LateLog, Parts, Prepared, SystemClock,
};
use sortie_matchmaker::{HookOptions, Hooks, Work};
use sortie_metrics::{Collector, Samples};
use sortie_serving::Limits;
use zeroize::Zeroizing;

use crate::failure::{Failure, lacks_room};
use crate::installation::Installation;
use crate::machine_start::{self, Pending};
use crate::role::Role;
use crate::used::{self, Accepted, Opening};

fn folder(config: &Config) -> PathBuf {
    config.data.join(used::FOLDER)
}

/// Opens its log, if it is configured. Before the broker starts, which a log that is refused must not have let act.
/// Where there is no room for a log that was never there, it is made later.
pub(crate) fn open(
    config: &Config,
    installation: &mut Installation,
    accepted: Accepted,
) -> Result<Option<Box<dyn Log>>, Failure> {
    let folder = folder(config);
    if config.matchmaker.is_none() {
        if folder.exists() {
            tracing::warn!(
                folder = %folder.display(),
                "there is the log of a matchmaker, but none is configured: its tickets wait until one is"
            );
        }
        return Ok(None);
    }
    let opening = Opening::of(&config.data, used::MATCHMAKER, config.log.retention, accepted)?;
    match opening.open() {
        Ok(log) => {
            used::note(installation, &config.data, used::MATCHMAKER)?;
            Ok(Some(Box::new(log)))
        }
        Err(problem) if !opening.is_expected() && is_lack_of_room(&problem) => {
            tracing::error!(%problem, "the matchmaker begins to work as soon as there is room");
            Ok(Some(Box::new(LateLog::new(move || opening.open()))))
        }
        Err(problem) => Err(problem.into()),
    }
}

fn is_lack_of_room(problem: &OpenError) -> bool {
    matches!(problem, OpenError::Io { source, .. } if lacks_room(source))
}

/// Replays its log, if it is configured.
pub(crate) async fn prepare(
    config: &Config,
    log: Option<Box<dyn Log>>,
    broker: &Handle<Broker>,
    accepted: Accepted,
) -> Result<Option<Prepared<Matchmaker>>, Failure> {
    let (Some(own), Some(log)) = (&config.matchmaker, log) else { return Ok(None) };
    let hooks = Hooks::new(hooks(own)).map_err(|error| Failure::of("cannot call hooks", error))?;
    let work = Arc::new(Work::new(broker.clone(), hooks));
    let parts = Parts {
        name: "matchmaker",
        log,
        codec: sortie_matchmaker::codec(),
        empty: Box::new(Matchmaker::new),
        performer: Arc::clone(&work) as _,
        clock: Arc::new(SystemClock::start()),
        entropy: Entropy::system()?,
        options: EngineOptions {
            snapshot_every_records: config.log.snapshot_every,
            // Hooks have limits of their own, for each queue; one for all would let them wait for each other.
            effects: EffectLimits { concurrent: MAX_PENDING_EFFECTS, ..EffectLimits::default() },
            ..EngineOptions::default()
        },
    };
    let live = machine_start::matchmaker_is_live;
    let prepared = machine_start::prepare("matchmaker", parts, live, accepted).await?;
    work.connect(prepared.handle());
    Ok(Some(prepared))
}

fn hooks(
    config: &MatchmakerConfig,
) -> BTreeMap<(Option<sortie_domain::ids::QueueId>, sortie_domain::ids::HookId), HookOptions> {
    config.hooks.iter().map(|(key, hook)| (key.clone(), hook_options(hook))).collect()
}

fn hook_options(hook: &HookConfig) -> HookOptions {
    let key = hook.key.as_ref().map(|key| {
        // Its characters were checked.
        Zeroizing::new(String::from_utf8_lossy(key.key.bytes()).into_owned())
    });
    HookOptions {
        url: hook.url.clone(),
        timeout: hook.timeout,
        concurrency: hook.concurrency as usize,
        breaker_failures: hook.breaker_failures,
        breaker_pause: hook.breaker_pause,
        key,
    }
}

/// The matchmaker.
pub(crate) struct MatchmakerRole {
    engine: Engine<Matchmaker>,
    /// Its configuration, if that is not in force yet.
    unconfigured: Option<Pending<Matchmaker>>,
    broker: Handle<Broker>,
}

impl MatchmakerRole {
    /// Lets it run, if it is configured.
    ///
    /// # Errors
    /// [`Failure`] if it refuses its configuration.
    pub(crate) async fn run(
        config: &Config,
        prepared: Option<Prepared<Matchmaker>>,
        broker: &Handle<Broker>,
    ) -> Result<Option<Self>, Failure> {
        let (Some(own), Some(prepared)) = (&config.matchmaker, prepared) else { return Ok(None) };
        let engine = prepared.run();
        let settings = own.settings.clone();
        let command = move || Command::Configure { settings: settings.clone() };
        let unconfigured = machine_start::configure("matchmaker", &engine.handle(), command).await?;
        Ok(Some(Self { engine, unconfigured, broker: broker.clone() }))
    }

    pub(crate) fn handle(&self) -> Handle<Matchmaker> {
        self.engine.handle()
    }
}

impl Role for MatchmakerRole {
    fn metrics(&self) -> Option<Arc<dyn Collector>> {
        Some(Arc::new(HookFaults(self.handle())))
    }

    /// Before the broker in an ordered end, because its effects end there.
    fn spawn(self: Box<Self>, supervisor: &mut Supervisor, limits: &Limits) {
        let Self { engine, unconfigured, broker } = *self;
        machine_start::spawn_configure(supervisor, unconfigured);
        let maker = engine.handle();
        let name = "the link of matchmaker and broker, and the faults of hooks";
        supervisor.spawn(name, Stage::Work, OnFailure::StopAll, |stop| async move {
            tokio::select! {
                () = sortie_matchmaker::follow(broker, maker.clone()) => {}
                () = sortie_matchmaker::report_faults(maker) => {}
                () = stop.stopped() => {}
            }
            Ok(())
        });
        let deadline = limits.grace;
        supervisor.spawn("the matchmaker", Stage::Work, OnFailure::StopAll, move |stop| async move {
            let handle = engine.handle();
            let ended = tokio::select! {
                ended = handle.ended() => ended,
                () = stop.stopped() => engine.shutdown(deadline).await,
            };
            ended.into_result()
        });
    }
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct OfHook {
    queue: String,
    hook: String,
    cause: &'static str,
}

/// What is wrong with the answers of hooks that form matches.
struct HookFaults(Handle<Matchmaker>);

#[async_trait]
impl Collector for HookFaults {
    async fn collect(&self, samples: &mut Samples) {
        let faults = self.0.query(|maker: &Matchmaker| {
            let faults = maker.faults().flat_map(|(queue, fault)| {
                let (queue, hook) = (queue.to_string(), fault.hook.to_string());
                fault.by_cause.iter().map(move |(cause, count)| {
                    (OfHook { queue: queue.clone(), hook: hook.clone(), cause: cause.name() }, *count)
                })
            });
            faults.collect::<Vec<_>>()
        });
        // Where the engine has ended, there is nothing to tell.
        if let Ok(faults) = faults.await {
            let help = "Matches of answers of hooks `form_match` that were ignored, since the start";
            samples.counters("hook_ignored_matches", help, None, faults);
        }
    }
}
