//! `sortie restore`: turns a copied data folder into an installation of its own.

use std::process::ExitCode;

use serde_json::json;
use sortie_engine::FolderLock;

use super::key::Place;
use super::output::line;
use crate::cli;
use crate::failure::Failure;
use crate::installation;
use crate::private;

pub(crate) fn run(options: &cli::Restore) -> Result<ExitCode, Failure> {
    let data = Place::find(&options.place)?.data;
    if !data.is_dir() {
        return Err(Failure::new(format!("there is no data folder {}", data.display())));
    }
    // Fails while a control plane uses the folder.
    let owner = private::Owner::of_folder(&data)?;
    let lock = FolderLock::take(&data)?;
    private::hand_to(owner, &data, lock.file())?;
    let restored = installation::restore(&data, options.force)?;
    if options.place.json {
        line(json!({
            "data": data,
            "installation": restored.id,
            "original": restored.original,
            "records_set_aside": restored.records,
        }))?;
        return Ok(ExitCode::SUCCESS);
    }
    line(format_args!("{} is now the installation {}", data.display(), restored.id))?;
    if restored.records > 0 {
        line(format_args!(
            "the original's game servers keep running and belong to it: their {} records are in {}",
            restored.records,
            restored.aside.display()
        ))?;
    }
    line(
        "the next start fails the matches that ran on the original's game servers, and creates a new key for its own",
    )?;
    Ok(ExitCode::SUCCESS)
}
