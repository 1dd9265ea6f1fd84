//! The allocator of local processes, with real ones.

mod adoption;
mod conformance;
mod harness;
mod lifecycle;
mod start;
