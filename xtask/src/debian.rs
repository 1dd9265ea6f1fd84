//! The system packages that the tests need: installed with apt-get if possible, otherwise named.

use std::process::Command;

use crate::step::{Stop, run, succeeds};

/// A required program, and its Debian package.
pub(crate) struct Tool {
    program: &'static str,
    package: &'static str,
    /// What needs it.
    need: &'static str,
}

/// Builds the memory allocator of the program.
pub(crate) const MAKE: Tool = Tool { program: "make", package: "make", need: "The build needs make." };
/// The smallest example of a game server is a script that uses curl.
pub(crate) const CURL: Tool = Tool { program: "curl", package: "curl", need: "The tests need curl." };
/// libFuzzer is C++.
pub(crate) const CXX: Tool = Tool { program: "c++", package: "g++", need: "Fuzzing needs a C++ compiler." };

/// Makes sure that a tool is installed.
pub(crate) fn need(tool: &Tool) -> Result<(), Stop> {
    let there = || succeeds(Command::new(tool.program).arg("--version"));
    if there() {
        return Ok(());
    }
    let packages = [tool.package];
    let advice = advice(tool.need, &packages);
    install(&packages, &advice)?;
    if there() { Ok(()) } else { Err(Stop::new(format!("`{}` is not installed", tool.program), advice)) }
}

/// The advice about `need`, for people.
pub(crate) fn advice(need: &str, packages: &[&str]) -> String {
    format!("{need} On Debian: apt-get install {}", packages.join(" "))
}

/// Installs `packages` as root on Debian; does nothing elsewhere.
pub(crate) fn install(packages: &[&str], advice: &str) -> Result<(), Stop> {
    if !is_root() || !succeeds(Command::new("apt-get").arg("--version")) {
        return Ok(());
    }
    run(apt_get().arg("update"), advice)?;
    run(apt_get().args(["install", "--yes", "--no-install-recommends"]).args(packages), advice)
}

fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive");
    command
}

fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}
