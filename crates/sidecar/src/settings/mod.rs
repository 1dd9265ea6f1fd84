//! The settings file: JSON as the Catena sidecar has it, or the same keys as TOML.

mod document;
pub mod duration;
mod reading;

pub use reading::{Note, SettingsError, read};
