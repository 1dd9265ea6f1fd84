//! The sidecar's own API and its debug panel.

mod api;
mod gate;
mod harness;
mod launch;
mod panel;
mod schemas;
