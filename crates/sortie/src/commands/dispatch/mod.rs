//! `sortie dispatch`: the dispatcher without a control plane, and the tunnel.
//!
//! | where | what |
//! |---|---|
//! | `serve` | `sortie dispatch`: ports on demand, without a control plane |
//! | `settings` | where it listens and who may use it: flags, environment, configuration |
//! | `tunnel` | `sortie dispatch tunnel`: a driver that makes a local server reachable |

mod serve;
mod settings;
mod tunnel;

use std::process::ExitCode;

use crate::cli::{self, DispatchRole};
use crate::failure::Failure;

pub(crate) async fn run(options: cli::Dispatch) -> Result<ExitCode, Failure> {
    match options.role {
        None => serve::run(options.serve).await,
        Some(DispatchRole::Tunnel(options)) => tunnel::run(options).await,
    }
}
