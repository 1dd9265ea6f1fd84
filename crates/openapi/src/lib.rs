//! Descriptions of HTTP routes as an OpenAPI 3.1 document.
//!
//! | where | what |
//! |---|---|
//! | [`Operation`] | one route: parameters, body, responses, who may call it |
//! | [`Schemas`] | Rust types as schemas |
//! | [`Description`] | the routes of one part of a process; parts are merged into one document |
//!
//! A crate of its own because several roles describe what they serve on the same port, and share nothing else.

mod description;
mod operation;
mod schemas;

pub use description::{Description, references};
pub use operation::{ADMIN_KEY, KEY_SCHEMES, Operation};
pub use schemas::{PLACE, Schemas};
