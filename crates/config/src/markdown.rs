//! The table of keys as `docs/config.md`.

use std::fmt::Write as _;

use crate::environment::NOT_SETTINGS;
use crate::keys::{KeyDoc, Kind, Presence, reference};

/// A small configuration, as the document shows it.
pub const EXAMPLE: &str = r#"listen = "127.0.0.1:7400"

[[api_keys]]
name = "backend"
sha256 = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae"
permissions = ["client"]

[gateway]
default_fleet = "arena"

[fleets.arena]
max = 4
warm = 1
game = "arena"
version = "1.0"
requirements = "MatchProperties.game == 'arena'"

[fleets.arena.local_process]
path = "servers/arena"
arguments = ["--port", "{port}"]
"#;

const OPENING: &str = "\
# Configuration

One file, TOML, JSON or YAML by its extension; `sortie` runs without one too. Every key can be set by an environment
variable as well: `SORTIE_`, then the key's path in capitals with two underscores between its levels
(`SORTIE_BROKER__WAIT=10s`, `SORTIE_FLEETS__ARENA__MAX=8`, `SORTIE_API_KEYS__0__NAME=backend`); lists take commas or JSON.
Flags win over the environment, the environment over the file, the file over the defaults.

A key that is not listed here is refused, and all problems are reported at once. `sortie config check` finds them without
starting anything; `sortie config show` prints what is in effect.

* Durations are texts with units: `\"250ms\"`, `\"30s\"`, `\"1h 30m\"`. Byte sizes too: `\"512KiB\"`, `\"1MiB\"`, `\"2GB\"`.
* Relative paths in a file start at the file's folder; in the environment and in flags at the working folder.
";

/// The reference as Markdown: the whole of `docs/config.md`.
#[must_use]
pub fn reference_markdown() -> String {
    let mut page = OPENING.to_owned();
    let ignored = NOT_SETTINGS.map(|name| format!("`{name}`")).join(", ");
    // Writing to a String cannot fail.
    let _ = write!(page, "* Not settings, and ignored: {ignored}.\n\n```toml\n{EXAMPLE}```\n");
    let mut current = None;
    for key in reference() {
        let (section, name) = key.path.rsplit_once('.').unwrap_or(("", key.path));
        if current != Some(section) {
            current = Some(section);
            let _ = write!(
                page,
                "\n## {}\n\n| key | type | default | meaning |\n|---|---|---|---|\n",
                title(section)
            );
        }
        let kind = key.kind.describe();
        let unit = if key.unit.is_empty() { String::new() } else { format!(", in {}", key.unit) };
        let cells = [format!("`{name}`"), format!("{kind}{unit}"), default(key), key.meaning.to_owned()];
        let _ = writeln!(page, "| {} |", cells.map(|cell| cell.replace('|', "\\|")).join(" | "));
    }
    page
}

fn title(section: &str) -> String {
    match section.strip_suffix("[]") {
        Some(list) => format!("`[[{list}]]`"),
        None if section.is_empty() => "At the top".to_owned(),
        None => format!("`[{section}]`"),
    }
}

/// What applies without the key, as Markdown.
pub(crate) fn default(key: &KeyDoc) -> String {
    match (key.presence, key.kind) {
        (Presence::Required, _) => "required".to_owned(),
        (Presence::Optional(meaning), _) => format!("none: {meaning}"),
        (
            Presence::Default(text),
            Kind::Switch | Kind::Integer | Kind::Identifier | Kind::Texts | Kind::Choices(_) | Kind::Table,
        ) => format!("`{text}`"),
        (Presence::Default(text), _) => format!("`\"{text}\"`"),
    }
}
