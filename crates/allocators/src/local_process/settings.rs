//! The settings of a fleet of local processes, and the environment of its servers.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use crate::{ServerEnvironment, StartOrder};

/// Time to exit for a server of a fleet that is no longer configured.
const UNCONFIGURED_STOP_GRACE: Duration = Duration::from_secs(10);
/// Size of the output kept of a server of a fleet that is no longer configured, in bytes.
const UNCONFIGURED_OUTPUT_LIMIT: u64 = 16 * 1024 * 1024;

/// How the servers of one fleet are run.
///
/// In `arguments` and the values of `environment`, `{port}`, `{server_id}` and `{fleet}` are replaced by those of the
/// server; any other brace stays as it is.
#[derive(Clone)]
pub struct LocalProcess {
    /// The game server: a path, or a name to look up in `PATH`. The process that it becomes is the server; processes
    /// that it leaves running when it exits are killed.
    pub path: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Added to its environment; may override anything except its own ids and port.
    pub environment: BTreeMap<String, String>,
    /// Variables of the control plane that it inherits in addition to those that every server does.
    pub pass_environment: Vec<String>,
    /// Its working folder; `None` for that of the control plane.
    pub working_folder: Option<PathBuf>,
    /// Its port is one of these, free for UDP and TCP. Fleets may share ports.
    pub ports: RangeInclusive<u16>,
    /// The address at which players reach it, if it reports none itself.
    pub address: IpAddr,
    /// Time from SIGTERM to SIGKILL, both to its whole process group.
    pub stop_grace: Duration,
    /// Size of the output that is kept, in bytes: the newest part.
    pub output_limit: u64,
    /// A server older than this is stopped.
    pub max_run_time: Duration,
    /// Interval between checks of each server's age.
    pub reaper_period: Duration,
}

impl fmt::Debug for LocalProcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalProcess")
            .field("path", &self.path)
            .field("arguments", &self.arguments)
            // Operators put credentials here: the names are enough.
            .field("environment", &self.environment.keys().collect::<Vec<_>>())
            .field("pass_environment", &self.pass_environment)
            .field("working_folder", &self.working_folder)
            .field("ports", &self.ports)
            .field("address", &self.address)
            .field("stop_grace", &self.stop_grace)
            .field("output_limit", &self.output_limit)
            .field("max_run_time", &self.max_run_time)
            .field("reaper_period", &self.reaper_period)
            .finish()
    }
}

/// One fleet of local processes.
#[derive(Clone, Debug)]
pub struct LocalFleet {
    /// How its servers are run.
    pub process: LocalProcess,
    /// What they are told about the control plane.
    pub environment: ServerEnvironment,
}

/// The settings for watching one running server.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    pub(super) stop_grace: Duration,
    pub(super) output_limit: u64,
    /// `None` if only the broker limits its age.
    pub(super) max_run_time: Option<Duration>,
    pub(super) reaper_period: Duration,
}

impl Terms {
    /// The terms of a fleet; fixed ones for a fleet that is no longer configured.
    pub(super) fn of(fleet: Option<&LocalFleet>) -> Self {
        match fleet {
            Some(LocalFleet { process, .. }) => Self {
                stop_grace: process.stop_grace,
                output_limit: process.output_limit,
                max_run_time: Some(process.max_run_time),
                reaper_period: process.reaper_period,
            },
            None => Self {
                stop_grace: UNCONFIGURED_STOP_GRACE,
                output_limit: UNCONFIGURED_OUTPUT_LIMIT,
                max_run_time: None,
                reaper_period: Duration::MAX,
            },
        }
    }
}

/// The values of the placeholders for one server.
pub(super) struct Placeholders<'a> {
    pub(super) order: &'a StartOrder,
    pub(super) port: u16,
}

impl Placeholders<'_> {
    /// `text` with every placeholder replaced. In one pass, so that a value that looks like a placeholder stays
    /// unchanged.
    pub(super) fn fill(&self, text: &str) -> String {
        let port = self.port.to_string();
        let values = [
            ("{port}", port.as_str()),
            ("{server_id}", self.order.server.as_str()),
            ("{fleet}", self.order.fleet.as_str()),
        ];
        let mut filled = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(brace) = rest.find('{') {
            filled.push_str(&rest[..brace]);
            rest = &rest[brace..];
            let (taken, value) = values
                .iter()
                .find(|(name, _)| rest.starts_with(name))
                .map_or((1, "{"), |(name, value)| (name.len(), *value));
            filled.push_str(value);
            rest = &rest[taken..];
        }
        filled.push_str(rest);
        filled
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use sortie_domain::ids::{AllocationId, FleetId, ServerId};

    #[test]
    fn placeholders_are_replaced_once_and_other_braces_are_left() {
        let order = StartOrder {
            allocation: AllocationId::new("allocation-1").unwrap(),
            server: ServerId::new("server-{port}").unwrap(),
            fleet: FleetId::new("eu").unwrap(),
        };
        let placeholders = Placeholders { order: &order, port: 7001 };
        assert_eq!(placeholders.fill("--port={port}"), "--port=7001");
        assert_eq!(placeholders.fill("{fleet}/{server_id}/{port}"), "eu/server-{port}/7001");
        assert_eq!(placeholders.fill(r#"{"port":{port},"é":{}}{"#), r#"{"port":7001,"é":{}}{"#);
        assert_eq!(placeholders.fill(""), "");
    }

    #[test]
    fn debug_output_holds_no_secret() {
        let environment = ServerEnvironment {
            api: "http://127.0.0.1:8080".to_owned(),
            api_key: Some(Arc::new(|_| "secret-api".to_owned())),
            ca: None,
            netcode_key: Some("secret-netcode".to_owned()),
            protocol_id: Some(7),
        };
        let process = LocalProcess {
            path: "/bin/game".into(),
            arguments: Vec::new(),
            environment: BTreeMap::from([("DATABASE_URL".to_owned(), "secret-database".to_owned())]),
            pass_environment: Vec::new(),
            working_folder: None,
            ports: 7000..=7009,
            address: IpAddr::from([127, 0, 0, 1]),
            stop_grace: Duration::ZERO,
            output_limit: 0,
            max_run_time: Duration::ZERO,
            reaper_period: Duration::ZERO,
        };
        let shown = format!("{:?}", LocalFleet { process, environment });
        assert!(!shown.contains("secret"), "{shown}");
        assert!(shown.contains("DATABASE_URL") && shown.contains("http://127.0.0.1:8080"), "{shown}");
    }
}
