//! Remembers, outside of the logs, which logs the installation has and how far they go: a log whose folder was removed
//! as a whole, or replaced by an older copy, cannot show that itself, and the other log would continue as if nothing
//! had been lost.
//!
//! | known from | which logs there are | how far they go |
//! |---|---|---|
//! | `used` and `installation.json` | both | |
//! | `end-of-broker`, also in the folder of the matchmaker | the broker's | the broker's |
//! | `end-of-matchmaker` | the matchmaker's | the matchmaker's |

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use sortie_engine::log::OpenError;
use sortie_engine::{EmbeddedLog, LogOptions};

use crate::failure::Failure;
use crate::installation::Installation;
use crate::private;

/// The file's name in the data folder: the names of logs, one per line.
const FILE: &str = "used";
/// The log in the data folder itself.
pub(crate) const BROKER: &str = "broker";
/// The folder of the matchmaker's log, within the data folder.
pub(crate) const FOLDER: &str = "matchmaker";
/// The log in the folder of the matchmaker.
pub(crate) const MATCHMAKER: &str = "matchmaker";

/// What an operator has accepted by flags of `sortie up`.
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
    // A matchmaker needs a broker, so the matchmaker's log proves the broker's, too.
    // An installation is written once its log exists.
    let has_log = name == BROKER && (data.join(FOLDER).join("log").is_dir() || Installation::is_known(data));
    Ok(has_log || Installation::knows_log(data, name)? || read(data)?.contains(name))
}

/// Records that the log `name` exists from now on. If that cannot be written, the next start does it.
pub(crate) fn note(installation: &mut Installation, data: &Path, name: &str) -> Result<(), Failure> {
    let complain =
        |problem: Failure| tracing::warn!(%problem, "cannot record that there is a log of the {name}");
    installation.has_log(name);
    if installation.is_kept()? {
        installation.keep().unwrap_or_else(complain);
    }
    let mut used = read(data)?;
    if used.insert(name.to_owned()) {
        let text: String = used.into_iter().map(|name| name + "\n").collect();
        private::replace(data, FILE, text.as_bytes()).unwrap_or_else(complain);
    }
    Ok(())
}

/// How a log is opened.
#[derive(Clone, Debug)]
pub(crate) struct Opening {
    folder: PathBuf,
    options: LogOptions,
    witnesses: Vec<PathBuf>,
}

impl Opening {
    /// The options for the log `name`.
    ///
    /// # Errors
    /// [`Failure`] if it is unknown whether the log has been used.
    pub(crate) fn of(
        data: &Path,
        name: &str,
        retention_bytes: u64,
        accepted: Accepted,
    ) -> Result<Self, Failure> {
        let maker = data.join(FOLDER);
        let file = format!("end-of-{name}");
        let own = data.join(&file);
        let (folder, witnesses) = match name {
            MATCHMAKER => (maker, vec![own]),
            _ => (data.to_owned(), vec![own, maker.join(&file)]),
        };
        let options = LogOptions {
            retention_bytes,
            accept_loss: accepted.loss,
            expected: is_used(data, name)?,
            ..LogOptions::default()
        };
        Ok(Self { folder, options, witnesses })
    }

    /// Whether the log exists, or existed.
    pub(crate) const fn is_expected(&self) -> bool {
        self.options.expected
    }

    /// Opens or creates the log.
    ///
    /// # Errors
    /// [`OpenError`], as [`EmbeddedLog::open`].
    pub(crate) fn open(&self) -> Result<EmbeddedLog, OpenError> {
        EmbeddedLog::open_witnessed(&self.folder, self.options, self.witnesses.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_known_once_it_was_noted() {
        let data = tempfile::tempdir().unwrap();
        let known = |name: &str| is_used(data.path(), name).unwrap();
        assert!(!known(BROKER) && !known(MATCHMAKER));
        let mut installation = Installation::open(data.path()).unwrap();
        note(&mut installation, data.path(), MATCHMAKER).unwrap();
        assert!(!known(BROKER) && known(MATCHMAKER));
        note(&mut installation, data.path(), BROKER).unwrap();
        assert!(known(BROKER) && known(MATCHMAKER));
    }

    #[test]
    fn an_installation_tells_of_its_logs() {
        let data = tempfile::tempdir().unwrap();
        let known = |name: &str| is_used(data.path(), name).unwrap();
        let mut installation = Installation::open(data.path()).unwrap();
        installation.keep().unwrap();
        assert!(known(BROKER) && !known(MATCHMAKER), "it is written down once the broker has a log");
        note(&mut installation, data.path(), MATCHMAKER).unwrap();
        std::fs::remove_file(data.path().join(FILE)).unwrap();
        assert!(known(MATCHMAKER));
        crate::installation::restore(data.path(), true).unwrap();
        assert!(known(MATCHMAKER), "a restored one has them, too");
    }

    #[test]
    fn a_log_of_a_matchmaker_tells_of_a_broker() {
        let data = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(data.path().join("matchmaker/log")).unwrap();
        assert!(is_used(data.path(), BROKER).unwrap());
    }
}
