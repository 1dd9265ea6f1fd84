//! The table of keys against the reader, and against the document.

use std::path::Path;

use sortie_config::{EXAMPLE, reference, reference_markdown};

use crate::{FLEET, Folder};

/// A file in which the key at `path` has the value of that TOML text.
fn file_with(path: &str, value: &str) -> String {
    let path = path.replace("<name>", "other");
    match path.split_once("[].") {
        Some((list, key)) => format!("[[{list}]]\n{key} = {value}\n"),
        None => format!("{path} = {value}\n"),
    }
}

#[test]
fn every_key_of_the_reference_is_read_and_checked() {
    for key in reference() {
        // Nothing takes a list of tables.
        let text = file_with(key.path, "[{}]");
        let place = key.path.replace("<name>", "other").replace("[]", "[0]");
        let found = Folder::with("sortie.toml", &text).load(&[]).unwrap_err();
        let of_key: Vec<_> = found.list.iter().filter(|finding| finding.path == place).collect();
        assert_eq!(of_key.len(), 1, "{place} in {found}");
        assert!(!of_key[0].text.contains("unknown"), "{found}");
    }
}

#[test]
fn paths_are_unique_and_sections_are_not_scattered() {
    let mut sections: Vec<&str> =
        reference().iter().map(|key| key.path.rsplit_once('.').map_or("", |(section, _)| section)).collect();
    sections.dedup();
    let mut unique = sections.clone();
    unique.sort_unstable();
    unique.dedup();
    assert_eq!(unique.len(), sections.len(), "{sections:?}");
    let mut paths: Vec<_> = reference().iter().map(|key| key.path).collect();
    paths.sort_unstable();
    paths.dedup();
    assert_eq!(paths.len(), reference().len());
}

#[test]
fn the_document_is_the_rendering_of_the_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/config.md");
    let document = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        document == reference_markdown(),
        "docs/config.md is out of date; run: cargo run -- config reference --format markdown > docs/config.md"
    );
}

#[test]
fn the_example_of_the_document_is_good() {
    let config = Folder::with("sortie.toml", EXAMPLE).load(&[]).unwrap();
    assert_eq!((config.api_keys.len(), config.fleets.len()), (1, 1));
    assert!(!config.needs_api_key() && config.needs_netcode_key());
    assert!(Folder::with("sortie.toml", FLEET).load(&[]).unwrap().needs_api_key());
}
