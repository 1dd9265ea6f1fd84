//! `cargo xtask bench`: every benchmark of the workspace, one after the other.

use crate::packages;
use crate::step::{Stop, cargo, run};
use crate::tree::root;

/// Where measured numbers are kept, with the machine they were measured on.
const NUMBERS: &str = "docs/performance.md";

pub(crate) fn run_all() -> Result<(), Stop> {
    for package in packages::read()? {
        for bench in package.targets.iter().filter(|target| target.kind.iter().any(|kind| kind == "bench")) {
            let mut command = cargo();
            command.args(["bench", "--package", &package.name, "--bench", &bench.name]).current_dir(root());
            run(&mut command, "The lines above say why.")?;
        }
    }
    println!("\nNumbers worth keeping go into {NUMBERS}, with the machine and the date.");
    Ok(())
}
