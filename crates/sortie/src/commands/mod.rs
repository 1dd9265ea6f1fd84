//! The subcommands, one file each.

pub(crate) mod arena;
pub(crate) mod bench;
pub(crate) mod completions;
pub(crate) mod config;
mod config_import;
pub(crate) mod demo;
pub(crate) mod dispatch;
pub(crate) mod events;
pub(crate) mod key;
pub(crate) mod lists;
pub(crate) mod matches;
pub(crate) mod matchmaker;
pub(crate) mod output;
pub(crate) mod restore;
pub(crate) mod sidecar;
pub(crate) mod signals;
pub(crate) mod tickets;
pub(crate) mod up;
