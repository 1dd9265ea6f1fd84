//! Rules and pools that make searches long: the longest tick and the longest input for each.
//!
//! Many tickets wait that cannot play with one another, so that searches run up to their limits.

use std::fmt;
use std::time::Duration;

use sortie_domain::ids::{BadId, PlayerId, QueueId, TicketId};
use sortie_domain::matchmaking::Command;
use sortie_domain::matchmaking::model::{Player, TicketSpec};
use sortie_domain::matchmaking::settings::{About, Measure, Need, Queue, Rule, RuleKind};
use sortie_domain::properties::Properties;

use crate::driver::Driver;
use crate::host::Failure;
use crate::tickets;
use crate::times::{Times, millis};

/// Ticks measured after all tickets have come and been looked at.
const TICKS: u64 = 100;
/// Maximum acceptable duration of a step.
pub const GOAL: Duration = Duration::from_millis(10);

/// Why searches are long.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Parties of three and four that cannot form a team of five.
    Mixed,
    /// Teams that must be even, with each player far stronger than the one before.
    Outliers,
    /// Players with long block lists.
    Blocked,
    /// An expression that is false for every two tickets, and that no index helps with.
    Required,
    /// An expression that makes some tickets preferred.
    Preferred,
    /// Matches of a thousand, of parties of four and of seven.
    Large,
    /// Relaxed distances, with numbers spread widely.
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

    /// Its name on a command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mixed => "mixed-parties",
            Self::Outliers => "outliers",
            Self::Blocked => "not-blocked",
            Self::Required => "required",
            Self::Preferred => "preferred",
            Self::Large => "large-teams",
            Self::Relaxed => "relaxed-distance",
        }
    }

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
                let kind = RuleKind::Balance { property: mmr(), most: 0.03, missing: 0.0 };
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

    fn spec(self, n: u32, near: &mut Near) -> Result<TicketSpec, BadId> {
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
                // Even the millionth is within the range of a rating.
                Self::Outliers => 3.0 * f64::from(n).powf(1.9),
                _ => 1e3 * f64::from(n),
            };
            player.ratings.insert("mmr".into(), rating);
            if self == Self::Blocked {
                player.blocked = near.of(n)?;
            }
            Ok(player)
        });
        let properties = Properties::parse(&format!(r#"{{"code":"code {n}."}}"#)).unwrap_or_default();
        let players = players.collect::<Result<_, BadId>>()?;
        Ok(TicketSpec { properties, ..tickets::spec(QueueId::new("q")?, players) })
    }
}

/// The neighbours of a ticket, all of which it has blocked: ten tickets share a list, so that a million of them fit
/// into memory.
#[derive(Default)]
struct Near {
    first: Option<u32>,
    players: Vec<PlayerId>,
}

impl Near {
    /// The block list of the `n`-th ticket: its ten neighbours, and many others.
    fn of(&mut self, n: u32) -> Result<Vec<PlayerId>, BadId> {
        let first = (n / 10) * 10;
        if self.first != Some(first) {
            let players = (0..200).map(|other| PlayerId::new(&format!("p{}-0", first + other)));
            (self.first, self.players) = (Some(first), players.collect::<Result<_, BadId>>()?);
        }
        Ok(self.players.clone())
    }
}

/// Result for a kind.
#[derive(Clone, Debug)]
pub struct Kinds {
    /// The kind.
    pub kind: Kind,
    /// Tickets that came.
    pub tickets: u32,
    /// Tickets that were matched.
    pub matched: usize,
    /// Searches still running at the end.
    pub unfinished: usize,
    /// Every tick.
    pub ticks: Times,
    /// Every other input.
    pub inputs: Times,
}

/// Starts this many tickets.
///
/// # Errors
/// The matchmaker fails.
pub fn run(kind: Kind, count: u32) -> Result<Kinds, Failure> {
    let mut driver = Driver::new();
    let settings = QueueId::new("q").map(|queue| tickets::settings([(queue, kind.queue())].into()));
    driver.call(settings.map(|settings| Command::Configure { settings }))?;
    let mut near = Near::default();
    for n in 0..count {
        let spec = kind.spec(n, &mut near);
        driver.call(
            spec.and_then(|spec| Ok(Command::Start { id: Some(TicketId::new(&n.to_string())?), spec })),
        )?;
    }
    driver.ticks(TICKS, |_| {});
    let unfinished = driver.maker.unfinished_searches();
    let Driver { mut ticks, mut inputs, matched, .. } = driver;
    ticks.sort();
    inputs.sort();
    Ok(Kinds { kind, tickets: count, matched, unfinished, ticks, inputs })
}

impl Kinds {
    /// The longest tick or other input, in CPU time.
    #[must_use]
    pub fn longest(&self) -> Duration {
        self.ticks.processor(1_000).max(self.inputs.processor(1_000))
    }
}

impl fmt::Display for Kinds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.longest() > GOAL { "; above the goal" } else { "" };
        write!(
            f,
            "{}: {} waiting, {} of them matched, {} searches go on; {} ticks: {}; longest input {:.2} ms{verdict}",
            self.kind.name(),
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
