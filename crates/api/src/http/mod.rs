//! Plain HTTP: the routes, and those of Catena.

mod catena;
mod routes;
mod streams;

pub(crate) use catena::routes as catena_routes;
pub(crate) use routes::Routes;
