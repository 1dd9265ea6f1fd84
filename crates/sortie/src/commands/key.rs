//! `sortie key`: API keys.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::json;

use super::config;
use super::output::{Column, items, line, note};
use crate::api_keys::{self, Listed};
use crate::cli::{self, KeyAction, KeyPlace, Source};
use crate::failure::Failure;
use crate::installation;
use crate::presence::{self, Report};

const COLUMNS: &[Column] = &[
    ("NAME", "/name"),
    ("PERMISSIONS", "/permissions"),
    ("FLEETS", "/fleets"),
    ("CREATED", "/created_at"),
    ("SOURCE", "/source"),
];

pub(crate) async fn run(options: cli::Key) -> Result<ExitCode, Failure> {
    match options.action {
        KeyAction::Create(cli::KeyCreate { name, permissions, fleets, place }) => {
            let found = Place::find(&place)?;
            let key = api_keys::create(&found.data, &name, &permissions, &fleets, &found.names())?;
            let running = Running::ask(&found.data).await;
            if place.json {
                line(json!({ "name": name, "key": key, "running": running.of(&name) }))?;
            } else {
                line(format_args!(
                    "{key}\nIt is not shown again. Send it as `authorization: Bearer <key>`."
                ))?;
            }
            Ok(said(running.about(&name, true)))
        }
        KeyAction::List(place) => {
            let found = Place::find(&place)?;
            let stored = api_keys::list(&found.data)?;
            let names: Vec<_> = stored.iter().map(|key| key.name.clone()).collect();
            let all = stored.into_iter().chain(found.configured);
            let all = all.map(serde_json::to_value).collect::<Result<Vec<_>, _>>()?;
            items(&all, COLUMNS, place.json)?;
            Ok(said(Running::ask(&found.data).await.about_all(&names)))
        }
        KeyAction::Revoke(cli::KeyRevoke { name, place }) => {
            let found = Place::find(&place)?;
            api_keys::revoke(&found.data, &name, &found.names())?;
            let running = Running::ask(&found.data).await;
            if place.json {
                line(json!({ "name": name, "revoked": true, "running": running.of(&name) }))?;
            } else if let Ok(status) = running.about(&name, false) {
                line(format_args!("the key {name:?} is revoked{status}"))?;
            }
            Ok(said(running.about(&name, false)))
        }
    }
}

/// The exit code; a problem with the running control plane is printed on standard error.
fn said<T>(outcome: Result<T, String>) -> ExitCode {
    let Err(problem) = outcome else { return ExitCode::SUCCESS };
    eprintln!("sortie: {problem}");
    ExitCode::FAILURE
}

/// The control plane that uses a data folder.
enum Running {
    /// No control plane runs.
    Nobody,
    /// It answered with this report.
    Says(Report),
    /// The process that has locked the folder, and why it could not be asked.
    Silent(String, String),
}

impl Running {
    async fn ask(data: &Path) -> Self {
        let asked = match installation::id(data) {
            Ok(Some(id)) => presence::ask(&id, data).await.map_err(|error| error.to_string()),
            Ok(None) => Ok(None),
            Err(problem) => Err(problem.to_string()),
        };
        match (asked, presence::lock_holder(data)) {
            (Ok(Some(report)), _) if is_same(&report.data, data) => Self::Says(report),
            (_, None) => Self::Nobody,
            (Err(why), Some(process)) => Self::Silent(process, why),
            (Ok(_), Some(process)) => {
                Self::Silent(process, "it has an earlier version, or runs in its own container".to_owned())
            }
        }
    }

    /// Whether it accepts the key of this name, in one word.
    fn of(&self, name: &str) -> &'static str {
        match self {
            Self::Nobody => "none",
            Self::Silent(..) => "unknown",
            Self::Says(report) if report.keys.iter().any(|key| key == name) => "accepts",
            Self::Says(_) => "refuses",
        }
    }

    /// Whether it accepts the key of this name; an error if that contradicts the file.
    fn about(&self, name: &str, in_file: bool) -> Result<String, String> {
        match self {
            Self::Nobody => Ok("; no control plane runs with this folder".to_owned()),
            Self::Silent(process, why) => Err(format!(
                "the file was changed, but process {process}, which uses the folder, could not be asked which keys it accepts \
                 ({why}): try the key, or restart the control plane"
            )),
            Self::Says(report) if report.keys.iter().any(|key| key == name) == in_file => {
                let does = if in_file { "accepts it" } else { "refuses it" };
                let dev =
                    if report.asks_for_keys { "" } else { ", and requires no keys in development mode" };
                Ok(format!("; the control plane (process {}) {does}{dev}", report.process))
            }
            Self::Says(report) => Err(format!(
                "the file was changed, but the control plane (process {}) {}{}",
                report.process,
                if in_file { "does not accept the key" } else { "still accepts the key: stop it" },
                why(report)
            )),
        }
    }

    /// Whether it accepts exactly the keys in the file.
    fn about_all(&self, in_file: &[String]) -> Result<(), String> {
        match self {
            Self::Nobody | Self::Silent(..) => Ok(()),
            Self::Says(report) if report.keys == in_file => Ok(()),
            Self::Says(report) => Err(format!(
                "the control plane (process {}) accepts other keys of the folder than those listed: {:?}{}",
                report.process,
                report.keys,
                why(report)
            )),
        }
    }
}

fn why(report: &Report) -> String {
    report.problem.as_ref().map(|problem| format!(" ({problem})")).unwrap_or_default()
}

/// Whether both paths lead to the same folder. A path from a container may not exist here, and then counts as the same.
fn is_same(one: &Path, other: &Path) -> bool {
    let real = |path: &Path| std::fs::canonicalize(path).ok();
    real(one).is_none() || real(one) == real(other)
}

/// A data folder, and the keys in the configuration.
pub(super) struct Place {
    pub(super) data: PathBuf,
    configured: Vec<Listed>,
}

impl Place {
    /// If the data folder is given, an invalid configuration is not an error.
    pub(super) fn find(place: &KeyPlace) -> Result<Self, Failure> {
        let source =
            Source { config: place.config.clone(), listen: None, data: place.data.clone(), dev: false };
        let config = match (config::load(&source), &place.data) {
            (Ok(config), _) => config,
            (Err(problem), Some(data)) => {
                note(format_args!("sortie: keys in the configuration are left out: {problem}"));
                return Ok(Self { data: data.clone(), configured: Vec::new() });
            }
            (Err(problem), None) => return Err(problem),
        };
        let configured = config.api_keys.iter().map(|key| Listed {
            name: key.name.clone(),
            permissions: key.permissions.iter().map(|permission| permission.name().to_owned()).collect(),
            fleets: key.fleets.iter().map(ToString::to_string).collect(),
            created_at: None,
            source: "config",
        });
        Ok(Self { configured: configured.collect(), data: config.data })
    }

    fn names(&self) -> Vec<String> {
        self.configured.iter().map(|key| key.name.clone()).collect()
    }
}
