//! Pools that the world of few players does not have: many mixed parties, large teams, outliers, rules over pairs,
//! numbers far apart; with search turns so short that few searches end within one.
//!
//! Each is built so that the result follows from its numbers, without a search: how many matches the sizes allow
//! ([`max_matches`]), or how many tickets are alike. docs/matchmaking.md promises that, and within how many ticks.

use std::collections::BTreeMap;
use std::time::Duration;

use fastrand::Rng;
use sortie_domain::ids::{PlayerId, QueueId, TicketId};
use sortie_domain::machine::{CallId, Machine, Moment, Step};
use sortie_domain::matchmaking::model::{Party, Player, TicketSpec};
use sortie_domain::matchmaking::settings::{About, Measure, Need, Queue, Rule, RuleKind, Settings};
use sortie_domain::matchmaking::{BrokenRule, Command, Event, Matchmaker};
use sortie_domain::properties::Properties;
use sortie_domain::time::Timestamp;

use crate::oracle::max_matches;
use crate::sim::Failure;

/// Ticks without news after which everything that can form has formed.
const QUIET: u64 = 60;
/// One tick, in milliseconds.
const TICK: u64 = 100;
/// Turns of searches that are short, in comparisons.
const SHORT_TURN: u64 = 6_000;

/// The tickets that wait, and the expected result.
struct Crowd {
    queue: Queue,
    /// In order of arrival: number of players, and the rating of each.
    tickets: Vec<(usize, f64)>,
    expected: Expected,
}

enum Expected {
    /// This many matches.
    Matches(usize),
    /// The sizes of the tickets that still wait cannot fill the teams.
    Nobody,
    /// The first two, once their rule has relaxed.
    TheFirst,
}

struct Hall {
    maker: Matchmaker,
    now: u64,
    inputs: u64,
    /// The number of players of each waiting ticket.
    waiting: BTreeMap<TicketId, usize>,
    matches: Vec<Vec<TicketId>>,
}

impl Hall {
    fn moment(&mut self) -> Moment {
        self.inputs += 1;
        let entropy = [self.inputs.wrapping_mul(0x9e37_79b9_7f4a_7c15), !self.inputs];
        Moment { now: Timestamp::from_millis(1_700_000_000_000 + self.now), entropy }
    }

    fn command(&mut self, command: Command) -> bool {
        let (at, mut step) = (self.moment(), Step::new());
        self.maker.handle(at, CallId(self.inputs), command, &mut step);
        let taken = step.answers.iter().all(|(_, answer)| answer.is_ok());
        self.note(&step);
        taken
    }

    fn note(&mut self, step: &Step<Matchmaker>) {
        for record in &step.records {
            if let Event::MatchFormed { teams, .. } = &record.event {
                let tickets: Vec<TicketId> =
                    teams.iter().flatten().map(|named| named.ticket.clone()).collect();
                self.waiting.retain(|id, _| !tickets.contains(id));
                self.matches.push(tickets);
            }
        }
    }

    /// Ticks at every deadline for this long.
    fn advance(&mut self, millis: u64) {
        let until = self.now + millis;
        while let Some(due) = self.maker.next_deadline().map(Timestamp::as_millis) {
            let due = due.saturating_sub(1_700_000_000_000).max(self.now);
            if due > until {
                break;
            }
            self.now = due;
            let (at, mut step) = (self.moment(), Step::new());
            self.maker.tick(at, &mut step);
            self.note(&step);
        }
        self.now = until;
    }
}

/// Runs the crowd of `seed`, and checks the result.
pub(super) fn run(seed: u64, broken: Option<BrokenRule>) -> Result<u64, Failure> {
    let mut rng = Rng::with_seed(seed ^ 0x5eed);
    let crowd = crowd(&mut rng);
    let mut hall =
        Hall { maker: Matchmaker::new(), now: 0, inputs: 0, waiting: BTreeMap::new(), matches: Vec::new() };
    let problem = come(&mut hall, &mut rng, &crowd, broken).err();
    match problem {
        None => Ok(hall.matches.len() as u64),
        Some(problem) => Err(Failure { machine: "matchmaker", seed, inputs: hall.inputs, problem }),
    }
}

fn come(hall: &mut Hall, rng: &mut Rng, crowd: &Crowd, broken: Option<BrokenRule>) -> Result<(), String> {
    let short = rng.bool();
    let prepare = |maker: &mut Matchmaker| {
        if short {
            maker.limit_turns(SHORT_TURN);
        }
        if let Some(rule) = broken {
            maker.break_rule(rule);
        }
    };
    prepare(&mut hall.maker);
    let id = QueueId::new("q").map_err(|problem| problem.to_string())?;
    let queues = BTreeMap::from([(id.clone(), crowd.queue.clone())]);
    hall.command(Command::Configure { settings: Settings { queues, ..Settings::default() } });
    let one_by_one = rng.bool();
    for (n, (size, rating)) in crowd.tickets.iter().enumerate() {
        let spec = spec(&id, n, *size, *rating).ok_or("no ticket")?;
        let ticket = TicketId::new(&format!("t{n}")).map_err(|problem| problem.to_string())?;
        hall.waiting.insert(ticket.clone(), *size);
        if !hall.command(Command::Start { id: Some(ticket), spec }) {
            return Err("5: a ticket was refused".into());
        }
        if one_by_one && rng.u8(0..4) == 0 {
            hall.advance(rng.u64(0..2 * TICK));
        }
        if rng.u16(0..400) == 0 {
            // A new process finds everything again.
            hall.maker = Matchmaker::restore(hall.maker.snapshot());
            prepare(&mut hall.maker);
        }
    }
    hall.advance(TICK * QUIET);
    judge(hall, crowd)
}

fn judge(hall: &mut Hall, crowd: &Crowd) -> Result<(), String> {
    let (queue, found) = (&crowd.queue, hall.matches.len());
    let what = || format!("{} teams of {} by {:?}", queue.teams, queue.players_per_team, queue.rules);
    match crowd.expected {
        Expected::Matches(expected) if found != expected => Err(format!(
            "5: {found} matches of {} tickets, and not {expected}: {}",
            crowd.tickets.len(),
            what()
        )),
        Expected::Nobody => {
            let sizes: Vec<usize> = hall.waiting.values().copied().collect();
            match max_matches(queue.teams as usize, queue.players_per_team as usize, &sizes) {
                0 => Ok(()),
                more => Err(format!("5: {more} matches more could be made of {sizes:?}: {}", what())),
            }
        }
        Expected::TheFirst => {
            let before = found;
            hall.advance(60_000 - hall.now.min(59_900) + 2 * TICK);
            let first = hall.matches.get(before).map(|tickets| {
                let mut names: Vec<&str> = tickets.iter().map(TicketId::as_str).collect();
                names.sort_unstable();
                names == ["t0", "t1"]
            });
            if first == Some(true) { Ok(()) } else { Err(format!("5: the first two still wait: {}", what())) }
        }
        Expected::Matches(_) => Ok(()),
    }
}

fn queue(teams: u32, players_per_team: u32, rules: Vec<Rule>) -> Queue {
    let ticket_expiration = Duration::from_secs(600);
    Queue {
        teams,
        players_per_team,
        min_players_per_team: players_per_team,
        ticket_expiration,
        rules,
        ..Queue::default()
    }
}

fn crowd(rng: &mut Rng) -> Crowd {
    match rng.u8(0..12) {
        0..4 => mixed(rng),
        4..6 => outliers(rng),
        6..8 => pairs(rng),
        8..11 => large(rng),
        _ => relaxed(rng),
    }
}

/// Sixty parties and more of all sizes; often all of one size before those of the next.
fn mixed(rng: &mut Rng) -> Crowd {
    let (teams, per_team) = rng.choice(&[(2, 5), (2, 4), (3, 3), (2, 6)]).copied().unwrap_or((2, 5));
    let mut tickets: Vec<(usize, f64)> = Vec::new();
    for size in 1..=per_team as usize {
        let most = rng.choice(&[0, 2, 8, 45]).copied().unwrap_or(2);
        tickets.extend((0..rng.usize(0..=most)).map(|_| (size, 0.0)));
    }
    while tickets.len() < 60 {
        tickets.push((rng.usize(1..=per_team as usize), 0.0));
    }
    match rng.u8(0..3) {
        0 => rng.shuffle(&mut tickets),
        1 => tickets.sort_by_key(|(size, _)| *size),
        _ => tickets.sort_by_key(|(size, _)| core::cmp::Reverse(*size)),
    }
    Crowd { queue: queue(teams, per_team, Vec::new()), tickets, expected: Expected::Nobody }
}

/// Some who fit nobody, and many who are alike.
fn outliers(rng: &mut Rng) -> Crowd {
    let kind = RuleKind::Balance { property: "mmr".into(), most: 100.0, missing: 0.0 };
    let alike = rng.usize(20..70);
    let mut tickets: Vec<(usize, f64)> = (0..alike).map(|n| (1, 1_500.0 + (n % 7) as f64)).collect();
    for n in 0..rng.usize(1..4) {
        let at = rng.usize(0..=tickets.len().min(12));
        // Each so far from all others that no team of five compensates for it.
        tickets.insert(at, (1, 3_000.0 * 4_f64.powi(i32::try_from(n).unwrap_or(0))));
    }
    Crowd {
        queue: queue(2, 5, vec![Rule::new("fair", kind)]),
        tickets,
        expected: Expected::Matches(alike / 10),
    }
}

/// Every pair has to be compared, and all go together.
fn pairs(rng: &mut Rng) -> Crowd {
    let expression = "ticket.size == candidate.size || ticket.size > `9`".to_owned();
    let kind = RuleKind::Expression { expression, about: About::Pair, need: Need::Required };
    let rule = if rng.bool() { Rule::new("alike", kind) } else { Rule::new("blocks", RuleKind::NotBlocked) };
    let (teams, per_team) = rng.choice(&[(2, 8), (1, 20), (8, 3)]).copied().unwrap_or((2, 8));
    let tickets = vec![(1, 0.0); (teams * per_team) as usize + rng.usize(0..4)];
    Crowd { queue: queue(teams, per_team, vec![rule]), tickets, expected: Expected::Matches(1) }
}

/// Teams with too many mixes of sizes to enumerate.
fn large(rng: &mut Rng) -> Crowd {
    let (teams, per_team) =
        rng.choice(&[(1, 60), (1, 300), (2, 40), (2, 100), (12, 5)]).copied().unwrap_or((1, 60));
    let (mut tickets, mut players) = (Vec::new(), 0);
    // Enough solos to fill the places that parties leave.
    while players < (teams * per_team) as usize * 3 / 4 {
        let size = rng.usize(1..=4);
        players += size;
        tickets.push((size, 100.0 + rng.f64() * 50.0));
    }
    tickets.extend((0..teams * per_team).map(|_| (1, 100.0 + rng.f64() * 50.0)));
    if rng.bool() {
        rng.shuffle(&mut tickets);
    }
    let kind =
        RuleKind::Distance { property: "mmr".into(), measure: Measure::Average, most: 60.0, missing: 0.0 };
    let rules = if rng.bool() { Vec::new() } else { vec![Rule::new("skill", kind)] };
    Crowd { queue: queue(teams, per_team, rules), tickets, expected: Expected::Matches(1) }
}

/// Two tickets whose distance rule relaxes, and many in between that are near nobody.
fn relaxed(rng: &mut Rng) -> Crowd {
    let kind =
        RuleKind::Distance { property: "mmr".into(), measure: Measure::Average, most: 50.0, missing: 0.0 };
    let rule = Rule { relax_after: Some(Duration::from_secs(60)), ..Rule::new("skill", kind) };
    let between = rng.usize(100..150);
    let mut tickets = vec![(1, 0.0), (1, 100.0 * between as f64 + 200.0)];
    tickets.extend((0..between).map(|n| (1, 100.0 * (n + 1) as f64)));
    Crowd { queue: queue(2, 1, vec![rule]), tickets, expected: Expected::TheFirst }
}

fn spec(queue: &QueueId, n: usize, size: usize, rating: f64) -> Option<TicketSpec> {
    let players = (0..size).map(|of| {
        let mut player = Player::new(PlayerId::new(&format!("p{n}-{of}")).ok()?);
        player.ratings.insert("mmr".into(), rating);
        Some(player)
    });
    Some(TicketSpec {
        queue: queue.clone(),
        leader: None,
        parties: vec![Party { id: None, players: players.collect::<Option<_>>()? }],
        properties: Properties::default(),
        latencies: BTreeMap::new(),
        idempotency_key: None,
        ttl: None,
        replaces: None,
    })
}
