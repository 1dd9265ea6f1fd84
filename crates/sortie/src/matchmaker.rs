//! The matchmaker beside the broker: a machine of its own with a log of its own, joined to the broker by commands.
//!
//! It runs only where it is configured. Without it matches come from whoever makes them, through the API.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sortie_config::{Config, HookConfig, MatchmakerConfig};
use sortie_domain::broker::Broker;
use sortie_domain::matchmaking::{Command, Matchmaker};
use sortie_engine::effects::MAX_PENDING_EFFECTS;
use sortie_engine::log::create_folder;
use sortie_engine::supervisor::{OnFailure, Stage, Supervisor};
use sortie_engine::{EffectLimits, EmbeddedLog, Engine, EngineOptions, Entropy, Handle, Parts, SystemClock};
use sortie_matchmaker::{HookOptions, Hooks, Work};
use zeroize::Zeroizing;

use crate::failure::Failure;
use crate::machine_start::{self, Pending};
use crate::node::outcome;
use crate::used::{self, Accepted};

/// The folder of its log, within the data folder.
pub(crate) const FOLDER: &str = "matchmaker";

fn folder(config: &Config) -> PathBuf {
    config.data.join(FOLDER)
}

/// Opens its log, if it is configured. Before the broker starts, which a log that is refused must not have let act.
pub(crate) fn open(config: &Config, accepted: Accepted) -> Result<Option<EmbeddedLog>, Failure> {
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
    create_folder(&folder)
        .map_err(|error| Failure::of(format!("cannot create {}", folder.display()), error))?;
    let options = used::options(&config.data, used::MATCHMAKER, config.log.retention, accepted)?;
    let log = EmbeddedLog::open(&folder, options)?;
    used::note(&config.data, used::MATCHMAKER)?;
    Ok(Some(log))
}

/// Starts it on its log, if it is configured; also gives its configuration, if that is not in force yet.
pub(crate) async fn start(
    config: &Config,
    log: Option<EmbeddedLog>,
    broker: &Handle<Broker>,
    accepted: Accepted,
) -> Result<(Option<Engine<Matchmaker>>, Option<Pending<Matchmaker>>), Failure> {
    let (Some(own), Some(log)) = (&config.matchmaker, log) else { return Ok((None, None)) };
    let hooks = Hooks::new(hooks(own)).map_err(|error| Failure::of("cannot call hooks", error))?;
    let parts = Parts {
        name: "matchmaker",
        log: Box::new(log),
        codec: sortie_matchmaker::codec(),
        empty: Box::new(Matchmaker::new),
        performer: Arc::new(Work::new(broker.clone(), hooks)),
        clock: Arc::new(SystemClock::start()),
        entropy: Entropy::system()?,
        options: EngineOptions {
            snapshot_every_records: config.log.snapshot_every,
            // Hooks have limits of their own, for each queue; one for all would let them wait for each other.
            effects: EffectLimits { concurrent: MAX_PENDING_EFFECTS, ..EffectLimits::default() },
            ..EngineOptions::default()
        },
    };
    let engine =
        machine_start::start("matchmaker", parts, machine_start::matchmaker_is_live, accepted).await?;
    let settings = own.settings.clone();
    let command = move || Command::Configure { settings: settings.clone() };
    let unconfigured = machine_start::configure("matchmaker", &engine.handle(), command).await?;
    Ok((Some(engine), unconfigured))
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

/// Before the broker in an ordered end, because its effects end there.
pub(crate) fn spawn(
    supervisor: &mut Supervisor,
    engine: Engine<Matchmaker>,
    broker: Handle<Broker>,
    deadline: Duration,
) {
    let maker = engine.handle();
    let name = "the link of matchmaker and broker";
    supervisor.spawn(name, Stage::Work, OnFailure::StopAll, |stop| async move {
        tokio::select! {
            () = sortie_matchmaker::follow(broker, maker) => {}
            () = stop.stopped() => {}
        }
        Ok(())
    });
    supervisor.spawn("the matchmaker", Stage::Work, OnFailure::StopAll, move |stop| async move {
        let handle = engine.handle();
        outcome(tokio::select! {
            ended = handle.ended() => ended,
            () = stop.stopped() => engine.shutdown(deadline).await,
        })
    });
}
