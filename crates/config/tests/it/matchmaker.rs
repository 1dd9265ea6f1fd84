//! The section `matchmaker`: what arrives, every problem with its key, and what does not go together.

use std::time::Duration;

use sortie_config::{Finding, MatchmakerConfig};
use sortie_domain::ids::{HookId, QueueId};
use sortie_domain::matchmaking::settings::{
    About, Backfill, ExpirationAction, Hook, HookPoint, Measure, Need, OnFailure, RuleKind,
};

use crate::{FULL, Folder, GAME_KEY, problems, toml};

/// A queue that is complete, for texts that are about something else.
const QUEUE: &str = "[matchmaker.queues.q]\nplayers_per_team = 2\n";

fn full() -> MatchmakerConfig {
    Folder::with("sortie.toml", FULL).load(&[GAME_KEY]).unwrap().matchmaker.unwrap()
}

fn queue(name: &str) -> QueueId {
    QueueId::new(name).unwrap()
}

#[test]
fn there_is_none_unless_its_table_is_there() {
    assert_eq!(toml("").unwrap().matchmaker, None);
    let config = toml("[matchmaker]").unwrap();
    assert!(config.matchmaker.unwrap().settings.queues.is_empty());
    assert!(config.warnings.iter().any(|warning| warning.path == "matchmaker.queues"));
}

#[test]
fn every_key_of_a_queue_arrives() {
    let config = full();
    assert_eq!(config.settings.status_expiration, Duration::from_secs(300));
    assert_eq!((config.settings.waiting_bytes, config.settings.kept_bytes), (1 << 30, 64 << 20));
    assert_eq!(config.settings.queues_per_player, 3);
    assert_eq!(config.settings.tick, Duration::from_millis(50));
    let arena = &config.settings.queues[&queue("arena")];
    assert_eq!((arena.teams, arena.players_per_team, arena.min_players_per_team), (2, 5, 4));
    assert_eq!(arena.ticket_expiration, Duration::from_secs(180));
    assert_eq!(arena.expiration_action, ExpirationAction::Minimum);
    assert_eq!((arena.accept, arena.backfill), (Some(Duration::from_secs(20)), Backfill::First));
    assert_eq!((arena.seat_timeout, arena.max_requeues), (Duration::from_secs(10), 1));
    assert_eq!(arena.properties.text(), Some(r#"{"game":"arena","teams":2,"version":"1"}"#));
    let open = &config.settings.queues[&queue("open")];
    assert_eq!((open.full(), open.accept, open.max_requeues), (None, None, 3));
}

#[test]
fn every_kind_of_rule_arrives() {
    let config = full();
    let rules = &config.settings.queues[&queue("arena")].rules;
    let names: Vec<&str> = rules.iter().map(|rule| &*rule.name).collect();
    assert_eq!(names, ["arena", "blocks", "even", "language", "level", "map", "mode", "ping"]);
    let distance =
        RuleKind::Distance { property: "mmr".into(), measure: Measure::Max, most: 100.0, missing: 1000.5 };
    assert_eq!(rules[0].kind, distance);
    let steps: Vec<_> = rules[0].widen.iter().map(|step| (step.after.as_secs(), step.value)).collect();
    assert_eq!(steps, [(15, 200.0), (30, 400.25)]);
    assert_eq!(rules[0].relax_after, Some(Duration::from_secs(60)));
    assert_eq!(rules[1].kind, RuleKind::NotBlocked);
    let even = RuleKind::Balance { property: "mmr".into(), most: f64::INFINITY, missing: 0.0 };
    assert_eq!(rules[2].kind, even);
    let about = |at: usize| match &rules[at].kind {
        RuleKind::Expression { about, need, .. } => (*about, *need),
        other => panic!("{other:?}"),
    };
    assert_eq!(about(3), (About::Pair, Need::Preferred));
    assert_eq!(about(4), (About::Ticket, Need::Required));
    assert_eq!(about(6), (About::Pair, Need::Required));
    assert_eq!(rules[5].kind, RuleKind::Equal { property: "map.name".into() });
    assert_eq!(rules[7].kind, RuleKind::Latency { most: 60.0 });
}

#[test]
fn hooks_arrive_in_order_with_their_places() {
    let config = full();
    let [Hook::Outside(bans), Hook::QueueByPartySize(sizes), Hook::PartyMembership] =
        &config.settings.hooks[..]
    else {
        panic!("{:?}", config.settings.hooks)
    };
    assert_eq!((bans.about, bans.on_failure), (HookPoint::ValidateTicket, OnFailure::Refuse));
    assert_eq!(sizes[&2], queue("open"));
    let place = &config.hooks[&(None, HookId::new("bans").unwrap())];
    assert_eq!(place.url, "https://hooks.example.com/bans");
    assert_eq!((place.timeout, place.concurrency), (Duration::from_secs(1), 4));
    assert_eq!((place.breaker_failures, place.breaker_pause), (3, Duration::from_secs(20)));
    let key = place.key.as_ref().unwrap();
    assert_eq!(key.key.bytes().as_slice(), GAME_KEY.1.as_bytes());
    assert!(!format!("{config:?}").contains(GAME_KEY.1));
    let groups = &config.hooks[&(Some(queue("open")), HookId::new("groups").unwrap())];
    assert_eq!((groups.concurrency, groups.key.is_none()), (16, true));
    let open = &config.settings.queues[&queue("open")];
    assert_eq!(open.hooks[0], Hook::PeerToPeerHost("host".into()));
    assert_eq!(open.former().unwrap().id.as_str(), "groups");
}

/// The one problem of `text` is about `path` and holds `part`.
fn one(text: &str, path: &str, part: &str) {
    let found = problems(text);
    let right = found.len() == 1 && found[0].starts_with(&format!("{path}: ")) && found[0].contains(part);
    assert!(right, "{path}: {part} is not {found:#?}\n{text}");
}

#[test]
fn what_is_wrong_with_a_queue_is_named() {
    for (line, key, part) in [
        ("teams = 2", "players_per_team", "at least 1"),
        ("teams = 2\nplayers_per_team = 0", "players_per_team", "at least 1"),
        ("teams = 3\nplayers_per_team = 400", "players_per_team", "1200 players"),
        ("players_per_team = 2\nmin_players_per_team = 3", "min_players_per_team", "more than"),
        ("players_per_team = 2\nmin_players_per_team = 0", "min_players_per_team", "at least 1"),
        ("players_per_team = 2\nexpiration_action = 'wait'", "expiration_action", "\"drop\" or \"minimum\""),
        ("players_per_team = 2\nteam = 3", "team", "did you mean `teams`?"),
        ("players_per_team = 2\naccept = '0s'", "accept", "from 1s"),
    ] {
        let text = format!("[matchmaker.queues.q]\n{line}\n");
        one(&text, &format!("matchmaker.queues.q.{key}"), part);
    }
    let text = format!("[matchmaker.queues.'{}']\nplayers_per_team = 1\n", "x".repeat(200));
    assert!(problems(&text)[0].contains("the queue's name has 200 bytes"));
}

#[test]
fn what_is_wrong_with_a_rule_is_named() {
    for (lines, key, part) in [
        ("kind = 'equal'", ".property", "is required with the kind `equal`"),
        ("kind = 'distance'\nproperty = 'a'", ".most", "is required"),
        ("kind = 'latency'\nmost = -1", ".most", "from 0"),
        ("kind = 'latency'\nmost = 1\nproperty = 'a'", ".property", "means nothing with the kind `latency`"),
        ("kind = 'not_blocked'\nwiden = [{after = '1s', most = 1}]", ".widen", "means nothing"),
        ("kind = 'required'\nexpression = 'a['", ".expression", ""),
        ("kind = 'required'\nexpression = ' '", ".expression", "empty"),
        ("kind = 'latency'\nmost = 5\nwiden = [{after = '1s', most = 5}]", ".widen", "step 0"),
        (
            "kind = 'latency'\nmost = 5\nwiden = [{after = '2s', most = 6}, {after = '1s', most = 7}]",
            ".widen",
            "step 1",
        ),
        (
            "kind = 'latency'\nmost = 5\nrelax_after = '1s'\nwiden = [{after = '2s', most = 6}]",
            ".relax_after",
            "later",
        ),
        ("kind = 'latency'\nmost = 5\nwiden = [{after = '2s'}]", ".widen[0].most", "is required"),
        ("kind = 'latency'\nmost = 5\nwiden = ['x']", ".widen[0]", "must be a table"),
        ("kind = 'balance'\nproperty = 'a'\nwiden = [{after = '2s', most = 6}]", ".widen", "without `most`"),
        ("kind = 'nearby'", ".kind", "must be"),
        ("most = 1", ".kind", "is required"),
    ] {
        let text = format!("{QUEUE}[matchmaker.queues.q.rules.r]\n{lines}\n");
        one(&text, &format!("matchmaker.queues.q.rules.r{key}"), part);
    }
    let two = "[matchmaker.queues.q.rules.a]\nkind = 'latency'\nmost = 1\n";
    let two = format!("{QUEUE}{two}{}", two.replace("rules.a", "rules.b"));
    one(&two, "matchmaker.queues.q.rules", "2 rules of the kind `latency`");
}

#[test]
fn what_is_wrong_with_a_hook_is_named() {
    let outside = "kind = 'new_match'\nname = 'h'\nurl = 'http://127.0.0.1:1/'";
    for (lines, key, part) in [
        ("kind = 'new_match'\nurl = 'http://127.0.0.1:1/'", ".name", "is required"),
        ("kind = 'new_match'\nname = 'h'", ".url", "is required"),
        ("kind = 'new_match'\nname = 'h'\nurl = 'ftp://x'", ".url", "http or https"),
        ("kind = 'team_data'\nurl = 'http://x/'", ".url", "takes nothing else"),
        ("kind = 'queue_by_party_size'", ".queues", "is required"),
        ("kind = 'queue_by_party_size'\nqueues = {1 = 'w'}", ".queues", "\"w\", which is not configured"),
        ("kind = 'queue_by_party_size'\nqueues = {none = 'q'}", ".queues", "number of players"),
        (&format!("{outside}\ntimeout = '2h'"), ".timeout", "from 10ms"),
        (&format!("{outside}\nkey_env = 'NOT_SET'"), ".key_env", "is not set"),
        (&format!("{outside}\nkey_env = 'SORTIE_KEY'"), ".key_env", "must not begin with SORTIE_"),
    ] {
        let text = format!("{QUEUE}[[matchmaker.queues.q.hooks]]\n{lines}\n");
        one(&text, &format!("matchmaker.queues.q.hooks[0]{key}"), part);
    }
    let by_size = "[[matchmaker.queues.q.hooks]]\nkind = 'queue_by_party_size'\nqueues = {1 = 'q'}\n";
    one(&format!("{QUEUE}{by_size}"), "matchmaker.queues.q.hooks", "which sends them on");
    let of_all = format!("[[matchmaker.hooks]]\n{outside}\n");
    let twice = format!("{QUEUE}{of_all}[[matchmaker.queues.q.hooks]]\n{outside}\n");
    one(&twice, "matchmaker.queues.q.hooks[0].name", "an earlier hook");
    one(&of_all.replace("new_match", "form_match"), "matchmaker.hooks[0].kind", "under that queue");
    let forms = format!("[[matchmaker.queues.q.hooks]]\n{outside}\n").replace("new_match", "form_match");
    let two = format!("{QUEUE}{forms}{}", forms.replace("'h'", "'i'"));
    one(&two, "matchmaker.queues.q.hooks[1].kind", "one forms the matches");
}

#[test]
fn every_problem_is_listed_at_once() {
    let text = "[matchmaker]\ntick = '1h'\n[matchmaker.queues.a]\nteams = -1\naccept = 1\n\
                [matchmaker.queues.b]\nplayers_per_team = 1\nrules.x.kind = 'y'\n[[matchmaker.queues.b.hooks]]\nname = ''\n";
    let found = toml(text).unwrap_err();
    let paths: Vec<&str> = found.list.iter().map(|finding| finding.path.as_str()).collect();
    for path in [
        "matchmaker.tick",
        "matchmaker.queues.a.teams",
        "matchmaker.queues.a.accept",
        "matchmaker.queues.b.rules.x.kind",
        "matchmaker.queues.b.hooks[0].kind",
        "matchmaker.queues.b.hooks[0].name",
    ] {
        assert!(paths.contains(&path), "{path} is not in {found}");
    }
}

#[test]
fn what_does_not_go_together_is_warned_of() {
    let warned = |text: &str, path: &str| {
        let config = toml(&format!("broker.server_max_lifetime = '3h'\n{text}")).unwrap();
        let found: Vec<String> = config.warnings.iter().map(Finding::to_string).collect();
        assert!(found.len() == 1 && found[0].starts_with(&format!("{path}: ")), "{path} is not {found:#?}");
    };
    warned("[matchmaker.queues.q]\nteams = 0\n", "matchmaker.queues.q.expiration_action");
    warned(&format!("{QUEUE}expiration_action = 'minimum'\n"), "matchmaker.queues.q.expiration_action");
    let rule = "rules.r = {kind = 'latency', most = 1, relax_after = '5m'}\n";
    warned(&format!("{QUEUE}{rule}"), "matchmaker.queues.q.rules.r.relax_after");
    let rule = "rules.r = {kind = 'latency', most = 1, widen = [{after = '2m', most = 2}]}\n";
    warned(&format!("{QUEUE}{rule}"), "matchmaker.queues.q.rules.r.widen");
    let hook = "hooks = [{kind = 'peer_to_peer_host'}]\nbackfill = 'last'\n";
    warned(&format!("{QUEUE}{hook}"), "matchmaker.queues.q.backfill");
    let hook =
        "hooks = [{kind = 'form_match', name = 'f', url = 'http://127.0.0.1/', on_failure = 'refuse'}]\n";
    let rule = "rules.r = {kind = 'latency', most = 1}\n";
    warned(&format!("{QUEUE}{hook}{rule}"), "matchmaker.queues.q.rules");
    let hook = "hooks = [{kind = 'queue_by_party_size', queues = {3 = 'q'}}]\n";
    warned(&format!("matchmaker.{hook}{QUEUE}"), "matchmaker.hooks");
    let key =
        "hooks = [{kind = 'new_match', name = 'n', url = 'http://hooks.example.com/', key_env = 'K'}]\n";
    let config = Folder::with("sortie.toml", &format!("broker.server_max_lifetime = '3h'\n{QUEUE}{key}"));
    let config = config.load(&[("K", "secret")]).unwrap();
    assert_eq!(config.warnings.len(), 1, "{:?}", config.warnings);
    assert!(config.warnings[0].path.ends_with("hooks[0].url"));
}
