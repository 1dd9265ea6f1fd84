//! `sortie key`: API keys.

use std::process::ExitCode;

use serde_json::json;

use super::output::line;
use crate::cli::{self, KeyAction};
use crate::failure::Failure;
use crate::secrets;

pub(crate) fn run(options: cli::Key) -> Result<ExitCode, Failure> {
    let KeyAction::Create(cli::KeyCreate { name, permissions, data, json }) = options.action;
    let key = secrets::create_api_key(&data, &name, &permissions)?;
    if json {
        line(json!({ "name": name, "key": key }))?;
    } else {
        line(format_args!(
            "{key}\nThis is the only time it is shown. Send it as `authorization: Bearer <key>`."
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}
