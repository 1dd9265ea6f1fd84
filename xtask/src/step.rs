//! Commands that are run for the user, and why one of them stopped everything.

use std::ffi::OsStr;
use std::fmt;
use std::process::{Command, Stdio};

/// Why it makes no sense to continue.
#[derive(Debug)]
pub(crate) struct Stop {
    problem: String,
    advice: String,
    last_line: Option<String>,
}

impl Stop {
    /// What is wrong, and what to do about it.
    pub(crate) fn new(problem: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { problem: problem.into(), advice: advice.into(), last_line: None }
    }

    /// The same, with one more line for readers of only the last one.
    pub(crate) fn ending_with(self, line: String) -> Self {
        Self { last_line: Some(line), ..self }
    }

    /// Printed after everything else.
    pub(crate) fn last_line(&self) -> Option<&str> {
        self.last_line.as_deref()
    }
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "stopped: {}\n{}", self.problem, self.advice)
    }
}

/// The cargo that runs this program.
pub(crate) fn cargo() -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.stdin(Stdio::null());
    command
}

/// The command as a person would type it.
pub(crate) fn shown(command: &Command) -> String {
    let program = std::path::Path::new(command.get_program());
    let name = program.file_name().unwrap_or(command.get_program());
    let words: Vec<_> = std::iter::once(name).chain(command.get_args()).map(OsStr::to_string_lossy).collect();
    words.join(" ")
}

/// Runs `command` visibly.
pub(crate) fn run(command: &mut Command, advice: &str) -> Result<(), Stop> {
    println!("\n== {}", shown(command));
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(Stop::new(format!("`{}` ended with {status}", shown(command)), advice)),
        Err(error) => Err(Stop::new(format!("`{}` cannot be run: {error}", shown(command)), advice)),
    }
}

/// Whether `command` runs and succeeds; its output is hidden.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    quiet.status().is_ok_and(|status| status.success())
}
