//! The order of precedence: defaults, then the file, then the environment, then flags.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde_json::Map;

use crate::checked;
use crate::environment;
use crate::finding::{Findings, Problems};
use crate::model::Config;
use crate::section::{Reading, Section};
use crate::source;

/// The flags of the command line; `None` leaves a setting unchanged.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Overrides {
    /// For `listen`.
    pub listen: Option<SocketAddr>,
    /// For `data`; a relative path starts at the working folder.
    pub data: Option<PathBuf>,
    /// For `dev`.
    pub dev: Option<bool>,
}

impl Config {
    /// Reads and checks everything: the file at `path` (TOML, JSON or YAML by its extension), overridden by the
    /// variables `SORTIE_…` among `variables`, overridden by `overrides`. Without a path, the defaults are the base.
    /// Variables in [`crate::NOT_SETTINGS`] set nothing.
    ///
    /// # Errors
    /// [`Problems`]: all of them, unless a file cannot be read at all, which hides the rest.
    pub fn load(
        path: Option<&Path>,
        variables: impl Iterator<Item = (String, String)>,
        overrides: Overrides,
    ) -> Result<Self, Problems> {
        let mut tree = path.map_or_else(|| Ok(Map::new()), source::read)?;
        let variables: BTreeMap<_, _> = variables.collect();
        let mut problems = Findings::default();
        let mut origins = environment::apply(&mut tree, &variables, &mut problems);
        let flags = [
            ("listen", "--listen", overrides.listen.is_some()),
            ("data", "--data", overrides.data.is_some()),
            ("dev", "--dev", overrides.dev.is_some()),
        ];
        for (key, flag, _) in flags.into_iter().filter(|(_, _, given)| *given) {
            origins.insert(key.to_owned(), flag.to_owned());
        }
        let reading = Reading {
            base: path.and_then(Path::parent).map(Path::to_path_buf),
            origins,
            environment: variables,
            problems: RefCell::new(problems),
            warnings: RefCell::default(),
            remarks: RefCell::default(),
        };
        let config = checked::config(&Section::top(&reading, &tree), overrides);
        reading.problems.into_inner().problems()?;
        let warnings = reading.warnings.into_inner().into_list();
        let remarks = reading.remarks.into_inner().into_list();
        let internal = || Problems::one("configuration", "was not understood; this is a bug");
        config.map(|config| Config { warnings, remarks, ..config }).ok_or_else(internal)
    }
}
