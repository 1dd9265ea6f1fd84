//! Who may use whom. Only what a package itself depends on counts: tests may use anything.

use super::{Finding, Repository};
use crate::packages::Package;

/// Which of our own crates each of them may use.
const ROOMS: &[(&str, &[&str])] = &[
    ("sortie-domain", &[]),
    ("sortie-tokens", &[]),
    ("sortie-wire", &["sortie-domain"]),
    ("sortie-engine", &["sortie-domain", "sortie-retry"]),
    ("sortie-config", &["sortie-config-file", "sortie-domain", "sortie-inherited"]),
    ("sortie-identity", &["sortie-domain", "sortie-tls", "sortie-watched"]),
    ("sortie-testkit", &["sortie-domain"]),
    ("sortie-load", &["sortie-domain"]),
    ("sortie-replay", &["sortie-domain", "sortie-wire"]),
    // What game servers get of our environment, which is not a contract of ours.
    ("sortie-inherited", &[]),
    // Adapters never use each other.
    ("sortie-allocators", &["sortie-domain", "sortie-engine", "sortie-inherited"]),
    ("sortie-matchmaker", &["sortie-domain", "sortie-engine", "sortie-tls", "sortie-wire"]),
    (
        "sortie-api",
        &[
            "sortie-domain",
            "sortie-engine",
            "sortie-identity",
            "sortie-openapi",
            "sortie-serving",
            "sortie-wire",
        ],
    ),
    (
        "sortie-gateway",
        &[
            "sortie-domain",
            "sortie-engine",
            "sortie-identity",
            "sortie-openapi",
            "sortie-serving",
            "sortie-wire",
            "sortie-tokens",
        ],
    ),
    // How to read a file of settings, which is not part of our contracts.
    ("sortie-config-file", &[]),
    // Ports for devices, which know nothing of matches.
    ("sortie-dispatch", &["sortie-config-file", "sortie-metrics", "sortie-openapi", "sortie-serving"]),
    // A driver of those ports, on the other side of the contract: it has the frames only.
    ("sortie-tunnel", &["sortie-dispatch", "sortie-retry", "sortie-tls"]),
    // What roles tell, which is not part of our contracts.
    ("sortie-metrics", &["sortie-openapi", "sortie-serving"]),
    // Loads a control plane from outside, so it may use what its users may, and the roles that it measures alone.
    (
        "sortie-bench",
        &[
            "sortie-allocators",
            "sortie-dispatch",
            "sortie-config-file",
            "sortie-domain",
            "sortie-engine",
            "sortie-load",
            "sortie-serving",
            "sortie-wire",
        ],
    ),
    // When to try again, and when a file has changed, which is not part of our contracts.
    ("sortie-retry", &[]),
    ("sortie-watched", &[]),
    // How to describe routes, which is not part of our contracts.
    ("sortie-openapi", &[]),
    // How to serve on a port, which is not part of our contracts.
    ("sortie-serving", &["sortie-wire"]),
    // How to speak TLS, which is not part of our contracts.
    ("sortie-tls", &["sortie-watched"]),
    // A game of anybody's: it has the public contracts only.
    ("sortie-arena", &["sortie-retry", "sortie-tls"]),
    (
        "sortie-sidecar",
        &[
            "sortie-config-file",
            "sortie-inherited",
            "sortie-retry",
            "sortie-serving",
            "sortie-tls",
            "sortie-wire",
        ],
    ),
    (
        "sortie-fuzz",
        &[
            "sortie-config",
            "sortie-dispatch",
            "sortie-domain",
            "sortie-engine",
            "sortie-tokens",
            "sortie-wire",
        ],
    ),
    ("xtask", &["sortie-domain", "sortie-testkit"]),
];
/// Puts everything together.
const BINARY: &str = "sortie";
/// Only simulations break rules, so nothing that serves may use this.
const NEVER_SERVES: &str = "sortie-testkit";

/// What the crates without I/O may use at all.
const PURE: &[(&str, &[&str])] = &[
    ("sortie-domain", &["imbl", "jmespath", "siphasher"]),
    ("sortie-tokens", &["base16ct", "base64ct", "chacha20poly1305", "zeroize"]),
];

/// No crate uses one of ours that it has no business with.
pub(super) fn rooms_are_closed(repository: &Repository) -> Vec<Finding> {
    repository.packages.iter().flat_map(room_is_closed).collect()
}

fn room_is_closed(package: &Package) -> Vec<Finding> {
    let ours = |name: &&str| name.starts_with("sortie");
    let place = format!("package {}", package.name);
    let allowed = ROOMS.iter().find(|(name, _)| *name == package.name).map(|(_, allowed)| *allowed);
    let may = |used: &str| match allowed {
        Some(allowed) => allowed.contains(&used),
        None => package.name == BINARY && used != NEVER_SERVES,
    };
    if allowed.is_none() && package.name != BINARY {
        let problem = "is new: say in xtask/src/tidy/dependencies.rs which of our crates it may use";
        return vec![Finding::new(place, problem)];
    }
    let strangers = package.uses().filter(ours).filter(|used| !may(used));
    let strangers = strangers.map(|used| format!("may not use {used}"));
    let unused =
        allowed.into_iter().flatten().filter(|allowed| !package.uses().any(|used| used == **allowed));
    let unused = unused.map(|allowed| {
        format!("does not use {allowed}: take it out of xtask/src/tidy/dependencies.rs and ARCHITECTURE.md")
    });
    strangers.chain(unused).map(|problem| Finding::new(place.clone(), problem)).collect()
}

/// The pure crates are `no_std` and use only what is known to be pure.
pub(super) fn pure_crates_stay_pure(repository: &Repository) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (name, allowed) in PURE {
        let Some(package) = repository.packages.iter().find(|package| package.name == *name) else {
            findings.push(Finding::new(format!("package {name}"), "is missing"));
            continue;
        };
        let strangers = package.uses().filter(|used| !allowed.contains(used));
        findings.extend(strangers.map(|used| {
            let problem = format!("is pure and may not use {used}; it may use {}", allowed.join(", "));
            Finding::new(format!("package {name}"), problem)
        }));
        let library = package.targets.iter().find(|target| target.kind.iter().any(|kind| kind == "lib"));
        let path = library.map_or("src/lib.rs", |library| &library.src_path);
        let text = repository.tree.text(path).unwrap_or_default();
        if !text.lines().any(|line| line == "#![no_std]") {
            findings.push(Finding::new(path, "is pure, so it has to begin with `#![no_std]`"));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(findings: &[Finding]) -> Vec<String> {
        findings.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_crate_in_a_room_that_is_not_its_own_is_found() {
        let packages = [
            Package::fake("sortie-api", &["sortie-domain", "sortie-gateway", "axum"], &[]),
            Package::fake("sortie-arena", &["sortie-retry", "sortie-tls", "sortie-wire"], &[]),
            Package::fake("sortie", &["sortie-api", "sortie-testkit"], &[]),
            Package::fake("sortie-new", &[], &[]),
        ];
        let found = problems(&rooms_are_closed(&Repository::fake([]).with(&packages)));
        let found: Vec<_> = found.iter().filter(|problem| !problem.contains("does not use")).collect();
        assert_eq!(
            found[..3],
            [
                "package sortie-api: may not use sortie-gateway",
                "package sortie-arena: may not use sortie-wire",
                "package sortie: may not use sortie-testkit"
            ]
        );
        assert!(found[3].starts_with("package sortie-new: is new"));
    }

    #[test]
    fn an_allowance_that_nothing_uses_is_found() {
        let packages = [
            Package::fake("sortie-replay", &["sortie-domain"], &[]),
            Package::fake("sortie-metrics", &["sortie-openapi", "sortie-serving"], &[]),
        ];
        let found = problems(&rooms_are_closed(&Repository::fake([]).with(&packages)));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with("package sortie-replay: does not use sortie-wire"), "{found:?}");
    }

    #[test]
    fn impurity_is_found() {
        let tree = [("domain.rs", "//! Rules.\n#![no_std]\n"), ("tokens.rs", "//! #![no_std]\n")];
        let packages = [
            Package::fake("sortie-domain", &["jmespath", "tokio"], &["domain.rs"]),
            Package::fake("sortie-tokens", &["zeroize"], &["tokens.rs"]),
        ];
        let found = problems(&pure_crates_stay_pure(&Repository::fake(tree).with(&packages)));
        assert_eq!(
            found,
            [
                "package sortie-domain: is pure and may not use tokio; it may use imbl, jmespath, siphasher",
                "tokens.rs: is pure, so it has to begin with `#![no_std]`"
            ]
        );
        assert_eq!(pure_crates_stay_pure(&Repository::fake([])).len(), 2, "missing packages");
    }
}
