//! `cargo xtask bench`: every benchmark of the workspace, one after the other, and the start of the program.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use crate::packages;
use crate::step::{Stop, cargo, run};
use crate::tree::root;

/// Where measured numbers are kept, with the machine they were measured on.
const NUMBERS: &str = "docs/performance.md";
/// Number of starts that are measured.
const STARTS: usize = 9;
const ADVICE: &str = "The lines above say why.";

pub(crate) fn run_all() -> Result<(), Stop> {
    for package in packages::read()? {
        for bench in package.targets.iter().filter(|target| target.kind.iter().any(|kind| kind == "bench")) {
            let mut command = cargo();
            command.args(["bench", "--package", &package.name, "--bench", &bench.name]).current_dir(root());
            run(&mut command, ADVICE)?;
        }
    }
    start_up()?;
    println!("\nNumbers worth keeping go into {NUMBERS}, with the machine and the date.");
    Ok(())
}

/// From start to serving on an empty folder, against a start that does nothing; and the memory of an idle process.
fn start_up() -> Result<(), Stop> {
    let mut build = cargo();
    run(build.args(["build", "--release", "--package", "sortie"]).current_dir(root()), ADVICE)?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), Into::into);
    let binary = target.join("release/sortie");
    let (mut nothing, mut serving, mut memory) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..STARTS {
        let began = Instant::now();
        run_quietly(Command::new(&binary).arg("--version"))?;
        nothing.push(began.elapsed());
        let folder = tempfile::tempdir().map_err(|error| failed(&error))?;
        let began = Instant::now();
        let arguments = ["up", "--dev", "--listen", "127.0.0.1:0", "--data"];
        let up = Up::start(Command::new(&binary).args(arguments).arg(folder.path()))?;
        serving.push(began.elapsed());
        memory.push(up.resident_kib());
    }
    let (nothing, serving) = (median(nothing), median(serving));
    let ratio = serving.as_secs_f64() / nothing.as_secs_f64();
    println!(
        "\nsortie up: serving after {:.0} ms on an empty folder, {ratio:.1} × a start that does nothing; {:.1} MiB resident \
         (medians of {STARTS})",
        serving.as_secs_f64() * 1000.0,
        median(memory) as f64 / 1024.0
    );
    Ok(())
}

fn median<T: Ord + Copy + Default>(mut values: Vec<T>) -> T {
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or_default()
}

fn failed(error: &std::io::Error) -> Stop {
    Stop::new(format!("the program cannot be started: {error}"), ADVICE)
}

fn run_quietly(command: &mut Command) -> Result<(), Stop> {
    command.stdout(Stdio::null()).status().map(|_| ()).map_err(|error| failed(&error))
}

/// A control plane that serves; killed when dropped.
struct Up(Child);

impl Up {
    /// Returns when it says that it listens.
    fn start(command: &mut Command) -> Result<Self, Stop> {
        let mut up = Self(
            command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().map_err(|error| failed(&error))?,
        );
        let mut line = String::new();
        if let Some(output) = up.0.stdout.take() {
            BufReader::new(output).read_line(&mut line).map_err(|error| failed(&error))?;
        }
        if line.starts_with("listening on") {
            Ok(up)
        } else {
            Err(Stop::new("`sortie up` did not serve", ADVICE))
        }
    }

    /// Resident memory, as the system counts it.
    fn resident_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        line.and_then(|rest| rest.split_whitespace().next()).and_then(|kib| kib.parse().ok()).unwrap_or(0)
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        // Shuts down gracefully, with the game server that it started; nobody is there to report a failure to.
        let _ = Command::new("kill").arg(self.0.id().to_string()).status().map(|_| self.0.wait());
    }
}
