//! HTTP and gRPC on a port, for whatever has something to serve there.
//!
//! | where | what |
//! |---|---|
//! | [`ListenAddr`] | an address as settings have it, and the listener there |
//! | [`serve()`] | connections: how many, how long they may dawdle, and how they end |
//! | `opening` | from a connection of TCP to one that can be served |
//! | `per_address` | how many connections one address has, and [what counts as one](network) |
//! | [`read_body`], [`limit_grpc_bodies`] | bodies in, each within its size and its time |
//! | [`json_response`] | documents out |
//! | [`Limits`] | all of these limits |
//!
//! A crate of its own because control plane and sidecar both face callers whom they cannot trust to keep the rules, and
//! share nothing else. What is served, and who may call it, is theirs.

mod body;
mod grpc_body;
mod limits;
mod listen;
mod opening;
mod per_address;
mod serve;

pub use body::{BodyError, empty_is_object, json_response, read_body};
pub use grpc_body::limit_grpc_bodies;
pub use limits::Limits;
pub use listen::{ListenAddr, ListenAddrError};
pub use per_address::network;
pub use serve::serve;
