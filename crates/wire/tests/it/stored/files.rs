//! Golden files as text and as bytes.

use std::fs;
use std::path::PathBuf;

pub(crate) fn contract(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../contract").join(path)
}

pub(crate) fn golden(folder: &str, file: &str) -> String {
    let text = fs::read_to_string(contract(folder).join(file));
    text.unwrap_or_default().trim_end().to_owned()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    let lines = bytes.chunks(48).map(|chunk| chunk.iter().map(|byte| format!("{byte:02x}")).collect());
    lines.collect::<Vec<String>>().join("\n")
}

pub(crate) fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<char> = text.chars().filter(|character| !character.is_whitespace()).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(&pair.iter().collect::<String>(), 16).unwrap()).collect()
}

/// Compares every `(file, content)` and shows all that differ in full, ready to be read or copied.
pub(crate) fn assert_golden(folder: &str, documents: Vec<(String, String)>) {
    let differing = documents.into_iter().filter(|(file, content)| golden(folder, file) != *content);
    let shown: Vec<String> = differing.map(|(file, content)| format!("=== {file}\n{content}")).collect();
    assert!(shown.is_empty(), "not as in contract/{folder}:\n{}", shown.join("\n"));
}
