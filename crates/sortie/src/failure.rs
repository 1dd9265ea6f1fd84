//! Why a subcommand ends with an error: one text for people, saying what to do.

use std::fmt;
use std::io;

/// The text that goes to standard error.
#[derive(Debug)]
pub(crate) struct Failure {
    text: String,
    /// The disk is full, so that the same may work later.
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

    /// `doing` failed because of what the system said.
    pub(crate) fn of_io(doing: impl fmt::Display, error: &io::Error) -> Self {
        Self { lacks_room: lacks_room(error), ..Self::of(doing, error) }
    }

    /// Whether it was a full disk alone.
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

/// Whether the disk is full, or what this user may have of it.
pub(crate) fn lacks_room(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
