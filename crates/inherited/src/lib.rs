//! Which environment variables game servers inherit from the control plane or the sidecar.
//!
//! An allow-list and not a deny-list: any other variable may be a secret of ours, whatever name the configuration or
//! the platform gives it. Operators name the other variables that servers need, one by one; there are no patterns,
//! because a pattern would include variables that are added to the environment later.

use std::ffi::OsString;

/// Inherited by every server: locations of programs and files, and locale.
pub const INHERITED: [&str; 12] = [
    "PATH",
    "HOME",
    "TMPDIR",
    "TZ",
    "LANG",
    "LC_ALL",
    "LC_COLLATE",
    "LC_CTYPE",
    "LC_MESSAGES",
    "LC_MONETARY",
    "LC_NUMERIC",
    "LC_TIME",
];

/// Prefix of our own configuration variables. They are never inherited, even if they are named.
pub const OUR_PREFIX: &str = "SORTIE_";

/// Maximum number of variables that an operator may name.
pub const MAX_NAMED: usize = 1000;

/// Whether a variable can have this name.
#[must_use]
pub fn is_name(text: &str) -> bool {
    !text.is_empty() && !text.contains(['=', '\0'])
}

/// The variables of this process that a server inherits: [`INHERITED`] and those that are `named`.
pub fn inherited<'a>(
    named: impl IntoIterator<Item = &'a String>,
) -> impl Iterator<Item = (&'a str, OsString)> {
    let named = named.into_iter().map(String::as_str).filter(|name| !name.starts_with(OUR_PREFIX));
    INHERITED.into_iter().chain(named).filter_map(|name| Some((name, std::env::var_os(name)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_listed_and_named_variables_are_inherited() {
        // Set by cargo for tests.
        let named = ["CARGO_PKG_NAME", "NOT_SET", "", "A=B", "SORTIE_API_KEY"].map(str::to_owned);
        let names = |named: &[String]| inherited(named).map(|(name, _)| name.to_owned()).collect::<Vec<_>>();
        assert!(names(&[]).iter().all(|name| INHERITED.contains(&name.as_str())));
        assert!(names(&[]).contains(&"PATH".to_owned()));
        let more: Vec<_> = names(&named).into_iter().filter(|name| !names(&[]).contains(name)).collect();
        assert_eq!(more, ["CARGO_PKG_NAME"]);
    }

    #[test]
    fn a_name_is_not_empty_and_has_no_equals_sign_or_nul() {
        assert!(is_name("LD_LIBRARY_PATH") && is_name("é") && is_name("*"));
        assert!(!is_name("") && !is_name("A=B") && !is_name("A\0"));
    }
}
