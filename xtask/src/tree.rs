//! The files of the repository that people write.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{fs, io};

/// Folders without files written by people, wherever they are.
const SKIPPED: [&str; 3] = [".git", "target", "node_modules"];
/// Folders that running Sortie creates at the root.
const SKIPPED_AT_ROOT: [&str; 1] = ["data"];

/// Files by their path from the root, with slashes, and their text.
#[derive(Clone, Default, Debug)]
pub(crate) struct Tree {
    files: BTreeMap<String, String>,
}

impl Tree {
    /// Reads the repository. Invalid UTF-8 is replaced.
    pub(crate) fn read() -> io::Result<Self> {
        let mut tree = Self::default();
        tree.read_folder(&root(), "")?;
        Ok(tree)
    }

    fn read_folder(&mut self, folder: &Path, prefix: &str) -> io::Result<()> {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = format!("{prefix}{name}");
            let kind = entry.file_type()?;
            let skipped = SKIPPED.contains(&name.as_str())
                || (SKIPPED_AT_ROOT.contains(&path.as_str()) && kind.is_dir());
            if kind.is_dir() && !skipped {
                self.read_folder(&entry.path(), &format!("{path}/"))?;
            } else if kind.is_file() {
                self.files.insert(path, String::from_utf8_lossy(&fs::read(entry.path())?).into_owned());
            }
        }
        Ok(())
    }

    /// Every file, by path.
    pub(crate) fn files(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files.iter().map(|(path, text)| (path.as_str(), text.as_str()))
    }

    /// Files whose path ends with `suffix`.
    pub(crate) fn ending(&self, suffix: &str) -> impl Iterator<Item = (&str, &str)> {
        self.files().filter(move |(path, _)| path.ends_with(suffix))
    }

    /// The text of one file.
    pub(crate) fn text(&self, path: &str) -> Option<&str> {
        self.files.get(path).map(String::as_str)
    }

    /// Whether a file or a folder exists at `path`.
    pub(crate) fn has(&self, path: &str) -> bool {
        let folder = format!("{path}/");
        self.files.contains_key(path)
            || self.files.range(folder.clone()..).next().is_some_and(|(file, _)| file.starts_with(&folder))
    }
}

#[cfg(test)]
impl<const N: usize> From<[(&str, &str); N]> for Tree {
    fn from(files: [(&str, &str); N]) -> Self {
        Self { files: files.map(|(path, text)| (path.to_owned(), text.to_owned())).into() }
    }
}

/// The repository's root folder.
pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

/// The folder of `path`; empty at the root.
pub(crate) fn folder_of(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// `relative` from `folder`, with `.` and `..` resolved; `None` if that leaves the repository.
pub(crate) fn resolve(folder: &str, relative: &str) -> Option<String> {
    let mut parts: Vec<&str> = Vec::new();
    for part in folder.split('/').chain(relative.split('/')) {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_their_folders_are_there_and_nothing_else_is() {
        let tree = Tree::from([("crates/a/src/lib.rs", ""), ("docs/a.md", "")]);
        assert!(tree.has("crates/a") && tree.has("crates") && tree.has("docs/a.md"));
        assert!(!tree.has("crate") && !tree.has("docs/b.md") && !tree.has("crates/a/src/lib.r"));
    }

    #[test]
    fn relative_paths_are_resolved() {
        assert_eq!(resolve("docs", "../contract/./a.md").as_deref(), Some("contract/a.md"));
        assert_eq!(resolve("", "../a"), None);
    }

    #[test]
    fn the_repository_can_be_read() {
        let tree = Tree::read().unwrap();
        assert!(tree.text("Cargo.toml").is_some_and(|text| text.contains("[workspace]")));
        assert!(tree.has("xtask/src") && !tree.has("target") && !tree.has(".git"));
    }
}
