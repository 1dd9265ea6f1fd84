//! Properties that hold for all values, on random ones.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;
use proptest::sample::{Index, select};
use sortie_domain::broker::model::{FastSchedule, Fleet, Match, SeatState, Settings};
use sortie_domain::broker::{Broker, Command, Hints, Offer, Reply, SeatsElsewhere};
use sortie_domain::ids::{AllocationId, FleetId, MatchId, SeatId, ServerId};
use sortie_domain::machine::Machine;
use sortie_domain::match_spec::MatchSpec;
use sortie_domain::properties::Properties;
use sortie_domain::requirements::{Document, Requirements};

use crate::table::{
    Asked, Table, end, fleet, fleet_id, game, key, player, ready, request, secs, server, spec, submit,
};

const EXPRESSIONS: [&str; 8] = [
    "",
    "MatchProperties.map == 'forest'",
    "MatchProperties.map != 'forest'",
    "MatchProperties.level > `2`",
    "MatchProperties.map == 'desert' && MatchProperties.level <= `3`",
    "length(PlayerIds) > `1`",
    "contains(PlayerIds, 'ann') || MatchProperties.ranked",
    "sum(MatchProperties.map) > `0`",
];

fn properties() -> impl Strategy<Value = String> {
    let map = select(vec!["forest", "desert", "city"]);
    (map, 0..5, any::<bool>())
        .prop_map(|(map, level, ranked)| format!(r#"{{"map":"{map}","level":{level},"ranked":{ranked}}}"#))
}

fn specs() -> impl Strategy<Value = MatchSpec> {
    let named = proptest::sample::subsequence(vec!["ann", "bob", "cat"], 0..=3);
    let of = proptest::option::weighted(0.4, select(vec!["eu", "us"]));
    (properties(), named, of, proptest::option::weighted(0.3, 3..6_u32)).prop_map(
        |(properties, named, of, capacity)| MatchSpec {
            properties: Properties::parse(&properties).unwrap(),
            fleet: of.map(fleet_id),
            capacity,
            ..spec(&named)
        },
    )
}

/// Random actions; indexes choose among existing objects.
#[derive(Clone, Debug)]
enum Play {
    Submit(MatchSpec, Option<u8>),
    Cancel(Index),
    Request(Index, Index, u32),
    Ready(Index, Index, u32),
    End(Index, Index, u32),
    LoseAnswer,
    Allocate,
    Deallocate(Index),
    Join(bool, u8),
    Reserve(Index, u8),
    Claim(Index),
    Release(Index),
    Free(Index, u8),
    Platform(Index, u8),
    Schedule(u8),
    Remove(bool),
    Advance(u64),
    Restart,
}

fn play() -> impl Strategy<Value = Play> {
    use Play::*;
    let index = any::<Index>;
    prop_oneof![
        4 => (specs(), proptest::option::of(0..4_u8)).prop_map(|(spec, key)| Submit(spec, key)),
        1 => index().prop_map(Cancel),
        8 => (index(), index(), 0..32_u32).prop_map(|(who, what, hints)| Request(who, what, hints)),
        4 => (index(), index(), 0..32_u32).prop_map(|(who, what, hints)| Ready(who, what, hints)),
        3 => (index(), index(), 0..32_u32).prop_map(|(who, what, hints)| End(who, what, hints)),
        1 => Just(LoseAnswer),
        1 => Just(Allocate),
        1 => index().prop_map(Deallocate),
        2 => (any::<bool>(), 0..6_u8).prop_map(|(eu, who)| Join(eu, who)),
        2 => (index(), 0..6_u8).prop_map(|(of, who)| Reserve(of, who)),
        2 => index().prop_map(Claim),
        1 => index().prop_map(Release),
        2 => (index(), 0..4_u8).prop_map(|(of, free)| Free(of, free)),
        4 => (index(), 0..4_u8).prop_map(|(which, what)| Platform(which, what)),
        1 => (0..3_u8).prop_map(Schedule),
        1 => any::<bool>().prop_map(Remove),
        4 => (0..40_000_u64).prop_map(Advance),
        1 => Just(Restart),
    ]
}

/// Makes random calls and remembers their objects.
struct Game {
    table: Table,
    lost: Option<Reply>,
    seats: BTreeSet<SeatId>,
    matches: u32,
}

fn fleets(with_us: bool) -> Vec<Fleet> {
    let mut fleets = vec![Fleet { warm: 1, max: 3, ..fleet("eu") }];
    if with_us {
        let requirements = "MatchProperties.map != 'city'".into();
        fleets.push(Fleet { requirements, max: 2, preference: 1, ..fleet("us") });
    }
    fleets
}

impl Game {
    fn new() -> Self {
        let table = Table::with(Settings::default(), fleets(true));
        Self { table, lost: None, seats: BTreeSet::new(), matches: 0 }
    }

    fn servers(&self) -> Vec<ServerId> {
        let known = self.table.broker.servers(None, 100).items.into_iter().map(|known| known.id);
        known.chain([server("stranger"), server("other stranger")]).collect()
    }

    /// A known or an unknown match.
    fn any_match(&self, index: Index) -> MatchId {
        let mut ids: Vec<_> = self.table.broker.matches(&[], None, 100).items;
        let last = ids.len().min(index.index(ids.len() + 1));
        if last == ids.len() { game("unknown") } else { ids.swap_remove(last).id }
    }

    /// A server and one of its matches, or any.
    fn held(&self, who: Index, what: Index) -> (ServerId, MatchId) {
        let active: Vec<&Match> = self.table.broker.active().collect();
        if active.is_empty() {
            return (who.get(&self.servers()).clone(), self.any_match(what));
        }
        let found = what.get(&active);
        (found.server.clone().unwrap_or_else(|| server("stranger")), found.id.clone())
    }

    fn ask(&mut self, command: Command) {
        let Asked::Answered(answer) = self.table.ask(command) else { return };
        if let Ok(Reply::Seated { seat, .. }) = &*answer {
            self.seats.insert(seat.id.clone());
        }
        if let Ok(reply @ (Reply::Requested { offer: Some(_), .. } | Reply::Seated { .. })) = *answer {
            self.lost = Some(reply);
        }
    }

    fn play(&mut self, play: Play) {
        match play {
            Play::Advance(millis) => self.table.advance(Duration::from_millis(millis)),
            Play::Restart => self.table.restart(),
            Play::LoseAnswer => {
                if let Some(reply) = self.lost.take() {
                    self.table.undelivered(reply);
                }
            }
            other => {
                if let Some(command) = self.command(other) {
                    self.ask(command);
                }
            }
        }
    }

    fn command(&mut self, play: Play) -> Option<Command> {
        let hints = |bits| Hints::from_bits(bits).unwrap();
        let seat = |seats: &BTreeSet<SeatId>, index: Index| {
            (!seats.is_empty()).then(|| index.get(&seats.iter().collect::<Vec<_>>()).to_owned().clone())
        };
        Some(match play {
            Play::Submit(spec, at_key) => {
                self.matches += 1;
                let idempotency_key = at_key.and_then(|at_key| key(&at_key.to_string()));
                submit(&game(&format!("m{}", self.matches)), MatchSpec { idempotency_key, ..spec })
            }
            Play::Cancel(index) => Command::CancelMatch { id: self.any_match(index) },
            Play::Request(who, what, bits) => {
                request(who.get(&self.servers()), EXPRESSIONS[what.index(EXPRESSIONS.len())], hints(bits))
            }
            Play::Ready(who, what, bits) => {
                let (host, id) = self.held(who, what);
                ready(&host, &id, "203.0.113.7:7777", hints(bits))
            }
            Play::End(who, what, bits) => {
                let (host, id) = self.held(who, what);
                end(&host, &id, hints(bits))
            }
            Play::Allocate => Command::AllocateServer { id: None, spec: None },
            Play::Deallocate(index) => {
                Command::DeallocateServer { server: index.get(&self.servers()).clone() }
            }
            Play::Join(eu, who) => join(if eu { "eu" } else { "us" }, who),
            Play::Reserve(of, who) => Command::ReserveSeat {
                match_id: self.any_match(of),
                player: player(["ann", "bob", "cat", "p0", "p1", "p2"][usize::from(who)]),
                ttl: secs(5),
                elsewhere: SeatsElsewhere::Ignored,
            },
            Play::Claim(index) => Command::ClaimSeat { seat: seat(&self.seats, index)?, server: None },
            Play::Free(index, free) => {
                Command::ReportFreePlaces { match_id: self.any_match(index), server: None, free: free.into() }
            }
            Play::Release(index) => Command::ReleaseSeat { seat: seat(&self.seats, index)? },
            Play::Platform(which, what) => self.report(which, what)?,
            Play::Schedule(mode) => schedule(mode),
            Play::Remove(us) => {
                Command::Configure { settings: self.table.broker.settings().clone(), fleets: fleets(!us) }
            }
            Play::Advance(_) | Play::Restart | Play::LoseAnswer => return None,
        })
    }

    /// What the platform reports about one of its servers.
    fn report(&self, which: Index, what: u8) -> Option<Command> {
        let orders: Vec<AllocationId> = self.table.allocations().into_iter().map(|order| order.id).collect();
        if orders.is_empty() {
            return None;
        }
        let allocation = which.get(&orders).clone();
        Some(match what {
            0 => Command::AllocationStarted { allocation },
            1 => Command::AllocationFailed { allocation, error: "no capacity".into() },
            2 => Command::AllocationStopped { allocation },
            _ => Command::ServerExited { allocation, status: "exit status 1".into() },
        })
    }
}

fn join(of: &str, who: u8) -> Command {
    Command::Join {
        fleet: fleet_id(of),
        player: player(&format!("p{who}")),
        capacity: 2,
        ttl: secs(5),
        properties: Properties::default(),
        beside: [].into(),
        rejoin: true,
    }
}

fn schedule(mode: u8) -> Command {
    let modes = [FastSchedule::OnSchedule, FastSchedule::UnlessFree, FastSchedule::Always];
    Command::Reconfigure {
        change: sortie_domain::broker::model::SettingsChange {
            fast_schedule: Some(modes[usize::from(mode)]),
            ..Default::default()
        },
    }
}

/// The oldest queued match that fits, found by checking each.
fn oldest_fitting(broker: &Broker, expression: &str, of: Option<&FleetId>) -> Option<MatchId> {
    let mut requirements = Requirements::new();
    let requirement = requirements.compile(expression).unwrap();
    let mut queued = broker.queued().filter(|queued| {
        let open = queued.spec.fleet.is_none() || queued.spec.fleet.as_ref() == of;
        open && requirements.fits(&requirement, &Document::new(&queued.id, &queued.spec))
    });
    queued.next().map(|queued| queued.id.clone())
}

/// Taken and free places, counted by each player and each seat.
fn counted(game: &Match) -> (u32, u32) {
    let speaks = game.reported_free.is_some();
    let kept =
        |player: &_| game.spec.players.contains(player) && !(speaks && game.seats.left().contains(player));
    let named = game.spec.players.iter().filter(|player| kept(player)).count();
    let beside: Vec<_> = game.seats.values().filter(|seat| !kept(&seat.player)).collect();
    let coming = beside.iter().filter(|seat| matches!(seat.state, SeatState::Reserved { .. })).count();
    let taken = u32::try_from(named + beside.len()).unwrap();
    let free = match game.reported_free {
        Some(free) => free.saturating_sub(u32::try_from(coming).unwrap()),
        None => game.spec.capacity.map_or(0, |capacity| capacity.saturating_sub(taken)),
    };
    (taken, free)
}

/// What happens to a queue: matches come, go, come back, and servers ask.
#[derive(Clone, Debug)]
enum Turn {
    Come(MatchSpec),
    Go(Index),
    Ask(u8, Index),
    ComeBack,
}

fn turns() -> impl Strategy<Value = Vec<Turn>> {
    let turn = prop_oneof![
        4 => specs().prop_map(Turn::Come),
        1 => any::<Index>().prop_map(Turn::Go),
        4 => (0..3_u8, any::<Index>()).prop_map(|(who, what)| Turn::Ask(who, what)),
        2 => Just(Turn::ComeBack),
    ];
    proptest::collection::vec(turn, 1..80)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(128) })]

    /// Replaying the log gives the state, and so does a snapshot: the table looks when it is dropped.
    #[test]
    fn the_log_is_the_whole_truth(plays in proptest::collection::vec(play(), 1..150)) {
        let mut game = Game::new();
        for play in plays {
            game.play(play);
        }
        let snapshot = game.table.broker.snapshot();
        for game in snapshot.matches.values() {
            prop_assert_eq!((game.occupied(), game.free_places()), counted(game));
            let (mut players, mut seated) = (game.players(), game.spec.players.clone());
            seated.extend(game.seats.values().map(|seat| seat.player.clone()));
            players.sort();
            seated.sort();
            seated.dedup();
            prop_assert_eq!(players, seated);
            for seat in game.seats.values() {
                prop_assert_eq!(game.seats.of_player(&seat.player), Some(seat));
            }
        }
        prop_assert!(Broker::restore(snapshot.clone()).snapshot() == snapshot);
        prop_assert_eq!(snapshot.seq, game.table.log.len() as u64);
        for (n, record) in game.table.log.iter().enumerate() {
            prop_assert_eq!(record.seq, n as u64 + 1);
        }
    }

    /// However often servers asked before, and whatever came back to the queue, they get the same match as by checking
    /// every match in the queue.
    #[test]
    fn a_server_gets_the_match_that_looking_at_each_would_give(turns in turns()) {
        let settings = Settings { match_pickup_time: secs(1_000_000), ..Settings::default() };
        let mut table = Table::with(settings, vec![fleet("eu"), Fleet { preference: 1, ..fleet("us") }]);
        let european = table.idle_server();
        let american = us_server(&mut table);
        let servers = [(european, Some("eu")), (american, Some("us")), (server("stranger"), None)];
        let mut taken: BTreeMap<MatchId, Offer> = BTreeMap::new();
        for (n, turn) in turns.into_iter().enumerate() {
            match turn {
                Turn::Come(spec) => drop(table.submit(&format!("m{n}"), spec)),
                Turn::Go(index) => {
                    let queued: Vec<_> = table.broker.queued().map(|queued| queued.id.clone()).collect();
                    if !queued.is_empty() {
                        table.ok(Command::CancelMatch { id: index.get(&queued).clone() });
                    }
                }
                Turn::Ask(who, what) => {
                    let (host, of) = &servers[usize::from(who)];
                    let expression = EXPRESSIONS[what.index(EXPRESSIONS.len())];
                    let of = of.map(fleet_id);
                    let expected = oldest_fitting(&table.broker, expression, of.as_ref());
                    let (mut offer, _) = table.request(host, expression, Hints::NONE);
                    // One that it prepares may come first, once.
                    if let Some(again) = offer.take_if(|offer| offer.again) {
                        taken.remove(&again.match_id);
                        if expected.is_some() {
                            offer = table.request(host, expression, Hints::NONE).0;
                        }
                    }
                    prop_assert_eq!(offer.as_ref().map(|offer| &offer.match_id), expected.as_ref());
                    taken.extend(offer.map(|offer| (offer.match_id.clone(), offer)));
                }
                Turn::ComeBack => {
                    if let Some((_, offer)) = taken.pop_first() {
                        table.undelivered(Reply::Requested { offer: Some(offer), more: Vec::new(), hints: Hints::NONE });
                    }
                }
            }
        }
    }

    #[test]
    fn hints_are_a_set_of_five_bits(bits: u32, other in 0..32_u32) {
        let hints = Hints::from_bits(bits);
        prop_assert_eq!(hints.is_some(), bits < 32);
        let (hints, other) = (Hints::from_bits(bits % 32).unwrap(), Hints::from_bits(other).unwrap());
        prop_assert_eq!(hints.bits(), bits % 32);
        let both = hints.with(other);
        prop_assert_eq!(both.bits(), hints.bits() | other.bits());
        prop_assert!(both.has(hints) && both.has(other) && hints.has(Hints::NONE));
        prop_assert_eq!(hints.has(other), other.bits() & !hints.bits() == 0);
    }
}

/// An idle server of the second fleet.
fn us_server(table: &mut Table) -> ServerId {
    let bound = MatchSpec { fleet: Some(fleet_id("us")), ..MatchSpec::default() };
    let id = table.submit("for us", bound);
    let host = table.allocation_for(&id).unwrap().server;
    assert_eq!(table.poll(&host).as_ref(), Some(&id));
    table.ready(&host, &id);
    table.end(&host, &id);
    host
}

#[test]
fn hints_have_the_numbers_of_the_contract() {
    let numbers = [
        Hints::NONE,
        Hints::SHUTDOWN,
        Hints::WILLING_TO_WAIT,
        Hints::WILLING_TO_SHUTDOWN,
        Hints::FULL,
        Hints::NOT_FULL,
    ];
    assert_eq!(numbers.map(Hints::bits), [0, 1, 2, 4, 8, 16]);
}
