//! What is shown is what is in effect, and can be loaded.

use std::collections::BTreeSet;

use sortie_config::{Config, HIDDEN, KeyDoc, LocalProcessConfig, Overrides, reference};

use crate::{FLEET, FULL, Folder, GAME_KEY, owned};

fn reload(config: &Config) -> Config {
    Folder::with("shown.toml", &config.show()).load(&[GAME_KEY]).unwrap()
}

#[test]
fn what_is_shown_loads_as_the_same_configuration() {
    let default = Config::load(None, owned(&[]), Overrides::default()).unwrap();
    assert_eq!(reload(&default), default);
    let small = Folder::with("sortie.toml", FLEET).load(&[]).unwrap();
    assert_eq!(reload(&small), small);

    let full = Folder::with("sortie.toml", FULL).load(&[GAME_KEY]).unwrap();
    let mut again = reload(&full);
    let hidden = again.warnings.len() - full.warnings.len();
    assert_eq!(hidden, 2, "one for each hidden value: {:?}", again.warnings);
    again.warnings.clone_from(&full.warnings);
    for (again, once) in again.fleets.iter_mut().zip(&full.fleets) {
        let mut shown = again.allocator.settings::<LocalProcessConfig>().unwrap().clone();
        let local = once.allocator.settings::<LocalProcessConfig>().unwrap();
        assert!(shown.environment.0.values().all(|value| value == HIDDEN));
        assert!(shown.environment.0.keys().eq(local.environment.0.keys()));
        shown.environment = local.environment.clone();
        assert_eq!(&shown, local);
        again.allocator = once.allocator.clone();
    }
    assert_eq!(again, full);
}

#[test]
fn a_netcode_key_file_is_shown_by_its_path() {
    let folder = Folder::with("sortie.toml", "netcode.key_file = 'secret.key'");
    std::fs::write(folder.dir.path().join("secret.key"), GAME_KEY.1).unwrap();
    let config = folder.load(&[]).unwrap();
    assert!(!config.show().contains(GAME_KEY.1));
    assert_eq!(reload(&config), config);
}

#[test]
fn a_secret_of_player_tokens_is_shown_by_its_place() {
    let players = "[players]\nissuer = 'i'\naudience = 'a'\n";
    for key in ["secret_file = 'secret.key'", "secret_env = 'GAME_KEY'", "jwks_file = 'jwks.json'"] {
        let folder = Folder::with("sortie.toml", &format!("{players}{key}"));
        std::fs::write(folder.dir.path().join("secret.key"), GAME_KEY.1).unwrap();
        let config = folder.load(&[GAME_KEY]).unwrap();
        assert!(!config.show().contains(GAME_KEY.1) && !format!("{config:?}").contains(GAME_KEY.1));
        assert_eq!(reload(&config), config);
    }
}

#[test]
fn the_secret_of_drivers_is_shown_by_its_place() {
    let folder = Folder::with("sortie.toml", "dispatch = { enabled = true, secret_file = 'drivers.secret' }");
    std::fs::write(folder.dir.path().join("drivers.secret"), "a long and shared secret\n").unwrap();
    let config = folder.load(&[]).unwrap();
    let (_, secret) = config.dispatch.secret.as_ref().unwrap();
    assert_eq!(secret.bytes().as_slice(), b"a long and shared secret");
    assert!(!config.show().contains("shared secret") && !format!("{config:?}").contains("shared secret"));
    assert_eq!(reload(&config), config);
}

/// Adds the paths of all keys below `value`, as the table of keys writes them.
fn paths(value: &toml::Value, place: &str, found: &mut BTreeSet<String>) {
    let known = |place: &str| reference().iter().any(|key| key.path == place);
    match value {
        _ if known(place) => drop(found.insert(place.to_owned())),
        toml::Value::Table(table) => {
            for (name, value) in table {
                let is_own =
                    ["fleets", "matchmaker.queues", "matchmaker.queues.<name>.rules"].contains(&place);
                let name = if is_own { "<name>" } else { name };
                let below = if place.is_empty() { name.to_owned() } else { format!("{place}.{name}") };
                paths(value, &below, found);
            }
        }
        toml::Value::Array(entries) => {
            for entry in entries {
                paths(entry, &format!("{place}[]"), found);
            }
        }
        _ => drop(found.insert(format!("{place}, which the reference does not have"))),
    }
}

#[test]
fn every_key_of_the_reference_is_shown_and_no_other() {
    let config = Folder::with("sortie.toml", FULL).load(&[GAME_KEY]).unwrap();
    let mut found = BTreeSet::new();
    paths(&toml::from_str(&config.show()).unwrap(), "", &mut found);
    let others = [
        "netcode.key_file",
        "players.secret_file",
        "players.secret_env",
        "players.jwks_file",
        "dispatch.secret_file",
        "matchmaker.hooks[].property",
    ];
    found.extend(others.map(str::to_owned));
    let all: BTreeSet<_> = reference().iter().map(|key: &KeyDoc| key.path.to_owned()).collect();
    assert_eq!(found, all);
}
