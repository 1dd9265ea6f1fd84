//! What the tests of local processes start next to servers and in their place.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::process::ExitCode;

#[cfg(target_os = "linux")]
fn main() -> ExitCode {
    use sortie_allocators::local_process::{enter_group, keep_output};

    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    match arguments.as_slice() {
        [task, folder, name, limit] if task == "keep-output" => {
            let limit = limit.to_str().unwrap().parse().unwrap();
            keep_output(folder.as_ref(), name.to_str().unwrap(), limit).unwrap();
            ExitCode::SUCCESS
        }
        [task, group, dashes, server @ ..] if task == "enter-group" && dashes == "--" => {
            let Err(_told) = enter_group(group.as_ref(), server);
            ExitCode::FAILURE
        }
        other => panic!("{other:?}"),
    }
}

#[cfg(not(target_os = "linux"))]
fn main() -> ExitCode {
    ExitCode::FAILURE
}
