//! A Python with the packages of `xtask/requirements.txt`, for clients and game servers that share no code with us.
//!
//! `cargo xtask test` names one in `SORTIE_TEST_PYTHON`. Where there is none, one is made below the target folder.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::site::{Finished, Site, finish};

const VARIABLE: &str = "SORTIE_TEST_PYTHON";
const ADVICE: &str = "these tests need Python 3 with venv and PyPI (on Debian: apt-get install python3 python3-venv), \
    or the path of an interpreter with the packages of xtask/requirements.txt in SORTIE_TEST_PYTHON";

/// The interpreter.
pub(crate) fn interpreter() -> &'static Path {
    static INTERPRETER: OnceLock<PathBuf> = OnceLock::new();
    INTERPRETER.get_or_init(|| {
        let python = std::env::var_os(VARIABLE).map_or_else(make, PathBuf::from);
        succeed(Command::new(&python).args([
            "-c",
            "import agones_python_sdk, cryptography, grpc, grpc_reflection, jsonschema, jwt, openapi_spec_validator, \
              prometheus_client, websockets",
        ]));
        python
    })
}

/// One of the scripts beside these tests.
pub(crate) fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python").join(name)
}

/// Runs a script to its end; it must succeed.
pub(crate) async fn run(site: &Site, name: &str, arguments: &[&str]) -> Finished {
    let mut command = site.command(interpreter());
    command.arg(script(name)).args(arguments);
    let finished = finish(command).await;
    assert_eq!(finished.code, Some(0), "{name}:\n{}{}", finished.stdout, finished.stderr);
    finished
}

fn make() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let requirements = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../xtask/requirements.txt");
    let wanted = fs::read_to_string(&requirements).unwrap();
    let (venv, lock) = (folder.join("venv"), File::create(folder.join("venv.lock")).unwrap());
    // Two runs of the tests may want it at the same time. Held until this function returns.
    lock.lock().unwrap();
    let (python, stamp) = (venv.join("bin/python"), venv.join("requirements.txt"));
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return python;
    }
    succeed(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv));
    let pip = ["-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check"];
    succeed(Command::new(&python).args(pip).arg("--requirement").arg(&requirements));
    // Written last, so that what was interrupted is begun again.
    fs::write(stamp, wanted).unwrap();
    python
}

fn succeed(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}; {ADVICE}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}; {ADVICE}");
}
