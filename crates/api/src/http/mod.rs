//! Plain HTTP: bodies in, answers out, and the Catena routes.

mod body;
mod catena;
mod routes;

pub(crate) use body::{empty_is_object, json_response, path_param, read_body};
pub(crate) use catena::routes as catena_routes;
pub(crate) use routes::Routes;
