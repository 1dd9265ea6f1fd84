//! Nothing that a file or the environment holds makes the program panic; what loads, loads again once shown.

use proptest::prelude::*;
use sortie_config::{Config, Overrides, reference};

use crate::{FULL, Folder, GAME_KEY, owned};

/// TOML values of every type, odd ones too.
fn value() -> impl Strategy<Value = toml::Value> {
    let text = prop_oneof![
        "\\PC{0,12}",
        "[0-9]{1,25}(ns|ms|s|m|h|d|y|B|KiB|GB)?",
        "[0-9]{1,6}-[0-9]{1,6}",
        "0x[0-9a-f]{0,17}",
        "[a-z.|&!(\\[`'=<> ]{0,20}",
        "https?://[a-z.:@/?#]{0,20}",
        "[0-9a-f:.]{1,20}(/[0-9]{1,3})?",
    ];
    let leaf = prop_oneof![
        any::<i64>().prop_map(toml::Value::from),
        any::<f64>().prop_map(toml::Value::from),
        any::<bool>().prop_map(toml::Value::from),
        text.prop_map(toml::Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(toml::Value::from),
            prop::collection::btree_map("[a-z_]{0,8}", inner, 0..4)
                .prop_map(|table| toml::Value::Table(table.into_iter().collect())),
        ]
    })
}

/// The full configuration with the value at one key replaced.
fn changed() -> impl Strategy<Value = String> {
    let key = prop::sample::select(reference().iter().map(|key| key.path).collect::<Vec<_>>());
    (key, value(), any::<prop::sample::Index>()).prop_map(|(path, value, depth)| {
        let mut tree: toml::Value = toml::from_str(FULL).unwrap();
        let parts: Vec<_> = path.split('.').collect();
        let mut at = &mut tree;
        // Sometimes the table around the key is replaced instead.
        for part in &parts[..=depth.index(parts.len())] {
            let name = if *part == "<name>" { "arena" } else { part.trim_end_matches("[]") };
            let table = at.as_table_mut().unwrap();
            at = table.entry(name.to_owned()).or_insert(toml::Value::Boolean(false));
            if part.ends_with("[]") && depth.index(parts.len()) > 0 {
                at = &mut at.as_array_mut().unwrap()[0];
            }
        }
        *at = value;
        toml::to_string(&tree).unwrap()
    })
}

proptest! {
    #[test]
    fn any_value_at_any_key_is_taken_or_refused(text in changed()) {
        if let Ok(config) = Folder::with("sortie.toml", &text).load(&[GAME_KEY]) {
            let shown = config.show();
            let again = Folder::with("sortie.toml", &shown).load(&[GAME_KEY]);
            prop_assert!(again.is_ok(), "{shown}\n{again:?}");
            prop_assert_eq!(again.map(|again| again.show()), Ok(shown));
        }
    }

    #[test]
    fn any_text_is_taken_or_refused(name in "[ab]\\.(toml|json|yaml)", text in "[\\PC\n\t]{0,200}") {
        let _ = Folder::with(&name, &text).load(&[]);
    }

    #[test]
    fn any_yaml_like_text_is_taken_or_refused(text in "([a-z]{1,3}: |- |&a |\\*a|!!map |\\[|\\]|\\{|\\}|\n|  |~|<<: ){0,40}") {
        let _ = Folder::with("a.yaml", &text).load(&[]);
    }

    #[test]
    fn any_variable_is_taken_or_refused(
        names in prop::collection::vec("SORTIE_((FLEETS|API_KEYS|BROKER|GATEWAY|LOG|[0-3]|A|MAX|NAME|WAIT|\\PC)_{0,3}){0,5}", 0..6),
        text in "\\PC{0,10}",
    ) {
        let variables: Vec<_> = names.iter().map(|name| (name.as_str(), text.as_str())).collect();
        let _ = Folder::with("sortie.toml", "").load(&variables);
        let _ = Config::load(None, owned(&variables), Overrides::default());
    }
}
