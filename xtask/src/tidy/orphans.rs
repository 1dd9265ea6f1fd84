//! No file remains without a use.

use std::collections::BTreeSet;

use super::{Finding, Repository};
use crate::tree::folder_of;

/// The folder from which the wire crate's build script takes every `.proto` file.
const PROTOS: &str = "contract/proto/";
/// Each folder in it holds golden files of one kind.
const GOLDEN: &str = "contract/golden/";

/// Every Rust file is a target of its package or a module of one.
pub(super) fn every_module_is_reachable(repository: &Repository) -> Vec<Finding> {
    let targets = repository.packages.iter().flat_map(|package| &package.targets);
    let roots: BTreeSet<String> = targets.map(|target| target.src_path.clone()).collect();
    let mut reached = roots.clone();
    let mut to_read: Vec<String> = roots.iter().cloned().collect();
    while let Some(path) = to_read.pop() {
        let folder = module_folder(&path, roots.contains(&path));
        for name in repository.tree.text(&path).into_iter().flat_map(modules) {
            for file in [format!("{folder}/{name}.rs"), format!("{folder}/{name}/mod.rs")] {
                if repository.tree.text(&file).is_some() && reached.insert(file.clone()) {
                    to_read.push(file);
                }
            }
        }
    }
    let orphans = repository.tree.ending(".rs").filter(|(path, _)| !reached.contains(*path));
    orphans.map(|(path, _)| Finding::new(path, "belongs to no package: no `mod` leads here")).collect()
}

/// The folder of the modules that a file declares.
fn module_folder(path: &str, is_root: bool) -> String {
    if is_root || path.ends_with("/mod.rs") {
        folder_of(path).to_owned()
    } else {
        path.trim_end_matches(".rs").to_owned()
    }
}

/// Names after `mod`, of modules in files of their own. In formatted code they are on lines of their own.
fn modules(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| {
        let line = line.trim().strip_suffix(';')?;
        let (before, name) = line.rsplit_once("mod ")?;
        let visible = before.is_empty() || before.starts_with("pub");
        (visible && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')).then_some(name)
    })
}

/// Every `.proto` file is in the folder that is compiled.
pub(super) fn every_proto_is_compiled(repository: &Repository) -> Vec<Finding> {
    let astray = repository.tree.ending(".proto").filter(|(path, _)| !path.starts_with(PROTOS));
    astray.map(|(path, _)| Finding::new(path, format!("is not compiled: only {PROTOS} is"))).collect()
}

/// Every golden file is read by a test: one that reads its whole folder, or that names it, itself or through an index
/// next to it.
pub(super) fn every_golden_file_is_tested(repository: &Repository) -> Vec<Finding> {
    let golden = repository.tree.files().filter(|(path, _)| path.starts_with(GOLDEN));
    let untested = golden.filter(|(path, _)| !path.ends_with("/README.md") && !is_tested(repository, path));
    untested.map(|(path, _)| Finding::new(path, "no test reads this file")).collect()
}

fn is_tested(repository: &Repository, path: &str) -> bool {
    let folder = folder_of(path);
    let name = &path[folder.len() + 1..];
    let short = folder.trim_start_matches("contract/");
    let readers: Vec<_> = repository
        .tree
        .ending(".rs")
        .filter(|(source, text)| source.contains("/tests/") && text.contains(short))
        .map(|(_, text)| text)
        .collect();
    let read_by = |name: &str| readers.iter().any(|text| text.contains("read_dir") || text.contains(name));
    let mut siblings =
        repository.tree.files().filter(|(other, _)| folder_of(other) == folder && *other != path);
    let mut indexed =
        || siblings.any(|(other, text)| text.contains(name) && read_by(&other[folder.len() + 1..]));
    read_by(name) || indexed()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packages::Package;

    fn places(findings: &[Finding]) -> Vec<&str> {
        findings.iter().map(|finding| finding.place.as_str()).collect()
    }

    #[test]
    fn a_module_that_nothing_declares_is_found() {
        let repository = Repository::fake([
            ("crates/a/src/lib.rs", "mod inner;\n// mod lost;\npub(crate) mod other;\nmod tests {\n}\n"),
            ("crates/a/src/inner.rs", "    pub mod deep;"),
            ("crates/a/src/inner/deep.rs", ""),
            ("crates/a/src/other/mod.rs", "mod leaf;"),
            ("crates/a/src/other/leaf.rs", ""),
            ("crates/a/src/lost.rs", "mod deep;"),
            ("crates/a/src/lost/deep.rs", ""),
            ("crates/a/tests/it/main.rs", "mod harness;"),
            ("crates/a/tests/it/harness.rs", ""),
        ])
        .with(&[Package::fake("a", &[], &["crates/a/src/lib.rs", "crates/a/tests/it/main.rs"])]);
        let findings = every_module_is_reachable(&repository);
        assert_eq!(places(&findings), ["crates/a/src/lost.rs", "crates/a/src/lost/deep.rs"]);
    }

    #[test]
    fn a_proto_outside_the_compiled_folder_is_found() {
        let repository = Repository::fake([("contract/proto/a/b.proto", ""), ("contract/c.proto", "")]);
        assert_eq!(places(&every_proto_is_compiled(&repository)), ["contract/c.proto"]);
    }

    #[test]
    fn golden_files_that_no_test_reads_are_found() {
        let repository = Repository::fake([
            ("contract/golden/whole/1.hex", ""),
            ("contract/golden/indexed/index.json", "\"a.token\""),
            ("contract/golden/indexed/a.token", ""),
            ("contract/golden/indexed/b.token", ""),
            ("contract/golden/nobodys/1.hex", ""),
            ("contract/golden/nobodys/README.md", ""),
            ("crates/a/tests/it/whole.rs", "read_dir(contract(\"golden/whole\"))"),
            ("crates/a/tests/it/indexed.rs", "read(\"contract/golden/indexed\").join(\"index.json\")"),
            ("crates/a/src/lib.rs", "golden/nobodys read_dir"),
        ]);
        let findings = every_golden_file_is_tested(&repository);
        assert_eq!(places(&findings), ["contract/golden/indexed/b.token", "contract/golden/nobodys/1.hex"]);
    }
}
