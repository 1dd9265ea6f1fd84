//! `cargo xtask sim`: the simulation over as many seeds as one has time for, on all cores.
//!
//! Not a release build: the workspace's profile optimises the crates that do the work in every build, a release build
//! was measured to be no faster, and it would leave out the assertions, which are part of what is tested.

use std::any::Any;
use std::fmt;
use std::ops::Range;
use std::panic::catch_unwind;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use sortie_testkit::sim::{BrokenRule, Report, run as run_seed};

use crate::step::Stop;

/// From this many seeds on, each tenth of them is announced.
const SEEDS_WORTH_PROGRESS: u64 = 100;

/// How to run the simulation.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// How many seeds to run.
    #[arg(long, required_unless_present = "seed", conflicts_with = "seed")]
    seeds: Option<u64>,
    /// The first of them.
    #[arg(long, default_value_t = 0, conflicts_with = "seed")]
    from: u64,
    /// Run one seed: the replay of a failure.
    #[arg(long)]
    seed: Option<u64>,
    /// Break this rule on purpose, to see that it is noticed.
    #[arg(long, value_parser = rule)]
    rule: Option<BrokenRule>,
}

/// A rule's name on the command line: `oversell-seats`.
fn name(rule: BrokenRule) -> String {
    let mut name = String::new();
    for letter in format!("{rule:?}").chars() {
        if letter.is_uppercase() && !name.is_empty() {
            name.push('-');
        }
        name.extend(letter.to_lowercase());
    }
    name
}

fn rule(text: &str) -> Result<BrokenRule, String> {
    let found = BrokenRule::ALL.iter().copied().find(|rule| name(*rule) == text);
    let names = || BrokenRule::ALL.iter().map(|rule| name(*rule)).collect::<Vec<_>>().join(", ");
    found.ok_or_else(|| format!("the rules that can be broken are {}", names()))
}

impl Args {
    fn range(&self) -> Range<u64> {
        match self.seed {
            Some(seed) => seed..seed.saturating_add(1),
            None => self.from..self.from.saturating_add(self.seeds.unwrap_or(0)),
        }
    }

    fn rule_words(&self) -> String {
        self.rule.map_or_else(String::new, |rule| format!(" --rule {}", name(rule)))
    }
}

pub(crate) fn run(args: &Args) -> Result<(), Stop> {
    let range = args.range();
    let began = Instant::now();
    let tally = over(range.clone(), |seed| outcome(seed, args.rule));
    println!(
        "{} of {} seeds in {:.1} s",
        tally.count,
        range.end - range.start,
        began.elapsed().as_secs_f64()
    );
    println!("{}", Shown(tally.sum));
    match (tally.first, args.rule) {
        (None, None) => Ok(()),
        (None, Some(rule)) => Err(Stop::new(
            format!("nobody noticed that {} is broken", name(rule)),
            "More seeds may show it; if not, an invariant is missing in crates/testkit/src/sim/checks.rs.",
        )),
        (Some((seed, problem)), None) => Err(Stop::new(
            format!("seed {seed}: {problem}"),
            format!("Replay: cargo xtask sim --seed {seed}"),
        )),
        (Some((seed, problem)), Some(rule)) => {
            println!("noticed at seed {seed} that {} is broken: {problem}", name(rule));
            println!("replay: cargo xtask sim --seed {seed}{}", args.rule_words());
            Ok(())
        }
    }
}

type Outcome = Result<Report, String>;

/// One schedule. A panic is an outcome too: assertions in the machine are invariants.
fn outcome(seed: u64, rule: Option<BrokenRule>) -> Outcome {
    match catch_unwind(|| run_seed(seed, rule)) {
        Ok(Ok(report)) => Ok(report),
        Ok(Err(failure)) => Err(format!("after {} inputs: {}", failure.inputs, failure.problem)),
        Err(panic) => Err(format!("panic: {}", text_of(panic.as_ref()))),
    }
}

fn text_of(panic: &(dyn Any + Send)) -> &str {
    let owned = panic.downcast_ref::<String>().map(String::as_str);
    owned.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("of an unknown kind")
}

/// What many seeds came to.
#[derive(Default)]
struct Tally {
    count: u64,
    sum: Report,
    /// The failing seed that is the lowest.
    first: Option<(u64, String)>,
}

impl Tally {
    fn add(&mut self, seed: u64, outcome: Outcome) {
        self.count += 1;
        match outcome {
            Ok(report) => add(&mut self.sum, &report),
            Err(problem) if self.first.as_ref().is_none_or(|(first, _)| seed < *first) => {
                self.first = Some((seed, problem));
            }
            Err(_) => {}
        }
    }
}

const fn add(sum: &mut Report, report: &Report) {
    let Report { inputs, events, crashes, matches, ready, processes, claims } = *report;
    sum.inputs += inputs;
    sum.events += events;
    sum.crashes += crashes;
    sum.matches += matches;
    sum.ready += ready;
    sum.processes += processes;
    sum.claims += claims;
}

/// Runs `range` on all cores up to its first failure: that of the lowest seed, whatever the cores do.
fn over(range: Range<u64>, run: impl Fn(u64) -> Outcome + Sync) -> Tally {
    let next = AtomicU64::new(range.start);
    let end = AtomicU64::new(range.end);
    let tally = Mutex::new(Tally::default());
    let seeds = range.end - range.start;
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= end.load(Ordering::Relaxed) {
                break;
            }
            let outcome = run(seed);
            if outcome.is_err() {
                end.fetch_min(seed, Ordering::Relaxed);
            }
            let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
            tally.add(seed, outcome);
            if seeds >= SEEDS_WORTH_PROGRESS && tally.count.is_multiple_of(seeds / 10) {
                eprintln!("{} of {seeds} seeds", tally.count);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, Into::into) {
            scope.spawn(work);
        }
    });
    tally.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// Reports added up, for people.
struct Shown(Report);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { inputs, events, crashes, matches, ready, processes, claims } = self.0;
        write!(
            f,
            "{inputs} inputs, {events} events, {crashes} crashes, {matches} matches, {ready} of them ready, \
             {processes} server processes, {claims} seats claimed"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_failing_seed_is_the_first_failure() {
        let tally = over(5..10_000, |seed| {
            if seed % 70 == 69 { Err(format!("{seed} is bad")) } else { Ok(Report::default()) }
        });
        assert_eq!(tally.first, Some((69, "69 is bad".to_owned())));
        assert!((65..9_000).contains(&tally.count), "{}", tally.count);
    }

    #[test]
    fn all_seeds_are_run_once_and_added_up() {
        let tally = over(0..500, |seed| Ok(Report { inputs: seed, ..Report::default() }));
        assert_eq!((tally.count, tally.first, tally.sum.inputs), (500, None, 499 * 500 / 2));
    }

    #[test]
    fn rules_have_names_and_others_are_refused_with_the_list() {
        assert_eq!(rule("oversell-seats"), Ok(BrokenRule::OversellSeats));
        assert!(rule("oversell").unwrap_err().contains("oversell-seats, claim-twice"));
    }

    #[test]
    fn a_broken_rule_is_noticed_and_a_panic_is_a_failure() {
        let noticed = over(0..50, |seed| outcome(seed, Some(BrokenRule::LoseMatch)));
        assert!(noticed.first.is_some_and(|(_, problem)| problem.contains("6: ")));
        assert_eq!(text_of(&*catch_unwind(|| panic!("at {}", 3)).unwrap_err()), "at 3");
    }
}
