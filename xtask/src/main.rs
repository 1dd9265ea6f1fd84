//! What developers run in the repository: `cargo xtask <command>`.
//!
//! A program and not a shell script or a makefile: everybody who can build Sortie can run it, and its rules have tests.
//! Its dependencies are light, because it is built before everything else.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod bench;
mod debian;
mod fuzz;
mod packages;
mod python;
mod sim;
mod step;
mod summary;
mod test;
mod tidy;
mod torture;
mod tree;

/// Commands of this repository
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Verify everything: formatting, lints, all tests, and that documents and layout are in order
    Test,
    /// Drive the broker through simulated schedules.
    Sim(sim::Args),
    /// Kill the control plane at random moments under load, over and over.
    Torture(torture::Args),
    /// Feed decoders and evaluators arbitrary input, guided by coverage
    Fuzz(fuzz::Args),
    /// Measure: tokens minted, batches made durable, a start of the program
    Bench,
    /// Verify that documents and layout are in order
    Tidy,
}

fn main() -> ExitCode {
    let outcome = match Args::parse().command {
        Command::Test => test::run(),
        Command::Sim(args) => sim::run(&args),
        Command::Torture(args) => torture::run_rounds(&args),
        Command::Fuzz(args) => fuzz::run(&args),
        Command::Bench => bench::run_all(),
        Command::Tidy => tidy::run(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(stop) => {
            eprintln!("\n{stop}");
            if let Some(line) = stop.last_line() {
                println!("{line}");
            }
            ExitCode::FAILURE
        }
    }
}
