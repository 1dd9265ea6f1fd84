//! Requests for matches with a long queue and many waiting servers, against few of both, in one run.
//!
//! Half of the requirements match queued matches and half match none; the waiting servers ask with the latter, so that
//! they keep waiting. One in ten is not a plain comparison of properties. Requests cycle through all of them, so that
//! none is used twice in a row.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::client::{Connection, workers};
use crate::failure::Failure;
use crate::load::{Errors, Until, Work, load};
use crate::stats::{Timings, merged, shown};
use crate::target::Target;

/// Queued matches and waiting servers of the small case.
const SMALL: (usize, usize) = (100, 10);
/// Requests in flight during the measurement.
const IN_FLIGHT: usize = 8;
/// Calls in flight while the queue is filled.
const FILLING: usize = 64;
/// Number of requests with each of the requirements.
const ASKED: usize = 4;
/// Number of waiting calls on one connection, below the limit of a control plane.
const WAITING_PER_CONNECTION: usize = 1_000;
/// One requirement in this many is not a plain comparison.
const GENERAL: usize = 10;
/// Hint of the server manager contract.
const WILLING_TO_WAIT: u32 = 2;
/// Pause between two checks whether all servers wait.
const LOOK_PAUSE: Duration = Duration::from_millis(100);
/// Maximum time until all servers wait.
const WAITING_TIME: Duration = Duration::from_secs(300);

/// The size of a case.
#[derive(Clone, Copy)]
pub(crate) struct Size {
    pub(crate) queued: usize,
    pub(crate) filters: usize,
    pub(crate) waiting: usize,
}

/// The result.
pub(crate) struct Scale {
    size: Size,
    small: Case,
    large: Case,
    /// Before the matches, with the matches, and with the servers, too; in MiB.
    memory: [Option<f64>; 3],
    pub(crate) errors: Errors,
}

pub(crate) async fn measure(target: &Target, name: &str, size: Size) -> Result<Scale, Failure> {
    let connections = target.connect(IN_FLIGHT).await?;
    let mut waiting = Waiting { target, name, tasks: JoinSet::new(), count: 0, connections: Vec::new() };
    let mut errors = Errors::default();
    let small = (SMALL.0.min(size.queued), SMALL.1.min(size.waiting));

    let before = target.resident_mib();
    errors.add(fill(&connections, name, size.filters, 0..small.0).await?);
    waiting.grow(small.1, size.filters).await?;
    let small_case = Case::measure(&connections, name, small, size.filters).await?;

    errors.add(fill(&connections, name, size.filters, small.0..size.queued).await?);
    let with_matches = target.resident_mib();
    waiting.grow(size.waiting, size.filters).await?;
    let with_servers = target.resident_mib();
    let large_case = Case::measure(&connections, name, (size.queued, size.waiting), size.filters).await?;

    while let Some(ended) = waiting.tasks.try_join_next() {
        let problem = match ended? {
            Ok(()) => Failure::new("a waiting server was given a match that does not fit, or sent away"),
            Err(problem) => problem,
        };
        errors.push(&problem);
    }
    Ok(Scale {
        size,
        small: small_case,
        large: large_case,
        memory: [before, with_matches, with_servers],
        errors,
    })
}

/// Number of different marks of a queue's matches: one for each requirement that matches.
fn marks(filters: usize, queued: usize) -> usize {
    filters.div_ceil(2).min(queued).max(1)
}

/// The content of a match with this mark.
fn order(name: &str, mark: usize) -> String {
    let properties = json!({
        "bench": name, "mark": format!("mark-{mark}"), "region": "eu-central", "map": "harbour", "ranked": true,
        "level": mark % 100,
    });
    json!({ "players": [format!("player-{mark}-a"), format!("player-{mark}-b")], "properties": properties })
        .to_string()
}

/// The requirements of a server: matches with this mark, or matches that do not exist.
fn requirements(name: &str, number: usize, exists: bool) -> String {
    if number % GENERAL == GENERAL - 1 {
        // A mark ends with a number that no other ends with.
        let ending = if exists { "" } else { "-nowhere" };
        return format!("ends_with(MatchProperties.mark, '-{number}{ending}')");
    }
    let region = if exists { "eu-central" } else { "nowhere" };
    format!(
        "MatchProperties.bench == '{name}' && MatchProperties.region == '{region}' \
         && MatchProperties.mark == 'mark-{number}'"
    )
}

/// Submits these matches of the queue.
async fn fill(
    connections: &[Connection],
    name: &str,
    filters: usize,
    places: std::ops::Range<usize>,
) -> Result<Errors, Failure> {
    let (count, next) = (places.len() as u64, Arc::new(AtomicUsize::new(places.start)));
    let marks = filters.div_ceil(2).max(1);
    let submitters = workers(connections, FILLING, |connection, _| Submit {
        connection,
        name: name.to_owned(),
        marks,
        next: Arc::clone(&next),
    });
    Ok(load(submitters, Until::done(count)).await?.errors)
}

struct Submit {
    connection: Connection,
    name: String,
    marks: usize,
    next: Arc<AtomicUsize>,
}

impl Work for Submit {
    async fn once(&mut self) -> Result<(), Failure> {
        let place = self.next.fetch_add(1, Ordering::Relaxed);
        self.connection.submit(order(&self.name, place % self.marks)).await.map(drop)
    }
}

/// Servers with waiting calls.
struct Waiting<'a> {
    target: &'a Target,
    name: &'a str,
    tasks: JoinSet<Result<(), Failure>>,
    count: usize,
    connections: Vec<Connection>,
}

impl Waiting<'_> {
    /// Makes servers wait until this many do.
    async fn grow(&mut self, count: usize, filters: usize) -> Result<(), Failure> {
        let missing = count.div_ceil(WAITING_PER_CONNECTION).saturating_sub(self.connections.len());
        self.connections.extend(self.target.connect(missing).await?);
        let prefix = format!("{}-waiting-", self.name);
        for index in self.count..count {
            let Some(connection) = self.connections.get(index / WAITING_PER_CONNECTION) else { break };
            let mut connection = connection.clone();
            let server = format!("{prefix}{index}");
            let requirements = requirements(self.name, index % (filters / 2).max(1), false);
            self.tasks.spawn(async move {
                connection.request_match(&server, &requirements, WILLING_TO_WAIT).await.map(drop)
            });
        }
        self.count = count;
        let Some(first) = self.connections.first() else { return Ok(()) };
        let mut looking = first.clone();
        let all_wait = async {
            while looking.count_servers(&prefix).await? < count {
                tokio::time::sleep(LOOK_PAUSE).await;
            }
            Ok(())
        };
        let waited = tokio::time::timeout(WAITING_TIME, all_wait).await;
        waited.unwrap_or_else(|_| {
            Err(Failure::new(format!("{count} servers do not wait within {WAITING_TIME:?}")))
        })
    }
}

/// The result for one size.
struct Case {
    queued: usize,
    waiting: usize,
    /// Requests that got a match.
    fitting: Timings,
    /// Requests that matched nothing.
    fruitless: Timings,
}

impl Case {
    async fn measure(
        connections: &[Connection],
        name: &str,
        (queued, waiting): (usize, usize),
        filters: usize,
    ) -> Result<Self, Failure> {
        let next = Arc::new(AtomicUsize::new(0));
        let servers = workers(connections, IN_FLIGHT, |connection, index| Asking {
            connection,
            server: format!("{name}-asking-{index}"),
            name: name.to_owned(),
            marks: marks(filters, queued),
            filters,
            next: Arc::clone(&next),
            fitting: Timings::new(),
            fruitless: Timings::new(),
        });
        let asked = load(servers, Until::done((filters * ASKED) as u64)).await?;
        if let Some(problem) = asked.errors.examples().first() {
            let count = asked.errors.count();
            return Err(Failure::new(format!("{count} servers could not continue; the first: {problem}")));
        }
        let fitting = merged(asked.workers.iter().map(|server| &server.fitting));
        let fruitless = merged(asked.workers.iter().map(|server| &server.fruitless));
        Ok(Self { queued, waiting, fitting, fruitless })
    }

    fn all(&self) -> Timings {
        merged([&self.fitting, &self.fruitless])
    }

    fn json(&self) -> Value {
        json!({
            "queued": self.queued,
            "waiting": self.waiting,
            "requests": self.all().summary(),
            "fitting": self.fitting.summary(),
            "fruitless": self.fruitless.summary(),
        })
    }

    fn text(&self) -> String {
        format!(
            "  {:>7} queued, {:>6} waiting: {} (with a match: {}; without: {})",
            self.queued,
            self.waiting,
            self.all().summary(),
            self.fitting.summary(),
            self.fruitless.summary()
        )
    }
}

/// A server that asks with one requirement after the other; it plays a match at once, and another match of the same
/// kind takes its place in the queue.
struct Asking {
    connection: Connection,
    server: String,
    name: String,
    marks: usize,
    filters: usize,
    next: Arc<AtomicUsize>,
    fitting: Timings,
    fruitless: Timings,
}

impl Work for Asking {
    async fn once(&mut self) -> Result<(), Failure> {
        let number = self.next.fetch_add(1, Ordering::Relaxed) % self.filters;
        let (exists, number) = (number.is_multiple_of(2), number / 2);
        let number = if exists { number % self.marks } else { number };
        let requirements = requirements(&self.name, number, exists);
        let began = Instant::now();
        let offer = self.connection.request_match(&self.server, &requirements, 0).await?;
        let timings = if exists { &mut self.fitting } else { &mut self.fruitless };
        timings.record(began.elapsed());
        match offer.r#match {
            Some(game) if exists => {
                self.connection.match_ready(&self.server, &game.match_id, "127.0.0.1:1").await?;
                self.connection.end_match(&self.server, &game.match_id).await?;
                self.connection.submit(order(&self.name, number)).await.map(drop)
            }
            // Another server may have taken the only one and not have queued the next one yet.
            None => Ok(()),
            Some(_) => Err(Failure::new("a server was given a match that does not fit")),
        }
    }
}

impl Scale {
    /// The ratio of the large case's p99 to that of the small one.
    fn ratio(&self) -> Option<f64> {
        Some(self.large.all().summary().p99_ms? / self.small.all().summary().p99_ms?)
    }

    pub(crate) fn json(&self) -> Value {
        let [before, with_matches, with_servers] = self.memory;
        json!({
            "filters": self.size.filters,
            "small": self.small.json(),
            "large": self.large.json(),
            "p99_ratio": self.ratio(),
            "memory_mib": { "before": before, "queued": with_matches, "waiting": with_servers },
        })
    }

    pub(crate) fn text(&self) -> Vec<String> {
        let [before, with_matches, with_servers] = self.memory.map(|mib| shown(mib, 1));
        vec![
            format!("RequestMatch with {} requirements, {IN_FLIGHT} in flight", self.size.filters),
            self.small.text(),
            self.large.text(),
            format!("  p99 {} times that of the small case", shown(self.ratio(), 2)),
            format!(
                "  memory {before} MiB at first, {with_matches} with the matches, {with_servers} with the servers"
            ),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mark_asked_for_is_in_the_queue() {
        assert_eq!((marks(1000, 100), marks(1000, 100_000), marks(1, 1)), (100, 500, 1));
        let fitting = requirements("b", 3, true);
        assert!(fitting.contains("MatchProperties.mark == 'mark-3'"), "{fitting}");
        assert!(order("b", 3).contains(r#""mark":"mark-3""#));
        assert_eq!(requirements("b", 9, true), "ends_with(MatchProperties.mark, '-9')");
        assert!(requirements("b", 3, false).contains("nowhere"));
    }
}
