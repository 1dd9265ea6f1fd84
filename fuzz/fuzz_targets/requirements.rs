//! Any text is an expression that can be evaluated over any match, or is refused; before the first NUL is the
//! expression, after it are the properties of the match.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use sortie_domain::ids::{MatchId, PlayerId};
use sortie_domain::match_spec::MatchSpec;
use sortie_domain::properties::Properties;
use sortie_domain::requirements::{Document, Requirements, check};

/// Has values of every kind.
const EXAMPLE: &str = r#"{"a": {"b": [1, -2.5, "x", null, true, [], {}]}, "c": ["", "y"], "d": [[1], [2, [3]]], "e": {"f": "g"}}"#;

static ID: LazyLock<MatchId> = LazyLock::new(|| MatchId::new("m").expect("an id"));
static PLAYER: LazyLock<PlayerId> = LazyLock::new(|| PlayerId::new("p").expect("an id"));

fuzz_target!(|bytes: &[u8]| {
    let Ok(input) = str::from_utf8(bytes) else { return };
    let (expression, properties) = input.split_once('\0').unwrap_or((input, EXAMPLE));
    let mut requirements = Requirements::new();
    let compiled = requirements.compile(expression);
    let checked = check(expression);
    assert_eq!(compiled.is_ok(), checked.is_ok());
    if let Err(error) = &checked {
        assert!(error.at <= expression.chars().count().max(4096), "{error}");
    }
    let Ok(properties) = Properties::parse(properties) else { return };
    let spec = MatchSpec {
        players: vec![PLAYER.clone()],
        player_properties: [(PLAYER.clone(), properties.clone())].into(),
        properties,
        ..MatchSpec::default()
    };
    let document = Document::new(&ID, &spec);
    let fits = compiled.is_ok_and(|requirement| requirements.fits(&requirement, &document));
    assert_eq!(fits, requirements.fits_text(expression, &document));
    assert_eq!(fits, Requirements::new().fits_text(expression, &document));
});
