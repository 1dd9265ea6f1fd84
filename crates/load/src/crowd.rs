//! All tickets at once: how fast the matchmaker handles them, and how long its ticks take.

use std::fmt;
use std::time::Duration;

use crate::case::{Case, Wish};
use crate::host::{Failure, Host};
use crate::scan;
use crate::tickets::Random;
use crate::times::{Times, millis};

/// Longer than any run.
const EXPIRATION: Duration = Duration::from_secs(3_600);
/// One tick, in milliseconds.
const TICK: u64 = 100;
/// Maximum number of tickets for a plain scan: comparing every pair of more would take too long.
const MAX_SCANNED: usize = 20_000;

/// Result for a crowd.
#[derive(Clone, Debug)]
pub struct Crowd {
    /// The queue.
    pub case: Case,
    /// Number of tickets.
    pub tickets: usize,
    /// Number of tickets that were matched.
    pub matched: usize,
    /// The ticks, until nothing was left to do.
    pub ticks: Times,
    /// A plain scan of the same crowd: the share matched, and its duration. `None` for large crowds.
    pub scan: Option<(f64, Duration)>,
}

impl Crowd {
    /// Tickets matched per second of CPU time.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.matched as f64 / self.ticks.total().as_secs_f64().max(1e-9)
    }
}

/// Starts this many tickets at once.
///
/// # Errors
/// The matchmaker fails.
pub fn run(case: Case, tickets: u32) -> Result<Crowd, Failure> {
    let (mut host, mut random) = (Host::new(case, EXPIRATION)?, Random(11));
    let wishes: Vec<Wish> = (0..tickets).map(|_| case.of_crowd(tickets, &mut random)).collect();
    for wish in &wishes {
        host.start(wish)?;
    }
    host.now += TICK;
    host.tick()?;
    host.sort_times();
    let scan = (wishes.len() <= MAX_SCANNED).then(|| scan::crowd(case, &wishes)).flatten();
    Ok(Crowd { case, tickets: wishes.len(), matched: host.outcomes.len(), ticks: host.ticks, scan })
}

impl fmt::Display for Crowd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {} at once: {:.0} tickets matched/s, {:.1} % matched in {} ticks and {:.2} s; {}",
            self.case.name(),
            self.tickets,
            self.rate(),
            self.matched as f64 * 100.0 / self.tickets.max(1) as f64,
            self.ticks.count(),
            self.ticks.total().as_secs_f64(),
            self.ticks,
        )?;
        match self.scan {
            Some((share, took)) => {
                write!(f, "; a plain scan matches {:.1} % in one go of {:.2} ms", share * 100.0, millis(took))
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn most_of_a_crowd_is_matched() {
        for case in Case::ALL {
            let crowd = run(case, 2_000).unwrap();
            assert!(crowd.matched > 800, "{crowd}");
            assert!(crowd.scan.is_some() && crowd.ticks.count() > 0, "{crowd}");
        }
    }
}
