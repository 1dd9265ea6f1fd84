//! `cargo xtask test`: everything that must hold before a change goes in.

use std::env;
use std::fs::{self, File};
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::packages::FUZZ_MANIFEST;
use crate::step::{self, Stop, cargo, run as run_step, shown, succeeds};
use crate::summary::Tests;
use crate::tree::root;
use crate::{debian, fuzz, python, tidy};

pub(crate) fn run() -> Result<(), Stop> {
    let workshop = Workshop::open()?;
    let mut tests = Tests::default();
    let outcome = workshop.verify(&mut tests);
    workshop.close();
    match outcome {
        Ok(times) => {
            println!("\n== all is well");
            for (name, time) in times {
                println!("{name:>8} {:>5} s", time.as_secs());
            }
            println!("{tests}");
            Ok(())
        }
        Err(stop) => Err(stop.ending_with(tests.to_string())),
    }
}

/// Where things are built.
struct Workshop {
    target: PathBuf,
    /// Held while the folder is shared with other runs.
    shared: Option<File>,
}

impl Workshop {
    /// Cargo's own choice, except in CI: there every run has a clone of its own, and compiled dependencies are kept
    /// outside it.
    fn open() -> Result<Self, Stop> {
        let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty());
        let home = set("HOME").filter(|_| set("CI").is_some_and(|ci| ci != "false"));
        match (set("CARGO_TARGET_DIR"), home) {
            (Some(target), _) => Ok(Self { target: absolute(Path::new(&target))?, shared: None }),
            (None, Some(home)) => Self::open_shared(Path::new(&home).join(".cache").join("sortie-target")),
            (None, None) => Ok(Self { target: root().join("target"), shared: None }),
        }
    }

    /// Two runs in one folder would find each other's binaries.
    fn open_shared(target: PathBuf) -> Result<Self, Stop> {
        let locked = || {
            fs::create_dir_all(&target)?;
            let file = File::create(target.join("in-use"))?;
            println!("building in {}", target.display());
            file.lock().map(|()| file)
        };
        let file = locked().map_err(|error| no_folder(&target, &error))?;
        Ok(Self { target, shared: Some(file) })
    }

    /// Leaves in a shared folder what the next run can use: it has to rebuild the workspace's own crates.
    fn close(self) {
        let cleaned = || {
            succeeds(self.cargo().args(["clean", "--workspace"]))
                && fuzz::clean(&self.target, self.cargo()).is_ok_and(|mut clean| succeeds(&mut clean))
        };
        if self.shared.is_some() && !cleaned() {
            eprintln!("what was built of the workspace is still in {}", self.target.display());
        }
    }

    fn cargo(&self) -> Command {
        let mut command = cargo();
        command.current_dir(root()).env("CARGO_TARGET_DIR", &self.target);
        if self.shared.is_some() {
            // A build that is thrown away gains nothing from incremental compilation.
            command.env("CARGO_INCREMENTAL", "0");
        }
        command
    }

    fn verify(&self, tests: &mut Tests) -> Result<Vec<(&'static str, Duration)>, Stop> {
        need_component("fmt", "rustfmt")?;
        need_component("clippy", "clippy")?;
        let mut times = Vec::new();
        let mut time = |name, began: Instant| times.push((name, began.elapsed()));

        let began = Instant::now();
        let advice = "Run `cargo fmt --all` (in fuzz/ too), then again.";
        run_step(self.cargo().args(["fmt", "--all", "--check"]), advice)?;
        run_step(self.cargo().args(["fmt", "--manifest-path", FUZZ_MANIFEST, "--check"]), advice)?;
        time("format", began);

        // Early, and for both: otherwise an outdated lock file would be noticed only by the last step.
        let began = Instant::now();
        let advice = "Run `cargo fetch` (and again with `--manifest-path fuzz/Cargo.toml`), and commit the lock files.";
        run_step(self.cargo().args(["fetch", "--locked"]), advice)?;
        run_step(self.cargo().args(["fetch", "--locked", "--manifest-path", FUZZ_MANIFEST]), advice)?;
        time("lock files", began);

        let began = Instant::now();
        debian::need(&debian::MAKE)?;
        debian::need(&debian::CURL)?;
        let python = python::prepare(&self.target)?;
        time("tools", began);

        let began = Instant::now();
        let advice = "Do what clippy says above; an exception needs `#[allow(…, reason = \"…\")]`.";
        let clippy = ["clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"];
        run_step(self.cargo().args(clippy), advice)?;
        time("lints", began);

        let began = Instant::now();
        self.test(&python, tests)?;
        time("tests", began);

        let began = Instant::now();
        fuzz::run_shortly(&self.target, self.cargo())?;
        time("fuzz", began);

        let began = Instant::now();
        tidy::run()?;
        time("tidy", began);
        Ok(times)
    }

    /// Unit, integration, end-to-end and documentation tests. All of them, so that one run shows every failure.
    fn test(&self, python: &Path, tests: &mut Tests) -> Result<(), Stop> {
        let mut command = self.cargo();
        command.args(["test", "--workspace", "--no-fail-fast"]).env(python::VARIABLE, python);
        command.stdout(Stdio::piped());
        println!("\n== {}", shown(&command));
        let cannot = |error: io::Error| {
            Stop::new(format!("`{}`: {error}", step::shown(&cargo())), "Is Rust installed?")
        };
        let mut child = command.spawn().map_err(cannot)?;
        if let Some(output) = child.stdout.take() {
            *tests = Tests::pass_on(BufReader::new(output), io::stdout().lock()).map_err(cannot)?;
        }
        match child.wait().map_err(cannot)? {
            status if status.success() => Ok(()),
            status => {
                let advice =
                    "Look for `failures:` above. One test again: cargo test --package <package> <name>";
                Err(Stop::new(format!("`{}` ended with {status}", shown(&command)), advice))
            }
        }
    }
}

fn absolute(path: &Path) -> Result<PathBuf, Stop> {
    std::path::absolute(path).map_err(|error| no_folder(path, &error))
}

fn no_folder(path: &Path, error: &io::Error) -> Stop {
    let advice = "Set CARGO_TARGET_DIR to a folder that can be written.";
    Stop::new(format!("cannot build in {}: {error}", path.display()), advice)
}

fn need_component(subcommand: &str, component: &str) -> Result<(), Stop> {
    if succeeds(cargo().args([subcommand, "--version"]).current_dir(root())) {
        return Ok(());
    }
    Err(Stop::new(
        format!("`cargo {subcommand}` is not installed"),
        format!("Run `rustup component add {component}`."),
    ))
}
