//! Rare, expensive steps: new rules, a restart, the answer of a hook that forms matches.
//!
//! The machine answers nobody during a step, however rare, so none may take long while many tickets wait.

use std::fmt;
use std::time::Duration;

use sortie_domain::ids::{BadId, QueueId, TicketId};
use sortie_domain::machine::Machine;
use sortie_domain::matchmaking::match_lifecycle::MAX_FORMED_TICKETS;
use sortie_domain::matchmaking::model::Ticket;
use sortie_domain::matchmaking::{Command, FormedMatch, Matchmaker, Settings};

use crate::case::{Case, QUEUE};
use crate::host::{Failure, Host};
use crate::tickets::{Random, former};
use crate::times::{Times, Watch, millis};

/// Longer than any run.
const EXPIRATION: Duration = Duration::from_secs(24 * 3_600);
/// One tick, in milliseconds.
const TICK: u64 = 100;

/// CPU time of the steps, and of the ticks that followed until nothing was left to do.
#[derive(Clone, Debug)]
pub struct Rare {
    /// The queue.
    pub case: Case,
    /// Tickets that wait.
    pub tickets: usize,
    /// Configuring new rules.
    pub configure: Duration,
    /// The ticks after that.
    pub after_configure: Times,
    /// Taking a snapshot. The host does that while no other input is processed.
    pub snapshot: Duration,
    /// Restoring a machine from it, at startup.
    pub restore: Duration,
    /// The ticks after that.
    pub after_restore: Times,
    /// A hook's answer with matches of as many tickets as it may name.
    pub formed: Duration,
    /// Number of those matches.
    pub matches: usize,
    /// The ticks after that.
    pub after_formed: Times,
}

/// Starts this many tickets that cannot play with one another, and runs the steps.
///
/// # Errors
/// The matchmaker fails.
pub fn run(case: Case, tickets: u32) -> Result<Rare, Failure> {
    let mut host = Host::new(case, EXPIRATION)?;
    fill(&mut host, case, tickets)?;
    settle(&mut host)?;
    let settings = case.settings(EXPIRATION * 2)?;
    let (configure, _) = host.call(Command::Configure { settings: settings.clone() })?;
    let after_configure = settle(&mut host)?;

    let watch = Watch::start();
    let snapshot = host.maker.snapshot();
    let (snapshot_took, _) = watch.stop();
    let watch = Watch::start();
    let restored = Matchmaker::restore(snapshot);
    let (restore, _) = watch.stop();
    let before = std::mem::replace(&mut host.maker, restored);
    let after_restore = settle(&mut host)?;
    // Only now: otherwise the allocator would tidy up freed memory during the first steps of the new process.
    drop(before);

    host.call(Command::Configure { settings: with_hook(settings)? })?;
    settle(&mut host)?;
    let (queue, matches) = (QueueId::new(QUEUE)?, Some(pairs(&host).into_iter().map(Ok).collect()));
    let before = host.matches;
    let (formed, _) = host.call(Command::MatchesFormed { queue, round: 1, matches })?;
    let after_formed = settle(&mut host)?;
    Ok(Rare {
        case,
        tickets: host.started,
        matches: host.matches - before,
        configure,
        after_configure,
        snapshot: snapshot_took,
        restore,
        after_restore,
        formed,
        after_formed,
    })
}

/// All at once, with rules that keep them apart.
fn fill(host: &mut Host, case: Case, tickets: u32) -> Result<(), Failure> {
    let (mut random, mut started, mut neighbourhood) = (Random(5), 0, 0);
    while started < tickets {
        let mut at = 0;
        while let Some(wish) = case.lonely(neighbourhood, at, &mut random) {
            host.start(&wish)?;
            at += 1;
            started += 1;
        }
        neighbourhood += 1;
    }
    Ok(())
}

/// Ticks until nothing is due any more; returns how long those ticks took.
fn settle(host: &mut Host) -> Result<Times, Failure> {
    host.ticks.clear();
    host.now += TICK;
    host.tick()?;
    host.ticks.sort();
    Ok(std::mem::take(&mut host.ticks))
}

/// The settings with a hook that forms the queue's matches, with one ticket per team.
fn with_hook(mut settings: Settings) -> Result<Settings, BadId> {
    for queue in settings.queues.values_mut() {
        queue.min_players_per_team = 1;
        queue.hooks.push(former()?);
    }
    Ok(settings)
}

/// The oldest waiting tickets, two per match.
fn pairs(host: &Host) -> Vec<FormedMatch> {
    let mut oldest: Vec<Ticket> = Vec::new();
    loop {
        let after = oldest.last().map_or(0, |ticket| ticket.place);
        let page = host.maker.tickets(after, MAX_FORMED_TICKETS - oldest.len());
        oldest.extend(page.items);
        if !page.more || oldest.len() == MAX_FORMED_TICKETS {
            break;
        }
    }
    let ids: Vec<TicketId> = oldest.into_iter().map(|ticket| ticket.id).collect();
    let pairs = ids.chunks_exact(2);
    let teams = pairs.map(|pair| pair.iter().map(|id| vec![id.clone()]).collect());
    teams.map(|teams| FormedMatch { teams, region: None }).collect()
}

impl fmt::Display for Rare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {} waiting", self.case.name(), self.tickets)?;
        let mut step = |name: &str, took: Duration, after: &Times| {
            let (count, all) = (after.count(), after.total().as_secs_f64());
            writeln!(f, "  {name}: {:.2} ms; then {count} ticks in {all:.2} s: {after}", millis(took))
        };
        step("other rules", self.configure, &self.after_configure)?;
        step("a restart from a snapshot", self.restore, &self.after_restore)?;
        step(&format!("{} matches of a hook", self.matches), self.formed, &self.after_formed)?;
        write!(f, "  a snapshot: {:.2} ms", millis(self.snapshot))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_is_taken() {
        for case in Case::ALL {
            let rare = run(case, 3_000).unwrap();
            assert!(rare.tickets >= 3_000, "{rare}");
            assert!(rare.after_configure.count() > 1 && rare.after_restore.count() > 1, "{rare}");
            assert_eq!(rare.matches, MAX_FORMED_TICKETS / 2, "{rare}");
        }
    }
}
