//! A queue with little to do beside one with a backlog that is expensive to work off: docs/matchmaking.md promises that
//! it is served in the next tick.

use std::collections::BTreeMap;
use std::time::Duration;

use fastrand::Rng;
use sortie_domain::ids::{PlayerId, QueueId, TicketId};
use sortie_domain::machine::{CallId, Machine, Moment, Step};
use sortie_domain::matchmaking::model::{Party, Player, TicketSpec};
use sortie_domain::matchmaking::settings::{About, Need, Queue, Rule, RuleKind, Settings};
use sortie_domain::matchmaking::{BrokenRule, Command, Event, Matchmaker};
use sortie_domain::properties::Properties;
use sortie_domain::time::Timestamp;

use crate::sim::Failure;

/// Tickets of the busy queue: more than several ticks of work.
const BACKLOG: std::ops::Range<usize> = 100..140;
/// Ticks within which the other queue forms its match.
const TICKS: usize = 1;
/// One of so many seeds has these queues, because the backlog takes a while.
const ONE_IN: u64 = 8;

/// Runs the queues of `seed`, and checks when the match forms.
pub(super) fn run(seed: u64, broken: Option<BrokenRule>) -> Result<(), Failure> {
    if !seed.is_multiple_of(ONE_IN) {
        return Ok(());
    }
    let mut rng = Rng::with_seed(seed ^ 0xb05);
    let mut host = Host { maker: Matchmaker::new(), now: 1_700_000_000_000, inputs: 0, formed: 0 };
    if let Some(rule) = broken {
        host.maker.break_rule(rule);
    }
    let problem = neighbours(&mut host, &mut rng).err();
    problem
        .map_or(Ok(()), |problem| Err(Failure { machine: "matchmaker", seed, inputs: host.inputs, problem }))
}

fn neighbours(host: &mut Host, rng: &mut Rng) -> Result<(), String> {
    let queue_id = |name: &str| QueueId::new(name).map_err(|problem| problem.to_string());
    // Whichever of them comes first by name.
    let (busy, other) = if rng.bool() { ("a", "b") } else { ("b", "a") };
    let (busy, other) = (queue_id(busy)?, queue_id(other)?);
    let expression = "length(sort(map(&to_string(@), candidate.properties.list))) > `1000`".to_owned();
    let kind = RuleKind::Expression { expression, about: About::Pair, need: Need::Required };
    let ticket_expiration = Duration::from_secs(600);
    let dear = Queue { rules: vec![Rule::new("dear", kind)], ticket_expiration, ..Queue::default() };
    let queues = BTreeMap::from([(busy.clone(), dear), (other.clone(), Queue::default())]);
    host.command(Command::Configure { settings: Settings { queues, ..Settings::default() } });
    let list: Vec<String> = (0..40).map(|number| number.to_string()).collect();
    let list = format!(r#"{{"list":[{}]}}"#, list.join(","));
    for number in 0..rng.usize(BACKLOG) {
        host.start(&busy, &format!("busy-{number}"), &list)?;
    }
    for _ in 0..rng.usize(0..3) {
        host.now += 100;
        host.tick();
    }
    host.start(&other, "ann", "")?;
    host.start(&other, "bob", "")?;
    host.now += 100;
    (0..TICKS).for_each(|_| host.tick());
    if host.maker.backlog() == 0 {
        return Err("5: there is no backlog".into());
    }
    match host.formed {
        1 => Ok(()),
        formed => {
            Err(format!("5: {formed} matches after {TICKS} ticks beside a queue with a backlog, and not 1"))
        }
    }
}

struct Host {
    maker: Matchmaker,
    now: u64,
    inputs: u64,
    formed: usize,
}

impl Host {
    fn moment(&mut self) -> Moment {
        self.inputs += 1;
        let entropy = [self.inputs.wrapping_mul(0x9e37_79b9_7f4a_7c15), !self.inputs];
        Moment { now: Timestamp::from_millis(self.now), entropy }
    }

    fn command(&mut self, command: Command) {
        let (at, mut step) = (self.moment(), Step::new());
        self.maker.handle(at, CallId(self.inputs), command, &mut step);
    }

    fn tick(&mut self) {
        let (at, mut step) = (self.moment(), Step::new());
        self.maker.tick(at, &mut step);
        let formed = step.records.iter().filter(|record| matches!(record.event, Event::MatchFormed { .. }));
        self.formed += formed.count();
    }

    fn start(&mut self, queue: &QueueId, who: &str, properties: &str) -> Result<(), String> {
        let player = PlayerId::new(who).map_err(|problem| problem.to_string())?;
        let spec = TicketSpec {
            queue: queue.clone(),
            leader: None,
            parties: vec![Party { id: None, players: vec![Player::new(player)] }],
            properties: Properties::parse(properties)?,
            latencies: BTreeMap::new(),
            idempotency_key: None,
            ttl: None,
            replaces: None,
        };
        let id = TicketId::new(who).map_err(|problem| problem.to_string())?;
        self.command(Command::Start { id: Some(id), spec });
        Ok(())
    }
}
