//! `cargo xtask tidy`: rules of the repository that no compiler checks.
//!
//! Each rule is a function from files and packages to findings, so that its own test can show that it finds something.
//! The rules also run as a test, so nobody has to remember this command.

use std::fmt;

use crate::packages::{self, Package};
use crate::step::Stop;
use crate::tree::{Tree, root};

mod codes;
mod dependencies;
mod documents;
mod orphans;
mod sources;

/// The input of the rules.
pub(crate) struct Repository {
    tree: Tree,
    packages: Vec<Package>,
}

impl Repository {
    fn read() -> Result<Self, Stop> {
        let unreadable =
            |error| Stop::new(format!("{} cannot be read: {error}", root().display()), "Is it still there?");
        Ok(Self { tree: Tree::read().map_err(unreadable)?, packages: packages::read()? })
    }
}

/// A broken rule.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Finding {
    place: String,
    problem: String,
}

impl Finding {
    fn new(place: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { place: place.into(), problem: problem.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.problem)
    }
}

const RULES: [fn(&Repository) -> Vec<Finding>; 9] = [
    documents::named_paths_exist,
    documents::every_document_can_be_found,
    orphans::every_module_is_reachable,
    orphans::every_proto_is_compiled,
    orphans::every_golden_file_is_tested,
    dependencies::rooms_are_closed,
    dependencies::pure_crates_stay_pure,
    codes::every_error_code_is_documented,
    sources::sources_are_in_order,
];

fn findings(repository: &Repository) -> Vec<Finding> {
    RULES.iter().flat_map(|rule| rule(repository)).collect()
}

pub(crate) fn run() -> Result<(), Stop> {
    println!("\n== tidy");
    let findings = findings(&Repository::read()?);
    if findings.is_empty() {
        return Ok(());
    }
    let lines: Vec<_> = findings.iter().map(|finding| format!("  {finding}")).collect();
    let problem = format!("{} things are not as they should be:\n{}", findings.len(), lines.join("\n"));
    Err(Stop::new(problem, "Run `cargo xtask tidy` again after a change."))
}

#[cfg(test)]
impl Repository {
    fn fake<const N: usize>(files: [(&str, &str); N]) -> Self {
        Self { tree: Tree::from(files), packages: Vec::new() }
    }

    fn with(self, packages: &[Package]) -> Self {
        Self { packages: packages.to_vec(), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_repository_is_tidy() {
        let findings = findings(&Repository::read().unwrap());
        let lines: Vec<_> = findings.iter().map(ToString::to_string).collect();
        assert!(findings.is_empty(), "\n{}", lines.join("\n"));
    }
}
