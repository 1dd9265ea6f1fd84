//! The packages of the workspace and those next to it, as cargo sees them.

use std::path::Path;

use serde::Deserialize;

use crate::step::{Stop, cargo, shown};
use crate::tree::root;

/// One package.
#[derive(Clone, Deserialize, Debug)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) targets: Vec<Target>,
    dependencies: Vec<Dependency>,
}

/// A library, a binary, a test, a bench, an example or a build script.
#[derive(Clone, Deserialize, Debug)]
pub(crate) struct Target {
    pub(crate) name: String,
    pub(crate) kind: Vec<String>,
    /// Its root file, from the repository's root.
    pub(crate) src_path: String,
}

#[derive(Clone, Deserialize, Debug)]
struct Dependency {
    name: String,
    /// `None` for what the package itself uses, otherwise `dev` or `build`.
    kind: Option<String>,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

impl Package {
    /// What its library or binary depends on, directly.
    pub(crate) fn uses(&self) -> impl Iterator<Item = &str> {
        self.dependencies.iter().filter(|used| used.kind.is_none()).map(|used| used.name.as_str())
    }

    #[cfg(test)]
    pub(crate) fn fake(name: &str, uses: &[&str], roots: &[&str]) -> Self {
        let dependency = |name: &&str| Dependency { name: (*name).to_owned(), kind: None };
        let target = |path: &&str| Target {
            name: name.to_owned(),
            kind: vec!["lib".to_owned()],
            src_path: (*path).to_owned(),
        };
        Self {
            name: name.to_owned(),
            targets: roots.iter().map(target).collect(),
            dependencies: uses.iter().map(dependency).collect(),
        }
    }
}

/// The workspace, and the package that is built with flags of its own and therefore is not a member of it.
const MANIFESTS: [&str; 2] = ["Cargo.toml", FUZZ_MANIFEST];
/// The manifest of the fuzz targets.
pub(crate) const FUZZ_MANIFEST: &str = "fuzz/Cargo.toml";

/// Every package of the repository.
pub(crate) fn read() -> Result<Vec<Package>, Stop> {
    let lists = MANIFESTS.iter().map(|manifest| read_workspace(manifest)).collect::<Result<Vec<_>, _>>()?;
    Ok(lists.into_iter().flatten().collect())
}

fn read_workspace(manifest: &str) -> Result<Vec<Package>, Stop> {
    let root = root();
    let mut command = cargo();
    command
        .args(["metadata", "--no-deps", "--format-version", "1", "--manifest-path", manifest])
        .current_dir(&root);
    let output = command.output();
    let stop = |why: String| Stop::new(format!("`{}`: {why}", shown(&command)), "Look into Cargo.toml.");
    let output = output.map_err(|error| stop(error.to_string()))?;
    if !output.status.success() {
        return Err(stop(String::from_utf8_lossy(&output.stderr).into_owned()));
    }
    let metadata: Metadata =
        serde_json::from_slice(&output.stdout).map_err(|error| stop(error.to_string()))?;
    Ok(metadata.packages.into_iter().map(|package| from_root(package, &root)).collect())
}

/// Cargo gives absolute paths; everything here is named from the root.
fn from_root(mut package: Package, root: &Path) -> Package {
    for target in &mut package.targets {
        if let Ok(path) = Path::new(&target.src_path).strip_prefix(root) {
            target.src_path = path.to_string_lossy().replace('\\', "/");
        }
    }
    package
}
