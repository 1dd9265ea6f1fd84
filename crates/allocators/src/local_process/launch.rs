//! Starts one server process.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::{self, PipeWriter};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::SystemTime;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process_group};
use sortie_inherited::inherited;

use super::control_group::ControlGroup;
use super::entrance;
use super::helpers::Helpers;
use super::keeper;
use super::output::Output;
use super::ports::PortLease;
use super::process::Process;
use super::record::{Folder, PlacementRecord};
use super::settings::{LocalFleet, LocalProcess, Placeholders};
use crate::{AllocatorError, StartOrder};

/// The variables by which a server without a record is recognized.
pub(super) mod variable {
    pub(in super::super) const ALLOCATION: &str = "SORTIE_ALLOCATION_ID";
    pub(in super::super) const FOLDER: &str = "SORTIE_DATA_ID";
    pub(in super::super) const SERVER: &str = "SORTIE_SERVER_ID";
    pub(in super::super) const FLEET: &str = "SORTIE_FLEET";
    pub(in super::super) const PORT: &str = "SORTIE_PORT";
}

/// A server that runs and has a record.
pub(super) struct Launched {
    pub(super) placement: PlacementRecord,
    pub(super) process: Process,
    pub(super) port: PortLease,
}

/// A server that was not started, or was killed right after its start because it could not be recorded.
pub(super) struct Failed {
    pub(super) error: AllocatorError,
    /// Whether its program has run: then it may have left something, in its control group or elsewhere.
    pub(super) has_run: bool,
    pub(super) group: Option<ControlGroup>,
}

impl From<AllocatorError> for Failed {
    fn from(error: AllocatorError) -> Self {
        Self { error, has_run: false, group: None }
    }
}

/// Starts the server of `order` on `port` and records it. Blocks; needs a runtime. If this returns an error, the
/// server's own process does not run.
pub(super) fn launch(
    order: &StartOrder,
    fleet: &LocalFleet,
    port: PortLease,
    output: &Output,
    folder: &Folder,
    helpers: &Helpers,
) -> Result<Launched, Failed> {
    let program = Program::of(order, fleet, port.port(), folder.id())?;
    let (kept, keeper) = keep(order, output, folder, helpers, &port).map_err(|error| {
        output.discard();
        AllocatorError::unreachable(format!("cannot write {}: {error}", output.log.display()))
    })?;
    let group = ControlGroup::make(folder.id(), &order.allocation);
    let failed = match spawn(&program, kept, group.as_ref(), helpers, &port) {
        Ok(mut child) => match watch_and_record(order, &child, &keeper, group.clone(), port.port(), folder) {
            Ok((process, placement)) => return Ok(Launched { placement, process, port }),
            Err(error) => {
                end(&mut child);
                let problem = format!("cannot keep a record of the server: {error}");
                Failed { error: AllocatorError::unreachable(problem), has_run: true, group }
            }
        },
        Err(error) => {
            if let Some(group) = group {
                group.remove();
            }
            spawn_error(&error, &fleet.process).into()
        }
    };
    tokio::spawn(keeper.buried());
    output.discard();
    Err(failed)
}

/// Runs `program`, in `group` if there is one. If this returns an error, nothing is left running.
fn spawn(
    program: &Program,
    (stdout, stderr): (PipeWriter, PipeWriter),
    group: Option<&ControlGroup>,
    helpers: &Helpers,
    port: &PortLease,
) -> io::Result<Child> {
    let mut outcome = None;
    let mut command = match group {
        Some(group) => {
            let (hear, tell) = io::pipe()?;
            outcome = Some(hear);
            let mut command = entrance::command(program, group, &helpers.enter_group);
            command.stdin(tell);
            command
        }
        None => {
            let mut command = program.command();
            command.stdin(Stdio::null());
            command
        }
    };
    command.stdout(stdout).stderr(stderr);
    let spawned = port.while_none_is_tested(|| command.spawn());
    // Our ends of the pipes are closed with it: they would keep the keeper running, and hide the outcome.
    drop(command);
    let mut child = spawned?;
    match outcome.map_or(Ok(()), entrance::outcome) {
        Ok(()) => Ok(child),
        Err(error) => {
            end(&mut child);
            Err(error)
        }
    }
}

/// Starts the process that keeps the output; returns the server's ends of its pipe.
fn keep(
    order: &StartOrder,
    output: &Output,
    folder: &Folder,
    helpers: &Helpers,
    port: &PortLease,
) -> io::Result<((PipeWriter, PipeWriter), Process)> {
    // Created here, so that an error is reported.
    drop(output.create()?);
    let (from, to) = io::pipe()?;
    let both = (to.try_clone()?, to);
    let name = format!("{}.log", order.allocation);
    let start = || keeper::start(&helpers.keep_output, folder.path(), &name, output.limit, from);
    let child = port.while_none_is_tested(start)?;
    let number = i32::try_from(child.id()).map_err(io::Error::other)?;
    Ok((both, Process::open(number)?))
}

fn watch_and_record(
    order: &StartOrder,
    child: &Child,
    keeper: &Process,
    group: Option<ControlGroup>,
    port: u16,
    folder: &Folder,
) -> io::Result<(Process, PlacementRecord)> {
    let number = i32::try_from(child.id()).map_err(io::Error::other)?;
    let process = Process::open(number)?;
    let placement = PlacementRecord {
        allocation: order.allocation.clone(),
        server: order.server.clone(),
        fleet: order.fleet.clone(),
        port,
        process: process.identity().clone(),
        keeper: Some(keeper.identity().clone()),
        group: group.and_then(ControlGroup::unless_empty),
        started_at: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
    };
    folder.store(&placement)?;
    Ok((process, placement))
}

/// Kills a server whose start failed. The process group's id cannot be reused until `wait` has reaped its leader.
fn end(child: &mut Child) {
    if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        let _gone_is_fine = kill_process_group(pid, Signal::KILL);
    }
    if let Err(error) = child.wait() {
        tracing::error!(pid = child.id(), %error, "a server whose start failed could not be stopped");
    }
}

/// What to run as a server.
pub(super) struct Program {
    /// A path, or a name to look up in `PATH`.
    pub(super) path: PathBuf,
    pub(super) arguments: Vec<String>,
    /// All of its environment.
    pub(super) variables: BTreeMap<OsString, OsString>,
    working_folder: Option<PathBuf>,
}

impl Program {
    fn of(
        order: &StartOrder,
        fleet: &LocalFleet,
        port: u16,
        folder_id: &str,
    ) -> Result<Self, AllocatorError> {
        let settings = &fleet.process;
        let placeholders = Placeholders { order, port };
        let path = program(&settings.path)?;
        if let Some(working_folder) = &settings.working_folder {
            check_working_folder(working_folder)?;
        }
        let inherited = inherited(&settings.pass_environment).map(|(name, value)| (name.into(), value));
        let own = environment(order, fleet, &placeholders, folder_id);
        let own = own.into_iter().map(|(name, value)| (name.into(), value.into()));
        Ok(Self {
            path,
            arguments: settings.arguments.iter().map(|argument| placeholders.fill(argument)).collect(),
            variables: inherited.chain(own).collect(),
            working_folder: settings.working_folder.clone(),
        })
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.path);
        command.args(&self.arguments);
        self.surround(&mut command, &self.variables);
        command
    }

    /// Makes `command` run this, with only these variables.
    pub(super) fn surround<N: AsRef<OsStr>, V: AsRef<OsStr>>(
        &self,
        command: &mut Command,
        variables: impl IntoIterator<Item = (N, V)>,
    ) {
        command.env_clear().envs(variables);
        // Its own process group: a terminal's Ctrl-C for the control plane does not reach the servers, and everything
        // that a server starts can be stopped with it.
        command.process_group(0);
        if let Some(folder) = &self.working_folder {
            command.current_dir(folder);
        }
    }
}

fn environment(
    order: &StartOrder,
    fleet: &LocalFleet,
    placeholders: &Placeholders<'_>,
    folder_id: &str,
) -> BTreeMap<String, String> {
    let LocalFleet { process, environment } = fleet;
    let mut variables = BTreeMap::from([("SORTIE_API".to_owned(), environment.api.clone())]);
    let optional = [
        ("SORTIE_API_KEY", environment.api_key.as_ref().map(|key| key(&order.server))),
        ("SORTIE_CA", environment.ca.clone()),
        ("SORTIE_NETCODE_KEY", environment.netcode_key.clone()),
        ("SORTIE_PROTOCOL_ID", environment.protocol_id.map(|id| id.to_string())),
    ];
    for (name, value) in optional {
        variables.extend(value.map(|value| (name.to_owned(), value)));
    }
    for (name, value) in &process.environment {
        variables.insert(name.clone(), placeholders.fill(value));
    }
    // Last, so that no fleet can hide its servers from the next control plane.
    let identity = [
        (variable::ALLOCATION, order.allocation.as_str()),
        (variable::FOLDER, folder_id),
        (variable::SERVER, order.server.as_str()),
        (variable::FLEET, order.fleet.as_str()),
        (variable::PORT, &placeholders.port.to_string()),
    ];
    variables.extend(identity.map(|(name, value)| (name.to_owned(), value.to_owned())));
    variables
}

/// The program to run. A path is made absolute: which folder a relative path starts at after a change of the working
/// folder differs between platforms.
fn program(path: &Path) -> Result<PathBuf, AllocatorError> {
    let is_bare_name = path.components().count() == 1 && !path.has_root();
    if is_bare_name {
        return Ok(path.to_owned());
    }
    std::path::absolute(path)
        .map_err(|error| AllocatorError::invalid(format!("path {}: {error}", path.display())))
}

fn check_working_folder(folder: &Path) -> Result<(), AllocatorError> {
    let problem = match std::fs::metadata(folder) {
        Ok(metadata) if metadata.is_dir() => return Ok(()),
        Ok(_) => "is not a folder".to_owned(),
        Err(error) => format!("cannot be used: {error}"),
    };
    Err(AllocatorError::invalid(format!("working_folder {} {problem}", folder.display())))
}

/// The error for the kernel's refusal to start a server.
fn spawn_error(error: &io::Error, settings: &LocalProcess) -> AllocatorError {
    let path = settings.path.display();
    let permanent = |problem: &str| AllocatorError::invalid(format!("path {path} {problem}"));
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::NOENT) if settings.path.exists() => {
            permanent("cannot be run: the interpreter or loader that it names does not exist")
        }
        Some(Errno::NOENT | Errno::NOTDIR) => {
            permanent("does not exist; correct it or install the game server")
        }
        Some(Errno::ACCESS | Errno::PERM) => {
            permanent("cannot be run: it must be a file that the control plane's user may execute")
        }
        Some(Errno::NOEXEC) => permanent("cannot be run: it is not a program for this machine"),
        Some(Errno::TOOBIG) => permanent("cannot be run: its arguments and environment are too long"),
        Some(Errno::LOOP) => permanent("cannot be run: its links lead in a circle"),
        // No error number: an argument or variable with a NUL byte, found before the kernel was called.
        None if error.kind() == io::ErrorKind::InvalidInput => {
            permanent("cannot be run: an argument or variable contains a NUL byte")
        }
        _ => AllocatorError::unreachable(format!("cannot start {path}: {error}")),
    }
}
