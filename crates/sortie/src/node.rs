//! A whole control plane in one process. The base comes first: data folder, logs, broker, platforms. Then the roles, in
//! the order in which they rest on each other: dispatcher, matchmaker, gateway, metrics, API. They end the other way
//! round, by the stages of their tasks.

use std::net::SocketAddr;
use std::time::Duration;

use futures::FutureExt as _;
use sortie_config::{Config, FleetConfig};
use sortie_domain::broker::Broker;
use sortie_engine::Handle;
use sortie_engine::supervisor::{Outcome, Supervisor};
use sortie_serving::Limits;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::boot_clock;
use crate::broker;
use crate::edge::{self, Door};
use crate::failure::Failure;
use crate::keys::{self, Keys};
use crate::machine_start;
use crate::opened::Opened;
use crate::platforms::Platforms;
use crate::presence::{Presence, Report};
use crate::reconciliation;
use crate::role::{Role, spawn_work};
use crate::roles::api::{ApiParts, ApiRole};
use crate::roles::dispatch::DispatchRole;
use crate::roles::gateway::GatewayRole;
use crate::roles::logs::LogsRole;
use crate::roles::matchmaker::{self, MatchmakerRole};
use crate::roles::metrics::MetricsRole;
use crate::used::Accepted;

/// A control plane that serves.
pub(crate) struct Node {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// Where drivers come in, if not there.
    pub(crate) dispatch_address: Option<SocketAddr>,
    pub(crate) broker: Handle<Broker>,
    supervisor: Supervisor,
    shutdown_deadline: Duration,
}

impl Node {
    /// Starts everything. When it returns the port is being served.
    pub(crate) async fn start(config: &Config, accepted: Accepted) -> Result<Self, Failure> {
        let Opened { log, log_of_matchmaker, installation, presence, mut unwritten } =
            Opened::open(config, accepted).await?;
        let keys = Keys::load(config, &mut unwritten)?;
        let tls = edge::tls(config.tls.as_ref())?;
        let auth = keys::auth(config, &keys);
        let mut roles: Vec<Box<dyn Role>> = Vec::new();
        let dispatch = DispatchRole::open(config, &auth).await?;
        let dispatch_address = dispatch.as_ref().and_then(DispatchRole::address);
        roles.extend(dispatch.map(boxed));
        let listener = TcpListener::bind(config.listen)
            .await
            .map_err(|error| Failure::of(format!("cannot listen on {}", config.listen), error))?;
        let address = listener.local_addr()?;
        // Before anything is started that inherits the limit of open files.
        let open_files = roles.iter().map(|role| role.open_files()).sum();
        let limits = Limits { connections: edge::connections(config, open_files), ..edge::limits(config) };
        let mut platforms = Platforms::of(config);
        let prepared = broker::prepare(config, log, platforms.performer(), accepted).await?;
        let broker = prepared.handle();
        let matchmaker = matchmaker::prepare(config, log_of_matchmaker, &broker, accepted).await?;
        // Nothing refuses from here on because of what the logs say; so nothing outside was touched until now.
        boot_clock::note(&config.data);
        let url = config.public_url_or(address);
        let (tell, exits) = reconciliation::exits();
        let environment = |fleet: &FleetConfig| keys::server_environment(config, &keys, &url, fleet);
        platforms.open(config, installation.id(), &environment, &exits).await?;
        if unwritten.is_empty() {
            platforms.release();
        }
        let engine = prepared.run();
        tell.send_replace(Some(broker.clone()));
        let unconfigured = broker::configure(config, &broker).await?;
        let matchmaker = MatchmakerRole::run(config, matchmaker, &broker).await?;
        let maker = matchmaker.as_ref().map(MatchmakerRole::handle);
        roles.push(Box::new(LogsRole::new(&broker, maker.as_ref())));
        roles.extend(matchmaker.map(boxed));
        let closing = CancellationToken::new();
        let gateway = GatewayRole::open(config, (&keys, &auth), (&broker, maker.clone()), &closing)?;
        let leads_back = gateway.as_ref().map(GatewayRole::leads_back);
        roles.extend(gateway.map(boxed));
        roles.push(Box::new(MetricsRole::of(&auth, &roles)));
        let parts = ApiParts {
            auth,
            player_calls: keys.player_calls.clone(),
            broker: broker.clone(),
            matchmaker: maker,
            leads_back,
            descriptions: roles.iter().filter_map(|role| role.description()).collect(),
            checks: roles.iter().filter_map(|role| role.health()).collect(),
            closing: closing.clone(),
        };
        roles.push(Box::new(ApiRole::new(config, parts)));
        let door = Door {
            listener,
            tls,
            router: roles.iter().fold(axum::Router::new(), |router, role| router.merge(role.router())),
            visitors: edge::visitors(config, !config.dev),
            drained: roles.iter().filter_map(|role| role.drained()).collect(),
            limits: limits.clone(),
            closing,
        };
        let mut supervisor = Supervisor::new();
        for role in roles {
            role.spawn(&mut supervisor, &limits);
        }
        edge::spawn_listener(&mut supervisor, door);
        machine_start::spawn_configure(&mut supervisor, unconfigured);
        spawn_presence(&mut supervisor, presence, keys::report(config, &keys));
        if !unwritten.is_empty() {
            let release = unwritten.written().map(platforms.releasing());
            spawn_work(&mut supervisor, "what waits for room on the disk", release);
        }
        reconciliation::spawn(&mut supervisor, broker.clone(), &platforms, installation);
        platforms.spawn(&mut supervisor, config.dev);
        broker::spawn(&mut supervisor, engine, config.shutdown_deadline / 3);
        Ok(Self {
            address,
            dispatch_address,
            broker,
            supervisor,
            shutdown_deadline: config.shutdown_deadline,
        })
    }

    /// Serves until `stop`, then ends everything in order.
    pub(crate) async fn run(self, stop: impl Future<Output = ()>) -> Outcome {
        self.supervisor.run(stop, self.shutdown_deadline).await
    }
}

fn boxed(role: impl Role + 'static) -> Box<dyn Role> {
    Box::new(role)
}

/// Says what this process holds to `sortie key`, and that it runs to copies of its folder.
fn spawn_presence(
    supervisor: &mut Supervisor,
    presence: Option<Presence>,
    report: impl Fn() -> Report + Send + Sync + 'static,
) {
    let Some(presence) = presence else { return };
    spawn_work(supervisor, "the answers to `sortie key`", presence.answer(report));
}
