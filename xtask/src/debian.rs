//! What the tests need of the system: installed with apt-get where we may, else named.

use std::process::Command;

use crate::step::{Stop, run, succeeds};

/// The smallest game server among the examples is a script that calls by curl.
pub(crate) fn need_curl() -> Result<(), Stop> {
    let there = || succeeds(Command::new("curl").arg("--version"));
    if there() {
        return Ok(());
    }
    let packages = ["curl"];
    let advice = advice("The tests need curl.", &packages);
    install(&packages, &advice)?;
    if there() { Ok(()) } else { Err(Stop::new("`curl` is not installed", advice)) }
}

/// libFuzzer is C++.
pub(crate) fn need_cxx() -> Result<(), Stop> {
    let there = || succeeds(Command::new("c++").arg("--version"));
    if there() {
        return Ok(());
    }
    let packages = ["g++"];
    let advice = advice("Fuzzing needs a C++ compiler.", &packages);
    install(&packages, &advice)?;
    if there() { Ok(()) } else { Err(Stop::new("`c++` is not installed", advice)) }
}

/// What to do about `need`, for whoever has to do it.
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
