//! `sortie completions`: shell completion scripts.

use std::process::ExitCode;

use clap::CommandFactory as _;

use super::output::line;
use crate::cli::{Cli, Completions};
use crate::failure::Failure;

pub(crate) fn run(options: &Completions) -> Result<ExitCode, Failure> {
    let mut command = Cli::command();
    let name = command.get_name().to_owned();
    // Not directly to standard output: the library panics on a broken pipe.
    let mut script = Vec::new();
    clap_complete::generate(options.shell, &mut command, name, &mut script);
    line(String::from_utf8_lossy(&script).trim_end())?;
    Ok(ExitCode::SUCCESS)
}
