//! `sortie dispatch`: the dispatcher alone, and what drives one.
//!
//! | where | what |
//! |---|---|
//! | `serve` | `sortie dispatch`: ports on demand, without a control plane |
//! | `settings` | where it listens and who may use it: flags, environment, configuration |

mod serve;
mod settings;

use std::process::ExitCode;

use crate::cli;
use crate::failure::Failure;

pub(crate) async fn run(options: cli::Dispatch) -> Result<ExitCode, Failure> {
    match options.role {
        None => serve::run(options.serve).await,
        Some(role) => match role {},
    }
}
