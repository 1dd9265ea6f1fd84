//! Documents name only what exists, and can be found.

use std::collections::BTreeSet;

use super::{Finding, Repository};
use crate::tree::{folder_of, resolve};

/// Folders whose documents are checked; one is the root.
const FOLDERS: [&str; 3] = ["", "docs", "contract"];
/// Every document must be reachable from these.
const ENTRANCES: [&str; 2] = ["README.md", "ARCHITECTURE.md"];
/// Extensions that make a name without a folder a path.
const ENDINGS: [&str; 5] = [".md", ".rs", ".proto", ".toml", ".yaml"];
/// They look like paths of this repository but are not.
const NO_PATHS: [&str; 2] = ["application/json", "sortie.toml"];

/// Every path in a document's code spans and links exists.
pub(super) fn named_paths_exist(repository: &Repository) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (document, text) in documents(repository) {
        for mention in mentions(text) {
            if mention.targets(document).iter().all(|path| !repository.tree.has(path)) {
                findings.push(Finding::new(document, format!("there is no `{}`", mention.path())));
            }
        }
    }
    findings
}

/// Every document is linked from one that can be found.
pub(super) fn every_document_can_be_found(repository: &Repository) -> Vec<Finding> {
    let mut found: BTreeSet<String> = ENTRANCES.map(str::to_owned).into();
    let mut to_read: Vec<String> = found.iter().cloned().collect();
    while let Some(document) = to_read.pop() {
        let text = repository.tree.text(&document).unwrap_or_default();
        for target in mentions(text).flat_map(|mention| mention.targets(&document)) {
            // Naming a folder counts as naming its README.
            for path in [format!("{target}/README.md"), target] {
                if path.ends_with(".md")
                    && repository.tree.text(&path).is_some()
                    && found.insert(path.clone())
                {
                    to_read.push(path);
                }
            }
        }
    }
    let all = repository.tree.ending(".md").filter(|(path, _)| !found.contains(*path));
    all.map(|(path, _)| Finding::new(path, format!("no way leads here from {}", ENTRANCES.join(" or "))))
        .collect()
}

fn documents(repository: &Repository) -> impl Iterator<Item = (&str, &str)> {
    repository.tree.ending(".md").filter(|(path, _)| FOLDERS.contains(&folder_of(path)))
}

/// A path in a document.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mention<'a> {
    /// In a code span: relative to the root, or to the document's folder.
    Span(&'a str),
    /// In a link: relative to the document's folder.
    Link(&'a str),
}

impl<'a> Mention<'a> {
    const fn path(self) -> &'a str {
        match self {
            Self::Span(path) | Self::Link(path) => path,
        }
    }

    /// The paths that it may mean.
    fn targets(self, document: &str) -> Vec<String> {
        let here = resolve(folder_of(document), self.path());
        let from_root = matches!(self, Self::Span(_)).then(|| resolve("", self.path())).flatten();
        here.into_iter().chain(from_root).collect()
    }
}

/// The paths that a document mentions outside its code blocks.
fn mentions(text: &str) -> impl Iterator<Item = Mention<'_>> {
    let mut in_block = false;
    let prose = text.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        in_block ^= fence;
        !in_block && !fence
    });
    prose.flat_map(|line| {
        let spans = line.split('`').skip(1).step_by(2).filter_map(path_in_span).map(Mention::Span);
        let links = line.split("](").skip(1).filter_map(path_in_link).map(Mention::Link);
        spans.chain(links)
    })
}

/// The part of a code span that is a path, up to the first placeholder; `None` if it is something else.
fn path_in_span(span: &str) -> Option<&str> {
    let is_path = |byte: u8| byte.is_ascii_alphanumeric() || b"_-./".contains(&byte);
    let stop = span.find(['<', '{', '*', '…']);
    let path = stop.map_or(span, |stop| &span[..stop]);
    let path = if stop.is_some() { path.rsplit_once('/')?.0 } else { path };
    let begins = path.starts_with(|first: char| first.is_ascii_alphabetic())
        || (path.starts_with('.') && path.contains('/'));
    let looks = path.contains('/') || stop.is_some() || ENDINGS.iter().any(|ending| path.ends_with(ending));
    (begins && looks && path.bytes().all(is_path) && !NO_PATHS.contains(&path)).then_some(path)
}

/// The file of a link's target; `None` for a target outside the repository or within the document.
fn path_in_link(rest: &str) -> Option<&str> {
    let target = rest.split([')', '#', ' ']).next()?;
    (!target.is_empty() && !target.contains(':')).then_some(target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_is_not_there_is_found() {
        let repository = Repository::fake([
            ("README.md", "see `crates/a/src/lib.rs`, `crates/b`, `GET /v1/a` and [this](docs/c.md#top)"),
            (
                "docs/a.md",
                "`b.md` and `crates/a` and `crates/<name>/x` and [up](../README.md), [web](https://a.b/c)",
            ),
            ("docs/deep/x.md", "`not/held/to/this`"),
            ("crates/a/src/lib.rs", ""),
        ]);
        let findings = named_paths_exist(&repository);
        let problems: Vec<_> = findings.iter().map(ToString::to_string).collect();
        assert_eq!(
            problems,
            [
                "README.md: there is no `crates/b`",
                "README.md: there is no `docs/c.md`",
                "docs/a.md: there is no `b.md`"
            ]
        );
    }

    #[test]
    fn code_blocks_and_things_that_are_not_paths_are_skipped() {
        let text = "a `/v1/matches` and `10.0.0.0/8`, `sortie.toml`, `a b/c`, `http://x/y`, `<data>/log`, `.proto`\n\
            ```text\n`crates/none`\n```\nafter `crates/some`, `.ci/run`, `contract/golden/<kind>.json` and `allow-list`";
        let found: Vec<_> = mentions(text).collect();
        assert_eq!(found, ["crates/some", ".ci/run", "contract/golden"].map(Mention::Span));
    }

    #[test]
    fn a_document_that_nothing_names_is_found() {
        let repository = Repository::fake([
            ("README.md", "[a](docs/a.md), `contract/`"),
            ("docs/a.md", "[b](b.md)"),
            ("docs/b.md", ""),
            ("docs/lost.md", "[b](b.md)"),
            ("contract/README.md", "`golden/x/`"),
            ("contract/golden/x/README.md", ""),
        ]);
        let findings = every_document_can_be_found(&repository);
        assert_eq!(
            findings.iter().map(|finding| finding.place.as_str()).collect::<Vec<_>>(),
            ["docs/lost.md"]
        );
    }
}
