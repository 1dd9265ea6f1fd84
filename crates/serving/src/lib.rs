//! HTTP and gRPC on a port, for everything that serves something there.
//!
//! | where | what |
//! |---|---|
//! | [`ListenAddr`] | an address from the settings, and its listener |
//! | [`serve()`] | connections: how many, how long they may stall, and how they end |
//! | [`Visitors`] | which hosts a request may name, and which web pages may send it |
//! | `held`, `answers` | a connection keeps its slot, and ends when the peer stops reading; so does a single response |
//! | `activity`, `arriving` | what a graceful shutdown waits for, and what it does not wait for |
//! | `opening` | from a TCP connection to one that can be served, and [back](halves) after an upgrade |
//! | [`Shares`] | how many of something each caller has, and [what counts as one address](network) |
//! | [`Allowances`] | how often one address or one player may call |
//! | [`bearer`] | the credential in an `authorization` header |
//! | [`read_body`], [`limit_grpc_bodies`] | request bodies, limited in size and time |
//! | [`end_grpc_streams`] | response streams, which end with the process |
//! | [`not_a_list`] | bodies that have to be objects |
//! | [`json_response`], [`error_response`] | responses with a document |
//! | [`Limits`] | all of these limits |
//!
//! A crate of its own because control plane and sidecar both serve callers that they cannot trust to behave, and share
//! nothing else. Routes and authorization are theirs.

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
mod serve;
mod shares;
mod until;
mod visitors;

pub use allowance::{Allowance, Allowances, TooMany, Turn};
pub use bearer::bearer;
pub use body::{BodyError, MaxBytes, empty_is_object, json_response, read_body};
pub use error::{RETRY_AFTER_SECONDS, error_document, error_response, retry_after_seconds};
pub use grpc_body::{end_grpc_streams, limit_grpc_bodies};
pub use held::Reading;
pub use limits::Limits;
pub use listen::{ListenAddr, ListenAddrError};
pub use opening::{Halves, halves};
pub use serve::serve;
pub use shares::{Share, Shares, network};
pub use visitors::Visitors;

pub use sortie_wire::json::{ListForObject, not_a_list};
