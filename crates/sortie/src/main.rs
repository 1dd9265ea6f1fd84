//! The one binary. Each subcommand is a role or a tool; the crates implement them, and this one puts them together.
//!
//! | where | what |
//! |---|---|
//! | `cli` | the command line |
//! | `node` | a whole control plane: the base, and the list of roles |
//! | `role`, `roles` | what a role is; API, gateway, matchmaker, dispatcher, logs and metrics as roles |
//! | `broker`, `platforms`, `reconciliation` | the base: the broker, the platforms of its fleets, and the comparison of both |
//! | `edge` | TLS, limits, the listener and its end |
//! | `keys` | every key of the process |
//! | `opened`, `used`, `machine_start` | how logs are opened and machines are started |
//! | `installation` | whose data folder this is, and what becomes of a copy |
//! | `presence` | makes a running control plane visible, and lets commands query it |
//! | `private` | modes and owners of files in the data folder |
//! | `secrets` | keys in the data folder |
//! | `api_keys` | those of them that `sortie key` makes |
//! | `terminal` | escapes foreign text for terminals and logs |
//! | `commands` | one file per subcommand |
//! | `remote` | the HTTP client of the subcommands that talk to a running `sortie` |

mod api_keys;
mod boot_clock;
mod broker;
mod cli;
mod commands;
mod edge;
mod failure;
mod installation;
mod keys;
mod logging;
mod machine_start;
mod node;
mod opened;
mod platforms;
mod presence;
mod private;
mod reconciliation;
mod remote;
mod role;
mod roles;
mod room;
mod secrets;
mod terminal;
mod used;

use std::io;
use std::process::ExitCode;
use std::sync::Mutex;
use std::thread;

use clap::Parser;
use tokio::runtime::Builder;

use cli::{Cli, Command};
use failure::Failure;

/// Returns unused memory to the system within seconds, even while nothing is allocated. glibc trims little but the end
/// of each arena, and mimalloc only what threads that keep allocating have freed: both keep most of a burst
/// (`docs/performance.md`).
#[cfg(feature = "jemalloc")]
#[global_allocator]
static MEMORY: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    // `start` is a separate function, because the stack that it needs is taken when it is called.
    match check_stack().and_then(|()| check_address_space(SMALLEST_ADDRESS_SPACE)) {
        Ok(()) => start(),
        Err(problem) => {
            eprintln!("sortie: {problem}");
            ExitCode::FAILURE
        }
    }
}

/// Minimum stack of the first thread, in bytes: twice what an unoptimized build needs.
const SMALLEST_STACK: u64 = 1 << 20;

/// Whether the system gives the first thread the stack that it needs. Checked first, because a lack of it ends the
/// process with a signal.
fn check_stack() -> Result<(), Failure> {
    use rustix::process::{Resource, getrlimit};
    match getrlimit(Resource::Stack).current {
        Some(bytes) if bytes < SMALLEST_STACK => Err(Failure::new(format!(
            "cannot start: the system allows a stack of {bytes} bytes, and at least {SMALLEST_STACK} are needed: raise its \
             limit (ulimit -s, LimitSTACK= of systemd)"
        ))),
        _ => Ok(()),
    }
}

/// Minimum address space with which any command runs, in bytes: its threads' stacks, and what the allocator reserves.
const SMALLEST_ADDRESS_SPACE: u64 = 256 << 20;
/// Minimum address space of a control plane, in bytes: idle it takes 450 MB, of which little is ever resident.
const CONTROL_PLANE_ADDRESS_SPACE: u64 = 1 << 30;

/// Whether the system gives the process `smallest` bytes of address space. Checked first, because the allocator aborts
/// the process otherwise.
fn check_address_space(smallest: u64) -> Result<(), Failure> {
    use rustix::process::{Resource, getrlimit};
    match getrlimit(Resource::As).current {
        Some(bytes) if bytes < smallest => Err(Failure::new(format!(
            "cannot start: the system allows an address space of {bytes} bytes, and at least {smallest} are needed: raise its \
             limit (ulimit -v, LimitAS= of systemd); limit resident memory with MemoryMax= instead"
        ))),
        _ => Ok(()),
    }
}

#[inline(never)]
fn start() -> ExitCode {
    let cli = Cli::parse();
    match &cli.command {
        Command::KeepOutput(options) => return keep_output(options),
        Command::EnterGroup(options) => return enter_group(options),
        _ => {}
    }
    let address_space = match &cli.command {
        Command::Up(_) => CONTROL_PLANE_ADDRESS_SPACE,
        _ => SMALLEST_ADDRESS_SPACE,
    };
    let limits = check_address_space(address_space).and_then(|()| check_files());
    if let Err(problem) = limits.and_then(|()| check_threads(&cli.command)) {
        eprintln!("sortie: {problem}");
        return ExitCode::FAILURE;
    }
    let runtime = match threads(&cli.command).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("sortie: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let result = runtime.block_on(run(cli.command));
    // Name look-ups and the like may hang in threads that cannot be stopped.
    runtime.shutdown_background();
    match result {
        Ok(code) => code,
        Err(failure) => {
            commands::output::note(format_args!("sortie: {failure}"));
            ExitCode::FAILURE
        }
    }
}

/// A program that runs next to one game server, or is one, has little to do at a time: on one thread no call wakes
/// another, and it takes less of what the game server needs.
fn threads(command: &Command) -> Builder {
    match command {
        Command::Sidecar(_) => Builder::new_current_thread(),
        Command::Bench(bench) if bench.is_game_server() => Builder::new_current_thread(),
        _ => Builder::new_multi_thread(),
    }
}

/// Needs no threads, nor anything else that roles need.
fn keep_output(options: &cli::KeepOutput) -> ExitCode {
    let cli::KeepOutput { folder, name, limit } = options;
    match sortie_allocators::local_process::keep_output(folder, name, *limit) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sortie: cannot keep the output of a game server: {error}");
            ExitCode::FAILURE
        }
    }
}

/// As little as possible, because it runs between the control plane and a game server.
fn enter_group(options: &cli::EnterGroup) -> ExitCode {
    let cli::EnterGroup { group, server } = options;
    // The control plane gets the reason over the pipe, and reports it.
    let Err(_told) = sortie_allocators::local_process::enter_group(group, server);
    ExitCode::FAILURE
}

/// Minimum number of open files that any command needs.
const FEWEST_FILES: u64 = 64;

/// Whether the system lets the process open its files. Checked first, because the runtime's library panics otherwise.
fn check_files() -> Result<(), Failure> {
    let files = edge::allow_files(FEWEST_FILES);
    if files >= FEWEST_FILES {
        return Ok(());
    }
    Err(Failure::new(format!(
        "cannot start: the system allows {files} open files, and at least {FEWEST_FILES} are needed: raise its limit \
         (ulimit -n, LimitNOFILE= of systemd)"
    )))
}

/// Threads in addition to those of the runtime: machines, their snapshots, and blocking work.
const OTHER_THREADS: usize = 8;

/// Whether the system lets the process have its threads. Checked first, because the runtime's library panics otherwise.
fn check_threads(command: &Command) -> Result<(), Failure> {
    let workers = match command {
        Command::Sidecar(_) => 0,
        _ => thread::available_parallelism().map_or(1, usize::from),
    };
    let wanted = workers + OTHER_THREADS;
    start_threads(wanted).map_err(|error| {
        Failure::new(format!(
            "cannot start: the system does not allow the {wanted} threads that are needed ({error}): raise the limit of \
             processes (ulimit -u, TasksMax= of systemd, the limit of pids of a container)"
        ))
    })
}

/// Starts this many threads at once, and ends them.
fn start_threads(count: usize) -> io::Result<()> {
    let gate = Mutex::new(());
    thread::scope(|scope| {
        let closed = gate.lock();
        let start = |_| thread::Builder::new().spawn_scoped(scope, || drop(gate.lock())).map(drop);
        let started = (0..count).try_for_each(start);
        drop(closed);
        started
    })
}

async fn run(command: Command) -> Result<ExitCode, Failure> {
    commands::signals::outlive_file_limits()?;
    sortie_engine::clock::check_wall_clock(std::time::SystemTime::now())?;
    match command {
        Command::Up(options) => commands::up::run(options).await,
        Command::Demo(options) => commands::demo::run(options).await,
        Command::Arena(options) => commands::arena::run(options).await,
        Command::Sidecar(options) => commands::sidecar::run(options).await,
        Command::Dispatch(options) => commands::dispatch::run(options).await,
        Command::Match(options) => commands::matches::run(options).await,
        Command::Ticket(options) => commands::tickets::run(options).await,
        Command::Queue(options) => commands::lists::queues(options).await,
        Command::Server(options) => commands::lists::servers(options).await,
        Command::Fleet(options) => commands::lists::fleets(options).await,
        Command::Events(options) => commands::events::run(options).await,
        Command::Matchmaker(options) => commands::matchmaker::run(options).await,
        Command::Config(options) => commands::config::run(&options),
        Command::Key(options) => commands::key::run(options).await,
        Command::Restore(options) => commands::restore::run(&options),
        // Done before the runtime exists.
        Command::KeepOutput(_) | Command::EnterGroup(_) => Ok(ExitCode::SUCCESS),
        Command::Completions(options) => commands::completions::run(&options),
        Command::Bench(options) => commands::bench::run(options).await,
    }
}
