//! The configuration file as one tree of values, whichever of the three formats it is in.

use std::path::Path;

use serde_json::{Map, Value};
use sortie_config_file::{Format, parse, read_text};

use crate::finding::Problems;

/// The tree of the file at `path`.
pub(crate) fn read(path: &Path) -> Result<Map<String, Value>, Problems> {
    let problem = |text: String| Problems::one(path.display().to_string(), text);
    let format = Format::of(path)
        .ok_or_else(|| problem("must be named .toml, .json, .yaml or .yml, after its format".to_owned()))?;
    let text = read_text(path).map_err(problem)?;
    match parse(format, &text).map_err(problem)? {
        Value::Object(tree) => Ok(tree),
        Value::Null => Ok(Map::new()),
        _ => Err(problem("must hold a table of settings at its top".to_owned())),
    }
}
