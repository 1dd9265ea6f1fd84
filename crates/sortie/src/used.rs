//! Which logs the installation has, remembered outside of them: a log whose folder was removed as a whole cannot say so
//! itself, and the other one would go on as if nothing had been lost.

use std::collections::BTreeSet;
use std::path::Path;

use sortie_engine::LogOptions;

use crate::failure::Failure;
use crate::installation::Installation;
use crate::matchmaker::FOLDER;
use crate::private;

/// Its name in the data folder: the names of logs, one a line.
const FILE: &str = "used";
/// Of the log in the data folder itself.
pub(crate) const BROKER: &str = "broker";
/// Of the log in the folder of the matchmaker.
pub(crate) const MATCHMAKER: &str = "matchmaker";

/// What an operator has agreed to by flags of `sortie up`.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Accepted {
    /// Records that were acknowledged may be missing.
    pub(crate) loss: bool,
    /// The clock may be far ahead of the logs.
    pub(crate) clock: bool,
}

fn read(data: &Path) -> Result<BTreeSet<String>, Failure> {
    let path = data.join(FILE);
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(text.lines().map(str::to_owned).collect()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(BTreeSet::new()),
        Err(error) => Err(Failure::of(format!("cannot read {}", path.display()), error)),
    }
}

/// Whether the data folder has, or had, the log `name`.
pub(crate) fn is_used(data: &Path, name: &str) -> Result<bool, Failure> {
    // There is no matchmaker without a broker, so that its log is known from that, too.
    // An installation is written down once its log is there.
    let beside = name == BROKER && (data.join(FOLDER).join("log").is_dir() || Installation::is_known(data));
    Ok(beside || read(data)?.contains(name))
}

/// Takes note that there is the log `name` from now on. Where that cannot be written, the next start does it.
pub(crate) fn note(data: &Path, name: &str) -> Result<(), Failure> {
    let mut used = read(data)?;
    if !used.insert(name.to_owned()) {
        return Ok(());
    }
    let text: String = used.into_iter().map(|name| name + "\n").collect();
    if let Err(error) = private::replace(data, FILE, text.as_bytes()) {
        tracing::warn!(%error, "cannot write down that there is a log of the {name}");
    }
    Ok(())
}

/// How the log `name` is to be opened.
pub(crate) fn options(
    data: &Path,
    name: &str,
    retention_bytes: u64,
    accepted: Accepted,
) -> Result<LogOptions, Failure> {
    Ok(LogOptions {
        retention_bytes,
        accept_loss: accepted.loss,
        expected: is_used(data, name)?,
        ..LogOptions::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_known_once_it_was_noted() {
        let data = tempfile::tempdir().unwrap();
        let known = |name: &str| is_used(data.path(), name).unwrap();
        assert!(!known(BROKER) && !known(MATCHMAKER));
        note(data.path(), MATCHMAKER).unwrap();
        assert!(!known(BROKER) && known(MATCHMAKER));
        note(data.path(), BROKER).unwrap();
        assert!(known(BROKER) && known(MATCHMAKER));
    }

    #[test]
    fn a_log_of_a_matchmaker_tells_of_a_broker() {
        let data = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(data.path().join("matchmaker/log")).unwrap();
        assert!(is_used(data.path(), BROKER).unwrap());
    }
}
