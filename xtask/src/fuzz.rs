//! `cargo xtask fuzz`: the targets of `fuzz/`, with libFuzzer.
//!
//! Not with `cargo fuzz`, which must be installed and, for its sanitizers, needs a nightly compiler. Our own code has
//! no `unsafe`, so the possible findings are panics, endless work and broken invariants, and for those LLVM's coverage
//! is enough, which flags of the stable compiler enable.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::debian;
use crate::packages::FUZZ_MANIFEST;
use crate::step::{Stop, cargo, run as run_step, shown};
use crate::tree::root;

/// Build with the coverage that guides libFuzzer.
const FLAGS: [&str; 8] = [
    "--cfg",
    "fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Ccodegen-units=4",
];

/// Maximum size of an input, in bytes.
const MAX_INPUT_BYTES: u32 = 8192;
/// Maximum time for one input, in seconds. None needs a thousandth of it.
const MAX_INPUT_SECONDS: u32 = 20;
/// Maximum memory of one target, in MiB.
const MAX_MEMORY_MIB: u32 = 2048;

/// On Linux, files are fast here: what targets write need not outlive them.
const MEMORY_FOLDER: &str = "/dev/shm";

/// A target, and its number of inputs within the tests: about a second's worth.
struct Target {
    name: &'static str,
    short_runs: u64,
    /// The folder of valid inputs, from the root, and the extension of their names; `hex` files contain digits.
    seeds: (&'static str, &'static str),
}

const TARGETS: [Target; 10] = [
    Target { name: "json_decode", short_runs: 5_000, seeds: ("contract/golden/catena", "json") },
    Target { name: "protobuf_decode", short_runs: 20_000, seeds: ("contract/golden/catena", "hex") },
    Target { name: "stored_records", short_runs: 20_000, seeds: ("contract/golden/records", "hex") },
    Target { name: "stored_tickets", short_runs: 20_000, seeds: ("contract/golden/matchmaker", "hex") },
    Target { name: "dispatch_frames", short_runs: 20_000, seeds: ("contract/golden/dispatch", "hex") },
    Target { name: "dispatch_websocket", short_runs: 20_000, seeds: ("fuzz/seeds/websocket", "hex") },
    Target { name: "frames", short_runs: 3_000, seeds: ("fuzz/seeds/frames", "hex") },
    Target { name: "requirements", short_runs: 10_000, seeds: ("fuzz/seeds/requirements", "txt") },
    Target { name: "connect_token", short_runs: 10_000, seeds: ("contract/golden/netcode", "token") },
    Target { name: "config", short_runs: 2_000, seeds: ("fuzz/seeds/config", "txt") },
];

/// How long to fuzz what.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// One target; default: all of them, one after the other
    #[arg(long, value_parser = target)]
    target: Option<&'static Target>,
    /// Number of inputs to try
    #[arg(long, conflicts_with = "seconds")]
    runs: Option<u64>,
    /// How long to try, in seconds, for each target
    #[arg(long = "for", value_name = "SECONDS", default_value_t = 60)]
    seconds: u64,
    /// Try only the input in this file: the replay of a failure
    #[arg(long, value_name = "FILE", requires = "target", conflicts_with_all = ["runs", "seconds"])]
    replay: Option<PathBuf>,
}

fn target(name: &str) -> Result<&'static Target, String> {
    let names = || TARGETS.iter().map(|target| target.name).collect::<Vec<_>>().join(", ");
    TARGETS.iter().find(|target| target.name == name).ok_or_else(|| format!("the targets are {}", names()))
}

pub(crate) fn run(args: &Args) -> Result<(), Stop> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    let workshop = Workshop::build(&target, cargo())?;
    let chosen = TARGETS.iter().filter(|target| args.target.is_none_or(|only| only.name == target.name));
    for target in chosen {
        match (&args.replay, args.runs) {
            (Some(file), _) => workshop.replay(target, file)?,
            (None, Some(runs)) => workshop.fuzz(target, &[format!("-runs={runs}")])?,
            (None, None) => workshop.fuzz(target, &[format!("-max_total_time={}", args.seconds)])?,
        }
    }
    Ok(())
}

/// The part of `cargo xtask test`: the same inputs every time, built by `cargo` below `target`.
pub(crate) fn run_shortly(target: &Path, cargo: Command) -> Result<(), Stop> {
    let workshop = Workshop::build(target, cargo)?;
    for target in &TARGETS {
        workshop.forget(target)?;
        workshop.fuzz(target, &[format!("-runs={}", target.short_runs), "-seed=1".to_owned()])?;
    }
    Ok(())
}

/// Removes packages that a shared target folder should not keep.
pub(crate) fn clean(target: &Path, mut cargo: Command) -> Result<Command, Stop> {
    cargo.args(["clean", "--manifest-path", FUZZ_MANIFEST, "--target-dir"]).arg(target.join("fuzz"));
    cargo.args(["--target", &host()?]);
    for package in [
        "sortie-fuzz",
        "sortie-config",
        "sortie-dispatch",
        "sortie-config-file",
        "sortie-domain",
        "sortie-engine",
        "sortie-openapi",
        "sortie-retry",
        "sortie-serving",
        "sortie-tokens",
        "sortie-wire",
    ] {
        cargo.args(["--package", package]);
    }
    Ok(cargo)
}

/// Where the targets are built, and what they have found.
struct Workshop {
    binaries: PathBuf,
    work: PathBuf,
}

impl Workshop {
    fn build(target: &Path, mut cargo: Command) -> Result<Self, Stop> {
        debian::need(&debian::CXX)?;
        let host = host()?;
        let folder = target.join("fuzz");
        // With a named target, the flags apply to it alone and not to build scripts.
        cargo
            .args(["build", "--locked", "--manifest-path", FUZZ_MANIFEST, "--target", &host])
            .current_dir(root());
        cargo.env("CARGO_TARGET_DIR", &folder).env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\x1f"));
        run_step(&mut cargo, "The lines above say why.")?;
        Ok(Self { binaries: folder.join(host).join("debug"), work: folder.join("work") })
    }

    fn folder(&self, target: &Target, name: &str) -> Result<PathBuf, Stop> {
        let folder = self.work.join(target.name).join(name);
        fs::create_dir_all(&folder).map_err(|error| unusable(&folder, &error))?;
        Ok(folder)
    }

    /// Forgets what earlier runs learned.
    fn forget(&self, target: &Target) -> Result<(), Stop> {
        let folder = self.folder(target, "corpus")?;
        fs::remove_dir_all(&folder).map_err(|error| unusable(&folder, &error))
    }

    /// Runs `target`; inputs that reach something new are kept for the next time.
    fn fuzz(&self, target: &Target, how_long: &[String]) -> Result<(), Stop> {
        let (corpus, seeds) = (self.folder(target, "corpus")?, self.folder(target, "seeds")?);
        let crashes = self.folder(target, "crashes")?;
        plant(target, &seeds)?;
        let mut command = Command::new(self.binaries.join(target.name));
        command.arg(&corpus).arg(&seeds).args(how_long).args([
            format!("-artifact_prefix={}/", crashes.display()),
            format!("-max_len={MAX_INPUT_BYTES}"),
            format!("-timeout={MAX_INPUT_SECONDS}"),
            format!("-rss_limit_mb={MAX_MEMORY_MIB}"),
            "-verbosity=0".to_owned(),
            "-print_final_stats=1".to_owned(),
        ]);
        if Path::new(MEMORY_FOLDER).is_dir() {
            command.env("TMPDIR", MEMORY_FOLDER);
        }
        let advice = format!(
            "The input is in {}, under the name in the last lines above.\nAgain: cargo xtask fuzz --target {} --replay <file>\n\
             Once it is fixed, make a unit test of it.",
            crashes.display(),
            target.name
        );
        run_step(&mut command, &advice)
    }

    fn replay(&self, target: &Target, file: &Path) -> Result<(), Stop> {
        let mut command = Command::new(self.binaries.join(target.name));
        command.arg(file).arg(format!("-timeout={MAX_INPUT_SECONDS}"));
        run_step(&mut command, "It still fails.")
    }
}

fn unusable(path: &Path, error: &std::io::Error) -> Stop {
    Stop::new(format!("{}: {error}", path.display()), "Is the disk full, or the folder not writable?")
}

/// The name of this machine's platform, according to the compiler.
fn host() -> Result<String, Stop> {
    let mut command = Command::new("rustc");
    command.args(["--print", "host-tuple"]).current_dir(root());
    let output = command.output().ok().filter(|output| output.status.success());
    let name = output.map(|output| String::from_utf8_lossy(output.stdout.trim_ascii()).into_owned());
    name.ok_or_else(|| Stop::new(format!("`{}` does not work", shown(&command)), "Is Rust installed?"))
}

/// Copies the seeds of `target` to `to`, as bytes.
fn plant(target: &Target, to: &Path) -> Result<(), Stop> {
    let (folder, ending) = target.seeds;
    let from = root().join(folder);
    let copy = || {
        for entry in fs::read_dir(&from)? {
            let path = entry?.path();
            let Some(name) =
                path.file_stem().filter(|_| path.extension().is_some_and(|found| found == ending))
            else {
                continue;
            };
            let bytes = fs::read(&path)?;
            let bytes = if ending == "hex" { bytes_of_hex(&bytes) } else { bytes };
            fs::write(to.join(name), bytes)?;
        }
        Ok(())
    };
    copy().map_err(|error| unusable(&from, &error))
}

/// Bytes that are written as hexadecimal digits, with anything in between.
fn bytes_of_hex(text: &[u8]) -> Vec<u8> {
    let digits: Vec<u8> =
        text.iter().filter_map(|byte| char::from(*byte).to_digit(16)).map(|digit| digit as u8).collect();
    digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packages;

    #[test]
    fn every_target_is_built_and_has_seeds() {
        let package =
            packages::read().unwrap().into_iter().find(|package| package.name == "sortie-fuzz").unwrap();
        let mut built: Vec<_> = package.targets.iter().map(|target| target.name.as_str()).collect();
        let mut known: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
        built.sort_unstable();
        known.sort_unstable();
        assert_eq!(built, known);
        for target in &TARGETS {
            let folder = tempfile::tempdir().unwrap();
            plant(target, folder.path()).unwrap();
            assert!(fs::read_dir(folder.path()).unwrap().next().is_some(), "{} has no seeds", target.name);
        }
    }

    #[test]
    fn hexadecimal_seeds_are_bytes() {
        assert_eq!(bytes_of_hex(b"0a Ff\n1"), [0x0a, 0xff]);
    }
}
