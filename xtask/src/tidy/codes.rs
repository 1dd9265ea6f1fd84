//! Error codes are a contract: each has a row in its document.

use std::collections::BTreeSet;

use sortie_domain::{broker, matchmaking};

use super::{Finding, Repository};

const DOCUMENT: &str = "contract/errors.md";
/// Contains a table `codes! { NAME = "code", Kind; … }`. It is read as text, because a dependency on the crate would
/// make this program wait for most of the workspace.
const API_TABLE: &str = "crates/api/src/codes.rs";

/// The codes of the machines and of the API have exactly one row each, and there are no other rows.
pub(super) fn every_error_code_is_documented(repository: &Repository) -> Vec<Finding> {
    let Some(table) = repository.tree.text(API_TABLE).map(api_codes).filter(|codes| !codes.is_empty()) else {
        return vec![Finding::new(API_TABLE, "the table `codes!` is not where it was")];
    };
    let mut codes: BTreeSet<&str> = refusals().collect();
    codes.extend(table);
    let rows = rows(repository.tree.text(DOCUMENT).unwrap_or_default());
    let mut seen = BTreeSet::new();
    let twice = rows.iter().filter(|row| !seen.insert(**row)).map(|row| format!("`{row}` has two rows"));
    let missing = codes.iter().filter(|code| !rows.contains(code)).map(|code| format!("`{code}` has no row"));
    let gone = rows.iter().filter(|row| !codes.contains(**row)).map(|row| format!("nothing returns `{row}`"));
    twice.chain(missing).chain(gone).map(|problem| Finding::new(DOCUMENT, problem)).collect()
}

/// Those of the machines, some possibly twice.
fn refusals() -> impl Iterator<Item = &'static str> {
    broker::Refusal::CODES.iter().chain(matchmaking::Refusal::CODES).copied()
}

fn api_codes(source: &str) -> Vec<&str> {
    let table = source.lines().skip_while(|line| *line != "codes! {").take_while(|line| *line != "}");
    table.filter_map(|line| line.split_once("= \"")?.1.split('"').next()).collect()
}

/// The first cells of rows that begin with a code span.
fn rows(document: &str) -> Vec<&str> {
    document.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_without_a_row_and_rows_without_a_code_are_found() {
        let codes: BTreeSet<_> = refusals().collect();
        let rows: String = codes.into_iter().map(|code| format!("| `{code}` | 400 |\n")).collect();
        let rows = rows.replace("| `no_fleet` | 400 |\n", "| `old` | 400 |\n") + "| `too_many` | 429 |\n";
        let table =
            "codes! {\n    /// A bug.\n    INTERNAL = \"internal\", Internal;\n}\nconst A: &str = \"b\";\n";
        let repository = Repository::fake([(DOCUMENT, rows.as_str()), (API_TABLE, table)]);
        let found: Vec<_> =
            every_error_code_is_documented(&repository).into_iter().map(|found| found.problem).collect();
        assert_eq!(
            found,
            [
                "`too_many` has two rows",
                "`internal` has no row",
                "`no_fleet` has no row",
                "nothing returns `old`"
            ]
        );
    }

    #[test]
    fn a_table_that_has_moved_is_noticed() {
        let repository = Repository::fake([(DOCUMENT, ""), (API_TABLE, "const CODES: [&str; 0] = [];")]);
        assert_eq!(every_error_code_is_documented(&repository)[0].place, API_TABLE);
    }
}
