//! How to start the programs that run next to a server or in its place.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

/// One program, usually the one that runs the allocator.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Helper {
    /// The program.
    pub program: PathBuf,
    /// The arguments before those of the task.
    pub arguments: Vec<OsString>,
}

impl Helper {
    pub(super) fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments);
        command
    }
}

/// The helpers that the allocator needs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Helpers {
    /// Calls [`keep_output`](super::keep_output) with the last arguments: folder, name of the file, limit in bytes.
    pub keep_output: Helper,
    /// Calls [`enter_group`](super::enter_group) with the last arguments: folder of the group, `--`, the program and
    /// its arguments.
    pub enter_group: Helper,
}
