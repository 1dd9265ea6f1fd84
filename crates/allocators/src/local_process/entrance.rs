//! How a server enters its control group before its program runs.
//!
//! A process that is moved into a group after its start may have had a child by then, and that child may have left
//! everything by which it could be recognized. Nothing can run between fork and exec without unsafe code. So a process
//! of our own program is started instead of the server: it enters the group and then becomes the server by exec, which
//! keeps process id, start time, process group and working folder. It passes on everything else that it inherits
//! unchanged. If exec fails, it writes the reason to a pipe, which a successful exec closes.

use std::convert::Infallible;
use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::io::{self, PipeReader, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::unistd::{execve, execvpe};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::stdio::dup2_stdin;
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};

use super::control_group::ControlGroup;
use super::helpers::Helper;
use super::launch::Program;

/// Maximum wait for exec.
const EXEC_WAIT: Duration = Duration::from_secs(30);
/// Prefixes of the variables that the system's loader reads. They are meant for the server: its libraries may not suit
/// our program.
const FOR_THE_LOADER: [&str; 2] = ["LD_", "GLIBC_TUNABLES"];
/// Prefix of their names until exec.
const HIDDEN: &str = "SORTIE_HIDDEN_";

/// A command that has `helper` enter `group` and become `program`. The caller sets its standard streams; standard input
/// is the end of a pipe for [`outcome`].
pub(super) fn command(program: &Program, group: &ControlGroup, helper: &Helper) -> Command {
    let mut command = helper.command();
    command.arg(group.path()).arg("--").arg(&program.path).args(&program.arguments);
    let variables = program.variables.iter().map(|(name, value)| (hidden(name), value));
    program.surround(&mut command, variables);
    command
}

/// Waits until the process has become the server. Blocks.
///
/// # Errors
/// Why it has not. The process may still exist.
pub(super) fn outcome(mut pipe: PipeReader) -> io::Result<()> {
    let deadline = Instant::now() + EXEC_WAIT;
    loop {
        let left = Timespec::try_from(deadline.saturating_duration_since(Instant::now()));
        match poll(&mut [PollFd::new(&pipe, PollFlags::IN)], left.ok().as_ref()) {
            Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
            Ok(_) => break,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let mut number = [0; size_of::<i32>()];
    match pipe.read(&mut number)? {
        0 => Ok(()),
        _ => Err(io::Error::from_raw_os_error(i32::from_ne_bytes(number))),
    }
}

/// Enters the control group whose folder is `group`, if possible, and then becomes the program that is the first
/// element of `server`, with the others as arguments. Standard input is a pipe to which the reason for a failure is
/// written; the program gets an empty one.
///
/// # Errors
/// The same reason.
pub fn enter_group(group: &Path, server: &[OsString]) -> io::Result<Infallible> {
    let mut tell = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let Err(error) = become_server(group, server);
    let number = error.raw_os_error().unwrap_or(Errno::INVAL.raw_os_error());
    tell.write_all(&number.to_ne_bytes())?;
    Err(error)
}

fn become_server(group: &Path, server: &[OsString]) -> io::Result<Infallible> {
    dup2_stdin(File::open("/dev/null")?)?;
    // If this fails, the parent sees that the group is empty.
    let _not_entered_is_fine = ControlGroup::at(group.to_owned()).enter();
    // Rust ignores SIGPIPE, and exec would keep that. A signal with a listener is reset to its default by exec.
    let runtime = Builder::new_current_thread().enable_io().build()?;
    let _context = runtime.enter();
    drop(signal(SignalKind::pipe())?);
    exec(server)
}

/// As in the standard library: a path is run only if the kernel can run it, a name is looked up in `PATH`.
fn exec(server: &[OsString]) -> io::Result<Infallible> {
    let texts = server.iter().map(|text| CString::new(text.as_bytes()));
    let arguments = texts.collect::<Result<Vec<_>, _>>()?;
    let program = arguments.first().ok_or(io::ErrorKind::InvalidInput)?;
    let variables = std::env::vars_os().map(|(name, value)| {
        let mut variable = shown(&name).to_owned();
        variable.push("=");
        variable.push(value);
        CString::new(variable.into_vec())
    });
    let variables = variables.collect::<Result<Vec<_>, _>>()?;
    let is_path = program.as_bytes().contains(&b'/');
    let run = if is_path { execve } else { execvpe };
    Ok(run(program, &arguments, &variables)?)
}

fn is_for_the_loader(name: &[u8]) -> bool {
    FOR_THE_LOADER.iter().any(|begin| name.starts_with(begin.as_bytes()))
}

fn hidden(name: &OsStr) -> OsString {
    let mut hidden = OsString::from(if is_for_the_loader(name.as_bytes()) { HIDDEN } else { "" });
    hidden.push(name);
    hidden
}

fn shown(name: &OsStr) -> &OsStr {
    let bare = name.as_bytes().strip_prefix(HIDDEN.as_bytes());
    bare.filter(|bare| is_for_the_loader(bare)).map_or(name, OsStr::from_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_loader_reads_is_kept_for_the_server() {
        for name in ["LD_PRELOAD", "LD_LIBRARY_PATH", "GLIBC_TUNABLES"] {
            assert_eq!(hidden(name.as_ref()), format!("SORTIE_HIDDEN_{name}").as_str());
        }
        for name in ["LD_PRELOAD", "LD", "PATH", "SORTIE_API", "OLD_PATH", "SORTIE_HIDDEN_X", ""] {
            assert_eq!(shown(&hidden(name.as_ref())), name);
        }
    }
}
