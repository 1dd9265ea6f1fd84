//! Why a subcommand fails: one text for people that says what to do.

use std::fmt;
use std::io;

/// The text that goes to standard error.
#[derive(Debug)]
pub(crate) struct Failure {
    text: String,
    /// Whether the disk is full, so that a retry may work later.
    lacks_room: bool,
}

impl Failure {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), lacks_room: false }
    }

    /// `doing` failed because of `error`.
    pub(crate) fn of(doing: impl fmt::Display, error: impl fmt::Display) -> Self {
        Self::new(format!("{doing}: {error}"))
    }

    /// `doing` failed with this error of the system.
    pub(crate) fn of_io(doing: impl fmt::Display, error: &io::Error) -> Self {
        Self { lacks_room: lacks_room(error), ..Self::of(doing, error) }
    }

    /// Whether a full disk was the only cause.
    pub(crate) const fn lacks_room(&self) -> bool {
        self.lacks_room
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::new(error.to_string())
    }
}

/// Whether the disk or this user's quota on it is full.
pub(crate) fn lacks_room(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
