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
                    "{key}\nThis is the only time it is shown. Send it as `authorization: Bearer <key>`."
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
            } else if let Ok(told) = running.about(&name, false) {
                line(format_args!("the key {name:?} is revoked{told}"))?;
            }
            Ok(said(running.about(&name, false)))
        }
    }
}

/// The code for what the running control plane holds: what is not as it should be is said on standard error.
fn said<T>(told: Result<T, String>) -> ExitCode {
    let Err(problem) = told else { return ExitCode::SUCCESS };
    eprintln!("sortie: {problem}");
    ExitCode::FAILURE
}

/// The control plane that runs with a data folder.
enum Running {
    /// There is none.
    Nobody,
    /// It says this.
    Says(Report),
    /// This process has locked the folder, and does not say anything for this reason.
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
                Self::Silent(process, "it is of an earlier version, or in a container of its own".to_owned())
            }
        }
    }

    /// Whether the key of this name is good there, in one word.
    fn of(&self, name: &str) -> &'static str {
        match self {
            Self::Nobody => "none",
            Self::Silent(..) => "unknown",
            Self::Says(report) if report.keys.iter().any(|key| key == name) => "accepts",
            Self::Says(_) => "refuses",
        }
    }

    /// What it does with the key of this name, which is in the file or not; an error if it does something else.
    fn about(&self, name: &str, in_file: bool) -> Result<String, String> {
        match self {
            Self::Nobody => Ok("; no control plane runs with this folder".to_owned()),
            Self::Silent(process, why) => Err(format!(
                "the file is changed, but process {process}, which uses the folder, could not be asked which keys it takes \
                 ({why}): try the key, or start the control plane anew"
            )),
            Self::Says(report) if report.keys.iter().any(|key| key == name) == in_file => {
                let does = if in_file { "takes it" } else { "refuses it" };
                let dev = if report.asks_for_keys {
                    ""
                } else {
                    ", and asks for no keys at all in development mode"
                };
                Ok(format!("; the control plane (process {}) {does}{dev}", report.process))
            }
            Self::Says(report) => Err(format!(
                "the file is changed, but the control plane (process {}) {}{}",
                report.process,
                if in_file { "does not take the key" } else { "still takes the key: stop it" },
                why(report)
            )),
        }
    }

    /// Whether it takes the keys that are in the file, and no others.
    fn about_all(&self, in_file: &[String]) -> Result<(), String> {
        match self {
            Self::Nobody | Self::Silent(..) => Ok(()),
            Self::Says(report) if report.keys == in_file => Ok(()),
            Self::Says(report) => Err(format!(
                "the control plane (process {}) takes other keys of the folder than these: {:?}{}",
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

/// Whether both paths lead to one folder. A container may have it at another path, so only what is there can tell.
fn is_same(one: &Path, other: &Path) -> bool {
    let real = |path: &Path| std::fs::canonicalize(path).ok();
    real(one).is_none() || real(one) == real(other)
}

/// A data folder, and the keys that the configuration beside it has.
pub(super) struct Place {
    pub(super) data: PathBuf,
    configured: Vec<Listed>,
}

impl Place {
    /// With a data folder named, a configuration that is no good is in nobody's way.
    pub(super) fn find(place: &KeyPlace) -> Result<Self, Failure> {
        let source =
            Source { config: place.config.clone(), listen: None, data: place.data.clone(), dev: false };
        let config = match (config::load(&source), &place.data) {
            (Ok(config), _) => config,
            (Err(problem), Some(data)) => {
                note(format_args!("sortie: keys of the configuration are left out: {problem}"));
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
