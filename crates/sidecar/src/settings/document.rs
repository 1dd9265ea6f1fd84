//! The settings file as a tree of values: JSON with comments and trailing commas, or TOML, according to its extension.

use std::path::Path;

use serde_json::Value;
use sortie_config_file::{Format, parse, read_text};

/// The tree of the file at `path`, or what is wrong with it.
pub(super) fn read(path: &Path) -> Result<Value, String> {
    let extension = path.extension().unwrap_or_default().to_ascii_lowercase();
    let format = match extension.to_str() {
        Some("json" | "jsonc" | "json5") => Format::CommentedJson,
        Some("toml") => Format::Toml,
        _ => return Err("must be named .json or .toml, after its format".to_owned()),
    };
    parse(format, &read_text(path)?)
}
