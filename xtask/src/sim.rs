//! `cargo xtask sim`: the simulation over as many seeds as time allows, on all cores.
//!
//! Not a release build: the workspace's profile optimises the crates that do the work in every build, a release build
//! measured no faster, and it would leave out the assertions, which are part of what is tested.

use std::any::Any;
use std::fmt;
use std::ops::{AddAssign, Range};
use std::panic::{UnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use sortie_testkit::{matchmaking, sim as broker};

use crate::step::Stop;

/// From this many seeds on, each tenth of them is reported.
const SEEDS_WORTH_PROGRESS: u64 = 100;

/// How to run the simulation.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The machine to simulate.
    #[arg(long, value_enum, default_value_t = Machine::Broker)]
    machine: Machine,
    /// How many seeds to run.
    #[arg(long, required_unless_present = "seed", conflicts_with = "seed")]
    seeds: Option<u64>,
    /// The first of them.
    #[arg(long, default_value_t = 0, conflicts_with = "seed")]
    from: u64,
    /// Run one seed: the replay of a failure.
    #[arg(long)]
    seed: Option<u64>,
    /// Break this rule of the machine on purpose, to see that it is noticed.
    #[arg(long)]
    rule: Option<String>,
}

/// A machine that has a simulation.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
enum Machine {
    Broker,
    Matchmaker,
}

/// A rule's name on the command line: `oversell-seats`.
fn name(rule: impl fmt::Debug) -> String {
    let mut name = String::new();
    for letter in format!("{rule:?}").chars() {
        if letter.is_uppercase() && !name.is_empty() {
            name.push('-');
        }
        name.extend(letter.to_lowercase());
    }
    name
}

fn rule<R: Copy + fmt::Debug>(rules: &[R], text: &str) -> Result<R, Stop> {
    let found = rules.iter().copied().find(|rule| name(*rule) == text);
    let names = || rules.iter().map(name).collect::<Vec<_>>().join(", ");
    let problem = || {
        Stop::new(format!("no rule is named {text}"), format!("Those that can be broken are {}.", names()))
    };
    found.ok_or_else(problem)
}

impl Args {
    fn range(&self) -> Range<u64> {
        match self.seed {
            Some(seed) => seed..seed.saturating_add(1),
            None => self.from..self.from.saturating_add(self.seeds.unwrap_or(0)),
        }
    }

    /// The command line for one seed.
    fn replay(&self, seed: u64) -> String {
        let machine = if self.machine == Machine::Broker { "" } else { " --machine matchmaker" };
        let rule = self.rule.as_ref().map_or_else(String::new, |rule| format!(" --rule {rule}"));
        format!("cargo xtask sim{machine} --seed {seed}{rule}")
    }

    fn broken<R: Copy + fmt::Debug>(&self, rules: &[R]) -> Result<Option<R>, Stop> {
        self.rule.as_deref().map(|text| rule(rules, text)).transpose()
    }
}

pub(crate) fn run(args: &Args) -> Result<(), Stop> {
    match args.machine {
        Machine::Broker => {
            let broken = args.broken(broker::BrokenRule::ALL)?;
            run_with(args, |seed| outcome(|| broker::run(seed, broken)))
        }
        Machine::Matchmaker => {
            let broken = args.broken(matchmaking::BrokenRule::ALL)?;
            run_with(args, |seed| outcome(|| matchmaking::run(seed, broken)))
        }
    }
}

fn run_with<R: Sum>(args: &Args, simulate: impl Fn(u64) -> Result<R, String> + Sync) -> Result<(), Stop> {
    let range = args.range();
    let began = Instant::now();
    let tally = over(range.clone(), simulate);
    println!(
        "{} of {} seeds in {:.1} s",
        tally.count,
        range.end - range.start,
        began.elapsed().as_secs_f64()
    );
    println!("{}", tally.sum);
    match (tally.first, &args.rule) {
        (None, None) => Ok(()),
        (None, Some(rule)) => Err(Stop::new(
            format!("nobody noticed that {rule} is broken"),
            "More seeds may show it; if not, an invariant is missing in crates/testkit/src.",
        )),
        (Some((seed, problem)), None) => {
            Err(Stop::new(format!("seed {seed}: {problem}"), format!("Replay: {}", args.replay(seed))))
        }
        (Some((seed, problem)), Some(rule)) => {
            println!("noticed at seed {seed} that {rule} is broken: {problem}");
            println!("replay: {}", args.replay(seed));
            Ok(())
        }
    }
}

/// What a schedule went through, and the sum of many.
trait Sum: AddAssign + Default + fmt::Display + Send {}

impl<R: AddAssign + Default + fmt::Display + Send> Sum for R {}

/// One schedule. A panic is an outcome too: assertions in the machine are invariants.
fn outcome<R>(simulate: impl FnOnce() -> Result<R, broker::Failure> + UnwindSafe) -> Result<R, String> {
    match catch_unwind(simulate) {
        Ok(Ok(report)) => Ok(report),
        Ok(Err(failure)) => Err(format!("after {} inputs: {}", failure.inputs, failure.problem)),
        Err(panic) => Err(format!("panic: {}", text_of(panic.as_ref()))),
    }
}

fn text_of(panic: &(dyn Any + Send)) -> &str {
    let owned = panic.downcast_ref::<String>().map(String::as_str);
    owned.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("of an unknown kind")
}

/// The result of many seeds.
#[derive(Default)]
struct Tally<R> {
    count: u64,
    sum: R,
    /// The lowest failing seed.
    first: Option<(u64, String)>,
}

impl<R: Sum> Tally<R> {
    fn add(&mut self, seed: u64, outcome: Result<R, String>) {
        self.count += 1;
        match outcome {
            Ok(report) => self.sum += report,
            Err(problem) if self.first.as_ref().is_none_or(|(first, _)| seed < *first) => {
                self.first = Some((seed, problem));
            }
            Err(_) => {}
        }
    }
}

/// Runs `range` on all cores up to its first failure: that of the lowest seed, whatever the cores' timing.
fn over<R: Sum>(range: Range<u64>, run: impl Fn(u64) -> Result<R, String> + Sync) -> Tally<R> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use broker::{BrokenRule, Report};

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
        assert_eq!(rule(BrokenRule::ALL, "oversell-seats").ok(), Some(BrokenRule::OversellSeats));
        let refused = rule(BrokenRule::ALL, "oversell").unwrap_err().to_string();
        assert!(refused.contains("oversell-seats, claim-twice"), "{refused}");
    }

    #[test]
    fn a_broken_rule_is_noticed_and_a_panic_is_a_failure() {
        let noticed = over(0..50, |seed| outcome(|| broker::run(seed, Some(BrokenRule::LoseMatch))));
        assert!(noticed.first.is_some_and(|(_, problem)| problem.contains("6: ")));
        assert_eq!(text_of(&*catch_unwind(|| panic!("at {}", 3)).unwrap_err()), "at 3");
    }
}
