//! HTTP and gRPC on a port, for whatever has something to serve there.
//!
//! | where | what |
//! |---|---|
//! | [`ListenAddr`] | an address as settings have it, and the listener there |
//! | [`serve()`] | connections: how many, how long they may dawdle, and how they end |
//! | [`Visitors`] | which hosts a request may name, and which web pages may send it |
//! | `held`, `answers` | a connection keeps its place, and ends when nothing is taken of what is sent; so does one answer |
//! | `activity`, `arriving` | what an ordered end waits for, and what it does not wait for |
//! | `opening` | from a connection of TCP to one that can be served, and [back](halves) once it is upgraded |
//! | [`Shares`] | how many of something each one has, and [what counts as one address](network) |
//! | [`Allowances`] | how often one address or one player may call |
//! | [`bearer`] | the credential in an `authorization` header |
//! | [`read_body`], [`limit_grpc_bodies`] | bodies in, each within its size and its time |
//! | [`end_grpc_streams`] | streams of answers, which end with the process |
//! | [`json_response`], [`error_response`] | documents out |
//! | [`Schemas`] | types in a description of routes |
//! | [`Limits`] | all of these limits |
//!
//! A crate of its own because control plane and sidecar both face callers whom they cannot trust to keep the rules, and
//! share nothing else. What is served, and who may call it, is theirs.

mod activity;
mod allowance;
mod answers;
mod arriving;
mod bearer;
mod body;
mod error;
mod grpc_body;
mod held;
mod limits;
mod listen;
mod opening;
mod schemas;
mod serve;
mod shares;
mod until;
mod visitors;

pub use allowance::{Allowance, Allowances, TooMany, Turn};
pub use bearer::bearer;
pub use body::{BodyError, MaxBytes, empty_is_object, json_response, read_body};
pub use error::{error_document, error_response};
pub use grpc_body::{end_grpc_streams, limit_grpc_bodies};
pub use held::Reading;
pub use limits::Limits;
pub use listen::{ListenAddr, ListenAddrError};
pub use opening::{Halves, halves};
pub use schemas::Schemas;
pub use serve::serve;
pub use shares::{Share, Shares, network};
pub use visitors::Visitors;
