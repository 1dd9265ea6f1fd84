//! A Python environment for the tests, with the packages of `requirements.txt`.
//!
//! Some end-to-end tests call Sortie as a third party would, with clients that share no code with it. They find this
//! Python by [`VARIABLE`].

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::debian;
use crate::step::{Stop, run, succeeds};
use crate::tree::root;

/// Tells the tests where the interpreter is.
pub(crate) const VARIABLE: &str = "SORTIE_TEST_PYTHON";

const REQUIREMENTS: &str = include_str!("../requirements.txt");
const DEBIAN_PACKAGES: [&str; 2] = ["python3", "python3-venv"];

/// The interpreter; first makes sure that it exists below `target`.
pub(crate) fn prepare(target: &Path) -> Result<PathBuf, Stop> {
    let venv = target.join("tools").join("venv");
    let python = venv.join("bin").join("python");
    // Written last, so that an interrupted installation starts over.
    let stamp = venv.join("requirements.txt");
    let complete = fs::read_to_string(&stamp).is_ok_and(|installed| installed == REQUIREMENTS);
    if complete && succeeds(Command::new(&python).arg("--version")) {
        return Ok(python);
    }
    make(&venv)?;
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check"])
        .args(["--only-binary", ":all:", "--requirement"])
        .arg(root().join("xtask").join("requirements.txt"));
    run(&mut pip, "The packages of xtask/requirements.txt come from PyPI: is it reachable from here?")?;
    fs::write(&stamp, REQUIREMENTS).map_err(|error| {
        Stop::new(format!("{} cannot be written: {error}", stamp.display()), "Is the disk full?")
    })?;
    Ok(python)
}

fn make(venv: &Path) -> Result<(), Stop> {
    let mut command = Command::new("python3");
    command.args(["-m", "venv", "--clear"]).arg(venv);
    if succeeds(Command::new("python3").args(["-c", "import ensurepip, venv"])) {
        return run(&mut command, "Is the disk full, or the folder not writable?");
    }
    let advice = debian::advice("The tests need Python 3 with venv.", &DEBIAN_PACKAGES);
    debian::install(&DEBIAN_PACKAGES, &advice)?;
    run(&mut command, &advice)
}
