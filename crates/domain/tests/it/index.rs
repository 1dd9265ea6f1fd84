//! The indexes over requirements give the same answers as checking every match and every server.
//!
//! Oracle: every match in the queue (or every waiting server) in order, and the expression compiled and evaluated by
//! the library on a document parsed from JSON text, without caches.

use std::collections::BTreeMap;

use jmespath::Variable;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use sortie_domain::broker::model::{FastSchedule, Fleet, Match, Settings};
use sortie_domain::broker::{Command, Hints, Offer, Reply};
use sortie_domain::ids::{FleetId, MatchId, ServerId};
use sortie_domain::machine::CallId;
use sortie_domain::match_spec::MatchSpec;
use sortie_domain::properties::Properties;

use crate::table::{Asked, Table, fleet, fleet_id, on, player, request, secs, server};

/// Fields of properties: some need quotes, one is often missing.
const FIELDS: [&str; 5] = ["mode", "\"game mode\"", "level", "nested.deep", "nested"];
/// JSON values that are equal, nearly equal, or of another type than they look.
const VALUES: [&str; 26] = [
    "null",
    "true",
    "false",
    "0",
    "-0.0",
    "1",
    "1.0",
    "\"1\"",
    "\"\"",
    "\"duel\"",
    "\"it's\"",
    "-1",
    "0.71",
    "0.7100000000000002",
    "0.7100000000000013",
    "0.3333333333333333",
    "0.33333333333333337",
    "9007199254740993",
    "1e308",
    "1.7e308",
    "5e-324",
    "[]",
    "[1, 2]",
    "[1.0, 2]",
    "{}",
    "{\"deep\": 1}",
];

fn value() -> impl Strategy<Value = &'static str> {
    // A few values most of the time, so that some are equal.
    prop_oneof![select(&VALUES[..]), select(vec!["\"duel\"", "1", "true", "null"])]
}

fn literal() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => value().prop_map(|value| format!("`{value}`")),
        1 => Just("'duel'".to_owned()),
        1 => Just("'it\\'s'".to_owned()),
    ]
}

fn path() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => select(&FIELDS[..]).prop_map(|field| format!("MatchProperties.{field}")),
        1 => Just("PlayerIds".to_owned()),
        1 => Just("PlayerProperties.ann.mode".to_owned()),
        1 => Just("MatchId".to_owned()),
        1 => Just("absent.altogether".to_owned()),
    ]
}

fn equality() -> impl Strategy<Value = String> {
    (path(), literal(), any::<bool>()).prop_map(|(path, literal, turned)| {
        if turned { format!("{literal} == {path}") } else { format!("{path} == {literal}") }
    })
}

/// Conjunctions, near-conjunctions, and anything else.
fn expression() -> impl Strategy<Value = String> {
    let other = prop_oneof![
        path(),
        (path(), literal()).prop_map(|(path, literal)| format!("{path} != {literal}")),
        (path(), 0..3).prop_map(|(path, number)| format!("{path} >= `{number}`")),
        path().prop_map(|path| format!("length({path}) > `0`")),
        path().prop_map(|path| format!("contains({path}, 'ann')")),
        Just("PlayerIds[0] == 'ann'".to_owned()),
        Just("@.MatchProperties.mode == 'duel'".to_owned()),
        Just("MatchProperties | mode == 'duel'".to_owned()),
        Just("MatchProperties.*".to_owned()),
        Just("length(keys(@)) == `4`".to_owned()),
        Just("[MatchProperties.mode, PlayerIds][1]".to_owned()),
        Just("`1` == `1.0`".to_owned()),
    ];
    prop_oneof![
        1 => Just(String::new()),
        4 => equality(),
        4 => (equality(), equality()).prop_map(|(a, b)| format!("{a} && {b}")),
        1 => (equality(), equality(), equality()).prop_map(|(a, b, c)| format!("{a} && ({b} && {c})")),
        1 => equality().prop_map(|a| format!("!({a})")),
        2 => (equality(), equality()).prop_map(|(a, b)| format!("{a} || {b}")),
        1 => (equality(), other.clone()).prop_map(|(a, b)| format!("{a} && {b}")),
        2 => other,
    ]
}

fn specs() -> impl Strategy<Value = MatchSpec> {
    let fields = proptest::collection::btree_map(
        select(vec!["mode", "game mode", "level", "nested"]),
        prop_oneof![4 => value().prop_map(str::to_owned), 1 => value().prop_map(|value| format!("{{\"deep\":{value}}}"))],
        0..4,
    );
    let named = proptest::sample::subsequence(vec!["ann", "bob"], 0..=2);
    let of = proptest::option::weighted(0.4, select(vec!["eu", "us"]));
    (fields, named, of).prop_map(|(fields, named, of)| {
        let fields: Vec<_> = fields.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
        let properties = Properties::parse(&format!("{{{}}}", fields.join(","))).unwrap();
        let of_ann = Properties::parse("{\"mode\":\"duel\"}").unwrap();
        MatchSpec {
            players: named.iter().map(|name| player(name)).collect(),
            player_properties: named.iter().take(1).map(|name| (player(name), of_ann.clone())).collect(),
            properties,
            fleet: of.map(fleet_id),
            ..MatchSpec::default()
        }
    })
}

/// Whether the match fits, by the library alone.
fn fits(expression: &str, game: &Match) -> bool {
    if expression.is_empty() {
        return true;
    }
    let quoted = |text: &str| format!("{text:?}");
    let players: Vec<_> = game.spec.players.iter().map(|player| quoted(player.as_str())).collect();
    let of_players = game.spec.player_properties.iter();
    let of_players: Vec<_> = of_players
        .map(|(player, properties)| format!("{:?}:{}", player.as_str(), properties.text().unwrap_or("{}")))
        .collect();
    let json = format!(
        r#"{{"MatchId":{},"PlayerIds":[{}],"MatchProperties":{},"PlayerProperties":{{{}}}}}"#,
        quoted(game.id.as_str()),
        players.join(","),
        game.spec.properties.text().unwrap_or("{}"),
        of_players.join(",")
    );
    let document = Variable::from_json(&json).unwrap();
    jmespath::compile(expression).unwrap().search(document).is_ok_and(|found| found.is_truthy())
}

fn is_open(game: &Match, of: Option<&FleetId>) -> bool {
    game.spec.fleet.is_none() || game.spec.fleet.as_ref() == of
}

/// Random actions; indexes choose among existing objects.
#[derive(Clone, Debug)]
enum Turn {
    Come(MatchSpec),
    Go(Index),
    Ask(usize, Index),
    Wait(usize, Index),
    Abandon(Index),
    ComeBack,
}

fn turns() -> impl Strategy<Value = Vec<Turn>> {
    let turn = prop_oneof![
        8 => specs().prop_map(Turn::Come),
        1 => any::<Index>().prop_map(Turn::Go),
        5 => (0..4_usize, any::<Index>()).prop_map(|(who, what)| Turn::Ask(who, what)),
        4 => (0..4_usize, any::<Index>()).prop_map(|(who, what)| Turn::Wait(who, what)),
        1 => any::<Index>().prop_map(Turn::Abandon),
        3 => Just(Turn::ComeBack),
    ];
    proptest::collection::vec(turn, 1..120)
}

/// The broker, and what its indexes should know, as lists.
struct Play {
    table: Table,
    expressions: Vec<String>,
    servers: Vec<(ServerId, Option<FleetId>)>,
    /// In order of arrival.
    waiting: Vec<(CallId, usize, String)>,
    taken: BTreeMap<MatchId, Offer>,
}

impl Play {
    fn new(expressions: Vec<String>) -> Self {
        let day = secs(24 * 3600);
        let settings = Settings {
            match_pickup_time: day,
            wait: day,
            match_ready_time: day,
            ..on(FastSchedule::OnSchedule)
        };
        let mut table = Table::with(settings, vec![fleet("eu"), Fleet { preference: 1, ..fleet("us") }]);
        let mut servers = Vec::new();
        for of in ["eu", "us"] {
            // A server of that fleet, which has served a match.
            let spec = MatchSpec { fleet: Some(fleet_id(of)), ..MatchSpec::default() };
            let id = table.ok(Command::AllocateServer { id: None, spec: Some(spec) });
            let Reply::Allocated { server, match_id: Some(id) } = id else { panic!("{id:?}") };
            assert_eq!(table.poll(&server), Some(id.clone()));
            table.ready(&server, &id);
            table.end(&server, &id);
            servers.push((server, Some(fleet_id(of))));
        }
        servers.extend([(server("stranger"), None), (server("other"), None)]);
        Self { table, expressions, servers, waiting: Vec::new(), taken: BTreeMap::new() }
    }

    fn expression(&self, which: Index) -> String {
        which.get(&self.expressions).clone()
    }

    fn oldest(&self, who: usize, expression: &str) -> Option<MatchId> {
        let of = self.servers[who].1.as_ref();
        let mut queued = self.table.broker.queued();
        queued.find(|game| is_open(game, of) && fits(expression, game)).map(|game| game.id.clone())
    }

    fn ask(&mut self, who: usize, expression: &str, hints: Hints) -> Option<MatchId> {
        let host = self.servers[who].0.clone();
        loop {
            let answer = match self.table.ask(request(&host, expression, hints)) {
                Asked::Kept(call) => {
                    self.waiting.push((call, who, expression.to_owned()));
                    return None;
                }
                Asked::Answered(answer) => *answer,
            };
            match answer {
                // A match that it has and may not have heard about, if no other fits: that one never comes back.
                Ok(Reply::Requested { offer: Some(offer), .. }) if offer.again => {
                    self.taken.remove(&offer.match_id);
                }
                Ok(Reply::Requested { offer, .. }) => return offer.map(|offer| self.took(offer)),
                other => panic!("{other:?}"),
            }
        }
    }

    fn took(&mut self, offer: Offer) -> MatchId {
        let id = offer.match_id.clone();
        self.taken.insert(id.clone(), offer);
        id
    }

    /// Of the servers that a match fits, the longest-waiting one's call takes it, and no other.
    fn handed_over(&mut self, id: &MatchId) -> Result<(), TestCaseError> {
        let game = self.table.find(id).clone();
        let fitting = |(_, who, expression): &(CallId, usize, String)| {
            is_open(&game, self.servers[*who].1.as_ref()) && fits(expression, &game)
        };
        let expected = self.waiting.iter().position(fitting).map(|at| self.waiting.remove(at));
        if let Some((call, _, _)) = &expected {
            let offer = self.table.offered(*call);
            prop_assert_eq!(offer.as_ref().map(|offer| &offer.match_id), Some(id));
            offer.into_iter().for_each(|offer| drop(self.took(offer)));
        }
        for (call, _, expression) in &self.waiting {
            prop_assert!(self.table.answer(*call).is_none(), "{expression}");
        }
        prop_assert_eq!(self.table.state(id) == "queued", expected.is_none());
        Ok(())
    }

    fn turn(&mut self, turn: Turn, n: usize) -> Result<(), TestCaseError> {
        match turn {
            Turn::Come(spec) => {
                let id = self.table.submit(&format!("m{n}"), spec);
                self.handed_over(&id)?;
            }
            Turn::Go(index) => {
                let queued: Vec<_> = self.table.broker.queued().map(|queued| queued.id.clone()).collect();
                if !queued.is_empty() {
                    self.table.ok(Command::CancelMatch { id: index.get(&queued).clone() });
                }
            }
            Turn::Ask(who, what) | Turn::Wait(who, what) => {
                let hints = if matches!(turn, Turn::Wait(..)) { Hints::WILLING_TO_WAIT } else { Hints::NONE };
                let expression = self.expression(what);
                let expected = self.oldest(who, &expression);
                prop_assert_eq!(self.ask(who, &expression, hints), expected, "{}", expression);
            }
            Turn::Abandon(index) => {
                if !self.waiting.is_empty() {
                    let (call, _, _) = self.waiting.remove(index.index(self.waiting.len()));
                    self.table.abandon(call);
                }
            }
            Turn::ComeBack => {
                if let Some((id, offer)) = self.taken.pop_first() {
                    self.table.undelivered(Reply::Requested {
                        offer: Some(offer),
                        more: Vec::new(),
                        hints: Hints::NONE,
                    });
                    self.handed_over(&id)?;
                }
            }
        }
        let queued: Vec<_> = self.table.broker.queued().map(|game| game.id.clone()).collect();
        for (ahead, id) in queued.iter().enumerate() {
            prop_assert_eq!(self.table.broker.place_in_queue(id), Some(ahead));
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    /// A server that asks gets the oldest match that fits; the longest-waiting server gets a match that arrives, or
    /// comes back.
    #[test]
    fn matches_and_servers_are_found_as_by_looking_at_each(
        expressions in proptest::collection::vec(expression(), 1..8),
        turns in turns(),
    ) {
        let mut play = Play::new(expressions);
        for (n, turn) in turns.into_iter().enumerate() {
            play.turn(turn, n)?;
        }
    }

    /// A free server on which no queued match counts saves the order of a new one, if the match fits it.
    #[test]
    fn free_servers_are_found_as_by_looking_at_each(
        asked in proptest::collection::vec(proptest::option::weighted(0.8, expression()), 1..6),
        specs in proptest::collection::vec(specs(), 1..12),
    ) {
        let mut table = Table::with(on(FastSchedule::UnlessFree), vec![Fleet { max: 100, ..fleet("eu") }]);
        let mut free: Vec<Option<&str>> = Vec::new();
        for (n, expression) in asked.iter().enumerate() {
            // Servers that have not called since the restart take any match.
            table.poll(&server(&format!("s{n}")));
            free.push(expression.as_deref());
        }
        table.restart();
        for (n, expression) in asked.iter().enumerate() {
            if let Some(expression) = expression {
                table.request(&server(&format!("s{n}")), expression, Hints::NONE);
            }
        }
        for (n, spec) in specs.into_iter().enumerate() {
            let mark = table.mark();
            // Servers that were not ordered have no fleet.
            let open = spec.fleet.is_none();
            if spec.fleet == Some(fleet_id("us")) {
                continue;
            }
            let id = table.submit(&format!("m{n}"), spec);
            let game = table.find(&id).clone();
            let found = free.iter().position(|asked| open && asked.is_none_or(|asked| fits(asked, &game)));
            prop_assert_eq!(table.orders_since(mark).is_empty(), found.is_some());
            found.map(|at| free.remove(at));
        }
    }
}

#[test]
fn a_match_is_found_whatever_was_asked_before_it_came_back() {
    let mut play = Play::new(vec!["MatchProperties.level > `0`".into()]);
    // The server is known to take several matches, so that it gets the next one before one that it prepares.
    let server = play.servers[2].0.clone();
    let hints = Hints::NONE;
    let several = Command::RequestMatch { server, requirements: String::new(), hints, most: 2, wait: None };
    play.table.ok(several);
    let ids: Vec<_> = (0..200)
        .map(|n| {
            let spec =
                MatchSpec { properties: Properties::parse("{\"level\":1}").unwrap(), ..MatchSpec::default() };
            play.table.submit(&format!("m{n:03}"), spec)
        })
        .collect();
    let expression = play.expressions[0].clone();
    for id in &ids {
        assert_eq!(play.ask(2, &expression, Hints::NONE).as_ref(), Some(id));
    }
    // More come back at once than are remembered as fitting, youngest first.
    while let Some((_, offer)) = play.taken.pop_last() {
        play.table.undelivered(Reply::Requested { offer: Some(offer), more: Vec::new(), hints: Hints::NONE });
    }
    for id in &ids {
        assert_eq!(play.ask(2, &expression, Hints::NONE).as_ref(), Some(id));
    }
    assert_eq!(play.ask(2, &expression, Hints::NONE), None);
}

#[test]
fn many_sets_of_paths_are_no_trouble() {
    let mut play = Play::new(vec![String::new()]);
    let mut submitted = Vec::new();
    for n in 0..200 {
        let properties = Properties::parse(&format!("{{\"f{n}\":true}}")).unwrap();
        let spec = MatchSpec { properties, ..MatchSpec::default() };
        submitted.push(play.table.submit(&format!("m{n}"), spec));
    }
    for (n, id) in submitted.iter().enumerate().rev() {
        let expression = format!("MatchProperties.f{n} == `true`");
        assert_eq!(play.ask(2, &expression, Hints::NONE).as_ref(), Some(id));
        assert_eq!(play.ask(2, &expression, Hints::NONE), None);
    }
}
