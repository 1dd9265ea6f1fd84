//! `sortie config import-catena`: the settings of a Catena node as a `sortie.toml`.

use std::io::Write as _;
use std::path::Path;

use super::output::line;
use crate::cli::ImportCatena;
use crate::failure::Failure;

pub(super) fn run(options: &ImportCatena) -> Result<(), Failure> {
    let import = sortie_config::import_catena(&options.file).map_err(|problems| {
        Failure::new(format!("{} was not converted:\n{problems}", options.file.display()))
    })?;
    match &options.output {
        Some(path) => write(path, options.force, &import.toml)?,
        None => line(import.toml.trim_end())?,
    }
    for note in &import.notes {
        super::output::note(format_args!("note: {note}"));
    }
    Ok(())
}

/// Atomic: the old file is kept if the new one cannot be written.
fn write(path: &Path, force: bool, text: &str) -> Result<(), Failure> {
    let failed = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => {
            Failure::new(format!("{} already exists; --force overwrites it", path.display()))
        }
        _ => Failure::of(format!("cannot write {}", path.display()), error),
    };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Such a file is readable by its owner only, as it should be: it may hold game servers' secrets.
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
    file.write_all(text.as_bytes()).and_then(|()| file.as_file().sync_all()).map_err(failed)?;
    let kept = if force { file.persist(path) } else { file.persist_noclobber(path) };
    kept.map(drop).map_err(|error| failed(error.error))
}
