//! Settings that do not go together give a warning that says what happens and what to change; others give none.

use sortie_config::Finding;

use crate::{FLEET, toml};

/// Timers that go together.
const CALM: &str = "broker.server_max_lifetime = '3h'\n";

fn warnings(text: &str) -> Vec<String> {
    toml(&format!("{CALM}{text}")).unwrap().warnings.iter().map(Finding::to_string).collect()
}

/// The one warning is about `path` and holds each of `parts`.
fn one(text: &str, path: &str, parts: &[&str]) {
    let found = warnings(text);
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(found[0].starts_with(&format!("{path}: ")), "{found:#?}");
    for part in parts {
        assert!(found[0].contains(part), "{part} is not in {found:#?}");
    }
}

/// The fleet `arena` of the game arena 1.0, with one more line.
fn fleet(line: &str) -> String {
    format!("{FLEET}{line}\n")
}

#[test]
fn what_goes_together_gives_no_warning() {
    let servers =
        "local_process.arguments = ['arena', 'serve', '--requirements', \"MatchProperties.game == 'arena'\"]";
    for text in [
        String::new(),
        fleet(""),
        fleet("requirements = \"MatchProperties.game == 'arena' && MatchProperties.version == '1.0'\""),
        fleet("requirements = \"MatchProperties.mode == 'duel' || MatchProperties.game == 'other'\""),
        fleet("requirements = \"MatchProperties.mode != 'duel'\""),
        fleet(servers),
        fleet(&servers.replace("['arena'", "['other'").replace("== 'arena'", "== 'x'")),
        fleet(&servers.replace("== 'arena'", "== '{port}'")),
        "[fleets.own]\nmax = 1\nlocal_process.path = 'a'\nrequirements = \"MatchProperties.mode == 'duel'\"\n".to_owned(),
    ] {
        assert_eq!(warnings(&text), [""; 0], "{text}");
    }
}

#[test]
fn secrets_that_servers_would_inherit() {
    const SECRETS: [(&str, &str); 6] = [
        ("JWT_SECRET", "player tokens"),
        ("DISPATCH_SECRET", "`dispatch.secret_env`"),
        ("GAME_KEY", "`netcode.key_env`"),
        ("HOOK_KEY", "hook"),
        ("PLACE_SERVER_SECRET", "dispatchers"),
        ("SERVER_SECRET", "dispatchers"),
    ];
    let text = format!(
        "{CALM}{}local_process.pass_environment = ['CUDA_VISIBLE_DEVICES', '*', {}]\n\
         [players]\nissuer = 'i'\naudience = 'a'\nsecret_env = 'JWT_SECRET'\n\
         [dispatch]\nsecret_env = 'DISPATCH_SECRET'\n\
         [netcode]\nkey_env = 'GAME_KEY'\n\
         [matchmaker.queues.duel]\nplayers_per_team = 1\n\
         [[matchmaker.queues.duel.hooks]]\nkind = 'validate_ticket'\nname = 'bans'\nurl = 'https://a.example/'\nkey_env = 'HOOK_KEY'\n",
        fleet(""),
        SECRETS.map(|(name, _)| format!("'{name}'")).join(", ")
    );
    let value = "0123456789abcdef".repeat(4);
    let variables = SECRETS.map(|(name, _)| (name, value.as_str()));
    let config = crate::Folder::with("sortie.toml", &text).load(&variables).unwrap();
    let found: Vec<_> = config.warnings.iter().map(Finding::to_string).collect();
    let path = "fleets.arena.local_process.pass_environment: ";
    let about: Vec<_> = found.iter().filter_map(|warning| warning.strip_prefix(path)).collect();
    assert_eq!(about.len(), 1 + SECRETS.len(), "{found:#?}");
    assert!(about[0].contains("`*`") && about[0].contains("passes nothing"), "{about:#?}");
    for ((name, holds), warning) in SECRETS.iter().zip(&about[1..]) {
        assert!(warning.contains(&format!("names {name},")) && warning.contains(holds), "{warning}");
    }
    assert!(!found.iter().any(|warning| warning.contains(&value)), "{found:#?}");
}

#[test]
fn requirements_that_are_never_met_by_the_fleets_own_servers() {
    let requirements = "[fleets.own]\nmax = 1\nlocal_process.path = 'a'\nrequirements = \"MatchProperties.map == 'desert'\"\n";
    let parts = ["MatchProperties.map cannot be \"desert\" and \"forest\"", "Make the two alike"];
    let said = "server_requirements = \"MatchProperties.map == 'forest' && length(PlayerIds) > `1`\"";
    one(&format!("{requirements}{said}"), "fleets.own.requirements", &parts);
    let arena =
        "local_process.arguments = ['arena', 'serve', '--requirements', \"MatchProperties.map == 'forest'\"]";
    one(&format!("{requirements}{arena}"), "fleets.own.requirements", &parts);
    let twice = requirements.replace("'desert'", "'desert' && MatchProperties.map == 'forest'");
    one(&twice, "fleets.own.requirements", &["can never be met", "join them by `||`"]);
}

#[test]
fn a_game_that_no_fleet_ever_takes() {
    let wrong = fleet("requirements = \"MatchProperties.version == '2'\"");
    let found = warnings(&wrong);
    assert_eq!(found.len(), 2, "{found:#?}");
    let text = "fleets.arena.requirements: never accepts the matches that the gateway makes for this fleet: MatchProperties.version \
                would have to be \"2\", and is \"1.0\"";
    assert!(found[0].starts_with(text), "{found:#?}");
    let text = "fleets: no fleet can ever take the game arena in version 1.0";
    assert!(found[1].starts_with(text), "{found:#?}");
    let found = warnings(&format!("gateway.default_fleet = 'arena'\n{wrong}"));
    assert!(found[1].starts_with("gateway.default_fleet: no fleet can ever take"), "{found:#?}");

    let absent = fleet("requirements = \"MatchProperties.mode == 'duel'\"");
    assert!(warnings(&absent)[0].contains("would have to be \"duel\", and is null"));
    let servers = fleet("server_requirements = \"MatchProperties.game == 'other'\"");
    assert!(warnings(&servers)[0].starts_with("fleets.arena.server_requirements: "));
    // Another fleet of the same game takes it, so that players are not lost.
    let other = wrong.clone()
        + &FLEET
            .replace("fleets.arena", "fleets.other")
            .replace("max = 2", "max = 2\nlocal_process.ports = '9500-9600'");
    let found = warnings(&other);
    assert_eq!(found.len(), 1, "{found:#?}");
}

#[test]
fn a_fleet_that_would_take_what_is_meant_for_others() {
    let other = "[fleets.any]\nmax = 1\nlocal_process = { path = 'a', ports = '9500-9600' }\n";
    assert_eq!(warnings(other), [""; 0], "there is no other fleet");
    let parts = ["neither `game` nor `requirements`", "those for other fleets"];
    one(&format!("{FLEET}{other}"), "fleets.any", &parts);
    let chosen = other.replace("max = 1", "max = 1\nrequirements = 'MatchProperties.any'");
    assert_eq!(warnings(&format!("{FLEET}{chosen}")), [""; 0]);
    let named = other.replace("max = 1", "max = 1\ngame = 'other'\nversion = '1'");
    assert_eq!(warnings(&format!("{FLEET}{named}")), [""; 0]);
}

/// What `config check` remarks of.
fn remarks(text: &str) -> Vec<String> {
    toml(&format!("{CALM}{text}")).unwrap().remarks.iter().map(Finding::to_string).collect()
}

#[test]
fn a_fleet_whose_servers_take_any_match_is_remarked_on() {
    let any = |requirements: &str| {
        format!(
            "[fleets.any]\nmax = 1\nrequirements = \"{requirements}\"\nlocal_process = {{ path = 'a', ports = '9500-9600' }}\n"
        )
    };
    assert_eq!(
        remarks(&any("")),
        ["fleets.any: has neither `game` nor `requirements`: its servers take any match"]
    );
    let always = [
        "`true`",
        "'a' == 'a'",
        "`1` < `2`",
        "a.b == a.b",
        "!`false`",
        "x || `true`",
        "`1` != `2` && 'a'",
        "length(PlayerIds) >= `0`",
        "@ == @",
        "a == b",
        "MatchId",
    ];
    for text in always {
        let found = "fleets.any: has no `game`, and its `requirements` are met by every match: its servers take any match";
        assert_eq!(remarks(&any(text)), [found], "{text}");
        assert_eq!(warnings(&any(text)), [""; 0], "it may well be meant");
        let parts = ["`requirements` are met by every match", "those for other fleets"];
        one(&format!("{FLEET}{}", any(text)), "fleets.any", &parts);
    }
    for text in [
        "`false`",
        "a",
        "'a' == 'b'",
        "MatchProperties.a == MatchProperties.b",
        "a != a",
        "x && `true`",
        "MatchProperties.game == 'a'",
        "PlayerIds",
        "length(PlayerIds) >= `1`",
        "MatchProperties.mode != 'duel'",
    ] {
        assert_eq!(remarks(&any(text)), [""; 0], "{text}");
    }
    assert_eq!(remarks(FLEET), [""; 0]);
}

/// Which fleets take any match, for each way to say whose matches fleets take.
#[test]
fn every_fleet_that_takes_any_match_is_named_and_no_other() {
    let fleet = |name: &str, line: &str, ports: &str| {
        format!("[fleets.{name}]\nmax = 1\n{line}\nlocal_process = {{ path = 'a', ports = '{ports}' }}\n")
    };
    let (red, blue) = (fleet("red", "", "9500-9600"), fleet("blue", "", "9700-9800"));
    let found = |text: &str| (warnings(text), remarks(text));
    let (warned, remarked) = found(&red);
    assert_eq!(warned, [""; 0]);
    assert_eq!(remarked, ["fleets.red: has neither `game` nor `requirements`: its servers take any match"]);

    let (warned, remarked) = found(&format!("{red}{blue}"));
    assert_eq!(remarked, [""; 0]);
    let starts = ["fleets.blue: has neither", "fleets.red: has neither"];
    assert_eq!(warned.len(), starts.len(), "{warned:#?}");
    for (warning, start) in warned.iter().zip(starts) {
        assert!(warning.starts_with(start) && warning.contains("take any match"), "{warned:#?}");
    }
    // Beside one that says whose matches it takes, only the other takes any.
    let picky = fleet("blue", "requirements = \"MatchProperties.mode == 'duel'\"", "9700-9800");
    let (warned, remarked) = found(&format!("{red}{picky}"));
    assert!(warned.len() == 1 && warned[0].starts_with("fleets.red: has neither"), "{warned:#?}");
    assert_eq!(remarked, [""; 0]);

    // Where each has a game, what names none goes to the default fleet, as its key says.
    let chess = fleet("chess", "game = 'chess'\nversion = '1'", "9500-9600");
    for default in ["", "gateway.default_fleet = 'arena'\n"] {
        assert_eq!(found(&format!("{default}{FLEET}{chess}")), (vec![], vec![]), "{default}");
    }
    // The default fleet does not keep an open fleet from taking what names a game.
    let (warned, remarked) = found(&format!("gateway.default_fleet = 'arena'\n{FLEET}{red}"));
    assert!(warned.len() == 1 && warned[0].starts_with("fleets.red: has neither"), "{warned:#?}");
    assert_eq!(remarked, [""; 0]);
}

#[test]
fn a_default_fleet_that_does_not_get_what_names_no_game_is_remarked_on() {
    let text = |line: &str| {
        format!(
            "gateway.default_fleet = 'arena'\n{FLEET}[fleets.own]\nmax = 1\n{line}\nlocal_process = {{ path = 'a', ports = '9500-9600' }}\n"
        )
    };
    let found = remarks(&text("requirements = \"MatchProperties.mode == 'duel'\""));
    assert_eq!(found.len(), 1, "{found:#?}");
    let about = "gateway.default_fleet: gets no matches that name no `game`, because the fleet own has none";
    assert!(found[0].starts_with(about), "{found:#?}");
    let more = "[fleets.third]\nmax = 1\nrequirements = 'MatchProperties.third'\nlocal_process = { path = 'a', ports = '9700-9800' }\n";
    let two = text("requirements = \"MatchProperties.mode == 'duel'\"") + more;
    let about =
        "gateway.default_fleet: gets no matches that name no `game`, because the fleets own, third have none";
    assert!(remarks(&two)[0].starts_with(about), "each is to get one: {:#?}", remarks(&two));
    assert_eq!(remarks(&text("game = 'own'\nversion = '1'")), [""; 0]);
    assert_eq!(remarks(&text("requirements = '`true`'")), [""; 0], "it takes them all, as the warning says");
}

#[test]
fn a_warm_pool_without_room_for_replacements_is_remarked_on() {
    let pool = |warm: u32, max: u32| {
        format!(
            "[fleets.own]\nmax = {max}\nwarm = {warm}\nready_deadline = '60s'\ngame = 'own'\nversion = '1'\nlocal_process = {{ path = 'a', ports = '9000-9999' }}\n"
        )
    };
    let found = "fleets.own.max: is not larger than `warm`: while an old server is replaced, 2 of 3 `warm` servers are \
                 ready. To keep all of them ready, set it to 4 or more";
    assert_eq!(remarks(&pool(3, 3)), [found]);
    assert_eq!(warnings(&pool(3, 3)), [""; 0]);
    for text in [pool(3, 4), pool(0, 3), format!("broker.lifetime_ends_matches = true\n{}", pool(3, 3))] {
        assert_eq!(remarks(&text), [""; 0], "{text}");
    }
    // Half of 59 minutes and 30 seconds is enough for 20 rounds of 90 seconds: 19 of them are before the last one.
    assert_eq!(warnings(&pool(20, 20)), [""; 0]);
    one(&pool(21, 21), "fleets.own.max", &["before they are replaced", "up to 42", "server_max_lifetime"]);
    assert_eq!(warnings(&pool(21, 23)), [""; 0], "two at a time");
}

#[test]
fn timers_that_contradict_each_other() {
    let parts = ["4h 30s", "first half", "Make it longer"];
    one("broker.match_max_run_time = '4h'", "broker.server_max_lifetime", &parts);
    one("broker.match_max_run_time = '2h 59m 30s'", "broker.server_max_lifetime", &["which are 3h"]);
    assert_eq!(warnings("broker.match_max_run_time = '2h 59m 29s'"), [""; 0]);
    let literal = "broker.lifetime_ends_matches = true\nbroker";
    let parts = ["4h", "stopped with the matches on it", "Make it longer"];
    one(&format!("{literal}.match_max_run_time = '4h'"), "broker.server_max_lifetime", &parts);
    one(&format!("{literal}.match_ready_time = '3h'"), "broker.match_ready_time", &["never fires"]);
    let scheduled = "broker.fast_schedule = 0\nbroker.delay_allocation";
    one(&format!("{scheduled} = '90s'"), "broker.delay_allocation", &["every match fails", "1m 30s"]);
    one(&format!("{scheduled} = '70s'"), "broker.schedule_frequency", &["Make it at most 20s"]);
    assert_eq!(warnings(&format!("{scheduled} = '60s'")), [""; 0]);
    assert_eq!(
        warnings("broker.delay_allocation = '90s'"),
        [""; 0],
        "the schedule is not what servers wait for"
    );

    let slow = fleet("ready_deadline = '100s'");
    one(&slow, "fleets.arena.ready_deadline", &["a match fails while the server", "1m 30s"]);
    one(
        &format!("gateway.wait_deadline = '20s'\n{FLEET}"),
        "gateway.wait_deadline",
        &["the fleet arena, which is 30s", "players are sent away"],
    );
    one(
        &format!(
            "broker.match_pickup_time = '4h'\n{}",
            fleet("ready_deadline = '3h'").replace("game = 'arena'\nversion = '1.0'\n", "")
        ),
        "fleets.arena.ready_deadline",
        &["`broker.server_max_lifetime`, which is 3h", "never fires"],
    );
    one(
        &format!("broker.match_max_run_time = '10s'\n{FLEET}"),
        "fleets.arena.seat_ttl",
        &["the match is over before"],
    );
    let key = "fleets.arena.local_process.max_run_time";
    let parts =
        ["`broker.match_ready_time` and `broker.match_max_run_time`", "2h 30s", "first half", "longer"];
    one(&fleet("local_process.max_run_time = '1h'"), key, &parts);
    one(&fleet("local_process.max_run_time = '2h 30s'"), key, &parts);
    assert_eq!(warnings(&fleet("local_process.max_run_time = '2h 31s'")), [""; 0]);
    let literal = "broker.lifetime_ends_matches = true\n";
    let parts = ["`broker.match_max_run_time`, which is 2h", "stopped with the matches on them"];
    one(&format!("{literal}{}", fleet("local_process.max_run_time = '1h'")), key, &parts);
    let text =
        format!("broker.match_max_run_time = '5s'\nbroker.match_ready_time = '1s'\n{FLEET}seat_ttl = '5s'\n");
    let parts = ["`ready_deadline`, which is 30s"];
    one(&format!("{text}local_process.max_run_time = '30s'\n"), key, &parts);
}
