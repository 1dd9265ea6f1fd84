//! Invariants on random players, parties, cancels, failures and crashes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use proptest::sample::{Index, select};
use sortie_domain::ids::{MatchId, TicketId};
use sortie_domain::machine::Machine;
use sortie_domain::matchmaking::model::{SeatOffer, Stage, Status, Ticket, TicketSpec, TicketState};
use sortie_domain::matchmaking::settings::{
    Backfill, ExpirationAction, HookPoint, Measure, OnFailure, Queue, Rule, RuleKind, Settings, WidenStep,
};
use sortie_domain::matchmaking::{Command, Event, MatchVerdict, TicketVerdict};
use sortie_domain::time::Timestamp;
use sortie_testkit::oracle::{MAX_TICKETS, accepts, legal_match};

use super::rules::{equal, latency};
use super::table::{
    Table, at, check_players, far_from, outside, player_id, queue_id, rated, secs, settings, spec,
    with_properties,
};

/// A wish for a ticket: its players are taken from the free ones.
#[derive(Clone, Debug)]
struct Wish {
    size: usize,
    map: &'static str,
    rating: u32,
    latencies: [u32; 2],
    blocks: bool,
}

fn wish(largest: usize) -> impl Strategy<Value = Wish> {
    let latencies = [select(vec![20_u32, 60, 120]), select(vec![20_u32, 60, 120])];
    (1..=largest, select(vec!["forest", "desert"]), 0..12_u32, latencies, proptest::bool::weighted(0.1))
        .prop_map(|(size, map, rating, latencies, blocks)| Wish {
            size,
            map,
            rating: rating * 25,
            latencies,
            blocks,
        })
}

fn rules() -> impl Strategy<Value = Vec<Rule>> {
    let skill =
        RuleKind::Distance { property: "mmr".into(), measure: Measure::Max, most: 30.0, missing: 0.0 };
    let step = |after, value| WidenStep { after: secs(after), value };
    let all = vec![
        Rule { relax_after: Some(secs(25)), ..equal("map") },
        Rule {
            widen: vec![step(5, 60.0), step(12, 120.0)],
            relax_after: Some(secs(30)),
            ..Rule::new("skill", skill)
        },
        Rule { widen: vec![step(8, 130.0)], ..latency(70.0) },
        Rule { relax_after: Some(secs(20)), ..Rule::new("blocked", RuleKind::NotBlocked) },
        Rule {
            widen: vec![step(10, 80.0)],
            ..Rule::new("balance", RuleKind::Balance { property: "mmr".into(), most: 40.0, missing: 0.0 })
        },
    ];
    proptest::sample::subsequence(all, 0..=5)
}

fn queues() -> impl Strategy<Value = Queue> {
    let sizes = select(vec![(2, 1, 1), (2, 2, 2), (2, 3, 2), (3, 2, 1), (1, 4, 2), (2, 4, 3)]);
    (sizes, rules(), any::<bool>()).prop_map(|((teams, most, least), rules, minimum)| Queue {
        teams,
        players_per_team: most,
        min_players_per_team: least,
        ticket_expiration: secs(45),
        expiration_action: if minimum { ExpirationAction::Minimum } else { ExpirationAction::Drop },
        max_requeues: 2,
        rules,
        ..Queue::default()
    })
}

/// What happens next; indexes choose among the existing things.
#[derive(Clone, Debug)]
enum Play {
    Start(Wish),
    Cancel(Index),
    NoServer(Index),
    Ready(Index),
    Ended(Index),
    Accept(Index, Index),
    Decline(Index, Index),
    Hook(Index, u8),
    Offer(u32, u32),
    Seat(Index, bool),
    Advance(u64),
    Restart,
}

fn play() -> impl Strategy<Value = Play> {
    use Play::*;
    let index = any::<Index>;
    prop_oneof![
        10 => wish(3).prop_map(Start),
        2 => index().prop_map(Cancel),
        2 => index().prop_map(NoServer),
        2 => index().prop_map(Ready),
        1 => index().prop_map(Ended),
        4 => (index(), index()).prop_map(|(of, who)| Accept(of, who)),
        1 => (index(), index()).prop_map(|(of, who)| Decline(of, who)),
        4 => (index(), 0..3_u8).prop_map(|(which, what)| Hook(which, what)),
        1 => (0..3_u32, 1..4_u32).prop_map(|(which, seats)| Offer(which, seats)),
        2 => (index(), any::<bool>()).prop_map(|(which, good)| Seat(which, good)),
        6 => (0..9_000_u64).prop_map(Advance),
        1 => Just(Restart),
    ]
}

/// Plays random calls.
struct Game {
    table: Table,
    tickets: u32,
    players: u32,
}

impl Game {
    fn new(queue: Queue) -> Self {
        Self { table: Table::with(queue), tickets: 0, players: 0 }
    }

    fn waiting(&self) -> Vec<Ticket> {
        let tickets =
            self.table.maker.snapshot().tickets.into_iter().map(|(_, ticket)| Arc::unwrap_or_clone(ticket));
        tickets.filter(|ticket| ticket.state == TicketState::Waiting).collect()
    }

    fn spec(&mut self, wish: &Wish) -> TicketSpec {
        let names: Vec<String> = (0..wish.size).map(|of| format!("p{}", self.players + of as u32)).collect();
        self.players += wish.size as u32;
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let spec = rated(f64::from(wish.rating), spec(&names));
        let [eu, us] = wish.latencies;
        let mut spec = far_from(&[("eu", eu), ("us", us)], spec);
        if wish.blocks {
            let blocked = player_id(&format!("p{}", self.players.saturating_sub(3)));
            spec.parties[0].players[0].blocked.push(blocked);
        }
        with_properties(&format!(r#"{{"map":"{}"}}"#, wish.map), spec)
    }

    fn start(&mut self, wish: &Wish) {
        let largest = self.table.maker.settings().queues[&queue_id("q")].players_per_team as usize;
        let wish = Wish { size: wish.size.min(largest), ..wish.clone() };
        let spec = self.spec(&wish);
        self.tickets += 1;
        self.table.start(&format!("t{}", self.tickets), spec);
    }

    fn any_match(&self, index: Index) -> Option<MatchId> {
        let ids: Vec<MatchId> = self.table.maker.formations().map(|formation| formation.id.clone()).collect();
        (!ids.is_empty()).then(|| index.get(&ids).clone())
    }

    fn play(&mut self, play: Play) {
        match play {
            Play::Start(wish) => self.start(&wish),
            Play::Advance(millis) => self.table.advance(Duration::from_millis(millis)),
            Play::Restart => self.table.restart(),
            other => {
                if let Some(command) = self.command(&other) {
                    // Some are refused: the table checks that this leaves no trace.
                    let before = self.table.log.len();
                    if self.table.ask(command).is_err() {
                        assert_eq!(self.table.log.len(), before);
                    }
                }
            }
        }
    }

    fn command(&self, play: &Play) -> Option<Command> {
        Some(match *play {
            Play::Cancel(index) => {
                let page = self.table.maker.tickets(0, 100).items;
                Command::Cancel {
                    id: if page.is_empty() { return None } else { index.get(&page).id.clone() },
                }
            }
            Play::NoServer(index) => {
                Command::NoServer { match_id: self.any_match(index)?, reason: "full".into() }
            }
            Play::Ready(index) => {
                Command::MatchReady { match_id: self.any_match(index)?, connection: at("here") }
            }
            Play::Ended(index) => {
                Command::MatchEnded { match_id: self.any_match(index)?, reason: "over".into() }
            }
            Play::Accept(of, who) => {
                let (match_id, player) = self.player(of, who)?;
                Command::Accept { match_id, player }
            }
            Play::Decline(of, who) => {
                let (match_id, player) = self.player(of, who)?;
                Command::Decline { match_id, player }
            }
            Play::Hook(which, what) => return self.outcome(which, what),
            Play::Offer(which, seats) => Command::OfferSeats { offer: offer(which, seats) },
            Play::Seat(which, good) => {
                let seating = self
                    .table
                    .maker
                    .snapshot()
                    .tickets
                    .into_iter()
                    .map(|(_, ticket)| Arc::unwrap_or_clone(ticket));
                let seating: Vec<Ticket> =
                    seating.filter(|ticket| matches!(ticket.state, TicketState::Seating { .. })).collect();
                let ticket = if seating.is_empty() { return None } else { which.get(&seating) };
                let (id, match_id) = (ticket.id.clone(), ticket.match_id()?.clone());
                if good {
                    Command::Seated { ticket: id, match_id, connection: at("there") }
                } else {
                    Command::NotSeated { ticket: id, match_id }
                }
            }
            Play::Start(_) | Play::Advance(_) | Play::Restart => return None,
        })
    }

    fn player(&self, of: Index, who: Index) -> Option<(MatchId, sortie_domain::ids::PlayerId)> {
        let id = self.any_match(of)?;
        let players = &self.table.maker.formation(&id)?.spec.players;
        Some((id, who.get(players).clone()))
    }

    /// The verdict of a hook that was asked.
    fn outcome(&self, which: Index, what: u8) -> Option<Command> {
        let snapshot = self.table.maker.snapshot();
        let mut asked: Vec<Command> = Vec::new();
        for ticket in snapshot.tickets.values() {
            if let TicketState::Validating(check) = &ticket.state {
                let outcome = match what {
                    0 => TicketVerdict::Refuse { reason: "no".into() },
                    1 => TicketVerdict::Failed,
                    _ => TicketVerdict::ACCEPT,
                };
                let (ticket, hook) = (ticket.id.clone(), check.hook.clone());
                asked.push(Command::TicketValidated { ticket, hook, outcome });
            }
        }
        for formation in snapshot.formations.values() {
            if let Stage::Checking(check) = &formation.stage {
                let outcome = match what {
                    0 => MatchVerdict::Refuse { reason: "no".into() },
                    1 => MatchVerdict::Failed,
                    _ => MatchVerdict::Accept { properties: None, player_properties: BTreeMap::new() },
                };
                let (match_id, hook) = (formation.id.clone(), check.hook.clone());
                asked.push(Command::MatchChecked { match_id, hook, outcome });
            }
        }
        (!asked.is_empty()).then(|| which.get(&asked).clone())
    }
}

fn offer(which: u32, seats: u32) -> SeatOffer {
    SeatOffer {
        match_id: MatchId::new(&format!("running {which}")).unwrap(),
        queue: queue_id("q"),
        seats,
        region: None,
        properties: sortie_domain::properties::Properties::default(),
        ratings: BTreeMap::new(),
        players: Vec::new(),
    }
}

fn config() -> ProptestConfig {
    ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(96) }
}

proptest! {
    #![proptest_config(config())]

    /// No legal match exists for longer than a tick: the matchmaker has found everything that an exhaustive search
    /// finds.
    #[test]
    fn no_match_is_overlooked(queue in queues(), plays in proptest::collection::vec(play(), 1..40)) {
        let mut game = Game::new(queue.clone());
        for play in plays {
            let crowded = game.waiting().len() >= MAX_TICKETS;
            if crowded && matches!(play, Play::Start(_) | Play::NoServer(_) | Play::Ended(_) | Play::Cancel(_)) {
                continue;
            }
            game.play(play);
            game.table.tick();
            let waiting = game.waiting();
            if waiting.len() <= MAX_TICKETS {
                let a_tick_ago = Timestamp::from_millis(game.table.now - 110);
                prop_assert_eq!(legal_match(&queue, &waiting, a_tick_ago), None);
            }
            check_players(&game.table.maker);
        }
        prop_assert_eq!(game.table.maker.cut_searches(), 0);
    }

    /// With hooks, acceptance and free seats, through crashes: nobody is lost, nobody is in two matches, and players
    /// hear consistent statuses.
    #[test]
    fn nobody_is_lost(
        queue in queues(),
        first in any::<bool>(),
        refuse in any::<bool>(),
        plays in proptest::collection::vec(play(), 1..120),
    ) {
        let on_failure = if refuse { OnFailure::Refuse } else { OnFailure::Accept };
        let hooks = vec![
            outside("v", HookPoint::ValidateTicket, on_failure),
            outside("n", HookPoint::NewMatch, on_failure),
        ];
        let backfill = if first { Backfill::First } else { Backfill::Last };
        let queue = Queue { hooks, backfill, accept: Some(secs(4)), ..queue };
        let mut game = Game::new(queue);
        for play in plays {
            game.play(play);
            check_players(&game.table.maker);
        }
        // Everything ends eventually.
        game.table.advance(secs(600));
        for match_id in game.table.maker.formations().map(|formation| formation.id.clone()).collect::<Vec<_>>() {
            game.table.ready(&match_id);
        }
        let left = game.table.maker.tickets(0, 1_000).items;
        prop_assert!(left.is_empty(), "{left:?}");
        prop_assert!(game.table.maker.formations().next().is_none());
        for n in 1..=game.tickets {
            check_heard(&game.table.heard(&format!("t{n}")))?;
        }
        check_matches(&game.table)?;
    }

    /// The same tickets at the same times give the same matches, and so does a different order of commands within one
    /// tick that keeps the tickets' order.
    #[test]
    fn the_same_tickets_give_the_same_matches(queue in queues(), wishes in proptest::collection::vec(wish(3), 1..30)) {
        let run = |restart: bool| {
            let mut game = Game::new(queue.clone());
            for (n, wish) in wishes.iter().enumerate() {
                game.start(wish);
                if n % 3 == 0 {
                    game.table.tick();
                    if restart {
                        game.table.restart();
                    }
                }
            }
            game.table.advance(secs(60));
            game.table.formed()
        };
        prop_assert_eq!(run(false), run(false));
        prop_assert_eq!(run(false), run(true), "a restart changes nothing");
    }

    /// Longer waits go first: no ticket takes a partner that a longer-waiting ticket could have had.
    #[test]
    fn the_oldest_go_first(distance in 0..3_u32, wishes in proptest::collection::vec((wish(1), 0..300_u64), 1..40)) {
        let kind = RuleKind::Distance {
            property: "mmr".into(),
            measure: Measure::Average,
            most: f64::from(distance) * 25.0,
            missing: 0.0,
        };
        let rules = vec![equal("map"), Rule::new("skill", kind)];
        let queue = Queue { rules, ..Queue::default() };
        let mut game = Game::new(queue.clone());
        let mut known: BTreeMap<TicketId, Ticket> = BTreeMap::new();
        for (wish, pause) in &wishes {
            game.start(wish);
            known.extend(game.waiting().into_iter().map(|ticket| (ticket.id.clone(), ticket)));
            game.table.advance(Duration::from_millis(*pause));
        }
        game.table.tick();
        let mut waiting: BTreeSet<TicketId> = BTreeSet::new();
        for record in &game.table.log {
            match &record.event {
                Event::TicketStarted { id, .. } => {
                    waiting.insert(id.clone());
                }
                Event::MatchFormed { teams, .. } => {
                    let mut both: Vec<&Ticket> =
                        teams.iter().flatten().map(|named| &known[&named.ticket]).collect();
                    both.sort_by_key(|ticket| ticket.place);
                    let mut older = waiting.iter().map(|id| &known[id]).filter(|other| other.place < both[0].place);
                    let passed = older.find(|other| accepts(&queue, other, both[1], record.time));
                    prop_assert!(passed.is_none(), "{} was passed by for {}", passed.unwrap().id, both[0].id);
                    for ticket in &both {
                        waiting.remove(&ticket.id);
                    }
                }
                _ => {}
            }
        }
    }

    /// Settings may change at any time without losing a ticket.
    #[test]
    fn reconfiguration_loses_nobody(one in queues(), other in queues(), wishes in proptest::collection::vec(wish(1), 1..20)) {
        let mut game = Game::new(one.clone());
        for (n, wish) in wishes.iter().enumerate() {
            game.start(wish);
            if n % 4 == 1 {
                game.table.tick();
            }
            let queue = if n % 2 == 0 { other.clone() } else { one.clone() };
            let settings = settings([("q", queue)]);
            match n % 3 {
                0 => game.table.done(Command::Configure { settings }),
                1 => game.table.done(Command::Reconfigure { settings }),
                _ => game.table.restart(),
            }
        }
        game.table.done(Command::Configure { settings: settings([]) });
        game.table.advance(secs(100));
        for n in 1..=game.tickets {
            let status = game.table.status(&format!("t{n}"));
            prop_assert!(matches!(status, Status::FindingServer | Status::TimedOut), "{status:?}");
        }
    }
}

#[derive(Clone, Debug)]
enum Change {
    File(u64),
    AtRunTime(u64),
    Restart,
}

proptest! {
    /// The newest is in force: an edited file, or a change at run time. A restart is neither.
    #[test]
    fn the_last_change_is_in_force(changes in proptest::collection::vec(prop_oneof![
        (1..4_u64).prop_map(Change::File), (1..4_u64).prop_map(Change::AtRunTime), Just(Change::Restart),
    ], 1..20)) {
        let with = |tick| Settings { tick: Duration::from_millis(tick), ..settings([("q", Queue::default())]) };
        let mut table = Table::configured(with(1));
        let (mut file, mut in_force) = (1, 1);
        for change in changes {
            match change {
                Change::File(tick) => {
                    in_force = if tick == file { in_force } else { tick };
                    file = tick;
                    table.done(Command::Configure { settings: with(tick) });
                }
                Change::AtRunTime(tick) => {
                    in_force = tick;
                    table.done(Command::Reconfigure { settings: with(tick) });
                }
                Change::Restart => {
                    table.restart();
                    // Every start does this.
                    let events = table.log.len();
                    table.done(Command::Configure { settings: with(file) });
                    prop_assert_eq!(table.log.len(), events);
                }
            }
            prop_assert_eq!(table.maker.settings(), &with(in_force));
        }
    }
}

/// In order: waiting and finding a server alternate, followed by at most one end.
fn check_heard(heard: &[Status]) -> Result<(), TestCaseError> {
    prop_assert_eq!(heard.first(), Some(&Status::InProgress), "{:?}", heard);
    for pair in heard.windows(2) {
        prop_assert_ne!(pair[0], pair[1], "{:?}", heard);
        prop_assert!(!pair[0].is_last(), "{:?}", heard);
    }
    prop_assert!(heard.last().is_some_and(|last| last.is_last()), "{heard:?}");
    Ok(())
}

/// No player was ever in two matches at once, judging by the log alone.
fn check_matches(table: &Table) -> Result<(), TestCaseError> {
    let mut inside: BTreeMap<TicketId, MatchId> = BTreeMap::new();
    for record in &table.log {
        match &record.event {
            Event::MatchProposed { id, teams, .. } | Event::MatchFormed { id, teams, .. } => {
                for named in teams.iter().flatten() {
                    let before = inside.insert(named.ticket.clone(), id.clone());
                    prop_assert!(before.is_none() || before.as_ref() == Some(id), "{} twice", named.ticket);
                }
            }
            Event::SeatsTaken { match_id, ticket, .. } => {
                prop_assert_eq!(inside.insert(ticket.ticket.clone(), match_id.clone()), None);
            }
            Event::MatchDissolved { returned, .. } => {
                returned.iter().for_each(|named| drop(inside.remove(&named.ticket)));
            }
            Event::TicketReturned { ticket, .. }
            | Event::TicketCancelled { ticket, .. }
            | Event::TicketFailed { ticket, .. } => drop(inside.remove(&ticket.ticket)),
            _ => {}
        }
    }
    Ok(())
}
