//! `sortie key`: API keys.

use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::json;

use super::config;
use super::output::{Column, items, line, note};
use crate::api_keys::{self, Listed};
use crate::cli::{self, KeyAction, KeyPlace, Source};
use crate::failure::Failure;

const COLUMNS: &[Column] = &[
    ("NAME", "/name"),
    ("PERMISSIONS", "/permissions"),
    ("FLEETS", "/fleets"),
    ("CREATED", "/created_at"),
    ("SOURCE", "/source"),
];

pub(crate) fn run(options: cli::Key) -> Result<ExitCode, Failure> {
    match options.action {
        KeyAction::Create(cli::KeyCreate { name, permissions, fleets, place }) => {
            let found = Place::find(&place)?;
            let key = api_keys::create(&found.data, &name, &permissions, &fleets, &found.names())?;
            if place.json {
                line(json!({ "name": name, "key": key }))?;
            } else {
                line(format_args!(
                    "{key}\nThis is the only time it is shown. Send it as `authorization: Bearer <key>`."
                ))?;
            }
        }
        KeyAction::List(place) => {
            let found = Place::find(&place)?;
            let all = api_keys::list(&found.data)?.into_iter().chain(found.configured);
            let all = all.map(serde_json::to_value).collect::<Result<Vec<_>, _>>()?;
            items(&all, COLUMNS, place.json)?;
        }
        KeyAction::Revoke(cli::KeyRevoke { name, place }) => {
            let found = Place::find(&place)?;
            api_keys::revoke(&found.data, &name, &found.names())?;
            if place.json {
                line(json!({ "name": name, "revoked": true }))?;
            } else {
                line(format_args!("the key {name:?} is revoked"))?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A data folder, and the keys that the configuration beside it has.
struct Place {
    data: PathBuf,
    configured: Vec<Listed>,
}

impl Place {
    /// With a data folder named, a configuration that is no good is in nobody's way.
    fn find(place: &KeyPlace) -> Result<Self, Failure> {
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
            fleets: Vec::new(),
            created_at: None,
            source: "config",
        });
        Ok(Self { configured: configured.collect(), data: config.data })
    }

    fn names(&self) -> Vec<String> {
        self.configured.iter().map(|key| key.name.clone()).collect()
    }
}
