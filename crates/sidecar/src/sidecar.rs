//! Assembles the parts according to the settings, and runs them.
//!
//! Anything that can be refused is refused before anything begins: [`Sidecar::start`] binds ports, opens folders and
//! parses the settings of every part.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::backend::{
    Backend, CatenaBackend, CatenaBackendError, CatenaBackendOptions, NoopBackend, NoopError, NoopOptions,
};
use crate::control::{ControlError, ControlKey, ControlOptions, ControlPort, SourceState, SourceStatus};
use crate::manager::{AtShutdown, Manager, ManagerOptions, OpenError, ShutdownReport};
use crate::resolver;
use crate::settings::{
    self, BackendSettings, Block, EventSourceSettings, Note, Settings, SettingsError, SidecarSettings,
    Variables,
};
use crate::source::agones::{self, AgonesOptions, AgonesSource};

use crate::source::process::ProcessSource;
use crate::source::virtual_server::VirtualServer;
use crate::source::{BadSetting, CatenaApiOptions, CatenaApiSource, EventSource, SourceError};

/// The part of the shutdown deadline reserved for the backend.
const FOR_THE_BACKEND: u32 = 3;

/// The alternative for an event source whose callers can send a key.
const OR_A_KEY: &str = ", or give ApiKeyFile, ApiKeyEnv or ApiKey, which game servers then send";

/// Why a sidecar cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A setting is invalid.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// An event source failed, e.g. because its port is not available.
    #[error("app.event_source.configs.{0}")]
    Source(#[from] SourceError),
    /// The sidecar's own port is not available, or must not be used.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// `DataFolder` is unusable.
    #[error("app.sidecar.DataFolder: {0}")]
    Folder(#[from] OpenError),
    /// The backend cannot be created.
    #[error("app.backend.configs.catena_backend.{0}")]
    CatenaBackend(#[from] CatenaBackendError),
    /// The file of matches is invalid.
    #[error("app.backend.configs.noop_backend.Matches: {0}")]
    NoopBackend(#[from] NoopError),
}

/// An address that something listens on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listening {
    /// The event source, or `debug_panel`.
    pub part: &'static str,
    /// `gRPC` or `HTTP`.
    pub protocol: &'static str,
    /// The address.
    pub address: SocketAddr,
}

impl fmt::Display for Listening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} on {}", self.part, self.protocol, self.address)
    }
}

/// A sidecar that has its ports and its folder, and serves nobody yet.
pub struct Sidecar {
    manager: Manager,
    sources: Vec<Box<dyn EventSource>>,
    statuses: watch::Sender<Vec<SourceStatus>>,
    control: Option<ControlPort>,
    listening: Vec<Listening>,
    at_shutdown: AtShutdown,
    deadline: Duration,
    /// Removed with the sidecar, if nothing in it is needed any more.
    temporary: Option<PathBuf>,
}

impl Sidecar {
    /// Assembles a sidecar according to the settings. `variables` is the environment; adds anything odd to `warnings`.
    ///
    /// # Errors
    /// [`StartError`] names the key.
    pub async fn start(
        settings: Settings,
        variables: &Variables,
        warnings: &mut Vec<Note>,
    ) -> Result<Self, StartError> {
        let shown = settings.shown();
        let Settings { event_sources, resolver, backend, sidecar, server_id, .. } = settings;
        let resolver_name = resolver.as_ref().map(|resolver| resolver.name().to_owned());
        let resolver = resolver::from_settings(resolver.as_ref(), variables)?;
        let manager = Manager::open(manager_options(&sidecar, server_id), open_backend(backend)?, resolver)?;
        let allowed_hosts = sidecar.allowed_hosts.clone();
        let pass_environment = sidecar.pass_environment.clone();
        let mut parts = Parts { pass_environment, allowed_hosts, sources: Vec::new(), listening: Vec::new() };
        for settings in event_sources {
            parts.add(settings, warnings).await?;
        }
        let Parts { sources, mut listening, pass_environment, allowed_hosts } = parts;
        let (statuses, status) = watch::channel(statuses(&sources, &listening));
        let at_shutdown = match sidecar.at_shutdown {
            settings::AtShutdown::End => AtShutdown::EndMatches,
            settings::AtShutdown::Keep => AtShutdown::KeepMatches,
        };
        let deadline = sidecar.shutdown_deadline;
        let control = match sidecar.debug_panel_addr {
            None => None,
            Some(listen) => {
                let mut options = ControlOptions::new(listen);
                options.api_key = sidecar.api_key.as_ref().and_then(|key| ControlKey::new(key.text()));
                options.allowed_hosts = allowed_hosts;
                options.grpc_port = port_of(&listening, "gRPC");
                options.http_port = port_of(&listening, "HTTP");
                options.environment = environment(&listening);
                options.pass_environment = pass_environment;
                options.stop_deadline = for_sources(deadline);
                options.keep_servers = at_shutdown == AtShutdown::KeepMatches;
                options.settings = shown;
                options.resolver = resolver_name;
                options.sources = status;
                let port = ControlPort::bind(options).await?;
                let address = port.address();
                listening.push(Listening { part: "debug_panel", protocol: "HTTP", address });
                Some(port)
            }
        };
        let temporary = sidecar.is_folder_temporary.then_some(sidecar.data_folder);
        Ok(Self { manager, sources, statuses, control, listening, at_shutdown, deadline, temporary })
    }

    /// The addresses it listens on.
    #[must_use]
    pub fn listening(&self) -> &[Listening] {
        &self.listening
    }

    /// Runs until `closing` is cancelled or nothing is left to do, and shuts down within `Shutdown.Deadline`.
    ///
    /// # Errors
    /// [`SourceError`] of the first event source that failed; everything else is shut down gracefully then, too.
    pub async fn run(self, closing: CancellationToken) -> Result<ShutdownReport, SourceError> {
        let Self { manager, sources, statuses, control, at_shutdown, deadline, temporary, .. } = self;
        // Cancelled by the signal, by the last event source, and by a failed one.
        let closing = closing.child_token();
        let mut tasks = JoinSet::new();
        for source in sources {
            let (manager, closing, name) = (manager.clone(), closing.clone(), source.name());
            tasks.spawn(async move { (name, source.run(manager, closing).await) });
        }
        let control = control.map(|control| tokio::spawn(control.run(manager.clone(), closing.clone())));
        let failed = tokio::select! {
            failed = until_done(&mut tasks, &statuses) => failed,
            () = closing.cancelled() => None,
        };
        closing.cancel();
        let began = Instant::now();
        let rest = async {
            let failed_at_the_end = until_done(&mut tasks, &statuses).await;
            if let Some(control) = control {
                let _ended = control.await;
            }
            failed_at_the_end
        };
        let late = timeout_at(began + for_sources(deadline), rest).await.unwrap_or_else(|_| {
            tracing::warn!("not every event source has ended in time: aborting the others");
            None
        });
        tasks.abort_all();
        let left = deadline.saturating_sub(began.elapsed());
        let report = manager.shutdown(at_shutdown, left).await;
        if let Some(folder) = temporary.filter(|_| report.undelivered == 0 && report.kept == 0)
            && let Err(error) = std::fs::remove_dir_all(&folder)
        {
            tracing::warn!(folder = %folder.display(), %error, "cannot remove a folder that is no longer needed");
        }
        failed.or(late).map_or(Ok(report), Err)
    }
}

/// Collects the event sources one by one.
struct Parts {
    pass_environment: Vec<String>,
    allowed_hosts: Vec<String>,
    sources: Vec<Box<dyn EventSource>>,
    listening: Vec<Listening>,
}

impl Parts {
    async fn add(
        &mut self,
        settings: EventSourceSettings,
        warnings: &mut Vec<Note>,
    ) -> Result<(), StartError> {
        let source: Box<dyn EventSource> = match settings {
            EventSourceSettings::CatenaApi(settings) => {
                let has_key = settings.api_key.is_some();
                let options = CatenaApiOptions {
                    grpc_listen: settings.grpc_listen_addr,
                    http_listen: settings.http_listen_addr,
                    api_key: settings.api_key.as_ref().and_then(|key| ControlKey::new(key.text())),
                    allowed_hosts: self.allowed_hosts.clone(),
                };
                let source = CatenaApiSource::bind(&options).await?;
                self.note(source.name(), source.grpc_address(), source.http_address());
                if !has_key {
                    self.warn_of_strangers(source.name(), OR_A_KEY, warnings);
                }
                Box::new(source)
            }
            EventSourceSettings::AgonesSdk(settings) => {
                let allowed_hosts = self.allowed_hosts.clone();
                let options = AgonesOptions { allowed_hosts, ..AgonesOptions::from(&*settings) };
                let source = AgonesSource::bind(options).await?;
                self.note(source.name(), source.grpc_address(), source.http_address());
                self.warn_of_strangers(source.name(), "", warnings);
                Box::new(source)
            }
            EventSourceSettings::VirtualServer(block) => {
                let settings = block.read(warnings)?;
                Box::new(VirtualServer::new(settings).map_err(|bad| at(&block, &bad))?)
            }
            EventSourceSettings::Process(block) => {
                let settings = block.read(warnings)?;
                let source = ProcessSource::new(settings).map_err(|bad| at(&block, &bad))?;
                Box::new(source.passing(&self.pass_environment))
            }
        };
        self.sources.push(source);
        Ok(())
    }

    /// Warns about ports without a key that other machines can reach: their callers use the sidecar's key for the
    /// backend.
    fn warn_of_strangers(&self, part: &'static str, or: &str, warnings: &mut Vec<Note>) {
        let open = |one: &&Listening| one.part == part && !one.address.ip().to_canonical().is_loopback();
        for Listening { protocol, address, .. } in self.listening.iter().filter(open) {
            let key = if *protocol == "gRPC" { "GrpcListenAddr" } else { "HttpListenAddr" };
            let text = format!(
                "{address} can be reached from other machines, whose callers need no key and use that of \
                 the backend: listen on localhost:{}{or}",
                address.port()
            );
            warnings.push(Note { path: format!("app.event_source.configs.{part}.{key}"), text });
        }
    }

    fn note(&mut self, part: &'static str, grpc: Option<SocketAddr>, http: Option<SocketAddr>) {
        let both = [("gRPC", grpc), ("HTTP", http)];
        let there = both.into_iter().filter_map(|(protocol, address)| Some((protocol, address?)));
        self.listening.extend(there.map(|(protocol, address)| Listening { part, protocol, address }));
    }
}

fn at(block: &Block, bad: &BadSetting) -> SettingsError {
    SettingsError::at(format!("{}.{}", block.path(), bad.key), bad.problem.clone())
}

fn manager_options(settings: &SidecarSettings, server_id: Option<String>) -> ManagerOptions {
    ManagerOptions {
        override_connection_details: settings.override_connection_details,
        auto_populate_ids: settings.auto_populate_ids,
        data: Some(settings.data_folder.clone()),
        server_id,
        silent_after: settings.silent_after,
    }
}

fn open_backend(settings: BackendSettings) -> Result<Arc<dyn Backend>, StartError> {
    Ok(match settings {
        BackendSettings::Catena(settings) => {
            let settings::CatenaBackendSettings { url, api_key, ca_file } = settings;
            Arc::new(CatenaBackend::new(&CatenaBackendOptions { url, api_key, ca: ca_file })?)
        }
        BackendSettings::Noop(settings) => {
            let settings::NoopBackendSettings { matches, repeat } = settings;
            Arc::new(NoopBackend::new(&NoopOptions { matches, repeat })?)
        }
    })
}

/// The part of the shutdown deadline for event sources.
fn for_sources(deadline: Duration) -> Duration {
    deadline - deadline / FOR_THE_BACKEND
}

/// Waits until every event source has ended, or one has failed.
async fn until_done(
    tasks: &mut JoinSet<(&'static str, Result<(), SourceError>)>,
    statuses: &watch::Sender<Vec<SourceStatus>>,
) -> Option<SourceError> {
    while let Some(ended) = tasks.join_next().await {
        match ended {
            Ok((name, Ok(()))) => set_state(statuses, name, SourceState::Done),
            Ok((name, Err(error))) => {
                set_state(statuses, name, SourceState::Failed(error.problem.clone()));
                return Some(error);
            }
            Err(error) => {
                let source_name = "event_source";
                return Some(SourceError { source_name, problem: format!("a bug: {error}") });
            }
        }
    }
    None
}

fn statuses(sources: &[Box<dyn EventSource>], listening: &[Listening]) -> Vec<SourceStatus> {
    let status = |name: &'static str| {
        let here = listening.iter().filter(|one| one.part == name);
        SourceStatus {
            name: name.to_owned(),
            listens: here.map(|one| format!("{} on {}", one.protocol, one.address)).collect(),
            state: SourceState::Running,
        }
    };
    sources.iter().map(|source| status(source.name())).collect()
}

fn set_state(statuses: &watch::Sender<Vec<SourceStatus>>, name: &str, state: SourceState) {
    tracing::info!(source = name, ?state, "an event source has ended");
    statuses.send_modify(|all| {
        if let Some(status) = all.iter_mut().find(|status| status.name == name) {
            status.state = state;
        }
    });
}

fn port_of(listening: &[Listening], protocol: &str) -> Option<u16> {
    listening.iter().find(|one| one.protocol == protocol).map(|one| one.address.port())
}

/// The variables that tell launched programs where the event sources are.
fn environment(listening: &[Listening]) -> BTreeMap<String, String> {
    let variable = |one: &Listening| {
        let address = reached_at(one.address);
        let (name, value) = match (one.part == agones::NAME, one.protocol) {
            (false, "gRPC") => ("CATENA_SIDECAR_GRPC", address.to_string()),
            (false, _) => ("CATENA_SIDECAR_HTTP", format!("http://{address}")),
            (true, "gRPC") => ("AGONES_SDK_GRPC_PORT", address.port().to_string()),
            (true, _) => ("AGONES_SDK_HTTP_PORT", address.port().to_string()),
        };
        (name.to_owned(), value)
    };
    listening.iter().map(variable).collect()
}

/// The address at which a program on this machine reaches a listener.
fn reached_at(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}
