//! What the rules measure of a match. Every set of rules is judged by the measures of all sets, so that the comparison
//! is fair: rules that leave out a measure should look worse by it.

use std::collections::BTreeSet;
use std::fmt;

use sortie_domain::ids::RegionId;
use sortie_domain::matchmaking::model::TicketSpec;
use sortie_domain::matchmaking::settings::{self, RuleKind};
use sortie_domain::matchmaking::{Settings, number_of};

/// A measure of a match; less is better.
#[derive(Clone, PartialEq, Debug)]
pub enum Measure {
    /// The largest difference between the numbers of its tickets.
    Spread {
        /// Name of the rating or property.
        property: Box<str>,
        /// How the number of a ticket is computed.
        measure: settings::Measure,
        /// The number of tickets that have none.
        missing: f64,
    },
    /// The worst round trip of any player to the match's region, in milliseconds.
    Latency,
    /// The largest difference between the averages of the teams.
    Balance {
        /// Name of the rating.
        property: Box<str>,
        /// The number of players that have none.
        missing: f64,
    },
}

impl fmt::Display for Measure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Spread { property, measure, .. } => {
                let of = match measure {
                    settings::Measure::Ticket => "of tickets",
                    settings::Measure::Average => "of averages",
                    settings::Measure::Max => "of bests",
                };
                write!(f, "spread {of}, {property}")
            }
            Self::Latency => f.write_str("worst latency, ms"),
            Self::Balance { property, .. } => write!(f, "teams apart, {property}"),
        }
    }
}

/// The distinct measures of all rules in these settings.
#[must_use]
pub fn measures<'a>(settings: impl IntoIterator<Item = &'a Settings>) -> Vec<Measure> {
    let mut measures = Vec::new();
    let mut names = BTreeSet::new();
    let rules =
        settings.into_iter().flat_map(|settings| settings.queues.values()).flat_map(|queue| &queue.rules);
    for rule in rules {
        let measure = match &rule.kind {
            RuleKind::Distance { property, measure, missing, .. } => {
                Measure::Spread { property: property.clone(), measure: *measure, missing: *missing }
            }
            RuleKind::Latency { .. } => Measure::Latency,
            RuleKind::Balance { property, missing, .. } => {
                Measure::Balance { property: property.clone(), missing: *missing }
            }
            RuleKind::Equal { .. } | RuleKind::Expression { .. } | RuleKind::NotBlocked => continue,
        };
        if names.insert(measure.to_string()) {
            measures.push(measure);
        }
    }
    measures
}

impl Measure {
    /// The measure of a match of these teams; `None` if it has none.
    #[must_use]
    pub fn of(&self, teams: &[Vec<&TicketSpec>], region: Option<&RegionId>) -> Option<f64> {
        let tickets = teams.iter().flatten().copied();
        match self {
            Self::Spread { property, measure, missing } => {
                range(tickets.map(|ticket| number_of(ticket, property, *measure, *missing)))
            }
            Self::Latency => {
                let region = region?;
                let worst = tickets.filter_map(|ticket| ticket.worst_latencies().get(region).copied());
                worst.max().map(f64::from)
            }
            Self::Balance { property, missing } => {
                range(teams.iter().filter_map(|team| average(team, property, *missing)))
            }
        }
    }
}

fn average(team: &[&TicketSpec], property: &str, missing: f64) -> Option<f64> {
    let players = team.iter().flat_map(|ticket| ticket.players());
    let ratings: Vec<f64> =
        players.map(|player| player.ratings.get(property).copied().unwrap_or(missing)).collect();
    (!ratings.is_empty()).then(|| ratings.iter().sum::<f64>() / ratings.len() as f64)
}

fn range(numbers: impl Iterator<Item = f64>) -> Option<f64> {
    let found = numbers.fold(None, |range: Option<(f64, f64)>, number| {
        Some(range.map_or((number, number), |(least, most)| (least.min(number), most.max(number))))
    });
    found.map(|(least, most)| most - least)
}
