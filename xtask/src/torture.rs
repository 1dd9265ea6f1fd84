//! `cargo xtask torture`: tests of the sortie package that run for as long as time allows.
//!
//! The same code and the same build as in `cargo xtask test`, so that a finding here is a failing test there.

use crate::step::{Stop, cargo, run};
use crate::tree::root;

/// Read by the test in `crates/sortie/tests/it/torture/mod.rs`.
const ROUNDS: &str = "SORTIE_TEST_TORTURE_ROUNDS";
const SEED: &str = "SORTIE_TEST_TORTURE_SEED";
const TEST: &str = "torture::torture";

/// Read by the test in `crates/sortie/tests/it/dispatch_soak/mod.rs`.
const SOAK_MINUTES: &str = "SORTIE_TEST_SOAK_MINUTES";
const SOAK_SEED: &str = "SORTIE_TEST_SOAK_SEED";
const SOAK: &str = "dispatch_soak::soak";

/// How long to run.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// How often the control plane is killed while it serves
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..), conflicts_with = "dispatch")]
    rounds: u32,
    /// Test the dispatcher instead of the control plane: under mixed load, every byte checked, memory and descriptors
    /// flat
    #[arg(long)]
    dispatch: bool,
    /// Minutes of that load
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1440), requires = "dispatch")]
    minutes: u32,
    /// Seed of the random choices; the machine's timing stays random
    #[arg(long)]
    seed: Option<u64>,
}

pub(crate) fn run_rounds(args: &Args) -> Result<(), Stop> {
    if args.dispatch {
        return run_test(SOAK, (SOAK_MINUTES, args.minutes), (SOAK_SEED, args.seed));
    }
    run_test(TEST, (ROUNDS, args.rounds), (SEED, args.seed))
}

fn run_test(test: &str, length: (&str, u32), seed: (&str, Option<u64>)) -> Result<(), Stop> {
    let mut command = cargo();
    command.args(["test", "--package", "sortie", "--test", "it", test, "--", "--exact", "--nocapture"]);
    command.env(length.0, length.1.to_string()).env_remove(seed.0).current_dir(root());
    command.envs(seed.1.map(|value| (seed.0, value.to_string())));
    run(&mut command, "The lines above say what was lost, and the seed with which it was.")
}
