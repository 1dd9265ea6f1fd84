//! Deliberately bad inputs for the matchmaker, and their longest step.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use sortie_domain::connection::Connection;
use sortie_domain::ids::{BadId, PlayerId, QueueId, TicketId};
use sortie_domain::machine::Machine;
use sortie_domain::matchmaking::model::Player;
use sortie_domain::matchmaking::settings::{
    MAX_QUEUES, MAX_QUEUES_PER_PLAYER, Queue, Rule, RuleKind, Settings,
};
use sortie_domain::matchmaking::{Command, Effect, FormedMatch, Matchmaker};

use crate::driver::Driver;
use crate::host::Failure;
use crate::tickets::{self, Random};
use crate::times::{Times, Watch, millis};

/// Maximum acceptable duration of a step.
pub const GOAL: Duration = Duration::from_millis(20);
/// Number of measured ticks.
const TICKS: u64 = 50;
/// Tickets per queue whose sizes fill no teams.
const OF_ODD_SIZES: u32 = 20;
/// Players of a large party, and how many players each of them has blocked.
const PARTY: u32 = 51;
const BLOCKED: u32 = 200;
/// Maximum number of large parties, because each takes half a megabyte.
const MAX_PARTIES: u32 = 2_000;
/// Maximum number of players of the match whose players wait in several queues.
const PLAYERS: u32 = 1_000;
/// Players of the party that each of them has in each of the other queues.
const STRANGERS: u32 = 100;

/// What makes the input bad.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hostile {
    /// A thousand queues with three teams of one to sixteen, configured at once; explained tickets of odd sizes.
    Explained,
    /// A thousand queues with a hook that forms their matches.
    Formers,
    /// Parties of 51 players, each of whom has blocked 200 others.
    Blocked,
    /// A match of a thousand players, each of whom waits in three other queues.
    Several,
    /// A match of a thousand players, each of whom waits in three other queues, in parties of a hundred.
    SeveralParties,
}

/// Result for an input.
#[derive(Clone, Debug)]
pub struct Found {
    /// The input.
    pub hostile: Hostile,
    /// Number of tickets.
    pub tickets: u32,
    /// Every tick.
    pub ticks: Times,
    /// Every other input.
    pub inputs: Times,
    /// Every explanation.
    pub explained: Times,
    /// How long it took to compute the next deadline, each time.
    pub deadlines: Times,
    /// A start with all the outstanding work.
    pub outstanding: Duration,
}

impl Found {
    /// The longest step, explanation or start, in CPU time.
    #[must_use]
    pub fn longest(&self) -> Duration {
        let all = [&self.ticks, &self.inputs, &self.explained, &self.deadlines];
        all.into_iter().map(|times| times.processor(1_000)).max().unwrap_or_default().max(self.outstanding)
    }
}

impl Hostile {
    /// All inputs.
    pub const ALL: [Self; 5] =
        [Self::Explained, Self::Formers, Self::Blocked, Self::Several, Self::SeveralParties];

    /// Its name on a command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Explained => "explained",
            Self::Formers => "formers",
            Self::Blocked => "blocked-parties",
            Self::Several => "several-queues",
            Self::SeveralParties => "several-queues-parties",
        }
    }

    fn queue(self) -> Result<Queue, BadId> {
        let base = Queue { ticket_expiration: Duration::from_secs(24 * 3_600), ..Queue::default() };
        let (teams, players_per_team, least) = match self {
            Self::Explained => (3, 16, 1),
            Self::Formers => (2, 1, 1),
            Self::Blocked => (2, PARTY, PARTY),
            Self::Several | Self::SeveralParties => (2, PLAYERS / 2, PLAYERS / 2),
        };
        let base = Queue { teams, players_per_team, min_players_per_team: least, ..base };
        Ok(match self {
            Self::Explained | Self::Several | Self::SeveralParties => base,
            Self::Formers => Queue { hooks: vec![tickets::former()?], ..base },
            Self::Blocked => Queue { rules: vec![Rule::new("blocked", RuleKind::NotBlocked)], ..base },
        })
    }

    fn settings(self) -> Result<Settings, BadId> {
        let count = match self {
            Self::Blocked => 1,
            Self::Several | Self::SeveralParties => MAX_QUEUES_PER_PLAYER as usize,
            Self::Explained | Self::Formers => MAX_QUEUES,
        };
        let queues = (0..count).map(|at| Ok((name(at)?, self.queue()?)));
        let queues = queues.collect::<Result<BTreeMap<_, _>, BadId>>()?;
        Ok(Settings { queues_per_player: MAX_QUEUES_PER_PLAYER, ..tickets::settings(queues) })
    }
}

fn name(queue: usize) -> Result<QueueId, BadId> {
    QueueId::new(&format!("queue-{queue:03}"))
}

/// A ticket of this many players, each with their own blocked players.
fn ticket(
    number: u32,
    queue: usize,
    size: u32,
    blocked: impl Fn(u32) -> Result<Vec<PlayerId>, BadId>,
) -> Result<Command, BadId> {
    let players = (0..size).map(|of| {
        let mut player = Player::new(PlayerId::new(&format!("p{number}-{of}"))?);
        player.blocked = blocked(of)?;
        Ok(player)
    });
    let spec = tickets::spec(name(queue)?, players.collect::<Result<_, BadId>>()?);
    Ok(Command::Start { id: Some(TicketId::new(&number.to_string())?), spec })
}

/// Starts this many tickets, or fewer if they are large.
///
/// # Errors
/// The matchmaker fails.
pub fn run(hostile: Hostile, count: u32) -> Result<Found, Failure> {
    let mut driver = Driver::new();
    driver.call(hostile.settings().map(|settings| Command::Configure { settings }))?;
    let mut found = Found {
        hostile,
        tickets: count,
        ticks: Times::default(),
        inputs: Times::default(),
        explained: Times::default(),
        deadlines: Times::default(),
        outstanding: Duration::ZERO,
    };
    match hostile {
        Hostile::Explained => explained(&mut driver, &mut found)?,
        Hostile::Formers => formers(&mut driver, &mut found)?,
        Hostile::Blocked => blocked(&mut driver, &mut found)?,
        Hostile::Several => several(&mut driver, &mut found, 1)?,
        Hostile::SeveralParties => several(&mut driver, &mut found, STRANGERS)?,
    }
    (found.ticks, found.inputs, found.deadlines) = (driver.ticks, driver.inputs, driver.deadlines);
    for times in [&mut found.ticks, &mut found.inputs, &mut found.explained, &mut found.deadlines] {
        times.sort();
    }
    Ok(found)
}

/// Some of odd sizes in each queue; then all others in the first.
fn explained(driver: &mut Driver, found: &mut Found) -> Result<(), Failure> {
    let nobody = |_| Ok(Vec::new());
    let (mut random, mut started) = (Random(7), 0);
    let explain = |driver: &Driver, number: u32, found: &mut Found| -> Result<(), Failure> {
        let id = TicketId::new(&number.to_string())?;
        let watch = Watch::start();
        let told = driver.maker.explain(&id, driver.now());
        found.explained.add(watch.stop());
        told.map(drop).ok_or(Failure::Stuck)
    };
    let queues = (found.tickets / OF_ODD_SIZES).min(u32::try_from(MAX_QUEUES).unwrap_or(u32::MAX));
    for queue in 0..queues {
        // At most two of a size, so that no three make three teams.
        let mut left = BTreeMap::new();
        let first = started;
        while started - first < OF_ODD_SIZES {
            let size = 4 + random.below(13);
            let count: &mut u32 = left.entry(size).or_default();
            if *count < 2 {
                *count += 1;
                driver.call(ticket(started, queue as usize, size, nobody))?;
                started += 1;
            }
        }
        explain(driver, first, found)?;
        explain(driver, started - 1, found)?;
    }
    while started < found.tickets {
        driver.call(ticket(started, 0, 1 + random.below(16), nobody))?;
        started += 1;
    }
    if started > 0 {
        explain(driver, 0, found)?;
        explain(driver, started - 1, found)?;
    }
    driver.ticks(TICKS, |_| {});
    if started > 0 {
        explain(driver, started - 1, found)?;
    }
    Ok(())
}

/// Rounds of all queues, a restart while all of them are open, and the answers.
fn formers(driver: &mut Driver, found: &mut Found) -> Result<(), Failure> {
    for number in 0..found.tickets {
        driver.call(ticket(number, number as usize % MAX_QUEUES, 1, |_| Ok(Vec::new())))?;
    }
    driver.ticks(TICKS, |_| {});
    let snapshot = driver.maker.snapshot();
    let before = std::mem::replace(&mut driver.maker, Matchmaker::restore(snapshot));
    let watch = Watch::start();
    let outstanding = driver.maker.outstanding();
    (found.outstanding, _) = watch.stop();
    driver.ticks(TICKS, |_| {});
    for effect in outstanding {
        let Effect::FormMatches { queue, round, .. } = effect else { continue };
        let watch = Watch::start();
        let tickets = driver.maker.asked_about(&queue, round).ok_or(Failure::Stuck)?;
        driver.inputs.add(watch.stop());
        let pairs = tickets.chunks_exact(2).map(|pair| {
            let teams = pair.iter().map(|(id, _)| vec![id.clone()]).collect();
            Ok(FormedMatch { teams, region: None })
        });
        let matches = Some(pairs.collect());
        driver.call(Ok(Command::MatchesFormed { queue, round, matches }))?;
    }
    driver.ticks(TICKS, |_| {});
    // Not before: a process that starts has no other machine to free, whose memory the next tick would have to tidy up.
    drop(before);
    Ok(())
}

/// Each player has blocked one of nearly every other party.
fn blocked(driver: &mut Driver, found: &mut Found) -> Result<(), Failure> {
    found.tickets = found.tickets.min(MAX_PARTIES);
    let count = found.tickets;
    // One text per player, no matter how many have blocked them.
    let all = (0..count).map(|number| PlayerId::new(&format!("p{number}-0")));
    let all: Vec<PlayerId> = all.collect::<Result<_, BadId>>()?;
    for number in 0..count {
        let others = |of: u32| {
            let those = (0..BLOCKED.min(count)).map(|at| (number + 1 + of * BLOCKED + at) % count);
            let those = those.filter(|other| *other != number);
            Ok(those.filter_map(|other| all.get(other as usize).cloned()).collect())
        };
        driver.call(ticket(number, 0, PARTY, others))?;
    }
    driver.ticks(TICKS, |_| {});
    if count > 0 {
        let id = TicketId::new(&(count - 1).to_string())?;
        let watch = Watch::start();
        drop(driver.maker.explain(&id, driver.now()));
        found.explained.add(watch.stop());
    }
    Ok(())
}

/// One match that gets no server at first, so that all its tickets return; then its players can connect. In the other
/// queues each player waits in a party of `party`, whose sizes fill no teams.
fn several(driver: &mut Driver, found: &mut Found, party: u32) -> Result<(), Failure> {
    let players = PLAYERS.min(found.tickets / MAX_QUEUES_PER_PLAYER) / 2 * 2;
    found.tickets = players * MAX_QUEUES_PER_PLAYER;
    let mut settings = found.hostile.settings()?;
    for (at, queue) in settings.queues.values_mut().enumerate() {
        let size = if at == 0 || party == 1 { players / 2 } else { party + 1 };
        (queue.players_per_team, queue.min_players_per_team) = (size, size);
    }
    driver.call(Ok(Command::Configure { settings }))?;
    for number in 0..found.tickets {
        let (player, queue) = (number % players, number / players);
        // The others are in a party in each of these queues, too.
        let others = (0..if queue == 0 { 0 } else { party - 1 }).map(|of| format!("p{player}-{of}"));
        let ids = others.chain([format!("p{player}")]).map(|id| PlayerId::new(&id).map(Player::new));
        let ids = ids.collect::<Result<_, BadId>>()?;
        let spec = tickets::spec(name(queue as usize)?, ids);
        driver.call(Ok(Command::Start { id: Some(TicketId::new(&number.to_string())?), spec }))?;
    }
    for attempt in 0..2 {
        driver.ticks(TICKS, |_| {});
        let formation = driver.maker.formations().next().ok_or(Failure::Stuck)?;
        let match_id = formation.id.clone();
        driver.call(Ok(if attempt == 0 {
            Command::NoServer { match_id, reason: "no machines left".to_owned() }
        } else {
            Command::MatchReady { match_id, connection: Connection::default() }
        }))?;
    }
    driver.ticks(TICKS, |_| {});
    if driver.maker.formations().next().is_some() || !driver.maker.tickets(0, 1).items.is_empty() {
        return Err(Failure::Stuck);
    }
    Ok(())
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let longest = |times: &Times| millis(times.processor(1_000));
        let verdict = if self.longest() > GOAL { "; above the goal" } else { "" };
        write!(
            f,
            "{}: {} tickets; longest tick {:.2} ms, input {:.2} ms, explanation {:.2} ms, deadline {:.3} ms; at a start {:.2} \
             ms{verdict}",
            self.hostile.name(),
            self.tickets,
            longest(&self.ticks),
            longest(&self.inputs),
            longest(&self.explained),
            longest(&self.deadlines),
            millis(self.outstanding),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_hostile_input_is_measured() {
        for hostile in Hostile::ALL {
            let found = run(hostile, 400).unwrap();
            assert!(found.ticks.count() > 0 && found.inputs.count() > 400, "{found}");
            let explained = match hostile {
                Hostile::Explained => 2 * 20 + 3,
                Hostile::Formers | Hostile::Several | Hostile::SeveralParties => 0,
                Hostile::Blocked => 1,
            };
            assert_eq!(found.explained.count(), explained, "{found}");
            assert_eq!(found.outstanding > Duration::ZERO, hostile == Hostile::Formers, "{found}");
        }
    }
}
