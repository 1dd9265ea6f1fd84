//! The queues that are measured, and the tickets that come to them.
//!
//! Waiting tickets need a reason to wait: they are far from one another by the very rule that the case is about, and
//! are otherwise neighbours in the pool. They are made in *neighbourhoods*: within one, tickets are in reach of one
//! another but do not make a match; tickets of different neighbourhoods can never play together.

use std::collections::BTreeMap;
use std::time::Duration;

use sortie_domain::ids::{BadId, PlayerId, QueueId, RegionId};
use sortie_domain::matchmaking::model::{Player, TicketSpec};
use sortie_domain::matchmaking::settings::{Measure, Queue, Rule, RuleKind, Settings, WidenStep};
use sortie_domain::properties::Properties;

use crate::tickets::{self, Random};

/// Distance between neighbourhoods: more than any window.
const APART: f64 = 1_000.0;
/// The widest window of the skill rule.
const WIDEST: u32 = 200;
/// Maximum round trip that is acceptable to a player, in milliseconds.
const BEARABLE: u32 = 80;

/// A queue that is measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Case {
    /// One against one, with the same value of a property.
    Equality,
    /// One against one, by a rating, within a distance that widens three times.
    Skill,
    /// Five against five in parties of up to four, by rating and latency, in three regions.
    Parties,
}

/// A ticket to be started, as the plain scan sees it too.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Wish {
    pub(crate) neighbourhood: u32,
    pub(crate) rating: f64,
    pub(crate) players: u8,
    /// Round trips, in milliseconds.
    pub(crate) latencies: [u32; 3],
}

/// The waiting tickets of a neighbourhood: their players, and their acceptable regions.
type Pattern = &'static [(u8, [bool; 3])];

const ALL: [bool; 3] = [true, true, false];
const EU: [bool; 3] = [true, false, false];
const US: [bool; 3] = [false, true, false];
const LONE: Pattern = &[(1, ALL)];
/// Five players where ten are needed; twelve whose parties make no teams of five; ten without a common region.
const PARTIES: [Pattern; 3] = [
    &[(1, ALL), (2, ALL), (2, ALL)],
    &[(4, ALL), (4, ALL), (4, ALL)],
    &[(2, EU), (1, EU), (2, EU), (2, US), (1, US), (2, US)],
];

impl Case {
    /// All cases.
    pub const ALL: [Self; 3] = [Self::Equality, Self::Skill, Self::Parties];

    /// Its name on a command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Equality => "1v1-equality",
            Self::Skill => "1v1-skill",
            Self::Parties => "5v5-skill-latency-parties",
        }
    }

    /// The case of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|case| case.name() == name)
    }

    /// Players of a match.
    #[must_use]
    pub const fn players(self) -> u32 {
        match self {
            Self::Equality | Self::Skill => 2,
            Self::Parties => 10,
        }
    }

    /// The settings, with tickets that expire after `expiration`.
    ///
    /// # Errors
    /// None: the queue's name is valid.
    pub fn settings(self, expiration: Duration) -> Result<Settings, BadId> {
        let queues = BTreeMap::from([(QueueId::new(QUEUE)?, self.queue(expiration))]);
        Ok(tickets::settings(queues))
    }

    fn queue(self, ticket_expiration: Duration) -> Queue {
        let equal = Rule::new("lobby", RuleKind::Equal { property: "lobby".into() });
        let measure = Measure::Average;
        let kind = RuleKind::Distance { property: "mmr".into(), measure, most: 25.0, missing: 1_500.0 };
        let steps = [(10, 50.0), (20, 100.0), (40, f64::from(WIDEST))];
        let widen = steps.map(|(after, value)| WidenStep { after: Duration::from_secs(after), value });
        let skill = Rule { widen: widen.to_vec(), ..Rule::new("skill", kind) };
        let latency = Rule::new("latency", RuleKind::Latency { most: f64::from(BEARABLE) });
        let base = Queue { ticket_expiration, ..Queue::default() };
        match self {
            Self::Equality => Queue { rules: vec![equal], ..base },
            Self::Skill => Queue { rules: vec![skill], ..base },
            Self::Parties => {
                Queue { players_per_team: 5, min_players_per_team: 5, rules: vec![skill, latency], ..base }
            }
        }
    }

    fn pattern(self, neighbourhood: u32) -> Pattern {
        match self {
            Self::Equality | Self::Skill => LONE,
            Self::Parties => PARTIES.get(neighbourhood as usize % PARTIES.len()).copied().unwrap_or(LONE),
        }
    }

    /// The `at`-th ticket of a neighbourhood; `None` behind the last.
    pub(crate) fn lonely(self, neighbourhood: u32, at: usize, random: &mut Random) -> Option<Wish> {
        let (players, bears) = *self.pattern(neighbourhood).get(at)?;
        let rating = APART * f64::from(neighbourhood);
        Some(Wish { neighbourhood, rating, players, latencies: latencies(bears, random) })
    }

    /// An arrival in a neighbourhood, close enough to the tickets that wait there, at once or after a wait.
    pub(crate) fn neighbour(self, neighbourhood: u32, random: &mut Random) -> Wish {
        // Each of ten players has to wait for all others, so they are closer; some still wait for the first step.
        let off = f64::from(random.below(if self == Self::Parties { WIDEST / 5 } else { WIDEST }));
        let rating = APART * f64::from(neighbourhood) + off;
        let players = if self == Self::Parties { random.any_of(&[1, 1, 2, 3], 1) } else { 1 };
        let bears = random.any_of(&[ALL, ALL, EU, US], ALL);
        Wish { neighbourhood, rating, players, latencies: latencies(bears, random) }
    }

    /// One ticket of a crowd of `all` that arrive at once: most can play with many others.
    pub(crate) fn of_crowd(self, all: u32, random: &mut Random) -> Wish {
        let neighbourhood = if self == Self::Equality { random.below(all.div_ceil(10)) } else { 0 };
        let players = if self == Self::Parties { random.any_of(&[1, 1, 2, 3], 1) } else { 1 };
        let rating = f64::from(random.below(3_000));
        let latencies = [20 + random.below(80), 20 + random.below(120), 120];
        Wish { neighbourhood, rating, players, latencies }
    }

    /// The order of the `number`-th ticket.
    ///
    /// # Errors
    /// None: the names made here are valid ids.
    pub(crate) fn spec(self, number: usize, wish: &Wish) -> Result<TicketSpec, BadId> {
        let players = (0..wish.players).map(|of| {
            let mut player = Player::new(PlayerId::new(&format!("player-{number}-{of}"))?);
            if self != Self::Equality {
                player.ratings.insert("mmr".into(), wish.rating);
            }
            Ok(player)
        });
        let regions = ["eu", "us", "asia"].into_iter().zip(wish.latencies);
        let latencies = regions.map(|(region, latency)| Ok((RegionId::new(region)?, latency)));
        let lobby = format!(r#"{{"lobby":"lobby-{}"}}"#, wish.neighbourhood);
        let properties = if self == Self::Equality { lobby } else { r#"{"mode":"ranked"}"#.to_owned() };
        let players = players.collect::<Result<_, BadId>>()?;
        Ok(TicketSpec {
            properties: Properties::parse(&properties).unwrap_or_default(),
            latencies: if self == Self::Parties {
                latencies.collect::<Result<_, _>>()?
            } else {
                BTreeMap::new()
            },
            ..tickets::spec(QueueId::new(QUEUE)?, players)
        })
    }

    /// Whether two tickets can be in one match after they both waited until the skill rule allows `window`.
    pub(crate) fn go_together(self, one: &Wish, other: &Wish, window: f64) -> bool {
        let near = || (one.rating - other.rating).abs() <= window;
        let both_bear = |(a, b): (&u32, &u32)| *a <= BEARABLE && *b <= BEARABLE;
        match self {
            Self::Equality => one.neighbourhood == other.neighbourhood,
            Self::Skill => near(),
            Self::Parties => near() && one.latencies.iter().zip(&other.latencies).any(both_bear),
        }
    }
}

/// The queue's name.
pub(crate) const QUEUE: &str = "q";

fn latencies(bears: [bool; 3], random: &mut Random) -> [u32; 3] {
    bears.map(|bears| if bears { 20 + random.below(BEARABLE - 20) } else { BEARABLE + 20 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases_have_names() {
        for case in Case::ALL {
            assert_eq!(Case::named(case.name()), Some(case));
            assert_eq!(case.settings(Duration::from_secs(60)).unwrap().check(), Ok(()));
        }
        assert_eq!(Case::named("3v3"), None);
    }

    #[test]
    fn neighbourhoods_are_out_of_reach_of_one_another() {
        let mut random = Random(3);
        for case in Case::ALL {
            for near in 0..3 {
                let one = case.neighbour(near, &mut random);
                let other = case.lonely(near + 1, 0, &mut random).unwrap();
                assert!(!case.go_together(&one, &other, f64::from(WIDEST)), "{case:?} {one:?} {other:?}");
            }
        }
    }
}
