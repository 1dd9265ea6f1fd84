//! Any file is a configuration, or every problem of it is told; the first byte chooses the format.
#![no_main]

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use sortie_config::{Config, Overrides};
use tempfile::TempDir;

static FOLDER: LazyLock<TempDir> = LazyLock::new(|| tempfile::tempdir().expect("a folder"));

fuzz_target!(|bytes: &[u8]| {
    let Some((format, text)) = bytes.split_first() else { return };
    let name = match format {
        b'j' => "sortie.json",
        b'y' => "sortie.yaml",
        _ => "sortie.toml",
    };
    let path: PathBuf = FOLDER.path().join(name);
    fs::write(&path, text).expect("written");
    match Config::load(Some(&path), std::iter::empty(), Overrides::default()) {
        Ok(config) => drop(format!("{config:?}")),
        Err(problems) => assert!(!problems.to_string().is_empty()),
    }
});
