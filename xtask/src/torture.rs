//! `cargo xtask torture`: the test of the same name, for as many rounds as one has time for.
//!
//! The same code and the same build as in `cargo xtask test`, so that what is found here is a failing test there.

use crate::step::{Stop, cargo, run};
use crate::tree::root;

/// What the test in `crates/sortie/tests/it/torture/mod.rs` reads.
const ROUNDS: &str = "SORTIE_TEST_TORTURE_ROUNDS";
const SEED: &str = "SORTIE_TEST_TORTURE_SEED";
const TEST: &str = "torture::torture";

/// How long to go on.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// How often the control plane is killed while it serves.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Seed of what is drawn; the timing of the machine is drawn by nobody.
    #[arg(long)]
    seed: Option<u64>,
}

pub(crate) fn run_rounds(args: &Args) -> Result<(), Stop> {
    let mut command = cargo();
    command.args(["test", "--package", "sortie", "--test", "it", TEST, "--", "--exact", "--nocapture"]);
    command.env(ROUNDS, args.rounds.to_string()).env_remove(SEED).current_dir(root());
    command.envs(args.seed.map(|seed| (SEED, seed.to_string())));
    run(&mut command, "The lines above say what was lost, and the seed with which it was.")
}
