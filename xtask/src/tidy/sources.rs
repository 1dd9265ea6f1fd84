//! Rust files are short, finished, and wait for events instead of sleeping.

use super::{Finding, Repository};

/// Maximum length of a Rust file, in lines.
const MAX_LINES: usize = 800;

/// Patterns that are forbidden in Rust files, and why. Assembled, so that this file does not contain them.
const BANNED: [(&str, &str); 4] = [
    (concat!("to", "do!("), "finish it, or write down elsewhere what is left to do"),
    (concat!("unimple", "mented!("), "finish it, or write down elsewhere what is left to do"),
    (concat!("#[ig", "nore"), "a test that does not run proves nothing: repair it or delete it"),
    (concat!("thread::sl", "eep"), "await the event"),
];

pub(super) fn sources_are_in_order(repository: &Repository) -> Vec<Finding> {
    repository.tree.ending(".rs").flat_map(|(path, text)| of_file(path, text)).collect()
}

fn of_file(path: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let lines = text.lines().count();
    if lines > MAX_LINES {
        findings.push(Finding::new(path, format!("has {lines} lines; beyond {MAX_LINES} it is two files")));
    }
    for (number, line) in text.lines().enumerate() {
        let code = line.split("//").next().unwrap_or_default();
        let banned = BANNED.iter().filter(|(pattern, _)| code.contains(pattern));
        findings.extend(banned.map(|(pattern, reason)| {
            Finding::new(format!("{path}:{}", number + 1), format!("`{pattern}`: {reason}"))
        }));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_files_are_found() {
        let (long, short) = ("\n".repeat(MAX_LINES + 1), "\n".repeat(MAX_LINES));
        let repository =
            Repository::fake([("a.rs", long.as_str()), ("b.rs", short.as_str()), ("c.md", &long)]);
        let findings = sources_are_in_order(&repository);
        assert_eq!(findings, [Finding::new("a.rs", "has 801 lines; beyond 800 it is two files")]);
    }

    #[test]
    fn every_banned_text_is_found_but_not_in_comments() {
        for (pattern, _) in BANNED {
            let text = format!("fn a() {{\n    // {pattern}\n    {pattern}\n}}\n");
            let findings = sources_are_in_order(&Repository::fake([("a.rs", text.as_str())]));
            assert_eq!(findings.len(), 1, "{findings:?}");
            assert_eq!(findings[0].place, "a.rs:3");
        }
    }
}
