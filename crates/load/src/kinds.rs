//! Each kind of rule, and of pool, that makes searches long: how long the longest tick and the longest input are meanwhile.
//!
//! Many wait who cannot play with one another, so that searches go on for as long as they are let.

use std::fmt;
use std::time::Duration;

use sortie_domain::broker::model::Properties;
use sortie_domain::ids::{BadId, PlayerId, QueueId, TicketId};
use sortie_domain::machine::{CallId, Machine, Moment, Step};
use sortie_domain::matchmaking::model::{Party, Player, TicketSpec};
use sortie_domain::matchmaking::settings::{About, Measure, Need, Queue, Rule, RuleKind, Settings};
use sortie_domain::matchmaking::{Command, Event, Matchmaker};
use sortie_domain::time::Timestamp;

use crate::host::Failure;
use crate::times::{Times, Watch, millis};

/// Ticks that are measured after all have come and been looked at.
const TICKS: u64 = 100;
/// One tick, in milliseconds.
const TICK: u64 = 100;
/// Room for a million tickets and more.
const BYTES: u64 = 16 << 30;

/// What makes searches long.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Parties of three and of four that make no team of five.
    Mixed,
    /// Teams that have to be even, of players each of whom is far stronger than the one before.
    Outliers,
    /// Players with long lists of whom they have blocked.
    Blocked,
    /// An expression that no two tickets meet, and no index helps with.
    Required,
    /// An expression that speaks for some.
    Preferred,
    /// Matches of a thousand, of parties of four and of seven.
    Large,
    /// Distances that have relaxed, of numbers all over.
    Relaxed,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 7] = [
        Self::Mixed,
        Self::Outliers,
        Self::Blocked,
        Self::Required,
        Self::Preferred,
        Self::Large,
        Self::Relaxed,
    ];

    fn queue(self) -> Queue {
        let pair = |expression: &str, need| {
            let kind = RuleKind::Expression { expression: expression.into(), about: About::Pair, need };
            Rule::new("pair", kind)
        };
        let mmr = || "mmr".into();
        let ticket_expiration = Duration::from_secs(24 * 3_600);
        let (teams, players, rules) = match self {
            Self::Mixed => (2, 5, Vec::new()),
            Self::Outliers => {
                let kind = RuleKind::Balance { property: mmr(), most: 10.0, missing: 0.0 };
                (2, 5, vec![Rule::new("fair", kind)])
            }
            Self::Blocked => (2, 5, vec![Rule::new("blocked", RuleKind::NotBlocked)]),
            Self::Required => (
                2,
                5,
                vec![pair("contains(ticket.properties.code, candidate.properties.code)", Need::Required)],
            ),
            Self::Preferred => {
                (2, 5, vec![pair("ticket.properties.code == candidate.properties.code", Need::Preferred)])
            }
            Self::Large => (2, 500, Vec::new()),
            Self::Relaxed => {
                let measure = Measure::Average;
                let kind = RuleKind::Distance { property: mmr(), measure, most: 50.0, missing: 0.0 };
                let relax_after = Some(Duration::from_secs(5));
                (2, 5, vec![Rule { relax_after, ..Rule::new("skill", kind) }])
            }
        };
        Queue {
            teams,
            players_per_team: players,
            min_players_per_team: players,
            ticket_expiration,
            rules,
            ..Queue::default()
        }
    }

    fn spec(self, n: u32) -> Result<TicketSpec, BadId> {
        let size = match self {
            Self::Mixed => 3 + n % 2,
            Self::Large => {
                if n.is_multiple_of(2) {
                    4
                } else {
                    7
                }
            }
            _ => 1,
        };
        let players = (0..size).map(|of| {
            let mut player = Player::new(PlayerId::new(&format!("p{n}-{of}"))?);
            let rating = match self {
                Self::Outliers => 1e3 * f64::from(n).powf(1.9),
                _ => 1e3 * f64::from(n),
            };
            player.ratings.insert("mmr".into(), rating);
            if self == Self::Blocked {
                // Of the ten next to it, and many others.
                let near = (0..200).map(|other| PlayerId::new(&format!("p{}-0", (n / 10) * 10 + other)));
                player.blocked = near.collect::<Result<_, BadId>>()?;
            }
            Ok(player)
        });
        Ok(TicketSpec {
            queue: QueueId::new("q")?,
            leader: None,
            parties: vec![Party { id: None, players: players.collect::<Result<_, BadId>>()? }],
            properties: Properties::parse(&format!(r#"{{"code":"code {n}."}}"#)).unwrap_or_default(),
            latencies: std::collections::BTreeMap::new(),
            idempotency_key: None,
            ttl: None,
            replaces: None,
        })
    }
}

/// What was found.
#[derive(Clone, Debug)]
pub struct Kinds {
    /// The kind.
    pub kind: Kind,
    /// Tickets that came.
    pub tickets: u32,
    /// Those of them that found a match.
    pub matched: usize,
    /// Searches that go on at the end.
    pub unfinished: usize,
    /// Every tick.
    pub ticks: Times,
    /// Every other input.
    pub inputs: Times,
}

/// Lets this number of tickets come.
///
/// # Errors
/// The matchmaker does not do its part.
pub fn run(kind: Kind, tickets: u32) -> Result<Kinds, Failure> {
    let mut maker = Matchmaker::new();
    let mut found =
        Kinds { kind, tickets, matched: 0, unfinished: 0, ticks: Times::default(), inputs: Times::default() };
    let (mut now, mut inputs) = (1_700_000_000_000, 0_u64);
    let queues = std::collections::BTreeMap::from([(QueueId::new("q")?, kind.queue())]);
    let settings = Settings { queues, waiting_bytes: BYTES, ..Settings::default() };
    let starts = (0..tickets)
        .map(|n| Ok(Command::Start { id: Some(TicketId::new(&n.to_string())?), spec: kind.spec(n)? }));
    for command in std::iter::once(Ok(Command::Configure { settings })).chain(starts) {
        let command: Command = command.map_err(|problem: BadId| Failure::from(problem))?;
        inputs += 1;
        let at = Moment { now: Timestamp::from_millis(now), entropy: [inputs, !inputs] };
        let mut step = Step::new();
        let watch = Watch::start();
        maker.handle(at, CallId(inputs), command, &mut step);
        found.inputs.add(watch.stop());
        if let Some(refusal) = step.answers.into_iter().find_map(|(_, answer)| answer.err()) {
            return Err(Failure::Refused(refusal));
        }
    }
    for _ in 0..TICKS {
        now += TICK;
        while maker.next_deadline().is_some_and(|due| due.as_millis() <= now) {
            inputs += 1;
            let at = Moment { now: Timestamp::from_millis(now), entropy: [inputs, !inputs] };
            let mut step = Step::new();
            let watch = Watch::start();
            maker.tick(at, &mut step);
            found.ticks.add(watch.stop());
            for record in &step.records {
                if let Event::MatchFormed { teams, .. } = &record.event {
                    found.matched += teams.iter().map(Vec::len).sum::<usize>();
                }
            }
        }
    }
    found.unfinished = maker.unfinished_searches();
    found.ticks.sort();
    found.inputs.sort();
    Ok(found)
}

impl fmt::Display for Kinds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?}: {} waiting, {} of them matched, {} searches go on; {} ticks: {}; longest input {:.2} ms",
            self.kind,
            self.tickets,
            self.matched,
            self.unfinished,
            self.ticks.count(),
            self.ticks,
            millis(self.inputs.processor(1_000)),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_measured() {
        for kind in Kind::ALL {
            let found = run(kind, 300).unwrap();
            assert!(found.ticks.count() > 0 && found.inputs.count() == 301, "{found}");
            match kind {
                Kind::Preferred | Kind::Relaxed | Kind::Large => assert!(found.matched > 0, "{found}"),
                Kind::Mixed | Kind::Required | Kind::Blocked => assert_eq!(found.matched, 0, "{found}"),
                // Some of them are even by chance.
                Kind::Outliers => assert!(found.matched < 300 && found.unfinished > 0, "{found}"),
            }
        }
    }
}
