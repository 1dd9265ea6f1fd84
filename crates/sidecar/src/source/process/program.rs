//! Starts a program.
//!
//! `PR_SET_PDEATHSIG` would end it together with a killed sidecar, but can only be set between fork and exec, which is
//! unsafe code. A program that outlives its sidecar finds its output closed, and the end of its standard input.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::io::Errno;
use tokio::process::{ChildStderr, ChildStdin, ChildStdout};

use super::handover::Handed;
use super::output::Output;
use crate::child::{Child, inherited};

/// Why a program could not be started. The text says what is wrong and what to do.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct StartError(String);

/// What to start.
pub(super) struct LaunchSpec<'a> {
    pub(super) command: &'a Path,
    pub(super) working_directory: Option<&'a Path>,
    pub(super) handed: Handed,
    /// Variables of the sidecar that it inherits in addition to those of every game server.
    pub(super) pass_environment: &'a [String],
    /// Whether a match will be written to its standard input.
    pub(super) takes_lines: bool,
}

/// A running program.
pub(super) struct Started {
    pub(super) child: Child,
    /// Its standard input, if it takes lines.
    pub(super) input: Option<ChildStdin>,
}

/// Starts a program, and passes its output to `output`. Blocks; needs a runtime. If this returns an error, nothing is
/// left running.
pub(super) fn start(spec: &LaunchSpec<'_>, output: &mut Output) -> Result<Started, StartError> {
    let mut child = Child::start(&mut command(spec)?).map_err(|error| spawn_error(&error, spec.command))?;
    let input = connect(&mut child, output)
        .map_err(|error| StartError(format!("cannot watch {}: {error}", spec.command.display())))?;
    Ok(Started { child, input })
}

fn connect(child: &mut Child, output: &mut Output) -> io::Result<Option<ChildStdin>> {
    let (input, stdout, stderr) = child.take_pipes();
    if let Some(stdout) = stdout {
        output.read(ChildStdout::from_std(stdout)?, "stdout");
    }
    if let Some(stderr) = stderr {
        output.read(ChildStderr::from_std(stderr)?, "stderr");
    }
    input.map(ChildStdin::from_std).transpose()
}

fn command(spec: &LaunchSpec<'_>) -> Result<Command, StartError> {
    let mut command = Command::new(program(spec.command)?);
    command.args(&spec.handed.arguments);
    if let Some(folder) = spec.working_directory {
        check_working_directory(folder)?;
        command.current_dir(folder);
    }
    command.env_clear().envs(inherited(spec.pass_environment)).envs(&spec.handed.variables);
    let input = if spec.takes_lines { Stdio::piped() } else { Stdio::null() };
    command.stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped());
    Ok(command)
}

/// The program to run. Makes a path absolute, because platforms differ in which folder a relative one is resolved
/// against after a change of the working folder.
fn program(path: &Path) -> Result<PathBuf, StartError> {
    let is_bare_name = path.components().count() == 1 && !path.has_root();
    if is_bare_name {
        return Ok(path.to_owned());
    }
    std::path::absolute(path).map_err(|error| StartError(format!("Command {}: {error}", path.display())))
}

fn check_working_directory(folder: &Path) -> Result<(), StartError> {
    let problem = match std::fs::metadata(folder) {
        Ok(metadata) if metadata.is_dir() => return Ok(()),
        Ok(_) => "is not a folder".to_owned(),
        Err(error) => format!("cannot be used: {error}"),
    };
    Err(StartError(format!("WorkingDirectory {} {problem}", folder.display())))
}

/// Explains the kernel's refusal to start a program.
fn spawn_error(error: &io::Error, command: &Path) -> StartError {
    let problem = match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::NOENT) if command.exists() => {
            "cannot be run: the interpreter or loader that it names does not exist"
        }
        Some(Errno::NOENT | Errno::NOTDIR) => "does not exist; correct it or install the game server",
        Some(Errno::ACCESS | Errno::PERM) => {
            "cannot be run: it must be a file that the sidecar's user may execute"
        }
        Some(Errno::NOEXEC) => "cannot be run: it is not a program for this machine",
        Some(Errno::TOOBIG) => "cannot be run: its arguments and environment are too long; set MatchFile",
        _ => return StartError(format!("Command {} cannot be started: {error}", command.display())),
    };
    StartError(format!("Command {} {problem}", command.display()))
}
