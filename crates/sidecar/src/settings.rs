//! The settings file: JSON as the Catena sidecar has it, or the same keys as TOML.
